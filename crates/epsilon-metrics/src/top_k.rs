//! Precision, recall and F1 of the top K labels of each image: over all labels together, of one label, and as a mean
//! over labels.

use serde::{Deserialize, Serialize};

/// Precision (P), recall (R) and F1 of the top K labels of each image, as fractions. Over all labels:
/// P = sum TP / (K * images), R = sum TP / sum positives, F1 = 2PR / (P + R), 0 when both are 0.
///
/// Of one label: P = TP / images with the label in their top K, R = TP / positives of the label; a fraction with
/// denominator 0 is 0.
///
/// Under [`Unknown::Ignore`](crate::Unknown::Ignore) an image with fewer than K annotated labels contributes fewer than
/// K labels to the denominator of P.
///
/// ```rust
/// use epsilon_metrics::{Labels, Protocol, Scores, evaluate};
///
/// // The best of three labels is one of two positives: P = 1, R = 1/2.
/// let scores = Scores::new(&[0.9, 0.8, 0.1], 1, 3)?;
/// let labels = Labels::new(&[1, -1, 1], 1, 3)?;
/// let top_1 = evaluate(scores, labels, &[0, 1, 2], &Protocol::epsilon(), &[1])?.top_k[0];
/// assert_eq!((top_1.k, top_1.precision, top_1.recall, top_1.f1), (1, 1.0, 0.5, 2.0 / 3.0));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopK {
    /// Number of labels taken from each image.
    pub k: usize,
    /// Share of the labels taken that are positive.
    pub precision: f64,
    /// Share of the positives that are taken.
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

    /// From a mean precision and a mean recall; F1 is their harmonic mean.
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
