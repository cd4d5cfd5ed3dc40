//! Layer normalisation as one operation with its own backward pass, on the CPU device; the framework's own operations
//! elsewhere.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::rows::{self, Norm};
use epsilon_kernels::vector::add;

/// Rows that a thread takes at once; the sums over rows are made of such parts, so they do not depend on the threads.
const ROWS: usize = 256;

/// `(x - mean) / sqrt(variance + epsilon) * weight + bias` over the last dimension of `x [A, R, D]`.
pub(crate) fn layer_norm(
    x: Tensor<3>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f32,
) -> Tensor<3> {
    if !runs_on(&x) {
        return composed(x, weight, bias, epsilon);
    }
    let shape = x.dims();
    run(
        LayerNorm { epsilon },
        [x.into(), weight.into(), bias.into()],
        shape,
    )
    .0
}

/// The straight form, from the framework's own operations.
fn composed(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f32) -> Tensor<3> {
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    centred / (variance + f64::from(epsilon)).sqrt() * weight.unsqueeze() + bias.unsqueeze()
}

#[derive(Debug, Clone)]
struct LayerNorm {
    epsilon: f32,
}

impl Operation<3> for LayerNorm {
    type Kept = ();

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], _: bool) -> (Vec<f32>, ()) {
        let width = weight.len();
        let norm = Norm {
            weight: weight.to_vec(),
            bias: bias.to_vec(),
            epsilon: self.epsilon,
        };
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(ROWS * width)
            .zip(x.par_chunks(ROWS * width))
            .for_each(|(out, x)| {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    rows::layer_norm(x, &norm, out);
                }
            });
        (out, ())
    }

    fn backward(
        &self,
        [x, weight, _]: [&[f32]; 3],
        (): &(),
        upstream: &[f32],
        _: [bool; 3],
    ) -> [Vec<f32>; 3] {
        let width = weight.len();
        let mut gradient = vec![0.0; x.len()];
        let parts: Vec<[Vec<f32>; 2]> = gradient
            .par_chunks_mut(ROWS * width)
            .zip(x.par_chunks(ROWS * width))
            .zip(upstream.par_chunks(ROWS * width))
            .map(|((gradient, x), upstream)| {
                let [mut scale, mut shift] = [vec![0.0; width], vec![0.0; width]];
                let rows = gradient
                    .chunks_exact_mut(width)
                    .zip(x.chunks_exact(width))
                    .zip(upstream.chunks_exact(width));
                for ((gradient, x), upstream) in rows {
                    rows::layer_norm_backward(
                        x,
                        weight,
                        self.epsilon,
                        upstream,
                        gradient,
                        &mut scale,
                        &mut shift,
                    );
                }
                [scale, shift]
            })
            .collect();
        let mut sums = [vec![0.0; width], vec![0.0; width]];
        for part in &parts {
            for (sum, part) in sums.iter_mut().zip(part) {
                add(part, sum);
            }
        }
        let [scale, shift] = sums;
        [gradient, scale, shift]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        let device = Device::flex();
        device.seed(17);
        let draw = |length: usize| -> Tensor<1> {
            Tensor::random([length], Distribution::Normal(0.3, 1.0), &device)
        };
        let (outer, inner, width) = (5, 65, 37);
        let leaves = [draw(outer * inner * width), draw(width), draw(width)];
        let upstream = draw(outer * inner * width).reshape([outer, inner, width]);
        let run = |norm: &dyn Fn(Tensor<3>, Tensor<1>, Tensor<1>, f32) -> Tensor<3>| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [x, weight, bias] = leaves.clone();
            let out = norm(x.reshape([outer, inner, width]), weight, bias, 1e-6);
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            let mut results = vec![out.inner().flatten::<1>(0, 2)];
            results.extend(leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap()));
            results
        };
        for (ours, theirs) in run(&layer_norm).into_iter().zip(run(&composed)) {
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 1e-4, "{worst} apart");
        }
    }
}
