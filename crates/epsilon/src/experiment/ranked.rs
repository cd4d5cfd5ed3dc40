//! An extraction by several ranks: the images are dealt out in parts, each into a store of its own, which the first rank joins.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use epsilon_data::files;
use epsilon_vision::tokens::{
    self, ExtractReport, Failure, FeatureError, Part, Progress, StoreError, TokenStore,
};
use serde::{Deserialize, Serialize};

use super::{Experiment, ExperimentError, Layout, extract};
use crate::ranks;
use crate::training::TrainingError;

/// The most parts of an extraction.
const MOST: usize = 4096;

/// How many parts so many images have, each of some whole shards: a function of the list alone, so that any number of ranks can go on
/// with what others have begun.
fn parts(images: usize, shard: usize) -> usize {
    let shards = images.div_ceil(shard).max(1);
    shards.div_ceil(shards.div_ceil(MOST))
}

/// What a rank has found.
#[derive(Default, Serialize, Deserialize)]
struct Found {
    resumed: usize,
    flawed: Vec<Failure>,
}

impl Experiment {
    /// Whether ranks have begun an extraction: one process goes on with it, too.
    pub(super) fn has_parts(&self) -> bool {
        Layout(&self.folder).parts().exists()
    }

    /// Extracts what is missing with all ranks. Whatever moment a rank is lost at, the next call goes on, with as many ranks as it
    /// then has.
    pub(super) fn extract_by_ranks(
        &mut self,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(TokenStore, ExtractReport), ExperimentError> {
        let dir = self.layout().tokens();
        // A rank that sees another store, or none where the first one has a whole one, would go its own way.
        let state = state(&dir);
        if let Some(rank) = ranks::dissenter(&*self.ranks, vec![state]) {
            return Err(self.not_shared(rank));
        }
        let folder = Layout(&self.folder).parts();
        match state {
            COMPLETE => {
                // What a job has left that was killed while it removed them.
                if self.ranks.is_first() && folder.exists() {
                    let _ = std::fs::remove_dir_all(&folder);
                }
                return self.extract_into(&dir, None, progress);
            }
            BEGUN => return Err(ExperimentError::BegunAlone { dir }),
            _ => self.share_folder()?,
        }
        let images = self.prepare()?.dataset.records.len();
        let of = parts(images, self.recipe.extract_options().shard_size);
        let found = self.extract_dealt(&folder, of, progress)?;
        let all = self.ranks.gather(json(&found)?);
        if self.ranks.is_first() {
            let folders: Vec<PathBuf> = all_parts(of)
                .map(|part| Layout(&folder).part(part))
                .collect();
            tokens::join(&folders, &dir)?;
            // The store is whole: what cannot be removed takes room, no more.
            let _ = std::fs::remove_dir_all(&folder);
        }
        self.ranks.wait();
        let store = TokenStore::open(&dir)?;
        let mut report = ExtractReport {
            images: store.len(),
            resumed: 0,
            failed: store.manifest().failed.clone(),
            flawed: Vec::new(),
        };
        for bytes in all {
            let found: Found = serde_json::from_slice(&bytes).map_err(ExperimentError::Json)?;
            report.resumed += found.resumed;
            report.flawed.extend(found.flawed);
        }
        Ok((store, report))
    }

    /// Makes sure that all ranks see the run's folder: the first one writes a file into it, whose name nobody knows beforehand.
    fn share_folder(&self) -> Result<(), ExperimentError> {
        let named = |name: &[u8]| self.folder.join(String::from_utf8_lossy(name).as_ref());
        let failed = |reason: std::io::Error| {
            let (path, reason) = (self.folder.clone(), reason.to_string());
            ExperimentError::Training(TrainingError::File { path, reason })
        };
        let mut name = Vec::new();
        if self.ranks.is_first() {
            let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            name = format!(".epsilon-ranks-{}-{}", std::process::id(), since.as_nanos()).into();
            files::folder(&self.folder).map_err(failed)?;
            files::write(&named(&name), b"").map_err(failed)?;
        }
        let name = self.ranks.share(0, name);
        let sees = named(&name).exists();
        let all = self.ranks.gather(vec![u8::from(sees)]);
        if self.ranks.is_first() {
            // Left behind, it does no harm.
            let _ = std::fs::remove_file(named(&name));
        }
        match all.iter().position(|sees| *sees != [1]) {
            Some(rank) => Err(self.not_shared(rank)),
            None => Ok(()),
        }
    }

    fn not_shared(&self, rank: usize) -> ExperimentError {
        ExperimentError::NotShared {
            folder: self.folder.clone(),
            rank,
        }
    }

    /// Extracts the parts that this rank is dealt.
    fn extract_dealt(
        &mut self,
        folder: &Path,
        of: usize,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Found, ExperimentError> {
        let prepared = self.prepare()?;
        let network = self.load_backbone()?;
        let images = prepared.dataset.records.len();
        let (start, mut found) = (Instant::now(), Found::default());
        let mut deal = self.ranks.deal(of);
        while let Some(part) = deal.next() {
            let part = all_parts(of).nth(part).ok_or(FeatureError::Options)?;
            // The images before a part are done, or about to be, by the other ranks.
            let before = part.stretch(images).start;
            let mut told = |mut at: Progress| {
                deal.serve();
                at.done += before;
                at.total = images;
                at.rate = at.done as f64 / start.elapsed().as_secs_f64().max(1e-9);
                progress(at)
            };
            let dir = Layout(folder).part(part);
            let report = extract(
                &self.recipe,
                &prepared,
                &*network,
                &dir,
                Some(part),
                &mut told,
            )?;
            found.resumed += report.resumed;
            found.flawed.extend(report.flawed);
        }
        Ok(found)
    }
}

fn all_parts(of: usize) -> impl Iterator<Item = Part> {
    (1..=of).filter_map(move |index| Part::new(index, of))
}

const MISSING: u8 = 0;
const BEGUN: u8 = 1;
const COMPLETE: u8 = 2;

/// What there is of a store, in one byte to be compared with the other ranks'.
fn state(dir: &Path) -> u8 {
    match TokenStore::open(dir) {
        Err(StoreError::Missing { .. }) => MISSING,
        Err(StoreError::Unfinished { .. }) => BEGUN,
        // One that is damaged is an error of its own, for every rank.
        _ => COMPLETE,
    }
}

fn json(found: &Found) -> Result<Vec<u8>, ExperimentError> {
    serde_json::to_vec(found).map_err(ExperimentError::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_shards_and_not_too_many() {
        assert_eq!(parts(0, 128), 1);
        assert_eq!(parts(128, 128), 1);
        assert_eq!(parts(129, 128), 2);
        assert_eq!(parts(4_999, 128), 40);
        // 9 million photographs: 70,313 shards, 18 a part.
        assert_eq!(parts(9_000_000, 128), 3_907);
    }
}
