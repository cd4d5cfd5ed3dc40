//! Frozen networks that turn images into tokens, one file a network, behind one trait.
//! Weights come from a local safetensors file.

mod kernels;
pub(crate) mod tensor_vit;
mod vit;
mod weights;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::tensor_vit::TensorVit;
pub use self::vit::Vit;
pub use self::weights::{
    Activation, BlockConfig, BlockWeights, Linear, NormWeights, VitConfig, VitWeights, load_weights,
};
use crate::image::Preprocess;

/// A network with fixed weights that makes `N` tokens and one global vector of every image.
pub trait Backbone: Send + Sync {
    /// What the network is and what it expects.
    fn info(&self) -> &BackboneInfo;

    /// Runs `count` preprocessed images (`[count, 3, size, size]`, see [`Preprocess::apply`]) through the
    /// network. `out` is resized to fit; its memory is reused. The result of one image does not depend on
    /// the others in the batch.
    ///
    /// # Errors
    ///
    /// [`BackboneError::Images`] when `images` has another length than `count` images have.
    fn forward(
        &self,
        images: &[f32],
        count: usize,
        out: &mut Features,
    ) -> Result<(), BackboneError>;
}

/// What identifies a backbone, and what goes in and comes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackboneInfo {
    /// The weight file's name without its ending; for people, not for comparison.
    pub name: String,
    /// SHA-256 of the weight file, in hexadecimal.
    pub weights_sha256: String,
    /// What is done to an image first.
    pub preprocess: Preprocess,
    /// Tokens of an image, `N`.
    pub tokens: usize,
    /// Width of a token, `D`.
    pub dim: usize,
    /// Rows and columns of the grid the tokens come from, row by row; `rows * columns = tokens`.
    pub grid: (usize, usize),
    /// Width of the global vector where it is not `dim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<usize>,
}

impl BackboneInfo {
    /// Width of the global vector.
    pub fn global_dim(&self) -> usize {
        self.global.unwrap_or(self.dim)
    }
}

/// What a backbone makes of `n` images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// `[n, N, D]`.
    pub tokens: Vec<f32>,
    /// `[n, D]`, or `[n, BackboneInfo::global_dim()]` where that differs.
    pub global: Vec<f32>,
}

/// Why a backbone could not be loaded or run.
#[derive(Debug, Error)]
pub enum BackboneError {
    /// There is no file of that name.
    #[error("{}: no such weight file", path.display())]
    Missing {
        /// The file asked for.
        path: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not whole, or no safetensors file.
    #[error("{}: not a complete safetensors file: {reason}", path.display())]
    Format {
        /// The weight file.
        path: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
    /// Tensors are missing, left over, or of the wrong shape or type.
    #[error("{}: not the weights of a Vision Transformer with timm's names:\n  {}", path.display(), problems.join("\n  "))]
    Tensors {
        /// The weight file.
        path: PathBuf,
        /// One line a tensor.
        problems: Vec<String>,
    },
    /// A weight is infinite or not a number.
    #[error("{}: tensor {tensor} holds values that are not finite", path.display())]
    NotFinite {
        /// The weight file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
    },
    /// The settings in the file's metadata do not fit its tensors.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The weight file.
        path: PathBuf,
        /// What does not fit, and what would.
        reason: String,
    },
    /// A batch of the wrong length.
    #[error("{count} images need {expected} values, {found} were given")]
    Images {
        /// Number of images said to be there.
        count: usize,
        /// Values that many images have.
        expected: usize,
        /// Values given.
        found: usize,
    },
}

/// The built-in backbone's weight file, as `epsilon quickstart --train-backbone` writes it.
pub const BUILT_IN: &[u8] = include_bytes!("../../assets/scenes_vit.safetensors");

/// [`load`] onto a device: the CPU has an engine of its own, others run the tensor framework's.
///
/// # Errors
///
/// See [`BackboneError`].
pub fn load_on(path: &Path, device: &Device) -> Result<Box<dyn Backbone>, BackboneError> {
    if *device == Device::flex() {
        return load(path);
    }
    Ok(Box::new(TensorVit::new(&load_weights(path)?, device)))
}

/// Loads a backbone from a weight file: a Vision Transformer with timm's tensor names in safetensors (see
/// [`load_weights`]), which runs on the CPU.
///
/// # Errors
///
/// See [`BackboneError`].
pub fn load(path: &Path) -> Result<Box<dyn Backbone>, BackboneError> {
    Ok(Box::new(Vit::new(load_weights(path)?)))
}
