//! `TokenStore`: the tokens of many photographs on disk, read row by row.

use std::path::PathBuf;
use std::sync::Arc;

use epsilon::tokens::{self, TokenSource};
use numpy::{PyArray1, PyArray2, PyArray3};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::errors::OrRaise;
use crate::values::{Places, block, matrix, record};
use crate::work::{self, work};

/// Tokens `(rows, N, D)`.
type Tokens<'py> = Bound<'py, PyArray3<f32>>;
/// Global vectors `(rows, G)`.
type Globals<'py> = Bound<'py, PyArray2<f32>>;

/// A finished token store, memory-mapped: a sequence of rows, of which each is a photograph's tokens and its global vector.
///
/// `store[i]` is tokens `(N, D)` and a global vector `(G,)`; `store[a:b]` is tokens `(b - a, N, D)` and global vectors `(b - a, G)`;
/// all are float32. It can be given to PyTorch's `DataLoader` as a dataset, also with workers: it is pickled by its path.
///
/// >>> store = TokenStore("tokens")
/// >>> tokens, global_vector = store[0]
/// >>> tokens.shape == (store.tokens_per_image, store.width)
/// True
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct TokenStore {
    store: Arc<tokens::TokenStore>,
    path: PathBuf,
}

impl TokenStore {
    /// The library's own.
    pub(crate) fn get(&self) -> &tokens::TokenStore {
        &self.store
    }
}

#[pymethods]
impl TokenStore {
    /// Opens the store in a folder. Shapes and types are checked; `verify` checks the contents.
    ///
    /// Raises StoreError.
    #[new]
    pub(crate) fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let store = work::read(py, |_| tokens::TokenStore::open(&path))?;
        Ok(Self {
            store: Arc::new(store.or_raise()?),
            path,
        })
    }

    /// Its folder.
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("pathlib")?.getattr("Path")?.call1((&self.path,))
    }

    /// Ids of the photographs, one a row.
    #[getter]
    fn ids(&self) -> Vec<String> {
        self.store.ids().to_vec()
    }

    /// N, tokens of a photograph.
    #[getter]
    fn tokens_per_image(&self) -> usize {
        self.store.tokens_per_image()
    }

    /// D, the width of a token.
    #[getter]
    fn width(&self) -> usize {
        self.store.dim()
    }

    /// G, the width of a global vector.
    #[getter]
    fn global_width(&self) -> usize {
        self.store.global_dim()
    }

    /// What the store was made with, as its `manifest.json` has it.
    #[getter]
    fn manifest(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        record(py, self.store.manifest())
    }

    /// The row of a photograph.
    ///
    /// Raises KeyError for an id that the store does not hold.
    fn row_of(&self, id: &str) -> PyResult<usize> {
        let row = self.store.row_of(id);
        row.ok_or_else(|| PyKeyError::new_err(id.to_string()))
    }

    /// Tokens `(rows, N, D)` of some rows: a slice, or any iterable of numbers, or a mask with a boolean for each row. All where none are given.
    #[pyo3(signature = (rows=None))]
    fn tokens<'py>(
        &self,
        py: Python<'py>,
        rows: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Tokens<'py>> {
        self.tokens_of(py, &self.rows(rows)?)
    }

    /// Global vectors `(rows, G)` of some rows: a slice, or any iterable of numbers, or a mask with a boolean for each row. All where none are given.
    #[pyo3(signature = (rows=None))]
    fn globals<'py>(
        &self,
        py: Python<'py>,
        rows: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Globals<'py>> {
        self.globals_of(py, &self.rows(rows)?)
    }

    /// Compares the checksum of every file with the manifest's.
    ///
    /// Raises StoreError for the first file that differs.
    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        let shards = 0..self.store.manifest().shards.len();
        let verified = work(py, |stop| {
            let mut left = shards.take_while(|_| !stop.is_set());
            left.try_for_each(|shard| self.store.verify_shard(shard))
        })?;
        verified.or_raise()
    }

    fn __len__(&self) -> usize {
        self.store.len()
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        row: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        match Places::of(row, self.store.len())? {
            // Without a thread of its own: a row is a few copied pages.
            Places::One(row) => {
                let (values, global) = self.store.read_rows(&[row]);
                let shape = [self.store.tokens_per_image(), self.store.dim()];
                let tokens = matrix(py, values, shape)?.into_any();
                Ok((tokens, PyArray1::from_vec(py, global).into_any()))
            }
            Places::Many(rows) => Ok((
                self.tokens_of(py, &rows)?.into_any(),
                self.globals_of(py, &rows)?.into_any(),
            )),
        }
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        let path = std::path::absolute(&self.path)?;
        Ok((py.get_type::<Self>(), (path,).into_pyobject(py)?))
    }

    fn __repr__(&self) -> String {
        let (tokens, width) = (self.store.tokens_per_image(), self.store.dim());
        format!(
            "TokenStore({:?}, {} photographs, {tokens} tokens of {width})",
            self.path,
            self.store.len()
        )
    }
}

impl TokenStore {
    pub(crate) fn all_tokens<'py>(&self, py: Python<'py>) -> PyResult<Tokens<'py>> {
        self.tokens(py, None)
    }

    pub(crate) fn all_globals<'py>(&self, py: Python<'py>) -> PyResult<Globals<'py>> {
        self.globals(py, None)
    }

    fn tokens_of<'py>(&self, py: Python<'py>, rows: &[usize]) -> PyResult<Tokens<'py>> {
        let [tokens, width] = [self.store.tokens_per_image(), self.store.dim()];
        let values = self.read(py, rows, tokens * width, tokens::TokenStore::read_tokens)?;
        block(py, values, [rows.len(), tokens, width])
    }

    fn globals_of<'py>(&self, py: Python<'py>, rows: &[usize]) -> PyResult<Globals<'py>> {
        let width = self.store.global_dim();
        let values = self.read(py, rows, width, tokens::TokenStore::read_global)?;
        matrix(py, values, [rows.len(), width])
    }

    fn rows(&self, rows: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<usize>> {
        match rows {
            Some(rows) => Ok(Places::of(rows, self.store.len())?.many()),
            None => Ok((0..self.store.len()).collect()),
        }
    }

    fn read(
        &self,
        py: Python<'_>,
        rows: &[usize],
        size: usize,
        read: fn(&tokens::TokenStore, usize, &mut [f32]),
    ) -> PyResult<Vec<f32>> {
        let values = work::read(py, |stop| {
            let mut values = vec![0.0; rows.len() * size];
            for (&row, out) in rows.iter().zip(values.chunks_exact_mut(size)) {
                if stop.is_set() {
                    break;
                }
                read(&self.store, row, out);
            }
            values
        })?;
        Ok(values)
    }
}
