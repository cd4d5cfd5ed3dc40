//! What the networks of the CPU engine are made of: linear maps and attention, in f32 on every CPU, in bf16 and in
//! int8 where it has the instructions. Between them everything is f32.

use std::ops::Range;

use pulp::Simd;
use serde::{Deserialize, Serialize};

use super::BackboneError;
use super::weights::Linear;
use epsilon_kernels::avx512::{self, Instructions, Left, PANEL, Right, Words, multiply};
use epsilon_kernels::bf16;
use epsilon_kernels::packed::{After, Finish, Layout, Packed, Rows, load, product, softmax};

/// What a network's large products are computed in. Sums, and everything between the products, are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision, on every CPU.
    #[default]
    F32,
    /// bf16 values. It needs AVX-512 with bf16.
    Bf16,
    /// Linear maps in bytes: weights scaled by output, activations by token; attention, and the first blocks of a
    /// transformer, in bf16. It needs AVX-512 with VNNI and bf16.
    Int8,
}

impl Precision {
    /// Whether this is [`Precision::F32`], which files that do not name their precision were made in.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

/// A [`Precision`] that this CPU has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arithmetic {
    F32,
    Bf16(Instructions),
    Int8(Instructions),
}

/// Blocks of a transformer, from the first, that stay in bf16 where the others are in bytes. Few values of the embedded
/// patches are far larger than the rest, and what the first blocks round off, all others build on: in DeiT-Tiny the first
/// two make half of the error of all twelve.
const EXACT_BLOCKS: usize = 2;

impl Arithmetic {
    /// That of a transformer's block, counted from 0.
    pub fn of_block(self, place: usize) -> Self {
        match self {
            Self::Int8(cpu) if place < EXACT_BLOCKS => Self::Bf16(cpu),
            other => other,
        }
    }

    /// # Errors
    /// [`BackboneError::Precision`] when the CPU lacks the instructions.
    pub fn new(precision: Precision) -> Result<Self, BackboneError> {
        if precision == Precision::F32 {
            return Ok(Self::F32);
        }
        let cpu = Instructions::find().ok_or(BackboneError::Precision { precision })?;
        Ok(match precision {
            Precision::Int8 => Self::Int8(cpu),
            _ => Self::Bf16(cpu),
        })
    }
}

/// A linear map `y = W x + b` in the engine's layout.
pub(super) struct Map {
    outputs: usize,
    weight: Weight,
    bias: Vec<f32>,
}

enum Weight {
    F32(Packed),
    Bf16(Instructions, bf16::Panels),
    Int8(Instructions, Int8),
}

/// Room for a map's input in another precision; one serves all maps of a thread.
#[derive(Default)]
pub(super) struct Encoded {
    words: Vec<u32>,
    /// Step and smallest value of each row of bytes.
    ranges: Vec<[f32; 2]>,
}

impl Map {
    /// Lays out a whole map.
    pub fn new(linear: &Linear, arithmetic: Arithmetic) -> Self {
        let outputs = linear.bias.len();
        let inputs = linear.weight.len() / outputs;
        Self::part(linear, 0..outputs, 0..inputs, arithmetic)
    }

