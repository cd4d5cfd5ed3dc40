#![doc = include_str!("../README.md")]

pub mod dataset;
pub mod errors;
pub mod files;
pub mod formats;
pub mod labels;
pub mod paths;
