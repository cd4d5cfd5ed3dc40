//! GFP's blocks of rows in f32.

use super::common::{Block, GroupGradients, GroupWeights, Scratch, Sizes, softmax_sums};
use crate::profile::{Phase, timed};
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::rows::softmax_sum_backward;
use epsilon_kernels::vector;

/// `G`, `Z` and `A` of a block of tokens, and their images' semantics.
pub(super) fn forward_block(
    sizes: &Sizes,
    tokens: &[f32],
    weights: &GroupWeights,
    [global, inner, attention]: [&mut [f32]; 3],
    activation: &mut [f32],
    semantics: &mut [f32],
) {
    let Sizes { width, hidden, .. } = *sizes;
    let threads = sizes.threads();
    let rows = tokens.len() / width;
    let activation = &mut activation[..rows * hidden];
    timed(Phase::Split, || {
        let tokens = Matrix::new(tokens, rows, width);
        let split = Matrix::new(weights.split, width, width);
        product(global, Into::Replace, tokens, split, threads);
        vector::add_row(global, weights.bias);
    });
    timed(Phase::Mlp, || {
        let global = Matrix::new(global, rows, width);
        let fc1 = Matrix::new(weights.fc1, width, hidden);
        product(inner, Into::Replace, global, fc1, threads);
        vector::add_row(inner, weights.bias1);
        vector::gelu(inner, activation);
        let activation = Matrix::new(activation, rows, hidden);
        let fc2 = Matrix::new(weights.fc2, hidden, width);
        product(attention, Into::Replace, activation, fc2, threads);
    });
    softmax_sums(sizes, global, attention, semantics);
}

/// The gradients of a block of tokens, added up in `out`.
pub(super) fn backward_block(
    sizes: &Sizes,
    tokens: &[f32],
    weights: &GroupWeights,
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
    let (threads, into) = (sizes.threads(), out.into);
    let rows = tokens.len() / width;
    let [global, inner, attention] =
        [kept.global, kept.inner, kept.attention].map(bytemuck::cast_slice::<u32, f32>);
    let value_gradient = &mut scratch.global[..rows * width];
    let logit_gradient = &mut scratch.attention[..rows * width];
    timed(Phase::SoftmaxSum, || {
        let per_image = attention
            .chunks_exact(count * width)
            .zip(global.chunks_exact(count * width))
            .zip(kept.semantics.chunks_exact(width))
            .zip(kept.upstream.chunks_exact(width))
            .zip(logit_gradient.chunks_exact_mut(count * width))
            .zip(value_gradient.chunks_exact_mut(count * width));
        for (((((attention, global), sum), upstream), logit), value) in per_image {
            softmax_sum_backward(attention, global, sum, upstream, logit, value);
        }
    });
    let inner_gradient = &mut scratch.inner[..rows * hidden];
    timed(Phase::Mlp, || {
        let logit_gradient = Matrix::new(logit_gradient, rows, width);
        let fc2 = Matrix::new(weights.fc2, hidden, width).transposed();
        product(inner_gradient, Into::Replace, logit_gradient, fc2, threads);
        let activation = &mut scratch.activation[..rows * hidden];
        vector::gelu_backward(inner, activation, inner_gradient);
        let activation = Matrix::new(activation, rows, hidden).transposed();
        product(out.fc2, into, activation, logit_gradient, threads);

        vector::add_column_sums(inner_gradient, out.bias1);
        let inner_gradient = Matrix::new(inner_gradient, rows, hidden);
        let global = Matrix::new(global, rows, width).transposed();
        product(out.fc1, into, global, inner_gradient, threads);
        let fc1 = Matrix::new(weights.fc1, width, hidden).transposed();
        product(value_gradient, Into::Add, inner_gradient, fc1, threads);
    });
    timed(Phase::Split, || {
        vector::add_column_sums(value_gradient, out.bias);
        let value_gradient = Matrix::new(value_gradient, rows, width);
        let tokens = Matrix::new(tokens, rows, width).transposed();
        product(out.split, into, tokens, value_gradient, threads);
    });
}
