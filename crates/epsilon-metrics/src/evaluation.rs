//! All figures of one set of labels, and of the seen / unseen split: ZSL, seen and GZSL.

use serde::{Deserialize, Serialize};

use crate::average_precision::Measured;
use crate::bootstrap::Bootstrap;
use crate::columns::map_rankings;
use crate::entry::Entry;
use crate::error::MetricsError;
use crate::images::{LabelSet, Totals, count_images};
use crate::input::{Labels, Scores};
use crate::protocol::{EmptyLabel, Images, Protocol, Settings, Ties, Unknown};
use crate::request::{Request, check_request};
use crate::table::{InMemory, Table, check_table};
use crate::top_k::{TopK, harmonic_mean};

/// Figures of one set of labels under one protocol. Prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// Name of the protocol.
    pub protocol: String,
    /// Its rules.
    pub settings: Settings,
    /// Images before the protocol's choice.
    pub images_total: usize,
    /// Images measured.
    pub images_kept: usize,
    /// Mean number of positive labels, among those evaluated, of an image kept.
    pub positives_per_image: f64,
    /// Labels that entered the mean of AP.
    pub labels_averaged: usize,
    /// Mean of the labels' AP, as a fraction.
    pub map: f64,
    /// How far `map` may be off for lack of images; filled by whoever ran
    /// [`bootstrap`](crate::bootstrap()).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// Overall figures at each K asked for, ascending.
    pub top_k: Vec<TopK>,
    /// Means over the labels that entered `map`, weighted as there, of their precision and of their
    /// recall at each K, and the harmonic mean of the two.
    pub top_k_by_label: Vec<TopK>,
    /// Mean over the images kept of how many of its best labels one has to take to have all its
    /// positives, equal scores all taken; 0 for an image without positives. As scikit-learn's
    /// `coverage_error`, unknown labels as in the top K: in the list but no positives, or (under
    /// [`Unknown::Ignore`]) not in it.
    pub coverage_error: f64,
    /// Mean over the images kept of the share of pairs of a positive and another label of the list
    /// in which the positive is not ranked strictly higher; 0 for an image without such pairs. As
    /// scikit-learn's `label_ranking_loss`, unknown labels as for `coverage_error`.
    pub ranking_loss: f64,
    /// Figures of each label, in the order of the columns asked for.
    pub per_label: Vec<LabelFigures>,
}

/// Figures of one label over the images kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LabelFigures {
    /// Its column in the tables.
    pub column: usize,
    /// Images positive for it.
    pub positives: usize,
    /// Images where it is not unknown (all, where unknown counts as negative).
    pub annotated: usize,
    /// Its average precision as a fraction; `None` when the protocol skips it.
    pub average_precision: Option<f64>,
    /// Its precision, recall and F1 at each K asked for.
    pub top_k: Vec<TopK>,
}

/// Figures of a split into seen and unseen labels. Prints as a table of three columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitEvaluation {
    /// Unseen labels, ranked among themselves.
    pub zsl: Evaluation,
    /// Seen labels, ranked among themselves.
    pub seen: Evaluation,
    /// All labels, ranked together.
    pub gzsl: Evaluation,
    /// Harmonic mean 2SU / (S + U) of `seen.map` (S) and `zsl.map` (U), 0 when both are 0. AP is
    /// per label, so these are also the seen and unseen parts of the GZSL mAP wherever the
    /// protocol keeps the same images for all three.
    pub harmonic_map: f64,
}

