//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// How the learning rate changes over the epochs, after the warm-up.
///
/// ```
/// use epsilon::training::{StepPosition, Schedule};
///
/// let schedule: Schedule = toml::from_str("kind = 'step'\nepochs = [4]\nfactor = 0.5")?;
/// let at = |step| StepPosition { step, steps_per_epoch: 10, epochs: 7, warm_up: 0.0, plateaus: 0 };
/// assert_eq!(schedule.factor(at(29)), 1.0);
/// assert_eq!(schedule.factor(at(30)), 0.5);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
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
    /// Multiplied by `factor` each time the loss of the training images has not fallen for `patience` epochs.
    Plateau {
        /// What it is multiplied by.
        factor: f64,
        /// Epochs to wait for a lower loss.
        patience: usize,
    },
    /// Rises along a cosine from `start` times the rate to the rate, then falls to `end` times the rate at the end of
    /// training: PyTorch's `OneCycleLR`, whose constants are the defaults.
    OneCycle {
        /// Share of the training over which the rate rises.
        #[serde(default = "one_cycle_rise")]
        rise: f64,
        /// First rate as a share of the highest.
        #[serde(default = "one_cycle_start")]
        start: f64,
        /// Last rate as a share of the highest.
        #[serde(default = "one_cycle_end")]
        end: f64,
    },
}

fn one_cycle_rise() -> f64 {
    0.3
}

fn one_cycle_start() -> f64 {
    1.0 / 25.0
}

fn one_cycle_end() -> f64 {
    1.0 / 25.0 / 1e4
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
pub struct StepPosition {
    /// Steps taken before this one.
    pub step: usize,
    /// Steps in an epoch.
    pub steps_per_epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// Epochs over which the rate rises linearly from 0.
    pub warm_up: f64,
    /// How often the loss has stood still so far ([`Schedule::Plateau`]).
    pub plateaus: usize,
}

impl Schedule {
    /// The factor on the recipe's learning rate for a step.
    pub fn factor(&self, at: StepPosition) -> f64 {
        let epoch = at.step as f64 / at.steps_per_epoch as f64;
        if epoch < at.warm_up {
            let steps = at.warm_up * at.steps_per_epoch as f64;
            // The last step of a warm-up that is no whole number of steps would lie above its end.
            return ((at.step + 1) as f64 / steps).min(1.0);
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
                cosine(1.0, *floor, share)
            }
            Schedule::Plateau { factor, .. } => factor.powi(at.plateaus as i32),
            Schedule::OneCycle { rise, start, end } => {
                let last = (at.epochs * at.steps_per_epoch) as f64 - 1.0;
                let (step, top) = (at.step as f64, rise * (last + 1.0) - 1.0);
                if step <= top {
                    // A rise of one step is at its top at once.
                    let share = if top > 0.0 { step / top } else { 1.0 };
                    cosine(*start, 1.0, share)
                } else {
                    cosine(1.0, *end, (step - top) / (last - top).max(1e-9))
                }
            }
        }
    }

    /// Whether the rate of a step depends on how many there will be: then a training cannot be made longer by going on.
    pub fn knows_its_end(&self) -> bool {
        match self {
            Schedule::Cosine { .. } | Schedule::OneCycle { .. } => true,
            Schedule::Constant | Schedule::Step { .. } | Schedule::Plateau { .. } => false,
        }
    }

    /// Names the first constant that is out of its range, and the range.
    pub(super) fn wrong(&self) -> Option<String> {
        let rules = match self {
            Schedule::Constant => vec![],
            Schedule::Step { factor, .. } => vec![(
                *factor > 0.0 && factor.is_finite(),
                "factor",
                *factor,
                "above 0 and finite",
            )],
            Schedule::Cosine { floor } => {
                vec![((0.0..=1.0).contains(floor), "floor", *floor, "from 0 to 1")]
            }
            Schedule::Plateau { factor, patience } => vec![
                (
                    *factor > 0.0 && *factor <= 1.0,
                    "factor",
                    *factor,
                    "above 0, at most 1",
                ),
                (
                    *patience >= 1,
                    "patience",
                    *patience as f64,
                    "of at least 1",
                ),
            ],
            Schedule::OneCycle { rise, start, end } => vec![
                (*rise > 0.0 && *rise < 1.0, "rise", *rise, "between 0 and 1"),
                (
                    *start > 0.0 && *start <= 1.0,
                    "start",
                    *start,
                    "above 0, at most 1",
                ),
                ((0.0..=1.0).contains(end), "end", *end, "from 0 to 1"),
            ],
        };
        let wrong = rules.into_iter().find(|(holds, ..)| !holds);
        wrong.map(|(_, name, value, range)| {
            format!("schedule.{name} = {value}: give a value {range}")
        })
    }
}

/// From `from` to `to` along half a cosine; `share` runs from 0 to 1.
fn cosine(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
}

