//! Per-label results of the first run's model: average precision, precision-recall curves, calibration.

use std::ops::Range;

use epsilon::calibration::Calibration;
use epsilon::experiment::{LabelSet, Prepared, Scored, Standardised};
use epsilon_metrics::{InMemory, Labels, Scores, precision_recall, reliability};

use super::charts::{self, Series};
use super::page::{self, Page};
use super::runs::Run;

/// Length of the lists of the best and worst labels.
const LISTED: usize = 15;
/// Number of bins of a reliability curve.
const BINS: usize = 10;
/// Number of points of a precision-recall curve.
const POINTS: usize = 200;

/// Adds the labels by average precision: the best, the worst, and all of them.
pub(super) fn labels(page: &mut Page, run: &Run, prepared: &Prepared) {
    page.section("Best and worst labels");
    let dataset = &prepared.dataset;
    let figures = &run.seeds[0].figures;
    let all = figures.part(LabelSet::All).unwrap_or(figures.seen());
    let measured = all.per_label.iter().filter(|label| label.positives > 0);
    let mut rows: Vec<(f64, Vec<String>)> = measured
        .filter_map(|label| {
            let precision = label.average_precision?;
            let side = if label.column < dataset.seen {
                "seen"
            } else {
                "unseen"
            };
            let name = dataset.names.get(label.column)?.clone();
            let cells = vec![
                name,
                side.into(),
                label.positives.to_string(),
                format!("{:.1}", 100.0 * precision),
            ];
            Some((precision, cells))
        })
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let head = ["label", "trained on", "test images", "AP, percent"].map(String::from);
    let cells = |rows: &[(f64, Vec<String>)]| {
        rows.iter()
            .map(|(_, cells)| cells.clone())
            .collect::<Vec<_>>()
    };
    page.html("<div class=\"charts\">");
    page.table(
        "Best labels",
        &head,
        &cells(&rows[..LISTED.min(rows.len())]),
    );
    page.table(
        "Worst labels",
        &head,
        &cells(&rows[rows.len().saturating_sub(LISTED)..]),
    );
    page.html("</div>");
    page.details(
        "All labels with a positive test image",
        &page::table("All labels", &head, &cells(&rows)),
    );
}

/// Adds precision-recall curves, pooled over all pairs of an image and a label.
pub(super) fn precision_recall_curves(page: &mut Page, scored: &Scored) -> anyhow::Result<()> {
    let (images, count) = (scored.images.len(), scored.labels.len());
    let scores = Scores::new(&scored.scores, images, count)?;
    let table = InMemory::new(scores, Labels::new(scored.targets(), images, count)?)?;
    let of = |name: &str, columns: Range<usize>| -> anyhow::Result<Series> {
        let curve = precision_recall(&table, columns, POINTS)?.into_iter();
        let percent = |(recall, precision)| (100.0 * recall, 100.0 * precision);
        Ok(Series {
            name: name.into(),
            points: curve.map(percent).collect(),
        })
    };
    let mut series = vec![of("seen labels", 0..scored.seen)?];
    if scored.seen < count {
        series.push(of("unseen labels", scored.seen..count)?);
        series.push(of("all labels", 0..count)?);
    }
    series.retain(|series| series.points.len() > 1);
    if series.is_empty() {
        return Ok(());
    }
    page.section("Precision and recall");
    let title = "Over all pairs of an image and a label together";
    let svg = charts::lines(title, ["recall, percent", "precision, percent"], &series)?;
    page.figure(title, &svg);
    Ok(())
}

/// Adds reliability curves: observed frequency over predicted probability.
pub(super) fn reliability_curves(
    page: &mut Page,
    calibration: &Calibration,
    shown: &Standardised,
) -> anyhow::Result<()> {
    let judged = shown.judged();
    let percent = |share: f64| 100.0 * share;
    let sides = [("seen labels", true), ("unseen labels", false)];
    let curves = sides.map(|(name, seen)| {
        let bins = reliability(calibration.predictions(&judged, seen), BINS);
        let points = bins.iter();
        let points = points.map(|bin| (percent(bin.predicted), percent(bin.observed)));
        let series = Series {
            name: name.into(),
            points: points.collect(),
        };
        (series, bins)
    });
    page.section("Calibration");
    page.paragraph(&format!(
        "Probabilities and thresholds were fitted on {}; the curve is over this run's {} test images. Where these are the same \
         images, it shows how well the curve could be fitted, not how it will do on others.",
        calibration.on,
        shown.images()
    ));
    let rows = curves.iter().flat_map(|(series, bins)| {
        bins.iter().map(|bin| {
            vec![
                series.name.clone(),
                format!("{:.1}", percent(bin.predicted)),
                format!("{:.1}", percent(bin.observed)),
                bin.count.to_string(),
            ]
        })
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let title = "Reliability: how often labels of a probability are true";
    let mut series = vec![Series {
        name: "as predicted".into(),
        points: vec![(0.0, 0.0), (100.0, 100.0)],
    }];
    series.extend(curves.map(|(series, _)| series));
    series.retain(|series| series.points.len() > 1);
    let axes = ["predicted, percent", "true, percent"];
    page.figure(title, &charts::lines(title, axes, &series)?);
    let head = ["labels", "predicted, percent", "true, percent", "pairs"].map(String::from);
    let pairs = "The same as numbers, and how many pairs of an image and a label they rest on";
    page.details(pairs, &page::table(pairs, &head, &rows));
    page.details("Thresholds", &thresholds(calibration));
    Ok(())
}

/// The table of the thresholds above which labels are kept.
fn thresholds(calibration: &Calibration) -> String {
    let threshold = |threshold: Option<f64>| match threshold {
        Some(threshold) => format!("{:.1}", 100.0 * threshold),
        None => "never".into(),
    };
    let own = calibration.labels.iter().map(|own| {
        let count = own.positives.to_string();
        vec![own.label.clone(), count, threshold(own.threshold)]
    });
    let sides = [
        ("other seen labels", calibration.seen),
        ("other unseen labels, and any word", calibration.unseen),
    ];
    let sides = sides.map(|(name, side)| {
        let count = side.positives.to_string();
        vec![name.to_string(), count, threshold(side.threshold)]
    });
    let rows: Vec<Vec<String>> = sides.into_iter().chain(own).collect();
    let head = ["label", "positives", "kept from, percent"].map(String::from);
    page::table("Thresholds", &head, &rows)
}
