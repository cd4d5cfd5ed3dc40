//! Readers of file formats that know neither labels nor data sets.

pub mod pickle;
pub mod safetensors;
