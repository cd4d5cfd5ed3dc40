//! Products of f32 matrices over borrowed slices, either side transposed or not. The right side is packed into panels, a part
//! of the summed dimension at a time; blocks of rows of the left side that fit in L2 pass over them.

use std::cell::Cell;

use rayon::prelude::*;

use crate::finish::{After, Finish};
use crate::packed::{self, Packed, Rows};
use crate::transpose::{Block, transpose};

/// The summed dimension's part that is worked on at once: a panel of it fits in L1 or nearly, and is long enough that the
/// additions to the output do not count.
const DEPTH: usize = 512;

/// Rows of the left side that are worked on at once: with [`DEPTH`], 288 KiB, which stay in L2.
const ROWS: usize = 96;

/// The same for one of several threads, which may have some more so that all have as many.
const LARGEST: usize = 144;

/// Multiplications below which one thread is faster than several.
const SMALL: usize = 1 << 19;

/// Rows that are multiplied with the right side as it is, by one thread.
const FEW: usize = packed::TILE;

/// A matrix seen in a slice: `at(r, c) = data[r * row_stride + c * column_stride]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix without gaps.
    ///
    /// # Panics
    /// When `data` has fewer values.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A row-major matrix whose rows start `row_stride` values apart.
    ///
    /// # Panics
    /// When `data` ends before the matrix does.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, row_stride));
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The same values, rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

impl<'a> Matrix<'a> {
    /// Some of its rows.
    fn row_part(self, first: usize, count: usize) -> Self {
        Self {
            data: &self.data[first * self.row_stride..],
            rows: count,
            ..self
        }
    }

    /// Some of its columns.
    fn column_part(self, first: usize, count: usize) -> Self {
        self.transposed().row_part(first, count).transposed()
    }

    /// Its values, or those of its transpose, row by row.
    fn block(self) -> Block<'a> {
        let (stride, rows, columns) = match self.column_stride {
            1 => (self.row_stride, self.rows, self.columns),
            stride => (stride, self.columns, self.rows),
        };
        Block {
            data: self.data,
            stride,
            rows,
            columns,
        }
    }
}

/// Whether a row-major matrix ends within `length` values.
fn fits(length: usize, rows: usize, columns: usize, row_stride: usize) -> bool {
    if rows == 0 || columns == 0 {
        return true;
    }
    let end = (rows - 1)
        .checked_mul(row_stride)
        .and_then(|last| last.checked_add(columns));
    end.is_some_and(|end| end <= length)
}

/// What a product does with what its output holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// Overwrites it.
    Replace,
    /// Adds to it.
    Add,
}

/// `out (=, +=) a . b`, `out` row-major without gaps, `[a.rows, b.columns]`, on `threads` threads.
///
/// ```
/// use epsilon_kernels::matrix::{Into, Matrix, product};
///
/// let (a, b) = ([1.0, 2.0, 3.0, 4.0], [1.0, 1.0]);
/// let (a, b) = (Matrix::new(&a, 2, 2), Matrix::new(&b, 2, 1));
/// let mut out = [0.0, 0.5];
/// product(&mut out, Into::Add, a, b, 1);
/// assert_eq!(out, [3.0, 7.5]);
/// product(&mut out, Into::Replace, a.transposed(), b, 1);
/// assert_eq!(out, [4.0, 6.0]);
/// ```
///
/// # Panics
/// When the shapes do not fit each other.
pub fn product(out: &mut [f32], into: Into, a: Matrix, b: Matrix, threads: usize) {
    assert_eq!(Some(out.len()), a.rows.checked_mul(b.columns));
    product_strided(out, b.columns, into, a, b, threads);
}

/// `out = a . b + bias` likewise, with one value of the bias a column.
///
/// ```
/// use epsilon_kernels::matrix::{Matrix, affine};
///
/// let (a, b) = ([1.0, 2.0, 3.0, 4.0], [1.0, 1.0]);
/// let mut out = [0.0; 2];
/// affine(&mut out, Matrix::new(&a, 2, 2), Matrix::new(&b, 2, 1), &[0.5], 1);
/// assert_eq!(out, [3.5, 7.5]);
/// ```
///
/// # Panics
/// When the shapes do not fit each other.
pub fn affine(out: &mut [f32], a: Matrix, b: Matrix, bias: &[f32], threads: usize) {
    assert_eq!(Some(out.len()), a.rows.checked_mul(b.columns));
    assert_eq!(bias.len(), b.columns);
    let start = Finish {
        bias,
        after: After::Store,
    };
    multiply(out, b.columns, start, a, b, threads);
}

