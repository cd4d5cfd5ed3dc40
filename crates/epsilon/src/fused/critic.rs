//! The loss of a WGAN-GP critic of two layers, as one operation on the CPU device. The penalty on the critic's gradient is
//! differentiated by hand, so that judgements and penalty together take three products with the first layer's weight and one
//! for its gradient.

use burn::tensor::Tensor;
use burn::tensor::activation::leaky_relu;

use super::operation::{Operation, run, runs_on};
use crate::device;
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::vector::{add_column_sums, add_row};

/// Slope of its leaky rectifiers, and of those of its generator, below 0.
pub(crate) const LEAK: f32 = 0.2;
/// Added to the square of the gradient's length, whose root has no gradient at 0.
const LENGTH_EPSILON: f32 = 1e-12;

/// `D(x) = leaky([x, a] W1 + b1) W2 + b2`.
pub(crate) struct Critic {
    /// `[G + A, H]` and `[H]`.
    pub first: (Tensor<2>, Tensor<1>),
    /// `[H, 1]` and `[1]`.
    pub second: (Tensor<2>, Tensor<1>),
}

/// What it judges, without gradients: images `[B, G]`, what they are conditioned on, `[B, A]`, and where on the way from drawn to
/// real the gradient is taken, `[B, 1]`.
pub(crate) struct Judged {
    pub real: Tensor<2>,
    pub drawn: Tensor<2>,
    pub condition: Tensor<2>,
    pub share: Tensor<2>,
}

/// `D(drawn) - D(real) + penalty (|dD/dx| - 1)^2`, averaged over the images.
pub(crate) fn critic_loss(critic: Critic, judged: Judged, penalty: f64) -> Tensor<1> {
    if !runs_on(&judged.real) {
        return by_the_framework(critic, judged, penalty);
    }
    let Judged {
        real,
        drawn,
        condition,
        share,
    } = judged;
    let [images, features] = real.dims();
    let between = real.clone() * share.clone() + drawn.clone() * (1.0 - share);
    let rows = Tensor::cat(vec![drawn, real, between], 0);
    let inputs = Tensor::cat(vec![rows, condition.repeat_dim(0, 3)], 1);
    let loss = Loss {
        images,
        features,
        hidden: critic.second.0.dims()[0],
        penalty: penalty as f32,
        inputs: device::host(&inputs),
    };
    let weights = [
        critic.first.0.into(),
        critic.first.1.into(),
        critic.second.0.into(),
        critic.second.1.into(),
    ];
    run(loss, weights, [1]).0
}

fn by_the_framework(critic: Critic, judged: Judged, penalty: f64) -> Tensor<1> {
    let Judged {
        real,
        drawn,
        condition,
        share,
    } = judged;
    let [_, features] = real.dims();
    let hidden = |x: Tensor<2>| {
        let (weight, bias) = critic.first.clone();
        Tensor::cat(vec![x, condition.clone()], 1).matmul(weight) + bias.unsqueeze()
    };
    let judge = |x: Tensor<2>| {
        let (weight, bias) = critic.second.clone();
        leaky_relu(hidden(x), f64::from(LEAK)).matmul(weight) + bias.unsqueeze()
    };
    let between = real.clone() * share.clone() + drawn.clone() * (1.0 - share);
    // The rectifier's gradient, constant between its kinks.
    let above = hidden(between).inner().greater_elem(0.0).float();
    let gate = above * (1.0 - LEAK) + LEAK;
    let first = critic.first.0.clone().narrow(0, 0, features);
    let gradient = (critic.second.0.clone().transpose() * gate).matmul(first.transpose());
    let square = (gradient.clone() * gradient).sum_dim(1);
    let excess = (square + LENGTH_EPSILON).sqrt() - 1.0;
    judge(drawn).mean() - judge(real).mean() + (excess.clone() * excess).mean() * penalty
}

#[derive(Debug, Clone)]
struct Loss {
    images: usize,
    /// G.
    features: usize,
    hidden: usize,
    penalty: f32,
    /// Drawn, real and between them, each with its condition: `[3 B, G + A]`.
    inputs: Vec<f32>,
}

/// What the backward pass reads.
#[derive(Debug, Default)]
struct Kept {
    /// The first layer's outputs, `[3 B, H]`.
    hidden: Vec<f32>,
    /// `dD/dx` between, `[B, G]`.
    slopes: Vec<f32>,
    /// Its lengths.
    lengths: Vec<f32>,
}

fn gate(hidden: f32) -> f32 {
    if hidden > 0.0 { 1.0 } else { LEAK }
}

impl Loss {
    /// Drawn images raise the loss, real ones lower it.
    fn sign(&self, row: usize) -> f32 {
        if row < self.images { 1.0 } else { -1.0 }
    }

    /// The part of the first weight that the images' values meet, `[G, H]`.
    fn of_features<'a>(&self, first: &'a [f32]) -> Matrix<'a> {
        let length = self.features * self.hidden;
        Matrix::new(&first[..length], self.features, self.hidden)
    }
}

impl Operation<4> for Loss {
    type Kept = Kept;

