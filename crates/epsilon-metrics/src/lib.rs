//! Metrics of multi-label zero-shot learning: mean average precision (mAP), precision, recall and F1 of the top K,
//! coverage error and ranking loss, each under a named [`Protocol`] that is displayed with the result.
//!
//! ```rust
//! use epsilon_metrics::{Labels, Protocol, Scores, evaluate_splits};
//!
//! // Three images (rows), three labels (columns); the first two labels were seen in training.
//! let scores = [0.9, 0.2, 0.8, 0.1, 0.7, 0.3, 0.4, 0.6, 0.5];
//! let labels = [1, -1, 1, -1, 1, 0, -1, 1, 1]; // 1 positive, -1 negative, 0 unknown
//! let scores = Scores::new(&scores, 3, 3)?;
//! let labels = Labels::new(&labels, 3, 3)?;
//! let protocol: Protocol = "epsilon".parse()?;
//!
//! let result = evaluate_splits(scores, labels, 2, &protocol, &[1], &[1, 2])?;
//! assert_eq!((result.zsl.map, result.zsl.images_kept), (1.0, 2));
//! assert_eq!((result.gzsl.map, result.gzsl.images_kept), (1.0, 3));
//! // At K = 2 of all labels: 5 hits among 3 x 2 labels taken, 5 positives.
//! assert!((result.gzsl.top_k[1].precision - 5.0 / 6.0).abs() < 1e-12);
//! assert_eq!(result.gzsl.top_k[1].recall, 1.0);
//! println!("{result}"); // a table that names the protocol
//! # Ok::<(), epsilon_metrics::MetricsError>(())
//! ```
//!
//! Published tables follow different rules: which images are kept, how unknown labels count, what a label without
//! positives scores. Numbers under different protocols are not comparable.
//!
//! - [`evaluate`] and [`evaluate_splits`] take scores and labels in memory; [`evaluate_table`] and
//!   [`evaluate_protocols`] take any [`Table`], read in blocks.
//! - [`bootstrap`](bootstrap()) gives the standard error and the 95 % interval of the mAP.
//! - [`resample`] and [`differences`] say which of several rows can be told apart: the paired bootstrap, with Holm's correction.
//! - [`Normalised`] standardises the scores of each image first.
//! - [`Stoppable`] lets the caller stop what takes long.
//! - [`multilabel_average_precision`], [`multilabel_auroc`], [`multilabel_precision_recall_curve`], [`Decisions`], [`Binned`] and
//!   [`LabelRanking`] are the figures of scikit-learn and torchmetrics without a protocol.
//! - [`files`] reads tables of scores and labels from `.npy`, `.safetensors` and `.csv` files.
//!
//! The results do not depend on the number of threads: counts are integers, and sums of reals are computed in `f64` in a
//! fixed order.

#![warn(unreachable_pub)]

mod average;
mod average_precision;
mod binned;
mod bootstrap;
mod columns;
mod compare;
mod curve;
mod decisions;
mod draws;
mod entry;
mod error;
mod evaluation;
pub mod files;
mod images;
mod input;
mod label_ranking;
mod pooled;
mod probabilities;
mod protocol;
mod ranking;
mod reliability;
mod report;
mod request;
mod score;
mod standardise;
mod table;
mod top_k;

pub use average::{Average, Figure};
pub use average_precision::average_precision;
pub use binned::{Binned, even_thresholds};
pub use bootstrap::{Bootstrap, bootstrap, bootstrap_table};
pub use compare::{Difference, Over, Resampled, Resampling, differences, resample, resample_table};
pub use curve::precision_recall;
pub use decisions::{Confusion, Decisions};
pub use error::MetricsError;
pub use evaluation::{
    Evaluation, LabelFigures, SplitEvaluation, evaluate, evaluate_protocols, evaluate_splits,
    evaluate_table,
};
pub use input::{Labels, Scores};
pub use label_ranking::LabelRanking;
pub use probabilities::Probabilities;
pub use protocol::{EmptyLabel, Images, Mean, Pool, Protocol, Settings, Ties, TopKTies, Unknown};
pub use ranking::{
    Curve, multilabel_auroc, multilabel_average_precision, multilabel_precision_recall_curve,
};
pub use reliability::{ReliabilityBin, reliability};
pub use report::{MethodComparison, Protocols};
pub use request::Request;
pub use score::Score;
pub use standardise::{Normalisation, Normalised, Standard, Standardise, standardise};
pub use table::{Chosen, InMemory, Stoppable, Table};
pub use top_k::TopK;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
