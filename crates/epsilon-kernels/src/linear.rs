//! Linear maps over packed weights: in f32 on every CPU, in bf16 and int8 where it has instructions that make them faster. What
//! goes in and comes out is f32.

use std::ops::Range;

use pulp::Simd;

use crate::bf16;
use crate::cpu::{Bf16Instructions, Int8Instructions};
use crate::finish::{After, Finish, Writer, load};
use crate::mix::{mix, parts};
use crate::packed::{Packed, Rows, product};
use crate::words::{self, ByteMatrix, Left, Output, multiply_bf16};

/// What products are computed in; only what this CPU has can be made.
#[derive(Clone, Copy, Debug)]
pub enum Arithmetic {
    /// Single precision, on every CPU.
    F32,
    /// bf16 values with f32 sums.
    Bf16(Bf16Instructions),
    /// Bytes with whole sums, the same on every CPU: weights scaled by output, inputs by row, both after an orthogonal transform
    /// that spreads large values over a row. Attention is in [`Arithmetic::floats`].
    Int8(Int8Instructions),
}

impl Arithmetic {
    /// All that this CPU has.
    pub fn all() -> Vec<Self> {
        let bf16 = Bf16Instructions::find().map(Self::Bf16);
        let int8 = Int8Instructions::find().map(Self::Int8);
        [Some(Self::F32), bf16, int8]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The fastest products of floating-point values: bf16, or else f32.
    pub fn floats() -> Self {
        Bf16Instructions::find().map_or(Self::F32, Self::Bf16)
    }
}

/// A linear map `y = W x + b` with its weight laid out for one [`Arithmetic`].
///
/// ```
/// use epsilon_kernels::finish::After;
/// use epsilon_kernels::linear::{Arithmetic, Encoded, LinearMap};
/// use epsilon_kernels::packed::Rows;
///
/// let weight = [1.0, 2.0, -1.0, 0.0]; // two outputs of two inputs
/// let x = Rows { data: &[0.25, 0.125], stride: 2, count: 1 };
/// for arithmetic in Arithmetic::all() {
///     let map = LinearMap::new(&weight, &[0.5, 0.0], arithmetic);
///     let (mut encoded, mut out) = (Encoded::default(), [0.0; 2]);
///     let input = encoded.encode(arithmetic, x, 2);
///     map.apply(input, After::Store, &mut out, 2);
///     assert!((out[0] - 1.0).abs() < 1e-2 && (out[1] + 0.25).abs() < 1e-2);
/// }
/// ```
#[derive(Debug)]
pub struct LinearMap {
    outputs: usize,
    weight: Weight,
    bias: Vec<f32>,
}

#[derive(Debug)]
enum Weight {
    F32(Packed),
    Bf16(Bf16Instructions, bf16::Panels),
    Int8(Int8),
}

/// Room for a map's input in another precision; one serves all maps of a thread.
#[derive(Debug, Default)]
pub struct Encoded {
    pub(crate) words: Vec<u32>,
    /// A row on its way to bytes.
    mixed: Vec<f32>,
    /// Step and smallest value of each row of bytes.
    ranges: Vec<[f32; 2]>,
}

impl LinearMap {
    /// A whole map: `weight [outputs, inputs]`, row by row, and `bias [outputs]`.
    ///
    /// # Panics
    /// When `bias` is empty or `weight` is no matrix of so many rows.
    pub fn new(weight: &[f32], bias: &[f32], arithmetic: Arithmetic) -> Self {
        let inputs = weight.len() / bias.len();
        Self::part(weight, bias, 0..bias.len(), 0..inputs, arithmetic)
    }

    /// A part of a map: some of its outputs, from some of its inputs. The part with the first input has the bias.
    ///
    /// # Panics
    /// As [`LinearMap::new`], and when the part is empty or not one.
    pub fn part(
        weight: &[f32],
        bias: &[f32],
        outputs: Range<usize>,
        inputs: Range<usize>,
        arithmetic: Arithmetic,
    ) -> Self {
        let (columns, depth) = (outputs.len(), inputs.len());
        let stride = weight.len() / bias.len();
        assert!(weight.len() == stride * bias.len() && inputs.end <= stride);
        let weight = &weight[outputs.start * stride + inputs.start..];
        let weight = &weight[..(columns - 1) * stride + depth];
        Self {
            outputs: columns,
            weight: match arithmetic {
                Arithmetic::F32 => Weight::F32(Packed::transposed(weight, depth, stride)),
                Arithmetic::Bf16(cpu) => {
                    let mut panels = bf16::Panels::default();
                    panels.fill_transposed(weight, depth, stride);
                    Weight::Bf16(cpu, panels)
                }
                Arithmetic::Int8(cpu) => Weight::Int8(Int8::new(cpu, weight, depth, stride)),
            },
            bias: match inputs.start {
                0 => bias[outputs].to_vec(),
                _ => Vec::new(),
            },
        }
    }

