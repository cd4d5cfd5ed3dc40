//! `epsilon report`: the results of one or more runs as one HTML file.

mod charts;
mod figures;
mod gallery;
mod labels;
mod page;
mod runs;

use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};

use anyhow::Context;
use epsilon::backbone::Download;
use epsilon::experiment::{self, Layout, Prepared};
use epsilon::model::Model;
use epsilon::recipe::Recipe;
use epsilon::tokens::TokenStore;
use epsilon_data::files;

use super::limits::LimitArgs;
use super::output;
use crate::{Outcome, console};
use page::Page;
use runs::Run;

/// Write the results of runs to one self-contained HTML file: figures, training curves, labels, example photographs.
///
/// A run is a folder written by `epsilon train`, or a row's folder of `epsilon bench` or `epsilon sweep`; of a row that was tuned,
/// the setting that was chosen is reported, or any, by its own folder. Per-label curves and photographs are those of the first run's
/// first seed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run folders; the first is shown in detail.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// HTML file to write [default: report.html in the first run's folder].
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    out: Option<PathBuf>,
    /// Number of test photographs to show; 0 for none.
    #[arg(long, default_value_t = PHOTOS, value_name = "N")]
    photos: usize,
    /// Token store [default: `tokens` in the run folder or one of its parents].
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Test photographs that are shown where nothing else is asked for.
const PHOTOS: usize = 24;

impl Args {
    /// The report of these runs in this file, the rest by default.
    pub(super) fn of(runs: Vec<PathBuf>, out: PathBuf) -> Self {
        Self {
            runs,
            out: Some(out),
            photos: PHOTOS,
            store: None,
            limits: LimitArgs::default(),
        }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let (out, failed) = write(&args)?;
    console::print(out.display())?;
    Ok(if failed > 0 {
        Outcome::SomeFailed
    } else {
        Outcome::Done
    })
}

/// Writes the page; gives its path and how many photographs could not be shown.
pub(super) fn write(args: &Args) -> anyhow::Result<(PathBuf, usize)> {
    let runs: Vec<Run> = args
        .runs
        .iter()
        .map(|path| Run::read(path))
        .collect::<Result<_, _>>()?;
    let first = &runs[0];
    let device = epsilon::device::device("cpu")?;
    let path = Layout(&first.folder).model(first.seeds[0].seed);
    let model = Model::load(&path, &device)?;
    let mut recipe = experiment::recipe_of(&model, &path)?;
    args.limits.put_into(&mut recipe);
    let store = store(args.store.as_deref(), &recipe, &first.folder)?;
    // The recipe is a file's, which may come from anybody.
    let prepared = experiment::prepare_with(&recipe, None, Download::Refused)?;

    let mut page = Page::new(&format!("Epsilon: {}", first.name));
    figures::figures(&mut page, &runs);
    figures::sweep(&mut page, &runs)?;
    figures::curves(&mut page, &runs)?;
    labels::labels(&mut page, first, &prepared);
    let scored = super::measuring(|progress| {
        experiment::score(&model, &prepared, &store, &device, progress)
    })?;
    labels::precision_recall_curves(&mut page, &scored)?;
    if let Some(calibration) = model.card().calibration() {
        let shown =
            experiment::standardised(&model, &prepared, &store, &device, &mut |_, _| Continue(()))?;
        labels::reliability_curves(&mut page, calibration, &shown)?;
    }
    let mut failed = 0;
    if args.photos > 0 {
        let (html, broken) =
            gallery::gallery(&model, &prepared, &store, &recipe.limits(), args.photos)?;
        failed = broken;
        page.section("Photographs");
        page.paragraph(
            "The first test photographs with their ten best labels: a check mark where the label is true, dots under labels \
             that nobody trained on. Beside each, where the model looked for its best label, if it looks at places.",
        );
        page.html(&html);
    }
    data(&mut page, &prepared, &recipe)?;
    let beside = || args.runs[0].join("report.html");
    let out = args.out.clone().unwrap_or_else(beside);
    files::write(&out, page.finish().as_bytes()).with_context(|| out.display().to_string())?;
    Ok((out, failed))
}

fn store(asked: Option<&Path>, recipe: &Recipe, run: &Path) -> anyhow::Result<TokenStore> {
    if let Some(dir) = asked.or(recipe.features.store.as_deref()) {
        return Ok(TokenStore::open(dir)?);
    }
    let found = Layout(run).nearest_tokens();
    let found = found.context("no token store beside the run: give it with --store")?;
    Ok(TokenStore::open(&found)?)
}

fn data(page: &mut Page, prepared: &Prepared, recipe: &Recipe) -> anyhow::Result<()> {
    page.section("Data and recipe");
    let counts = page::escape(&prepared.summary.to_string());
    page.html(&format!("<pre tabindex=\"0\">{counts}</pre>"));
    let text = page::escape(&recipe.to_toml()?);
    page.details(
        "The recipe, every default written out",
        &format!("<pre tabindex=\"0\">{text}</pre>"),
    );
    Ok(())
}
