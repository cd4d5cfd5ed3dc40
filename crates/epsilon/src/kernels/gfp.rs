//! Global forward propagation as one operation with a hand-written backward pass, on the CPU device.
//!
//! With X the tokens of an image, for each group: `G = X W + b`, `Z = G W1 + b1`, `L = gelu(Z) W2`,
//! `A = softmax of L over the tokens, per channel`, `S = sum_n G . A`. Groups share nothing but X, so each is computed
//! by one thread from first to last, a few images at a time; the result does not depend on the number of threads.
//! Backwards, from `dS`: `dL = A . dS . (G - S)` and the direct part of `dG` is `A . dS`; X is frozen and has none.

use std::sync::Arc;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Device, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::matrix::{Into, Matrix, product};
use super::vector::{self, exp, fma, vectorised};
use crate::device;

/// Rows (images times tokens) that are worked on at once: enough to keep the products fast, few enough for L2 or L3.
const ROWS: usize = 800;

/// Weights of the operation; their gradients are its results backwards.
pub(crate) struct Gfp {
    /// `W [M, D, D]`.
    pub split: Tensor<3>,
    /// `b [M, D]`.
    pub bias: Tensor<2>,
    /// `W1 [M, D, H]`.
    pub fc1: Tensor<3>,
    /// `b1 [M, H]`.
    pub bias1: Tensor<2>,
    /// `W2 [M, H, D]`.
    pub fc2: Tensor<3>,
}

/// Whether these tokens live where the operation runs and, frozen, need no gradient.
pub(crate) fn runs_on(tokens: &Tensor<3>) -> bool {
    tokens.device().inner() == Device::flex() && !tokens.is_tracked()
}

/// `S [B, M, D]` of tokens `[B, N, D]`.
pub(crate) fn forward(tokens: &Tensor<3>, weights: Gfp) -> Tensor<3> {
    let [images, count, width] = tokens.dims();
    let [groups, _, hidden] = weights.fc1.dims();
    let sizes = Sizes {
        images,
        count,
        width,
        hidden,
        groups,
    };
    let tokens = device::flex(tokens.clone().inner());
    let output = if weights.split.is_autodiff() {
        tracked(sizes, tokens, weights)
    } else {
        let Gfp {
            split,
            bias,
            fc1,
            bias1,
            fc2,
        } = weights;
        let weights = [
            device::flex(split),
            device::flex(bias),
            device::flex(fc1),
            device::flex(bias1),
            device::flex(fc2),
        ];
        let semantics = run_forward(&sizes, &tokens, &weights, false).semantics;
        Tensor::from_primitive::<Flex>(device::flex_from(semantics, &[groups, images, width]))
    };
    output.swap_dims(0, 1)
}

fn tracked(sizes: Sizes, tokens: FlexTensor, weights: Gfp) -> Tensor<3> {
    let (split, split_node) = device::flex_parts(weights.split);
    let (bias, bias_node) = device::flex_parts(weights.bias);
    let (fc1, fc1_node) = device::flex_parts(weights.fc1);
    let (bias1, bias1_node) = device::flex_parts(weights.bias1);
    let (fc2, fc2_node) = device::flex_parts(weights.fc2);
    let weights = [split, bias, fc1, bias1, fc2];
    let nodes = [split_node, bias_node, fc1_node, bias1_node, fc2_node];
    let kept = run_forward(&sizes, &tokens, &weights, true);
    let output = device::flex_from(
        kept.semantics.clone(),
        &[sizes.groups, sizes.images, sizes.width],
    );
    let result = match Step
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(step) => {
            let kept = Arc::new(kept);
            step.finish(
                State {
                    sizes,
                    tokens,
                    weights,
                    kept,
                },
                output,
            )
        }
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(result)
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    images: usize,
    count: usize,
    width: usize,
    hidden: usize,
    groups: usize,
}

impl Sizes {
    /// Rows of all tokens.
    fn rows(&self) -> usize {
        self.images * self.count
    }

    /// Rows worked on at once: whole images.
    fn block(&self) -> usize {
        self.count * (ROWS / self.count).clamp(1, self.images)
    }

    /// Threads each group's products may use: all of them only where there are fewer groups than threads.
    fn threads(&self) -> usize {
        (rayon::current_num_threads() / self.groups).max(1)
    }
}

/// What the backward pass needs, each in one piece per group.
#[derive(Debug)]
struct Kept {
    /// `S [M, B, D]`.
    semantics: Vec<f32>,
    /// `G [M, B N, D]`.
    global: Vec<f32>,
    /// `Z [M, B N, H]`.
    inner: Vec<f32>,
    /// `A [M, B N, D]`.
    attention: Vec<f32>,
}

