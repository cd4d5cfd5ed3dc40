//! The inner loops of the CPU engine: products with packed matrices, layer normalisation, GELU and
//! softmax, each compiled for every instruction set and chosen at run time. A portable build is fast.

use std::f32::consts::FRAC_1_SQRT_2;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Columns of a matrix that are kept side by side: two AVX-512 registers, four of AVX.
const PANEL: usize = 32;

/// One row of a panel, on a cache line's boundary.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Step([f32; PANEL]);

/// A matrix `[depth, columns]` laid out for [`product`]: panels of 32 columns, each row by row, the last
/// filled up with zeros.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    depth: usize,
    columns: usize,
    panels: Vec<Step>,
}

/// Where the elements of a matrix `[depth, columns]` lie in a slice.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Rows: the summed dimension.
    pub depth: usize,
    /// Columns.
    pub columns: usize,
    /// Distance between an element and the one below it.
    pub down: usize,
    /// Distance between an element and the one right of it.
    pub right: usize,
}

impl Packed {
    /// Packs a matrix.
    pub fn new(source: &[f32], layout: Layout) -> Self {
        let mut packed = Self::default();
        packed.pack(source, layout);
        packed
    }

    /// Replaces the content, reusing the memory.
    pub fn pack(&mut self, source: &[f32], layout: Layout) {
        let Layout {
            depth,
            columns,
            down,
            right,
        } = layout;
        self.depth = depth;
        self.columns = columns;
        let steps = depth * columns.div_ceil(PANEL);
        self.panels.clear();
        self.panels.resize(steps, Step([0.0; PANEL]));
        if depth == 0 {
            return;
        }
        for (panel, first) in self
            .panels
            .chunks_exact_mut(depth)
            .zip((0..).step_by(PANEL))
        {
            let width = PANEL.min(columns - first);
            for (k, step) in panel.iter_mut().enumerate() {
                let from = &source[k * down + first * right..];
                let from = from.iter().step_by(right);
                for (to, value) in step.0[..width].iter_mut().zip(from) {
                    *to = *value;
                }
            }
        }
    }
}

/// `count` rows of a slice, `stride` values apart.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The values, from the first row on.
    pub data: &'a [f32],
    /// Values from the start of a row to that of the next.
    pub stride: usize,
    /// Number of rows.
    pub count: usize,
}

impl<'a> Rows<'a> {
    /// The first `width` values of each row.
    pub fn iter(self, width: usize) -> impl Iterator<Item = &'a [f32]> {
        (0..self.count).map(move |row| &self.data[row * self.stride..][..width])
    }

    /// At most `count` rows from `first` on.
    pub fn part(self, first: usize, count: usize) -> Self {
        Self {
            data: &self.data[first * self.stride..],
            count: count.min(self.count - first),
            ..self
        }
    }
}

/// What becomes of the sums of a product.
#[derive(Clone, Copy, Debug)]
pub struct Finish<'a> {
    /// One value a column, added first; empty where there is nothing to add.
    pub bias: &'a [f32],
    /// What follows.
    pub after: After,
}

/// What is done with a product once its bias is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It replaces what the output holds.
    Store,
    /// It is added to what the output holds.
    Add,
    /// Its GELU replaces what the output holds.
    Gelu,
    /// CLIP's approximation of GELU, `x sigmoid(1.702 x)`.
    QuickGelu,
}

impl Finish<'_> {
    /// The sums as they are.
    pub const PLAIN: Self = Self {
        bias: &[],
        after: After::Store,
    };

    /// Writes a piece of a row, whose columns are `columns`.
    #[inline(always)]
    pub fn write<S: Simd>(self, simd: S, sums: &[S::f32s], columns: Range<usize>, out: &mut [f32]) {
        let bias = match self.bias {
            [] => &[],
            bias => &bias[columns],
        };
        let mut biases = bias.chunks(S::F32_LANES);
        for (sum, out) in sums.iter().zip(out.chunks_mut(S::F32_LANES)) {
            let mut value = *sum;
            if let Some(bias) = biases.next() {
                value = simd.add_f32s(value, load(simd, bias));
            }
            match self.after {
                After::Store => {}
                After::Add => value = simd.add_f32s(value, load(simd, out)),
                After::Gelu => value = gelu_of(simd, value),
                After::QuickGelu => value = quick_gelu_of(simd, value),
            }
            store(simd, out, value);
        }
    }
}

