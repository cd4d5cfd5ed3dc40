//! Seeded bootstrap over images: standard error and 95 % interval of the mAP.

use std::collections::{BTreeMap, btree_map};

use serde::{Deserialize, Serialize};

use crate::columns::map_rankings;
use crate::draws::{Draws, Figure, resampled};
use crate::entry::Entry;
use crate::error::MetricsError;
use crate::images::{LabelSet, count_images};
use crate::input::{Labels, Scores};
use crate::pooled::Pools;
use crate::protocol::{EmptyLabel, Images, Pool, Protocol, Settings, TopKTies, Unknown};
use crate::request::{Request, check_request};
use crate::score::{Packed, Score};
use crate::table::{InMemory, Table, check_table};

/// Bootstrap standard error and 95 % interval of the mAP over images. All values are fractions, as the mAP is.
///
/// ```rust
/// use epsilon_metrics::{Labels, Protocol, Scores, bootstrap};
///
/// // A perfect ranking of four images: every resample has mAP 1.
/// let scores = Scores::new(&[0.9, 0.8, 0.2, 0.1], 4, 1)?;
/// let labels = Labels::new(&[1, 1, -1, -1], 4, 1)?;
/// let interval = bootstrap(scores, labels, &[0], &Protocol::lesa_nus(), 100, 7)?;
/// assert_eq!((interval.resamples, interval.seed), (100, 7));
/// assert_eq!((interval.low, interval.high), (1.0, 1.0));
/// assert_eq!(interval.standard_error, 0.0);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bootstrap {
    /// Number of resamples.
    pub resamples: usize,
    /// Seed of the random draws.
    pub seed: u64,
    /// Standard deviation of the mAP over the resamples.
    pub standard_error: f64,
    /// Lower end of the 95 % interval: the 2.5 % quantile over the resamples.
    pub low: f64,
    /// Upper end of the 95 % interval: the 97.5 % quantile over the resamples.
    pub high: f64,
}

/// Bootstrap of the mAP of `columns` under `protocol`: in each of `resamples` resamples, as many images as the protocol
/// keeps are drawn from them with replacement, and the mAP of the draw is computed.
///
/// The images kept and the labels without any positive are determined once, on the full table. A label without a
/// positive in a resample is left out of the mean of that resample, because an AP of 0 would bias the mAP downwards; a
/// resample without any such label left is discarded. Copies of one image tie with each other, which raises the AP of a
/// label with few positives: use the width of the interval, not its centre. Under [`Ties::Stable`](crate::Ties::Stable) copies of one image
/// share a rank, different images do not. The same seed gives the same result for any number of threads.
///
/// Each column is sorted once and reweighted for all resamples. Memory: 1 byte per image and resample, of which
/// there are as many as the next multiple of 128.
///
/// # Errors
/// [`MetricsError::TooFewResamples`] below 2 resamples, [`MetricsError::TooManyResamples`] when the draws do not fit in
/// memory, and the errors of [`evaluate`](crate::evaluate).
///
/// ```
/// use epsilon_metrics::{Labels, Protocol, Scores, bootstrap, evaluate};
///
/// let scores = Scores::new(&[0.9, 0.1, 0.4, 0.3, 0.8, 0.2, 0.5, 0.7], 4, 2)?;
/// let labels = Labels::new(&[1, -1, -1, 1, 1, -1, -1, 1], 4, 2)?;
/// let protocol = Protocol::named("lesa-nus")?;
///
/// let mut evaluation = evaluate(scores, labels, &[0, 1], &protocol, &[1])?;
/// let interval = bootstrap(scores, labels, &[0, 1], &protocol, 200, 1)?;
/// assert!(interval.low <= evaluation.map && evaluation.map <= interval.high);
///
/// // Printed beside the mAP from now on; both labels are ranked perfectly.
/// evaluation.bootstrap = Some(interval);
/// assert!(evaluation.to_string().contains("100.0 \u{b1} 0.0"));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn bootstrap<S: Score>(
    scores: Scores<'_, S>,
    labels: Labels<'_>,
    columns: &[usize],
    protocol: &Protocol,
    resamples: usize,
    seed: u64,
) -> Result<Bootstrap, MetricsError> {
    let request = Request {
        columns,
        protocol,
        ks: &[],
    };
    let table = InMemory::new(scores, labels)?;
    let intervals = bootstrap_table(&table, &[request], resamples, seed)?;
    // One request has one result.
    intervals.into_iter().next().ok_or(MetricsError::NoColumns)
}

