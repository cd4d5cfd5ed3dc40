//! What the ranking of each label of a table says: average precision, area under the ROC curve, precision-recall curve. Unlike
//! under a protocol, each label stands alone, with all images for which it is known.

use std::ops::Range;

use rayon::prelude::*;

use crate::average::{Average, Figure, share};
use crate::columns::{ROWS, map_blocks, sort};
use crate::error::MetricsError;
use crate::probabilities::Probabilities;
use crate::score::{Key, Rankable};
use crate::table::{Block, Table, check_block, check_table, fold_rows};

type OrderOf<T> = <<T as Table>::Score as Rankable>::Order;

/// The average precision of the labels of a table, by label or averaged. Unknown labels are left out, equal scores share the last
/// of their ranks, and a label without positives has 0: for `average` macro, weighted and none the result of scikit-learn's
/// `average_precision_score` over the known images of each label, and, where no label is unknown, for micro too.
///
///   AP = sum over positives p of (positives ranked up to p) / (images ranked up to p) / positives
///
/// Memory: an eighth of the scores, and a few columns per thread; under [`Average::Micro`] twice the known scores.
///
/// # Errors
/// [`MetricsError::Empty`], [`TooLarge`](MetricsError::TooLarge), [`NotFinite`](MetricsError::NotFinite),
/// [`LabelValue`](MetricsError::LabelValue) or [`Read`](MetricsError::Read) for the table.
///
/// ```rust
/// use epsilon_metrics::{Average, Figure, InMemory, Labels, Scores, multilabel_average_precision};
///
/// // Label 1 has no positive. All together: 0.9 +, 0.8 -, 0.7 +, 0.1 -.
/// let scores = Scores::new(&[0.9, 0.8, 0.7, 0.1], 2, 2)?;
/// let table = InMemory::new(scores, Labels::new(&[1, -1, 1, -1], 2, 2)?)?;
/// let of = |average| multilabel_average_precision(&table, average);
/// assert_eq!(of(Average::None)?, Figure::Each(vec![1.0, 0.0]));
/// assert_eq!(of(Average::Macro)?, Figure::One(0.5));
/// assert_eq!(of(Average::Weighted)?, Figure::One(1.0));
/// assert_eq!(of(Average::Micro)?, Figure::One((1.0 + 2.0 / 3.0) / 2.0));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn multilabel_average_precision(
    table: &impl Table,
    average: Average,
) -> Result<Figure, MetricsError> {
    figure(table, average, Ranking::average_precision)
}

/// The area under the ROC curve of the labels of a table, by label or averaged: the share of pairs of a positive and a negative
/// image in which the positive has the higher score, a tie counting half. Unknown labels are left out. A label without positives
/// or without negatives has 0, as in torchmetrics (scikit-learn has NaN).
///
/// Memory: as [`multilabel_average_precision`].
///
/// # Errors
/// Those of [`multilabel_average_precision`].
///
/// ```rust
/// use epsilon_metrics::{Average, Figure, InMemory, Labels, Scores, multilabel_auroc};
///
/// // Of the four pairs of label 0 three are in order and one is tied.
/// let scores = Scores::new(&[0.9, 0.5, 0.5, 0.1], 4, 1)?;
/// let table = InMemory::new(scores, Labels::new(&[1, 1, -1, -1], 4, 1)?)?;
/// assert_eq!(multilabel_auroc(&table, Average::None)?, Figure::Each(vec![3.5 / 4.0]));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn multilabel_auroc(table: &impl Table, average: Average) -> Result<Figure, MetricsError> {
    figure(table, average, Ranking::auroc)
}

/// Precision and recall of a label at the thresholds that its scores give, as scikit-learn and torchmetrics list them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Curve {
    /// Of the images that reach each threshold, the share that is positive; then 1.
    pub precision: Vec<f64>,
    /// The share of the positives that reach each threshold; then 0. 1 at all thresholds for a label without positives.
    pub recall: Vec<f64>,
    /// The thresholds, ascending: one fewer than the points.
    pub thresholds: Vec<f64>,
}

