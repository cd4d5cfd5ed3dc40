//! Which labels of a photograph are kept: the most probable, those above a probability, or those above the thresholds that
//! calibration has stored in the model.

use anyhow::{bail, ensure};
use clap::Args;
use epsilon::model::{Model, Ranked};
use serde::{Deserialize, Serialize};

/// What the command line says about it.
#[derive(Args)]
pub struct KeepArgs {
    /// Keep the N best labels, whatever their probability; with --threshold, at most N.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Keep labels of at least this probability (0 to 1), in place of the model's own thresholds.
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
    /// Refuses what makes no sense for any model.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.top != Some(0), "--top 0: give at least 1");
        Ok(())
    }

    /// What is kept of a model's labels; `usual` labels where nothing is said and the model has no thresholds.
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

    /// Those labels of a photograph that are kept, in their order.
    pub fn keep(&self, ranked: Vec<Ranked>) -> Vec<Ranked> {
        let kept = ranked.into_iter().filter(|label| match self.by {
            By::Rank => true,
            By::Probability(least) => label.probability.is_some_and(|p| p >= least),
            By::Model => label.kept == Some(true),
        });
        kept.take(self.top.unwrap_or(usize::MAX)).collect()
    }
}
