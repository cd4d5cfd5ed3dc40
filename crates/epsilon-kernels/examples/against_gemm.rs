//! Times our f32 products beside those of the `gemm` crate: `against_gemm [THREADS]` prints the level, then for each shape the
//! GFLOP/s of both and the median of the rounds' ratios of their times.

use std::time::Instant;

use epsilon_kernels::cpu;
use epsilon_kernels::matrix::{Into, Matrix, product};

/// Which side is a transpose.
type Sides = [bool; 2];

/// Rows, depth and columns: GFP's products forward and backward at D = 768 and 384, an image's attention in both directions,
/// a feed-forward layer of few rows, and a square.
const SHAPES: [([usize; 3], Sides); 12] = [
    ([784, 768, 768], [false, false]),
    ([784, 192, 768], [false, true]),
    ([768, 784, 768], [true, false]),
    ([784, 384, 384], [false, false]),
    ([384, 784, 96], [true, false]),
    ([96, 768, 196], [false, true]),
    ([96, 196, 768], [false, false]),
    ([128, 768, 3072], [false, false]),
    ([128, 3072, 768], [false, true]),
    ([8, 768, 768], [false, false]),
    ([8, 64, 768], [false, true]),
    ([2048, 2048, 2048], [false, false]),
];

fn matrix(values: &[f32], rows: usize, columns: usize, transposed: bool) -> Matrix<'_> {
    match transposed {
        true => Matrix::new(values, columns, rows).transposed(),
        false => Matrix::new(values, rows, columns),
    }
}

fn theirs(
    out: &mut [f32],
    [a, b]: [&[f32]; 2],
    [m, k, n]: [usize; 3],
    sides: Sides,
    threads: usize,
) {
    let strides = |rows: usize, columns: usize, transposed: bool| match transposed {
        true => (1, rows as isize),
        false => (columns as isize, 1),
    };
    let ((a_rows, a_columns), (b_rows, b_columns)) =
        (strides(m, k, sides[0]), strides(k, n, sides[1]));
    let parallelism = match threads {
        1 => gemm::Parallelism::None,
        several => gemm::Parallelism::Rayon(several),
    };
    assert!(out.len() == m * n && a.len() == m * k && b.len() == k * n);
    // SAFETY: the strides are those of whole matrices of the lengths just checked.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            a_columns,
            a_rows,
            b.as_ptr(),
            b_columns,
            b_rows,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads: usize = std::env::args().nth(1).map_or(Ok(1), |n| n.parse())?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    println!("{}", cpu::level()?);
    for (shape @ [m, k, n], sides) in SHAPES {
        let wave =
            |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32 * 0.37).sin()).collect() };
        let (a, b, mut out) = (wave(m * k), wave(k * n), vec![0.0; m * n]);
        let repeats = (5_000_000 / (m * k * n)).max(1);
        let mut time = |work: &mut dyn FnMut(&mut [f32])| {
            let start = Instant::now();
            (0..repeats).for_each(|_| work(&mut out));
            start.elapsed().as_secs_f64() / repeats as f64
        };
        let mut rounds = Vec::new();
        for _ in 0..61 {
            let left = matrix(&a, m, k, sides[0]);
            let right = matrix(&b, k, n, sides[1]);
            let ours = time(&mut |out| product(out, Into::Replace, left, right, threads));
            let gemm = time(&mut |out| theirs(out, [&a, &b], shape, sides, threads));
            rounds.push((ours, gemm, ours / gemm));
        }
        let best = |of: fn(&(f64, f64, f64)) -> f64| {
            let seconds = rounds.iter().map(of).fold(f64::INFINITY, f64::min);
            2.0 * (m * k * n) as f64 / seconds / 1e9
        };
        let (ours, gemm) = (best(|round| round.0), best(|round| round.1));
        rounds.sort_by(|a, b| a.2.total_cmp(&b.2));
        let mark = |transposed| if transposed { "'" } else { "" };
        let name = format!("{m}x{k}{} {k}x{n}{}", mark(sides[0]), mark(sides[1]));
        println!(
            "{name}\t{ours:.0}\t{gemm:.0}\t{:.2}",
            rounds[rounds.len() / 2].2
        );
    }
    Ok(())
}
