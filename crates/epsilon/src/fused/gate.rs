//! Channels opened as far as their mean over the tokens and a given value agree, as one operation on the CPU device; the
//! framework's own operations elsewhere.

use burn::tensor::{Tensor, activation::sigmoid};
use rayon::prelude::*;

use super::linear::column_sums_of;
use super::operation::{Operation, run, runs_on};
use epsilon_kernels::rows::{affine_rows, affine_rows_backward, scale_rows};

/// `x sigmoid(mean of x over the tokens * by)`, channel by channel, of `x [B, N, C]` and `by [B, 1, C]`.
pub(crate) fn gated(x: Tensor<3>, by: Tensor<3>) -> Tensor<3> {
    if !runs_on(&x) {
        return composed(x, by);
    }
    let shape @ [_, tokens, channels] = x.dims();
    run(Gate { tokens, channels }, [x.into(), by.into()], shape).0
}

/// The straight form, from the framework's own operations.
fn composed(x: Tensor<3>, by: Tensor<3>) -> Tensor<3> {
    let gate = sigmoid(x.clone().mean_dim(1) * by);
    x * gate
}

#[derive(Debug, Clone)]
struct Gate {
    tokens: usize,
    channels: usize,
}

impl Gate {
    /// The means and the gates of an image.
    fn gate(&self, x: &[f32], by: &[f32]) -> [Vec<f32>; 2] {
        let share = 1.0 / self.tokens as f32;
        let mut mean = column_sums_of(x, self.channels);
        mean.iter_mut().for_each(|m| *m *= share);
        let gate = mean
            .iter()
            .zip(by)
            .map(|(m, by)| 1.0 / (1.0 + (-m * by).exp()));
        let gate = gate.collect();
        [mean, gate]
    }
}

impl Operation<2> for Gate {
    type Kept = ();

    fn forward(&self, [x, by]: [&[f32]; 2], _: bool) -> (Vec<f32>, ()) {
        let image = self.tokens * self.channels;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(image)
            .zip(x.par_chunks(image))
            .zip(by.par_chunks(self.channels))
            .for_each(|((out, x), by)| {
                let [_, gate] = self.gate(x, by);
                scale_rows(x, &gate, out);
            });
        (out, ())
    }

    /// With `s` the gate and `m` the mean: `ds = sum dy x`, `dz = ds s (1 - s)`, `dx = dy s + dz by / N`, `dby = dz m`.
    fn backward(
        &self,
        [x, by]: [&[f32]; 2],
        (): &(),
        upstream: &[f32],
        _: [bool; 2],
    ) -> [Vec<f32>; 2] {
        let image = self.tokens * self.channels;
        let ones = vec![1.0; self.tokens];
        let (mut of_x, mut of_by) = (vec![0.0; x.len()], vec![0.0; by.len()]);
        of_x.par_chunks_mut(image)
            .zip(of_by.par_chunks_mut(self.channels))
            .zip(x.par_chunks(image))
            .zip(by.par_chunks(self.channels))
            .zip(upstream.par_chunks(image))
            .for_each(|((((of_x, of_by), x), by), upstream)| {
                let [mean, gate] = self.gate(x, by);
                let [mut opened, mut spare] = [vec![0.0; self.channels], vec![0.0; self.channels]];
                affine_rows_backward(upstream, x, &ones, &mut opened, &mut spare);
                let slopes = opened.iter().zip(&gate).map(|(ds, s)| ds * s * (1.0 - s));
                let slopes: Vec<f32> = slopes.collect();
                for ((out, slope), mean) in of_by.iter_mut().zip(&slopes).zip(&mean) {
                    *out = slope * mean;
                }
                let share = 1.0 / self.tokens as f32;
                let shift: Vec<f32> = slopes
                    .iter()
                    .zip(by)
                    .map(|(slope, by)| slope * by * share)
                    .collect();
                affine_rows(upstream, &gate, &ones, &shift, of_x);
            });
        [of_x, of_by]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        let device = Device::flex();
        device.seed(37);
        let draw = |shape: [usize; 3]| -> Tensor<3> {
            Tensor::random(shape, Distribution::Normal(0.5, 1.0), &device)
        };
        let (x, by, upstream) = (draw([3, 9, 21]), draw([3, 1, 21]), draw([3, 9, 21]));
        let run = |gate: fn(Tensor<3>, Tensor<3>) -> Tensor<3>| {
            let [x, by] = [&x, &by].map(|leaf| leaf.clone().autodiff().require_grad());
            let out = gate(x.clone(), by.clone());
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            let of = [x, by].map(|leaf| leaf.grad_remove(&mut gradients).unwrap());
            let [of_x, of_by] = of;
            [out.inner(), of_x, of_by]
        };
        for (ours, theirs) in run(gated).into_iter().zip(run(composed)) {
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 1e-5, "{worst} apart");
        }
    }
}