/// `out = finish(a b)`: row `i` of the result lies at `out[i * out_stride..]`. `a` has `b.depth` columns.
pub fn product(a: Rows, b: &Packed, finish: Finish, out: &mut [f32], out_stride: usize) {
    Arch::new().dispatch(Product {
        a,
        b,
        finish,
        out,
        out_stride,
    });
}

struct Product<'a> {
    a: Rows<'a>,
    b: &'a Packed,
    finish: Finish<'a>,
    out: &'a mut [f32],
    out_stride: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Accumulators fill the registers, but for one row of the panel and one value of `a`.
        match (S::F32_LANES, S::REGISTER_COUNT) {
            (16, _) => self.tiles::<S, 2, 12>(simd),
            (8, _) => self.tiles::<S, 4, 3>(simd),
            (4, 32..) => self.tiles::<S, 8, 3>(simd),
            (4, _) => self.tiles::<S, 8, 1>(simd),
            _ => self.tiles::<S, PANEL, 1>(simd),
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const VECTORS: usize, const ROWS: usize>(mut self, simd: S) {
        let depth = self.b.depth;
        for (index, panel) in self.b.panels.chunks_exact(depth.max(1)).enumerate() {
            let mut row = 0;
            while row + ROWS <= self.a.count {
                self.tile::<S, VECTORS, ROWS>(simd, panel, index, row);
                row += ROWS;
            }
            let rest = self.a.count - row;
            macro_rules! rest {
                ($($rows:literal)*) => {
                    match rest {
                        $($rows if $rows < ROWS => self.tile::<S, VECTORS, $rows>(simd, panel, index, row),)*
                        _ => {}
                    }
                };
            }
            rest!(1 2 3 4 5 6 7 8 9 10 11);
        }
    }

    /// `ROWS` rows of one panel.
    #[inline(always)]
    fn tile<S: Simd, const VECTORS: usize, const ROWS: usize>(
        &mut self,
        simd: S,
        panel: &[Step],
        index: usize,
        row: usize,
    ) {
        let a: [&[f32]; ROWS] = std::array::from_fn(|r| {
            let from = (row + r) * self.a.stride;
            &self.a.data[from..from + panel.len()]
        });
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        for (k, step) in panel.iter().enumerate() {
            let (b, _) = S::as_simd_f32s(&step.0);
            for (sums, a) in sums.iter_mut().zip(&a) {
                let a = simd.splat_f32s(a[k]);
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = simd.mul_add_e_f32s(a, *b, *sum);
                }
            }
        }
        let first = index * PANEL;
        let width = PANEL.min(self.b.columns - first);
        for (r, sums) in sums.iter().enumerate() {
            let at = (row + r) * self.out_stride + first;
            let out = &mut self.out[at..at + width];
            self.finish.write(simd, sums, first..first + width, out);
        }
    }
}

/// Up to one register of values. A whole one is common and takes a plain load instead of a masked one.
#[inline(always)]
pub fn load<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
    match S::as_simd_f32s(values) {
        ([whole], _) => *whole,
        _ => simd.partial_load_f32s(values),
    }
}

/// The counterpart of [`load`].
#[inline(always)]
fn store<S: Simd>(simd: S, out: &mut [f32], values: S::f32s) {
    if let ([whole], _) = S::as_mut_simd_f32s(out) {
        *whole = values;
        return;
    }
    simd.partial_store_f32s(out, values);
}

/// `out = (x - mean) / sqrt(variance + epsilon) * weight + bias` over one row, with the biased variance.
pub fn layer_norm(x: &[f32], norm: &Norm, out: &mut [f32]) {
    Arch::new().dispatch(LayerNorm { x, norm, out });
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

struct LayerNorm<'a> {
    x: &'a [f32],
    norm: &'a Norm,
    out: &'a mut [f32],
}

