//! The photographs of an index that match a label best, or are like one of them.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::ids::Ids;
use super::ranked::{Searchers, Shared};
use super::record::Query;
use super::rows::{Candidate, Rows, Wanted};
use super::{IndexError, IndexInfo};

/// A photograph that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// Its id.
    pub id: String,
    /// Its score.
    pub score: f32,
    /// Which of its M vectors scored, from 0; none where all of them did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
}

/// Some of the photographs of an index, see [`Index::select`].
pub struct Selection {
    /// Of every record.
    passes: Vec<bool>,
}

impl Selection {
    /// How many photographs it is.
    pub fn count(&self) -> usize {
        self.passes.iter().filter(|passes| **passes).count()
    }
}

/// An index to search in.
pub struct Index {
    rows: Rows,
    pub(super) ids: Ids,
    shared: Option<Shared>,
}

impl Index {
    /// Opens the index in a folder.
    ///
    /// # Errors
    /// Damaged or missing files.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let rows = Rows::open(folder)?;
        Ok(Self {
            ids: Ids::read(folder, &rows.manifest)?,
            rows,
            shared: None,
        })
    }

    /// Searched together with the other ranks of a job, which [assist](super::assist).
    #[must_use]
    pub fn shared_with(mut self, searchers: Arc<Searchers>) -> Self {
        self.shared = Some(Shared::new(searchers));
        self
    }

    /// What it is of.
    pub fn info(&self) -> &IndexInfo {
        &self.rows.manifest.info
    }

    /// Photographs in it.
    pub fn len(&self) -> usize {
        self.ids.living().count()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that a search reads.
    pub fn bytes(&self) -> usize {
        self.rows.len() * self.info().record()
    }

    pub(super) fn record(&self, place: u64) -> &[u8] {
        self.rows.record(place)
    }

    /// The ids of some of its photographs, and their vectors one after the other, each row-major `[groups, width]`.
    ///
    /// # Errors
    /// [`IndexError::Form`] for an id that is no text.
    pub fn vectors(&self, selection: &Selection) -> Result<(Vec<String>, Vec<f32>), IndexError> {
        let chosen = selection.passes.iter().enumerate();
        let chosen = chosen
            .filter(|(_, passes)| **passes)
            .map(|(place, _)| place);
        let (mut ids, mut values) = (Vec::new(), Vec::new());
        for place in chosen {
            ids.push(self.ids.text(place)?.into_owned());
            values.extend(self.info().vectors_of(self.record(place as u64)));
        }
        Ok((ids, values))
    }

    /// Those of its photographs whose ids pass; they are asked for one after the other, in the order in which they were pushed.
    ///
    /// # Errors
    /// [`IndexError::Form`] for an id that is no text.
    pub fn select(&self, mut passes: impl FnMut(&str) -> bool) -> Result<Selection, IndexError> {
        let records = 0..self.rows.len();
        let passes =
            records.map(|place| Ok(self.ids.is_living(place) && passes(&self.ids.text(place)?)));
        let passes = passes.collect::<Result<_, _>>()?;
        Ok(Selection { passes })
    }

    fn all(&self) -> Selection {
        let records = 0..self.rows.len();
        Selection {
            passes: records.map(|place| self.ids.is_living(place)).collect(),
        }
    }

    /// The `top` photographs that match a label's [query](crate::model::Model::queries) best, best first; of equal ones the
    /// earlier. All are looked at, and the result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`IndexError::Vectors`] for a query of another width, or one that is not finite.
    pub fn search(&self, query: &[f32], top: usize) -> Result<Vec<Hit>, IndexError> {
        self.search_in(&self.all(), query, top)
    }

    /// As [`Index::search`], among some of the photographs.
    ///
    /// # Errors
    /// As [`Index::search`].
    pub fn search_in(
        &self,
        selection: &Selection,
        query: &[f32],
        top: usize,
    ) -> Result<Vec<Hit>, IndexError> {
        let wanted = Wanted::Match(self.query(query)?);
        let best = self.best(selection, (query, &wanted), top)?;
        let hits = best.into_iter().map(|candidate| {
            Ok(Hit {
                id: self.ids.text(candidate.place)?.into_owned(),
                score: candidate.score,
                group: Some(candidate.group as usize),
            })
        });
        hits.collect()
    }

    /// A query as a scan takes it.
    pub(super) fn query(&self, query: &[f32]) -> Result<Query, IndexError> {
        let info = self.info();
        if query.len() != info.query_width() {
            return Err(IndexError::Vectors(format!(
                "a query of width {}; the index's queries are {} wide",
                query.len(),
                info.query_width()
            )));
        }
        if query.iter().any(|value| !value.is_finite()) {
            return Err(IndexError::Vectors("the query is not finite".into()));
        }
        Ok(info.query(query))
    }

    /// The `top` photographs most like one of the index, most alike first, that one left out. Their score is the cosine of the
    /// angle between their semantic vectors, the M vectors of a photograph taken as one of M d_w values:
    /// `sum_m S_m . T_m / sqrt(sum_m |S_m|^2 sum_m |T_m|^2)`.
    ///
    /// # Errors
    /// [`IndexError::Unknown`] where the index does not hold the photograph.
    pub fn like(&self, id: &str, top: usize) -> Result<Vec<Hit>, IndexError> {
        self.like_in(&self.all(), id, top)
    }

    /// As [`Index::like`], among some of the photographs.
    ///
    /// # Errors
    /// As [`Index::like`].
    pub fn like_in(
        &self,
        selection: &Selection,
        id: &str,
        top: usize,
    ) -> Result<Vec<Hit>, IndexError> {
        let Some(own) = self.ids.place(id)? else {
            return Err(IndexError::Unknown { photo: id.into() });
        };
        let wanted = Wanted::Like(own as u64);
        // One more, for that one itself.
        let best = self.best(selection, (&[], &wanted), top.saturating_add(1))?;
        let others = best.into_iter().filter(|candidate| candidate.place != own);
        let hits = others.take(top).map(|candidate| {
            Ok(Hit {
                id: self.ids.text(candidate.place)?.into_owned(),
                score: candidate.score,
                group: None,
            })
        });
        hits.collect()
    }

    /// The best `top` of a selection, best first; `query` is what a match is made of.
    fn best(
        &self,
        selection: &Selection,
        (query, wanted): (&[f32], &Wanted),
        top: usize,
    ) -> Result<Vec<Candidate>, IndexError> {
        let (rows, passes) = (&self.rows, &selection.passes);
        if top == 0 {
            return Ok(Vec::new());
        }
        match &self.shared {
            Some(shared) => shared.best(rows, passes, (query, wanted), top),
            None => Ok(rows.best(0..rows.len(), |place| passes[place], wanted, top)),
        }
    }
}
