//! Scores that pool the matches of every token with a label, as one operation on the CPU device: by an attention of each
//! label over the tokens, or by the mean of the largest. It works through an image and some labels at a time and computes
//! the matches again in its backward pass, so `[B, N, C]` is never whole.

use std::ops::Range;

use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::device;
use crate::profile::fused;
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::vector::{exp, fma};
use epsilon_kernels::vectorised;

/// Labels that a thread works on at once.
const LABELS: usize = 128;

/// Tokens `[B, N, K]` and labels `[C, K]` whose matches `t_i . l_c` are wanted.
pub(crate) struct Pair {
    pub tokens: Tensor<3>,
    pub labels: Tensor<2>,
}

/// `s_c = sum_i softmax_i(logit_ic) value_ic`: scores `[B, C]`, both matches of the same tokens and labels. Either all four
/// tensors carry gradients or none.
pub(crate) fn attended(value: Pair, logit: Pair) -> Tensor<2> {
    if !runs_on(&value) {
        return attended_by_the_framework(value, logit);
    }
    let Pair { tokens, labels } = value;
    let inputs = [
        tokens.into_flat(),
        labels.into_flat(),
        logit.tokens.into_flat(),
        logit.labels.into_flat(),
    ];
    run(Pool::Attention, inputs)
}

/// `s_c`, the mean of the `count` largest `value_ic` over the tokens (of all where there are fewer): scores `[B, C]`.
pub(crate) fn mean_of_largest(value: Pair, count: usize) -> Tensor<2> {
    let count = count.min(value.tokens.dims()[1]);
    if !runs_on(&value) {
        return mean_by_the_framework(value, count);
    }
    let Pair { tokens, labels } = value;
    run(
        Pool::Largest(count),
        [tokens.into_flat(), labels.into_flat()],
    )
}

fn attended_by_the_framework(value: Pair, logit: Pair) -> Tensor<2> {
    let weights = softmax(matches(logit), 1);
    (weights * matches(value)).sum_dim(1).squeeze_dim(1)
}

fn mean_by_the_framework(value: Pair, count: usize) -> Tensor<2> {
    matches(value).topk(count, 1).mean_dim(1).squeeze_dim(1)
}

/// The matches whole, `[B, N, C]`.
fn matches(pair: Pair) -> Tensor<3> {
    let [images, tokens, width] = pair.tokens.dims();
    let [labels, _] = pair.labels.dims();
    pair.tokens
        .reshape([images * tokens, width])
        .matmul(pair.labels.transpose())
        .reshape([images, tokens, labels])
}

fn runs_on(pair: &Pair) -> bool {
    fused() && pair.tokens.device().inner() == Device::flex()
}

/// A tensor of any rank with its shape apart, so that tokens and labels stand in one array.
struct Flat {
    tensor: Tensor<1>,
    shape: Vec<usize>,
}

trait IntoFlat {
    fn into_flat(self) -> Flat;
}

