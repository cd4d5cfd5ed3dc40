//! Trains a recipe's first seed four times, for `bench/curve.py`: with the framework's own operations, with the same and
//! the seen labels in reverse order, with the fused ones, and with those in bf16. The order of labels changes nothing but
//! the order in which sums are rounded, so the second shows how far rounding alone drives a training. Prints one line of JSON each: `name`, `losses` (of every step's batch, before the
//! step), `map` (ZSL, seen and GZSL on the test images, percent), `seconds`, `waiting` (share of the time spent waiting
//! for tokens), `peak_rss_mb` (so far).
//!
//! `--recipe FILE --store FOLDER [--epochs N] [--threads 2]`; the store holds the recipe's tokens, `--epochs` takes the
//! place of the recipe's.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use epsilon::batch::TrainingPrecision;
use epsilon::dataset::SparseLabels;
use epsilon::experiment::{self, Prepared, Training};
use epsilon::profile;
use epsilon::recipe::Recipe;
use epsilon::tokens::TokenStore;
use epsilon::training::Event;
use epsilon_bench::{Arguments, Outcome, peak_rss_mb};

fn run(name: &str, recipe: &Recipe, prepared: &Prepared, store: &TokenStore) -> Outcome<()> {
    let device = Device::flex();
    let training = Training {
        recipe,
        prepared,
        store,
        seed: recipe.seeds[0],
        device: &device,
        folder: None,
        resume: false,
        ranks: &epsilon::ranks::Alone,
    };
    let (mut losses, mut waiting) = (Vec::new(), Vec::new());
    let start = Instant::now();
    let model = training.run(&mut |event| {
        match event {
            Event::Step { loss, .. } => losses.push(loss),
            Event::Epoch(record) => waiting.push(record.waiting),
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let figures = experiment::measure(
        &model,
        prepared,
        store,
        &recipe.evaluation,
        &device,
        &mut |_, _| ControlFlow::Continue(()),
    )?;
    let figures = figures.split().ok_or("no unseen labels")?;
    let map = [&figures.zsl, &figures.seen, &figures.gzsl].map(|part| 100.0 * part.map);
    let waiting = waiting.iter().sum::<f64>() / waiting.len() as f64;
    let line = serde_json::json!({
        "name": name, "losses": losses, "map": map, "seconds": seconds, "waiting": waiting,
        "peak_rss_mb": peak_rss_mb()?,
    });
    println!("{line}");
    Ok(())
}

/// The same with the seen labels in reverse order.
fn reversed(mut prepared: Prepared) -> Outcome<Prepared> {
    let (seen, labels) = (prepared.dataset.seen, &prepared.dataset.labels);
    let place = |label: usize| {
        if label < seen {
            seen - 1 - label
        } else {
            label
        }
    };
    let rows = (0..labels.rows())
        .map(|row| {
            let entries = labels.entries(row).iter();
            let mut entries: Vec<_> = entries
                .map(|&(label, value)| (place(label as usize) as u32, value))
                .collect();
            entries.sort_unstable();
            entries
        })
        .collect();
    prepared.dataset.labels = SparseLabels::new(labels.columns(), labels.rest(), rows)?;
    prepared.dataset.names[..seen].reverse();
    let order: Vec<usize> = (0..prepared.dataset.names.len()).map(place).collect();
    prepared.vectors = prepared.vectors.select(&order)?;
    Ok(prepared)
}

fn main() -> Outcome<()> {
    let arguments = Arguments::read(&["recipe", "store", "epochs", "threads"])?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.get("threads", 2)?)
        .build_global()?;
    let mut recipe = Recipe::read(Path::new(&arguments.get("recipe", String::new())?))?;
    recipe.training.epochs = arguments.get("epochs", recipe.training.epochs)?;
    let prepared = experiment::prepare(&recipe)?;
    let store = TokenStore::open(Path::new(&arguments.get("store", String::new())?))?;
    recipe.training.precision = TrainingPrecision::F32;
    profile::use_fused(false);
    run("framework", &recipe, &prepared, &store)?;
    let other = reversed(experiment::prepare(&recipe)?)?;
    run("reversed", &recipe, &other, &store)?;
    profile::use_fused(true);
    run("fused", &recipe, &prepared, &store)?;
    recipe.training.precision = TrainingPrecision::Bf16;
    run("bf16", &recipe, &prepared, &store)
}
