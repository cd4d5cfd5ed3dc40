//! A depth-wise 3 x 3 convolution over a grid of tokens, channels last, as one operation with its own backward pass on the
//! CPU device. (The framework's backward pass takes a channel at a time.)

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::vector::{add, add_product};

/// Taps of the window, row-major.
pub(crate) const TAPS: usize = 9;

/// `y[b, (i, j), c] = sum_{u, v in -1..=1} w[(u, v), c] x[b, (i + u, j + v), c]` with zeros outside the grid, for tokens
/// `x [B, H W, C]` row-major over a grid of `[H, W]`, and `w [9, C]`.
pub(crate) fn depthwise(x: Tensor<3>, weight: Tensor<2>, [height, width]: [usize; 2]) -> Tensor<3> {
    let [images, tokens, channels] = x.dims();
    assert_eq!(tokens, height * width);
    let sizes = Depthwise {
        height,
        width,
        channels,
    };
    if !runs_on(&x) {
        return by_the_framework(x, weight, &sizes);
    }
    let shape = [images, tokens, channels];
    run(sizes, [x.into(), weight.into()], shape).0
}

/// [`depthwise`] by the framework's operations: nine shifted copies of the padded grid.
fn by_the_framework(x: Tensor<3>, weight: Tensor<2>, sizes: &Depthwise) -> Tensor<3> {
    let &Depthwise {
        height,
        width,
        channels,
    } = sizes;
    let [images, tokens, _] = x.dims();
    let grid = x.reshape([images, height, width, channels]);
    let across = Tensor::zeros([images, height, 1, channels], &grid.device());
    let grid = Tensor::cat(vec![across.clone(), grid, across], 2);
    let above = Tensor::zeros([images, 1, width + 2, channels], &grid.device());
    let grid = Tensor::cat(vec![above.clone(), grid, above], 1);
    let tap = |tap: usize| -> Tensor<4> {
        let window = grid
            .clone()
            .narrow(1, tap / 3, height)
            .narrow(2, tap % 3, width);
        window
            * weight
                .clone()
                .narrow(0, tap, 1)
                .reshape([1, 1, 1, channels])
    };
    let sum = (1..TAPS).fold(tap(0), |sum, place| sum + tap(place));
    sum.reshape([images, tokens, channels])
}

#[derive(Debug, Clone)]
struct Depthwise {
    height: usize,
    width: usize,
    channels: usize,
}

impl Depthwise {
    fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Every tap with every token it moves to another: token read, token written.
    fn moves(&self, mut at: impl FnMut(usize, usize, usize)) {
        let reach = |from: usize, by: usize, end: usize| {
            (from + by).checked_sub(1).filter(|&place| place < end)
        };
        for row in 0..self.height {
            for column in 0..self.width {
                for tap in 0..TAPS {
                    let from = (
                        reach(row, tap / 3, self.height),
                        reach(column, tap % 3, self.width),
                    );
                    if let (Some(i), Some(j)) = from {
                        at(tap, i * self.width + j, row * self.width + column);
                    }
                }
            }
        }
    }
}

fn row(values: &[f32], place: usize, width: usize) -> &[f32] {
    &values[place * width..(place + 1) * width]
}

fn row_mut(values: &mut [f32], place: usize, width: usize) -> &mut [f32] {
    &mut values[place * width..(place + 1) * width]
}

impl Operation<2> for Depthwise {
    type Kept = ();

    fn forward(&self, [x, weight]: [&[f32]; 2], _: bool) -> (Vec<f32>, ()) {
        let channels = self.channels;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(self.image())
            .zip(x.par_chunks(self.image()))
            .for_each(|(out, x)| {
                self.moves(|tap, from, to| {
                    add_product(
                        row(weight, tap, channels),
                        row(x, from, channels),
                        row_mut(out, to, channels),
                    );
                });
            });
        (out, ())
    }

    fn backward(
        &self,
        [x, weight]: [&[f32]; 2],
        (): &(),
        upstream: &[f32],
        [x_wanted, weight_wanted]: [bool; 2],
    ) -> [Vec<f32>; 2] {
        let x_gradient = if x_wanted {
            self.input_gradient(weight, upstream)
        } else {
            Vec::new()
        };
        let weight_gradient = if weight_wanted {
            self.weight_gradient(x, upstream)
        } else {
            Vec::new()
        };
        [x_gradient, weight_gradient]
    }
}

impl Depthwise {
    fn input_gradient(&self, weight: &[f32], upstream: &[f32]) -> Vec<f32> {
        let channels = self.channels;
        let mut out = vec![0.0; upstream.len()];
        out.par_chunks_mut(self.image())
            .zip(upstream.par_chunks(self.image()))
            .for_each(|(out, upstream)| {
                self.moves(|tap, from, to| {
                    add_product(
                        row(weight, tap, channels),
                        row(upstream, to, channels),
                        row_mut(out, from, channels),
                    );
                });
            });
        out
    }

    fn weight_gradient(&self, x: &[f32], upstream: &[f32]) -> Vec<f32> {
        let channels = self.channels;
        let parts: Vec<Vec<f32>> = upstream
            .par_chunks(self.image())
            .zip(x.par_chunks(self.image()))
            .map(|(upstream, x)| {
                let mut part = vec![0.0; TAPS * channels];
                self.moves(|tap, from, to| {
                    add_product(
                        row(x, from, channels),
                        row(upstream, to, channels),
                        row_mut(&mut part, tap, channels),
                    );
                });
                part
            })
            .collect();
        // In the order of the images, whatever thread had them.
        let mut sum = vec![0.0; TAPS * channels];
        for part in parts {
            add(&part, &mut sum);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, TensorData};

    #[test]
    fn a_shift_by_hand() {
        let x = TensorData::new(vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [1, 6, 1]);
        let mut taps = vec![0.0f32; TAPS];
        // Reads the token above and to the left.
        taps[0] = 2.0;
        let weight = TensorData::new(taps, [TAPS, 1]);
        let device = Device::flex();
        let y = depthwise(
            Tensor::from_data(x, &device),
            Tensor::from_data(weight, &device),
            [2, 3],
        );
        assert_eq!(crate::device::host(&y), [0.0, 0.0, 0.0, 0.0, 2.0, 4.0]);
    }

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        let device = Device::flex();
        device.seed(5);
        let sizes = Depthwise {
            height: 3,
            width: 4,
            channels: 5,
        };
        let draw = |length: usize| -> Tensor<1> {
            Tensor::random([length], Distribution::Normal(0.0, 1.0), &device)
        };
        let leaves = [draw(2 * 12 * 5), draw(TAPS * 5)];
        let upstream = draw(2 * 12 * 5).reshape([2, 12, 5]);
        let run = |ours: bool| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [x, weight] = leaves.clone();
            let (x, weight) = (x.reshape([2, 12, 5]), weight.reshape([TAPS, 5]));
            let out = match ours {
                true => depthwise(x, weight, [3, 4]),
                false => by_the_framework(x, weight, &sizes),
            };
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            let mut results = vec![out.inner().flatten::<1>(0, 2)];
            results.extend(leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap()));
            results
        };
        for (ours, theirs) in run(true).into_iter().zip(run(false)) {
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 1e-5, "{worst} apart");
        }
    }
}