    /// A part of a map: some of its outputs, from some of its inputs. The part with the first input has the bias.
    pub fn part(
        linear: &Linear,
        outputs: Range<usize>,
        inputs: Range<usize>,
        arithmetic: Arithmetic,
    ) -> Self {
        let (columns, depth) = (outputs.len(), inputs.len());
        let stride = linear.weight.len() / linear.bias.len();
        let weight = &linear.weight[outputs.start * stride + inputs.start..];
        let weight = &weight[..(columns - 1) * stride + depth];
        Self {
            outputs: columns,
            weight: match arithmetic {
                Arithmetic::F32 => Weight::F32(Packed::new(
                    weight,
                    Layout {
                        depth,
                        columns,
                        down: 1,
                        right: stride,
                    },
                )),
                Arithmetic::Bf16(cpu) => {
                    let mut panels = bf16::Panels::default();
                    panels.fill_transposed(weight, depth, stride);
                    Weight::Bf16(cpu, panels)
                }
                Arithmetic::Int8(cpu) => Weight::Int8(cpu, Int8::new(weight, depth, stride)),
            },
            bias: match inputs.start {
                0 => linear.bias[outputs].to_vec(),
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
        match (&self.weight, x) {
            (Weight::F32(packed), Input::F32(x)) => product(x, packed, finish, out, stride),
            (Weight::Bf16(cpu, panels), Input::Bf16 { words, rows }) => {
                let mut write = Write {
                    finish,
                    out,
                    stride,
                };
                multiply(*cpu, Words::Bf16, words, rows, panels.side(), &mut write);
            }
            (Weight::Int8(cpu, weight), Input::Int8 { words, ranges }) => {
                let write = Write {
                    finish,
                    out,
                    stride,
                };
                let mut scale = Scale {
                    weight,
                    ranges,
                    write,
                };
                let (rows, side) = (ranges.len(), weight.side());
                multiply(*cpu, Words::Int8, words, rows, side, &mut scale);
            }
            _ => panic!("a map needs an input encoded for its arithmetic"),
        }
    }
}

/// Rows in the form that the products of some arithmetic read.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    F32(Rows<'a>),
    Bf16 {
        words: Left<'a>,
        rows: usize,
    },
    Int8 {
        words: Left<'a>,
        ranges: &'a [[f32; 2]],
    },
}

impl Encoded {
    /// The first `depth` values of each row, for maps of this arithmetic.
    pub fn encode<'a>(
        &'a mut self,
        arithmetic: Arithmetic,
        x: Rows<'a>,
        depth: usize,
    ) -> Input<'a> {
        match arithmetic {
            Arithmetic::F32 => Input::F32(x),
            Arithmetic::Bf16(cpu) => Input::Bf16 {
                words: self.bf16(cpu, x, depth),
                rows: x.count,
            },
            Arithmetic::Int8(cpu) => {
                let (words, stride) = (depth.div_ceil(4), stride(depth.div_ceil(4)));
                self.words.resize(x.count * stride, 0);
                self.ranges.clear();
                for (row, out) in x.iter(depth).zip(self.words.chunks_exact_mut(stride)) {
                    self.ranges
                        .push(avx512::encode_bytes(cpu, row, &mut out[..words]));
                }
                let words = Left::Rows {
                    words: &self.words,
                    stride,
                };
                let ranges = &self.ranges;
                Input::Int8 { words, ranges }
            }
        }
    }

    fn bf16(&mut self, cpu: Instructions, x: Rows, depth: usize) -> Left<'_> {
        let (words, stride) = (depth.div_ceil(2), stride(depth.div_ceil(2)));
        self.words.resize(x.count * stride, 0);
        for (row, out) in x.iter(depth).zip(self.words.chunks_exact_mut(stride)) {
            avx512::encode_bf16(cpu, row, &mut out[..words]);
        }
        Left::Rows {
            words: &self.words,
            stride,
        }
    }
}

/// Distance between rows of `width` values: whole cache lines, but an odd number of them, because rows a power
/// of two apart compete for the same few places of the cache.
pub(super) fn stride(width: usize) -> usize {
    (width.div_ceil(16) | 1) * 16
}

/// Writes sums through a [`Finish`], rows `stride` apart.
struct Write<'a> {
    finish: Finish<'a>,
    out: &'a mut [f32],
    stride: usize,
}

impl avx512::Finish for Write<'_> {
    #[inline(always)]
    fn take<S: Simd>(&mut self, simd: S, row: usize, columns: Range<usize>, sums: &mut [S::f32s]) {
        let out = &mut self.out[row * self.stride..][columns.clone()];
        self.finish.write(simd, sums, columns, out);
    }
}

