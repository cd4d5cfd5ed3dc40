//! Tables of labels in files, or computed row by row.

use std::path::Path;

use super::csv;
use super::error::FileError;
use super::format::Format;
use super::frame::Frame;
use super::layout::Kind;
use super::numbers::Numbers;

/// Labels from a file or from rows that something else holds: +1 positive, -1 negative, 0 unknown.
pub struct LabelTable<'a> {
    pub(super) frame: Frame,
    rows: Rows<'a>,
}

enum Rows<'a> {
    Numbers(Numbers),
    Held(Vec<i8>),
    From(Box<RowOf<'a>>),
}

/// Writes the labels of an image, each +1, -1 or 0, into a row.
type RowOf<'a> = dyn Fn(usize, &mut [i8]) + 'a;

impl<'a> LabelTable<'a> {
    /// Opens a table of labels; a safetensors file with several tensors needs one named `labels`. Any kind of number
    /// will do.
    ///
    /// # Errors
    /// As [`ScoreTable::read`], but for the kind of number.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let numbers = match Format::of(path)? {
            Format::Csv => {
                let table = csv::read(path, csv::label)?;
                return Ok(Self {
                    frame: Frame::named(path, table.images, table.labels)?,
                    rows: Rows::Held(table.values),
                });
            }
            Format::Npy => Numbers::npy(path)?,
            Format::Safetensors => Numbers::safetensors(path, "labels")?,
        };
        Ok(Self {
            frame: Frame::beside(path, &numbers)?,
            rows: Rows::Numbers(numbers),
        })
    }

    /// Labels of named images and labels that were read from `path` by other means. `row` writes those of an image.
    ///
    /// # Errors
    /// A name that stands twice.
    pub fn from_rows(
        path: &Path,
        images: Vec<String>,
        labels: Vec<String>,
        row: impl Fn(usize, &mut [i8]) + 'a,
    ) -> Result<Self, FileError> {
        Ok(Self {
            frame: Frame::named(path, images, labels)?,
            rows: Rows::From(Box::new(row)),
        })
    }

    pub(super) fn row(&self, row: usize, out: &mut [i8]) -> Result<(), FileError> {
        match &self.rows {
            Rows::Held(values) => {
                out.copy_from_slice(&values[row * out.len()..(row + 1) * out.len()]);
            }
            Rows::From(row_of) => {
                row_of(row, out);
                if let Some(column) = out.iter().position(|value| !(-1..=1).contains(value)) {
                    return Err(self.label_value(row, column, out[column].into()));
                }
            }
            Rows::Numbers(numbers) => {
                for (column, out) in out.iter_mut().enumerate() {
                    *out = match numbers.get(row, column) {
                        1.0 => 1,
                        -1.0 => -1,
                        0.0 => 0,
                        value => return Err(self.label_value(row, column, value)),
                    };
                }
            }
        }
        Ok(())
    }

    fn label_value(&self, row: usize, column: usize, value: f64) -> FileError {
        FileError::LabelValue {
            path: self.frame.path.clone(),
            image: self.frame.row(row),
            label: self.frame.column(column),
            value,
        }
    }

    /// Whether a 0 can only mean negative.
    pub(super) fn is_truth(&self) -> bool {
        matches!(&self.rows, Rows::Numbers(numbers) if numbers.layout.kind == Kind::Bool)
    }
}
