//! Times extraction, image files to a token store, for `bench/extract.py`; `bench/peer_extract.py` is the same in
//! PyTorch and takes the same arguments and lines.
//!
//! `--weights FILE --list FILE [--precision f32] [--batch 32] [--threads 2] --serve`: reads lines on stdin. `run FOLDER`
//! makes the store of all images there and prints one line of JSON: `seconds`, `peak_rss_mb`, `images`. `check FOLDER`
//! writes `check-PRECISION.safetensors` there, for the first images: `pixels` (decoded, resized, normalised) and
//! `tokens` (through a store in single precision). `rate` prints `gflops`, of f32 products of the `gemm` crate.

use std::io::BufRead;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use epsilon::backbone::{Backbone, Options, Precision};
use epsilon::image::{self, Limits};
use epsilon::tokens::{ExtractOptions, TokenStore, TokenType, extract};
use epsilon_bench::{Arguments, Outcome, peak_rss_mb};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Images that `check` compares.
const CHECKED: usize = 16;

struct Extraction {
    backbone: Box<dyn Backbone>,
    items: Vec<(String, PathBuf)>,
    options: ExtractOptions,
    threads: usize,
}

/// A precision by its name in a recipe.
fn precision(name: &str) -> Outcome<Precision> {
    Ok(serde_json::from_value(name.into())?)
}

impl Extraction {
    fn new(arguments: &Arguments) -> Outcome<Self> {
        let list = std::fs::read_to_string(arguments.get("list", String::new())?)?;
        Ok(Self {
            backbone: epsilon::tensor_vit::load_on(
                Path::new(&arguments.get("weights", String::new())?),
                &Options {
                    precision: precision(&arguments.get("precision", "f32".to_string())?)?,
                    ..Options::default()
                },
                &Device::flex(),
            )?,
            threads: arguments.get("threads", 2)?,
            items: list
                .lines()
                .map(|path| (path.into(), path.into()))
                .collect(),
            options: ExtractOptions {
                batch: Some(arguments.get("batch", 32)?),
                decoders: arguments.get("threads", 2)?,
                ..ExtractOptions::default()
            },
        })
    }

    fn store(
        &self,
        items: &[(String, PathBuf)],
        options: &ExtractOptions,
        folder: &Path,
    ) -> Outcome<()> {
        let report = extract(items, &*self.backbone, folder, options, &mut |_| {
            ControlFlow::Continue(())
        })?;
        match report.failed.first() {
            Some(failure) => Err(format!("{}: {}", failure.id, failure.reason).into()),
            None => Ok(()),
        }
    }

    fn run(&self, folder: &Path) -> Outcome<()> {
        let start = Instant::now();
        self.store(&self.items, &self.options, folder)?;
        let seconds = start.elapsed().as_secs_f64();
        let images = self.items.len();
        println!(
            "{}",
            serde_json::json!({"seconds": seconds, "peak_rss_mb": peak_rss_mb()?, "images": images})
        );
        Ok(())
    }

    fn check(&self, folder: &Path) -> Outcome<()> {
        let items = &self.items[..CHECKED.min(self.items.len())];
        let options = ExtractOptions {
            dtype: TokenType::F32,
            ..self.options.clone()
        };
        let dir = folder.join(format!("single-{}", self.backbone.info().precision));
        self.store(items, &options, &dir)?;
        let store = TokenStore::open(&dir)?;
        let preprocess = &self.backbone.info().preprocess;
        let (count, dim, size) = (
            store.tokens_per_image(),
            store.dim(),
            preprocess.size as usize,
        );
        let mut tokens = vec![0.0; items.len() * count * dim];
        let mut pixels = vec![0.0; items.len() * preprocess.len()];
        for (index, (_, path)) in items.iter().enumerate() {
            store.read_tokens(index, &mut tokens[index * count * dim..][..count * dim]);
            let pixels = &mut pixels[index * preprocess.len()..][..preprocess.len()];
            preprocess.apply(&image::open(path, &Limits::default())?, pixels);
        }
        let (pixels, tokens) = (bytes(&pixels), bytes(&tokens));
        let tensors = [
            (
                "pixels",
                TensorView::new(Dtype::F32, vec![items.len(), 3, size, size], &pixels)?,
            ),
            (
                "tokens",
                TensorView::new(Dtype::F32, vec![items.len(), count, dim], &tokens)?,
            ),
        ];
        std::fs::write(
            folder.join(format!(
                "check-{}.safetensors",
                self.backbone.info().precision
            )),
            safetensors::serialize(tensors, None)?,
        )?;
        println!("{}", serde_json::json!({"images": items.len()}));
        Ok(())
    }

    /// The best of several products of matrices that fit the caches.
    fn rate(&self) {
        const SIDE: usize = 2048;
        let (a, b) = (vec![1f32; SIDE * SIDE], vec![1f32; SIDE * SIDE]);
        let mut out = vec![0f32; SIDE * SIDE];
        let seconds = (0..6).map(|_| {
            let start = Instant::now();
            let side = SIDE as isize;
            let parallelism = gemm::Parallelism::Rayon(self.threads);
            // SAFETY: all three are square matrices of that side, without gaps.
            unsafe {
                gemm::gemm(
                    SIDE,
                    SIDE,
                    SIDE,
                    out.as_mut_ptr(),
                    1,
                    side,
                    false,
                    a.as_ptr(),
                    1,
                    side,
                    b.as_ptr(),
                    1,
                    side,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    parallelism,
                );
            }
            start.elapsed().as_secs_f64()
        });
        let gflops = 2.0 * (SIDE as f64).powi(3) / 1e9 / seconds.fold(f64::INFINITY, f64::min);
        println!("{}", serde_json::json!({"gflops": gflops}));
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn main() -> Outcome<()> {
    let arguments = Arguments::read(&["weights", "list", "precision", "batch", "threads"])?;
    if !arguments.serve {
        return Err("give --serve: see bench/extract.py".into());
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.get("threads", 2)?)
        .build_global()?;
    let extraction = Extraction::new(&arguments)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("run", folder)) => extraction.run(Path::new(folder))?,
            Some(("check", folder)) => extraction.check(Path::new(folder))?,
            None if line == "rate" => extraction.rate(),
            _ => return Err("stdin: expected `run FOLDER`, `check FOLDER` or `rate`".into()),
        }
    }
    Ok(())
}
