//! Checkpoints: one safetensors file with the weights, the optimiser's state and where the training stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::schedule::{Plateaus, Schedule};
use crate::device;
use crate::optimiser::Learner;
use crate::parameters::{Spec, Weights};

const STATE: &str = "epsilon.checkpoint";

/// The loss summed over images, of a step or of many.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Images.
    pub images: usize,
    /// The ranking part.
    pub ranking: f64,
    /// The regularisation part.
    pub regularisation: f64,
}

impl Sums {
    /// Mean loss of an image.
    pub fn mean(&self) -> f64 {
        (self.ranking + self.regularisation) / self.images as f64
    }
}

/// Where a training stands. What it was started with is kept beside it, so that no other training resumes from it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Position {
    /// Epochs finished.
    pub epoch: usize,
    /// Steps finished in the next epoch; all of them where it was stopped before its end was told.
    pub step: usize,
    /// The steps of the first learner's optimiser.
    pub optimiser_steps: u64,
    /// Those of the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_optimiser_steps: Vec<u64>,
    /// Sums over the steps of the unfinished epoch.
    pub sums: Sums,
    /// The learning rate of its last step.
    #[serde(default)]
    pub learning_rate: f64,
    /// How often the loss stood still.
    pub plateaus: Plateaus,
    /// The epoch, from 1, with the best figure on the validation images, and that figure; only for early stopping.
    pub best: Option<(usize, f64)>,
    /// What the training was started with.
    pub identity: serde_json::Value,
}

impl Position {
    /// Steps finished in all, of epochs with so many each.
    pub(super) fn done(&self, epochs: &[usize]) -> usize {
        let whole = epochs.iter().take(self.epoch).sum::<usize>();
        whole + self.step
    }
}

/// All that a training changes as it goes.
pub(super) struct TrainingState {
    /// At least one; the first is the model of a training by gradient descent.
    pub learners: Vec<Learner>,
    pub position: Position,
    /// The weights of [`Position::best`].
    pub best: Option<Weights>,
    /// The running average of the weights, where one is kept.
    pub average: Option<Weights>,
}

impl TrainingState {
    /// What would be the model now: the average of the weights, or they themselves.
    pub(super) fn current(&self) -> &Weights {
        self.average.as_ref().unwrap_or(&self.learners[0].weights)
    }

    /// Writes the checkpoint, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), TrainingError> {
        let named = |prefix: &str, weights: &Weights| -> Vec<_> {
            let all = weights.to_host().into_iter();
            all.map(|(spec, values)| (format!("{prefix}.{}", spec.name), spec.shape, values))
                .collect()
        };
        let mut tensors = Vec::new();
        for learner in &self.learners {
            tensors.extend(named(&prefix("weight", learner), &learner.weights));
            for ((spec, _), slots) in learner.weights.trained().zip(&learner.optimiser.slots) {
                for (slot, values) in slots.iter().enumerate() {
                    let slot = prefix(&format!("slot{slot}"), learner);
                    let name = format!("{slot}.{}", spec.name);
                    tensors.push((name, spec.shape.clone(), device::host(values)));
                }
            }
        }
        if let Some(best) = &self.best {
            tensors.extend(named("best", best));
        }
        if let Some(average) = &self.average {
            tensors.extend(named("average", average));
        }
        let state = serde_json::to_string(&self.position).map_err(|e| failed(path, e))?;
        let metadata = [(STATE.to_string(), state)].into();
        epsilon_data::formats::safetensors::write_tensors(path, &tensors, metadata)
            .map_err(|e| failed(path, e))
    }

    /// Goes on from the checkpoint in these bytes, that of a training with the same identity, but for its number of epochs, which may
    /// be another where the schedule does not depend on it.
    pub(super) fn resume(
        &mut self,
        path: &Path,
        bytes: &[u8],
        schedule: &Schedule,
        place: &Device,
    ) -> Result<Before, TrainingError> {
        let state = epsilon_data::formats::safetensors::metadata(bytes, STATE)
            .map_err(|e| failed(path, e))?;
        let position: Position = serde_json::from_str(&state).map_err(|e| failed(path, e))?;
        let before = compare(path, &position.identity, &self.position.identity, schedule)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| failed(path, e))?;
        let read = |prefix: &str, specs: Vec<Spec>| -> Result<Weights, TrainingError> {
            let values = specs.iter().map(|spec| {
                let values = epsilon_data::formats::safetensors::f32_values(
                    &tensors,
                    &format!("{prefix}.{}", spec.name),
                )?;
                Ok((spec.name.clone(), values))
            });
            let values: Result<BTreeMap<_, _>, String> = values.collect();
            let values = values.map_err(|e| failed(path, e))?;
            Weights::from_values(specs, values, place).map_err(|e| failed(path, e))
        };
        let steps =
            std::iter::once(&position.optimiser_steps).chain(&position.more_optimiser_steps);
        for (learner, &steps) in self.learners.iter_mut().zip(steps) {
            let trained = learner.weights.trained().map(|(spec, _)| spec.clone());
            let trained: Vec<Spec> = trained.collect();
            let slots = learner.optimiser.slots.first().map_or(0, Vec::len);
            let mut kept: Vec<Vec<Tensor<1>>> = vec![Vec::new(); trained.len()];
            for slot in 0..slots {
                let values = read(&prefix(&format!("slot{slot}"), learner), trained.clone())?;
                for (slots, value) in kept.iter_mut().zip(values.values()) {
                    slots.push(value.clone());
                }
            }
            let specs = learner.weights.specs().to_vec();
            learner.weights = read(&prefix("weight", learner), specs)?;
            learner.optimiser.slots = kept;
            learner.optimiser.steps = steps;
        }
        let specs = self.learners[0].weights.specs().to_vec();
        self.best = match position.best {
            Some(_) => Some(read("best", specs.clone())?),
            None => None,
        };
        if self.average.is_some() {
            self.average = Some(read("average", specs)?);
        }
        self.position = Position {
            identity: std::mem::take(&mut self.position.identity),
            ..position
        };
        Ok(before)
    }
}

