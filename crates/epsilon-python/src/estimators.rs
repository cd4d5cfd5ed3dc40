//! Methods that are trained on arrays: what `epsilon_zsl.estimators` calls, with NumPy arrays in and out.

use epsilon::burn::tensor::Device;
use epsilon::dataset::SparseLabels;
use epsilon::estimator::{Estimator, EstimatorError, FittedEstimator, TrainingData, settings};
use epsilon::labels::LabelVectors;
use epsilon::methods::Kind;
use epsilon::tokens::{Pooling, TokenArrays, TokenRows, TokenSource};
use epsilon::training::{EpochRecord, Event};
use epsilon_metrics::Protocol;
use numpy::{PyArray2, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{exception, raise};
use crate::store::TokenStore;
use crate::values::matrix;
use crate::work::work;

/// An exception of an argument, which `what` names.
fn wrong(what: &str, reason: impl std::fmt::Display) -> PyErr {
    raise("EstimatorError", format!("{what}: {reason}"))
}

/// The exception of an error of the library, with the arguments' own names.
fn raised(error: &EstimatorError) -> PyErr {
    let argument = |what: &str| match what {
        "features" => "X",
        "labels" => "y",
        "label vectors" => "label_vectors",
        "unseen vectors" => "unseen_vectors",
        _ => "vectors",
    };
    match error {
        EstimatorError::Shape {
            what,
            found,
            expected,
        } => wrong(argument(what), format!("{found}, where {expected}")),
        EstimatorError::Vectors { what, source } => wrong(argument(what), source),
        EstimatorError::NoPositives => wrong("y", error),
        EstimatorError::NoVectors { .. } => wrong("label_vectors", error),
        _ => exception(error),
    }
}

/// The device that is computed on.
fn cpu() -> Device {
    Device::flex()
}

/// The names of all methods that are trained.
#[pyfunction]
pub(crate) fn estimator_names() -> Vec<&'static str> {
    let names = Kind::NAMES.into_iter();
    names.filter(|&name| name != "class-words").collect()
}

/// Name, whether it is one of the training's, and default as JSON (none where it must be given) of every setting of a method.
#[pyfunction]
pub(crate) fn estimator_settings(method: &str) -> PyResult<Vec<(String, bool, Option<String>)>> {
    let settings =
        settings(method).ok_or_else(|| wrong("method", format!("no method `{method}`")))?;
    let settings = settings.into_iter().map(|setting| {
        let default = setting.default.map(|default| default.to_string());
        (setting.name.to_string(), setting.is_training, default)
    });
    Ok(settings.collect())
}

/// Features as Python hands them in: `(n, D)`, `(n, N, D)`, or rows of a store.
#[derive(FromPyObject)]
pub(crate) enum Features<'py> {
    Global(PyReadonlyArray2<'py, f32>),
    Tokens(PyReadonlyArray3<'py, f32>),
    Rows(PyRef<'py, TokenStore>, Vec<usize>),
}

/// The same, where another thread may read them.
enum Source<'a> {
    Arrays(TokenArrays<'a>),
    Rows(TokenRows<'a>),
}

impl Features<'_> {
    /// What the library reads; `pooling` says what stands for an image as a whole where only its tokens are given.
    fn source(&self, pooling: &str) -> PyResult<Source<'_>> {
        let slice = |array: Result<_, numpy::AsSliceError>| {
            array.map_err(|_| wrong("X", "give an array in C order"))
        };
        match self {
            Self::Global(array) => {
                let values = slice(array.as_slice())?;
                let shape = array.as_array().dim();
                let arrays = TokenArrays::global(values, shape.into());
                arrays
                    .map(Source::Arrays)
                    .map_err(|error| wrong("X", error))
            }
            Self::Tokens(array) => {
                let mut known = Pooling::NAMES.into_iter();
                let Some((_, pooling)) = known.find(|(name, _)| *name == pooling) else {
                    let names = Pooling::NAMES.map(|(name, _)| name).join(" or ");
                    return Err(wrong("pooling", format!("{pooling:?}; give {names}")));
                };
                let values = slice(array.as_slice())?;
                let shape = array.as_array().dim();
                let arrays = TokenArrays::pooled(values, shape.into(), pooling);
                arrays
                    .map(Source::Arrays)
                    .map_err(|error| wrong("X", error))
            }
            Self::Rows(_, rows) if rows.is_empty() => {
                Err(wrong("X", "no row of the store: give at least one image"))
            }
            Self::Rows(store, rows) => {
                let rows = TokenRows::new(store.get(), rows.clone());
                rows.map(Source::Rows).map_err(|error| wrong("X", error))
            }
        }
    }
}

impl Source<'_> {
    fn get(&self) -> &dyn TokenSource {
        match self {
            Self::Arrays(arrays) => arrays,
            Self::Rows(rows) => rows,
        }
    }
}

/// Labels `(n, L)` in {-1, 0, 1}.
fn labels_of(array: &PyReadonlyArray2<'_, i8>) -> PyResult<SparseLabels> {
    let values: Vec<i8> = array.as_array().iter().copied().collect();
    let labels = SparseLabels::from_dense(array.as_array().ncols(), &values);
    labels.map_err(|error| wrong("y", error))
}

/// Label vectors `(K, V)`.
fn vectors_of(what: &str, array: &PyReadonlyArray2<'_, f32>) -> PyResult<LabelVectors> {
    let values: Vec<f32> = array.as_array().iter().copied().collect();
    let vectors = LabelVectors::numbered(array.as_array().ncols(), values);
    vectors.map_err(|error| wrong(what, error))
}

