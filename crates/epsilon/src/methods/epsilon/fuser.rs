//! The fuser: one linear map from the global and the refined semantics of a group to its semantic vector.

use burn::tensor::Tensor;

use super::Modules;
use crate::batch::Dims;
use crate::fused::linear::linear;
use crate::parameters::{self, Spec, Weights};

pub(super) fn specs(modules: Modules, rank: Option<usize>, dims: &Dims) -> Vec<Spec> {
    let inputs = match modules {
        Modules::Both => 2 * dims.width,
        Modules::Gpa | Modules::Gfp => dims.width,
        Modules::None => return Vec::new(),
    };
    match rank {
        None => parameters::linear("fuser", inputs, dims.label_width).to_vec(),
        Some(rank) => [
            parameters::linear(REDUCE, inputs, rank),
            parameters::linear("fuser", rank, dims.label_width),
        ]
        .concat(),
    }
}

/// The name of V, where the fuser passes through fewer values.
const REDUCE: &str = "fuser.reduce";

/// `V x`, `[B, M, r]`.
pub(super) fn reduce(weights: &Weights, read: Tensor<3>) -> Tensor<3> {
    let (weight, bias) = weights.linear(REDUCE);
    linear(read, weight, bias)
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
