//! Tables of labels in files or from a function.

use std::path::Path;

use super::csv;
use super::error::FileError;
use super::format::Format;
use super::frame::Frame;
use super::layout::Kind;
use super::numbers::Numbers;

/// A table of labels, [images, labels], in a file or from a function: +1 (positive), -1 (negative) or 0 (unknown).
pub struct LabelTable<'a> {
    pub(super) frame: Frame,
    rows: Rows<'a>,
}

enum Rows<'a> {
    Numbers(Numbers),
    Held(Vec<i8>),
    From(Box<RowOf<'a>>),
}

/// Writes the labels of an image, each +1, -1 or 0, into a row of all labels.
type RowOf<'a> = dyn Fn(usize, &mut [i8]) + 'a;

impl<'a> LabelTable<'a> {
    /// Opens a table of labels. Any numeric type and booleans are accepted; if a safetensors file holds several tensors, the
    /// one named `labels` is used.
    ///
    /// # Errors
    /// [`FileError::Extension`]; [`FileError::Read`]; [`FileError::Format`] for a truncated or damaged file or a number of
    /// dimensions other than 2; [`FileError::NameCount`] and [`FileError::NameTwice`] for the names; [`FileError::Line`] for a
    /// CSV cell that is not a label and a line with the wrong number of cells. Values of other files are checked by
    /// [`Joined::new`](super::Joined::new).
    ///
    /// ```rust
    /// use epsilon_metrics::files::LabelTable;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("labels.csv");
    /// std::fs::write(&path, "image,cat\na.jpg,1\nb.jpg,2\n")?;
    /// let error = LabelTable::read(&path).err().map(|error| error.to_string());
    /// let end = "labels.csv, line 3: cat: \"2\" is no label: use 1 (positive), -1 (negative) or 0 (unknown)";
    /// assert!(error.is_some_and(|error| error.ends_with(end)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// A table of labels from a function: `row(image, labels)` writes the labels of an image, each +1, -1 or 0, in the order of
    /// `labels`. `path` is only named in errors.
    ///
    /// # Errors
    /// [`FileError::NameTwice`]. A value other than +1, -1 and 0 is an error of [`Joined::new`](super::Joined::new).
    ///
    /// ```rust
    /// use epsilon_metrics::files::{FileError, LabelTable};
    ///
    /// let (images, labels) = (vec!["a.jpg".to_string()], vec!["cat".to_string(), "cat".to_string()]);
    /// let error = LabelTable::from_rows("tags.tsv".as_ref(), images, labels, |_, row| row.fill(1));
    /// assert!(matches!(error, Err(FileError::NameTwice { first: 1, second: 2, .. })));
    /// ```
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

    /// Whether the table holds booleans, so that 0 is negative where nothing else is said.
    pub(super) fn is_truth(&self) -> bool {
        matches!(&self.rows, Rows::Numbers(numbers) if numbers.layout.kind == Kind::Bool)
    }
}
