//! `epsilon prepare`: validates a recipe's data set and prints its statistics, without computing anything.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use epsilon::Experiment;
use epsilon::dataset::check_images;
use epsilon::experiment::Prepared;
use epsilon::image::{self, Limits};
use epsilon::paths;
use epsilon::recipe::Recipe;
use epsilon::tokens::TokenStore;

use super::limits::LimitArgs;
use crate::{Outcome, console};

/// Check a recipe's data set and print its statistics: images, labels and positives after every filter, and unreadable images; and
/// that there is what to train on and to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recipe file (TOML).
    recipe: PathBuf,
    /// Folder for the index of a published data set [default: runs/RECIPE].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Check only that image files exist, without decoding them.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Images that are named one by one: where a folder is missing, so are all of its images.
const NAMED: usize = 20;

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let folder = super::run_folder(args.out.as_deref(), &args.recipe);
    let mut recipe = Recipe::read(&args.recipe)?;
    args.limits.put_into(&mut recipe);
    let limits = recipe.limits();
    let mut experiment = Experiment::open(recipe, folder)?;
    let prepared = experiment.prepare()?;
    let store = &experiment.recipe().features.store;
    let failed = match store {
        Some(store) => without_tokens(&prepared, store)?,
        None => bad_images(&prepared, &limits, args.quick),
    };
    if args.json {
        console::print_json(
            &serde_json::json!({ "summary": &prepared.summary, "bad_images": failed }),
        )?;
    } else {
        console::print(&prepared.summary)?;
        let how = match (store, args.quick) {
            (Some(_), _) => "without tokens",
            (None, true) => "missing",
            (None, false) => "missing or unreadable",
        };
        console::print(format_args!(
            "{how}: {} of {} images",
            failed.len(),
            prepared.dataset.records.len()
        ))?;
    }
    for (_, reason) in failed.iter().take(NAMED) {
        console::name_failure(reason);
    }
    if let Some(more) = failed.len().checked_sub(NAMED).filter(|more| *more > 0) {
        console::name_failure(format_args!("{more} more; --json names them all"));
    }
    // Said last: the statistics show why.
    experiment.check_data()?;
    Ok(if failed.is_empty() {
        Outcome::Done
    } else {
        Outcome::SomeFailed
    })
}

/// Id and reason of each image that a token store does not hold.
fn without_tokens(prepared: &Prepared, dir: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let store = TokenStore::open(dir)?;
    let reason = |id: &String| format!("{}: holds no tokens of {id}", dir.display());
    let ids = prepared.dataset.records.iter().map(|record| &record.id);
    let missing = ids.filter(|id| store.row_of(id).is_none());
    Ok(missing.map(|id| (id.clone(), reason(id))).collect())
}

/// Id and reason of each image that is missing or, unless `quick`, cannot be decoded.
fn bad_images(prepared: &Prepared, limits: &Limits, quick: bool) -> Vec<(String, String)> {
    let bar = console::bar(prepared.dataset.records.len() as u64, "check");
    let done = AtomicU64::new(0);
    let decode = |path: &Path| -> Result<(), String> {
        if quick {
            return std::fs::metadata(path)
                .map(|_| ())
                .map_err(|e| format!("{}: {e}", paths::shown(path)));
        }
        image::open(path, limits)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let failed = check_images(&prepared.dataset, &decode, &|| {
        bar.set_position(done.fetch_add(1, Ordering::Relaxed) + 1);
    });
    bar.finish_and_clear();
    failed
}
