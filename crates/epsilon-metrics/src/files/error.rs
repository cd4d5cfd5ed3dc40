//! What can be wrong with a file of scores or labels; every message names the file.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::error::MetricsError;

/// A file that cannot be measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// It cannot be written.
    #[error("{}: cannot be written: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// Its extension tells no kind.
    #[error("{}: a table ends in .npy, .safetensors or .csv", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// It is not what its extension says, is cut short, or holds something else than a table.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A line of a text file.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// Names and rows or columns differ in number.
    #[error(
        "{}: {found} {what} names, but the table beside it has {expected} {what}s: give one a line", path.display()
    )]
    NameCount {
        /// The file of the names.
        path: PathBuf,
        /// `image` or `label`.
        what: &'static str,
        /// Names present.
        found: usize,
        /// Rows or columns of the table.
        expected: usize,
    },
    /// A name stands twice.
    #[error("{}: the {what} {name:?} stands twice, on places {first} and {second} (the first is 1)", path.display())]
    NameTwice {
        /// The file.
        path: PathBuf,
        /// `image` or `label`.
        what: &'static str,
        /// The name.
        name: String,
        /// Its first place.
        first: usize,
        /// Its second place.
        second: usize,
    },
    /// Scores and labels are of different images or labels.
    #[error(
        "{} and {} do not name the same {what}s: {differences}", scores.display(), labels.display()
    )]
    NamesDiffer {
        /// The scores.
        scores: PathBuf,
        /// The labels.
        labels: PathBuf,
        /// `image` or `label`.
        what: &'static str,
        /// How many and which names only one of them has.
        differences: String,
    },
    /// Scores and labels differ in number, and names that would match them are missing.
    #[error(
        "{} has {scores_count} {what}s, {} has {labels_count}: both must list the same {what}s", scores.display(), labels.display()
    )]
    CountsDiffer {
        /// The scores.
        scores: PathBuf,
        /// The labels.
        labels: PathBuf,
        /// `image` or `label`.
        what: &'static str,
        /// Rows or columns of the scores.
        scores_count: usize,
        /// Rows or columns of the labels.
        labels_count: usize,
    },
    /// A score is NaN or infinite.
    #[error("{}, {image}, {label}: the score is {value}: scores must be finite", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Row.
        image: String,
        /// Column.
        label: String,
        /// The score.
        value: f64,
    },
    /// A label is none of the three values.
    #[error(
        "{}, {image}, {label}: the label is {value}: use 1 (positive), -1 (negative) or 0 (unknown)", path.display()
    )]
    LabelValue {
        /// The file.
        path: PathBuf,
        /// Row.
        image: String,
        /// Column.
        label: String,
        /// The value.
        value: f64,
    },
    /// A table of 1 and 0 does not say whether 0 is negative or unknown.
    #[error(
        "{}: holds 0 and no -1: say whether 0 means negative or unknown (--zero negative, --zero unknown)", path.display()
    )]
    ZerosUnclear {
        /// The file.
        path: PathBuf,
    },
    /// Nothing is known of any image.
    #[error(
        "{}: every label of every image is 0 (unknown), so nothing can be measured: positives are 1, negatives -1", path.display()
    )]
    AllUnknown {
        /// The file.
        path: PathBuf,
    },
    /// The table cannot be measured.
    #[error("{}: {reason}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: MetricsError,
    },
}
