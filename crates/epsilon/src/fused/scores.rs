//! Matches of M semantic vectors an image with label vectors, and their maximum over the M, as one operation on the
//! CPU device. It works through a few images and labels at a time, so `[B, M, C]` is never whole.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use crate::device;
use crate::profile::{Phase, timed};
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::rows::{add_to_winners, largest_of_groups};

/// Images that a thread works on at once.
const IMAGES: usize = 8;
/// Labels that a thread works on at once: 256 vectors 300 wide are 300 KB and stay in L2.
const LABELS: usize = 256;

/// `max_m S_m . v_c`: scores `[B, C]` of semantic vectors `[B, M, d]` and label vectors `[C, d]`, on any device; the one
/// operation where the label vectors are frozen.
pub(crate) fn best_match(vectors: Tensor<3>, labels: &Tensor<2>) -> Tensor<2> {
    if can_run(&vectors) && !labels.is_autodiff() {
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

/// Whether the operation runs where these vectors live, and a byte holds the number of a group.
fn can_run(vectors: &Tensor<3>) -> bool {
    runs_on(vectors) && vectors.dims()[1] <= usize::from(u8::MAX)
}

fn max_over_groups(vectors: Tensor<3>, labels: &Tensor<2>) -> Tensor<2> {
    let [images, groups, width] = vectors.dims();
    let labels = device::flex(labels.clone().inner());
    let count = labels.layout().shape()[0];
    let sizes = Sizes {
        groups,
        width,
        labels: count,
    };
    run(
        BestMatch { sizes, labels },
        [vectors.into()],
        [images, count],
    )
    .0
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    groups: usize,
    width: usize,
    labels: usize,
}

/// The operation with its frozen label vectors.
#[derive(Debug, Clone)]
struct BestMatch {
    sizes: Sizes,
    labels: FlexTensor,
}

impl Operation<1> for BestMatch {
    /// The group that won each score.
    type Kept = Vec<u8>;

    fn forward(&self, [vectors]: [&[f32]; 1], _: bool) -> (Vec<f32>, Vec<u8>) {
        let Sizes {
            groups,
            width,
            labels: count,
        } = self.sizes;
        let labels = device::values(&self.labels);
        let images = vectors.len() / (groups * width);
        let mut scores = vec![f32::NEG_INFINITY; images * count];
        let mut winners = vec![0; images * count];
        scores
            .par_chunks_mut(IMAGES * count)
            .zip(winners.par_chunks_mut(IMAGES * count))
            .zip(vectors.par_chunks(IMAGES * groups * width))
            .for_each(|((scores, winners), vectors)| {
                timed(Phase::Scores, || {
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
                            largest_of_groups(matches, scores, &mut winners[place..][..columns]);
                        }
                    }
                });
            });
        (scores, winners)
    }

    fn backward(
        &self,
        _: [&[f32]; 1],
        winners: &Vec<u8>,
        upstream: &[f32],
        _: [bool; 1],
    ) -> [Vec<f32>; 1] {
        let Sizes {
            groups,
            width,
            labels: count,
        } = self.sizes;
        let labels = device::values(&self.labels);
        let mut result = vec![0.0; winners.len() / count * groups * width];
        result
            .par_chunks_mut(IMAGES * groups * width)
            .zip(winners.par_chunks(IMAGES * count))
            .zip(upstream.par_chunks(IMAGES * count))
            .for_each(|((result, winners), upstream)| {
                timed(Phase::Scores, || {
                    for (block, labels) in labels.chunks(LABELS * width).enumerate() {
                        let columns = labels.len() / width;
                        for (image, out) in result.chunks_exact_mut(groups * width).enumerate() {
                            let place = image * count + block * LABELS;
                            let (upstream, winners) =
                                (&upstream[place..][..columns], &winners[place..][..columns]);
                            add_to_winners(labels, upstream, winners, out);
                        }
                    }
                });
            });
        [result]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

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
}
