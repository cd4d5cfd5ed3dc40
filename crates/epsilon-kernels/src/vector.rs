//! Element-wise functions over slices: GELU, Adam, sums and their like. All of the crate's `exp` and GELU are here.

use crate::cpu::vectorised;

/// `a * b + c`, fused where that is one instruction.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` within 2 ulp for x in [-87, 88], held at the ends outside (no infinity, no subnormal).
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    let x = x.clamp(-87.0, 88.0);
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    // ln 2 in two parts, the first exact in a product with a small integer
    let r = fma::<FMA>(whole, -0.693_359_4, x);
    let r = fma::<FMA>(whole, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for c in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = fma::<FMA>(p, r, c);
    }
    let p = fma::<FMA>(p * r, r, r + 1.0);
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    f32::from_bits(p.to_bits().wrapping_add((exponent << 23) as u32))
}

/// `log(1 + t)` for t in [0, 1], as `2 artanh(t / (2 + t))`.
#[inline(always)]
fn log_one_plus<const FMA: bool>(t: f32) -> f32 {
    let s = t / (2.0 + t);
    let square = s * s;
    let mut p = 2.0 / 15.0;
    for c in [
        2.0 / 13.0,
        2.0 / 11.0,
        2.0 / 9.0,
        2.0 / 7.0,
        2.0 / 5.0,
        2.0 / 3.0,
        2.0,
    ] {
        p = fma::<FMA>(p, square, c);
    }
    p * s
}

/// The normal distribution's `(Phi(x), phi(x))`, the first within 1e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
pub(crate) fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / fma::<FMA>(z, 0.327_591_1, 1.0);
    let mut p = 1.061_405_4;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = fma::<FMA>(p, t, c);
    }
    let bell = exp::<FMA>(-0.5 * x * x);
    let tail = 0.5 * p * t * bell;
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    (cdf, bell * 0.398_942_3)
}

/// `x Phi(x)`.
#[inline(always)]
pub(crate) fn gelu_of<const FMA: bool>(x: f32) -> f32 {
    x * normal::<FMA>(x).0
}

/// `x sigmoid(1.702 x)`.
#[inline(always)]
pub(crate) fn quick_gelu_of<const FMA: bool>(x: f32) -> f32 {
    x / (1.0 + exp::<FMA>(-1.702 * x))
}

/// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, as a sigmoid.
#[inline(always)]
pub(crate) fn tanh_gelu_of<const FMA: bool>(x: f32) -> f32 {
    // -sqrt(8 / pi), and 0.044715 times it.
    let inner = x * fma::<FMA>(-0.071_354_82 * x, x, -1.595_769);
    x / (1.0 + exp::<FMA>(inner))
}

vectorised! {
    /// `out = gelu(x) = x Phi(x)`, within 5e-7.
    ///
    /// ```
    /// let mut out = [0.0; 3];
    /// epsilon_kernels::vector::gelu(&[-1.0, 0.0, 1.0], &mut out);
    /// assert!((out[0] + 0.158_655).abs() < 1e-6 && out[1] == 0.0 && (out[2] - 0.841_345).abs() < 1e-6);
    /// ```
    pub fn gelu(x: &[f32], out: &mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = gelu_of::<FMA>(x);
        }
    }
}

vectorised! {
    /// Recomputes `activation = gelu(x)` and turns `gradient`, that of the activation, into that of `x`.
    ///
    /// ```
    /// let (mut activation, mut gradient) = ([0.0; 2], [1.0, 2.0]);
    /// epsilon_kernels::vector::gelu_backward(&[0.0, 1.0], &mut activation, &mut gradient);
    /// // GELU's slope is 0.5 at 0 and 1.083315 at 1.
    /// assert!((gradient[0] - 0.5).abs() < 1e-6 && (gradient[1] - 2.0 * 1.083_315).abs() < 1e-5);
    /// ```
    pub fn gelu_backward(x: &[f32], activation: &mut [f32], gradient: &mut [f32]) {
        for ((activation, gradient), &x) in activation.iter_mut().zip(gradient).zip(x) {
            let (cdf, density) = normal::<FMA>(x);
            *activation = x * cdf;
            *gradient *= fma::<FMA>(x, density, cdf);
        }
    }
}

