//! WARP: a sampled ranking loss that weighs a violated pair by how high the positive label ranks.

use burn::tensor::Tensor;
use rand::RngExt;

use super::{Negatives, ScoreLoss, by_image};
use crate::batch::{Draws, Targets};

/// For every positive label p, negatives are drawn, with replacement, until one is within the margin, `1 + s_n - s_p > 0`, at
/// most as often as there are negatives. Found at try t it adds `L(r) (1 + s_n - s_p)`, with the rank estimated as
/// `r = floor((C - 1) / t)` and `L(r) = sum_{j <= r} 1 / j`. Scores are `[B, C]`; the sum is over their images.
///
/// ```
/// use epsilon::batch::{Draws, Targets};
/// use epsilon::burn::tensor::{Device, Tensor};
/// use epsilon::loss::{Negatives, warp};
///
/// let scores = Tensor::<2>::from_data([[0.5, 1.0]], &Device::flex());
/// let draws = Draws::of(1, 0, 0);
/// let loss = warp(scores, &Targets::new(vec![1, -1], 2), Negatives::NotPositive, draws);
/// assert_eq!(loss.value, 1.5); // one negative, found at the first try: L(1) (1 + 1.0 - 0.5)
/// ```
pub fn warp(scores: Tensor<2>, targets: &Targets, negatives: Negatives, draws: Draws) -> ScoreLoss {
    let labels = targets.labels();
    let harmonic = harmonic(labels);
    let sampled = |image: usize, scores: &[f32], targets: &[i8], gradient: &mut [f32]| {
        let mut rng = draws.image(image);
        let mut total = 0.0;
        let negative: Vec<usize> = (0..labels)
            .filter(|&c| negatives.holds(targets[c]))
            .collect();
        for p in (0..labels).filter(|&c| targets[c] > 0) {
            let tries = 1..=negative.len();
            let found = tries.into_iter().find_map(|tries| {
                let n = negative[rng.random_range(0..negative.len())];
                let gap = 1.0 + scores[n] - scores[p];
                // A score that is no number counts as violated, so that a diverged model shows.
                (gap > 0.0 || gap.is_nan()).then_some((n, gap, tries))
            });
            if let Some((n, gap, tries)) = found {
                let weight = harmonic[(labels - 1) / tries];
                total += f64::from(gap) * weight;
                gradient[n] += weight as f32;
                gradient[p] -= weight as f32;
            }
        }
        total
    };
    by_image(scores, targets, sampled)
}

/// `L(r)` for r from 0 to below `labels`.
fn harmonic(labels: usize) -> Vec<f64> {
    let mut sums = vec![0.0];
    for j in 1..labels {
        sums.push(sums[j - 1] + 1.0 / j as f64);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    fn run(scores: &[f32], targets: &[i8], seed: u64) -> (f64, Vec<f32>) {
        let labels = scores.len();
        let device = Device::flex().autodiff();
        let leaf = Tensor::<2>::from_data(TensorData::new(scores.to_vec(), [1, labels]), &device)
            .require_grad();
        let targets = Targets::new(targets.to_vec(), labels);
        let draws = Draws::of(seed, 0, 0);
        let loss = warp(leaf.clone(), &targets, Negatives::NotPositive, draws);
        let gradients = loss.scalar.backward();
        (loss.value, device::host(&leaf.grad(&gradients).unwrap()))
    }

    /// One negative, so the first draw finds it: r = C - 1 = 3, L = 1 + 1/2 + 1/3; gaps 1.5 and 0.5, the third is kept.
    #[test]
    fn a_forced_draw_by_hand() {
        let (value, gradient) = run(&[0.5, 1.5, 3.0, 1.0], &[1, 1, 1, -1], 1);
        let weight = 11.0 / 6.0;
        assert!((value - 2.0 * weight).abs() < 1e-6, "{value}");
        let expected = [-weight, -weight, 0.0, 2.0 * weight];
        assert!(
            gradient
                .iter()
                .zip(expected)
                .all(|(g, e)| (f64::from(*g) - e).abs() < 1e-6)
        );
    }

    proptest! {
        /// The weight is that of some number of tries, and value and gradient are those of one violated pair.
        #[test]
        fn one_positive_moves_one_pair(scores in prop::collection::vec(-2.0f32..2.0, 2..12), seed in any::<u64>()) {
            let mut targets = vec![-1; scores.len()];
            targets[0] = 1;
            let (value, gradient) = run(&scores, &targets, seed);
            let moved: Vec<usize> = (1..scores.len()).filter(|&c| gradient[c] != 0.0).collect();
            if let [n] = moved[..] {
                let weight = f64::from(gradient[n]);
                prop_assert!(harmonic(scores.len()).iter().any(|l| (l - weight).abs() < 1e-5));
                prop_assert_eq!(gradient[0], -gradient[n]);
                let gap = f64::from(1.0 + scores[n] - scores[0]);
                prop_assert!(gap > 0.0 && (value - gap * weight).abs() < 1e-4);
            } else {
                prop_assert!(moved.is_empty() && value == 0.0);
            }
        }
    }
}
