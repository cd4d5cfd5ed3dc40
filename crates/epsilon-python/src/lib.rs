//! The native part of the Python package `epsilon_zsl`: the library's front door with NumPy arrays in and out.
//!
//! Thin: arguments are converted, the work is the library's, and errors become exceptions. One file here for one part of the package.

mod backbone;
mod batches;
mod command;
mod errors;
mod estimators;
mod extraction;
mod figures;
mod library;
mod logging;
mod metrics;
mod photo;
mod predictor;
mod progress;
mod recipe;
mod store;
mod tables;
mod tag;
mod values;
mod work;

use pyo3::prelude::*;

/// Every tensor operation allocates its result; this allocator reuses freed memory without page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native part of `epsilon_zsl`, which is what to import.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::backbone::Backbone;
    #[pymodule_export]
    use crate::command::run_program;
    #[pymodule_export]
    use crate::estimators::{TrainedEstimator, estimator_names, estimator_settings, fit_estimator};
    #[pymodule_export]
    use crate::extraction::{Extraction, extract};
    #[pymodule_export]
    use crate::figures::{
        Bootstrap, Difference, Evaluation, Protocol, SplitEvaluation, TopK, bootstrap, evaluate,
        evaluate_columns, paired_bootstrap, restore,
    };
    #[pymodule_export]
    use crate::library::Library;
    #[pymodule_export]
    use crate::metrics::{
        auroc, average_precision, decision, label_ranking, precision_recall_curve,
    };
    #[pymodule_export]
    use crate::predictor::{HeatMap, Labels, Model, Predictor, Ranked, models};
    #[pymodule_export]
    use crate::recipe::Recipe;
    #[pymodule_export]
    use crate::store::TokenStore;
    #[pymodule_export]
    use crate::tag::{learn, tag};

    /// The version of the package.
    #[pymodule_export]
    #[allow(
        non_upper_case_globals,
        reason = "the name that Python's packages give it"
    )]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
