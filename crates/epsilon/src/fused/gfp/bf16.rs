//! GFP's blocks of rows in bf16: what is kept and multiplied is bf16, sums and element-wise work are f32.

use super::common::{Block, GroupGradients, GroupWeights, Scratch, Sizes, softmax_sums};
use crate::profile::{Phase, timed};
use epsilon_kernels::bf16::{self, Left, Panels, product};
use epsilon_kernels::matrix::Into;
use epsilon_kernels::rows::softmax_sum_backward_in_place;
use epsilon_kernels::vector;
use rayon::prelude::*;

/// The tokens of all images in the two layouts that the products read, made once for all groups.
#[derive(Debug)]
pub(super) struct Tokens {
    width: usize,
    block: usize,
    /// `[B N, D / 2]`.
    rows: Vec<u32>,
    /// One for each block of rows.
    columns: Vec<Panels>,
}

impl Tokens {
    /// Of tokens `[B N, D]`, worked on `block` rows at a time.
    pub(super) fn new(tokens: &[f32], width: usize, block: usize) -> Self {
        let mut rows = vec![0; tokens.len() / 2];
        let columns = rows
            .par_chunks_mut(block * width / 2)
            .zip(tokens.par_chunks(block * width))
            .map(|(words, tokens)| {
                bf16::encode(tokens, words);
                let mut columns = Panels::default();
                columns.fill(tokens, width, width);
                columns
            })
            .collect();
        Self {
            width,
            block,
            rows,
            columns,
        }
    }

    /// Rows `start..start + rows`, to multiply from the left.
    pub(super) fn rows(&self, start: usize, rows: usize) -> &[u32] {
        &self.rows[start * self.width / 2..][..rows * self.width / 2]
    }

    /// The block of rows that begins at `start`, to multiply transposed.
    pub(super) fn columns(&self, start: usize) -> &Panels {
        &self.columns[start / self.block]
    }
}

/// A group's weights as right sides of the products of one pass, and room for the left and right sides of a block.
#[derive(Default)]
pub(super) struct Operands {
    split: Panels,
    fc1: Panels,
    fc2: Panels,
    global: Panels,
    logit_gradient: Panels,
    activation: Panels,
    inner_gradient: Panels,
    value_gradient: Panels,
}

impl Operands {
    /// For the forward pass: `W`, `W1` and `W2`.
    pub(super) fn forward(sizes: &Sizes, weights: &GroupWeights) -> Self {
        let mut operands = Self::default();
        operands.split.fill(weights.split, sizes.width, sizes.width);
        operands.fc1.fill(weights.fc1, sizes.hidden, sizes.hidden);
        operands.fc2.fill(weights.fc2, sizes.width, sizes.width);
        operands
    }

    /// For the backward pass: `W1` and `W2` transposed.
    pub(super) fn backward(sizes: &Sizes, weights: &GroupWeights) -> Self {
        let mut operands = Self::default();
        operands
            .fc1
            .fill_transposed(weights.fc1, sizes.hidden, sizes.hidden);
        operands
            .fc2
            .fill_transposed(weights.fc2, sizes.width, sizes.width);
        operands
    }
}

/// As `f32::forward_block`.
pub(super) fn forward_block(
    sizes: &Sizes,
    tokens: &[u32],
    weights: &GroupWeights,
    operands: &Operands,
    [kept_global, kept_inner, kept_attention]: [&mut [u32]; 3],
    scratch: &mut Scratch,
    semantics: &mut [f32],
) {
    let rows = kept_global.len() * 2 / sizes.width;
    let global = &mut scratch.global[..rows * sizes.width];
    timed(Phase::Split, || {
        product(global, Into::Replace, Left::Rows(tokens), &operands.split);
        vector::add_row(global, weights.bias);
        bf16::encode(global, kept_global);
    });
    let logits = &mut scratch.attention[..rows * sizes.width];
    timed(Phase::Mlp, || {
        let inner = &mut scratch.inner[..rows * sizes.hidden];
        product(inner, Into::Replace, Left::Rows(kept_global), &operands.fc1);
        vector::add_row(inner, weights.bias1);
        bf16::encode(inner, kept_inner);
        let activation = &mut scratch.activation[..rows * sizes.hidden];
        vector::gelu(inner, activation);
        let words = &mut scratch.words[..activation.len() / 2];
        bf16::encode(activation, words);
        product(logits, Into::Replace, Left::Rows(words), &operands.fc2);
    });
    softmax_sums(sizes, global, logits, semantics);
    bf16::encode(logits, kept_attention);
}

/// As `f32::backward_block`.
pub(super) fn backward_block(
    sizes: &Sizes,
    tokens: &Panels,
    operands: &mut Operands,
    kept: &Block,
    scratch: &mut Scratch,
    out: &mut GroupGradients,
) {
    let Sizes {
        count,
        width,
        hidden,
        ..
    } = *sizes;
    let into = out.into;
    let rows = kept.global.len() * 2 / width;
    let values = &mut scratch.global[..rows * width];
    let logits = &mut scratch.attention[..rows * width];
    timed(Phase::SoftmaxSum, || {
        bf16::decode(kept.global, values);
        bf16::decode(kept.attention, logits);
        operands.global.fill(values, width, width);
        let per_image = logits
            .chunks_exact_mut(count * width)
            .zip(values.chunks_exact_mut(count * width))
            .zip(kept.semantics.chunks_exact(width))
            .zip(kept.upstream.chunks_exact(width));
        for (((logits, values), sum), upstream) in per_image {
            softmax_sum_backward_in_place(logits, values, sum, upstream);
        }
    });
    timed(Phase::Mlp, || {
        let inner_gradient = &mut scratch.inner[..rows * hidden];
        let words = &mut scratch.words[..rows * width / 2];
        bf16::encode(logits, words);
        product(
            inner_gradient,
            Into::Replace,
            Left::Rows(words),
            &operands.fc2,
        );
        // `Z` is decoded to where the activation goes, which is then put in its place.
        let inner = &mut scratch.activation[..rows * hidden];
        bf16::decode(kept.inner, inner);
        vector::gelu_backward_in_place(inner, inner_gradient);
        operands.logit_gradient.fill(logits, width, width);
        operands.activation.fill(inner, hidden, hidden);
        let activation = Left::Transposed(&operands.activation);
        product(out.fc2, into, activation, &operands.logit_gradient);

        vector::add_column_sums(inner_gradient, out.bias1);
        operands.inner_gradient.fill(inner_gradient, hidden, hidden);
        let global = Left::Transposed(&operands.global);
        product(out.fc1, into, global, &operands.inner_gradient);
        let words = &mut scratch.words[..rows * hidden / 2];
        bf16::encode(inner_gradient, words);
        product(values, Into::Add, Left::Rows(words), &operands.fc1);
    });
    timed(Phase::Split, || {
        vector::add_column_sums(values, out.bias);
        operands.value_gradient.fill(values, width, width);
        let tokens = Left::Transposed(tokens);
        product(out.split, into, tokens, &operands.value_gradient);
    });
}
