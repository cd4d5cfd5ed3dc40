//! Precision-recall and ROC curves at given thresholds: counts instead of rankings.

use crate::average::{Average, Figure, share};
use crate::decisions::check_threshold;
use crate::error::MetricsError;
use crate::probabilities::Probabilities;
use crate::ranking::Curve;
use crate::score::Rankable;
use crate::table::{Table, fold_rows};

/// The positives and negatives of each label whose probability is at least each of some thresholds: what the `thresholds` of
/// torchmetrics' curves compute. Unknown labels are left out.
///
/// ```rust
/// use epsilon_metrics::{Average, Binned, Figure, InMemory, Labels, Scores};
///
/// let scores = Scores::new(&[0.1, 0.4, 0.6, 0.8], 4, 1)?;
/// let table = InMemory::new(scores, Labels::new(&[-1, 1, -1, 1], 4, 1)?)?;
/// let binned = Binned::new(&table, &[0.0, 0.5, 1.0])?;
/// let curve = &binned.curves()[0];
/// assert_eq!(curve.precision[..2], [0.5, 0.5]);
/// assert!(curve.precision[2].is_nan()); // nothing reaches 1
/// assert_eq!(curve.recall, [1.0, 0.5, 0.0, 0.0]);
/// assert_eq!(binned.average_precision(Average::Macro), Figure::One(0.5));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Binned {
    thresholds: Vec<f64>,
    labels: Vec<Reached>,
}

/// Counts of one label.
#[derive(Debug, Clone, PartialEq)]
struct Reached {
    /// Positives and negatives.
    all: [u64; 2],
    /// Those of them that reach each threshold.
    at: Vec<[u64; 2]>,
}

/// Most thresholds of all labels together: 16 bytes each, in every piece of the table that is counted at once.
const LIMIT: usize = 1 << 23;

/// Evenly spaced thresholds from 0 to 1.
///
/// ```rust
/// assert_eq!(epsilon_metrics::even_thresholds(5), [0.0, 0.25, 0.5, 0.75, 1.0]);
/// ```
pub fn even_thresholds(count: usize) -> Vec<f64> {
    let last = count.saturating_sub(1).max(1) as f64;
    (0..count).map(|place| place as f64 / last).collect()
}

impl Binned {
    /// Counts a table at thresholds in any order, which are rounded to the type of the scores. Scores become
    /// [`Probabilities`] first.
    ///
    /// # Errors
    /// [`MetricsError::Threshold`] for a threshold outside 0..=1, [`MetricsError::NoThresholds`] for none,
    /// [`MetricsError::TooManyThresholds`] for more than 2^23 of all labels together;
    /// [`MetricsError::Empty`], [`MetricsError::TooLarge`], [`MetricsError::NotFinite`], [`MetricsError::LabelValue`] and
    /// [`MetricsError::Read`] for the table.
    pub fn new<T: Table>(table: &T, thresholds: &[f64]) -> Result<Self, MetricsError> {
        if thresholds.is_empty() {
            return Err(MetricsError::NoThresholds);
        }
        if thresholds.len().saturating_mul(table.labels()) > LIMIT {
            return Err(MetricsError::TooManyThresholds {
                thresholds: thresholds.len(),
                labels: table.labels(),
                limit: LIMIT,
            });
        }
        let rounded = |&threshold: &f64| Ok(T::Score::nearest(check_threshold(threshold)?));
        let rounded: Vec<T::Score> = thresholds.iter().map(rounded).collect::<Result<_, _>>()?;
        let mut sorted = rounded.clone();
        sorted.sort_unstable_by_key(|threshold| std::cmp::Reverse(threshold.order()));
        let (columns, places) = (table.labels(), sorted.len() + 1);
        // How many reach exactly so many of the sorted thresholds: [labels, places].
        let start = || vec![[0_u64; 2]; columns * places];
        let probabilities = Probabilities::new(table)?;
        let parts = fold_rows(&probabilities, start, |counts, _, scores, labels| {
            let rows = scores
                .chunks_exact(columns)
                .zip(labels.chunks_exact(columns));
            for (scores, labels) in rows {
                let cells = scores
                    .iter()
                    .zip(labels)
                    .zip(counts.chunks_exact_mut(places));
                for ((score, &label), counts) in cells {
                    if label != 0 {
                        let reached = sorted.partition_point(|threshold| threshold <= score);
                        counts[reached][usize::from(label < 0)] += 1;
                    }
                }
            }
        })?;
        let mut counts = start();
        for part in parts {
            table.ask()?;
            counts.iter_mut().zip(part).for_each(|(a, b)| add(a, b));
        }
        // What reaches a threshold reaches all below it, too.
        let place_of = |threshold: &T::Score| 1 + sorted.partition_point(|t| t < threshold);
        let place_of: Vec<usize> = rounded.iter().map(place_of).collect();
        let label = |counts: &mut [[u64; 2]]| {
            table.ask()?;
            for place in (1..places).rev() {
                let above = counts[place];
                add(&mut counts[place - 1], above);
            }
            Ok(Reached {
                all: counts[0],
                at: place_of.iter().map(|&place| counts[place]).collect(),
            })
        };
        let labels: Result<_, MetricsError> = counts.chunks_exact_mut(places).map(label).collect();
        Ok(Self {
            thresholds: rounded.iter().map(|&threshold| threshold.into()).collect(),
            labels: labels?,
        })
    }

    /// The precision-recall curve of each label: precision is NaN where nothing reaches the threshold, recall without positives.
    pub fn curves(&self) -> Vec<Curve> {
        let of_label = |label: &Reached| Curve {
            precision: [label.precision(), vec![1.0]].concat(),
            recall: [label.recall(), vec![0.0]].concat(),
            thresholds: self.thresholds.clone(),
        };
        self.labels.iter().map(of_label).collect()
    }

