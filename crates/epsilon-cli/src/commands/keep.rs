//! Arguments that say which labels of a photograph are kept.

use anyhow::{bail, ensure};
use clap::Args;
use epsilon::model::{Keep, KeepError, Model};

/// The options that select labels.
#[derive(Default, Args)]
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
        Ok(
            match (Keep::chosen(model.card(), self.threshold, self.top), usual) {
                (Ok(keep), _) => keep,
                (Err(KeepError::NoThresholds), Some(usual)) => Keep::best(usual),
                (Err(KeepError::NoThresholds), None) => bail!(
                    "which labels to keep? The model has no thresholds: run `epsilon calibrate` on it, or give --top"
                ),
                (Err(KeepError::NoProbabilities), _) => bail!(
                    "--threshold needs probabilities, and the model is not calibrated: run `epsilon calibrate` on it, or give --top"
                ),
                (Err(KeepError::Probability(p)), _) => {
                    bail!("--threshold {p}: give a probability from 0 to 1")
                }
                (Err(error), _) => return Err(error.into()),
            },
        )
    }
}
