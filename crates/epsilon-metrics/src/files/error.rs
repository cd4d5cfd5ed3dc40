//! Errors of files of scores and labels; every message names the file.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::error::MetricsError;

/// A file of scores or labels that cannot be read, written or evaluated. Rows and columns are counted from 0, lines and
/// names of a list from 1.
///
/// ```rust
/// use epsilon_metrics::files::{FileError, ScoreTable};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("scores.csv");
/// std::fs::write(&path, "image,cat,dog\na.jpg,0.9,high\n")?;
/// let error = ScoreTable::read(&path).unwrap_err();
/// assert!(error.to_string().ends_with("scores.csv, line 2: dog: \"high\" is no finite number"));
/// assert!(matches!(error, FileError::Line { line: 2, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: io::Error,
    },
    /// The file cannot be written.
    #[error("{}: cannot be written: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: io::Error,
    },
    /// The extension is not `.npy`, `.safetensors` or `.csv`.
    #[error("{}: a table ends in .npy, .safetensors or .csv", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// The file is truncated or damaged, is of another kind than its extension says, or does not hold a table.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Description of the error.
        problem: String,
    },
    /// A line of a text file is wrong.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// Description of the error.
        problem: String,
    },
    /// The number of names is not the number of rows or columns.
    #[error(
        "{}: {found} {what} names, but the table beside it has {expected} {what}s: give one a line", path.display()
    )]
    NameCount {
        /// The file of the names.
        path: PathBuf,
        /// `image` or `label`.
        what: &'static str,
        /// Number of names.
        found: usize,
        /// Rows or columns of the table.
        expected: usize,
    },
    /// A name is listed twice.
    #[error("{}: the {what} {name:?} stands twice, on places {first} and {second} (the first is 1)", path.display())]
    NameTwice {
        /// The file.
        path: PathBuf,
        /// `image` or `label`.
        what: &'static str,
        /// The name.
        name: String,
        /// First position, counted from 1.
        first: usize,
        /// Second position, counted from 1.
        second: usize,
    },
    /// Scores and labels list different images or labels.
    #[error(
        "{} and {} do not name the same {what}s: {differences}", scores.display(), labels.display()
    )]
    NamesDiffer {
        /// The file of the scores.
        scores: PathBuf,
        /// The file of the labels.
        labels: PathBuf,
        /// `image` or `label`.
        what: &'static str,
        /// Number and examples of the names that only one of the two has.
        differences: String,
    },
    /// Scores and labels have different numbers of images or labels and cannot be matched by name.
    #[error(
        "{} has {scores_count} {what}s, {} has {labels_count}: both must list the same {what}s", scores.display(), labels.display()
    )]
    CountsDiffer {
        /// The file of the scores.
        scores: PathBuf,
        /// The file of the labels.
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
        /// Row, with the name of the image if it has one.
        image: String,
        /// Column, with the name of the label if it has one.
        label: String,
        /// The score.
        value: f64,
    },
    /// A label is not one of +1, -1 and 0.
    #[error(
        "{}, {image}, {label}: the label is {value}: use 1 (positive), -1 (negative) or 0 (unknown)", path.display()
    )]
    LabelValue {
        /// The file.
        path: PathBuf,
        /// Row, with the name of the image if it has one.
        image: String,
        /// Column, with the name of the label if it has one.
        label: String,
        /// The value.
        value: f64,
    },
    /// A table holds 0 but no -1, and the caller did not say whether 0 is negative or unknown.
    #[error(
        "{}: holds 0 and no -1: say whether 0 means negative or unknown (--zero negative, --zero unknown)", path.display()
    )]
    ZerosUnclear {
        /// The file.
        path: PathBuf,
    },
    /// All labels of all images are unknown.
    #[error(
        "{}: every label of every image is 0 (unknown), so nothing can be measured: positives are 1, negatives -1", path.display()
    )]
    AllUnknown {
        /// The file.
        path: PathBuf,
    },
    /// The table cannot be evaluated.
    #[error("{}: {reason}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: MetricsError,
    },
}
