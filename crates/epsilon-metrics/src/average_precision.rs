//! Average precision of one label: the annotated images are ranked by score, and the precision at the rank of each
//! positive is averaged.

use crate::columns::sort;
use crate::entry::Entry;
use crate::error::MetricsError;
use crate::input::{Labels, Scores};
use crate::protocol::Ties;
use crate::score::{Packed, Score};

/// Average precision (AP) of one label over its annotated images:
/// AP = 1/|P| * sum over positives p of (positives ranked up to p) / (images ranked up to p).
///
/// `scores` and `labels` have shape `[images]`. Labels are +1 (positive), -1 (negative) or 0 (unknown, left out). The
/// result is a fraction in 0..=1, or `None` when no image is positive. `ties` says how equal scores rank.
///
/// # Errors
/// [`MetricsError::Empty`] without images, [`MetricsError::Length`] for lengths that differ,
/// [`MetricsError::NotFinite`] for a NaN or infinite score, [`MetricsError::LabelValue`] for a label other than
/// -1, 0 and 1.
///
/// ```
/// use epsilon_metrics::{Ties, average_precision};
///
/// // Ranked: positive, (unknown), negative, positive.
/// let ap = average_precision(&[0.9, 0.8, 0.7, 0.1], &[1, 0, -1, 1], Ties::Grouped)?;
/// assert_eq!(ap, Some((1.0 / 1.0 + 2.0 / 3.0) / 2.0));
///
/// // A label without positives has no AP.
/// assert_eq!(average_precision(&[0.9, 0.8], &[-1, 0], Ties::Grouped)?, None);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn average_precision<S: Score>(
    scores: &[S],
    labels: &[i8],
    ties: Ties,
) -> Result<Option<f64>, MetricsError> {
    Scores::new(scores, scores.len(), 1)?;
    Labels::new(labels, scores.len(), 1)?;
    let cells = scores.iter().zip(labels).enumerate();
    let mut entries: Vec<Entry<S::Packed>> = cells
        .map(|(image, (&score, &label))| Entry::new(image, score, label))
        .collect();
    sort(&mut entries, &mut Vec::new());
    Ok(Measured::new(&entries, ties, |entry| !entry.is_unknown()).average_precision)
}

/// Counts and AP of one label over the images that a protocol counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Positive images.
    pub(crate) positives: usize,
    /// Images counted.
    pub(crate) annotated: usize,
    /// `None` without positives.
    pub(crate) average_precision: Option<f64>,
}

