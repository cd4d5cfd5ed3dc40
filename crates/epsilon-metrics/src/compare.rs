//! Paired bootstrap: the mAP of several rows (methods, models, files of scores) on the same resamples of images or labels, their
//! differences with intervals, and p-values corrected for the number of rows (Holm).

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Places, Sampled, kept, quantile, resampled_maps, standard_deviation};
use crate::draws::Draws;
use crate::error::MetricsError;
use crate::evaluation::{Evaluation, evaluate_table};
use crate::request::{Request, check_request};
use crate::table::{Table, check_table};
use crate::top_k::harmonic_mean;

/// What is drawn with replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// Images: would the rows differ alike on other test images of these labels?
    #[default]
    Images,
    /// Labels: would they differ alike on other labels, given these images?
    Labels,
}

/// How often is drawn, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resampling {
    /// What is drawn.
    pub over: Over,
    /// Number of resamples, at least 2. No p-value is below 2 / (resamples + 1).
    pub resamples: usize,
    /// Seed of the draws. The same seed gives every row the same draws.
    pub seed: u64,
}

/// The mAP of one row and of each of its resamples: all that [`differences`] needs, so that rows need not be in memory
/// together. All values are fractions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Resampled {
    /// How it was resampled.
    pub resampling: Resampling,
    /// A hash of protocol and ground truth: rows are compared only where it is equal.
    pub truth: u64,
    /// The mAP.
    pub map: f64,
    /// The mAP of each resample; `None` for one without any positive.
    pub maps: Vec<Option<f64>>,
}

/// The mAP of a request and of its resamples. The `ks` of the request are not used.
///
/// [`Over::Images`] draws as many images as the table has, and applies the protocol to the draw: images that it does not keep do
/// not count. So the parts of a split (ZSL, seen, GZSL) share their draws too. A label that has positives, but none in a resample, is
/// left out of its mean, as in [`bootstrap`](crate::bootstrap()); one without any in the whole table counts in each as the protocol
/// says. [`Over::Labels`] draws from the labels that the mAP averages, and
/// means their AP over all images.
///
/// Memory: 1 byte for each image (or label) and resample, of which there are as many as the next
/// multiple of 128, and 24 for each label and resample.
///
/// # Errors
/// Those of [`bootstrap_table`](crate::bootstrap_table).
///
/// ```rust
/// use epsilon_metrics::{
///     InMemory, Labels, Over, Protocol, Request, Resampling, Scores, differences, resample,
/// };
///
/// // Four images of one label: row A ranks both positives first, row B last.
/// let labels = Labels::new(&[1, 1, -1, -1], 4, 1)?;
/// let protocol = Protocol::lesa_nus();
/// let request = Request { columns: &[0], protocol: &protocol, ks: &[] };
/// let resampling = Resampling { over: Over::Images, resamples: 200, seed: 1 };
/// let row = |scores: &[f32]| {
///     resample(&InMemory::new(Scores::new(scores, 4, 1)?, labels)?, request, &resampling)
/// };
/// let (a, b) = (row(&[0.9, 0.8, 0.2, 0.1])?, row(&[0.1, 0.2, 0.8, 0.9])?);
/// let [_, b] = differences(&[&a, &b], 0)?[..] else { unreachable!() };
/// assert!((b.difference - (5.0 / 12.0 - 1.0)).abs() < 1e-12);
/// assert!(b.low <= b.difference && b.difference <= b.high);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn resample(
    table: &impl Table,
    request: Request<'_>,
    resampling: &Resampling,
) -> Result<Resampled, MetricsError> {
    let all = resample_table(table, &[request], resampling)?;
    // One request has one result.
    all.into_iter().next().ok_or(MetricsError::NoColumns)
}

