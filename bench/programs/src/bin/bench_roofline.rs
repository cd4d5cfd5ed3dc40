//! Where the time of Epsilon's training step goes, for `bench/roofline.py`. Prints one line of JSON: for each stage its
//! seconds a step (wall clock, the mean of `--steps` steps), those of the whole step, and the machine's limits.
//!
//! What the fused operations do is counted inside them; the other stages run alone, forward and backward, with a fixed
//! gradient coming in.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::time::{Duration, Instant};

use burn::tensor::{Device, Distribution, Tensor};
use epsilon::methods::epsilon::{fuser, gpa};
use epsilon::profile::{self, Phase};
use epsilon_bench::step::Step;
use epsilon_bench::{Arguments, Outcome, limits, peak_rss_mb};

const COUNTED: [(&str, Phase); 5] = [
    ("split", Phase::Split),
    ("mlp", Phase::Mlp),
    ("softmax-sum", Phase::SoftmaxSum),
    ("scores", Phase::Scores),
    ("loss", Phase::Loss),
];

/// Seconds a step of the whole step and of what is counted inside it.
fn whole(step: &mut Step, steps: usize, threads: usize) -> Vec<(&'static str, f64)> {
    step.run();
    for (_, part) in COUNTED {
        profile::take_time(part);
    }
    let seconds: f64 = (0..steps).map(|_| step.run().0).sum();
    let mut rows = vec![("step", seconds / steps as f64)];
    rows.extend(COUNTED.map(|(name, part)| {
        let all_threads = profile::take_time(part).as_secs_f64();
        (name, all_threads / (steps * threads) as f64)
    }));
    rows
}

/// Seconds a step of a stage alone: `work` gives its output for a part of the batch.
fn alone(step: &Step, steps: usize, work: &dyn Fn(&Step, usize) -> Tensor<3>) -> f64 {
    let once = || {
        let mut spent = Duration::ZERO;
        for part in 0..step.parts.len() {
            let start = Instant::now();
            let output = work(step, part);
            let upstream = Tensor::ones_like(&output.clone().inner());
            (output * upstream).sum().backward();
            spent += start.elapsed();
        }
        spent.as_secs_f64()
    };
    once();
    (0..steps).map(|_| once()).sum::<f64>() / steps as f64
}

fn stages(step: &Step, steps: usize) -> Vec<(&'static str, f64)> {
    let method = &step.method;
    let width = step.parts[0].tokens.dims()[2];
    let random = |images: usize| -> Tensor<3> {
        let shape = [images, method.groups, width];
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
    };
    let images = |step: &Step, part: usize| step.parts[part].tokens.dims()[0];
    let encode = alone(step, steps, &|step, part| {
        gpa::encode(method, &step.weights.tracked(), &step.parts[part].tokens)
    });
    let refine = alone(step, steps, &|step, part| {
        let prompts = random(images(step, part)).autodiff().require_grad();
        let tokens = &step.parts[part].tokens;
        gpa::refine(method, &step.weights.tracked(), prompts, tokens).semantics
    });
    let fuse = alone(step, steps, &|step, part| {
        let input = || random(images(step, part)).autodiff().require_grad();
        let read = fuser::read([Some(input()), Some(input())]);
        fuser::forward(&step.weights.tracked(), read)
    });
    vec![("encoder", encode), ("refinement", refine), ("fuser", fuse)]
}

/// Seconds of Adam alone.
fn optimiser(step: &mut Step, steps: usize) -> f64 {
    let gradients: Vec<_> = step
        .weights
        .values()
        .iter()
        .map(Tensor::zeros_like)
        .collect();
    let mut spent = Duration::ZERO;
    for _ in 0..steps {
        let gradients = gradients.clone();
        let start = Instant::now();
        step.optimiser.step(&mut step.weights, gradients, 0.0);
        spent += start.elapsed();
    }
    spent.as_secs_f64() / steps as f64
}

fn main() -> Outcome<()> {
    let arguments = Arguments::read(epsilon_bench::step::NAMES)?;
    let (threads, steps) = (arguments.get("threads", 2)?, arguments.get("steps", 5)?);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    let mut step = Step::new(&arguments)?;
    let mut rows = whole(&mut step, steps, threads);
    rows.extend(stages(&step, steps));
    rows.push(("optimiser", optimiser(&mut step, steps)));
    let seconds: serde_json::Map<_, _> = rows
        .into_iter()
        .map(|(name, seconds)| (name.to_string(), seconds.into()))
        .collect();
    let [products, copies] = limits();
    let line = serde_json::json!({"gflops": products, "gbs": copies, "weights": step.weights.count(),
        "seconds": seconds, "parts": step.parts.len(), "peak_rss_mb": peak_rss_mb()?});
    println!("{line}");
    Ok(())
}
