//! `epsilon predict`: photographs in, ranked labels out, for any list of words.

use std::path::{Path, PathBuf};

use anyhow::Context;
use epsilon::backbone::{self, Backbone, Features};
use epsilon::burn::tensor::Device;
use epsilon::image::{self, Limits, RgbImage};
use epsilon::labels::{self, LabelVectors, VectorFile};
use epsilon::model::{Model, Ranked, Scorer};
use serde::Serialize;

use crate::{Outcome, console};

/// Rank labels for photographs: the model's own or any words, those it never trained on among them.
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    model: PathBuf,
    /// The photographs.
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
    /// Words to rank, one a line [default: the model's own labels].
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The words' vectors, of the kind that the model was trained with [default: the recipe's file].
    #[arg(long, value_name = "FILE", requires = "labels")]
    vectors: Option<PathBuf>,
    /// A list of the vector file's words, where it holds numbers alone; one for each of its arrays.
    #[arg(long, value_name = "FILE", requires = "vectors")]
    vector_names: Vec<PathBuf>,
    /// How many labels to show.
    #[arg(long, default_value_t = 10, value_name = "N")]
    top: usize,
    /// The backbone's weights: a file, a folder or a hub id [default: where the model's recipe found them].
    #[arg(long, value_name = "WEIGHTS")]
    backbone: Option<PathBuf>,
    /// Where to compute.
    #[arg(long, default_value = "cpu", value_parser = epsilon::device::NAMES.to_vec())]
    device: String,
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
    let device = epsilon::device::device(&args.device)?;
    let model = Model::load(&args.model, &device)?;
    let backbone = backbone(&model, args.backbone.as_deref(), &device)?;
    let vectors = wanted(&args, &model)?;
    let scorer = model.scorer(&vectors, &device)?;
    let mut predictions = Vec::new();
    for photo in &args.photos {
        match scores(photo, &*backbone, &scorer) {
            Ok(scores) => {
                let labels = model.rank(&vectors, &scores, args.top);
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

/// The model's backbone, from the place that is named or the one that its recipe found it at.
pub fn backbone(
    model: &Model,
    place: Option<&Path>,
    device: &Device,
) -> anyhow::Result<Box<dyn Backbone>> {
    let weights = place.unwrap_or(&model.card.backbone_weights);
    let backbone = backbone::locate(weights, console::is_terminal())
        .and_then(|path| backbone::load_on(&path, &model.card.backbone.options(), device))
        .context("the model's backbone; --backbone names another place")?;
    model.check_backbone(backbone.info())?;
    Ok(backbone)
}

/// Vectors of the labels to rank.
fn wanted(args: &Args, model: &Model) -> anyhow::Result<LabelVectors> {
    let Some(list) = &args.labels else {
        return Ok(model.own_labels());
    };
    let names = labels::read_names(list)?;
    let file = match &args.vectors {
        Some(path) => VectorFile {
            path: path.clone(),
            names: args.vector_names.clone(),
        },
        None => own_vectors(model).context("give the words' vectors with --vectors")?,
    };
    Ok(labels::resolve_words(&file, &names, &names)?.vectors)
}

/// The vector file of the model's recipe.
pub fn own_vectors(model: &Model) -> Option<VectorFile> {
    let data = &model.card.recipe["data"];
    let names = data["vector-names"].as_array().into_iter().flatten();
    Some(VectorFile {
        path: data["vectors"].as_str()?.into(),
        names: names
            .filter_map(|name| name.as_str().map(PathBuf::from))
            .collect(),
    })
}

/// Scores of one photograph.
pub fn scores(photo: &Path, backbone: &dyn Backbone, scorer: &Scorer) -> anyhow::Result<Vec<f32>> {
    let picture = image::open(photo, &Limits::default())?;
    let features = features(&picture, backbone)?;
    Ok(scorer.score(1, features.tokens, features.global))
}

/// What a backbone makes of a picture.
pub fn features(picture: &RgbImage, backbone: &dyn Backbone) -> anyhow::Result<Features> {
    let preprocess = &backbone.info().preprocess;
    let mut pixels = vec![0.0; preprocess.len()];
    preprocess.apply(picture, &mut pixels);
    let mut features = Features::default();
    backbone.forward(&pixels, 1, &mut features)?;
    Ok(features)
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
