//! Products of f32 rows with a packed matrix, such as the weight of a layer, in tiles that fill the registers.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::cpu;
use crate::finish::{Finish, Writer, load};
use crate::panels::{PANEL, Panels, Step, parts, words_mut};
use crate::transpose::{Block, transpose};

/// Rows of the largest tile, of which a block of rows should be a multiple.
pub(crate) const TILE: usize = 12;

/// Panels that are filled at once.
const GROUP: usize = 8;

/// Values from which several threads fill the panels: with fewer, to wake them takes longer.
const SHARED: usize = 1 << 18;

/// A matrix `[depth, columns]` laid out as the right side of [`product`].
#[derive(Clone, Debug, Default)]
pub struct Packed(Panels<f32>);

impl Packed {
    /// Nothing, to be filled.
    pub(crate) const EMPTY: Self = Self(Panels::EMPTY);

    /// Replaces the content by a row-major matrix whose rows start `stride` values apart, reusing the memory. The last row
    /// may end with its last column.
    pub fn fill(&mut self, x: &[f32], columns: usize, stride: usize) {
        let depth = x.len().div_ceil(stride);
        self.0.fill_rows(depth, columns, |row, columns, out| {
            out.copy_from_slice(&x[row * stride..][columns]);
        });
    }

    /// Replaces the content by the transpose of a row-major matrix `[columns, depth]` whose rows start `stride` values
    /// apart.
    pub fn fill_transposed(&mut self, x: &[f32], depth: usize, stride: usize) {
        let from = Block {
            data: x,
            stride,
            rows: x.len().div_ceil(stride),
            columns: depth,
        };
        self.fill_matrix(from, false, 1);
    }

    /// Replaces the content by a matrix, or by its transpose where it is not `upright`, on so many threads.
    pub(crate) fn fill_matrix(&mut self, x: Block, upright: bool, threads: usize) {
        let (depth, columns) = match upright {
            true => (x.rows, x.columns),
            false => (x.columns, x.rows),
        };
        let fill = |group: &mut [(Range<usize>, &mut [Step<f32>])]| match upright {
            // Along the rows, some panels at a time: few pages are read at once.
            true => {
                for step in 0..depth {
                    let row = &x.data[step * x.stride..];
                    for (columns, panel) in group.iter_mut() {
                        copy(&row[columns.clone()], &mut panel[step].0);
                    }
                }
            }
            false => {
                for (columns, panel) in group {
                    let part = Block {
                        data: &x.data[columns.start * x.stride..],
                        rows: columns.len(),
                        ..x
                    };
                    transpose(part, words_mut(panel), PANEL);
                }
            }
        };
        let mut panels: Vec<_> = self.0.panels_mut(depth, columns).collect();
        if threads <= 1 || depth * columns < SHARED {
            panels.chunks_mut(GROUP).for_each(fill);
        } else {
            panels.par_chunks_mut(GROUP).for_each(fill);
        }
    }

    /// The transpose of a matrix, as [`Packed::fill_transposed`] takes it.
    pub fn transposed(x: &[f32], depth: usize, stride: usize) -> Self {
        let mut packed = Self::default();
        packed.fill_transposed(x, depth, stride);
        packed
    }
}

/// A whole row of a panel is common, and then no call.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32; PANEL]) {
    match from.first_chunk() {
        Some(whole) => *to = *whole,
        None => to[..from.len()].copy_from_slice(from),
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
    #[must_use]
    pub fn part(self, first: usize, count: usize) -> Self {
        Self {
            data: &self.data[first * self.stride..],
            count: count.min(self.count - first),
            ..self
        }
    }

    /// The values up to the `width`-th of the last row.
    pub(crate) fn values(self, width: usize) -> &'a [f32] {
        match self.count {
            0 => &[],
            count => &self.data[..(count - 1) * self.stride + width],
        }
    }
}

/// `out = finish(a b)`: row `i` of the result lies at `out[i * out_stride..]`. `a` has as many columns as `b` has rows.
///
/// ```
/// use epsilon_kernels::finish::{After, Finish};
/// use epsilon_kernels::packed::{Packed, Rows, product};
///
/// let mut weight = Packed::default();
/// weight.fill(&[1.0, 10.0, 2.0, 20.0], 2, 2); // [2, 2], row-major
/// let x = Rows { data: &[1.0, 1.0, 0.0, 3.0], stride: 2, count: 2 };
/// let finish = Finish { bias: &[0.5, 0.0], after: After::Store };
/// let mut out = [0.0; 4];
/// product(x, &weight, finish, &mut out, 2);
/// assert_eq!(out, [3.5, 30.0, 6.5, 60.0]);
/// ```
///
/// # Panics
/// When a row of `a`, the bias or a row of `out` is too short.
pub fn product(a: Rows, b: &Packed, finish: Finish, out: &mut [f32], out_stride: usize) {
    let writer = Writer {
        finish,
        out,
        stride: out_stride,
    };
    cpu::arch().dispatch(Product { a, b: &b.0, writer });
}

/// `out = finish(a b)` with the right side as it is, which pays where a tile or less passes over it.
pub(crate) fn product_of_few(
    a: Rows,
    b: Block,
    finish: Finish,
    out: &mut [f32],
    out_stride: usize,
) {
    let writer = Writer {
        finish,
        out,
        stride: out_stride,
    };
    cpu::arch().dispatch(Few(b, Tiles { a, writer }));
}

struct Product<'a> {
    a: Rows<'a>,
    b: &'a Panels<f32>,
    writer: Writer<'a>,
}

