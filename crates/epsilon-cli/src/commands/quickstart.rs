//! `epsilon quickstart`: extraction, training and evaluation on a synthetic data set that the program generates.

use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use epsilon::backbone;
use epsilon::dataset::Split;
use epsilon::dataset::scenes::{SceneOptions, Scenes};
use epsilon::experiment::{Figures, LabelSet, Layout, Prepared};
use epsilon::methods::{Kind, Random, Ridge};
use epsilon::model::{Model, Ranker};
use epsilon::pretraining;
use epsilon::recipe::Recipe;
use epsilon::tokens::TokenStore;
use epsilon_data::files;
use epsilon_metrics::Evaluation;

use super::{Place, output, report, shell, train};
use crate::{Outcome, console};

const RECIPE: &str = include_str!("quickstart.toml");
const TRAIN_PICTURES: u32 = 3000;
const TEST_PICTURES: u32 = 1000;
const SHOWN: usize = 4;

/// Run the whole pipeline on generated pictures: train on 27 labels, evaluate on those and 9 unseen ones. Needs no download.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Instead, train the built-in backbone from scratch, on seen labels only, and write its weights to this file.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    train_backbone: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    if let Some(path) = &args.train_backbone {
        anyhow::ensure!(
            args.place.device == "cpu",
            "--train-backbone trains on the CPU: leave --device out"
        );
        return train_backbone(path);
    }
    let folder = args.place.folder(Path::new("quickstart"));
    let data = folder.join("data");
    console::tell(format_args!(
        "drawing {} pictures into {}",
        TRAIN_PICTURES + TEST_PICTURES,
        data.display()
    ));
    Scenes::new(SceneOptions::default())?.write(&data, TRAIN_PICTURES, TEST_PICTURES)?;
    write(&folder.join("backbone.safetensors"), backbone::BUILT_IN)?;
    let path = folder.join("recipe.toml");
    write(&path, RECIPE.as_bytes())?;

    let mut experiment = args.place.open(Recipe::read(&path)?, &folder)?;
    super::extract(&mut experiment)?;
    let methods = [
        ("Epsilon", experiment.recipe().method.clone()),
        ("linear", Kind::Ridge(Ridge::default())),
        ("chance", Kind::Random(Random::default())),
    ];
    let (mut rows, mut runs) = (Vec::new(), Vec::new());
    for (name, method) in methods {
        let folder = folder.join(method.name());
        let recipe = Recipe {
            method,
            ..experiment.recipe().clone()
        };
        let mut variant = experiment.variant(recipe, folder.clone())?;
        rows.push((name, train::one_seed(&mut variant, 1, None)?));
        runs.push(folder);
    }
    print_table(&rows)?;
    let model = Layout(&runs[0]).model(1);
    let (prepared, store) = (experiment.prepare()?, experiment.tokens()?);
    let device = experiment.device();
    let shown = shown(&prepared);
    print_pictures(
        &Model::load(&model, device)?,
        &prepared,
        &shown,
        &store,
        device,
    )?;
    let page = folder.join("report.html");
    report::write(&report::Args::of(runs, page.clone()))?;
    console::print(format_args!("\nmodel:  {}", model.display()))?;
    console::print(format_args!(
        "report: {} (open it in a web browser)",
        page.display()
    ))?;
    if let Some(&row) = shown.first() {
        let picture = data.join(&prepared.dataset.records[row].id);
        suggest(&folder, &model, &picture)?;
    }
    Ok(Outcome::Done)
}

/// Prints what may be run next, as it can be pasted into the terminal.
fn suggest(folder: &Path, model: &Path, picture: &Path) -> anyhow::Result<()> {
    let program = shell::program();
    let [model, picture, maps] = [model, picture, &folder.join("maps")].map(shell::quoted);
    console::print("\nnext:")?;
    for command in [
        format!("predict --model {model} {picture}"),
        format!("explain --model {model} {picture} --out {maps}"),
        format!("serve --model {model}"),
    ] {
        console::print(format_args!("  {program} {command}"))?;
    }
    Ok(())
}

/// The test pictures that are shown: the first ones with four labels, the most that there are, an unseen one among them.
fn shown(prepared: &Prepared) -> Vec<usize> {
    let dataset = &prepared.dataset;
    let rows = dataset.rows(Split::Test).into_iter();
    rows.filter(|&row| {
        let labels: Vec<usize> = dataset.labels.positives(row).collect();
        labels.len() == 4 && labels.iter().any(|&label| label >= dataset.seen)
    })
    .take(SHOWN)
    .collect()
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    files::write(path, bytes).with_context(|| path.display().to_string())
}

