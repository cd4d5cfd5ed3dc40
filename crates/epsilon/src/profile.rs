//! The fused operations on the CPU, seen from outside: where their time goes, and what comes out without them.
//!
//! The counters are always on; each costs two readings of the clock for a block of rows. `bench/roofline.py` prints
//! them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the fused operations do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// GFP's linear map of the tokens, `G = X W + b`, and `dW`.
    Split,
    /// GFP's MLPs, forward and backward.
    Mlp,
    /// The softmax over tokens and the sum so weighted, forward and backward.
    SoftmaxSum,
    /// Matches of semantic vectors with labels and their maximum over groups, forward and backward.
    Scores,
    /// The ranking loss with its gradient.
    Loss,
}

static NANOSECONDS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

/// Does the work and counts its time; called on the thread that computes.
pub(crate) fn timed<T>(phase: Phase, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let spent = start.elapsed().as_nanos() as u64;
    NANOSECONDS[phase as usize].fetch_add(spent, Ordering::Relaxed);
    result
}

static FUSED: AtomicBool = AtomicBool::new(true);

/// Has everything computed by the framework's own operations (`false`), as on any other device, or by the fused ones
/// again: for comparing the two. It is one switch for the whole process.
pub fn use_fused(on: bool) {
    FUSED.store(on, Ordering::Relaxed);
}

pub(crate) fn fused() -> bool {
    FUSED.load(Ordering::Relaxed)
}

/// The time that all threads together have spent on a phase since the last call, which starts the count anew.
pub fn take_time(phase: Phase) -> Duration {
    Duration::from_nanos(NANOSECONDS[phase as usize].swap(0, Ordering::Relaxed))
}
