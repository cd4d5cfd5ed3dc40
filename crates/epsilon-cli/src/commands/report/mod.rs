//! `epsilon report`: what came of one run or several, as one HTML file.

mod charts;
mod gallery;
mod page;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use epsilon::calibration::Calibration;
use epsilon::experiment::{self, Figures, Layout, Prepared, Standardised};
use epsilon::model::Model;
use epsilon::recipe::Recipe;
use epsilon::tokens::TokenStore;
use epsilon::training::EpochRecord;
use epsilon_metrics::{Evaluation, precision_recall, reliability};

use super::train::mean_and_deviation;
use crate::{Outcome, console};
use charts::Series;
use page::Page;

/// Labels of the lists of best and of worst ones.
const LISTED: usize = 15;
/// Bins of a reliability curve.
const BINS: usize = 10;
/// Points of a precision-recall curve.
const POINTS: usize = 200;

/// Write one HTML file, which needs no network, about trainings: figures, curves, labels, photographs.
///
/// A run is the folder that `epsilon train` made, or that of a row of `epsilon bench` or `epsilon sweep`. Curves of labels and the
/// photographs are those of the first run's first seed.
#[derive(clap::Args)]
pub struct Args {
    /// The runs; the first is shown at length.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The file [default: report.html in the first run's folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Test photographs to show, 0 for none.
    #[arg(long, default_value_t = 24, value_name = "N")]
    photos: usize,
    /// The token store [default: the `tokens` folder of the run, or of a folder around it].
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
}

/// A run's trainings.
struct Run {
    name: String,
    folder: PathBuf,
    seeds: Vec<Seed>,
}

struct Seed {
    seed: u64,
    figures: Figures,
    epochs: Vec<EpochRecord>,
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let runs: Vec<Run> = args
        .runs
        .iter()
        .map(|path| Run::read(path))
        .collect::<Result<_, _>>()?;
    let first = &runs[0];
    let device = epsilon::device::device("cpu")?;
    let path = Layout(&first.folder).model(first.seeds[0].seed);
    let model = Model::load(&path, &device)?;
    let recipe = super::recipe_of(&model, &path)?;
    let store = store(args.store.as_deref(), &recipe, &first.folder)?;
    let prepared = experiment::prepare(&recipe)?;

    let mut page = Page::new(&format!("Epsilon: {}", first.name));
    figures(&mut page, &runs);
    sweep(&mut page, &runs)?;
    curves(&mut page, &runs)?;
    labels(&mut page, first, &prepared);
    let bar = console::bar(0, "measure");
    let scored = experiment::score(&model, &prepared, &store, &device, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    precision_recall_curves(&mut page, &scored)?;
    if let Some(calibration) = model.card().calibration() {
        let shown = experiment::standardised(&model, &prepared, &store, &device, &mut |_, _| {})?;
        reliability_curves(&mut page, calibration, &shown)?;
    }
    let mut failed = 0;
    if args.photos > 0 {
        let (html, broken) = gallery::gallery(&model, &prepared, &store, args.photos)?;
        failed = broken;
        page.section("Photographs");
        page.paragraph(
            "The first test photographs with their ten best labels: a check mark where the label is true, dots under labels \
             that nobody trained on. Beside each, where the model looked for its best label, if it looks at places.",
        );
        page.html(&html);
    }
    data(&mut page, &prepared, &recipe)?;
    let out = args.out.unwrap_or_else(|| first.folder.join("report.html"));
    std::fs::write(&out, page.finish()).with_context(|| out.display().to_string())?;
    console::print(out.display())?;
    Ok(if failed > 0 {
        Outcome::SomeFailed
    } else {
        Outcome::Done
    })
}

impl Run {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let seeds = names.filter_map(|name| name.strip_prefix("seed-")?.parse().ok());
        let mut seeds: Vec<u64> = seeds.collect();
        seeds.sort_unstable();
        let seeds = seeds.into_iter().map(|seed| Seed::read(folder, seed));
        let seeds: Vec<Seed> = seeds
            .collect::<anyhow::Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        if seeds.is_empty() {
            bail!(
                "{}: holds no finished training (seed-N with figures.json or result.json); give the folder of a run",
                folder.display()
            );
        }
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            folder: folder.into(),
            seeds,
        })
    }

    /// Mean and standard deviation over the seeds, in percent, of the mAP of a part.
    fn map(&self, part: &str) -> Option<(f64, f64)> {
        let maps = self.seeds.iter().map(|seed| {
            let part = parts(&seed.figures)
                .into_iter()
                .find(|(name, _)| *name == part);
            part.map(|(_, evaluation)| 100.0 * evaluation.map)
        });
        Some(mean_and_deviation(&maps.collect::<Option<Vec<f64>>>()?))
    }
}