/// As [`resample`], for several requests in their order, such as the parts of a split. Each column is sorted once, and reweighted once
/// for all requests that rank the same images of it.
///
/// # Errors
/// Those of [`resample`] for any request.
///
/// ```rust
/// use epsilon_metrics::{
///     InMemory, Labels, Over, Protocol, Request, Resampling, Scores, resample, resample_table,
/// };
///
/// let labels = Labels::new(&[1, 1, -1, -1, 1, -1, -1, 1], 4, 2)?;
/// let table = InMemory::new(Scores::new(&[0.9, 0.2, 0.3, 0.9, 0.8, 0.7, 0.1, 0.6], 4, 2)?, labels)?;
/// let protocol = Protocol::lesa_nus();
/// let resampling = Resampling { over: Over::Images, resamples: 50, seed: 1 };
/// let request = |columns| Request { columns, protocol: &protocol, ks: &[] };
///
/// let parts = resample_table(&table, &[request(&[0, 1]), request(&[1])], &resampling)?;
/// assert_eq!(parts[1], resample(&table, request(&[1]), &resampling)?);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn resample_table(
    table: &impl Table,
    requests: &[Request<'_>],
    resampling: &Resampling,
) -> Result<Vec<Resampled>, MetricsError> {
    let resamples = resampling.resamples;
    if resamples < 2 {
        return Err(MetricsError::TooFewResamples { resamples });
    }
    check_table(table)?;
    for request in requests {
        check_request(request, table.labels())?;
    }
    let requests = requests
        .iter()
        .map(|&request| Request { ks: &[], ..request });
    let requests: Vec<Request<'_>> = requests.collect();
    let evaluations = evaluate_table(table, &requests)?;
    let mut truths: Vec<Fingerprint> = evaluations.iter().map(Fingerprint::of).collect();
    let maps = match resampling.over {
        Over::Images => over_images(table, &requests, resampling, &mut truths)?,
        Over::Labels => {
            let evaluations = evaluations.iter();
            let maps = evaluations.map(|evaluation| over_labels(evaluation, resampling));
            maps.collect::<Result<_, _>>()?
        }
    };
    let all = evaluations.iter().zip(truths).zip(maps);
    let resampled = all.map(|((evaluation, truth), maps)| Resampled {
        resampling: *resampling,
        truth: truth.0,
        map: evaluation.map,
        maps,
    });
    Ok(resampled.collect())
}