fn train_backbone(path: &Path) -> anyhow::Result<Outcome> {
    let bar = console::bar(pretraining::STEPS as u64, "backbone");
    let begun = Instant::now();
    let (mut recent, mut printed) = (0.0, Ok(()));
    console::print(
        "   step    loss  validation loss  textures (%)  shapes (%)  label mAP (%)  seconds",
    )?;
    pretraining::run(path, pretraining::STEPS, &mut |at| {
        recent = if at.step == 1 {
            at.loss
        } else {
            0.98 * recent + 0.02 * at.loss
        };
        bar.set_position(at.step as u64);
        bar.set_message(format!("loss {recent:.4}"));
        if let (Some(validation), Ok(())) = (at.validation, &printed) {
            let [texture, shape] = validation.words.map(|share| 100.0 * share);
            let line = format!(
                "{:>7}{recent:>8.4}{:>17.4}{texture:>14.1}{shape:>12.1}{:>15.1}{:>9.0}",
                at.step,
                validation.loss,
                100.0 * validation.map,
                begun.elapsed().as_secs_f64(),
            );
            printed = bar.suspend(|| console::print(line));
        }
        Continue(())
    })?;
    bar.finish_and_clear();
    printed?;
    console::print(path.display())?;
    Ok(Outcome::Done)
}

/// Prints one row per method.
fn print_table(rows: &[(&str, Figures)]) -> anyhow::Result<()> {
    let Some(first) = rows.iter().find_map(|(_, figures)| figures.split()) else {
        return Ok(());
    };
    let (zsl, gzsl) = (&first.zsl, &first.gzsl);
    console::print(format_args!(
        "{} test pictures; protocol {}; {}; ZSL: {} unseen labels, {} pictures kept, {:.2} positives each; \
         GZSL: {} labels, {} kept, {:.2} positives\n",
        gzsl.images_total,
        gzsl.protocol,
        gzsl.scores,
        zsl.labels_averaged,
        zsl.images_kept,
        zsl.positives_per_image,
        gzsl.labels_averaged,
        gzsl.images_kept,
        gzsl.positives_per_image,
    ))?;
    console::print("             ZSL mAP      seen mAP      GZSL mAP   ZSL F1@3  GZSL F1@3")?;
    for (name, figures) in rows {
        let map = |part: &Evaluation| {
            let error = part.bootstrap.as_ref().map_or(0.0, |b| b.standard_error);
            format!("{:>7.1} \u{b1} {:.1}", 100.0 * part.map, 100.0 * error)
        };
        let maps: Vec<String> = figures.parts().map(|(_, part)| map(part)).collect();
        let f1 = |set| {
            let top = figures.part(set).and_then(|part| part.top_k.first());
            top.map_or(0.0, |top| 100.0 * top.f1)
        };
        console::print(format_args!(
            "{name:<7}{}{:>11.1}{:>11.1}",
            maps.join(" "),
            f1(LabelSet::Unseen),
            f1(LabelSet::All),
        ))?;
    }
    Ok(())
}

/// Prints the best labels of test pictures.
fn print_pictures(
    model: &Model,
    prepared: &Prepared,
    rows: &[usize],
    store: &TokenStore,
    device: &epsilon::burn::tensor::Device,
) -> anyhow::Result<()> {
    let dataset = &prepared.dataset;
    let ranker = Ranker::new(model, prepared.vectors.clone(), device)?;
    for &row in rows {
        let id = &dataset.records[row].id;
        let Some(stored) = store.row_of(id) else {
            continue;
        };
        let ranked = ranker.rank_rows(store, &[stored]).into_iter().flatten();
        let truth: Vec<&str> = dataset
            .labels
            .positives(row)
            .map(|label| dataset.names[label].as_str())
            .collect();
        console::print(format_args!("\n{id}: {}", truth.join(", ")))?;
        for (rank, label) in ranked.take(5).enumerate() {
            let hit = if truth.contains(&label.name.as_str()) {
                "*"
            } else {
                " "
            };
            let mark = if label.seen { "" } else { "  unseen" };
            console::print(format_args!(
                "  {} {hit} {:<20}{:>8.3}{mark}",
                rank + 1,
                label.name,
                label.score
            ))?;
        }
    }
    Ok(())
}