impl Seed {
    /// `None` for a training that is not finished.
    fn read(folder: &Path, seed: u64) -> anyhow::Result<Option<Self>> {
        let folder = Layout(folder).seed(seed);
        let read = |name: &str| -> anyhow::Result<Option<serde_json::Value>> {
            let path = folder.join(name);
            if !path.exists() {
                return Ok(None);
            }
            let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
            let value =
                serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
            Ok(Some(value))
        };
        let figures = match read("figures.json")? {
            Some(figures) => figures,
            None => match read("result.json")? {
                Some(result) => result["figures"].clone(),
                None => return Ok(None),
            },
        };
        let path = folder.join("metrics.jsonl");
        let lines = std::fs::read_to_string(&path).unwrap_or_default();
        let epochs = lines.lines().map(serde_json::from_str);
        Ok(Some(Self {
            seed,
            figures: serde_json::from_value(figures)
                .with_context(|| format!("{}: its figures", folder.display()))?,
            epochs: epochs
                .collect::<Result<_, _>>()
                .with_context(|| path.display().to_string())?,
        }))
    }
}

/// The parts that were measured, with their names.
fn parts(figures: &Figures) -> Vec<(&'static str, &Evaluation)> {
    let parts = [
        ("ZSL", figures.zsl()),
        ("seen", Some(figures.seen())),
        ("GZSL", figures.gzsl()),
    ];
    let measured = parts.into_iter();
    measured
        .filter_map(|(name, part)| Some((name, part?)))
        .collect()
}

fn store(asked: Option<&Path>, recipe: &Recipe, run: &Path) -> anyhow::Result<TokenStore> {
    if let Some(dir) = asked.or(recipe.features.store.as_deref()) {
        return Ok(TokenStore::open(dir)?);
    }
    let run = std::path::absolute(run)?;
    let around = run
        .ancestors()
        .take(4)
        .map(|folder| Layout(folder).tokens());
    let found = around.into_iter().find(|dir| dir.is_dir());
    let found = found.context("no token store beside the run: give it with --store")?;
    Ok(TokenStore::open(&found)?)
}

fn figures(page: &mut Page, runs: &[Run]) {
    page.section("Figures");
    let measured = parts(&runs[0].seeds[0].figures);
    let (_, any) = measured[0];
    page.paragraph(&format!(
        "Protocol {}: {}. {} test images. mAP in percent.",
        any.protocol, any.settings, any.images_total
    ));
    let names: Vec<&str> = measured.iter().map(|(name, _)| *name).collect();
    let mut head = vec!["run".to_string(), "seeds".into()];
    head.extend(names.iter().map(|name| format!("{name} mAP")));
    let rows = runs.iter().map(|run| {
        let mut row = vec![run.name.clone(), run.seeds.len().to_string()];
        row.extend(names.iter().map(|part| match run.map(part) {
            Some((mean, deviation)) if run.seeds.len() > 1 => {
                format!("{mean:.1} \u{b1} {deviation:.1}")
            }
            Some((mean, _)) => format!("{mean:.1}"),
            None => "-".into(),
        }));
        row
    });
    page.table(
        "Mean over the seeds, and standard deviation",
        &head,
        &rows.collect::<Vec<_>>(),
    );
    for run in runs {
        let first = &run.seeds[0];
        let rows = parts(&first.figures)
            .into_iter()
            .map(|(name, part)| one_part(name, part));
        let head = head_of(&first.figures);
        let caption = format!("{}, seed {}, at length", run.name, first.seed);
        page.details(
            &caption,
            &page::table(&caption, &head, &rows.collect::<Vec<_>>()),
        );
    }
}

