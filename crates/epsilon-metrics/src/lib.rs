//! Figures for multi-label zero-shot learning: scores and labels in, average precision and top-K
//! precision, recall and F1 out, each under a named [`Protocol`] and printed together with it.
//!
//! Published tables follow different rules (which images count, what an unknown label is, what a
//! label without positives scores), so a figure without its protocol compares with nothing.
//!
//! ```
//! use epsilon_metrics::{Labels, Protocol, Scores, evaluate_splits};
//!
//! // Three images, three labels; the first two labels were seen in training.
//! let scores = [0.9, 0.2, 0.8, 0.1, 0.7, 0.3, 0.4, 0.6, 0.5];
//! let labels = [1, -1, 1, -1, 1, 0, -1, 1, 1];
//! let scores = Scores::new(&scores, 3, 3)?;
//! let labels = Labels::new(&labels, 3, 3)?;
//! let protocol: Protocol = "epsilon".parse()?;
//!
//! let result = evaluate_splits(scores, labels, 2, &protocol, &[1], &[1, 2])?;
//! assert_eq!(result.zsl.map, 1.0);
//! assert_eq!(result.gzsl.images_kept, 3);
//! println!("{result}"); // a table that names the protocol
//! # Ok::<(), epsilon_metrics::MetricsError>(())
//! ```
//!
//! Results do not depend on the number of threads: counts are whole numbers, and sums of reals run
//! in `f64` in a fixed order.

#![warn(unreachable_pub)]

mod average_precision;
mod bootstrap;
mod columns;
mod curve;
mod entry;
mod error;
mod evaluation;
pub mod files;
mod images;
mod input;
mod protocol;
mod reliability;
mod report;
mod request;
mod standardise;
mod table;
mod top_k;

pub use average_precision::average_precision;
pub use bootstrap::{Bootstrap, bootstrap, bootstrap_table};
pub use curve::precision_recall;
pub use error::MetricsError;
pub use evaluation::{
    Evaluation, LabelFigures, SplitEvaluation, evaluate, evaluate_protocols, evaluate_splits,
    evaluate_table,
};
pub use input::{Labels, Scores};
pub use protocol::{EmptyLabel, Images, Mean, Protocol, Settings, Ties, Unknown};
pub use reliability::{ReliabilityBin, reliability};
pub use report::{Comparison, Protocols};
pub use request::Request;
pub use standardise::standardise;
pub use table::{InMemory, Table};
pub use top_k::TopK;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
