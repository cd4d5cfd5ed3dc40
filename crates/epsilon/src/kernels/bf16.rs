//! Products of bf16 matrices with f32 sums, by AVX-512's `vdpbf16ps`, which multiplies and adds pairs of values: twice
//! the rate of f32 products. Matrices are words of two bf16 values that follow each other along the summed dimension.

use super::matrix::Into;
use super::vector::vectorised;

/// Columns of a panel: two AVX-512 registers of words.
const PANEL: usize = 32;
/// Rows of a tile: its sums fill 24 of the 32 registers.
const TILE: usize = 12;

/// Whether this CPU has the instructions.
pub(crate) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
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
    pub(crate) fn encode(x: &[f32], words: &mut [u32]) {
        for (word, pair) in words.iter_mut().zip(x.chunks_exact(2)) {
            *word = round(pair[0]) | (round(pair[1]) << 16);
        }
    }
}

vectorised! {
    /// Words `[R, K / 2]` as rows `[R, K]`.
    pub(crate) fn decode(words: &[u32], x: &mut [f32]) {
        for (&word, pair) in words.iter().zip(x.chunks_exact_mut(2)) {
            pair[0] = f32::from_bits(word << 16);
            pair[1] = f32::from_bits(word & 0xffff_0000);
        }
    }
}

vectorised! {
    /// One panel's row of words from two rows of at most 32 values.
    pub(crate) fn pair_rows(first: &[f32], second: &[f32], words: &mut [u32]) {
        for ((word, &a), &b) in words.iter_mut().zip(first).zip(second) {
            *word = round(a) | (round(b) << 16);
        }
    }
}

/// A matrix `[K, columns]` in panels of 32 columns, each with one row of words for two of the matrix's, the ends filled
/// up with zeros. It is a product's right side, or, transposed, its left.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    pairs: usize,
    columns: usize,
    words: Vec<u32>,
}

impl Panels {
    /// Replaces the content by a row-major matrix.
    pub fn fill(&mut self, x: &[f32], columns: usize) {
        let zeros = [0.0; PANEL];
        let rows = x.len() / columns;
        self.shape(rows, columns);
        for (panel, words) in self
            .words
            .chunks_exact_mut(rows.div_ceil(2) * PANEL)
            .enumerate()
        {
            let first = panel * PANEL;
            let width = PANEL.min(columns - first);
            for (words, pair) in words.chunks_exact_mut(PANEL).zip(x.chunks(2 * columns)) {
                let second = if pair.len() > columns {
                    &pair[columns + first..][..width]
                } else {
                    &zeros[..width]
                };
                pair_rows(&pair[first..first + width], second, &mut words[..width]);
            }
        }
    }

