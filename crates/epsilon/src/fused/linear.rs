//! A linear map with bias and perhaps a leaky ReLU, of one input or of two side by side, as one operation with its own backward
//! pass, on the CPU device; the framework's own elsewhere. The framework's products clear and copy their result, which costs
//! more than the product where the rows are few.

use burn::tensor::{Tensor, activation};
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::matrix::{Into, Matrix, affine, product, product_strided};
use epsilon_kernels::vector;

/// Values, or rows, that a thread takes at once; sums over rows are made of such parts, so they do not depend on the threads.
const CHUNK: usize = 1 << 14;
const ROWS: usize = 256;

/// `x W + b` over the last dimension of `x [A, R, inputs]`; all three may need gradients.
pub(crate) fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    of([x], weight, bias, None)
}

/// `x W + b` and then the leaky ReLU of this slope below 0; with 0 the ReLU.
pub(crate) fn leaky(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>, slope: f32) -> Tensor<3> {
    of([x], weight, bias, Some(slope))
}

/// [`leaky`] of two inputs side by side, `[x, y] W + b`.
pub(crate) fn leaky_of_two(
    inputs: [Tensor<3>; 2],
    weight: Tensor<2>,
    bias: Tensor<1>,
    slope: f32,
) -> Tensor<3> {
    let [x, y] = inputs;
    let (first, second) = (x.dims()[2], y.dims()[2]);
    if !runs_on(&x) {
        return of([Tensor::cat(vec![x, y], 2)], weight, bias, Some(slope));
    }
    let [outer, rows, _] = x.dims();
    let shape = [outer, rows, bias.dims()[0]];
    let sizes = Linear {
        rows: outer * rows,
        widths: [first, second],
        outputs: shape[2],
        slope: Some(slope),
    };
    let inputs = [x.into(), y.into(), weight.into(), bias.into()];
    run(sizes, inputs, shape).0
}

fn of([x]: [Tensor<3>; 1], weight: Tensor<2>, bias: Tensor<1>, slope: Option<f32>) -> Tensor<3> {
    let [outer, rows, inputs] = x.dims();
    let [_, outputs] = weight.dims();
    let shape = [outer, rows, outputs];
    let rows = outer * rows;
    if !runs_on(&x) {
        let product = x.reshape([rows, inputs]).matmul(weight);
        let out = (product + bias.unsqueeze()).reshape(shape);
        return match slope {
            Some(slope) => activation::leaky_relu(out, f64::from(slope)),
            None => out,
        };
    }
    let sizes = Linear {
        rows,
        widths: [inputs],
        outputs,
        slope,
    };
    run(sizes, [x.into(), weight.into(), bias.into()], shape).0
}

/// Of `N` inputs side by side.
#[derive(Debug, Clone)]
struct Linear<const N: usize> {
    rows: usize,
    widths: [usize; N],
    outputs: usize,
    /// Of the leaky ReLU, where there is one.
    slope: Option<f32>,
}

impl<const N: usize> Linear<N> {
    /// Every input with the rows of the weight that belong to it.
    fn parts<'a>(&self, inputs: &[&'a [f32]]) -> [(Matrix<'a>, Matrix<'a>); N] {
        let mut weight = inputs[N];
        std::array::from_fn(|place| {
            let width = self.widths[place];
            let (mine, rest) = weight.split_at(width * self.outputs);
            weight = rest;
            let x = Matrix::new(inputs[place], self.rows, width);
            (x, Matrix::new(mine, width, self.outputs))
        })
    }

    /// The result, which its backward pass wants too where there is a leaky ReLU.
    fn value(&self, inputs: &[&[f32]], keep: bool) -> (Vec<f32>, Vec<f32>) {
        let mut out = vec![0.0; self.rows * self.outputs];
        let threads = rayon::current_num_threads();
        let [(x, weight), rest @ ..] = &self.parts(inputs)[..] else {
            unreachable!("one input at least")
        };
        affine(&mut out, *x, *weight, inputs[N + 1], threads);
        for (x, weight) in rest {
            product(&mut out, Into::Add, *x, *weight, threads);
        }
        let Some(slope) = self.slope else {
            return (out, Vec::new());
        };
        out.par_chunks_mut(CHUNK)
            .for_each(|out| vector::leaky_relu(out, slope));
        let kept = if keep { out.clone() } else { Vec::new() };
        (out, kept)
    }

    /// The gradients of the inputs, the weight and the bias.
    fn gradients(
        &self,
        inputs: &[&[f32]],
        kept: &[f32],
        upstream: &[f32],
        wanted: &[bool],
    ) -> Vec<Vec<f32>> {
        let threads = rayon::current_num_threads();
        let through = self.slope.map(|slope| {
            let mut gradient = upstream.to_vec();
            let chunks = gradient.par_chunks_mut(CHUNK).zip(kept.par_chunks(CHUNK));
            chunks.for_each(|(gradient, y)| vector::leaky_relu_backward(y, slope, gradient));
            gradient
        });
        let upstream = through.as_deref().unwrap_or(upstream);
        let gradient = Matrix::new(upstream, self.rows, self.outputs);
        let mut out: Vec<Vec<f32>> = inputs
            .iter()
            .zip(wanted)
            .map(|(input, &wanted)| vec![0.0; if wanted { input.len() } else { 0 }])
            .collect();
        let mut first = 0;
        for (place, (x, weight)) in self.parts(inputs).into_iter().enumerate() {
            if wanted[place] {
                let weight = weight.transposed();
                product(&mut out[place], Into::Replace, gradient, weight, threads);
            }
            if wanted[N] {
                let into = &mut out[N][first * self.outputs..];
                product_strided(
                    into,
                    self.outputs,
                    Into::Replace,
                    x.transposed(),
                    gradient,
                    threads,
                );
            }
            first += self.widths[place];
        }
        if wanted[N + 1] {
            out[N + 1] = column_sums(upstream, self.outputs);
        }
        out
    }
}