/// Figures of `columns` (each once, in any order) of the tables under `protocol`, with top-K at
/// each of `ks` (ascending; may be empty). Labels compete only with the labels in `columns`.
///
/// # Errors
/// Tables of different shapes; columns that are missing, repeated or none; K of 0, out of order or
/// above the number of columns; not one positive; a label without positives where the protocol
/// makes that an error.
///
/// ```
/// use epsilon_metrics::{Labels, Protocol, Scores, evaluate};
///
/// // Two images, three labels; image 1 has no known positive.
/// let scores = Scores::new(&[0.9, 0.5, 0.1, 0.2, 0.8, 0.4], 2, 3)?;
/// let labels = Labels::new(&[1, -1, 1, -1, -1, 0], 2, 3)?;
///
/// let kept = evaluate(scores, labels, &[0, 1, 2], &Protocol::named("epsilon")?, &[2])?;
/// assert_eq!((kept.images_kept, kept.images_total), (1, 2));
/// assert_eq!(kept.map, 2.0 / 3.0); // label 1 has no positive: AP 0
/// assert_eq!(kept.top_k[0].precision, 0.5);
///
/// let all = evaluate(scores, labels, &[0, 1, 2], &Protocol::named("lesa-nus")?, &[2])?;
/// assert_eq!(all.images_kept, 2);
/// assert_eq!(all.top_k[0].precision, 0.25);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn evaluate(
    scores: Scores<'_>,
    labels: Labels<'_>,
    columns: &[usize],
    protocol: &Protocol,
    ks: &[usize],
) -> Result<Evaluation, MetricsError> {
    let request = Request {
        columns,
        protocol,
        ks,
    };
    let figures = evaluate_table(&InMemory::new(scores, labels)?, &[request])?;
    // One request, one answer.
    figures.into_iter().next().ok_or(MetricsError::NoColumns)
}

/// Figures of a table for every request, in their order. Each row is read once and each column
/// sorted once, however many requests there are.
///
/// Memory beside the table's own: an eighth of what the scores take as f32 and a few columns a
/// thread. The blocks a table is read in change nothing in the result, nor do the threads.
///
/// # Errors
/// As [`evaluate`] of any of the requests; values that are not finite scores or no labels; whatever
/// keeps the table from being read.
pub fn evaluate_table(
    table: &impl Table,
    requests: &[Request<'_>],
) -> Result<Vec<Evaluation>, MetricsError> {
    measure(table, requests).map_err(|failure| failure.error)
}

/// ZSL (unseen labels only, at `ks_zsl`), seen (seen labels only) and GZSL (all labels, at
/// `ks_gzsl`) figures of one table whose first `seen_count` columns are the seen labels.
///
/// Each of the three applies the protocol to its own labels: with [`Images::WithPositive`] the
/// images kept differ. The seen figures take those of `ks_gzsl` that do not exceed `seen_count`.
///
/// [`Images::WithPositive`]: crate::Images::WithPositive
///
/// # Errors
/// No seen or no unseen label; otherwise as [`evaluate`], naming which of the three failed.
///
/// ```
/// use epsilon_metrics::{Labels, Protocol, Scores, evaluate_splits};
///
/// let scores = Scores::new(&[0.9, 0.1, 0.4, 0.3, 0.8, 0.2, 0.5, 0.7, 0.6], 3, 3)?;
/// let labels = Labels::new(&[1, -1, 1, 1, -1, -1, -1, 1, -1], 3, 3)?;
/// let protocol = Protocol::named("lesa-nus")?;
///
/// let result = evaluate_splits(scores, labels, 2, &protocol, &[1], &[1, 3])?;
/// let (seen, unseen) = (result.seen.map, result.zsl.map);
/// assert!((result.gzsl.map - (2.0 * seen + 1.0 * unseen) / 3.0).abs() < 1e-12);
/// assert_eq!(result.harmonic_map, 2.0 * seen * unseen / (seen + unseen));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn evaluate_splits(
    scores: Scores<'_>,
    labels: Labels<'_>,
    seen_count: usize,
    protocol: &Protocol,
    ks_zsl: &[usize],
    ks_gzsl: &[usize],
) -> Result<SplitEvaluation, MetricsError> {
    let table = InMemory::new(scores, labels)?;
    let protocols = std::slice::from_ref(protocol);
    let figures = evaluate_protocols(&table, seen_count, protocols, ks_zsl, ks_gzsl)?;
    // One protocol, one answer.
    figures.into_iter().next().ok_or(MetricsError::NoColumns)
}

