//! Epsilon's training step on random frozen tokens, as the benches time it.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use epsilon::batch::{Batch, Dims, Draws, Targets, TrainingPrecision};
use epsilon::device::device;
use epsilon::labels::LabelVectors;
use epsilon::methods::Method;
use epsilon::methods::epsilon::Epsilon;
use epsilon::optimiser::Optimiser;
use epsilon::parameters::Weights;
use epsilon::training::{TrainingSettings, part, step};
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Arguments, Outcome};

/// The arguments that say what to time and how.
pub const NAMES: &[&str] = &[
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
    "precision",
    "device",
];

/// Most positives of an image.
const MAX_POSITIVES: usize = 6;

/// One model, one batch of frozen tokens, one optimiser.
pub struct Step {
    /// The model's layers.
    pub method: Epsilon,
    settings: TrainingSettings,
    /// Its weights.
    pub weights: Weights,
    /// Its optimiser's state.
    pub optimiser: Optimiser,
    /// The batch, in the parts that a step takes one after another.
    pub parts: Vec<Batch>,
}

impl Step {
    /// Draws all that `arguments` ([`NAMES`]) ask for.
    pub fn new(arguments: &Arguments) -> Outcome<Self> {
        let dims = Dims {
            tokens: arguments.get("tokens", 196)?,
            width: arguments.get("dim", 768)?,
            label_width: arguments.get("label-dim", 300)?,
            labels: arguments.get("labels", 925)?,
            unseen: 0,
            global: None,
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
        let device = device(&arguments.get("device", String::from("cpu"))?)?;
        let weights = Weights::draw(method.specs(&dims)?, &mut rng, &device);
        let precision = match arguments.get("precision", String::from("f32"))?.as_str() {
            "f32" => TrainingPrecision::F32,
            "bf16" => TrainingPrecision::Bf16,
            other => return Err(format!("--precision {other}: f32 or bf16").into()),
        };
        let optimiser = Optimiser::new(settings.optimiser, &weights);
        let labels = Labels::draw(dims.labels, dims.label_width, precision, &mut rng)?.on(&device);
        let part = part(&method, &dims, settings.batch);
        let parts = (0..settings.batch)
            .step_by(part)
            .map(|first| labels.batch(part.min(settings.batch - first), &dims, &mut rng))
            .collect();
        Ok(Self {
            method,
            settings,
            weights,
            optimiser,
            parts,
        })
    }

    /// Makes one training step; its seconds and its loss.
    pub fn run(&mut self) -> (f64, f64) {
        let start = Instant::now();
        let Self {
            method,
            settings,
            weights,
            optimiser,
            parts,
        } = self;
        let sums = step(
            method,
            weights,
            optimiser,
            parts.clone(),
            settings.clip,
            settings.learning_rate,
        );
        (start.elapsed().as_secs_f64(), sums.mean())
    }
}

/// Random label vectors.
pub struct Labels {
    precision: TrainingPrecision,
    /// The vectors on the host.
    pub host: Arc<LabelVectors>,
    device: Device,
}

impl Labels {
    /// `count` vectors of `dim` values and length one.
    pub fn draw(
        count: usize,
        dim: usize,
        precision: TrainingPrecision,
        rng: &mut ChaCha8Rng,
    ) -> Outcome<Self> {
        let names = (0..count).map(|index| index.to_string()).collect();
        let host = LabelVectors::new(names, dim, normal(count * dim, rng))?.unit();
        Ok(Self {
            precision,
            host: Arc::new(host),
            device: Device::flex(),
        })
    }

    /// The same for batches on another device than the CPU.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        Self {
            device: device.clone(),
            ..self
        }
    }

    /// Random tokens and global vectors, with 1 to `MAX_POSITIVES` positives an image.
    pub fn batch(&self, images: usize, dims: &Dims, rng: &mut ChaCha8Rng) -> Batch {
        let tokens = normal(images * dims.tokens * dims.width, rng);
        let mut values = vec![-1; images * self.host.len()];
        for row in values.chunks_exact_mut(self.host.len()) {
            let count = rng.random_range(1..=MAX_POSITIVES);
            sample(rng, row.len(), count)
                .into_iter()
                .for_each(|label| row[label] = 1);
        }
        let tokens = TensorData::new(tokens, [images, dims.tokens, dims.width]);
        let global = normal(images * dims.global_width(), rng);
        let global = TensorData::new(global, [images, dims.global_width()]);
        let vectors = TensorData::new(
            self.host.values().to_vec(),
            [self.host.len(), self.host.dim()],
        );
        Batch {
            tokens: Tensor::from_data(tokens, &self.device),
            global: Tensor::from_data(global, &self.device),
            label_vectors: Tensor::from_data(vectors, &self.device),
            label_vectors_host: self.host.clone(),
            targets: Targets::new(values, self.host.len()),
            columns: (0..self.host.len()).collect(),
            precision: self.precision,
            draws: Draws::default(),
        }
    }
}

/// Standard normal values, by the cosine branch of Box and Muller.
pub fn normal(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut draw = || {
        let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
        radius * (std::f32::consts::TAU * rng.random::<f32>()).cos()
    };
    (0..count).map(|_| draw()).collect()
}
