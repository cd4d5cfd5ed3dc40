//! One vector of a file of word vectors: where it stands, and its values, read only where a caller asks.

use super::{LabelError, width_error};
use crate::formats::numbers::Number;
use crate::formats::pickle::{self, Pickle};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Where a vector stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A line, counted from 1, of a text file or of the list of words.
    Line(u64),
    /// A vector, counted from 1, of a file without lines.
    Vector(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Vector(vector) => write!(f, "vector {vector}"),
        }
    }
}

/// One word of a vector file, its values not yet read.
pub(super) struct Row<'a> {
    /// The file that the word stands in.
    pub(super) path: &'a Path,
    pub(super) place: Place,
    pub(super) key: &'a str,
    pub(super) values: Values<'a>,
    pub(super) dim: usize,
}

/// Where the values of a vector are.
pub(super) enum Values<'a> {
    /// Numbers as text, and where it begins in the file.
    Text { text: &'a str, at: u64 },
    /// f32, the low byte first, and where they begin in the file.
    Bytes { bytes: &'a [u8], at: u64 },
    /// In a file of numbers.
    File {
        file: &'a File,
        offset: u64,
        /// Bytes from one value to the next: more than a value has where the file keeps a matrix by columns.
        step: u64,
        number: Number,
    },
    /// In a pickle.
    Pickle(&'a Pickle, pickle::Place),
}

impl Row<'_> {
    /// The vector, of shape [dim].
    ///
    /// # Errors
    /// Values that are no finite numbers, or another number of them; an unreadable file.
    pub(super) fn parse(&self) -> Result<Vec<f32>, LabelError> {
        let values = match &self.values {
            Values::Text { text, .. } => return self.parse_text(text),
            Values::Bytes { bytes, .. } => Number::F32.read(bytes),
            Values::File {
                file,
                offset,
                step,
                number,
            } => {
                let mut bytes = vec![0; self.dim * number.bytes()];
                let pieces = match *step == number.bytes() as u64 {
                    true => bytes.len().max(1),
                    false => number.bytes(),
                };
                let mut file = *file;
                for (bytes, at) in bytes.chunks_mut(pieces).zip(0..) {
                    file.seek(SeekFrom::Start(offset + at * step))
                        .and_then(|_| file.read_exact(bytes))
                        .map_err(|reason| read_error(self.path, reason))?;
                }
                number.read(&bytes)
            }
            Values::Pickle(pickle, place) => pickle.numbers(*place)?,
        };
        if values.len() != self.dim {
            return Err(width_error(self.path, self.place, self.dim, values.len()));
        }
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(self.not_finite(&value.to_string())),
            None => Ok(values),
        }
    }

    fn parse_text(&self, text: &str) -> Result<Vec<f32>, LabelError> {
        let mut values = Vec::new();
        for text in fields(text) {
            match text.parse::<f32>() {
                Ok(value) if value.is_finite() => values.push(value),
                Ok(_) => return Err(self.not_finite(text)),
                Err(_) => {
                    return Err(LabelError::Number {
                        path: self.path.into(),
                        place: self.place,
                        key: self.key.into(),
                        text: text.into(),
                    });
                }
            }
        }
        match values.len() == self.dim {
            true => Ok(values),
            false => Err(width_error(self.path, self.place, self.dim, values.len())),
        }
    }

    fn not_finite(&self, text: &str) -> LabelError {
        LabelError::NotFinite {
            path: self.path.into(),
            place: self.place,
            key: self.key.into(),
            text: text.into(),
        }
    }
}

pub(super) fn read_error(path: &Path, reason: std::io::Error) -> LabelError {
    LabelError::Read {
        path: path.into(),
        reason,
    }
}

/// The fields of a line: GloVe separates by one space, some tools by tabs or several spaces.
pub(super) fn fields(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t']).filter(|field| !field.is_empty())
}