impl WithSimd for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let scale = 1.0 / self.x.len() as f32;
        let (vectors, rest) = S::as_simd_f32s(self.x);
        let mut sums = simd.splat_f32s(0.0);
        for x in vectors {
            sums = simd.add_f32s(sums, *x);
        }
        let mean = (simd.reduce_sum_f32s(sums) + rest.iter().sum::<f32>()) * scale;
        let means = simd.splat_f32s(mean);
        let mut squares = simd.splat_f32s(0.0);
        for x in vectors {
            let centred = simd.sub_f32s(*x, means);
            squares = simd.mul_add_e_f32s(centred, centred, squares);
        }
        let tail: f32 = rest.iter().map(|x| (x - mean) * (x - mean)).sum();
        let variance = (simd.reduce_sum_f32s(squares) + tail) * scale;
        let inverse = 1.0 / (variance + self.norm.epsilon).sqrt();
        let inverses = simd.splat_f32s(inverse);

        let (weights, weight_rest) = S::as_simd_f32s(&self.norm.weight);
        let (biases, bias_rest) = S::as_simd_f32s(&self.norm.bias);
        let (out, out_rest) = S::as_mut_simd_f32s(self.out);
        for (((out, x), weight), bias) in out.iter_mut().zip(vectors).zip(weights).zip(biases) {
            let x = simd.mul_f32s(simd.sub_f32s(*x, means), inverses);
            *out = simd.mul_add_e_f32s(x, *weight, *bias);
        }
        let parameters = weight_rest.iter().zip(bias_rest);
        for ((out, x), (weight, bias)) in out_rest.iter_mut().zip(rest).zip(parameters) {
            *out = (x - mean) * inverse * weight + bias;
        }
    }
}

/// `x / 2 (1 + erf(x / sqrt(2)))`.
#[inline(always)]
fn gelu_of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let erf = erf(simd, simd.mul_f32s(x, simd.splat_f32s(FRAC_1_SQRT_2)));
    let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
    simd.mul_add_e_f32s(half, erf, half)
}

/// `x sigmoid(1.702 x)`.
#[inline(always)]
fn quick_gelu_of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Beyond exp(87) the result is zero to f32.
    let inner = simd.mul_f32s(x, simd.splat_f32s(-1.702));
    let inner = exp(simd, simd.min_f32s(inner, simd.splat_f32s(87.0)));
    simd.div_f32s(x, simd.add_f32s(inner, simd.splat_f32s(1.0)))
}

/// Numerator and denominator, in powers of x^2 from the highest, of a fit of erf(x) / x on |x| <= 3.92
/// (least squares, reweighted towards the smallest largest error: 1.6e-8, and 4e-7 with f32 rounding).
const ERF_NUMERATOR: [f32; 6] = [
    2.034_742e-6,
    2.874_799_2e-4,
    3.868_327e-3,
    5.306_048e-2,
    1.927_639_8e-1,
    std::f32::consts::FRAC_2_SQRT_PI,
];
const ERF_DENOMINATOR: [f32; 6] = [
    3.807_074_6e-5,
    1.188_116_1e-3,
    1.517_229_3e-2,
    1.150_846e-1,
    5.041_643e-1,
    1.0,
];

#[inline(always)]
fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Beyond 3.92 erf differs from 1 by less than f32 can tell.
    let x = simd.min_f32s(x, simd.splat_f32s(3.92));
    let x = simd.max_f32s(x, simd.splat_f32s(-3.92));
    let square = simd.mul_f32s(x, x);
    let numerator = simd.mul_f32s(x, polynomial(simd, square, &ERF_NUMERATOR));
    simd.div_f32s(numerator, polynomial(simd, square, &ERF_DENOMINATOR))
}

/// Horner's rule, highest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::f32s, coefficients: &[f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[0]);
    for coefficient in &coefficients[1..] {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(*coefficient));
    }
    sum
}

/// Makes one row of scores non-negative with sum 1: `exp(x - max) / sum`.
pub fn softmax(row: &mut [f32]) {
    Arch::new().dispatch(Softmax { row });
}

