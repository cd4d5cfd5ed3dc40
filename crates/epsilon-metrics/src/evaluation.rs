//! All metrics of a set of labels, and of the split into seen and unseen labels: ZSL, seen and GZSL.

use serde::{Deserialize, Serialize};

use crate::average_precision::Measured;
use crate::bootstrap::Bootstrap;
use crate::columns::map_rankings;
use crate::entry::Entry;
use crate::error::MetricsError;
use crate::images::{LabelSet, Totals, count_images};
use crate::input::{Labels, Scores};
use crate::pooled::Pools;
use crate::protocol::{Counts, EmptyLabel, Images, Pool, Protocol, Settings, Ties, Unknown};
use crate::request::{Request, check_request};
use crate::score::{Packed, Score};
use crate::standardise::Normalisation;
use crate::table::{InMemory, Table, check_table};
use crate::top_k::{TopK, harmonic_mean};

/// Metrics of a set of labels under one protocol. Displayed as a table.
///
/// ```rust
/// use epsilon_metrics::{Labels, Protocol, Scores, evaluate};
///
/// // One image: positive, negative, positive by descending score.
/// let scores = Scores::new(&[0.9, 0.8, 0.1], 1, 3)?;
/// let labels = Labels::new(&[1, -1, 1], 1, 3)?;
/// let evaluation = evaluate(scores, labels, &[0, 1, 2], &Protocol::epsilon(), &[])?;
/// assert_eq!(evaluation.positives_per_image, 2.0);
/// assert_eq!(evaluation.coverage_error, 3.0); // the last positive has rank 3
/// assert_eq!(evaluation.ranking_loss, 0.5); // one of two pairs is in the wrong order
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// Name of the protocol.
    pub protocol: String,
    /// Rules of the protocol.
    pub settings: Settings,
    /// How the scores were normalised before. Always the default, not at all, after an evaluation of a table other than
    /// [`Normalised`](crate::Normalised): the caller sets it to what was done to the scores, and it is then displayed.
    #[serde(default)]
    pub scores: Normalisation,
    /// Images of the table.
    pub images_total: usize,
    /// Images that the protocol keeps.
    pub images_kept: usize,
    /// Mean number of positives, among the labels evaluated, of the images kept.
    pub positives_per_image: f64,
    /// Labels that the mAP averages.
    pub labels_averaged: usize,
    /// Mean average precision (mAP) of the labels, as a fraction.
    pub map: f64,
    /// Standard error and interval of `map` over images. Always `None` after an evaluation; the caller may set it to
    /// the result of [`bootstrap`](crate::bootstrap()), and it is then displayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// Precision, recall and F1 over all labels together at each K, ascending.
    pub top_k: Vec<TopK>,
    /// Mean precision and mean recall at each K over the labels that `map` averages, with the same weights, and the
    /// harmonic mean of the two as F1.
    pub top_k_by_label: Vec<TopK>,
    /// Mean over the images kept of the rank of the last positive, where equal scores share the last of their ranks; 0
    /// for an image without positives. In labels; scikit-learn's `coverage_error`. Unknown labels are treated as in
    /// the top K: ranked but not positive, or not ranked under [`Unknown::Ignore`].
    pub coverage_error: f64,
    /// Mean over the images kept of the share of pairs of a positive and another ranked label in which the positive is
    /// not strictly higher; 0 for an image without such pairs. A fraction; scikit-learn's `label_ranking_loss`.
    /// Unknown labels are treated as in `coverage_error`.
    pub ranking_loss: f64,
    /// Metrics of each label, in the order of the requested columns.
    pub per_label: Vec<LabelFigures>,
}

impl Evaluation {
    /// How many labels the mAP averages, of how many, as tables show it; of means over several tables, which have no figures of single
    /// labels, the number alone.
    pub fn averaged(&self) -> String {
        match self.per_label.len() {
            0 => self.labels_averaged.to_string(),
            all => format!("{} of {all}", self.labels_averaged),
        }
    }
}

impl Evaluation {
    /// The rules of the protocol and the normalisation of the scores in one sentence.
    pub fn rules(&self) -> String {
        format!("{}; {}", self.settings, self.scores)
    }
}

