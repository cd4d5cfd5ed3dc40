//! `epsilon extract`: runs the backbone over photographs and stores their tokens on disk.

use std::path::PathBuf;

use epsilon::recipe::Recipe;
use epsilon::tokens::Part;

use super::Place;
use super::limits::LimitArgs;
use crate::{Outcome, console};

/// Extract the backbone's tokens of a recipe's photographs to disk; resumes where an earlier run stopped.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recipe file (TOML).
    recipe: PathBuf,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    limits: LimitArgs,
    /// Extract only part I of N of the photographs; join the parts with `epsilon store merge`.
    #[arg(long, value_name = "I/N")]
    shard: Option<Part>,
    /// Read all tokens back and verify their checksums.
    #[arg(long)]
    verify: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Whether one part is asked for, beside which others are extracted elsewhere.
    pub(crate) fn is_part(&self) -> bool {
        self.shard.is_some()
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut recipe = Recipe::read(&args.recipe)?;
    args.limits.put_into(&mut recipe);
    let mut experiment = args.place.open(recipe, &args.place.folder(&args.recipe))?;
    // With a store of its own the recipe has no parts.
    let part = args
        .shard
        .filter(|_| experiment.recipe().features.store.is_none());
    let (store, failed) = match part {
        Some(part) => {
            let (store, failed) = super::extract_part(&mut experiment, part)?;
            (store.into(), failed)
        }
        None => {
            let failed = super::extract(&mut experiment)?;
            (experiment.tokens()?, failed)
        }
    };
    if args.verify {
        store.verify()?;
    }
    let manifest = store.manifest();
    if args.json {
        console::print_json(&serde_json::json!({
            "store": store.dir(),
            "images": store.len(),
            "tokens": store.tokens_per_image(),
            "dim": store.dim(),
            "failed": manifest.failed,
        }))?;
    } else {
        console::print(format_args!(
            "{}: {} images, {} tokens of {} values each, {} failed",
            store.dir().display(),
            store.len(),
            store.tokens_per_image(),
            store.dim(),
            manifest.failed.len(),
        ))?;
    }
    Ok(if failed {
        Outcome::SomeFailed
    } else {
        Outcome::Done
    })
}
