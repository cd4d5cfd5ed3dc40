//! Scores that pool the matches of every token with a label, as one operation on the CPU device: by an attention of each
//! label over the tokens, or by the mean of the largest. It works through an image and some labels at a time. Where the labels
//! are few, the backward pass finds the matches again as the forward pass left them; where they are many it computes them anew,
//! so that a large `[B, N, C]` is never whole.

use std::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use super::shares;
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::rows::{softmax_sum, softmax_sum_backward_in_place};

/// Labels that a thread works on at once.
const LABELS: usize = 128;
/// The most matches that are kept for the backward pass.
const KEPT: usize = 1 << 23;

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

    /// Writes the matches of one image and some labels: those of each pair in turn, `[N, columns]`.
    fn block(&self, inputs: &[&[f32]], image: usize, labels: &Range<usize>, out: &mut [f32]) {
        let pairs = inputs.chunks_exact(2).zip(&self.widths);
        let outs = out.chunks_exact_mut(self.tokens * labels.len());
        for ((pair, &width), out) in pairs.zip(outs) {
            let (tokens, labels) = self.sides(pair, width, image, labels);
            product(out, Into::Replace, tokens, labels.transposed(), 1);
        }
    }

    /// Matches of an image and so many labels, of all pairs.
    fn matches(&self, labels: usize) -> usize {
        self.widths.len() * self.tokens * labels
    }

    /// Whether the forward pass leaves its matches.
    fn keeps(&self) -> bool {
        self.images * self.matches(self.labels) <= KEPT
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

    /// Of some images: the gradients of their tokens, and their share of those of the labels; nothing where none is wanted.
    fn backward_of<const N: usize>(
        &self,
        inputs: [&[f32]; N],
        kept: &Kept,
        upstream: &[f32],
        wanted: [bool; N],
        images: Range<usize>,
    ) -> [Vec<f32>; N] {
        let first = images.start;
        let mut out = std::array::from_fn(|place| {
            let rows = match (wanted[place], place % 2) {
                (false, _) => 0,
                (true, 0) => images.len() * self.tokens,
                (true, _) => self.labels,
            };
            vec![0.0; rows * self.widths[place / 2]]
        });
        let mut block = Vec::new();
        for image in images {
            for labels in self.label_blocks() {
                let columns = image * self.labels + labels.start..image * self.labels + labels.end;
                block.resize(self.matches(labels.len()), 0.0);
                match kept
                    .matches
                    .get(self.matches(columns.start)..self.matches(columns.end))
                {
                    Some(kept) => block.copy_from_slice(kept),
                    None => {
                        self.block(&inputs, image, &labels, &mut block);
                        self.pool.forward(&mut block, &mut vec![0.0; labels.len()]);
                    }
                }
                let scores = &kept.scores[columns.clone()];
                self.pool.backward(&mut block, scores, &upstream[columns]);
                let pairs = inputs.chunks_exact(2).zip(out.chunks_exact_mut(2));
                let slopes = block.chunks_exact(self.tokens * labels.len());
                for (((pair, out), &width), slopes) in pairs.zip(&self.widths).zip(slopes) {
                    let (tokens, of_labels) = self.sides(pair, width, image, &labels);
                    let slopes = Matrix::new(slopes, self.tokens, labels.len());
                    if !out[0].is_empty() {
                        let size = self.tokens * width;
                        let to = &mut out[0][(image - first) * size..][..size];
                        product(to, Into::Add, slopes, of_labels, 1);
                    }
                    if !out[1].is_empty() {
                        let to = &mut out[1][labels.start * width..labels.end * width];
                        product(to, Into::Add, slopes.transposed(), tokens, 1);
                    }
                }
            }
        }
        out
    }
}

/// What the backward pass reads.
#[derive(Debug, Default)]
struct Kept {
    /// The blocks of all images as [`Pool::forward`] leaves them; empty where they are too many.
    matches: Vec<f32>,
    scores: Vec<f32>,
}

/// On the values of one or two pairs, tokens and labels of each in turn.
impl<const N: usize> Operation<N> for Pooled {
    type Kept = Kept;

