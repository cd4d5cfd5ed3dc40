//! The photographs of an index that match a label best: a scan over all records, on all threads.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use super::ids::Ids;
use super::manifest::{MANIFEST, Manifest};
use super::record::Query;
use super::{IndexError, IndexInfo, failed, form};
use crate::ranks::{Alone, Ranks};
use epsilon_data::files::Mapped;

/// Records that a thread scans at once.
const CHUNK: usize = 4096;

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

/// An index to search in.
pub struct Index {
    manifest: Manifest,
    /// A writer only appends to this file and never cuts below what the manifest counts.
    rows: Mapped,
    pub(super) ids: Ids,
    ranks: Arc<dyn Ranks>,
}

/// A candidate: the better one is greater.
#[derive(Clone, Copy, PartialEq)]
struct Candidate {
    score: f32,
    group: u32,
    place: usize,
}

impl Candidate {
    /// Bytes of one.
    const SIZE: usize = 16;

    /// For the other ranks.
    fn to_bytes(all: &[Self]) -> Vec<u8> {
        let bytes = all.iter().flat_map(|candidate| {
            let [score, group] = [candidate.score.to_bits(), candidate.group].map(u32::to_le_bytes);
            let place = (candidate.place as u64).to_le_bytes();
            [&score[..], &group, &place].concat()
        });
        bytes.collect()
    }

    fn from_bytes(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.chunks_exact(Self::SIZE).map(|bytes| {
            let number = |at: usize| bytemuck::pod_read_unaligned::<u32>(&bytes[at..at + 4]);
            Self {
                score: f32::from_bits(u32::from_le(number(0))),
                group: u32::from_le(number(4)),
                place: u64::from_le(bytemuck::pod_read_unaligned(&bytes[8..])) as usize,
            }
        })
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    /// By score; of equal ones the earlier record is better.
    fn cmp(&self, other: &Self) -> Ordering {
        let scores = self.score.total_cmp(&other.score);
        scores.then(other.place.cmp(&self.place))
    }
}

impl Index {
    /// Opens the index in a folder.
    ///
    /// # Errors
    /// Damaged or missing files.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let Some(manifest) = Manifest::read(folder)? else {
            let path = folder.join(MANIFEST);
            return Err(failed(&path, io::ErrorKind::NotFound.into()));
        };
        let path = manifest.rows(folder);
        let length = manifest.records * manifest.info.record() as u64;
        let rows = Mapped::open(&path).map_err(|error| failed(&path, error))?;
        if (rows.len() as u64) < length {
            let reason = format!("{} bytes of {length}", rows.len());
            return Err(form(&path, reason));
        }
        Ok(Self {
            ids: Ids::read(folder, &manifest)?,
            manifest,
            rows,
            ranks: Arc::new(Alone),
        })
    }

    /// Searched in together with the other ranks of a job: each scans a stretch of the records, and all have what was found. So an
    /// index that is larger than the memory of one machine stays in that of several. All ranks make the same searches.
    #[must_use]
    pub fn with_ranks(mut self, ranks: Arc<dyn Ranks>) -> Self {
        self.ranks = ranks;
        self
    }

    /// What it is of.
    pub fn info(&self) -> &IndexInfo {
        &self.manifest.info
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
        self.manifest.records as usize * self.manifest.info.record()
    }

    pub(super) fn record(&self, place: u64) -> &[u8] {
        let size = self.manifest.info.record();
        let all: &[u8] = &self.rows;
        &all[place as usize * size..][..size]
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
            values.extend(self.manifest.info.vectors_of(self.record(place as u64)));
        }
        Ok((ids, values))
    }

    /// Those of its photographs whose ids pass.
    ///
    /// # Errors
    /// [`IndexError::Form`] for an id that is no text.
    pub fn select(&self, passes: impl Fn(&str) -> bool + Sync) -> Result<Selection, IndexError> {
        let records = (0..self.manifest.records as usize).into_par_iter();
        let passes =
            records.map(|place| Ok(self.ids.is_living(place) && passes(&self.ids.text(place)?)));
        let passes = passes.collect::<Result<_, _>>()?;
        Ok(Selection { passes })
    }

    fn all(&self) -> Selection {
        let records = 0..self.manifest.records as usize;
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
        let info = &self.manifest.info;
        let query = self.query(query)?;
        let best = self.best(selection, top, |records, scores| {
            info.scores(records, &query, scores);
        });
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
        let info = &self.manifest.info;
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
        let query = self.record(own as u64);
        // One more, for that one itself.
        let best = self.best(selection, top.saturating_add(1), |records, scores| {
            let mut found = vec![0.0; scores.len()];
            self.manifest.info.cosines(records, query, &mut found);
            for (score, found) in scores.iter_mut().zip(found) {
                *score = (found, 0);
            }
        });
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

    /// The best `top` of a selection, best first. `score` gives the scores of records, with the vector that made each.
    fn best(
        &self,
        selection: &Selection,
        top: usize,
        score: impl Fn(&[u8], &mut [(f32, u32)]) + Sync,
    ) -> Vec<Candidate> {
        if top == 0 {
            return Vec::new();
        }
        let size = self.manifest.info.record();
        let own = self.ranks.own(self.manifest.records as usize);
        let records = &self.rows[own.start * size..own.end * size];
        let chunks = records.par_chunks(CHUNK * size).enumerate();
        let best = chunks.map(|(chunk, records)| {
            let mut scores = vec![(0.0, 0); records.len() / size];
            score(records, &mut scores);
            let candidates = scores.into_iter().zip(own.start + chunk * CHUNK..);
            let chosen = candidates.filter(|(_, place)| selection.passes[*place]);
            best_of(
                chosen.map(|((score, group), place)| Candidate {
                    score,
                    group,
                    place,
                }),
                top,
            )
        });
        let best = best.reduce(Vec::new, |mut a, b| {
            a.extend(b);
            best_of(a.into_iter(), top)
        });
        if self.ranks.size() == 1 {
            return best;
        }
        let found = self.ranks.gather(Candidate::to_bytes(&best));
        best_of(
            found.iter().flat_map(|bytes| Candidate::from_bytes(bytes)),
            top,
        )
    }
}

/// The best `top`, best first.
fn best_of(candidates: impl Iterator<Item = Candidate>, top: usize) -> Vec<Candidate> {
    let mut heap = BinaryHeap::new();
    for candidate in candidates {
        if heap.len() < top {
            heap.push(std::cmp::Reverse(candidate));
        } else if let Some(mut worst) = heap.peek_mut()
            && worst.0 < candidate
        {
            worst.0 = candidate;
        }
    }
    let best = heap.into_sorted_vec().into_iter();
    best.map(|std::cmp::Reverse(candidate)| candidate).collect()
}