    /// Number of values of a result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `out = after(W x + b)` for every row `x`; rows of the output lie `stride` values apart.
    ///
    /// # Panics
    /// When the input is encoded for other arithmetic than the map's.
    pub fn apply(&self, x: Input, after: After, out: &mut [f32], stride: usize) {
        let finish = Finish {
            bias: &self.bias,
            after,
        };
        match (&self.weight, x.0) {
            (Weight::F32(packed), Form::F32(x)) => product(x, packed, finish, out, stride),
            (Weight::Bf16(cpu, panels), Form::Bf16 { words, rows }) => {
                let mut writer = Writer {
                    finish,
                    out,
                    stride,
                };
                multiply_bf16(*cpu, words, rows, &panels.0, &mut writer);
            }
            (
                Weight::Int8(weight),
                Form::Int8 {
                    words,
                    stride: apart,
                    ranges,
                },
            ) => {
                let writer = Writer {
                    finish,
                    out,
                    stride,
                };
                let mut scale = Scale {
                    weight,
                    ranges,
                    writer,
                };
                weight
                    .bytes
                    .multiply(words, apart, ranges.len(), &mut scale);
            }
            _ => panic!("a map needs an input encoded for its arithmetic"),
        }
    }
}

/// Rows in the form that the products of some arithmetic read; f32 rows are one as they are.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(Form<'a>);

#[derive(Clone, Copy, Debug)]
enum Form<'a> {
    F32(Rows<'a>),
    Bf16 {
        words: Left<'a>,
        rows: usize,
    },
    Int8 {
        words: &'a [u32],
        stride: usize,
        ranges: &'a [[f32; 2]],
    },
}

impl<'a> From<Rows<'a>> for Input<'a> {
    fn from(rows: Rows<'a>) -> Self {
        Self(Form::F32(rows))
    }
}

impl Encoded {
    /// The first `depth` values of each row, for maps of this arithmetic.
    pub fn encode<'a>(
        &'a mut self,
        arithmetic: Arithmetic,
        x: Rows<'a>,
        depth: usize,
    ) -> Input<'a> {
        Input(match arithmetic {
            Arithmetic::F32 => Form::F32(x),
            Arithmetic::Bf16(cpu) => Form::Bf16 {
                words: self.bf16(cpu, x, depth),
                rows: x.count,
            },
            Arithmetic::Int8(cpu) => {
                let words = depth.div_ceil(cpu.0.values());
                let stride = stride(words);
                self.words.resize(x.count * stride, 0);
                self.ranges.clear();
                for (row, out) in x.iter(depth).zip(self.words.chunks_exact_mut(stride)) {
                    self.mixed.clear();
                    self.mixed.extend_from_slice(row);
                    mix(&mut self.mixed);
                    let range = words::encode_bytes(cpu, &self.mixed, &mut out[..words]);
                    self.ranges.push(range);
                }
                Form::Int8 {
                    words: &self.words,
                    stride,
                    ranges: &self.ranges,
                }
            }
        })
    }

    pub(crate) fn bf16(&mut self, cpu: Bf16Instructions, x: Rows, depth: usize) -> Left<'_> {
        let (words, stride) = (depth.div_ceil(2), stride(depth.div_ceil(2)));
        self.words.resize(x.count * stride, 0);
        for (row, out) in x.iter(depth).zip(self.words.chunks_exact_mut(stride)) {
            words::encode_bf16(cpu, row, &mut out[..words]);
        }
        Left::Rows {
            words: &self.words,
            stride,
        }
    }
}

/// Distance between rows of `width` values: whole cache lines, but an odd number of them, because rows a power
/// of two apart compete for the same few places of the cache.
///
/// ```
/// assert_eq!(epsilon_kernels::linear::stride(192), 208);
/// ```
pub fn stride(width: usize) -> usize {
    (width.div_ceil(16) | 1) * 16
}

