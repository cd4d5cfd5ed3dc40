//! Times reading large photographs, files to preprocessed pixels, for `bench/decode.py`; `bench/peer_decode.py` is the same
//! with Pillow and takes the same lines.
//!
//! `--weights FILE --list FILE --serve`: reads lines on stdin, in one thread. `run reduced`, `run full` and `run tokens` read
//! all files of the list, as `image::open_for` does, as a whole, or through the backbone as well, and print one line of JSON:
//! `seconds` of each file, `peak_rss_mb`. `check` prints `cosine`, the mean over all files and tokens between those of the
//! two ways to decode, and `smallest`.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Instant;

use epsilon::backbone::{self, Backbone, Features};
use epsilon::image::{self, Limits};
use epsilon_bench::{Arguments, Outcome, peak_rss_mb};

struct Decoding {
    backbone: Box<dyn Backbone>,
    photos: Vec<PathBuf>,
}

impl Decoding {
    fn new(arguments: &Arguments) -> Outcome<Self> {
        let list = std::fs::read_to_string(arguments.get("list", String::new())?)?;
        let weights = arguments.get("weights", String::new())?;
        Ok(Self {
            backbone: backbone::load(Path::new(&weights))?,
            photos: list.lines().map(PathBuf::from).collect(),
        })
    }

    fn pixels(&self, path: &Path, full: bool) -> Outcome<Vec<f32>> {
        let (preprocess, limits) = (&self.backbone.info().preprocess, Limits::default());
        if !full {
            return Ok(image::open_for(path, preprocess, &limits)?.values);
        }
        let mut pixels = vec![0.0; preprocess.len()];
        preprocess.apply(&image::open(path, &limits)?, &mut pixels);
        Ok(pixels)
    }

    fn tokens(&self, pixels: &[f32]) -> Outcome<Vec<f32>> {
        let mut features = Features::default();
        self.backbone.forward(pixels, 1, &mut features)?;
        Ok(features.tokens)
    }

    fn run(&self, way: &str) -> Outcome<()> {
        let mut seconds = Vec::with_capacity(self.photos.len());
        for path in &self.photos {
            let start = Instant::now();
            let pixels = self.pixels(path, way == "full")?;
            if way == "tokens" {
                self.tokens(&pixels)?;
            }
            seconds.push(start.elapsed().as_secs_f64());
        }
        let peak = peak_rss_mb()?;
        println!(
            "{}",
            serde_json::json!({"seconds": seconds, "peak_rss_mb": peak})
        );
        Ok(())
    }

    fn check(&self) -> Outcome<()> {
        let dim = self.backbone.info().dim;
        let (mut sum, mut count, mut smallest) = (0.0, 0, f64::INFINITY);
        for path in &self.photos {
            let [reduced, full] = [false, true].map(|full| {
                self.pixels(path, full)
                    .and_then(|pixels| self.tokens(&pixels))
            });
            for (a, b) in reduced?.chunks_exact(dim).zip(full?.chunks_exact(dim)) {
                let cosine = cosine(a, b);
                sum += cosine;
                count += 1;
                smallest = smallest.min(cosine);
            }
        }
        let mean = sum / f64::from(count);
        println!(
            "{}",
            serde_json::json!({"cosine": mean, "smallest": smallest})
        );
        Ok(())
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn main() -> Outcome<()> {
    let arguments = Arguments::read(&["weights", "list"])?;
    if !arguments.serve {
        return Err("give --serve: see bench/decode.py".into());
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()?;
    let decoding = Decoding::new(&arguments)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("run", way @ ("reduced" | "full" | "tokens"))) => decoding.run(way)?,
            None if line == "check" => decoding.check()?,
            _ => {
                let expected = "stdin: expected `run reduced`, `run full`, `run tokens` or `check`";
                return Err(expected.into());
            }
        }
    }
    Ok(())
}
