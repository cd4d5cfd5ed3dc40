//! Classifiers of one vector of an image: a logistic classifier, WARP and WSABIE. They know the labels they were trained on
//! and no others.
//!
//! WARP: "Deep Convolutional Ranking for Multilabel Image Annotation", ICLR 2014: linear scores `x W + b` and the sampled
//! ranking loss. WSABIE: "WSABIE: Scaling Up To Large Vocabulary Image Annotation", IJCAI 2011: `s_c = (x U) . w_c` with the
//! same loss, U's rows and the w_c no longer than a bound, which holds after every step.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::input::{Input, columns};
use super::{Loss, Method, MethodError};
use crate::batch::{Batch, Dims};
use crate::loss::{self, Negatives};
use crate::parameters::{self, Spec, Start, Weights};

/// Settings of a logistic classifier for each label, trained with binary cross-entropy; its L2 penalty is the optimiser's
/// `weight-decay`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Logistic {
    /// The vector of an image that it reads.
    pub input: Input,
    /// Which labels count as negatives; a label that is neither is left out.
    pub negatives: Negatives,
}

/// WARP's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Warp {
    /// The vector of an image that it reads.
    pub input: Input,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

/// WSABIE's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Wsabie {
    /// The vector of an image that it reads.
    pub input: Input,
    /// Width of the space in which images and labels meet; papers take 100 to 300.
    pub rank: usize,
    /// The greatest length of a row of U and of a label's vector.
    pub norm: f64,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for Logistic {
    fn default() -> Self {
        Self {
            input: Input::Global,
            negatives: Negatives::NotPositive,
        }
    }
}

impl Default for Warp {
    fn default() -> Self {
        Self {
            input: Input::Global,
            negatives: Negatives::NotPositive,
        }
    }
}

impl Default for Wsabie {
    fn default() -> Self {
        Self {
            input: Input::Global,
            rank: 100,
            norm: 1.0,
            negatives: Negatives::NotPositive,
        }
    }
}

/// `x W + b`, `[B, C]`.
fn linear(weights: &Weights, input: Input, batch: &Batch) -> Tensor<2> {
    let (weight, bias) = weights.linear("classifier");
    columns(input.of(batch).matmul(weight) + bias.unsqueeze(), batch)
}

fn linear_specs(input: Input, dims: &Dims) -> Vec<Spec> {
    parameters::linear("classifier", input.width(dims), dims.labels).to_vec()
}

/// The sampled ranking loss of some images.
fn sampled(scores: Tensor<2>, batch: &Batch, negatives: Negatives, images: usize) -> Loss {
    let mut rng = batch.draws.rng();
    Loss::ranking(
        loss::warp(scores, &batch.targets, negatives, &mut rng),
        images,
    )
}

impl Method for Logistic {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        Ok(linear_specs(self.input, dims))
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let logits = self.scores(weights, batch);
        Loss::ranking(
            loss::cross_entropy(logits, &batch.targets, self.negatives),
            images,
        )
    }

    fn live_values(&self, dims: &Dims) -> usize {
        self.input.width(dims) + 3 * dims.labels
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        linear(weights, self.input, batch)
    }
}

impl Method for Warp {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        Ok(linear_specs(self.input, dims))
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        sampled(self.scores(weights, batch), batch, self.negatives, images)
    }

    fn live_values(&self, dims: &Dims) -> usize {
        self.input.width(dims) + 3 * dims.labels
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        linear(weights, self.input, batch)
    }
}

impl Method for Wsabie {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        if self.rank == 0 {
            return Err(MethodError::Setting("rank = 0: give at least 1".into()));
        }
        if !(self.norm > 0.0 && self.norm.is_finite()) {
            return Err(MethodError::Setting(format!(
                "norm = {}: give a length above 0",
                self.norm
            )));
        }
        let inputs = self.input.width(dims);
        let labels = Start::Normal(1.0 / (self.rank as f32).sqrt());
        Ok(vec![
            Spec::new(
                "embedding.weight",
                &[inputs, self.rank],
                Start::linear(inputs),
            ),
            Spec::new("labels.weight", &[dims.labels, self.rank], labels),
        ])
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        sampled(self.scores(weights, batch), batch, self.negatives, images)
    }

    fn constrain(&self, weights: &mut Weights) {
        for name in ["embedding.weight", "labels.weight"] {
            let rows: Tensor<2> = weights.get(name);
            let length = rows.clone().powf_scalar(2.0).sum_dim(1).sqrt();
            let factor = length.clamp_min(1e-12).recip() * self.norm;
            weights.set(name, (rows * factor.clamp_max(1.0)).flatten(0, 1));
        }
    }

    fn live_values(&self, dims: &Dims) -> usize {
        self.input.width(dims) + self.rank + 3 * dims.labels
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let labels: Tensor<2> = weights.get("labels.weight");
        let met = self
            .input
            .of(batch)
            .matmul(weights.get("embedding.weight"))
            .matmul(labels.transpose());
        columns(met, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use std::collections::BTreeMap;

    #[test]
    fn long_rows_are_cut_to_the_bound_and_short_ones_left() {
        let dims = Dims {
            tokens: 1,
            width: 2,
            label_width: 1,
            labels: 2,
            unseen: 0,
            global: None,
        };
        let wsabie = Wsabie {
            rank: 2,
            norm: 2.0,
            ..Wsabie::default()
        };
        let values = BTreeMap::from([
            ("embedding.weight".to_string(), vec![3.0, 4.0, 0.0, 0.0]),
            ("labels.weight".to_string(), vec![0.6, 0.8, 0.0, -4.0]),
        ]);
        let specs = wsabie.specs(&dims).unwrap();
        let mut weights = Weights::from_values(specs, values, &Device::flex()).unwrap();
        wsabie.constrain(&mut weights);
        let host = |name: &str| crate::device::host(&weights.get_flat(name));
        let near = |a: &[f32], b: [f32; 4]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&host("embedding.weight"), [1.2, 1.6, 0.0, 0.0]));
        assert!(near(&host("labels.weight"), [0.6, 0.8, 0.0, -2.0]));
        let none = Wsabie {
            norm: 0.0,
            ..Wsabie::default()
        };
        assert!(none.specs(&dims).unwrap_err().to_string().contains("norm"));
    }
}