/// A weight matrix in bytes: `W[j, k] = scales[j] q[j, k]`, each output scaled so that its largest weight is 127.
struct Int8 {
    columns: usize,
    steps: usize,
    words: Vec<u32>,
    scales: Vec<f32>,
    /// `sum_k W[j, k]`, of the rounded weights.
    sums: Vec<f32>,
}

impl Int8 {
    /// Of `[columns, depth]`, rows `stride` values apart.
    fn new(weight: &[f32], depth: usize, stride: usize) -> Self {
        let (columns, steps) = (weight.len().div_ceil(stride), depth.div_ceil(4));
        let mut words = vec![0; steps * columns.div_ceil(PANEL) * PANEL];
        let (mut scales, mut sums) = (Vec::new(), Vec::new());
        for (column, row) in weight.chunks(stride).enumerate() {
            let row = &row[..depth];
            let largest = row.iter().fold(0f32, |most, x| most.max(x.abs()));
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            let words = &mut words[column / PANEL * PANEL * steps + column % PANEL..];
            let mut sum = 0i32;
            for (word, four) in words.iter_mut().step_by(PANEL).zip(row.chunks(4)) {
                let mut bytes = [0; 4];
                for (byte, x) in bytes.iter_mut().zip(four) {
                    let q = (x * inverse).round() as i8;
                    sum += i32::from(q);
                    *byte = q as u8;
                }
                *word = u32::from_le_bytes(bytes);
            }
            scales.push(largest / 127.0);
            sums.push(largest / 127.0 * sum as f32);
        }
        Self {
            columns,
            steps,
            words,
            scales,
            sums,
        }
    }

    fn side(&self) -> Right<'_> {
        Right {
            words: &self.words,
            steps: self.steps,
            columns: self.columns,
        }
    }
}

/// Turns sums of bytes into what they stand for: with `x = low + step q`, the product of a row with an output's weights
/// is `step scale sum + low sum_k W`.
struct Scale<'a> {
    weight: &'a Int8,
    ranges: &'a [[f32; 2]],
    write: Write<'a>,
}

impl avx512::Finish for Scale<'_> {
    #[inline(always)]
    fn take<S: Simd>(&mut self, simd: S, row: usize, columns: Range<usize>, sums: &mut [S::f32s]) {
        let [step, low] = self.ranges[row].map(|x| simd.splat_f32s(x));
        let scales = self.weight.scales[columns.clone()].chunks(S::F32_LANES);
        let offsets = self.weight.sums[columns.clone()].chunks(S::F32_LANES);
        for ((sum, scale), offset) in sums.iter_mut().zip(scales).zip(offsets) {
            let scale = simd.mul_f32s(step, load(simd, scale));
            let offset = simd.mul_f32s(low, load(simd, offset));
            *sum = simd.mul_add_e_f32s(*sum, scale, offset);
        }
        self.write.take(simd, row, columns, sums);
    }
}

/// Rows of attention scores held at once, times their columns: 256 KiB.
const SCORES: usize = 1 << 16;

/// How many rows of attention scores are computed at once.
fn score_rows(tokens: usize) -> usize {
    (SCORES / stride(tokens)).clamp(1, tokens)
}

/// Room for [`attend`].
#[derive(Default)]
pub(super) struct Attention {
    scores: Vec<f32>,
    keys: Packed,
    values: Packed,
    encoded: Encoded,
    key_panels: bf16::Panels,
    value_panels: bf16::Panels,
}

