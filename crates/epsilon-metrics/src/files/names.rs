//! Names of rows and columns: the name files of a table, and the matching of two lists of names.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::FileError;

/// How many names a message lists.
const FEW: usize = 3;

/// The path of the name file of a table: `TABLE.images.txt` or `TABLE.labels.txt`.
pub(super) fn file(table: &Path, what: &str) -> PathBuf {
    table.with_extension(format!("{what}s.txt"))
}

/// Reads the name file of a table, `None` if it does not exist.
pub(super) fn beside(
    table: &Path,
    what: &'static str,
    expected: usize,
) -> Result<Option<Vec<String>>, FileError> {
    let path = &file(table, what);
    let read = |mut file: File| {
        let mut text = String::new();
        file.read_to_string(&mut text).map(|_| text)
    };
    let text = match super::open(path).and_then(read) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(reason) => {
            return Err(FileError::Read {
                path: path.into(),
                reason,
            });
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let names: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
    if let Some(place) = names.iter().position(String::is_empty) {
        return Err(FileError::Line {
            path: path.into(),
            line: place as u64 + 1,
            problem: "an empty name".into(),
        });
    }
    if names.len() != expected {
        return Err(FileError::NameCount {
            path: path.into(),
            what,
            found: names.len(),
            expected,
        });
    }
    check(path, what, &names)?;
    Ok(Some(names))
}

/// Checks that every name is unique.
pub(super) fn check(path: &Path, what: &'static str, names: &[String]) -> Result<(), FileError> {
    let mut places = HashMap::new();
    for (place, name) in names.iter().enumerate() {
        if let Some(first) = places.insert(name, place) {
            return Err(FileError::NameTwice {
                path: path.into(),
                what,
                name: name.clone(),
                first: first + 1,
                second: place + 1,
            });
        }
    }
    Ok(())
}

/// For each row or column of the scores, its index in the labels.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Matching {
    ByPlace,
    ByName(Vec<usize>),
}

impl Matching {
    pub(super) fn by_name(&self) -> bool {
        matches!(self, Self::ByName(_))
    }

    pub(super) fn place(&self, place: usize) -> usize {
        match self {
            Self::ByPlace => place,
            Self::ByName(places) => places[place],
        }
    }
}

/// Matches two lists of names, or two counts without names. Each pair holds the item of the scores and that of the
/// labels.
pub(super) fn matching(
    what: &'static str,
    [scores, labels]: [&Path; 2],
    names: [Option<&[String]>; 2],
    [scores_count, labels_count]: [usize; 2],
) -> Result<Matching, FileError> {
    let [Some(wanted), Some(given)] = names else {
        if scores_count == labels_count {
            return Ok(Matching::ByPlace);
        }
        return Err(FileError::CountsDiffer {
            scores: scores.into(),
            labels: labels.into(),
            what,
            scores_count,
            labels_count,
        });
    };
    let index =
        |names: &[String]| -> HashMap<String, usize> { names.iter().cloned().zip(0..).collect() };
    let (in_scores, in_labels) = (index(wanted), index(given));
    let places: Vec<usize> = wanted
        .iter()
        .filter_map(|name| in_labels.get(name).copied())
        .collect();
    if places.len() == wanted.len() && wanted.len() == given.len() {
        return Ok(Matching::ByName(places));
    }
    let lacking = |names: &[String], there: &HashMap<String, usize>, whose: &str| {
        let alone: Vec<&String> = names.iter().filter(|n| !there.contains_key(*n)).collect();
        let few: Vec<String> = alone.iter().take(FEW).map(|n| format!("{n:?}")).collect();
        let more = if alone.len() > FEW { ", ..." } else { "" };
        (!alone.is_empty()).then(|| {
            format!(
                "{} only in the {whose} ({}{more})",
                alone.len(),
                few.join(", ")
            )
        })
    };
    let differences = [
        lacking(wanted, &in_labels, "scores"),
        lacking(given, &in_scores, "labels"),
    ];
    Err(FileError::NamesDiffer {
        scores: scores.into(),
        labels: labels.into(),
        what,
        differences: differences
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", "),
    })
}
