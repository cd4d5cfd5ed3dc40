//! The fuser: one linear map from the global and the refined semantics of a group to its semantic vector.

use burn::tensor::Tensor;

use super::Modules;
use crate::batch::Dims;
use crate::fused::linear::linear;
use crate::parameters::{self, Spec, Weights};

pub(super) fn specs(modules: Modules, dims: &Dims) -> [Spec; 2] {
    let inputs = if modules == Modules::Both {
        2 * dims.width
    } else {
        dims.width
    };
    parameters::linear("fuser", inputs, dims.label_width)
}

/// `[GoS, GrS]`, `[B, M, 2D]`, of `GoS` and `GrS [B, M, D]`; either may be absent, not both.
pub fn read(parts: [Option<Tensor<3>>; 2]) -> Tensor<3> {
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    Tensor::cat(parts, 2)
}

/// `S = Linear([GoS, GrS])`, `[B, M, d_w]`.
pub fn forward(weights: &Weights, read: Tensor<3>) -> Tensor<3> {
    let (weight, bias) = weights.linear("fuser");
    linear(read, weight, bias)
}
