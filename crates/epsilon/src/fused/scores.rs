//! Matches of M semantic vectors an image with label vectors, and their maximum over the M, as one operation on the
//! CPU device. It works through a few images and labels at a time, so `[B, M, C]` is never whole.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Device, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::device;
use crate::profile::{Part, fused, timed};
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::vector::fma;
use epsilon_kernels::vectorised;

/// Images that a thread works on at once.
const IMAGES: usize = 8;
/// Labels that a thread works on at once: 256 vectors 300 wide are 300 KB and stay in L2.
const LABELS: usize = 256;

/// `max_m S_m . v_c`: scores `[B, C]` of semantic vectors `[B, M, d]` and label vectors `[C, d]`, on any device; the one
/// operation where the label vectors are frozen.
pub(crate) fn best_match(vectors: Tensor<3>, labels: &Tensor<2>) -> Tensor<2> {
    if runs_on(&vectors) && !labels.is_autodiff() {
        return max_over_groups(vectors, labels);
    }
    let [images, _, _] = vectors.dims();
    let [count, _] = labels.dims();
    matches(vectors, labels).max_dim(1).reshape([images, count])
}

/// `S_m . v_c`, `[B, M, C]`.
pub(crate) fn matches(vectors: Tensor<3>, labels: &Tensor<2>) -> Tensor<3> {
    let [images, groups, width] = vectors.dims();
    let [count, _] = labels.dims();
    vectors
        .reshape([images * groups, width])
        .matmul(labels.clone().transpose())
        .reshape([images, groups, count])
}

/// Whether the operation runs where these vectors live.
fn runs_on(vectors: &Tensor<3>) -> bool {
    fused()
        && vectors.device().inner() == Device::flex()
        && vectors.dims()[1] <= usize::from(u8::MAX)
}

