//! An index searched by all ranks of a job: each scans a stretch of the records, so that an index that is larger than the memory of
//! one machine stays in that of several. The first rank asks, and has what all have found; the others assist.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::IndexError;
use super::manifest::Manifest;
use super::rows::{Candidate, Rows, Wanted, best_of};
use crate::ranks::Ranks;

/// The other ranks of a job, as the first one has them search: they [assist] until this is dropped, or [they are
/// dismissed](Self::dismiss).
#[derive(Debug)]
pub struct Searchers {
    ranks: Arc<dyn Ranks>,
    /// Indexes that were opened for them.
    opened: AtomicU64,
    /// Held during a search; whether they are still there.
    are_there: Mutex<bool>,
}

impl Searchers {
    /// Those of the first rank's job. To be called by it alone.
    pub fn new(ranks: Arc<dyn Ranks>) -> Arc<Self> {
        let are_there = Mutex::new(ranks.size() > 1);
        Arc::new(Self {
            ranks,
            opened: AtomicU64::new(0),
            are_there,
        })
    }

    /// Ends their work. An index that is searched after that is searched by the first rank alone.
    pub fn dismiss(&self) {
        let mut are_there = self.turn();
        if std::mem::take(&mut *are_there) {
            self.ranks.share(0, Vec::new());
        }
    }

    /// One search at a time.
    fn turn(&self) -> MutexGuard<'_, bool> {
        self.are_there
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Searchers {
    fn drop(&mut self) {
        self.dismiss();
    }
}

/// An index as all ranks of a job search it.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    by: Arc<Searchers>,
    /// Its number among those that were opened: the others open it anew when that is another one.
    opened: u64,
}

/// What the first rank asks of the others, in front of the bits that say which records pass.
#[derive(Serialize, Deserialize)]
struct Asked {
    opened: u64,
    manifest: Manifest,
    top: usize,
    wanted: WantedBits,
}

#[derive(Serialize, Deserialize)]
enum WantedBits {
    /// The bits of a query's values.
    Match(Vec<u32>),
    Like(u64),
}

impl Shared {
    pub(super) fn new(by: Arc<Searchers>) -> Self {
        let opened = by.opened.fetch_add(1, Ordering::Relaxed);
        Self { by, opened }
    }

    /// As [`Rows::best`] of all records, which `query` has made `wanted` of.
    ///
    /// # Errors
    /// [`IndexError::Rank`] where one of them cannot search.
    pub(super) fn best(
        &self,
        rows: &Rows,
        passes: &[bool],
        (query, wanted): (&[f32], &Wanted),
        top: usize,
    ) -> Result<Vec<Candidate>, IndexError> {
        let own = |range| rows.best(range, |place| passes[place], wanted, top);
        let are_there = self.by.turn();
        if !*are_there {
            return Ok(own(0..rows.len()));
        }
        let asked = Asked {
            opened: self.opened,
            manifest: rows.manifest.clone(),
            top,
            wanted: match wanted {
                Wanted::Match(_) => {
                    WantedBits::Match(query.iter().map(|value| value.to_bits()).collect())
                }
                Wanted::Like(place) => WantedBits::Like(*place),
            },
        };
        let ranks = &*self.by.ranks;
        ranks.share(0, message(&asked, passes));
        // Whatever happens here, what the others bring is taken.
        let own = catch_unwind(AssertUnwindSafe(|| own(ranks.own(rows.len()))));
        let brought = ranks.bring(Vec::new());
        drop(are_there);
        let mut found = own.unwrap_or_else(|panic| resume_unwind(panic));
        for (rank, bytes) in brought.iter().enumerate().skip(1) {
            let theirs = candidates(bytes).map_err(|reason| IndexError::Rank { rank, reason })?;
            found.extend(theirs);
        }
        Ok(best_of(found.into_iter(), top))
    }
}

