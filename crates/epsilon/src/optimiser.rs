//! Optimisers: Adam, SGD with momentum and RMSProp, each with coupled L2 (the penalty's gradient joins the loss's, as in
//! the paper).

use burn::backend::Flex;
use burn::tensor::{Device, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::device;
use crate::parameters::{Spec, Weights};
use epsilon_kernels::vector;

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

/// Constants of stochastic gradient descent: `u <- momentum u + g`, `w <- w - rate u`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct SgdSettings {
    /// Coupled L2: this times the weight is added to its gradient.
    pub weight_decay: f64,
    /// Share of the last step that goes on.
    pub momentum: f64,
}

impl Default for SgdSettings {
    fn default() -> Self {
        Self {
            weight_decay: 0.0,
            momentum: 0.9,
        }
    }
}

/// RMSProp's constants, in the form of TensorFlow 1, which LESA was trained with: the mean square starts at 1 and epsilon
/// stands inside the root: `v <- decay v + (1 - decay) g^2`, `u <- momentum u + rate g / sqrt(v + epsilon)`, `w <- w - u`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RmsPropSettings {
    /// Coupled L2: this times the weight is added to its gradient.
    pub weight_decay: f64,
    /// Decay of the mean square.
    pub decay: f64,
    /// Share of the last step that goes on.
    pub momentum: f64,
    /// Added to the mean square.
    pub epsilon: f64,
}

impl Default for RmsPropSettings {
    fn default() -> Self {
        Self {
            weight_decay: 0.0,
            decay: 0.9,
            momentum: 0.9,
            epsilon: 1.0,
        }
    }
}

/// An optimiser with its constants.
///
/// ```
/// use epsilon::optimiser::{OptimiserSettings, SgdSettings};
///
/// let settings: OptimiserSettings = toml::from_str("kind = 'sgd'\nmomentum = 0.5")?;
/// let expected = SgdSettings { momentum: 0.5, ..SgdSettings::default() };
/// assert_eq!(settings, OptimiserSettings::Sgd(expected));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OptimiserSettings {
    /// Adam.
    Adam(AdamSettings),
    /// Stochastic gradient descent with momentum.
    Sgd(SgdSettings),
    /// RMSProp with momentum.
    RmsProp(RmsPropSettings),
}

impl Default for OptimiserSettings {
    fn default() -> Self {
        Self::Adam(AdamSettings::default())
    }
}

impl OptimiserSettings {
    /// Names the first constant that is out of its range, and the range.
    pub(crate) fn wrong(&self) -> Option<String> {
        let unit = "give a value from 0 to below 1";
        let below_one = |value: f64| (0.0..1.0).contains(&value);
        let decay = |value: f64| (value >= 0.0 && value.is_finite(), "weight-decay", value);
        let epsilon = |value: f64| (value > 0.0 && value.is_finite(), "epsilon", value);
        let rules = match *self {
            Self::Adam(s) => vec![
                (decay(s.weight_decay), "give 0 or more"),
                ((below_one(s.beta1), "beta1", s.beta1), unit),
                ((below_one(s.beta2), "beta2", s.beta2), unit),
                (epsilon(s.epsilon), "give a value above 0"),
            ],
            Self::Sgd(s) => vec![
                (decay(s.weight_decay), "give 0 or more"),
                ((below_one(s.momentum), "momentum", s.momentum), unit),
            ],
            Self::RmsProp(s) => vec![
                (decay(s.weight_decay), "give 0 or more"),
                ((below_one(s.decay), "decay", s.decay), unit),
                ((below_one(s.momentum), "momentum", s.momentum), unit),
                (epsilon(s.epsilon), "give a value above 0"),
            ],
        };
        let wrong = rules.into_iter().find(|((holds, ..), _)| !holds);
        wrong.map(|((_, name, value), range)| format!("optimiser.{name} = {value}: {range}"))
    }

    fn weight_decay(&self) -> f64 {
        match self {
            Self::Adam(s) => s.weight_decay,
            Self::Sgd(s) => s.weight_decay,
            Self::RmsProp(s) => s.weight_decay,
        }
    }

    /// What each slot beside a weight starts from.
    fn slots(&self) -> &'static [f32] {
        match self {
            Self::Adam(_) => &[0.0, 0.0],
            Self::Sgd(_) => &[0.0],
            Self::RmsProp(_) => &[1.0, 0.0],
        }
    }
}

/// An optimiser's state over the weights of a method.
pub struct Optimiser {
    settings: OptimiserSettings,
    /// Steps taken.
    pub(crate) steps: u64,
    /// What the optimiser remembers of each trained weight, in the order of the weights: moments or last steps.
    pub(crate) slots: Vec<Vec<Tensor<1>>>,
}

