//! Data sets: images, their split, and three-valued labels (+1 positive, -1 negative, 0 unknown).
//!
//! One file a data set kind: [`table`] reads lists of photographs, [`scenes`] draws the built-in pictures, the others
//! read published data sets as they are distributed. [`index`] keeps what was read, so that it is read once.

pub mod coco;
mod columns;
pub mod index;
mod lines;
pub mod nus_wide;
pub mod open_images;
pub mod scenes;
mod sparse_labels;
mod summary;
pub mod table;
#[cfg(test)]
mod trees;
pub mod voc;

pub use sparse_labels::SparseLabels;
pub use summary::{Note, SplitSummary, Summary};

use crate::labels::LabelError;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that can go wrong when a data set is read or drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A list of label names, or the label vectors, are unusable.
    #[error(transparent)]
    Labels(#[from] LabelError),
    /// A file could not be read.
    #[error("{path}: cannot be read: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("{path}: cannot be written: {reason}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system or the encoder said.
        reason: std::io::Error,
    },
    /// The kind of table cannot be told from its name.
    #[error(
        "{path}: unknown kind of table; its name must end in .tsv, .csv, .jsonl, .ndjson or .parquet"
    )]
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
    /// A table without header with a fourth column that is empty on every line.
    #[error(
        "{path}: the fourth column, that of the negative labels, is empty on every line, so that nothing would be negative; \
         where the lines end in a separator, remove it; where no label is known to be negative, write a header: \
         path, split, labels, negative"
    )]
    NoNegative {
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
    /// A list holds nothing.
    #[error("{path}: holds no line")]
    Empty {
        /// The list.
        path: PathBuf,
    },
    /// A file of one line an image holds more or fewer lines than there are images.
    #[error(
        "{path}, line {line}: {found} lines, but {list} lists {expected} images; the file is cut off or of another list"
    )]
    Lines {
        /// The file.
        path: PathBuf,
        /// The first line that is missing or too many, counted from 1.
        line: u64,
        /// Lines it has.
        found: usize,
        /// The list of images.
        list: PathBuf,
        /// Images of the list.
        expected: usize,
    },
    /// A file of a published data set is not where it should be.
    #[error("{folder}: holds none of {tried}; it is no folder of the data set, or not all of it")]
    Layout {
        /// The folder of the data set.
        folder: PathBuf,
        /// What was looked for.
        tried: String,
    },
    /// A JSON file is damaged or of another form; the reason names line and column.
    #[error("{path}: {reason}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: serde_json::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An image of a file without lines lies outside the folder of the images.
    #[error(
        "{path}: image {id}: {name:?} lies outside the folder of the images; where that is meant, set `outside = true` in [data]"
    )]
    Outside {
        /// The file.
        path: PathBuf,
        /// The image's number.
        id: String,
        /// The name of its file.
        name: String,
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
#[non_exhaustive]
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
    /// Another number of cells than the header has.
    #[error("{found} cells instead of {expected}")]
    Cells {
        /// Cells of the line.
        found: usize,
        /// Cells it should have, in words.
        expected: String,
    },
    /// XML that is damaged or not of the expected form.
    #[error("{0}")]
    Xml(String),
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
    /// So long that the file cannot be of the expected kind.
    #[error("longer than {0} bytes; this is no text file of one entry a line")]
    Long(usize),
    /// A line of a list stands there already.
    #[error("`{name}` stands on line {first} already; keep one of the two")]
    Twice {
        /// The line.
        name: String,
        /// Its first appearance, counted from 1.
        first: u64,
    },
    /// Quotes of a CSV line that do not close.
    #[error("a quoted cell that does not end on this line")]
    Quotes,
    /// The first line of a CSV file does not name the columns that are needed.
    #[error("a header with the columns {0} should stand here")]
    Header(&'static str),
    /// A value that must be 0 or 1.
    #[error("{0:?} is not 0 or 1")]
    NotBinary(String),
    /// Another number of values than there are tags.
    #[error("{found} values instead of {expected}, one for each line of the tag list")]
    Values {
        /// Values of the line.
        found: usize,
        /// Values it should have.
        expected: usize,
    },
    /// A confidence outside [0, 1].
    #[error("confidence {0:?} is no number from 0 to 1")]
    Confidence(String),
    /// A machine id without a description.
    #[error("the class `{id}` is not in {descriptions}")]
    UnknownId {
        /// The machine id.
        id: String,
        /// The file of class descriptions.
        descriptions: PathBuf,
    },
    /// A position outside the list that it points into.
    #[error("position {position} lies outside the {count} classes of {list}")]
    Position {
        /// The position, counted from 0.
        position: String,
        /// Length of the list.
        count: usize,
        /// The list.
        list: PathBuf,
    },
    /// The image lies outside the folder of the images.
    #[error(
        "{0:?} lies outside the folder of the images; where that is meant, set `outside = true` in [data]"
    )]
    Outside(String),
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
    /// The path of its file within `folder`: stable and unique.
    pub id: String,
    /// The folder of the images. (Data sets have millions of images, and few folders.)
    pub folder: Arc<Path>,
    /// Its part of the data set.
    pub split: Split,
}

