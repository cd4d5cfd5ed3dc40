//! Global forward propagation as one operation with a hand-written backward pass, on the CPU device.
//!
//! With X the tokens of an image, for each group: `G = X W + b`, `Z = G W1 + b1`, `L = gelu(Z) W2`,
//! `A = softmax of L over the tokens, per channel`, `S = sum_n G . A`. Groups share nothing but X, so each is computed
//! by one thread from first to last, a few images at a time; the result does not depend on the number of threads.
//! Backwards, from `dS`: `dL = A . dS . (G - S)` and the direct part of `dG` is `A . dS`; X is frozen and has none.

mod bf16;
mod common;
mod f32;

use std::sync::{Mutex, PoisonError};

use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use self::bf16::{Operands, Tokens};
use self::common::{Block, GroupGradients, GroupWeights, Scratch, Sizes};
use super::operation::{self, Operation, run};
use crate::batch::TrainingPrecision as Precision;
use crate::device;
use epsilon_kernels::matrix::Into;

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
    operation::runs_on(tokens) && !tokens.is_tracked()
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
    let inputs = [
        weights.split.into(),
        weights.bias.into(),
        weights.fc1.into(),
        weights.bias1.into(),
        weights.fc2.into(),
    ];
    let shape = [groups, images, width];
    let (output, _) = run(Propagation { sizes, tokens }, inputs, shape);
    output.swap_dims(0, 1)
}

/// The operation with its frozen tokens.
#[derive(Debug, Clone)]
struct Propagation {
    sizes: Sizes,
    tokens: FlexTensor,
}

impl Operation<5> for Propagation {
    type Kept = Kept;

    fn forward(&self, weights: [&[f32]; 5], keep: bool) -> (Vec<f32>, Kept) {
        let kept = run_forward(&self.sizes, device::values(&self.tokens), weights, keep);
        (kept.semantics.clone(), kept)
    }

    fn backward(
        &self,
        weights: [&[f32]; 5],
        kept: &Kept,
        upstream: &[f32],
        _: [bool; 5],
    ) -> [Vec<f32>; 5] {
        let tokens = device::values(&self.tokens);
        run_backward(&self.sizes, tokens, weights, kept, upstream)
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
    fn of_length(length: usize) -> Self {
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

/// Forward for all groups; without `keep` only the semantics are filled.
fn run_forward(sizes: &Sizes, values: &[f32], weights: [&[f32]; 5], keep: bool) -> Kept {
    let rows = sizes.rows();
    let (wide, narrow) = (sizes.words(sizes.width), sizes.words(sizes.hidden));
    let length = |words: usize| if keep { sizes.groups * rows * words } else { 0 };
    let mut kept = Kept {
        semantics: vec![0.0; sizes.groups * sizes.images * sizes.width],
        global: Reused::of_length(length(wide)),
        inner: Reused::of_length(length(narrow)),
        attention: Reused::of_length(length(wide)),
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
                f32::forward_block(sizes, tokens, weights, out, activation, semantics);
            }
            Work::Bf16(tokens, operands) => {
                let tokens = tokens.rows(start, rows);
                let kept = kept.expect("bf16 is for training, which keeps");
                bf16::forward_block(sizes, tokens, weights, operands, kept, scratch, semantics);
            }
        }
    }
}

/// [`Source`] with what a group makes of its weights.
enum Work<'a> {
    F32(&'a [f32]),
    Bf16(&'a Tokens, Box<Operands>),
}

/// Gradients of `W`, `b`, `W1`, `b1` and `W2`, from that of the semantics, `upstream [M, B, D]`.
fn run_backward(
    sizes: &Sizes,
    tokens: &[f32],
    weights: [&[f32]; 5],
    kept: &Kept,
    upstream: &[f32],
) -> [Vec<f32>; 5] {
    let Sizes { width, hidden, .. } = *sizes;
    let rows = sizes.rows();
    let (wide, narrow) = (rows * sizes.words(width), rows * sizes.words(hidden));
    let tokens = match &kept.tokens {
        None => Source::F32(tokens),
        Some(tokens) => Source::Bf16(tokens),
    };
    let group_weights = GroupWeights::split(sizes, weights);
    let mut results = weights.map(|weight| vec![0.0; weight.len()]);
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
                f32::backward_block(sizes, tokens, weights, &kept, scratch, out);
            }
            Work::Bf16(tokens, operands) => {
                let tokens = tokens.columns(start);
                bf16::backward_block(sizes, tokens, operands, &kept, scratch, out);
            }
        }
        out.into = Into::Add;
    }
}
