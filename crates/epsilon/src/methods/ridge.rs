//! Ridge regression, the linear control: from an image's global vector to the mean vector of its positive labels.

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::cholesky::{products, solve};
use super::{Method, MethodError, SolvedMethod, Whole};
use crate::batch::{Batch, Dims, Targets};
use crate::parameters::{self, Spec, Start, Weights};
use crate::ranks::Ranks;
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

impl Method for Ridge {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        if !(self.penalty >= 0.0 && self.penalty.is_finite()) {
            return Err(MethodError::Setting(format!(
                "penalty = {}: give 0 or more",
                self.penalty
            )));
        }
        let specs = parameters::linear("ridge", dims.global_width(), dims.label_width);
        let zero = |spec| Spec {
            start: Start::Constant(0.0),
            ..spec
        };
        Ok(specs.map(zero).to_vec())
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let vectors = directions(weights, batch);
        vectors.matmul(batch.label_vectors.clone().transpose())
    }

    fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(directions(weights, batch).unsqueeze_dim(1))
    }
}

impl SolvedMethod for Ridge {
    fn solve(
        &self,
        dims: &Dims,
        whole: &Whole<'_>,
        device: &Device,
        ask: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Weights, MethodError> {
        let (inputs, outputs) = (dims.global_width(), dims.label_width);
        let mut x: Vec<f64> = whole.global.iter().map(|&v| f64::from(v)).collect();
        let mut y = mean_positives(whole.targets, whole.labels);
        let ranks = whole.ranks;
        let mut images = [(x.len() / inputs) as f64];
        ranks.sum_f64(&mut images);
        let [images] = images;
        let x_mean = centre(&mut x, inputs, images, ranks);
        let y_mean = centre(&mut y, outputs, images, ranks);
        let deviation = standardise(&mut x, inputs, images, ranks);

        let penalty = self.penalty * images;
        let solved = regress(&x, inputs, &y, outputs, penalty, (ranks, ask));
        let solved = solved.continue_value().ok_or(MethodError::Stopped)?;
        let mut weight = solved.ok_or_else(|| {
            MethodError::Ridge(format!(
                "the features are degenerate at penalty {}: raise it",
                self.penalty
            ))
        })?;
        let mut bias = y_mean;
        for (channel, row) in weight.chunks_exact_mut(outputs).enumerate() {
            for (value, bias) in row.iter_mut().zip(&mut bias) {
                *value /= deviation[channel];
                *bias -= x_mean[channel] * *value;
            }
        }
        let weight = weight.iter().map(|&v| v as f32).collect();
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
}

/// `W [m, n]` with `(X' X + penalty I) W = X' Y`, of the `X [rows, m]` and `Y [rows, n]` of all ranks; `None` where it is not
/// determined. Breaks off where `ask` does.
fn regress(
    x: &[f64],
    m: usize,
    y: &[f64],
    n: usize,
    penalty: f64,
    (ranks, ask): (&dyn Ranks, &mut dyn FnMut() -> ControlFlow<()>),
) -> ControlFlow<(), Option<Vec<f64>>> {
    let mut gram = products(x, m, x, m, ask)?;
    ranks.sum_f64(&mut gram);
    gram.iter_mut().step_by(m + 1).for_each(|v| *v += penalty);
    let mut moments = products(x, m, y, n, ask)?;
    ranks.sum_f64(&mut moments);
    solve(gram, m, moments, n, ask)
}

/// What the map makes of the images, `[B, d_w]`.
fn directions(weights: &Weights, batch: &Batch) -> Tensor<2> {
    let (weight, bias) = weights.linear("ridge");
    batch.global.clone().matmul(weight) + bias.unsqueeze()
}

/// Takes the mean of every column, over the `count` rows of all ranks, off the rows; returns the means.
fn centre(rows: &mut [f64], width: usize, count: f64, ranks: &dyn Ranks) -> Vec<f64> {
    let mut mean = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(mean, v)| *mean += v);
    }
    ranks.sum_f64(&mut mean);
    mean.iter_mut().for_each(|mean| *mean /= count);
    for row in rows.chunks_exact_mut(width) {
        row.iter_mut().zip(&mean).for_each(|(v, mean)| *v -= mean);
    }
    mean
}

/// Divides centred columns by their standard deviations, over the `count` rows of all ranks; returns these.
fn standardise(rows: &mut [f64], width: usize, count: f64, ranks: &dyn Ranks) -> Vec<f64> {
    let mut squares = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        squares
            .iter_mut()
            .zip(row)
            .for_each(|(sum, v)| *sum += v * v);
    }
    ranks.sum_f64(&mut squares);
    let deviation = squares.iter().map(|sum| (sum / count).sqrt().max(1e-12));
    let deviation: Vec<f64> = deviation.collect();
    for row in rows.chunks_exact_mut(width) {
        row.iter_mut().zip(&deviation).for_each(|(v, d)| *v /= d);
    }
    deviation
}

