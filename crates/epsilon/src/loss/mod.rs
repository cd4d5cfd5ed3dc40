//! Losses that the methods share.
//!
//! A ranking loss is computed on the host, value and gradient together, from scores `[B, C]`; the gradient then enters
//! the graph as that of a scalar with exactly this gradient. It is small beside the network, and one form serves every
//! device.

mod cross_entropy;
mod hinge;
mod image_ranking;
mod rank_net;
mod variance;
mod warp;

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

pub use cross_entropy::cross_entropy;
pub(crate) use cross_entropy::soft_cross_entropy;
pub use hinge::hinge;
pub use rank_net::{Negatives, PairWeight, rank_net};
pub use variance::{group_variance, omega};
pub use warp::warp;

use crate::batch::Targets;
use crate::device;

/// A loss over scores: its value, and a scalar tensor whose gradient with respect to the scores is the loss's.
pub struct ScoreLoss {
    /// The value.
    pub value: f64,
    /// The scalar whose backward pass gives the gradient; its own value means nothing.
    pub scalar: Tensor<1>,
}

/// A loss that is a sum over images, worked out in parallel: `of` gives the value of an image from its number, scores and
/// targets, and adds its gradient to a row of zeros.
fn by_image(
    scores: Tensor<2>,
    targets: &Targets,
    of: impl Fn(usize, &[f32], &[i8], &mut [f32]) -> f64 + Sync,
) -> ScoreLoss {
    let scores = targets.ranked(scores);
    let host = device::host(&scores);
    let labels = targets.labels();
    let mut gradient = vec![0.0; host.len()];
    let rows: Vec<&[i8]> = targets.rows().collect();
    let by_label = image_ranking::of(&host, targets);
    let values: Vec<f64> = gradient
        .par_chunks_mut(labels)
        .zip(host.par_chunks(labels))
        .zip(rows)
        .enumerate()
        .map(|(image, ((gradient, scores), targets))| of(image, scores, targets, gradient))
        .collect();
    let mut value = values.iter().sum();
    if let Some((of_images, more)) = by_label {
        value += of_images;
        let both = gradient.iter_mut().zip(more);
        both.for_each(|(sum, more)| *sum += more);
    }
    with_gradient(scores, value, gradient)
}

/// Ties a gradient `[B, C]` to the scores it belongs to.
fn with_gradient(scores: Tensor<2>, value: f64, gradient: Vec<f32>) -> ScoreLoss {
    let shape = scores.dims();
    let gradient = Tensor::from_data(TensorData::new(gradient, shape), &scores.device().inner());
    ScoreLoss {
        value,
        scalar: (scores * gradient).sum(),
    }
}