impl Record {
    /// Where the file lies.
    ///
    /// ```
    /// use epsilon_data::dataset::{Record, Split};
    /// use std::path::Path;
    ///
    /// let folder = Path::new("photos").into();
    /// let record = Record { id: "2024/sea.jpg".into(), folder, split: Split::Test };
    /// assert_eq!(record.path(), Path::new("photos/2024/sea.jpg"));
    /// ```
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.id)
    }
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
    /// What each label is looked up by among word vectors: its name, unless two labels share one.
    pub words: Vec<String>,
}

impl Dataset {
    /// Row numbers of the images of `split`, in table order; may be empty.
    ///
    /// ```
    /// # use epsilon_data::dataset::scenes::{SceneOptions, Scenes};
    /// # let folder = tempfile::tempdir()?;
    /// # let options = Scenes::new(SceneOptions::default())?.write(folder.path(), 4, 2)?;
    /// use epsilon_data::dataset::{Split, table};
    ///
    /// let (dataset, _) = table::read(&options)?;
    /// assert_eq!(dataset.rows(Split::Test), [4, 5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rows(&self, split: Split) -> Vec<usize> {
        (0..self.records.len())
            .filter(|&row| self.records[row].split == split)
            .collect()
    }

    /// The images of these rows with these labels, both in this order; the first `seen` of the labels are the seen ones.
    ///
    /// ```
    /// # use epsilon_data::dataset::scenes::{SceneOptions, Scenes};
    /// # let folder = tempfile::tempdir()?;
    /// # let options = Scenes::new(SceneOptions::default())?.write(folder.path(), 4, 2)?;
    /// use epsilon_data::dataset::{Split, table};
    ///
    /// let (dataset, _) = table::read(&options)?;
    /// // The training images, the first label unseen.
    /// let other = dataset.select(&dataset.rows(Split::Train), &[1, 2, 0], 2)?;
    /// assert_eq!((other.records.len(), other.unseen_names()), (4, &dataset.names[..1]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`DatasetError::SparseLabels`] for a label that is there twice.
    ///
    /// # Panics
    /// If a row or a label lies outside the data set.
    pub fn select(
        &self,
        rows: &[usize],
        labels: &[usize],
        seen: usize,
    ) -> Result<Self, DatasetError> {
        let of = |names: &[String]| labels.iter().map(|&label| names[label].clone()).collect();
        Ok(Self {
            records: rows.iter().map(|&row| self.records[row].clone()).collect(),
            labels: self.labels.select(rows, labels)?,
            names: of(&self.names),
            seen,
            words: of(&self.words),
        })
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

/// Where a data set comes from: one variant a kind, with its options.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Source {
    /// A list of photographs.
    Table(table::TableOptions),
    /// NUS-WIDE's official files.
    NusWide(nus_wide::NusWideOptions),
    /// Open Images V4's official files.
    OpenImages(open_images::OpenImagesOptions),
    /// COCO's files of instances.
    Coco(coco::CocoOptions),
    /// Pascal VOC's development kit.
    Voc(voc::VocOptions),
}

