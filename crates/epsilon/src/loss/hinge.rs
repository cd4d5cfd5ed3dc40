//! The ranking hinge of LESA and BiAM: every pair of a positive and a negative label a margin apart.

use burn::tensor::Tensor;

use super::{Negatives, ScoreLoss, by_image};
use crate::batch::Targets;

/// Keeps an image without a violated pair from dividing by 0.
const EPSILON: f64 = 1e-8;

/// `sum_b sum_{p, n} [1 + s_n - s_p]+ / (violated pairs of b + 1e-8)` of scores `[B, C]`; the count is held constant in the
/// gradient, as in the public code.
///
/// ```
/// use epsilon::batch::Targets;
/// use epsilon::burn::tensor::{Device, Tensor};
/// use epsilon::loss::{Negatives, hinge};
///
/// // The first negative is half a margin too near, the second far enough away.
/// let scores = Tensor::<2>::from_data([[2.0, 1.5, 0.5]], &Device::flex());
/// let loss = hinge(scores, &Targets::new(vec![1, -1, -1], 3), Negatives::Annotated);
/// assert!((loss.value - 0.5).abs() < 1e-6);
/// ```
pub fn hinge(scores: Tensor<2>, targets: &Targets, negatives: Negatives) -> ScoreLoss {
    by_image(scores, targets, |_, scores, targets, gradient| {
        image_loss(scores, targets, negatives, gradient)
    })
}

fn image_loss(scores: &[f32], targets: &[i8], negatives: Negatives, gradient: &mut [f32]) -> f64 {
    let negative: Vec<usize> = (0..targets.len())
        .filter(|&c| negatives.holds(targets[c]))
        .collect();
    let (mut sum, mut violated) = (0.0, 0_usize);
    for p in (0..targets.len()).filter(|&c| targets[c] > 0) {
        for &n in &negative {
            let gap = 1.0 + scores[n] - scores[p];
            // Written so that a score that is no number shows in the sum.
            if gap <= 0.0 {
                continue;
            }
            sum += f64::from(gap);
            violated += 1;
            gradient[n] += 1.0;
            gradient[p] -= 1.0;
        }
    }
    let factor = 1.0 / (violated as f64 + EPSILON);
    gradient.iter_mut().for_each(|g| *g *= factor as f32);
    sum * factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use burn::tensor::{Device, TensorData};

    fn run(scores: &[f32], targets: &[i8], negatives: Negatives) -> (f64, Vec<f32>) {
        let labels = scores.len();
        let device = Device::flex().autodiff();
        let leaf = Tensor::<2>::from_data(TensorData::new(scores.to_vec(), [1, labels]), &device)
            .require_grad();
        let loss = hinge(
            leaf.clone(),
            &Targets::new(targets.to_vec(), labels),
            negatives,
        );
        let gradients = loss.scalar.backward();
        (loss.value, device::host(&leaf.grad(&gradients).unwrap()))
    }

    /// Positive 2.0; negatives 1.5 (violated by 0.5), 0.5 (kept), 2.5 (by 1.5); unknown 3.0.
    #[test]
    fn violated_pairs_by_hand() {
        let scores = [2.0, 1.5, 0.5, 2.5, 3.0];
        let targets = [1, -1, -1, -1, 0];
        let (value, gradient) = run(&scores, &targets, Negatives::Annotated);
        assert!((value - 1.0).abs() < 1e-6, "{value}");
        assert_eq!(gradient, [-1.0, 0.5, 0.0, 0.5, 0.0]);
        let (value, gradient) = run(&scores, &targets, Negatives::NotPositive);
        assert!((value - 4.0 / 3.0).abs() < 1e-6, "{value}");
        assert!((gradient[4] - 1.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn nothing_violated_is_nothing() {
        let (value, gradient) = run(&[5.0, 1.0], &[1, -1], Negatives::NotPositive);
        assert_eq!((value, gradient), (0.0, vec![0.0, 0.0]));
        let (value, _) = run(&[5.0, 1.0], &[1, 1], Negatives::NotPositive);
        assert_eq!(value, 0.0);
        let (value, _) = run(&[f32::NAN, 1.0], &[1, -1], Negatives::NotPositive);
        assert!(value.is_nan());
    }
}