/// The precision-recall curve of each label of a table, over the images for which it is known, with a point at each of its
/// different scores. Scores of which one is outside 0..=1 are taken as logits, and the thresholds are their probabilities
/// ([`Probabilities`]).
///
/// # Errors
/// Those of [`multilabel_average_precision`].
///
/// ```rust
/// use epsilon_metrics::{InMemory, Labels, Scores, multilabel_precision_recall_curve};
///
/// let scores = Scores::new(&[0.1, 0.4, 0.35, 0.8], 4, 1)?;
/// let table = InMemory::new(scores, Labels::new(&[-1, -1, 1, 1], 4, 1)?)?;
/// let curve = &multilabel_precision_recall_curve(&table)?[0];
/// assert_eq!(curve.precision, [0.5, 2.0 / 3.0, 0.5, 1.0, 1.0]);
/// assert_eq!(curve.recall, [1.0, 1.0, 0.5, 0.5, 0.0]);
/// assert_eq!(curve.thresholds, [0.1, 0.35, 0.4, 0.8]);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn multilabel_precision_recall_curve<T: Table>(table: &T) -> Result<Vec<Curve>, MetricsError> {
    map_labels(&Probabilities::new(table)?, |label| {
        label.curve::<T::Score>()
    })
}

/// The known scores of one label, best first.
struct Ranking<O> {
    /// All of them.
    known: Vec<O>,
    /// Those of positives.
    positives: Vec<O>,
}

/// Images that share a score, with those above.
struct Step {
    /// Images with a higher score.
    above: usize,
    /// Images with this score or a higher one.
    ranked: usize,
    /// Positives among them.
    found: usize,
}

impl<O: Key> Ranking<O> {
    fn empty() -> Self {
        Self {
            known: Vec::new(),
            positives: Vec::new(),
        }
    }

    /// Adds scores with their labels, leaving out the unknown ones.
    fn extend<S: Rankable<Order = O>>(&mut self, cells: impl ExactSizeIterator<Item = (S, i8)>) {
        // Written without a branch: what is unknown is overwritten by the next one. (At most the number of cells: an overflow check
        // would only cost time.)
        let mut end = self.known.len();
        self.known.resize(end + cells.len(), O::default());
        for (score, label) in cells {
            let order = score.order();
            self.known[end] = order;
            end = end.wrapping_add(usize::from(label != 0));
            if label > 0 {
                self.positives.push(order);
            }
        }
        self.known.truncate(end);
    }

    /// The steps at which there is a positive, best first. Both lists are sorted.
    fn steps_of_positives(&self) -> impl Iterator<Item = Step> {
        let (mut at, mut found) = (0, 0);
        self.positives.chunk_by(|a, b| a == b).map(move |run| {
            at += self.known[at..].iter().take_while(|&&o| o < run[0]).count();
            let above = at;
            at += self.known[at..]
                .iter()
                .take_while(|&&o| o == run[0])
                .count();
            found += run.len();
            Step {
                above,
                ranked: at,
                found,
            }
        })
    }

    fn average_precision(&self) -> f64 {
        let (mut sum, mut before) = (0.0, 0);
        for step in self.steps_of_positives() {
            let precision = step.found as f64 / step.ranked as f64;
            sum += (step.found - before) as f64 * precision;
            before = step.found;
        }
        sum / self.positives.len().max(1) as f64
    }

    fn auroc(&self) -> f64 {
        let positives = self.positives.len() as u128;
        let negatives = (self.known.len() - self.positives.len()) as u128;
        // Twice the number of pairs in order, so that ties count as integers.
        let (mut doubled, mut before) = (0_u128, 0_usize);
        for step in self.steps_of_positives() {
            let below = negatives - (step.ranked - step.found) as u128;
            let tied = (step.ranked - step.found - (step.above - before)) as u128;
            doubled += (step.found - before) as u128 * (2 * below + tied);
            before = step.found;
        }
        share(doubled as f64, (2 * positives * negatives) as f64)
    }

