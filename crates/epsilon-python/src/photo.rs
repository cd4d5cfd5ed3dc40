//! Photographs as Python has them: paths and the bytes of files.

use std::path::PathBuf;

use epsilon::predictor;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

/// A photograph that Python handed in, free of Python's global lock.
pub(crate) enum Photo {
    File(PathBuf),
    Bytes(PyBackedBytes),
}

impl Photo {
    /// What the library takes.
    pub(crate) fn get(&self) -> predictor::Photo<'_> {
        match self {
            Self::File(path) => path.into(),
            Self::Bytes(bytes) => predictor::Photo::Bytes(bytes),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Photo {
    type Error = PyErr;

    fn extract(photo: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = photo.extract() {
            return Ok(Self::Bytes(bytes));
        }
        let path = photo.extract().map(Self::File);
        path.map_err(|_| {
            let kind = photo.get_type();
            PyTypeError::new_err(format!(
                "a photograph is a path or the bytes of a file, not {kind}"
            ))
        })
    }
}
