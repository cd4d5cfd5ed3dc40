//! A multilayer perceptron of one vector of an image, with dropout and, where it is wanted, batch normalisation while it trains.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use super::MethodError;
use super::input::dropout;
use super::layers::{batch_norm, norm_specs};
use crate::batch::{Batch, InTurn};
use crate::parameters::{self, Spec, Start, Weights};

/// What a training step has and scoring has not.
pub(super) struct Step {
    pub draws: InTurn,
    /// New values of running statistics.
    pub kept: Vec<(String, Tensor<1>)>,
}

impl Step {
    pub(super) fn of(batch: &Batch) -> Self {
        Self {
            draws: batch.draws.in_turn(),
            kept: Vec::new(),
        }
    }
}

/// `x -> W_L relu(... relu(x W_1 + b_1) ...) + b_L`, with the hidden values normalised over the batch before `relu` where
/// `norm` says so.
pub(super) struct Perceptron<'a> {
    /// What the names of its weights start with.
    pub prefix: &'a str,
    /// The name of the last layer.
    pub last: &'a str,
    /// Widths of the hidden layers.
    pub hidden: &'a [usize],
    /// Share of the hidden values that a training step leaves out.
    pub dropout: f64,
    /// Whether hidden values are normalised over the batch.
    pub norm: bool,
    /// Whether the last layer starts at zero.
    pub zero: bool,
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
            if self.norm {
                specs.extend(norm_specs(&self.norm_name(layer), hidden));
            }
            width = hidden;
        }
        let last = format!("{}{}", self.prefix, self.last);
        let last = parameters::linear(&last, width, outputs);
        specs.extend(last.map(|spec| match self.zero {
            true => Spec {
                start: Start::Constant(0.0),
                ..spec
            },
            false => spec,
        }));
        Ok(specs)
    }

    /// Its output `[B, outputs]`; in a training step hidden values are dropped, and normalised by the batch's own statistics.
    pub(super) fn forward(
        &self,
        weights: &Weights,
        mut x: Tensor<2>,
        mut step: Option<&mut Step>,
    ) -> Tensor<2> {
        for layer in 0..self.hidden.len() {
            let (weight, bias) = weights.linear(&self.name(layer));
            x = x.matmul(weight) + bias.unsqueeze();
            if self.norm {
                let kept = step.as_deref_mut().map(|step| &mut step.kept);
                let name = self.norm_name(layer);
                x = batch_norm(weights, &name, x.unsqueeze_dim(0), kept).squeeze_dim(0);
            }
            x = relu(x);
            if let Some(step) = &mut step {
                x = dropout(x, self.dropout, &mut step.draws);
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

    fn norm_name(&self, layer: usize) -> String {
        format!("{}norm.{layer}", self.prefix)
    }
}
