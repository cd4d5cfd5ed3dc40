//! Batch normalisation with the statistics of the batch, as one operation with its own backward pass, on the CPU device; the
//! framework's own operations elsewhere.
//!
//! With `n` rows of a channel: `y = (x - m) / sqrt(v + e) g + b`. Backwards, with `i = 1 / sqrt(v + e)`, `s = sum dy` and
//! `t = sum dy (x - m) i`: `dg = t`, `db = s`, `dx = g i (dy - s / n - (x - m) i t / n)`.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::rows::{affine_rows, affine_rows_backward, scale_rows};
use epsilon_kernels::vector::add;

/// Rows that a thread takes at once; the sums over rows are made of such parts, so they do not depend on the threads.
const ROWS: usize = 128;

/// `x [B, N, C]` normalised channel by channel over images and tokens, and the mean and the (biased) variance `[C]` of each.
pub(crate) fn batch_norm(
    x: Tensor<3>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f32,
) -> (Tensor<3>, [Tensor<1>; 2]) {
    if !runs_on(&x) {
        return composed(x, gamma, beta, epsilon);
    }
    let shape = x.dims();
    let device = x.device().inner();
    let inputs = [x.into(), gamma.into(), beta.into()];
    let (out, kept) = run(BatchNorm { epsilon }, inputs, shape);
    let statistic =
        |values: &Vec<f32>| Tensor::from_data(TensorData::new(values.clone(), [shape[2]]), &device);
    (out, [statistic(&kept.mean), statistic(&kept.variance)])
}

/// The straight form, from the framework's own operations.
fn composed(
    x: Tensor<3>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f32,
) -> (Tensor<3>, [Tensor<1>; 2]) {
    let [images, tokens, channels] = x.dims();
    let flat = x.reshape([images * tokens, channels]);
    let mean = flat.clone().mean_dim(0);
    let centred = flat - mean.clone();
    let variance = (centred.clone() * centred.clone()).mean_dim(0);
    let normed = centred / (variance.clone() + f64::from(epsilon)).sqrt();
    let out = normed * gamma.unsqueeze() + beta.unsqueeze();
    let statistics = [mean, variance].map(|row| row.inner().reshape([channels]));
    (out.reshape([images, tokens, channels]), statistics)
}

#[derive(Debug, Clone)]
struct BatchNorm {
    epsilon: f32,
}

#[derive(Debug)]
struct Kept {
    mean: Vec<f32>,
    variance: Vec<f32>,
}

impl BatchNorm {
    /// `1 / sqrt(v + e)`.
    fn inverse(&self, kept: &Kept) -> Vec<f32> {
        let inverse = |v: &f32| 1.0 / (v + self.epsilon).sqrt();
        kept.variance.iter().map(inverse).collect()
    }
}

/// The sums over the rows of `a` and of `a b`, element by element.
fn sums(width: usize, count: usize, part: impl Fn(usize, [&mut [f32]; 2]) + Sync) -> [Vec<f32>; 2] {
    let parts: Vec<[Vec<f32>; 2]> = (0..count)
        .into_par_iter()
        .map(|place| {
            let mut sums = [vec![0.0; width], vec![0.0; width]];
            let [products, plain] = &mut sums;
            part(place, [products, plain]);
            sums
        })
        .collect();
    let mut total = [vec![0.0; width], vec![0.0; width]];
    for part in &parts {
        for (total, part) in total.iter_mut().zip(part) {
            add(part, total);
        }
    }
    total
}

fn scaled(values: &[f32], factor: f32) -> Vec<f32> {
    values.iter().map(|value| value * factor).collect()
}

impl Operation<3> for BatchNorm {
    type Kept = Kept;