/// As [`product`], with rows of `out` that start `stride` values apart; what lies between them is left alone.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn product_strided(
    out: &mut [f32],
    stride: usize,
    into: Into,
    a: Matrix,
    b: Matrix,
    threads: usize,
) {
    let start = Finish {
        bias: &[],
        after: match into {
            Into::Replace => After::Store,
            Into::Add => After::Add,
        },
    };
    multiply(out, stride, start, a, b, threads);
}

/// The product; `start` is what becomes of the first part of the summed dimension, and the others are added.
fn multiply(out: &mut [f32], stride: usize, start: Finish, a: Matrix, b: Matrix, threads: usize) {
    assert_eq!(a.columns, b.rows);
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    assert!(b.columns <= stride && fits(out.len(), a.rows, b.columns, stride));
    let out = &mut out[..(a.rows - 1) * stride + b.columns];
    if a.columns == 0 {
        return write_empty_sums(out, stride, b.columns, start);
    }
    let multiplications = a.rows.saturating_mul(b.columns).saturating_mul(a.columns);
    let threads = if multiplications < SMALL { 1 } else { threads };
    if a.rows <= FEW && b.column_stride == 1 {
        with_rows(a, |rows| {
            packed::product_of_few(rows, b.block(), start, out, stride);
        });
        return;
    }
    let depth = a.columns.div_ceil(a.columns.div_ceil(DEPTH));
    let mut packed = PACKED.take();
    let mut finish = start;
    for first in (0..a.columns).step_by(depth) {
        let depth = depth.min(a.columns - first);
        let part = b.row_part(first, depth);
        packed.fill_matrix(part.block(), b.column_stride == 1, threads);
        let a = a.column_part(first, depth);
        rows_by_panels(a, &packed, finish, out, stride, threads);
        finish = Finish {
            bias: &[],
            after: After::Add,
        };
    }
    PACKED.set(packed);
}

/// What a product over nothing leaves: the bias, or what is there.
fn write_empty_sums(out: &mut [f32], stride: usize, columns: usize, start: Finish) {
    if start.after == After::Add {
        return;
    }
    for row in out.chunks_mut(stride) {
        match start.bias {
            [] => row[..columns].fill(0.0),
            bias => row[..columns].copy_from_slice(bias),
        }
    }
}

