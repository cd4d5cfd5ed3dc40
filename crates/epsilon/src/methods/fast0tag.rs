//! Fast0Tag: a multilayer perceptron maps an image's vector to one principal direction, along which its labels' vectors
//! rank ahead of the others.
//!
//! Source: "Fast Zero-Shot Image Tagging", CVPR 2016. `f = W3 relu(W2 relu(W1 g))`, `s_c = f . v_c`, RankNet loss: Epsilon's
//! L_r with one semantic vector. The paper does not say how much dropout it trains with; 0.3 is the rate of the public code.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::input::Input;
use super::perceptron::{Perceptron, Step};
use super::{GradientMethod, Loss, Method, MethodError};
use crate::batch::{Batch, Dims};
use crate::loss::{self, Negatives, PairWeight};
use crate::parameters::{Spec, Weights};

/// Fast0Tag's settings; the defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Fast0Tag {
    /// The vector of an image that it reads.
    pub input: Input,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Share of the hidden values that a training step leaves out.
    pub dropout: f64,
    /// Whether the hidden values are normalised over a batch before their ReLU; the paper does not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub batch_norm: bool,
    /// Weight of a pair in the ranking loss.
    pub alpha: PairWeight,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for Fast0Tag {
    fn default() -> Self {
        Self {
            input: Input::Global,
            hidden: vec![8192, 2048],
            dropout: 0.3,
            batch_norm: false,
            alpha: PairWeight::PositivesNegatives,
            negatives: Negatives::NotPositive,
        }
    }
}

impl Fast0Tag {
    fn perceptron(&self) -> Perceptron<'_> {
        Perceptron {
            prefix: "",
            last: "direction",
            hidden: &self.hidden,
            dropout: self.dropout,
            norm: self.batch_norm,
            zero: false,
        }
    }

    /// The principal directions `[B, d_w]`, or those of a training step.
    fn directions(&self, weights: &Weights, batch: &Batch, step: Option<&mut Step>) -> Tensor<2> {
        self.perceptron()
            .forward(weights, self.input.of(batch), step)
    }
}

impl Method for Fast0Tag {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        self.perceptron()
            .specs(self.input.width(dims), dims.label_width)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        self.directions(weights, batch, None)
            .matmul(batch.label_vectors.clone().transpose())
    }

    fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(self.directions(weights, batch, None).unsqueeze_dim(1))
    }
}

impl GradientMethod for Fast0Tag {
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let mut step = Step::of(batch);
        let directions = self.directions(weights, batch, Some(&mut step));
        let scores = directions.matmul(batch.label_vectors.clone().transpose());
        let equal = vec![1.0; scores.dims()[0]];
        let pairs = loss::rank_net(scores, &batch.targets, self.negatives, self.alpha, &equal);
        Loss {
            kept: step.kept,
            ..Loss::ranking(pairs, images)
        }
    }

    fn needs_whole_batches(&self) -> bool {
        self.batch_norm
    }

    fn live_values(&self, dims: &Dims) -> usize {
        self.perceptron().live_values() + dims.label_width + 2 * dims.labels
    }
}
