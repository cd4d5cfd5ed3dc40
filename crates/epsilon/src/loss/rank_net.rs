//! RankNet's pairwise logistic loss over positive and negative labels (Epsilon's L_r; Fast0Tag's and SDL's too).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{ScoreLoss, by_image};
use crate::batch::Targets;
use crate::profile::{Phase, timed};
use epsilon_kernels::vector;

/// `alpha`, the weight of one pair of an image's ranking loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairWeight {
    /// `1 / (|P| |n|)`: the mean over pairs.
    PositivesNegatives,
    /// `1 / |P|`: as SDL's public code.
    Positives,
}

/// Which labels of an image are its negatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Negatives {
    /// Every label that is not positive.
    NotPositive,
    /// Only labels annotated as absent (-1).
    Annotated,
}

impl Negatives {
    /// Whether a label of this value (+1, -1 or 0) is a negative.
    pub fn holds(self, value: i8) -> bool {
        match self {
            Self::NotPositive => value <= 0,
            Self::Annotated => value < 0,
        }
    }
}

/// `sum_b weight_b alpha_b sum_{p in P_b} sum_{n in n_b} log(1 + exp(s_n - s_p))` of scores `[B, C]`.
///
/// An image without a positive or without a negative adds nothing. `weight` has one value an image.
///
/// ```
/// use epsilon::batch::Targets;
/// use epsilon::burn::tensor::{Device, Tensor};
/// use epsilon::loss::{Negatives, PairWeight, rank_net};
///
/// let scores = Tensor::<2>::from_data([[1.0, 1.0]], &Device::flex());
/// let targets = Targets::new(vec![1, -1], 2);
/// let loss = rank_net(scores, &targets, Negatives::Annotated, PairWeight::Positives, &[1.0]);
/// assert!((loss.value - 2f64.ln()).abs() < 1e-6);
/// ```
pub fn rank_net(
    scores: Tensor<2>,
    targets: &Targets,
    negatives: Negatives,
    alpha: PairWeight,
    weight: &[f32],
) -> ScoreLoss {
    by_image(scores, targets, |image, scores, targets, gradient| {
        let weight = weight[image];
        timed(Phase::Loss, || {
            image_loss(scores, targets, negatives, alpha, weight, gradient)
        })
    })
}

/// The loss of one list of scores with their targets, whose gradient it writes.
pub(super) fn image_loss(
    scores: &[f32],
    targets: &[i8],
    negatives: Negatives,
    alpha: PairWeight,
    weight: f32,
    gradient: &mut [f32],
) -> f64 {
    let positive: Vec<usize> = (0..targets.len()).filter(|&c| targets[c] > 0).collect();
    let negative: Vec<usize> = (0..targets.len())
        .filter(|&c| negatives.holds(targets[c]))
        .collect();
    if positive.is_empty() || negative.is_empty() {
        return 0.0;
    }
    let pairs = match alpha {
        PairWeight::PositivesNegatives => positive.len() * negative.len(),
        PairWeight::Positives => positive.len(),
    };
    let factor = weight / pairs as f32;
    let others: Vec<f32> = negative.iter().map(|&n| scores[n]).collect();
    let mut pull = vec![0.0; negative.len()];
    let mut total = 0.0;
    for &p in &positive {
        let mut sums = [0.0; 2];
        vector::logistic_pairs(&others, scores[p], &mut pull, &mut sums);
        total += sums[0];
        gradient[p] = -factor * sums[1] as f32;
    }
    for (&n, pull) in negative.iter().zip(pull) {
        gradient[n] = factor * pull;
    }
    total * f64::from(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use burn::tensor::{Device, TensorData};

    fn run(
        scores: &[f32],
        targets: &[i8],
        alpha: PairWeight,
        negatives: Negatives,
    ) -> (f64, Vec<f32>) {
        let labels = scores.len();
        let device = Device::flex().autodiff();
        let leaf = Tensor::<2>::from_data(TensorData::new(scores.to_vec(), [1, labels]), &device)
            .require_grad();
        let targets = Targets::new(targets.to_vec(), labels);
        let loss = rank_net(leaf.clone(), &targets, negatives, alpha, &[1.0]);
        let gradients = loss.scalar.backward();
        (loss.value, device::host(&leaf.grad(&gradients).unwrap()))
    }

    #[test]
    fn equal_scores_give_log_two() {
        let (value, _) = run(
            &[0.3; 5],
            &[1, -1, 1, 0, -1],
            PairWeight::PositivesNegatives,
            Negatives::NotPositive,
        );
        assert!((value - 2f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn settings_count_the_pairs_they_name() {
        let (scores, targets) = ([0.0; 5], [1, -1, 1, 0, -1]);
        let (value, _) = run(
            &scores,
            &targets,
            PairWeight::Positives,
            Negatives::NotPositive,
        );
        assert!((value - 3.0 * 2f64.ln()).abs() < 1e-6);
        let (value, gradient) = run(
            &scores,
            &targets,
            PairWeight::Positives,
            Negatives::Annotated,
        );
        assert!((value - 2.0 * 2f64.ln()).abs() < 1e-6);
        assert_eq!(gradient[3], 0.0);
    }

    #[test]
    fn an_image_without_a_negative_adds_nothing() {
        let (value, gradient) = run(
            &[1.0, 2.0],
            &[1, 1],
            PairWeight::Positives,
            Negatives::NotPositive,
        );
        assert_eq!((value, gradient), (0.0, vec![0.0, 0.0]));
    }

    #[test]
    fn gradient_by_finite_differences() {
        let scores: Vec<f32> = (0..40)
            .map(|i| ((i * 37 % 23) as f32 - 11.0) / 4.0)
            .collect();
        let targets: Vec<i8> = (0..40).map(|i| if i % 9 == 0 { 1 } else { -1 }).collect();
        let loss = |scores: &[f32]| {
            run(
                scores,
                &targets,
                PairWeight::PositivesNegatives,
                Negatives::NotPositive,
            )
        };
        let (_, gradient) = loss(&scores);
        for i in 0..scores.len() {
            let moved = |by: f32| {
                let mut scores = scores.clone();
                scores[i] += by;
                loss(&scores).0
            };
            let slope = (moved(0.0625) - moved(-0.0625)) / 0.125;
            assert!(
                (slope - f64::from(gradient[i])).abs() < 2e-5,
                "{i}: {slope} {}",
                gradient[i]
            );
        }
    }
}