/// Bootstrap of the mAP of any [`Table`] for every request, by the method of [`bootstrap`], in the order of the requests. Their
/// `ks` are not used. Each column is sorted once, and reweighted once for all requests that rank the same images of it.
///
/// Memory: 1 byte per image and resample, as in [`bootstrap`], for every number of images kept, and 24 bytes per
/// label, resample and way to rank a label.
///
/// # Errors
/// The errors of [`bootstrap`] for any request, and [`MetricsError::Read`] when the table cannot be read.
///
/// ```rust
/// use epsilon_metrics::{InMemory, Labels, Protocol, Request, Scores, bootstrap_table};
///
/// // The AP of a constant score is the share of positives p, so the bootstrap is binomial:
/// // standard error sqrt(p (1 - p) / n), with p = 0.25 and n = 100.
/// let labels: Vec<i8> = (0..100).map(|image| if image % 4 == 0 { 1 } else { -1 }).collect();
/// let scores = [0.0; 100];
/// let table = InMemory::new(Scores::new(&scores, 100, 1)?, Labels::new(&labels, 100, 1)?)?;
///
/// let protocols = [Protocol::lesa_nus(), Protocol::epsilon()];
/// let requests = protocols.each_ref().map(|protocol| Request { columns: &[0], protocol, ks: &[] });
/// let intervals = bootstrap_table(&table, &requests, 2000, 1)?;
/// assert!((intervals[0].standard_error - 0.0433).abs() < 0.004);
/// // `epsilon` keeps the images with a positive, and every draw of these has AP 1.
/// assert_eq!((intervals[1].low, intervals[1].standard_error), (1.0, 0.0));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn bootstrap_table(
    table: &impl Table,
    requests: &[Request<'_>],
    resamples: usize,
    seed: u64,
) -> Result<Vec<Bootstrap>, MetricsError> {
    if resamples < 2 {
        return Err(MetricsError::TooFewResamples { resamples });
    }
    check_table(table)?;
    for request in requests {
        check_request(request, table.labels())?;
    }
    let (kept, of_request) = kept(table, requests)?;
    let images = |kept: &Places| kept.iter().flatten().count();
    let mut draws = BTreeMap::new();
    for images in kept.iter().map(images) {
        if let btree_map::Entry::Vacant(place) = draws.entry(images) {
            place.insert(Draws::new(images, resamples, seed, 0, || table.ask())?);
        }
    }
    let sampled = requests.iter().zip(of_request).map(|(&request, of)| {
        let kept = &kept[of];
        Sampled::new(request, kept, &draws[&images(kept)], table.labels())
    });
    let maps = resampled_maps(table, &sampled.collect::<Vec<_>>())?;
    let bootstrap = |maps| Bootstrap::new(maps, resamples, seed);
    maps.into_iter().map(bootstrap).collect()
}

impl Bootstrap {
    /// Of the mAP of each resample that has one.
    fn new(maps: Vec<Option<f64>>, resamples: usize, seed: u64) -> Result<Self, MetricsError> {
        let mut maps: Vec<f64> = maps.into_iter().flatten().collect();
        if maps.len() < 2 {
            return Err(MetricsError::TooFewResamples {
                resamples: maps.len(),
            });
        }
        maps.sort_by(f64::total_cmp);
        Ok(Self {
            resamples,
            seed,
            standard_error: standard_deviation(&maps),
            low: quantile(&maps, 0.025),
            high: quantile(&maps, 0.975),
        })
    }
}

/// The index of each image of a table among those drawn from; `None` for an image that is not kept.
pub(crate) type Places = Vec<Option<u32>>;

/// A request and the images that its resamples draw.
pub(crate) struct Sampled<'a> {
    request: Request<'a>,
    places: &'a Places,
    draws: &'a Draws,
    /// Of each column of the table, whether the request has it.
    wanted: Vec<bool>,
}