fn protocol_of(name: &str) -> PyResult<Protocol> {
    name.parse().map_err(|error| wrong("protocol", error))
}

/// Scores as an array `(images, labels)`.
fn scored(py: Python<'_>, scores: Vec<f32>, images: usize) -> PyResult<Bound<'_, PyArray2<f32>>> {
    let labels = scores.len() / images;
    matrix(py, scores, [images, labels])
}

/// Trains a method on arrays.
#[pyfunction]
#[pyo3(signature = (method, given, *, seed, protocol, features, pooling, labels, vectors, unseen))]
#[allow(clippy::too_many_arguments, reason = "Python's keyword arguments")]
pub(crate) fn fit_estimator(
    py: Python<'_>,
    method: &str,
    given: &str,
    seed: u64,
    protocol: &str,
    features: Features<'_>,
    pooling: &str,
    labels: PyReadonlyArray2<'_, i8>,
    vectors: Option<PyReadonlyArray2<'_, f32>>,
    unseen: Option<PyReadonlyArray2<'_, f32>>,
) -> PyResult<TrainedEstimator> {
    let given = serde_json::from_str(given).map_err(|error| wrong("settings", error))?;
    let estimator =
        Estimator::with_settings(method, &given, seed).map_err(|error| raised(&error))?;
    let estimator = Estimator {
        protocol: protocol_of(protocol)?,
        ..estimator
    };
    let vectors = vectors
        .map(|array| vectors_of("label_vectors", &array))
        .transpose()?;
    let unseen = unseen
        .map(|array| vectors_of("unseen_vectors", &array))
        .transpose()?;
    let (images, labels) = (features.source(pooling)?, labels_of(&labels)?);
    let mut history = Vec::new();
    let fitted = work(py, |stop| {
        let data = TrainingData {
            images: images.get(),
            labels: &labels,
            vectors: vectors.as_ref(),
            unseen: unseen.as_ref(),
        };
        estimator.fit(&data, &cpu(), &mut |event| {
            if let Event::Epoch(record) = event {
                history.push(record.clone());
            }
            stop.flow()
        })
    })?;
    let fitted = fitted.map_err(|error| raised(&error))?;
    Ok(TrainedEstimator { fitted, history })
}

/// A method that was trained on arrays.
#[pyclass(frozen, module = "epsilon_zsl._native")]
pub(crate) struct TrainedEstimator {
    fitted: FittedEstimator,
    history: Vec<EpochRecord>,
}

#[pymethods]
impl TrainedEstimator {
    /// How many labels it scores by their numbers: those it was trained on, and behind them the unseen ones.
    #[getter]
    fn known(&self) -> usize {
        self.fitted.known()
    }

    /// D, the width of a token.
    #[getter]
    fn width(&self) -> usize {
        self.fitted.dims().width
    }

    /// The epoch, from 1, that early stopping took.
    #[getter]
    fn best_epoch(&self) -> Option<usize> {
        self.fitted.best_epoch()
    }

    /// What each epoch reported, as JSON.
    #[getter]
    fn history(&self) -> PyResult<String> {
        let text = serde_json::to_string(&self.history);
        text.map_err(|error| raise("EstimatorError", error.to_string()))
    }

    /// Scores `(n, K)` of any labels by their vectors `(K, V)`.
    fn score_vectors<'py>(
        &self,
        py: Python<'py>,
        features: Features<'_>,
        pooling: &str,
        vectors: PyReadonlyArray2<'_, f32>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (images, vectors) = (features.source(pooling)?, vectors_of("vectors", &vectors)?);
        let scores = work(py, |stop| {
            let fitted = &self.fitted;
            fitted.score(images.get(), &vectors, &cpu(), &mut |_| stop.flow())
        });
        let scores = scores?.map_err(|error| raised(&error))?;
        scored(py, scores, images.get().images())
    }

    /// Scores `(n, K)` of labels by their numbers.
    fn score_known<'py>(
        &self,
        py: Python<'py>,
        features: Features<'_>,
        pooling: &str,
        labels: Vec<usize>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let images = features.source(pooling)?;
        let scores = work(py, |stop| {
            let fitted = &self.fitted;
            fitted.score_known(images.get(), &labels, &cpu(), &mut |_| stop.flow())
        });
        let scores = scores?.map_err(|error| raised(&error))?;
        scored(py, scores, images.get().images())
    }

    /// mAP of the labels that it was trained on, as a fraction.
    fn mean_average_precision(
        &self,
        py: Python<'_>,
        features: Features<'_>,
        pooling: &str,
        labels: PyReadonlyArray2<'_, i8>,
        protocol: &str,
    ) -> PyResult<f64> {
        let (images, labels) = (features.source(pooling)?, labels_of(&labels)?);
        let protocol = protocol_of(protocol)?;
        let figure = work(py, |stop| {
            let (fitted, images) = (&self.fitted, images.get());
            fitted.mean_average_precision(images, &labels, &protocol, &cpu(), &mut |_| stop.flow())
        });
        figure?.map_err(|error| raised(&error))
    }

    /// All of it as bytes, and what each epoch reported, for [`TrainedEstimator::from_state`].
    fn state<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, String)> {
        let bytes = self.fitted.to_bytes().map_err(|error| raised(&error))?;
        Ok((PyBytes::new(py, &bytes), self.history()?))
    }

    /// What was saved.
    #[staticmethod]
    fn from_state(state: &[u8], history: &str) -> PyResult<Self> {
        let fitted = FittedEstimator::from_bytes(state, &cpu()).map_err(|error| raised(&error))?;
        let history = serde_json::from_str(history).map_err(|error| wrong("history", error))?;
        Ok(Self { fitted, history })
    }
}
