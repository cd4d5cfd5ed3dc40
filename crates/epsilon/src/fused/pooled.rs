//! Scores that pool the matches of every token with a label, as one operation on the CPU device: by an attention of each
//! label over the tokens, or by the mean of the largest. It works through an image and some labels at a time and computes
//! the matches again in its backward pass, so `[B, N, C]` is never whole.

use std::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::rows::{softmax_sum, softmax_sum_backward_in_place};
use epsilon_kernels::vector::add;

/// Labels that a thread works on at once.
const LABELS: usize = 128;

/// Tokens `[B, N, K]` and labels `[C, K]` whose matches `t_i . l_c` are wanted.
pub(crate) struct Pair {
    pub tokens: Tensor<3>,
    pub labels: Tensor<2>,
}

/// `s_c = sum_i softmax_i(logit_ic) value_ic`: scores `[B, C]`, both matches of the same tokens and labels.
pub(crate) fn attended(value: Pair, logit: Pair) -> Tensor<2> {
    if !runs_on(&value.tokens) {
        return attended_by_the_framework(value, logit);
    }
    let sizes = Pooled::new(Pool::Attention, &[&value, &logit]);
    let shape = [sizes.images, sizes.labels];
    let inputs = [
        value.tokens.into(),
        value.labels.into(),
        logit.tokens.into(),
        logit.labels.into(),
    ];
    run(sizes, inputs, shape).0
}

/// `s_c`, the mean of the `count` largest `value_ic` over the tokens (of all where there are fewer): scores `[B, C]`.
pub(crate) fn mean_of_largest(value: Pair, count: usize) -> Tensor<2> {
    let count = count.min(value.tokens.dims()[1]);
    if !runs_on(&value.tokens) {
        return mean_by_the_framework(value, count);
    }
    let sizes = Pooled::new(Pool::Largest(count), &[&value]);
    let shape = [sizes.images, sizes.labels];
    run(sizes, [value.tokens.into(), value.labels.into()], shape).0
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

#[derive(Debug, Clone, Copy)]
enum Pool {
    Attention,
    Largest(usize),
}

#[derive(Debug, Clone)]
struct Pooled {
    images: usize,
    tokens: usize,
    labels: usize,
    /// K of each pair.
    widths: Vec<usize>,
    pool: Pool,
}

impl Pooled {
    fn new(pool: Pool, pairs: &[&Pair]) -> Self {
        let [images, tokens, _] = pairs[0].tokens.dims();
        Self {
            images,
            tokens,
            labels: pairs[0].labels.dims()[0],
            widths: pairs.iter().map(|pair| pair.labels.dims()[1]).collect(),
            pool,
        }
    }

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

    /// Of some images: the gradients of their tokens, and their share of those of the labels.
    fn backward_of(
        &self,
        inputs: &[&[f32]],
        upstream: &[f32],
        images: Range<usize>,
    ) -> Vec<Vec<f32>> {
        let first = images.start;
        let mut out: Vec<Vec<f32>> = Vec::new();
        for &width in &self.widths {
            out.push(vec![0.0; images.len() * self.tokens * width]);
            out.push(vec![0.0; self.labels * width]);
        }
        for image in images {
            for labels in self.label_blocks() {
                let mut block = self.block(inputs, image, &labels);
                let upstream = &upstream[image * self.labels..][labels.clone()];
                self.pool.backward(&mut block, upstream);
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

/// On the values of one or two pairs, tokens and labels of each in turn.
impl<const N: usize> Operation<N> for Pooled {
    type Kept = ();

    fn forward(&self, inputs: [&[f32]; N], _: bool) -> (Vec<f32>, ()) {
        let mut scores = vec![0.0; self.images * self.labels];
        scores
            .par_chunks_mut(self.labels)
            .enumerate()
            .for_each(|(image, scores)| {
                for labels in self.label_blocks() {
                    let mut block = self.block(&inputs, image, &labels);
                    self.pool.forward(&mut block, &mut scores[labels]);
                }
            });
        (scores, ())
    }

    /// Images are shared out among the threads once, so that each sums
    /// the labels' gradients for itself; the sums are added up in order.
    fn backward(
        &self,
        inputs: [&[f32]; N],
        (): &(),
        upstream: &[f32],
        _: [bool; N],
    ) -> [Vec<f32>; N] {
        let share = self.images.div_ceil(rayon::current_num_threads()).max(1);
        let parts: Vec<Vec<Vec<f32>>> = (0..self.images)
            .into_par_iter()
            .step_by(share)
            .map(|first| self.backward_of(&inputs, upstream, first..self.images.min(first + share)))
            .collect();
        let mut parts = parts.into_iter();
        let first = parts
            .next()
            .unwrap_or_else(|| self.backward_of(&inputs, upstream, 0..0));
        let mut sums: [Vec<f32>; N] = first.try_into().expect("a gradient an input");
        for part in parts {
            for (place, (sum, part)) in sums.iter_mut().zip(part).enumerate() {
                match place % 2 {
                    0 => sum.extend(part),
                    _ => add(&part, sum),
                }
            }
        }
        sums
    }
}

impl Pool {
    /// Scores of a block of matches `[N, columns]`: values, and for an attention its logits.
    fn forward(self, block: &mut [Vec<f32>], scores: &mut [f32]) {
        let columns = scores.len();
        let (values, logits) = block.split_at_mut(1);
        match self {
            Self::Attention => softmax_sum(&values[0], &mut logits[0], scores),
            Self::Largest(count) => {
                for (column, score) in scores.iter_mut().enumerate() {
                    let chosen = largest(&values[0], column, columns, count);
                    *score = chosen.iter().map(|&(value, _)| value).sum::<f32>() / count as f32;
                }
            }
        }
    }

    /// Replaces a block of matches by their gradients, from those of the scores.
    fn backward(self, block: &mut [Vec<f32>], upstream: &[f32]) {
        let columns = upstream.len();
        let (values, logits) = block.split_at_mut(1);
        let values = &mut values[0];
        match self {
            Self::Attention => {
                let weights = &mut logits[0];
                let mut scores = vec![0.0; columns];
                softmax_sum(values, weights, &mut scores);
                softmax_sum_backward_in_place(weights, values, &scores, upstream);
            }
            Self::Largest(count) => {
                let mut gradient = vec![0.0; values.len()];
                for (column, &upstream) in upstream.iter().enumerate() {
                    for (_, token) in largest(values, column, columns, count) {
                        gradient[token * columns + column] = upstream / count as f32;
                    }
                }
                *values = gradient;
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    const IMAGES: usize = 3;
    const TOKENS: usize = 7;
    const WIDTHS: [usize; 2] = [5, 4];
    /// More than a block of labels.
    const COUNT: usize = LABELS + 9;

    type Score = fn([Pair; 2]) -> Tensor<2>;

    /// Scores and the gradients of all inputs that have one.
    fn run(inputs: &[Tensor<1>], upstream: &Tensor<2>, score: Score) -> Vec<Tensor<1>> {
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
        let mut gradients = (out.clone() * upstream.clone()).sum().backward();
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
        let upstream = draw(IMAGES * COUNT).reshape([IMAGES, COUNT]);
        let ours = run(&inputs, &upstream, ours);
        let theirs = run(&inputs, &upstream, theirs);
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