    fn forward(&self, [first, bias, second, _]: [&[f32]; 4], keep: bool) -> (Vec<f32>, Kept) {
        let (images, width) = (self.images, self.hidden);
        let threads = rayon::current_num_threads();
        let mut hidden = vec![0.0; 3 * images * width];
        let inputs = Matrix::new(&self.inputs, 3 * images, first.len() / width);
        let weight = Matrix::new(first, first.len() / width, width);
        product(&mut hidden, Into::Replace, inputs, weight, threads);
        add_row(&mut hidden, bias);
        let (judged, between) = hidden.split_at(2 * images * width);
        // The last bias cancels.
        let mut loss = 0.0;
        for (row, values) in judged.chunks_exact(width).enumerate() {
            let value = values.iter().zip(second).map(|(&h, w)| h * gate(h) * w);
            loss += f64::from(self.sign(row) * value.sum::<f32>());
        }
        let mut between = between.to_vec();
        for row in between.chunks_exact_mut(width) {
            for (value, weight) in row.iter_mut().zip(second) {
                *value = gate(*value) * weight;
            }
        }
        let mut slopes = vec![0.0; images * self.features];
        let between = Matrix::new(&between, images, width);
        let weight = self.of_features(first).transposed();
        product(&mut slopes, Into::Replace, between, weight, threads);
        let rows = slopes.chunks_exact(self.features);
        let square = |row: &[f32]| row.iter().map(|v| v * v).sum::<f32>();
        let lengths: Vec<f32> = rows
            .map(|row| (square(row) + LENGTH_EPSILON).sqrt())
            .collect();
        for length in &lengths {
            loss += f64::from(self.penalty * (length - 1.0).powi(2));
        }
        let kept = Kept {
            hidden,
            slopes,
            lengths,
        };
        let loss = (loss / images as f64) as f32;
        (vec![loss], if keep { kept } else { Kept::default() })
    }

    fn backward(
        &self,
        [first, _, second, _]: [&[f32]; 4],
        kept: &Kept,
        upstream: &[f32],
        _: [bool; 4],
    ) -> [Vec<f32>; 4] {
        let (images, width, features) = (self.images, self.hidden, self.features);
        let threads = rayon::current_num_threads();
        let scale = upstream[0] / images as f32;
        let mut hidden = kept.hidden.clone();
        let mut to_second = vec![0.0; width];
        let (judged, between) = hidden.split_at_mut(2 * images * width);
        for (row, values) in judged.chunks_exact_mut(width).enumerate() {
            let scale = scale * self.sign(row);
            for ((value, to), weight) in values.iter_mut().zip(&mut to_second).zip(second) {
                let gate = gate(*value);
                *to += scale * gate * *value;
                *value = scale * gate * weight;
            }
        }
        let mut to_bias = vec![0.0; width];
        add_column_sums(judged, &mut to_bias);
        // The penalty's gradient with respect to `dD/dx`.
        let mut slopes = kept.slopes.clone();
        for (row, length) in slopes.chunks_exact_mut(features).zip(&kept.lengths) {
            let factor = scale * self.penalty * 2.0 * (length - 1.0) / length;
            row.iter_mut().for_each(|value| *value *= factor);
        }
        let mut through = vec![0.0; images * width];
        let rows = Matrix::new(&slopes, images, features);
        product(
            &mut through,
            Into::Replace,
            rows,
            self.of_features(first),
            threads,
        );
        let rows = between.chunks_exact_mut(width);
        for (row, through) in rows.zip(through.chunks_exact(width)) {
            for (((value, to), &weight), through) in
                row.iter_mut().zip(&mut to_second).zip(second).zip(through)
            {
                let gate = gate(*value);
                *to += gate * through;
                *value = gate * weight;
            }
        }
        // One product: the rows between have the penalty's gradient for input, and no condition.
        let inputs_width = first.len() / width;
        let mut inputs = self.inputs.clone();
        let rows = inputs[2 * images * inputs_width..].chunks_exact_mut(inputs_width);
        for (row, slopes) in rows.zip(slopes.chunks_exact(features)) {
            row[..features].copy_from_slice(slopes);
            row[features..].fill(0.0);
        }
        let mut to_first = vec![0.0; first.len()];
        let inputs = Matrix::new(&inputs, 3 * images, inputs_width).transposed();
        let hidden = Matrix::new(&hidden, 3 * images, width);
        product(&mut to_first, Into::Replace, inputs, hidden, threads);
        [to_first, to_bias, to_second, vec![0.0]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        let (images, features, condition, hidden) = (4, 5, 3, 7);
        let device = Device::flex();
        device.seed(14);
        let draw = |length: usize| -> Tensor<1> {
            Tensor::random([length], Distribution::Normal(0.0, 1.0), &device)
        };
        let rows = |width: usize| draw(images * width).reshape([images, width]);
        let fixed = [rows(features), rows(features), rows(condition), rows(1)];
        let leaves = [
            draw((features + condition) * hidden),
            draw(hidden),
            draw(hidden),
            draw(1),
        ];
        let run = |ours: bool| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [w1, b1, w2, b2] = leaves.clone();
            let critic = Critic {
                first: (w1.reshape([features + condition, hidden]), b1),
                second: (w2.reshape([hidden, 1]), b2),
            };
            let [real, drawn, condition, share] = fixed.clone();
            let judged = Judged {
                real,
                drawn,
                condition,
                share,
            };
            let loss = match ours {
                true => critic_loss(critic, judged, 10.0),
                false => by_the_framework(critic, judged, 10.0),
            } * 1.5;
            let mut gradients = loss.clone().backward();
            let mut results = vec![loss.inner()];
            results.extend(leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap()));
            results
        };
        for (ours, theirs) in run(true).into_iter().zip(run(false)) {
            let scale: f32 = theirs.clone().abs().max().into_scalar();
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(
                worst <= 2e-6 * scale.max(1.0),
                "{worst} apart at scale {scale}"
            );
        }
    }
}