/// Works for the searches of the first rank in the index in a folder, until it has [dismissed](Searchers::dismiss) the others. To be
/// called by these. A search that this rank cannot do is an error where it was asked for.
pub fn assist(folder: &Path, ranks: &dyn Ranks) {
    let mut held = None;
    loop {
        let message = ranks.share(0, Vec::new());
        if message.is_empty() {
            return;
        }
        ranks.bring(match found(&message, folder, ranks, &mut held) {
            Ok(found) => [&[1][..], &bytes(&found)].concat(),
            Err(reason) => [&[0][..], reason.as_bytes()].concat(),
        });
    }
}

/// What this rank finds in its stretch. The records stay `held`, with the number that they were opened for.
fn found(
    message: &[u8],
    folder: &Path,
    ranks: &dyn Ranks,
    held: &mut Option<(u64, Rows)>,
) -> Result<Vec<Candidate>, String> {
    let (asked, bits) = read(message)?;
    let rows = match held.take() {
        Some((opened, rows)) if opened == asked.opened => rows,
        _ => Rows::open(folder).map_err(|error| error.to_string())?,
    };
    let (here, there) = (&rows.manifest, &asked.manifest);
    // Records may have been added since the first rank opened it; they are not asked for.
    if (&here.info, here.generation) != (&there.info, there.generation)
        || here.records < there.records
    {
        return Err(format!(
            "{}: is not what the first rank has opened: it was written anew, or this machine sees an older one; search again",
            folder.display()
        ));
    }
    let wanted = match asked.wanted {
        WantedBits::Match(bits) => {
            let query: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            Wanted::Match(here.info.query(&query))
        }
        WantedBits::Like(place) => Wanted::Like(place),
    };
    let passes = |place: usize| bits[place / 8] >> (place % 8) & 1 == 1;
    let own = ranks.own(there.records as usize);
    let found = rows.best(own, passes, &wanted, asked.top);
    *held = Some((asked.opened, rows));
    Ok(found)
}

/// The length of what is asked, that itself, and a bit for every record.
fn message(asked: &Asked, passes: &[bool]) -> Vec<u8> {
    // Of numbers and texts: it can always be written.
    let asked = serde_json::to_vec(asked).unwrap_or_default();
    let mut bytes = (asked.len() as u64).to_le_bytes().to_vec();
    bytes.extend(asked);
    let byte = |passes: &[bool]| {
        let bits = passes.iter().enumerate();
        bits.fold(0, |byte, (bit, passes)| byte | u8::from(*passes) << bit)
    };
    bytes.extend(passes.chunks(8).map(byte));
    bytes
}

fn read(message: &[u8]) -> Result<(Asked, &[u8]), String> {
    let parts = message.split_first_chunk().and_then(|(length, rest)| {
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
    });
    let (asked, bits) = parts.ok_or("a search that is cut off")?;
    let asked = serde_json::from_slice(asked).map_err(|error| error.to_string())?;
    Ok((asked, bits))
}

/// Bytes of a candidate.
const SIZE: usize = 16;

fn bytes(candidates: &[Candidate]) -> Vec<u8> {
    let bytes = candidates.iter().flat_map(|candidate| {
        let [score, group] = [candidate.score.to_bits(), candidate.group].map(u32::to_le_bytes);
        let place = (candidate.place as u64).to_le_bytes();
        [&score[..], &group, &place].concat()
    });
    bytes.collect()
}

/// What a rank has found, or why it has not.
fn candidates(brought: &[u8]) -> Result<impl Iterator<Item = Candidate>, String> {
    let found = match brought.split_first() {
        Some((1, found)) => found,
        Some((_, reason)) => return Err(String::from_utf8_lossy(reason).into_owned()),
        None => return Err("has brought nothing".into()),
    };
    Ok(found.chunks_exact(SIZE).map(|bytes| {
        let number = |at: usize| bytemuck::pod_read_unaligned::<u32>(&bytes[at..at + 4]);
        Candidate {
            score: f32::from_bits(u32::from_le(number(0))),
            group: u32::from_le(number(4)),
            place: u64::from_le(bytemuck::pod_read_unaligned(&bytes[8..])) as usize,
        }
    }))
}
