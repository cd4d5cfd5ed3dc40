//! Transposes of f32 blocks, eight by eight in AVX registers where the CPU has them.

#[cfg(target_arch = "x86_64")]
use pulp::{Arch, x86::V3};

use crate::cpu;

/// Side of a block that registers transpose.
const SIDE: usize = 8;

/// A row-major block with gaps: `at(r, c) = data[r * stride + c]`.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
}

/// `to[c * to_stride + r] = from(r, c)`.
///
/// # Panics
/// When a side is too short.
pub(crate) fn transpose(from: Block, to: &mut [f32], to_stride: usize) {
    match cpu::arch() {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => simd.vectorize(
            #[inline(always)]
            || by_eights(*simd, from, to, to_stride),
        ),
        #[cfg(target_arch = "x86_64")]
        Arch::V3(simd) => simd.vectorize(
            #[inline(always)]
            || by_eights(simd, from, to, to_stride),
        ),
        _ => singly(from, to, to_stride, 0, 0),
    }
}

/// Value by value, but for the first `rows` of the first `columns`.
#[inline(always)]
fn singly(from: Block, to: &mut [f32], to_stride: usize, rows: usize, columns: usize) {
    for r in 0..from.rows {
        let first = if r < rows { columns } else { 0 };
        let row = &from.data[r * from.stride..][..from.columns];
        for (c, &value) in row.iter().enumerate().skip(first) {
            to[c * to_stride + r] = value;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn by_eights(simd: V3, from: Block, to: &mut [f32], to_stride: usize) {
    let whole = |count: usize| count - count % SIDE;
    let (rows, columns) = (whole(from.rows), whole(from.columns));
    for r in (0..rows).step_by(SIDE) {
        for c in (0..columns).step_by(SIDE) {
            let mut block: [[f32; SIDE]; SIDE] = [[0.0; SIDE]; SIDE];
            for (i, row) in block.iter_mut().enumerate() {
                row.copy_from_slice(&from.data[(r + i) * from.stride + c..][..SIDE]);
            }
            for (i, row) in eight_by_eight(simd, block).iter().enumerate() {
                to[(c + i) * to_stride + r..][..SIDE].copy_from_slice(row);
            }
        }
    }
    singly(from, to, to_stride, rows, columns);
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn eight_by_eight(simd: V3, block: [[f32; SIDE]; SIDE]) -> [[f32; SIDE]; SIDE] {
    let avx = simd.avx;
    let x = block.map(pulp::cast);
    let pair = |i: usize| {
        [
            avx._mm256_unpacklo_ps(x[i], x[i + 1]),
            avx._mm256_unpackhi_ps(x[i], x[i + 1]),
        ]
    };
    let pairs = [pair(0), pair(2), pair(4), pair(6)];
    // Columns 0, 1, 2, 3 (and 4 to 7 in the high halves) of four rows.
    let four = |i: usize| {
        let ([low, high], [next_low, next_high]) = (pairs[i], pairs[i + 1]);
        [
            avx._mm256_shuffle_ps::<0x44>(low, next_low),
            avx._mm256_shuffle_ps::<0xEE>(low, next_low),
            avx._mm256_shuffle_ps::<0x44>(high, next_high),
            avx._mm256_shuffle_ps::<0xEE>(high, next_high),
        ]
    };
    let (above, below) = (four(0), four(2));
    std::array::from_fn(|column| {
        let (above, below) = (above[column % 4], below[column % 4]);
        pulp::cast(match column < 4 {
            true => avx._mm256_permute2f128_ps::<0x20>(above, below),
            false => avx._mm256_permute2f128_ps::<0x31>(above, below),
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::cap::at_every_level;

    proptest! {
        #[test]
        fn every_value_finds_its_place(rows in 0usize..30, columns in 0usize..40, gap in 0usize..5) {
            let (stride, to_stride) = (columns + gap, rows + gap);
            let data: Vec<f32> = (0..rows * stride).map(|at| at as f32).collect();
            let from = Block { data: &data, stride, rows, columns };
            for (level, to) in at_every_level(|| {
                let mut to = vec![-1.0; columns * to_stride];
                transpose(from, &mut to, to_stride);
                to
            }) {
                for (at, &value) in to.iter().enumerate() {
                    let (c, r) = (at / to_stride, at % to_stride);
                    let expected = if r < rows { (r * stride + c) as f32 } else { -1.0 };
                    prop_assert_eq!(value, expected, "{} {} {}", level, r, c);
                }
            }
        }
    }
}
