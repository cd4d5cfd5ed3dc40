//! Arguments that say which labels of a photograph are kept.

use anyhow::{bail, ensure};
use clap::Args;
use epsilon::model::{Keep, Model};

/// The options that select labels.
#[derive(Args)]
pub(super) struct KeepArgs {
    /// Keep the N best labels regardless of probability; with --threshold, at most N.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Keep labels with at least this probability (0 to 1), instead of using the model's thresholds.
    #[arg(long, value_name = "P")]
    threshold: Option<f32>,
}

impl KeepArgs {
    /// Refuses options that are invalid for every model.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.top != Some(0), "--top 0: give at least 1");
        Ok(())
    }

    /// The selection for a model; the best `usual` labels if no option is given and the model has no thresholds.
    pub(super) fn of(&self, model: &Model, usual: Option<usize>) -> anyhow::Result<Keep> {
        let calibrated = model.card().has_probabilities();
        let keep = match (self.threshold, self.top) {
            (Some(p), _) if !(0.0..=1.0).contains(&p) => {
                bail!("--threshold {p}: give a probability from 0 to 1")
            }
            (Some(_), _) if !calibrated => bail!(
                "--threshold needs probabilities, and the model is not calibrated: run `epsilon calibrate` on it, or give --top"
            ),
            (Some(p), Some(top)) => Keep::probability(p).at_most(top),
            (Some(p), None) => Keep::probability(p),
            (None, Some(top)) => Keep::best(top),
            (None, None) if calibrated => Keep::thresholds(),
            (None, None) => match usual {
                Some(usual) => Keep::best(usual),
                None => bail!(
                    "which labels to keep? The model has no thresholds: run `epsilon calibrate` on it, or give --top"
                ),
            },
        };
        Ok(keep)
    }
}
