//! The micro-averaged precision-recall curve.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::error::MetricsError;
use crate::score::Rankable;
use crate::table::{Table, check_table, fold_rows};

/// Points `(recall, precision)` of the micro-averaged precision-recall curve of some labels: the score threshold falls over all pairs
/// of an image and one of the labels `columns` together.
///
/// Unknown pairs (label 0) are left out, and pairs with equal scores pass the threshold together. Both coordinates are fractions. Of
/// points with the same recall there are the first and the last, between which precision falls. At most `points` points are
/// returned, about evenly spaced in recall, the last at recall 1; none when no pair is positive.
///
/// Memory: about 70 bytes for each positive pair; the table is read twice, a block at a time.
///
/// # Errors
/// [`MetricsError::Empty`], [`MetricsError::TooLarge`], [`MetricsError::NotFinite`], [`MetricsError::LabelValue`] and
/// [`MetricsError::Read`] for the table.
///
/// # Panics
/// If the table has not these columns.
///
/// ```
/// use epsilon_metrics::{InMemory, Labels, Scores, precision_recall};
///
/// // Ranked: positive, negative, positive; the unknown pair is left out.
/// let scores = Scores::new(&[0.9, 0.8, 0.7, 0.1], 2, 2)?;
/// let table = InMemory::new(scores, Labels::new(&[1, -1, 1, 0], 2, 2)?)?;
/// assert_eq!(precision_recall(&table, 0..2, 10)?, [(0.5, 1.0), (0.5, 0.5), (1.0, 2.0 / 3.0)]);
/// // The second label alone has no positive.
/// assert!(precision_recall(&table, 1..2, 10)?.is_empty());
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn precision_recall<T: Table>(
    table: &T,
    columns: Range<usize>,
    points: usize,
) -> Result<Vec<(f64, f64)>, MetricsError> {
    check_table(table)?;
    let positives = positives(table, &columns)?;
    let steps = positives.chunk_by(|a, b| a == b);
    let thresholds: Vec<Order<T>> = steps.clone().map(|step| step[0]).collect();
    let negatives = negatives(table, &columns, &thresholds)?;
    let all = positives.len() as f64;
    let (mut found, mut passed) = (0, 0);
    let mut curve = Vec::new();
    for (step, [above, equal]) in steps.zip(negatives) {
        let above = above.into_inner();
        passed += above;
        if above > 0 && found > 0 {
            curve.push((found as f64 / all, found as f64 / passed as f64));
        }
        found += step.len() as u64;
        passed += step.len() as u64 + equal.into_inner();
        curve.push((found as f64 / all, found as f64 / passed as f64));
    }
    Ok(thin(curve, points))
}

type Order<T> = <<T as Table>::Score as Rankable>::Order;

/// The orders of the scores of all positive pairs, the best first.
fn positives<T: Table>(table: &T, columns: &Range<usize>) -> Result<Vec<Order<T>>, MetricsError> {
    let pieces = fold_rows(table, Vec::new, |orders, _, scores, labels| {
        let pairs = pairs(table, columns, scores, labels);
        let positive = pairs.filter(|(_, label)| *label > 0);
        orders.extend(positive.map(|(score, _)| score.order()));
    })?;
    let mut orders = pieces.concat();
    orders.par_sort_unstable();
    Ok(orders)
}

/// How many negative pairs have a score between that of each threshold and of the one before, and how many have the threshold's.
fn negatives<T: Table>(
    table: &T,
    columns: &Range<usize>,
    thresholds: &[Order<T>],
) -> Result<Vec<[AtomicU64; 2]>, MetricsError> {
    let counts: Vec<[AtomicU64; 2]> = thresholds.iter().map(|_| Default::default()).collect();
    fold_rows(table, Vec::new, |orders, _, scores, labels| {
        let pairs = pairs(table, columns, scores, labels);
        let negative = pairs.filter(|(_, label)| *label < 0);
        orders.clear();
        orders.extend(negative.map(|(score, _)| score.order()));
        // Sorted they pass the thresholds in one walk; looked up one by one they would wait for memory.
        orders.sort_unstable();
        let mut place = 0;
        for equal in orders.chunk_by(|a, b| a == b) {
            let passed = thresholds[place..].iter();
            place += passed
                .take_while(|threshold| **threshold < equal[0])
                .count();
            // Past full recall only precision falls.
            let Some(threshold) = thresholds.get(place) else {
                break;
            };
            let side = usize::from(*threshold == equal[0]);
            counts[place][side].fetch_add(equal.len() as u64, Ordering::Relaxed);
        }
    })?;
    Ok(counts)
}

