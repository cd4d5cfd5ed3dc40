//! Times Epsilon's training step on random frozen tokens, for `bench/step.py`; `bench/peer_step.py` is the same in
//! PyTorch and takes the same arguments. Prints one line of JSON: `seconds` (a list, one a step), `peak_rss_mb`, `loss`
//! (of the last step). With `--serve`, after the warm-up, each line `run` on stdin makes one timed step and one such line.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::io::BufRead;

use epsilon_bench::step::{NAMES, Step};
use epsilon_bench::{Arguments, Outcome, peak_rss_mb};

/// Makes `steps` timed steps and prints their line.
fn report(step: &mut Step, steps: usize) -> Outcome<()> {
    let (seconds, losses): (Vec<f64>, Vec<f64>) = (0..steps).map(|_| step.run()).unzip();
    let line = serde_json::json!({
        "seconds": seconds, "peak_rss_mb": peak_rss_mb()?, "loss": losses.last(), "parts": step.parts.len(),
    });
    println!("{line}");
    Ok(())
}

fn main() -> Outcome<()> {
    let arguments = Arguments::read(NAMES)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.get("threads", 2)?)
        .build_global()?;
    let mut step = Step::new(&arguments)?;
    for _ in 0..arguments.get("warmup", 2)? {
        step.run();
    }
    if !arguments.serve {
        return report(&mut step, arguments.get("steps", 5)?);
    }
    for line in std::io::stdin().lock().lines() {
        match line?.trim() {
            "run" => report(&mut step, 1)?,
            other => return Err(format!("stdin: expected the line `run`, read `{other}`").into()),
        }
    }
    Ok(())
}
