//! Times Epsilon's training step on random frozen tokens, for `bench/step.py`; `bench/peer_step.py` is the same in
//! PyTorch and takes the same arguments. Prints one line of JSON: `seconds` (a list, one a step), `peak_rss_mb`, `loss`
//! (of the last step). With `--serve`, after the warm-up, each line `run` on stdin makes one timed step and one such line.

mod common;

use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use common::{Arguments, Outcome, peak_rss_mb};
use epsilon::labels::LabelVectors;
use epsilon::methods::epsilon::Epsilon;
use epsilon::methods::{Batch, Dims, Method, Targets};
use epsilon::parameters::Weights;
use epsilon::training::{Adam, TrainingSettings, part, step};
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Most positives of an image.
const MAX_POSITIVES: usize = 6;

/// One model, one batch of frozen tokens, one optimiser.
struct Step {
    method: Epsilon,
    settings: TrainingSettings,
    weights: Weights,
    adam: Adam,
    parts: Vec<Batch>,
}

impl Step {
    fn new(arguments: &Arguments) -> Outcome<Self> {
        let dims = Dims {
            tokens: arguments.get("tokens", 196)?,
            width: arguments.get("dim", 768)?,
            label_width: arguments.get("label-dim", 300)?,
        };
        let method = Epsilon {
            groups: arguments.get("groups", 8)?,
            hidden: Some(arguments.get("hidden", dims.width / 4)?),
            ..Epsilon::default()
        };
        let settings = TrainingSettings {
            batch: arguments.get("batch", 96)?,
            ..TrainingSettings::default()
        };
        let mut rng = ChaCha8Rng::seed_from_u64(arguments.get("seed", 0)?);
        let device = Device::flex();
        let weights = Weights::draw(method.specs(&dims)?, &mut rng, &device);
        let adam = Adam::new(settings.adam, &weights);
        let labels = Labels::draw(arguments.get("labels", 925)?, dims.label_width, &mut rng)?;
        let part = part(&method, &dims);
        let parts = (0..settings.batch)
            .step_by(part)
            .map(|first| labels.batch(part.min(settings.batch - first), &dims, &mut rng))
            .collect();
        Ok(Self {
            method,
            settings,
            weights,
            adam,
            parts,
        })
    }

    /// Makes one training step; its seconds and its loss.
    fn run(&mut self) -> (f64, f64) {
        let start = Instant::now();
        let Self {
            method,
            settings,
            weights,
            adam,
            parts,
        } = self;
        let sums = step(
            method,
            weights,
            adam,
            parts.clone(),
            settings.clip,
            settings.learning_rate,
        );
        (start.elapsed().as_secs_f64(), sums.mean())
    }

    /// Makes `steps` timed steps and prints their line.
    fn report(&mut self, steps: usize) -> Outcome<()> {
        let (seconds, losses): (Vec<f64>, Vec<f64>) = (0..steps).map(|_| self.run()).unzip();
        let line = serde_json::json!({
            "seconds": seconds, "peak_rss_mb": peak_rss_mb()?, "loss": losses.last(), "parts": self.parts.len(),
        });
        println!("{line}");
        Ok(())
    }
}

/// Random label vectors.
struct Labels {
    host: Arc<LabelVectors>,
    tensor: Tensor<2>,
}

impl Labels {
    fn draw(count: usize, dim: usize, rng: &mut ChaCha8Rng) -> Outcome<Self> {
        let names = (0..count).map(|index| index.to_string()).collect();
        let host = LabelVectors::new(names, dim, normal(count * dim, rng))?.unit();
        let data = TensorData::new(host.values().to_vec(), [count, dim]);
        Ok(Self {
            host: Arc::new(host),
            tensor: Tensor::from_data(data, &Device::flex()),
        })
    }

    /// Random tokens with 1 to [`MAX_POSITIVES`] positives an image.
    fn batch(&self, images: usize, dims: &Dims, rng: &mut ChaCha8Rng) -> Batch {
        let tokens = normal(images * dims.tokens * dims.width, rng);
        let mut values = vec![-1; images * self.host.len()];
        for row in values.chunks_exact_mut(self.host.len()) {
            let count = rng.random_range(1..=MAX_POSITIVES);
            sample(rng, row.len(), count)
                .into_iter()
                .for_each(|label| row[label] = 1);
        }
        let tokens = TensorData::new(tokens, [images, dims.tokens, dims.width]);
        Batch {
            tokens: Tensor::from_data(tokens, &Device::flex()),
            // Not read: the method sees patch tokens alone by default.
            global: Tensor::zeros([images, dims.width], &Device::flex()),
            label_vectors: self.tensor.clone(),
            label_vectors_host: self.host.clone(),
            targets: Targets::new(values, self.host.len()),
        }
    }
}

/// Standard normal values, by the cosine branch of Box and Muller.
fn normal(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut draw = || {
        let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
        radius * (std::f32::consts::TAU * rng.random::<f32>()).cos()
    };
    (0..count).map(|_| draw()).collect()
}

fn main() -> Outcome<()> {
    let arguments = Arguments::read(&[
        "batch",
        "tokens",
        "dim",
        "groups",
        "hidden",
        "labels",
        "label-dim",
        "threads",
        "steps",
        "warmup",
        "seed",
    ])?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.get("threads", 2)?)
        .build_global()?;
    let mut step = Step::new(&arguments)?;
    for _ in 0..arguments.get("warmup", 2)? {
        step.run();
    }
    if !arguments.serve {
        return step.report(arguments.get("steps", 5)?);
    }
    for line in std::io::stdin().lock().lines() {
        match line?.trim() {
            "run" => step.report(1)?,
            other => return Err(format!("stdin: expected the line `run`, read `{other}`").into()),
        }
    }
    Ok(())
}
