//! What the bench programs share: their arguments, the memory they took, the machine's limits, and a training step on random
//! tokens.

pub mod step;

use std::collections::BTreeMap;
use std::error::Error;
use std::str::FromStr;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

/// The result of anything here.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Arguments as `bench/*.py` gives them: `--name value` and `--serve`.
pub struct Arguments {
    values: BTreeMap<String, String>,
    /// Whether to work by lines on stdin.
    pub serve: bool,
}

impl Arguments {
    /// The process's arguments, each of which must be one of `known`.
    pub fn read(known: &[&str]) -> Outcome<Self> {
        let mut arguments = Self {
            values: BTreeMap::new(),
            serve: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if word == "--serve" {
                arguments.serve = true;
                continue;
            }
            let name = word.strip_prefix("--").filter(|name| known.contains(name));
            let name = name.ok_or_else(|| {
                format!(
                    "`{word}`: expected --serve or one of --{}",
                    known.join(", --")
                )
            })?;
            let value = words
                .next()
                .ok_or_else(|| format!("{word} needs a value"))?;
            arguments.values.insert(name.into(), value);
        }
        Ok(arguments)
    }

    /// The value of `--name`, or `default`.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> Outcome<T> {
        match self.values.get(name) {
            None => Ok(default),
            Some(value) => value
                .parse()
                .map_err(|_| format!("--{name} {value}: not such a value").into()),
        }
    }
}

/// The process's largest resident memory so far, in 10^6 bytes, as Linux counts it.
pub fn peak_rss_mb() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .ok_or("/proc/self/status has no VmHWM")?;
    Ok(kibibytes.trim().parse::<f64>()? * 1024.0 / 1e6)
}

/// What the machine can do: f32 products of matrices that fit its caches (GFLOP/s), and copies of arrays that do not
/// (GB/s, read and written), both on all threads; the best of several tries, the products' short enough for one of them to
/// escape other work on the machine.
pub fn limits() -> [f64; 2] {
    const SIDE: usize = 1024;
    const LENGTH: usize = 1 << 26;
    let best = |tries: usize, amount: f64, work: &mut dyn FnMut()| {
        let seconds = (0..tries).map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        });
        amount / 1e9 / seconds.fold(f64::INFINITY, f64::min)
    };
    let matrix: Tensor<2> = Tensor::ones([SIDE, SIDE], &Device::flex());
    let products = best(100, 2.0 * (SIDE * SIDE * SIDE) as f64, &mut || {
        let _ = matrix.clone().matmul(matrix.clone());
    });
    let (from, mut to) = (vec![1.0f32; LENGTH], vec![0.0f32; LENGTH]);
    let copies = best(5, 8.0 * LENGTH as f64, &mut || {
        to.par_chunks_mut(1 << 20)
            .zip(from.par_chunks(1 << 20))
            .for_each(|(to, from)| to.copy_from_slice(from));
    });
    [products, copies]
}
