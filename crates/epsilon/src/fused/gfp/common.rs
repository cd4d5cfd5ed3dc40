//! What GFP's two arithmetics share: sizes, weights, buffers and the softmax over tokens.

use std::sync::{Mutex, PoisonError};

use crate::batch::TrainingPrecision as Precision;
use crate::profile::{Phase, timed};
use epsilon_kernels::matrix::Into;
use epsilon_kernels::rows::softmax_sum;

/// Rows (images times tokens) that are worked on at once: enough to keep the products fast, few enough for L2 or L3.
const ROWS: usize = 800;

#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub images: usize,
    pub count: usize,
    pub width: usize,
    pub hidden: usize,
    pub groups: usize,
    pub precision: Precision,
}

impl Sizes {
    /// Words that a row of this width takes among what is kept.
    pub(super) fn words(&self, width: usize) -> usize {
        match self.precision {
            Precision::F32 => width,
            Precision::Bf16 => width / 2,
        }
    }

    /// Rows of all tokens.
    pub(super) fn rows(&self) -> usize {
        self.images * self.count
    }

    /// Rows worked on at once: whole images.
    pub(super) fn block(&self) -> usize {
        self.count * (ROWS / self.count).clamp(1, self.images)
    }

    /// Threads each group's products may use: all of them only where there are fewer groups than threads.
    pub(super) fn threads(&self) -> usize {
        (rayon::current_num_threads() / self.groups).max(1)
    }
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
    /// One for each group.
    pub(super) fn split(
        sizes: &Sizes,
        [split, bias, fc1, bias1, fc2]: [&'a [f32]; 5],
    ) -> Vec<Self> {
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
    pub(super) fn with<T>(sizes: &Sizes, work: impl FnOnce(&mut Self) -> T) -> T {
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
    pub(super) fn part(&self, sizes: &Sizes, start: usize, rows: usize) -> Block<'_> {
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

/// [`softmax_sum`] of every image of a block.
pub(super) fn softmax_sums(
    sizes: &Sizes,
    global: &[f32],
    logits: &mut [f32],
    semantics: &mut [f32],
) {
    timed(Phase::SoftmaxSum, || {
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
