//! `epsilon predict`: photographs in, ranked labels out, for any list of words.

use std::path::PathBuf;

use epsilon::model::Ranked;
use epsilon::paths;
use serde::Serialize;

use super::keep::KeepArgs;
use super::trained::{TrainedArgs, ranker};
use super::words::WordArgs;
use crate::{Outcome, console};

/// Rank labels for photographs: the model's own or any words, those it never trained on among them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The photographs.
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
    #[command(flatten)]
    trained: TrainedArgs,
    #[command(flatten)]
    words: WordArgs,
    #[command(flatten)]
    keep: KeepArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Labels that are shown of a model without thresholds.
const USUAL: usize = 10;

#[derive(Serialize)]
struct Prediction {
    photo: String,
    labels: Vec<Ranked>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    args.keep.check()?;
    let words = args.words.read()?;
    let predictor = args.trained.load(words.as_deref())?;
    args.trained.check_words(&predictor, words.as_deref())?;
    let keep = args.keep.of(predictor.model(), Some(USUAL))?;
    let labels = ranker(&predictor, words.as_deref())?;
    let mut predictions = Vec::new();
    for (photo, ranking) in args
        .photos
        .iter()
        .zip(predictor.rank_all(&args.photos, &labels)?)
    {
        match ranking {
            Ok(ranking) => {
                if let Some(flaw) = ranking.flaw {
                    console::warn(format_args!("{}: {flaw}", paths::shown(photo)));
                }
                predictions.push(Prediction {
                    photo: paths::text(photo),
                    labels: ranking.keep(&keep),
                });
            }
            Err(error) => console::name_failure(error),
        }
    }
    if args.json {
        console::print_json(&predictions)?;
    } else {
        for prediction in &predictions {
            print(prediction, predictor.is_trained())?;
        }
    }
    let all = predictions.len() == args.photos.len();
    Ok(if all {
        Outcome::Done
    } else {
        Outcome::SomeFailed
    })
}

/// How much a label is true: its probability, where the model has any, or its score; eight characters.
pub(super) fn value(probability: Option<f32>, score: f32) -> String {
    match probability {
        Some(probability) => format!("{:>6.1} %", 100.0 * probability),
        None => format!("{score:>8.4}"),
    }
}

/// Of a trained model it says which labels it was not trained on.
fn print(prediction: &Prediction, trained: bool) -> anyhow::Result<()> {
    console::print(paths::plain(&prediction.photo))?;
    if prediction.labels.is_empty() {
        console::print("      no label reaches its threshold; --top N shows the best")?;
    }
    let width = prediction
        .labels
        .iter()
        .map(|l| l.name.chars().count())
        .max()
        .unwrap_or(0);
    for (rank, label) in prediction.labels.iter().enumerate() {
        let mark = match trained && !label.seen {
            true => "  unseen",
            false => "",
        };
        let value = value(label.probability, label.score);
        console::print(format_args!(
            "{:>4}  {:<width$}  {value}{mark}",
            rank + 1,
            label.name,
        ))?;
    }
    Ok(())
}