/// Mean vector of the positive labels of every image, row-major `[images, d_w]`.
fn mean_positives(targets: &Targets, labels: &LabelVectors) -> Vec<f64> {
    let width = labels.dim();
    let mut means = vec![0.0; targets.rows().len() * width];
    for (mean, row) in means.chunks_exact_mut(width).zip(targets.rows()) {
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
    use std::ops::ControlFlow::{Break, Continue};

    use super::*;
    use crate::ranks::{Alone, Threads};

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
            ranks: &Alone,
        };
        let weights = ridge.solve(&dims, &whole, &device, &mut || Continue(()));
        let weights = weights.unwrap();
        let weight = crate::device::host(&weights.get::<2>("ridge.weight"));
        let bias = crate::device::host(&weights.get::<1>("ridge.bias"));
        assert!((weight[0] - 0.25).abs() < 1e-6, "{weight:?}");
        assert!((bias[0] + 1.0).abs() < 1e-6, "{bias:?}");
    }

    #[test]
    fn a_penalty_that_is_none_is_named() {
        let dims = Dims {
            tokens: 1,
            width: 1,
            label_width: 1,
            labels: 2,
            unseen: 0,
            global: None,
        };
        for penalty in [-0.1, f64::NAN, f64::INFINITY] {
            let refused = Ridge { penalty }.specs(&dims).unwrap_err().to_string();
            let expected = format!("method setting penalty = {penalty}: give 0 or more");
            assert_eq!(refused, expected);
        }
        assert!(Ridge { penalty: 0.0 }.specs(&dims).is_ok());
    }

    #[test]
    fn ranks_solve_for_what_one_process_solves_for() {
        let dims = Dims {
            tokens: 1,
            width: 2,
            label_width: 1,
            labels: 2,
            unseen: 0,
            global: None,
        };
        let names = vec!["left".to_string(), "right".to_string()];
        let labels = LabelVectors::new(names, 1, vec![-1.0, 1.0]).unwrap();
        let global = [2.0, 5.0, 6.0, 4.0, 1.0, 0.5, -3.0, 2.0, 0.0, 7.0];
        let targets = [1, -1, -1, 1, 1, -1, 1, 1, -1, 1];
        let solve = |ranks: &dyn Ranks| {
            let own = ranks.own(5);
            let whole = Whole {
                global: &global[2 * own.start..2 * own.end],
                targets: &Targets::new(targets[2 * own.start..2 * own.end].to_vec(), 2),
                labels: &labels,
                unseen: &labels,
                seed: 0,
                ranks,
            };
            let ridge = Ridge { penalty: 0.1 };
            let solved = ridge.solve(&dims, &whole, &Device::flex(), &mut || Continue(()));
            crate::device::host(&solved.unwrap().get::<2>("ridge.weight"))
        };
        let alone = solve(&Alone);
        for size in 2..=6 {
            for weights in Threads::run(size, |ranks| solve(ranks)) {
                let apart = alone.iter().zip(&weights).map(|(a, b)| (a - b).abs());
                assert!(
                    apart.max_by(f32::total_cmp).unwrap() < 1e-7,
                    "{size} ranks: {weights:?}, {alone:?}"
                );
            }
        }
    }

    /// The second channel is constant, so that without a penalty its weight is not determined.
    #[test]
    fn degenerate_features_are_an_error_and_others_can_be_stopped() {
        let dims = Dims {
            tokens: 1,
            width: 2,
            label_width: 1,
            labels: 2,
            unseen: 0,
            global: None,
        };
        let names = vec!["left".to_string(), "right".to_string()];
        let labels = LabelVectors::new(names, 1, vec![-1.0, 1.0]).unwrap();
        let whole = Whole {
            global: &[2.0, 5.0, 6.0, 5.0],
            targets: &Targets::new(vec![1, -1, -1, 1], 2),
            labels: &labels,
            unseen: &labels,
            seed: 0,
            ranks: &Alone,
        };
        let solve = |penalty| {
            let (ridge, device) = (Ridge { penalty }, Device::flex());
            ridge.solve(&dims, &whole, &device, &mut || Continue(()))
        };
        assert!(solve(0.0).unwrap_err().to_string().contains("penalty 0"));
        assert!(solve(0.1).is_ok());
        let (ridge, device) = (Ridge { penalty: 0.1 }, Device::flex());
        // Two products, two columns, two rows downwards and two upwards.
        for asked in 1..=8 {
            let mut left = asked;
            let stopped = ridge.solve(&dims, &whole, &device, &mut || {
                left -= 1;
                match left {
                    0 => Break(()),
                    _ => Continue(()),
                }
            });
            assert!(matches!(stopped, Err(MethodError::Stopped)));
            assert_eq!(left, 0);
        }
    }
}
