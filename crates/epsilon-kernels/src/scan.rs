//! The scan's inner loop: rows of bytes against a query of 16-bit whole numbers, summed exactly.
//!
//! The compiler turns the portable loop into multiplications of 32-bit words; multiplying 16-bit pairs and adding them is one
//! instruction, which reads memory twice to four times as fast (`bench/search.sh`), so it is named here for AVX-512 and AVX2.

use pulp::Arch;

use crate::cpu::{self, vectorised};

/// Values that are worked on at once: rows are filled up with zeros to a multiple of it.
pub const LANES: usize = 32;

/// The best match of every record: `out[i]` is the largest of `scale * (row . query)` over the record's rows, with its row's
/// number. A record is `groups` scales (f32, little-endian), then `groups` rows as long as the query, a multiple of
/// [`LANES`]. The query is small enough that no sum overflows.
///
/// ```
/// use epsilon_kernels::scan::{LANES, best_matches};
///
/// let mut record = Vec::from(0.5f32.to_le_bytes()); // the scale, then one row of 3, 3, ...
/// record.extend([3u8; LANES]);
/// let mut out = [(0.0, 0)];
/// best_matches(&record, 1, &[10; LANES], &mut out);
/// assert_eq!(out, [(0.5 * 3.0 * 10.0 * LANES as f32, 0)]);
/// ```
///
/// # Panics
/// When `groups` is 0 and the query empty.
pub fn best_matches(records: &[u8], groups: usize, query: &[i16], out: &mut [(f32, u32)]) {
    match cpu::arch() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `V4` and `V3` exist only where the CPU has AVX-512 and AVX2.
        Arch::V4(_) => unsafe { x86::avx512(records, groups, query, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Arch::V3(_) => unsafe { x86::avx2(records, groups, query, out) },
        _ => scan(records, groups, query, out, portable),
    }
}

vectorised! {
    /// How alike each record is to one, in the form of [`best_matches`]: `out[i]` is the cosine of the angle between all values of
    /// the record, each by its row's scale, and all of the query's; 0 where one of both has no length.
    ///
    /// ```
    /// use epsilon_kernels::scan::{LANES, cosines};
    ///
    /// let record = |first: u8, second: u8| {
    ///     let mut record = Vec::from(0.5f32.to_le_bytes());
    ///     record.extend([first, second]);
    ///     record.resize(4 + LANES, 0);
    ///     record
    /// };
    /// let (right, up, slope) = (record(9, 0), record(0, 7), record(5, 5));
    /// let mut out = [0.0; 3];
    /// cosines(&[right.clone(), up, slope].concat(), 1, &right, &mut out);
    /// assert_eq!(out, [1.0, 0.0, 0.5f32.sqrt()]);
    /// ```
    ///
    /// # Panics
    /// When the query is shorter than its scales.
    pub fn cosines(records: &[u8], groups: usize, query: &[u8], out: &mut [f32]) {
        let (query_scales, query_rows) = query.split_at(4 * groups);
        let (query_scales, _) = query_scales.as_chunks::<4>();
        let width = (query_rows.len() / groups.max(1)).max(1);
        let (square, _) = lengths(query_scales, query_rows, query_scales, query_rows, width);
        for (record, out) in records.chunks_exact(query.len().max(1)).zip(out) {
            let (scales, rows) = record.split_at(4 * groups);
            let (scales, _) = scales.as_chunks::<4>();
            let (product, own) = lengths(query_scales, query_rows, scales, rows, width);
            let length = (square * own).sqrt();
            *out = if length > 0.0 { (product / length) as f32 } else { 0.0 };
        }
    }
}

/// The product of two records, and that of the second with itself.
#[inline(always)]
fn lengths(
    query_scales: &[[u8; 4]],
    query: &[u8],
    scales: &[[u8; 4]],
    rows: &[u8],
    width: usize,
) -> (f64, f64) {
    let scales = query_scales.iter().zip(scales);
    let rows = query.chunks_exact(width).zip(rows.chunks_exact(width));
    let each = scales
        .zip(rows)
        .map(|((query_scale, scale), (query, row))| {
            let [query_scale, scale] =
                [query_scale, scale].map(|of| f64::from(f32::from_le_bytes(*of)));
            let product = f64::from(byte_product(query, row)) * query_scale * scale;
            (product, f64::from(byte_product(row, row)) * scale * scale)
        });
    each.fold((0.0, 0.0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
}

#[inline(always)]
fn byte_product(a: &[u8], b: &[u8]) -> i32 {
    let products = a.iter().zip(b);
    products
        .map(|(&a, &b)| i32::from(a as i8) * i32::from(b as i8))
        .sum()
}

/// [`best_matches`] with this product of a row and the query.
#[inline(always)]
fn scan(
    records: &[u8],
    groups: usize,
    query: &[i16],
    out: &mut [(f32, u32)],
    product: impl Fn(&[u8], &[i16]) -> i32,
) {
    let width = query.len();
    for (record, out) in records.chunks_exact(groups * (4 + width)).zip(out) {
        let (scales, rows) = record.split_at(4 * groups);
        let (scales, _) = scales.as_chunks::<4>();
        *out = (f32::NEG_INFINITY, 0);
        for ((group, scale), row) in (0..).zip(scales).zip(rows.chunks_exact(width)) {
            let score = f32::from_le_bytes(*scale) * product(row, query) as f32;
            if score > out.0 {
                *out = (score, group);
            }
        }
    }
}

fn portable(row: &[u8], query: &[i16]) -> i32 {
    let products = row.iter().zip(query);
    products
        .map(|(&value, &query)| i32::from(value as i8) * i32::from(query))
        .sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, scan};

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn avx512(records: &[u8], groups: usize, query: &[i16], out: &mut [(f32, u32)]) {
        scan(records, groups, query, out, |row, query| {
            let mut sums = [_mm512_setzero_si512(); 2];
            let (rows, _) = row.as_chunks::<LANES>();
            let (queries, _) = query.as_chunks::<LANES>();
            for (place, (row, query)) in rows.iter().zip(queries).enumerate() {
                // SAFETY: both are 32 values long, and the loads need no alignment.
                let (row, query) = unsafe {
                    (
                        _mm256_loadu_si256(row.as_ptr().cast()),
                        _mm512_loadu_si512(query.as_ptr().cast()),
                    )
                };
                let pairs = _mm512_madd_epi16(_mm512_cvtepi8_epi16(row), query);
                // Two sums, so that one addition does not wait for the one before.
                sums[place % 2] = _mm512_add_epi32(sums[place % 2], pairs);
            }
            _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
        });
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(records: &[u8], groups: usize, query: &[i16], out: &mut [(f32, u32)]) {
        scan(records, groups, query, out, |row, query| {
            let mut sums = _mm256_setzero_si256();
            let (rows, _) = row.as_chunks::<16>();
            let (queries, _) = query.as_chunks::<16>();
            for (row, query) in rows.iter().zip(queries) {
                // SAFETY: both are 16 values long, and the loads need no alignment.
                let (row, query) = unsafe {
                    (
                        _mm_loadu_si128(row.as_ptr().cast()),
                        _mm256_loadu_si256(query.as_ptr().cast()),
                    )
                };
                let pairs = _mm256_madd_epi16(_mm256_cvtepi8_epi16(row), query);
                sums = _mm256_add_epi32(sums, pairs);
            }
            let halves = _mm_add_epi32(
                _mm256_castsi256_si128(sums),
                _mm256_extracti128_si256::<1>(sums),
            );
            let pairs = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b01_00_11_10>(halves));
            let one = _mm_add_epi32(pairs, _mm_shuffle_epi32::<0b10_11_00_01>(pairs));
            _mm_cvtsi128_si32(one)
        });
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::cpu::cap::at_every_level;

    #[test]
    fn cosines_are_those_of_the_values() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for (groups, width) in [(1, 32), (3, 64), (8, 320)] {
            let mut record = || {
                let mut record = Vec::new();
                for _ in 0..groups {
                    record.extend(rng.random_range(0.1_f32..2.0).to_le_bytes());
                }
                record.extend((0..groups * width).map(|_| rng.random_range(-127..=127_i8) as u8));
                record
            };
            let values = |record: &[u8]| -> Vec<f64> {
                let (scales, rows) = record.split_at(4 * groups);
                let scale =
                    |of: usize| f32::from_le_bytes(scales[4 * of..][..4].try_into().unwrap());
                let each = rows.iter().enumerate();
                each.map(|(at, value)| f64::from(scale(at / width)) * f64::from(*value as i8))
                    .collect()
            };
            let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (query, records) = (record(), [record(), record()]);
            let nothing = vec![0; query.len()];
            let all = [&records[0][..], &query, &nothing, &records[1]];
            let expected = all.map(|record| {
                let (a, b) = (values(&query), values(record));
                let length = (product(&a, &a) * product(&b, &b)).sqrt();
                if length > 0.0 {
                    product(&a, &b) / length
                } else {
                    0.0
                }
            });
            let found = at_every_level(|| {
                let mut found = [f32::NAN; 4];
                cosines(&all.concat(), groups, &query, &mut found);
                found
            });
            for (level, found) in found {
                for (found, expected) in found.iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-6, "{level:?}");
                }
            }
        }
    }

    /// Every set of instructions that this CPU has gives exactly what the portable loop gives, the largest values included.
    #[test]
    fn all_instructions_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for (groups, width, count) in [(1, 32, 1), (3, 64, 5), (8, 320, 9), (2, 2048, 3)] {
            let largest = (i32::MAX as usize / (127 * width)).min(i16::MAX as usize) as i16;
            for full in [false, true] {
                let query: Vec<i16> = (0..width)
                    .map(|_| {
                        if full {
                            largest
                        } else {
                            rng.random_range(-largest..=largest)
                        }
                    })
                    .collect();
                let mut records = Vec::new();
                for _ in 0..count {
                    for _ in 0..groups {
                        records.extend(rng.random_range(0.1_f32..2.0).to_le_bytes());
                    }
                    let row = |_| {
                        if full {
                            127
                        } else {
                            rng.random_range(-127..=127_i8)
                        }
                    };
                    records.extend((0..groups * width).map(row).map(|value| value as u8));
                }
                let mut expected = vec![(0.0, 0); count];
                scan(&records, groups, &query, &mut expected, portable);
                let found = at_every_level(|| {
                    let mut found = vec![(0.0, 0); count];
                    best_matches(&records, groups, &query, &mut found);
                    found
                });
                for (level, found) in found {
                    assert_eq!(found, expected, "{level:?}");
                }
            }
        }
    }
}
