//! Matrices of bf16 values and their products with f32 sums, twice as fast as f32's where the CPU has the instructions.
//! Matrices are words of two bf16 values that follow each other along the summed dimension.

use std::ops::Range;

use pulp::Simd;

use crate::avx512::{self, Finish, Instructions, PANEL, Right, Words, multiply};
use crate::matrix::Into;
use crate::vectorised;

/// Whether this CPU has the instructions.
pub fn available() -> bool {
    Instructions::find().is_some()
}

/// The nearest bf16, ties to even; not a number stays one.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16;
    if x.is_nan() { 0x7fc0 } else { rounded }
}

vectorised! {
    /// Rows `[R, K]` as words `[R, K / 2]`, `K` even.
    pub fn encode(x: &[f32], words: &mut [u32]) {
        for (word, pair) in words.iter_mut().zip(x.chunks_exact(2)) {
            *word = round(pair[0]) | (round(pair[1]) << 16);
        }
    }
}

vectorised! {
    /// Words `[R, K / 2]` as rows `[R, K]`.
    pub fn decode(words: &[u32], x: &mut [f32]) {
        for (&word, pair) in words.iter().zip(x.chunks_exact_mut(2)) {
            pair[0] = f32::from_bits(word << 16);
            pair[1] = f32::from_bits(word & 0xffff_0000);
        }
    }
}

vectorised! {
    /// One panel's row of words from two rows of at most 32 values.
    pub fn pair_rows(first: &[f32], second: &[f32], words: &mut [u32]) {
        for ((word, &a), &b) in words.iter_mut().zip(first).zip(second) {
            *word = round(a) | (round(b) << 16);
        }
    }
}

/// A matrix `[K, columns]` in panels of 32 columns, each with one row of words for two of the matrix's, the ends filled
/// up with zeros. It is a product's right side, or, transposed, its left.
#[derive(Debug, Default)]
pub struct Panels {
    pairs: usize,
    columns: usize,
    words: Vec<u32>,
}

impl Panels {
    /// Replaces the content by a row-major matrix whose rows begin `stride` values apart.
    pub fn fill(&mut self, x: &[f32], columns: usize, stride: usize) {
        let zeros = [0.0; PANEL];
        let rows = x.len().div_ceil(stride);
        self.shape(rows, columns);
        for (panel, words) in self
            .words
            .chunks_exact_mut(rows.div_ceil(2) * PANEL)
            .enumerate()
        {
            let first = panel * PANEL;
            let width = PANEL.min(columns - first);
            for (words, pair) in words.chunks_exact_mut(PANEL).zip(x.chunks(2 * stride)) {
                let second = if pair.len() > stride {
                    &pair[stride + first..][..width]
                } else {
                    &zeros[..width]
                };
                pair_rows(&pair[first..first + width], second, &mut words[..width]);
            }
        }
    }

    /// Replaces the content by the transpose of a row-major matrix `[columns, depth]` whose rows begin `stride` values
    /// apart.
    pub fn fill_transposed(&mut self, x: &[f32], depth: usize, stride: usize) {
        self.shape(depth, x.len().div_ceil(stride));
        let panel = depth.div_ceil(2) * PANEL;
        for (column, row) in x.chunks(stride).enumerate() {
            let words = &mut self.words[column / PANEL * panel + column % PANEL..];
            for (word, pair) in words.iter_mut().step_by(PANEL).zip(row[..depth].chunks(2)) {
                *word = round(pair[0]) | (pair.get(1).map_or(0, |&x| round(x)) << 16);
            }
        }
    }

    /// As [`Panels::fill_transposed`], of rows that are words already, `pairs` each.
    pub fn fill_transposed_words(&mut self, words: &[u32], pairs: usize, stride: usize) {
        self.shape(2 * pairs, words.len().div_ceil(stride));
        let panels = self.words.chunks_exact_mut((pairs * PANEL).max(1));
        for (panel, rows) in panels.zip(words.chunks(PANEL * stride)) {
            for (pair, out) in panel.chunks_exact_mut(PANEL).enumerate() {
                let column = rows[pair..].iter().step_by(stride);
                for (out, word) in out.iter_mut().zip(column) {
                    *out = *word;
                }
            }
        }
    }

    /// As the right side of a product.
    pub fn side(&self) -> Right<'_> {
        Right {
            words: &self.words,
            steps: self.pairs,
            columns: self.columns,
        }
    }

    fn shape(&mut self, depth: usize, columns: usize) {
        self.pairs = depth.div_ceil(2);
        self.columns = columns;
        // All words are written but those of columns that the last panel has to spare.
        if !columns.is_multiple_of(PANEL) {
            self.words.clear();
        }
        let length = self.pairs * columns.div_ceil(PANEL) * PANEL;
        self.words.resize(length, 0);
    }
}

