#![doc = include_str!("../README.md")]

pub mod backbone;
pub mod image;
pub mod tokens;
