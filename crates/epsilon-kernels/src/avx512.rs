//! Products of short numbers by AVX-512: `vdpbf16ps` adds up pairs of bf16 values, `vpdpbusd` fours of bytes, at two and
//! four times the rate of f32 products. Both work on 32-bit words along the summed dimension, in one tile.

use std::ops::Range;

use pulp::Simd;

use crate::cpu::Instructions;
use crate::finish::Writer;
use crate::panels::Panels;

/// Rows of a tile: its sums fill 24 of the 32 registers.
const TILE: usize = 12;

/// What the words of a product hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Two bf16 values, the first in the low half.
    Bf16,
    /// Four bytes, the first lowest: without sign on the left side, with sign on the right.
    Int8,
}

/// The left side of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left<'a> {
    /// Row `r` begins at `words[r * stride]`.
    Rows {
        /// All rows.
        words: &'a [u32],
        /// Words from the start of a row to that of the next.
        stride: usize,
    },
    /// The columns of panels.
    Panels(&'a Panels<u32>),
}

/// Takes the sums of a product, a piece of a row at a time.
pub(crate) trait Output {
    /// `sums` holds the columns in order, and more lanes than columns at the last panel's end.
    fn write<S: Simd>(&mut self, simd: S, row: usize, columns: Range<usize>, sums: &mut [S::f32s]);
}

impl Output for Writer<'_> {
    #[inline(always)]
    fn write<S: Simd>(&mut self, simd: S, row: usize, columns: Range<usize>, sums: &mut [S::f32s]) {
        Writer::write(self, simd, row, columns, sums);
    }
}

/// Gives the sums of `left . right`, `rows` of them, to `output`.
///
/// # Panics
/// When the left side has fewer words than the product reads.
pub(crate) fn multiply<O: Output>(
    cpu: Instructions,
    kind: Words,
    left: Left,
    rows: usize,
    right: &Panels<u32>,
    output: &mut O,
) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `cpu` exists only where the instructions do.
    unsafe {
        match kind {
            Words::Bf16 => x86::multiply::<false, O>(cpu.simd, left, rows, right, output),
            Words::Int8 => x86::multiply::<true, O>(cpu.simd, left, rows, right, output),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (kind, left, rows, right, output);
        match cpu.never {}
    }
}

/// Writes `x` as words of bf16 values, rounded to the nearest; an odd last value is paired with zero. Subnormal values
/// become zero, as the product takes them.
///
/// # Panics
/// When there are not as many words as pairs.
pub(crate) fn encode_bf16(cpu: Instructions, x: &[f32], words: &mut [u32]) {
    assert_eq!(words.len(), x.len().div_ceil(2));
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `cpu` exists only where the instructions do.
    unsafe {
        let _ = cpu.simd;
        x86::encode_bf16(x, words);
    }
    #[cfg(not(target_arch = "x86_64"))]
    match cpu.never {}
}

