//! `epsilon predict`: photographs in, ranked labels out, for any list of words.

use std::path::{Path, PathBuf};

use epsilon::image::{self, Limits};
use epsilon::labels;
use epsilon::model::{Ranked, Scorer};
use serde::Serialize;

use super::trained::{Trained, TrainedArgs};
use crate::{Outcome, console};

/// Rank labels for photographs: the model's own or any words, those it never trained on among them.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    trained: TrainedArgs,
    /// The photographs.
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
    /// Words to rank, one a line [default: the model's own labels].
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// How many labels to show.
    #[arg(long, default_value_t = 10, value_name = "N")]
    top: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Prediction {
    photo: PathBuf,
    labels: Vec<Ranked>,
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    anyhow::ensure!(args.top > 0, "--top 0: give at least 1");
    let trained = args.trained.load()?;
    let words = args.labels.as_deref().map(labels::read_names).transpose()?;
    let vectors = trained.wanted(words.as_deref())?;
    let scorer = trained.model.scorer(&vectors, &trained.device)?;
    let mut predictions = Vec::new();
    for photo in &args.photos {
        match scores(photo, &trained, &scorer) {
            Ok(scores) => {
                let labels = trained.model.rank(&vectors, &scores, args.top);
                predictions.push(Prediction {
                    photo: photo.clone(),
                    labels,
                });
            }
            Err(error) => console::name_failure(console::explain(&error)),
        }
    }
    if args.json {
        console::print_json(&predictions)?;
    } else {
        for prediction in &predictions {
            print(prediction)?;
        }
    }
    let all = predictions.len() == args.photos.len();
    Ok(if all {
        Outcome::Done
    } else {
        Outcome::SomeFailed
    })
}

/// Scores of one photograph.
fn scores(photo: &Path, trained: &Trained, scorer: &Scorer) -> anyhow::Result<Vec<f32>> {
    let picture = image::open(photo, &Limits::default())?;
    let features = trained.features(&picture)?;
    Ok(scorer.score(1, features.tokens, features.global))
}

fn print(prediction: &Prediction) -> anyhow::Result<()> {
    console::print(prediction.photo.display())?;
    let width = prediction
        .labels
        .iter()
        .map(|l| l.name.chars().count())
        .max()
        .unwrap_or(0);
    for (rank, label) in prediction.labels.iter().enumerate() {
        let mark = if label.seen { "" } else { "  unseen" };
        console::print(format_args!(
            "{:>4}  {:<width$}  {:>8.4}{mark}",
            rank + 1,
            label.name,
            label.score
        ))?;
    }
    Ok(())
}