impl<'a> Sampled<'a> {
    /// `labels` are the columns of the table.
    pub(crate) fn new(
        request: Request<'a>,
        places: &'a Places,
        draws: &'a Draws,
        labels: usize,
    ) -> Self {
        let mut wanted = vec![false; labels];
        for &column in request.columns {
            wanted[column] = true;
        }
        Self {
            request,
            places,
            draws,
            wanted,
        }
    }

    fn settings(&self) -> Settings {
        self.request.protocol.settings()
    }

    /// Whether a label is ranked alike for both. What is done to unknown ones matters only where there are any.
    fn ranks_like(&self, other: &Self, any_unknown: bool) -> bool {
        let (own, others) = (self.settings(), other.settings());
        let keeps_unknown = |settings: &Settings| settings.unknown == Unknown::Negative;
        std::ptr::eq(self.places, other.places)
            && std::ptr::eq(self.draws, other.draws)
            && own.ties == others.ties
            && (keeps_unknown(&own) == keeps_unknown(&others) || !any_unknown)
    }

    fn rank<P: Packed>(&self, entries: &[Entry<P>]) -> Ranked {
        let settings = self.settings();
        let entries = counted(entries, self.places, settings.unknown);
        Ranked {
            has_positive: entries.iter().any(|entry| entry.is_positive()),
            is_annotated: !entries.is_empty(),
            figures: resampled(&entries, settings.ties, self.draws),
        }
    }

    /// The labels' rankings in the pools of [`Pool::AnnotatedImages`], in the order of the columns; `None` under other protocols.
    fn pools<T: Table>(&self, table: &T) -> Result<Option<Vec<Ranked>>, MetricsError> {
        if self.settings().pool == Pool::Label {
            return Ok(None);
        }
        let kept = |image: usize| self.places[image].is_some();
        let pools = Pools::new(table, &self.request, kept)?;
        pools.map(table, |entries| self.rank(entries)).map(Some)
    }

    /// The mAP of each resample; `None` where no label has an AP.
    fn maps(
        &self,
        labels: &[&Ranked],
        pools: Option<&[Ranked]>,
    ) -> Result<Vec<Option<f64>>, MetricsError> {
        let settings = self.settings();
        // With pools, AP and positives are the pool's, the counts the label's own.
        let of_ap = |place: usize| pools.map_or(labels[place], |pools| &pools[place]);
        let places = 0..labels.len();
        let empty = |&place: &usize| !of_ap(place).has_positive;
        if let (EmptyLabel::Error, Some(place)) = (settings.empty_label, places.clone().find(empty))
        {
            return Err(MetricsError::LabelWithoutPositives {
                column: self.request.columns[place],
                protocol: self.request.protocol.name().into(),
            });
        }
        let is_zero = |place: usize| match settings.empty_label {
            EmptyLabel::Zero => empty(&place),
            EmptyLabel::SkipUnannotated => empty(&place) && labels[place].is_annotated,
            EmptyLabel::Skip | EmptyLabel::Error => false,
        };
        let figure = |resample: usize, place: usize| {
            let ap = match is_zero(place) {
                true => Some(0.0),
                false => of_ap(place).figures[resample].0,
            };
            (ap, labels[place].figures[resample].1)
        };
        let map = |r| {
            settings
                .mean
                .over(places.clone().map(|place| figure(r, place)))
        };
        Ok((0..self.draws.resamples()).map(map).collect())
    }
}

/// The ranking of one label in each resample.
#[derive(Clone)]
struct Ranked {
    /// In the whole table.
    has_positive: bool,
    /// Whether any image of the whole table counts.
    is_annotated: bool,
    figures: Vec<Figure>,
}

/// A column's rankings, each in all the ways that requests want it.
struct Column {
    ranked: Vec<Ranked>,
    /// Of each request, which of them is its own; `None` where it does not have the column.
    of_request: Vec<Option<usize>>,
}

