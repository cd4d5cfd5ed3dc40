//! Tables of scores in files.

use std::path::Path;

use super::error::FileError;
use super::format::Format;
use super::frame::Frame;
use super::layout::Kind;
use super::numbers::Numbers;
use super::{csv, narrow::narrow};
use crate::standardise::Normalisation;

/// Rows of a block in the conversion from column-major to row-major order.
const BLOCK_ROWS: usize = 16;

/// A table of scores in a file, [images, labels]. Row-major f32 scores of a `.npy` or `.safetensors` file are memory
/// mapped; all others are loaded as f32. f64 scores that f32 does not represent exactly are replaced by f32 scores with the
/// same order and the same ties, which gives the same metrics, unless the scores are normalised first: that asks for
/// [`read_for`](Self::read_for).
///
/// The file must not change while the table is in use.
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
    /// Opens a table of scores. If a safetensors file holds several tensors, the one named `scores` is used.
    ///
    /// # Errors
    /// [`FileError::Extension`]; [`FileError::Read`]; [`FileError::Format`] for a truncated or damaged file, a type other than
    /// f16, bf16, f32 and f64, or a number of dimensions other than 2; [`FileError::NameCount`] and [`FileError::NameTwice`]
    /// for the names; [`FileError::NotFinite`] for f64 scores; [`FileError::Line`] for a CSV cell that is not a finite number
    /// and a line with the wrong number of cells. Mapped f32 scores are checked by the evaluation.
    ///
    /// ```rust
    /// use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
    /// use epsilon_metrics::Table;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("scores.csv");
    /// std::fs::write(&path, "image,cat,dog\na.jpg,0.75,0.5\nb.jpg,0.25,0.125\n")?;
    /// let scores = ScoreTable::read(&path)?;
    ///
    /// let names = ["a.jpg", "b.jpg", "cat", "dog"].map(String::from);
    /// let labels = LabelTable::from_rows(&path, names[..2].to_vec(), names[2..].to_vec(), |image, row| {
    ///     row.copy_from_slice(&[[1, -1], [-1, 1]][image]);
    /// })?;
    /// let table = Joined::new(scores, &labels, None)?;
    /// let (mut scores, mut labels) = ([0.0; 2], [0; 2]);
    /// table.read(1..2, 0..2, &mut scores, &mut labels)?;
    /// assert_eq!((scores, labels), ([0.25, 0.125], [-1, 1]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(path: &Path) -> Result<Self, FileError> {
        Self::read_for(path, Normalisation::default())
    }

    /// [`read`](Self::read) for scores that are then [normalised](crate::Normalised), whose distances count beside their order: f64
    /// scores lose in f64 what the normalisation takes from them (a scale of all scores; the mean of each label; or location and
    /// scale of each image), so that what is left is not rounded away. The values are other ones than the file's, the figures of
    /// the normalised scores the same.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// ```rust
    /// use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
    /// use epsilon_metrics::{Normalisation, Normalised, Standardise, Table};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("scores.csv");
    /// // Two scores that are one in f32.
    /// std::fs::write(&path, "image,cat,dog\na.jpg,1.0000000001,1.0000000003\n")?;
    /// let labels = folder.path().join("labels.csv");
    /// std::fs::write(&labels, "image,cat,dog\na.jpg,1,-1\n")?;
    ///
    /// let how = Normalisation { standardise: Standardise::Table, ..Default::default() };
    /// let scores = ScoreTable::read_for(&path, how)?;
    /// let table = Normalised::new(Joined::new(scores, &LabelTable::read(&labels)?, None)?, how, None)?;
    /// let (mut scores, mut labels) = ([0.0; 2], [0; 2]);
    /// table.read(0..1, 0..2, &mut scores, &mut labels)?;
    /// assert_eq!(scores, [-1.0, 1.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_for(path: &Path, normalisation: Normalisation) -> Result<Self, FileError> {
        let numbers = match Format::of(path)? {
            Format::Csv => {
                let table = csv::read(path, csv::score)?;
                let frame = Frame::named(path, table.images, table.labels)?;
                let values = narrow(&frame, table.values, normalisation)?;
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
            Kind::F16 | Kind::Bf16 | Kind::F32 => Values::Held(row_major(&numbers, |v| v as f32)),
            Kind::F64 => {
                let values = row_major(&numbers, |v| v);
                Values::Held(narrow(&frame, values, normalisation)?)
            }
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

    /// The scores, row-major [images, labels].
    pub(super) fn values(&self) -> &[f32] {
        match &self.values {
            Values::Held(values) => values,
            // Type and alignment were checked in `read`.
            Values::Mapped(numbers) => numbers.values().unwrap_or_default(),
        }
    }
}

/// The converted values in row-major order. Converted in blocks of rows, so that neighbours in a column-major file are
/// read together.
fn row_major<T: Copy + Default>(numbers: &Numbers, convert: impl Fn(f64) -> T) -> Vec<T> {
    let (rows, columns) = (numbers.layout.rows, numbers.layout.columns);
    let mut values = vec![T::default(); rows * columns];
    let blocks = values.chunks_mut(BLOCK_ROWS.saturating_mul(columns).max(1));
    for (block, values) in blocks.enumerate() {
        for column in 0..columns {
            for (row, values) in values.chunks_mut(columns).enumerate() {
                values[column] = convert(numbers.get(block * BLOCK_ROWS + row, column));
            }
        }
    }
    values
}
