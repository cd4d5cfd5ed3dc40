//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// How the learning rate changes over the epochs, after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Stays as it is.
    Constant,
    /// Multiplied by `factor` when each of these epochs (counted from 1) begins.
    Step {
        /// Epochs at whose beginning the rate changes.
        epochs: Vec<usize>,
        /// What it is multiplied by.
        factor: f64,
    },
    /// Falls along a cosine to `floor` times the first rate at the end of training.
    Cosine {
        /// Last rate as a share of the first.
        floor: f64,
    },
}

impl Default for Schedule {
    /// The paper's: halved once, at epoch 4.
    fn default() -> Self {
        Schedule::Step {
            epochs: vec![4],
            factor: 0.5,
        }
    }
}

/// Where a step stands in the training.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps taken before this one.
    pub step: usize,
    /// Steps in an epoch.
    pub steps_per_epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// Epochs over which the rate rises linearly from 0.
    pub warm_up: f64,
}

impl Schedule {
    /// The factor on the recipe's learning rate for a step.
    pub fn factor(&self, at: Progress) -> f64 {
        let epoch = at.step as f64 / at.steps_per_epoch as f64;
        if epoch < at.warm_up {
            return (at.step + 1) as f64 / (at.warm_up * at.steps_per_epoch as f64).max(1.0);
        }
        match self {
            Schedule::Constant => 1.0,
            Schedule::Step { epochs, factor } => {
                let passed = epochs
                    .iter()
                    .filter(|&&e| e <= at.step / at.steps_per_epoch + 1)
                    .count();
                factor.powi(passed as i32)
            }
            Schedule::Cosine { floor } => {
                let share = (epoch - at.warm_up) / (at.epochs as f64 - at.warm_up).max(1e-9);
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(schedule: &Schedule, step: usize, warm_up: f64) -> f64 {
        schedule.factor(Progress {
            step,
            steps_per_epoch: 10,
            epochs: 7,
            warm_up,
        })
    }

    #[test]
    fn the_paper_halves_once_at_epoch_four() {
        let paper = Schedule::default();
        assert_eq!(factor(&paper, 29, 0.0), 1.0);
        assert_eq!(factor(&paper, 30, 0.0), 0.5);
        assert_eq!(factor(&paper, 69, 0.0), 0.5);
    }

    #[test]
    fn warm_up_rises_then_the_cosine_falls_to_its_floor() {
        let cosine = Schedule::Cosine { floor: 0.1 };
        assert!((factor(&cosine, 0, 1.0) - 0.1).abs() < 1e-12);
        assert!((factor(&cosine, 9, 1.0) - 1.0).abs() < 1e-12);
        assert!((factor(&cosine, 10, 1.0) - 1.0).abs() < 1e-12);
        assert!((factor(&cosine, 40, 1.0) - 0.55).abs() < 1e-12);
        assert!((factor(&cosine, 70, 1.0) - 0.1).abs() < 1e-12);
    }
}
