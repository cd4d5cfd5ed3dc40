//! All figures of one set of labels, and of the seen / unseen split: ZSL, seen and GZSL.

use serde::{Deserialize, Serialize};

use crate::bootstrap::Bootstrap;
use crate::error::MetricsError;
use crate::input::{Labels, Scores};
use crate::protocol::{EmptyLabel, Mean, Protocol, Settings};
use crate::selection::Selection;
use crate::top_k::{TopK, top_k};

/// Figures of one set of labels under one protocol. Prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Figures of each label, in the order of the columns asked for.
    pub per_label: Vec<LabelFigures>,
}

/// Figures of one label over the images kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LabelFigures {
    /// Its column in the tables.
    pub column: usize,
    /// Images positive for it.
    pub positives: usize,
    /// Images where it is not unknown (all, where unknown counts as negative).
    pub annotated: usize,
    /// Its average precision as a fraction; `None` when the protocol skips it.
    pub average_precision: Option<f64>,
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
    let settings = protocol.settings();
    let selection = Selection::new(scores, labels, columns, settings)?;
    let top_k = top_k(&selection, settings.unknown, ks)?;
    let per_label = per_label(&selection, protocol)?;
    let images_kept = selection.rows().len();
    Ok(Evaluation {
        protocol: protocol.name().into(),
        settings,
        images_total: selection.images_total(),
        images_kept,
        positives_per_image: selection.positives() as f64 / images_kept as f64,
        labels_averaged: per_label
            .iter()
            .filter(|l| l.average_precision.is_some())
            .count(),
        map: mean(
            settings.mean,
            per_label
                .iter()
                .map(|l| (l.average_precision, l.annotated as f64)),
        )
        // Never: the selection holds a positive, so its label has an AP and a weight.
        .unwrap_or(0.0),
        bootstrap: None,
        top_k,
        per_label,
    })
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
    let all: Vec<usize> = (0..scores.labels()).collect();
    let (seen, unseen) = match all.split_at_checked(seen_count) {
        Some((seen, unseen)) if !seen.is_empty() && !unseen.is_empty() => (seen, unseen),
        _ => {
            return Err(MetricsError::BadSplit {
                seen: seen_count,
                labels: all.len(),
            });
        }
    };
    let ks_seen: Vec<usize> = ks_gzsl
        .iter()
        .copied()
        .filter(|&k| k <= seen.len())
        .collect();
    let figures = |split, columns: &[usize], ks: &[usize]| {
        evaluate(scores, labels, columns, protocol, ks).map_err(|source| MetricsError::InSplit {
            split,
            source: Box::new(source),
        })
    };
    let gzsl = figures("GZSL", &all, ks_gzsl)?;
    let zsl = figures("ZSL", unseen, ks_zsl)?;
    let seen = figures("seen", seen, &ks_seen)?;
    Ok(SplitEvaluation {
        harmonic_map: harmonic_mean(seen.map, zsl.map),
        zsl,
        seen,
        gzsl,
    })
}

fn per_label(
    selection: &Selection<'_>,
    protocol: &Protocol,
) -> Result<Vec<LabelFigures>, MetricsError> {
    let settings = protocol.settings();
    let measured = selection.map_rankings(|ranking| {
        let ap = ranking.average_precision(settings.ties);
        (ap, ranking.positives(), ranking.annotated())
    });
    let figures = |(&column, (ap, positives, annotated))| {
        let average_precision = match (ap, settings.empty_label) {
            (None, EmptyLabel::Zero) => Some(0.0),
            (None, EmptyLabel::Error) => {
                return Err(MetricsError::LabelWithoutPositives {
                    column,
                    protocol: protocol.name().into(),
                });
            }
            (ap, _) => ap,
        };
        Ok(LabelFigures {
            column,
            positives,
            annotated,
            average_precision,
        })
    };
    selection
        .columns()
        .iter()
        .zip(measured)
        .map(figures)
        .collect()
}

/// Mean of the AP present, plain or weighted by the annotated images beside them; `None` when
/// there is none.
pub(crate) fn mean(mean: Mean, values: impl Iterator<Item = (Option<f64>, f64)>) -> Option<f64> {
    let (mut sum, mut total) = (0.0, 0.0);
    for (value, annotated) in values {
        let weight = match mean {
            Mean::Plain => 1.0,
            Mean::ByAnnotated => annotated,
        };
        if let Some(value) = value {
            sum += weight * value;
            total += weight;
        }
    }
    (total > 0.0).then(|| sum / total)
}

fn harmonic_mean(a: f64, b: f64) -> f64 {
    if a + b > 0.0 {
        2.0 * a * b / (a + b)
    } else {
        0.0
    }
}
