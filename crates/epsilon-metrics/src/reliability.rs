//! The reliability curve of predicted probabilities.

use serde::Serialize;

/// Predictions whose probabilities fall into one bin of a [`reliability`] curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReliabilityBin {
    /// Their mean probability.
    pub predicted: f64,
    /// Observed frequency: the share of them with a true outcome.
    pub observed: f64,
    /// Number of predictions.
    pub count: usize,
}

/// Reliability curve of predictions `(probability, outcome)`: `bins` bins of equal width over 0..=1, in ascending order,
/// without the empty ones. Probabilities are fractions.
///
/// # Panics
/// If `bins` is 0.
///
/// ```
/// let predictions = [(0.1, false), (0.3, true), (0.9, true)];
/// let curve = epsilon_metrics::reliability(predictions, 2);
/// assert_eq!(curve.len(), 2);
/// assert_eq!((curve[0].predicted, curve[0].observed, curve[0].count), (0.2, 0.5, 2));
/// ```
pub fn reliability(
    predictions: impl IntoIterator<Item = (f64, bool)>,
    bins: usize,
) -> Vec<ReliabilityBin> {
    assert!(bins > 0);
    let mut sums = vec![(0.0, 0, 0); bins];
    for (probability, truth) in predictions {
        // A probability of 1 falls into the last bin.
        let bin = ((probability * bins as f64) as usize).min(bins - 1);
        sums[bin].0 += probability;
        sums[bin].1 += usize::from(truth);
        sums[bin].2 += 1;
    }
    let shown = sums.into_iter().filter(|(_, _, count)| *count > 0);
    shown
        .map(|(sum, truths, count)| ReliabilityBin {
            predicted: sum / count as f64,
            observed: truths as f64 / count as f64,
            count,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_borders_have_their_bins() {
        let curve = reliability([(0.0, false), (1.0, true), (1.0, false)], 10);
        let counts: Vec<usize> = curve.iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [1, 2]);
        assert_eq!((curve[1].predicted, curve[1].observed), (1.0, 0.5));
    }
}
