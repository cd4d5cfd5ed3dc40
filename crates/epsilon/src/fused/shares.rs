//! Backward passes that go image by image: the images are shared out among the threads once, and each thread sums the
//! gradients of the weights for itself.

use std::ops::Range;

use epsilon_kernels::vector::add;
use rayon::prelude::*;

/// The gradients that `work` gives for shares of the images, brought together in the order of the images: those of tensors with
/// a part for each image (`by_image`) one after the other, the others added up. An empty one stays empty.
pub(super) fn gradients<const N: usize>(
    images: usize,
    by_image: [bool; N],
    work: impl Fn(Range<usize>) -> [Vec<f32>; N] + Sync,
) -> [Vec<f32>; N] {
    let share = images.div_ceil(rayon::current_num_threads()).max(1);
    let parts: Vec<[Vec<f32>; N]> = (0..images)
        .into_par_iter()
        .step_by(share)
        .map(|first| work(first..images.min(first + share)))
        .collect();
    let mut parts = parts.into_iter();
    let mut sums = parts.next().unwrap_or_else(|| work(0..0));
    for part in parts {
        for ((sum, part), by_image) in sums.iter_mut().zip(part).zip(by_image) {
            match by_image {
                true => sum.extend(part),
                false => add(&part, sum),
            }
        }
    }
    sums
}
