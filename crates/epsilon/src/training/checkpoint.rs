//! Checkpoints: one safetensors file with the weights, Adam's moments and where the training stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::{Adam, TrainingError};
use crate::device;
use crate::files;
use crate::parameters::{Spec, Weights};

const STATE: &str = "epsilon.checkpoint";

/// Where a training stands. What it was started with is kept beside it, so that no other training resumes from it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// Epochs finished.
    pub epoch: usize,
    /// Steps finished in the next epoch.
    pub step: usize,
    /// Adam's steps.
    pub adam_steps: u64,
    /// Sums over the steps of the unfinished epoch.
    pub sums: super::fit::Sums,
    /// What the training was started with.
    pub identity: serde_json::Value,
}

pub(super) fn write(
    path: &Path,
    weights: &Weights,
    adam: &Adam,
    state: &State,
) -> Result<(), TrainingError> {
    let mut tensors = Vec::new();
    for ((spec, value), moments) in weights.to_host().into_iter().zip(&adam.moments) {
        let [first, second] = moments.each_ref().map(device::host);
        tensors.push((format!("weight.{}", spec.name), spec.shape.clone(), value));
        tensors.push((format!("first.{}", spec.name), spec.shape.clone(), first));
        tensors.push((format!("second.{}", spec.name), spec.shape, second));
    }
    let state = serde_json::to_string(state).map_err(|e| failed(path, e))?;
    let metadata = [(STATE.to_string(), state)].into();
    files::write_tensors(path, &tensors, metadata).map_err(|e| failed(path, e))
}

/// Reads a checkpoint into the state, weights and optimiser of a training with this identity; `None` when there is none.
pub(super) fn read(
    path: &Path,
    specs: &[Spec],
    identity: &serde_json::Value,
    adam: &mut Adam,
    place: &Device,
) -> Result<Option<(State, Weights)>, TrainingError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(|e| failed(path, e))?;
    let state = files::metadata(&bytes, STATE).map_err(|e| failed(path, e))?;
    let state: State = serde_json::from_str(&state).map_err(|e| failed(path, e))?;
    if let Some(difference) = difference(&state.identity, identity) {
        return Err(TrainingError::OtherRun {
            path: path.into(),
            difference,
        });
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| failed(path, e))?;
    let part = |prefix: &str| -> Result<BTreeMap<String, Vec<f32>>, TrainingError> {
        specs
            .iter()
            .map(|spec| {
                let values = files::f32_values(&tensors, &format!("{prefix}.{}", spec.name))
                    .map_err(|e| failed(path, e))?;
                Ok((spec.name.clone(), values))
            })
            .collect()
    };
    let weights = Weights::from_values(specs.to_vec(), part("weight")?, place)
        .map_err(|e| failed(path, e))?;
    let moments = |prefix: &str| -> Result<Vec<Tensor<1>>, TrainingError> {
        let moments = Weights::from_values(specs.to_vec(), part(prefix)?, place);
        Ok(moments.map_err(|e| failed(path, e))?.values().to_vec())
    };
    let pairs = moments("first")?.into_iter().zip(moments("second")?);
    adam.moments = pairs.map(|(first, second)| [first, second]).collect();
    adam.steps = state.adam_steps;
    Ok(Some((state, weights)))
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
