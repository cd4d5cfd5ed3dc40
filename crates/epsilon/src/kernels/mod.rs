//! The CPU's inner loops: matrix products, element-wise functions over rows in cache, and the fused operations that
//! the framework runs on its CPU device in place of chains of its own.

pub(crate) mod avx512;
pub(crate) mod bf16;
pub(crate) mod depthwise;
pub(crate) mod gelu;
pub(crate) mod gfp;
mod gfp_bf16;
pub(crate) mod linear;
pub(crate) mod matrix;
pub(crate) mod pooled;
pub(crate) mod reading;
mod rows;
pub(crate) mod scores;
pub(crate) mod vector;