    /// Replaces the content by the transpose of a row-major matrix `[columns, K]`.
    pub fn fill_transposed(&mut self, x: &[f32], columns: usize) {
        let depth = x.len() / columns;
        self.shape(depth, columns);
        let panel = depth.div_ceil(2) * PANEL;
        for (column, row) in x.chunks_exact(depth).enumerate() {
            let words = &mut self.words[column / PANEL * panel + column % PANEL..];
            for (word, pair) in words.iter_mut().step_by(PANEL).zip(row.chunks(2)) {
                *word = round(pair[0]) | (pair.get(1).map_or(0, |&x| round(x)) << 16);
            }
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
pub(crate) enum Left<'a> {
    /// Words `[rows, K / 2]`, as [`encode`] makes them.
    Rows(&'a [u32]),
    /// The transpose of a matrix `[K, rows]`.
    Transposed(&'a Panels),
}

/// `out (=, +=) left . right`, `out` row-major `[rows, right.columns]`.
///
/// # Panics
/// When the sizes do not fit, or the CPU has no [`available`] instructions.
pub(crate) fn product(out: &mut [f32], into: Into, left: Left, right: &Panels) {
    assert!(available(), "the caller checks for the instructions");
    let rows = match left {
        Left::Rows(words) => words.len() / right.pairs,
        Left::Transposed(panels) => panels.columns,
    };
    match left {
        Left::Rows(words) => assert_eq!(words.len(), rows * right.pairs),
        Left::Transposed(panels) => assert_eq!(panels.pairs, right.pairs),
    }
    assert_eq!(out.len(), rows * right.columns);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the CPU has the instructions, which was just asserted.
    unsafe {
        avx512::product(out, into, left, right, rows);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_epi32,
        _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps,
    };

    use super::{Into, Left, PANEL, Panels, TILE};

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn product(out: &mut [f32], into: Into, left: Left, right: &Panels, rows: usize) {
        let panel = right.pairs * PANEL;
        for (index, words) in right.words.chunks_exact(panel.max(1)).enumerate() {
            let first = index * PANEL;
            let tile = Tile {
                words,
                columns: right.columns,
                first,
                into,
            };
            let mut row = 0;
            while row < rows {
                // A transposed left side lies in panels, which no tile may cross.
                let (left, step, apart, most) = match left {
                    Left::Rows(words) => (&words[row * right.pairs..], 1, right.pairs, TILE),
                    Left::Transposed(panels) => {
                        let place = row / PANEL * panel + row % PANEL;
                        (
                            &panels.words[place..],
                            PANEL,
                            1,
                            TILE.min(PANEL - row % PANEL),
                        )
                    }
                };
                let count = most.min(rows - row);
                macro_rules! tile {
                    ($($rows:literal)*) => {
                        match count {
                            $($rows => tile.run::<$rows>(left, step, apart, &mut out[row * right.columns..]),)*
                            _ => unreachable!("a tile has 1 to 12 rows"),
                        }
                    };
                }
                tile!(1 2 3 4 5 6 7 8 9 10 11 12);
                row += count;
            }
        }
    }

    /// A panel of the right side and where its products go.
    struct Tile<'a> {
        words: &'a [u32],
        columns: usize,
        first: usize,
        into: Into,
    }

    impl Tile<'_> {
        /// `ROWS` rows of the left side: word `s` of row `r` is `left[r * apart + s * step]`.
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn run<const ROWS: usize>(&self, left: &[u32], step: usize, apart: usize, out: &mut [f32]) {
            let pairs = self.words.len() / PANEL;
            assert!(pairs == 0 || (ROWS - 1) * apart + (pairs - 1) * step < left.len());
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            for (s, words) in self.words.chunks_exact(PANEL).enumerate() {
                // SAFETY: `words` holds 32 words, read unaligned; any bits are bf16 values.
                let right: [__m512bh; 2] = unsafe {
                    let place = words.as_ptr().cast::<i32>();
                    [
                        std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_epi32(place)),
                        std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_epi32(place.add(16))),
                    ]
                };
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: the largest of these places was asserted to lie inside `left`.
                    let word = unsafe { *left.get_unchecked(r * apart + s * step) };
                    // SAFETY: as above, any bits are bf16 values.
                    let left = unsafe {
                        std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(word as i32))
                    };
                    sums[0] = _mm512_dpbf16_ps(sums[0], left, right[0]);
                    sums[1] = _mm512_dpbf16_ps(sums[1], left, right[1]);
                }
            }
            let width = PANEL.min(self.columns - self.first);
            let masks =
                [width.min(16), width.saturating_sub(16)].map(|lanes| ((1u32 << lanes) - 1) as u16);
            for (r, sums) in sums.into_iter().enumerate() {
                let out = &mut out[r * self.columns + self.first..][..width];
                for (half, (mut sum, mask)) in sums.into_iter().zip(masks).enumerate() {
                    let place = out.as_mut_ptr().wrapping_add(16 * half);
                    // SAFETY: the mask lets only the `width` values of `out` be read and written.
                    unsafe {
                        if self.into == Into::Add {
                            sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, place));
                        }
                        _mm512_mask_storeu_ps(place, mask, sum);
                    }
                }
            }
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
            right.fill(&b, n);
            left.fill_transposed(&a, m);
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
            used.fill(&wave(50 * 90, 0.1), 90);
            used.fill(&x, columns);
            let mut fresh = Panels::default();
            fresh.fill_transposed(&transposed, columns);
            prop_assert_eq!(used.words, fresh.words);
        }
    }
}
