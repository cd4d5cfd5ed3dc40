//! What becomes of the sums of a product before they are written: a bias, an addition, an activation.

use std::ops::Range;

use pulp::Simd;

use crate::vector::{gelu_of, quick_gelu_of, tanh_gelu_of};

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
    /// GELU's approximation by a hyperbolic tangent, `x sigmoid(sqrt(8 / pi) (x + 0.044715 x^3))`.
    TanhGelu,
}

impl Finish<'_> {
    /// The sums as they are.
    pub const PLAIN: Self = Self {
        bias: &[],
        after: After::Store,
    };
}

/// Writes the rows of a product, `stride` values apart.
pub(crate) struct Writer<'a> {
    pub finish: Finish<'a>,
    pub out: &'a mut [f32],
    pub stride: usize,
}

impl Writer<'_> {
    /// Writes a piece of a row. `sums` holds the columns in order, and more lanes than columns at the last panel's end.
    #[inline(always)]
    pub(crate) fn write<S: Simd>(
        &mut self,
        simd: S,
        row: usize,
        columns: Range<usize>,
        sums: &[S::f32s],
    ) {
        let out = &mut self.out[row * self.stride..][columns.clone()];
        let bias = match self.finish.bias {
            [] => &[],
            bias => &bias[columns],
        };
        let mut biases = bias.chunks(S::F32_LANES);
        for (sum, out) in sums.iter().zip(out.chunks_mut(S::F32_LANES)) {
            let mut value = *sum;
            if let Some(bias) = biases.next() {
                value = simd.add_f32s(value, load(simd, bias));
            }
            if self.finish.after == After::Add {
                value = simd.add_f32s(value, load(simd, out));
            }
            store(simd, out, value);
        }
        let fused = S::F32_LANES >= 8 || cfg!(target_arch = "aarch64");
        match (self.finish.after, fused) {
            (After::Store | After::Add, _) => {}
            (After::Gelu, true) => map(out, gelu_of::<true>),
            (After::Gelu, false) => map(out, gelu_of::<false>),
            (After::QuickGelu, true) => map(out, quick_gelu_of::<true>),
            (After::QuickGelu, false) => map(out, quick_gelu_of::<false>),
            (After::TanhGelu, true) => map(out, tanh_gelu_of::<true>),
            (After::TanhGelu, false) => map(out, tanh_gelu_of::<false>),
        }
    }
}

/// Replaces every value, a register's worth at a time.
#[inline(always)]
fn map(out: &mut [f32], of: impl Fn(f32) -> f32) {
    let (lanes, rest) = out.as_chunks_mut::<16>();
    for lanes in lanes {
        // A loop and not `array::map`, whose body would be compiled without the instructions of this function.
        for x in lanes {
            *x = of(*x);
        }
    }
    for x in rest {
        *x = of(*x);
    }
}

/// Up to one register of values. A whole one is common and takes a plain load instead of a masked one.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
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