/// Metrics of one label over the images that the protocol keeps.
///
/// ```rust
/// use epsilon_metrics::{Labels, Protocol, Scores, evaluate};
///
/// // Label 0 is annotated in all images, label 1 in one.
/// let scores = Scores::new(&[0.2, 0.3, 0.9, 0.8, 0.1, 0.4], 3, 2)?;
/// let labels = Labels::new(&[1, 0, -1, 1, -1, 0], 3, 2)?;
/// let evaluation = evaluate(scores, labels, &[0, 1], &Protocol::lesa_nus(), &[])?;
/// let [first, second] = &evaluation.per_label[..] else { unreachable!() };
/// assert_eq!((first.column, first.positives, first.annotated), (0, 1, 3));
/// assert_eq!(first.average_precision, Some(0.5));
/// assert_eq!((second.annotated, second.average_precision), (1, Some(1.0)));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LabelFigures {
    /// Column of the label in the table.
    pub column: usize,
    /// Images that are positive for the label.
    pub positives: usize,
    /// Images in which the label is not unknown (all images under [`Unknown::Negative`]).
    pub annotated: usize,
    /// Average precision as a fraction; `None` when the protocol skips the label.
    pub average_precision: Option<f64>,
    /// Precision, recall and F1 of the label at each K.
    pub top_k: Vec<TopK>,
}

impl LabelFigures {
    /// What the AP may be weighted by.
    pub(crate) fn counts(&self) -> Counts {
        // At most 2^30 images.
        Counts {
            annotated: self.annotated as u32,
            positives: self.positives as u32,
        }
    }
}

/// Metrics of a split into seen and unseen labels. Displayed as a table of three columns.
///
/// ```rust
/// use epsilon_metrics::{Labels, Protocol, Scores, evaluate_splits};
///
/// // Labels 0 and 1 are seen and ranked perfectly; the positives of label 2 have ranks 2 and 3.
/// let scores = Scores::new(&[0.9, 0.2, 0.3, 0.1, 0.7, 0.6, 0.4, 0.6, 0.5], 3, 3)?;
/// let labels = Labels::new(&[1, -1, 1, -1, 1, -1, 0, 1, 1], 3, 3)?;
/// let split = evaluate_splits(scores, labels, 2, &Protocol::lesa_nus(), &[1], &[1])?;
/// assert_eq!(split.seen.map, 1.0);
/// assert!((split.zsl.map - 7.0 / 12.0).abs() < 1e-12); // (1/2 + 2/3) / 2
/// assert!((split.gzsl.map - 31.0 / 36.0).abs() < 1e-12); // (1 + 1 + 7/12) / 3
/// assert!((split.harmonic_map - 14.0 / 19.0).abs() < 1e-12);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitEvaluation {
    /// Unseen labels, ranked among themselves.
    pub zsl: Evaluation,
    /// Seen labels, ranked among themselves.
    pub seen: Evaluation,
    /// All labels, ranked together.
    pub gzsl: Evaluation,
    /// Harmonic mean 2SU / (S + U) of `seen.map` (S) and `zsl.map` (U), 0 when both are 0. The AP of a label depends
    /// on no other label, so S and U are also the seen and unseen parts of the GZSL mAP if the protocol keeps the same
    /// images for all three.
    pub harmonic_map: f64,
}

/// Metrics of `columns` (each once, in any order) under `protocol`, with the top K at each of `ks` (strictly ascending;
/// may be empty). `scores` and `labels` have the same shape [images, labels]. The labels in `columns` are ranked only
/// among themselves.
///
/// # Errors
/// [`MetricsError::ShapesDiffer`]; [`NoColumns`](MetricsError::NoColumns),
/// [`ColumnOutOfRange`](MetricsError::ColumnOutOfRange) or [`ColumnTwice`](MetricsError::ColumnTwice) for `columns`;
/// [`BadKs`](MetricsError::BadKs) or [`KTooLarge`](MetricsError::KTooLarge) for `ks`;
/// [`NoPositives`](MetricsError::NoPositives); [`LabelWithoutPositives`](MetricsError::LabelWithoutPositives) under
/// [`EmptyLabel::Error`].
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
pub fn evaluate<S: Score>(
    scores: Scores<'_, S>,
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
    // One request has one result.
    figures.into_iter().next().ok_or(MetricsError::NoColumns)
}

