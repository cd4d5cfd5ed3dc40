//! One file a command.

pub mod backbone;
pub mod bench;
pub mod calibrate;
pub mod embed;
pub mod eval;
pub mod explain;
pub mod extract;
mod keep;
pub mod predict;
pub mod prepare;
pub mod quickstart;
pub mod report;
pub mod search;
pub mod serve;
pub mod store;
pub mod sweep;
pub mod tag;
pub mod train;
mod trained;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use epsilon::backbone::{self as networks, Backbone};
use epsilon::burn::tensor::Device;
use epsilon::experiment::{self, Layout, Prepared};
use epsilon::model::Model;
use epsilon::recipe::{BackboneSettings, Recipe};
use epsilon::tokens::{Part, TokenStore};

use crate::console;

/// Where an experiment's files are kept, and where it is computed.
#[derive(Args)]
pub struct Place {
    /// Folder for tokens, checkpoints, models and figures [default: runs/RECIPE].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Where to compute.
    #[arg(long, default_value = "cpu", value_parser = epsilon::device::NAMES.to_vec())]
    device: String,
}

impl Place {
    /// The folder of the experiment that this recipe file describes.
    pub fn folder(&self, recipe: &Path) -> PathBuf {
        run_folder(self.out.as_deref(), recipe)
    }

    /// The device.
    pub fn device(&self) -> anyhow::Result<Device> {
        Ok(epsilon::device::device(&self.device)?)
    }

    /// A recipe's backbone on the device; downloaded first where it is a hub's.
    pub fn backbone(&self, settings: &BackboneSettings) -> anyhow::Result<Box<dyn Backbone>> {
        let path = networks::locate(&settings.weights, console::is_terminal())?;
        Ok(epsilon::tensor_vit::load_on(
            &path,
            &settings.options(),
            &self.device()?,
        )?)
    }
}

/// The folder of a recipe's experiment: the one asked for, or `runs/RECIPE`.
pub fn run_folder(out: Option<&Path>, recipe: &Path) -> PathBuf {
    let name = recipe.file_stem().unwrap_or_default();
    out.map_or_else(|| Path::new("runs").join(name), PathBuf::from)
}

/// The recipe that a model was trained with.
pub fn recipe_of(model: &Model, path: &Path) -> anyhow::Result<Recipe> {
    model
        .card()
        .recipe()
        .with_context(|| format!("{}: its recipe", path.display()))
}

/// The labelled images of the model in this file, or those of another recipe: the recipe, its data set, and the tokens,
/// which are looked for beside the model unless `store` says where they are.
pub fn data(
    model: &Model,
    path: &Path,
    other: Option<&Path>,
    store: Option<&Path>,
) -> anyhow::Result<(Recipe, Prepared, TokenStore)> {
    let recipe = match other {
        Some(path) => Recipe::read(path)?,
        None => recipe_of(model, path)?,
    };
    let run = path.parent().and_then(|seed| seed.parent());
    let beside = run.map(|run| Layout(run).tokens()).unwrap_or_default();
    let own = recipe.features.store.clone().unwrap_or(beside);
    let store = TokenStore::open(store.unwrap_or(&own))
        .context("give the images' token store with --store")?;
    let prepared = match run {
        Some(run) if other.is_none() => experiment::prepare_in(&recipe, run)?,
        _ => experiment::prepare(&recipe)?,
    };
    Ok((recipe, prepared, store))
}

/// Makes sure that a recipe's tokens are there, or those of one part of its images, extracting what is missing; tells
/// whether some images failed.
pub fn tokens(
    recipe: &Recipe,
    prepared: &Prepared,
    place: &Place,
    folder: &Path,
    part: Option<Part>,
) -> anyhow::Result<(TokenStore, bool)> {
    if let Some(dir) = &recipe.features.store {
        return Ok((TokenStore::open(dir)?, false));
    }
    let layout = Layout(folder);
    let dir = part.map_or_else(|| layout.tokens(), |part| layout.part(part));
    let backbone = recipe
        .backbone
        .as_ref()
        .context("the recipe names no backbone")?;
    let backbone = place.backbone(backbone)?;

    let bar = console::bar(prepared.dataset.records.len() as u64, "extract");
    let report = experiment::extract(recipe, prepared, &*backbone, &dir, part, &mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position((progress.done + progress.failed) as u64);
        if progress.failed > 0 {
            bar.set_message(format!("{} failed", progress.failed));
        }
    })?;
    bar.finish_and_clear();
    for failure in &report.failed {
        console::name_failure(format_args!("{}: {}", failure.id, failure.reason));
    }
    Ok((TokenStore::open(&dir)?, !report.failed.is_empty()))
}
