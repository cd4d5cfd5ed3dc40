//! Multi-label zero-shot learning: train on seen labels, rank labels nobody trained on.
//!
//! A photograph walks one way through this library: [`image`], [`backbone`], tokens on disk ([`tokens`]), a method
//! ([`methods`]) trained by [`training`], scores ([`model`]). [`labels`] finds the vectors of label names, [`dataset`]
//! reads lists of photographs, [`explain`] draws where a model looked, [`experiment`] puts a [`recipe`] together from all of them, and
//! [`comparison`] makes many recipes of one table.

pub use burn;
pub use epsilon_data::{dataset, labels};
pub use epsilon_vision::{backbone, image, tokens};

mod fused;

pub mod batch;
pub mod calibration;
pub mod comparison;
pub mod device;
pub mod experiment;
pub mod explain;
pub mod library;
pub mod loss;
pub mod methods;
pub mod model;
pub mod optimiser;
pub mod parameters;
pub mod pretraining;
pub mod profile;
pub mod published_features;
pub mod recipe;
pub mod semantic_index;
pub mod tensor_vit;
pub mod training;

pub use experiment::Experiment;
