//! Functions of the rows of a matrix that lies in cache: softmax, normalisation, sums and products by rows. Their sums are
//! of 16 parts on every CPU.

use crate::cpu::vectorised;
use crate::vector::{exp, fma};

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

/// The mean of a row, and `1 / sqrt(variance + epsilon)` with the biased variance.
#[inline(always)]
fn mean_and_scale(row: &[f32], epsilon: f32) -> (f32, f32) {
    let width = row.len() as f32;
    let mean = sum_of(row, |x| x) / width;
    let variance = sum_of(row, |x| (x - mean) * (x - mean)) / width;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

vectorised! {
    /// Each row to mean 0 and biased variance 1.
    ///
    /// ```
    /// let mut x = [1.0, 5.0, 2.0, 2.0];
    /// epsilon_kernels::rows::standardise_rows(&mut x, 2, 1e-9);
    /// assert_eq!(x, [-1.0, 1.0, 0.0, 0.0]);
    /// ```
    ///
    /// # Panics
    /// When `width` is 0.
    pub fn standardise_rows(x: &mut [f32], width: usize, epsilon: f32) {
        for row in x.chunks_exact_mut(width) {
            let (mean, scale) = mean_and_scale(row, epsilon);
            for x in row {
                *x = (*x - mean) * scale;
            }
        }
    }
}

/// The parameters of a layer normalisation.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Scale of every column.
    pub weight: Vec<f32>,
    /// Shift of every column.
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}

vectorised! {
    /// `out = (x - mean) / sqrt(variance + epsilon) * weight + bias` over one row, with the biased variance.
    ///
    /// ```
    /// use epsilon_kernels::rows::{Norm, layer_norm};
    ///
    /// let norm = Norm { weight: vec![1.0, 2.0], bias: vec![0.0, 10.0], epsilon: 0.0 };
    /// let mut out = [0.0; 2];
    /// layer_norm(&[1.0, 5.0], &norm, &mut out);
    /// assert_eq!(out, [-1.0, 12.0]);
    /// ```
    pub fn layer_norm(x: &[f32], norm: &Norm, out: &mut [f32]) {
        let (mean, scale) = mean_and_scale(x, norm.epsilon);
        let parameters = norm.weight.iter().zip(&norm.bias);
        for ((out, &x), (&weight, &bias)) in out.iter_mut().zip(x).zip(parameters) {
            *out = fma::<FMA>((x - mean) * scale, weight, bias);
        }
    }
}

vectorised! {
    /// The backward pass of [`layer_norm`] over one row: `gradient` becomes that of `x` from `upstream`, that of the result;
    /// those of weight and bias are added to `weight_sum` and `bias_sum`.
    ///
    /// With `y = (x - mean) s` and `u = upstream weight`, it is `s (u - mean(u) - y mean(u y))`.
    ///
    /// ```
    /// use epsilon_kernels::rows::layer_norm_backward;
    ///
    /// let (mut gradient, mut weight_sum, mut bias_sum) = ([0.0; 4], [0.0; 4], [0.0; 4]);
    /// let x = [-1.0, 1.0, -1.0, 1.0]; // mean 0, variance 1: y = x
    /// let upstream = [1.0, 0.0, 0.0, 0.0];
    /// layer_norm_backward(&x, &[4.0; 4], 0.0, &upstream, &mut gradient, &mut weight_sum, &mut bias_sum);
    /// assert_eq!(gradient, [2.0, 0.0, -2.0, 0.0]);
    /// assert_eq!((weight_sum, bias_sum), ([-1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]));
    /// ```
    pub fn layer_norm_backward(
        x: &[f32],
        weight: &[f32],
        epsilon: f32,
        upstream: &[f32],
        gradient: &mut [f32],
        weight_sum: &mut [f32],
        bias_sum: &mut [f32],
    ) {
        let (mean, scale) = mean_and_scale(x, epsilon);
        let sums = weight_sum.iter_mut().zip(bias_sum);
        let values = x.iter().zip(weight).zip(upstream);
        for ((gradient, ((&x, &weight), &upstream)), (weight_sum, bias_sum)) in gradient.iter_mut().zip(values).zip(sums) {
            *gradient = upstream * weight;
            *weight_sum = fma::<FMA>(upstream, (x - mean) * scale, *weight_sum);
            *bias_sum += upstream;
        }
        let width = x.len() as f32;
        let sum = sum_of(gradient, |u| u);
        let along = (dot(gradient, x) - mean * sum) * scale / width;
        let sum = sum / width;
        for (gradient, &x) in gradient.iter_mut().zip(x) {
            *gradient = scale * (*gradient - sum - (x - mean) * scale * along);
        }
    }
}

