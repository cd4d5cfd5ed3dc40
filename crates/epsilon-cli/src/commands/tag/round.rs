//! One round over a folder: what is new or has changed is tagged, what is gone is forgotten.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use epsilon::image::Limits;
use epsilon::library::sidecar::{self, Subject};
use epsilon::library::{Entry, Journal, Label, Outcome, Photo, Scan, scan};
use epsilon::model::Ranker;
use epsilon::semantic_index::IndexWriter;
use epsilon::tokens::{self, Failure, FeatureBatch};
use indicatif::ProgressBar;

use super::{Keep, SidecarName, Trained, Words};
use crate::console;

/// Everything that rounds need.
pub struct Round<'a> {
    pub folder: &'a Path,
    pub trained: &'a Trained,
    pub ranker: &'a Ranker<'a>,
    pub words: &'a Words,
    pub keep: Keep,
    pub settings: &'a str,
    pub sidecars: Option<SidecarName>,
    pub csv: Option<&'a Path>,
    pub json: bool,
    pub journal: Journal,
    /// None for a method without semantic vectors.
    pub index: Option<IndexWriter>,
}

/// How a round went.
#[derive(Debug, Default)]
pub struct Sum {
    pub tagged: usize,
    pub unchanged: usize,
    pub failed: usize,
    /// Pictures of kinds that are not decoded, by their endings.
    pub others: BTreeMap<String, usize>,
    /// Photographs that were left for the next round because they may still be written.
    pub fresh: usize,
}

