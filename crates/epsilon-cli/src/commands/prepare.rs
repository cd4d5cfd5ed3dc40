//! `epsilon prepare`: reads a recipe's data set and says what is in it, without computing anything.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use epsilon::dataset::check_images;
use epsilon::experiment;
use epsilon::image::{self, Limits};
use epsilon::recipe::Recipe;

use crate::{Outcome, console};

/// Say what a recipe's data set holds: images, labels and positives at every filter, and every bad image.
#[derive(clap::Args)]
pub struct Args {
    /// The recipe.
    recipe: PathBuf,
    /// Only look whether the image files are there, without decoding them.
    #[arg(long)]
    quick: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let recipe = Recipe::read(&args.recipe)?;
    let prepared = experiment::prepare(&recipe)?;
    let bar = console::bar(prepared.dataset.records.len() as u64, "check");
    let done = AtomicU64::new(0);
    let decode = |path: &std::path::Path| -> Result<(), String> {
        if args.quick {
            return std::fs::metadata(path)
                .map(|_| ())
                .map_err(|e| format!("{}: {e}", path.display()));
        }
        image::open(path, &Limits::default())
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let failed = check_images(&prepared.dataset, &decode, &|| {
        bar.set_position(done.fetch_add(1, Ordering::Relaxed) + 1);
    });
    bar.finish_and_clear();
    if args.json {
        console::print_json(
            &serde_json::json!({ "summary": prepared.summary, "bad_images": failed }),
        )?;
    } else {
        console::print(&prepared.summary)?;
        let how = if args.quick {
            "missing"
        } else {
            "missing or unreadable"
        };
        console::print(format_args!(
            "{how}: {} of {} images",
            failed.len(),
            prepared.dataset.records.len()
        ))?;
    }
    for (_, reason) in &failed {
        console::name_failure(reason);
    }
    Ok(if failed.is_empty() {
        Outcome::Done
    } else {
        Outcome::SomeFailed
    })
}