vectorised! {
    /// As [`gelu_backward`], with the activation in the place of `x`.
    pub fn gelu_backward_in_place(x: &mut [f32], gradient: &mut [f32]) {
        for (x, gradient) in x.iter_mut().zip(gradient) {
            let (cdf, density) = normal::<FMA>(*x);
            *gradient *= fma::<FMA>(*x, density, cdf);
            *x *= cdf;
        }
    }
}

vectorised! {
    /// Adds `row` to every row of `x`.
    ///
    /// ```
    /// let mut x = [1.0, 2.0, 3.0, 4.0];
    /// epsilon_kernels::vector::add_row(&mut x, &[10.0, 20.0]);
    /// assert_eq!(x, [11.0, 22.0, 13.0, 24.0]);
    /// ```
    ///
    /// # Panics
    /// When `row` is empty.
    pub fn add_row(x: &mut [f32], row: &[f32]) {
        for x in x.chunks_exact_mut(row.len()) {
            for (x, &r) in x.iter_mut().zip(row) {
                *x += r;
            }
        }
    }
}

vectorised! {
    /// Adds the sum over the rows of `x` to `sum`.
    ///
    /// # Panics
    /// When `sum` is empty.
    pub fn add_column_sums(x: &[f32], sum: &mut [f32]) {
        for x in x.chunks_exact(sum.len()) {
            for (sum, &x) in sum.iter_mut().zip(x) {
                *sum += x;
            }
        }
    }
}

vectorised! {
    /// The logistic ranking loss of one score `top` against `others`: for every other score s adds the slope
    /// `sigmoid(s - top)` to `gradient`, and to `sums` the sum of the losses `log(1 + exp(s - top))` and that of the slopes.
    pub fn logistic_pairs(others: &[f32], top: f32, gradient: &mut [f32], sums: &mut [f64; 2]) {
        const LANES: usize = 16;
        let (mut values, mut slopes) = ([0.0f32; LANES], [0.0f32; LANES]);
        for (others, gradient) in others.chunks(LANES).zip(gradient.chunks_mut(LANES)) {
            let lanes = values.iter_mut().zip(&mut slopes);
            for ((&other, gradient), (value, slope)) in others.iter().zip(gradient).zip(lanes) {
                let gap = other - top;
                let t = exp::<FMA>(-gap.abs());
                let sigmoid = if gap < 0.0 { t / (1.0 + t) } else { 1.0 / (1.0 + t) };
                *value += gap.max(0.0) + log_one_plus::<FMA>(t);
                *slope += sigmoid;
                *gradient += sigmoid;
            }
        }
        sums[0] += values.iter().map(|&v| f64::from(v)).sum::<f64>();
        sums[1] += slopes.iter().map(|&v| f64::from(v)).sum::<f64>();
    }
}

