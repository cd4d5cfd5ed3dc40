//! What identifies a backbone, what is chosen about it, and what goes in and comes out.

use serde::{Deserialize, Serialize};

use super::{BackboneError, Precision};
use crate::image::Preprocess;

/// What identifies a backbone, and what goes in and comes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackboneInfo {
    /// The weight file's name without its ending; for people, not for comparison.
    pub name: String,
    /// SHA-256 of the weight file, in hexadecimal.
    pub weights_sha256: String,
    /// The part of the file that holds the network, where it holds several ([`Options::weights_key`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_key: Option<String>,
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
    /// Number of the network's own classes where the global vector holds their scores ([`Global::Classes`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Whether the tokens went through the network's projection ([`Tokens::Projected`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub projected: bool,
    /// What the network computed in.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
}

/// Which tokens a network with a projection (CLIP) gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tokens {
    /// After the final layer normalisation.
    #[default]
    Plain,
    /// After the projection, too, where the text vectors are.
    Projected,
}

/// Which global vector a network gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Global {
    /// What stands for the whole image: the class token, or what the family has in its place, projected where the network
    /// has a projection.
    #[default]
    Features,
    /// The scores of the classes that the network was trained on, before any softmax: its classifier's head applied to what
    /// it was trained for.
    Classes,
}

/// What is chosen about a backbone besides its weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which tokens.
    pub tokens: Tokens,
    /// Which global vector.
    pub global: Global,
    /// What its products are computed in.
    pub precision: Precision,
    /// What runs it.
    pub engine: Engine,
    /// Of a file that holds several networks, such as the weights and their running average, the key that one stands under:
    /// `model_ema`, or `teacher.backbone`; `.` is the file itself. A file with one network needs none.
    pub weights_key: Option<String>,
}

/// What runs a network. The tokens of all are the same but for the rounding of sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// This program's own: on the CPU its kernels, on other devices the tensor framework.
    #[default]
    Own,
    /// ONNX Runtime.
    #[cfg(feature = "onnxruntime")]
    OnnxRuntime(super::Provider),
}

impl Engine {
    /// Names that [`Engine::by_name`] takes in this build.
    pub const NAMES: &[&str] = &[
        "own",
        #[cfg(feature = "onnxruntime")]
        "onnxruntime",
        #[cfg(feature = "onnxruntime")]
        "onnxruntime-cuda",
    ];

    /// The engine of one of the [`NAMES`](Self::NAMES).
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "own" => Some(Self::Own),
            #[cfg(feature = "onnxruntime")]
            "onnxruntime" => Some(Self::OnnxRuntime(super::Provider::Cpu)),
            #[cfg(feature = "onnxruntime")]
            "onnxruntime-cuda" => Some(Self::OnnxRuntime(super::Provider::Cuda)),
            _ => None,
        }
    }
}

/// The first thing in which two backbones differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub kind: DifferenceKind,
    /// As it is in the one that was asked.
    pub found: String,
    /// As it is in the other.
    pub wanted: String,
}

/// What can differ between two backbones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The weights' hash.
    Weights,
    /// What is done to an image first.
    Preprocess,
    /// What the network computes in.
    Precision,
    /// Number, width, grid or projection of the tokens, or what the global vector is and its width.
    Shape,
}

impl BackboneInfo {
    /// In what this backbone gives other tokens than `wanted`, if in anything. Names are not compared.
    ///
    /// ```
    /// use epsilon_vision::backbone::{BUILT_IN, DifferenceKind, Precision, load};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("scenes.safetensors");
    /// std::fs::write(&path, BUILT_IN)?;
    /// let backbone = load(&path)?;
    /// let mut other = backbone.info().clone();
    /// assert_eq!(backbone.info().difference(&other), None);
    /// other.precision = Precision::Int8;
    /// let difference = backbone.info().difference(&other).unwrap();
    /// assert_eq!(difference.kind, DifferenceKind::Precision);
    /// assert_eq!((&*difference.found, &*difference.wanted), ("f32", "int8"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn difference(&self, wanted: &Self) -> Option<Difference> {
        let weights = |info: &Self| match &info.weights_key {
            Some(key) => format!("{}, weights {} ({key})", info.name, info.weights_sha256),
            None => format!("{}, weights {}", info.name, info.weights_sha256),
        };
        let identity = |info: &Self| (info.weights_sha256.clone(), info.weights_key.clone());
        let shape = |info: &Self| {
            (
                info.tokens,
                info.dim,
                info.grid,
                info.global_dim(),
                info.classes,
                info.projected,
            )
        };
        let shape_text = |info: &Self| {
            let (tokens, dim, global) = (info.tokens, info.dim, info.global_dim());
            let tokens = match info.projected {
                true => format!("{tokens} projected tokens of {dim}"),
                false => format!("{tokens} tokens of {dim}"),
            };
            match info.classes {
                Some(classes) => format!("{tokens}, scores of {classes} classes"),
                None => format!("{tokens}, global vectors of {global}"),
            }
        };
        let (kind, [found, wanted]) = if identity(self) != identity(wanted) {
            (DifferenceKind::Weights, [self, wanted].map(weights))
        } else if self.preprocess != wanted.preprocess {
            let text = |info: &Self| format!("{:?}", info.preprocess);
            (DifferenceKind::Preprocess, [self, wanted].map(text))
        } else if self.precision != wanted.precision {
            let text = |info: &Self| info.precision.to_string();
            (DifferenceKind::Precision, [self, wanted].map(text))
        } else if shape(self) != shape(wanted) {
            (DifferenceKind::Shape, [self, wanted].map(shape_text))
        } else {
            return None;
        };
        Some(Difference {
            kind,
            found,
            wanted,
        })
    }

    /// Width of the global vector.
    pub fn global_dim(&self) -> usize {
        self.global.unwrap_or(self.dim)
    }

    /// Checks that `images` are as long as `count` preprocessed images.
    ///
    /// # Errors
    ///
    /// [`BackboneError::Images`] when they are not.
    pub fn check_images(&self, images: &[f32], count: usize) -> Result<(), BackboneError> {
        let length = self.preprocess.len();
        if count.checked_mul(length) == Some(images.len()) {
            return Ok(());
        }
        Err(BackboneError::Images {
            count,
            expected: count.saturating_mul(length),
            found: images.len(),
        })
    }

    /// The choices that make a backbone with this description.
    pub fn options(&self) -> Options {
        let tokens = if self.projected {
            Tokens::Projected
        } else {
            Tokens::Plain
        };
        Options {
            engine: Engine::Own,
            tokens,
            global: match self.classes {
                Some(_) => Global::Classes,
                None => Global::Features,
            },
            precision: self.precision,
            weights_key: self.weights_key.clone(),
        }
    }
}