thread_local! {
    /// Room for a right side, kept from product to product. It is taken out for the time of a product: a thread that waits
    /// for others may begin another product meanwhile.
    static PACKED: Cell<Packed> = const { Cell::new(Packed::EMPTY) };
    /// Room for rows of a left side, likewise.
    static LEFT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// `out = finish(a b)`, blocks of rows shared out among the threads.
fn rows_by_panels(
    a: Matrix,
    b: &Packed,
    finish: Finish,
    out: &mut [f32],
    stride: usize,
    threads: usize,
) {
    let block = |first: usize, out: &mut [f32]| {
        let count = out.len().div_ceil(stride);
        with_rows(a.row_part(first, count), |rows| {
            packed::product(rows, b, finish, out, stride);
        });
    };
    if threads <= 1 {
        for (out, first) in out.chunks_mut(ROWS * stride).zip((0..).step_by(ROWS)) {
            block(first, out);
        }
        return;
    }
    // As many blocks for every thread, of whole tiles.
    let blocks = threads * a.rows.div_ceil(threads * LARGEST);
    let rows = a.rows.div_ceil(packed::TILE).div_ceil(blocks) * packed::TILE;
    out.par_chunks_mut(rows * stride)
        .enumerate()
        .for_each(|(place, out)| block(place * rows, out));
}

/// `work` on the rows of a block of a left side, which are copied where they are columns in memory, or a power of two apart:
/// they would compete for the same few places of L1.
fn with_rows(a: Matrix, work: impl FnOnce(Rows)) {
    let transposed = a.column_stride != 1;
    let apart = a.row_stride.is_multiple_of(1024) && a.rows > 4;
    if !transposed && !apart {
        return work(Rows {
            data: a.data,
            stride: a.row_stride,
            count: a.rows,
        });
    }
    let mut left = LEFT.take();
    let stride = crate::linear::stride(a.columns);
    left.resize(left.len().max(a.rows * stride), 0.0);
    if transposed {
        transpose(a.block(), &mut left, stride);
    } else {
        for (row, copy) in left.chunks_mut(stride).take(a.rows).enumerate() {
            let from = &a.data[row * a.row_stride..];
            copy[..a.columns].copy_from_slice(&from[..a.columns]);
        }
    }
    work(Rows {
        data: &left,
        stride,
        count: a.rows,
    });
    LEFT.set(left);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::cap::at_every_level;

    #[test]
    fn products_by_hand() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // [2, 3]
        let b = [1.0, 0.0, 2.0, 1.0, 0.0, 3.0]; // [3, 2]
        let mut out = [0.0; 4];
        product(
            &mut out,
            Into::Replace,
            Matrix::new(&a, 2, 3),
            Matrix::new(&b, 3, 2),
            1,
        );
        assert_eq!(out, [5.0, 11.0, 14.0, 23.0]);
        let transposed = Matrix::new(&a, 2, 3).transposed();
        let mut gram = [1.0; 9];
        product(&mut gram, Into::Add, transposed, Matrix::new(&a, 2, 3), 2);
        assert_eq!(gram, [18.0, 23.0, 28.0, 23.0, 30.0, 37.0, 28.0, 37.0, 46.0]);
    }

    #[test]
    fn a_product_leaves_what_lies_between_its_rows() {
        let mut out = [9.0; 5];
        let (a, b) = ([1.0, 2.0], [3.0, 4.0]);
        let (a, b) = (Matrix::new(&a, 2, 1), Matrix::new(&b, 1, 2));
        product_strided(&mut out, 3, Into::Replace, a, b, 1);
        assert_eq!(out, [3.0, 4.0, 9.0, 6.0, 8.0]);
    }

    /// `(rows - 1) * stride` is 2^64, which wraps to 0.
    #[test]
    #[should_panic]
    fn a_view_whose_size_wraps_is_refused() {
        let _ = Matrix::strided(&[0.0; 5], (1 << 32) + 1, 2, 1 << 32);
    }

    #[test]
    #[should_panic]
    fn a_view_past_the_end_is_refused() {
        let _ = Matrix::strided(&[0.0; 5], 2, 3, 3);
    }

    /// Matrices of one row or column are their own transposes in memory, and strides of none and one are common there.
    #[test]
    fn products_of_rows_and_columns() {
        let data: Vec<f32> = (1..=200).map(|x| x as f32).collect();
        let view = |rows: usize, columns: usize, turned: bool| match turned {
            true => Matrix::new(&data, columns, rows).transposed(),
            false => Matrix::new(&data, rows, columns),
        };
        let at = |m: &Matrix, r: usize, c: usize| m.data[r * m.row_stride + c * m.column_stride];
        let sides = [[false, false], [false, true], [true, false], [true, true]];
        let small = (0..6 * 6 * 6).map(|size| (size / 36, size / 6 % 6, size % 6));
        for (rows, depth, columns) in small.chain([(200, 0, 3), (200, 1, 1), (3, 0, 200)]) {
            for [left, right] in sides {
                let (a, b) = (view(rows, depth, left), view(depth, columns, right));
                let mut out = vec![f32::NAN; rows * columns];
                product(&mut out, Into::Replace, a, b, 2);
                for (place, &found) in out.iter().enumerate() {
                    let (i, j) = (place / columns, place % columns);
                    let expected: f32 = (0..depth).map(|k| at(&a, i, k) * at(&b, k, j)).sum();
                    assert_eq!(found, expected, "{rows} {depth} {columns} {left} {right}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        /// Whole numbers: every order of summation gives the same.
        #[test]
        fn products_of_any_shape(
            rows in 0usize..230, depth in 0usize..70, long: bool, columns in 0usize..70, gap in 0usize..3, turned: [bool; 2], add: bool, seed: u32
        ) {
            let depth = if long { depth + DEPTH } else { depth };
            let mut state = seed;
            let mut draw = |count: usize| -> Vec<f32> {
                let mut next = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 28) as f32 - 8.0
                };
                (0..count).map(|_| next()).collect()
            };
            let sizes = [(rows, depth), (depth, columns)];
            let sides = [0, 1].map(|side| {
                let (rows, columns) = sizes[side];
                let (lines, width) = if turned[side] { (columns, rows) } else { (rows, columns) };
                (draw(lines * (width + gap)), lines, width)
            });
            let view = |side: usize| {
                let (data, lines, width) = &sides[side];
                let view = Matrix::strided(data, *lines, *width, width + gap);
                if turned[side] { view.transposed() } else { view }
            };
            let (a, b, stride) = (view(0), view(1), columns + gap);
            let before = draw(rows * stride);
            let into = if add { Into::Add } else { Into::Replace };
            let mut expected = before.clone();
            for at in 0..rows * columns {
                let (i, j) = (at / columns, at % columns);
                let sum: f32 = (0..depth)
                    .map(|k| a.data[i * a.row_stride + k * a.column_stride] * b.data[k * b.row_stride + j * b.column_stride])
                    .sum();
                expected[i * stride + j] = if add { before[i * stride + j] + sum } else { sum };
            }
            for threads in [1, 3] {
                for (level, out) in at_every_level(|| {
                    let mut out = before.clone();
                    product_strided(&mut out, stride, into, a, b, threads);
                    out
                }) {
                    prop_assert_eq!(&out, &expected, "{} {} threads", level, threads);
                }
            }
        }
    }
}
