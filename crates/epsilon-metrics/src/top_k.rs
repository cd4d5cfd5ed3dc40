//! Precision, recall and F1 of the K best labels of each image: over all labels together, of one
//! label, and as a mean over labels.

use serde::{Deserialize, Serialize};

/// Figures of the K best labels of each image, as fractions. Overall:
/// P = sum TP / (K * images), R = sum TP / sum positives, F1 = 2PR / (P + R), 0 when both are 0.
///
/// Of one label: P = TP / images that have it among their K best, R = TP / its positives; what
/// divides by nothing is 0.
///
/// Under [`Unknown::Ignore`](crate::Unknown::Ignore) an image with fewer than K annotated labels fills fewer places, and
/// precision counts the places filled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
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
    pub(crate) fn new(k: usize, hits: u64, places: u64, positives: u64) -> Self {
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

    /// Precision and recall as given, F1 their harmonic mean.
    pub(crate) fn of_means(k: usize, precision: f64, recall: f64) -> Self {
        Self {
            k,
            precision,
            recall,
            f1: harmonic_mean(precision, recall),
        }
    }
}

/// 2ab / (a + b), 0 when both are 0.
pub(crate) fn harmonic_mean(a: f64, b: f64) -> f64 {
    if a + b > 0.0 {
        2.0 * a * b / (a + b)
    } else {
        0.0
    }
}
