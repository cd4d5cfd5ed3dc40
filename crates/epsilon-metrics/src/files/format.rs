//! The kinds of files that hold a table.

use std::path::Path;

use super::error::FileError;

/// The kind of a file, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Npy,
    Safetensors,
    Csv,
}

impl Format {
    pub(super) fn of(path: &Path) -> Result<Self, FileError> {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str() {
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::Safetensors),
            Some("csv") => Ok(Self::Csv),
            _ => Err(FileError::Extension { path: path.into() }),
        }
    }
}