    fn curve<S: Rankable<Order = O>>(&self) -> Curve {
        let all = self.positives.len();
        let mut found = 0;
        let mut ranked = 0;
        let steps = self.known.chunk_by(|a, b| a == b).map(|run| {
            ranked += run.len();
            found += self.positives[found..].partition_point(|&o| o <= run[0]);
            let recall = if all > 0 {
                share(found as f64, all as f64)
            } else {
                1.0
            };
            (
                found as f64 / ranked as f64,
                recall,
                S::of_order(run[0]).into(),
            )
        });
        let mut points: Vec<(f64, f64, f64)> = steps.collect();
        points.reverse();
        let last = |values: Vec<f64>, last: f64| [&values[..], &[last]].concat();
        Curve {
            precision: last(points.iter().map(|p| p.0).collect(), 1.0),
            recall: last(points.iter().map(|p| p.1).collect(), 0.0),
            thresholds: points.iter().map(|p| p.2).collect(),
        }
    }
}

/// A figure of each label, or of all of them together.
fn figure<T: Table>(
    table: &T,
    average: Average,
    of: impl Fn(&Ranking<OrderOf<T>>) -> f64 + Sync,
) -> Result<Figure, MetricsError> {
    check_table(table)?;
    if average == Average::Micro {
        return Ok(Figure::One(of(&pooled(table)?)));
    }
    let figures = map_labels(table, |label| (of(label), label.positives.len() as u64))?;
    let (values, weights): (Vec<f64>, Vec<u64>) = figures.into_iter().unzip();
    Ok(Figure::of(values, &weights, average))
}

/// Calls `map` with the ranking of each label, and checks every value of the table.
fn map_labels<T: Table, R: Send>(
    table: &T,
    map: impl Fn(&Ranking<OrderOf<T>>) -> R + Sync,
) -> Result<Vec<R>, MetricsError> {
    let start = || (Vec::new(), Vec::new(), Block::default());
    map_blocks(table, start, |(rankings, scratch, block), columns| {
        gather(table, columns, rankings, block)?;
        let ranked = rankings.iter_mut().map(|ranking| {
            sort(&mut ranking.known, scratch);
            ranking.positives.sort_unstable();
            map(ranking)
        });
        Ok(ranked.collect())
    })
}

/// Reads some columns.
fn gather<T: Table>(
    table: &T,
    columns: Range<usize>,
    rankings: &mut Vec<Ranking<OrderOf<T>>>,
    block: &mut Block<T::Score>,
) -> Result<(), MetricsError> {
    let (images, width) = (table.images(), columns.len());
    rankings.resize_with(width, Ranking::empty);
    for ranking in &mut *rankings {
        ranking.known.clear();
        ranking.known.reserve_exact(images);
        ranking.positives.clear();
    }
    for first in (0..images).step_by(ROWS) {
        let rows = first..images.min(first + ROWS);
        let (scores, labels) = block.read(table, rows, columns.clone())?;
        check_block(first, &columns, scores, labels)?;
        for (place, ranking) in rankings.iter_mut().enumerate() {
            let scores = scores.iter().skip(place).step_by(width);
            let labels = labels.iter().skip(place).step_by(width);
            ranking.extend(scores.copied().zip(labels.copied()));
        }
    }
    Ok(())
}

