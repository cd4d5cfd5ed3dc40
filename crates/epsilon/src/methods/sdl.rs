//! SDL: a linear map gives K semantic vectors of an image, and a label's score is its best match among them.
//!
//! Source: "Semantic Diversity Learning for Zero-Shot Multi-Label Classification", ICCV 2021, and its public code:
//! `S = W g` in K rows of d_w, `s_c = max_k S_k . v_c`, loss `2 ((1 - w) omega L_r + w L_reg)` with Epsilon's omega (one
//! plus the variance of the positive labels' vectors), L_r over the number of positives, and L_reg (the variance over the
//! K rows).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::input::Input;
use super::{GradientMethod, Loss, Method, MethodError};
use crate::batch::{Batch, Dims};
use crate::fused::scores;
use crate::loss::{self, Negatives, PairWeight};
use crate::parameters::{Spec, Start, Weights};

/// SDL's settings; the defaults are the paper's for NUS-WIDE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Sdl {
    /// The vector of an image that it reads.
    pub input: Input,
    /// K, the number of semantic vectors; the paper has 7 on NUS-WIDE and Open Images, 2 on COCO.
    pub rows: usize,
    /// `w`, the weight of the variance over the rows.
    pub regularisation: f64,
    /// Weight of a pair in the ranking loss.
    pub alpha: PairWeight,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for Sdl {
    fn default() -> Self {
        Self {
            input: Input::Global,
            rows: 7,
            regularisation: 0.3,
            alpha: PairWeight::Positives,
            negatives: Negatives::NotPositive,
        }
    }
}

impl Sdl {
    /// The semantic vectors `[B, K, d_w]`.
    fn semantics(&self, weights: &Weights, batch: &Batch) -> Tensor<3> {
        let rows = self.input.of(batch).matmul(weights.get("rows.weight"));
        let [images, width] = rows.dims();
        rows.reshape([images, self.rows, width / self.rows])
    }
}

impl Method for Sdl {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        let wrong = |what: String| Err(MethodError::Setting(what));
        if !(1..=64).contains(&self.rows) {
            return wrong(format!("rows = {}: give 1 to 64", self.rows));
        }
        if !(0.0..=1.0).contains(&self.regularisation) {
            let given = self.regularisation;
            return wrong(format!(
                "regularisation = {given}: give a value from 0 to 1"
            ));
        }
        let inputs = self.input.width(dims);
        let shape = [inputs, self.rows * dims.label_width];
        Ok(vec![Spec::new(
            "rows.weight",
            &shape,
            Start::linear(inputs),
        )])
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        scores::best_match(self.semantics(weights, batch), &batch.label_vectors)
    }

    fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(self.semantics(weights, batch))
    }
}

impl GradientMethod for Sdl {
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let semantics = self.semantics(weights, batch);
        let scores = scores::best_match(semantics.clone(), &batch.label_vectors);
        let share = 2.0 * (1.0 - self.regularisation as f32);
        let omega = loss::omega(&batch.targets, &batch.label_vectors_host);
        let weight: Vec<f32> = omega.iter().map(|omega| share * omega).collect();
        let pairs = loss::rank_net(scores, &batch.targets, self.negatives, self.alpha, &weight);
        let spread = loss::group_variance(semantics).sum() * (2.0 * self.regularisation);
        Loss::regularised(pairs, spread, images)
    }

    fn live_values(&self, dims: &Dims) -> usize {
        4 * self.rows * dims.label_width + 2 * dims.labels
    }
}
