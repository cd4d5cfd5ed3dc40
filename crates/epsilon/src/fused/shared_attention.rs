//! A few attentions that look at the tokens of an image by an MLP of each token, as one operation on the CPU device that goes
//! image by image.

use std::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use rayon::prelude::*;

use super::linear::linear;
use super::operation::{Operation, run, runs_on};
use super::shares;
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::rows::softmax_sum;
use epsilon_kernels::vector::{self, add_column_sums, add_row};

/// Weight `[inputs, outputs]` and bias of a linear map.
pub(crate) type Map = (Tensor<2>, Tensor<1>);

/// What the attentions see.
pub(crate) struct Seen {
    /// `e = tanh(x W1 + b1) W2 + b2`, `[B, N, T]`.
    pub logits: Tensor<3>,
    /// `f_t = sum_i softmax_i(e_it) x_i`, `[B, T, D]`.
    pub features: Tensor<3>,
}

/// The T attentions over tokens `x [B, N, D]` by their two maps.
pub(crate) fn attend(x: Tensor<3>, hidden: Map, logits: Map) -> Seen {
    if !runs_on(&x) {
        return by_the_framework(x, hidden, logits);
    }
    let [images, tokens, width] = x.dims();
    let [inner, attentions] = logits.0.dims();
    let sizes = Attention {
        images,
        tokens,
        width,
        hidden: inner,
        attentions,
    };
    let shape = [images, sizes.outputs()];
    let inputs = [
        x.into(),
        hidden.0.into(),
        hidden.1.into(),
        logits.0.into(),
        logits.1.into(),
    ];
    let both = run(sizes, inputs, shape).0;
    let logits = both.clone().narrow(1, 0, tokens * attentions);
    let features = both.narrow(1, tokens * attentions, attentions * width);
    Seen {
        logits: logits.reshape([images, tokens, attentions]),
        features: features.reshape([images, attentions, width]),
    }
}

fn by_the_framework(x: Tensor<3>, hidden: Map, logits: Map) -> Seen {
    let inner = linear(x.clone(), hidden.0, hidden.1).tanh();
    let logits = linear(inner, logits.0, logits.1);
    Seen {
        features: softmax(logits.clone(), 1).swap_dims(1, 2).matmul(x),
        logits,
    }
}

#[derive(Debug, Clone)]
struct Attention {
    images: usize,
    tokens: usize,
    width: usize,
    hidden: usize,
    attentions: usize,
}

/// What the backward pass reads.
#[derive(Debug, Default)]
struct Kept {
    /// `tanh(x W1 + b1)`, `[B, N, H]`.
    hidden: Vec<f32>,
    /// The softmax over the tokens, `[B, N, T]`.
    shares: Vec<f32>,
}

impl Attention {
    /// Values of an image in the result: its logits `[N, T]`, then its features `[T, D]`.
    fn outputs(&self) -> usize {
        self.attentions * (self.tokens + self.width)
    }

    fn forward_of(
        &self,
        [x, w1, b1, w2, b2]: [&[f32]; 5],
        out: &mut [f32],
        hidden: &mut [f32],
        shares: &mut [f32],
    ) {
        let (n, d, h, t) = (self.tokens, self.width, self.hidden, self.attentions);
        let (logits, features) = out.split_at_mut(n * t);
        let x = Matrix::new(x, n, d);
        product(hidden, Into::Replace, x, Matrix::new(w1, d, h), 1);
        add_row(hidden, b1);
        vector::tanh(hidden);
        let inner = Matrix::new(hidden, n, h);
        product(logits, Into::Replace, inner, Matrix::new(w2, h, t), 1);
        add_row(logits, b2);
        shares.copy_from_slice(logits);
        // Its sum of the logits so weighted is of no use here.
        softmax_sum(logits, shares, &mut vec![0.0; t]);
        let shares = Matrix::new(shares, n, t).transposed();
        product(features, Into::Replace, shares, x, 1);
    }

    /// Of one image: adds to the weights' gradients and writes that of its tokens, where that is wanted.
    fn backward_of(
        &self,
        [x, w1, w2]: [&[f32]; 3],
        [hidden, shares, upstream]: [&[f32]; 3],
        to_x: Option<&mut [f32]>,
        [to_w1, to_b1, to_w2, to_b2]: [&mut [f32]; 4],
    ) {
        let (n, d, h, t) = (self.tokens, self.width, self.hidden, self.attentions);
        let (of_logits, of_features) = upstream.split_at(n * t);
        let x = Matrix::new(x, n, d);
        let of_features = Matrix::new(of_features, t, d);
        // Gradients of the shares, and from them those of the logits.
        let mut slopes = vec![0.0; n * t];
        product(&mut slopes, Into::Replace, x, of_features.transposed(), 1);
        let mut sums = vec![0.0; t];
        for (slopes, shares) in slopes.chunks_exact(t).zip(shares.chunks_exact(t)) {
            for i in 0..t {
                sums[i] += slopes[i] * shares[i];
            }
        }
        let rows = slopes.chunks_exact_mut(t).zip(shares.chunks_exact(t));
        for ((slopes, shares), of_logits) in rows.zip(of_logits.chunks_exact(t)) {
            for i in 0..t {
                slopes[i] = shares[i] * (slopes[i] - sums[i]) + of_logits[i];
            }
        }
        add_column_sums(&slopes, to_b2);
        let slopes = Matrix::new(&slopes, n, t);
        let inner = Matrix::new(hidden, n, h).transposed();
        product(to_w2, Into::Add, inner, slopes, 1);
        let mut of_hidden = vec![0.0; n * h];
        let w2 = Matrix::new(w2, h, t).transposed();
        product(&mut of_hidden, Into::Replace, slopes, w2, 1);
        for (slope, value) in of_hidden.iter_mut().zip(hidden) {
            *slope *= 1.0 - value * value;
        }
        add_column_sums(&of_hidden, to_b1);
        let of_hidden = Matrix::new(&of_hidden, n, h);
        product(to_w1, Into::Add, x.transposed(), of_hidden, 1);
        if let Some(to_x) = to_x {
            let w1 = Matrix::new(w1, d, h).transposed();
            product(to_x, Into::Replace, of_hidden, w1, 1);
            product(to_x, Into::Add, Matrix::new(shares, n, t), of_features, 1);
        }
    }
}

