//! A logistic classifier for each label, trained with binary cross-entropy; its L2 penalty is the optimiser's `weight-decay`.
//! It knows the labels it was trained on and no others.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Classifier, GradientMethod, Loss, Method, MethodError, Vocabulary};
use crate::batch::{Batch, Dims};
use crate::parameters::{Spec, Weights};

/// A logistic classifier for each label, trained with binary cross-entropy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Logistic(pub Classifier);

impl Method for Logistic {
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

impl GradientMethod for Logistic {
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        self.0.cross_entropy(weights, batch, images)
    }

    fn live_values(&self, dims: &Dims) -> usize {
        self.0.live_values(dims)
    }
}
