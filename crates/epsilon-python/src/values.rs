//! What the library gives, as Python has it: arrays, and records of what it would write as JSON.

use std::ffi::CString;
use std::path::PathBuf;

use epsilon::backbone::by_name;
use epsilon::labels::VectorFile;
use numpy::{Element, PyArray1, PyArray2, PyArray3, PyArrayMethods};
use pyo3::exceptions::{PyIndexError, PyOverflowError, PyTypeError, PyUserWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PySlice, PyString};
use serde::Serialize;

use crate::errors::{raise, wrong_type};

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

/// Places among `len`: a number (from the end where it is negative), a slice, any iterable of numbers, or a mask of `len` booleans.
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
        if is_bool(given)
            || given.cast::<PyInt>().is_ok()
            || given.hasattr("__index__")? && !given.hasattr("__len__")?
        {
            return Ok(Self::One(place(given, len)?));
        }
        let given: Vec<Bound<'_, PyAny>> = given.try_iter()?.collect::<PyResult<_>>()?;
        if given.first().is_some_and(is_bool) && given.iter().all(is_bool) {
            return Self::masked(&given, len);
        }
        let places = given.iter().map(|each| place(each, len));
        Ok(Self::Many(places.collect::<PyResult<_>>()?))
    }

    fn masked(mask: &[Bound<'_, PyAny>], len: usize) -> PyResult<Self> {
        if mask.len() != len {
            return Err(PyIndexError::new_err(format!(
                "a mask of {} booleans for {len} rows",
                mask.len()
            )));
        }
        let mut places = Vec::new();
        for (place, chosen) in mask.iter().enumerate() {
            if chosen.is_truthy()? {
                places.push(place);
            }
        }
        Ok(Self::Many(places))
    }

    pub(crate) fn many(self) -> Vec<usize> {
        match self {
            Self::One(place) => vec![place],
            Self::Many(places) => places,
        }
    }
}

/// Whether a value is a boolean of Python's or NumPy's.
fn is_bool(value: &Bound<'_, PyAny>) -> bool {
    value.extract::<bool>().is_ok()
}

fn place(given: &Bound<'_, PyAny>, len: usize) -> PyResult<usize> {
    if is_bool(given) {
        return Err(PyTypeError::new_err(
            "a row is a whole number, not a boolean; a mask has a boolean for each row",
        ));
    }
    let place: isize = given.extract().map_err(|error: PyErr| {
        match error.is_instance_of::<PyOverflowError>(given.py()) {
            true => PyIndexError::new_err(format!("row beyond the {len} that there are")),
            false => error,
        }
    })?;
    let found = match place < 0 {
        true => place + len as isize,
        false => place,
    };
    match usize::try_from(found) {
        Ok(found) if found < len => Ok(found),
        _ => Err(PyIndexError::new_err(format!("row {place} of {len}"))),
    }
}

/// A whole number that an argument is; ValueError for one that is negative or too large.
fn whole<T>(name: &str, given: &Bound<'_, PyAny>) -> PyResult<T>
where
    for<'a, 'py> T: FromPyObject<'a, 'py, Error = PyErr>,
{
    given.extract::<T>().map_err(|error| {
        match error.is_instance_of::<PyOverflowError>(given.py()) {
            true => PyValueError::new_err(format!("{name}: negative or too large")),
            false => error,
        }
    })
}

fn optional<T>(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Option<T>>
where
    for<'a, 'py> T: FromPyObject<'a, 'py, Error = PyErr>,
{
    match given.is_none() {
        true => Ok(None),
        false => whole(name, given).map(Some),
    }
}

/// The argument `top`.
pub(crate) fn top(given: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    optional("top", given)
}

/// The argument `top` where it is always a number.
pub(crate) fn at_most(given: &Bound<'_, PyAny>) -> PyResult<usize> {
    whole("top", given)
}

/// The argument `words` where it is a number.
pub(crate) fn most(given: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    optional("words", given)
}

/// The argument `max_megapixels`.
pub(crate) fn megapixels(given: &Bound<'_, PyAny>) -> PyResult<Option<u32>> {
    optional("max_megapixels", given)
}

/// The argument `shard_size`.
pub(crate) fn shard_size(given: &Bound<'_, PyAny>) -> PyResult<usize> {
    whole("shard_size", given)
}

/// The argument `at_least`.
pub(crate) fn at_least(given: &Bound<'_, PyAny>) -> PyResult<usize> {
    whole("at_least", given)
}

/// Words of any iterable.
pub(crate) struct Strings(pub Vec<String>);

impl<'py> FromPyObject<'_, 'py> for Strings {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if given.cast::<PyString>().is_ok() {
            return Err(PyTypeError::new_err("a list of words, not one str"));
        }
        let wrong = |of: &Bound<'_, PyAny>| format!("a list of words, not {}", of.get_type());
        let each =
            (given.try_iter()).map_err(|error| wrong_type(given.py(), error, || wrong(&given)))?;
        let words = each.map(|word| {
            let word = word?;
            word.extract::<String>().map_err(|error| {
                wrong_type(word.py(), error, || {
                    format!("a list of words, not of {}", word.get_type())
                })
            })
        });
        Ok(Self(words.collect::<PyResult<_>>()?))
    }
}

/// Word vectors: a file, or a pair of one and the list of its words.
pub(crate) struct Vectors(pub VectorFile);

impl<'py> FromPyObject<'_, 'py> for Vectors {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(path) = given.extract::<PathBuf>() {
            return Ok(Self(by_name(&path).as_path().into()));
        }
        let pair: PyResult<(PathBuf, PathBuf)> = given.extract();
        let (path, names) = pair.map_err(|error| {
            wrong_type(given.py(), error, || {
                let kind = given.get_type();
                format!("a file of word vectors, or a pair (file, names) with the list of its words, not {kind}")
            })
        })?;
        let names = vec![names];
        Ok(Self(VectorFile { path, names }))
    }
}

/// Warns as Python's `warnings.warn`.
pub(crate) fn warn_of(py: Python<'_>, message: &str) -> PyResult<()> {
    let message = CString::new(message)?;
    PyErr::warn(py, &py.get_type::<PyUserWarning>(), &message, 1)
}
