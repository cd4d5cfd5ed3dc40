//! Attention of one sequence, head by head and in blocks of rows, so that the scores stay in cache.

use std::ops::Range;

use crate::bf16;
use crate::cpu::Bf16Instructions;
use crate::finish::{Finish, Writer};
use crate::linear::{Arithmetic, Encoded, stride};
use crate::packed::{Packed, Rows, product};
use crate::rows::softmax_rows;
use crate::words::multiply_bf16;

/// Rows of attention scores held at once, times their columns: 256 KiB.
const SCORES: usize = 1 << 16;

/// How many rows of attention scores are computed at once.
fn score_rows(tokens: usize) -> usize {
    (SCORES / stride(tokens)).clamp(1, tokens)
}

/// Working memory for [`attend`]; one serves all layers of a thread.
#[derive(Debug, Default)]
pub struct Attention {
    scores: Vec<f32>,
    keys: Packed,
    values: Packed,
    encoded: Encoded,
    key_panels: bf16::Panels,
    value_panels: bf16::Panels,
}

/// `softmax(q k') v`, head by head. A row of `qkv` holds the queries of all heads, then the keys, then the values, each
/// `heads * width` values; so many are written for each of the `tokens` asked for, to rows of `out` that lie `out_stride` apart.
/// The scale is in the queries already. A `causal` token sees only itself and those before it. What a token gets does not depend on
/// which others are asked for.
///
/// ```
/// use epsilon_kernels::attention::{Attention, attend};
/// use epsilon_kernels::linear::Arithmetic;
/// use epsilon_kernels::packed::Rows;
///
/// // Two tokens, one head of width 1. All keys are equal, so the values 2 and 4 weigh the same.
/// let qkv = Rows { data: &[0.3, 1.0, 2.0, -0.7, 1.0, 4.0], stride: 3, count: 2 };
/// let (mut room, mut out) = (Attention::default(), [0.0; 2]);
/// attend(Arithmetic::F32, qkv, [1, 1], 0..2, false, &mut room, &mut out, 1);
/// assert_eq!(out, [3.0, 3.0]);
/// attend(Arithmetic::F32, qkv, [1, 1], 0..2, true, &mut room, &mut out, 1);
/// assert_eq!(out, [2.0, 3.0]);
/// ```
///
/// # Panics
/// When `qkv` or `out` is too short.
#[expect(clippy::too_many_arguments, reason = "sizes, and where things lie")]
pub fn attend(
    arithmetic: Arithmetic,
    qkv: Rows,
    [heads, width]: [usize; 2],
    tokens: Range<usize>,
    causal: bool,
    room: &mut Attention,
    out: &mut [f32],
    out_stride: usize,
) {
    if tokens.is_empty() {
        return;
    }
    let arithmetic = match arithmetic {
        Arithmetic::Int8(_) => Arithmetic::floats(),
        floats => floats,
    };
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
            tokens: tokens.clone(),
            causal,
        };
        let out = &mut out[index * width..];
        match arithmetic {
            Arithmetic::Bf16(cpu) => head.bf16(cpu, room, out, out_stride),
            _ => head.f32(room, out, out_stride),
        }
    }
}

/// One head's part of the rows, `width` values each.
struct Head<'a> {
    query: Rows<'a>,
    key: Rows<'a>,
    value: Rows<'a>,
    width: usize,
    /// Whose queries are answered.
    tokens: Range<usize>,
    causal: bool,
}

