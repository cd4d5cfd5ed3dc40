//! Scores and labels of the same images and labels, as one table that is read in blocks.

use std::ops::Range;

use super::error::FileError;
use super::frame::Frame;
use super::labels::LabelTable;
use super::names::{Matching, matching};
use super::scores::ScoreTable;
use crate::error::MetricsError;
use crate::table::Table;

/// Labels in a byte: two bits each.
const IN_A_BYTE: usize = 4;

/// What a 0 in a table of labels means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zero {
    /// Not known.
    Unknown,
    /// Known to be absent.
    Negative,
}

/// Scores with the labels of the same images, in the scores' order: all columns, or those that were chosen.
///
/// Memory: the scores (in their file, where [`ScoreTable`] could leave them there) and a quarter of a byte a label.
#[derive(Debug)]
pub struct Joined {
    scores: ScoreTable,
    packed: Packed,
    /// The columns of the scores that are measured, in this order.
    columns: Vec<usize>,
    images_by_name: bool,
    labels_by_name: bool,
    label_names: Option<Vec<String>>,
}

/// Labels in two bits each: one more than their value.
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
    /// Joins scores and labels, by name where both have names. A 0 is taken for what `zero` says; without it, for
    /// unknown if there is a -1 anywhere, and for negative in a table of truth values.
    ///
    /// # Errors
    /// Other images or labels than the scores', named, or counted where one of the two has no names; a value that is
    /// none of +1, -1, 0; zeros of which nobody said what they mean; labels all unknown.
    pub fn new(
        scores: ScoreTable,
        labels: &LabelTable<'_>,
        zero: Option<Zero>,
    ) -> Result<Self, FileError> {
        let (rows, columns) = match_frames(&scores.frame, &labels.frame)?;
        let zero = if labels.is_truth() {
            Some(Zero::Negative)
        } else {
            zero
        };
        let packed = pack(labels, &rows, &columns, zero)?;
        let of_labels = labels.frame.label_names.clone();
        Ok(Self {
            columns: (0..scores.frame.labels).collect(),
            images_by_name: rows.by_name(),
            labels_by_name: columns.by_name(),
            // Matched by place, the labels' names serve both.
            label_names: scores.frame.label_names.clone().or(of_labels),
            scores,
            packed,
        })
    }

    /// Whether the images were matched by name; by place otherwise.
    pub fn images_by_name(&self) -> bool {
        self.images_by_name
    }

    /// Whether the labels were matched by name; by place otherwise.
    pub fn labels_by_name(&self) -> bool {
        self.labels_by_name
    }

    /// Names of the labels, in the order of the scores' columns, where either table has them.
    pub fn label_names(&self) -> Option<&[String]> {
        self.label_names.as_deref()
    }

    /// Measures these columns of the scores, in this order, instead of all.
    ///
    /// # Panics
    /// If one of them is not there.
    pub fn choose(&mut self, columns: Vec<usize>) {
        assert!(columns.iter().all(|&c| c < self.scores.frame.labels));
        self.columns = columns;
    }

    /// The label of a measured column: its name, or its number among the scores' columns.
    pub fn label(&self, column: usize) -> String {
        let of_scores = self.columns[column];
        match &self.label_names {
            Some(names) => names[of_scores].clone(),
            None => of_scores.to_string(),
        }
    }

    /// An error of measuring this table, with the names that the measuring does not know.
    pub fn name(&self, error: MetricsError) -> FileError {
        let frame = &self.scores.frame;
        match error {
            MetricsError::NotFinite {
                image,
                label,
                value,
            } => FileError::NotFinite {
                path: frame.path.clone(),
                image: frame.row(image),
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

/// Which row and which column of the labels belongs to each of the scores.
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
        // Neighbours in the file are copied together.
        let together = columns.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let targets = scores
            .chunks_exact_mut(columns.len())
            .zip(labels.chunks_exact_mut(columns.len()));
        for (row, (scores, labels)) in rows.zip(targets) {
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