/// Writes `x` as words of bytes `q` with `x = low + step q` to the nearest, and gives `[step, low]`: the range from the
/// smallest to the largest value in 255 steps. Bytes past the end are 0. Values that are not finite make `low` not a
/// number.
///
/// # Panics
/// When there are not as many words as fours.
pub(crate) fn encode_bytes(cpu: Instructions, x: &[f32], words: &mut [u32]) -> [f32; 2] {
    assert_eq!(words.len(), x.len().div_ceil(4));
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `cpu` exists only where the instructions do.
    unsafe {
        let _ = cpu.simd;
        x86::encode_bytes(x, words)
    }
    #[cfg(not(target_arch = "x86_64"))]
    match cpu.never {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    use pulp::f32x16;
    use pulp::x86::V4;

    use super::{Left, Output, TILE};
    use crate::panels::{PANEL, Panels, Step};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
    pub(super) fn multiply<const INT8: bool, O: Output>(
        simd: V4,
        left: Left,
        rows: usize,
        right: &Panels<u32>,
        output: &mut O,
    ) {
        let steps = right.steps();
        for (columns, panel) in right.iter() {
            let mut row = 0;
            while row < rows {
                // A left side in panels: no tile may cross them.
                let (left, step, apart, most) = match left {
                    Left::Rows { words, stride } => (&words[row * stride..], 1, stride, TILE),
                    Left::Panels(panels) => {
                        let place = row / PANEL * steps * PANEL + row % PANEL;
                        let words = &panels.words()[place..];
                        (words, PANEL, 1, TILE.min(PANEL - row % PANEL))
                    }
                };
                let count = most.min(rows - row);
                let tile = Tile {
                    panel,
                    left,
                    step,
                    apart,
                };
                macro_rules! write {
                    ($($rows:literal)*) => {
                        match count {
                            $($rows => {
                                for (r, [a, b]) in tile.sums::<INT8, $rows>().iter().enumerate() {
                                    let mut sums = [floats::<INT8>(*a), floats::<INT8>(*b)];
                                    output.write(simd, row + r, columns.clone(), &mut sums);
                                }
                            })*
                            _ => unreachable!("a tile has 1 to 12 rows"),
                        }
                    };
                }
                write!(1 2 3 4 5 6 7 8 9 10 11 12);
                row += count;
            }
        }
    }

    /// A panel of the right side, and rows of the left: word `s` of row `r` is `left[r * apart + s * step]`.
    struct Tile<'a> {
        panel: &'a [Step<u32>],
        left: &'a [u32],
        step: usize,
        apart: usize,
    }

    impl Tile<'_> {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
        #[inline]
        fn sums<const INT8: bool, const ROWS: usize>(&self) -> [[__m512i; 2]; ROWS] {
            let (step, apart) = (self.step, self.apart);
            if let Some(last) = self.panel.len().checked_sub(1) {
                let last = last.checked_mul(step);
                let place = (ROWS - 1).checked_mul(apart).zip(last);
                let place = place.and_then(|(row, word)| row.checked_add(word));
                assert!(place.is_some_and(|place| place < self.left.len()));
            }
            let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
            for (s, words) in self.panel.iter().enumerate() {
                let place = words.0.as_ptr().cast::<i32>();
                // SAFETY: a step holds 32 words.
                let right =
                    unsafe { [_mm512_loadu_epi32(place), _mm512_loadu_epi32(place.add(16))] };
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: the largest of these places was asserted to lie inside `left`.
                    let left = unsafe { *self.left.get_unchecked(r * apart + s * step) };
                    let left = _mm512_set1_epi32(left as i32);
                    sums[0] = dot::<INT8>(sums[0], left, right[0]);
                    sums[1] = dot::<INT8>(sums[1], left, right[1]);
                }
            }
            sums
        }
    }

    /// `sum + left . right`, word by word.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
    #[inline]
    fn dot<const INT8: bool>(sum: __m512i, left: __m512i, right: __m512i) -> __m512i {
        if INT8 {
            return _mm512_dpbusd_epi32(sum, left, right);
        }
        // SAFETY: any bits are bf16 values.
        let [left, right]: [__m512bh; 2] = unsafe { transmute([left, right]) };
        _mm512_castps_si512(_mm512_dpbf16_ps(_mm512_castsi512_ps(sum), left, right))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
    #[inline]
    fn floats<const INT8: bool>(sum: __m512i) -> f32x16 {
        let sum = if INT8 {
            _mm512_cvtepi32_ps(sum)
        } else {
            _mm512_castsi512_ps(sum)
        };
        // SAFETY: both are 16 values of f32.
        unsafe { transmute(sum) }
    }

    /// The mask of the first `count` lanes of 16.
    fn lanes(count: usize) -> u16 {
        ((1u32 << count.min(16)) - 1) as u16
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
    pub(super) fn encode_bf16(x: &[f32], words: &mut [u32]) {
        for (x, words) in x.chunks(32).zip(words.chunks_mut(16)) {
            let (low, high) = (x.as_ptr(), x.as_ptr().wrapping_add(16));
            // SAFETY: the masks let only values of `x` be read and only `words` be written; any bits are words.
            unsafe {
                let low = _mm512_maskz_loadu_ps(lanes(x.len()), low);
                let high = _mm512_maskz_loadu_ps(lanes(x.len().saturating_sub(16)), high);
                let pairs: __m512i = transmute(_mm512_cvtne2ps_pbh(high, low));
                _mm512_mask_storeu_epi32(words.as_mut_ptr().cast(), lanes(words.len()), pairs);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
    pub(super) fn encode_bytes(x: &[f32], words: &mut [u32]) -> [f32; 2] {
        let [low, high] = range(x);
        let width = high - low;
        // A row of equal values is its `low`; so is one that is not finite, and stays so.
        let (step, inverse) = if width >= f32::MIN_POSITIVE * 255.0 {
            (width / 255.0, 255.0 / width)
        } else {
            (0.0, 0.0)
        };
        let [lows, inverses] = [low, inverse].map(|x| _mm512_set1_ps(x));
        let steps = |x| _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_sub_ps(x, lows), inverses));
        let (whole, rest) = x.as_chunks::<16>();
        let (words, rest_words) = words.split_at_mut(4 * whole.len());
        let (words, _) = words.as_chunks_mut::<4>();
        for (x, words) in whole.iter().zip(words) {
            // SAFETY: 16 values are read and 16 bytes written, four words.
            unsafe {
                let steps = _mm512_cvtusepi32_epi8(steps(_mm512_loadu_ps(x.as_ptr())));
                _mm_storeu_si128(words.as_mut_ptr().cast(), steps);
            }
        }
        if !rest.is_empty() {
            let mask = lanes(rest.len());
            let steps = {
                // SAFETY: the mask lets only values of `rest` be read.
                steps(unsafe { _mm512_maskz_loadu_ps(mask, rest.as_ptr()) })
            };
            let mut bytes = [0u8; 16];
            // SAFETY: 16 bytes are written.
            unsafe {
                _mm_storeu_si128(
                    bytes.as_mut_ptr().cast(),
                    _mm512_maskz_cvtusepi32_epi8(mask, steps),
                );
            };
            let (bytes, _) = bytes.as_chunks::<4>();
            for (word, bytes) in rest_words.iter_mut().zip(bytes) {
                *word = u32::from_le_bytes(*bytes);
            }
        }
        [step, low]
    }

    /// Smallest and largest value; not a number when one is not finite.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
    fn range(x: &[f32]) -> [f32; 2] {
        // Two of each, so that one need not wait for the one before it.
        let mut lows = [_mm512_set1_ps(f32::INFINITY); 2];
        let mut highs = [_mm512_set1_ps(f32::NEG_INFINITY); 2];
        let mut finite = [_mm512_setzero_ps(); 2];
        let (pairs, rest) = x.as_chunks::<32>();
        for pair in pairs {
            for half in 0..2 {
                // SAFETY: 32 values follow.
                let x = unsafe { _mm512_loadu_ps(pair.as_ptr().add(16 * half)) };
                lows[half] = _mm512_min_ps(lows[half], x);
                highs[half] = _mm512_max_ps(highs[half], x);
                finite[half] = _mm512_fmadd_ps(x, _mm512_setzero_ps(), finite[half]);
            }
        }
        for x in rest.chunks(16) {
            let mask = lanes(x.len());
            // SAFETY: the mask lets only values of `x` be read.
            let x = unsafe { _mm512_maskz_loadu_ps(mask, x.as_ptr()) };
            lows[0] = _mm512_mask_min_ps(lows[0], mask, lows[0], x);
            highs[0] = _mm512_mask_max_ps(highs[0], mask, highs[0], x);
            finite[0] = _mm512_fmadd_ps(x, _mm512_setzero_ps(), finite[0]);
        }
        let low = _mm512_min_ps(lows[0], lows[1]);
        let high = _mm512_max_ps(highs[0], highs[1]);
        let finite = _mm512_add_ps(finite[0], finite[1]);
        let finite = _mm512_reduce_add_ps(finite);
        [
            _mm512_reduce_min_ps(low) + finite,
            _mm512_reduce_max_ps(high) + finite,
        ]
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::*;

    fn wave(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    /// Keeps the sums as `[rows, columns]`.
    struct Keep {
        columns: usize,
        sums: Vec<f32>,
    }

    impl Output for Keep {
        fn write<S: Simd>(
            &mut self,
            simd: S,
            row: usize,
            columns: Range<usize>,
            sums: &mut [S::f32s],
        ) {
            let out = &mut self.sums[row * self.columns..][columns];
            for (sum, out) in sums.iter().zip(out.chunks_mut(S::F32_LANES)) {
                simd.partial_store_f32s(out, *sum);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn products_of_bytes_of_any_size(m in 1usize..40, steps in 0usize..30, n in 1usize..80, seed: u32) {
            let Some(cpu) = Instructions::find() else {
                eprintln!("skipped: this CPU has no AVX-512 bf16 and VNNI instructions");
                return Ok(());
            };
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state ^ (state >> 13)
            };
            let stride = steps + 1;
            let left: Vec<u32> = (0..m * stride).map(|_| next()).collect();
            let words: Vec<u32> = (0..steps * n).map(|_| next()).collect();
            let mut panels = Panels::default();
            panels.fill_columns(steps, n, |column, range| words[column * steps..][range].iter().copied());
            let mut keep = Keep { columns: n, sums: vec![f32::NAN; m * n] };
            multiply(cpu, Words::Int8, Left::Rows { words: &left, stride }, m, &panels, &mut keep);
            for (at, ours) in keep.sums.iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let sum: i32 = (0..steps)
                    .flat_map(|s| {
                        let a = left[i * stride + s].to_le_bytes();
                        let b = words[j * steps + s].to_le_bytes();
                        a.into_iter().zip(b).map(|(a, b)| i32::from(a) * i32::from(b as i8))
                    })
                    .sum();
                prop_assert_eq!(*ours, sum as f32);
            }
        }

        #[test]
        fn bytes_are_the_nearest_steps(count in 1usize..100, scale in 1e-3f32..1e3, shift in -5f32..5.0) {
            let Some(cpu) = Instructions::find() else { return Ok(()); };
            let x: Vec<f32> = wave(count, 0.7).iter().map(|x| x * scale + shift).collect();
            let mut words = vec![u32::MAX; count.div_ceil(4)];
            let [step, low] = encode_bytes(cpu, &x, &mut words);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            for (x, q) in x.iter().zip(&bytes) {
                let back = low + step * f32::from(*q);
                prop_assert!((back - x).abs() <= 0.501 * step + 1e-5 * x.abs(), "{back} for {x}, step {step}");
            }
            prop_assert!(bytes[count..].iter().all(|byte| *byte == 0));
        }

        #[test]
        fn pairs_round_to_the_nearest(count in 0usize..100) {
            let Some(cpu) = Instructions::find() else { return Ok(()); };
            let x = wave(count, 0.7);
            let mut words = vec![u32::MAX; count.div_ceil(2)];
            encode_bf16(cpu, &x, &mut words);
            for (pair, word) in x.chunks(2).zip(&words) {
                let [a, b] = [pair[0], *pair.get(1).unwrap_or(&0.0)].map(|x| u32::from(bf16::from_f32(x).to_bits()));
                prop_assert_eq!(*word, a | (b << 16));
            }
        }
    }

    #[test]
    fn equal_and_infinite_values_as_bytes() {
        let Some(cpu) = Instructions::find() else {
            return;
        };
        let mut words = [7; 2];
        assert_eq!(encode_bytes(cpu, &[-3.0; 5], &mut words), [0.0, -3.0]);
        assert_eq!(words, [0; 2]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; 5];
            x[3] = bad;
            assert!(encode_bytes(cpu, &x, &mut words)[1].is_nan());
        }
    }
}
