//! LabelEM, also ALE: "Label-Embedding for Image Classification", TPAMI 2016. `s_c = theta' W v_c` with theta the global vector
//! at unit length, trained with the sampled ranking loss; W starts normal with variance 1 / (width of theta).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::input::{Input, unit};
use super::{GradientMethod, Loss, Method, MethodError};
use crate::batch::{Batch, Dims};
use crate::loss::Negatives;
use crate::parameters::{Spec, Start, Weights};

/// LabelEM's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LabelEm {
    /// The vector of an image that is embedded.
    pub input: Input,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for LabelEm {
    fn default() -> Self {
        Self {
            input: Input::Global,
            negatives: Negatives::NotPositive,
        }
    }
}

impl LabelEm {
    /// `theta' W` of the images, `[B, d_w]`.
    fn directions(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        unit(self.input.of(batch)).matmul(weights.get("compatibility.weight"))
    }
}

impl Method for LabelEm {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        let inputs = self.input.width(dims);
        let start = Start::Normal(1.0 / (inputs as f32).sqrt());
        Ok(vec![Spec::new(
            "compatibility.weight",
            &[inputs, dims.label_width],
            start,
        )])
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        self.directions(weights, batch)
            .matmul(batch.label_vectors.clone().transpose())
    }

    fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(self.directions(weights, batch).unsqueeze_dim(1))
    }
}

impl GradientMethod for LabelEm {
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let scores = self.scores(weights, batch);
        Loss::sampled(scores, batch, self.negatives, images)
    }

    fn live_values(&self, dims: &Dims) -> usize {
        2 * (self.input.width(dims) + dims.label_width + dims.labels)
    }
}