impl<const R: usize> IntoFlat for Tensor<R> {
    fn into_flat(self) -> Flat {
        let shape = self.dims();
        Flat {
            tensor: self.reshape([shape.iter().product::<usize>()]),
            shape: shape.to_vec(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Pool {
    Attention,
    Largest(usize),
}

/// Runs on the values of one or two pairs, tokens and labels of each in turn.
fn run<const INPUTS: usize>(pool: Pool, inputs: [Flat; INPUTS]) -> Tensor<2> {
    let shapes = inputs.each_ref().map(|input| input.shape.clone());
    let sizes = Sizes {
        images: shapes[0][0],
        tokens: shapes[0][1],
        labels: shapes[1][0],
        widths: shapes
            .iter()
            .skip(1)
            .step_by(2)
            .map(|shape| shape[1])
            .collect(),
        pool,
    };
    let shape = [sizes.images, sizes.labels];
    let tracked = inputs[0].tensor.is_autodiff();
    if !tracked {
        let values = inputs.map(|input| device::flex(input.tensor));
        let scores = sizes.forward(&values.each_ref().map(device::values));
        return Tensor::from_primitive::<Flex>(device::flex_from(scores, &shape));
    }
    let parts = inputs.map(|input| {
        // Frozen inputs, such as label vectors, get a place in the graph that nobody asks for.
        let tensor = match input.tensor.is_autodiff() {
            true => input.tensor,
            false => input.tensor.autodiff(),
        };
        device::flex_parts(tensor)
    });
    let values = parts.each_ref().map(|(value, _)| value.clone());
    let nodes = parts.map(|(_, node)| node);
    let output = device::flex_from(
        sizes.forward(&values.each_ref().map(device::values)),
        &shape,
    );
    let step = Step::<INPUTS>
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound();
    let result = match step.stateful() {
        OpsKind::Tracked(step) => step.finish(State { sizes, values }, output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(result)
}

#[derive(Debug, Clone)]
struct Sizes {
    images: usize,
    tokens: usize,
    labels: usize,
    /// K of each pair.
    widths: Vec<usize>,
    pool: Pool,
}

impl Sizes {
    /// The matches of one image and some labels of each pair, `[N, columns]`.
    fn block(&self, inputs: &[&[f32]], image: usize, labels: &Range<usize>) -> Vec<Vec<f32>> {
        let pairs = inputs.chunks_exact(2).zip(&self.widths);
        let one = |(pair, &width): (&[&[f32]], &usize)| {
            let mut out = vec![0.0; self.tokens * labels.len()];
            let (tokens, labels) = self.sides(pair, width, image, labels);
            product(&mut out, Into::Replace, tokens, labels.transposed(), 1);
            out
        };
        pairs.map(one).collect()
    }

    /// The tokens of an image and some labels of a pair.
    fn sides<'a>(
        &self,
        pair: &[&'a [f32]],
        width: usize,
        image: usize,
        labels: &Range<usize>,
    ) -> (Matrix<'a>, Matrix<'a>) {
        let tokens = &pair[0][image * self.tokens * width..][..self.tokens * width];
        let of_labels = &pair[1][labels.start * width..labels.end * width];
        (
            Matrix::new(tokens, self.tokens, width),
            Matrix::new(of_labels, labels.len(), width),
        )
    }

    fn label_blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let count = self.labels;
        (0..count)
            .step_by(LABELS)
            .map(move |from| from..count.min(from + LABELS))
    }

    fn forward(&self, inputs: &[&[f32]]) -> Vec<f32> {
        let mut scores = vec![0.0; self.images * self.labels];
        scores
            .par_chunks_mut(self.labels)
            .enumerate()
            .for_each(|(image, scores)| {
                for labels in self.label_blocks() {
                    let mut block = self.block(inputs, image, &labels);
                    self.pool.forward(&mut block, &mut scores[labels]);
                }
            });
        scores
    }

    /// Gradients of the inputs, from those of the scores. Images are shared out among the threads once, so that each sums
    /// the labels' gradients for itself; the sums are added up in order.
    fn backward(&self, inputs: &[&[f32]], pull: &[f32]) -> Vec<Vec<f32>> {
        let share = self.images.div_ceil(rayon::current_num_threads()).max(1);
        let parts: Vec<Vec<Vec<f32>>> = (0..self.images)
            .into_par_iter()
            .step_by(share)
            .map(|first| self.backward_of(inputs, pull, first..self.images.min(first + share)))
            .collect();
        let mut parts = parts.into_iter();
        let mut sums = parts.next().unwrap_or_default();
        for part in parts {
            for (place, (sum, part)) in sums.iter_mut().zip(part).enumerate() {
                match place % 2 {
                    0 => sum.extend(part),
                    _ => sum
                        .iter_mut()
                        .zip(part)
                        .for_each(|(sum, part)| *sum += part),
                }
            }
        }
        sums
    }

    /// Of some images: the gradients of their tokens, and their share of those of the labels.
    fn backward_of(&self, inputs: &[&[f32]], pull: &[f32], images: Range<usize>) -> Vec<Vec<f32>> {
        let first = images.start;
        let mut out: Vec<Vec<f32>> = Vec::new();
        for &width in &self.widths {
            out.push(vec![0.0; images.len() * self.tokens * width]);
            out.push(vec![0.0; self.labels * width]);
        }
        for image in images {
            for labels in self.label_blocks() {
                let mut block = self.block(inputs, image, &labels);
                let pull = &pull[image * self.labels..][labels.clone()];
                self.pool.backward(&mut block, pull);
                let pairs = inputs.chunks_exact(2).zip(out.chunks_exact_mut(2));
                for (((pair, out), &width), slopes) in pairs.zip(&self.widths).zip(&block) {
                    let (tokens, of_labels) = self.sides(pair, width, image, &labels);
                    let slopes = Matrix::new(slopes, self.tokens, labels.len());
                    let size = self.tokens * width;
                    let to = &mut out[0][(image - first) * size..][..size];
                    product(to, Into::Add, slopes, of_labels, 1);
                    let to = &mut out[1][labels.start * width..labels.end * width];
                    product(to, Into::Add, slopes.transposed(), tokens, 1);
                }
            }
        }
        out
    }
}

impl Pool {
    /// Scores of a block of matches `[N, columns]`: values, and for an attention its logits.
    fn forward(self, block: &mut [Vec<f32>], scores: &mut [f32]) {
        let columns = scores.len();
        let (values, logits) = block.split_at_mut(1);
        match self {
            Self::Attention => {
                let weights = &mut logits[0];
                softmax_columns(weights, columns);
                weighted_sums(&values[0], weights, scores);
            }
            Self::Largest(count) => {
                for (column, score) in scores.iter_mut().enumerate() {
                    let chosen = largest(&values[0], column, columns, count);
                    *score = chosen.iter().map(|&(value, _)| value).sum::<f32>() / count as f32;
                }
            }
        }
    }

    /// Replaces a block of matches by the gradients of theirs, from those of the scores.
    fn backward(self, block: &mut [Vec<f32>], pull: &[f32]) {
        let columns = pull.len();
        let (values, logits) = block.split_at_mut(1);
        let values = &mut values[0];
        match self {
            Self::Attention => {
                let weights = &mut logits[0];
                softmax_columns(weights, columns);
                let mut scores = vec![0.0; columns];
                weighted_sums(values, weights, &mut scores);
                attention_slopes(values, weights, &scores, pull);
            }
            Self::Largest(count) => {
                let mut slopes = vec![0.0; values.len()];
                for (column, &pull) in pull.iter().enumerate() {
                    for (_, token) in largest(values, column, columns, count) {
                        slopes[token * columns + column] = pull / count as f32;
                    }
                }
                *values = slopes;
            }
        }
    }
}

/// The `count` largest of a column of `[N, columns]`, with their rows.
fn largest(values: &[f32], column: usize, columns: usize, count: usize) -> Vec<(f32, usize)> {
    let mut all: Vec<(f32, usize)> = values
        .iter()
        .skip(column)
        .step_by(columns)
        .copied()
        .zip(0..)
        .collect();
    if count < all.len() {
        // Not a number ranks first, so that a diverged model shows.
        all.select_nth_unstable_by(count, |a, b| b.0.total_cmp(&a.0));
        all.truncate(count);
    }
    all
}

vectorised! {
    /// The softmax over the rows of every column of `[N, columns]`, in place.
    pub(crate) fn softmax_columns(logits: &mut [f32], columns: usize) {
        let mut top = vec![f32::NEG_INFINITY; columns];
        for row in logits.chunks_exact(columns) {
            for (top, &logit) in top.iter_mut().zip(row) {
                *top = if logit > *top { logit } else { *top };
            }
        }
        let mut sum = vec![0.0f32; columns];
        for row in logits.chunks_exact_mut(columns) {
            for ((logit, &top), sum) in row.iter_mut().zip(&top).zip(&mut sum) {
                *logit = exp::<FMA>(*logit - top);
                *sum += *logit;
            }
        }
        for row in logits.chunks_exact_mut(columns) {
            for (weight, &sum) in row.iter_mut().zip(&sum) {
                *weight /= sum;
            }
        }
    }
}

vectorised! {
    /// `s_c = sum_i weight_ic value_ic`.
    pub(crate) fn weighted_sums(values: &[f32], weights: &[f32], sums: &mut [f32]) {
        let columns = sums.len();
        sums.fill(0.0);
        for (values, weights) in values.chunks_exact(columns).zip(weights.chunks_exact(columns)) {
            for ((sum, &value), &weight) in sums.iter_mut().zip(values).zip(weights) {
                *sum = fma::<FMA>(weight, value, *sum);
            }
        }
    }
}

vectorised! {
    /// Turns values into `g_c weight_ic` and weights into `g_c weight_ic (value_ic - s_c)`, the slopes of values and logits.
    pub(crate) fn attention_slopes(values: &mut [f32], weights: &mut [f32], scores: &[f32], pull: &[f32]) {
        let columns = pull.len();
        for (values, weights) in values.chunks_exact_mut(columns).zip(weights.chunks_exact_mut(columns)) {
            let columns = scores.iter().zip(pull);
            for ((value, weight), (&score, &pull)) in values.iter_mut().zip(weights).zip(columns) {
                let slope = pull * *weight;
                *weight = slope * (*value - score);
                *value = slope;
            }
        }
    }
}

#[derive(Debug, Clone)]
struct State<const INPUTS: usize> {
    sizes: Sizes,
    values: [FlexTensor; INPUTS],
}

#[derive(Debug)]
struct Step<const INPUTS: usize>;

impl<const INPUTS: usize> Backward<Flex, INPUTS> for Step<INPUTS> {
    type State = State<INPUTS>;

    fn backward(
        self,
        ops: Ops<State<INPUTS>, INPUTS>,
        gradients: &mut Gradients,
        _: &mut Checkpointer,
    ) {
        let upstream = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let State { sizes, values } = ops.state;
        let inputs = values.each_ref().map(device::values);
        let slopes = sizes.backward(&inputs, device::values(&upstream));
        for (parent, slope) in ops.parents.into_iter().zip(slopes) {
            if let Some(parent) = parent {
                let length = slope.len();
                gradients.register::<Flex>(parent.id, device::flex_from(slope, &[length]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    const IMAGES: usize = 3;
    const TOKENS: usize = 7;
    const WIDTHS: [usize; 2] = [5, 4];
    /// More than a block of labels.
    const COUNT: usize = LABELS + 9;

    type Score = fn([Pair; 2]) -> Tensor<2>;

    /// Scores and the gradients of all inputs that have one.
    fn run(inputs: &[Tensor<1>], pull: &Tensor<2>, score: Score) -> Vec<Tensor<1>> {
        let leaves: Vec<Tensor<1>> = inputs
            .iter()
            .map(|x| x.clone().autodiff().require_grad())
            .collect();
        let pair = |place: usize| Pair {
            tokens: leaves[2 * place]
                .clone()
                .reshape([IMAGES, TOKENS, WIDTHS[place]]),
            labels: leaves[2 * place + 1]
                .clone()
                .reshape([COUNT, WIDTHS[place]]),
        };
        let out = score([pair(0), pair(1)]);
        let mut gradients = (out.clone() * pull.clone()).sum().backward();
        let mut results = vec![out.inner().flatten::<1>(0, 1)];
        results.extend(
            leaves
                .iter()
                .filter_map(|leaf| leaf.grad_remove(&mut gradients)),
        );
        results
    }

    fn compare(ours: Score, theirs: Score, results: usize) {
        let device = Device::flex();
        device.seed(3);
        let draw = |length: usize| -> Tensor<1> {
            Tensor::random([length], Distribution::Normal(0.0, 1.0), &device)
        };
        let inputs: Vec<Tensor<1>> = WIDTHS
            .iter()
            .flat_map(|width| [draw(IMAGES * TOKENS * width), draw(COUNT * width)])
            .collect();
        let pull = draw(IMAGES * COUNT).reshape([IMAGES, COUNT]);
        let ours = run(&inputs, &pull, ours);
        let theirs = run(&inputs, &pull, theirs);
        assert_eq!((ours.len(), theirs.len()), (results, results));
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 1e-4, "{worst} apart");
        }
    }

    #[test]
    fn attention_equals_the_frameworks_with_its_gradients() {
        compare(
            |[value, logit]| attended(value, logit),
            |[value, logit]| attended_by_the_framework(value, logit),
            5,
        );
    }

    #[test]
    fn the_mean_of_the_largest_equals_the_frameworks_with_its_gradients() {
        compare(
            |[value, _]| mean_of_largest(value, 3),
            |[value, _]| mean_by_the_framework(value, 3),
            3,
        );
    }
}
