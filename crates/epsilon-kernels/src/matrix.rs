//! Matrix products over borrowed slices, a safe face of the `gemm` crate.

use gemm::Parallelism;

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
    assert_eq!(a.columns, b.rows);
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    assert!(b.columns <= stride && fits(out.len(), a.rows, b.columns, stride));
    let parallelism = match threads {
        0 | 1 => Parallelism::None,
        several => Parallelism::Rayon(several),
    };
    // SAFETY: `Matrix::strided` and `transposed` keep every index of `a` and `b` inside their slices, those of `out`
    // were checked above, and `out` is borrowed mutably, so it overlaps neither of them.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            stride as isize,
            into == Into::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
