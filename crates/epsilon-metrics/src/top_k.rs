//! Overall precision, recall and F1 of the K best labels of each image.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::average_precision::descending;
use crate::error::MetricsError;
use crate::protocol::{Unknown, check_ks};
use crate::selection::Selection;

/// Overall figures of the K best labels of each image, as fractions:
/// P = sum TP / (K * images), R = sum TP / sum positives, F1 = 2PR / (P + R), 0 when both are 0.
///
/// Under [`Unknown::Ignore`] an image with fewer than K annotated labels fills fewer places, and
/// precision counts the places filled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TopK {
    /// Labels taken from each image.
    pub k: usize,
    /// Share of the places taken that hold a positive.
    pub precision: f64,
    /// Share of the positives that were taken.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
}

impl TopK {
    fn new(k: usize, hits: u64, places: u64, positives: u64) -> Self {
        let share = |whole: u64| match whole {
            0 => 0.0,
            whole => hits as f64 / whole as f64,
        };
        Self {
            k,
            precision: share(places),
            recall: share(positives),
            // 2PR / (P + R) with the common factor cancelled.
            f1: 2.0 * share(places + positives),
        }
    }
}

/// Hits and places filled, for each K.
type Counts = Vec<(u64, u64)>;

/// The overall figures at each of `ks`.
pub(crate) fn top_k(
    selection: &Selection<'_>,
    unknown: Unknown,
    ks: &[usize],
) -> Result<Vec<TopK>, MetricsError> {
    check_ks(ks)?;
    let labels = selection.columns().len();
    // Ascending, so the last is the largest.
    let Some(&largest) = ks.last() else {
        return Ok(Vec::new());
    };
    if largest > labels {
        return Err(MetricsError::KTooLarge { k: largest, labels });
    }
    let counts = selection
        .rows()
        .par_iter()
        .fold(
            || (vec![(0, 0); ks.len()], Vec::with_capacity(labels)),
            |(mut counts, mut ranked), &row| {
                rank(selection, unknown, row, largest, &mut ranked);
                count(&ranked, ks, &mut counts);
                (counts, ranked)
            },
        )
        .map(|(counts, _)| counts)
        .reduce(|| vec![(0, 0); ks.len()], add);
    Ok(ks
        .iter()
        .zip(counts)
        .map(|(&k, (hits, places))| TopK::new(k, hits, places, selection.positives()))
        .collect())
}

/// Fills `ranked` with the `k` best labels of one image, best first, equal scores in column order.
/// Each is one number: the score turned so that better is smaller, the place among the columns,
/// whether it is positive.
fn rank(selection: &Selection<'_>, unknown: Unknown, row: usize, k: usize, ranked: &mut Vec<u64>) {
    ranked.clear();
    for (place, (score, value)) in selection.entries(row).enumerate() {
        if value == 0 && unknown == Unknown::Ignore {
            continue;
        }
        let low = (place as u64) << 1 | u64::from(value > 0);
        ranked.push(u64::from(descending(score)) << 32 | low);
    }
    if ranked.len() > k {
        ranked.select_nth_unstable(k - 1);
        ranked.truncate(k);
    }
    ranked.sort_unstable();
}

fn count(ranked: &[u64], ks: &[usize], counts: &mut Counts) {
    for (&k, (hits, places)) in ks.iter().zip(counts) {
        let taken = &ranked[..k.min(ranked.len())];
        *hits += taken.iter().map(|entry| entry & 1).sum::<u64>();
        *places += taken.len() as u64;
    }
}

fn add(mut a: Counts, b: Counts) -> Counts {
    for (a, b) in a.iter_mut().zip(b) {
        a.0 += b.0;
        a.1 += b.1;
    }
    a
}
