//! The library's errors as exceptions: the classes are Python's own, in `epsilon_zsl/errors.py`.

use epsilon::PredictError;
use epsilon::backbone::BackboneError;
use epsilon::device::DeviceError;
use epsilon::errors::explain;
use epsilon::estimator::EstimatorError;
use epsilon::experiment::ExperimentError;
use epsilon::finder::FindError;
use epsilon::image::ImageError;
use epsilon::labels::LabelError;
use epsilon::learning::LearnError;
use epsilon::library::LibraryError;
use epsilon::library::sidecar::SidecarError;
use epsilon::methods::MethodError;
use epsilon::model::{KeepError, ModelError};
use epsilon::recipe::RecipeError;
use epsilon::semantic_index::IndexError;
use epsilon::tagger::TagError;
use epsilon::tokens::{FeatureError, StoreError};
use epsilon::training::TrainingError;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyType;

/// An error of the library, with the name of its exception's class.
pub(crate) trait Raised: std::error::Error {
    /// A class of `epsilon_zsl.errors`.
    fn class(&self) -> &'static str;

    /// What to do in Python, where the message tells of the command alone.
    fn advice(&self) -> Option<&'static str> {
        None
    }
}

/// Results of the library's, whose errors are raised.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception of the error.
    fn or_raise(self) -> PyResult<T>;
}

impl<T, E: Raised> OrRaise<T> for Result<T, E> {
    fn or_raise(self) -> PyResult<T> {
        self.map_err(|error| exception(&error))
    }
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    let class = py.import("epsilon_zsl.errors")?.getattr(name)?;
    Ok(class.cast_into::<PyType>()?)
}

/// An exception of a class of `epsilon_zsl.errors`.
pub(crate) fn raise(name: &str, message: String) -> PyErr {
    Python::attach(|py| match class(py, name) {
        Ok(class) => PyErr::from_type(class, (message,)),
        Err(_) => PyRuntimeError::new_err(message),
    })
}

/// Whether an exception is about one photograph.
pub(crate) fn is_of_photo(py: Python<'_>, error: &PyErr) -> bool {
    class(py, "ImageError").is_ok_and(|class| error.is_instance(py, &class))
}

/// A wrong type's exception with another message. Whatever else was raised meanwhile, such as by the handler of a signal, stays as it is.
pub(crate) fn wrong_type(py: Python<'_>, error: PyErr, say: impl FnOnce() -> String) -> PyErr {
    match error.is_instance_of::<PyTypeError>(py) {
        true => PyTypeError::new_err(say()),
        false => error,
    }
}

/// The exception of an error, with the messages of its causes.
pub(crate) fn exception(error: &impl Raised) -> PyErr {
    let said = explain(error);
    let message = match error.advice() {
        Some(advice) => format!("{said} (in Python: {advice})"),
        None => said,
    };
    raise(error.class(), message)
}

/// Errors whose class is the same whatever is wrong.
macro_rules! raised {
    ($($error:ty => $class:literal,)*) => {
        $(impl Raised for $error {
            fn class(&self) -> &'static str {
                $class
            }
        })*
    };
}

raised! {
    BackboneError => "BackboneError",
    DeviceError => "DeviceError",
    ImageError => "ImageError",
    IndexError => "SearchIndexError",
    KeepError => "ModelError",
    ModelError => "ModelError",
    RecipeError => "RecipeError",
    SidecarError => "LibraryError",
    StoreError => "StoreError",
}

/// How word vectors with a list of their words are given.
const PAIR: &str = "vectors=(file, names)";

impl Raised for LabelError {
    fn class(&self) -> &'static str {
        "LabelError"
    }

    fn advice(&self) -> Option<&'static str> {
        matches!(self, Self::Lists { wanted: 1, .. }).then_some(PAIR)
    }
}

impl Raised for LibraryError {
    fn class(&self) -> &'static str {
        "LibraryError"
    }

    fn advice(&self) -> Option<&'static str> {
        matches!(self, Self::None { .. }).then_some("epsilon_zsl.tag(PHOTOS, MODEL)")
    }
}

impl Raised for EstimatorError {
    fn class(&self) -> &'static str {
        match self {
            Self::Metrics(_) => "MetricsError",
            Self::Training(TrainingError::Setting(_)) | Self::Method(MethodError::Setting(_)) => {
                "EstimatorError"
            }
            Self::Method(_) => "MethodError",
            Self::Training(_) | Self::Stopped => "TrainingError",
            _ => "EstimatorError",
        }
    }
}

impl Raised for ExperimentError {
    fn class(&self) -> &'static str {
        match self {
            Self::Recipe(_) => "RecipeError",
            Self::Dataset(_) => "DatasetError",
            Self::Labels(_) => "LabelError",
            Self::Backbone(_) => "BackboneError",
            Self::Features(error) => error.class(),
            Self::Store(_) => "StoreError",
            Self::Method(_) => "MethodError",
            Self::Training(_) => "TrainingError",
            Self::Model(_) => "ModelError",
            Self::Predict(error) => error.class(),
            Self::Metrics(_) => "MetricsError",
            _ => "ExperimentError",
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Labels(error) => error.advice(),
            Self::Predict(error) => error.advice(),
            _ => None,
        }
    }
}

impl Raised for FeatureError {
    fn class(&self) -> &'static str {
        match self {
            Self::Store(_) => "StoreError",
            Self::Backbone(_) => "BackboneError",
            _ => "ExtractionError",
        }
    }
}

impl Raised for FindError {
    fn class(&self) -> &'static str {
        match self {
            Self::Index(_) | Self::NoIndex { .. } | Self::OtherIndex { .. } => "SearchIndexError",
            Self::Predict(error) => error.class(),
            Self::Model(_) | Self::Changed { .. } => "ModelError",
            Self::Device(_) => "DeviceError",
            _ => "LibraryError",
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Library(error) => error.advice(),
            Self::Predict(error) => error.advice(),
            _ => None,
        }
    }
}

impl Raised for LearnError {
    fn class(&self) -> &'static str {
        match self {
            Self::Experiment(error) => error.class(),
            Self::Library(_) => "LibraryError",
            _ => "LearnError",
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Experiment(error) => error.advice(),
            _ => None,
        }
    }
}

impl Raised for PredictError {
    fn class(&self) -> &'static str {
        match self {
            Self::Image(_) => "ImageError",
            Self::Model(_) => "ModelError",
            Self::Labels(_) | Self::NoVectorFile { .. } | Self::NotListed { .. } => "LabelError",
            Self::Device(_) => "DeviceError",
            Self::Backbone(_) | Self::Network(_) | Self::TextTower(_) | Self::Forward(_) => {
                "BackboneError"
            }
            _ => "PredictError",
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Labels(error) => error.advice(),
            Self::NeedsVectors { .. } => Some("vectors=file, or a pair (file, names)"),
            Self::NeedsClasses { .. } => Some("classes="),
            _ => None,
        }
    }
}

impl Raised for TagError {
    fn class(&self) -> &'static str {
        match self {
            Self::Library(_) => "LibraryError",
            Self::Index(_) => "SearchIndexError",
            Self::Predict(error) => error.class(),
            Self::Words(_) => "LabelError",
            _ => "TagError",
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Library(error) => error.advice(),
            Self::Predict(error) => error.advice(),
            _ => None,
        }
    }
}