impl Optimiser {
    /// A fresh state for these weights.
    pub fn new(settings: OptimiserSettings, weights: &Weights) -> Self {
        let fresh = |(_, w): (&Spec, &Tensor<1>)| {
            let starts = settings.slots().iter();
            starts.map(|&start| w.zeros_like() + start).collect()
        };
        Self {
            settings,
            steps: 0,
            slots: weights.trained().map(fresh).collect(),
        }
    }

    /// One step down `gradients` (one per trained weight, in order) at this learning rate.
    pub fn step(&mut self, weights: &mut Weights, gradients: Vec<Tensor<1>>, learning_rate: f64) {
        self.steps += 1;
        let mut gradients = gradients.into_iter();
        weights.change(|place, weight| {
            let gradient = gradients
                .next()
                .expect("a gradient for every trained weight");
            // Taken out so that the values are held once and can be changed in place.
            let slots = std::mem::take(&mut self.slots[place]);
            let (weight, slots) = self.moved(weight, slots, gradient, learning_rate);
            self.slots[place] = slots;
            weight
        });
    }

    fn moved(
        &self,
        weight: Tensor<1>,
        slots: Vec<Tensor<1>>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        if let OptimiserSettings::Adam(settings) = self.settings {
            let [first, second]: [_; 2] = slots.try_into().expect("Adam keeps two slots");
            return adam(
                settings,
                self.steps,
                weight,
                [first, second],
                gradient,
                learning_rate,
            );
        }
        let gradient = match self.settings.weight_decay() {
            0.0 => gradient,
            decay => gradient + weight.clone() * decay,
        };
        let mut slots = slots.into_iter();
        let mut slot = || slots.next().expect("as many slots as were made");
        match self.settings {
            OptimiserSettings::RmsProp(s) => {
                let square =
                    slot() * s.decay + gradient.clone() * gradient.clone() * (1.0 - s.decay);
                let step = gradient / (square.clone() + s.epsilon).sqrt() * learning_rate;
                let step = slot() * s.momentum + step;
                (weight - step.clone(), vec![square, step])
            }
            OptimiserSettings::Sgd(s) => {
                let step = slot() * s.momentum + gradient;
                (weight - step.clone() * learning_rate, vec![step])
            }
            OptimiserSettings::Adam(_) => unreachable!("handled above"),
        }
    }
}

/// Weights under training, and the state of their optimiser.
pub struct Learner {
    /// What tells it from the others of a training in a checkpoint; empty where it is the only one.
    pub name: &'static str,
    /// The weights.
    pub weights: Weights,
    /// Their optimiser.
    pub optimiser: Optimiser,
}

impl Learner {
    /// Weights before the first step.
    pub fn new(name: &'static str, weights: Weights, settings: OptimiserSettings) -> Self {
        Self {
            name,
            optimiser: Optimiser::new(settings, &weights),
            weights,
        }
    }

    /// One step down a loss at this learning rate; returns the loss before it.
    pub fn step(&mut self, rate: f64, loss: impl FnOnce(&Weights) -> Tensor<1>) -> f64 {
        let tracked = self.weights.tracked();
        let loss = loss(&tracked);
        let value: f32 = loss.clone().inner().into_scalar();
        let gradients = tracked.gradients(&mut loss.backward());
        drop(tracked);
        self.optimiser.step(&mut self.weights, gradients, rate);
        f64::from(value)
    }
}

fn adam(
    settings: AdamSettings,
    steps: u64,
    weight: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
    gradient: Tensor<1>,
    learning_rate: f64,
) -> (Tensor<1>, Vec<Tensor<1>>) {
    let AdamSettings {
        weight_decay,
        beta1,
        beta2,
        epsilon,
    } = settings;
    let steps = steps as i32;
    // w -= rate * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
    let correction = (1.0 - beta2.powi(steps)).sqrt();
    let rate = learning_rate / (1.0 - beta1.powi(steps)) * correction;
    let epsilon = epsilon * correction;
    if weight.device() == Device::flex() {
        let constants = [weight_decay, beta1, beta2, epsilon, rate].map(|c| c as f32);
        return adam_in_place(weight, first, second, gradient, constants);
    }
    let gradient = gradient + weight.clone() * weight_decay;
    let first = first * beta1 + gradient.clone() * (1.0 - beta1);
    let second = second * beta2 + gradient.clone() * gradient * (1.0 - beta2);
    let step = first.clone() / (second.clone().sqrt() + epsilon) * rate;
    (weight - step, vec![first, second])
}