/// Where the runs are rows of a sweep that differ in one number, the mAP over it.
fn sweep(page: &mut Page, runs: &[Run]) -> anyhow::Result<()> {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let Some((key, values)) = swept(&names) else {
        return Ok(());
    };
    let series = ["ZSL", "seen", "GZSL"].map(|part| {
        let points = runs.iter().zip(&values);
        let mut points: Vec<(f64, f64)> = points
            .filter_map(|(run, &value)| Some((value, run.map(part)?.0)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series {
            name: part.into(),
            points,
        }
    });
    let series: Vec<Series> = series
        .into_iter()
        .filter(|s| !s.points.is_empty())
        .collect();
    page.section(&format!("Sweep of {key}"));
    let title = format!("mAP over {key}, mean over the seeds");
    page.figure(
        &title,
        &charts::lines(&title, [&key, "mAP, percent"], &series)?,
    );
    Ok(())
}

/// The one key in which the folders of a sweep's rows differ, and its values; `None` where they differ in more, in none or
/// in something that is no number.
fn swept(names: &[&str]) -> Option<(String, Vec<f64>)> {
    let settings = |name: &str| -> Option<Vec<(String, String)>> {
        // A dash parts two settings, but may stand in a key or before a number too.
        let mut settings: Vec<(String, String)> = Vec::new();
        let mut key = String::new();
        for part in name.split('-') {
            match part.split_once('=') {
                Some((last, value)) => {
                    key.push_str(last);
                    settings.push((std::mem::take(&mut key), value.into()));
                }
                None => {
                    key.push_str(part);
                    key.push('-');
                }
            }
        }
        (!settings.is_empty() && key.is_empty()).then_some(settings)
    };
    let all: Vec<Vec<(String, String)>> = names
        .iter()
        .map(|name| settings(name))
        .collect::<Option<_>>()?;
    let first = all.first()?;
    let same_keys =
        |one: &Vec<(String, String)>| one.iter().map(|s| &s.0).eq(first.iter().map(|s| &s.0));
    if all.len() < 2 || !all.iter().all(same_keys) {
        return None;
    }
    let differs = |place: &usize| all.iter().any(|one| one[*place].1 != first[*place].1);
    let differing: Vec<usize> = (0..first.len()).filter(differs).collect();
    let &[place] = &differing[..] else {
        return None;
    };
    let values = all.iter().map(|one| one[place].1.parse().ok());
    Some((
        first[place].0.clone(),
        values.collect::<Option<Vec<f64>>>()?,
    ))
}

fn head_of(figures: &Figures) -> Vec<String> {
    let names = [
        "labels",
        "images kept",
        "positives an image",
        "labels averaged",
        "mAP",
        "95 % interval",
    ];
    let mut head: Vec<String> = names.map(String::from).to_vec();
    // The K of the parts may differ, so they are told by their order.
    let most = parts(figures)
        .iter()
        .map(|(_, part)| part.top_k.len())
        .max();
    for place in 1..=most.unwrap_or(0) {
        head.extend(["K", "P", "R", "F1"].map(|name| format!("{name} ({place})")));
    }
    head
}

fn one_part(name: &str, part: &Evaluation) -> Vec<String> {
    let percent = |value: f64| format!("{:.1}", 100.0 * value);
    let interval = part.bootstrap.as_ref();
    let interval = interval.map(|b| format!("{} to {}", percent(b.low), percent(b.high)));
    let mut row = vec![
        name.to_string(),
        format!("{} of {}", part.images_kept, part.images_total),
        format!("{:.2}", part.positives_per_image),
        format!("{} of {}", part.labels_averaged, part.per_label.len()),
        percent(part.map),
        interval.unwrap_or_else(|| "-".into()),
    ];
    for top in &part.top_k {
        row.push(top.k.to_string());
        row.extend([top.precision, top.recall, top.f1].map(percent));
    }
    row
}

fn curves(page: &mut Page, runs: &[Run]) -> anyhow::Result<()> {
    let series = |of: fn(&EpochRecord) -> Option<f64>| -> Vec<Series> {
        let all = runs
            .iter()
            .flat_map(|run| run.seeds.iter().map(move |seed| (run, seed)));
        let all = all.map(|(run, seed)| {
            let points = seed.epochs.iter();
            Series {
                name: format!("{}, seed {}", run.name, seed.seed),
                points: points
                    .filter_map(|e| Some((e.epoch as f64, of(e)?)))
                    .collect(),
            }
        });
        all.filter(|series| series.points.len() > 1).collect()
    };
    let charts = [
        ("Training loss", "loss", series(|e| Some(e.loss))),
        (
            "mAP of the seen labels on the validation images",
            "mAP, percent",
            series(|e| e.validation_map.map(|map| 100.0 * map)),
        ),
        (
            "Learning rate",
            "learning rate",
            series(|e| Some(e.learning_rate)),
        ),
    ];
    let charts: Vec<_> = charts
        .into_iter()
        .filter(|(_, _, series)| !series.is_empty())
        .collect();
    if charts.is_empty() {
        return Ok(());
    }
    page.section("Training");
    page.html("<div class=\"charts\">");
    for (title, axis, series) in charts {
        page.figure(title, &charts::lines(title, ["epoch", axis], &series)?);
    }
    page.html("</div>");
    Ok(())
}

fn labels(page: &mut Page, run: &Run, prepared: &Prepared) {
    page.section("Best and worst labels");
    let dataset = &prepared.dataset;
    let figures = &run.seeds[0].figures;
    let all = figures.gzsl().unwrap_or(figures.seen());
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

fn precision_recall_curves(page: &mut Page, scored: &experiment::Scored) -> anyhow::Result<()> {
    let count = scored.labels.len();
    let of = |from: usize, to: usize| -> Vec<(f64, f64)> {
        let choose = |row: usize| row * count + from..row * count + to;
        let rows = 0..scored.images.len();
        let scores: Vec<f32> = rows
            .clone()
            .flat_map(|r| scored.scores[choose(r)].to_vec())
            .collect();
        let labels: Vec<i8> = rows
            .flat_map(|r| scored.targets()[choose(r)].to_vec())
            .collect();
        let curve = precision_recall(&scores, &labels, POINTS).into_iter();
        curve
            .map(|(recall, precision)| (100.0 * recall, 100.0 * precision))
            .collect()
    };
    let mut series = vec![Series {
        name: "seen labels".into(),
        points: of(0, scored.seen),
    }];
    if scored.seen < count {
        series.push(Series {
            name: "unseen labels".into(),
            points: of(scored.seen, count),
        });
        series.push(Series {
            name: "all labels".into(),
            points: of(0, count),
        });
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

/// Whether what the model calls probable comes true as often.
fn reliability_curves(
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

/// From which probability on labels are kept.
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

fn data(page: &mut Page, prepared: &Prepared, recipe: &Recipe) -> anyhow::Result<()> {
    page.section("Data and recipe");
    let counts = page::escape(&prepared.summary.to_string());
    page.html(&format!("<pre tabindex=\"0\">{counts}</pre>"));
    let text = page::escape(&toml::to_string(recipe)?);
    page.details(
        "The recipe, every default written out",
        &format!("<pre tabindex=\"0\">{text}</pre>"),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sweep_went_over() {
        let (key, values) = swept(&["groups=2-lambda=0.1", "groups=8-lambda=0.1"]).unwrap();
        assert_eq!((key.as_str(), values), ("groups", vec![2.0, 8.0]));
        let (key, values) = swept(&[
            "groups=2-learning-rate=0.001",
            "groups=2-learning-rate=0.01",
        ])
        .unwrap();
        assert_eq!((key.as_str(), values), ("learning-rate", vec![0.001, 0.01]));
        for none in [
            &["groups=2"][..],
            &["groups=2-lambda=0.1", "groups=4-lambda=0.3"],
            &["modules=gpa", "modules=gfp"],
            &["sdl", "epsilon"],
            &["groups=2", "lambda=0.1"],
        ] {
            assert!(swept(none).is_none(), "{none:?}");
        }
    }
}
