//! An MLP over the tokens of every channel, added to what comes in, as one operation with a hand-written backward pass, on the
//! CPU device; the framework's own operations elsewhere. No matrix of tokens is transposed.
//!
//! For each unit with normalised tokens `X [N, C]`: `Z = W1' X + b1`, `Y = W2' gelu(Z) + b2`, the biases one a row. Backwards,
//! from `dY`: `dW2 = gelu(Z) dY'`, `dZ = gelu'(Z) (W2 dY)`, `dW1 = X dZ'`, `dX = W1 dZ`, the biases' by sums over rows.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::gelu::gelu;
use super::operation::{Operation, run, runs_on};
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::vector::{self, add};

/// Units that a thread takes at once; the sums over units are made of such parts, so they do not depend on the threads.
const UNITS: usize = 8;

/// Weights of the MLP: `W1 [N, H]`, `b1 [H]`, `W2 [H, N]`, `b2 [N]`.
pub(crate) struct Mlp {
    pub fc1: (Tensor<2>, Tensor<1>),
    pub fc2: (Tensor<2>, Tensor<1>),
}

/// `base + Y` of `base` and `x [U, N, C]`.
pub(crate) fn mix_tokens(base: Tensor<3>, x: Tensor<3>, mlp: Mlp) -> Tensor<3> {
    if !runs_on(&x) {
        return composed(base, x, mlp);
    }
    let shape @ [_, tokens, channels] = x.dims();
    let sizes = TokenMixer {
        tokens,
        hidden: mlp.fc1.1.dims()[0],
        channels,
    };
    let inputs = [
        base.into(),
        x.into(),
        mlp.fc1.0.into(),
        mlp.fc1.1.into(),
        mlp.fc2.0.into(),
        mlp.fc2.1.into(),
    ];
    run(sizes, inputs, shape).0
}

/// The straight form, from the framework's own operations.
fn composed(base: Tensor<3>, x: Tensor<3>, mlp: Mlp) -> Tensor<3> {
    let map = |x: Tensor<3>, (weight, bias): (Tensor<2>, Tensor<1>)| {
        x.matmul(weight.unsqueeze()) + bias.unsqueeze()
    };
    let hidden = gelu(map(x.swap_dims(1, 2), mlp.fc1));
    base + map(hidden, mlp.fc2).swap_dims(1, 2)
}

#[derive(Debug, Clone)]
struct TokenMixer {
    /// N.
    tokens: usize,
    /// H.
    hidden: usize,
    /// C.
    channels: usize,
}

/// The weights as matrices.
struct Weights<'a> {
    /// `[N, H]`.
    fc1: Matrix<'a>,
    /// `[H, N]`.
    fc2: Matrix<'a>,
}

fn add_to_rows(x: &mut [f32], width: usize, values: &[f32]) {
    for (row, value) in x.chunks_exact_mut(width).zip(values) {
        row.iter_mut().for_each(|x| *x += value);
    }
}

fn add_row_sums(x: &[f32], width: usize, sums: &mut [f32]) {
    for (row, sum) in x.chunks_exact(width).zip(sums) {
        *sum += row.iter().sum::<f32>();
    }
}

impl TokenMixer {
    fn unit(&self) -> usize {
        self.tokens * self.channels
    }

    fn inner(&self) -> usize {
        self.hidden * self.channels
    }

    fn weights<'a>(&self, fc1: &'a [f32], fc2: &'a [f32]) -> Weights<'a> {
        Weights {
            fc1: Matrix::new(fc1, self.tokens, self.hidden),
            fc2: Matrix::new(fc2, self.hidden, self.tokens),
        }
    }

    fn inner_matrix<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix::new(values, self.hidden, self.channels)
    }

    fn unit_matrix<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix::new(values, self.tokens, self.channels)
    }

    /// Some units: the gradients of `x` into `out`, those of the weights and biases returned, in the order of the inputs.
    fn backward_of(
        &self,
        weights: &Weights,
        [x, inner, upstream]: [&[f32]; 3],
        out: &mut [f32],
    ) -> [Vec<f32>; 4] {
        let matrix = self.tokens * self.hidden;
        let mut sums = [matrix, self.hidden, matrix, self.tokens].map(|length| vec![0.0; length]);
        let [of_fc1, of_bias1, of_fc2, of_bias2] = &mut sums;
        let mut gradient = vec![0.0; self.inner()];
        let mut activation = vec![0.0; self.inner()];
        let units = x
            .chunks_exact(self.unit())
            .zip(inner.chunks_exact(self.inner()))
            .zip(upstream.chunks_exact(self.unit()))
            .zip(out.chunks_exact_mut(self.unit()));
        for (((x, inner), upstream), out) in units {
            add_row_sums(upstream, self.channels, of_bias2);
            let upstream = self.unit_matrix(upstream);
            product(&mut gradient, Into::Replace, weights.fc2, upstream, 1);
            vector::gelu_backward(inner, &mut activation, &mut gradient);
            let activation = self.inner_matrix(&activation);
            product(of_fc2, Into::Add, activation, upstream.transposed(), 1);
            add_row_sums(&gradient, self.channels, of_bias1);
            let gradient = self.inner_matrix(&gradient);
            product(
                of_fc1,
                Into::Add,
                self.unit_matrix(x),
                gradient.transposed(),
                1,
            );
            product(out, Into::Replace, weights.fc1, gradient, 1);
        }
        sums
    }
}

