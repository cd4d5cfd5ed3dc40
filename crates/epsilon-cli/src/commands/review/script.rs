//! A review by lines from a program: each is done and acknowledged, or named and nothing of it is done.

use std::io::BufRead;

use anyhow::{Context, bail};
use epsilon::library::{Line, Verdict};

use super::desk::{Desk, Saying, is_of_library, print, subject};
use crate::{Outcome, console};

pub(super) fn run(desk: &mut Desk, lines: impl BufRead, json: bool) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::Done;
    for (number, line) in (1..).zip(lines.lines()) {
        let line = line.context("standard input")?;
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let done = match obey(desk, line) {
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

fn obey(desk: &mut Desk, line: &str) -> anyhow::Result<Vec<Line>> {
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