/// The mAP of draws of the images; the images that each request keeps are added to its truth.
fn over_images(
    table: &impl Table,
    requests: &[Request<'_>],
    resampling: &Resampling,
    truths: &mut [Fingerprint],
) -> Result<Vec<Vec<Option<f64>>>, MetricsError> {
    let (kept, of_request) = kept(table, requests)?;
    // Every image keeps its own place, so that all parts and rows have the same draws.
    let own = |kept: Places| -> Places {
        let places = kept.into_iter().zip(0..);
        places.map(|(kept, image)| kept.map(|_| image)).collect()
    };
    let kept: Vec<Places> = kept.into_iter().map(own).collect();
    let (resamples, seed) = (resampling.resamples, resampling.seed);
    let draws = Draws::new(table.images(), resamples, seed, 0, || table.ask())?;
    let sampled = requests.iter().zip(of_request).zip(truths);
    let sampled = sampled.map(|((&request, of), truth)| {
        truth.add(kept[of].iter().map(|kept| u64::from(kept.is_some())));
        Sampled::new(request, &kept[of], &draws, table.labels())
    });
    resampled_maps(table, &sampled.collect::<Vec<_>>())
}

/// The mAP of draws of the labels.
fn over_labels(
    evaluation: &Evaluation,
    resampling: &Resampling,
) -> Result<Vec<Option<f64>>, MetricsError> {
    let averaged = evaluation.per_label.iter();
    let averaged: Vec<_> = averaged.filter(|l| l.average_precision.is_some()).collect();
    // Another part's draws must not follow this one's.
    let stream = averaged.first().map_or(0, |label| label.column as u64);
    let (resamples, seed) = (resampling.resamples, resampling.seed);
    let draws = Draws::new(averaged.len(), resamples, seed, stream, || Ok(()))?;
    let draws = &draws;
    let of_resample = |resample: usize| {
        let labels = averaged.iter().enumerate();
        labels.flat_map(move |(place, label)| {
            let drawn = draws.of(place, resample);
            std::iter::repeat_n((label.average_precision, label.counts()), drawn)
        })
    };
    let mean = evaluation.settings.mean;
    Ok((0..resamples).map(|r| mean.over(of_resample(r))).collect())
}

impl Resampled {
    /// The mean of several trainings of one row, such as its seeds, on the same resamples. The interval of a difference of such
    /// means is about the choice of images (or labels) for these trainings, not about other seeds.
    ///
    /// # Errors
    /// [`MetricsError::NotPaired`], and [`MetricsError::NoColumns`] for none.
    ///
    /// ```rust
    /// # use epsilon_metrics::{InMemory, Labels, Over, Protocol, Request, Resampled, Resampling, Scores, resample};
    /// # let labels = Labels::new(&[1, 1, -1, -1], 4, 1)?;
    /// # let protocol = Protocol::lesa_nus();
    /// # let request = Request { columns: &[0], protocol: &protocol, ks: &[] };
    /// # let resampling = Resampling { over: Over::Images, resamples: 50, seed: 1 };
    /// # let row = |scores: &[f32]| {
    /// #     resample(&InMemory::new(Scores::new(scores, 4, 1)?, labels)?, request, &resampling)
    /// # };
    /// let (one, two) = (row(&[0.9, 0.8, 0.2, 0.1])?, row(&[0.1, 0.2, 0.8, 0.9])?);
    /// let mean = Resampled::mean(&[&one, &two])?;
    /// assert_eq!(mean.map, (one.map + two.map) / 2.0);
    /// # Ok::<(), epsilon_metrics::MetricsError>(())
    /// ```
    pub fn mean(trainings: &[&Self]) -> Result<Self, MetricsError> {
        paired(trainings, 0)?;
        let count = trainings.len() as f64;
        let mean = |of: &dyn Fn(&Self) -> Option<f64>| -> Option<f64> {
            let sum: Option<f64> = trainings.iter().map(|training| of(training)).sum();
            Some(sum? / count)
        };
        let first = trainings[0];
        Ok(Self {
            map: mean(&|t| Some(t.map)).unwrap_or(0.0),
            maps: (0..first.maps.len())
                .map(|r| mean(&|t| t.maps[r]))
                .collect(),
            ..first.clone()
        })
    }

    /// The mean of one row over label folds, other labels of the same images, with a weight for each fold. Rows over the same folds in
    /// the same order have the same truth.
    ///
    /// # Errors
    /// [`MetricsError::NotPaired`] where the folds were not resampled alike, and [`MetricsError::NoColumns`] for none.
    ///
    /// ```rust
    /// # use epsilon_metrics::{InMemory, Labels, Over, Protocol, Request, Resampled, Resampling, Scores, resample};
    /// # let labels = Labels::new(&[1, -1, -1, 1, 1, -1, -1, 1], 4, 2)?;
    /// # let table = InMemory::new(Scores::new(&[0.9, 0.2, 0.3, 0.9, 0.8, 0.7, 0.1, 0.6], 4, 2)?, labels)?;
    /// # let protocol = Protocol::lesa_nus();
    /// # let resampling = Resampling { over: Over::Images, resamples: 50, seed: 1 };
    /// # let fold = |column| {
    /// #     resample(&table, Request { columns: &[column], protocol: &protocol, ks: &[] }, &resampling)
    /// # };
    /// let (one, two) = (fold(0)?, fold(1)?);
    /// let all = Resampled::over_folds(&[(&one, 3.0), (&two, 1.0)])?;
    /// assert_eq!(all.map, (3.0 * one.map + two.map) / 4.0);
    /// assert_ne!(all.truth, Resampled::over_folds(&[(&two, 1.0), (&one, 3.0)])?.truth);
    /// # Ok::<(), epsilon_metrics::MetricsError>(())
    /// ```
    pub fn over_folds(folds: &[(&Self, f64)]) -> Result<Self, MetricsError> {
        let Some((first, _)) = folds.first() else {
            return Err(MetricsError::NoColumns);
        };
        let mut truth = Fingerprint::new();
        for (row, (fold, weight)) in folds.iter().enumerate() {
            if fold.resampling != first.resampling || fold.maps.len() != first.maps.len() {
                return Err(MetricsError::NotPaired {
                    row,
                    reference: 0,
                    what: RESAMPLING,
                });
            }
            truth.add([fold.truth, weight.to_bits()]);
        }
        let total: f64 = folds.iter().map(|(_, weight)| weight).sum();
        let mean = |of: &dyn Fn(&Self) -> Option<f64>| -> Option<f64> {
            let sum: Option<f64> = folds
                .iter()
                .map(|(fold, weight)| Some(of(fold)? * weight))
                .sum();
            Some(sum? / total)
        };
        Ok(Self {
            resampling: first.resampling,
            truth: truth.0,
            map: mean(&|fold| Some(fold.map)).unwrap_or(0.0),
            maps: (0..first.maps.len())
                .map(|r| mean(&|fold| fold.maps[r]))
                .collect(),
        })
    }

    /// The harmonic mean 2SU / (S + U) of two parts of one row, resample by resample.
    ///
    /// # Errors
    /// [`MetricsError::NotPaired`] where they were not resampled alike.
    ///
    /// ```rust
    /// # use epsilon_metrics::{InMemory, Labels, Over, Protocol, Request, Resampled, Resampling, Scores, resample};
    /// # let labels = Labels::new(&[1, -1, -1, 1], 2, 2)?;
    /// # let table = InMemory::new(Scores::new(&[0.1, 0.2, 0.3, 0.9], 2, 2)?, labels)?;
    /// # let protocol = Protocol::lesa_nus();
    /// # let resampling = Resampling { over: Over::Images, resamples: 50, seed: 1 };
    /// # let of = |column: usize| {
    /// #     let request = Request { columns: &[column], protocol: &protocol, ks: &[] };
    /// #     resample(&table, request, &resampling)
    /// # };
    /// let (seen, unseen) = (of(0)?, of(1)?); // mAP 1/2 and 1
    /// assert!((Resampled::harmonic(&seen, &unseen)?.map - 2.0 / 3.0).abs() < 1e-12);
    /// # Ok::<(), epsilon_metrics::MetricsError>(())
    /// ```
    pub fn harmonic(seen: &Self, unseen: &Self) -> Result<Self, MetricsError> {
        if seen.resampling != unseen.resampling {
            return Err(MetricsError::NotPaired {
                row: 1,
                reference: 0,
                what: RESAMPLING,
            });
        }
        let mut truth = Fingerprint::new();
        truth.add([seen.truth, unseen.truth]);
        let pairs = seen.maps.iter().zip(&unseen.maps);
        Ok(Self {
            resampling: seen.resampling,
            truth: truth.0,
            map: harmonic_mean(seen.map, unseen.map),
            maps: pairs
                .map(|(s, u)| Some(harmonic_mean((*s)?, (*u)?)))
                .collect(),
        })
    }

    /// The standard deviation of the mAP over the resamples; 0 for fewer than two. The centre of the resamples is not the mAP, see
    /// [`bootstrap`](crate::bootstrap()).
    pub fn standard_error(&self) -> f64 {
        let maps: Vec<f64> = self.maps.iter().copied().flatten().collect();
        match maps.len() {
            0 | 1 => 0.0,
            _ => standard_deviation(&maps),
        }
    }
}

/// How far a row is from the reference row. All values are fractions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// mAP of the row minus that of the reference.
    pub difference: f64,
    /// Lower end of the 95 % interval of the difference: the 2.5 % quantile over the resamples. Not corrected for many rows.
    pub low: f64,
    /// Upper end, the 97.5 % quantile.
    pub high: f64,
    /// Two-sided p-value of the difference: min(1, 2 (1 + min(L, H)) / (R + 1)), where L of the R resamples have a difference of at
    /// most 0, and H one of at least 0.
    pub p: f64,
    /// The p-value after Holm's correction for all rows that are compared with the reference.
    pub p_holm: f64,
}

