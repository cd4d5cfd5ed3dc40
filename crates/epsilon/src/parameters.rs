//! Named weights of a network: how they are drawn, kept, read and written.
//!
//! Every weight is held flat (rank 1) beside its shape, so one optimiser and one file format serve all methods.

use std::collections::BTreeMap;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand::{Rng, RngExt};

use crate::device;

/// Weights that do not fit what is specified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// A weight that is needed and not there.
    #[error("weight `{0}` is missing")]
    Missing(String),
    /// A weight with another number of values than its shape holds.
    #[error("weight `{name}` has {found} values where its shape {expected:?} holds {}", expected.iter().product::<usize>())]
    Shape {
        /// The weight.
        name: String,
        /// The shape specified.
        expected: Vec<usize>,
        /// Number of values found.
        found: usize,
    },
    /// More values than any machine of today trains.
    #[error(
        "weight `{name}` of shape {shape:?}: all weights together may hold {MOST} values: choose a smaller network"
    )]
    TooMany {
        /// The weight with which they are too many.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
}

/// Values of all weights of a method together: 8 GiB, and training holds several times that.
const MOST: usize = 1 << 31;

/// Checks, before memory is asked for, that weights are few enough to be held.
///
/// # Errors
/// [`WeightError::TooMany`].
pub(crate) fn check_count(specs: &[Spec]) -> Result<(), WeightError> {
    let mut count = 0_usize;
    for spec in specs {
        let values = spec
            .shape
            .iter()
            .try_fold(1, |values: usize, &side| values.checked_mul(side));
        match values.and_then(|values| count.checked_add(values)) {
            Some(sum) if sum <= MOST => count = sum,
            _ => {
                return Err(WeightError::TooMany {
                    name: spec.name.clone(),
                    shape: spec.shape.clone(),
                });
            }
        }
    }
    Ok(())
}

/// How a weight starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// All values equal.
    Constant(f32),
    /// Normal with this standard deviation, cut at two standard deviations (as timm's `trunc_normal_`).
    TruncatedNormal(f32),
    /// Normal with this standard deviation.
    Normal(f32),
    /// Uniform in `[-bound, bound]`.
    Uniform(f32),
}

impl Start {
    /// The usual start of a linear map that reads `inputs` values: uniform in `±1/sqrt(inputs)`.
    pub fn linear(inputs: usize) -> Self {
        Start::Uniform(1.0 / (inputs.max(1) as f32).sqrt())
    }

    fn draw(self, rng: &mut impl Rng) -> f32 {
        match self {
            Start::Constant(value) => value,
            Start::Uniform(bound) => rng.random_range(-bound..=bound),
            Start::Normal(deviation) => standard_normal(rng) * deviation,
            Start::TruncatedNormal(deviation) => loop {
                let value = standard_normal(rng);
                if value.abs() <= 2.0 {
                    return value * deviation;
                }
            },
        }
    }
}

/// Box-Muller's cosine branch: one standard normal value from two uniform ones.
pub(crate) fn standard_normal(rng: &mut impl Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
}

/// Name, shape and start of one weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Name in the model file, such as `gfp.split.weight`.
    pub name: String,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// First values.
    pub start: Start,
    /// Whether gradients change it; otherwise it is only kept with the model, such as running statistics.
    pub trained: bool,
}