/// The left side of a product, `[rows, K]`.
#[derive(Clone, Copy)]
pub enum Left<'a> {
    /// Words `[rows, K / 2]`, as [`encode`] makes them.
    Rows(&'a [u32]),
    /// The transpose of a matrix `[K, rows]`.
    Transposed(&'a Panels),
}

/// `out (=, +=) left . right`, `out` row-major `[rows, right.columns]`.
///
/// # Panics
/// When the sizes do not fit, or the CPU has no [`available`] instructions.
pub fn product(out: &mut [f32], into: Into, left: Left, right: &Panels) {
    let cpu = Instructions::find().expect("the caller checks for the instructions");
    let stride = right.pairs;
    let (left, rows) = match left {
        Left::Rows(words) => {
            let rows = words.len() / stride;
            assert_eq!(words.len(), rows * stride);
            (avx512::Left::Rows { words, stride }, rows)
        }
        Left::Transposed(panels) => {
            assert_eq!(panels.pairs, right.pairs);
            (avx512::Left::Panels(&panels.words), panels.columns)
        }
    };
    assert_eq!(out.len(), rows * right.columns);
    let columns = right.columns;
    let mut finish = Write { out, into, columns };
    multiply(cpu, Words::Bf16, left, rows, right.side(), &mut finish);
}

/// Writes sums, or adds them.
struct Write<'a> {
    out: &'a mut [f32],
    into: Into,
    columns: usize,
}

impl Finish for Write<'_> {
    #[inline(always)]
    fn take<S: Simd>(&mut self, simd: S, row: usize, columns: Range<usize>, sums: &mut [S::f32s]) {
        let out = &mut self.out[row * self.columns..][columns];
        for (sum, out) in sums.iter().zip(out.chunks_mut(S::F32_LANES)) {
            let mut sum = *sum;
            if self.into == Into::Add {
                sum = simd.add_f32s(sum, simd.partial_load_f32s(out));
            }
            simd.partial_store_f32s(out, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;
    use proptest::prelude::*;

    fn wave(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn values_round_to_the_nearest() {
        let values = [
            1.0,
            -0.3,
            3.0e38,
            1e-40,
            f32::MAX,
            f32::INFINITY,
            -7.007_8,
            0.1,
        ];
        let mut words = [0; 4];
        encode(&values, &mut words);
        let mut back = [0.0; 8];
        decode(&words, &mut back);
        assert_eq!(back, values.map(|x| bf16::from_f32(x).to_f32()));
        encode(&[f32::NAN, 1.0], &mut words[..1]);
        decode(&words[..1], &mut back[..2]);
        assert!(back[0].is_nan());
    }

    /// `left [m, k] . right [k, n]` of values rounded to bf16, in f64.
    fn expected(left: &[f32], right: &[f32], [m, k, n]: [usize; 3]) -> Vec<f64> {
        let of = |x: f32| f64::from(bf16::from_f32(x));
        let sum = |i: usize, j: usize| {
            (0..k)
                .map(|l| of(left[i * k + l]) * of(right[l * n + j]))
                .sum()
        };
        (0..m * n).map(|at| sum(at / n, at % n)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn products_of_any_size(m in 1usize..80, half in 1usize..40, n in 1usize..80) {
            if !available() {
                eprintln!("skipped: this CPU has no AVX-512 bf16 instructions");
                return Ok(());
            }
            let k = 2 * half;
            let (a, b) = (wave(m * k, 0.7), wave(k * n, 0.3));
            let expected = expected(&a, &b, [m, k, n]);
            let mut rows = vec![0; m * k / 2];
            encode(&a, &mut rows);
            let (mut right, mut left) = (Panels::default(), Panels::default());
            right.fill(&b, n, n);
            left.fill_transposed(&a, k, k);
            for (left, into) in [(Left::Rows(&rows), Into::Replace), (Left::Transposed(&left), Into::Add)] {
                let mut out = vec![2.0; m * n];
                product(&mut out, into, left, &right);
                let start = if into == Into::Add { 2.0 } else { 0.0 };
                for (ours, exact) in out.iter().zip(&expected) {
                    prop_assert!((f64::from(*ours) - exact - start).abs() < 1e-4, "{ours} for {exact}");
                }
            }
        }

        /// An odd number of rows is filled up with a row of zeros, and a used buffer leaves nothing behind.
        #[test]
        fn the_two_ways_to_fill_agree(depth in 1usize..40, columns in 1usize..80) {
            let x = wave(depth * columns, 0.9);
            let transposed: Vec<f32> = (0..depth * columns)
                .map(|at| x[at % depth * columns + at / depth])
                .collect();
            let mut used = Panels::default();
            used.fill(&wave(50 * 90, 0.1), 90, 90);
            used.fill(&x, columns, columns);
            let mut fresh = Panels::default();
            fresh.fill_transposed(&transposed, depth, depth);
            prop_assert_eq!(&used.words, &fresh.words);
            // Rows further apart: what lies between them is not read.
            let apart: Vec<f32> = x.chunks(columns).flat_map(|row| row.iter().copied().chain([f32::NAN; 3])).collect();
            used.fill(&apart, columns, columns + 3);
            prop_assert_eq!(&used.words, &fresh.words);
            let apart: Vec<f32> = transposed.chunks(depth).flat_map(|row| row.iter().copied().chain([f32::NAN; 3])).collect();
            used.fill_transposed(&apart, depth, depth + 3);
            prop_assert_eq!(&used.words, &fresh.words);
            let rows: Vec<u32> = transposed.chunks(depth)
                .flat_map(|row| row.chunks(2).map(|pair| round(pair[0]) | (pair.get(1).map_or(0, |&x| round(x)) << 16)))
                .collect();
            used.fill_transposed_words(&rows, depth.div_ceil(2), depth.div_ceil(2));
            prop_assert_eq!(&used.words, &fresh.words);
        }
    }
}
