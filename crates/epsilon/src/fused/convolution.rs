//! A 3 x 3 convolution over a grid of tokens with a bias and a ReLU, as one operation with its own backward pass, on the CPU
//! device; the framework's own operations elsewhere.
//!
//! Winograd's F(2 x 2, 3 x 3): the grid in tiles of 2 x 2 outputs, each from 4 x 4 inputs `d`. With the matrices below,
//! `Y = A' [(G w G') . (B' d B)] A` element by element in the 16 places, so a place is one matrix product over channels, and
//! there are 16 products of a quarter of the rows instead of 9 of all. Everything but the products is linear with small whole
//! numbers and halves, and the backward pass is made of its transposes: with `M = V U` in a place, `dU = V' dM`, `dV = dM U'`.

use burn::tensor::{Tensor, activation::relu};
use rayon::prelude::*;

use super::linear::column_sums;
use super::operation::{Operation, run, runs_on};
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::vector::{self, add_scaled};

/// Side of a window, of a tile's outputs and of its inputs.
const WINDOW: usize = 3;
const OUT: usize = 2;
const IN: usize = 4;
/// Places of a transformed tile.
const PLACES: usize = IN * IN;

/// `B'`, inputs to places.
const INPUT: [[f32; IN]; IN] = [
    [1.0, 0.0, -1.0, 0.0],
    [0.0, 1.0, 1.0, 0.0],
    [0.0, -1.0, 1.0, 0.0],
    [0.0, 1.0, 0.0, -1.0],
];
/// `G`, taps of the window to places.
const TAPS: [[f32; WINDOW]; IN] = [
    [1.0, 0.0, 0.0],
    [0.5, 0.5, 0.5],
    [0.5, -0.5, 0.5],
    [0.0, 0.0, 1.0],
];
/// `A`, places to outputs.
const OUTPUT: [[f32; OUT]; IN] = [[1.0, 0.0], [1.0, 1.0], [1.0, -1.0], [0.0, -1.0]];

/// `relu(conv(x) + b)`, padded with zeros, of tokens `x [B, H W, D]` row-major over their grid, with `weight [9 D, C]`, the
/// taps row-major and each tap's channels side by side.
pub(crate) fn convolve_relu(
    x: Tensor<3>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    [height, width]: [usize; 2],
) -> Tensor<3> {
    let [images, tokens, inputs] = x.dims();
    assert_eq!(tokens, height * width);
    let outputs = bias.dims()[0];
    if !runs_on(&x) {
        let windows = windows(x, [height, width], WINDOW, true);
        let flat = windows.reshape([images * tokens, WINDOW * WINDOW * inputs]);
        let out = flat.matmul(weight) + bias.unsqueeze();
        return relu(out).reshape([images, tokens, outputs]);
    }
    let sizes = Convolution {
        images,
        height,
        width,
        inputs,
        outputs,
    };
    let shape = [images, tokens, outputs];
    run(sizes, [x.into(), weight.into(), bias.into()], shape).0
}

/// The tokens in a `size x size` window at every place of the grid, side by side: `[B, H' W', size^2 D]`, so that a
/// convolution is a linear map of them. With `padded` places outside the grid hold zeros and the grid keeps its shape (odd
/// sizes); otherwise it shrinks by `size - 1`.
pub(crate) fn windows(
    x: Tensor<3>,
    [height, width]: [usize; 2],
    size: usize,
    padded: bool,
) -> Tensor<3> {
    let [images, _, channels] = x.dims();
    let mut grid = x.reshape([images, height, width, channels]);
    let (mut rows, mut columns) = (height, width);
    if padded {
        let edge = size / 2;
        let across = Tensor::zeros([images, height, edge, channels], &grid.device());
        grid = Tensor::cat(vec![across.clone(), grid, across], 2);
        let above = Tensor::zeros([images, edge, width + 2 * edge, channels], &grid.device());
        grid = Tensor::cat(vec![above.clone(), grid, above], 1);
    } else {
        (rows, columns) = (height + 1 - size, width + 1 - size);
    }
    let window = |place: usize| {
        let (down, right) = (place / size, place % size);
        grid.clone().narrow(1, down, rows).narrow(2, right, columns)
    };
    let windows: Vec<Tensor<4>> = (0..size * size).map(window).collect();
    Tensor::cat(windows, 3).reshape([images, rows * columns, size * size * channels])
}