    fn forward(&self, inputs: [&[f32]; N], keep: bool) -> (Vec<f32>, Kept) {
        let mut scores = vec![0.0; self.images * self.labels];
        let of_image = self.matches(self.labels);
        let all = if keep && self.keeps() {
            self.images * of_image
        } else {
            0
        };
        let mut matches = vec![0.0; all];
        let images = scores.par_chunks_mut(self.labels).enumerate();
        let work = |(image, scores): (usize, &mut [f32]), matches: &mut [f32]| {
            let mut own = Vec::new();
            for labels in self.label_blocks() {
                let block = if matches.is_empty() {
                    own.resize(self.matches(labels.len()), 0.0);
                    &mut own[..]
                } else {
                    &mut matches[self.matches(labels.start)..self.matches(labels.end)]
                };
                self.block(&inputs, image, &labels, block);
                self.pool.forward(block, &mut scores[labels]);
            }
        };
        if matches.is_empty() {
            images.for_each(|image| work(image, &mut []));
        } else {
            let matches = matches.par_chunks_mut(of_image);
            images
                .zip(matches)
                .for_each(|(image, matches)| work(image, matches));
        }
        let kept = if keep { scores.clone() } else { Vec::new() };
        (
            scores,
            Kept {
                matches,
                scores: kept,
            },
        )
    }

    fn backward(
        &self,
        inputs: [&[f32]; N],
        kept: &Kept,
        upstream: &[f32],
        wanted: [bool; N],
    ) -> [Vec<f32>; N] {
        let by_image = std::array::from_fn(|place| place % 2 == 0);
        shares::gradients(self.images, by_image, |images| {
            self.backward_of(inputs, kept, upstream, wanted, images)
        })
    }
}

impl Pool {
    /// Scores of a block of matches `[N, columns]`: values, and for an attention its logits, which become their softmax.
    fn forward(self, block: &mut [f32], scores: &mut [f32]) {
        let columns = scores.len();
        match self {
            Self::Attention => {
                let (values, logits) = block.split_at_mut(block.len() / 2);
                softmax_sum(values, logits, scores);
            }
            Self::Largest(count) => {
                for (column, score) in scores.iter_mut().enumerate() {
                    let chosen = largest(block, column, columns, count);
                    *score = chosen.iter().map(|&(value, _)| value).sum::<f32>() / count as f32;
                }
            }
        }
    }

    /// Replaces a block that [`Pool::forward`] has left by the gradients of its matches, from scores and their gradients.
    fn backward(self, block: &mut [f32], scores: &[f32], upstream: &[f32]) {
        let columns = upstream.len();
        match self {
            Self::Attention => {
                let (values, weights) = block.split_at_mut(block.len() / 2);
                softmax_sum_backward_in_place(weights, values, scores, upstream);
            }
            Self::Largest(count) => {
                let chosen: Vec<_> = (0..columns)
                    .map(|column| largest(block, column, columns, count))
                    .collect();
                block.fill(0.0);
                for (column, (chosen, &upstream)) in chosen.iter().zip(upstream).enumerate() {
                    for (_, token) in chosen {
                        block[token * columns + column] = upstream / count as f32;
                    }
                }
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

    /// The blocks of matches that the forward pass leaves, and those computed anew, give the same gradients.
    #[test]
    fn kept_matches_change_nothing() {
        let device = Device::flex();
        device.seed(4);
        let draw = |length: usize| -> Vec<f32> {
            let x = Tensor::<1>::random([length], Distribution::Normal(0.0, 1.0), &device);
            crate::device::host(&x)
        };
        let sizes = |pool, widths: &[usize]| Pooled {
            images: IMAGES,
            tokens: TOKENS,
            labels: COUNT,
            widths: widths.to_vec(),
            pool,
        };
        let sides: Vec<Vec<f32>> = WIDTHS
            .iter()
            .flat_map(|width| [draw(IMAGES * TOKENS * width), draw(COUNT * width)])
            .collect();
        let upstream = draw(IMAGES * COUNT);
        let inputs: [&[f32]; 4] = std::array::from_fn(|place| &sides[place][..]);
        let (attention, largest) = (
            sizes(Pool::Attention, &WIDTHS),
            sizes(Pool::Largest(3), &WIDTHS[..1]),
        );
        compare_kept(&attention, inputs, &upstream);
        compare_kept(&largest, [inputs[0], inputs[1]], &upstream);
    }

    fn compare_kept<const N: usize>(pooled: &Pooled, inputs: [&[f32]; N], upstream: &[f32]) {
        let (_, kept) = pooled.forward(inputs, true);
        assert!(!kept.matches.is_empty());
        let without = Kept {
            matches: Vec::new(),
            scores: kept.scores.clone(),
        };
        let gradients = |kept: &Kept| pooled.backward(inputs, kept, upstream, [true; N]);
        let expected = gradients(&without);
        assert_eq!(gradients(&kept), expected);
        // What is not wanted is not computed.
        let wanted = std::array::from_fn(|place| place == 1);
        let one = pooled.backward(inputs, &kept, upstream, wanted);
        assert_eq!(one[1], expected[1]);
        assert!(one[0].is_empty());
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
