//! A review by somebody at a terminal: photograph after photograph, a line for an answer.

use std::io::BufRead;

use anyhow::{Context, bail};
use epsilon::library::{Labelled, State, Verdict};
use epsilon::paths::plain;

use super::desk::{Desk, Saying, is_of_library, print, subject};
use crate::console;

const KEYS: &str = "number: approve or reject, +word: add, Enter: the rest is not there, s: skip, u: undo, q: quit";

/// What an answer asks for.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Labels by their numbers.
    Toggle(Vec<usize>),
    Add(String),
    Done,
    Skip,
    Undo,
    Quit,
}

pub(super) fn run(
    desk: &mut Desk,
    photos: &[String],
    answers: &mut dyn BufRead,
    json: bool,
) -> anyhow::Result<()> {
    let mut at = 0;
    let mut reviewed = 0;
    while let Some(photo) = photos.get(at) {
        desk.refresh()?;
        if desk.item(photo).is_none() {
            at += 1;
            continue;
        }
        show(desk, photo, (at + 1, photos.len()));
        let mut line = String::new();
        if answers.read_line(&mut line)? == 0 {
            break;
        }
        let answer = match answer(&line) {
            Ok(answer) => answer,
            Err(error) => {
                console::complain(error);
                continue;
            }
        };
        let said = match answer {
            Answer::Quit => break,
            Answer::Skip => {
                at += 1;
                continue;
            }
            Answer::Undo => {
                let Some((photo, lines)) = desk.undo()? else {
                    console::complain("nothing to undo");
                    continue;
                };
                let shown = photos.iter().position(|shown| *shown == photo);
                at = shown.unwrap_or(at);
                lines
            }
            answer => {
                let is_done = answer == Answer::Done;
                let said = sayings(desk, photo, answer).and_then(|said| desk.say(photo, said));
                match said {
                    Ok(lines) => {
                        at += usize::from(is_done);
                        reviewed += usize::from(is_done);
                        lines
                    }
                    Err(error) if is_of_library(&error) => return Err(error),
                    Err(error) => {
                        console::complain(console::explain(&error));
                        continue;
                    }
                }
            }
        };
        if json {
            said.iter().try_for_each(|line| print(line, true))?;
        }
    }
    let left = photos.len().saturating_sub(at);
    console::tell(format_args!("{reviewed} reviewed, {left} left"));
    Ok(())
}

fn show(desk: &Desk, photo: &str, (number, of): (usize, usize)) {
    let doubt = desk.item(photo).and_then(|item| item.doubt);
    let doubt = doubt.map_or(String::new(), |doubt| {
        format!("  (in doubt: {doubt:.1} bits)")
    });
    let reviewed = match desk.is_reviewed(photo) {
        true => "  reviewed",
        false => "",
    };
    let mut text = format!("\n{number} of {of}  {}{doubt}{reviewed}\n", plain(photo));
    for (number, labelled) in (1..).zip(desk.labels(photo)) {
        text += &row(number, &labelled);
    }
    console::complain(format_args!("{text}{KEYS}"));
}

fn row(number: usize, Labelled { label, state }: &Labelled) -> String {
    let name = [&label.parents[..], std::slice::from_ref(&label.name)].concat();
    let name = plain(&name.join("|")).to_string();
    let sure = match (label.probability, label.score) {
        (Some(probability), _) => format!("{:.1} %", 100.0 * probability),
        (None, Some(score)) => format!("{score:.3}"),
        (None, None) => String::new(),
    };
    let state = match state {
        State::Automatic => "",
        state => state.name(),
    };
    let row = format!("{number:>4}  {name:<24}  {sure:>8}  {state}");
    format!("{}\n", row.trim_end())
}

fn answer(line: &str) -> anyhow::Result<Answer> {
    let line = line.trim();
    if let Some(word) = line.strip_prefix('+') {
        return Ok(Answer::Add(word.trim().into()));
    }
    Ok(match line {
        "" => Answer::Done,
        "s" => Answer::Skip,
        "u" => Answer::Undo,
        "q" => Answer::Quit,
        numbers => {
            let numbers = numbers.split_whitespace().map(str::parse);
            let numbers: Result<Vec<usize>, _> = numbers.collect();
            Answer::Toggle(numbers.with_context(|| format!("{line:?}: is no answer; {KEYS}"))?)
        }
    })
}

fn sayings(desk: &Desk, photo: &str, answer: Answer) -> anyhow::Result<Vec<Saying>> {
    let numbers = match answer {
        Answer::Toggle(numbers) => numbers,
        Answer::Add(word) => return Ok(vec![Saying::Add(subject(&word)?)]),
        _ => return Ok(vec![Saying::Review(true)]),
    };
    let labels = desk.labels(photo);
    let toggled = numbers.into_iter().map(|number| {
        let Some(Labelled { label, state }) = number.checked_sub(1).and_then(|at| labels.get(at))
        else {
            bail!("{number}: there is no label of this number");
        };
        let verdict = match state {
            State::Approved => Verdict::Rejected,
            State::Automatic | State::Rejected => Verdict::Approved,
        };
        Ok(Saying::Judge(label.name.clone(), verdict))
    });
    toggled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        for (line, expected) in [
            ("\n", Answer::Done),
            ("1 3\n", Answer::Toggle(vec![1, 3])),
            ("+ red flower\r\n", Answer::Add("red flower".into())),
            (" s \n", Answer::Skip),
            ("u", Answer::Undo),
            ("q", Answer::Quit),
        ] {
            assert_eq!(answer(line).unwrap(), expected, "{line}");
        }
        let error = answer("x 1\n").unwrap_err().to_string();
        assert!(
            error.contains("\"x 1\"") && error.contains("skip"),
            "{error}"
        );
        assert!(answer("-1\n").is_err());
    }
}
