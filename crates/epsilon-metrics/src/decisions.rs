//! What is predicted when each label whose probability exceeds a threshold is: precision, recall and F-score, accuracy, exact
//! matches.

use crate::average::{Average, Figure, share};
use crate::error::MetricsError;
use crate::probabilities::Probabilities;
use crate::score::Rankable;
use crate::table::{Table, fold_rows};

/// Counts of a label over the images for which it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confusion {
    /// Positives that are predicted (TP).
    pub true_positives: u64,
    /// Negatives that are predicted (FP).
    pub false_positives: u64,
    /// Negatives that are not (TN).
    pub true_negatives: u64,
    /// Positives that are not (FN).
    pub false_negatives: u64,
}

impl Confusion {
    fn add(&mut self, other: &Self) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.true_negatives += other.true_negatives;
        self.false_negatives += other.false_negatives;
    }

    fn count(&mut self, positive: bool, predicted: bool) {
        let place = match (positive, predicted) {
            (true, true) => &mut self.true_positives,
            (false, true) => &mut self.false_positives,
            (false, false) => &mut self.true_negatives,
            (true, false) => &mut self.false_negatives,
        };
        *place += 1;
    }

    fn positives(&self) -> u64 {
        self.true_positives + self.false_negatives
    }
}

/// The counts of a table whose labels are predicted where their probability exceeds a threshold. Unknown labels are left out. All
/// figures are fractions; torchmetrics' functions of the same names compute the same.
///
/// ```rust
/// use epsilon_metrics::{Average, Decisions, Figure, InMemory, Labels, Scores};
///
/// // Label 0: one of two positives predicted, and nothing else. Label 1: a negative predicted, no positive.
/// let scores = Scores::new(&[0.9, 0.8, 0.2, 0.1], 2, 2)?;
/// let table = InMemory::new(scores, Labels::new(&[1, -1, 1, -1], 2, 2)?)?;
/// let decisions = Decisions::new(&table, 0.5)?;
/// assert_eq!(decisions.precision(Average::None, 0.0), Figure::Each(vec![1.0, 0.0]));
/// assert_eq!(decisions.recall(Average::Macro, 0.0), Figure::One(0.25));
/// assert_eq!(decisions.f_score(1.0, Average::Micro, 0.0), Figure::One(0.5)); // TP 1, FP 1, FN 1
/// assert_eq!(decisions.accuracy(Average::Micro), Figure::One(0.5));
/// assert_eq!(decisions.exact_match(), 0.0);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Decisions {
    labels: Vec<Confusion>,
    images: usize,
    /// Images whose known labels are all predicted as they are.
    exact: u64,
}

impl Decisions {
    /// Counts a table. A label is predicted where its probability ([`Probabilities`]) is above `threshold`, which is rounded to the
    /// type of the scores.
    ///
    /// # Errors
    /// [`MetricsError::Threshold`] for a threshold outside 0..=1; [`MetricsError::Empty`], [`MetricsError::TooLarge`],
    /// [`MetricsError::NotFinite`], [`MetricsError::LabelValue`] and [`MetricsError::Read`] for the table.
    pub fn new<T: Table>(table: &T, threshold: f64) -> Result<Self, MetricsError> {
        let threshold = T::Score::nearest(check_threshold(threshold)?);
        let probabilities = Probabilities::new(table)?;
        let columns = table.labels();
        let start = || (vec![Confusion::default(); columns], 0_u64);
        let parts = fold_rows(
            &probabilities,
            start,
            |(counts, exact), _, scores, labels| {
                let rows = scores
                    .chunks_exact(columns)
                    .zip(labels.chunks_exact(columns));
                for (scores, labels) in rows {
                    let mut all = true;
                    for ((&score, &label), counts) in scores.iter().zip(labels).zip(&mut *counts) {
                        if label != 0 {
                            let (positive, predicted) = (label > 0, score > threshold);
                            counts.count(positive, predicted);
                            all &= positive == predicted;
                        }
                    }
                    *exact += u64::from(all);
                }
            },
        )?;
        let mut whole = Self {
            labels: vec![Confusion::default(); columns],
            images: table.images(),
            exact: 0,
        };
        for (counts, exact) in parts {
            whole.exact += exact;
            whole
                .labels
                .iter_mut()
                .zip(&counts)
                .for_each(|(a, b)| a.add(b));
        }
        Ok(whole)
    }

    /// The counts of each label.
    pub fn labels(&self) -> &[Confusion] {
        &self.labels
    }

    /// Precision TP / (TP + FP); `empty` where nothing is predicted.
    pub fn precision(&self, average: Average, empty: f64) -> Figure {
        self.figure(average, |c| {
            let predicted = c.true_positives + c.false_positives;
            ratio(c.true_positives as f64, predicted as f64, empty)
        })
    }