struct Softmax<'a> {
    row: &'a mut [f32],
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, rest) = S::as_mut_simd_f32s(self.row);
        let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
        for x in vectors.iter() {
            largest = simd.max_f32s(largest, *x);
        }
        let largest = rest
            .iter()
            .copied()
            .fold(simd.reduce_max_f32s(largest), f32::max);
        let shift = simd.splat_f32s(largest);
        let mut sums = simd.splat_f32s(0.0);
        for x in vectors.iter_mut() {
            *x = exp(simd, simd.sub_f32s(*x, shift));
            sums = simd.add_f32s(sums, *x);
        }
        if !rest.is_empty() {
            let x = simd.sub_f32s(simd.partial_load_f32s(rest), shift);
            let x = exp(simd, x);
            simd.partial_store_f32s(rest, x);
        }
        let sum = simd.reduce_sum_f32s(sums) + rest.iter().sum::<f32>();
        let scale = simd.splat_f32s(1.0 / sum);
        for x in vectors {
            *x = simd.mul_f32s(*x, scale);
        }
        for x in rest {
            *x /= sum;
        }
    }
}

/// exp(x) for x <= 87: x = n ln 2 + r with |r| <= ln 2 / 2, a Taylor polynomial for exp(r), and n put into the exponent.
#[inline(always)]
fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// Adding and taking away 1.5 * 2^23 rounds to a whole number, which the lowest bits then hold.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first short enough that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = simd.max_f32s(x, simd.splat_f32s(-87.0));
    let rounded = simd.mul_add_e_f32s(
        x,
        simd.splat_f32s(std::f32::consts::LOG2_E),
        simd.splat_f32s(ROUND),
    );
    let n = simd.sub_f32s(rounded, simd.splat_f32s(ROUND));
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_HIGH), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_LOW), r);
    let taylor = [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let fraction = polynomial(simd, r, &taylor);
    let bits = simd.transmute_u32s_f32s(rounded);
    let exponent = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23));
    let power = simd.add_u32s(simd.transmute_u32s_f32s(fraction), exponent);
    simd.transmute_f32s_u32s(power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A weight matrix as PyTorch keeps it, `[columns, depth]`.
    fn packed_weight(weight: &[f32], columns: usize, depth: usize) -> Packed {
        let layout = Layout {
            depth,
            columns,
            down: 1,
            right: depth,
        };
        Packed::new(weight, layout)
    }

    /// GELU of every value.
    struct Gelu<'a>(&'a mut [f32]);

    impl WithSimd for Gelu<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            for values in self.0.chunks_mut(S::F32_LANES) {
                let out = gelu_of(simd, load(simd, values));
                store(simd, values, out);
            }
        }
    }

    fn gelu(values: &mut [f32]) {
        Arch::new().dispatch(Gelu(values));
    }

    /// Quick GELU of every value.
    struct QuickGelu<'a>(&'a mut [f32]);

    impl WithSimd for QuickGelu<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            for values in self.0.chunks_mut(S::F32_LANES) {
                let out = quick_gelu_of(simd, load(simd, values));
                store(simd, values, out);
            }
        }
    }

    fn quick_gelu(values: &mut [f32]) {
        Arch::new().dispatch(QuickGelu(values));
    }

    #[test]
    fn a_product_by_hand() {
        // [1 2; 3 4; 5 6] times [1 10 100; 2 20 200], with the bias [0.5, 0, -1].
        let mut b = Packed::default();
        let layout = Layout {
            depth: 2,
            columns: 3,
            down: 3,
            right: 1,
        };
        b.pack(&[1., 10., 100., 2., 20., 200.], layout);
        let a = Rows {
            data: &[1., 2., 3., 4., 5., 6.],
            stride: 2,
            count: 3,
        };
        let mut out = [9.0; 12];
        let finish = |after| Finish {
            bias: &[0.5, 0.0, -1.0],
            after,
        };
        product(a, &b, finish(After::Store), &mut out, 4);
        let expected = [
            5.5, 50., 499., 9., 11.5, 110., 1099., 9., 17.5, 170., 1699., 9.,
        ];
        assert_eq!(out, expected);
        product(a, &b, finish(After::Add), &mut out, 4);
        assert_eq!(&out[..4], &[11., 100., 998., 9.]);
        product(a, &b, Finish::PLAIN, &mut out, 4);
        assert_eq!(&out[..4], &[5., 50., 500., 9.]);
    }

    proptest! {
        #[test]
        fn products_of_any_shape(rows in 0usize..40, depth in 1usize..50, columns in 1usize..80, seed: u32) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as f32 - 128.0
            };
            let a: Vec<f32> = (0..rows * depth).map(|_| next()).collect();
            let b: Vec<f32> = (0..columns * depth).map(|_| next()).collect();
            let packed = packed_weight(&b, columns, depth);
            let mut out = vec![f32::NAN; rows * columns];
            product(Rows { data: &a, stride: depth, count: rows }, &packed, Finish::PLAIN, &mut out, columns);
            for i in 0..rows {
                for j in 0..columns {
                    // Whole numbers: every order of summation gives the same.
                    let expected: f32 = (0..depth).map(|k| a[i * depth + k] * b[j * depth + k]).sum();
                    prop_assert_eq!(out[i * columns + j], expected);
                }
            }
        }

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
    fn gelu_agrees_with_known_values() {
        // x Phi(x), Phi from tables of the normal distribution.
        let mut values = [0.0, 1.0, -1.0, 2.0, -3.0, 0.5, 50.0, -50.0];
        gelu(&mut values);
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
    fn not_a_number_stays_visible() {
        let mut values = [f32::NAN; 20];
        gelu(&mut values);
        assert!(values.iter().all(|x| x.is_nan()));
        quick_gelu(&mut values);
        assert!(values.iter().all(|x| x.is_nan()));
        let mut row = [f32::NAN, 1.0];
        softmax(&mut row);
        let norm = Norm {
            weight: vec![1.0; 2],
            bias: vec![0.0; 2],
            epsilon: 1e-6,
        };
        let mut out = [0.0; 2];
        layer_norm(&[f32::NAN, 1.0], &norm, &mut out);
        assert!(row.iter().chain(&out).any(|x| x.is_nan()));
    }

    #[test]
    fn gelu_agrees_with_the_series_of_erf() {
        // erf(x) = 2 / sqrt(pi) sum_k (-1)^k x^(2k+1) / (k! (2k+1)), enough in f64 for |x| <= 4.
        let erf = |x: f64| {
            let (mut term, mut sum) = (x, x);
            for k in 1..120 {
                term *= -x * x / f64::from(k);
                sum += term / f64::from(2 * k + 1);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        };
        let inputs: Vec<f32> = (-5600..=5600).map(|i| i as f32 / 1000.0).collect();
        let mut values = inputs.clone();
        gelu(&mut values);
        for (ours, x) in values.iter().zip(inputs.iter().copied().map(f64::from)) {
            let expected = x / 2.0 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
            assert!(
                (f64::from(*ours) - expected).abs() < 1.5e-6,
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

    /// Everything once, with the instructions of `simd`.
    fn all<S: Simd>(simd: S) -> Vec<f32> {
        let wave = |count: usize, step: f32| -> Vec<f32> {
            (0..count).map(|i| (i as f32 * step).sin()).collect()
        };
        let (a, b, x) = (wave(27 * 19, 0.7), wave(45 * 19, 0.3), wave(45, 0.9));
        let packed = packed_weight(&b, 45, 19);
        let mut out = wave(27 * 45, 0.1);
        simd.vectorize(Product {
            a: Rows {
                data: &a,
                stride: 19,
                count: 27,
            },
            b: &packed,
            finish: Finish {
                bias: &x,
                after: After::Add,
            },
            out: &mut out,
            out_stride: 45,
        });
        simd.vectorize(Gelu(&mut out));
        simd.vectorize(QuickGelu(&mut out[90..]));
        let (norm, mut normed) = (
            Norm {
                weight: x.clone(),
                bias: x.clone(),
                epsilon: 1e-6,
            },
            vec![0.0; 45],
        );
        simd.vectorize(LayerNorm {
            x: &out[..45],
            norm: &norm,
            out: &mut normed,
        });
        simd.vectorize(Softmax {
            row: &mut out[45..90],
        });
        out.extend(normed);
        out
    }

    #[test]
    fn every_instruction_set_gives_the_same() {
        let expected = all(pulp::Scalar::new());
        let check = |name: &str, ours: Vec<f32>| {
            for (a, b) in ours.iter().zip(&expected) {
                assert!((a - b).abs() < 2e-5, "{name}: {a} for {b}");
            }
        };
        check("four lanes", all(pulp::Scalar128b));
        check("eight lanes", all(pulp::Scalar256b));
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = pulp::x86::V3::try_new() {
                check("AVX2", all(simd));
            }
            if let Some(simd) = pulp::x86::V4::try_new() {
                check("AVX-512", all(simd));
            }
        }
    }
}