/// The largest of a row; what is not a number is passed over.
#[inline(always)]
fn largest_of(row: &[f32]) -> f32 {
    let most = |a: f32, b: f32| if b > a { b } else { a };
    let (lanes, rest) = row.as_chunks::<LANES>();
    let mut top = [f32::NEG_INFINITY; LANES];
    for lanes in lanes {
        for (top, &x) in top.iter_mut().zip(lanes) {
            *top = most(*top, x);
        }
    }
    top.into_iter()
        .chain(rest.iter().copied())
        .fold(f32::NEG_INFINITY, most)
}

vectorised! {
    /// Every row to its softmax.
    ///
    /// ```
    /// let mut x = [0.0, 0.0, 1000.0, -1000.0];
    /// epsilon_kernels::rows::softmax_rows(&mut x, 2);
    /// assert_eq!(x[..3], [0.5, 0.5, 1.0]);
    /// assert!(x[3] < 1e-30);
    /// ```
    ///
    /// # Panics
    /// When `width` is 0.
    pub fn softmax_rows(x: &mut [f32], width: usize) {
        for row in x.chunks_exact_mut(width) {
            let top = largest_of(row);
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
    /// Every row's dot product with `other`.
    ///
    /// ```
    /// let mut out = [0.0; 2];
    /// epsilon_kernels::rows::dot_rows(&[1.0, 2.0, 3.0, 4.0], &[1.0, -1.0], &mut out);
    /// assert_eq!(out, [-1.0, -1.0]);
    /// ```
    pub fn dot_rows(x: &[f32], other: &[f32], out: &mut [f32]) {
        for (x, out) in x.chunks_exact(other.len()).zip(out) {
            *out = dot(x, other);
        }
    }
}

vectorised! {
    /// `out = x scale + factor shift`, row by row with a factor each.
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
    /// The backward pass of [`affine_rows`] to scale and shift: their gradients, from that of its result, are added to what
    /// is there.
    pub fn affine_rows_backward(
        gradient: &[f32],
        x: &[f32],
        factors: &[f32],
        scale: &mut [f32],
        shift: &mut [f32],
    ) {
        let width = scale.len();
        let rows = gradient.chunks_exact(width).zip(x.chunks_exact(width)).zip(factors);
        for ((gradient, x), &factor) in rows {
            let out = scale.iter_mut().zip(shift.iter_mut());
            for (((scale, shift), &gradient), &x) in out.zip(gradient).zip(x) {
                *scale = fma::<FMA>(gradient, x, *scale);
                *shift = fma::<FMA>(gradient, factor, *shift);
            }
        }
    }
}

vectorised! {
    /// Turns logits `[N, D]` into their softmax over the N rows, per column, and sums the rows of `values` so weighted:
    /// `sum [D]`.
    ///
    /// ```
    /// let (mut logits, mut sum) = ([0.0, 1000.0, 0.0, 0.0], [0.0; 2]);
    /// epsilon_kernels::rows::softmax_sum(&[1.0, 2.0, 3.0, 4.0], &mut logits, &mut sum);
    /// assert_eq!((logits[0], sum), (0.5, [2.0, 2.0]));
    /// ```
    pub fn softmax_sum(values: &[f32], logits: &mut [f32], sum: &mut [f32]) {
        const STRIP: usize = 64;
        let width = sum.len();
        for start in (0..width).step_by(STRIP) {
            let strip = STRIP.min(width - start);
            let (mut top, mut total) = ([f32::NEG_INFINITY; STRIP], [0.0; STRIP]);
            for row in logits.chunks_exact(width) {
                for (top, &x) in top.iter_mut().zip(&row[start..start + strip]) {
                    *top = if x > *top { x } else { *top };
                }
            }
            let sum = &mut sum[start..start + strip];
            sum.fill(0.0);
            for (row, values) in logits.chunks_exact_mut(width).zip(values.chunks_exact(width)) {
                let row = &mut row[start..start + strip];
                let values = &values[start..start + strip];
                for i in 0..strip {
                    let e = exp::<FMA>(row[i] - top[i]);
                    row[i] = e;
                    total[i] += e;
                    sum[i] = fma::<FMA>(e, values[i], sum[i]);
                }
            }
            for i in 0..strip {
                total[i] = 1.0 / total[i];
                sum[i] *= total[i];
            }
            for row in logits.chunks_exact_mut(width) {
                for (x, &scale) in row[start..start + strip].iter_mut().zip(&total) {
                    *x *= scale;
                }
            }
        }
    }
}

/// A row of the backward pass of [`softmax_sum`]: weights become the gradient of their logits, values their own.
#[inline(always)]
fn softmax_sum_row_backward(
    weights: &mut [f32],
    values: &mut [f32],
    sum: &[f32],
    upstream: &[f32],
) {
    for (((weight, value), &sum), &upstream) in
        weights.iter_mut().zip(values).zip(sum).zip(upstream)
    {
        let direct = *weight * upstream;
        *weight = direct * (*value - sum);
        *value = direct;
    }
}

vectorised! {
    /// The backward pass of [`softmax_sum`]: from softmax weights `A`, values `G`, the weighted sum `S` and its gradient
    /// `dS`, the gradient of the logits, `A dS (G - S)`, and that of the values where the weights are held, `A dS`.
    pub fn softmax_sum_backward(
        weights: &[f32],
        values: &[f32],
        sum: &[f32],
        upstream: &[f32],
        logit_gradient: &mut [f32],
        value_gradient: &mut [f32],
    ) {
        let width = sum.len();
        let rows = weights.chunks_exact(width).zip(values.chunks_exact(width));
        let out = logit_gradient.chunks_exact_mut(width).zip(value_gradient.chunks_exact_mut(width));
        for ((weights, values), (logits, out)) in rows.zip(out) {
            logits.copy_from_slice(weights);
            out.copy_from_slice(values);
            softmax_sum_row_backward(logits, out, sum, upstream);
        }
    }
}

vectorised! {
    /// As [`softmax_sum_backward`], with the gradients in the places of weights and values.
    pub fn softmax_sum_backward_in_place(
        weights: &mut [f32],
        values: &mut [f32],
        sum: &[f32],
        upstream: &[f32],
    ) {
        let width = sum.len();
        for (weights, values) in weights.chunks_exact_mut(width).zip(values.chunks_exact_mut(width)) {
            softmax_sum_row_backward(weights, values, sum, upstream);
        }
    }
}

vectorised! {
    /// Of matches `[M, C]`: the largest of each column and its row, where it exceeds what `scores` holds.
    ///
    /// ```
    /// let (mut scores, mut winners) = ([f32::NEG_INFINITY; 2], [0; 2]);
    /// epsilon_kernels::rows::largest_of_groups(&[1.0, 4.0, 3.0, 2.0], &mut scores, &mut winners);
    /// assert_eq!((scores, winners), ([3.0, 4.0], [1, 0]));
    /// ```
    ///
    /// # Panics
    /// When `scores` is empty.
    pub fn largest_of_groups(matches: &[f32], scores: &mut [f32], winners: &mut [u8]) {
        for (group, matches) in matches.chunks_exact(scores.len()).enumerate() {
            for ((score, winner), &value) in scores.iter_mut().zip(winners.iter_mut()).zip(matches) {
                // Not a number wins too, so that a diverged model shows.
                let wins = value > *score || value.is_nan();
                *score = if wins { value } else { *score };
                *winner = if wins { group as u8 } else { *winner };
            }
        }
    }
}

vectorised! {
    /// The backward pass of [`largest_of_groups`] to the groups' vectors: adds each label's vector, times the gradient of
    /// its score, to the gradient of the group that won it.
    pub fn add_to_winners(labels: &[f32], upstream: &[f32], winners: &[u8], out: &mut [f32]) {
        let width = labels.len() / upstream.len();
        let scored = upstream.iter().zip(winners).zip(labels.chunks_exact(width));
        for ((&upstream, &winner), label) in scored {
            let out = &mut out[usize::from(winner) * width..][..width];
            for (out, &value) in out.iter_mut().zip(label) {
                *out = fma::<FMA>(upstream, value, *out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn softmax(row: &mut [f32]) {
        let width = row.len();
        softmax_rows(row, width);
    }

    proptest! {
        #[test]
        fn softmax_agrees_with_f64(row in prop::collection::vec(-60f32..60.0, 1..70)) {
            let mut ours = row.clone();
            softmax(&mut ours);
            let largest = row.iter().copied().fold(f32::MIN, f32::max);
            let exps: Vec<f64> = row.iter().map(|x| f64::from(x - largest).exp()).collect();
            let sum: f64 = exps.iter().sum();
            for (ours, exp) in ours.iter().zip(&exps) {
                prop_assert!((f64::from(*ours) - exp / sum).abs() < 5e-7);
            }
        }
    }

    #[test]
    fn softmax_by_hand() {
        let mut row = [2f32.ln(), 0.0, 5f32.ln()];
        softmax(&mut row);
        for (ours, expected) in row.iter().zip([0.25, 0.125, 0.625]) {
            assert!((ours - expected).abs() < 1e-7, "{ours} for {expected}");
        }
        let mut far = [-1000.0, 1000.0];
        softmax(&mut far);
        assert!(far[0] < 1e-30 && far[1] == 1.0, "{far:?}");
    }

    #[test]
    fn layer_norm_by_hand() {
        // Mean 3, biased variance 4: (x - 3) / 2.
        let norm = Norm {
            weight: vec![1.0, 2.0],
            bias: vec![0.0, 10.0],
            epsilon: 0.0,
        };
        let mut out = [0.0; 2];
        layer_norm(&[1.0, 5.0], &norm, &mut out);
        assert_eq!(out, [-1.0, 12.0]);
    }

    #[test]
    fn layer_norm_over_vectors_and_a_rest() {
        let x: Vec<f32> = (0..37).map(|i| (i * i % 11) as f32 + 100.0).collect();
        let norm = Norm {
            weight: vec![1.5; 37],
            bias: vec![-0.5; 37],
            epsilon: 1e-6,
        };
        let mut out = vec![0.0; 37];
        layer_norm(&x, &norm, &mut out);
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / 37.0;
        let variance = x
            .iter()
            .map(|x| (f64::from(*x) - mean).powi(2))
            .sum::<f64>()
            / 37.0;
        for (out, x) in out.iter().zip(&x) {
            let expected = (f64::from(*x) - mean) / (variance + 1e-6).sqrt() * 1.5 - 0.5;
            assert!((f64::from(*out) - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn not_a_number_stays_visible() {
        for width in [2, 20] {
            let mut row = vec![1.0; width];
            row[0] = f32::NAN;
            let mut out = vec![0.0; width];
            let norm = Norm {
                weight: vec![1.0; width],
                bias: vec![0.0; width],
                epsilon: 1e-6,
            };
            layer_norm(&row, &norm, &mut out);
            softmax(&mut row);
            assert!(row.iter().chain(&out).all(|x| x.is_nan()));
        }
    }

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
        let upstream = [1.0, -2.0, 0.5, 0.3, 0.0, 4.0];
        let mut gradient = upstream;
        softmax_rows_backward(&soft, &mut gradient, 3);
        for (index, gradient) in gradient.iter().enumerate() {
            let value = |by: f32| -> f32 {
                let mut x = x;
                x[index] += by;
                softmax_rows(&mut x, 3);
                x.iter()
                    .zip(&upstream)
                    .map(|(x, upstream)| x * upstream)
                    .sum()
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
        affine_rows_backward(
            &[1.0, 1.0, 2.0, 0.0],
            &x,
            &[1.0, 3.0],
            &mut scale,
            &mut shift,
        );
        assert_eq!((scale, shift), ([8.0, 3.0], [7.0, 1.0]));
    }

    #[test]
    fn not_a_number_shows() {
        let (mut scores, mut winners) = (vec![f32::NEG_INFINITY; 2], vec![0; 2]);
        largest_of_groups(&[1.0, f32::NAN, 3.0, 2.0], &mut scores, &mut winners);
        assert_eq!((scores[0], winners[0]), (3.0, 1));
        assert!(scores[1].is_nan() && winners[1] == 0);
    }
}