    /// Recall TP / (TP + FN); `empty` without positives.
    pub fn recall(&self, average: Average, empty: f64) -> Figure {
        self.figure(average, |c| {
            ratio(c.true_positives as f64, c.positives() as f64, empty)
        })
    }

    /// F-score (1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP) with b = `beta`, which is how many times recall counts as much as
    /// precision; `empty` with neither positives nor predictions.
    pub fn f_score(&self, beta: f64, average: Average, empty: f64) -> Figure {
        let square = beta * beta;
        self.figure(average, |c| {
            let hits = (1.0 + square) * c.true_positives as f64;
            let missed = square * c.false_negatives as f64 + c.false_positives as f64;
            ratio(hits, hits + missed, empty)
        })
    }

    /// Accuracy (TP + TN) / (TP + TN + FP + FN); 0 for a label that is never known.
    pub fn accuracy(&self, average: Average) -> Figure {
        self.figure(average, Confusion::accuracy)
    }

    /// Hamming distance: 1 - accuracy.
    pub fn hamming_distance(&self, average: Average) -> Figure {
        self.figure(average, |c| 1.0 - c.accuracy())
    }

    /// The share of images whose known labels are all predicted as they are.
    pub fn exact_match(&self) -> f64 {
        self.exact as f64 / self.images as f64
    }

    fn figure(&self, average: Average, of: impl Fn(&Confusion) -> f64) -> Figure {
        if average == Average::Micro {
            let mut all = Confusion::default();
            self.labels.iter().for_each(|label| all.add(label));
            return Figure::One(of(&all));
        }
        let weights: Vec<u64> = self.labels.iter().map(Confusion::positives).collect();
        Figure::of(self.labels.iter().map(of).collect(), &weights, average)
    }
}

impl Confusion {
    fn accuracy(&self) -> f64 {
        let right = self.true_positives + self.true_negatives;
        let all = right + self.false_positives + self.false_negatives;
        share(right as f64, all as f64)
    }
}

fn ratio(part: f64, whole: f64, empty: f64) -> f64 {
    if whole > 0.0 { part / whole } else { empty }
}

/// A threshold of probabilities.
pub(crate) fn check_threshold(threshold: f64) -> Result<f64, MetricsError> {
    match (0.0..=1.0).contains(&threshold) {
        true => Ok(threshold),
        false => Err(MetricsError::Threshold { value: threshold }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Labels, Scores};
    use crate::table::InMemory;

    fn decisions(scores: &[f32], labels: &[i8], width: usize) -> Decisions {
        let images = scores.len() / width;
        let scores = Scores::new(scores, images, width).unwrap();
        let labels = Labels::new(labels, images, width).unwrap();
        Decisions::new(&InMemory::new(scores, labels).unwrap(), 0.5).unwrap()
    }

    #[test]
    fn worked_by_hand() {
        // Label 0: TP, FN, FP; label 1: unknown, TN, TP; label 2 is never known.
        let scores = [0.9, 0.9, 0.9, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9];
        let found = decisions(&scores, &[1, 0, 0, 1, -1, 0, -1, 1, 0], 3);
        assert_eq!(found.labels()[0].false_positives, 1);
        assert_eq!(
            found.precision(Average::None, 1.0),
            Figure::Each(vec![0.5, 1.0, 1.0])
        );
        assert_eq!(
            found.recall(Average::None, 0.0),
            Figure::Each(vec![0.5, 1.0, 0.0])
        );
        assert_eq!(found.recall(Average::Weighted, 0.0), Figure::One(2.0 / 3.0));
        assert_eq!(
            found.f_score(1.0, Average::Micro, 0.0),
            Figure::One(4.0 / 6.0)
        );
        // b = 2: 5 TP / (5 TP + 4 FN + FP).
        assert_eq!(
            found.f_score(2.0, Average::Micro, 0.0),
            Figure::One(10.0 / 15.0)
        );
        assert_eq!(
            found.accuracy(Average::None),
            Figure::Each(vec![1.0 / 3.0, 1.0, 0.0])
        );
        assert_eq!(
            found.hamming_distance(Average::Micro),
            Figure::One(1.0 - 3.0 / 5.0)
        );
        assert_eq!(found.exact_match(), 1.0 / 3.0);
    }

    #[test]
    fn logits_go_through_the_sigmoid() {
        // 0.2 as a logit is above one half.
        let found = decisions(&[0.2, 3.0, -0.2, -3.0], &[1, 1, -1, -1], 1);
        assert_eq!(found.exact_match(), 1.0);
    }

    #[test]
    fn a_threshold_is_a_probability() {
        let scores = Scores::new(&[0.5], 1, 1).unwrap();
        let table = InMemory::new(scores, Labels::new(&[1], 1, 1).unwrap()).unwrap();
        for threshold in [-0.1, 1.1, f64::NAN] {
            let error = Decisions::new(&table, threshold).unwrap_err();
            assert!(error.to_string().contains("between 0 and 1"), "{error}");
        }
    }
}
