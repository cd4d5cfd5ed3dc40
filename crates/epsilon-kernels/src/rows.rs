//! Functions of the rows of a matrix that lies in cache, in one clone per instruction set: softmax, standardising, sums and
//! products by rows.

use crate::vector::{exp, fma};
use crate::vectorised;

/// Values that are summed side by side: a register's, so that the order of a sum does not depend on the CPU.
const LANES: usize = 16;

/// The sum of `values`, in [`LANES`] parts.
#[inline(always)]
fn lane_sum(values: impl Iterator<Item = [f32; LANES]>, rest: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0; LANES];
    for values in values {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f32>() + rest.sum::<f32>()
}

#[inline(always)]
fn sum_of(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (lanes, rest) = row.as_chunks::<LANES>();
    lane_sum(
        lanes.iter().map(|x| x.map(&of)),
        rest.iter().map(|&x| of(x)),
    )
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    lane_sum(
        a.iter()
            .zip(b)
            .map(|(a, b)| std::array::from_fn(|i| a[i] * b[i])),
        a_rest.iter().zip(b_rest).map(|(a, b)| a * b),
    )
}

vectorised! {
    /// Each row to mean 0 and biased variance 1.
    pub fn standardise_rows(x: &mut [f32], width: usize, epsilon: f32) {
        for row in x.chunks_exact_mut(width) {
            let mean = sum_of(row, |x| x) / width as f32;
            let variance = sum_of(row, |x| (x - mean) * (x - mean)) / width as f32;
            let scale = 1.0 / (variance + epsilon).sqrt();
            for x in row {
                *x = (*x - mean) * scale;
            }
        }
    }
}

vectorised! {
    /// Every row to its softmax.
    pub fn softmax_rows(x: &mut [f32], width: usize) {
        for row in x.chunks_exact_mut(width) {
            let mut top = f32::NEG_INFINITY;
            for &x in row.iter() {
                top = if x > top { x } else { top };
            }
            for x in row.iter_mut() {
                *x = exp::<FMA>(*x - top);
            }
            let scale = 1.0 / sum_of(row, |x| x);
            for x in row {
                *x *= scale;
            }
        }
    }
}

vectorised! {
    /// From softmax weights the gradient of the logits, in the place of that of the weights: `A (dA - sum A dA)`.
    pub fn softmax_rows_backward(attention: &[f32], gradient: &mut [f32], width: usize) {
        for (attention, gradient) in attention.chunks_exact(width).zip(gradient.chunks_exact_mut(width)) {
            let mean = dot(attention, gradient);
            for (gradient, &attention) in gradient.iter_mut().zip(attention) {
                *gradient = attention * (*gradient - mean);
            }
        }
    }
}

vectorised! {
    /// Every row times `scale`, element by element.
    pub fn scale_rows(x: &[f32], scale: &[f32], out: &mut [f32]) {
        for (x, out) in x.chunks_exact(scale.len()).zip(out.chunks_exact_mut(scale.len())) {
            for ((out, &x), &scale) in out.iter_mut().zip(x).zip(scale) {
                *out = x * scale;
            }
        }
    }
}

vectorised! {
    /// Every row's product with `other`.
    pub fn dot_rows(x: &[f32], other: &[f32], out: &mut [f32]) {
        for (x, out) in x.chunks_exact(other.len()).zip(out) {
            *out = dot(x, other);
        }
    }
}

vectorised! {
    /// Every row times `scale`, and `shift` times the row's own factor.
    pub fn affine_rows(x: &[f32], scale: &[f32], factors: &[f32], shift: &[f32], out: &mut [f32]) {
        let width = scale.len();
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(factors);
        for ((x, out), &factor) in rows {
            for (((out, &x), &scale), &shift) in out.iter_mut().zip(x).zip(scale).zip(shift) {
                *out = fma::<FMA>(x, scale, factor * shift);
            }
        }
    }
}

