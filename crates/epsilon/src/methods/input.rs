//! What the methods read that know one vector of an image, and dropout on it.

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Dims, InTurn};
use crate::fused::dropped::mask;

/// The one vector of an image. The papers take a CNN's fully connected vector; what it is for a transformer is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// The backbone's global vector: its class token, or a CNN's fully connected vector.
    #[default]
    Global,
    /// The mean of the tokens.
    MeanToken,
    /// Both, one after the other.
    Both,
}

impl Input {
    /// How many values it has.
    pub fn width(self, dims: &Dims) -> usize {
        match self {
            Self::Global => dims.global_width(),
            Self::MeanToken => dims.width,
            Self::Both => dims.global_width() + dims.width,
        }
    }

    /// The vectors of a batch, `[B, width]`.
    pub fn of(self, batch: &Batch) -> Tensor<2> {
        let mean = || batch.tokens.clone().mean_dim(1).squeeze_dim::<2>(1);
        match self {
            Self::Global => batch.global.clone(),
            Self::MeanToken => mean(),
            Self::Both => Tensor::cat(vec![batch.global.clone(), mean()], 1),
        }
    }
}

/// Numbers of rows or columns, to select by.
pub(super) fn numbers(chosen: &[usize], device: &Device) -> Tensor<1, Int> {
    let numbers: Vec<i64> = chosen.iter().map(|&number| number as i64).collect();
    let count = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [count]), device)
}

/// Of scores `[B, labels of the training]` those of the labels that are asked for, `[B, C]`.
pub(super) fn columns(scores: Tensor<2>, batch: &Batch) -> Tensor<2> {
    let chosen = numbers(&batch.columns, &scores.device().inner());
    scores.select(1, chosen)
}

/// The place of the largest value, the first of equals.
pub(super) fn largest(values: &[f32]) -> usize {
    let places = 0..values.len();
    let better = |best, next| {
        if values[next] > values[best] {
            next
        } else {
            best
        }
    };
    places.reduce(better).unwrap_or(0)
}

/// Rows scaled to unit length; a row of zeros stays one.
pub(super) fn unit(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().powf_scalar(2.0).sum_dim(1).sqrt();
    x / length.clamp_min(1e-12)
}

/// Sets a share `rate` of the values to 0 and scales the others up by `1 / (1 - rate)`.
pub(super) fn dropout(x: Tensor<2>, rate: f64, draws: &mut InTurn) -> Tensor<2> {
    if rate == 0.0 {
        return x;
    }
    let shape = x.dims();
    let mask = mask(shape[0] * shape[1], rate, draws);
    let device = x.device().inner();
    x * Tensor::from_data(TensorData::new(mask, shape), &device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Draws;

    #[test]
    fn dropout_keeps_the_mean_and_repeats_itself() {
        let draw = |seed: u64| {
            let x = Tensor::<2>::ones([50, 200], &Device::flex()).autodiff();
            let mut draws = Draws::of(seed, 0, 0).in_turn();
            crate::device::host(&dropout(x, 0.3, &mut draws))
        };
        let values = draw(1);
        let zeros = values.iter().filter(|&&v| v == 0.0).count();
        assert!((zeros as f64 / 1e4 - 0.3).abs() < 0.02, "{zeros}");
        assert!(
            values
                .iter()
                .all(|&v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6)
        );
        assert_eq!(values, draw(1));
        assert_ne!(values, draw(2));
    }
}