/// `softmax(q k') v`, head by head. A row of `qkv` holds the queries of all heads, then the keys, then the values, each
/// `heads * width` values; so many are written to each row of `out`, rows `out_stride` apart. The scale is in the queries
/// already. A `causal` token sees only itself and those before it.
pub(super) fn attend(
    arithmetic: Arithmetic,
    qkv: Rows,
    [heads, width]: [usize; 2],
    causal: bool,
    room: &mut Attention,
    out: &mut [f32],
    out_stride: usize,
) {
    for index in 0..heads {
        let [query, key, value] = [0, 1, 2].map(|part| Rows {
            data: &qkv.data[(part * heads + index) * width..],
            ..qkv
        });
        let head = Head {
            query,
            key,
            value,
            width,
            causal,
        };
        let out = &mut out[index * width..];
        match arithmetic {
            Arithmetic::F32 => head.f32(room, out, out_stride),
            Arithmetic::Bf16(cpu) | Arithmetic::Int8(cpu) => head.bf16(cpu, room, out, out_stride),
        }
    }
}

/// One head's part of the rows, `width` values each.
struct Head<'a> {
    query: Rows<'a>,
    key: Rows<'a>,
    value: Rows<'a>,
    width: usize,
    causal: bool,
}

impl Head<'_> {
    fn f32(&self, room: &mut Attention, out: &mut [f32], out_stride: usize) {
        let (count, width) = (self.query.count, self.width);
        let keys = Layout {
            depth: width,
            columns: count,
            down: 1,
            right: self.key.stride,
        };
        room.keys.pack(self.key.data, keys);
        let values = Layout {
            depth: count,
            columns: width,
            down: self.value.stride,
            right: 1,
        };
        room.values.pack(self.value.data, values);
        let (block, step) = (score_rows(count), stride(count));
        room.scores.resize(block * step, 0.0);
        for first in (0..count).step_by(block) {
            let queries = self.query.part(first, block);
            product(queries, &room.keys, Finish::PLAIN, &mut room.scores, step);
            for (row, scores) in (first..count).zip(room.scores.chunks_exact_mut(step)) {
                self.weigh(row, &mut scores[..count]);
            }
            let scores = Rows {
                data: &room.scores,
                stride: step,
                count: queries.count,
            };
            let out = &mut out[first * out_stride..];
            product(scores, &room.values, Finish::PLAIN, out, out_stride);
        }
    }

    fn bf16(&self, cpu: Instructions, room: &mut Attention, out: &mut [f32], out_stride: usize) {
        let (count, width) = (self.query.count, self.width);
        let used = (count - 1) * self.value.stride + width;
        let (pairs, keys) = (width.div_ceil(2), stride(width.div_ceil(2)));
        room.encoded.bf16(cpu, self.key, width);
        let words = &room.encoded.words[..count * keys];
        room.key_panels.fill_transposed_words(words, pairs, keys);
        let value = &self.value.data[..used];
        room.value_panels.fill(value, width, self.value.stride);
        let (block, step) = (score_rows(count), stride(count));
        room.scores.resize(block * step, 0.0);
        for first in (0..count).step_by(block) {
            let queries = self.query.part(first, block);
            let left = room.encoded.bf16(cpu, queries, width);
            let mut scores = Write {
                finish: Finish::PLAIN,
                out: &mut room.scores,
                stride: step,
            };
            let keys = room.key_panels.side();
            multiply(cpu, Words::Bf16, left, queries.count, keys, &mut scores);
            for (row, scores) in (first..count).zip(room.scores.chunks_exact_mut(step)) {
                self.weigh(row, &mut scores[..count]);
            }
            let weights = Rows {
                data: &room.scores,
                stride: step,
                count: queries.count,
            };
            let left = room.encoded.bf16(cpu, weights, count);
            let mut mixed = Write {
                finish: Finish::PLAIN,
                out: &mut out[first * out_stride..],
                stride: out_stride,
            };
            let values = room.value_panels.side();
            multiply(cpu, Words::Bf16, left, weights.count, values, &mut mixed);
        }
    }

    /// Scores of token `row` to weights.
    fn weigh(&self, row: usize, scores: &mut [f32]) {
        let seen = if self.causal { row + 1 } else { scores.len() };
        softmax(&mut scores[..seen]);
        scores[seen..].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wave(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    /// Every precision that this CPU has, with the largest error of a product of two values up to 1: two roundings.
    fn all() -> Vec<(Arithmetic, f64)> {
        [
            (Precision::F32, 1e-6),
            (Precision::Bf16, 4e-3),
            (Precision::Int8, 8e-3),
        ]
        .into_iter()
        .filter_map(|(precision, tolerance)| match Arithmetic::new(precision) {
            Ok(arithmetic) => Some((arithmetic, tolerance)),
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        })
        .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn maps_and_their_parts(
            rows in 1usize..30, depth in 1usize..60, columns in 1usize..80, cut in 0usize..60, seed in 0.1f32..3.0
        ) {
            let (x, bias) = (wave(rows * (depth + 3), seed), wave(columns, 0.9));
            let linear = Linear { weight: wave(columns * depth, 0.3), bias };
            let rows_of = |first: usize| Rows { data: &x[first..], stride: depth + 3, count: rows };
            let exact = |at: usize| {
                let (i, j) = (at / columns, at % columns);
                let sum: f64 = (0..depth)
                    .map(|k| f64::from(x[i * (depth + 3) + k]) * f64::from(linear.weight[j * depth + k]))
                    .sum();
                sum + f64::from(linear.bias[j])
            };
            for (arithmetic, tolerance) in all() {
                let tolerance = tolerance * depth as f64;
                let mut encoded = Encoded::default();
                let mut out = vec![f32::NAN; rows * columns];
                let input = encoded.encode(arithmetic, rows_of(0), depth);
                Map::new(&linear, arithmetic).apply(input, After::Store, &mut out, columns);
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
                        let map = Map::part(&linear, outputs.clone(), inputs, arithmetic);
                        map.apply(input, after, &mut sum[outputs.start..], columns);
                    }
                }
                for (at, ours) in sum.iter().enumerate() {
                    prop_assert!((f64::from(*ours) - exact(at)).abs() < tolerance, "{arithmetic:?} {ours} for {}", exact(at));
                }
            }
        }

        #[test]
        fn attention_of_any_size(count in 1usize..70, heads in 1usize..4, width in 1usize..40, causal: bool) {
            let step = 3 * heads * width + 5;
            let x = wave(count * step, 0.7);
            let qkv = Rows { data: &x, stride: step, count };
            for (arithmetic, tolerance) in all() {
                let mut out = vec![f32::NAN; count * heads * width];
                attend(arithmetic, qkv, [heads, width], causal, &mut Attention::default(), &mut out, heads * width);
                for (at, ours) in out.iter().enumerate() {
                    let (token, head, channel) = (at / (heads * width), at / width % heads, at % width);
                    let of = |part: usize, token: usize, k: usize| f64::from(x[token * step + (part * heads + head) * width + k]);
                    let seen = if causal { token + 1 } else { count };
                    let weights: Vec<f64> = (0..seen)
                        .map(|other| (0..width).map(|k| of(0, token, k) * of(1, other, k)).sum::<f64>().exp())
                        .collect();
                    let sum: f64 = weights.iter().sum();
                    let exact = (0..seen).map(|other| weights[other] * of(2, other, channel)).sum::<f64>() / sum;
                    prop_assert!((f64::from(*ours) - exact).abs() < 10.0 * tolerance, "{arithmetic:?} {ours} for {exact}");
                }
            }
        }
    }

    #[test]
    fn gelu_and_addition_after_the_bias() {
        // 2 inputs to 2 outputs: [1 2; -1 0] x + [0.5, 0].
        let linear = Linear {
            weight: vec![1.0, 2.0, -1.0, 0.0],
            bias: vec![0.5, 0.0],
        };
        let x = Rows {
            data: &[0.25, 0.125],
            stride: 2,
            count: 1,
        };
        for (arithmetic, _) in all() {
            let map = Map::new(&linear, arithmetic);
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
    }

    #[test]
    fn long_attention_is_computed_in_blocks_of_rows() {
        assert_eq!(score_rows(197), 197);
        assert!(score_rows(5000) < 20);
    }
}
