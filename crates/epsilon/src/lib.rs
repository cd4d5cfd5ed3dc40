//! Multi-label zero-shot learning: train on seen labels, rank labels that were never trained on.
//!
//! A trained model is one file. [`Predictor`] loads it with its backbone and ranks any words for a photograph:
//!
//! ```
//! # mod drawn { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/drawn.rs")); }
//! # use drawn::*;
//! # let folder = drawn_model("ridge")?;
//! # std::env::set_current_dir(folder.path())?;
//! # std::fs::copy("data/test/000000.png", "photo.png")?;
//! let predictor = epsilon::Predictor::load("model.safetensors")?; // its backbone and vectors found and checked
//! let labels = predictor.labels(["striped circle", "plain star"])?; // any words
//! for label in predictor.rank("photo.png", &labels)?.top(5) {
//!     println!("{:<20}{:.2}", label.name, label.score);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - **Photographs.** [`Tagger`] tags a folder and keeps what is known in a [`library`], which [`Finder`] searches for any
//!   word; [`explain`] draws heat maps; [`calibration`] turns scores into probabilities and thresholds.
//!   [`Learner`] learns from the keywords that photographs have and from what their owner says of their labels.
//! - **Experiments.** [`Experiment`] runs a [`recipe`]: data set, tokens, training and figures, for each of its seeds;
//!   [`comparison`] makes many recipes of one table.
//! - **Features.** [`image`] decodes, [`backbone`] makes tokens, and [`tokens`] keeps them on disk.
//! - **Methods.** [`methods`] score labels from tokens, trained by [`training`] on a [`loss`]; [`model`] is the file that comes
//!   of it.
//! - **Arrays.** [`estimator`] trains a method on features in memory, without a recipe.
//! - **Data.** [`dataset`] reads lists of photographs with their labels, [`labels`] finds the vectors of label names.

pub use burn;
pub use epsilon_data::{dataset, errors, labels, paths};
pub use epsilon_kernels::cpu;
pub use epsilon_vision::{backbone, image, tokens};

mod fields;
mod fused;

pub mod batch;
pub mod calibration;
pub mod classes;
pub mod comparison;
pub mod coverage;
pub mod device;
pub mod estimator;
pub mod experiment;
pub mod explain;
pub mod finder;
pub mod learning;
pub mod library;
pub mod loss;
pub mod methods;
pub mod model;
pub mod optimiser;
pub mod parameters;
pub mod predictor;
pub mod pretraining;
pub mod profile;
pub mod published_features;
pub mod ranks;
pub mod recipe;
pub mod semantic_index;
pub mod tagger;
pub mod tensor_vgg;
pub mod tensor_vit;
pub mod training;

pub use experiment::Experiment;
pub use finder::Finder;
pub use learning::Learner;
pub use predictor::{PredictError, Predictor};
pub use tagger::Tagger;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
