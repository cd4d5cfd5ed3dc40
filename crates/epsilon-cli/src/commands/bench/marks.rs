//! Which rows of a table cannot be told apart from the best: the resamples of each training, kept beside its result, and the marks
//! made of them.

use std::io::ErrorKind;
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};

use anyhow::Context;
use epsilon::experiment::{Figures, LabelSet, Measure, Resamples, Scored, resampling};
use epsilon::recipe::EvaluationSettings;
use epsilon_data::files;
use epsilon_metrics::{Over, Protocol, Resampled, differences};

/// Resamples of each training: with 20 rows a p-value can still be below [`LEVEL`] after the correction.
pub(in crate::commands) const RESAMPLES: usize = 1000;
/// The level below which a corrected p-value tells two rows apart.
pub(in crate::commands) const LEVEL: f64 = 0.05;

/// What is said below a table that has marks.
pub(in crate::commands) const LEGEND: &str = "Bold: the best mAP. \u{2020}: cannot be told apart from it, by the paired bootstrap over test \
    images (1000 resamples of the mean over the seeds; two-sided; corrected for the number of rows after Holm; level 0.05). It \
    says nothing about other seeds.";

/// Resamples the scores of a training; none where the recipe wants no bootstrap.
pub(super) fn resample(
    scored: &Scored,
    protocol: &Protocol,
    settings: &EvaluationSettings,
) -> anyhow::Result<Resamples> {
    if settings.bootstrap == 0 {
        return Ok(Resamples::new());
    }
    let how = resampling(Over::Images, RESAMPLES);
    Ok(scored.resample(protocol, settings, &how, &mut || Continue(()))?)
}

/// Where the resamples of a training are kept, beside its `result.json`.
fn beside(result: &Path) -> PathBuf {
    result.with_file_name("resamples.json")
}

/// Keeps the resamples of a training whose result was written.
pub(super) fn write(resamples: &Resamples, result: &Path) -> anyhow::Result<()> {
    let path = beside(result);
    files::write(&path, &serde_json::to_vec(resamples)?).with_context(|| path.display().to_string())
}

/// Removes the resamples of a result that is about to be replaced: they must never be read as those of the next one.
pub(super) fn forget(result: &Path) -> anyhow::Result<()> {
    let path = beside(result);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}

/// The resamples beside a `result.json`; none where there is no such file, or one of another version.
pub(in crate::commands) fn read(result: &Path) -> anyhow::Result<Resamples> {
    let path = beside(result);
    match files::read(&path, files::LIST) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Resamples::new()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// The resamples of one seed's trainings over all label folds: of a fold's mAP over unseen labels, as many times as it has such
/// labels. None where a fold has none.
pub(super) fn over_folds(folds: &[(&Resamples, &Figures)]) -> Resamples {
    let over = |measure| {
        let folds: Option<Vec<(&Resampled, f64)>> = folds
            .iter()
            .map(|(resamples, figures)| {
                let labels = figures
                    .part(LabelSet::Unseen)
                    .map_or(0, |part| part.labels_averaged);
                let weight = if measure == Measure::Zsl {
                    labels as f64
                } else {
                    1.0
                };
                Some((resamples.get(&measure)?, weight))
            })
            .collect();
        Some((measure, Resampled::over_folds(&folds?).ok()?))
    };
    Measure::ALL.into_iter().filter_map(over).collect()
}

/// How a row stands to the best one of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum Mark {
    /// It is the best.
    Best,
    /// It cannot be told apart from the best.
    Same,
    /// It can.
    Apart,
    /// It has no resamples, or nothing to be compared with.
    Unknown,
}

impl Mark {
    /// A figure with its mark, where `bold` encloses the best one.
    pub(in crate::commands) fn print(
        self,
        figure: &str,
        [open, close]: [&str; 2],
        same: &str,
    ) -> String {
        match self {
            Self::Best => format!("{open}{figure}{close}"),
            Self::Same => format!("{figure}{same}"),
            Self::Apart | Self::Unknown => figure.into(),
        }
    }