impl Source {
    /// The kinds, as recipes name them.
    pub const KINDS: [&str; 5] = ["table", "nus-wide", "open-images", "coco", "voc"];

    /// Reads and counts the data set.
    ///
    /// # Errors
    /// See the `read` of its module.
    ///
    /// ```
    /// # use epsilon_data::dataset::scenes::{SceneOptions, Scenes};
    /// # let folder = tempfile::tempdir()?;
    /// # let options = Scenes::new(SceneOptions::default())?.write(folder.path(), 4, 2)?;
    /// use epsilon_data::dataset::Source;
    ///
    /// let (dataset, summary) = Source::Table(options).read()?;
    /// assert_eq!((dataset.records.len(), summary.train.images), (6, 4));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&self) -> Result<(Dataset, Summary), DatasetError> {
        match self {
            Self::Table(options) => table::read(options),
            Self::NusWide(options) => nus_wide::read(options),
            Self::OpenImages(options) => open_images::read(options),
            Self::Coco(options) => coco::read(options),
            Self::Voc(options) => voc::read(options),
        }
    }

    /// [`Source::read`] through the [`index`] at `path`. A table is read as it is: it is an index already.
    ///
    /// # Errors
    /// As [`Source::read`], and an index that cannot be written.
    pub fn read_cached(&self, path: &Path) -> Result<(Dataset, Summary), DatasetError> {
        if matches!(self, Self::Table(_)) {
            return self.read();
        }
        let key = index::key(self, &self.sources()?)?;
        index::cached(path, &key, || self.read())
    }

    /// Every file that is read, those of the images apart.
    ///
    /// # Errors
    /// A list that says what else to read is missing or unreadable.
    pub fn sources(&self) -> Result<Vec<PathBuf>, DatasetError> {
        match self {
            Self::Table(options) => {
                let mut files = vec![options.table.clone(), options.seen.clone()];
                files.extend(options.unseen.clone());
                Ok(files)
            }
            Self::NusWide(options) => options.sources(),
            Self::OpenImages(options) => Ok(options.sources()),
            Self::Coco(options) => Ok(options.sources()),
            Self::Voc(options) => options.sources(),
        }
    }

    /// The paths of the options, with their keys in a recipe.
    pub fn paths(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        match self {
            Self::Table(o) => {
                let mut paths = vec![
                    ("data.table", &mut o.table),
                    ("data.images", &mut o.images),
                    ("data.seen", &mut o.seen),
                ];
                paths.extend(o.unseen.iter_mut().map(|path| ("data.unseen", path)));
                paths
            }
            Self::NusWide(o) => vec![
                ("data.folder", &mut o.folder),
                ("data.images", &mut o.images),
            ],
            Self::OpenImages(o) => {
                let mut paths = vec![
                    ("data.images", &mut o.images),
                    ("data.descriptions", &mut o.descriptions),
                    ("data.seen", &mut o.seen),
                    ("data.unseen", &mut o.unseen),
                ];
                paths.extend(
                    o.unseen_classes
                        .iter_mut()
                        .map(|p| ("data.unseen-classes", p)),
                );
                paths.extend(o.train.iter_mut().map(|path| ("data.train", path)));
                paths.extend(o.test.iter_mut().map(|path| ("data.test", path)));
                paths
            }
            Self::Coco(o) => {
                let mut paths = vec![
                    ("data.train", &mut o.train),
                    ("data.test", &mut o.test),
                    ("data.train-images", &mut o.train_images),
                    ("data.test-images", &mut o.test_images),
                ];
                if let coco::CocoSplit::Lists { seen, unseen } = &mut o.split {
                    paths.extend([("data.split.seen", seen), ("data.split.unseen", unseen)]);
                }
                paths
            }
            Self::Voc(o) => vec![
                ("data.folder", &mut o.folder),
                ("data.seen", &mut o.seen),
                ("data.unseen", &mut o.unseen),
            ],
        }
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
        let result = decode(&record.path());
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
            folder: Path::new("root").into(),
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
            words: vec!["cat".into(), "dog".into()],
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
