//! Metrics of the ranked labels of each image: positives, top K, coverage error, ranking loss. One pass over the rows
//! serves any number of protocols.

use std::cmp::Reverse;

use crate::error::MetricsError;
use crate::protocol::TopKTies;
use crate::score::{Packed, Score};
use crate::table::{Table, fold_rows};

/// Above this number of positives the scores of an image are sorted; up to it they are scanned for each positive.
const MANY_POSITIVES: usize = 64;

/// Labels that are ranked among themselves in every image.
#[derive(Debug, PartialEq)]
pub(crate) struct LabelSet<'a> {
    /// The labels' columns.
    pub(crate) columns: &'a [usize],
    /// Whether unknown labels are left out of the ranking; otherwise they rank as negatives.
    pub(crate) without_unknown: bool,
    /// Which of two labels with the same score comes first in the top K.
    pub(crate) top_k_ties: TopKTies,
    /// The K of the top K, ascending.
    pub(crate) ks: Vec<usize>,
}

/// Number of images with a label in their top K.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TopKCounts {
    /// Where it is positive.
    pub(crate) hits: u32,
    /// Where any label of the set is positive.
    pub(crate) of_images_with_positive: u32,
    /// All images.
    pub(crate) of_all_images: u32,
}

/// Counts and sums of a label set over all images.
pub(crate) struct Totals {
    /// [ks, columns].
    pub(crate) places: Vec<TopKCounts>,
    /// Number of positives of each image.
    pub(crate) positives: Vec<u32>,
    /// Sum over the images of the coverage error: the rank of the last positive; 0 without positives.
    pub(crate) coverage: u64,
    /// Sum over the images of the share of (positive, negative) pairs that are in the wrong order or tied; 0 without
    /// a pair.
    pub(crate) ranking_loss: f64,
    /// Sum over the images of the mean over their positives of (positives ranked up to it) / (labels ranked up to it); 1 without
    /// positives.
    pub(crate) average_precision: f64,
}

/// Counts of a label set over some rows.
struct Part {
    places: Vec<TopKCounts>,
    positives: Vec<u32>,
    coverage: u64,
    losses: Vec<f64>,
    average_precisions: Vec<f64>,
}

impl Part {
    fn new(set: &LabelSet<'_>) -> Self {
        Self {
            places: vec![TopKCounts::default(); set.ks.len() * set.columns.len()],
            positives: Vec::new(),
            coverage: 0,
            losses: Vec::new(),
            average_precisions: Vec::new(),
        }
    }

    fn append(&mut self, other: Self) {
        for (a, b) in self.places.iter_mut().zip(other.places) {
            a.hits += b.hits;
            a.of_images_with_positive += b.of_images_with_positive;
            a.of_all_images += b.of_all_images;
        }
        self.positives.extend(other.positives);
        self.coverage += other.coverage;
        self.losses.extend(other.losses);
        self.average_precisions.extend(other.average_precisions);
    }
}

