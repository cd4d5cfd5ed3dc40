//! Ridge regression, the linear control: from an image's global vector to the mean vector of its positive labels.

use burn::tensor::{Device, Tensor};
use nalgebra::{Cholesky, DMatrix};
use serde::{Deserialize, Serialize};

use super::{ClosedForm, MethodError, Whole};
use crate::batch::{Batch, Dims, Targets};
use crate::parameters::{self, Spec, Start, Weights};
use epsilon_data::labels::LabelVectors;

/// `W = argmin |X W - Y|^2 + penalty |W|^2` over centred, standardised global vectors X and the mean positive label
/// vectors Y (unit-length label vectors); an image's score for a label is `(x W + b) . v_c`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ridge {
    /// Penalty per image: the penalty of the sum is this times the number of images.
    pub penalty: f64,
}

impl Default for Ridge {
    fn default() -> Self {
        Self { penalty: 0.1 }
    }
}

impl ClosedForm for Ridge {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        let specs = parameters::linear("ridge", dims.global_width(), dims.label_width);
        let zero = |spec| Spec {
            start: Start::Constant(0.0),
            ..spec
        };
        Ok(specs.map(zero).to_vec())
    }

    fn solve(
        &self,
        dims: &Dims,
        whole: &Whole<'_>,
        device: &Device,
    ) -> Result<Weights, MethodError> {
        let targets = whole.targets;
        let images = targets.rows().len();
        let mut x = DMatrix::from_row_iterator(
            images,
            dims.global_width(),
            whole.global.iter().map(|&v| f64::from(v)),
        );
        let mut y = mean_positives(targets, whole.labels);
        let x_mean = x.row_mean();
        let y_mean = y.row_mean();
        x.row_iter_mut().for_each(|mut row| row -= &x_mean);
        y.row_iter_mut().for_each(|mut row| row -= &y_mean);
        let deviation = x.row_variance().map(|v| v.sqrt().max(1e-12));
        x.row_iter_mut()
            .for_each(|mut row| row.component_div_assign(&deviation));

        let mut gram = x.tr_mul(&x);
        let penalty = self.penalty * images as f64;
        for i in 0..dims.global_width() {
            gram[(i, i)] += penalty;
        }
        let factor = Cholesky::new(gram).ok_or_else(|| {
            MethodError::Ridge(format!(
                "the features are degenerate at penalty {}: raise it",
                self.penalty
            ))
        })?;
        let mut weight = factor.solve(&x.tr_mul(&y));
        for (mut row, deviation) in weight.row_iter_mut().zip(deviation.iter()) {
            row /= *deviation;
        }
        let bias = y_mean - x_mean * &weight;
        let weight = weight.transpose().iter().map(|&v| v as f32).collect();
        let bias = bias.iter().map(|&v| v as f32).collect();
        let values = [
            ("ridge.weight".to_string(), weight),
            ("ridge.bias".to_string(), bias),
        ];
        Ok(Weights::from_values(
            self.specs(dims)?,
            values.into(),
            device,
        )?)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let vectors = directions(weights, batch);
        vectors.matmul(batch.label_vectors.clone().transpose())
    }

    fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(directions(weights, batch).unsqueeze_dim(1))
    }
}

/// What the map makes of the images, `[B, d_w]`.
fn directions(weights: &Weights, batch: &Batch) -> Tensor<2> {
    let (weight, bias) = weights.linear("ridge");
    batch.global.clone().matmul(weight) + bias.unsqueeze()
}

/// Mean vector of the positive labels of every image, `[images, d_w]`.
fn mean_positives(targets: &Targets, labels: &LabelVectors) -> DMatrix<f64> {
    let mut means = DMatrix::zeros(targets.rows().len(), labels.dim());
    for (mut mean, row) in means.row_iter_mut().zip(targets.rows()) {
        let positives: Vec<_> = (0..row.len()).filter(|&c| row[c] > 0).collect();
        for &label in &positives {
            for (value, &v) in mean.iter_mut().zip(labels.row(label)) {
                *value += f64::from(v) / positives.len() as f64;
            }
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images, one channel, hand-computed: x = -1, 1 (standardised), y = -1, 1, penalty per image p:
    /// w = (x.y) / (x.x + 2 p) = 2 / (2 + 2 p).
    #[test]
    fn one_channel_by_hand() {
        let dims = Dims {
            tokens: 1,
            width: 1,
            label_width: 1,
            labels: 2,
            unseen: 0,
            global: None,
        };
        let names = vec!["left".to_string(), "right".to_string()];
        let labels = LabelVectors::new(names, 1, vec![-1.0, 1.0]).unwrap();
        let targets = Targets::new(vec![1, -1, -1, 1], 2);
        let device = Device::flex();
        let ridge = Ridge { penalty: 1.0 };
        // Variance of (2, 6) is 4 (divided by the number of images), so x is standardised to (-1, 1).
        let whole = Whole {
            global: &[2.0, 6.0],
            targets: &targets,
            labels: &labels,
            unseen: &labels,
            seed: 0,
        };
        let weights = ridge.solve(&dims, &whole, &device).unwrap();
        let weight = crate::device::host(&weights.get::<2>("ridge.weight"));
        let bias = crate::device::host(&weights.get::<1>("ridge.bias"));
        assert!((weight[0] - 0.25).abs() < 1e-6, "{weight:?}");
        assert!((bias[0] + 1.0).abs() < 1e-6, "{bias:?}");
    }
}
