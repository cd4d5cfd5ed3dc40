//! `epsilon tag`: labels for all photographs of a folder, kept beside them and in sidecars.

mod round;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::Context;
use epsilon::labels;
use epsilon::library::sidecar::Subject;
use epsilon::library::{Journal, Library, digest};
use epsilon::model::Ranker;
use epsilon::semantic_index::{IndexError, IndexInfo, IndexWriter};
use serde::Serialize;

use super::keep::{Keep, KeepArgs};
use super::trained::{Trained, TrainedArgs};
use crate::{Outcome, console};
use round::{Round, Sum};

/// Tag all photographs of a folder and of the folders in it, with the model's own labels or any words.
///
/// What is known is kept in the library folder: tags.jsonl has a line for every photograph, and `epsilon search` finds
/// photographs by any word. Photographs that are tagged and have not changed are left alone, so run it again for new ones.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    trained: TrainedArgs,
    /// The folder of photographs.
    folder: PathBuf,
    /// Words to tag with, one a line; `animal|dog` is the word dog below animal [default: the model's own labels].
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    keep: KeepArgs,
    /// The library folder [default: .epsilon in the folder of photographs].
    #[arg(long, value_name = "LIBRARY")]
    out: Option<PathBuf>,
    /// Also write the labels into XMP sidecars: PHOTO.jpg.xmp, as darktable and digiKam have it, or PHOTO.xmp. What others
    /// wrote there stays.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "full", require_equals = true, value_enum)]
    xmp: Option<SidecarName>,
    /// Also write all tags into this CSV file: photo, label, parents, score, probability, seen.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Go on and tag photographs as they come into the folder, until stopped.
    #[arg(long)]
    watch: bool,
    /// Print a line of JSON for every photograph.
    #[arg(long)]
    json: bool,
}

/// How a sidecar is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SidecarName {
    /// PHOTO.jpg.xmp.
    Full,
    /// PHOTO.xmp.
    Stem,
}

/// Words with their parents, from the top down.
struct Words {
    names: Vec<String>,
    parents: Vec<Vec<String>>,
}

/// What decides a photograph's tags beside the photograph.
#[derive(Serialize)]
struct Settings<'a> {
    model: &'a str,
    labels: Vec<String>,
    vectors: &'a [f32],
    keep: Keep,
    calibration: &'a Option<epsilon::calibration::Calibration>,
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    args.keep.check()?;
    let folder = std::path::absolute(&args.folder)?;
    std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let trained = args.trained.load()?;
    let keep = args.keep.of(&trained.model, None)?;
    let words = args.labels.as_deref().map(Words::read).transpose()?;
    let vectors = trained.wanted(words.as_ref().map(|words| &words.names[..]))?;
    let words = words.unwrap_or_else(|| Words::plain(vectors.names()));
    let identity = trained.model.identity();
    let settings = digest(&Settings {
        model: &identity,
        labels: words.subjects().map(|s| format!("{s:?}")).collect(),
        vectors: vectors.values(),
        keep,
        calibration: &trained.model.card.calibration,
    })?;
    let out = args.out.clone().unwrap_or_else(|| Library::beside(&folder));
    let _lock = Library::lock(&out)?;
    let model = std::path::absolute(args.trained.model())?;
    let ranker = Ranker::new(&trained.model, vectors, &trained.device)?;
    let index = index(&trained, &ranker, &Library::index(&out), &identity)?;
    Library::new(model, identity, folder.clone()).write(&out)?;
    let mut round = Round {
        folder: &folder,
        trained: &trained,
        ranker: &ranker,
        words: &words,
        keep,
        settings: &settings,
        sidecars: args.xmp,
        csv: args.csv.as_deref(),
        json: args.json,
        journal: Journal::open(&out)?,
        index,
    };
    let sum = match args.watch {
        true => watch::run(&mut round, &folder, &out)?,
        false => round.run(None)?,
    };
    if !args.watch {
        sum.tell();
    }
    Ok(match sum.failed {
        0 => Outcome::Done,
        _ => Outcome::SomeFailed,
    })
}

/// The index of semantic vectors, that of another model thrown away; none where the method has no such vectors.
fn index(
    trained: &Trained,
    ranker: &Ranker,
    folder: &Path,
    identity: &str,
) -> anyhow::Result<Option<IndexWriter>> {
    // What it makes of nothing tells how many vectors it makes of anything.
    let dims = trained.model.card.dims;
    let tokens = vec![0.0; dims.tokens * dims.width];
    let (_, vectors) = ranker.rank_and_keep(1, tokens, vec![0.0; dims.global_width()]);
    let Some(vectors) = vectors else {
        return Ok(None);
    };
    let info = IndexInfo {
        model: identity.into(),
        groups: vectors.groups,
        width: dims.label_width,
    };
    match IndexWriter::open(folder, &info) {
        Err(IndexError::OtherModel { .. }) => {
            std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
            Ok(Some(IndexWriter::open(folder, &info)?))
        }
        opened => Ok(Some(opened?)),
    }
}

impl Words {
    fn plain(names: &[String]) -> Self {
        Self {
            names: names.to_vec(),
            parents: vec![Vec::new(); names.len()],
        }
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let mut words = Self {
            names: Vec::new(),
            parents: Vec::new(),
        };
        for line in labels::read_names(path)? {
            let parts = line.split('|').map(|part| part.trim().to_string());
            let mut parts: Vec<String> = parts.collect();
            anyhow::ensure!(
                parts.iter().all(|part| !part.is_empty()),
                "{}: {line:?}: between two | stands no word",
                path.display()
            );
            words.names.extend(parts.pop());
            words.parents.push(parts);
        }
        Ok(words)
    }

    fn subjects(&self) -> impl Iterator<Item = Subject> {
        let both = self.names.iter().zip(&self.parents);
        both.map(|(name, parents)| Subject {
            name: name.clone(),
            parents: parents.clone(),
        })
    }

    fn parents(&self, name: &str) -> Vec<String> {
        let place = self.names.iter().position(|word| word == name);
        place.map_or(Vec::new(), |place| self.parents[place].clone())
    }
}

impl Sum {
    /// Says how a round went, where somebody watches.
    fn tell(&self) {
        let others: Vec<String> = self
            .others
            .iter()
            .map(|(ending, count)| format!("{count} .{ending}"))
            .collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!("; not decoded: {}", others.join(", ")),
        };
        console::tell(format_args!(
            "{} tagged, {} as they were, {} failed{others}",
            self.tagged, self.unchanged, self.failed
        ));
    }
}
