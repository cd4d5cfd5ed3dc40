//! The sidecars of a round: written as photographs are tagged, and all looked at when it ends.

use std::collections::HashSet;

use super::report::Round;
use super::{TagError, TagEvent, Tagger};
use crate::library::{Facts, Places, UpkeepError};

/// The sidecars of a round, and which of them are done.
pub(super) struct Kept {
    places: Places,
    done: HashSet<String>,
}

impl Kept {
    pub(super) fn new(places: Places) -> Self {
        Self {
            places,
            done: HashSet::new(),
        }
    }
}

impl Tagger<'_> {
    /// Writes the sidecar of a photograph that was tagged, where sidecars are wanted.
    pub(super) fn keep_sidecar_of(
        &mut self,
        photo: &str,
        kept: &mut Kept,
        round: &mut Round<'_, '_>,
    ) -> Result<(), TagError> {
        match self.options.sidecars {
            Some(name) => self.keep_sidecar(&name.key(photo), kept, round),
            None => Ok(()),
        }
    }

    /// Brings all sidecars up to date, where sidecars are wanted: also those of photographs that are as they were, and those
    /// that were named otherwise.
    pub(super) fn keep_sidecars(
        &mut self,
        kept: &mut Kept,
        round: &mut Round<'_, '_>,
    ) -> Result<(), TagError> {
        if self.options.sidecars.is_none() {
            return Ok(());
        }
        self.corrections.refresh()?;
        let keys: Vec<String> = kept.places.keys().map(String::from).collect();
        keys.iter()
            .try_for_each(|key| self.keep_sidecar(key, kept, round))
    }

    /// A sidecar that cannot be written is named, and tried again in the next round.
    fn keep_sidecar(
        &mut self,
        key: &str,
        kept: &mut Kept,
        round: &mut Round<'_, '_>,
    ) -> Result<(), TagError> {
        if kept.done.contains(key) {
            return Ok(());
        }
        let facts = Facts {
            journal: &self.journal,
            settings: &self.settings,
            corrections: &self.corrections,
            model: &self.identity,
        };
        let done = match self.sidecars.keep(&kept.places, key, &facts) {
            Ok(done) => done,
            Err(error) => {
                named(error, round)?;
                true
            }
        };
        if done {
            kept.done.insert(key.into());
        }
        Ok(())
    }

    /// Names sidecars whose photographs are gone, or takes our labels out of them.
    pub(super) fn orphans(
        &mut self,
        kept: &Kept,
        round: &mut Round<'_, '_>,
    ) -> Result<(), TagError> {
        let believe = self.options.forget_missing;
        let orphans = self
            .sidecars
            .orphans(&kept.places, &self.corrections, believe)?;
        for orphan in orphans {
            round.report.orphans += 1;
            if !self.options.prune {
                round.tell(TagEvent::Orphan(&orphan))?;
                continue;
            }
            match self.sidecars.prune(&orphan, &self.corrections) {
                Ok(()) => round.report.pruned += 1,
                Err(error) => named(error, round)?,
            }
        }
        Ok(())
    }
}

/// An error of one sidecar is told; one of the library ends the round.
fn named(error: UpkeepError, round: &mut Round<'_, '_>) -> Result<(), TagError> {
    match error {
        UpkeepError::Sidecar(error) => round.fail(&error.to_string()),
        UpkeepError::Library(error) => Err(error.into()),
    }
}
