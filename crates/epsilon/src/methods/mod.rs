//! Methods: from tokens and label vectors to scores. A method knows no data set, no backbone and no file.
//!
//! A new method is one file here and one line in [`Kind`].

pub mod epsilon;
mod random;
mod ridge;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use random::Random;
pub use ridge::Ridge;

use crate::labels::LabelVectors;
use crate::parameters::{Spec, WeightError, Weights};

/// What can go wrong in a method.
#[derive(Debug, thiserror::Error)]
pub enum MethodError {
    /// A setting out of its range, or one that does not fit the tokens.
    #[error("method setting {0}")]
    Setting(String),
    /// Weights that do not fit the method.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A closed-form solution that does not exist for these features.
    #[error("ridge: {0}")]
    Ridge(String),
}

/// Sizes a method is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dims {
    /// N, patch tokens of an image.
    pub tokens: usize,
    /// D, the tokens' width.
    pub width: usize,
    /// d_w, the label vectors' width.
    pub label_width: usize,
    /// The global vector's width where it is not D.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<usize>,
}

impl Dims {
    /// The global vector's width.
    pub fn global_width(&self) -> usize {
        self.global.unwrap_or(self.width)
    }
}

/// What large products of frozen tokens are computed in while training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// bf16 values, f32 sums; weights and their updates stay f32. It needs a CPU with AVX-512's bf16 instructions.
    Bf16,
}

/// Tokens and labels of some images, as a method sees them.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Patch tokens `[B, N, D]`.
    pub tokens: Tensor<3>,
    /// Global vectors `[B, D]`, or [`Dims::global_width`] wide.
    pub global: Tensor<2>,
    /// Vectors `[C, d_w]`, unit length, of the labels to score.
    pub label_vectors: Tensor<2>,
    /// The same on the host.
    pub label_vectors_host: std::sync::Arc<LabelVectors>,
    /// Labels of the images; empty where only scores are wanted.
    pub targets: Targets,
    /// For a method that can choose.
    pub precision: Precision,
}

/// Three-valued labels `[B, C]` of a batch: +1 positive, -1 negative, 0 unknown.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    values: Vec<i8>,
    labels: usize,
}

impl Targets {
    /// Labels from row-major values; `values.len()` is a multiple of `labels`.
    ///
    /// # Panics
    /// When it is not.
    pub fn new(values: Vec<i8>, labels: usize) -> Self {
        assert!(labels > 0 && values.len().is_multiple_of(labels));
        Self { values, labels }
    }

    /// Number of labels C.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// One row of C values an image.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, i8> {
        self.values.chunks_exact(self.labels)
    }
}

/// The loss of some images: what is minimised, and its parts as they are reported.
pub struct Loss {
    /// What gradients are taken of. Its value carries rounding; report the parts.
    pub total: Tensor<1>,
    /// The ranking part, all factors included.
    pub ranking: f64,
    /// The regularisation part, its weight included.
    pub regularisation: f64,
}

/// A method that is trained by gradient descent on a ranking loss.
pub trait Method: Send + Sync {
    /// Names, shapes and starts of its weights.
    ///
    /// # Errors
    /// [`MethodError::Setting`] when a setting is out of range or does not fit the sizes.
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError>;

    /// The loss of a batch (every image of which has a positive), summed and divided by `images`, so that the losses
    /// and gradients of the parts of a batch of `images` add up to the batch's mean.
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss;

    /// Whether it can train in [`Precision::Bf16`] with these settings and sizes.
    fn trains_in_bf16(&self, _: &Dims) -> bool {
        false
    }

    /// Values that one image keeps alive until its backward pass, roughly; a batch is worked through in parts by it.
    fn live_values(&self, dims: &Dims) -> usize;

    /// Scores `[B, C]`.
    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2>;
}

/// A method that is solved in one go from all global vectors.
pub trait ClosedForm: Send + Sync {
    /// Solves for the weights. `global` is row-major `[images, Dims::global_width()]`; `targets` has a row for every image.
    ///
    /// # Errors
    /// A [`MethodError`] when no solution exists.
    fn solve(
        &self,
        dims: &Dims,
        global: &[f32],
        targets: &Targets,
        labels: &LabelVectors,
        device: &Device,
    ) -> Result<Weights, MethodError>;

    /// Names and shapes of its weights.
    fn specs(&self, dims: &Dims) -> Vec<Spec>;

    /// Scores `[B, C]`.
    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2>;
}

/// Every method by its name in recipes and model files, with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// [`epsilon::Epsilon`].
    Epsilon(epsilon::Epsilon),
    /// [`Ridge`].
    Ridge(Ridge),
    /// [`Random`].
    Random(Random),
}

/// The two ways a method comes to its weights.
pub enum Fit<'a> {
    /// By gradient descent.
    Gradient(&'a dyn Method),
    /// In one go.
    Closed(&'a dyn ClosedForm),
}

impl Kind {
    /// How the method is fitted.
    pub fn fit(&self) -> Fit<'_> {
        match self {
            Kind::Epsilon(method) => Fit::Gradient(method),
            Kind::Ridge(method) => Fit::Closed(method),
            Kind::Random(method) => Fit::Closed(method),
        }
    }

    /// The name in recipes and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Epsilon(_) => "epsilon",
            Kind::Ridge(_) => "ridge",
            Kind::Random(_) => "random",
        }
    }

    /// Names, shapes and starts of the weights.
    ///
    /// # Errors
    /// As [`Method::specs`].
    pub fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        match self.fit() {
            Fit::Gradient(method) => method.specs(dims),
            Fit::Closed(method) => Ok(method.specs(dims)),
        }
    }

    /// Scores `[B, C]` of a batch.
    pub fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        match self.fit() {
            Fit::Gradient(method) => method.scores(weights, batch),
            Fit::Closed(method) => method.scores(weights, batch),
        }
    }
}
