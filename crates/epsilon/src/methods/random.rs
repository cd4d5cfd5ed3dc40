//! Random scores: what a table's figures must be compared with.

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Method, MethodError, SolvedMethod, Whole};
use crate::batch::{Batch, Dims};
use crate::device;
use crate::parameters::{Spec, Weights};

/// Scores drawn uniformly from [0, 1), a function of the seed and the image's global vector, so that an image
/// keeps its scores whatever batch it is in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Random {
    /// Seed of the draw.
    pub seed: u64,
}

impl Method for Random {
    fn specs(&self, _: &Dims) -> Result<Vec<Spec>, MethodError> {
        Ok(Vec::new())
    }

    fn scores(&self, _: &Weights, batch: &Batch) -> Tensor<2> {
        let [images, width] = batch.global.dims();
        let [labels, _] = batch.label_vectors.dims();
        let global = device::host(&batch.global);
        let mut scores = Vec::with_capacity(images * labels);
        for vector in global.chunks_exact(width) {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ fingerprint(vector));
            scores.extend((0..labels).map(|_| rng.random::<f32>()));
        }
        Tensor::from_data(
            TensorData::new(scores, [images, labels]),
            &batch.global.device(),
        )
    }
}

impl SolvedMethod for Random {
    fn solve(
        &self,
        _: &Dims,
        _: &Whole<'_>,
        device: &Device,
        _: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Weights, MethodError> {
        Ok(Weights::from_values(
            Vec::new(),
            Default::default(),
            device,
        )?)
    }
}

/// FNV-1a over the bits of the values.
fn fingerprint(values: &[f32]) -> u64 {
    values.iter().fold(0xcbf2_9ce4_8422_2325, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3)
    })
}