fn adam_in_place(
    weight: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    gradient: Tensor<1>,
    constants: [f32; 5],
) -> (Tensor<1>, Vec<Tensor<1>>) {
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
    (back(weight), vec![back(first), back(second)])
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
        let specs = vec![
            Spec::new("statistics", &[1], Start::Constant(0.0)).kept(),
            Spec::new("w", &[1], Start::Constant(value)),
        ];
        let values = [("w", value), ("statistics", 7.0)];
        let values = values.map(|(name, value)| (name.to_string(), vec![value]));
        Weights::from_values(specs, values.into(), &Device::flex()).unwrap()
    }

    /// The value after each of two steps, the second down a gradient of 1.
    fn two_steps(settings: OptimiserSettings, gradient: f32, rate: f64) -> [f64; 2] {
        let mut weights = one(2.0);
        let mut optimiser = Optimiser::new(settings, &weights);
        [gradient, 1.0].map(|gradient| {
            optimiser.step(&mut weights, vec![tensor(&[gradient])], rate);
            let kept = device::host(&weights.get::<1>("statistics"));
            assert_eq!(kept, [7.0], "only trained weights move");
            f64::from(device::host(&weights.get::<1>("w"))[0])
        })
    }

    /// With an infinite epsilon no weight would ever move.
    #[test]
    fn an_epsilon_out_of_range_is_named() {
        for epsilon in [0.0, -1.0, f64::INFINITY, f64::NAN] {
            let adam = AdamSettings {
                epsilon,
                ..AdamSettings::default()
            };
            let rms_prop = RmsPropSettings {
                epsilon,
                ..RmsPropSettings::default()
            };
            for settings in [
                OptimiserSettings::Adam(adam),
                OptimiserSettings::RmsProp(rms_prop),
            ] {
                let wrong = settings.wrong().unwrap();
                let start = format!("optimiser.epsilon = {epsilon}: ");
                assert!(wrong.starts_with(&start), "{wrong}");
            }
        }
        assert_eq!(OptimiserSettings::default().wrong(), None);
    }

    /// The first step of Adam moves by the learning rate, whatever the gradient's size.
    #[test]
    fn adam_by_hand() {
        let settings = AdamSettings {
            weight_decay: 0.5,
            ..AdamSettings::default()
        };
        let moved = two_steps(OptimiserSettings::Adam(settings), 3.0, 0.1);
        assert!((moved[0] - 1.9).abs() < 1e-6);
        // g2 = 1 + .5 * 1.9 = 1.95; m = .9 * .4 + .1 * 1.95 = .555; v = .999 * .016 + .001 * 3.8025
        let (m, v) = (
            0.555 / 0.19,
            (0.999 * 0.016 + 0.001 * 1.95f64.powi(2)) / (1.0 - 0.999f64.powi(2)),
        );
        let expected = 1.9 - 0.1 * m / v.sqrt();
        assert!((moved[1] - expected).abs() < 1e-5, "{moved:?}");
    }

    #[test]
    fn sgd_by_hand() {
        let settings = SgdSettings {
            weight_decay: 0.5,
            momentum: 0.9,
        };
        let moved = two_steps(OptimiserSettings::Sgd(settings), 3.0, 0.1);
        // u = 3 + .5 * 2 = 4; then .9 * 4 + 1 + .5 * 1.6 = 5.4
        assert!(
            (moved[0] - 1.6).abs() < 1e-6 && (moved[1] - 1.06).abs() < 1e-6,
            "{moved:?}"
        );
    }

    #[test]
    fn rms_prop_by_hand() {
        let settings = OptimiserSettings::RmsProp(RmsPropSettings::default());
        let moved = two_steps(settings, 3.0, 0.1);
        let first = 0.1 * 3.0 / (0.9 + 0.9 + 1.0f64).sqrt();
        let second = 0.9 * first + 0.1 / (0.9 * 1.8 + 0.1 + 1.0f64).sqrt();
        assert!((moved[0] - (2.0 - first)).abs() < 1e-6);
        assert!((moved[1] - (2.0 - first - second)).abs() < 1e-6);
    }

    #[test]
    fn a_constant_out_of_range_is_named() {
        let settings = OptimiserSettings::Sgd(SgdSettings {
            momentum: 1.0,
            ..SgdSettings::default()
        });
        let said = settings.wrong().unwrap();
        assert!(said.contains("optimiser.momentum = 1"), "{said}");
        assert_eq!(OptimiserSettings::default().wrong(), None);
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
