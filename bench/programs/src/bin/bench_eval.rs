//! An evaluation of random scores, and merely sorting their columns, as `bench/eval.py` times them. Works by lines on
//! stdin: each `run` is answered by one line of JSON with `seconds`, `peak_rss_mb` and, of an evaluation, `map`.
//!
//! `--what one` measures all labels under `lesa-nus`; `all` measures ZSL, seen and GZSL under every published protocol;
//! `mapped` is `one` with both tables as memory maps, read by blocks; `made` is `one` on a table that computes its values
//! when they are read; `sort` sorts a column-major copy of the scores.

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, Read, Write};
use std::ops::Range;
use std::time::Instant;

use epsilon_metrics::{
    InMemory, Labels, MetricsError, Protocol, Request, Scores, Table, evaluate_protocols,
    evaluate_table,
};
use memmap2::Mmap;
use rayon::prelude::*;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Tables in two memory-mapped files: f32 and i8, row-major.
struct Mapped {
    scores: Mmap,
    labels: Mmap,
    columns: usize,
}

impl Table for Mapped {
    type Score = f32;

    fn images(&self) -> usize {
        self.labels.len() / self.columns
    }

    fn labels(&self) -> usize {
        self.columns
    }

    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [f32],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        let width = columns.len();
        let targets = scores
            .chunks_exact_mut(width)
            .zip(labels.chunks_exact_mut(width));
        for (row, (scores, labels)) in rows.zip(targets) {
            let first = row * self.columns + columns.start;
            let bytes = &self.scores[4 * first..4 * (first + width)];
            for (score, bytes) in scores.iter_mut().zip(bytes.as_chunks().0) {
                *score = f32::from_le_bytes(*bytes);
            }
            let bytes = &self.labels[first..first + width];
            for (label, &byte) in labels.iter_mut().zip(bytes) {
                *label = byte.cast_signed();
            }
        }
        Ok(())
    }
}

/// A table whose cells are computed from their places: random scores, 1 % positive, 5 % unknown.
struct Made {
    images: usize,
    columns: usize,
}

impl Table for Made {
    type Score = f32;

    fn images(&self) -> usize {
        self.images
    }

    fn labels(&self) -> usize {
        self.columns
    }

    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [f32],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        let cells = rows.flat_map(|row| columns.clone().map(move |column| (row, column)));
        for ((row, column), (score, label)) in cells.zip(scores.iter_mut().zip(labels)) {
            // The mixing function of SplitMix64.
            let mut bits =
                ((row * self.columns + column) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            bits ^= bits >> 31;
            *score = (bits >> 40) as f32 / (1 << 24) as f32;
            *label = match bits & 0xffff {
                0..656 => 1,
                656..3932 => 0,
                _ => -1,
            };
        }
        Ok(())
    }
}

/// A task: its measured part, which gives the mAP where there is one.
type Task = Box<dyn Fn() -> Outcome<Option<f64>>>;

fn task(what: &str, files: [&str; 2], images: usize, columns: usize) -> Outcome<Task> {
    match what {
        "made" => Ok(one(Made { images, columns }, columns)),
        "mapped" => {
            // SAFETY: nobody writes the files while the bench runs.
            let [scores, labels] = unsafe {
                [
                    Mmap::map(&File::open(files[0])?)?,
                    Mmap::map(&File::open(files[1])?)?,
                ]
            };
            let table = Mapped {
                scores,
                labels,
                columns,
            };
            Ok(one(table, columns))
        }
        "sort" => {
            let scores = read_scores(files[0], images * columns)?;
            let mut by_column = vec![0.0; scores.len()];
            for (row, scores) in scores.chunks_exact(columns).enumerate() {
                for (column, &score) in scores.iter().enumerate() {
                    by_column[column * images + row] = score;
                }
            }
            drop(scores);
            Ok(Box::new(move || {
                by_column
                    .par_chunks_exact(images)
                    .for_each_init(Vec::new, |copy, column| {
                        copy.clear();
                        copy.extend_from_slice(column);
                        copy.sort_unstable_by(f32::total_cmp);
                        black_box(&copy);
                    });
                Ok(None)
            }))
        }
        "one" | "all" => {
            let scores = read_scores(files[0], images * columns)?;
            let mut bytes = Vec::new();
            File::open(files[1])?.read_to_end(&mut bytes)?;
            let labels: Vec<i8> = bytes.into_iter().map(u8::cast_signed).collect();
            let every = what == "all";
            Ok(Box::new(move || {
                let scores = Scores::new(&scores, images, columns)?;
                let table = InMemory::new(scores, Labels::new(&labels, images, columns)?)?;
                if !every {
                    return map(&table, columns).map(Some);
                }
                let seen = columns - columns * 81 / 1006;
                let figures = evaluate_protocols(&table, seen, &Protocol::all(), &[3, 5], &[3, 5])?;
                let lesa = figures.iter().find(|f| f.gzsl.protocol == "lesa-nus");
                Ok(lesa.map(|f| f.gzsl.map))
            }))
        }
        _ => Err(format!("--what {what}: one, all, mapped, made or sort").into()),
    }
}

fn one(table: impl Table + 'static, columns: usize) -> Task {
    Box::new(move || map(&table, columns).map(Some))
}

fn map(table: &impl Table, columns: usize) -> Outcome<f64> {
    let columns: Vec<usize> = (0..columns).collect();
    let protocol = Protocol::lesa_nus();
    let request = Request {
        columns: &columns,
        protocol: &protocol,
        ks: &[3, 5],
    };
    Ok(evaluate_table(table, &[request])?[0].map)
}

fn read_scores(path: &str, count: usize) -> Outcome<Vec<f32>> {
    let mut scores = vec![0.0_f32; count];
    let mut file = std::io::BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut bytes = [0; 4];
    for score in &mut scores {
        file.read_exact(&mut bytes)?;
        *score = f32::from_le_bytes(bytes);
    }
    Ok(scores)
}

/// The process's largest resident memory so far, in 10^6 bytes, as Linux counts it.
fn peak_rss_mb() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .ok_or("/proc/self/status has no VmHWM")?;
    Ok(kibibytes.trim().parse::<f64>()? * 1024.0 / 1e6)
}

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let place = words.iter().position(|word| word == name);
        let value = place.and_then(|place| words.get(place + 1));
        value
            .map(String::as_str)
            .ok_or_else(|| format!("{name} is missing"))
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(value("--threads")?.parse()?)
        .build_global()?;
    let (what, images, columns) = (
        value("--what")?,
        value("--images")?.parse()?,
        value("--columns")?.parse()?,
    );
    let files = match what {
        "made" => ["", ""],
        _ => [value("--scores")?, value("--labels")?],
    };
    let task = task(what, files, images, columns)?;
    for line in std::io::stdin().lock().lines() {
        if line? != "run" {
            return Err("expected `run`".into());
        }
        let start = Instant::now();
        let map = task()?;
        let seconds = start.elapsed().as_secs_f64();
        let peak = peak_rss_mb()?;
        println!(
            "{}",
            serde_json::json!({ "seconds": seconds, "peak_rss_mb": peak, "map": map })
        );
        std::io::stdout().flush()?;
    }
    Ok(())
}
