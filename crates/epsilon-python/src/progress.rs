//! Callbacks of Python's that are told how far work is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;

/// Callbacks are told no more often.
const EVERY: Duration = Duration::from_millis(100);

/// How far work is.
pub(crate) struct Far {
    pub done: usize,
    /// Of how many, where that is known.
    pub total: Option<usize>,
    /// What is done, such as `extract`.
    pub what: &'static str,
}

/// The argument `progress`: a function `progress(done, total, what)`, or `True` for a bar.
pub(crate) struct Progress {
    callback: Py<PyAny>,
    told: Mutex<Option<Instant>>,
}

impl Progress {
    /// Whether it was told long enough ago.
    pub(crate) fn is_due(&self) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.is_none_or(|told| told.elapsed() >= EVERY)
    }

    /// Calls it. What it raises stops the work.
    pub(crate) fn tell(&self, py: Python<'_>, far: &Far) -> PyResult<()> {
        let called = self.callback.call1(py, (far.done, far.total, far.what));
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        called.map(drop)
    }
}

impl<'py> FromPyObject<'_, 'py> for Progress {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let callback = match given.cast::<PyBool>() {
            Ok(bar) if bar.is_true() => {
                let bars = given.py().import("epsilon_zsl._progress")?;
                bars.call_method0("bar")?
            }
            Ok(_) => given
                .py()
                .import("epsilon_zsl._progress")?
                .getattr("silent")?,
            Err(_) if given.is_callable() => given.to_owned(),
            Err(_) => {
                return Err(PyTypeError::new_err(
                    "progress is a function of (done, total, what), or True for a bar",
                ));
            }
        };
        Ok(Self {
            callback: callback.unbind(),
            told: Mutex::new(None),
        })
    }
}