/// All labels as one.
fn pooled<T: Table>(table: &T) -> Result<Ranking<OrderOf<T>>, MetricsError> {
    let parts = fold_rows(
        table,
        Ranking::empty,
        |part: &mut Ranking<_>, _, scores, labels| {
            part.extend(scores.iter().copied().zip(labels.iter().copied()));
        },
    )?;
    let mut all = Ranking::empty();
    for part in parts {
        all.known.extend(part.known);
        all.positives.extend(part.positives);
    }
    all.known.par_sort_unstable();
    all.positives.par_sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Labels, Scores};
    use crate::table::InMemory;
    use proptest::prelude::*;

    fn of(scores: &[f64], labels: &[i8]) -> Ranking<u64> {
        let mut ranking = Ranking::empty();
        ranking.extend(scores.iter().copied().zip(labels.iter().copied()));
        ranking.known.sort_unstable();
        ranking.positives.sort_unstable();
        ranking
    }

    #[test]
    fn pairs_worked_by_hand() {
        // Above the first positive one negative, above the second another; one tied with the second.
        let ranking = of(&[0.9, 0.8, 0.7, 0.5, 0.5, 0.1], &[-1, 1, 0, 1, -1, -1]);
        assert_eq!(ranking.auroc(), (2.0 + 1.5) / 6.0);
        assert_eq!(ranking.average_precision(), (0.5 + 0.5) / 2.0);
        assert_eq!(of(&[0.1, 0.2], &[1, 1]).auroc(), 0.0);
        assert_eq!(of(&[0.1, 0.2], &[-1, 0]).auroc(), 0.0);
        assert_eq!(of(&[0.1, 0.2], &[0, 0]).average_precision(), 0.0);
    }

    #[test]
    fn a_label_without_positives_has_recall_one() {
        let curve = of(&[0.1, 0.2], &[-1, -1]).curve::<f64>();
        assert_eq!(curve.precision, [0.0, 0.0, 1.0]);
        assert_eq!(curve.recall, [1.0, 1.0, 0.0]);
        let nothing = of(&[0.1], &[0]).curve::<f64>();
        assert_eq!((nothing.precision.len(), nothing.thresholds.len()), (1, 0));
    }

    #[test]
    fn a_bad_value_is_named_by_row_and_column() {
        let mut scores = vec![0.5; 5000 * 40];
        scores[4321 * 40 + 37] = f32::NAN;
        struct Unchecked(Vec<f32>);
        impl Table for Unchecked {
            type Score = f32;

            fn images(&self) -> usize {
                5000
            }

            fn labels(&self) -> usize {
                40
            }

            fn read(
                &self,
                rows: Range<usize>,
                columns: Range<usize>,
                scores: &mut [f32],
                labels: &mut [i8],
            ) -> Result<(), MetricsError> {
                labels.fill(1);
                for (row, scores) in rows.zip(scores.chunks_exact_mut(columns.len())) {
                    scores.copy_from_slice(&self.0[row * 40..][columns.clone()]);
                }
                Ok(())
            }
        }
        for average in [Average::Macro, Average::Micro] {
            let error = multilabel_average_precision(&Unchecked(scores.clone()), average);
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains("image 4321 (row), label 37 (column)"),
                "{error}"
            );
        }
    }

    /// Few distinct scores, so that ties are common.
    fn column() -> impl Strategy<Value = (Vec<f64>, Vec<i8>)> {
        let entry = ((-6_i8..6).prop_map(|s| f64::from(s) / 4.0), -1_i8..=1);
        prop::collection::vec(entry, 1..80).prop_map(|entries| entries.into_iter().unzip())
    }

    proptest! {
        #[test]
        fn agrees_with_the_definitions((scores, labels) in column()) {
            let ranking = of(&scores, &labels);
            let ap = crate::average_precision(&scores, &labels, crate::Ties::Grouped).unwrap();
            prop_assert_eq!(ranking.average_precision(), ap.unwrap_or(0.0));
            let with = |wanted: i8| {
                let all = scores.iter().zip(&labels);
                all.filter(move |(_, label)| **label == wanted).map(|(score, _)| *score)
            };
            let pair = |p: f64, n: f64| if p > n { 1.0 } else if p == n { 0.5 } else { 0.0 };
            let sum: f64 = with(1).flat_map(|p| with(-1).map(move |n| pair(p, n))).sum();
            let pairs = (with(1).count() * with(-1).count()) as f64;
            prop_assert!((ranking.auroc() - share(sum, pairs)).abs() < 1e-12);
            // The area under the steps of the curve is the AP.
            let curve = ranking.curve::<f64>();
            let steps = curve.recall.windows(2).zip(&curve.precision);
            let area: f64 = steps.map(|(recall, precision)| (recall[0] - recall[1]) * precision).sum();
            prop_assert!(ap.is_none_or(|ap| (ap - area).abs() < 1e-12));
            prop_assert!(curve.thresholds.is_sorted_by(|a, b| a < b));
        }

        #[test]
        fn one_label_together_is_that_label((scores, labels) in column()) {
            let table = InMemory::new(
                Scores::new(&scores, scores.len(), 1).unwrap(),
                Labels::new(&labels, labels.len(), 1).unwrap(),
            ).unwrap();
            for of in [multilabel_average_precision, multilabel_auroc] {
                let (all, one) = (of(&table, Average::Micro), of(&table, Average::Macro));
                prop_assert_eq!(all.unwrap(), one.unwrap());
            }
        }
    }
}
