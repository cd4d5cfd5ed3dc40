//! What can go wrong with a tagging.

use epsilon_data::labels::VectorFile;
use std::io;
use std::path::{Path, PathBuf};

use crate::library::{LibraryError, PatternError};
use crate::predictor::PredictError;
use crate::semantic_index::IndexError;
use epsilon_data::labels::LabelError;
use epsilon_data::paths::shown;
use epsilon_vision::backbone::is_hub_id;

/// What can go wrong with a tagging as a whole. A photograph that fails is none of it: see [`TagEvent::Failed`](super::TagEvent::Failed).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// The library's own files.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The index of semantic vectors.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The words, or the backbone.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// The list of words.
    #[error(transparent)]
    Words(#[from] LabelError),
    /// A pattern for what is left out.
    #[error(transparent)]
    Exclude(#[from] PatternError),
    /// A line of the list of words that names no word.
    #[error("{}: {line:?}: beside a | stands no word", shown(path))]
    Line {
        /// The list.
        path: PathBuf,
        /// The line.
        line: String,
    },
    /// A file or folder that cannot be read or written.
    #[error("{}: {reason}", shown(path))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The folder of photographs is not any more the one that was opened.
    #[error(
        "{}: was removed or moved away while it was in use: run it again on the folder that is to be tagged",
        shown(folder)
    )]
    Moved {
        /// The folder.
        folder: PathBuf,
    },
    /// The observer has broken off.
    #[error("stopped before all photographs were tagged")]
    Stopped,
}

/// A file's or a folder's absolute path; an id on the hub as it is.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, TagError> {
    match is_hub_id(path) {
        true => Ok(path.into()),
        false => std::path::absolute(path).map_err(|reason| failed(path, reason)),
    }
}

pub(super) fn absolute_file(file: &VectorFile) -> Result<VectorFile, TagError> {
    let names = file.names.iter().map(|names| absolute(names));
    Ok(VectorFile {
        path: absolute(&file.path)?,
        names: names.collect::<Result<_, _>>()?,
    })
}

pub(super) fn failed(path: &Path, reason: io::Error) -> TagError {
    TagError::File {
        path: path.into(),
        reason,
    }
}
