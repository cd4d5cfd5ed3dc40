//! How a network with an image and a text tower scores a pair of vectors, one of each.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::BackboneError;
use super::families::read_pairing;

/// How CLIP and SigLIP make a logit of an image's and a sentence's unit vectors: `scale x.t + bias`. CLIP (Radford et al., 2021)
/// takes the softmax of the logits over the sentences, SigLIP (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023)
/// the sigmoid of each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pairing {
    /// `exp(logit_scale)`.
    pub scale: f32,
    /// SigLIP's `logit_bias`; CLIP has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<f32>,
}

impl Pairing {
    /// The logit of two unit vectors from their product.
    ///
    /// ```
    /// let siglip = epsilon_vision::backbone::Pairing { scale: 100.0, bias: Some(-15.0) };
    /// assert_eq!(siglip.logit(0.25), 10.0);
    /// ```
    pub fn logit(&self, cosine: f32) -> f32 {
        self.scale * cosine + self.bias.unwrap_or(0.0)
    }
}

/// Reads what a file or folder with an image and a text tower says of pairs; `None` where it has no text tower, or one that was
/// saved without its pairing. `weights_key` as in [`super::Options`].
///
/// ```
/// use epsilon_vision::backbone::{BUILT_IN, pairing};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("vit.safetensors");
/// std::fs::write(&path, BUILT_IN)?;
/// assert_eq!(pairing(&path, None)?, None); // it has no text tower
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// See [`BackboneError`].
pub fn pairing(path: &Path, weights_key: Option<&str>) -> Result<Option<Pairing>, BackboneError> {
    read_pairing(path, weights_key)
}