impl Column {
    fn new<P: Packed>(column: usize, entries: &[Entry<P>], requests: &[Sampled<'_>]) -> Self {
        let any_unknown = entries.iter().any(|entry| entry.is_unknown());
        let mut first: Vec<&Sampled<'_>> = Vec::new();
        let mut ranked = Vec::new();
        let of_request = requests.iter().map(|request| {
            request.wanted[column].then(|| {
                let alike = |other: &&Sampled<'_>| request.ranks_like(other, any_unknown);
                first.iter().position(alike).unwrap_or_else(|| {
                    first.push(request);
                    ranked.push(request.rank(entries));
                    first.len() - 1
                })
            })
        });
        Self {
            of_request: of_request.collect(),
            ranked,
        }
    }

    fn of(&self, request: usize) -> Option<&Ranked> {
        self.of_request[request].map(|place| &self.ranked[place])
    }
}

/// The mAP of each resample of each request; `None` where no label has an AP.
pub(crate) fn resampled_maps(
    table: &impl Table,
    requests: &[Sampled<'_>],
) -> Result<Vec<Vec<Option<f64>>>, MetricsError> {
    let wanted: Vec<bool> = (0..table.labels())
        .map(|column| requests.iter().any(|request| request.wanted[column]))
        .collect();
    let columns = map_rankings(table, &wanted, |column, entries| {
        Column::new(column, entries, requests)
    })?;
    let of_request = requests.iter().enumerate().map(|(place, request)| {
        let pools = request.pools(table)?;
        let own = request.request.columns.iter();
        let labels = own.filter_map(|&column| columns[column].as_ref()?.of(place));
        request.maps(&labels.collect::<Vec<_>>(), pools.as_deref())
    });
    of_request.collect()
}

/// The images that each request keeps: all that are different, and which of them is whose.
pub(crate) fn kept(
    table: &impl Table,
    requests: &[Request<'_>],
) -> Result<(Vec<Places>, Vec<usize>), MetricsError> {
    let mut columns: Vec<&[usize]> = Vec::new();
    for request in requests {
        if !columns.contains(&request.columns) {
            columns.push(request.columns);
        }
    }
    let set = |columns| LabelSet {
        columns,
        without_unknown: false,
        top_k_ties: TopKTies::default(),
        ks: Vec::new(),
    };
    let sets: Vec<LabelSet<'_>> = columns.iter().copied().map(set).collect();
    let totals = count_images(table, &sets)?;
    let mut distinct: Vec<Places> = Vec::new();
    let of_request = requests.iter().map(|request| {
        let positives = columns.iter().zip(&totals);
        let mut of_request = positives.filter(|(columns, _)| **columns == request.columns);
        let positives = of_request
            .next()
            .map_or(&[][..], |(_, totals)| &totals.positives);
        if positives.iter().all(|&positives| positives == 0) {
            return Err(MetricsError::NoPositives {
                images: table.images(),
                labels: request.columns.len(),
            });
        }
        let places = places(positives, request.protocol.settings().images);
        let known = distinct.iter().position(|other| *other == places);
        Ok(known.unwrap_or_else(|| {
            distinct.push(places);
            distinct.len() - 1
        }))
    });
    let of_request = of_request.collect::<Result<Vec<usize>, MetricsError>>()?;
    Ok((distinct, of_request))
}

/// Of images with these numbers of positives, the index of each among those kept.
fn places(positives: &[u32], images: Images) -> Places {
    let mut next = 0;
    let place = |&positives: &u32| {
        let keep = images == Images::All || positives > 0;
        next += u32::from(keep);
        keep.then(|| next - 1)
    };
    positives.iter().map(place).collect()
}

/// The entries that count for AP, with the indices of [`Places`].
fn counted<P: Packed>(
    entries: &[Entry<P>],
    kept: &[Option<u32>],
    unknown: Unknown,
) -> Vec<Entry<P>> {
    let counts = |entry: &&Entry<P>| unknown == Unknown::Negative || !entry.is_unknown();
    let kept = |entry: &Entry<P>| kept[entry.image()].map(|image| entry.with_image(image));
    entries.iter().filter(counts).filter_map(kept).collect()
}

/// With Bessel's correction; `values` holds at least two.
pub(crate) fn standard_deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / (count - 1.0)).sqrt()
}

/// Quantile of ascending values, linear between neighbours; `sorted` is not empty.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Scores with ties and three-valued labels, the same on every call.
    fn tables(images: usize, labels: usize) -> (Vec<f32>, Vec<i8>) {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let scores = (0..images * labels)
            .map(|_| rng.random_range(0..20) as f32)
            .collect();
        let values = (0..images * labels)
            .map(|_| [1, -1, -1, 0][rng.random_range(0..4)])
            .collect();
        (scores, values)
    }

