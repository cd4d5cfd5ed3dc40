//! The records of an index in a memory map, and a scan over them for the best ones, on all threads.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::manifest::{MANIFEST, Manifest};
use super::record::Query;
use super::{IndexError, failed, form};
use epsilon_data::files::Mapped;

/// Records that a thread scans at once.
const CHUNK: usize = 4096;

/// The records that counted when they were opened.
pub(super) struct Rows {
    pub(super) manifest: Manifest,
    /// A writer only appends to this file and never cuts below what the manifest counts.
    bytes: Mapped,
}

/// What a scan goes by.
pub(super) enum Wanted {
    /// The match with a label's query.
    Match(Query),
    /// The likeness to the record at this place.
    Like(u64),
}

/// A candidate: the better one is greater.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) score: f32,
    pub(super) group: u32,
    pub(super) place: usize,
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

impl Rows {
    /// Those of the index in a folder.
    ///
    /// # Errors
    /// Damaged or missing files.
    pub(super) fn open(folder: &Path) -> Result<Self, IndexError> {
        let Some(manifest) = Manifest::read(folder)? else {
            let path = folder.join(MANIFEST);
            return Err(failed(&path, io::ErrorKind::NotFound.into()));
        };
        let path = manifest.rows(folder);
        let length = manifest.records * manifest.info.record() as u64;
        let bytes = Mapped::open(&path).map_err(|error| failed(&path, error))?;
        if (bytes.len() as u64) < length {
            let reason = format!("{} bytes of {length}", bytes.len());
            return Err(form(&path, reason));
        }
        Ok(Self { manifest, bytes })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.manifest.records as usize
    }

    pub(super) fn record(&self, place: u64) -> &[u8] {
        let size = self.manifest.info.record();
        &self.bytes[place as usize * size..][..size]
    }

    /// The best `top` of the records in a range that pass, best first.
    pub(super) fn best(
        &self,
        range: Range<usize>,
        passes: impl Fn(usize) -> bool + Sync,
        wanted: &Wanted,
        top: usize,
    ) -> Vec<Candidate> {
        let size = self.manifest.info.record();
        let records = &self.bytes[range.start * size..range.end * size];
        let chunks = records.par_chunks(CHUNK * size).enumerate();
        let best = chunks.map(|(chunk, records)| {
            let mut scores = vec![(0.0, 0); records.len() / size];
            self.scores(wanted, records, &mut scores);
            let candidates = scores.into_iter().zip(range.start + chunk * CHUNK..);
            let chosen = candidates.filter(|(_, place)| passes(*place));
            let candidate = |((score, group), place)| Candidate {
                score,
                group,
                place,
            };
            best_of(chosen.map(candidate), top)
        });
        best.reduce(Vec::new, |mut a, b| {
            a.extend(b);
            best_of(a.into_iter(), top)
        })
    }

    /// The scores of records, with the vector that made each.
    fn scores(&self, wanted: &Wanted, records: &[u8], scores: &mut [(f32, u32)]) {
        let info = &self.manifest.info;
        match wanted {
            Wanted::Match(query) => info.scores(records, query, scores),
            Wanted::Like(place) => {
                let mut cosines = vec![0.0; scores.len()];
                info.cosines(records, self.record(*place), &mut cosines);
                for (score, cosine) in scores.iter_mut().zip(cosines) {
                    *score = (cosine, 0);
                }
            }
        }
    }
}

/// The best `top`, best first.
pub(super) fn best_of(candidates: impl Iterator<Item = Candidate>, top: usize) -> Vec<Candidate> {
    if top == 0 {
        return Vec::new();
    }
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
