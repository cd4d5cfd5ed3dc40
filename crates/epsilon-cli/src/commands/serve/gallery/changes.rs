//! What the owner says of photographs: labels approved, rejected and added, photographs that were looked at whole.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::{Request, State as Given};
use axum::http::StatusCode;
use epsilon::library::ownership::folded;
use epsilon::library::{
    Catalog, Correction, Corrections, Library, LibraryError, Line, Proposal, Reviewed, Verdict, now,
};
use serde::{Deserialize, Serialize};

use super::{Gallery, Shown, label, probability, unknown};
use crate::commands::serve::beside::one_of;
use crate::commands::serve::limits;
use crate::commands::serve::refusal::{Refusal, failed};
use crate::console;

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
    /// The label's parents where it is to be noted as it is written here, as what undoes wants it; otherwise it is taken as it stands
    /// in the library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parents: Option<Vec<String>>,
    /// What the program had said of it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Proposal>,
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
    let correct = move || gallery.correct(&changes).map(Json);
    one_of(&server.readers, correct).await
}

impl Gallery {
    fn correct(&self, changes: &Changes) -> Result<Corrected, Refusal> {
        let corrections = self.corrections.lock();
        let mut corrections = corrections.unwrap_or_else(PoisonError::into_inner);
        corrections.refresh().map_err(failed)?;
        let mut undo = Changes::default();
        let mut lines = Vec::new();
        // Another model may have tagged it since the server began.
        let library = Library::read(&self.folder).map(|(library, _)| library);
        let library = library.unwrap_or_else(|_| self.library.clone());
        let catalog = self.catalog()?;
        let mut spelt = Spelt::new();
        for change in &changes.labels {
            let item = catalog.item(&change.photo).ok_or_else(unknown)?;
            let name = label(&change.label)?;
            undo.labels.push(before(&corrections, &item.id, &name));
            let (name, parents) = match (&change.parents, catalog.subject(&item.id, &name)) {
                (Some(parents), _) => (name, whole(parents)?),
                (None, Some(said)) => (said.name, said.parents),
                (None, None) => spelt
                    .entry(name.clone())
                    .or_insert_with(|| elsewhere(&catalog, name))
                    .clone(),
            };
            let by = match change.parents {
                Some(_) => whole_proposal(change.by.clone())?,
                None => item.proposal(&library, &name),
            };
            lines.push(Line::Label(Correction {
                by,
                photo: item.id.clone(),
                label: name,
                parents,
                verdict: change.verdict,
                at: now(),
            }));
        }
        for ReviewChange { photo, reviewed } in &changes.reviewed {
            catalog.item(photo).ok_or_else(unknown)?;
            let opinion = corrections.of(photo);
            undo.reviewed.push(ReviewChange {
                photo: photo.clone(),
                reviewed: opinion.is_some_and(|opinion| opinion.reviewed),
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
        corrections.add(&lines).map_err(unwritten)?;
        drop(corrections);
        Ok(Corrected {
            undo,
            photos: self.shown(changes)?,
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

/// Name and parents of a label as the first photograph has them that it was given.
fn elsewhere(catalog: &Catalog, name: String) -> (String, Vec<String>) {
    match catalog.first_label(&name) {
        Some(label) => (label.name().into(), label.parents().into()),
        None => (name, Vec::new()),
    }
}

/// Checks the parents of a label.
fn whole(parents: &[String]) -> Result<Vec<String>, Refusal> {
    parents.iter().map(|parent| label(parent)).collect()
}

/// Checks what the program is said to have said.
fn whole_proposal(by: Option<Proposal>) -> Result<Option<Proposal>, Refusal> {
    let said = by.as_ref().and_then(|by| by.probability);
    said.map(probability).transpose()?;
    Ok(by)
}

/// What says again what the owner said of a label last.
fn before(corrections: &Corrections, photo: &str, name: &str) -> LabelChange {
    let judged = corrections
        .of(photo)
        .and_then(|opinion| opinion.labels.get(&folded(name)));
    let nothing = LabelChange {
        photo: photo.into(),
        label: name.into(),
        verdict: Verdict::Withdrawn,
        parents: None,
        by: None,
    };
    match judged {
        Some(judged) => LabelChange {
            label: judged.name.clone(),
            verdict: judged.verdict,
            parents: Some(judged.parents.clone()),
            by: judged.by.clone(),
            ..nothing
        },
        None => nothing,
    }
}

/// Why corrections were not noted. What the server may not do, or has no room for, is said to whoever waits; where, its log says.
fn unwritten(error: LibraryError) -> Refusal {
    let (status, code, why) = match &error {
        error if error.is_full() => (StatusCode::INSUFFICIENT_STORAGE, "full", "its disk is full"),
        error if error.is_read_only() => {
            let why = "this server may only read it";
            (StatusCode::CONFLICT, "read-only", why)
        }
        _ => return failed(error),
    };
    console::complain(format_args!("a correction was not noted: {error}"));
    let message = format!("the library cannot be written, {why}: nothing of this was noted");
    Refusal::new(status, code, message)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_disk_that_takes_nothing_is_named() {
        for (kind, code) in [
            (ErrorKind::StorageFull, "full"),
            (ErrorKind::QuotaExceeded, "full"),
            (ErrorKind::ReadOnlyFilesystem, "read-only"),
            (ErrorKind::PermissionDenied, "read-only"),
            (ErrorKind::NotFound, "server"),
        ] {
            let error = LibraryError::File {
                path: "photos/.epsilon/corrections.jsonl".into(),
                source: kind.into(),
            };
            let refusal = unwritten(error);
            assert_eq!(refusal.code, code);
            let said = refusal.json().to_string();
            assert!(!said.contains("photos"), "{said}");
        }
    }
}