#[derive(Debug, Clone)]
struct State {
    sizes: Sizes,
    tokens: FlexTensor,
    weights: [FlexTensor; 5],
    kept: Arc<Kept>,
}

#[derive(Debug)]
struct Step;

impl Backward<Flex, 5> for Step {
    type State = State;

    fn backward(self, ops: Ops<State, 5>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let State {
            sizes,
            tokens,
            weights,
            kept,
        } = ops.state;
        let results = run_backward(&sizes, &tokens, &weights, &kept, device::values(&upstream));
        let shapes = weights.map(|weight| weight.layout().shape().clone());
        for ((parent, result), shape) in ops.parents.into_iter().zip(results).zip(shapes) {
            if let Some(parent) = parent {
                gradients.register::<Flex>(parent.id, device::flex_from(result, &shape));
            }
        }
    }
}

/// Forward for all groups; without `keep` only the semantics are filled.
fn run_forward(sizes: &Sizes, tokens: &FlexTensor, weights: &[FlexTensor; 5], keep: bool) -> Kept {
    let Sizes {
        images,
        width,
        hidden,
        groups,
        ..
    } = *sizes;
    let rows = sizes.rows();
    let mut kept = Kept {
        semantics: vec![0.0; groups * images * width],
        global: vec![0.0; if keep { groups * rows * width } else { 0 }],
        inner: vec![0.0; if keep { groups * rows * hidden } else { 0 }],
        attention: vec![0.0; if keep { groups * rows * width } else { 0 }],
    };
    let tokens = device::values(tokens);
    let group_weights = GroupWeights::split(sizes, weights);
    let block = sizes.block();
    let run = |semantics: &mut [f32], weights: &GroupWeights, mut kept: Option<[&mut [f32]; 3]>| {
        let mut scratch = Scratch::new(sizes);
        for (index, tokens) in tokens.chunks(block * width).enumerate() {
            let rows = tokens.len() / width;
            let start = index * block;
            let semantics =
                &mut semantics[start / sizes.count * width..][..rows / sizes.count * width];
            let (global, inner, attention) = match &mut kept {
                Some([global, inner, attention]) => (
                    &mut global[start * width..][..rows * width],
                    &mut inner[start * hidden..][..rows * hidden],
                    &mut attention[start * width..][..rows * width],
                ),
                None => (
                    &mut scratch.global[..rows * width],
                    &mut scratch.inner[..rows * hidden],
                    &mut scratch.attention[..rows * width],
                ),
            };
            let activation = &mut scratch.activation[..rows * hidden];
            forward_block(
                sizes, tokens, weights, global, inner, activation, attention, semantics,
            );
        }
    };
    let semantics = kept
        .semantics
        .par_chunks_mut(images * width)
        .zip(&group_weights);
    if keep {
        semantics
            .zip(kept.global.par_chunks_mut(rows * width))
            .zip(kept.inner.par_chunks_mut(rows * hidden))
            .zip(kept.attention.par_chunks_mut(rows * width))
            .for_each(|((((semantics, weights), global), inner), attention)| {
                run(semantics, weights, Some([global, inner, attention]));
            });
    } else {
        semantics.for_each(|(semantics, weights)| run(semantics, weights, None));
    }
    kept
}

/// The weights of one group.
struct GroupWeights<'a> {
    split: &'a [f32],
    bias: &'a [f32],
    fc1: &'a [f32],
    bias1: &'a [f32],
    fc2: &'a [f32],
}

impl<'a> GroupWeights<'a> {
    fn split(sizes: &Sizes, weights: &'a [FlexTensor; 5]) -> Vec<Self> {
        let [split, bias, fc1, bias1, fc2] = weights.each_ref().map(device::values);
        let part = |values: &'a [f32], group: usize| {
            let length = values.len() / sizes.groups;
            &values[group * length..][..length]
        };
        (0..sizes.groups)
            .map(|group| Self {
                split: part(split, group),
                bias: part(bias, group),
                fc1: part(fc1, group),
                bias1: part(bias1, group),
                fc2: part(fc2, group),
            })
            .collect()
    }
}

/// Buffers for one block of rows of one group.
struct Scratch {
    global: Vec<f32>,
    inner: Vec<f32>,
    activation: Vec<f32>,
    attention: Vec<f32>,
}

