//! WARP: "Deep Convolutional Ranking for Multilabel Image Annotation", ICLR 2014: linear scores `x W + b` and the sampled
//! ranking loss. It knows the labels it was trained on and no others.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Classifier, GradientMethod, Loss, Method, MethodError, Vocabulary};
use crate::batch::{Batch, Dims};
use crate::parameters::{Spec, Weights};

/// A linear classifier trained with the sampled ranking loss.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Warp(pub Classifier);

impl Method for Warp {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Seen
    }

    fn reads_label_vectors(&self) -> bool {
        false
    }

    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        Ok(self.0.specs(dims))
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        self.0.scores(weights, batch)
    }
}

impl GradientMethod for Warp {
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let scores = self.0.logits(weights, batch);
        Loss::sampled(scores, batch, self.0.negatives, images)
    }

    fn live_values(&self, dims: &Dims) -> usize {
        self.0.live_values(dims)
    }
}