/// A weight matrix in bytes: `M[j, k] = scales[j] q[j, k]`, each output scaled so that its largest weight is 127, where `M` is
/// the weight whose product with mixed rows is that of `W` with the rows themselves.
#[derive(Debug)]
struct Int8 {
    bytes: ByteMatrix,
    scales: Vec<f32>,
    /// `sum_k M[j, k]`, of the rounded weights.
    sums: Vec<f32>,
}

impl Int8 {
    /// Of `[columns, depth]`, rows `stride` values apart.
    fn new(cpu: Int8Instructions, weight: &[f32], depth: usize, stride: usize) -> Self {
        let parts = parts(depth) as f32;
        let mut bytes = Vec::with_capacity(weight.len().div_ceil(stride) * depth);
        let (mut scales, mut sums) = (Vec::new(), Vec::new());
        let mut mixed = vec![0.0; depth];
        for row in weight.chunks(stride) {
            mixed.copy_from_slice(&row[..depth]);
            mix(&mut mixed);
            let largest = mixed.iter().fold(0f32, |most, x| most.max(x.abs()));
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            let first = bytes.len();
            bytes.extend(mixed.iter().map(|x| (x * inverse).round() as i8));
            let scale = largest / 127.0 / parts;
            let sum: i32 = bytes[first..].iter().map(|&byte| i32::from(byte)).sum();
            scales.push(scale);
            sums.push(scale * sum as f32);
        }
        Self {
            bytes: ByteMatrix::new(cpu, depth, scales.len(), |column, place| {
                bytes[column * depth + place]
            }),
            scales,
            sums,
        }
    }
}

/// Turns sums of bytes into what they stand for: with `low + step q` for the mixed row, its product with an output's weights
/// is `step scale sum + low sum_k M`.
struct Scale<'a> {
    weight: &'a Int8,
    ranges: &'a [[f32; 2]],
    writer: Writer<'a>,
}

