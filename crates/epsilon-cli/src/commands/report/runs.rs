//! Reads the results of finished trainings from their folders.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use epsilon::experiment::{Figures, LabelSet, Layout, Resamples};
use epsilon::training::EpochRecord;
use epsilon_data::files;

use crate::commands::bench::{Chosen, marks};
use crate::commands::mean_and_deviation;

/// A run: a recipe's trainings, one per seed.
pub(super) struct Run {
    pub name: String,
    pub folder: PathBuf,
    pub seeds: Vec<Seed>,
}

/// A finished training.
pub(super) struct Seed {
    pub seed: u64,
    pub figures: Figures,
    pub epochs: Vec<EpochRecord>,
    /// Of rows of `epsilon bench`; empty for others.
    pub resamples: Resamples,
}

impl Run {
    /// Reads the finished trainings in a run's folder, or those of the setting that was chosen there.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let named = folder.file_name().unwrap_or(folder.as_os_str());
        let named = named.to_string_lossy();
        match Chosen::read(folder)? {
            Some(chosen) => {
                let name = format!("{named}, {}", chosen.setting);
                Self::of(name, &folder.join(chosen.folder()))
            }
            None => Self::of(named.into_owned(), folder),
        }
    }

    fn of(name: String, folder: &Path) -> anyhow::Result<Self> {
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
                "{}: holds no finished training (seed-N with figures.json or result.json); give the folder of a run, or of one \
                 setting of a row that was tuned",
                folder.display()
            );
        }
        Ok(Self {
            name,
            folder: folder.into(),
            seeds,
        })
    }

    /// Mean and standard deviation over the seeds, in percent, of the mAP of a label set.
    pub(super) fn map(&self, set: LabelSet) -> Option<(f64, f64)> {
        let parts = self.seeds.iter().map(|seed| seed.figures.part(set));
        let maps = parts.map(|part| Some(100.0 * part?.map));
        Some(mean_and_deviation(&maps.collect::<Option<Vec<f64>>>()?))
    }
}

impl Seed {
    /// Reads the training of a seed; `None` if it is not finished.
    fn read(folder: &Path, seed: u64) -> anyhow::Result<Option<Self>> {
        let folder = Layout(folder).seed(seed);
        let read = |name: &str| -> anyhow::Result<Option<serde_json::Value>> {
            let path = folder.join(name);
            if !path.exists() {
                return Ok(None);
            }
            let text =
                files::read(&path, files::LIST).with_context(|| path.display().to_string())?;
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
        let lines = files::read_text(&path, files::LIST).unwrap_or_default();
        let epochs = lines.lines().map(serde_json::from_str);
        Ok(Some(Self {
            seed,
            figures: serde_json::from_value(figures)
                .with_context(|| format!("{}: its figures", folder.display()))?,
            epochs: epochs
                .collect::<Result<_, _>>()
                .with_context(|| path.display().to_string())?,
            resamples: marks::read(&path)?,
        }))
    }
}
