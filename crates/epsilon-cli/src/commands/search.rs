//! `epsilon search`: the photographs of a tagged library that match a word best.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use epsilon::library::Library;
use epsilon::paths;
use epsilon::semantic_index::{Hit, Index};
use serde::Serialize;

use super::trained::{VectorArgs, with_option};
use crate::{Outcome, console};

/// Rank a tagged library for any word, also one that it was not tagged with.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The library that `epsilon tag` made, or the folder of photographs that it is in.
    library: PathBuf,
    /// What to look for: a word, or several as one, such as "red flower".
    words: String,
    /// How many photographs to show.
    #[arg(long, default_value_t = 50, value_name = "N")]
    top: usize,
    #[command(flatten)]
    vectors: VectorArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found {
    photo: String,
    #[serde(flatten)]
    hit: Hit,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    ensure!(args.top > 0, "--top 0: give at least 1");
    let (library, folder) = Library::read(&args.library)?;
    let device = epsilon::device::device("cpu")?;
    let words = std::slice::from_ref(&args.words);
    let (model, vectors) = args.vectors.load_words(&library, words)?;
    if model.identity() != library.identity {
        bail!(
            "{}: is another model now than the one that tagged this library: tag it again",
            library.model.display()
        );
    }
    let place = Library::index(&folder);
    if !Index::is_at(&place) {
        bail!(
            "{}: holds no index of photographs: the method `{}` scores photographs otherwise than by semantic vectors, or none was tagged yet (`epsilon tag PHOTOS`)",
            folder.display(),
            model.card().method().name()
        );
    }
    let vectors = vectors.find(words).map_err(with_option)?;
    let index = Index::open(&place)?;
    let query = model.queries(&vectors, &device)?;
    let hits = index.search(&query, args.top)?;
    let photos = paths::text(&library.photos);
    let found: Vec<Found> = hits
        .into_iter()
        .map(|mut hit| {
            hit.score = model.card().method().score_of_match(hit.score);
            let photo = format!("{photos}/{}", hit.id);
            Found { photo, hit }
        })
        .collect();
    if args.json {
        console::print_json(&found)?;
    } else {
        for (rank, Found { photo, hit }) in found.iter().enumerate() {
            let (rank, score) = (rank + 1, hit.score);
            let photo = paths::plain(photo);
            console::print(format_args!("{rank:>4}  {score:>8.4}  {photo}"))?;
        }
    }
    Ok(Outcome::Done)
}
