//! A tagged library: a folder of photographs and what is known of them, kept in a folder of its own.

pub mod sidecar;
