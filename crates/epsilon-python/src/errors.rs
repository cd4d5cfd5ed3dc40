//! The library's errors as exceptions: the classes are Python's own, in `epsilon_zsl/errors.py`.

use epsilon::PredictError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// An error of the library, with the name of its exception's class.
pub(crate) trait Raised: std::error::Error {
    /// A class of `epsilon_zsl.errors`.
    fn class(&self) -> &'static str;
}

/// An exception of a class of `epsilon_zsl.errors`.
pub(crate) fn raise(class: &str, message: String) -> PyErr {
    Python::attach(|py| {
        let found = py
            .import("epsilon_zsl.errors")
            .and_then(|errors| errors.getattr(class))
            .and_then(|class| Ok(class.cast_into::<PyType>()?));
        match found {
            Ok(class) => PyErr::from_type(class, (message,)),
            Err(_) => PyRuntimeError::new_err(message),
        }
    })
}

/// The exception of an error, with the messages of its causes.
pub(crate) fn exception(error: &impl Raised) -> PyErr {
    raise(error.class(), explain(error))
}

/// The message of an error and of its causes, without repetition: most messages of the library include their cause.
fn explain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !said.contains(&message) {
            said = format!("{said}: {message}");
        }
        cause = error.source();
    }
    said
}

impl Raised for PredictError {
    fn class(&self) -> &'static str {
        match self {
            Self::Image(_) => "ImageError",
            Self::Model(_) => "ModelError",
            Self::Labels(_) => "LabelError",
            _ => "PredictError",
        }
    }
}
