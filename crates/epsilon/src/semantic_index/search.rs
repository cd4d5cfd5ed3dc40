//! The photographs of an index that match a label best: a scan over all records, on all threads.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::ids::Ids;
use super::manifest::{MANIFEST, Manifest};
use super::{IndexError, IndexInfo, failed, form};
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
    /// Which of its M vectors scored, from 0.
    pub group: usize,
}

/// An index to search in.
pub struct Index {
    manifest: Manifest,
    /// A writer only appends to this file and never cuts below what the manifest counts.
    rows: Mapped,
    ids: Ids,
}

/// A candidate: the better one is greater.
#[derive(Clone, Copy, PartialEq)]
struct Candidate {
    score: f32,
    group: u32,
    place: usize,
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
        })
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

    /// The `top` photographs that match a label's [query](crate::model::Model::queries) best, best first; of equal ones the
    /// earlier. All are looked at, and the result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`IndexError::Vectors`] for a query of another width, or one that is not finite.
    pub fn search(&self, query: &[f32], top: usize) -> Result<Vec<Hit>, IndexError> {
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
        if top == 0 {
            return Ok(Vec::new());
        }
        let query = info.query(query);
        let size = info.record();
        let all = &self.rows[..self.bytes()];
        let chunks = all.par_chunks(CHUNK * size).enumerate();
        let best = chunks
            .map(|(chunk, records)| {
                let scores = info.scores(records, &query).into_iter();
                let candidates = scores.zip(chunk * CHUNK..);
                let living = candidates.filter(|(_, place)| self.ids.is_living(*place));
                best_of(
                    living.map(|((score, group), place)| Candidate {
                        score,
                        group,
                        place,
                    }),
                    top,
                )
            })
            .reduce(Vec::new, |mut a, b| {
                a.extend(b);
                best_of(a.into_iter(), top)
            });
        let hits = best.into_iter().map(|candidate| {
            Ok(Hit {
                id: self.ids.get(candidate.place)?,
                score: candidate.score,
                group: candidate.group as usize,
            })
        });
        hits.collect()
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
