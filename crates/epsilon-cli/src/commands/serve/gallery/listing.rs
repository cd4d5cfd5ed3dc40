//! Lists of photographs: what was searched for, filtered and put in an order stays so while its pages are read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Given};
use axum::http::StatusCode;
use epsilon::library::dates::span;
use epsilon::library::{Filter, Order, now};
use epsilon::semantic_index::IndexError;
use serde::{Deserialize, Serialize};

use super::{Gallery, Shown, answered, given, label, probability};
use crate::commands::serve::beside::one_of;
use crate::commands::serve::limits;
use crate::commands::serve::refusal::{Refusal, failed};

/// Which photographs are asked for, in which order, and which of them to show.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    /// Any words to search for.
    q: Option<String>,
    /// The id of a photograph that the others should be like.
    like: Option<String>,
    label: Option<String>,
    probability: Option<f32>,
    since: Option<String>,
    until: Option<String>,
    folder: Option<String>,
    unreviewed: bool,
    broken: bool,
    order: Order,
    offset: usize,
    limit: Option<usize>,
    /// The list whose next photographs are asked for, in place of all that is above.
    selection: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Listed {
    selection: u64,
    total: usize,
    offset: usize,
    photos: Vec<Shown>,
}

/// Lists that were asked for last; the oldest are forgotten.
#[derive(Default)]
pub(super) struct Selections {
    next: u64,
    kept: VecDeque<(u64, Arc<Vec<String>>)>,
}

impl Selections {
    fn keep(&mut self, ids: Vec<String>) -> (u64, Arc<Vec<String>>) {
        if self.kept.len() >= limits::SELECTIONS {
            self.kept.pop_front();
        }
        self.next += 1;
        // Most who come ask for all photographs; a list that many have asked for is held once.
        let same = self.kept.iter().find(|(_, kept)| **kept == ids);
        let ids = same.map_or_else(|| Arc::new(ids), |(_, kept)| kept.clone());
        let kept = (self.next, ids);
        self.kept.push_back(kept.clone());
        kept
    }

    fn get(&self, number: u64) -> Option<Arc<Vec<String>>> {
        let found = self.kept.iter().find(|(kept, _)| *kept == number);
        found.map(|(_, ids)| ids.clone())
    }
}