impl Measured {
    /// Uses the entries for which `counts` is true. `entries` are sorted: best first, equal scores in image order.
    pub(crate) fn new<P: Packed>(
        entries: &[Entry<P>],
        ties: Ties,
        counts: impl Fn(Entry<P>) -> bool,
    ) -> Self {
        let (mut found, mut ranked, mut sum) = (0_usize, 0_usize, 0.0);
        // Positives of the run of images that share a rank: equal scores together, or one by one.
        let mut run = 0_usize;
        for (place, &entry) in entries.iter().enumerate() {
            let counted = counts(entry);
            // At most the number of entries: an overflow check would only cost time.
            ranked = ranked.wrapping_add(usize::from(counted));
            run = run.wrapping_add(usize::from(counted & entry.is_positive()));
            if run == 0 {
                continue;
            }
            let next = entries.get(place + 1);
            let goes_on = next.is_some_and(|next| next.order() == entry.order());
            if ties == Ties::Stable || !goes_on {
                found += run;
                sum += run as f64 * (found as f64 / ranked as f64);
                run = 0;
            }
        }
        Self {
            positives: found,
            annotated: ranked,
            average_precision: (found > 0).then(|| sum / found as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ap(scores: &[f32], labels: &[i8], ties: Ties) -> Option<f64> {
        average_precision(scores, labels, ties).unwrap()
    }

    #[test]
    fn worked_by_hand() {
        // Ranked + - + - : precision 1/1 and 2/3.
        let scores = [0.9, 0.8, 0.7, 0.6];
        let expected = (1.0 + 2.0 / 3.0) / 2.0;
        assert_eq!(ap(&scores, &[1, -1, 1, -1], Ties::Grouped), Some(expected));
        // The same, listed backwards and with scores below zero.
        let scores = [-4.0, -3.0, -2.0, -1.0];
        assert_eq!(ap(&scores, &[-1, 1, -1, 1], Ties::Stable), Some(expected));
        // The only positive last of four.
        assert_eq!(ap(&scores, &[1, -1, -1, -1], Ties::Grouped), Some(0.25));
    }

    #[test]
    fn ties_share_a_rank_or_go_by_image() {
        let scores = [0.5, 0.5, 0.5, 0.1];
        let labels = [-1, 1, 1, 1];
        // Grouped: 2/3 twice, then 3/4. Stable: 1/2, 2/3, 3/4.
        let grouped = (2.0 / 3.0 + 2.0 / 3.0 + 0.75) / 3.0;
        let stable = (1.0 / 2.0 + 2.0 / 3.0 + 0.75) / 3.0;
        assert!((ap(&scores, &labels, Ties::Grouped).unwrap() - grouped).abs() < 1e-15);
        assert!((ap(&scores, &labels, Ties::Stable).unwrap() - stable).abs() < 1e-15);
        // Minus zero equals zero.
        assert_eq!(ap(&[0.0, -0.0], &[-1, 1], Ties::Grouped), Some(0.5));
        assert_eq!(ap(&[-0.0, 0.0], &[-1, 1], Ties::Grouped), Some(0.5));
    }

    #[test]
    fn a_constant_score_has_the_share_of_positives() {
        assert_eq!(ap(&[7.0; 5], &[1, -1, 0, -1, 1], Ties::Grouped), Some(0.5));
    }

    #[test]
    fn no_positive_means_no_ap() {
        assert_eq!(ap(&[0.1, 0.2], &[-1, 0], Ties::Grouped), None);
        assert_eq!(ap(&[0.1, 0.2], &[0, 0], Ties::Stable), None);
    }

    #[test]
    fn bad_input_is_an_error() {
        let lengths = average_precision(&[0.1, 0.2], &[1], Ties::Grouped);
        assert!(matches!(lengths, Err(MetricsError::Length { .. })));
        let nothing = average_precision::<f32>(&[], &[], Ties::Grouped);
        assert!(matches!(nothing, Err(MetricsError::Empty { .. })));
        let nan = average_precision(&[f32::NAN], &[1], Ties::Grouped);
        assert!(matches!(nan, Err(MetricsError::NotFinite { .. })));
    }

    /// The definition, image by image, in O(n^2).
    fn naive(scores: &[f32], labels: &[i8], ties: Ties) -> Option<f64> {
        let known: Vec<usize> = (0..scores.len()).filter(|&i| labels[i] != 0).collect();
        let before = |i: usize, j: usize| match ties {
            Ties::Grouped => scores[j] >= scores[i],
            Ties::Stable => scores[j] > scores[i] || (scores[j] == scores[i] && j <= i),
        };
        let precisions: Vec<f64> = known
            .iter()
            .filter(|&&i| labels[i] == 1)
            .map(|&i| {
                let ranked = known.iter().filter(|&&j| before(i, j));
                let found = ranked.clone().filter(|&&j| labels[j] == 1).count();
                found as f64 / ranked.count() as f64
            })
            .collect();
        let mean = precisions.iter().sum::<f64>() / precisions.len() as f64;
        (!precisions.is_empty()).then_some(mean)
    }

    /// Few distinct scores, so that ties are common.
    fn column() -> impl Strategy<Value = (Vec<f32>, Vec<i8>)> {
        let entry = ((-6_i8..6).prop_map(|s| f32::from(s) / 4.0), -1_i8..=1);
        prop::collection::vec(entry, 1..80).prop_map(|entries| entries.into_iter().unzip())
    }

    fn ties() -> impl Strategy<Value = Ties> {
        prop_oneof![Just(Ties::Grouped), Just(Ties::Stable)]
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition((scores, labels) in column(), ties in ties()) {
            match (ap(&scores, &labels, ties), naive(&scores, &labels, ties)) {
                (Some(fast), Some(slow)) => {
                    prop_assert!((fast - slow).abs() < 1e-12);
                    prop_assert!((0.0..=1.0 + 1e-12).contains(&fast));
                }
                (fast, slow) => prop_assert_eq!(fast, slow),
            }
        }

        #[test]
        fn a_monotone_transform_changes_nothing((scores, labels) in column(), ties in ties()) {
            let moved: Vec<f32> = scores.iter().map(|s| s.exp() * 3.0 - 1.0).collect();
            prop_assert_eq!(ap(&scores, &labels, ties), ap(&moved, &labels, ties));
        }

        #[test]
        fn the_order_of_images_changes_nothing(
            (order, (scores, labels)) in column().prop_flat_map(|c| {
                let order: Vec<usize> = (0..c.0.len()).collect();
                (Just(order).prop_shuffle(), Just(c))
            })
        ) {
            let s: Vec<f32> = order.iter().map(|&i| scores[i]).collect();
            let l: Vec<i8> = order.iter().map(|&i| labels[i]).collect();
            prop_assert_eq!(ap(&scores, &labels, Ties::Grouped), ap(&s, &l, Ties::Grouped));
        }

        #[test]
        fn a_perfect_ranking_scores_one(labels in prop::collection::vec(-1_i8..=1, 1..80), ties in ties()) {
            let scores: Vec<f32> = labels.iter().map(|&l| f32::from(l)).collect();
            let expected = labels.contains(&1).then_some(1.0);
            prop_assert_eq!(ap(&scores, &labels, ties), expected);
        }
    }
}