struct Few<'a>(Block<'a>, Tiles<'a>);

/// Calls `run::<S, VECTORS, ROWS>` with the tile of the instructions. Its sums fill the registers, but for a step's
/// part of the panel and one value of `a`: one sum too many waits for memory at every step. Where rows of a whole panel leave
/// too few rows, a tile is a part of the panel.
macro_rules! with_tile {
    ($this:expr, $simd:expr) => {
        match (S::F32_LANES, S::REGISTER_COUNT) {
            (16, _) => $this.run::<S, 2, 12>($simd),
            (8, _) => $this.run::<S, 2, 6>($simd),
            (4, 32..) => $this.run::<S, 4, 6>($simd),
            (4, _) => $this.run::<S, 8, 1>($simd),
            _ => $this.run::<S, PANEL, 1>($simd),
        }
    };
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        with_tile!(self, simd);
    }
}

impl Product<'_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize, const ROWS: usize>(self, simd: S) {
        let mut tiles = Tiles {
            a: self.a,
            writer: self.writer,
        };
        for (columns, panel) in self.b.iter() {
            for (first, columns) in parts(columns, VECTORS * S::F32_LANES) {
                let first = first / S::F32_LANES;
                let step = |k: usize| -> [S::f32s; VECTORS] {
                    let (b, _) = S::as_simd_f32s(&panel[k].0);
                    *b[first..].first_chunk().expect("part of a panel")
                };
                tiles.column::<S, VECTORS, ROWS>(simd, panel.len(), step, columns);
            }
        }
    }
}

impl WithSimd for Few<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        with_tile!(self, simd);
    }
}

impl Few<'_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize, const ROWS: usize>(mut self, simd: S) {
        let b = self.0;
        let width = VECTORS * S::F32_LANES;
        for (_, columns) in parts(0..b.columns, width) {
            let row = |k: usize| &b.data[k * b.stride + columns.start..][..columns.len()];
            if columns.len() == width {
                let step = |k: usize| -> [S::f32s; VECTORS] {
                    let (b, _) = S::as_simd_f32s(row(k));
                    *b.first_chunk().expect("whole vectors")
                };
                (self.1).column::<S, VECTORS, ROWS>(simd, b.rows, step, columns.clone());
            } else {
                let step = |k: usize| -> [S::f32s; VECTORS] {
                    let mut pieces = row(k).chunks(S::F32_LANES);
                    std::array::from_fn(|_| load(simd, pieces.next().unwrap_or_default()))
                };
                (self.1).column::<S, VECTORS, ROWS>(simd, b.rows, step, columns.clone());
            }
        }
    }
}

/// The left side and the output of a product.
struct Tiles<'a> {
    a: Rows<'a>,
    writer: Writer<'a>,
}

impl Tiles<'_> {
    /// All rows of some columns, whose values at each step of the summed dimension `step` gives, in tiles of `ROWS` rows.
    #[inline(always)]
    fn column<S: Simd, const VECTORS: usize, const ROWS: usize>(
        &mut self,
        simd: S,
        depth: usize,
        step: impl Fn(usize) -> [S::f32s; VECTORS] + Copy,
        columns: Range<usize>,
    ) {
        let mut row = 0;
        while row + ROWS <= self.a.count {
            self.tile::<S, VECTORS, ROWS>(simd, depth, step, &columns, row);
            row += ROWS;
        }
        let rest = self.a.count - row;
        macro_rules! rest {
            ($($rows:literal)*) => {
                match rest {
                    $($rows if $rows < ROWS => self.tile::<S, VECTORS, $rows>(simd, depth, step, &columns, row),)*
                    _ => {}
                }
            };
        }
        rest!(1 2 3 4 5 6 7 8 9 10 11);
    }

    /// `ROWS` rows of some columns.
    #[inline(always)]
    fn tile<S: Simd, const VECTORS: usize, const ROWS: usize>(
        &mut self,
        simd: S,
        depth: usize,
        step: impl Fn(usize) -> [S::f32s; VECTORS],
        columns: &Range<usize>,
        row: usize,
    ) {
        let a: [&[f32]; ROWS] = std::array::from_fn(|r| {
            let from = (row + r) * self.a.stride;
            &self.a.data[from..from + depth]
        });
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        for k in 0..depth {
            let b = step(k);
            for (sums, a) in sums.iter_mut().zip(&a) {
                let a = simd.splat_f32s(a[k]);
                for (sum, b) in sums.iter_mut().zip(&b) {
                    *sum = simd.mul_add_e_f32s(a, *b, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            self.writer.write(simd, row + r, columns.clone(), sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::cap::at_every_level;
    use crate::finish::After;

    #[test]
    fn a_product_by_hand() {
        // [1 2; 3 4; 5 6] times [1 10 100; 2 20 200], with the bias [0.5, 0, -1].
        let mut b = Packed::default();
        b.fill(&[1., 10., 100., 2., 20., 200.], 3, 3);
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
            let packed = Packed::transposed(&b, depth, depth);
            let products = at_every_level(|| {
                let mut out = vec![f32::NAN; rows * columns];
                product(Rows { data: &a, stride: depth, count: rows }, &packed, Finish::PLAIN, &mut out, columns);
                out
            });
            // Whole numbers: every order of summation gives the same.
            let expected: Vec<f32> = (0..rows * columns)
                .map(|at| (0..depth).map(|k| a[at / columns * depth + k] * b[at % columns * depth + k]).sum())
                .collect();
            for (level, out) in products {
                prop_assert_eq!(&out, &expected, "{}", level);
            }
        }
    }
}
