//! Global forward propagation as one operation with a hand-written backward pass, on the CPU device.
//!
//! With X the tokens of an image, for each group: `G = X W + b`, `Z = G W1 + b1`, `L = gelu(Z) W2`,
//! `A = softmax of L over the tokens, per channel`, `S = sum_n G . A`. Groups share nothing but X, so each is computed
//! by one thread from first to last, a few images at a time; the result does not depend on the number of threads.
//! Backwards, from `dS`: `dL = A . dS . (G - S)` and the direct part of `dG` is `A . dS`; X is frozen and has none.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Device, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::gfp_bf16::{self, Operands, Tokens};
use crate::batch::TrainingPrecision as Precision;
use crate::device;
use crate::profile::{Part, fused, timed};
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::vector::{self, exp, fma};
use epsilon_kernels::vectorised;

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
    fused() && tokens.device().inner() == Device::flex() && !tokens.is_tracked()
}

/// `S [B, M, D]` of tokens `[B, N, D]`. Without gradients it is always computed in f32.
pub(crate) fn forward(tokens: &Tensor<3>, weights: Gfp, precision: Precision) -> Tensor<3> {
    let [images, count, width] = tokens.dims();
    let [groups, _, hidden] = weights.fc1.dims();
    let tracked = weights.split.is_autodiff();
    let sizes = Sizes {
        images,
        count,
        width,
        hidden,
        groups,
        precision: if tracked { precision } else { Precision::F32 },
    };
    let tokens = device::flex(tokens.clone().inner());
    let output = if tracked {
        run_tracked(sizes, tokens, weights)
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

fn run_tracked(sizes: Sizes, tokens: FlexTensor, weights: Gfp) -> Tensor<3> {
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
pub(super) struct Sizes {
    images: usize,
    pub count: usize,
    pub width: usize,
    pub hidden: usize,
    groups: usize,
    precision: Precision,
}

impl Sizes {
    /// Words that a row of this width takes among what is kept.
    fn words(&self, width: usize) -> usize {
        match self.precision {
            Precision::F32 => width,
            Precision::Bf16 => width / 2,
        }
    }

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

/// What the backward pass needs, each in one piece per group: f32 values, or bf16 ones two to a word.
#[derive(Debug)]
struct Kept {
    /// `S [M, B, D]`.
    semantics: Vec<f32>,
    /// `G [M, B N, D]`.
    global: Reused,
    /// `Z [M, B N, H]`.
    inner: Reused,
    /// `A [M, B N, D]`.
    attention: Reused,
    /// The tokens where they are wanted in bf16.
    tokens: Option<Tokens>,
}

/// A buffer that goes back to [`SPARE`]: fresh memory costs a page fault every few KiB, a tenth of a step's time.
#[derive(Debug)]
struct Reused(Vec<u32>);

/// Buffers for the next pass, no more than one pass takes.
static SPARE: Mutex<Vec<Vec<u32>>> = Mutex::new(Vec::new());
const SPARES: usize = 3;

impl Reused {
    /// A buffer with any content.
    fn take(length: usize) -> Self {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (0..spare.len())
            .filter(|&place| spare[place].capacity() >= length)
            .min_by_key(|&place| spare[place].capacity());
        let mut buffer = place.map_or_else(Vec::new, |place| spare.swap_remove(place));
        buffer.resize(length, 0);
        Self(buffer)
    }
}

impl Drop for Reused {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.is_empty() {
            return;
        }
        if spare.len() == SPARES {
            spare.remove(0);
        }
        spare.push(std::mem::take(&mut self.0));
    }
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
    let rows = sizes.rows();
    let (wide, narrow) = (sizes.words(sizes.width), sizes.words(sizes.hidden));
    let length = |words: usize| if keep { sizes.groups * rows * words } else { 0 };
    let values = device::values(tokens);
    let mut kept = Kept {
        semantics: vec![0.0; sizes.groups * sizes.images * sizes.width],
        global: Reused::take(length(wide)),
        inner: Reused::take(length(narrow)),
        attention: Reused::take(length(wide)),
        tokens: (sizes.precision == Precision::Bf16)
            .then(|| Tokens::new(values, sizes.width, sizes.block())),
    };
    let Kept {
        semantics,
        global,
        inner,
        attention,
        tokens,
    } = &mut kept;
    let tokens = match tokens {
        None => Source::F32(values),
        Some(tokens) => Source::Bf16(tokens),
    };
    let group_weights = GroupWeights::split(sizes, weights);
    let semantics = semantics
        .par_chunks_mut(sizes.images * sizes.width)
        .zip(&group_weights);
    if keep {
        semantics
            .zip(global.0.par_chunks_mut(rows * wide))
            .zip(inner.0.par_chunks_mut(rows * narrow))
            .zip(attention.0.par_chunks_mut(rows * wide))
            .for_each(|((((semantics, weights), global), inner), attention)| {
                let kept = Some([global, inner, attention]);
                Scratch::with(sizes, |scratch| {
                    forward_group(sizes, tokens, weights, kept, scratch, semantics);
                });
            });
    } else {
        semantics.for_each(|(semantics, weights)| {
            Scratch::with(sizes, |scratch| {
                forward_group(sizes, tokens, weights, None, scratch, semantics);
            });
        });
    }
    kept
}

/// The tokens of all images.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// `[B N, D]`.
    F32(&'a [f32]),
    Bf16(&'a Tokens),
}

/// Forward for one group, a block of rows at a time, into `kept` (`G`, `Z` and `A`) where that is wanted.
fn forward_group(
    sizes: &Sizes,
    tokens: Source,
    weights: &GroupWeights,
    mut kept: Option<[&mut [u32]; 3]>,
    scratch: &mut Scratch,
    semantics: &mut [f32],
) {
    let Sizes {
        count,
        width,
        hidden,
        ..
    } = *sizes;
    let (wide, narrow) = (sizes.words(width), sizes.words(hidden));
    let work = match tokens {
        Source::F32(tokens) => Work::F32(tokens),
        Source::Bf16(tokens) => Work::Bf16(tokens, Box::new(Operands::forward(sizes, weights))),
    };
    for (index, semantics) in semantics
        .chunks_mut(sizes.block() / count * width)
        .enumerate()
    {
        let (start, rows) = (index * sizes.block(), semantics.len() / width * count);
        let kept = kept.as_mut().map(|[global, inner, attention]| {
            [
                &mut global[start * wide..][..rows * wide],
                &mut inner[start * narrow..][..rows * narrow],
                &mut attention[start * wide..][..rows * wide],
            ]
        });
        match &work {
            Work::F32(tokens) => {
                let tokens = &tokens[start * width..][..rows * width];
                let Scratch {
                    global,
                    attention,
                    inner,
                    activation,
                    ..
                } = scratch;
                let out = match kept {
                    Some(kept) => kept.map(bytemuck::cast_slice_mut),
                    None => [
                        &mut global[..rows * width],
                        &mut inner[..rows * hidden],
                        &mut attention[..rows * width],
                    ],
                };
                forward_block(sizes, tokens, weights, out, activation, semantics);
            }
            Work::Bf16(tokens, operands) => {
                let tokens = tokens.rows(start, rows);
                let kept = kept.expect("bf16 is for training, which keeps");
                gfp_bf16::forward_block(sizes, tokens, weights, operands, kept, scratch, semantics);
            }
        }
    }
}

/// [`Source`] with what a group makes of its weights.
enum Work<'a> {
    F32(&'a [f32]),
    Bf16(&'a Tokens, Box<Operands>),
}

/// The weights of one group.
pub(super) struct GroupWeights<'a> {
    pub split: &'a [f32],
    pub bias: &'a [f32],
    pub fc1: &'a [f32],
    pub bias1: &'a [f32],
    pub fc2: &'a [f32],
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
#[derive(Default)]
pub(super) struct Scratch {
    /// `[rows, D]`.
    pub global: Vec<f32>,
    /// `[rows, D]`.
    pub attention: Vec<f32>,
    /// `[rows, H]`.
    pub inner: Vec<f32>,
    /// `[rows, H]`.
    pub activation: Vec<f32>,
    /// Words of bf16 values.
    pub words: Vec<u32>,
}

/// Scratch for the next groups, as many as have worked at once: clearing it anew for every group would cost a fiftieth of
/// a step.
static SCRATCH: Mutex<Vec<Scratch>> = Mutex::new(Vec::new());

impl Scratch {
    /// Runs `work` with buffers of at least these sizes and any content.
    fn with<T>(sizes: &Sizes, work: impl FnOnce(&mut Self) -> T) -> T {
        let spare = || SCRATCH.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = spare().pop().unwrap_or_default();
        let rows = sizes.block();
        let grow = |buffer: &mut Vec<f32>, width: usize| {
            buffer.resize(buffer.len().max(rows * width), 0.0);
        };
        grow(&mut scratch.global, sizes.width);
        grow(&mut scratch.attention, sizes.width);
        grow(&mut scratch.inner, sizes.hidden);
        grow(&mut scratch.activation, sizes.hidden);
        if sizes.precision == Precision::Bf16 {
            let words = rows * sizes.width.max(sizes.hidden) / 2;
            scratch.words.resize(scratch.words.len().max(words), 0);
        }
        let result = work(&mut scratch);
        spare().push(scratch);
        result
    }
}

/// `G`, `Z` and `A` of a block of tokens, and their images' semantics.
fn forward_block(
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
    timed(Part::Split, || {
        let tokens = Matrix::new(tokens, rows, width);
        let split = Matrix::new(weights.split, width, width);
        product(global, Into::Replace, tokens, split, threads);
        vector::add_row(global, weights.bias);
    });
    timed(Part::Mlp, || {
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

/// [`softmax_sum`] of every image of a block.
pub(super) fn softmax_sums(
    sizes: &Sizes,
    global: &[f32],
    logits: &mut [f32],
    semantics: &mut [f32],
) {
    timed(Part::SoftmaxSum, || {
        let (image, width) = (sizes.count * sizes.width, sizes.width);
        let images = global
            .chunks_exact(image)
            .zip(logits.chunks_exact_mut(image))
            .zip(semantics.chunks_exact_mut(width));
        for ((global, logits), semantics) in images {
            softmax_sum(global, logits, semantics);
        }
    });
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
    let Sizes { width, hidden, .. } = *sizes;
    let rows = sizes.rows();
    let (wide, narrow) = (rows * sizes.words(width), rows * sizes.words(hidden));
    let tokens = match &kept.tokens {
        None => Source::F32(device::values(tokens)),
        Some(tokens) => Source::Bf16(tokens),
    };
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
            let images = group * sizes.images * width..(group + 1) * sizes.images * width;
            let mine = Block {
                semantics: &kept.semantics[images.clone()],
                upstream: &upstream[images],
                global: &kept.global.0[group * wide..][..wide],
                inner: &kept.inner.0[group * narrow..][..narrow],
                attention: &kept.attention.0[group * wide..][..wide],
            };
            let mut out = GroupGradients {
                split,
                bias,
                fc1,
                bias1,
                fc2,
                into: Into::Replace,
            };
            Scratch::with(sizes, |scratch| {
                backward_group(
                    sizes,
                    tokens,
                    &group_weights[group],
                    &mine,
                    scratch,
                    &mut out,
                );
            });
        });
    results
}

/// What the forward pass kept of some images of one group, and the gradient of their semantics.
pub(super) struct Block<'a> {
    pub semantics: &'a [f32],
    pub upstream: &'a [f32],
    pub global: &'a [u32],
    pub inner: &'a [u32],
    pub attention: &'a [u32],
}

impl Block<'_> {
    /// Those of the images that rows `start..start + rows` belong to.
    fn part(&self, sizes: &Sizes, start: usize, rows: usize) -> Block<'_> {
        let (wide, narrow) = (sizes.words(sizes.width), sizes.words(sizes.hidden));
        let first = start / sizes.count * sizes.width;
        let images = first..first + rows / sizes.count * sizes.width;
        Block {
            semantics: &self.semantics[images.clone()],
            upstream: &self.upstream[images],
            global: &self.global[start * wide..][..rows * wide],
            inner: &self.inner[start * narrow..][..rows * narrow],
            attention: &self.attention[start * wide..][..rows * wide],
        }
    }
}

/// Gradients of one group's weights; the first block replaces what is there.
pub(super) struct GroupGradients<'a> {
    pub split: &'a mut [f32],
    pub bias: &'a mut [f32],
    pub fc1: &'a mut [f32],
    pub bias1: &'a mut [f32],
    pub fc2: &'a mut [f32],
    pub into: Into,
}

fn backward_group(
    sizes: &Sizes,
    tokens: Source,
    weights: &GroupWeights,
    kept: &Block,
    scratch: &mut Scratch,
    out: &mut GroupGradients,
) {
    let mut work = match tokens {
        Source::F32(tokens) => Work::F32(tokens),
        Source::Bf16(tokens) => Work::Bf16(tokens, Box::new(Operands::backward(sizes, weights))),
    };
    let (all, block) = (sizes.rows(), sizes.block());
    for start in (0..all).step_by(block) {
        let rows = block.min(all - start);
        let kept = kept.part(sizes, start, rows);
        match &mut work {
            Work::F32(tokens) => {
                let tokens = &tokens[start * sizes.width..][..rows * sizes.width];
                backward_block(sizes, tokens, weights, &kept, scratch, out);
            }
            Work::Bf16(tokens, operands) => {
                let tokens = tokens.columns(start);
                gfp_bf16::backward_block(sizes, tokens, operands, &kept, scratch, out);
            }
        }
        out.into = Into::Add;
    }
}

fn backward_block(
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
    timed(Part::SoftmaxSum, || {
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
    timed(Part::Mlp, || {
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
    timed(Part::Split, || {
        vector::add_column_sums(value_gradient, out.bias);
        let value_gradient = Matrix::new(value_gradient, rows, width);
        let tokens = Matrix::new(tokens, rows, width).transposed();
        product(out.split, into, tokens, value_gradient, threads);
    });
}
