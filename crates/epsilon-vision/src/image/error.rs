//! Why a picture could not be read, and what was wrong with one that could.

use std::fmt::{self, Display};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use epsilon_data::paths::shown;
use thiserror::Error;

/// Why an image could not be read. Every message names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// There is no file of that name.
    #[error("{}: no such file", shown(path))]
    Missing {
        /// The file asked for.
        path: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error("{}: cannot be read: {reason}", shown(path))]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The content is of no kind that is decoded (see [`FORMATS`](super::FORMATS)).
    #[error("{}: not a picture of a kind that is read{}", shown(path), but(*kind))]
    NotAnImage {
        /// The file asked for.
        path: PathBuf,
        /// What kind of picture it is, where that is known.
        kind: Option<&'static str>,
    },
    /// A picture of a kind that other builds of the program decode.
    #[error(
        "{}: {kind} is not read by this build: one with the cargo feature `{feature}` reads it; or convert it",
        shown(path)
    )]
    NotBuilt {
        /// The file asked for.
        path: PathBuf,
        /// What kind of picture it is.
        kind: &'static str,
        /// The cargo feature.
        feature: &'static str,
    },
    /// A camera's raw file that holds the sensor's data alone.
    #[error(
        "{}: a camera's raw file ({format}) without a JPEG preview in it: raw data is not developed, so export it as JPEG",
        shown(path)
    )]
    NoPreview {
        /// The file asked for.
        path: PathBuf,
        /// What kind of raw file it is.
        format: &'static str,
    },
    /// The file ends before the image does.
    #[error(
        "{}: truncated {format} image: the file ends before the picture does",
        shown(path)
    )]
    Truncated {
        /// The file asked for.
        path: PathBuf,
        /// What people call its format.
        format: &'static str,
    },
    /// More bytes than [`Limits::max_file_bytes`](super::Limits::max_file_bytes).
    #[error(
        "{}: larger than the limit of {limit} bytes (it grows with --max-megapixels)",
        shown(path)
    )]
    FileTooLarge {
        /// The file asked for.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// More pixels than [`Limits::max_pixels`](super::Limits::max_pixels).
    #[error(
        "{}: {width} x {height} pixels, above the limit of {limit} (--max-megapixels raises it)",
        shown(path)
    )]
    TooManyPixels {
        /// The file asked for.
        path: PathBuf,
        /// Width from the header.
        width: u32,
        /// Height from the header.
        height: u32,
        /// The limit, in pixels.
        limit: u64,
    },
    /// A side longer than [`Limits::max_side`](super::Limits::max_side).
    #[error(
        "{}: {width} x {height} pixels, a side above the limit of {limit}",
        shown(path)
    )]
    TooLong {
        /// The file asked for.
        path: PathBuf,
        /// Width from the header.
        width: u32,
        /// Height from the header.
        height: u32,
        /// The limit, in pixels.
        limit: u32,
    },
    /// A file far too small for the picture that it claims to hold.
    #[error(
        "{}: {width} x {height} pixels in a file of {file} bytes: it would take {} MB to decode, which no photograph of so few bytes does",
        shown(path), need / 1_000_000
    )]
    Disproportionate {
        /// The file asked for.
        path: PathBuf,
        /// Width from the header.
        width: u32,
        /// Height from the header.
        height: u32,
        /// Bytes of the file.
        file: u64,
        /// Bytes of memory that it would take.
        need: u64,
    },
    /// The content is damaged or uses a feature the decoder does not know.
    #[error("{}: broken {format} image: {reason}", shown(path))]
    Broken {
        /// The file asked for.
        path: PathBuf,
        /// What people call its format.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
}

impl ImageError {
    /// Of a file that may have `limit` bytes and cannot be opened or read.
    pub(super) fn of_system(path: &Path, limit: u64, reason: std::io::Error) -> Self {
        let path = path.into();
        match reason.kind() {
            ErrorKind::NotFound => Self::Missing { path },
            ErrorKind::FileTooLarge => Self::FileTooLarge { path, limit },
            _ => Self::Read { path, reason },
        }
    }

    /// Whether its content is wrong. Otherwise the system did not give the file, as it may do the next time.
    pub fn is_content(&self) -> bool {
        !matches!(self, Self::Missing { .. } | Self::Read { .. })
    }
}

fn but(kind: Option<&'static str>) -> String {
    kind.map_or(String::new(), |kind| format!(" but {kind}: convert it"))
}

/// What is wrong with a file whose picture is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// The end is missing: the end marker of a JPEG (or of the one in a raw file), what follows the pixels of a PNG, the last bytes that the header of a
    /// WebP counts.
    NoEnd,
}

impl Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEnd => f.write_str("the file's end is missing; the picture is whole"),
        }
    }
}

/// What a decoder says of a file whose name it does not know.
#[derive(Debug)]
pub(super) enum Fault {
    Truncated,
    Broken(String),
}

impl Fault {
    pub(super) fn of(self, path: &Path, format: &'static str) -> ImageError {
        let path = path.into();
        match self {
            Self::Truncated => ImageError::Truncated { path, format },
            Self::Broken(reason) => ImageError::Broken {
                path,
                format,
                reason,
            },
        }
    }

    /// Of an error of a decoder: truncated where an unexpected end of the file is its cause.
    pub(super) fn from_cause(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<std::io::Error>()
                && io.kind() == std::io::ErrorKind::UnexpectedEof
            {
                return Self::Truncated;
            }
            cause = error.source();
        }
        Self::Broken(error.to_string())
    }
}
