//! A multilayer perceptron of one vector of an image, with dropout while it trains.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use rand_chacha::ChaCha8Rng;

use super::MethodError;
use super::input::dropout;
use crate::parameters::{self, Spec, Weights};

/// `x -> W_L relu(... relu(x W_1 + b_1) ...) + b_L`.
pub(super) struct Perceptron<'a> {
    /// What the names of its weights start with.
    pub prefix: &'a str,
    /// The name of the last layer.
    pub last: &'a str,
    /// Widths of the hidden layers.
    pub hidden: &'a [usize],
    /// Share of the hidden values that a training step leaves out.
    pub dropout: f64,
}

impl Perceptron<'_> {
    /// Its weights, for `inputs` values in and `outputs` out.
    ///
    /// # Errors
    /// [`MethodError::Setting`] for a hidden layer of no width and a dropout outside [0, 1).
    pub(super) fn specs(&self, inputs: usize, outputs: usize) -> Result<Vec<Spec>, MethodError> {
        if self.hidden.contains(&0) {
            return Err(MethodError::Setting("hidden = 0: give at least 1".into()));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(MethodError::Setting(format!(
                "dropout = {}: give a share from 0 to below 1",
                self.dropout
            )));
        }
        let mut specs = Vec::new();
        let mut width = inputs;
        for (layer, &hidden) in self.hidden.iter().enumerate() {
            specs.extend(parameters::linear(&self.name(layer), width, hidden));
            width = hidden;
        }
        let last = format!("{}{}", self.prefix, self.last);
        specs.extend(parameters::linear(&last, width, outputs));
        Ok(specs)
    }

    /// Its output `[B, outputs]`; hidden values are dropped where a generator is given.
    pub(super) fn forward(
        &self,
        weights: &Weights,
        mut x: Tensor<2>,
        mut rng: Option<&mut ChaCha8Rng>,
    ) -> Tensor<2> {
        for layer in 0..self.hidden.len() {
            let (weight, bias) = weights.linear(&self.name(layer));
            x = relu(x.matmul(weight) + bias.unsqueeze());
            if let Some(rng) = &mut rng {
                x = dropout(x, self.dropout, rng);
            }
        }
        let (weight, bias) = weights.linear(&format!("{}{}", self.prefix, self.last));
        x.matmul(weight) + bias.unsqueeze()
    }

    /// Hidden values of an image.
    pub(super) fn live_values(&self) -> usize {
        3 * self.hidden.iter().sum::<usize>()
    }

    fn name(&self, layer: usize) -> String {
        format!("{}hidden.{layer}", self.prefix)
    }
}