    #[test]
    fn the_seed_decides_and_the_threads_do_not() {
        let (scores, labels) = tables(60, 20);
        let scores = Scores::new(&scores, 60, 20).unwrap();
        let labels = Labels::new(&labels, 60, 20).unwrap();
        let columns: Vec<usize> = (0..20).collect();
        let protocol = Protocol::named("biam-oi-bug-weighted").unwrap();
        let run = |seed| bootstrap(scores, labels, &columns, &protocol, 50, seed).unwrap();
        let threads = |n| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
            pool.unwrap().install(|| run(1))
        };
        assert_eq!(threads(1), threads(5));
        assert_ne!(run(1).standard_error, run(2).standard_error);
        assert!(run(1).low < run(1).high);
    }

    #[test]
    fn a_perfect_ranking_has_no_spread() {
        // The label 1 has one positive, absent from many resamples; the label 2 has none.
        let scores = [9.0, 9.0, 1.0, 8.0, 8.0, 2.0, 1.0, 1.0, 3.0, 0.0, 0.0, 4.0];
        let labels = [1, 1, -1, 1, -1, -1, -1, -1, -1, -1, -1, -1];
        let scores = Scores::new(&scores, 4, 3).unwrap();
        let labels = Labels::new(&labels, 4, 3).unwrap();
        let settings = Protocol::named("lesa-nus").unwrap().settings();
        let skip = Settings {
            empty_label: EmptyLabel::Skip,
            ..settings
        };
        let skip = Protocol::new("skip", skip, &[1]).unwrap();
        let spread = bootstrap(scores, labels, &[0, 1, 2], &skip, 100, 0).unwrap();
        assert_eq!(
            (spread.standard_error, spread.low, spread.high),
            (0.0, 1.0, 1.0)
        );
        let strict = Settings {
            empty_label: EmptyLabel::Error,
            ..settings
        };
        let strict = Protocol::new("strict", strict, &[1]).unwrap();
        assert!(matches!(
            bootstrap(scores, labels, &[0, 1, 2], &strict, 100, 0),
            Err(MetricsError::LabelWithoutPositives { column: 2, .. })
        ));
    }

    #[test]
    fn the_spread_is_that_of_a_known_distribution() {
        // AP of a constant score is the share of positives, so the bootstrap is binomial:
        // standard error sqrt(p (1 - p) / n).
        let labels: Vec<i8> = (0..400).map(|i| if i % 4 == 0 { 1 } else { -1 }).collect();
        let scores = Scores::new(&[0.0; 400], 400, 1).unwrap();
        let labels = Labels::new(&labels, 400, 1).unwrap();
        let protocol = Protocol::named("lesa-nus").unwrap();
        let spread = bootstrap(scores, labels, &[0], &protocol, 4000, 5).unwrap();
        let expected = (0.25_f64 * 0.75 / 400.0).sqrt();
        assert!((spread.standard_error / expected - 1.0).abs() < 0.05);
        assert!((spread.low - (0.25 - 1.96 * expected)).abs() < 0.2 * expected);
        assert!((spread.high - (0.25 + 1.96 * expected)).abs() < 0.2 * expected);
    }

    #[test]
    fn too_few_and_too_many_resamples_are_errors() {
        let scores = Scores::new(&[0.0], 1, 1).unwrap();
        let labels = Labels::new(&[1], 1, 1).unwrap();
        let protocol = Protocol::named("lesa-nus").unwrap();
        assert!(matches!(
            bootstrap(scores, labels, &[0], &protocol, 1, 0),
            Err(MetricsError::TooFewResamples { resamples: 1 })
        ));
        for resamples in [usize::MAX, usize::MAX / 2] {
            assert!(matches!(
                bootstrap(scores, labels, &[0], &protocol, resamples, 0),
                Err(MetricsError::TooManyResamples { images: 1, .. })
            ));
        }
    }
}
