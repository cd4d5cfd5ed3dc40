//! The `epsilon` command, which is a part of this library, so that the wheel holds its code once.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the `epsilon` command with a command line, whose first word is what the program was called by, and returns its exit
/// status. The process is its own: it sets up the pool of compute threads and logs to stderr.
#[pyfunction]
pub(crate) fn run_program(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| epsilon_cli::run_program(arguments))
}
