//! An orthogonal transform of rows before they become bytes: it spreads a few large values over many places, so that the range
//! of a row, and with it the step of its bytes, becomes smaller (Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in
//! Rotated LLMs", 2024). Inputs and weights go through the same one, which leaves their products as they are.

use crate::cpu::vectorised;

/// Values that are added to others side by side: a register's of AVX.
const LANES: usize = 8;

/// In how many parts [`mix`] divides a row of so many values: the most, as a power of two, that are whole [`LANES`], two or more.
pub(crate) fn parts(width: usize) -> usize {
    let mut parts = 1;
    while width.is_multiple_of(2 * parts * LANES) && width >= 4 * parts * LANES {
        parts *= 2;
    }
    parts
}

vectorised! {
    /// A row in [`parts`] equal parts, multiplied by the Hadamard matrix of that order: part `i` becomes the sum of all parts `j`,
    /// with a minus where `i` and `j` have an odd number of bits in common. The scalar product of two mixed rows is [`parts`]
    /// times that of the rows. Additions alone, in the same order on every CPU.
    pub(crate) fn mix(row: &mut [f32]) {
        let (mut rest, mut width) = (parts(row.len()), row.len());
        // Two halvings at a time, which read and write the row half as often as one.
        while rest >= 4 {
            match (width / 4).is_multiple_of(2 * LANES) {
                true => quarters::<{ 2 * LANES }>(row, width),
                false => quarters::<LANES>(row, width),
            }
            (rest, width) = (rest / 4, width / 4);
        }
        if rest == 2 {
            halves(row, width);
        }
    }
}

/// The halving of every `width` values, and the halving of both halves; a quarter is whole `WIDE`.
#[inline(always)]
fn quarters<const WIDE: usize>(row: &mut [f32], width: usize) {
    for block in row.chunks_exact_mut(width) {
        let (left, right) = block.split_at_mut(width / 2);
        let ((a, b), (c, d)) = (left.split_at_mut(width / 4), right.split_at_mut(width / 4));
        let ((a, _), (b, _)) = (a.as_chunks_mut::<WIDE>(), b.as_chunks_mut::<WIDE>());
        let ((c, _), (d, _)) = (c.as_chunks_mut::<WIDE>(), d.as_chunks_mut::<WIDE>());
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            for lane in 0..WIDE {
                let [sum, other] = [a[lane] + c[lane], b[lane] + d[lane]];
                let [difference, another] = [a[lane] - c[lane], b[lane] - d[lane]];
                (a[lane], b[lane]) = (sum + other, sum - other);
                (c[lane], d[lane]) = (difference + another, difference - another);
            }
        }
    }
}

/// The first half of every `width` values becomes the sum of both, the second their difference.
#[inline(always)]
fn halves(row: &mut [f32], width: usize) {
    for block in row.chunks_exact_mut(width) {
        let (a, b) = block.split_at_mut(width / 2);
        let ((a, _), (b, _)) = (a.as_chunks_mut::<LANES>(), b.as_chunks_mut::<LANES>());
        for (a, b) in a.iter_mut().zip(b) {
            for lane in 0..LANES {
                (a[lane], b[lane]) = (a[lane] + b[lane], a[lane] - b[lane]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::cap::at_every_level;

    #[test]
    fn parts_are_equal_and_no_narrower_than_a_register() {
        let found = [0, 1, 16, 31, 32, 40, 48, 64, 192, 384, 768, 1024, 3072].map(parts);
        assert_eq!(found, [1, 1, 1, 1, 2, 1, 2, 4, 8, 16, 32, 64, 128]);
    }

    /// Four parts of 16 values: `[1 1 1 1; 1 -1 1 -1; 1 1 -1 -1; 1 -1 -1 1]` times the parts' values.
    #[test]
    fn four_parts_by_hand() {
        let row: Vec<f32> = [1.0, 10.0, 100.0, 1000.0]
            .iter()
            .flat_map(|&x| (0..16).map(move |i| x * i as f32))
            .collect();
        for (level, mixed) in at_every_level(|| {
            let mut row = row.clone();
            mix(&mut row);
            row
        }) {
            for (part, sum) in [1111.0, -909.0, -1089.0, 891.0].into_iter().enumerate() {
                for i in 0..16 {
                    assert_eq!(mixed[16 * part + i], sum * i as f32, "{level}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn scalar_products_are_kept(width in 1usize..400, seed in 0.1f32..3.0) {
            let wave = |step: f32| -> Vec<f32> { (0..width).map(|i| (i as f32 * step).sin()).collect() };
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let (a, b) = (wave(seed), wave(0.7 * seed));
            let exact = dot(&a, &b);
            let mixed = at_every_level(|| {
                let (mut a, mut b) = (a.clone(), b.clone());
                mix(&mut a);
                mix(&mut b);
                (a, b)
            });
            let (_, (a, b)) = &mixed[0];
            prop_assert!((dot(a, b) / parts(width) as f64 - exact).abs() < 1e-5 * width as f64);
            for (level, other) in &mixed[1..] {
                prop_assert_eq!(other, &mixed[0].1, "{}", level);
            }
        }
    }
}
