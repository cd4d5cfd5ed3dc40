//! The memory that a method takes with many labels, for `bench/labels.sh`: one training step and one scoring of a batch of
//! random tokens. Prints one line of JSON: `method`, `peak_rss_mb`, `step_seconds`, `score_seconds`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod common;
#[path = "common/step.rs"]
#[allow(dead_code)] // the step itself is Epsilon's
mod step;

use std::time::Instant;

use burn::tensor::Device;
use common::{Arguments, Outcome, peak_rss_mb};
use epsilon::batch::{Dims, TrainingPrecision};
use epsilon::methods::{Fitting, Kind, TrainedLabels};
use epsilon::optimiser::{Optimiser, OptimiserSettings};
use epsilon::parameters::Weights;
use epsilon::training::part;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use step::Labels;

const NAMES: &[&str] = &["method", "batch", "tokens", "dim", "labels", "label-dim"];

fn main() -> Outcome<()> {
    let arguments = Arguments::read(NAMES)?;
    let written: String = arguments.get("method", r#"{"kind":"bilinear-attention"}"#.into())?;
    let kind: Kind = serde_json::from_str(&written)?;
    let Fitting::Gradient(method) = kind.fitting() else {
        return Err(format!("{written}: is solved in one go").into());
    };
    let dims = Dims {
        tokens: arguments.get("tokens", 196)?,
        width: arguments.get("dim", 768)?,
        label_width: arguments.get("label-dim", 300)?,
        labels: arguments.get("labels", 7586)?,
        unseen: 0,
        global: None,
    };
    let batch: usize = arguments.get("batch", 32)?;
    let device = Device::flex();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut weights = Weights::draw(method.specs(&dims)?, &mut rng, &device);
    let labels = Labels::draw(
        dims.labels,
        dims.label_width,
        TrainingPrecision::F32,
        &mut rng,
    )?;
    let whole = labels.batch(batch, &dims, &mut rng);
    let known = TrainedLabels {
        vectors: &whole.label_vectors_host,
        positives: &vec![1; dims.labels],
    };
    for (name, values) in method.first_values(&dims, &known) {
        weights.set_host(&name, values, &device);
    }
    let part = part(method, &dims, batch);
    let parts = (0..batch).step_by(part);
    let parts = parts.map(|first| labels.batch(part.min(batch - first), &dims, &mut rng));
    let parts: Vec<_> = parts.collect();
    let mut optimiser = Optimiser::new(OptimiserSettings::default(), &weights);
    let start = Instant::now();
    let sums = epsilon::training::step(method, &mut weights, &mut optimiser, parts, None, 1e-5);
    let step_seconds = start.elapsed().as_secs_f64();
    if !sums.mean().is_finite() {
        return Err("the loss is no number".into());
    }
    let start = Instant::now();
    let scores = method.scores(&weights, &whole).to_data();
    let score_seconds = start.elapsed().as_secs_f64();
    assert_eq!(scores.num_elements(), batch * dims.labels);
    let line = serde_json::json!({
        "method": kind.name(), "peak_rss_mb": peak_rss_mb()?,
        "step_seconds": step_seconds, "score_seconds": score_seconds,
    });
    println!("{line}");
    Ok(())
}