/// As [`evaluate_splits`], of any table and under several protocols, in their order.
///
/// # Errors
/// As [`evaluate_splits`], and whatever keeps the table from being read.
///
/// ```
/// use epsilon_metrics::{InMemory, Labels, Protocol, Scores, evaluate_protocols};
///
/// // The third image has no positive, and one label of the first is unknown.
/// let scores = Scores::new(&[0.9, 0.1, 0.4, 0.3, 0.8, 0.2, 0.5, 0.7, 0.6], 3, 3)?;
/// let labels = Labels::new(&[1, 0, 1, 1, -1, -1, -1, -1, -1], 3, 3)?;
/// let table = InMemory::new(scores, labels)?;
///
/// let results = evaluate_protocols(&table, 2, &Protocol::all(), &[1], &[1, 2])?;
/// for (protocol, result) in Protocol::all().iter().zip(&results) {
///     println!("{protocol:>20}  GZSL mAP {:.3}", result.gzsl.map);
/// }
/// assert_eq!(results[0].gzsl.images_kept, 2);
/// assert_eq!(results[1].gzsl.images_kept, 3);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn evaluate_protocols(
    table: &impl Table,
    seen_count: usize,
    protocols: &[Protocol],
    ks_zsl: &[usize],
    ks_gzsl: &[usize],
) -> Result<Vec<SplitEvaluation>, MetricsError> {
    let all: Vec<usize> = (0..table.labels()).collect();
    let (seen, unseen) = match all.split_at_checked(seen_count) {
        Some((seen, unseen)) if !seen.is_empty() && !unseen.is_empty() => (seen, unseen),
        _ => {
            return Err(MetricsError::BadSplit {
                seen: seen_count,
                labels: all.len(),
            });
        }
    };
    let fitting = ks_gzsl.iter().copied().filter(|&k| k <= seen.len());
    let ks_seen: Vec<usize> = fitting.collect();
    let splits = [
        ("GZSL", &all[..], ks_gzsl),
        ("ZSL", unseen, ks_zsl),
        ("seen", seen, &ks_seen[..]),
    ];
    let requests: Vec<Request<'_>> = protocols
        .iter()
        .flat_map(|protocol| {
            splits.map(|(_, columns, ks)| Request {
                columns,
                protocol,
                ks,
            })
        })
        .collect();
    let figures = measure(table, &requests).map_err(|failure| match failure.request {
        Some(request) => MetricsError::InSplit {
            split: splits[request % splits.len()].0,
            reason: Box::new(failure.error),
        },
        None => failure.error,
    })?;
    let mut figures = figures.into_iter();
    let mut splits = Vec::with_capacity(protocols.len());
    while let (Some(gzsl), Some(zsl), Some(seen)) = (figures.next(), figures.next(), figures.next())
    {
        splits.push(SplitEvaluation {
            harmonic_map: harmonic_mean(seen.map, zsl.map),
            zsl,
            seen,
            gzsl,
        });
    }
    Ok(splits)
}

/// An error, and the request it belongs to; `None` where the table itself is wrong.
struct Failure {
    request: Option<usize>,
    error: MetricsError,
}

impl From<MetricsError> for Failure {
    fn from(error: MetricsError) -> Self {
        Self {
            request: None,
            error,
        }
    }
}

