//! WSABIE: "WSABIE: Scaling Up To Large Vocabulary Image Annotation", IJCAI 2011: `s_c = (x U) . w_c`, trained with the sampled
//! ranking loss; the rows of U and the w_c are no longer than a bound after every step. It knows the labels it was trained on and
//! no others.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::input::{Input, columns};
use super::{GradientMethod, Loss, Method, MethodError, Vocabulary};
use crate::batch::{Batch, Dims};
use crate::loss::Negatives;
use crate::parameters::{Spec, Start, Weights};

/// WSABIE's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Wsabie {
    /// The vector of an image that is embedded.
    pub input: Input,
    /// Width of the space in which images and labels meet; papers take 100 to 300.
    pub rank: usize,
    /// The greatest length of a row of U and of a label's vector.
    pub norm: f64,
    /// Which labels count as negatives.
    pub negatives: Negatives,
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

impl Method for Wsabie {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Seen
    }

    fn reads_label_vectors(&self) -> bool {
        false
    }

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

impl GradientMethod for Wsabie {
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let scores = self.scores(weights, batch);
        Loss::sampled(scores, batch, self.negatives, images)
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