impl Difference {
    /// Whether the row can be told apart from the reference at this level, such as 0.05, after the correction.
    pub fn is_significant(&self, level: f64) -> bool {
        self.p_holm <= level
    }
}

/// Differences up to this are rounding, such as of values that were written to a file and read again.
const ROUNDING: f64 = 1e-12;
const RESAMPLING: &str = "their resamples: give the same number, seed and kind";
const TRUTH: &str = "protocol, images, labels or ground truth: compare rows over the same";

/// The differences of rows from the row `reference`, in the order of the rows; that of the reference itself is 0 with p-value 1.
/// Resamples in which either row has no mAP are left out of a pair.
///
/// Holm's correction: of m p-values in ascending order the i-th is multiplied by m - i + 1, and is at least the one before it. It
/// bounds the chance of any false difference among the m.
///
/// # Errors
/// [`MetricsError::NotPaired`] for rows that were not resampled alike over the same ground truth, or a reference that is none of
/// them, [`MetricsError::TooFewResamples`].
///
/// ```rust
/// use epsilon_metrics::{
///     InMemory, Labels, Over, Protocol, Request, Resampling, Scores, differences, resample,
/// };
///
/// let values: Vec<i8> = (0..100).map(|image| if image % 2 == 0 { 1 } else { -1 }).collect();
/// let labels = Labels::new(&values, 100, 1)?;
/// let protocol = Protocol::lesa_nus();
/// let request = Request { columns: &[0], protocol: &protocol, ks: &[] };
/// let resampling = Resampling { over: Over::Images, resamples: 999, seed: 1 };
/// let row = |score: &dyn Fn(i8) -> f32| {
///     let scores: Vec<f32> = values.iter().map(|&label| score(label)).collect();
///     resample(&InMemory::new(Scores::new(&scores, 100, 1)?, labels)?, request, &resampling)
/// };
/// let (perfect, chance) = (row(&|label| f32::from(label))?, row(&|_| 0.0)?);
/// let found = differences(&[&perfect, &chance, &chance], 0)?;
/// assert_eq!((found[0].difference, found[0].p), (0.0, 1.0));
/// assert!((found[1].difference + 0.5).abs() < 1e-12);
/// assert_eq!(found[1].p, 2.0 / 1000.0);
/// assert_eq!(found[1].p_holm, 4.0 / 1000.0); // two rows were compared
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn differences(rows: &[&Resampled], reference: usize) -> Result<Vec<Difference>, MetricsError> {
    paired(rows, reference)?;
    let of_row = |(place, row): (usize, &&Resampled)| match place == reference {
        true => Ok(Difference {
            difference: 0.0,
            low: 0.0,
            high: 0.0,
            p: 1.0,
            p_holm: 1.0,
        }),
        false => difference(row, rows[reference]),
    };
    let mut found: Vec<Difference> = rows
        .iter()
        .enumerate()
        .map(of_row)
        .collect::<Result<_, _>>()?;
    holm(&mut found, reference);
    Ok(found)
}