#[derive(Debug, Clone)]
struct Convolution {
    images: usize,
    height: usize,
    width: usize,
    /// Channels D.
    inputs: usize,
    /// Channels C.
    outputs: usize,
}

/// Rows or columns that a place or an output is made of, with their factors.
fn terms<const N: usize>(factors: [f32; N]) -> impl Iterator<Item = (usize, f32)> + Clone {
    (0..N)
        .map(move |at| (at, factors[at]))
        .filter(|&(_, factor)| factor != 0.0)
}

/// Pairs of row and column terms, as one place and one factor each.
fn pairs<const N: usize>(rows: [f32; N], columns: [f32; N]) -> Vec<([usize; 2], f32)> {
    terms(rows)
        .flat_map(|(i, a)| terms(columns).map(move |(j, b)| ([i, j], a * b)))
        .collect()
}

/// The column of a matrix.
fn column<const N: usize, const M: usize>(matrix: [[f32; M]; N], at: usize) -> [f32; N] {
    matrix.map(|row| row[at])
}

/// An offset from a tile's first value, and the places that it takes part in, with their factors.
type OfOffset = ([usize; 2], Vec<(usize, f32)>);

impl Convolution {
    fn tokens(&self) -> usize {
        self.height * self.width
    }

    fn tile_columns(&self) -> usize {
        self.width.div_ceil(OUT)
    }

    fn tiles(&self) -> usize {
        self.height.div_ceil(OUT) * self.tile_columns()
    }

    /// Tiles of all images.
    fn rows(&self) -> usize {
        self.images * self.tiles()
    }

    /// The token at an offset from a tile's first output, if it is on the grid; inputs begin one before.
    fn token(&self, tile: usize, [down, right]: [usize; 2], before: usize) -> Option<usize> {
        let row = (tile / self.tile_columns() * OUT + down).checked_sub(before)?;
        let column = (tile % self.tile_columns() * OUT + right).checked_sub(before)?;
        (row < self.height && column < self.width).then_some(row * self.width + column)
    }

    /// A place of all tiles from what lies at their offsets: `out [rows, channels]`.
    fn gather(
        &self,
        x: &[f32],
        channels: usize,
        terms: &[([usize; 2], f32)],
        before: usize,
        out: &mut [f32],
    ) {
        out.fill(0.0);
        let images = x.chunks_exact(self.tokens() * channels);
        for (x, out) in images.zip(out.chunks_exact_mut(self.tiles() * channels)) {
            for (tile, out) in out.chunks_exact_mut(channels).enumerate() {
                for &(offset, factor) in terms {
                    if let Some(token) = self.token(tile, offset, before) {
                        add_scaled(&x[token * channels..][..channels], factor, out);
                    }
                }
            }
        }
    }

    /// What lies at the tiles' offsets from all places, `places [PLACES, rows, channels]`; `terms` are those of each offset.
    fn scatter(
        &self,
        places: &[f32],
        channels: usize,
        terms: &[OfOffset],
        before: usize,
        out: &mut [f32],
    ) {
        let place = self.rows() * channels;
        let images = out.par_chunks_exact_mut(self.tokens() * channels);
        images.enumerate().for_each(|(image, out)| {
            for tile in 0..self.tiles() {
                let row = (image * self.tiles() + tile) * channels;
                for (offset, terms) in terms {
                    let Some(token) = self.token(tile, *offset, before) else {
                        continue;
                    };
                    let out = &mut out[token * channels..][..channels];
                    for &(at, factor) in terms {
                        add_scaled(&places[at * place + row..][..channels], factor, out);
                    }
                }
            }
        });
    }

