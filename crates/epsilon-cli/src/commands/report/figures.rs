//! Figures of the runs as tables, and their curves over epochs and over a sweep.

use epsilon::experiment::{Figures, LabelSet, Measure, Resamples};
use epsilon::training::EpochRecord;
use epsilon_metrics::Evaluation;

use super::charts::{self, Series};
use super::page::{self, Page};
use super::runs::Run;
use crate::commands::bench::marks::{self, Mark};

/// Adds the mean figures of all runs, and the details of each run's first seed.
pub(super) fn figures(page: &mut Page, runs: &[Run]) {
    page.section("Figures");
    let measured = &runs[0].seeds[0].figures;
    let any = measured.seen();
    page.paragraph(&format!(
        "Protocol {}: {}. {} test images. mAP in percent.",
        any.protocol,
        any.rules(),
        any.images_total
    ));
    let sets: Vec<LabelSet> = measured.parts().map(|(set, _)| set).collect();
    let mut head = vec!["run".to_string(), "seeds".into()];
    head.extend(sets.iter().map(|set| format!("{set} mAP")));
    let resamples: Vec<Vec<&Resamples>> = runs
        .iter()
        .map(|run| run.seeds.iter().map(|seed| &seed.resamples).collect())
        .collect();
    let marks: Vec<Vec<Mark>> = sets
        .iter()
        .map(|&set| marks::marks(&resamples, Measure::of(set)))
        .collect();
    let rows = runs.iter().enumerate().map(|(number, run)| {
        let mut row = vec![run.name.clone(), run.seeds.len().to_string()];
        row.extend(sets.iter().zip(&marks).map(|(&set, marks)| {
            let figure = match run.map(set) {
                Some((mean, deviation)) if run.seeds.len() > 1 => {
                    format!("{mean:.1} \u{b1} {deviation:.1}")
                }
                Some((mean, _)) => format!("{mean:.1}"),
                None => "-".into(),
            };
            marks[number].print(&figure, ["", " (best)"], " \u{2020}")
        }));
        row
    });
    page.table(
        "Mean over the seeds, and standard deviation",
        &head,
        &rows.collect::<Vec<_>>(),
    );
    if marks.iter().any(|marks| marks.contains(&Mark::Best)) {
        page.paragraph(&marks::LEGEND.replace("Bold: the best mAP.", "(best): the best mAP."));
    }
    for run in runs {
        let first = &run.seeds[0];
        let rows = first.figures.parts();
        let rows = rows.map(|(set, part)| one_part(set, part));
        let head = head_of(&first.figures);
        let caption = format!("{}, seed {}, at length", run.name, first.seed);
        page.details(
            &caption,
            &page::table(&caption, &head, &rows.collect::<Vec<_>>()),
        );
    }
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
    // The K of the label sets may differ, so columns are numbered.
    let most = figures.parts().map(|(_, part)| part.top_k.len()).max();
    for place in 1..=most.unwrap_or(0) {
        head.extend(["K", "P", "R", "F1"].map(|name| format!("{name} ({place})")));
    }
    head
}

fn one_part(set: LabelSet, part: &Evaluation) -> Vec<String> {
    let percent = |value: f64| format!("{:.1}", 100.0 * value);
    let interval = part.bootstrap.as_ref();
    let interval = interval.map(|b| format!("{} to {}", percent(b.low), percent(b.high)));
    let mut row = vec![
        set.to_string(),
        format!("{} of {}", part.images_kept, part.images_total),
        format!("{:.2}", part.positives_per_image),
        part.averaged(),
        percent(part.map),
        interval.unwrap_or_else(|| "-".into()),
    ];
    for top in &part.top_k {
        row.push(top.k.to_string());
        row.extend([top.precision, top.recall, top.f1].map(percent));
    }
    row
}

/// Adds the mAP over the setting in which the runs differ, if they are rows of a sweep over one number.
pub(super) fn sweep(page: &mut Page, runs: &[Run]) -> anyhow::Result<()> {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let Some((key, values)) = swept(&names) else {
        return Ok(());
    };
    let series = LabelSet::ALL.map(|set| {
        let points = runs.iter().zip(&values);
        let mut points: Vec<(f64, f64)> = points
            .filter_map(|(run, &value)| Some((value, run.map(set)?.0)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series {
            name: set.to_string(),
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

/// The only key in which the folder names of a sweep's rows differ, and its values; `None` if they differ in several keys, in
/// none, or in a value that is not a number.
fn swept(names: &[&str]) -> Option<(String, Vec<f64>)> {
    let settings = |name: &str| -> Option<Vec<(String, String)>> {
        // A dash separates settings, but also occurs within keys and before negative numbers.
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

/// Adds the curves of loss, validation mAP and learning rate over the epochs of every training.
pub(super) fn curves(page: &mut Page, runs: &[Run]) -> anyhow::Result<()> {
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