fn paired(rows: &[&Resampled], reference: usize) -> Result<(), MetricsError> {
    let Some(first) = rows.get(reference) else {
        return Err(MetricsError::NoColumns);
    };
    for (row, one) in rows.iter().enumerate() {
        let alike = one.resampling == first.resampling && one.maps.len() == first.maps.len();
        if !alike || one.truth != first.truth {
            return Err(MetricsError::NotPaired {
                row,
                reference,
                what: if alike { TRUTH } else { RESAMPLING },
            });
        }
    }
    Ok(())
}

fn difference(row: &Resampled, reference: &Resampled) -> Result<Difference, MetricsError> {
    let pairs = row.maps.iter().zip(&reference.maps);
    let mut all: Vec<f64> = pairs.filter_map(|(a, b)| Some((*a)? - (*b)?)).collect();
    if all.len() < 2 {
        return Err(MetricsError::TooFewResamples {
            resamples: all.len(),
        });
    }
    all.sort_by(f64::total_cmp);
    let at_most_zero = all.iter().filter(|d| **d <= ROUNDING).count();
    let at_least_zero = all.iter().filter(|d| **d >= -ROUNDING).count();
    let tail = at_most_zero.min(at_least_zero) as f64;
    let p = (2.0 * (1.0 + tail) / (all.len() as f64 + 1.0)).min(1.0);
    Ok(Difference {
        difference: row.map - reference.map,
        low: quantile(&all, 0.025),
        high: quantile(&all, 0.975),
        p,
        p_holm: p,
    })
}

fn holm(differences: &mut [Difference], reference: usize) {
    let mut order: Vec<usize> = (0..differences.len()).filter(|&i| i != reference).collect();
    order.sort_by(|&a, &b| differences[a].p.total_cmp(&differences[b].p));
    let mut floor = 0.0_f64;
    for (place, &row) in order.iter().enumerate() {
        let factor = (order.len() - place) as f64;
        floor = floor.max((factor * differences[row].p).min(1.0));
        differences[row].p_holm = floor;
    }
}

