//! Seeded bootstrap over images: standard error and 95 % interval of the mAP.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::columns::map_rankings;
use crate::entry::Entry;
use crate::error::MetricsError;
use crate::images::{LabelSet, count_images};
use crate::input::{Labels, Scores};
use crate::pooled::Pools;
use crate::protocol::{Counts, EmptyLabel, Images, Pool, Protocol, Ties, TopKTies, Unknown};
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
/// label with few positives: use the width of the interval, not its centre. Under [`Ties::Stable`] copies of one image
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
    bootstrap_table(&InMemory::new(scores, labels)?, request, resamples, seed)
}

/// Bootstrap of the mAP of any [`Table`], by the method of [`bootstrap`]. The `ks` of the request are not used.
///
/// # Errors
/// The errors of [`bootstrap`], and [`MetricsError::Read`] when the table cannot be read.
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
/// let request = Request { columns: &[0], protocol: &Protocol::lesa_nus(), ks: &[] };
/// let interval = bootstrap_table(&table, request, 2000, 1)?;
/// assert!((interval.standard_error - 0.0433).abs() < 0.004);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn bootstrap_table(
    table: &impl Table,
    request: Request<'_>,
    resamples: usize,
    seed: u64,
) -> Result<Bootstrap, MetricsError> {
    if resamples < 2 {
        return Err(MetricsError::TooFewResamples { resamples });
    }
    check_table(table)?;
    check_request(&request, table.labels())?;
    let Request {
        columns, protocol, ..
    } = request;
    let settings = protocol.settings();
    let kept = kept(table, columns, settings.images)?;
    let images = kept.iter().flatten().count();
    let draws = Draws::new(images, resamples, seed, 0, || table.ask())?;
    let mut maps: Vec<f64> = resampled_maps(table, &request, &kept, &draws)?
        .into_iter()
        .flatten()
        .collect();
    if maps.len() < 2 {
        return Err(MetricsError::TooFewResamples {
            resamples: maps.len(),
        });
    }
    maps.sort_by(f64::total_cmp);
    Ok(Bootstrap {
        resamples,
        seed,
        standard_error: standard_deviation(&maps),
        low: quantile(&maps, 0.025),
        high: quantile(&maps, 0.975),
    })
}

/// AP, `None` where it is left out, and counts of one label in one resample.
type Figure = (Option<f64>, Counts);

/// The mAP of each resample; `None` where no label has an AP. `kept` gives the index of each image kept among the `draws`.
pub(crate) fn resampled_maps(
    table: &impl Table,
    request: &Request<'_>,
    kept: &[Option<u32>],
    draws: &Draws,
) -> Result<Vec<Option<f64>>, MetricsError> {
    let Request {
        columns, protocol, ..
    } = *request;
    let settings = protocol.settings();
    let mut wanted = vec![false; table.labels()];
    for &column in columns {
        wanted[column] = true;
    }
    let pools = match settings.pool {
        Pool::Label => None,
        Pool::AnnotatedImages => {
            let pools = Pools::new(table, request, |image| kept[image].is_some())?;
            Some(pools.map(table, |entries| {
                rank(
                    &counted(entries, kept, settings.unknown),
                    settings.ties,
                    draws,
                )
            })?)
        }
    };
    let place_of = |column: usize| columns.iter().position(|&c| c == column);
    let measured = map_rankings(table, &wanted, |column, entries| {
        let counted = counted(entries, kept, settings.unknown);
        let (mut empty, mut figures) = rank(&counted, settings.ties, draws);
        if let (Some(pools), Some(place)) = (&pools, place_of(column)) {
            let (pool_empty, pool) = &pools[place];
            empty = *pool_empty;
            for (figure, pooled) in figures.iter_mut().zip(pool) {
                figure.0 = pooled.0;
            }
        }
        let is_zero = match settings.empty_label {
            EmptyLabel::Zero => empty,
            EmptyLabel::SkipUnannotated => empty && !counted.is_empty(),
            EmptyLabel::Skip | EmptyLabel::Error => false,
        };
        if is_zero {
            figures.iter_mut().for_each(|f| f.0 = Some(0.0));
        }
        (empty, figures)
    })?;
    let labels: Vec<_> = columns
        .iter()
        .filter_map(|&column| measured[column].as_ref())
        .collect();
    let first_empty = labels.iter().position(|(empty, _)| *empty);
    if let (Some(place), EmptyLabel::Error) = (first_empty, settings.empty_label) {
        return Err(MetricsError::LabelWithoutPositives {
            column: columns[place],
            protocol: protocol.name().into(),
        });
    }
    let of_resample = |r: usize| labels.iter().map(move |(_, figures)| figures[r]);
    let map = |r: usize| settings.mean.over(of_resample(r));
    Ok((0..draws.resamples).map(map).collect())
}

