//! What the owner says of photographs: labels approved, rejected and added, photographs that were looked at whole.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::{Request, State as Given};
use epsilon::library::ownership::folded;
use epsilon::library::{
    Catalog, Correction, Corrections, Item, Line, Proposal, Reviewed, Tag, Verdict, now,
};
use serde::{Deserialize, Serialize};

use super::{Gallery, Shown, blocking, label, unknown};
use crate::commands::serve::limits;
use crate::commands::serve::refusal::{Refusal, failed};

/// What somebody says, all of it at once.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Changes {
    labels: Vec<LabelChange>,
    reviewed: Vec<ReviewChange>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelChange {
    photo: String,
    label: String,
    verdict: Verdict,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReviewChange {
    photo: String,
    reviewed: bool,
}

#[derive(Serialize)]
pub(super) struct Corrected {
    /// What brings back the state before.
    undo: Changes,
    /// The photographs as they are now.
    photos: Vec<Shown>,
}

pub(super) async fn correct(
    Given(gallery): Given<Arc<Gallery>>,
    request: Request,
) -> Result<Json<Corrected>, Refusal> {
    let server = gallery.server.clone();
    let begun = server.begin()?;
    let changes: Changes = server.json(request).await?;
    let most = limits::CHANGES;
    if changes.labels.len() + changes.reviewed.len() > most {
        let message = format!("more corrections than this server takes at once, {most}");
        return Err(Refusal::unusable("corrections", message));
    }
    // What has begun is written: nobody is told otherwise.
    let _begun = begun;
    blocking(move || gallery.correct(&changes).map(Json)).await
}

impl Gallery {
    fn correct(&self, changes: &Changes) -> Result<Corrected, Refusal> {
        let corrections = self.corrections.lock();
        let mut corrections = corrections.unwrap_or_else(PoisonError::into_inner);
        corrections.refresh().map_err(failed)?;
        let mut undo = Changes::default();
        let mut lines = Vec::new();
        let catalog = self.catalog()?;
        let mut spelt = Spelt::new();
        for change in &changes.labels {
            let item = catalog.item(&change.photo).ok_or_else(unknown)?;
            let name = label(&change.label)?;
            undo.labels.push(LabelChange {
                photo: item.id.clone(),
                verdict: before(&corrections, &item.id, &name),
                label: name.clone(),
            });
            let (name, parents) = match named(item, &name) {
                Some(said) => (said.name().into(), said.parents().into()),
                None => spelt
                    .entry(name.clone())
                    .or_insert_with(|| elsewhere(&catalog, name))
                    .clone(),
            };
            lines.push(Line::Label(Correction {
                by: self.proposal(item, &name),
                photo: item.id.clone(),
                label: name,
                parents,
                verdict: change.verdict,
                at: now(),
            }));
        }
        for ReviewChange { photo, reviewed } in &changes.reviewed {
            let item = catalog.item(photo).ok_or_else(unknown)?;
            undo.reviewed.push(ReviewChange {
                photo: photo.clone(),
                reviewed: item.reviewed,
            });
            lines.push(Line::Photo(Reviewed {
                photo: photo.clone(),
                reviewed: *reviewed,
                at: now(),
            }));
        }
        drop(catalog);
        // The last change is undone first.
        undo.labels.reverse();
        undo.reviewed.reverse();
        corrections.add(&lines).map_err(failed)?;
        drop(corrections);
        Ok(Corrected {
            undo,
            photos: self.shown(changes)?,
        })
    }

    /// What the program had said of a label.
    fn proposal(&self, item: &Item, name: &str) -> Option<Proposal> {
        let said = named(item, name)?;
        said.score().map(|_| Proposal {
            model: self.library.identity.clone(),
            probability: said.probability(),
        })
    }

    /// The photographs that were spoken of, as they are now.
    fn shown(&self, changes: &Changes) -> Result<Vec<Shown>, Refusal> {
        let labels = changes.labels.iter().map(|change| change.photo.as_str());
        let reviewed = changes.reviewed.iter().map(|change| change.photo.as_str());
        let mut ids: Vec<&str> = labels.chain(reviewed).collect();
        ids.sort_unstable();
        ids.dedup();
        let catalog = self.catalog()?;
        let items = ids.into_iter().filter_map(|id| catalog.item(id));
        Ok(items.map(Shown::of).collect())
    }
}

/// Labels that photographs have not had yet, by how they were typed, as they stand elsewhere in the library.
type Spelt = HashMap<String, (String, Vec<String>)>;

/// The label of this name of a photograph.
fn named<'i>(item: &'i Item, name: &str) -> Option<&'i Tag> {
    let name = folded(name);
    let mut labels = item.labels.iter();
    labels.find(|label| folded(label.name()) == name)
}

/// Name and parents of a label as the first photograph has them that it was given.
fn elsewhere(catalog: &Catalog, name: String) -> (String, Vec<String>) {
    match catalog.first_label(|known| known.eq_ignore_ascii_case(&name)) {
        Some(label) => (label.name().into(), label.parents().into()),
        None => (name, Vec::new()),
    }
}

/// What the owner said of a label last.
fn before(corrections: &Corrections, photo: &str, name: &str) -> Verdict {
    let judged = corrections
        .of(photo)
        .and_then(|opinion| opinion.labels.get(&folded(name)));
    judged.map_or(Verdict::Withdrawn, |judged| judged.verdict)
}