vectorised! {
    /// The backward pass of [`affine_rows`] to scale and shift, added to what is there.
    pub fn add_products(
        pull: &[f32],
        x: &[f32],
        factors: &[f32],
        scale: &mut [f32],
        shift: &mut [f32],
    ) {
        let width = scale.len();
        let rows = pull.chunks_exact(width).zip(x.chunks_exact(width)).zip(factors);
        for ((pull, x), &factor) in rows {
            let out = scale.iter_mut().zip(shift.iter_mut());
            for (((scale, shift), &pull), &x) in out.zip(pull).zip(x) {
                *scale = fma::<FMA>(pull, x, *scale);
                *shift = fma::<FMA>(pull, factor, *shift);
            }
        }
    }
}

vectorised! {
    /// Adds `x` to `sum`.
    pub fn add(x: &[f32], sum: &mut [f32]) {
        for (sum, &x) in sum.iter_mut().zip(x) {
            *sum += x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_by_hand_and_its_gradient_by_differences() {
        let x = [0.0, 2f32.ln(), 3f32.ln(), 5.0, 5.0, 5.0];
        let mut soft = x;
        softmax_rows(&mut soft, 3);
        let third = 1.0 / 3.0;
        let expected = [1.0 / 6.0, third, 0.5, third, third, third];
        for (soft, expected) in soft.iter().zip(expected) {
            assert!((soft - expected).abs() < 1e-6, "{soft}, {expected}");
        }
        let pull = [1.0, -2.0, 0.5, 0.3, 0.0, 4.0];
        let mut gradient = pull;
        softmax_rows_backward(&soft, &mut gradient, 3);
        for (index, gradient) in gradient.iter().enumerate() {
            let value = |by: f32| -> f32 {
                let mut x = x;
                x[index] += by;
                softmax_rows(&mut x, 3);
                x.iter().zip(&pull).map(|(x, pull)| x * pull).sum()
            };
            let slope = (value(1e-2) - value(-1e-2)) / 2e-2;
            assert!(
                (slope - gradient).abs() < 1e-3,
                "{index}: {slope}, {gradient}"
            );
        }
    }

    /// Wide enough for whole lanes and a rest.
    #[test]
    fn rows_have_mean_zero_and_variance_one() {
        let mut x: Vec<f32> = (0..2 * 21).map(|i| ((i * i) % 17) as f32).collect();
        standardise_rows(&mut x, 21, 0.0);
        for row in x.chunks(21) {
            let mean = row.iter().sum::<f32>() / 21.0;
            let square = row.iter().map(|x| x * x).sum::<f32>() / 21.0;
            assert!(
                mean.abs() < 1e-6 && (square - 1.0).abs() < 1e-5,
                "{mean}, {square}"
            );
        }
    }

    #[test]
    fn affine_rows_and_their_gradients_by_hand() {
        let x = [1.0, 2.0, 3.0, 4.0];
        let (mut out, mut dots) = ([0.0; 4], [0.0; 2]);
        affine_rows(&x, &[10.0, 100.0], &[1.0, 2.0], &[0.5, 0.25], &mut out);
        assert_eq!(out, [10.5, 200.25, 31.0, 400.5]);
        dot_rows(&x, &[1.0, -1.0], &mut dots);
        assert_eq!(dots, [-1.0, -1.0]);
        scale_rows(&x, &[2.0, 3.0], &mut out);
        assert_eq!(out, [2.0, 6.0, 6.0, 12.0]);
        let (mut scale, mut shift) = ([1.0, 1.0], [0.0, 0.0]);
        add_products(
            &[1.0, 1.0, 2.0, 0.0],
            &x,
            &[1.0, 3.0],
            &mut scale,
            &mut shift,
        );
        assert_eq!((scale, shift), ([8.0, 3.0], [7.0, 1.0]));
        add(&scale, &mut shift);
        assert_eq!(shift, [15.0, 4.0]);
    }
}
