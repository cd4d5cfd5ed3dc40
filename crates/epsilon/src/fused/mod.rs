//! Fused operations with their own backward passes, which the framework runs on its CPU device in place of chains of its
//! own operations.

pub(crate) mod depthwise;
pub(crate) mod gelu;
pub(crate) mod gfp;
mod gfp_bf16;
pub(crate) mod linear;
pub(crate) mod pooled;
pub(crate) mod reading;
pub(crate) mod scores;