pub(super) async fn photos(
    Given(gallery): Given<Arc<Gallery>>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Listed>, Refusal> {
    let asked = given(query)?;
    let server = gallery.server.clone();
    let begun = server.begin()?;
    gallery.make_thumbnails();
    begun.within(server.timeout, gallery.list(asked)).await
}

impl Gallery {
    async fn list(self: Arc<Self>, asked: Asked) -> Result<Json<Listed>, Refusal> {
        let (offset, limit) = (asked.offset, asked.limit.unwrap_or(limits::PAGE));
        let number = asked.selection;
        let selected = match number {
            Some(_) => Vec::new(),
            None => self.clone().select(asked).await?,
        };
        let server = self.server.clone();
        one_of(&server.readers, move || {
            let selections = self.selections.lock();
            let mut selections = selections.unwrap_or_else(PoisonError::into_inner);
            let gone = || {
                let message = "that list is not kept any more: ask for it anew";
                Refusal::new(StatusCode::GONE, "selection", message)
            };
            let (selection, ids) = match number {
                Some(number) => (number, selections.get(number).ok_or_else(gone)?),
                None => selections.keep(selected),
            };
            drop(selections);
            let catalog = self.catalog()?;
            let wanted = ids.iter().skip(offset).take(limit.min(limits::PAGE));
            // One that is gone keeps its place, without anything to show.
            let photos = wanted.map(|id| match catalog.item(id) {
                Some(item) => Shown::of(item),
                None => Shown::gone(id),
            });
            Ok(Json(Listed {
                selection,
                total: ids.len(),
                offset,
                photos: photos.collect(),
            }))
        })
        .await
    }

    /// The ids of the photographs that are asked for.
    async fn select(self: Arc<Self>, asked: Asked) -> Result<Vec<String>, Refusal> {
        let (filter, order) = (asked.filter()?, asked.order);
        let words = asked.q.filter(|words| !words.trim().is_empty());
        let found = match (asked.like, words) {
            (Some(like), _) => {
                let like = self.clone().known(like).await?;
                Some((self.search.index(&self.server).await?, Asks::Like(like)))
            }
            (None, Some(words)) => {
                let words = label(&words)?;
                let index = self.search.index(&self.server).await?;
                let query = self.search.query(&self.server, &index, &words).await?;
                Some((index, Asks::Words(words, query)))
            }
            (None, None) => None,
        };
        if order == Order::Doubt {
            self.clone().find_telling().await?;
        }
        let server = self.server.clone();
        one_of(&server.readers, move || {
            let catalog = self.catalog()?;
            let id = |place: usize| catalog.items()[place].id.clone();
            let Some((index, asks)) = found else {
                let places = catalog.select(&filter, order);
                return Ok(places.into_iter().map(id).collect());
            };
            let top = match order {
                Order::Relevance => limits::FOUND,
                _ => limits::BEST,
            };
            let found = match asks {
                Asks::Like(photo) => catalog.like(&index, &photo, &filter, (order, top)),
                Asks::Words(words, query) => {
                    catalog.search(&index, &query, &words, &filter, (order, top))
                }
            };
            let found = found.map_err(|error| match error {
                IndexError::Unknown { photo } => {
                    let message = format!("{photo}: could not be tagged, so nothing is like it");
                    Refusal::unusable("photo", message)
                }
                error => failed(error),
            });
            let found = found?.into_iter();
            Ok(found.map(|found| id(found.item)).collect())
        })
        .await
    }
}

impl Gallery {
    /// The id, once it is one of a photograph of the library.
    async fn known(self: Arc<Self>, id: String) -> Result<String, Refusal> {
        let server = self.server.clone();
        one_of(&server.readers, move || Ok(self.item(&id)?.id)).await
    }

    /// Finds the photographs that teach most, while others may ask the catalog.
    async fn find_telling(self: Arc<Self>) -> Result<(), Refusal> {
        let one = self.telling.clone().lock_owned().await;
        let server = self.server.clone();
        one_of(&server.readers, move || {
            let _one = one;
            let untold = self.catalog()?.untold(&self.folder);
            if let Some(untold) = untold {
                let telling = untold.find().map_err(failed)?;
                self.catalog()?.tell(telling);
            }
            Ok(())
        })
        .await
    }
}

/// What a search asks the index.
enum Asks {
    /// For words and their query.
    Words(String, Vec<f32>),
    /// For photographs like this one.
    Like(String),
}

impl Asked {
    fn filter(&self) -> Result<Filter, Refusal> {
        let time = |text: &Option<String>| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            let read = text.map(|text| span(text, now() as i64)).transpose();
            read.map_err(|error| Refusal::unusable("date", error.to_string()))
        };
        let some = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        Ok(Filter {
            label: some(&self.label),
            probability: self.probability.map(probability).transpose()?,
            since: time(&self.since)?.map(|span| span.start),
            until: time(&self.until)?.map(|span| span.end),
            folder: some(&self.folder),
            unreviewed: self.unreviewed,
            broken: self.broken,
        })
    }
}

/// A label or a folder, and how many photographs have it.
#[derive(Serialize)]
pub(super) struct Counted {
    name: String,
    photographs: usize,
}

fn counted(counts: BTreeMap<String, usize>) -> Vec<Counted> {
    let counts = counts.into_iter();
    counts
        .map(|(name, photographs)| Counted { name, photographs })
        .collect()
}

/// All labels that are not rejected, the most frequent first.
pub(super) async fn labels(
    Given(gallery): Given<Arc<Gallery>>,
) -> Result<Json<Vec<Counted>>, Refusal> {
    answered(gallery, |gallery| {
        let mut labels = counted(gallery.catalog()?.label_counts());
        labels.sort_by_key(|label| std::cmp::Reverse(label.photographs));
        Ok(labels)
    })
    .await
}

/// All folders with the photographs in and below them, by their paths; of deeper ones than [`limits::FOLDERS_DEEP`] those above.
pub(super) async fn folders(
    Given(gallery): Given<Arc<Gallery>>,
) -> Result<Json<Vec<Counted>>, Refusal> {
    answered(gallery, |gallery| {
        let catalog = gallery.catalog()?;
        let mut counts = BTreeMap::new();
        for item in catalog.items() {
            for (end, _) in item.id.match_indices('/').take(limits::FOLDERS_DEEP) {
                count(&mut counts, &item.id[..end]);
            }
        }
        Ok(counted(counts))
    })
    .await
}

fn count(counts: &mut BTreeMap<String, usize>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => _ = counts.insert(name.into(), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lists_are_kept() {
        let mut selections = Selections::default();
        let (first, _) = selections.keep(vec!["a".into()]);
        for _ in 1..limits::SELECTIONS {
            selections.keep(Vec::new());
        }
        assert_eq!(selections.get(first).unwrap()[0], "a");
        let (last, empty) = selections.keep(Vec::new());
        assert!(Arc::ptr_eq(&empty, &selections.kept[0].1), "held once");
        assert!(selections.get(first).is_none() && selections.get(last).is_some());
    }
}
