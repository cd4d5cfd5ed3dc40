//! Joins a table of scores and a table of labels into one table that is read in blocks.

use std::ops::Range;

use super::error::FileError;
use super::frame::Frame;
use super::labels::LabelTable;
use super::names::{Matching, matching};
use super::scores::ScoreTable;
use crate::error::MetricsError;
use crate::table::Table;

/// Labels per byte, two bits each.
const IN_A_BYTE: usize = 4;

/// The meaning of 0 in a table of labels.
///
/// ```rust
/// use epsilon_metrics::files::{FileError, Joined, LabelTable, ScoreTable, Zero};
/// use epsilon_metrics::Table;
///
/// let folder = tempfile::tempdir()?;
/// let (scores, labels) = (folder.path().join("scores.csv"), folder.path().join("labels.csv"));
/// std::fs::write(&scores, "image,cat,dog\na.jpg,0.9,0.3\n")?;
/// std::fs::write(&labels, "image,cat,dog\na.jpg,1,0\n")?;
/// let join = |zero| Joined::new(ScoreTable::read(&scores)?, &LabelTable::read(&labels)?, zero);
/// let dog = |zero| -> Result<i8, Box<dyn std::error::Error>> {
///     let (mut score, mut label) = ([0.0], [0]);
///     join(Some(zero))?.read(0..1, 1..2, &mut score, &mut label)?;
///     Ok(label[0])
/// };
/// assert_eq!((dog(Zero::Unknown)?, dog(Zero::Negative)?), (0, -1));
/// // Without a -1 in the table its meaning must be given.
/// assert!(matches!(join(None), Err(FileError::ZerosUnclear { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zero {
    /// The label is not annotated.
    Unknown,
    /// The label is negative.
    Negative,
}

/// A [`Table`] of scores with the labels of the same images, in the order of the scores: all columns, or those selected by
/// [`choose`](Joined::choose).
///
/// Memory: the scores, unless [`ScoreTable`] maps them, and two bits per label.
#[derive(Debug)]
pub struct Joined {
    scores: ScoreTable,
    packed: Packed,
    /// Rows of the scores in the order in which they are read; `None` for the file's own.
    rows: Option<Vec<usize>>,
    /// Columns of the scores that are evaluated, in this order.
    columns: Vec<usize>,
    images_by_name: bool,
    labels_by_name: bool,
    label_names: Option<Vec<String>>,
    image_names: Option<Vec<String>>,
}

/// Labels of two bits each: the label + 1.
#[derive(Debug)]
struct Packed {
    bytes: Vec<u8>,
    width: usize,
}

impl Packed {
    fn get(&self, row: usize, column: usize) -> i8 {
        let byte = self.bytes[row * self.width + column / IN_A_BYTE];
        (byte >> (2 * (column % IN_A_BYTE)) & 3) as i8 - 1
    }
}