impl Round<'_> {
    /// Tags what is new or has changed, but for photographs younger than `settle`, and forgets what is gone.
    pub fn run(&mut self, settle: Option<Duration>) -> anyhow::Result<Sum> {
        let Scan {
            mut photos,
            failed,
            others,
        } = scan(self.folder);
        let mut sum = Sum {
            failed: failed.len(),
            others,
            ..Sum::default()
        };
        failed.iter().for_each(console::name_failure);
        self.forget(&photos)?;
        let found = photos.len();
        photos.retain(|photo| settle.is_none_or(|settle| photo.age() >= settle));
        sum.fresh = found - photos.len();
        let (known, new): (Vec<Photo>, Vec<Photo>) = photos.into_iter().partition(|photo| {
            let known = self.journal.known().get(&photo.id);
            let indexed = || {
                self.index
                    .as_ref()
                    .is_none_or(|index| index.contains(&photo.id))
            };
            known.is_some_and(|known| {
                known.is_of(photo, self.settings) && (known.failed || indexed())
            })
        });
        self.unchanged(&known, &mut sum)?;
        self.tag(&new, &mut sum)?;
        self.journal.tidy()?;
        if let Some(path) = self.csv {
            self.write_csv(path)?;
        }
        Ok(sum)
    }

    /// Forgets photographs that are not in the folder any more.
    fn forget(&mut self, photos: &[Photo]) -> anyhow::Result<()> {
        let there: HashSet<&str> = photos.iter().map(|photo| photo.id.as_str()).collect();
        let known = self.journal.known().keys();
        let gone = known.filter(|id| !there.contains(id.as_str()));
        for id in gone.cloned().collect::<Vec<_>>() {
            self.journal.forget(&id);
        }
        if let Some(index) = &mut self.index {
            let gone = index.ids().filter(|id| !there.contains(id));
            let gone: Vec<String> = gone.map(String::from).collect();
            gone.iter().for_each(|id| index.remove(id));
        }
        self.commit_index()
    }

    fn commit_index(&mut self) -> anyhow::Result<()> {
        match &mut self.index {
            Some(index) => Ok(index.commit()?),
            None => Ok(()),
        }
    }

    /// Names what failed before, and writes sidecars where these are wanted now.
    fn unchanged(&mut self, photos: &[Photo], sum: &mut Sum) -> anyhow::Result<()> {
        for photo in photos {
            let known = &self.journal.known()[&photo.id];
            let wanted = self.sidecars.is_some() && !known.sidecar;
            if !known.failed && !wanted {
                sum.unchanged += 1;
                continue;
            }
            let Some(mut entry) = self.journal.entry(&photo.id)? else {
                continue;
            };
            match entry.outcome.clone() {
                Outcome::Error(reason) => {
                    sum.failed += 1;
                    console::name_failure(reason);
                }
                Outcome::Labels(labels) => {
                    self.write_sidecar(photo, &labels, &mut entry, sum);
                    self.journal.add(&[entry])?;
                    sum.unchanged += 1;
                }
            }
        }
        Ok(())
    }

    fn tag(&mut self, photos: &[Photo], sum: &mut Sum) -> anyhow::Result<()> {
        let items: Vec<(String, PathBuf)> = photos
            .iter()
            .map(|photo| (photo.id.clone(), photo.path.clone()))
            .collect();
        let by_id: HashMap<&str, &Photo> = photos.iter().map(|p| (p.id.as_str(), p)).collect();
        let bar = console::bar(photos.len() as u64, "tag");
        let mut ended = Ok(());
        let backbone = &*self.trained.backbone;
        tokens::run(&items, backbone, &Limits::default(), &mut |batch| {
            ended = self.batch(batch, &by_id, sum, &bar);
            match ended {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        ended?;
        bar.finish_and_clear();
        Ok(())
    }

    fn batch(
        &mut self,
        batch: &FeatureBatch,
        photos: &HashMap<&str, &Photo>,
        sum: &mut Sum,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let FeatureBatch {
            ids,
            features,
            failed,
            ..
        } = batch;
        let mut entries = Vec::new();
        for Failure { id, reason } in failed {
            sum.failed += 1;
            bar.suspend(|| console::name_failure(reason));
            if let Some(index) = &mut self.index {
                // What an earlier picture of that name looked like.
                index.remove(id);
            }
            entries.push(self.entry(photos[id.as_str()], Outcome::Error(reason.clone())));
        }
        let (ranked, vectors) = match ids.len() {
            // All of them failed.
            0 => (Vec::new(), None),
            count => {
                let (tokens, global) = (features.tokens.clone(), features.global.clone());
                self.ranker.rank_and_keep(count, tokens, global)
            }
        };
        if let (Some(index), Some(vectors)) = (&mut self.index, vectors) {
            let rows = vectors
                .values
                .chunks(vectors.values.len() / ids.len().max(1));
            for (id, rows) in ids.iter().zip(rows) {
                index.push(id, rows)?;
            }
        }
        for (id, ranked) in ids.iter().zip(ranked) {
            let photo = photos[id.as_str()];
            let kept = self.keep.keep(ranked).into_iter();
            let labels: Vec<Label> = kept
                .map(|label| {
                    let parents = self.words.parents(&label.name);
                    Label::of(label, parents)
                })
                .collect();
            let mut entry = self.entry(photo, Outcome::Labels(labels.clone()));
            if self.sidecars.is_some() {
                self.write_sidecar(photo, &labels, &mut entry, sum);
            }
            bar.suspend(|| self.print(&entry))?;
            entries.push(entry);
            sum.tagged += 1;
        }
        // First the index: what the journal says is done is never missing there.
        self.commit_index()?;
        self.journal.add(&entries)?;
        bar.inc(entries.len() as u64);
        Ok(())
    }

    fn entry(&self, photo: &Photo, outcome: Outcome) -> Entry {
        Entry {
            photo: photo.id.clone(),
            bytes: photo.bytes,
            modified: photo.modified,
            settings: self.settings.into(),
            outcome,
            sidecar: None,
        }
    }

    /// Writes a photograph's labels into its sidecar, and what was added there into its entry. A sidecar that cannot be
    /// written is named, and tried again the next time.
    fn write_sidecar(&self, photo: &Photo, labels: &[Label], entry: &mut Entry, sum: &mut Sum) {
        let Some(name) = self.sidecars else { return };
        let subjects: Vec<Subject> = labels.iter().map(Label::subject).collect();
        let before = match self.journal.entry(&photo.id) {
            Ok(entry) => entry.and_then(|entry| entry.sidecar).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let before: Vec<Subject> = before.into_iter().filter_map(subject).collect();
        match sidecar::update(&name.of(&photo.path), &subjects, &before) {
            Ok(added) => entry.sidecar = Some(added.into_iter().map(path).collect()),
            Err(error) => {
                sum.failed += 1;
                console::name_failure(error);
            }
        }
    }

    fn print(&self, entry: &Entry) -> anyhow::Result<()> {
        if self.json {
            return Ok(console::print(serde_json::to_string(entry)?)?);
        }
        if let Outcome::Labels(labels) = &entry.outcome {
            let names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
            console::print(format_args!("{}\t{}", entry.photo, names.join(", ")))?;
        }
        Ok(())
    }

    /// All tags of the library, a line for every label of a photograph.
    fn write_csv(&self, path: &Path) -> anyhow::Result<()> {
        let mut out = csv::Writer::from_path(path).with_context(|| path.display().to_string())?;
        out.write_record(["photo", "label", "parents", "score", "probability", "seen"])?;
        for entry in self.journal.entries() {
            let entry = entry?;
            let Outcome::Labels(labels) = entry.outcome else {
                continue;
            };
            for label in labels {
                let probability = label.probability.map_or(String::new(), |p| p.to_string());
                out.write_record([
                    &entry.photo,
                    &label.name,
                    &label.parents.join("|"),
                    &label.score.to_string(),
                    &probability,
                    &label.seen.to_string(),
                ])?;
            }
        }
        out.flush().with_context(|| path.display().to_string())
    }
}

/// A subject from its names, from the top down.
fn subject(mut names: Vec<String>) -> Option<Subject> {
    Some(Subject {
        name: names.pop()?,
        parents: names,
    })
}

fn path(subject: Subject) -> Vec<String> {
    let Subject { name, mut parents } = subject;
    parents.push(name);
    parents
}

impl SidecarName {
    fn of(self, photo: &Path) -> PathBuf {
        match self {
            SidecarName::Full => {
                let mut name = photo.as_os_str().to_os_string();
                name.push(".xmp");
                name.into()
            }
            SidecarName::Stem => photo.with_extension("xmp"),
        }
    }
}
