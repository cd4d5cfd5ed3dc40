//! A review by lines from a program: each is done and acknowledged, or named and nothing of it is done.

use std::io::BufRead;

use anyhow::{Context, bail};
use epsilon::library::{Line, Verdict};

use super::desk::{Desk, Saying, is_of_library, print, subject};
use crate::{Outcome, console};

pub(super) fn run(desk: &mut Desk, mut lines: impl BufRead, json: bool) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::Done;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = lines.read_until(b'\n', &mut line);
        if read.context("standard input")? == 0 {
            break;
        }
        let done = match text(&line).and_then(|line| obey(desk, line)) {
            Ok(done) => done,
            Err(error) if is_of_library(&error) => return Err(error),
            Err(error) => {
                console::name_failure(format_args!("line {number}: {}", console::explain(&error)));
                outcome = Outcome::SomeFailed;
                continue;
            }
        };
        done.iter().try_for_each(|line| print(line, json))?;
    }
    Ok(outcome)
}

/// A line as text. The bytes of a name that is not UTF-8 can be given as everywhere; in a label they would be none of any word.
fn text(line: &[u8]) -> anyhow::Result<&str> {
    let text = std::str::from_utf8(line).context(
        "is not UTF-8: write such a byte of a photograph's name as \\xHH, as tags.jsonl has it",
    )?;
    Ok(text.trim())
}

/// Does what a line says; nothing for an empty one.
fn obey(desk: &mut Desk, line: &str) -> anyhow::Result<Vec<Line>> {
    if line.is_empty() {
        return Ok(Vec::new());
    }
    let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let rest = rest.trim_start();
    let verdict = match verb {
        "undo" if rest.is_empty() => {
            let undone = desk
                .undo()?
                .context("undo: nothing was said by this program")?;
            return Ok(undone.1);
        }
        "reviewed" | "unreviewed" => {
            let photo = desk.photo(quoted(rest).unwrap_or(rest))?;
            return desk.say(&photo, vec![Saying::Review(verb == "reviewed")]);
        }
        "approve" | "add" => Verdict::Approved,
        "reject" => Verdict::Rejected,
        "withdraw" => Verdict::Withdrawn,
        _ => bail!(
            "{line:?}: is no command: approve, reject, add or withdraw PHOTO LABEL, reviewed or unreviewed PHOTO, or undo"
        ),
    };
    let (photo, label) = operands(rest).with_context(|| format!("{line:?}: {verb} PHOTO LABEL"))?;
    let photo = desk.photo(photo)?;
    let saying = match verb {
        "add" => Saying::Add(subject(label)?),
        _ => Saying::Judge(label.into(), verdict),
    };
    match desk.say(&photo, vec![saying]) {
        // It may have been tagged anew meanwhile.
        Err(error) if !is_of_library(&error) && verb != "add" => {
            desk.refresh()?;
            desk.say(&photo, vec![Saying::Judge(label.into(), verdict)])
        }
        done => done,
    }
}

/// A photograph and a label.
fn operands(text: &str) -> Option<(&str, &str)> {
    let (photo, label) = match (text.split_once('\t'), text.strip_prefix('"')) {
        (Some(both), _) => both,
        (None, Some(open)) => open.split_once('"')?,
        (None, None) => text.split_once(' ')?,
    };
    let (photo, label) = (photo.trim(), label.trim());
    let label = quoted(label).unwrap_or(label);
    let photo = quoted(photo).unwrap_or(photo);
    (!photo.is_empty() && !label.is_empty()).then_some((photo, label))
}

fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_are_quoted_or_end_with_a_tab() {
        for (text, expected) in [
            ("a.jpg red flower", Some(("a.jpg", "red flower"))),
            ("\"c d.jpg\" sea", Some(("c d.jpg", "sea"))),
            (
                "\"c d.jpg\" \"red flower\"",
                Some(("c d.jpg", "red flower")),
            ),
            ("c d.jpg\tred flower", Some(("c d.jpg", "red flower"))),
            ("\"c d.jpg\"\tsea", Some(("c d.jpg", "sea"))),
            ("a.jpg", None),
            ("\"a.jpg", None),
            ("a.jpg \"\"", None),
            ("", None),
        ] {
            assert_eq!(operands(text), expected, "{text}");
        }
    }
}
