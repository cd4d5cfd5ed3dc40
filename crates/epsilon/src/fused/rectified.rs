//! A linear map and its rectifier, as one operation on the CPU device.

use burn::tensor::Tensor;
use burn::tensor::activation::leaky_relu;
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::vector::{add_column_sums, add_row};

/// `y = x W + b` where it is above 0 and `leak y` elsewhere, over rows `x [R, inputs]`; all three may need gradients.
pub(crate) fn rectified(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, leak: f32) -> Tensor<2> {
    if !runs_on(&x) {
        return by_the_framework(x, weight, bias, leak);
    }
    let [rows, inputs] = x.dims();
    let [_, outputs] = weight.dims();
    let sizes = Rectified {
        rows,
        inputs,
        outputs,
        leak,
    };
    let inputs = [x.into(), weight.into(), bias.into()];
    run(sizes, inputs, [rows, outputs]).0
}

fn by_the_framework(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, leak: f32) -> Tensor<2> {
    leaky_relu(x.matmul(weight) + bias.unsqueeze(), f64::from(leak))
}

#[derive(Debug, Clone)]
struct Rectified {
    rows: usize,
    inputs: usize,
    outputs: usize,
    leak: f32,
}

impl Rectified {
    /// Values of the result that a thread takes at once, whole rows.
    fn chunk(&self) -> usize {
        self.rows.div_ceil(4 * rayon::current_num_threads()) * self.outputs
    }

    /// The rectifier's gradient where its result is above 0, and elsewhere.
    fn slope(&self, above: bool) -> f32 {
        if above { 1.0 } else { self.leak }
    }
}

impl Operation<3> for Rectified {
    /// Which values are above 0.
    type Kept = Vec<bool>;

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], keep: bool) -> (Vec<f32>, Vec<bool>) {
        let mut out = vec![0.0; self.rows * self.outputs];
        let x = Matrix::new(x, self.rows, self.inputs);
        let weight = Matrix::new(weight, self.inputs, self.outputs);
        let threads = rayon::current_num_threads();
        product(&mut out, Into::Replace, x, weight, threads);
        let mut kept = vec![false; if keep { out.len() } else { 0 }];
        let activate = |out: &mut [f32]| {
            add_row(out, bias);
            // What is no number stays that.
            out.iter_mut().for_each(|v| *v *= self.slope(*v > 0.0));
        };
        if out.is_empty() {
            return (out, kept);
        }
        let chunks = out.par_chunks_mut(self.chunk());
        if keep {
            let kept = kept.par_chunks_mut(self.chunk());
            chunks.zip(kept).for_each(|(out, kept)| {
                activate(out);
                kept.iter_mut()
                    .zip(out)
                    .for_each(|(above, v)| *above = *v > 0.0);
            });
        } else {
            chunks.for_each(activate);
        }
        (out, kept)
    }

    fn backward(
        &self,
        [x, weight, _]: [&[f32]; 3],
        kept: &Vec<bool>,
        upstream: &[f32],
        wanted: [bool; 3],
    ) -> [Vec<f32>; 3] {
        let threads = rayon::current_num_threads();
        let mut slopes = upstream.to_vec();
        if !slopes.is_empty() {
            slopes
                .par_chunks_mut(self.chunk())
                .zip(kept.par_chunks(self.chunk()))
                .for_each(|(slopes, kept)| {
                    let both = slopes.iter_mut().zip(kept);
                    both.for_each(|(slope, &above)| *slope *= self.slope(above));
                });
        }
        let lengths = [x.len(), weight.len(), self.outputs];
        let mut out =
            [0, 1, 2].map(|input| vec![0.0; if wanted[input] { lengths[input] } else { 0 }]);
        if wanted[2] {
            add_column_sums(&slopes, &mut out[2]);
        }
        let slopes = Matrix::new(&slopes, self.rows, self.outputs);
        if wanted[0] {
            let weight = Matrix::new(weight, self.inputs, self.outputs).transposed();
            product(&mut out[0], Into::Replace, slopes, weight, threads);
        }
        if wanted[1] {
            let x = Matrix::new(x, self.rows, self.inputs).transposed();
            product(&mut out[1], Into::Replace, x, slopes, threads);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        let (rows, inputs, outputs) = (13, 5, 9);
        let device = Device::flex();
        device.seed(12);
        let draw = |length: usize| -> Tensor<1> {
            Tensor::random([length], Distribution::Normal(0.0, 1.0), &device)
        };
        let leaves = [draw(rows * inputs), draw(inputs * outputs), draw(outputs)];
        let upstream = draw(rows * outputs).reshape([rows, outputs]);
        let run = |ours: bool, leak: f32| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [x, weight, bias] = leaves.clone();
            let (x, weight) = (x.reshape([rows, inputs]), weight.reshape([inputs, outputs]));
            let out = match ours {
                true => rectified(x, weight, bias, leak),
                false => by_the_framework(x, weight, bias, leak),
            };
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            let mut results = vec![out.inner().flatten::<1>(0, 1)];
            results.extend(leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap()));
            results
        };
        for leak in [0.0, 0.2] {
            for (ours, theirs) in run(true, leak).into_iter().zip(run(false, leak)) {
                let worst: f32 = (ours - theirs).abs().max().into_scalar();
                assert!(worst < 2e-5, "{worst} apart");
            }
        }
    }
}
