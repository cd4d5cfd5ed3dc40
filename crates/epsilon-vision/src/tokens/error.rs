//! Why tokens cannot be made or kept.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::store::StoreError;
use crate::backbone::BackboneError;

/// Why an extraction cannot start or go on. Images that cannot be read are no error: see
/// [`super::ExtractReport::failed`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// The folder holds a store that does not fit.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The backbone failed.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A file cannot be written, for instance because the disk is full.
    #[error("{}: cannot be written: {reason}; what is finished is kept, and the same command goes on from there", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The observer has broken off.
    #[error(
        "the extraction was stopped: what is finished is kept, and the same call goes on from there"
    )]
    Stopped,
    /// Another process is extracting into the same folder.
    #[error("{}: another process is extracting into this folder", dir.display())]
    Busy {
        /// The folder.
        dir: PathBuf,
    },
    /// Two images have the same id.
    #[error("the image {id} is listed twice")]
    Duplicate {
        /// The id.
        id: String,
    },
    /// A batch, a shard or the number of decoding threads is zero.
    #[error("batch, shard_size and decoders must be at least 1")]
    Options,
    /// A token has no finite value in the store's type.
    #[error("the tokens of {id} are not finite{hint}")]
    NotFinite {
        /// The image's id.
        id: String,
        /// What may help.
        hint: &'static str,
    },
    /// Rows of another length than the store's.
    #[error("{what} of {rows} images hold {found} values, not {expected}")]
    Length {
        /// Which values.
        what: &'static str,
        /// Number of images.
        rows: usize,
        /// Values that so many images have.
        expected: usize,
        /// Values given.
        found: usize,
    },
}