/// Counts the times that a loss stands still.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Plateaus {
    lowest: Option<f64>,
    waited: usize,
    /// How often so far.
    pub count: usize,
}

impl Plateaus {
    /// Takes note of an epoch's loss.
    pub(super) fn note(&mut self, loss: f64, schedule: &Schedule) {
        let Schedule::Plateau { patience, .. } = schedule else {
            return;
        };
        if self.lowest.is_none_or(|lowest| loss < lowest) {
            self.lowest = Some(loss);
            self.waited = 0;
            return;
        }
        self.waited += 1;
        if self.waited >= *patience {
            self.count += 1;
            self.waited = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(schedule: &Schedule, step: usize, warm_up: f64) -> f64 {
        schedule.factor(StepPosition {
            step,
            steps_per_epoch: 10,
            epochs: 7,
            warm_up,
            plateaus: 2,
        })
    }

    /// The values of PyTorch's `OneCycleLR(max_lr=1, total_steps=70)`: .04 first, 1 at step 20, 4e-6 last.
    #[test]
    fn one_cycle_rises_and_falls() {
        let cycle: Schedule = toml::from_str("kind = \"one-cycle\"").unwrap();
        assert!((factor(&cycle, 0, 0.0) - 0.04).abs() < 1e-12);
        assert!((factor(&cycle, 10, 0.0) - 0.52).abs() < 1e-12);
        assert!((factor(&cycle, 20, 0.0) - 1.0).abs() < 1e-12);
        assert!((factor(&cycle, 69, 0.0) - 4e-6).abs() < 1e-12);
        let middle = factor(&cycle, 45, 0.0);
        assert!((0.4..0.5).contains(&middle), "{middle}");
    }

    #[test]
    fn the_rate_falls_when_the_loss_stands_still() {
        let schedule = Schedule::Plateau {
            factor: 0.8,
            patience: 2,
        };
        let mut plateaus = Plateaus::default();
        let counts = [3.0, 2.0, 2.5, 2.0, 1.9, 1.9, 1.9, 1.9, 1.9].map(|loss| {
            plateaus.note(loss, &schedule);
            plateaus.count
        });
        assert_eq!(counts, [0, 0, 0, 1, 1, 1, 2, 2, 3]);
        assert!((factor(&schedule, 0, 0.0) - 0.64).abs() < 1e-12);
    }

    #[test]
    fn a_constant_out_of_range_is_named() {
        let schedule = Schedule::Cosine { floor: 2.0 };
        assert!(schedule.wrong().unwrap().contains("schedule.floor = 2"));
        assert_eq!(Schedule::default().wrong(), None);
        for factor in [0.0, f64::INFINITY, f64::NAN] {
            let epochs = vec![4];
            let wrong = Schedule::Step { epochs, factor }.wrong().unwrap();
            assert!(wrong.contains("schedule.factor = "), "{wrong}");
        }
    }

    /// A rise over half a step, one step and two steps of four.
    #[test]
    fn one_cycle_of_few_steps_has_a_rate_at_each() {
        for (rise, first) in [(0.125, None), (0.25, Some(1.0)), (0.5, Some(0.04))] {
            let cycle = Schedule::OneCycle {
                rise,
                start: 0.04,
                end: 0.0,
            };
            let factors = [0, 1, 2, 3].map(|step| {
                cycle.factor(StepPosition {
                    step,
                    steps_per_epoch: 4,
                    epochs: 1,
                    warm_up: 0.0,
                    plateaus: 0,
                })
            });
            let within = factors.iter().all(|factor| (0.0..=1.0).contains(factor));
            assert!(within, "{rise}: {factors:?}");
            let close = |at: usize, to: f64| (factors[at] - to).abs() < 1e-12;
            assert!(first.is_none_or(|first| close(0, first)), "{factors:?}");
            assert!(close(3, 0.0), "{factors:?}");
        }
    }

    #[test]
    fn the_paper_halves_once_at_epoch_four() {
        let paper = Schedule::default();
        assert_eq!(factor(&paper, 29, 0.0), 1.0);
        assert_eq!(factor(&paper, 30, 0.0), 0.5);
        assert_eq!(factor(&paper, 69, 0.0), 0.5);
    }

    /// Warm-ups of 1.01, 1.5 and 2.5 steps: the rate is never above what it rises to.
    #[test]
    fn a_warm_up_of_no_whole_steps_ends_at_the_rate() {
        for (steps, expected) in [
            (1.01, [1.0 / 1.01, 1.0, 1.0]),
            (1.5, [1.0 / 1.5, 1.0, 1.0]),
            (2.5, [1.0 / 2.5, 2.0 / 2.5, 1.0]),
        ] {
            let factors = [0, 1, 2].map(|step| factor(&Schedule::Constant, step, steps / 10.0));
            for (factor, expected) in factors.iter().zip(expected) {
                assert!((factor - expected).abs() < 1e-12, "{steps}: {factors:?}");
                assert!(*factor <= 1.0, "{steps}: {factors:?}");
            }
        }
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
