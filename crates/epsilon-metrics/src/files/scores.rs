//! Tables of scores in files.

use std::path::Path;

use super::error::FileError;
use super::format::Format;
use super::frame::Frame;
use super::layout::Kind;
use super::numbers::Numbers;
use super::{csv, order};

/// How many rows are turned from column order at a time.
const TURNED_ROWS: usize = 16;

/// Scores from a file. Those in f32 of a `.npy` or `.safetensors` file, row after row, stay in the file and are read
/// through a memory map; all others are held in memory as f32. Values in f64 that f32 cannot hold are replaced by f32
/// values in the same order, with the same ties: figures depend on nothing else.
#[derive(Debug)]
pub struct ScoreTable {
    pub(super) frame: Frame,
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
    pub(super) fn values(&self) -> &[f32] {
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
    let blocks = values.chunks_mut(TURNED_ROWS.saturating_mul(columns).max(1));
    for (block, values) in blocks.enumerate() {
        for column in 0..columns {
            for (row, values) in values.chunks_mut(columns).enumerate() {
                values[column] = convert(numbers.get(block * TURNED_ROWS + row, column));
            }
        }
    }
    values
}
