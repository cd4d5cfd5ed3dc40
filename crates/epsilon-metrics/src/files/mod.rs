//! Tables of scores and labels in files, so that any program's scores can be measured: `.npy`, `.safetensors` and `.csv`.
//!
//! A table is images x labels. A CSV file names both itself: its first line holds the labels' names, its first column
//! the images'. Beside `scores.npy` and `scores.safetensors` names stand in `scores.images.txt` and `scores.labels.txt`,
//! one a line. Where scores and labels both have names, they are matched by name, otherwise by place.

mod csv;
mod error;
mod joined;
mod names;
mod npy;
mod numbers;
mod order;
mod write;

use std::path::{Path, PathBuf};

pub use error::FileError;
pub use joined::{Joined, Zero};
pub use write::{write_per_label, write_scores};

use numbers::{Kind, Numbers};

/// How many rows are turned from column order at a time.
const TURNED_ROWS: usize = 16;

/// What kind a file is, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Npy,
    Safetensors,
    Csv,
}

impl Format {
    fn of(path: &Path) -> Result<Self, FileError> {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str() {
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::Safetensors),
            Some("csv") => Ok(Self::Csv),
            _ => Err(FileError::Extension { path: path.into() }),
        }
    }
}

/// What a table is beside its values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    path: PathBuf,
    images: usize,
    labels: usize,
    image_names: Option<Vec<String>>,
    label_names: Option<Vec<String>>,
}

impl Frame {
    /// Of a table of numbers, with the names beside it.
    fn beside(path: &Path, numbers: &Numbers) -> Result<Self, FileError> {
        let (images, labels) = (numbers.layout.rows, numbers.layout.columns);
        Ok(Self {
            path: path.into(),
            images,
            labels,
            image_names: names::beside(path, "image", images)?,
            label_names: names::beside(path, "label", labels)?,
        })
    }

    /// Of a table with names of its own, each once.
    fn named(path: &Path, images: Vec<String>, labels: Vec<String>) -> Result<Self, FileError> {
        names::check(path, "image", &images)?;
        names::check(path, "label", &labels)?;
        Ok(Self {
            path: path.into(),
            images: images.len(),
            labels: labels.len(),
            image_names: Some(images),
            label_names: Some(labels),
        })
    }

    /// A row, counted from 0, with its name where it has one.
    fn row(&self, row: usize) -> String {
        place("row", row, &self.image_names)
    }

    /// A column, likewise.
    fn column(&self, column: usize) -> String {
        place("column", column, &self.label_names)
    }
}

fn place(what: &str, at: usize, names: &Option<Vec<String>>) -> String {
    match names.as_ref().and_then(|names| names.get(at)) {
        Some(name) => format!("{what} {at} ({name})"),
        None => format!("{what} {at}"),
    }
}

/// Scores from a file. Those in f32 of a `.npy` or `.safetensors` file, row after row, stay in the file and are read
/// through a memory map; all others are held in memory as f32. Values in f64 that f32 cannot hold are replaced by f32
/// values in the same order, with the same ties: figures depend on nothing else.
#[derive(Debug)]
pub struct ScoreTable {
    frame: Frame,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Held(Vec<f32>),
    Mapped(Numbers),
}

impl ScoreTable {
    /// Opens a table of scores; a safetensors file with several tensors needs one named `scores`.
    ///
    /// # Errors
    /// Unreadable, cut short or damaged files; numbers that are no floats; not two dimensions; other numbers of names
    /// than rows or columns, and names that stand twice; in a CSV file, with its line, a cell that is no finite number
    /// and a line with another number of cells.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let numbers = match Format::of(path)? {
            Format::Csv => {
                let table = csv::read(path, csv::score)?;
                let frame = Frame::named(path, table.images, table.labels)?;
                let values = order::narrow(&frame, table.values)?;
                return Ok(Self {
                    frame,
                    values: Values::Held(values),
                });
            }
            Format::Npy => Numbers::npy(path)?,
            Format::Safetensors => Numbers::safetensors(path, "scores")?,
        };
        let frame = Frame::beside(path, &numbers)?;
        let values = match numbers.layout.kind {
            Kind::F32 if numbers.values::<f32>().is_some() => Values::Mapped(numbers),
            Kind::F16 | Kind::Bf16 | Kind::F32 => Values::Held(turned(&numbers, |v| v as f32)),
            Kind::F64 => Values::Held(order::narrow(&frame, turned(&numbers, |v| v))?),
            kind => {
                return Err(FileError::Format {
                    path: path.into(),
                    problem: format!(
                        "holds numbers of type {kind:?}: scores are f16, bf16, f32 or f64"
                    ),
                });
            }
        };
        Ok(Self { frame, values })
    }

    /// Row-major [images, labels].
    fn values(&self) -> &[f32] {
        match &self.values {
            Values::Held(values) => values,
            // They fitted when the file was opened.
            Values::Mapped(numbers) => numbers.values().unwrap_or_default(),
        }
    }
}

/// The values row after row. In blocks of rows, so that a column's neighbours in the file are read together.
fn turned<T: Copy + Default>(numbers: &Numbers, convert: impl Fn(f64) -> T) -> Vec<T> {
    let (rows, columns) = (numbers.layout.rows, numbers.layout.columns);
    let mut values = vec![T::default(); rows * columns];
    let blocks = values.chunks_mut((TURNED_ROWS * columns).max(1));
    for (block, values) in blocks.enumerate() {
        for column in 0..columns {
            for (row, values) in values.chunks_mut(columns).enumerate() {
                values[column] = convert(numbers.get(block * TURNED_ROWS + row, column));
            }
        }
    }
    values
}

/// Labels from a file or from rows that something else holds: +1 positive, -1 negative, 0 unknown.
pub struct LabelTable<'a> {
    frame: Frame,
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

    fn row(&self, row: usize, out: &mut [i8]) -> Result<(), FileError> {
        match &self.rows {
            Rows::Held(values) => {
                out.copy_from_slice(&values[row * out.len()..(row + 1) * out.len()]);
            }
            Rows::From(row_of) => row_of(row, out),
            Rows::Numbers(numbers) => {
                for (column, out) in out.iter_mut().enumerate() {
                    *out = match numbers.get(row, column) {
                        1.0 => 1,
                        -1.0 => -1,
                        0.0 => 0,
                        value => {
                            return Err(FileError::LabelValue {
                                path: self.frame.path.clone(),
                                image: self.frame.row(row),
                                label: self.frame.column(column),
                                value,
                            });
                        }
                    };
                }
            }
        }
        Ok(())
    }

    /// Whether a 0 can only mean negative.
    fn is_truth(&self) -> bool {
        matches!(&self.rows, Rows::Numbers(numbers) if numbers.layout.kind == Kind::Bool)
    }
}
