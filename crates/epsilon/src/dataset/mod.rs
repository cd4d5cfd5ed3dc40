//! Data sets: images, their split, and three-valued labels (+1 positive, -1 negative, 0 unknown).
//!
//! One file a data set kind: [`table`] reads lists of photographs, [`scenes`] draws the built-in pictures.

pub mod scenes;
mod sparse_labels;
mod summary;
pub mod table;

pub use sparse_labels::SparseLabels;
pub use summary::{SplitSummary, Summary};

use crate::labels::LabelError;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Everything that can go wrong when a data set is read or drawn.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A list of label names, or the label vectors, are unusable.
    #[error(transparent)]
    Labels(#[from] LabelError),
    /// A file could not be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("{path}: cannot be written: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system or the encoder said.
        source: std::io::Error,
    },
    /// The kind of table cannot be told from its name.
    #[error("{path}: unknown kind of table; its name must end in .tsv, .csv, .jsonl or .ndjson")]
    Extension {
        /// The table.
        path: PathBuf,
    },
    /// The table holds no image.
    #[error("{path}: holds no row; write one image a line: path, split, labels")]
    EmptyTable {
        /// The table.
        path: PathBuf,
    },
    /// A line of the table cannot be understood.
    #[error("{path}, line {line}: {problem}")]
    Line {
        /// The table.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// What is wrong with it.
        problem: LineError,
    },
    /// A label name that no cell of a TSV or CSV table can hold.
    #[error(
        "the label {name:?} holds one of `,` `;` `|`, which separate labels in {path}; rename it or use a .jsonl table"
    )]
    NameHoldsSeparator {
        /// The label.
        name: String,
        /// The table.
        path: PathBuf,
    },
    /// Label entries that contradict themselves or lie outside the matrix.
    #[error("labels of image {row}: {problem}")]
    SparseLabels {
        /// Row, counted from 0.
        row: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The drawn pictures cannot have this size.
    #[error("scenes of {size} x {size} pixels cannot be drawn; choose a size from {min} to {max}")]
    SceneSize {
        /// The size asked for.
        size: u32,
        /// Smallest size.
        min: u32,
        /// Largest size.
        max: u32,
    },
}

/// What can be wrong with one line of a table.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not UTF-8 text.
    #[error("not UTF-8 text; convert the file to UTF-8")]
    NotUtf8,
    /// Another number of columns than the lines before, or than a table has.
    #[error(
        "{found} columns instead of {expected}; a line is: path, split, labels and, if wanted, negative"
    )]
    Columns {
        /// Columns of the line.
        found: usize,
        /// Columns it should have, in words.
        expected: String,
    },
    /// Not an object of the expected form (JSONL).
    #[error("{0}; a line is an object with `path`, `split`, `labels` and, if wanted, `negative`")]
    Json(serde_json::Error),
    /// The path is empty.
    #[error("the path of the image is empty")]
    EmptyPath,
    /// The split is none of those known.
    #[error(
        "unknown split {0:?}; it must be `train` or `test` (a validation split is cut from the training images, see the recipe)"
    )]
    Split(String),
    /// The image stands in the table twice.
    #[error("{path:?} stands on line {first} already; keep one of the two")]
    DuplicatePath {
        /// The image.
        path: String,
        /// Line of its first appearance, counted from 1.
        first: u64,
    },
    /// Some lines list negatives and some do not, so that it is not known what an unlisted label means.
    #[error(
        "some lines have `negative` and some, this one or the first, have not; give it on every line or on none"
    )]
    NegativeNotEverywhere,
    /// A label stands among the positives and among the negatives.
    #[error("`{0}` is both among the labels and among the negatives of this image")]
    BothSigns(String),
}

/// The two parts of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Images to learn from; a validation split is cut from these.
    Train,
    /// Images to measure on.
    Test,
}

/// One image of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The path as the table writes it: stable and unique.
    pub id: String,
    /// Where the file lies.
    pub path: PathBuf,
    /// Its part of the data set.
    pub split: Split,
}

/// Images and their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The images, in table order.
    pub records: Vec<Record>,
    /// Labels of shape [records, names].
    pub labels: SparseLabels,
    /// Label names: the seen ones first, then the unseen ones, each in file order.
    pub names: Vec<String>,
    /// How many of the names are seen.
    pub seen: usize,
}

impl Dataset {
    /// Row numbers of the images of `split`, in table order; may be empty.
    pub fn rows(&self, split: Split) -> Vec<usize> {
        (0..self.records.len())
            .filter(|&row| self.records[row].split == split)
            .collect()
    }

    /// Names of the seen labels.
    pub fn seen_names(&self) -> &[String] {
        &self.names[..self.seen]
    }

    /// Names of the unseen labels.
    pub fn unseen_names(&self) -> &[String] {
        &self.names[self.seen..]
    }
}

/// Decodes every image, in parallel, and gives id and reason of each that failed, in table order.
///
/// `decode` opens one file, for instance with the decoder and limits that extraction will use; `progress` is
/// called once for each image done, from any thread.
pub fn check_images(
    dataset: &Dataset,
    decode: &(dyn Fn(&Path) -> Result<(), String> + Sync),
    progress: &(dyn Fn() + Sync),
) -> Vec<(String, String)> {
    let check = |record: &Record| {
        let result = decode(&record.path);
        progress();
        result.err().map(|reason| (record.id.clone(), reason))
    };
    dataset.records.par_iter().filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn dataset(ids: &[&str]) -> Dataset {
        let record = |(i, id): (usize, &&str)| Record {
            id: id.to_string(),
            path: Path::new("root").join(id),
            split: if i % 2 == 0 {
                Split::Train
            } else {
                Split::Test
            },
        };
        let records: Vec<Record> = ids.iter().enumerate().map(record).collect();
        let labels = SparseLabels::new(2, -1, vec![vec![]; ids.len()]).unwrap();
        Dataset {
            records,
            labels,
            names: vec!["cat".into(), "dog".into()],
            seen: 1,
        }
    }

    #[test]
    fn splits_and_name_lists() {
        let dataset = dataset(&["a", "b", "c"]);
        assert_eq!(dataset.rows(Split::Train), [0, 2]);
        assert_eq!(dataset.rows(Split::Test), [1]);
        assert_eq!(
            (dataset.seen_names(), dataset.unseen_names()),
            (&["cat".into()][..], &["dog".into()][..])
        );
    }

    #[test]
    fn every_image_is_checked_and_failures_keep_their_order() {
        let dataset = dataset(&["a", "bad1", "c", "bad2", "e"]);
        let done = AtomicUsize::new(0);
        let decode = |path: &Path| match path.to_string_lossy() {
            path if path.contains("bad") => Err(format!("cannot decode {path}")),
            _ => Ok(()),
        };
        let failed = check_images(&dataset, &decode, &|| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        let ids: Vec<&str> = failed.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["bad1", "bad2"]);
        assert!(failed[0].1.starts_with("cannot decode root"));
        assert_eq!(done.into_inner(), 5);
    }
}