    /// `best`, `same` or `apart`; empty where it is not known.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Same => "same",
            Self::Apart => "apart",
            Self::Unknown => "",
        }
    }
}

/// Marks the rows of a measure, each given by the resamples of its seeds. A row whose resamples are missing, or are over other
/// images than those of the first row, is unknown.
pub(in crate::commands) fn marks(rows: &[Vec<&Resamples>], measure: Measure) -> Vec<Mark> {
    let mean = |seeds: &Vec<&Resamples>| {
        let seeds: Option<Vec<&Resampled>> = seeds.iter().map(|seed| seed.get(&measure)).collect();
        Resampled::mean(&seeds?).ok()
    };
    let means: Vec<Option<Resampled>> = rows.iter().map(mean).collect();
    let mut marks = vec![Mark::Unknown; rows.len()];
    let Some(truth) = means.iter().flatten().map(|mean| mean.truth).next() else {
        return marks;
    };
    let present = means.iter().enumerate();
    let present = present.filter_map(|(place, mean)| Some((place, mean.as_ref()?)));
    let (places, means): (Vec<usize>, Vec<&Resampled>) =
        present.filter(|(_, mean)| mean.truth == truth).unzip();
    let best = best(&means);
    let Ok(found) = differences(&means, best) else {
        return marks;
    };
    if means.len() > 1 {
        for (row, (place, difference)) in places.into_iter().zip(found).enumerate() {
            marks[place] = match difference.is_significant(LEVEL) {
                _ if row == best => Mark::Best,
                true => Mark::Apart,
                false => Mark::Same,
            };
        }
    }
    marks
}

/// The first of the rows with the highest mAP.
pub(in crate::commands) fn best(rows: &[&Resampled]) -> usize {
    let places = (0..rows.len()).rev();
    places
        .max_by(|&a, &b| rows[a].map.total_cmp(&rows[b].map))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use epsilon::experiment::resamples;
    use epsilon_metrics::{InMemory, Labels, Scores};

    /// A label of every third image, with scores that know it as well as `skill` says.
    fn row(skill: f32, images: usize) -> Resamples {
        let label = |image: usize| if image.is_multiple_of(3) { 1_i8 } else { -1 };
        let labels: Vec<i8> = (0..images).map(label).collect();
        let score = |image: usize| f32::from(label(image)) * skill + (image * 7 % 11) as f32;
        let scores: Vec<f32> = (0..images).map(score).collect();
        let table = InMemory::new(
            Scores::new(&scores, images, 1).unwrap(),
            Labels::new(&labels, images, 1).unwrap(),
        );
        let (protocol, settings) = (Protocol::lesa_nus(), EvaluationSettings::default());
        let how = resampling(Over::Images, 200);
        resamples(&table.unwrap(), 1, &protocol, &settings, &how).unwrap()
    }

    #[test]
    fn rows_are_marked_by_the_best_of_those_over_the_same_images() {
        use Mark::{Apart, Best, Same, Unknown};
        let (good, bad, other) = (row(9.0, 90), row(0.0, 90), row(9.0, 60));
        let none = Resamples::new();
        let rows = [
            vec![&bad],
            vec![&good, &good],
            vec![&good],
            vec![&none],
            vec![&other],
            vec![],
        ];
        let expected = [Apart, Best, Same, Unknown, Unknown, Unknown];
        assert_eq!(marks(&rows, Measure::Seen), expected);
        assert_eq!(marks(&rows, Measure::Zsl), [Unknown; 6]);
        assert_eq!(marks(&rows[..1], Measure::Seen), [Unknown]);
        let print = |mark: Mark| mark.print("1.0", ["**", "**"], " \u{2020}");
        assert_eq!(
            [Best, Same, Apart].map(print),
            ["**1.0**", "1.0 \u{2020}", "1.0"]
        );
    }
}
