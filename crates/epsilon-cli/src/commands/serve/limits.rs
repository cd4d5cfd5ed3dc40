//! How much the server holds at once and how long it waits for a client, all in one place. Where an option of `epsilon serve`
//! changes a limit, the value here is its default.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at once (`--max-connections`). Beyond it, the one that has been silent for longest makes room.
pub(super) const CONNECTIONS: u32 = 512;
/// Further connections, where none is silent: only /healthz and /readyz are answered on them.
pub(super) const RESERVED: usize = 64;
/// Open files that the process needs besides its connections.
pub(super) const OTHER_FILES: usize = 128;
/// How long a connection may go without a complete request head, at most: `--timeout` shortens it, see [`patience`].
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
pub(super) const HEAD_BYTES: usize = 32 << 10;
/// The most header lines of a request.
pub(super) const HEADERS: usize = 100;

/// Running and queued requests (`--queue`).
pub(super) const QUEUE: u32 = 64;
/// Seconds for the work on a request (`--timeout`).
pub(super) const TIMEOUT: u32 = 30;
/// Size of a request's body in megabytes (`--max-body`).
pub(super) const BODY: u32 = 20;
/// Bytes of bodies held at once.
pub(super) const BODIES: usize = 512 << 20;
/// Bytes of answers held at once until their clients have read them.
pub(super) const ANSWERS: usize = 32 << 20;
/// Answers of up to this many bytes are always given: those about the server's health, and refusals, must get through.
pub(super) const SMALL_ANSWER: usize = 4 << 10;

/// Photographs in a request.
pub(super) const PHOTOS: usize = 32;
/// Folders within each other that are listed: a few ids of many parts would make a list without end.
pub(super) const FOLDERS_DEEP: usize = 32;
/// Photographs decoded or waiting for the engine at once: enough for two batches.
pub(super) const WAITING_PHOTOS: usize = 64;
/// Longest side of the pictures that maps are drawn on, in pixels.
pub(super) const MAP_SIDE: u32 = 640;

/// Photographs in a part of a library's list.
pub(super) const PAGE: usize = 500;
/// Lists of a library that are kept for those who read them part by part.
pub(super) const SELECTIONS: usize = 16;
/// Requests that read a library's catalog or index at once: each holds a thread until it has read, even where its client has gone.
pub(super) const READERS: usize = 8;
/// Photographs that a search finds: the best, for all match any words more or less.
pub(super) const FOUND: usize = 2000;
/// The same where they are put in another order than by relevance.
pub(super) const BEST: usize = 200;
/// Corrections of a library in a request.
pub(super) const CHANGES: usize = 10_000;
/// Longest side of a library's photographs as they are shown alone, in pixels.
pub(super) const PICTURE_SIDE: u16 = 1600;
/// The same photographs' JPEG quality, 1 to 100.
pub(super) const PICTURE_QUALITY: u8 = 85;

/// Labels in a request (`--max-labels`).
pub(super) const LABELS: u32 = 1000;
/// Length of a label in bytes.
pub(super) const LABEL_BYTES: usize = 200;
/// Words without a vector that an answer names.
pub(super) const NAMED: usize = 20;
/// Requests whose words are looked up in the vector file, or that wait for it: one at a time is looked up.
pub(super) const LOOK_UPS: usize = 8;
/// Lists of labels that stay ready for ranking.
pub(super) const RANKERS: usize = 16;
/// Labels in an answer for a model without thresholds (`--top`).
pub(super) const TOP: usize = 10;

/// How long a shutdown waits for running requests.
pub(super) const STOP: Duration = Duration::from_secs(10);

/// How long a client may take to send a request's body, and then to read the answer: a third of the time for the work.
pub(super) fn patience(timeout: Duration) -> Duration {
    timeout / 3
}

/// Bytes that may be held at once.
#[derive(Clone)]
pub(super) struct Budget {
    /// A permit for each KB.
    left: Arc<Semaphore>,
    total: u32,
}

/// Bytes that are held; given back when dropped.
pub(super) type Held = OwnedSemaphorePermit;

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        Self {
            left: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Takes that many bytes, if they are left. What is larger than the whole budget takes all of it.
    pub(super) fn take(&self, bytes: usize) -> Option<Held> {
        let wanted = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let wanted = wanted.min(self.total);
        self.left.clone().try_acquire_many_owned(wanted).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_given_back() {
        let budget = Budget::new(4 << 10);
        let half = budget.take(2000).unwrap();
        assert!(budget.take(3 << 10).is_none());
        let rest = budget.take(2 << 10).unwrap();
        assert!(budget.take(1).is_none());
        drop((half, rest));
        let whole = budget.take(1 << 40);
        assert!(whole.is_some() && budget.take(1).is_none());
    }
}
