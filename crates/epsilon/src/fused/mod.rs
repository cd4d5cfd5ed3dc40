//! Fused operations with their own backward passes, which the framework runs on its CPU device in place of chains of its
//! own operations.

pub(crate) mod batch_norm;
pub(crate) mod channel_attention;
pub(crate) mod convolution;
pub(crate) mod critic;
pub(crate) mod cross_attention;
pub(crate) mod depthwise;
pub(crate) mod dropped;
pub(crate) mod gate;
pub(crate) mod gelu;
pub(crate) mod gfp;
pub(crate) mod largest_token;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod lstm;
mod operation;
pub(crate) mod pooled;
pub(crate) mod scores;
pub(crate) mod self_attention;
pub(crate) mod shared_attention;
mod shares;
pub(crate) mod token_mixer;