impl Operation<6> for TokenMixer {
    /// `Z [U, H, C]`.
    type Kept = Vec<f32>;

    fn forward(
        &self,
        [base, x, fc1, bias1, fc2, bias2]: [&[f32]; 6],
        _: bool,
    ) -> (Vec<f32>, Vec<f32>) {
        let weights = self.weights(fc1, fc2);
        let mut out = base.to_vec();
        let mut kept = vec![0.0; x.len() / self.tokens * self.hidden];
        out.par_chunks_mut(self.unit())
            .zip(kept.par_chunks_mut(self.inner()))
            .zip(x.par_chunks(self.unit()))
            .for_each_init(
                || vec![0.0; self.inner()],
                |activation, ((out, inner), x)| {
                    let x = self.unit_matrix(x);
                    product(inner, Into::Replace, weights.fc1.transposed(), x, 1);
                    add_to_rows(inner, self.channels, bias1);
                    vector::gelu(inner, activation);
                    let activation = self.inner_matrix(activation);
                    product(out, Into::Add, weights.fc2.transposed(), activation, 1);
                    add_to_rows(out, self.channels, bias2);
                },
            );
        (out, kept)
    }

    fn backward(
        &self,
        [_, x, fc1, _, fc2, _]: [&[f32]; 6],
        kept: &Vec<f32>,
        upstream: &[f32],
        _: [bool; 6],
    ) -> [Vec<f32>; 6] {
        let weights = self.weights(fc1, fc2);
        let (unit, inner) = (UNITS * self.unit(), UNITS * self.inner());
        let mut of_x = vec![0.0; x.len()];
        let parts: Vec<[Vec<f32>; 4]> = of_x
            .par_chunks_mut(unit)
            .zip(x.par_chunks(unit))
            .zip(kept.par_chunks(inner))
            .zip(upstream.par_chunks(unit))
            .map(|(((out, x), inner), upstream)| {
                self.backward_of(&weights, [x, inner, upstream], out)
            })
            .collect();
        let matrix = self.tokens * self.hidden;
        let mut sums = [matrix, self.hidden, matrix, self.tokens].map(|length| vec![0.0; length]);
        for part in &parts {
            for (sum, part) in sums.iter_mut().zip(part) {
                add(part, sum);
            }
        }
        let [of_fc1, of_bias1, of_fc2, of_bias2] = sums;
        [upstream.to_vec(), of_x, of_fc1, of_bias1, of_fc2, of_bias2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        let device = Device::flex();
        device.seed(43);
        let draw = |shape: [usize; 3]| -> Tensor<3> {
            Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device)
        };
        // More units than a part.
        let (units, tokens, hidden, channels) = (UNITS + 3, 9, 5, 7);
        let leaves = [
            draw([units, tokens, channels]),
            draw([units, tokens, channels]),
            draw([1, tokens, hidden]),
            draw([1, 1, hidden]),
            draw([1, hidden, tokens]),
            draw([1, 1, tokens]),
        ];
        let upstream = draw([units, tokens, channels]);
        let run = |mix: fn(Tensor<3>, Tensor<3>, Mlp) -> Tensor<3>| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [base, x, fc1, bias1, fc2, bias2] = leaves.clone();
            let mlp = Mlp {
                fc1: (fc1.reshape([tokens, hidden]), bias1.reshape([hidden])),
                fc2: (fc2.reshape([hidden, tokens]), bias2.reshape([tokens])),
            };
            let out = mix(base, x, mlp);
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            let mut results = vec![out.inner()];
            results.extend(leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap()));
            results
        };
        for (place, (ours, theirs)) in run(mix_tokens).into_iter().zip(run(composed)).enumerate() {
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 1e-4, "{place}: {worst} apart");
        }
    }
}
