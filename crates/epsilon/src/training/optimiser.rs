//! Adam with coupled L2 (the penalty's gradient joins the loss's, as in the paper), in one pass over each weight.

use burn::backend::Flex;
use burn::tensor::{Device, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::device;
use crate::kernels::vector;
use crate::parameters::Weights;

/// Values of a weight that a thread takes at once.
const CHUNK: usize = 1 << 16;

/// Adam's constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AdamSettings {
    /// Coupled L2: this times the weight is added to its gradient.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self {
            weight_decay: 4e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        }
    }
}

/// Adam's state over the weights of a method.
pub struct Adam {
    settings: AdamSettings,
    /// Steps taken.
    pub(super) steps: u64,
    /// First and second moments, in the order of the weights.
    pub(super) moments: Vec<[Tensor<1>; 2]>,
}

impl Adam {
    /// A fresh state for these weights.
    pub fn new(settings: AdamSettings, weights: &Weights) -> Self {
        let moments = weights
            .values()
            .iter()
            .map(|w| [w.zeros_like(), w.zeros_like()])
            .collect();
        Self {
            settings,
            steps: 0,
            moments,
        }
    }

    /// One step down `gradients` (one per weight, in order) at this learning rate.
    pub fn step(&mut self, weights: &mut Weights, gradients: Vec<Tensor<1>>, learning_rate: f64) {
        self.steps += 1;
        let AdamSettings {
            weight_decay,
            beta1,
            beta2,
            epsilon,
        } = self.settings;
        let steps = self.steps as i32;
        // w -= rate * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
        let correction = (1.0 - beta2.powi(steps)).sqrt();
        let rate = learning_rate / (1.0 - beta1.powi(steps)) * correction;
        let epsilon = epsilon * correction;
        let moved = weights
            .take()
            .into_iter()
            .zip(gradients)
            .zip(&mut self.moments)
            .map(|((weight, gradient), moments)| {
                let [first, second] = moments.clone();
                // Dropped here so that the values are held once and can be changed in place.
                *moments = [
                    Tensor::empty([0], &weight.device()),
                    Tensor::empty([0], &weight.device()),
                ];
                let (weight, first, second) = if weight.device() == Device::flex() {
                    let constants = [weight_decay, beta1, beta2, epsilon, rate].map(|c| c as f32);
                    step_in_place(weight, first, second, gradient, constants)
                } else {
                    let gradient = gradient + weight.clone() * weight_decay;
                    let first = first * beta1 + gradient.clone() * (1.0 - beta1);
                    let second = second * beta2 + gradient.clone() * gradient * (1.0 - beta2);
                    let step = first.clone() / (second.clone().sqrt() + epsilon) * rate;
                    (weight - step, first, second)
                };
                *moments = [first, second];
                weight
            })
            .collect();
        weights.put(moved);
    }
}

fn step_in_place(
    weight: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    gradient: Tensor<1>,
    constants: [f32; 5],
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let gradient = device::flex(gradient);
    let [mut weight, mut first, mut second] = [weight, first, second].map(device::flex);
    weight
        .storage_mut()
        .par_chunks_mut(CHUNK)
        .zip(first.storage_mut().par_chunks_mut(CHUNK))
        .zip(second.storage_mut().par_chunks_mut(CHUNK))
        .zip(device::values(&gradient).par_chunks(CHUNK))
        .for_each(|(((weight, first), second), gradient)| {
            vector::adam(gradient, weight, first, second, constants);
        });
    let back = |tensor: FlexTensor| Tensor::from_primitive::<Flex>(tensor);
    (back(weight), back(first), back(second))
}

/// Scales gradients so that their joint length is at most `limit`.
pub fn clip(gradients: Vec<Tensor<1>>, limit: f64) -> Vec<Tensor<1>> {
    let square: f64 = gradients
        .iter()
        .map(|g| f64::from((g.clone() * g.clone()).sum().into_scalar::<f32>()))
        .sum();
    let length = square.sqrt();
    if length <= limit {
        return gradients;
    }
    gradients
        .into_iter()
        .map(|g| g * (limit / length))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{Spec, Start};
    use burn::tensor::TensorData;

    fn tensor(values: &[f32]) -> Tensor<1> {
        Tensor::from_data(
            TensorData::new(values.to_vec(), [values.len()]),
            &Device::flex(),
        )
    }

    fn one(value: f32) -> Weights {
        let specs = vec![Spec::new("w", &[1], Start::Constant(value))];
        Weights::from_values(
            specs,
            [("w".to_string(), vec![value])].into(),
            &Device::flex(),
        )
        .unwrap()
    }

    /// The first step of Adam moves by the learning rate, whatever the gradient's size.
    #[test]
    fn first_two_steps_by_hand() {
        let settings = AdamSettings {
            weight_decay: 0.5,
            ..AdamSettings::default()
        };
        let mut weights = one(2.0);
        let mut adam = Adam::new(settings, &weights);
        adam.step(&mut weights, vec![tensor(&[3.0])], 0.1);
        let value = |weights: &Weights| device::host(&weights.values()[0])[0];
        assert!((value(&weights) - 1.9).abs() < 1e-6);
        // g2 = 1 + .5 * 1.9 = 1.95; m = .9 * .4 + .1 * 1.95 = .555; v = .999 * .016 + .001 * 3.8025
        adam.step(&mut weights, vec![tensor(&[1.0])], 0.1);
        let (m, v) = (
            0.555 / 0.19,
            (0.999 * 0.016 + 0.001 * 1.95f64.powi(2)) / (1.0 - 0.999f64.powi(2)),
        );
        let expected = 1.9 - 0.1 * m / v.sqrt();
        assert!(
            (f64::from(value(&weights)) - expected).abs() < 1e-5,
            "{}",
            value(&weights)
        );
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let clipped = clip(vec![tensor(&[3.0]), tensor(&[4.0])], 1.0);
        let values: Vec<f32> = clipped.iter().flat_map(device::host).collect();
        assert!((values[0] - 0.6).abs() < 1e-6 && (values[1] - 0.8).abs() < 1e-6);
        let untouched = clip(vec![tensor(&[0.3])], 1.0);
        assert_eq!(device::host(&untouched[0]), vec![0.3]);
    }
}
