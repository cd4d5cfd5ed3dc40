//! Times a training step of any method on random frozen features, for `bench/methods.py`; `bench/peer_methods.py` is the same
//! in PyTorch. Prints one line of JSON: `seconds` (a list, one a step), `peak_rss_mb`, `loss` (of the last step), `weights`
//! (how many values the optimiser moves). With `--serve`, after the warm-up, each line `run` on stdin makes one timed step and
//! one such line, and the line `limits` asks for what the machine can do.
//!
//! A step of a method that trains several networks in turn (Gen-MLZSL) is one of its first stage.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::io::BufRead;
use std::time::Instant;

use burn::tensor::Device;
use epsilon::batch::{Dims, TrainingPrecision};
use epsilon::methods::{Fitting, GradientMethod, Kind, StagedMethod, TrainedLabels, Whole};
use epsilon::optimiser::Optimiser;
use epsilon::parameters::Weights;
use epsilon::training::{TrainingSettings, part};
use epsilon_bench::step::Labels;
use epsilon_bench::{Arguments, Outcome, limits, peak_rss_mb};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const NAMES: &[&str] = &[
    "method",
    "batch",
    "tokens",
    "dim",
    "labels",
    "label-dim",
    "threads",
    "steps",
    "warmup",
    "seed",
];

/// Unseen labels, for a method that draws images of them.
const UNSEEN: usize = 48;
/// Batches of training images of a method that picks them itself.
const BATCHES: usize = 8;

/// Makes a step and returns its loss.
type Step<'a> = Box<dyn FnMut() -> f64 + 'a>;

/// A step, and how many values its optimisers move.
type Training<'a> = (Step<'a>, usize);

fn by_gradients<'a>(
    method: &'a dyn GradientMethod,
    dims: &Dims,
    batch: usize,
    rng: &mut ChaCha8Rng,
) -> Outcome<Training<'a>> {
    let device = Device::flex();
    let mut weights = Weights::draw(method.specs(dims)?, rng, &device);
    let labels = Labels::draw(dims.labels, dims.label_width, TrainingPrecision::F32, rng)?;
    let known = TrainedLabels {
        vectors: &labels.host,
        positives: &vec![1; dims.labels],
    };
    for (name, values) in method.first_values(dims, &known) {
        weights.set_host(&name, values, &device);
    }
    let part = part(method, dims, batch);
    let parts = (0..batch).step_by(part);
    let parts: Vec<_> = parts
        .map(|first| labels.batch(part.min(batch - first), dims, rng))
        .collect();
    let settings = TrainingSettings::default();
    let mut optimiser = Optimiser::new(settings.optimiser, &weights);
    let moved = weights.count();
    let step = move || {
        let (rate, parts) = (settings.learning_rate, parts.clone());
        let step = epsilon::training::step;
        step(method, &mut weights, &mut optimiser, parts, None, rate).mean()
    };
    Ok((Box::new(step), moved))
}

fn by_stages<'a>(
    method: &'a dyn StagedMethod,
    dims: &Dims,
    whole: &'a Whole<'a>,
) -> Outcome<Training<'a>> {
    let mut stages = method.stages(dims, whole, &Device::flex())?;
    let mut learners = stages.learners();
    let moved = learners.iter().map(|learner| learner.weights.count()).sum();
    let steps = stages.steps()[0];
    let mut step = 0;
    let work = move || {
        step = (step + 1) % steps;
        stages.step(&mut learners, 0, step).loss
    };
    Ok((Box::new(work), moved))
}

/// Makes `steps` timed steps and prints their line.
fn report((step, weights): &mut Training<'_>, steps: usize) -> Outcome<()> {
    let one = |_| {
        let start = Instant::now();
        let loss = step();
        (start.elapsed().as_secs_f64(), loss)
    };
    let (seconds, losses): (Vec<f64>, Vec<f64>) = (0..steps).map(one).unzip();
    let line = serde_json::json!({
        "seconds": seconds, "peak_rss_mb": peak_rss_mb()?, "loss": losses.last(), "weights": weights,
    });
    println!("{line}");
    Ok(())
}

fn serve(training: &mut Training<'_>) -> Outcome<()> {
    for line in std::io::stdin().lock().lines() {
        match line?.trim() {
            "run" => report(training, 1)?,
            "limits" => {
                let [products, copies] = limits();
                println!("{}", serde_json::json!({"gflops": products, "gbs": copies}));
            }
            other => {
                return Err(format!("stdin: expected `run` or `limits`, read `{other}`").into());
            }
        }
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let arguments = Arguments::read(NAMES)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.get("threads", 2)?)
        .build_global()?;
    let written: String = arguments.get("method", r#"{"kind":"biam"}"#.into())?;
    let kind: Kind = serde_json::from_str(&written)?;
    let batch: usize = arguments.get("batch", 16)?;
    let dims = Dims {
        tokens: arguments.get("tokens", 196)?,
        width: arguments.get("dim", 192)?,
        label_width: arguments.get("label-dim", 300)?,
        labels: arguments.get("labels", 194)?,
        unseen: UNSEEN,
        global: None,
    };
    let rng = &mut ChaCha8Rng::seed_from_u64(arguments.get("seed", 0)?);
    let draw = |count, rng: &mut ChaCha8Rng| {
        Labels::draw(count, dims.label_width, TrainingPrecision::F32, rng)
    };
    // All images of a method that picks them itself, without their tokens, which it does not read.
    let (seen, unseen) = (draw(dims.labels, rng)?, draw(UNSEEN, rng)?);
    let images = seen.batch(BATCHES * batch, &Dims { tokens: 1, ..dims }, rng);
    let global: Vec<f32> = images.global.to_data().try_to_vec()?;
    let whole = Whole {
        global: &global,
        targets: &images.targets,
        labels: &seen.host,
        unseen: &unseen.host,
        seed: 0,
        ranks: &epsilon::ranks::Alone,
    };
    let mut training = match kind.fitting() {
        Fitting::Gradient(method) => by_gradients(method, &dims, batch, rng)?,
        Fitting::Staged(method) => by_stages(method, &dims, &whole)?,
        Fitting::Solved(_) | Fitting::Given => {
            return Err(format!("{written}: is not trained step by step").into());
        }
    };
    for _ in 0..arguments.get("warmup", 2)? {
        (training.0)();
    }
    if arguments.serve {
        serve(&mut training)
    } else {
        report(&mut training, arguments.get("steps", 5)?)
    }
}
