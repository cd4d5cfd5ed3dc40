//! A linear classifier of one vector of an image, which several methods share: `x W + b` over the labels of the training.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::Loss;
use super::input::{Input, columns};
use crate::batch::{Batch, Dims};
use crate::loss::{self, Negatives};
use crate::parameters::{self, Spec, Weights};

/// Settings of a linear classifier.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Classifier {
    /// Which vector of an image it classifies.
    pub input: Input,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for Classifier {
    fn default() -> Self {
        Self {
            input: Input::Global,
            negatives: Negatives::NotPositive,
        }
    }
}

impl Classifier {
    pub(super) fn specs(&self, dims: &Dims) -> Vec<Spec> {
        parameters::linear("classifier", self.input.width(dims), dims.labels).to_vec()
    }

    /// Logits `[B, labels of the training]`.
    pub(super) fn logits(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let (weight, bias) = weights.linear("classifier");
        self.input.of(batch).matmul(weight) + bias.unsqueeze()
    }

    /// Logits of the labels that are asked for, `[B, C]`.
    pub(super) fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        columns(self.logits(weights, batch), batch)
    }

    /// Binary cross-entropy; a label that is neither positive nor negative is left out.
    pub(super) fn cross_entropy(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let logits = self.logits(weights, batch);
        Loss::ranking(
            loss::cross_entropy(logits, &batch.targets, self.negatives),
            images,
        )
    }

    pub(super) fn live_values(&self, dims: &Dims) -> usize {
        self.input.width(dims) + 3 * dims.labels
    }
}
