//! Self-attention of the tokens of an image as one operation with a hand-written backward pass, on the CPU device; the
//! framework's own operations elsewhere. Images are worked on one a thread.
//!
//! For each head `A = softmax(s Q K')`, `out = A V`, with `s = 1 / sqrt(width of a head)`. Backwards, from `dO`: `dV = A' dO`,
//! `dA = dO V'`, `dL = A (dA - sum A dA)`, `dQ = s dL K`, `dK = s dL' Q`.

use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Tensor, activation, module};
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::matrix::{Into, Matrix, product, product_strided};
use epsilon_kernels::rows::{softmax_rows, softmax_rows_backward};

/// Mixed values `[B, T, D]` of queries, keys and values side by side, `qkv [B, T, 3 D]`, each of `heads` heads.
pub(crate) fn self_attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    if !runs_on(&qkv) {
        return composed(qkv, heads);
    }
    let [images, tokens, width] = qkv.dims();
    let sizes = SelfAttention {
        tokens,
        width: width / 3,
        heads,
    };
    run(sizes, [qkv.into()], [images, tokens, width / 3]).0
}

/// The straight form, from the framework's own operations.
fn composed(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let [queries, keys, values] = parts(qkv, heads);
    let scale = (queries.dims()[3] as f64).sqrt().recip();
    let logits = (queries * scale).matmul(keys.swap_dims(2, 3));
    joined(activation::softmax(logits, 3).matmul(values))
}

/// By the framework's own kernels, which keep no `[T, T]` in memory, where it has any for the device: without a backward pass, and in
/// half precision alone, for it may compute the products in that whatever the tensors are in.
pub(crate) fn in_half(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let [queries, keys, values] = parts(qkv, heads);
    let options = AttentionModuleOptions::default();
    joined(module::attention(
        queries, keys, values, None, None, options,
    ))
}

/// Queries, keys and values `[B, heads, T, D / heads]`.
fn parts(qkv: Tensor<3>, heads: usize) -> [Tensor<4>; 3] {
    let [images, tokens, width] = qkv.dims();
    let head = width / 3 / heads;
    let qkv = qkv
        .reshape([images, tokens, 3, heads, head])
        .permute([2, 0, 3, 1, 4]);
    [0, 1, 2].map(|part| {
        qkv.clone()
            .narrow(0, part, 1)
            .reshape([images, heads, tokens, head])
    })
}

/// The heads `[B, heads, T, D / heads]` side by side, `[B, T, D]`.
fn joined(mixed: Tensor<4>) -> Tensor<3> {
    let [images, heads, tokens, head] = mixed.dims();
    mixed
        .swap_dims(1, 2)
        .reshape([images, tokens, heads * head])
}

#[derive(Debug, Clone)]
struct SelfAttention {
    tokens: usize,
    /// D, of all heads together.
    width: usize,
    heads: usize,
}

impl SelfAttention {
    fn head(&self) -> usize {
        self.width / self.heads
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head() as f32).sqrt()
    }

    /// Where the queries (0), keys (1) or values (2) of a head begin in a row.
    fn first(&self, part: usize, head: usize) -> usize {
        part * self.width + head * self.head()
    }

    /// Queries, keys or values of one head, `[T, D / heads]`.
    fn part<'a>(&self, qkv: &'a [f32], part: usize, head: usize) -> Matrix<'a> {
        let first = self.first(part, head);
        Matrix::strided(&qkv[first..], self.tokens, self.head(), 3 * self.width)
    }

    /// The columns of one head of `[T, D]`.
    fn columns<'a>(&self, values: &'a [f32], head: usize) -> Matrix<'a> {
        let first = self.first(0, head);
        Matrix::strided(&values[first..], self.tokens, self.head(), self.width)
    }
}

impl Operation<1> for SelfAttention {
    /// `A [B, heads, T, T]`.
    type Kept = Vec<f32>;