/// The scores and labels of some columns of whole rows.
fn pairs<'a, T: Table>(
    table: &T,
    columns: &'a Range<usize>,
    scores: &'a [T::Score],
    labels: &'a [i8],
) -> impl Iterator<Item = (T::Score, i8)> + use<'a, T> {
    let width = table.labels();
    let rows = scores.chunks_exact(width).zip(labels.chunks_exact(width));
    rows.flat_map(|(scores, labels)| {
        let (scores, labels) = (&scores[columns.clone()], &labels[columns.clone()]);
        scores.iter().copied().zip(labels.iter().copied())
    })
}

/// Keeps at most `points` points, about evenly spaced in recall, and always the last.
fn thin(curve: Vec<(f64, f64)>, points: usize) -> Vec<(f64, f64)> {
    let Some(&(full, _)) = curve.last() else {
        return curve;
    };
    let step = full / points.max(1) as f64;
    let mut kept: Vec<(f64, f64)> = Vec::new();
    // From the end, so that the last one stays.
    for &point in curve.iter().rev() {
        if kept.last().is_none_or(|next| next.0 - point.0 >= step) || curve.len() <= points {
            kept.push(point);
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Labels, Scores};
    use crate::table::InMemory;
    use proptest::prelude::*;

    fn curve(scores: &[f32], labels: &[i8], points: usize) -> Vec<(f64, f64)> {
        let scores = Scores::new(scores, labels.len(), 1).unwrap();
        let labels = Labels::new(labels, labels.len(), 1).unwrap();
        precision_recall(&InMemory::new(scores, labels).unwrap(), 0..1, points).unwrap()
    }

    #[test]
    fn ties_count_together_and_long_curves_are_thinned() {
        let points = curve(&[1.0, 1.0, 0.5, 0.4], &[1, -1, -1, 1], 10);
        assert_eq!(points, [(0.5, 0.5), (0.5, 1.0 / 3.0), (1.0, 0.5)]);
        assert!(curve(&[0.1, 0.2], &[-1, 0], 10).is_empty());
        let scores: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let labels: Vec<i8> = (0..1000).map(|i| if i % 2 == 0 { 1 } else { -1 }).collect();
        let points = curve(&scores, &labels, 50);
        assert!(points.len() <= 50 && points.last().unwrap().0 == 1.0);
    }

    proptest! {
        /// Every point of the curve is one of a threshold at some score, and every threshold at a positive's score has its point.
        #[test]
        fn points_are_those_of_thresholds(
            pairs in prop::collection::vec((0_i8..6, -1_i8..=1), 1..60),
        ) {
            let scores: Vec<f32> = pairs.iter().map(|(score, _)| f32::from(*score)).collect();
            let labels: Vec<i8> = pairs.iter().map(|(_, label)| *label).collect();
            let all = labels.iter().filter(|label| **label > 0).count() as f64;
            let at = |threshold: i8| {
                let passing = pairs.iter().filter(|(score, _)| *score >= threshold);
                let known: Vec<i8> = passing.map(|(_, label)| *label).filter(|l| *l != 0).collect();
                let found = known.iter().filter(|label| **label > 0).count() as f64;
                (found / all, found / known.len() as f64)
            };
            let points = curve(&scores, &labels, 1000);
            for point in &points {
                prop_assert!((0..6).any(|threshold| at(threshold) == *point));
            }
            for (score, _) in pairs.iter().filter(|(_, label)| *label > 0) {
                prop_assert!(points.contains(&at(*score)));
            }
        }
    }
}