impl Scratch {
    fn new(sizes: &Sizes) -> Self {
        let rows = sizes.block();
        Self {
            global: vec![0.0; rows * sizes.width],
            inner: vec![0.0; rows * sizes.hidden],
            activation: vec![0.0; rows * sizes.hidden],
            attention: vec![0.0; rows * sizes.width],
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn forward_block(
    sizes: &Sizes,
    tokens: &[f32],
    weights: &GroupWeights,
    global: &mut [f32],
    inner: &mut [f32],
    activation: &mut [f32],
    attention: &mut [f32],
    semantics: &mut [f32],
) {
    let Sizes {
        count,
        width,
        hidden,
        ..
    } = *sizes;
    let threads = sizes.threads();
    let rows = tokens.len() / width;
    let split = Matrix::new(weights.split, width, width);
    product(
        global,
        Into::Replace,
        Matrix::new(tokens, rows, width),
        split,
        threads,
    );
    vector::add_row(global, weights.bias);
    let fc1 = Matrix::new(weights.fc1, width, hidden);
    product(
        inner,
        Into::Replace,
        Matrix::new(global, rows, width),
        fc1,
        threads,
    );
    vector::add_row(inner, weights.bias1);
    vector::gelu(inner, activation);
    let fc2 = Matrix::new(weights.fc2, hidden, width);
    product(
        attention,
        Into::Replace,
        Matrix::new(activation, rows, hidden),
        fc2,
        threads,
    );
    let images = global
        .chunks_exact(count * width)
        .zip(attention.chunks_exact_mut(count * width))
        .zip(semantics.chunks_exact_mut(width));
    for ((global, attention), semantics) in images {
        softmax_sum(global, attention, semantics);
    }
}

vectorised! {
    /// Turns logits `[N, D]` into their softmax over the N rows, per column, and sums `values` so weighted.
    pub(crate) fn softmax_sum(values: &[f32], logits: &mut [f32], sum: &mut [f32]) {
        const STRIP: usize = 64;
        let width = sum.len();
        for start in (0..width).step_by(STRIP) {
            let strip = STRIP.min(width - start);
            let (mut top, mut total) = ([f32::NEG_INFINITY; STRIP], [0.0; STRIP]);
            for row in logits.chunks_exact(width) {
                for (top, &x) in top.iter_mut().zip(&row[start..start + strip]) {
                    *top = if x > *top { x } else { *top };
                }
            }
            let sum = &mut sum[start..start + strip];
            sum.fill(0.0);
            for (row, values) in logits.chunks_exact_mut(width).zip(values.chunks_exact(width)) {
                let row = &mut row[start..start + strip];
                let values = &values[start..start + strip];
                for i in 0..strip {
                    let e = exp::<FMA>(row[i] - top[i]);
                    row[i] = e;
                    total[i] += e;
                    sum[i] = fma::<FMA>(e, values[i], sum[i]);
                }
            }
            for i in 0..strip {
                total[i] = 1.0 / total[i];
                sum[i] *= total[i];
            }
            for row in logits.chunks_exact_mut(width) {
                for (x, &scale) in row[start..start + strip].iter_mut().zip(&total) {
                    *x *= scale;
                }
            }
        }
    }
}

vectorised! {
    /// From softmax weights `A`, values `G`, the weighted sum `S` and the gradient `dS` of one image: the gradient of
    /// the logits, `A dS (G - S)`, and that of the values where the weights are held, `A dS`.
    pub(crate) fn softmax_sum_backward(
        attention: &[f32],
        values: &[f32],
        sum: &[f32],
        upstream: &[f32],
        logit_gradient: &mut [f32],
        value_gradient: &mut [f32],
    ) {
        let width = sum.len();
        let rows = attention.chunks_exact(width).zip(values.chunks_exact(width));
        let out = logit_gradient.chunks_exact_mut(width).zip(value_gradient.chunks_exact_mut(width));
        for ((attention, values), (logit, value)) in rows.zip(out) {
            for i in 0..width {
                let direct = attention[i] * upstream[i];
                value[i] = direct;
                logit[i] = direct * (values[i] - sum[i]);
            }
        }
    }
}

/// Gradients of `W`, `b`, `W1`, `b1` and `W2`, from that of the semantics, `upstream [M, B, D]`.
fn run_backward(
    sizes: &Sizes,
    tokens: &FlexTensor,
    weights: &[FlexTensor; 5],
    kept: &Kept,
    upstream: &[f32],
) -> [Vec<f32>; 5] {
    let Sizes {
        images,
        width,
        hidden,
        groups,
        ..
    } = *sizes;
    let tokens = device::values(tokens);
    let group_weights = GroupWeights::split(sizes, weights);
    let mut results = weights
        .each_ref()
        .map(|weight| vec![0.0; device::values(weight).len()]);
    let [split, bias, fc1, bias1, fc2] = &mut results;
    split
        .par_chunks_mut(width * width)
        .zip(bias.par_chunks_mut(width))
        .zip(fc1.par_chunks_mut(width * hidden))
        .zip(bias1.par_chunks_mut(hidden))
        .zip(fc2.par_chunks_mut(hidden * width))
        .enumerate()
        .for_each(|(group, ((((split, bias), fc1), bias1), fc2))| {
            let of = |values: &'_ [f32], per_image: usize| -> std::ops::Range<usize> {
                let length = values.len() / groups;
                debug_assert_eq!(length, images * per_image);
                group * length..(group + 1) * length
            };
            let mine = GroupKept {
                semantics: &kept.semantics[of(&kept.semantics, width)],
                global: &kept.global[of(&kept.global, sizes.count * width)],
                inner: &kept.inner[of(&kept.inner, sizes.count * hidden)],
                attention: &kept.attention[of(&kept.attention, sizes.count * width)],
                upstream: &upstream[of(upstream, width)],
            };
            let out = GroupGradients {
                split,
                bias,
                fc1,
                bias1,
                fc2,
            };
            backward_group(sizes, tokens, &group_weights[group], mine, out);
        });
    results
}

/// What the forward pass kept of one group, and the gradient that comes in.
struct GroupKept<'a> {
    semantics: &'a [f32],
    global: &'a [f32],
    inner: &'a [f32],
    attention: &'a [f32],
    upstream: &'a [f32],
}

struct GroupGradients<'a> {
    split: &'a mut [f32],
    bias: &'a mut [f32],
    fc1: &'a mut [f32],
    bias1: &'a mut [f32],
    fc2: &'a mut [f32],
}

