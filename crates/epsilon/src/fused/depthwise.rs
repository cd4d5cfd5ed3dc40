//! A depth-wise 3 x 3 convolution over a grid of tokens, channels last, as one operation with its own backward pass on the
//! CPU device. (The framework's backward pass takes a channel at a time.)

use std::ops::Range;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::vector::{add, add_nine_products, nine_products};

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

/// Channels that are worked on at once: the taps and three rows of the grid stay in L1.
const CHANNELS: usize = 256;
/// What stands outside the grid.
static OUTSIDE: [f32; CHANNELS] = [0.0; CHANNELS];

/// One image's values at a token, of some channels.
struct Image<'a> {
    values: &'a [f32],
    channels: usize,
    part: Range<usize>,
}

impl<'a> Image<'a> {
    fn at(&self, token: usize) -> &'a [f32] {
        &self.values[token * self.channels..][self.part.clone()]
    }

    fn at_all(&self, tokens: [Option<usize>; TAPS]) -> [&'a [f32]; TAPS] {
        tokens.map(|token| token.map_or(&OUTSIDE[..self.part.len()], |token| self.at(token)))
    }
}

impl Depthwise {
    fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// The tokens that the taps of each token's window read, `None` outside the grid.
    fn neighbours(&self) -> Vec<[Option<usize>; TAPS]> {
        let reach = |from: usize, by: usize, end: usize| {
            (from + by).checked_sub(1).filter(|&place| place < end)
        };
        let of = |token: usize| {
            std::array::from_fn(|tap| {
                let row = reach(token / self.width, tap / 3, self.height)?;
                let column = reach(token % self.width, tap % 3, self.width)?;
                Some(row * self.width + column)
            })
        };
        (0..self.height * self.width).map(of).collect()
    }

    /// The channels, some at a time.
    fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let channels = self.channels;
        (0..channels)
            .step_by(CHANNELS)
            .map(move |first| first..channels.min(first + CHANNELS))
    }

    /// Of every token the sum of its neighbours with their taps.
    fn sums(&self, x: &[f32], taps: [&[f32]; TAPS]) -> Vec<f32> {
        let neighbours = self.neighbours();
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(self.image())
            .zip(x.par_chunks(self.image()))
            .for_each(|(out, values)| {
                for part in self.parts() {
                    let taps = taps.map(|tap| &tap[part.clone()]);
                    let image = Image {
                        values,
                        channels: self.channels,
                        part: part.clone(),
                    };
                    for (token, tokens) in neighbours.iter().enumerate() {
                        let out = &mut out[token * self.channels..][part.clone()];
                        nine_products(image.at_all(*tokens), taps, out);
                    }
                }
            });
        out
    }

    /// The gradient of the taps.
    fn taps_gradient(&self, x: &[f32], upstream: &[f32]) -> Vec<f32> {
        let neighbours = self.neighbours();
        let parts: Vec<Vec<f32>> = upstream
            .par_chunks(self.image())
            .zip(x.par_chunks(self.image()))
            .map(|(upstream, x)| self.taps_gradient_of(&neighbours, x, upstream))
            .collect();
        // In the order of the images, whatever thread had them.
        let mut sum = vec![0.0; TAPS * self.channels];
        for part in parts {
            add(&part, &mut sum);
        }
        sum
    }

    /// That of one image.
    fn taps_gradient_of(
        &self,
        neighbours: &[[Option<usize>; TAPS]],
        x: &[f32],
        upstream: &[f32],
    ) -> Vec<f32> {
        let mut out = vec![0.0; TAPS * self.channels];
        for part in self.parts() {
            let image = |values| Image {
                values,
                channels: self.channels,
                part: part.clone(),
            };
            let (x, upstream) = (image(x), image(upstream));
            let mut sums = vec![0.0; TAPS * part.len()];
            for (token, tokens) in neighbours.iter().enumerate() {
                add_nine_products(x.at_all(*tokens), upstream.at(token), &mut sums);
            }
            for (tap, sums) in sums.chunks_exact(part.len()).enumerate() {
                out[tap * self.channels..][part.clone()].copy_from_slice(sums);
            }
        }
        out
    }

    /// The taps, first to last.
    fn taps<'a>(&self, weight: &'a [f32]) -> [&'a [f32]; TAPS] {
        std::array::from_fn(|tap| &weight[tap * self.channels..][..self.channels])
    }
}

impl Operation<2> for Depthwise {
    type Kept = ();

    fn forward(&self, [x, weight]: [&[f32]; 2], _: bool) -> (Vec<f32>, ()) {
        (self.sums(x, self.taps(weight)), ())
    }

    /// A token's gradient comes from its neighbours, through the taps that look the other way.
    fn backward(
        &self,
        [x, weight]: [&[f32]; 2],
        (): &(),
        upstream: &[f32],
        [x_wanted, weight_wanted]: [bool; 2],
    ) -> [Vec<f32>; 2] {
        let mut x_gradient = Vec::new();
        if x_wanted {
            let mut taps = self.taps(weight);
            taps.reverse();
            x_gradient = self.sums(upstream, taps);
        }
        let mut weight_gradient = Vec::new();
        if weight_wanted {
            weight_gradient = self.taps_gradient(x, upstream);
        }
        [x_gradient, weight_gradient]
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
