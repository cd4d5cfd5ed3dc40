//! From an image file to the normalised array a backbone reads: decode (upright, RGB, 8 bits),
//! resize as Pillow does, normalise. Knows nothing of any other part of the crate.

mod blocks;
mod decode;
mod error;
mod fit;
mod jpeg;
mod kind;
mod limits;
mod picture;
mod png;
mod preprocess;
mod resize;
mod webp;

pub use self::decode::{Pixels, decode, decode_for, open, open_for};
pub use self::error::{Flaw, ImageError};
pub use self::fit::{Filter, Fit};
pub use self::kind::{Kind, START, kind};
pub use self::limits::{Limits, set_decode_memory};
pub use self::preprocess::Preprocess;
pub use self::resize::{Crop, crop, resize};
pub use ::image::RgbImage;
