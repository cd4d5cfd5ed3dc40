//! CLIP with the image's projection tuned. It needs the tokens and label vectors of [`super::clip`].

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::clip::one_space;
use super::input::unit;
use super::{GradientMethod, Loss, Method, MethodError, TrainedLabels};
use crate::batch::{Batch, Dims};
use crate::loss::{self, Negatives, PairWeight};
use crate::parameters::{Spec, Start, Weights};

/// CLIP projection FT: the image vector passes through a map that starts as the identity and is tuned by a ranking loss; the
/// text vectors and the tower itself stay frozen. `s_c = scale cos(W g, v_c)`.
///
/// The paper tunes "the projection"; here a map behind it is tuned, which reaches the same products and needs no other
/// tokens. Which loss and which scale it used is not said; these are settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ClipProjection {
    /// What cosines are multiplied by; 100 is the scale that CLIP's own training ends with.
    pub scale: f64,
    /// Weight of a pair in the ranking loss.
    pub alpha: PairWeight,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for ClipProjection {
    fn default() -> Self {
        Self {
            scale: 100.0,
            alpha: PairWeight::PositivesNegatives,
            negatives: Negatives::NotPositive,
        }
    }
}

impl ClipProjection {
    /// The images' vectors behind the map, at the length of the scale, `[B, d_w]`.
    fn directions(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let projection = weights.get("projection.weight");
        unit(batch.global.clone().matmul(projection)) * self.scale
    }
}

impl Method for ClipProjection {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        one_space(dims)?;
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            let what = format!("scale = {}: give a value above 0", self.scale);
            return Err(MethodError::Setting(what));
        }
        let shape = [dims.label_width; 2];
        Ok(vec![Spec::new(
            "projection.weight",
            &shape,
            Start::Constant(0.0),
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

impl GradientMethod for ClipProjection {
    fn first_values(&self, dims: &Dims, _: &TrainedLabels<'_>) -> BTreeMap<String, Vec<f32>> {
        let width = dims.label_width;
        let mut identity = vec![0.0; width * width];
        identity
            .iter_mut()
            .step_by(width + 1)
            .for_each(|v| *v = 1.0);
        [("projection.weight".to_string(), identity)].into()
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let scores = self.scores(weights, batch);
        let equal = vec![1.0; scores.dims()[0]];
        let pairs = loss::rank_net(scores, &batch.targets, self.negatives, self.alpha, &equal);
        Loss::ranking(pairs, images)
    }

    fn live_values(&self, dims: &Dims) -> usize {
        6 * dims.label_width + 2 * dims.labels
    }
}