/// Whether a ranking has no positive, and its figures in each resample.
fn rank<P: Packed>(entries: &[Entry<P>], ties: Ties, draws: &Draws) -> (bool, Vec<Figure>) {
    let empty = !entries.iter().any(|entry| entry.is_positive());
    (empty, resampled(entries, ties, draws))
}

/// The index of each image among those kept; `None` for an image that is not kept.
pub(crate) fn kept(
    table: &impl Table,
    columns: &[usize],
    images: Images,
) -> Result<Vec<Option<u32>>, MetricsError> {
    let set = LabelSet {
        columns,
        without_unknown: false,
        top_k_ties: TopKTies::default(),
        ks: Vec::new(),
    };
    let totals = count_images(table, &[set])?;
    let positives: Vec<u32> = totals.into_iter().flat_map(|o| o.positives).collect();
    if positives.iter().all(|&positives| positives == 0) {
        return Err(MetricsError::NoPositives {
            images: table.images(),
            labels: columns.len(),
        });
    }
    let mut next = 0;
    let kept = positives
        .into_iter()
        .map(|positives| {
            let keep = images == Images::All || positives > 0;
            next += u32::from(keep);
            keep.then(|| next - 1)
        })
        .collect();
    Ok(kept)
}

/// The entries that count for AP, with the indices that [`kept`] gives.
fn counted<P: Packed>(
    entries: &[Entry<P>],
    kept: &[Option<u32>],
    unknown: Unknown,
) -> Vec<Entry<P>> {
    let counts = |entry: &&Entry<P>| unknown == Unknown::Negative || !entry.is_unknown();
    let kept = |entry: &Entry<P>| kept[entry.image()].map(|image| entry.with_image(image));
    entries.iter().filter(counts).filter_map(kept).collect()
}

/// Resamples whose counts of one image are adjacent: two cache lines, and sums that fit in the registers of any processor.
const LANES: usize = 128;

/// Number of times each image was drawn, [resamples / 128, images, 128]; resamples after the last one draw nothing.
///
/// A ranking reads the counts in an order of its own, so that the time of a bootstrap is the memory's. So a count is a byte: it
/// has a mean of 1, and is above 255 with a chance below 1e-500. And whole cache lines are read, of as little memory as one pass
/// needs.
pub(crate) struct Draws {
    counts: Vec<[u8; LANES]>,
    images: usize,
    resamples: usize,
    /// Images whose counts have sums that fit in a byte, whichever they are; at least 1.
    images_in_a_byte: usize,
}

impl Draws {
    /// Draws of different streams are independent. `ask` says before each resample whether to go on.
    pub(crate) fn new(
        images: usize,
        resamples: usize,
        seed: u64,
        stream: u64,
        ask: impl Fn() -> Result<(), MetricsError>,
    ) -> Result<Self, MetricsError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let too_many = || MetricsError::TooManyResamples { images, resamples };
        let rows = resamples.div_ceil(LANES).checked_mul(images);
        let rows = rows.ok_or_else(too_many)?;
        let mut counts = Vec::new();
        counts.try_reserve_exact(rows).map_err(|_| too_many())?;
        counts.resize(rows, [0_u8; LANES]);
        let mut drawn = vec![0_u8; images];
        let mut most = 1;
        for resample in 0..resamples {
            ask()?;
            drawn.fill(0);
            for _ in 0..images {
                let count = &mut drawn[rng.random_range(0..images)];
                *count = count.saturating_add(1);
                most = most.max(*count);
            }
            let first = resample / LANES * images;
            for (row, &count) in counts[first..first + images].iter_mut().zip(&drawn) {
                row[resample % LANES] = count;
            }
        }
        Ok(Self {
            counts,
            images,
            resamples,
            images_in_a_byte: usize::from(u8::MAX / most),
        })
    }

    /// How often one image was drawn in a resample.
    pub(crate) fn of(&self, image: usize, resample: usize) -> usize {
        let row = resample / LANES * self.images + image;
        usize::from(self.counts[row][resample % LANES])
    }

    /// Adds the counts of `images` to `totals`, one for each resample of a block of [`LANES`].
    fn add(&self, block: usize, images: &[u32], totals: &mut [u32; LANES]) {
        let rows = &self.counts[block * self.images..][..self.images];
        for images in images.chunks(self.images_in_a_byte) {
            // Neither these sums overflow, by the size of the chunk, nor those of all images, which are as many as were drawn: a
            // checked addition is not made for many numbers at once.
            let mut sums = [0_u8; LANES];
            for &image in images {
                for (sum, &count) in sums.iter_mut().zip(&rows[image as usize]) {
                    *sum = sum.wrapping_add(count);
                }
            }
            for (total, &sum) in totals.iter_mut().zip(&sums) {
                *total = total.wrapping_add(u32::from(sum));
            }
        }
    }
}