/// The sum over the rows of `x [R, width]`.
pub(super) fn column_sums(x: &[f32], width: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = x
        .par_chunks(ROWS * width)
        .map(|x| column_sums_of(x, width))
        .collect();
    let mut sum = vec![0.0; width];
    for part in &parts {
        vector::add(part, &mut sum);
    }
    sum
}

/// [`column_sums`] on this thread.
pub(super) fn column_sums_of(x: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    vector::add_column_sums(x, &mut sum);
    sum
}

impl Operation<3> for Linear<1> {
    type Kept = Vec<f32>;

    fn forward(&self, inputs: [&[f32]; 3], keep: bool) -> (Vec<f32>, Vec<f32>) {
        self.value(&inputs, keep)
    }

    fn backward(
        &self,
        inputs: [&[f32]; 3],
        kept: &Vec<f32>,
        upstream: &[f32],
        wanted: [bool; 3],
    ) -> [Vec<f32>; 3] {
        let gradients = self.gradients(&inputs, kept, upstream, &wanted);
        gradients.try_into().expect("a gradient an input")
    }
}

impl Operation<4> for Linear<2> {
    type Kept = Vec<f32>;

    fn forward(&self, inputs: [&[f32]; 4], keep: bool) -> (Vec<f32>, Vec<f32>) {
        self.value(&inputs, keep)
    }

    fn backward(
        &self,
        inputs: [&[f32]; 4],
        kept: &Vec<f32>,
        upstream: &[f32],
        wanted: [bool; 4],
    ) -> [Vec<f32>; 4] {
        let gradients = self.gradients(&inputs, kept, upstream, &wanted);
        gradients.try_into().expect("a gradient an input")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        let device = Device::flex();
        device.seed(11);
        let draw = |length: usize| -> Tensor<1> {
            Tensor::random([length], Distribution::Normal(0.0, 1.0), &device)
        };
        let leaves = [draw(3 * 5 * 7), draw(7 * 20), draw(20)];
        let upstream = draw(3 * 5 * 20).reshape([3, 5, 20]);
        let run = |ours: bool| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [x, weight, bias] = leaves.clone();
            let (x, weight) = (x.reshape([3, 5, 7]), weight.reshape([7, 20]));
            let out = if ours {
                linear(x, weight, bias)
            } else {
                (x.reshape([15, 7]).matmul(weight) + bias.unsqueeze()).reshape([3, 5, 20])
            };
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            let mut results = vec![out.inner().flatten::<1>(0, 2)];
            results.extend(leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap()));
            results
        };
        for (ours, theirs) in run(true).into_iter().zip(run(false)) {
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 2e-5, "{worst} apart");
        }
        let [x, weight, bias] = leaves.clone();
        let plain = linear(x.reshape([3, 5, 7]), weight.reshape([7, 20]), bias);
        let tracked = run(true).swap_remove(0);
        let worst: f32 = (plain.flatten::<1>(0, 2) - tracked)
            .abs()
            .max()
            .into_scalar();
        assert_eq!(worst, 0.0);
    }

    /// One input and a leaky ReLU, then two inputs whose weight is that of the one cut in two.
    #[test]
    fn a_leaky_relu_and_two_inputs_equal_the_frameworks() {
        let device = Device::flex();
        device.seed(12);
        let draw = |shape: [usize; 3]| -> Tensor<3> {
            Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device)
        };
        let leaves = [
            draw([3, 5, 4]),
            draw([3, 5, 7]),
            draw([1, 11, 20]),
            draw([1, 1, 20]),
        ];
        let upstream = draw([3, 5, 20]);
        let run = |form: usize| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [x, y, weight, bias] = leaves.clone();
            let (weight, bias) = (weight.reshape([11, 20]), bias.reshape([20]));
            let both = || Tensor::cat(vec![x.clone(), y.clone()], 2);
            let out = match form {
                0 => leaky_of_two([x, y], weight, bias, 0.2),
                1 => leaky(both(), weight, bias, 0.2),
                _ => {
                    let product = both().reshape([15, 11]).matmul(weight) + bias.unsqueeze();
                    activation::leaky_relu(product.reshape([3, 5, 20]), 0.2)
                }
            };
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            let mut results = vec![out.inner().flatten::<1>(0, 2)];
            let gradients = leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap());
            results.extend(gradients.map(|gradient| gradient.flatten(0, 2)));
            results
        };
        for form in [0, 1] {
            for (ours, theirs) in run(form).into_iter().zip(run(2)) {
                let worst: f32 = (ours - theirs).abs().max().into_scalar();
                assert!(worst < 2e-5, "{form}: {worst} apart");
            }
        }
    }
}