/// FNV-1a over 64-bit words: the same on every machine and in every version, because it is kept in files.
struct Fingerprint(u64);

impl Fingerprint {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Of the rules, and of what the labels are: not of the scores.
    fn of(evaluation: &Evaluation) -> Self {
        let mut truth = Self::new();
        truth.add(evaluation.settings.to_string().bytes().map(u64::from));
        for label in &evaluation.per_label {
            truth.add([label.column, label.positives, label.annotated].map(|n| n as u64));
        }
        truth
    }

    fn add(&mut self, words: impl IntoIterator<Item = u64>) {
        for word in words {
            for byte in word.to_le_bytes() {
                self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Labels, Scores};
    use crate::protocol::{EmptyLabel, Protocol, Settings};
    use crate::table::InMemory;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const IMAGES: usize = 60;
    const LABELS: usize = 12;

    /// Three-valued labels, and scores that know them as well as `skill` says.
    fn row(seed: u64, skill: f32, resampling: &Resampling, columns: &[usize]) -> Resampled {
        let labels = labels();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let score = |&label: &i8| f32::from(label) * skill + rng.random_range(0.0..1.0);
        let scores: Vec<f32> = labels.iter().map(score).collect();
        let table = InMemory::new(
            Scores::new(&scores, IMAGES, LABELS).unwrap(),
            Labels::new(&labels, IMAGES, LABELS).unwrap(),
        );
        let request = Request {
            columns,
            protocol: &Protocol::epsilon(),
            ks: &[],
        };
        resample(&table.unwrap(), request, resampling).unwrap()
    }

    fn labels() -> Vec<i8> {
        let mut rng = ChaCha8Rng::seed_from_u64(99);
        let label = |_| [1, -1, -1, 0][rng.random_range(0..4)];
        (0..IMAGES * LABELS).map(label).collect()
    }

    fn every() -> Vec<usize> {
        (0..LABELS).collect()
    }

    fn resampling(over: Over) -> Resampling {
        Resampling {
            over,
            resamples: 199,
            seed: 4,
        }
    }

    #[test]
    fn a_better_row_is_told_apart_and_the_same_is_not() {
        for over in [Over::Images, Over::Labels] {
            let of = |seed, skill| row(seed, skill, &resampling(over), &every());
            let (good, same, bad) = (of(1, 0.5), of(1, 0.5), of(2, 0.0));
            let found = differences(&[&good, &same, &bad], 0).unwrap();
            assert_eq!(
                (found[1].difference, found[1].p, found[1].p_holm),
                (0.0, 1.0, 1.0)
            );
            assert_eq!((found[2].p, found[2].p_holm), (2.0 / 200.0, 4.0 / 200.0));
            assert!(
                found[2].high < 0.0 && found[2].is_significant(0.05),
                "{found:?}"
            );
            let other_way = differences(&[&good, &same, &bad], 2).unwrap();
            assert_eq!(other_way[0].difference, -found[2].difference);
            assert!(
                (0.005..0.1).contains(&bad.standard_error()),
                "{}",
                bad.standard_error()
            );
        }
    }

    /// Of pairs that differ by chance alone about a twentieth are below 0.05.
    #[test]
    fn rows_that_differ_by_chance_are_seldom_told_apart() {
        let of = |seed| row(seed, 0.2, &resampling(Over::Images), &every());
        let rows: Vec<Resampled> = (0..80).map(of).collect();
        let told = rows.chunks_exact(2).filter(|pair| {
            let found = differences(&[&pair[0], &pair[1]], 0).unwrap();
            found[1].p <= 0.05
        });
        let told = told.count();
        assert!(told <= 8, "{told} of 40");
    }

    #[test]
    fn the_paired_interval_is_that_of_the_resamples() {
        let of = |seed| row(seed, 0.3, &resampling(Over::Images), &every());
        let (a, b) = (of(1), of(2));
        let mut by_hand: Vec<f64> = (a.maps.iter().zip(&b.maps))
            .map(|(a, b)| b.unwrap() - a.unwrap())
            .collect();
        by_hand.sort_by(f64::total_cmp);
        let found = differences(&[&a, &b], 0).unwrap()[1];
        // 199 values: the 2.5 % quantile lies at place 4.95.
        let low = by_hand[4] + 0.95 * (by_hand[5] - by_hand[4]);
        assert!((found.low - low).abs() < 1e-12);
        let below = by_hand.iter().filter(|d| **d <= 0.0).count();
        let tail = below.min(199 - below) as f64;
        assert!((found.p - (2.0 * (1.0 + tail) / 200.0).min(1.0)).abs() < 1e-12);
    }

    /// Of two labels, one ranked perfectly and one without positives: what the whole table makes of the latter, all resamples do.
    #[test]
    fn a_label_without_positives_counts_in_every_resample_as_in_the_table() {
        let mut labels = vec![-1; 2 * IMAGES];
        labels.iter_mut().step_by(4).for_each(|label| *label = 1);
        let scores: Vec<f32> = labels.iter().map(|&label| f32::from(label)).collect();
        let table = InMemory::new(
            Scores::new(&scores, IMAGES, 2).unwrap(),
            Labels::new(&labels, IMAGES, 2).unwrap(),
        );
        let table = table.unwrap();
        let skip = Settings {
            empty_label: EmptyLabel::Skip,
            ..Protocol::lesa_nus().settings()
        };
        let skip = Protocol::new("skip", skip, &[1]).unwrap();
        for over in [Over::Images, Over::Labels] {
            for (protocol, map) in [(&Protocol::lesa_nus(), 0.5), (&skip, 1.0)] {
                let request = Request {
                    columns: &[0, 1],
                    protocol,
                    ks: &[],
                };
                let found = resample(&table, request, &resampling(over)).unwrap();
                assert_eq!(found.map, map);
                let all = |map| found.maps.iter().all(|of| *of == Some(map));
                assert!(all(map) || over == Over::Labels, "{:?}", found.maps);
            }
        }
    }

    #[test]
    fn holm_by_hand() {
        let of = |p| Difference {
            difference: 1.0,
            low: 0.0,
            high: 0.0,
            p,
            p_holm: p,
        };
        // In order: 0.01 x 4, 0.02 x 3, 0.025 x 2 (below the one before), 0.5.
        let mut all = [0.02, 1.0, 0.5, 0.01, 0.025].map(of);
        holm(&mut all, 1);
        assert_eq!(all.map(|d| d.p_holm), [0.06, 1.0, 0.5, 0.04, 0.06]);
    }

    #[test]
    fn parts_share_the_draws_of_images_but_not_those_of_labels() {
        let seen: Vec<usize> = (0..8).collect();
        let unseen: Vec<usize> = (8..LABELS).collect();
        for over in [Over::Images, Over::Labels] {
            let part = |columns: &[usize]| row(1, 0.3, &resampling(over), columns);
            let (s, u) = (part(&seen), part(&unseen));
            let harmonic = Resampled::harmonic(&s, &u).unwrap();
            let of = |r: usize| {
                2.0 * s.maps[r].unwrap() * u.maps[r].unwrap()
                    / (s.maps[r].unwrap() + u.maps[r].unwrap())
            };
            assert!((harmonic.maps[7].unwrap() - of(7)).abs() < 1e-12);
            assert!(matches!(
                differences(&[&s, &u], 0),
                Err(MetricsError::NotPaired {
                    row: 1,
                    what: TRUTH,
                    ..
                })
            ));
        }
    }

    #[test]
    fn seeds_are_averaged_and_threads_change_nothing() {
        let of = |seed| row(seed, 0.3, &resampling(Over::Images), &every());
        let (a, b) = (of(1), of(2));
        let mean = Resampled::mean(&[&a, &b]).unwrap();
        let expected = (a.maps[3].unwrap() + b.maps[3].unwrap()) / 2.0;
        assert!((mean.maps[3].unwrap() - expected).abs() < 1e-15);
        let threads = |n| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
            pool.unwrap().install(|| of(1))
        };
        assert_eq!(threads(1), threads(3));
        let other = Resampling {
            seed: 5,
            ..resampling(Over::Images)
        };
        let other = row(1, 0.3, &other, &every());
        assert!(matches!(
            Resampled::mean(&[&a, &other]),
            Err(MetricsError::NotPaired {
                what: RESAMPLING,
                ..
            })
        ));
        assert!(Resampled::mean(&[]).is_err());
    }
}