impl Head<'_> {
    fn f32(&self, room: &mut Attention, out: &mut [f32], out_stride: usize) {
        let (count, width) = (self.query.count, self.width);
        room.keys
            .fill_transposed(self.key.values(width), width, self.key.stride);
        room.values
            .fill(self.value.values(width), width, self.value.stride);
        let (block, step) = (score_rows(count), stride(count));
        room.scores.resize(block * step, 0.0);
        for first in self.tokens.clone().step_by(block) {
            let queries = self.queries(first, block);
            product(queries, &room.keys, Finish::PLAIN, &mut room.scores, step);
            let rows = room.scores.chunks_exact_mut(step).take(queries.count);
            for (row, scores) in (first..).zip(rows) {
                self.weigh(row, &mut scores[..count]);
            }
            let scores = Rows {
                data: &room.scores,
                stride: step,
                count: queries.count,
            };
            let out = &mut out[(first - self.tokens.start) * out_stride..];
            product(scores, &room.values, Finish::PLAIN, out, out_stride);
        }
    }

    fn bf16(
        &self,
        cpu: Bf16Instructions,
        room: &mut Attention,
        out: &mut [f32],
        out_stride: usize,
    ) {
        let (count, width) = (self.query.count, self.width);
        let (pairs, keys) = (width.div_ceil(2), stride(width.div_ceil(2)));
        room.encoded.bf16(cpu, self.key, width);
        let words = &room.encoded.words[..count * keys];
        room.key_panels.fill_transposed_words(words, pairs, keys);
        let value = self.value.values(width);
        room.value_panels.fill(value, width, self.value.stride);
        let (block, step) = (score_rows(count), stride(count));
        room.scores.resize(block * step, 0.0);
        for first in self.tokens.clone().step_by(block) {
            let queries = self.queries(first, block);
            let left = room.encoded.bf16(cpu, queries, width);
            let mut scores = Writer {
                finish: Finish::PLAIN,
                out: &mut room.scores,
                stride: step,
            };
            let keys = &room.key_panels.0;
            multiply_bf16(cpu, left, queries.count, keys, &mut scores);
            let rows = room.scores.chunks_exact_mut(step).take(queries.count);
            for (row, scores) in (first..).zip(rows) {
                self.weigh(row, &mut scores[..count]);
            }
            let weights = Rows {
                data: &room.scores,
                stride: step,
                count: queries.count,
            };
            let left = room.encoded.bf16(cpu, weights, count);
            let mut mixed = Writer {
                finish: Finish::PLAIN,
                out: &mut out[(first - self.tokens.start) * out_stride..],
                stride: out_stride,
            };
            let values = &room.value_panels.0;
            multiply_bf16(cpu, left, weights.count, values, &mut mixed);
        }
    }

    /// The queries from token `first` on, at most `count`.
    fn queries(&self, first: usize, count: usize) -> Rows<'_> {
        self.query.part(first, count.min(self.tokens.end - first))
    }

    /// Scores of token `row` to weights.
    fn weigh(&self, row: usize, scores: &mut [f32]) {
        let seen = if self.causal { row + 1 } else { scores.len() };
        softmax_rows(&mut scores[..seen], seen);
        scores[seen..].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
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
        fn attention_of_any_size(
            count in 1usize..70, heads in 1usize..4, width in 1usize..40, causal: bool, ends in [0usize..70, 0usize..70]
        ) {
            let step = 3 * heads * width + 5;
            let x = wave(count * step, 0.7);
            let qkv = Rows { data: &x, stride: step, count };
            let check = || {
                for arithmetic in Arithmetic::all() {
                    let mut out = vec![f32::NAN; count * heads * width];
                    let room = &mut Attention::default();
                    attend(arithmetic, qkv, [heads, width], 0..count, causal, room, &mut out, heads * width);
                    // Some of the tokens, the same to the last bit.
                    let some = ends[0].min(ends[1]).min(count)..ends[0].max(ends[1]).min(count);
                    let mut part = vec![f32::NAN; some.len() * heads * width];
                    attend(arithmetic, qkv, [heads, width], some.clone(), causal, room, &mut part, heads * width);
                    prop_assert_eq!(&part, &out[some.start * heads * width..some.end * heads * width]);
                    for (at, ours) in out.iter().enumerate() {
                        let (token, head, channel) = (at / (heads * width), at / width % heads, at % width);
                        let of = |part: usize, token: usize, k: usize| f64::from(x[token * step + (part * heads + head) * width + k]);
                        let seen = if causal { token + 1 } else { count };
                        let weights: Vec<f64> = (0..seen)
                            .map(|other| (0..width).map(|k| of(0, token, k) * of(1, other, k)).sum::<f64>().exp())
                            .collect();
                        let sum: f64 = weights.iter().sum();
                        let exact = (0..seen).map(|other| weights[other] * of(2, other, channel)).sum::<f64>() / sum;
                        prop_assert!((f64::from(*ours) - exact).abs() < 10.0 * tolerance(arithmetic), "{arithmetic:?} {ours} for {exact}");
                    }
                }
                Ok(())
            };
            for (_, result) in at_every_level(check) {
                result?;
            }
        }
    }

    #[test]
    fn long_attention_is_computed_in_blocks_of_rows() {
        assert_eq!(score_rows(197), 197);
        assert!(score_rows(5000) < 20);
    }
}