vectorised! {
    /// One Adam step in place: the weight, and the first and second moment. `constants` are the L2 weight, beta1, beta2,
    /// epsilon and the rate.
    ///
    /// ```
    /// let (mut weight, mut first, mut second) = ([1.0], [0.0], [0.0]);
    /// let constants = [0.0, 0.5, 0.75, 0.0, 0.1];
    /// epsilon_kernels::vector::adam(&[2.0], &mut weight, &mut first, &mut second, constants);
    /// assert_eq!((weight, first, second), ([0.9], [1.0], [1.0]));
    /// ```
    pub fn adam(
        gradient: &[f32],
        weight: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        constants: [f32; 5],
    ) {
        let [decay, beta1, beta2, epsilon, rate] = constants;
        let moments = first.iter_mut().zip(second);
        for ((weight, &gradient), (first, second)) in weight.iter_mut().zip(gradient).zip(moments) {
            let gradient = fma::<FMA>(decay, *weight, gradient);
            *first = fma::<FMA>(1.0 - beta1, gradient, beta1 * *first);
            *second = fma::<FMA>(1.0 - beta2, gradient * gradient, beta2 * *second);
            *weight -= rate * *first / (second.sqrt() + epsilon);
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

vectorised! {
    /// Adds `factor x` to `sum`.
    pub fn add_scaled(x: &[f32], factor: f32, sum: &mut [f32]) {
        for (sum, &x) in sum.iter_mut().zip(x) {
            *sum = fma::<FMA>(factor, x, *sum);
        }
    }
}

vectorised! {
    /// `sum += a b`, element by element.
    pub fn add_product(a: &[f32], b: &[f32], sum: &mut [f32]) {
        for ((sum, &a), &b) in sum.iter_mut().zip(a).zip(b) {
            *sum = fma::<FMA>(a, b, *sum);
        }
    }
}

vectorised! {
    /// The leaky ReLU in place: values below 0 times `slope`; with 0 the ReLU.
    pub fn leaky_relu(x: &mut [f32], slope: f32) {
        for x in x {
            *x = if *x < 0.0 { *x * slope } else { *x };
        }
    }
}

vectorised! {
    /// Turns the gradient of [`leaky_relu`]'s result `y` into that of its input; at 0 it is 0 times the slope, as below.
    pub fn leaky_relu_backward(y: &[f32], slope: f32, gradient: &mut [f32]) {
        for (gradient, &y) in gradient.iter_mut().zip(y) {
            *gradient = if y > 0.0 { *gradient } else { *gradient * slope };
        }
    }
}

vectorised! {
    /// `1 / (1 + e^-x)` in place, within 2e-7.
    pub fn sigmoid(x: &mut [f32]) {
        for x in x {
            *x = 1.0 / (1.0 + exp::<FMA>(-*x));
        }
    }
}

vectorised! {
    /// `tanh x` in place, within 2e-7.
    pub fn tanh(x: &mut [f32]) {
        for x in x {
            *x = 1.0 - 2.0 / (exp::<FMA>(2.0 * *x) + 1.0);
        }
    }
}

/// Lanes that the sums of nine products are made in.
const LANES: usize = 16;

/// `count` groups of lanes and what is left, of slices that are as long as each other.
#[inline(always)]
fn nine_lanes(slices: [&[f32]; 9], length: usize) -> [(&[[f32; LANES]], &[f32]); 9] {
    slices.map(|slice| slice[..length].as_chunks())
}

vectorised! {
    /// `out = sum of a_i b_i` over nine rows, element by element.
    ///
    /// # Panics
    /// When a row is shorter than `out`.
    pub fn nine_products(a: [&[f32]; 9], b: [&[f32]; 9], out: &mut [f32]) {
        let length = out.len();
        let (a, b) = (nine_lanes(a, length), nine_lanes(b, length));
        let (whole, rest) = out.as_chunks_mut::<LANES>();
        for (place, out) in whole.iter_mut().enumerate() {
            let mut sum = [0.0; LANES];
            for ((a, _), (b, _)) in a.iter().zip(&b) {
                for ((sum, &a), &b) in sum.iter_mut().zip(&a[place]).zip(&b[place]) {
                    *sum = fma::<FMA>(a, b, *sum);
                }
            }
            *out = sum;
        }
        for (place, out) in rest.iter_mut().enumerate() {
            let products = a.iter().zip(&b).map(|((_, a), (_, b))| [a[place], b[place]]);
            *out = products.fold(0.0, |sum, [a, b]| fma::<FMA>(a, b, sum));
        }
    }
}

vectorised! {
    /// `sums_i += a_i b` for nine rows, element by element; the rows of the sums, as long as `b`, one after the other.
    ///
    /// # Panics
    /// When a row is too short.
    pub fn add_nine_products(a: [&[f32]; 9], b: &[f32], sums: &mut [f32]) {
        for (a, sums) in a.iter().zip(sums.chunks_exact_mut(b.len())) {
            let a = &a[..b.len()];
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum = fma::<FMA>(a, b, *sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `erf` by its Taylor series in f64, good for |x| < 4.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn exp_is_close_on_both_paths() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            for value in [exp::<true>(x), exp::<false>(x)] {
                assert!(
                    (f64::from(value) / exact - 1.0).abs() < 3e-7,
                    "exp({x}) = {value}"
                );
            }
        }
        assert!(exp::<true>(-1e30) > 0.0 && exp::<true>(1e30).is_finite());
    }

    #[test]
    fn gelu_and_its_gradient_are_close() {
        let x: Vec<f32> = (-400..=400).map(|i| i as f32 / 100.0).collect();
        let mut value = vec![0.0; x.len()];
        gelu(&x, &mut value);
        let (mut again, mut gradient) = (vec![0.0; x.len()], vec![2.0; x.len()]);
        gelu_backward(&x, &mut again, &mut gradient);
        assert_eq!(value, again);
        for (i, &x) in x.iter().enumerate() {
            let x = f64::from(x);
            let cdf = 0.5 * (1.0 + erf(x / 2f64.sqrt()));
            let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
            assert!((f64::from(value[i]) - x * cdf).abs() < 5e-7, "gelu({x})");
            assert!(
                (f64::from(gradient[i]) - 2.0 * (cdf + x * density)).abs() < 2e-6,
                "gelu'({x})"
            );
        }
    }

    #[test]
    fn pairs_sum_values_and_slopes() {
        let others: Vec<f32> = (-60..=60).map(|i| i as f32 / 3.0).collect();
        let (mut gradient, mut sums) = (vec![0.0; others.len()], [0.0; 2]);
        logistic_pairs(&others, 0.5, &mut gradient, &mut sums);
        let exact: f64 = others
            .iter()
            .map(|&s| (f64::from(s) - 0.5).exp().ln_1p())
            .sum();
        assert!((sums[0] / exact - 1.0).abs() < 1e-6);
        for (&s, &slope) in others.iter().zip(&gradient) {
            let exact = 1.0 / (1.0 + (0.5 - f64::from(s)).exp());
            assert!((f64::from(slope) - exact).abs() < 2e-7);
        }
        assert!((sums[1] - gradient.iter().map(|&p| f64::from(p)).sum::<f64>()).abs() < 1e-4);
    }

    #[test]
    fn rows_and_column_sums() {
        let mut x = [1.0, 2.0, 3.0, 4.0];
        add_row(&mut x, &[10.0, 20.0]);
        assert_eq!(x, [11.0, 22.0, 13.0, 24.0]);
        let mut sum = [1.0, 1.0];
        add_column_sums(&x, &mut sum);
        assert_eq!(sum, [25.0, 47.0]);
    }

    fn gelu_in_place(values: &mut [f32]) {
        let x = values.to_vec();
        gelu(&x, values);
    }

    vectorised! {
        fn quick_gelu(x: &mut [f32]) {
            for x in x {
                *x = quick_gelu_of::<FMA>(*x);
            }
        }
    }

    #[test]
    fn gelu_agrees_with_known_values() {
        // x Phi(x), Phi from tables of the normal distribution.
        let mut values = [0.0, 1.0, -1.0, 2.0, -3.0, 0.5, 50.0, -50.0];
        gelu_in_place(&mut values);
        let expected = [
            0.0,
            0.841_344_7,
            -0.158_655_3,
            1.954_499_7,
            -0.004_049_7,
            0.345_731_2,
            50.0,
            0.0,
        ];
        for (ours, expected) in values.iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-6, "{ours} for {expected}");
        }
    }

    #[test]
    fn gelu_agrees_with_the_series_of_erf() {
        let inputs: Vec<f32> = (-5600..=5600).map(|i| i as f32 / 1000.0).collect();
        let mut values = inputs.clone();
        gelu_in_place(&mut values);
        for (ours, x) in values.iter().zip(inputs.iter().copied().map(f64::from)) {
            let expected = x / 2.0 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
            assert!(
                (f64::from(*ours) - expected).abs() < 1.5e-6,
                "{x}: {ours} for {expected}"
            );
        }
    }

    vectorised! {
        fn tanh_gelu(x: &mut [f32]) {
            for x in x {
                *x = tanh_gelu_of::<FMA>(*x);
            }
        }
    }

    #[test]
    fn tanh_gelu_agrees_with_f64() {
        let inputs: Vec<f32> = (-9000..=9000).map(|i| i as f32 / 100.0).collect();
        let mut values = inputs.clone();
        tanh_gelu(&mut values);
        for (ours, x) in values.iter().zip(inputs.iter().copied().map(f64::from)) {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            let expected = 0.5 * x * (1.0 + inner.tanh());
            let allowed = 5e-7 * expected.abs().max(1.0);
            assert!(
                (f64::from(*ours) - expected).abs() < allowed,
                "{x}: {ours} for {expected}"
            );
        }
    }

    #[test]
    fn quick_gelu_agrees_with_f64() {
        let inputs: Vec<f32> = (-9000..=9000).map(|i| i as f32 / 100.0).collect();
        let mut values = inputs.clone();
        quick_gelu(&mut values);
        for (ours, x) in values.iter().zip(inputs.iter().copied().map(f64::from)) {
            let expected = x / (1.0 + (-1.702 * x).exp());
            let allowed = 5e-7 * expected.abs().max(1.0);
            assert!(
                (f64::from(*ours) - expected).abs() < allowed,
                "{x}: {ours} for {expected}"
            );
        }
    }

    #[test]
    fn sigmoid_and_tanh_equal_the_standard_librarys() {
        let x: Vec<f32> = (-4000..=4000).map(|step| step as f32 * 0.025).collect();
        for (level, (sigmoids, tanhs)) in crate::cpu::cap::at_every_level(|| {
            let (mut sigmoids, mut tanhs) = (x.clone(), x.clone());
            sigmoid(&mut sigmoids);
            tanh(&mut tanhs);
            (sigmoids, tanhs)
        }) {
            for (i, &x) in x.iter().enumerate() {
                let x = f64::from(x);
                let expected = 1.0 / (1.0 + (-x).exp());
                assert!(
                    (f64::from(sigmoids[i]) - expected).abs() < 2e-7,
                    "{level} {x}"
                );
                assert!((f64::from(tanhs[i]) - x.tanh()).abs() < 2e-7, "{level} {x}");
            }
        }
        let mut odd = [f32::NAN; 2];
        sigmoid(&mut odd[..1]);
        tanh(&mut odd[1..]);
        assert!(odd.iter().all(|x| x.is_nan()));
    }

    #[test]
    fn leaky_values_and_slopes_by_hand() {
        let mut y = [-2.0, 0.0, 3.0];
        leaky_relu(&mut y, 0.5);
        assert_eq!(y, [-1.0, 0.0, 3.0]);
        let mut gradient = [1.0, 1.0, 1.0];
        leaky_relu_backward(&y, 0.5, &mut gradient);
        assert_eq!(gradient, [0.5, 0.5, 1.0]);
        let mut odd = [f32::NAN];
        leaky_relu(&mut odd, 0.0);
        assert!(odd[0].is_nan());
    }

    #[test]
    fn nine_products_and_their_sums() {
        let length = LANES + 3;
        let row = |seed: usize| -> Vec<f32> {
            (0..length).map(|i| ((7 * i + seed) % 5) as f32).collect()
        };
        let (a, b): (Vec<_>, Vec<_>) = (0..9).map(|i| (row(i), row(3 * i + 1))).unzip();
        let of = |rows: &[Vec<f32>]| -> [Vec<f32>; 9] { rows.to_vec().try_into().unwrap() };
        let (a, b) = (of(&a), of(&b));
        for (_, (out, sums)) in crate::cpu::cap::at_every_level(|| {
            let (mut out, mut sums) = (vec![0.0; length], vec![1.0; 9 * length]);
            nine_products(
                a.each_ref().map(Vec::as_slice),
                b.each_ref().map(Vec::as_slice),
                &mut out,
            );
            add_nine_products(a.each_ref().map(Vec::as_slice), &b[0], &mut sums);
            (out, sums)
        }) {
            for i in 0..length {
                assert_eq!(out[i], (0..9).map(|t| a[t][i] * b[t][i]).sum::<f32>());
                for t in 0..9 {
                    assert_eq!(sums[t * length + i], 1.0 + a[t][i] * b[0][i]);
                }
            }
        }
    }

    #[test]
    fn not_a_number_stays_visible() {
        let mut values = [f32::NAN; 20];
        gelu_in_place(&mut values);
        assert!(values.iter().all(|x| x.is_nan()));
        quick_gelu(&mut values);
        assert!(values.iter().all(|x| x.is_nan()));
    }
}
