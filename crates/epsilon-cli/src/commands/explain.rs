//! `epsilon explain`: where a model looked for a label, as pictures.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use epsilon::backbone::Features;
use epsilon::explain::{heat, overlay};
use epsilon::image::{self, Limits, RgbImage};
use epsilon::labels::LabelVectors;
use epsilon::methods::LabelMap;
use epsilon::model::Scorer;
use serde::Serialize;

use super::trained::{Trained, TrainedArgs};
use crate::{Outcome, console};

/// Show where a model looked in photographs for labels: a picture for each, the photograph under a heat map.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    trained: TrainedArgs,
    /// The photographs.
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
    /// A label to look for, one of the model's own or any word with a vector; may be given again [default: the photograph's
    /// three best of the model's own].
    #[arg(long, value_name = "WORD")]
    label: Vec<String>,
    /// Folder for the pictures, named PHOTO-LABEL-MAP.png.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Labels that are shown where none are asked for.
const SHOWN: usize = 3;

#[derive(Serialize)]
struct Explained {
    photo: PathBuf,
    label: String,
    score: f32,
    seen: bool,
    /// A picture for each map.
    pictures: Vec<Picture>,
}

#[derive(Serialize)]
struct Picture {
    #[serde(flatten)]
    map: LabelMap,
    file: PathBuf,
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let trained = args.trained.load()?;
    let words = (!args.label.is_empty()).then_some(&*args.label);
    let vectors = trained.wanted(words)?;
    let scorer = trained.model.scorer(&vectors, &trained.device)?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let mut all = Vec::new();
    let mut failed = false;
    for photo in &args.photos {
        match image::open(photo, &Limits::default()) {
            Ok(picture) => {
                let looked = Looked::new(&trained, &scorer, picture)?;
                for label in looked.labels(&args, &vectors) {
                    all.push(looked.explain(&args.out, photo, &vectors, label)?);
                }
            }
            Err(error) => {
                failed = true;
                console::name_failure(error);
            }
        }
    }
    if args.json {
        console::print_json(&all)?;
    } else {
        for explained in &all {
            print(explained)?;
        }
    }
    Ok(if failed {
        Outcome::SomeFailed
    } else {
        Outcome::Done
    })
}

/// A photograph and what the backbone and the model make of it.
struct Looked<'a> {
    picture: RgbImage,
    features: Features,
    scores: Vec<f32>,
    trained: &'a Trained,
    scorer: &'a Scorer<'a>,
}

impl<'a> Looked<'a> {
    fn new(
        trained: &'a Trained,
        scorer: &'a Scorer<'a>,
        picture: RgbImage,
    ) -> anyhow::Result<Self> {
        let features = trained.features(&picture)?;
        let scores = scorer.score(1, features.tokens.clone(), features.global.clone());
        Ok(Self {
            picture,
            features,
            scores,
            trained,
            scorer,
        })
    }

    /// Places of the labels to show: all that were asked for, or the best.
    fn labels(&self, args: &Args, vectors: &LabelVectors) -> Vec<usize> {
        let mut places: Vec<usize> = (0..vectors.len()).collect();
        if args.label.is_empty() {
            places.sort_by(|&a, &b| self.scores[b].total_cmp(&self.scores[a]));
            places.truncate(SHOWN);
        }
        places
    }

    /// Writes a label's pictures.
    fn explain(
        &self,
        out: &Path,
        photo: &Path,
        vectors: &LabelVectors,
        label: usize,
    ) -> anyhow::Result<Explained> {
        let name = &vectors.names()[label];
        let card = &self.trained.model.card;
        let Features { tokens, global } = self.features.clone();
        let maps = self.scorer.maps(tokens, global, label);
        if maps.is_empty() {
            bail!(
                "the method `{}` looks at the image as a whole: it has no map of a label",
                card.method.name()
            );
        }
        let stem = photo.file_stem().unwrap_or_default().to_string_lossy();
        let write = |map: LabelMap| -> anyhow::Result<Picture> {
            let file = out.join(format!("{stem}-{}-{}.png", plain(name), plain(map.what)));
            let (width, height) = self.picture.dimensions();
            let heat = heat(
                &map,
                &self.trained.backbone.info().preprocess,
                width,
                height,
            );
            overlay(&self.picture, &heat)
                .save(&file)
                .with_context(|| file.display().to_string())?;
            Ok(Picture { map, file })
        };
        let seen = &card.labels[..card.seen];
        Ok(Explained {
            photo: photo.into(),
            label: name.clone(),
            score: self.scores[label],
            seen: seen.contains(name),
            pictures: maps.into_iter().map(write).collect::<anyhow::Result<_>>()?,
        })
    }
}

/// A part of a file name.
fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() { c } else { '_' };
    text.chars().map(plain).collect()
}

fn print(explained: &Explained) -> anyhow::Result<()> {
    let mark = if explained.seen { "" } else { "  unseen" };
    console::print(format_args!(
        "{}  {}  {:.4}{mark}",
        explained.photo.display(),
        explained.label,
        explained.score
    ))?;
    for Picture { map, file } in &explained.pictures {
        let group = match map.group {
            Some(group) => format!(" of group {}", group + 1),
            None => String::new(),
        };
        console::print(format_args!("  {}{group}: {}", map.what, file.display()))?;
    }
    Ok(())
}
