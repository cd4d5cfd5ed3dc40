//! Systems of linear equations with a symmetric positive definite matrix, in double precision.

use std::ops::ControlFlow;

use rayon::prelude::*;

/// Rows that are multiplied at once, so that they stay in a core's cache.
const BLOCK: usize = 64;

/// `X' Y [m, n]` of `X [rows, m]` and `Y [rows, n]`, all row-major. Breaks off where `ask` does, which is called for every block of
/// rows.
pub(super) fn products(
    x: &[f64],
    m: usize,
    y: &[f64],
    n: usize,
    ask: &mut dyn FnMut() -> ControlFlow<()>,
) -> ControlFlow<(), Vec<f64>> {
    let mut out = vec![0.0; m * n];
    for (x, y) in x.chunks(BLOCK * m).zip(y.chunks(BLOCK * n)) {
        ask()?;
        let rows = out.par_chunks_exact_mut(n).enumerate();
        rows.for_each(|(channel, out)| {
            for (x, y) in x.chunks_exact(m).zip(y.chunks_exact(n)) {
                subtract(out, -x[channel], y);
            }
        });
    }
    ControlFlow::Continue(out)
}

/// `W [n, k]` with `A W = B`, all row-major, by Cholesky's factors `A = L L'`; of `a [n, n]` only the lower triangle counts. `None`
/// where A is not positive definite. Breaks off where `ask` does, which is called for every row and column.
pub(super) fn solve(
    mut a: Vec<f64>,
    n: usize,
    mut b: Vec<f64>,
    k: usize,
    ask: &mut dyn FnMut() -> ControlFlow<()>,
) -> ControlFlow<(), Option<Vec<f64>>> {
    for column in 0..n {
        ask()?;
        let (above, below) = a.split_at_mut((column + 1) * n);
        let row = &mut above[column * n..];
        let pivot = row[column] - dot(&row[..column], &row[..column]);
        if !(pivot > 0.0 && pivot.is_finite()) {
            return ControlFlow::Continue(None);
        }
        row[column] = pivot.sqrt();
        let row = &*row;
        below.par_chunks_exact_mut(n).for_each(|other| {
            other[column] = (other[column] - dot(&other[..column], &row[..column])) / row[column];
        });
    }
    // L Z = B from the top, then L' W = Z from the bottom, each in the place of B.
    for row in 0..n {
        ask()?;
        let (above, below) = b.split_at_mut(row * k);
        for (factor, known) in a[row * n..].iter().zip(above.chunks_exact(k)) {
            subtract(&mut below[..k], *factor, known);
        }
        below[..k].iter_mut().for_each(|v| *v /= a[row * n + row]);
    }
    for row in (0..n).rev() {
        ask()?;
        let (above, below) = b.split_at_mut(row * k);
        below[..k].iter_mut().for_each(|v| *v /= a[row * n + row]);
        for (factor, open) in a[row * n..].iter().zip(above.chunks_exact_mut(k)) {
            subtract(open, *factor, &below[..k]);
        }
    }
    ControlFlow::Continue(Some(b))
}

/// `from <- from - factor * row`.
fn subtract(from: &mut [f64], factor: f64, row: &[f64]) {
    let pairs = from.iter_mut().zip(row);
    pairs.for_each(|(from, value)| *from -= factor * value);
}

/// The sum of the products, in eight lanes.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a, b) = (a.chunks(8), b.chunks(8));
    for (a, b) in a.zip(b) {
        let pairs = lanes.iter_mut().zip(a.iter().zip(b));
        pairs.for_each(|(lane, (a, b))| *lane += a * b);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn products(x: &[f64], m: usize, y: &[f64], n: usize) -> Vec<f64> {
        let products = super::products(x, m, y, n, &mut || ControlFlow::Continue(()));
        products.continue_value().unwrap()
    }

    fn solve(a: Vec<f64>, n: usize, b: Vec<f64>, k: usize) -> Option<Vec<f64>> {
        let solved = super::solve(a, n, b, k, &mut || ControlFlow::Continue(()));
        solved.continue_value().unwrap()
    }

    /// `[[4, 2], [2, 5]]` has the determinant 16 and the inverse `[[5, -2], [-2, 4]] / 16`.
    #[test]
    fn a_system_is_solved_as_by_the_inverse_by_hand() {
        // What stands above the diagonal does not count.
        let a = vec![4.0, f64::NAN, 2.0, 5.0];
        let inverse = solve(a.clone(), 2, vec![1.0, 0.0, 0.0, 1.0], 2).unwrap();
        let expected = [5.0, -2.0, -2.0, 4.0].map(|v| v / 16.0);
        let near = |a: &f64, b: &f64| (a - b).abs() < 1e-15;
        assert!(inverse.iter().zip(&expected).all(|(a, b)| near(a, b)));
        let one = solve(a, 2, vec![8.0, 20.0], 1).unwrap();
        assert!(near(&one[0], &0.0) && near(&one[1], &4.0), "{one:?}");
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_has_no_solution() {
        let singular = vec![1.0, 1.0, 1.0, 1.0];
        assert_eq!(solve(singular, 2, vec![1.0, 2.0], 1), None);
        assert_eq!(solve(vec![-1.0], 1, vec![1.0], 1), None);
        assert_eq!(solve(vec![f64::NAN], 1, vec![1.0], 1), None);
    }

    /// Twenty unknowns, more than a lane is wide: `A = M' M + I`, and `A` times the solution is the right side again.
    #[test]
    fn the_solution_gives_the_right_side_again() {
        const N: usize = 20;
        let m: Vec<f64> = (0..90 * N).map(|i| ((i * 37 % 101) as f64).sin()).collect();
        let mut a = products(&m, N, &m, N);
        let plain = |row: usize, column: usize| -> f64 {
            let rows = m.chunks_exact(N);
            rows.map(|values| values[row] * values[column]).sum()
        };
        assert!((a[3 * N + 7] - plain(3, 7)).abs() < 1e-12);
        (0..N).for_each(|i| a[i * N + i] += 1.0);
        let b: Vec<f64> = (0..N * 3).map(|i| i as f64).collect();
        let w = solve(a.clone(), N, b.clone(), 3).unwrap();
        // A is symmetric, so A' W = A W.
        let again = products(&a, N, &w, 3);
        assert!(again.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-9));
    }
}