/// What the training of a checkpoint was to be.
pub(super) struct Before {
    /// Its epochs, where they are others now.
    pub other: Option<u64>,
}

/// Whether a training may go on from the checkpoint of one with the identity `kept`.
fn compare(
    path: &Path,
    kept: &serde_json::Value,
    now: &serde_json::Value,
    schedule: &Schedule,
) -> Result<Before, TrainingError> {
    let (mut kept, mut now) = (kept.clone(), now.clone());
    let (before, after) = (take_epochs(&mut kept), take_epochs(&mut now));
    let threads = [take_threads(&mut kept), take_threads(&mut now)];
    if let Some(difference) = difference(&kept, &now) {
        return Err(TrainingError::OtherRun {
            path: path.into(),
            difference,
        });
    }
    if let [Some(before), Some(after)] = threads
        && before != after
    {
        return Err(TrainingError::OtherThreads {
            path: path.into(),
            before,
            after,
        });
    }
    match (before, after) {
        (Some(before), Some(after)) if before != after => match schedule.knows_its_end() {
            true => Err(TrainingError::OtherLength {
                path: path.into(),
                before,
                after,
            }),
            false => Ok(Before {
                other: Some(before),
            }),
        },
        _ => Ok(Before { other: None }),
    }
}

/// The number of threads of an identity, on which rounding depends, taken out of it; none where several processes share the training.
fn take_threads(identity: &mut serde_json::Value) -> Option<u64> {
    identity.as_object_mut()?.remove("threads")?.as_u64()
}

/// The number of epochs of an identity, taken out of it.
fn take_epochs(identity: &mut serde_json::Value) -> Option<u64> {
    let training = identity.get_mut("training")?.as_object_mut()?;
    training.remove("epochs")?.as_u64()
}

/// What the names of a learner's tensors begin with.
fn prefix(kind: &str, learner: &Learner) -> String {
    match learner.name {
        "" => kind.to_string(),
        name => format!("{kind}.{name}"),
    }
}

/// The first key in which two identities differ.
fn difference(kept: &serde_json::Value, now: &serde_json::Value) -> Option<String> {
    if kept == now {
        return None;
    }
    let (Some(kept), Some(now)) = (kept.as_object(), now.as_object()) else {
        return Some(format!("{kept} there, {now} here"));
    };
    let keys = kept.keys().chain(now.keys());
    keys.into_iter()
        .find(|key| kept.get(*key) != now.get(*key))
        .map(|key| {
            let show = |side: &serde_json::Map<String, serde_json::Value>| {
                side.get(key)
                    .map_or_else(|| "nothing".to_string(), ToString::to_string)
            };
            format!("{key}: {} there, {} here", show(kept), show(now))
        })
}

fn failed(path: &Path, reason: impl std::fmt::Display) -> TrainingError {
    TrainingError::File {
        path: PathBuf::from(path),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn r02_another_number_of_epochs_is_the_schedules_business() {
        let identity =
            |epochs: u64| json!({"seed": 1, "training": {"epochs": epochs, "batch": 96}});
        let compared =
            |before, after, schedule| compare(Path::new("last"), &before, &after, &schedule);
        let cosine = || Schedule::Cosine { floor: 0.0 };
        for schedule in [Schedule::Constant, Schedule::default()] {
            let before = compared(identity(7), identity(9), schedule).unwrap();
            assert_eq!(before.other, Some(7));
        }
        assert_eq!(
            compared(identity(7), identity(7), cosine()).unwrap().other,
            None
        );
        let error = compared(identity(7), identity(9), cosine()).err().unwrap();
        assert!(matches!(
            error,
            TrainingError::OtherLength {
                before: 7,
                after: 9,
                ..
            }
        ));
        let mut other = identity(9);
        other["training"]["batch"] = json!(32);
        let error = compared(identity(7), other, Schedule::Constant)
            .err()
            .unwrap();
        assert!(error.to_string().contains("batch"), "{error}");
    }

    #[test]
    fn threads_matter_to_one_process_alone() {
        let compared = |kept, now| {
            let [kept, now] = [kept, now].map(|threads: Option<u64>| json!({"threads": threads}));
            compare(Path::new("last"), &kept, &now, &Schedule::Constant).map(drop)
        };
        assert!(compared(Some(2), Some(2)).is_ok());
        for shared in [(None, Some(1)), (Some(2), None), (None, None)] {
            assert!(compared(shared.0, shared.1).is_ok());
        }
        let said = compared(Some(2), Some(1)).unwrap_err().to_string();
        assert!(
            said.contains("2 threads") && said.contains("this one has 1"),
            "{said}"
        );
    }

    #[test]
    fn the_first_difference_is_named() {
        let kept = json!({"batch": 96, "seed": 1});
        assert_eq!(difference(&kept, &kept), None);
        let said = difference(&kept, &json!({"batch": 32, "seed": 1})).unwrap();
        assert!(
            said.contains("batch") && said.contains("96") && said.contains("32"),
            "{said}"
        );
    }
}
