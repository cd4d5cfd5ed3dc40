//! The images of a label ranked among those of a batch, beside the labels of an image: average precision ranks images, and a loss
//! that ranks the labels of an image leaves the level of an image's scores open.

use super::rank_net::{Negatives, PairWeight, image_loss};
use crate::batch::Targets;

/// [`Targets::ranking_images`] of scores `[B, C]`: its value and gradient `[B, C]`; `None` where its weight is 0. A label that is
/// not positive for an image is a negative of it.
pub(super) fn of(scores: &[f32], targets: &Targets) -> Option<(f64, Vec<f32>)> {
    let weight = targets.image_ranking();
    if weight == 0.0 {
        return None;
    }
    let (images, labels) = (targets.rows().len(), targets.labels());
    let column = |label: usize| -> Vec<i8> { targets.rows().map(|row| row[label]).collect() };
    let is_ranked = |column: &[i8]| column.iter().any(|&v| v > 0) && column.iter().any(|&v| v <= 0);
    let columns = (0..labels).map(|label| (label, column(label)));
    let ranked: Vec<(usize, Vec<i8>)> = columns.filter(|(_, column)| is_ranked(column)).collect();
    let factor = (weight * images as f64 / ranked.len().max(1) as f64) as f32;
    let (mut value, mut gradient) = (0.0, vec![0.0; scores.len()]);
    for (label, truths) in ranked {
        let places = (label..scores.len()).step_by(labels);
        let of_label: Vec<f32> = places.clone().map(|place| scores[place]).collect();
        let mut slopes = vec![0.0; images];
        let (negatives, alpha) = (Negatives::NotPositive, PairWeight::PositivesNegatives);
        value += image_loss(&of_label, &truths, negatives, alpha, factor, &mut slopes);
        for (place, slope) in places.zip(slopes) {
            gradient[place] = slope;
        }
    }
    Some((value, gradient))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images and three labels, of which the last is positive for both and ranks nothing.
    #[test]
    fn two_labels_by_hand() {
        let targets = Targets::new(vec![1, -1, 1, -1, 1, 1], 3);
        let scores = [0.0, 1.0, 9.0, 0.0, 3.0, 9.0];
        assert!(of(&scores, &targets).is_none());
        let (value, gradient) = of(&scores, &targets.ranking_images(0.5)).unwrap();
        // 0.5 times 2 images times the mean of log 2 and log(1 + exp(1 - 3)).
        let expected = 0.5 * (2f64.ln() + (-2f64).exp().ln_1p());
        assert!((value - expected).abs() < 1e-6, "{value}");
        let pull = 0.5 / (1.0 + 2f32.exp());
        let expected = [-0.25, pull, 0.0, 0.25, -pull, 0.0];
        for (found, expected) in gradient.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{gradient:?}");
        }
    }
}
