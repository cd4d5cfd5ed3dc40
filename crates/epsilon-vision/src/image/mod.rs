//! From an image file to the normalised array a backbone reads: decode (upright, RGB, 8 bits),
//! resize as Pillow does, normalise. Knows nothing of any other part of the crate.

#[cfg(feature = "avif")]
mod avif;
mod blocks;
mod boxes;
mod decode;
mod error;
mod fit;
mod heic;
mod jpeg;
mod jxl;
mod kind;
mod limits;
pub mod metadata;
mod picture;
mod png;
mod preprocess;
mod raw;
mod reduced;
mod resize;
mod small;
mod tiff;
mod webp;

pub use self::decode::{Pixels, decode, decode_for, open, open_for};
pub use self::error::{Flaw, ImageError};
pub use self::fit::{Filter, Fit};
pub use self::kind::{FORMATS, Format, Kind, Part, START, kind};
pub use self::limits::{Limits, set_decode_memory};
pub use self::preprocess::Preprocess;
pub use self::resize::{Crop, crop, resize};
pub use self::small::{fit_within, open_small};
pub use ::image::RgbImage;
