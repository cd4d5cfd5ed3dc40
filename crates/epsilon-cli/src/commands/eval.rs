//! `epsilon eval`: measures a trained model again, under any protocol.

use std::path::PathBuf;

use anyhow::Context;
use epsilon::experiment;
use epsilon::features::TokenStore;
use epsilon::model::Model;
use epsilon::recipe::Recipe;
use epsilon_metrics::Protocol;

use crate::{Outcome, console};

/// Measure a model on its recipe's test images.
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    model: PathBuf,
    /// The token store [default: the `tokens` folder of the model's run].
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// Another data set than the model's own: the recipe that names it.
    #[arg(long, value_name = "RECIPE")]
    data: Option<PathBuf>,
    /// The protocol [default: the recipe's].
    #[arg(long, value_parser = Protocol::NAMES.to_vec())]
    protocol: Option<String>,
    /// Where to compute.
    #[arg(long, default_value = "cpu", value_parser = epsilon::device::NAMES.to_vec())]
    device: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let device = epsilon::device::device(&args.device)?;
    let model = Model::load(&args.model, &device)?;
    let mut recipe = match &args.data {
        Some(path) => Recipe::read(path)?,
        None => serde_json::from_value(model.card.recipe.clone())
            .with_context(|| format!("{}: its recipe", args.model.display()))?,
    };
    if let Some(protocol) = args.protocol {
        recipe.evaluation.protocol = protocol;
    }
    let run = args.model.parent().and_then(|seed| seed.parent());
    let beside = run.map(|run| run.join("tokens")).unwrap_or_default();
    let own = recipe.features.store.clone().unwrap_or(beside);
    let store = TokenStore::open(&args.store.unwrap_or(own))
        .context("give the model's token store with --store")?;
    let prepared = match run {
        Some(run) if args.data.is_none() => experiment::prepare_in(&recipe, run)?,
        _ => experiment::prepare(&recipe)?,
    };
    let bar = console::bar(0, "measure");
    let figures = experiment::measure(
        &model,
        &prepared,
        &store,
        &recipe.evaluation,
        &device,
        &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        },
    )?;
    bar.finish_and_clear();
    if args.json {
        console::print_json(&figures)?;
    } else {
        console::print(&figures)?;
    }
    Ok(Outcome::Done)
}