/// What a resampled AP needs of a ranking.
struct Ranking {
    /// Images in the order of their ranks.
    images: Vec<u32>,
    positives: Vec<u32>,
    /// Of each run of images that share a rank, positives among them: where it ends in `images`, and where in `positives`.
    ends: Vec<(usize, usize)>,
}

impl Ranking {
    fn new<P: Packed>(entries: &[Entry<P>], ties: Ties) -> Self {
        let image = |entry: &Entry<P>| entry.image() as u32;
        let mut ranking = Self {
            images: entries.iter().map(image).collect(),
            positives: Vec::new(),
            ends: Vec::new(),
        };
        let mut end = 0;
        for run in entries.chunk_by(|a, b| ties == Ties::Grouped && a.order() == b.order()) {
            end += run.len();
            let before = ranking.positives.len();
            let positives = run.iter().filter(|entry| entry.is_positive());
            ranking.positives.extend(positives.map(image));
            if ranking.positives.len() > before {
                ranking.ends.push((end, ranking.positives.len()));
            }
        }
        ranking
    }

    /// AP (`None` where no positive was drawn) and counts in the resamples of one block: the running counts of
    /// `Measured::new`, one of each per resample.
    fn figures(&self, draws: &Draws, block: usize) -> impl Iterator<Item = Figure> {
        let (mut ranked, mut found, mut sums) = ([0; LANES], [0_u32; LANES], [0.0; LANES]);
        let (mut start, mut first) = (0, 0);
        for &(end, last) in &self.ends {
            draws.add(block, &self.images[start..end], &mut ranked);
            let mut positives = [0; LANES];
            draws.add(block, &self.positives[first..last], &mut positives);
            (start, first) = (end, last);
            for lane in 0..LANES {
                found[lane] = found[lane].wrapping_add(positives[lane]);
                // Where nothing was drawn yet the sum gains 0 / 1.
                sums[lane] += f64::from(positives[lane]) * f64::from(found[lane])
                    / f64::from(ranked[lane].max(1));
            }
        }
        draws.add(block, &self.images[start..], &mut ranked);
        (0..LANES).map(move |lane| {
            let ap = (found[lane] > 0).then(|| sums[lane] / f64::from(found[lane]));
            let counts = Counts {
                annotated: ranked[lane],
                positives: found[lane],
            };
            (ap, counts)
        })
    }
}

/// The figures of one ranking in each resample.
fn resampled<P: Packed>(entries: &[Entry<P>], ties: Ties, draws: &Draws) -> Vec<Figure> {
    let ranking = Ranking::new(entries, ties);
    let blocks = 0..draws.resamples.div_ceil(LANES);
    let figures = blocks.flat_map(|block| ranking.figures(draws, block));
    figures.take(draws.resamples).collect()
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
    use crate::average_precision::average_precision;
    use crate::protocol::Settings;

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
    fn reweighting_equals_copying_images() {
        let (scores, labels) = tables(40, 1);
        let draws = Draws::new(40, 25, 3, 0, || Ok(())).unwrap();
        let known = (0..40).filter(|&i| labels[i] != 0);
        let mut entries: Vec<Entry<u64>> = known
            .map(|image| Entry::new(image, scores[image], labels[image]))
            .collect();
        entries.sort_unstable();
        let figures = resampled(&entries, Ties::Grouped, &draws);
        for (resample, (ap, counts)) in figures.into_iter().enumerate() {
            let copies: Vec<usize> = (0..40)
                .flat_map(|i| std::iter::repeat_n(i, draws.of(i, resample)))
                .collect();
            assert_eq!(copies.len(), 40);
            let s: Vec<f32> = copies.iter().map(|&i| scores[i]).collect();
            let l: Vec<i8> = copies.iter().map(|&i| labels[i]).collect();
            let expected = average_precision(&s, &l, Ties::Grouped).unwrap().unwrap();
            assert!((ap.unwrap() - expected).abs() < 1e-12);
            let of = |values: &[i8]| l.iter().filter(|l| values.contains(l)).count() as u32;
            assert_eq!(
                (counts.annotated, counts.positives),
                (of(&[1, -1]), of(&[1]))
            );
        }
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