/// Metrics of a table for every request, in the order of the requests. Each row is read once and each column sorted once,
/// however many requests there are.
///
/// Memory besides the table: an eighth of the scores as f32, and a few columns per thread. The result depends neither on
/// the blocks in which the table is read nor on the number of threads.
///
/// # Errors
/// The errors of [`evaluate`] for any request; [`MetricsError::Empty`], [`TooLarge`](MetricsError::TooLarge),
/// [`NotFinite`](MetricsError::NotFinite) or [`LabelValue`](MetricsError::LabelValue) for the table;
/// [`Read`](MetricsError::Read) when it cannot be read.
///
/// ```rust
/// use epsilon_metrics::{InMemory, Labels, Protocol, Request, Scores, evaluate_table};
///
/// // Label 0 ranks perfectly (AP 1), the positive of label 1 ranks second (AP 1/2).
/// let scores = Scores::new(&[0.9, 0.7, 0.2, 0.3], 2, 2)?;
/// let labels = Labels::new(&[1, -1, -1, 1], 2, 2)?;
/// let table = InMemory::new(scores, labels)?;
///
/// let protocol = Protocol::lesa_nus();
/// let both = Request { columns: &[0, 1], protocol: &protocol, ks: &[1] };
/// let second = Request { columns: &[1], protocol: &protocol, ks: &[] };
/// let evaluations = evaluate_table(&table, &[both, second])?;
/// assert_eq!((evaluations[0].map, evaluations[1].map), (0.75, 0.5));
/// assert_eq!(evaluations[0].top_k[0].precision, 1.0); // both images rank their positive first
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub fn evaluate_table(
    table: &impl Table,
    requests: &[Request<'_>],
) -> Result<Vec<Evaluation>, MetricsError> {
    measure(table, requests).map_err(|failure| failure.error)
}

/// ZSL (unseen labels, at `ks_zsl`), seen (seen labels) and GZSL (all labels, at `ks_gzsl`) metrics of a table
/// [images, labels] whose first `seen_count` columns are the seen labels.
///
/// Each of the three applies the protocol to its own labels, so under [`Images::WithPositive`] the images kept differ.
/// The seen labels are evaluated at those of `ks_gzsl` that do not exceed `seen_count`.
///
/// # Errors
/// [`MetricsError::BadSplit`] without a seen or without an unseen label; the errors of [`evaluate`], as
/// [`MetricsError::InSplit`] where only one of the three fails.
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
pub fn evaluate_splits<S: Score>(
    scores: Scores<'_, S>,
    labels: Labels<'_>,
    seen_count: usize,
    protocol: &Protocol,
    ks_zsl: &[usize],
    ks_gzsl: &[usize],
) -> Result<SplitEvaluation, MetricsError> {
    let table = InMemory::new(scores, labels)?;
    let protocols = std::slice::from_ref(protocol);
    let figures = evaluate_protocols(&table, seen_count, protocols, ks_zsl, ks_gzsl)?;
    // One protocol has one result.
    figures.into_iter().next().ok_or(MetricsError::NoColumns)
}

/// ZSL, seen and GZSL metrics of any [`Table`] under several protocols, in the order of the protocols. The split and the
/// K are those of [`evaluate_splits`]. Each row is read once and each column sorted once for all protocols.
///
/// # Errors
/// The errors of [`evaluate_splits`] and of [`evaluate_table`].
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
/// let (epsilon, lesa_nus) = (&results[0], &results[1]);
/// assert_eq!((epsilon.gzsl.images_kept, lesa_nus.gzsl.images_kept), (2, 3));
/// // The unseen label 2: `lesa-nus` keeps image 2, which ranks above the positive.
/// assert_eq!((epsilon.zsl.map, lesa_nus.zsl.map), (1.0, 0.5));
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
    let of_unseen: Vec<Protocol> = protocols.iter().map(Protocol::for_unseen).collect();
    let requests: Vec<Request<'_>> = protocols
        .iter()
        .zip(&of_unseen)
        .flat_map(|(protocol, of_unseen)| {
            let protocols = [protocol, of_unseen, protocol];
            let parts = splits.into_iter().zip(protocols);
            parts.map(|((_, columns, ks), protocol)| Request {
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
    for protocol in protocols {
        let (Some(gzsl), Some(zsl), Some(seen)) = (figures.next(), figures.next(), figures.next())
        else {
            break;
        };
        let seen = match protocol.settings().empty_label {
            EmptyLabel::SkipUnannotated => annotated_alone(table, protocol, seen)?,
            _ => seen,
        };
        splits.push(SplitEvaluation {
            harmonic_map: harmonic_mean(seen.map, zsl.map),
            zsl,
            seen,
            gzsl,
        });
    }
    Ok(splits)
}

/// The figures of the labels that are annotated in an image kept, ranked without the others, which keep their counts.
fn annotated_alone(
    table: &impl Table,
    protocol: &Protocol,
    all: Evaluation,
) -> Result<Evaluation, MetricsError> {
    let annotated = all.per_label.iter().filter(|l| l.annotated > 0);
    let columns: Vec<usize> = annotated.map(|label| label.column).collect();
    if columns.len() == all.per_label.len() {
        return Ok(all);
    }
    let ks = all.top_k.iter().map(|top| top.k);
    let ks: Vec<usize> = ks.filter(|&k| k <= columns.len()).collect();
    let request = Request {
        columns: &columns,
        protocol,
        ks: &ks,
    };
    let mut alone = measure(table, &[request])
        .map_err(|failure| failure.error)?
        .remove(0);
    let mut ranked = std::mem::take(&mut alone.per_label).into_iter().peekable();
    let of_all = all.per_label.into_iter().map(|mut label| {
        label.top_k.truncate(ks.len());
        ranked
            .next_if(|ranked| ranked.column == label.column)
            .unwrap_or(label)
    });
    Ok(Evaluation {
        per_label: of_all.collect(),
        ..alone
    })
}

/// An error and the index of the request that failed; `None` for an error of the table.
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
    let mut rankings = rankings(table, requests, &set_of, &totals)?;
    for ((request, &set), rankings) in requests.iter().zip(&set_of).zip(&mut rankings) {
        if request.protocol.settings().pool == Pool::AnnotatedImages {
            pool(table, request, &totals[set], rankings)?;
        }
    }
    let requests = requests.iter().zip(set_of).enumerate();
    requests
        .map(|(i, (request, set))| {
            let (set, totals) = (&sets[set], &totals[set]);
            evaluation(request, set, totals, &rankings[i]).map_err(of_request(i))
        })
        .collect()
}

/// The distinct label sets of the requests, and for each request the place of its set among them.
fn label_sets<'a>(requests: &[Request<'a>]) -> (Vec<LabelSet<'a>>, Vec<usize>) {
    let mut sets: Vec<LabelSet<'a>> = Vec::new();
    let mut set_of = Vec::with_capacity(requests.len());
    for request in requests {
        let settings = request.protocol.settings();
        let without_unknown = settings.unknown == Unknown::Ignore;
        let same = |c: &LabelSet<'_>| {
            c.columns == request.columns
                && c.without_unknown == without_unknown
                && c.top_k_ties == settings.top_k_ties
        };
        let place = sets.iter().position(same).unwrap_or_else(|| {
            sets.push(LabelSet {
                columns: request.columns,
                without_unknown,
                top_k_ties: settings.top_k_ties,
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

/// The settings that change the AP of a ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Variant {
    /// The label set for whose labels an image must have a positive; `None` to keep all images.
    images_of: Option<usize>,
    unknown_counts: bool,
    ties: Ties,
}

impl Variant {
    fn measure<P: Packed>(self, entries: &[Entry<P>], totals: &[Totals]) -> Measured {
        let known = |entry: Entry<P>| self.unknown_counts | !entry.is_unknown();
        match self.images_of.map(|set| &totals[set].positives) {
            None => Measured::new(entries, self.ties, known),
            Some(positives) => Measured::new(entries, self.ties, |entry| {
                known(entry) && positives[entry.image()] > 0
            }),
        }
    }
}

/// Counts and AP of every column of every request: [requests, columns of the request].
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

/// Replaces the AP of the labels' own rankings by those of their pools.
fn pool(
    table: &impl Table,
    request: &Request<'_>,
    totals: &Totals,
    rankings: &mut [Measured],
) -> Result<(), MetricsError> {
    let settings = request.protocol.settings();
    let kept = |image: usize| settings.images == Images::All || totals.positives[image] > 0;
    let pools = Pools::new(table, request, kept)?;
    let pooled = pools.map(table, |entries| {
        Measured::new(entries, settings.ties, |_| true)
    })?;
    for (label, pooled) in rankings.iter_mut().zip(pooled) {
        label.average_precision = pooled.average_precision;
    }
    Ok(())
}

/// The metrics of a request from the counts.
fn evaluation(
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
    // (hits, labels taken) of every label: [ks, columns].
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
        let values = per_label.iter().map(|l| (averaged(l), l.counts()));
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
        scores: Normalisation::default(),
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
        (_, EmptyLabel::SkipUnannotated) if measured.annotated == 0 => None,
        (None, EmptyLabel::SkipUnannotated) => Some(0.0),
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
