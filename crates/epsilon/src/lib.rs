//! Multi-label zero-shot learning: train on seen labels, rank labels nobody trained on.
//!
//! A photograph walks one way through this library: [`image`], [`backbone`], tokens on disk ([`features`]), a method
//! ([`methods`]) trained by [`training`], scores ([`model`]). [`labels`] finds the vectors of label names, [`dataset`]
//! reads lists of photographs, [`explain`] draws where a model looked, [`experiment`] puts a [`recipe`] together from all of them, and
//! [`comparison`] makes many recipes of one table.

pub use burn;

mod files;
mod kernels;

pub mod backbone;
pub mod calibration;
pub mod comparison;
pub mod dataset;
pub mod device;
pub mod experiment;
pub mod explain;
pub mod features;
pub mod image;
pub mod labels;
pub mod library;
pub mod loss;
pub mod methods;
pub mod model;
pub mod parameters;
pub mod pretraining;
pub mod profile;
pub mod published_features;
pub mod recipe;
pub mod semantic_index;
pub mod training;