fn measure(table: &impl Table, requests: &[Request<'_>]) -> Result<Vec<Evaluation>, Failure> {
    check_table(table)?;
    let of_request = |request: usize| {
        move |error| Failure {
            request: Some(request),
            error,
        }
    };
    for (i, request) in requests.iter().enumerate() {
        check_request(request, table.labels()).map_err(of_request(i))?;
    }
    let (sets, set_of) = label_sets(requests);
    let totals = count_images(table, &sets)?;
    for (i, request) in requests.iter().enumerate() {
        if totals[set_of[i]].positives.iter().all(|&n| n == 0) {
            let error = MetricsError::NoPositives {
                images: table.images(),
                labels: request.columns.len(),
            };
            return Err(of_request(i)(error));
        }
    }
    let rankings = rankings(table, requests, &set_of, &totals)?;
    let answers = requests.iter().zip(set_of).enumerate();
    answers
        .map(|(i, (request, set))| {
            let (set, totals) = (&sets[set], &totals[set]);
            answer(request, set, totals, &rankings[i]).map_err(of_request(i))
        })
        .collect()
}

/// The distinct label sets of the requests, and for each request the place of its set among them.
fn label_sets<'a>(requests: &[Request<'a>]) -> (Vec<LabelSet<'a>>, Vec<usize>) {
    let mut sets: Vec<LabelSet<'a>> = Vec::new();
    let mut set_of = Vec::with_capacity(requests.len());
    for request in requests {
        let without_unknown = request.protocol.settings().unknown == Unknown::Ignore;
        let same =
            |c: &LabelSet<'_>| c.columns == request.columns && c.without_unknown == without_unknown;
        let place = sets.iter().position(same).unwrap_or_else(|| {
            sets.push(LabelSet {
                columns: request.columns,
                without_unknown,
                ks: Vec::new(),
            });
            sets.len() - 1
        });
        sets[place].ks.extend(request.ks);
        set_of.push(place);
    }
    for set in &mut sets {
        set.ks.sort_unstable();
        set.ks.dedup();
    }
    (sets, set_of)
}

/// What AP depends on beside the ranking itself.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Variant {
    /// The set whose images with a positive are kept; `None` where all are.
    images_of: Option<usize>,
    unknown_counts: bool,
    ties: Ties,
}

impl Variant {
    fn measure(self, entries: &[Entry], totals: &[Totals]) -> Measured {
        let known = |entry: Entry| self.unknown_counts | !entry.is_unknown();
        match self.images_of.map(|set| &totals[set].positives) {
            None => Measured::new(entries, self.ties, known),
            Some(positives) => Measured::new(entries, self.ties, |entry| {
                known(entry) && positives[entry.image()] > 0
            }),
        }
    }
}