    fn forward(&self, [x, gamma, beta]: [&[f32]; 3], _: bool) -> (Vec<f32>, Kept) {
        let width = gamma.len();
        let share = 1.0 / (x.len() / width) as f32;
        let chunks: Vec<&[f32]> = x.chunks(ROWS * width).collect();
        let ones = [1.0; ROWS];
        let [_, sum] = sums(width, chunks.len(), |place, [products, plain]| {
            affine_rows_backward(chunks[place], chunks[place], &ones, products, plain);
        });
        let mean = scaled(&sum, share);
        let (one, below) = (vec![1.0; width], scaled(&mean, -1.0));
        let [squares, _] = sums(width, chunks.len(), |place, [products, plain]| {
            let mut centred = vec![0.0; chunks[place].len()];
            affine_rows(chunks[place], &one, &ones, &below, &mut centred);
            affine_rows_backward(&centred, &centred, &ones, products, plain);
        });
        let kept = Kept {
            mean,
            variance: scaled(&squares, share),
        };
        let scale: Vec<f32> = self
            .inverse(&kept)
            .iter()
            .zip(gamma)
            .map(|(i, g)| i * g)
            .collect();
        let shift = kept
            .mean
            .iter()
            .zip(&scale)
            .zip(beta)
            .map(|((m, s), b)| b - m * s);
        let shift: Vec<f32> = shift.collect();
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(ROWS * width)
            .zip(&chunks)
            .for_each(|(out, x)| affine_rows(x, &scale, &ones, &shift, out));
        (out, kept)
    }

    fn backward(
        &self,
        [x, gamma, _]: [&[f32]; 3],
        kept: &Kept,
        upstream: &[f32],
        _: [bool; 3],
    ) -> [Vec<f32>; 3] {
        let width = gamma.len();
        let share = 1.0 / (x.len() / width) as f32;
        let inverse = self.inverse(kept);
        let (one, below) = (vec![1.0; width], scaled(&kept.mean, -1.0));
        let ones = [1.0; ROWS];
        let chunks: Vec<(&[f32], &[f32])> = x
            .chunks(ROWS * width)
            .zip(upstream.chunks(ROWS * width))
            .collect();
        let [products, plain] = sums(width, chunks.len(), |place, [products, plain]| {
            let (x, upstream) = chunks[place];
            let mut centred = vec![0.0; x.len()];
            affine_rows(x, &one, &ones, &below, &mut centred);
            affine_rows_backward(upstream, &centred, &ones, products, plain);
        });
        let scale_gradient: Vec<f32> = products.iter().zip(&inverse).map(|(t, i)| t * i).collect();
        // dx = a dy + b x + c.
        let a: Vec<f32> = inverse.iter().zip(gamma).map(|(i, g)| i * g).collect();
        let b: Vec<f32> = (0..width)
            .map(|c| -a[c] * inverse[c] * scale_gradient[c] * share)
            .collect();
        let c: Vec<f32> = (0..width)
            .map(|c| -a[c] * plain[c] * share - b[c] * kept.mean[c])
            .collect();
        let mut gradient = vec![0.0; x.len()];
        gradient
            .par_chunks_mut(ROWS * width)
            .zip(&chunks)
            .for_each(|(gradient, (x, upstream))| {
                let mut of_x = vec![0.0; x.len()];
                scale_rows(x, &b, &mut of_x);
                affine_rows(upstream, &a, &ones, &c, gradient);
                add(&of_x, gradient);
            });
        [gradient, scale_gradient, plain]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        let device = Device::flex();
        device.seed(29);
        let draw = |shape: [usize; 3], mean: f64| -> Tensor<3> {
            Tensor::random(shape, Distribution::Normal(mean, 1.0), &device)
        };
        // More rows than a part, a mean far from 0.
        let shape = [3, 57, 21];
        let leaves = [
            draw(shape, 4.0),
            draw([1, 1, 21], 1.0),
            draw([1, 1, 21], 0.0),
        ];
        let upstream = draw(shape, 0.5);
        let run = |ours: bool| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [x, gamma, beta] = leaves.clone();
            let (gamma, beta) = (gamma.reshape([21]), beta.reshape([21]));
            let norm = if ours { batch_norm } else { composed };
            let (out, statistics) = norm(x, gamma, beta, 1e-5);
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            let mut results = vec![out.inner().flatten::<1>(0, 2)];
            results.extend(statistics);
            let gradients = leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap());
            results.extend(gradients.map(|gradient| gradient.flatten(0, 2)));
            results
        };
        for (place, (ours, theirs)) in run(true).into_iter().zip(run(false)).enumerate() {
            let size: f32 = theirs.clone().abs().max().into_scalar();
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 1e-5 * (1.0 + size), "{place}: {worst} apart");
        }
    }
}
