//! `epsilon calibrate`: probabilities and thresholds for a trained model, kept in its file.

use std::path::PathBuf;

use anyhow::Context;
use epsilon::Predictor;
use epsilon::calibration::{BothSides, Calibration, Kept, Rule, Side, held_out};
use epsilon::experiment::{self, Standardised};
use epsilon::model::Model;
use epsilon::paths;
use epsilon::predictor::is_bundle;
use epsilon::recipe::Recipe;
use epsilon_data::files;
use serde::Serialize;

use crate::{Outcome, console};

/// Give a model probabilities, and a threshold for every label that labelled images show often enough, one for the other
/// seen and one for the unseen labels. They are kept in the model's file, where `tag` and `predict` find them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model.
    model: PathBuf,
    /// The labelled images: the recipe whose test images serve [default: the model's own].
    #[arg(long, value_name = "RECIPE")]
    on: Option<PathBuf>,
    /// The token store [default: the `tokens` folder of the model's run; none for a bundle with --on, which looks at the photographs].
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// Choose the lowest thresholds at which so large a share of what is kept is true (0 to 1) [default: where F1 is best].
    #[arg(long, value_name = "P")]
    precision: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Result {
    calibration: Calibration,
    /// What thresholds keep of images that they were not chosen on.
    held_out: Option<BothSides>,
    /// Whether the model has seen labels.
    #[serde(skip)]
    trained: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let rule = args.precision.map_or(Rule::BestF1, Rule::Precision);
    let device = epsilon::device::device("cpu")?;
    // Before it is read: scoring takes a while, and what a training writes meanwhile must not be overwritten.
    let read = files::sha256_of(&args.model);
    let mut model = Model::load(&args.model, &device)?;
    let read = read.with_context(|| paths::shown(&args.model))?;
    let (standardised, on, failed) = score(&args, &model)?;
    let judged = standardised.judged();
    let calibration = Calibration::fit(&judged, rule, on)?;
    let held_out = held_out(&judged, rule);
    model.calibrate(calibration.clone());
    model.update(&args.model, &read)?;
    let result = Result {
        calibration,
        held_out,
        trained: !model.card().seen_labels().is_empty(),
    };
    match args.json {
        true => console::print_json(&result)?,
        false => print(&result)?,
    }
    Ok(match failed {
        false => Outcome::Done,
        true => Outcome::SomeFailed,
    })
}

/// Standardised scores of the images to calibrate on, what these are, and whether some could not be read.
fn score(args: &Args, model: &Model) -> anyhow::Result<(Standardised, String, bool)> {
    let (other, store) = (args.on.as_deref(), args.store.as_deref());
    let (standardised, failed) = match (other, store) {
        (Some(recipe), None) if is_bundle(&args.model)? => {
            let predictor = Predictor::load(&args.model)?;
            let recipe = Recipe::read(recipe)?;
            super::measuring(|progress| {
                experiment::standardised_photographs(&predictor, &recipe, progress)
            })?
        }
        _ => {
            let mut experiment = super::of_model(model, &args.model, other, store)?;
            let (prepared, store) = (experiment.prepare()?, experiment.tokens()?);
            let standardised = super::measuring(|progress| {
                experiment::standardised(model, &prepared, &store, experiment.device(), progress)
            })?;
            (standardised, Vec::new())
        }
    };
    failed.iter().for_each(console::name_failure);
    let of = match &args.on {
        Some(path) => path.display().to_string(),
        None => "the model's recipe".into(),
    };
    let on = format!("{} test images of {of}", standardised.images());
    Ok((standardised, on, !failed.is_empty()))
}

fn print(result: &Result) -> anyhow::Result<()> {
    let Result {
        calibration,
        held_out,
        trained,
    } = result;
    let rule = match calibration.rule {
        Rule::BestF1 => "best F1".to_string(),
        Rule::Precision(precision) => format!("precision of at least {:.0} %", 100.0 * precision),
    };
    console::print(format_args!("on {}; rule: {rule}\n", calibration.on))?;
    let line = |name: &str, cells: [String; 2]| {
        let [seen, unseen] = cells;
        match trained {
            true => console::print(format_args!("{name:<34}{seen:>10}{unseen:>10}")),
            false => console::print(format_args!("{name:<34}{unseen:>10}")),
        }
    };
    let sides = [&calibration.seen, &calibration.unseen];
    if *trained {
        line("", ["seen".into(), "unseen".into()])?;
    }
    line("labels shown", sides.map(|side| side.labels.to_string()))?;
    line("positives", sides.map(|side| side.positives.to_string()))?;
    let own = |seen: bool| {
        let labels = calibration.labels.iter();
        labels.filter(|own| own.seen == seen).count().to_string()
    };
    line("labels with their own threshold", [true, false].map(own))?;
    let threshold = |side: &Side| match side.threshold {
        Some(threshold) => format!("{:.1} %", 100.0 * threshold),
        None => "none".into(),
    };
    line("threshold of the others", sides.map(threshold))?;
    let Some(held_out) = held_out else {
        return Ok(());
    };
    console::print("\nkept of images that thresholds were not chosen on (halves in turn)")?;
    let sides = [held_out.seen, held_out.unseen];
    let percent = |of: fn(&Kept) -> Option<f64>| {
        sides.map(|side| of(&side).map_or("-".into(), |share| format!("{:.1}", 100.0 * share)))
    };
    line("precision (%)", percent(Kept::precision))?;
    line("recall (%)", percent(Kept::recall))?;
    line("F1 (%)", percent(Kept::f1))?;
    Ok(())
}