    /// Average precision: the sum over the thresholds of precision x (recall - recall at the next threshold), where what is
    /// undefined counts as 0.
    pub fn average_precision(&self, average: Average) -> Figure {
        self.figure(average, |label| {
            let defined = |value: f64| if value.is_nan() { 0.0 } else { value };
            let recall: Vec<f64> = [label.recall(), vec![0.0]].concat();
            let recall: Vec<f64> = recall.into_iter().map(defined).collect();
            let precision = label.precision().into_iter().map(defined);
            let steps = recall.windows(2).zip(precision);
            steps
                .map(|(recall, precision)| (recall[0] - recall[1]) * precision)
                .sum()
        })
    }

    /// Area under the ROC curve through the points of the thresholds, by the trapezoidal rule. No point is added at either end, as
    /// in torchmetrics, so thresholds from 0 on to above the highest score are needed for the whole area.
    pub fn auroc(&self, average: Average) -> Figure {
        self.figure(average, |label| {
            let rate =
                |at: &[u64; 2], class: usize| share(at[class] as f64, label.all[class] as f64);
            let between = |pair: &[[u64; 2]]| {
                let [high, low] = [&pair[1], &pair[0]];
                (rate(low, 1) - rate(high, 1)) * (rate(low, 0) + rate(high, 0)) / 2.0
            };
            label.at.windows(2).map(between).sum()
        })
    }

    fn figure(&self, average: Average, of: impl Fn(&Reached) -> f64) -> Figure {
        if average == Average::Micro {
            let mut whole = self.labels[0].clone();
            for label in &self.labels[1..] {
                add(&mut whole.all, label.all);
                whole
                    .at
                    .iter_mut()
                    .zip(&label.at)
                    .for_each(|(a, &b)| add(a, b));
            }
            return Figure::One(of(&whole));
        }
        let weights: Vec<u64> = self.labels.iter().map(|label| label.all[0]).collect();
        Figure::of(self.labels.iter().map(of).collect(), &weights, average)
    }
}

impl Reached {
    fn precision(&self) -> Vec<f64> {
        let of = |at: &[u64; 2]| at[0] as f64 / (at[0] + at[1]) as f64;
        self.at.iter().map(of).collect()
    }

    fn recall(&self) -> Vec<f64> {
        let of = |at: &[u64; 2]| at[0] as f64 / self.all[0] as f64;
        self.at.iter().map(of).collect()
    }
}

fn add(to: &mut [u64; 2], counts: [u64; 2]) {
    to[0] += counts[0];
    to[1] += counts[1];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Labels, Scores};
    use crate::multilabel_auroc;
    use crate::table::InMemory;

    #[test]
    fn the_order_of_the_thresholds_is_kept() {
        let scores = Scores::new(&[0.2_f32, 0.5, 0.5, 0.9], 4, 1).unwrap();
        let labels = Labels::new(&[-1, 1, 0, 1], 4, 1).unwrap();
        let binned = Binned::new(
            &InMemory::new(scores, labels).unwrap(),
            &[0.5, 0.2, 0.5, 0.91],
        );
        let at: Vec<[u64; 2]> = binned.unwrap().labels[0].at.clone();
        assert_eq!(at, [[2, 0], [2, 1], [2, 0], [0, 0]]);
    }

    #[test]
    fn counts_at_many_thresholds_are_those_of_each_alone() {
        let scores: Vec<f64> = (0..300).map(|i| f64::from(i * 7 % 100) / 99.0).collect();
        let labels: Vec<i8> = (0..300).map(|i| [1, -1, 0, -1][i * i % 4]).collect();
        let table = InMemory::new(
            Scores::new(&scores, 100, 3).unwrap(),
            Labels::new(&labels, 100, 3).unwrap(),
        )
        .unwrap();
        let thresholds = even_thresholds(2001);
        let together = Binned::new(&table, &thresholds).unwrap();
        for (place, &threshold) in thresholds.iter().enumerate() {
            let alone = Binned::new(&table, &[threshold]).unwrap();
            for (together, alone) in together.labels.iter().zip(&alone.labels) {
                assert_eq!((together.at[place], together.all), (alone.at[0], alone.all));
            }
        }
    }

    #[test]
    fn too_many_thresholds_are_refused() {
        let scores = Scores::new(&[0.2_f32; 4], 1, 4).unwrap();
        let table = InMemory::new(scores, Labels::new(&[1; 4], 1, 4).unwrap()).unwrap();
        let error = Binned::new(&table, &vec![0.5; LIMIT / 4 + 1]).unwrap_err();
        assert!(matches!(
            error,
            MetricsError::TooManyThresholds { labels: 4, .. }
        ));
    }

    #[test]
    fn thresholds_at_all_scores_give_the_whole_area() {
        let scores: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 20) / 20.0).collect();
        let labels: Vec<i8> = (0..40).map(|i| [1, -1, -1, 0, 1][i % 5]).collect();
        let table = InMemory::new(
            Scores::new(&scores, 10, 4).unwrap(),
            Labels::new(&labels, 10, 4).unwrap(),
        )
        .unwrap();
        let binned = Binned::new(&table, &even_thresholds(21)).unwrap();
        for average in [Average::Micro, Average::Macro, Average::Weighted] {
            let (Figure::One(binned), Figure::One(ranked)) = (
                binned.auroc(average),
                multilabel_auroc(&table, average).unwrap(),
            ) else {
                unreachable!()
            };
            assert!((binned - ranked).abs() < 1e-12);
        }
    }
}