impl Output for Scale<'_> {
    #[inline(always)]
    fn write<S: Simd>(&mut self, simd: S, row: usize, columns: Range<usize>, sums: &mut [S::f32s]) {
        let [step, low] = self.ranges[row].map(|x| simd.splat_f32s(x));
        let scales = self.weight.scales[columns.clone()].chunks(S::F32_LANES);
        let offsets = self.weight.sums[columns.clone()].chunks(S::F32_LANES);
        for ((sum, scale), offset) in sums.iter_mut().zip(scales).zip(offsets) {
            let scale = simd.mul_f32s(step, load(simd, scale));
            let offset = simd.mul_f32s(low, load(simd, offset));
            *sum = simd.mul_add_e_f32s(*sum, scale, offset);
        }
        self.writer.write(simd, row, columns, sums);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::Int8 as Int8Level;
    use crate::cpu::cap::at_every_level;

    fn wave(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    /// The largest error of a product of two values up to 1: two roundings.
    fn tolerance(arithmetic: Arithmetic) -> f64 {
        match arithmetic {
            Arithmetic::F32 => 1e-6,
            Arithmetic::Bf16(_) => 4e-3,
            Arithmetic::Int8(_) => 8e-3,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn maps_and_their_parts(
            rows in 1usize..30, depth in 1usize..60, columns in 1usize..80, cut in 0usize..60, seed in 0.1f32..3.0
        ) {
            let (x, bias) = (wave(rows * (depth + 3), seed), wave(columns, 0.9));
            let weight = wave(columns * depth, 0.3);
            let rows_of = |first: usize| Rows { data: &x[first..], stride: depth + 3, count: rows };
            let exact = |at: usize| {
                let (i, j) = (at / columns, at % columns);
                let sum: f64 = (0..depth)
                    .map(|k| f64::from(x[i * (depth + 3) + k]) * f64::from(weight[j * depth + k]))
                    .sum();
                sum + f64::from(bias[j])
            };
            let check = || {
                for arithmetic in Arithmetic::all() {
                    let tolerance = tolerance(arithmetic) * depth as f64;
                    let mut encoded = Encoded::default();
                    let mut out = vec![f32::NAN; rows * columns];
                    let input = encoded.encode(arithmetic, rows_of(0), depth);
                    LinearMap::new(&weight, &bias, arithmetic).apply(input, After::Store, &mut out, columns);
                    for (at, ours) in out.iter().enumerate() {
                        prop_assert!((f64::from(*ours) - exact(at)).abs() < tolerance, "{arithmetic:?} {ours} for {}", exact(at));
                    }
                    // The sum of two parts of the inputs, the outputs in two parts.
                    let (left, half) = (1 + cut % depth, columns.div_ceil(2));
                    let mut sum = vec![f32::NAN; rows * columns];
                    for outputs in [0..half, half..columns] {
                        for (inputs, after) in [(0..left, After::Store), (left..depth, After::Add)] {
                            if outputs.is_empty() || inputs.is_empty() {
                                continue;
                            }
                            let input = encoded.encode(arithmetic, rows_of(inputs.start), inputs.len());
                            let map = LinearMap::part(&weight, &bias, outputs.clone(), inputs, arithmetic);
                            map.apply(input, after, &mut sum[outputs.start..], columns);
                        }
                    }
                    for (at, ours) in sum.iter().enumerate() {
                        prop_assert!((f64::from(*ours) - exact(at)).abs() < tolerance, "{arithmetic:?} {ours} for {}", exact(at));
                    }
                }
                Ok(())
            };
            for (_, result) in at_every_level(check) {
                result?;
            }
        }
    }

    /// 64 inputs are mixed in four parts of 16. A weight of 508 at place 0 becomes 508 at places 0, 16, 32 and 48: bytes of 127 in
    /// steps of 4, of which the quarter is taken, because mixed rows' products are four times the rows'. 508 and -508 at places
    /// 0 and 16 become 0, 1016, 0 and 1016.
    #[test]
    fn scales_of_mixed_weights() {
        let mut weight = vec![0.0; 2 * 64];
        (weight[0], weight[64], weight[64 + 16]) = (508.0, 508.0, -508.0);
        // Mixed: 255 at the same four places, and 0, 255, 0, 255.
        let mut x = vec![0.0; 2 * 64];
        (x[0], x[64], x[64 + 16]) = (255.0, 127.5, -127.5);
        let x = Rows {
            data: &x,
            stride: 64,
            count: 2,
        };
        let found = at_every_level(|| {
            let cpu = Int8Instructions(Int8Level::current());
            let int8 = Int8::new(cpu, &weight, 64, 64);
            let arithmetic = Arithmetic::Int8(cpu);
            let (mut encoded, mut out) = (Encoded::default(), [0.0; 4]);
            let map = LinearMap::new(&weight, &[0.0; 2], arithmetic);
            map.apply(encoded.encode(arithmetic, x, 64), After::Store, &mut out, 2);
            ([int8.scales, int8.sums].concat(), encoded.ranges, out)
        });
        for (level, (weights, ranges, out)) in found {
            assert_eq!(weights, [1.0, 2.0, 508.0, 508.0], "{level}");
            assert_eq!(ranges, [[1.0, 0.0], [1.0, 0.0]], "{level}");
            let exact = [255.0 * 508.0, 255.0 * 508.0, 127.5 * 508.0, 255.0 * 508.0];
            assert_eq!(out, exact, "{level}");
        }
    }

    #[test]
    fn gelu_and_addition_after_the_bias() {
        // 2 inputs to 2 outputs: [1 2; -1 0] x + [0.5, 0].
        let (weight, bias) = ([1.0, 2.0, -1.0, 0.0], [0.5, 0.0]);
        let x = Rows {
            data: &[0.25, 0.125],
            stride: 2,
            count: 1,
        };
        at_every_level(|| {
            for arithmetic in Arithmetic::all() {
                let map = LinearMap::new(&weight, &bias, arithmetic);
                let mut out = [10.0, 20.0];
                let mut encoded = Encoded::default();
                let x = encoded.encode(arithmetic, x, 2);
                map.apply(x, After::Add, &mut out, 2);
                for (ours, exact) in out.iter().zip([11.0, 19.75]) {
                    assert!((ours - exact).abs() < 1e-2, "{arithmetic:?} {ours}");
                }
                // x Phi(x) at 1 and -0.25.
                map.apply(x, After::Gelu, &mut out, 2);
                for (ours, exact) in out.iter().zip([0.841_345, -0.100_323]) {
                    assert!((ours - exact).abs() < 1e-2, "{arithmetic:?} {ours}");
                }
            }
        });
    }
}
