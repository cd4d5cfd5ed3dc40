//! The native part of the Python package `epsilon_zsl`: the library's front door with NumPy arrays in and out.
//!
//! Thin: arguments are converted, the work is the library's, and errors become exceptions. One file here for one part of the package.

mod command;
mod errors;
mod photo;
mod predictor;
mod work;

use pyo3::prelude::*;

/// Every tensor operation allocates its result; this allocator reuses freed memory without page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native part of `epsilon_zsl`, which is what to import.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::command::run_program;
    #[pymodule_export]
    use crate::predictor::{Labels, Predictor, Ranked};

    /// The version of the package.
    #[pymodule_export]
    #[allow(
        non_upper_case_globals,
        reason = "the name that Python's packages give it"
    )]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
