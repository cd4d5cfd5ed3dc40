//! What the library gives, as Python has it: arrays, and records of what it would write as JSON.

use numpy::{Element, PyArray1, PyArray2, PyArray3, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PySlice};
use serde::Serialize;

use crate::errors::raise;

/// An array of rows.
pub(crate) fn matrix<T: Element>(
    py: Python<'_>,
    values: Vec<T>,
    shape: [usize; 2],
) -> PyResult<Bound<'_, PyArray2<T>>> {
    PyArray1::from_vec(py, values).reshape(shape)
}

/// An array of matrices.
pub(crate) fn block<T: Element>(
    py: Python<'_>,
    values: Vec<T>,
    shape: [usize; 3],
) -> PyResult<Bound<'_, PyArray3<T>>> {
    PyArray1::from_vec(py, values).reshape(shape)
}

/// A record, `epsilon_zsl.Record`, of what would be written as JSON.
pub(crate) fn record(py: Python<'_>, of: &impl Serialize) -> PyResult<Py<PyAny>> {
    let text = serde_json::to_string(of);
    records(
        py,
        &text.map_err(|error| raise("EpsilonError", error.to_string()))?,
    )
}

/// Records of JSON.
pub(crate) fn records(py: Python<'_>, text: &str) -> PyResult<Py<PyAny>> {
    let records = py.import("epsilon_zsl._record")?;
    Ok(records.call_method1("loads", (text,))?.unbind())
}

/// Places among `len`: a number (from the end where it is negative), a slice, or any iterable of numbers.
pub(crate) enum Places {
    One(usize),
    Many(Vec<usize>),
}

impl Places {
    pub(crate) fn of(given: &Bound<'_, PyAny>, len: usize) -> PyResult<Self> {
        if let Ok(slice) = given.cast::<PySlice>() {
            let found = slice.indices(len as isize)?;
            let places =
                (0..found.slicelength).map(|step| found.start + step as isize * found.step);
            return Ok(Self::Many(places.map(|place| place as usize).collect()));
        }
        if given.cast::<PyInt>().is_ok()
            || given.hasattr("__index__")? && !given.hasattr("__len__")?
        {
            return Ok(Self::One(place(given, len)?));
        }
        let places = given.try_iter()?.map(|each| place(&each?, len));
        Ok(Self::Many(places.collect::<PyResult<_>>()?))
    }

    pub(crate) fn many(self) -> Vec<usize> {
        match self {
            Self::One(place) => vec![place],
            Self::Many(places) => places,
        }
    }
}

fn place(given: &Bound<'_, PyAny>, len: usize) -> PyResult<usize> {
    let place: isize = given.extract()?;
    let found = match place < 0 {
        true => place + len as isize,
        false => place,
    };
    match usize::try_from(found) {
        Ok(found) if found < len => Ok(found),
        _ => Err(pyo3::exceptions::PyIndexError::new_err(format!(
            "row {place} of {len}"
        ))),
    }
}
