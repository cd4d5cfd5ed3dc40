//! What a predictor takes for a photograph.

use std::path::{Path, PathBuf};

use epsilon_vision::backbone::Features;
use epsilon_vision::image::RgbImage;

/// A photograph, as far as it is decoded.
#[derive(Debug, Clone, Copy)]
pub enum Photo<'a> {
    /// A file.
    File(&'a Path),
    /// The bytes of a file.
    Bytes(&'a [u8]),
    /// Decoded, upright.
    Image(&'a RgbImage),
    /// What the model's backbone made of it: tokens `[N, D]` and one global vector.
    Features(&'a Features),
}

impl<'a> From<&'a Path> for Photo<'a> {
    fn from(path: &'a Path) -> Self {
        Self::File(path)
    }
}

impl<'a> From<&'a PathBuf> for Photo<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::File(path)
    }
}

impl<'a> From<&'a str> for Photo<'a> {
    fn from(path: &'a str) -> Self {
        Self::File(Path::new(path))
    }
}

impl<'a> From<&'a [u8]> for Photo<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a RgbImage> for Photo<'a> {
    fn from(image: &'a RgbImage) -> Self {
        Self::Image(image)
    }
}

impl<'a> From<&'a Features> for Photo<'a> {
    fn from(features: &'a Features) -> Self {
        Self::Features(features)
    }
}