impl Joined {
    /// Joins scores and labels: by name if both have names, otherwise by index. `zero` is the meaning of 0; if it is `None`, 0
    /// is negative in a table of booleans, and unknown in a table that holds a -1.
    ///
    /// # Errors
    /// [`FileError::NamesDiffer`] or [`FileError::CountsDiffer`] for other images or labels than those of the scores;
    /// [`FileError::LabelValue`]; [`FileError::ZerosUnclear`] if `zero` is needed; [`FileError::AllUnknown`];
    /// [`FileError::Format`] if the labels do not fit in memory.
    ///
    /// ```rust
    /// use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
    /// use epsilon_metrics::Table;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("scores.csv");
    /// # std::fs::write(&path, "image,cat,dog\na.jpg,0.75,0.5\nb.jpg,0.25,0.125\n")?;
    /// # let labels = folder.path().join("labels.csv");
    /// # std::fs::write(&labels, "image,dog,cat\nb.jpg,1,-1\na.jpg,-1,1\n")?;
    /// // scores.csv: cat and dog; labels.csv: dog and cat
    /// let table = Joined::new(ScoreTable::read(&path)?, &LabelTable::read(&labels)?, None)?;
    /// assert_eq!((table.images(), table.labels()), (2, 2));
    /// let (mut scores, mut labels) = ([0.0; 2], [0; 2]);
    /// table.read(0..1, 0..2, &mut scores, &mut labels)?; // a.jpg
    /// assert_eq!((scores, labels), ([0.75, 0.5], [1, -1]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(
        scores: ScoreTable,
        labels: &LabelTable<'_>,
        zero: Option<Zero>,
    ) -> Result<Self, FileError> {
        let (rows, columns) = match_frames(&scores.frame, &labels.frame)?;
        let zero = zero.or(labels.is_truth().then_some(Zero::Negative));
        let packed = pack(labels, &rows, &columns, zero)?;
        let of_labels = labels.frame.label_names.clone();
        Ok(Self {
            rows: None,
            columns: (0..scores.frame.labels).collect(),
            images_by_name: rows.by_name(),
            labels_by_name: columns.by_name(),
            // If only the labels have names, both were matched by index and the names hold for both.
            label_names: scores.frame.label_names.clone().or(of_labels),
            image_names: scores
                .frame
                .image_names
                .clone()
                .or(labels.frame.image_names.clone()),
            scores,
            packed,
        })
    }

    /// Whether the images were matched by name; otherwise by index.
    ///
    /// ```rust
    /// use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("scores.csv");
    /// # std::fs::write(&path, "image,cat,dog\na.jpg,0.75,0.5\nb.jpg,0.25,0.125\n")?;
    /// # let labels = folder.path().join("labels.csv");
    /// # std::fs::write(&labels, "image,dog,cat\nb.jpg,1,-1\na.jpg,-1,1\n")?;
    /// // scores.csv: cat and dog; labels.csv: dog and cat
    /// let table = Joined::new(ScoreTable::read(&path)?, &LabelTable::read(&labels)?, None)?;
    /// assert!(table.images_by_name());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn images_by_name(&self) -> bool {
        self.images_by_name
    }

    /// Whether the labels were matched by name; otherwise by index.
    ///
    /// ```rust
    /// use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("scores.csv");
    /// # std::fs::write(&path, "image,cat,dog\na.jpg,0.75,0.5\nb.jpg,0.25,0.125\n")?;
    /// # let labels = folder.path().join("labels.csv");
    /// # std::fs::write(&labels, "image,dog,cat\nb.jpg,1,-1\na.jpg,-1,1\n")?;
    /// // scores.csv: cat and dog; labels.csv: dog and cat
    /// let table = Joined::new(ScoreTable::read(&path)?, &LabelTable::read(&labels)?, None)?;
    /// assert!(table.labels_by_name());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn labels_by_name(&self) -> bool {
        self.labels_by_name
    }

    /// Names of the labels in the order of the scores' columns, if either table has names.
    ///
    /// ```rust
    /// use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("scores.csv");
    /// # std::fs::write(&path, "image,cat,dog\na.jpg,0.75,0.5\nb.jpg,0.25,0.125\n")?;
    /// # let labels = folder.path().join("labels.csv");
    /// # std::fs::write(&labels, "image,dog,cat\nb.jpg,1,-1\na.jpg,-1,1\n")?;
    /// // scores.csv: cat and dog; labels.csv: dog and cat
    /// let table = Joined::new(ScoreTable::read(&path)?, &LabelTable::read(&labels)?, None)?;
    /// let names = ["cat", "dog"].map(String::from);
    /// assert_eq!(table.label_names(), Some(&names[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn label_names(&self) -> Option<&[String]> {
        self.label_names.as_deref()
    }

    /// Names of the images in the order of the scores' rows, if either table has names.
    ///
    /// ```rust
    /// use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("scores.csv");
    /// # std::fs::write(&path, "image,cat,dog\na.jpg,0.75,0.5\nb.jpg,0.25,0.125\n")?;
    /// # let labels = folder.path().join("labels.csv");
    /// # std::fs::write(&labels, "image,dog,cat\nb.jpg,1,-1\na.jpg,-1,1\n")?;
    /// // scores.csv: a.jpg and b.jpg; labels.csv: b.jpg and a.jpg
    /// let table = Joined::new(ScoreTable::read(&path)?, &LabelTable::read(&labels)?, None)?;
    /// let names = ["a.jpg", "b.jpg"].map(String::from);
    /// assert_eq!(table.image_names(), Some(&names[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn image_names(&self) -> Option<&[String]> {
        self.image_names.as_deref()
    }

    /// Reads the images in this order of the scores' rows from now on, such as that of another table. Rows in errors are then
    /// those of this order.
    ///
    /// # Panics
    /// If a row does not exist, or the number of rows is another.
    ///
    /// ```rust
    /// use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
    /// use epsilon_metrics::Table;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("scores.csv");
    /// # std::fs::write(&path, "image,cat,dog\na.jpg,0.75,0.5\nb.jpg,0.25,0.125\n")?;
    /// # let labels = folder.path().join("labels.csv");
    /// # std::fs::write(&labels, "image,dog,cat\nb.jpg,1,-1\na.jpg,-1,1\n")?;
    /// let mut table = Joined::new(ScoreTable::read(&path)?, &LabelTable::read(&labels)?, None)?;
    /// table.order_images(vec![1, 0]);
    /// let (mut scores, mut labels) = ([0.0; 2], [0; 2]);
    /// table.read(0..1, 0..2, &mut scores, &mut labels)?; // b.jpg
    /// assert_eq!((scores, labels), ([0.25, 0.125], [-1, 1]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn order_images(&mut self, rows: Vec<usize>) {
        let images = self.scores.frame.images;
        assert!(rows.len() == images && rows.iter().all(|&row| row < images));
        self.rows = Some(rows);
    }

    /// Selects the columns of the scores to evaluate, in this order, instead of all. Column indices of the table and of its
    /// metrics then refer to the selection; those passed here always refer to the scores.
    ///
    /// # Panics
    /// If a column does not exist.
    ///
    /// ```rust
    /// use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
    /// use epsilon_metrics::Table;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("scores.csv");
    /// # std::fs::write(&path, "image,cat,dog\na.jpg,0.75,0.5\nb.jpg,0.25,0.125\n")?;
    /// # let labels = folder.path().join("labels.csv");
    /// # std::fs::write(&labels, "image,dog,cat\nb.jpg,1,-1\na.jpg,-1,1\n")?;
    /// // scores.csv: cat and dog; labels.csv: dog and cat
    /// let mut table = Joined::new(ScoreTable::read(&path)?, &LabelTable::read(&labels)?, None)?;
    /// table.choose(vec![1]);
    /// assert_eq!((table.labels(), table.label(0)), (1, "dog".to_string()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn choose(&mut self, columns: Vec<usize>) {
        assert!(columns.iter().all(|&c| c < self.scores.frame.labels));
        self.columns = columns;
    }

    /// Number of labels of the scores, whether they are selected or not.
    pub fn all_labels(&self) -> usize {
        self.scores.frame.labels
    }

    /// Name of the label of a selected column, or its column in the scores if it has no name.
    ///
    /// # Panics
    /// If the column does not exist.
    ///
    /// ```rust
    /// use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("scores.csv");
    /// # std::fs::write(&path, "image,cat,dog\na.jpg,0.75,0.5\nb.jpg,0.25,0.125\n")?;
    /// # let labels = folder.path().join("labels.csv");
    /// # std::fs::write(&labels, "image,dog,cat\nb.jpg,1,-1\na.jpg,-1,1\n")?;
    /// // scores.csv: cat and dog; labels.csv: dog and cat
    /// let mut table = Joined::new(ScoreTable::read(&path)?, &LabelTable::read(&labels)?, None)?;
    /// table.choose(vec![1, 0]);
    /// assert_eq!((table.label(0), table.label(1)), ("dog".to_string(), "cat".to_string()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn label(&self, column: usize) -> String {
        let of_scores = self.columns[column];
        match &self.label_names {
            Some(names) => names[of_scores].clone(),
            None => of_scores.to_string(),
        }
    }

    /// Adds the file, and the names of image and label where the error has them, to an error of the evaluation of this table.
    ///
    /// ```rust
    /// use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
    /// use epsilon_metrics::MetricsError;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("scores.csv");
    /// # std::fs::write(&path, "image,cat,dog\na.jpg,0.75,0.5\nb.jpg,0.25,0.125\n")?;
    /// # let labels = folder.path().join("labels.csv");
    /// # std::fs::write(&labels, "image,dog,cat\nb.jpg,1,-1\na.jpg,-1,1\n")?;
    /// // scores.csv: cat and dog; labels.csv: dog and cat
    /// let table = Joined::new(ScoreTable::read(&path)?, &LabelTable::read(&labels)?, None)?;
    /// let error = MetricsError::NotFinite { image: 1, label: 0, value: f32::INFINITY };
    /// let message = table.name(error).to_string();
    /// assert!(message.ends_with("scores.csv, row 1 (b.jpg), column 0 (cat): the score is inf: scores must be finite"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(&self, error: MetricsError) -> FileError {
        let frame = &self.scores.frame;
        match error {
            MetricsError::NotFinite {
                image,
                label,
                value,
            } => FileError::NotFinite {
                path: frame.path.clone(),
                image: frame.row(self.rows.as_ref().map_or(image, |rows| rows[image])),
                label: frame.column(self.columns[label]),
                value: value.into(),
            },
            reason => FileError::Table {
                path: frame.path.clone(),
                reason,
            },
        }
    }
}

