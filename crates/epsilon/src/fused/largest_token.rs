//! The largest value of every channel over the tokens, as one operation on the CPU device; the framework's own elsewhere.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};

/// `max over the tokens` of `x [U, N, C]`: `[U, 1, C]`. The first of equals has the gradient; a value that is not a number wins.
pub(crate) fn largest_token(x: Tensor<3>) -> Tensor<3> {
    if !runs_on(&x) {
        return x.max_dim(1);
    }
    let [units, tokens, channels] = x.dims();
    let sizes = LargestToken { tokens, channels };
    run(sizes, [x.into()], [units, 1, channels]).0
}

#[derive(Debug, Clone)]
struct LargestToken {
    tokens: usize,
    channels: usize,
}

impl Operation<1> for LargestToken {
    /// The token of each result.
    type Kept = Vec<u32>;

    fn forward(&self, [x]: [&[f32]; 1], _: bool) -> (Vec<f32>, Vec<u32>) {
        let unit = self.tokens * self.channels;
        let count = x.len() / self.tokens;
        let (mut out, mut winners) = (vec![0.0; count], vec![0; count]);
        out.par_chunks_mut(self.channels)
            .zip(winners.par_chunks_mut(self.channels))
            .zip(x.par_chunks(unit))
            .for_each(|((out, winners), x)| {
                out.copy_from_slice(&x[..self.channels]);
                for (token, row) in (0..).zip(x.chunks_exact(self.channels)).skip(1) {
                    for ((best, winner), &value) in out.iter_mut().zip(&mut *winners).zip(row) {
                        let wins = value > *best || (value.is_nan() && !best.is_nan());
                        *best = if wins { value } else { *best };
                        *winner = if wins { token } else { *winner };
                    }
                }
            });
        (out, winners)
    }

    fn backward(
        &self,
        [x]: [&[f32]; 1],
        winners: &Vec<u32>,
        upstream: &[f32],
        _: [bool; 1],
    ) -> [Vec<f32>; 1] {
        let mut gradient = vec![0.0; x.len()];
        gradient
            .par_chunks_mut(self.tokens * self.channels)
            .zip(winners.par_chunks(self.channels))
            .zip(upstream.par_chunks(self.channels))
            .for_each(|((gradient, winners), upstream)| {
                for (channel, (&winner, &upstream)) in winners.iter().zip(upstream).enumerate() {
                    gradient[winner as usize * self.channels + channel] = upstream;
                }
            });
        [gradient]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn values_and_gradients_by_hand() {
        let values = vec![1.0f32, 5.0, 3.0, 5.0, 2.0, f32::NAN];
        let data = TensorData::new(values, [1, 3, 2]);
        let x = Tensor::<3>::from_data(data, &Device::flex())
            .autodiff()
            .require_grad();
        let out = largest_token(x.clone());
        let found = crate::device::host(&out.clone().inner());
        assert!(found[0] == 3.0 && found[1].is_nan());
        let weights = TensorData::new(vec![10.0f32, 20.0], [1, 1, 2]);
        let mut gradients = (out * Tensor::from_data(weights, &Device::flex()))
            .sum()
            .backward();
        let gradient = crate::device::host(&x.grad_remove(&mut gradients).unwrap());
        assert_eq!(gradient, [0.0, 0.0, 10.0, 0.0, 0.0, 20.0]);
    }
}