    /// `U`, a place of the weight, `[D, C]`.
    fn taps(&self, weight: &[f32], place: usize) -> Vec<f32> {
        let size = self.inputs * self.outputs;
        let mut out = vec![0.0; size];
        for ([i, j], factor) in pairs(TAPS[place / IN], TAPS[place % IN]) {
            add_scaled(&weight[(i * WINDOW + j) * size..][..size], factor, &mut out);
        }
        out
    }

    /// `V`, a place of the inputs, `[rows, D]`.
    fn inputs(&self, x: &[f32], place: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.rows() * self.inputs];
        let terms = pairs(INPUT[place / IN], INPUT[place % IN]);
        self.gather(x, self.inputs, &terms, 1, &mut out);
        out
    }

    /// For each offset of a side, the places that it takes part in.
    fn transposed<const N: usize>(matrix: [[f32; N]; IN]) -> Vec<OfOffset> {
        (0..N * N)
            .map(|at| {
                let places = pairs(column(matrix, at / N), column(matrix, at % N));
                let places = places
                    .into_iter()
                    .map(|([i, j], factor)| (i * IN + j, factor));
                ([at / N, at % N], places.collect())
            })
            .collect()
    }
}

impl Operation<3> for Convolution {
    /// The result, which tells where the ReLU let values through.
    type Kept = Vec<f32>;

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], keep: bool) -> (Vec<f32>, Vec<f32>) {
        let place = self.rows() * self.outputs;
        let mut places = vec![0.0; PLACES * place];
        places
            .par_chunks_exact_mut(place)
            .enumerate()
            .for_each(|(at, out)| {
                let (inputs, taps) = (self.inputs(x, at), self.taps(weight, at));
                let inputs = Matrix::new(&inputs, self.rows(), self.inputs);
                let taps = Matrix::new(&taps, self.inputs, self.outputs);
                product(out, Into::Replace, inputs, taps, 1);
            });
        let mut out = vec![0.0; self.images * self.tokens() * self.outputs];
        self.scatter(
            &places,
            self.outputs,
            &Self::transposed(OUTPUT),
            0,
            &mut out,
        );
        out.par_chunks_mut(self.tokens() * self.outputs)
            .for_each(|out| {
                vector::add_row(out, bias);
                vector::leaky_relu(out, 0.0);
            });
        let kept = if keep { out.clone() } else { Vec::new() };
        (out, kept)
    }

    fn backward(
        &self,
        [x, weight, _]: [&[f32]; 3],
        kept: &Vec<f32>,
        upstream: &[f32],
        [x_wanted, ..]: [bool; 3],
    ) -> [Vec<f32>; 3] {
        let mut through = upstream.to_vec();
        let image = self.tokens() * self.outputs;
        through
            .par_chunks_mut(image)
            .zip(kept.par_chunks(image))
            .for_each(|(gradient, y)| vector::leaky_relu_backward(y, 0.0, gradient));
        let size = self.inputs * self.outputs;
        let mut taps = vec![0.0; PLACES * size];
        let place = if x_wanted {
            self.rows() * self.inputs
        } else {
            0
        };
        let mut inputs = vec![0.0; PLACES * place];
        // A place each, whether or not the inputs' gradient is wanted.
        let of_inputs: Vec<&mut [f32]> = match x_wanted {
            true => inputs.chunks_exact_mut(place).collect(),
            false => (0..PLACES).map(|_| <&mut [f32]>::default()).collect(),
        };
        let of_places = taps.par_chunks_exact_mut(size).zip(of_inputs);
        of_places
            .enumerate()
            .for_each(|(at, (of_taps, of_inputs))| {
                let mut gradient = vec![0.0; self.rows() * self.outputs];
                let terms = pairs(OUTPUT[at / IN], OUTPUT[at % IN]);
                self.gather(&through, self.outputs, &terms, 0, &mut gradient);
                let gradient = Matrix::new(&gradient, self.rows(), self.outputs);
                let values = self.inputs(x, at);
                let values = Matrix::new(&values, self.rows(), self.inputs).transposed();
                product(of_taps, Into::Replace, values, gradient, 1);
                if x_wanted {
                    let taps = self.taps(weight, at);
                    let taps = Matrix::new(&taps, self.inputs, self.outputs).transposed();
                    product(of_inputs, Into::Replace, gradient, taps, 1);
                }
            });
        let mut x_gradient = vec![0.0; if x_wanted { x.len() } else { 0 }];
        if x_wanted {
            self.scatter(
                &inputs,
                self.inputs,
                &Self::transposed(INPUT),
                1,
                &mut x_gradient,
            );
        }
        let mut weight_gradient = vec![0.0; weight.len()];
        let of_taps = Self::transposed(TAPS);
        weight_gradient
            .par_chunks_exact_mut(size)
            .zip(of_taps)
            .for_each(|(out, (_, places))| {
                for (at, factor) in places {
                    add_scaled(&taps[at * size..][..size], factor, out);
                }
            });
        [
            x_gradient,
            weight_gradient,
            column_sums(&through, self.outputs),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, TensorData};

    #[test]
    fn a_shift_by_hand() {
        let device = Device::flex();
        let x = TensorData::new(vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [1, 6, 1]);
        let mut taps = vec![0.0f32; 9];
        // Reads the token above and to the left.
        taps[0] = 2.0;
        let y = convolve_relu(
            Tensor::from_data(x, &device),
            Tensor::from_data(TensorData::new(taps, [9, 1]), &device),
            Tensor::from_data(TensorData::new(vec![-3.0f32], [1]), &device),
            [2, 3],
        );
        assert_eq!(crate::device::host(&y), [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    }

    fn tokens(values: Vec<f32>, channels: usize) -> Tensor<3> {
        let count = values.len() / channels;
        Tensor::from_data(
            TensorData::new(values, [1, count, channels]),
            &Device::flex(),
        )
    }

    #[test]
    fn windows_by_hand() {
        let x = tokens(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1);
        let inside = windows(x.clone(), [2, 3], 2, false);
        assert_eq!(inside.dims(), [1, 2, 4]);
        let expected = [1.0, 2.0, 4.0, 5.0, 2.0, 3.0, 5.0, 6.0];
        assert_eq!(crate::device::host(&inside), expected);
        let padded = windows(x, [2, 3], 3, true);
        assert_eq!(padded.dims(), [1, 6, 9]);
        let first = crate::device::host(&padded);
        assert_eq!(first[..9], [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 4.0, 5.0]);
    }

    #[test]
    fn equals_the_windows_product_with_its_gradients() {
        let device = Device::flex();
        device.seed(31);
        let draw = |shape: [usize; 3]| -> Tensor<3> {
            Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device)
        };
        // Even and odd sides.
        for [height, width] in [[4, 6], [5, 3], [1, 1]] {
            let (tokens, inputs, outputs) = (height * width, 7, 18);
            let leaves = [
                draw([3, tokens, inputs]),
                draw([1, 9 * inputs, outputs]),
                draw([1, 1, outputs]),
            ];
            let upstream = draw([3, tokens, outputs]);
            let run = |ours: bool| {
                let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
                let [x, weight, bias] = leaves.clone();
                let (weight, bias) = (
                    weight.reshape([9 * inputs, outputs]),
                    bias.reshape([outputs]),
                );
                let out = if ours {
                    convolve_relu(x, weight, bias, [height, width])
                } else {
                    let flat =
                        windows(x, [height, width], 3, true).reshape([3 * tokens, 9 * inputs]);
                    relu(flat.matmul(weight) + bias.unsqueeze()).reshape([3, tokens, outputs])
                };
                let mut gradients = (out.clone() * upstream.clone()).sum().backward();
                let mut results = vec![out.inner().flatten::<1>(0, 2)];
                let gradients = leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap());
                results.extend(gradients.map(|gradient| gradient.flatten(0, 2)));
                results
            };
            for (place, (ours, theirs)) in run(true).into_iter().zip(run(false)).enumerate() {
                let worst: f32 = (ours - theirs).abs().max().into_scalar();
                assert!(worst < 1e-4, "{height} x {width}, {place}: {worst} apart");
            }
        }
    }
}
