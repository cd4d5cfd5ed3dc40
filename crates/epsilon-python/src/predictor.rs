//! `Predictor`: a model with its backbone, that ranks words for photographs.

use std::path::PathBuf;

use epsilon::model::{Ranked as Label, Ranker};
use pyo3::prelude::*;

use crate::errors::exception;
use crate::photo::Photo;
use crate::work::work;

/// A model with its backbone and word vectors, that ranks labels for photographs; several threads may use one.
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct Predictor(epsilon::Predictor);

#[pymethods]
impl Predictor {
    /// Loads a model with the backbone and the word vectors that it names.
    #[staticmethod]
    fn load(py: Python<'_>, model: PathBuf) -> PyResult<Self> {
        let loaded = work(py, |_| epsilon::Predictor::load(model))?;
        loaded.map(Self).map_err(|error| exception(&error))
    }

    /// Words to rank, ready for any number of photographs; the model's own labels where none are given.
    #[pyo3(signature = (words=None))]
    fn labels(&self, py: Python<'_>, words: Option<Vec<String>>) -> PyResult<Labels> {
        let labels = work(py, |_| match words {
            Some(words) => self.0.labels(words),
            None => self.0.own_labels(),
        })?;
        labels.map(Labels).map_err(|error| exception(&error))
    }

    /// All labels for a photograph, best first; the best `top` where a number is given.
    #[pyo3(signature = (photo, labels, top=None))]
    fn rank(
        &self,
        py: Python<'_>,
        photo: Photo,
        labels: &Labels,
        top: Option<usize>,
    ) -> PyResult<Vec<Ranked>> {
        let ranking = work(py, |_| self.0.rank(photo.get(), &labels.0))?;
        let ranking = ranking.map_err(|error| exception(&error))?;
        let best = ranking.top(top.unwrap_or(usize::MAX)).iter().cloned();
        Ok(best.map(Ranked).collect())
    }
}

/// Words whose vectors are found, to rank for photographs.
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct Labels(Ranker);

#[pymethods]
impl Labels {
    /// The words.
    #[getter]
    fn names(&self) -> Vec<String> {
        self.0.labels().names().to_vec()
    }

    fn __len__(&self) -> usize {
        self.0.labels().len()
    }
}

/// A label with its score for a photograph.
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct Ranked(Label);

#[pymethods]
impl Ranked {
    /// The label.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// Its score: only its order among the labels of a photograph means something.
    #[getter]
    fn score(&self) -> f32 {
        self.0.score
    }

    /// Whether the model was trained on it.
    #[getter]
    fn seen(&self) -> bool {
        self.0.seen
    }

    /// How probable it is, where the model is calibrated.
    #[getter]
    fn probability(&self) -> Option<f32> {
        self.0.probability
    }

    /// Whether it is probable enough to be kept, where the model is calibrated.
    #[getter]
    fn kept(&self) -> Option<bool> {
        self.0.kept
    }

    fn __repr__(&self) -> String {
        let Label { name, score, .. } = &self.0;
        format!("Ranked(name={name:?}, score={score})")
    }
}
