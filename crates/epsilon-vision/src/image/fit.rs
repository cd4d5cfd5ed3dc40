//! How an image becomes a square, and how its pixels are made of those of a larger one.

use serde::{Deserialize, Serialize};

/// How an image of any shape becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The whole image, its aspect ratio given up.
    Squash,
    /// The shorter side becomes `resize` pixels, the aspect ratio is kept and the centre is cut out
    /// (the evaluation transform of torchvision and timm). A `resize` below the output size counts
    /// as the output size.
    ShorterSide {
        /// Length of the shorter side before the crop, in pixels.
        resize: u32,
    },
}

/// How a pixel is made of those around it when an image is resized, as Pillow does it: widened when shrinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Keys' cubic with a = -0.5.
    #[default]
    Bicubic,
    /// A triangle.
    Bilinear,
}

impl Filter {
    pub(super) fn is_bicubic(&self) -> bool {
        *self == Self::Bicubic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fit_is_written_in_words() {
        let text = serde_json::to_string(&Fit::ShorterSide { resize: 256 }).unwrap();
        assert_eq!(text, r#"{"shorter_side":{"resize":256}}"#);
        assert_eq!(serde_json::to_string(&Fit::Squash).unwrap(), r#""squash""#);
    }
}
