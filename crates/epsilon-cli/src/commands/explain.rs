//! `epsilon explain`: where a model looked for a label, as pictures.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use epsilon::Predictor;
use epsilon::image::{self, RgbImage};
use epsilon::methods::LabelMap;
use epsilon::model::{Ranked, Ranker};
use epsilon::paths;
use epsilon::predictor::Photo;
use epsilon_data::files;
use serde::Serialize;

use super::predict::value;
use super::trained::{TrainedArgs, ranker};
use crate::{Outcome, console};

/// Show where a model looked in photographs for labels: a picture for each, the photograph under a heat map.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The photographs.
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
    #[command(flatten)]
    trained: TrainedArgs,
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
    photo: String,
    label: String,
    score: f32,
    seen: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f32>,
    /// A picture for each map.
    pictures: Vec<Picture>,
}

#[derive(Serialize)]
struct Picture {
    #[serde(flatten)]
    map: LabelMap,
    file: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let words = (!args.label.is_empty()).then_some(&*args.label);
    let predictor = args.trained.load(words)?;
    args.trained.check_words(&predictor, words)?;
    let labels = ranker(&predictor, words)?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let mut all = Vec::new();
    let mut failed = false;
    for photo in &args.photos {
        match image::open(photo, predictor.limits()) {
            Ok(picture) => all.extend(explain(&args, &predictor, &labels, photo, &picture)?),
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
            print(explained, predictor.is_trained())?;
        }
    }
    Ok(if failed {
        Outcome::SomeFailed
    } else {
        Outcome::Done
    })
}

/// Writes the pictures of one photograph: of all labels that were asked for, or of the best.
fn explain(
    args: &Args,
    predictor: &Predictor,
    labels: &Ranker,
    photo: &Path,
    picture: &RgbImage,
) -> anyhow::Result<Vec<Explained>> {
    let features = predictor.features(picture)?;
    let ranking = predictor.rank(&*features, labels)?;
    let mut shown: Vec<&Ranked> = match args.label.is_empty() {
        true => ranking.top(SHOWN).iter().collect(),
        false => ranking.iter().collect(),
    };
    if !args.label.is_empty() {
        shown.sort_by_key(|label| args.label.iter().position(|asked| *asked == label.name));
    }
    // The maps of a trained model come of the features; another covers parts of the picture.
    let looked_at = match predictor.is_trained() {
        true => Photo::from(&*features),
        false => Photo::from(picture),
    };
    let stem = paths::shown(Path::new(photo.file_stem().unwrap_or_default()));
    let explained = shown.into_iter().map(|label| {
        let maps = predictor
            .explain(looked_at, labels, &label.name)?
            .into_iter();
        let pictures = maps.map(|map| {
            let (name, what) = (plain(&label.name), plain(map.what));
            let file = args.out.join(format!("{stem}-{name}-{what}.png"));
            write_png(&file, &predictor.draw(picture, &map))
                .with_context(|| file.display().to_string())?;
            let file = paths::text(&file);
            Ok(Picture { map, file })
        });
        Ok(Explained {
            photo: paths::text(photo),
            label: label.name.clone(),
            score: label.score,
            seen: label.seen,
            probability: label.probability,
            pictures: pictures.collect::<anyhow::Result<_>>()?,
        })
    });
    explained.collect()
}

fn write_png(path: &Path, drawn: &RgbImage) -> anyhow::Result<()> {
    let mut png = Cursor::new(Vec::new());
    drawn.write_to(&mut png, ::image::ImageFormat::Png)?;
    Ok(files::replace(path, |file| file.write_all(png.get_ref()))?)
}

/// A part of a file name.
fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() { c } else { '_' };
    text.chars().map(plain).collect()
}

/// Of a trained model it says which labels it was not trained on.
fn print(explained: &Explained, trained: bool) -> anyhow::Result<()> {
    let mark = match trained && !explained.seen {
        true => "  unseen",
        false => "",
    };
    console::print(format_args!(
        "{}  {}  {}{mark}",
        paths::plain(&explained.photo),
        explained.label,
        value(explained.probability, explained.score).trim_start()
    ))?;
    for Picture { map, file } in &explained.pictures {
        let group = match map.group {
            Some(group) => format!(" of group {}", group + 1),
            None => String::new(),
        };
        let file = paths::plain(file);
        console::print(format_args!("  {}{group}: {file}", map.what))?;
    }
    Ok(())
}