/// For each row and each column of the scores, the row and the column of the labels.
fn match_frames(scores: &Frame, labels: &Frame) -> Result<(Matching, Matching), FileError> {
    let paths = [&*scores.path, &*labels.path];
    let of_images = [&scores.image_names, &labels.image_names].map(|names| names.as_deref());
    let of_labels = [&scores.label_names, &labels.label_names].map(|names| names.as_deref());
    Ok((
        matching("image", paths, of_images, [scores.images, labels.images])?,
        matching("label", paths, of_labels, [scores.labels, labels.labels])?,
    ))
}

fn pack(
    labels: &LabelTable<'_>,
    rows: &Matching,
    columns: &Matching,
    zero: Option<Zero>,
) -> Result<Packed, FileError> {
    let frame = &labels.frame;
    let width = frame.labels.div_ceil(IN_A_BYTE);
    let length = frame
        .images
        .checked_mul(width)
        .ok_or_else(|| FileError::Format {
            path: frame.path.clone(),
            problem: format!(
                "{} images x {} labels do not fit in memory: evaluate a part",
                frame.images, frame.labels
            ),
        })?;
    let mut bytes = vec![0_u8; length];
    let mut found = vec![0_i8; frame.labels];
    let (mut positives, mut negatives, mut zeros) = (false, false, false);
    for image in 0..frame.images {
        labels.row(rows.place(image), &mut found)?;
        for &value in &found {
            positives |= value == 1;
            negatives |= value == -1;
            zeros |= value == 0;
        }
        if zero == Some(Zero::Negative) {
            found.iter_mut().filter(|v| **v == 0).for_each(|v| *v = -1);
        }
        let row = &mut bytes[image * width..(image + 1) * width];
        for place in 0..found.len() {
            let value = (found[columns.place(place)] + 1) as u8;
            row[place / IN_A_BYTE] |= value << (2 * (place % IN_A_BYTE));
        }
    }
    let path = frame.path.clone();
    if zeros && !positives && !negatives && zero != Some(Zero::Negative) {
        return Err(FileError::AllUnknown { path });
    }
    if zeros && !negatives && zero.is_none() {
        return Err(FileError::ZerosUnclear { path });
    }
    Ok(Packed { bytes, width })
}

impl Table for Joined {
    type Score = f32;

    fn images(&self) -> usize {
        self.scores.frame.images
    }

    fn labels(&self) -> usize {
        self.columns.len()
    }

    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [f32],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        let columns = &self.columns[columns];
        let values = self.scores.values();
        let all = self.scores.frame.labels;
        // Adjacent columns are copied in one piece.
        let together = columns.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let targets = scores
            .chunks_exact_mut(columns.len())
            .zip(labels.chunks_exact_mut(columns.len()));
        for (row, (scores, labels)) in rows.zip(targets) {
            let row = self.rows.as_ref().map_or(row, |rows| rows[row]);
            let of_row = &values[row * all..(row + 1) * all];
            if together {
                scores.copy_from_slice(&of_row[columns[0]..columns[0] + columns.len()]);
            } else {
                for (score, &column) in scores.iter_mut().zip(columns) {
                    *score = of_row[column];
                }
            }
            for (label, &column) in labels.iter_mut().zip(columns) {
                *label = self.packed.get(row, column);
            }
        }
        Ok(())
    }
}
