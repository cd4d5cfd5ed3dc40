//! The Rust side of `bench/python.py` and `bench/latency.py`: calls of `Predictor::rank` with one photograph's bytes, one after the other.
//!
//! Works by lines on stdin: `ready` is answered by an empty JSON object, each `run` by one line of JSON with `seconds` and `peak_rss_mb`.

use std::io::BufRead;
use std::time::Instant;

use epsilon::Predictor;
use epsilon::predictor::Photo;
use epsilon_bench::{Arguments, Outcome, peak_rss_mb};

/// As in the program and the Python package.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Outcome<()> {
    let arguments = Arguments::read(&["model", "photo", "calls", "threads"])?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.get("threads", 2)?)
        .build_global()?;
    let predictor = Predictor::load(arguments.get("model", String::new())?)?;
    let labels = predictor.own_labels()?;
    let photo = std::fs::read(arguments.get("photo", String::new())?)?;
    let calls = arguments.get("calls", 1)?;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "run" => {}
            "ready" => {
                println!("{{}}");
                continue;
            }
            _ => return Err("expected `ready` or `run`".into()),
        }
        let start = Instant::now();
        for _ in 0..calls {
            predictor.rank(Photo::Bytes(&photo), &labels)?;
        }
        let answer = serde_json::json!({
            "seconds": start.elapsed().as_secs_f64(),
            "peak_rss_mb": peak_rss_mb()?,
            "map": null,
        });
        println!("{answer}");
    }
    Ok(())
}
