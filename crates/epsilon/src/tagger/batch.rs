//! Tags photographs, batch after batch.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::report::Round;
use super::sidecars::Kept;
use super::{TagError, TagEvent, Tagger, ranked};
use crate::library::keywords::taken;
use crate::library::{Entry, Label, Outcome, Photo};
use crate::predictor::PredictError;
use epsilon_vision::tokens::{Failure, FeatureBatch, Unread};

impl Tagger<'_> {
    /// Tags photographs that are new or have changed, and writes their sidecars.
    pub(super) fn tag_new(
        &mut self,
        photos: &[Photo],
        kept: &mut Kept,
        round: &mut Round<'_, '_>,
    ) -> Result<(), TagError> {
        let items: Vec<(String, PathBuf)> = photos
            .iter()
            .map(|photo| (photo.id.clone(), photo.path.clone()))
            .collect();
        let by_id: HashMap<&str, &Photo> = photos.iter().map(|p| (p.id.as_str(), p)).collect();
        round.tell(TagEvent::Begin(photos.len()))?;
        let mut ended = Ok(());
        let (predictor, ranks) = (self.predictor, self.ranks.clone());
        ranked::run(&items, predictor, &*ranks, &mut |batch| {
            ended = self.batch(batch, &by_id, kept, round);
            match ended {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })
        .map_err(PredictError::Forward)?;
        ended
    }

    fn batch(
        &mut self,
        batch: &FeatureBatch,
        photos: &HashMap<&str, &Photo>,
        kept: &mut Kept,
        round: &mut Round<'_, '_>,
    ) -> Result<(), TagError> {
        let mut entries = self.unread(batch, photos, round)?;
        let unread = entries.len();
        entries.extend(self.tagged(batch, photos)?);
        // First the index: what the journal says is done is never missing there.
        self.indices.commit()?;
        self.journal.add(&entries)?;
        let done = entries.len();
        self.corrections.refresh()?;
        for entry in entries.into_iter().skip(unread) {
            let entry = entry.with(&self.corrections);
            round.tell(TagEvent::Tagged(&entry))?;
            round.report.tagged += 1;
            self.keep_sidecar_of(&entry.photo, kept, round)?;
        }
        round.tell(TagEvent::Done(done))
    }

    fn unread(
        &mut self,
        batch: &FeatureBatch,
        photos: &HashMap<&str, &Photo>,
        round: &mut Round<'_, '_>,
    ) -> Result<Vec<Entry>, TagError> {
        for Failure { reason, .. } in &batch.flawed {
            round.report.flawed += 1;
            round.tell(TagEvent::Flawed(reason))?;
        }
        let mut entries = Vec::new();
        for (id, Unread { reason, content }) in &batch.failed {
            round.fail(reason)?;
            // The vectors of an earlier picture of that name.
            self.indices.remove(id);
            let outcome = Outcome::Error(reason.clone());
            entries.push(Entry {
                content: *content,
                ..self.entry(photos[id.as_str()], outcome)
            });
        }
        Ok(entries)
    }

    fn tagged(
        &mut self,
        batch: &FeatureBatch,
        photos: &HashMap<&str, &Photo>,
    ) -> Result<Vec<Entry>, TagError> {
        let FeatureBatch { ids, features, .. } = batch;
        let (tokens, global) = (features.tokens.clone(), features.global.clone());
        let (rankings, vectors) = self.ranker.rank_with_vectors(ids.len(), tokens, global);
        if !ids.is_empty() {
            self.indices.push(ids, features, vectors.as_ref())?;
        }
        let entries = ids.iter().zip(rankings).map(|(id, ranking)| {
            let doubt = ranking.doubt();
            let kept = ranking.keep(&self.options.keep).into_iter();
            let labels = kept.map(|label| {
                let parents = self.parents(&label.name);
                Label::of(label, parents)
            });
            Entry {
                doubt,
                ..self.entry(photos[id.as_str()], Outcome::Labels(labels.collect()))
            }
        });
        Ok(entries.collect())
    }

    fn parents(&self, name: &str) -> Vec<String> {
        let word = self.words.iter().find(|word| word.name == name);
        word.map_or(Vec::new(), |word| word.parents.clone())
    }

    fn entry(&self, photo: &Photo, outcome: Outcome) -> Entry {
        Entry {
            photo: photo.id.clone(),
            bytes: photo.bytes,
            modified: photo.modified,
            settings: self.settings.clone(),
            outcome,
            content: false,
            taken: taken(photo, self.predictor.limits()),
            doubt: None,
            sidecar: None,
        }
    }
}