fn max_over_groups(vectors: Tensor<3>, labels: &Tensor<2>) -> Tensor<2> {
    let [images, groups, width] = vectors.dims();
    let labels = device::flex(labels.clone().inner());
    let sizes = Sizes {
        groups,
        width,
        labels: labels.layout().shape()[0],
    };
    let shape = [images, sizes.labels];
    if !vectors.is_autodiff() {
        let (scores, _) = run_forward(&sizes, &device::flex(vectors), &labels);
        return Tensor::from_primitive::<Flex>(device::flex_from(scores, &shape));
    }
    let (vectors, node) = device::flex_parts(vectors);
    let (scores, winners) = run_forward(&sizes, &vectors, &labels);
    let output = device::flex_from(scores, &shape);
    let result = match Step
        .prepare::<NoCheckpointing>([node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(step) => {
            let state = State {
                sizes,
                labels,
                winners,
            };
            step.finish(state, output)
        }
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(result)
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    groups: usize,
    width: usize,
    labels: usize,
}

/// Scores `[B, C]` and the group that won each.
fn run_forward(sizes: &Sizes, vectors: &FlexTensor, labels: &FlexTensor) -> (Vec<f32>, Vec<u8>) {
    let Sizes {
        groups,
        width,
        labels: count,
    } = *sizes;
    let (vectors, labels) = (device::values(vectors), device::values(labels));
    let images = vectors.len() / (groups * width);
    let mut scores = vec![f32::NEG_INFINITY; images * count];
    let mut winners = vec![0; images * count];
    scores
        .par_chunks_mut(IMAGES * count)
        .zip(winners.par_chunks_mut(IMAGES * count))
        .zip(vectors.par_chunks(IMAGES * groups * width))
        .for_each(|((scores, winners), vectors)| {
            timed(Part::Scores, || {
                let rows = vectors.len() / width;
                let mut matches = vec![0.0; rows * LABELS.min(count)];
                for (block, labels) in labels.chunks(LABELS * width).enumerate() {
                    let columns = labels.len() / width;
                    let matches = &mut matches[..rows * columns];
                    let left = Matrix::new(vectors, rows, width);
                    let right = Matrix::new(labels, columns, width).transposed();
                    product(matches, Into::Replace, left, right, 1);
                    for (image, matches) in matches.chunks_exact(groups * columns).enumerate() {
                        let place = image * count + block * LABELS;
                        let scores = &mut scores[place..][..columns];
                        largest(matches, scores, &mut winners[place..][..columns]);
                    }
                }
            });
        });
    (scores, winners)
}

vectorised! {
    /// Of matches `[M, C]`: the largest a column and its row, where it exceeds what `scores` holds.
    pub(crate) fn largest(matches: &[f32], scores: &mut [f32], winners: &mut [u8]) {
        for (group, matches) in matches.chunks_exact(scores.len()).enumerate() {
            for ((score, winner), &value) in scores.iter_mut().zip(winners.iter_mut()).zip(matches) {
                // Not a number wins too, so that a diverged model shows.
                let wins = value > *score || value.is_nan();
                *score = if wins { value } else { *score };
                *winner = if wins { group as u8 } else { *winner };
            }
        }
    }
}

vectorised! {
    /// Adds each label's vector, times the gradient of its score, to the gradient of the group that won it.
    pub(crate) fn spread(labels: &[f32], upstream: &[f32], winners: &[u8], out: &mut [f32]) {
        let width = labels.len() / upstream.len();
        let pulls = upstream.iter().zip(winners).zip(labels.chunks_exact(width));
        for ((&pull, &winner), label) in pulls {
            let out = &mut out[usize::from(winner) * width..][..width];
            for (out, &value) in out.iter_mut().zip(label) {
                *out = fma::<FMA>(pull, value, *out);
            }
        }
    }
}

#[derive(Debug, Clone)]
struct State {
    sizes: Sizes,
    labels: FlexTensor,
    winners: Vec<u8>,
}

#[derive(Debug)]
struct Step;

impl Backward<Flex, 1> for Step {
    type State = State;

    fn backward(self, ops: Ops<State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let [Some(parent)] = ops.parents else { return };
        let State {
            sizes,
            labels,
            winners,
        } = ops.state;
        let images = winners.len() / sizes.labels;
        let result = run_backward(
            &sizes,
            device::values(&labels),
            &winners,
            device::values(&upstream),
        );
        let shape = [images, sizes.groups, sizes.width];
        gradients.register::<Flex>(parent.id, device::flex_from(result, &shape));
    }
}

/// The gradient of the semantic vectors, `[B, M, d]`.
fn run_backward(sizes: &Sizes, labels: &[f32], winners: &[u8], upstream: &[f32]) -> Vec<f32> {
    let Sizes {
        groups,
        width,
        labels: count,
    } = *sizes;
    let mut result = vec![0.0; winners.len() / count * groups * width];
    result
        .par_chunks_mut(IMAGES * groups * width)
        .zip(winners.par_chunks(IMAGES * count))
        .zip(upstream.par_chunks(IMAGES * count))
        .for_each(|((result, winners), upstream)| {
            timed(Part::Scores, || {
                for (block, labels) in labels.chunks(LABELS * width).enumerate() {
                    let columns = labels.len() / width;
                    for (image, out) in result.chunks_exact_mut(groups * width).enumerate() {
                        let place = image * count + block * LABELS;
                        let (upstream, winners) =
                            (&upstream[place..][..columns], &winners[place..][..columns]);
                        spread(labels, upstream, winners, out);
                    }
                }
            });
        });
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    /// More images and labels than are worked on at once, and not a multiple of either.
    #[test]
    fn equals_the_frameworks_product_and_maximum() {
        let device = Device::flex();
        device.seed(3);
        let draw = |rows: usize, width: usize| -> Tensor<2> {
            Tensor::random([rows, width], Distribution::Normal(0.0, 1.0), &device)
        };
        let (images, groups, width, count) = (11, 5, 12, 300);
        let vectors = draw(images * groups, width).reshape([images, groups, width]);
        let (labels, upstream) = (draw(count, width), draw(images, count));
        let run = |fused: bool| {
            let leaf = vectors.clone().autodiff().require_grad();
            let scores = if fused {
                max_over_groups(leaf.clone(), &labels)
            } else {
                let flat = leaf.clone().reshape([images * groups, width]);
                let matches = flat.matmul(labels.clone().transpose());
                matches
                    .reshape([images, groups, count])
                    .max_dim(1)
                    .reshape([images, count])
            };
            let mut gradients = (scores.clone() * upstream.clone()).sum().backward();
            let gradient = leaf.grad_remove(&mut gradients).unwrap();
            [scores.inner().flatten::<1>(0, 1), gradient.flatten(0, 2)]
        };
        for (ours, theirs) in run(true).into_iter().zip(run(false)) {
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 2e-5, "{worst} apart");
        }
        let plain = max_over_groups(vectors.clone(), &labels);
        let tracked = max_over_groups(vectors.autodiff(), &labels).inner();
        let worst: f32 = (plain - tracked).abs().max().into_scalar();
        assert_eq!(worst, 0.0);
    }

    #[test]
    fn not_a_number_shows() {
        let (mut scores, mut winners) = (vec![f32::NEG_INFINITY; 2], vec![0; 2]);
        largest(&[1.0, f32::NAN, 3.0, 2.0], &mut scores, &mut winners);
        assert_eq!((scores[0], winners[0]), (3.0, 1));
        assert!(scores[1].is_nan() && winners[1] == 0);
    }
}
