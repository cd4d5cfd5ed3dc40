//! `Backbone`: a frozen network that makes tokens of photographs.

use std::path::PathBuf;
use std::sync::Arc;

use epsilon::backbone::{self, Download, Options, by_name, locate};
use epsilon::tensor_vit::load_on;
use numpy::{PyArray2, PyArray3};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::de::DeserializeOwned;

use crate::errors::{OrRaise, raise};
use crate::extraction::{Images, run};
use crate::progress::Progress;
use crate::values::{block, matrix};
use crate::work::work;

/// Tokens `(n, N, D)` and global vectors `(n, G)`.
pub(crate) type Arrays<'py> = (Bound<'py, PyArray3<f32>>, Bound<'py, PyArray2<f32>>);

/// A frozen network that makes N tokens and one global vector of every photograph; several threads may use one.
///
/// >>> backbone = Backbone.load("backbone.safetensors")
/// >>> tokens, globals = backbone.features(["photo.png"])
/// >>> tokens.shape == (1, backbone.tokens, backbone.width)
/// True
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct Backbone(pub(crate) Arc<dyn backbone::Backbone>);

#[pymethods]
impl Backbone {
    /// Loads a network's weights: a file, a folder, `hf:OWNER/NAME` or a short name of `models()`, which is downloaded once.
    ///
    /// `tokens` are `plain` or `projected`, `global_vector` is `features` or `classes`, `precision` is `f32`, `bf16`, `f16` or `int8`, as in
    /// recipes; `weights_key` names the network in a file that holds several.
    ///
    /// Raises BackboneError.
    #[staticmethod]
    #[pyo3(signature = (weights, *, tokens="plain", global_vector="features", precision="f32", weights_key=None, device="cpu"))]
    fn load(
        py: Python<'_>,
        weights: PathBuf,
        tokens: &str,
        global_vector: &str,
        precision: &str,
        weights_key: Option<String>,
        device: &str,
    ) -> PyResult<Self> {
        let options = Options {
            tokens: named("tokens", tokens)?,
            global: named("global_vector", global_vector)?,
            precision: named("precision", precision)?,
            weights_key,
            ..Options::default()
        };
        let device = epsilon::device::device(device).or_raise()?;
        let loaded = work(py, |_| {
            let place = locate(&by_name(&weights), Download::Quiet)?;
            load_on(&place, &options, &device)
        })?;
        Ok(Self(Arc::from(loaded.or_raise()?)))
    }

    /// The weight file's name without its ending.
    #[getter]
    fn name(&self) -> &str {
        &self.0.info().name
    }

    /// N, tokens of a photograph.
    #[getter]
    fn tokens(&self) -> usize {
        self.0.info().tokens
    }

    /// D, the width of a token.
    #[getter]
    fn width(&self) -> usize {
        self.0.info().dim
    }

    /// G, the width of a global vector.
    #[getter]
    fn global_width(&self) -> usize {
        self.0.info().global_dim()
    }

    /// Rows and columns of the grid that the tokens come from, row by row.
    #[getter]
    fn grid(&self) -> (usize, usize) {
        self.0.info().grid
    }

    /// Width and height of a photograph as the network takes it, in pixels.
    #[getter]
    fn size(&self) -> u32 {
        self.0.info().preprocess.size
    }

    /// Tokens `(n, N, D)` and global vectors `(n, G)` of photographs, any iterable of them, float32.
    ///
    /// Raises ImageError for the first one that cannot be read; `extract` goes on.
    #[pyo3(signature = (images, progress=None))]
    fn features<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
        progress: Option<Progress>,
    ) -> PyResult<Arrays<'py>> {
        let images = Images::of(images, None)?;
        let made = run(
            py,
            &images,
            &*self.0,
            epsilon::image::Limits::default(),
            progress.as_ref(),
        )?;
        match made.failed.into_iter().next() {
            Some((_, reason)) => Err(raise("ImageError", reason)),
            None => arrays(py, &*self.0, made.ids.len(), made.tokens, made.global),
        }
    }

    fn __repr__(&self) -> String {
        let info = self.0.info();
        format!(
            "Backbone({:?}, {} tokens of {}, global vectors of {})",
            info.name,
            info.tokens,
            info.dim,
            info.global_dim()
        )
    }
}

/// Tokens and global vectors of so many images as arrays.
pub(crate) fn arrays<'py>(
    py: Python<'py>,
    backbone: &dyn backbone::Backbone,
    images: usize,
    tokens: Vec<f32>,
    global: Vec<f32>,
) -> PyResult<Arrays<'py>> {
    let info = backbone.info();
    Ok((
        block(py, tokens, [images, info.tokens, info.dim])?,
        matrix(py, global, [images, info.global_dim()])?,
    ))
}

/// A setting by its name in recipes.
pub(crate) fn named<T: DeserializeOwned>(argument: &str, name: &str) -> PyResult<T> {
    serde_json::from_value(name.into())
        .map_err(|error| PyValueError::new_err(format!("{argument} = {name:?}: {error}")))
}