/// Computes the totals of every label set, and checks every value of the table.
pub(crate) fn count_images(
    table: &impl Table,
    sets: &[LabelSet<'_>],
) -> Result<Vec<Totals>, MetricsError> {
    let columns = table.labels();
    let parts: fn(&[LabelSet<'_>]) -> Vec<Part> = |sets| sets.iter().map(Part::new).collect();
    let start = || (parts(sets), List::default());
    let pieces = fold_rows(table, start, |(parts, list), _, scores, labels| {
        let rows = scores
            .chunks_exact(columns)
            .zip(labels.chunks_exact(columns));
        for (scores, labels) in rows {
            for (set, part) in sets.iter().zip(&mut *parts) {
                list.fill(set, scores, labels);
                list.count(set, part);
            }
        }
    })?;
    let mut whole = parts(sets);
    for (parts, _) in pieces {
        for (whole, part) in whole.iter_mut().zip(parts) {
            whole.append(part);
        }
    }
    Ok(whole.into_iter().map(Totals::from).collect())
}

impl From<Part> for Totals {
    fn from(part: Part) -> Self {
        Self {
            places: part.places,
            positives: part.positives,
            coverage: part.coverage,
            ranking_loss: sum(part.losses),
            average_precision: sum(part.average_precisions),
        }
    }
}

/// The sum of values, which depends neither on the threads nor on the order of the images.
fn sum(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.iter().sum()
}

/// The labels of one image in one label set.
#[derive(Default)]
struct List<S: Score> {
    /// Scores of the ranked labels, in no particular order.
    scores: Vec<S>,
    /// Scores of the positives.
    positives: Vec<S>,
    /// The top K, best first, equal scores in the order of [`TopKTies`]. Each is one integer: the order of the
    /// score; 31 bits of the index among the set's columns, inverted where the last label comes first; 1 bit that
    /// is set for a positive.
    best: Vec<S::Packed>,
}

impl TopKTies {
    /// What the index of a label is combined with (exclusive or) so that the ascending order is that of ties.
    fn flip(self) -> u32 {
        match self {
            Self::FirstLabel => 0,
            Self::LastLabel => u32::MAX >> 1,
        }
    }
}

impl<S: Score> List<S> {
    fn fill(&mut self, set: &LabelSet<'_>, scores: &[S], labels: &[i8]) {
        self.scores.clear();
        self.positives.clear();
        self.best.clear();
        let most = set.ks.last().copied().unwrap_or(0);
        let flip = set.top_k_ties.flip();
        let mut worst = None;
        for (place, &column) in set.columns.iter().enumerate() {
            let (score, label) = (scores[column], labels[column]);
            if label == 0 && set.without_unknown {
                continue;
            }
            self.scores.push(score);
            if label > 0 {
                self.positives.push(score);
            }
            let entry = score.pack((place as u32 ^ flip) << 1 | u32::from(label > 0));
            if most > 0 && worst.is_none_or(|worst| entry < worst) {
                self.best.push(entry);
                // Truncated from time to time, so that few entries pass once the best are in.
                if self.best.len() == 2 * most + 16 {
                    worst = Some(*self.best.select_nth_unstable(most - 1).1);
                    self.best.truncate(most);
                }
            }
        }
        self.best.sort_unstable();
        self.best.truncate(most);
    }

    fn count(&mut self, set: &LabelSet<'_>, part: &mut Part) {
        let with_positive = u32::from(!self.positives.is_empty());
        let columns = set.columns.len();
        let flip = set.top_k_ties.flip();
        for (&k, places) in set.ks.iter().zip(part.places.chunks_exact_mut(columns)) {
            for &entry in &self.best[..k.min(self.best.len())] {
                let place = &mut places[(entry.low() >> 1 ^ flip) as usize];
                place.hits += entry.low() & 1;
                place.of_images_with_positive += with_positive;
                place.of_all_images += 1;
            }
        }
        part.positives.push(self.positives.len() as u32);
        let ranks = self.ranks();
        part.coverage += ranks.coverage as u64;
        part.losses.push(ranks.loss);
        part.average_precisions.push(ranks.average_precision);
    }

    /// What the ranks of the image's positives say.
    fn ranks(&mut self) -> Ranks {
        let (listed, positives) = (self.scores.len(), &mut self.positives);
        positives.sort_unstable_by_key(|score| Reverse(score.order()));
        let many = positives.len() > MANY_POSITIVES;
        if many {
            self.scores
                .sort_unstable_by_key(|score| Reverse(score.order()));
        }
        let at_least = |score: S| match many {
            true => listed - self.scores.partition_point(|&s| s < score),
            false => at_least_of(&self.scores, score),
        };
        let mut ranks = Ranks {
            coverage: 0,
            loss: 0.0,
            average_precision: 1.0,
        };
        if positives.is_empty() {
            return ranks;
        }
        let (mut wrong, mut precisions) = (0, 0.0);
        for &score in positives.iter() {
            let found = positives.len() - positives.partition_point(|&p| p < score);
            let ranked = at_least(score);
            // That of the lowest positive is the first and the highest.
            ranks.coverage = ranks.coverage.max(ranked);
            wrong += ranked - found;
            precisions += found as f64 / ranked as f64;
        }
        let pairs = positives.len() * (listed - positives.len());
        // Without a pair `wrong` is 0.
        ranks.loss = wrong as f64 / pairs.max(1) as f64;
        ranks.average_precision = precisions / positives.len() as f64;
        ranks
    }
}

/// Of one image.
struct Ranks {
    /// Labels down to the lowest positive.
    coverage: usize,
    /// Share of the pairs of a positive and another label that are in the wrong order or tied.
    loss: f64,
    average_precision: f64,
}

/// How many of the scores, at most 2^30 of them, are at least this one. Without the overflow check of a `count`, which would
/// keep the loop from being vectorised.
fn at_least_of<S: Score>(scores: &[S], score: S) -> usize {
    let reached = |count: u32, &s: &S| count.wrapping_add(u32::from(s >= score));
    scores.iter().fold(0, reached) as usize
}
