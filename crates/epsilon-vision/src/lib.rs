//! Photographs to tokens: decoding and preprocessing, frozen backbones on the CPU, and a token store on disk.

pub mod backbone;
pub mod image;
pub mod tokens;