impl Operation<5> for Attention {
    type Kept = Kept;

    fn forward(&self, [x, weights @ ..]: [&[f32]; 5], keep: bool) -> (Vec<f32>, Kept) {
        let [w1, b1, w2, b2] = weights;
        let (n, d, h, t) = (self.tokens, self.width, self.hidden, self.attentions);
        let mut out = vec![0.0; self.images * self.outputs()];
        let mut kept = Kept {
            hidden: vec![0.0; self.images * n * h],
            shares: vec![0.0; self.images * n * t],
        };
        out.par_chunks_mut(self.outputs())
            .zip(x.par_chunks(n * d))
            .zip(kept.hidden.par_chunks_mut(n * h))
            .zip(kept.shares.par_chunks_mut(n * t))
            .for_each(|(((out, x), hidden), shares)| {
                self.forward_of([x, w1, b1, w2, b2], out, hidden, shares);
            });
        (out, if keep { kept } else { Kept::default() })
    }

    fn backward(
        &self,
        [x, w1, _, w2, _]: [&[f32]; 5],
        kept: &Kept,
        upstream: &[f32],
        wanted: [bool; 5],
    ) -> [Vec<f32>; 5] {
        let (n, d, h, t) = (self.tokens, self.width, self.hidden, self.attentions);
        let work = |images: Range<usize>| {
            let lengths = [
                images.len() * n * d * usize::from(wanted[0]),
                d * h,
                h,
                h * t,
                t,
            ];
            let mut out = lengths.map(|length| vec![0.0; length]);
            let [to_x, to_weights @ ..] = &mut out;
            let mut to_x = to_x.chunks_exact_mut(n * d);
            for image in images {
                let of = |size: usize| image * size..(image + 1) * size;
                self.backward_of(
                    [&x[of(n * d)], w1, w2],
                    [
                        &kept.hidden[of(n * h)],
                        &kept.shares[of(n * t)],
                        &upstream[of(self.outputs())],
                    ],
                    to_x.next(),
                    to_weights.each_mut().map(|values| &mut values[..]),
                );
            }
            out
        };
        shares::gradients(self.images, [true, false, false, false, false], work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        let (images, tokens, width, hidden, attentions) = (3, 7, 5, 6, 4);
        let device = Device::flex();
        device.seed(13);
        let draw = |length: usize| -> Tensor<1> {
            Tensor::random([length], Distribution::Normal(0.0, 1.0), &device)
        };
        let leaves = [
            draw(images * tokens * width),
            draw(width * hidden),
            draw(hidden),
            draw(hidden * attentions),
            draw(attentions),
        ];
        let to_logits = draw(images * tokens * attentions).reshape([images, tokens, attentions]);
        let to_features = draw(images * attentions * width).reshape([images, attentions, width]);
        let run = |ours: bool, frozen: bool| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [x, w1, b1, w2, b2] = leaves.clone();
            let x = if frozen { x.inner() } else { x };
            let x = x.reshape([images, tokens, width]);
            let hidden = (w1.reshape([width, hidden]), b1);
            let logits = (w2.reshape([6, attentions]), b2);
            let Seen { logits, features } = match ours {
                true => attend(x, hidden, logits),
                false => by_the_framework(x, hidden, logits),
            };
            let loss = (logits * to_logits.clone()).sum() + (features * to_features.clone()).sum();
            let mut gradients = loss.clone().backward();
            let mut results = vec![loss.inner()];
            let found = leaves.map(|leaf| leaf.grad_remove(&mut gradients));
            results.extend(found.into_iter().flatten());
            results
        };
        for frozen in [false, true] {
            let (ours, theirs) = (run(true, frozen), run(false, frozen));
            let count = if frozen { 5 } else { 6 };
            assert_eq!((ours.len(), theirs.len()), (count, count));
            for (ours, theirs) in ours.into_iter().zip(theirs) {
                let worst: f32 = (ours - theirs).abs().max().into_scalar();
                assert!(worst < 1e-4, "{worst} apart");
            }
        }
    }
}