    fn forward(&self, [qkv]: [&[f32]; 1], _: bool) -> (Vec<f32>, Vec<f32>) {
        let square = self.tokens * self.tokens;
        let images = qkv.len() / (self.tokens * 3 * self.width);
        let mut out = vec![0.0; qkv.len() / 3];
        let mut attention = vec![0.0; images * self.heads * square];
        out.par_chunks_mut(self.tokens * self.width)
            .zip(attention.par_chunks_mut(self.heads * square))
            .zip(qkv.par_chunks(self.tokens * 3 * self.width))
            .for_each(|((out, attention), qkv)| {
                for (head, attention) in attention.chunks_exact_mut(square).enumerate() {
                    let [query, key, value] = [0, 1, 2].map(|part| self.part(qkv, part, head));
                    product(attention, Into::Replace, query, key.transposed(), 1);
                    scale_by(attention, self.scale());
                    softmax_rows(attention, self.tokens);
                    let weights = Matrix::new(attention, self.tokens, self.tokens);
                    let out = &mut out[self.first(0, head)..];
                    product_strided(out, self.width, Into::Replace, weights, value, 1);
                }
            });
        (out, attention)
    }

    fn backward(
        &self,
        [qkv]: [&[f32]; 1],
        attention: &Vec<f32>,
        upstream: &[f32],
        _: [bool; 1],
    ) -> [Vec<f32>; 1] {
        let square = self.tokens * self.tokens;
        let (tokens, stride) = (self.tokens, 3 * self.width);
        let mut gradient = vec![0.0; qkv.len()];
        gradient
            .par_chunks_mut(tokens * stride)
            .zip(attention.par_chunks(self.heads * square))
            .zip(qkv.par_chunks(tokens * stride))
            .zip(upstream.par_chunks(tokens * self.width))
            .for_each_init(
                || vec![0.0; square],
                |logits, (((gradient, attention), qkv), upstream)| {
                    for (head, attention) in attention.chunks_exact(square).enumerate() {
                        let [query, key, value] = [0, 1, 2].map(|part| self.part(qkv, part, head));
                        let upstream = self.columns(upstream, head);
                        product(logits, Into::Replace, upstream, value.transposed(), 1);
                        softmax_rows_backward(attention, logits, tokens);
                        scale_by(logits, self.scale());
                        let logits = Matrix::new(logits, tokens, tokens);
                        let weights = Matrix::new(attention, tokens, tokens);
                        let factors = [
                            (logits, key),
                            (logits.transposed(), query),
                            (weights.transposed(), upstream),
                        ];
                        for (part, (left, right)) in factors.into_iter().enumerate() {
                            let out = &mut gradient[self.first(part, head)..];
                            product_strided(out, stride, Into::Replace, left, right, 1);
                        }
                    }
                },
            );
        [gradient]
    }
}

fn scale_by(values: &mut [f32], factor: f32) {
    for value in values {
        *value *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_frameworks_with_its_gradient() {
        let device = Device::flex();
        device.seed(23);
        let (images, tokens, width, heads) = (3, 13, 24, 3);
        let draw = |width: usize| -> Tensor<3> {
            Tensor::random(
                [images, tokens, width],
                Distribution::Normal(0.0, 1.5),
                &device,
            )
        };
        let (qkv, upstream) = (draw(3 * width), draw(width));
        let run = |attention: &dyn Fn(Tensor<3>, usize) -> Tensor<3>| {
            let leaf = qkv.clone().autodiff().require_grad();
            let out = attention(leaf.clone(), heads);
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            [out.inner(), leaf.grad_remove(&mut gradients).unwrap()]
        };
        for (ours, theirs) in run(&self_attention).into_iter().zip(run(&composed)) {
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 1e-4, "{worst} apart");
        }
        let plain: f32 = (self_attention(qkv.clone(), heads) - composed(qkv.clone(), heads))
            .abs()
            .max()
            .into_scalar();
        assert!(plain < 1e-4, "{plain} apart");
    }
}