/// Every label's ranking measured as each request has it: [requests, the request's columns].
fn rankings(
    table: &impl Table,
    requests: &[Request<'_>],
    set_of: &[usize],
    totals: &[Totals],
) -> Result<Vec<Vec<Measured>>, MetricsError> {
    let mut variants: Vec<Variant> = Vec::new();
    // Which variants a column needs: [columns, places in variants].
    let mut needed: Vec<Vec<usize>> = vec![Vec::new(); table.labels()];
    let mut variant_of = Vec::with_capacity(requests.len());
    for (request, &set) in requests.iter().zip(set_of) {
        let settings = request.protocol.settings();
        let variant = Variant {
            images_of: (settings.images == Images::WithPositive).then_some(set),
            unknown_counts: settings.unknown == Unknown::Negative,
            ties: settings.ties,
        };
        let place = variants.iter().position(|v| *v == variant);
        let place = place.unwrap_or_else(|| {
            variants.push(variant);
            variants.len() - 1
        });
        variant_of.push(place);
        for &column in request.columns {
            if !needed[column].contains(&place) {
                needed[column].push(place);
            }
        }
    }
    let wanted: Vec<bool> = needed.iter().map(|needed| !needed.is_empty()).collect();
    let measured = map_rankings(table, &wanted, |column, entries| {
        let measure = |&place: &usize| (place, variants[place].measure(entries, totals));
        needed[column].iter().map(measure).collect::<Vec<_>>()
    })?;
    let find = |column: usize, variant: usize| {
        let of_column = measured[column].iter().flatten();
        of_column.filter(move |(place, _)| *place == variant)
    };
    let of_request = |(request, &variant): (&Request<'_>, &usize)| {
        let columns = request.columns.iter();
        let found = columns.flat_map(|&column| find(column, variant).map(|(_, m)| *m));
        found.collect()
    };
    Ok(requests.iter().zip(&variant_of).map(of_request).collect())
}

/// A request's figures from what was counted.
fn answer(
    request: &Request<'_>,
    set: &LabelSet<'_>,
    totals: &Totals,
    rankings: &[Measured],
) -> Result<Evaluation, MetricsError> {
    let Request {
        columns,
        protocol,
        ks,
    } = *request;
    let settings = protocol.settings();
    let images_total = totals.positives.len();
    let images_kept = match settings.images {
        Images::All => images_total,
        Images::WithPositive => totals.positives.iter().filter(|&&n| n > 0).count(),
    };
    let positives: u64 = totals.positives.iter().map(|&n| u64::from(n)).sum();
    // (hits, places filled) of every label: [ks, columns].
    let counts: Vec<Vec<(u64, u64)>> = ks
        .iter()
        .map(|k| {
            let of_k = set.ks.iter().zip(totals.places.chunks_exact(columns.len()));
            let places = of_k
                .filter(|(of, _)| *of == k)
                .flat_map(|(_, places)| places);
            places
                .map(|places| match settings.images {
                    Images::All => (places.hits.into(), places.of_all_images.into()),
                    Images::WithPositive => {
                        (places.hits.into(), places.of_images_with_positive.into())
                    }
                })
                .collect()
        })
        .collect();
    let overall = |(&k, counts): (&usize, &Vec<(u64, u64)>)| {
        let add = |a: (u64, u64), b: &(u64, u64)| (a.0 + b.0, a.1 + b.1);
        let (hits, places) = counts.iter().fold((0, 0), add);
        TopK::new(k, hits, places, positives)
    };
    let per_label: Vec<LabelFigures> = rankings
        .iter()
        .enumerate()
        .map(|(place, measured)| {
            let of_label = |(&k, counts): (&usize, &Vec<(u64, u64)>)| {
                let (hits, places) = counts[place];
                TopK::new(k, hits, places, measured.positives as u64)
            };
            let top_k = ks.iter().zip(&counts).map(of_label).collect();
            label_figures(columns[place], measured, protocol, top_k)
        })
        .collect::<Result<_, _>>()?;
    let over_labels = |figure: &dyn Fn(&LabelFigures) -> f64| {
        let averaged = |l: &LabelFigures| l.average_precision.map(|_| figure(l));
        let values = per_label.iter().map(|l| (averaged(l), l.annotated as f64));
        // Never without a value: there is a positive, so its label has an AP and a weight.
        settings.mean.over(values).unwrap_or(0.0)
    };
    let by_label = |(i, &k): (usize, &usize)| {
        let precision = over_labels(&|l| l.top_k[i].precision);
        TopK::of_means(k, precision, over_labels(&|l| l.top_k[i].recall))
    };
    let averaged = per_label.iter().filter(|l| l.average_precision.is_some());
    Ok(Evaluation {
        protocol: protocol.name().into(),
        settings,
        images_total,
        images_kept,
        positives_per_image: positives as f64 / images_kept as f64,
        labels_averaged: averaged.count(),
        map: over_labels(&|l| l.average_precision.unwrap_or(0.0)),
        bootstrap: None,
        top_k: ks.iter().zip(&counts).map(overall).collect(),
        top_k_by_label: ks.iter().enumerate().map(by_label).collect(),
        coverage_error: totals.coverage as f64 / images_kept as f64,
        ranking_loss: totals.ranking_loss / images_kept as f64,
        per_label,
    })
}

fn label_figures(
    column: usize,
    measured: &Measured,
    protocol: &Protocol,
    top_k: Vec<TopK>,
) -> Result<LabelFigures, MetricsError> {
    let average_precision = match (measured.average_precision, protocol.settings().empty_label) {
        (None, EmptyLabel::Zero) => Some(0.0),
        (None, EmptyLabel::Error) => {
            return Err(MetricsError::LabelWithoutPositives {
                column,
                protocol: protocol.name().into(),
            });
        }
        (average_precision, _) => average_precision,
    };
    Ok(LabelFigures {
        column,
        positives: measured.positives,
        annotated: measured.annotated,
        average_precision,
        top_k,
    })
}
