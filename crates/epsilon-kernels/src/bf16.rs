//! Matrices of bf16 values and their products with f32 sums, twice as fast as f32's where the CPU has the instructions.
//! Matrices are words of two bf16 values that follow each other along the summed dimension.

use crate::cpu::{Bf16Instructions, vectorised};
use crate::finish::{After, Finish, Writer};
use crate::matrix::Into;
use crate::panels::{PANEL, Panels as Layout};
use crate::words::{self, multiply_bf16};

/// Whether this CPU has the instructions.
pub fn available() -> bool {
    Bf16Instructions::find().is_some()
}

/// The nearest bf16, ties to even; not a number stays one.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16;
    if x.is_nan() { 0x7fc0 } else { rounded }
}

vectorised! {
    /// Rows `[R, K]` as words `[R, K / 2]`, `K` even, each value rounded to the nearest bf16.
    ///
    /// ```
    /// let mut words = [0; 1];
    /// epsilon_kernels::bf16::encode(&[1.0, -2.0], &mut words);
    /// assert_eq!(words, [0xc000_3f80]);
    /// let mut back = [0.0; 2];
    /// epsilon_kernels::bf16::decode(&words, &mut back);
    /// assert_eq!(back, [1.0, -2.0]);
    /// ```
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
    fn pair_rows(first: &[f32], second: &[f32], words: &mut [u32]) {
        for ((word, &a), &b) in words.iter_mut().zip(first).zip(second) {
            *word = round(a) | (round(b) << 16);
        }
    }
}

/// A matrix `[K, columns]` in panels of 32 columns, each with one row of words for two of the matrix's, the ends filled
/// up with zeros. It is a product's right side, or, transposed, its left.
#[derive(Clone, Debug, Default)]
pub struct Panels(pub(crate) Layout<u32>);

impl Panels {
    /// Replaces the content by a row-major matrix whose rows begin `stride` values apart.
    pub fn fill(&mut self, x: &[f32], columns: usize, stride: usize) {
        let depth = x.len().div_ceil(stride);
        self.0
            .fill_rows(depth.div_ceil(2), columns, |pair, columns, words| {
                let first = &x[2 * pair * stride..][columns.clone()];
                let second = match 2 * pair + 1 < depth {
                    true => &x[(2 * pair + 1) * stride..][columns],
                    false => &[0.0; PANEL][..words.len()],
                };
                pair_rows(first, second, words);
            });
    }

    /// Replaces the content by the transpose of a row-major matrix `[columns, depth]` whose rows begin `stride` values
    /// apart.
    pub fn fill_transposed(&mut self, x: &[f32], depth: usize, stride: usize) {
        let (pairs, columns) = (depth.div_ceil(2), x.len().div_ceil(stride));
        self.0.fill_columns(pairs, columns, |column, pairs| {
            let row = &x[column * stride..][2 * pairs.start..depth.min(2 * pairs.end)];
            row.chunks(2)
                .map(|pair| round(pair[0]) | (pair.get(1).map_or(0, |&x| round(x)) << 16))
        });
    }

    /// As [`Panels::fill_transposed`], of rows that are words already, `pairs` each.
    pub fn fill_transposed_words(&mut self, words: &[u32], pairs: usize, stride: usize) {
        let columns = words.len().div_ceil(stride);
        self.0.fill_columns(pairs, columns, |column, pairs| {
            words[column * stride..][pairs].iter().copied()
        });
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
/// ```
/// use epsilon_kernels::bf16::{self, Left, Panels};
/// use epsilon_kernels::matrix::Into;
///
/// if bf16::available() {
///     let (mut rows, mut right) = ([0; 1], Panels::default());
///     bf16::encode(&[2.0, 3.0], &mut rows);
///     right.fill(&[1.0, 10.0, 2.0, 20.0], 2, 2);
///     let mut out = [0.0; 2];
///     bf16::product(&mut out, Into::Replace, Left::Rows(&rows), &right);
///     assert_eq!(out, [8.0, 80.0]);
/// }
/// ```
///
/// # Panics
/// When the sizes do not fit, or the CPU has no [`available`] instructions.
pub fn product(out: &mut [f32], into: Into, left: Left, right: &Panels) {
    let cpu = Bf16Instructions::find().expect("the caller checks for the instructions");
    let (stride, columns) = (right.0.steps(), right.0.columns());
    let (left, rows) = match left {
        Left::Rows(words) => {
            let rows = words.len() / stride;
            assert_eq!(words.len(), rows * stride);
            (words::Left::Rows { words, stride }, rows)
        }
        Left::Transposed(Panels(panels)) => {
            assert_eq!(panels.steps(), stride);
            (words::Left::Panels(panels), panels.columns())
        }
    };
    assert_eq!(Some(out.len()), rows.checked_mul(columns));
    let after = match into {
        Into::Replace => After::Store,
        Into::Add => After::Add,
    };
    let mut writer = Writer {
        finish: Finish { bias: &[], after },
        out,
        stride: columns,
    };
    multiply_bf16(cpu, left, rows, &right.0, &mut writer);
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
            prop_assert_eq!(used.0.words(), fresh.0.words());
            // Rows further apart: what lies between them is not read.
            let apart: Vec<f32> = x.chunks(columns).flat_map(|row| row.iter().copied().chain([f32::NAN; 3])).collect();
            used.fill(&apart, columns, columns + 3);
            prop_assert_eq!(used.0.words(), fresh.0.words());
            let apart: Vec<f32> = transposed.chunks(depth).flat_map(|row| row.iter().copied().chain([f32::NAN; 3])).collect();
            used.fill_transposed(&apart, depth, depth + 3);
            prop_assert_eq!(used.0.words(), fresh.0.words());
            let rows: Vec<u32> = transposed.chunks(depth)
                .flat_map(|row| row.chunks(2).map(|pair| round(pair[0]) | (pair.get(1).map_or(0, |&x| round(x)) << 16)))
                .collect();
            used.fill_transposed_words(&rows, depth.div_ceil(2), depth.div_ceil(2));
            prop_assert_eq!(used.0.words(), fresh.0.words());
        }
    }
}
