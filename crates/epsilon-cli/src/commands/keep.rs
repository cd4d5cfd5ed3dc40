//! Selects the labels of a photograph: the best N, those above a probability, or those above the thresholds that calibration
//! stored in the model.

use anyhow::{bail, ensure};
use clap::Args;
use epsilon::model::{Model, Ranked};
use serde::{Deserialize, Serialize};

/// The options that select labels.
#[derive(Args)]
pub struct KeepArgs {
    /// Keep the N best labels regardless of probability; with --threshold, at most N.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Keep labels with at least this probability (0 to 1), instead of using the model's thresholds.
    #[arg(long, value_name = "P")]
    threshold: Option<f32>,
}

/// Which labels are kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Keep {
    /// At most so many.
    top: Option<usize>,
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum By {
    /// All, up to their number.
    Rank,
    /// Those of at least this probability.
    Probability(f32),
    /// Those above the model's thresholds.
    Model,
}

impl KeepArgs {
    /// Refuses options that are invalid for every model.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.top != Some(0), "--top 0: give at least 1");
        Ok(())
    }

    /// The selection for a model; the best `usual` labels if no option is given and the model has no thresholds.
    pub fn of(&self, model: &Model, usual: Option<usize>) -> anyhow::Result<Keep> {
        let calibrated = model.card.calibration.is_some();
        let by = match (self.threshold, self.top) {
            (Some(p), _) if !(0.0..=1.0).contains(&p) => {
                bail!("--threshold {p}: give a probability from 0 to 1")
            }
            (Some(_), _) if !calibrated => bail!(
                "--threshold needs probabilities, and the model is not calibrated: run `epsilon calibrate` on it, or give --top"
            ),
            (Some(p), _) => By::Probability(p),
            (None, Some(_)) => By::Rank,
            (None, None) if calibrated => By::Model,
            (None, None) => {
                let Some(usual) = usual else {
                    bail!(
                        "which labels to keep? The model has no thresholds: run `epsilon calibrate` on it, or give --top"
                    );
                };
                return Ok(Keep::best(usual));
            }
        };
        Ok(Keep { top: self.top, by })
    }
}

impl Keep {
    /// The best labels, so many.
    pub fn best(top: usize) -> Self {
        Self {
            top: Some(top),
            by: By::Rank,
        }
    }

    /// The labels of a photograph that are kept, in their order.
    pub fn keep(&self, ranked: Vec<Ranked>) -> Vec<Ranked> {
        let kept = ranked.into_iter().filter(|label| match self.by {
            By::Rank => true,
            By::Probability(least) => label.probability.is_some_and(|p| p >= least),
            By::Model => label.kept == Some(true),
        });
        kept.take(self.top.unwrap_or(usize::MAX)).collect()
    }
}
