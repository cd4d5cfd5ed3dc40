//! Zero-shot CLIP: its image vector against its text vectors, untrained. It needs the tokens and label vectors of [`super::clip`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::clip::one_space;
use super::input::unit;
use super::{Method, MethodError, SolvedMethod, Whole};
use crate::batch::{Batch, Dims};
use crate::parameters::{Spec, Weights};
use epsilon_data::labels::LabelVectors;

/// Zero-shot CLIP: `s_c = cos(g, v_c)`. Nothing is trained.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipZeroShot {}

impl Method for ClipZeroShot {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        one_space(dims).map(|()| Vec::new())
    }

    fn scores(&self, _: &Weights, batch: &Batch) -> Tensor<2> {
        unit(batch.global.clone()).matmul(batch.label_vectors.clone().transpose())
    }

    fn semantic_vectors(&self, _: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(unit(batch.global.clone()).unsqueeze_dim(1))
    }

    /// Of what each of the labels says, as if it had been painted.
    fn prototypes(&self, _: &Weights, labels: &LabelVectors) -> Option<Vec<f32>> {
        Some(labels.values().to_vec())
    }
}

impl SolvedMethod for ClipZeroShot {
    fn solve(
        &self,
        dims: &Dims,
        _: &Whole<'_>,
        device: &Device,
        _: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Weights, MethodError> {
        Ok(Weights::from_values(
            self.specs(dims)?,
            BTreeMap::new(),
            device,
        )?)
    }
}
