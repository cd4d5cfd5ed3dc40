//! Binary cross-entropy of every label, for classifiers.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use super::{Negatives, ScoreLoss, by_image};
use crate::batch::Targets;

/// Binary cross-entropy with hard targets: `sum_b mean_c log(1 + exp(-+ s_c))`, minus for positive labels and plus for negative ones, of logits `[B, C]`; the mean is
/// over the labels that are one or the other.
///
/// ```
/// use epsilon::batch::Targets;
/// use epsilon::burn::tensor::{Device, Tensor};
/// use epsilon::loss::{Negatives, cross_entropy};
///
/// let logits = Tensor::<2>::from_data([[0.0, 2.0]], &Device::flex());
/// let loss = cross_entropy(logits, &Targets::new(vec![1, -1], 2), Negatives::Annotated);
/// assert!((loss.value - (2f64.ln() + (1.0 + 2f64.exp()).ln()) / 2.0).abs() < 1e-6);
/// ```
pub fn cross_entropy(logits: Tensor<2>, targets: &Targets, negatives: Negatives) -> ScoreLoss {
    by_image(logits, targets, |_, logits, targets, gradient| {
        let known = |&c: &usize| targets[c] > 0 || negatives.holds(targets[c]);
        let labels = 0..targets.len();
        let count = labels.clone().filter(known).count().max(1) as f64;
        let mut sum = 0.0;
        for c in labels.filter(known) {
            let sign = if targets[c] > 0 { -1.0 } else { 1.0 };
            let logit = sign * f64::from(logits[c]);
            sum += logit.max(0.0) + (-logit.abs()).exp().ln_1p();
            gradient[c] = (sign / (1.0 + (-logit).exp()) / count) as f32;
        }
        sum / count
    })
}

/// Binary cross-entropy with targets in 0..1, value by value, as an expression that can be differentiated:
/// `log(1 + exp(s)) - s t`.
pub(crate) fn soft_cross_entropy(logits: Tensor<2>, targets: &Tensor<2>) -> Tensor<2> {
    let tail = logits.clone().abs().neg().exp().log1p();
    relu(logits.clone()) - logits * targets.clone() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn by_hand() {
        let device = Device::flex().autodiff();
        let leaf =
            Tensor::<2>::from_data(TensorData::new(vec![0.0f32, 2.0, 100.0], [1, 3]), &device)
                .require_grad();
        let targets = Targets::new(vec![1, -1, 0], 3);
        let run = |negatives| {
            let loss = cross_entropy(leaf.clone(), &targets, negatives);
            let gradients = loss.scalar.backward();
            (loss.value, device::host(&leaf.grad(&gradients).unwrap()))
        };
        let second = (1.0 + 2f64.exp()).ln();
        let (value, gradient) = run(Negatives::Annotated);
        assert!((value - (2f64.ln() + second) / 2.0).abs() < 1e-6);
        assert!((gradient[0] + 0.25).abs() < 1e-6 && gradient[2] == 0.0);
        assert!((f64::from(gradient[1]) - 0.5 / (1.0 + (-2f64).exp())).abs() < 1e-6);
        let (value, gradient) = run(Negatives::NotPositive);
        assert!((value - (2f64.ln() + second + 100.0) / 3.0).abs() < 1e-6);
        assert!((gradient[2] - 1.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn soft_targets_by_hand_and_far_out() {
        let row = |values: [f32; 4]| Tensor::<2>::from_data([values], &Device::flex());
        let logits = row([0.0, 2.0, 200.0, -200.0]);
        let values = device::host(&soft_cross_entropy(logits, &row([0.3, 1.0, 0.0, 1.0])));
        let expected = [2f32.ln(), (1.0 + (-2f32).exp()).ln(), 200.0, 200.0];
        let pairs = values.iter().zip(expected);
        assert!(
            pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4),
            "{values:?}"
        );
    }
}