fn backward_group(
    sizes: &Sizes,
    tokens: &[f32],
    weights: &GroupWeights,
    kept: GroupKept,
    out: GroupGradients,
) {
    let Sizes {
        count,
        width,
        hidden,
        ..
    } = *sizes;
    let (block, threads) = (sizes.block(), sizes.threads());
    let mut scratch = Scratch::new(sizes);
    for (index, tokens) in tokens.chunks(block * width).enumerate() {
        let rows = tokens.len() / width;
        let start = index * block;
        let wide = start * width..(start + rows) * width;
        let images = start / count * width..(start + rows) / count * width;
        let global = &kept.global[wide.clone()];
        let value_gradient = &mut scratch.global[..rows * width];
        let logit_gradient = &mut scratch.attention[..rows * width];
        let per_image = kept.attention[wide]
            .chunks_exact(count * width)
            .zip(global.chunks_exact(count * width))
            .zip(kept.semantics[images.clone()].chunks_exact(width))
            .zip(kept.upstream[images].chunks_exact(width))
            .zip(logit_gradient.chunks_exact_mut(count * width))
            .zip(value_gradient.chunks_exact_mut(count * width));
        for (((((attention, global), sum), upstream), logit), value) in per_image {
            softmax_sum_backward(attention, global, sum, upstream, logit, value);
        }

        let logit_gradient = Matrix::new(logit_gradient, rows, width);
        let inner_gradient = &mut scratch.inner[..rows * hidden];
        let fc2 = Matrix::new(weights.fc2, hidden, width);
        product(
            inner_gradient,
            Into::Replace,
            logit_gradient,
            fc2.transposed(),
            threads,
        );
        let activation = &mut scratch.activation[..rows * hidden];
        let inner = &kept.inner[start * hidden..][..rows * hidden];
        vector::gelu_backward(inner, activation, inner_gradient);
        let activation = Matrix::new(activation, rows, hidden);
        product(
            out.fc2,
            Into::Add,
            activation.transposed(),
            logit_gradient,
            threads,
        );

        vector::add_column_sums(inner_gradient, out.bias1);
        let inner_gradient = Matrix::new(inner_gradient, rows, hidden);
        let global = Matrix::new(global, rows, width);
        product(
            out.fc1,
            Into::Add,
            global.transposed(),
            inner_gradient,
            threads,
        );
        let fc1 = Matrix::new(weights.fc1, width, hidden);
        product(
            value_gradient,
            Into::Add,
            inner_gradient,
            fc1.transposed(),
            threads,
        );

        vector::add_column_sums(value_gradient, out.bias);
        let value_gradient = Matrix::new(value_gradient, rows, width);
        let tokens = Matrix::new(tokens, rows, width);
        product(
            out.split,
            Into::Add,
            tokens.transposed(),
            value_gradient,
            threads,
        );
    }
}