impl Spec {
    /// A weight of this name, shape and start.
    pub fn new(name: impl Into<String>, shape: &[usize], start: Start) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            start,
            trained: true,
        }
    }

    /// The same, kept with the model and changed by no gradient.
    #[must_use]
    pub fn kept(self) -> Self {
        Self {
            trained: false,
            ..self
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the weight holds no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Weight and bias of a linear map `x [.., inputs] -> [.., outputs]`, the weight stored `[inputs, outputs]`.
pub fn linear(name: &str, inputs: usize, outputs: usize) -> [Spec; 2] {
    let start = Start::linear(inputs);
    [
        Spec::new(format!("{name}.weight"), &[inputs, outputs], start),
        Spec::new(format!("{name}.bias"), &[outputs], start),
    ]
}

/// Named weights on a device, in the order of their specification.
///
/// ```
/// use epsilon::burn::tensor::{Device, Tensor};
/// use epsilon::parameters::{Spec, Start, Weights};
///
/// let specs = vec![Spec::new("scale", &[1, 2], Start::Constant(3.0))];
/// let mut rng = epsilon::batch::Draws::of(0, 0, 0).rng();
/// let weights = Weights::draw(specs, &mut rng, &Device::flex());
/// let scale: Tensor<2> = weights.get("scale");
/// assert_eq!(scale.dims(), [1, 2]);
/// assert_eq!(weights.count(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct Weights {
    specs: Vec<Spec>,
    values: Vec<Tensor<1>>,
    places: BTreeMap<String, usize>,
}

impl Weights {
    /// Draws fresh weights; the same generator state gives the same values on every device.
    pub fn draw(specs: Vec<Spec>, rng: &mut impl Rng, device: &Device) -> Self {
        let values = specs
            .iter()
            .map(|spec| (0..spec.len()).map(|_| spec.start.draw(rng)).collect())
            .collect();
        Self::assemble(specs, values, device)
    }

    /// Weights from values on the host, one vector per specification.
    ///
    /// # Errors
    /// [`WeightError`] names the weight that does not fit.
    pub fn from_values(
        specs: Vec<Spec>,
        mut values: BTreeMap<String, Vec<f32>>,
        device: &Device,
    ) -> Result<Self, WeightError> {
        let ordered = specs
            .iter()
            .map(|spec| {
                let found = values
                    .remove(&spec.name)
                    .ok_or_else(|| WeightError::Missing(spec.name.clone()))?;
                if found.len() != spec.len() {
                    return Err(WeightError::Shape {
                        name: spec.name.clone(),
                        expected: spec.shape.clone(),
                        found: found.len(),
                    });
                }
                Ok(found)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::assemble(specs, ordered, device))
    }

    fn assemble(specs: Vec<Spec>, values: Vec<Vec<f32>>, place: &Device) -> Self {
        let values = values
            .into_iter()
            .map(|value| {
                let length = value.len();
                Tensor::from_data(TensorData::new(value, [length]), place)
            })
            .collect();
        Self::from_tensors(specs, values)
    }

    pub(crate) fn from_tensors(specs: Vec<Spec>, values: Vec<Tensor<1>>) -> Self {
        let places = specs
            .iter()
            .enumerate()
            .map(|(place, spec)| (spec.name.clone(), place))
            .collect();
        Self {
            specs,
            values,
            places,
        }
    }

    /// Specifications, in order.
    pub fn specs(&self) -> &[Spec] {
        &self.specs
    }

    /// Flat values, in the order of [`Weights::specs`].
    pub fn values(&self) -> &[Tensor<1>] {
        &self.values
    }

    /// Specifications and flat values of the weights that gradients change, in order.
    pub fn trained(&self) -> impl Iterator<Item = (&Spec, &Tensor<1>)> {
        let all = self.specs.iter().zip(&self.values);
        all.filter(|(spec, _)| spec.trained)
    }

    /// Passes every trained weight through `change`, in order; it is held nowhere else meanwhile.
    pub(crate) fn change(&mut self, mut change: impl FnMut(usize, Tensor<1>) -> Tensor<1>) {
        let all = self.specs.iter().zip(&mut self.values);
        let trained = all.filter(|(spec, _)| spec.trained);
        for (place, (_, value)) in trained.enumerate() {
            let nothing = Tensor::empty([0], &value.device());
            *value = change(place, std::mem::replace(value, nothing));
        }
    }

    /// Moves every weight, those that are only kept too, a share of the way towards another's value of the same name.
    pub(crate) fn move_towards(&mut self, other: &Self, share: f64) {
        for (value, other) in self.values.iter_mut().zip(&other.values) {
            let nothing = Tensor::empty([0], &value.device());
            let before = std::mem::replace(value, nothing);
            *value = before * (1.0 - share) + other.clone() * share;
        }
    }

    /// Replaces the flat values of a weight.
    ///
    /// # Panics
    /// When the method names a weight it did not specify.
    pub fn set(&mut self, name: &str, value: Tensor<1>) {
        let place = self.place(name);
        self.values[place] = value;
    }

    /// Replaces the values of a weight by values on the host.
    ///
    /// # Panics
    /// When the method names a weight it did not specify, or gives another number of values: defects of the method.
    pub fn set_host(&mut self, name: &str, values: Vec<f32>, place: &Device) {
        let length = values.len();
        assert_eq!(length, self.specs[self.place(name)].len(), "`{name}`");
        self.set(
            name,
            Tensor::from_data(TensorData::new(values, [length]), place),
        );
    }

    fn place(&self, name: &str) -> usize {
        let place = self.places.get(name);
        *place.unwrap_or_else(|| panic!("the method specifies no weight `{name}`"))
    }

    /// Number of values in all trained weights.
    pub fn count(&self) -> usize {
        self.trained().map(|(spec, _)| spec.len()).sum()
    }

    /// Whether there is a weight of this name.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The weight of this name in the shape it was specified with.
    ///
    /// # Panics
    /// When the method asks for a name or a rank it did not specify: a defect of the method, not of its input.
    pub fn get<const R: usize>(&self, name: &str) -> Tensor<R> {
        let place = self.place(name);
        let shape: [usize; R] = self.specs[place].shape[..]
            .try_into()
            .unwrap_or_else(|_| panic!("`{name}` is not of rank {R}"));
        self.values[place].clone().reshape(shape)
    }

    /// The flat values of the weight of this name.
    ///
    /// # Panics
    /// When the method names a weight it did not specify.
    pub fn get_flat(&self, name: &str) -> Tensor<1> {
        self.values[self.place(name)].clone()
    }

    /// Weight and bias of the linear map of this name.
    pub fn linear(&self, name: &str) -> (Tensor<2>, Tensor<1>) {
        (
            self.get(&format!("{name}.weight")),
            self.get(&format!("{name}.bias")),
        )
    }

    /// A copy whose trained values are leaves of a fresh autodiff graph.
    #[must_use]
    pub fn tracked(&self) -> Self {
        let track = |(spec, value): (&Spec, &Tensor<1>)| match spec.trained {
            true => value.clone().autodiff().require_grad(),
            false => value.clone().autodiff(),
        };
        Self {
            specs: self.specs.clone(),
            values: self.specs.iter().zip(&self.values).map(track).collect(),
            places: self.places.clone(),
        }
    }

    /// Gradients of tracked weights that are trained, flat, in order; zeros where the loss does not depend on one.
    pub fn gradients(&self, gradients: &mut Gradients) -> Vec<Tensor<1>> {
        self.trained()
            .map(|(_, leaf)| {
                leaf.grad_remove(gradients)
                    .unwrap_or_else(|| leaf.clone().inner().zeros_like())
            })
            .collect()
    }

    /// Values copied to the host, by name.
    pub fn to_host(&self) -> Vec<(Spec, Vec<f32>)> {
        self.specs
            .iter()
            .cloned()
            .zip(self.values.iter().map(device::host))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn truncated_normal_keeps_within_two_deviations_and_has_its_spread() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let values: Vec<f32> = (0..20_000)
            .map(|_| Start::TruncatedNormal(0.02).draw(&mut rng))
            .collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let deviation =
            (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32).sqrt();
        assert!(values.iter().all(|v| v.abs() <= 0.04));
        assert!(mean.abs() < 5e-4, "mean {mean}");
        // A normal cut at two deviations keeps 0.880 of its standard deviation.
        assert!(
            (deviation / 0.02 - 0.880).abs() < 0.02,
            "deviation {deviation}"
        );
    }

    #[test]
    fn a_missing_and_a_misshapen_weight_are_named() {
        let specs = linear("fuser", 2, 3).to_vec();
        let device = Device::flex();
        let missing = Weights::from_values(specs.clone(), BTreeMap::new(), &device);
        assert!(missing.unwrap_err().to_string().contains("fuser.weight"));
        let values = BTreeMap::from([
            ("fuser.weight".to_string(), vec![0.0; 6]),
            ("fuser.bias".to_string(), vec![0.0; 2]),
        ]);
        let misshapen = Weights::from_values(specs, values, &device);
        assert!(misshapen.unwrap_err().to_string().contains("fuser.bias"));
    }
}
