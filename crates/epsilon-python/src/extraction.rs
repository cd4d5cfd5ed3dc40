//! `extract`: photographs of any kind through a backbone, into a token store or into arrays.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use epsilon::backbone::{self, Download, Features, by_name, locate};
use epsilon::image::{self, Limits, Pixels};
use epsilon::library::scan;
use epsilon::paths;
use epsilon::tokens::{
    ExtractOptions, Failure, Progress as Far, ReadResult, Source, Unread, read_photo, run_source,
    write_store,
};
use numpy::{PyArray2, PyArray3, PyUntypedArray};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::backbone::{Backbone, arrays, named};
use crate::errors::{OrRaise, raise, wrong_type};
use crate::photo::{Photo, is_held};
use crate::predictor::limits;
use crate::progress::{self, Progress};
use crate::store::TokenStore;
use crate::values::{megapixels, shard_size as size, warn_of};
use crate::work::{work, work_telling};

/// Photographs with their ids. What is no file stays Python's until it is its turn: it has no path, and an id that nothing else in
/// memory has.
pub(crate) struct Images {
    items: Vec<(String, PathBuf)>,
    held: HashMap<String, Py<PyAny>>,
}

impl Images {
    /// Those of a folder, or of an iterable of photographs, with ids that are given, each once, or made.
    pub(crate) fn of(images: &Bound<'_, PyAny>, ids: Option<Vec<String>>) -> PyResult<Self> {
        if images.cast::<PyBytes>().is_ok() {
            return Err(one());
        }
        let mut found = match images.extract::<PathBuf>() {
            Ok(folder) => Self::of_folder(images.py(), &folder)?,
            Err(error) if !error.is_instance_of::<PyTypeError>(images.py()) => return Err(error),
            Err(_) => Self::of_iterable(images)?,
        };
        if let Some(ids) = ids {
            let (given, needed) = (ids.len(), found.items.len());
            if given != needed {
                return Err(PyValueError::new_err(format!(
                    "{given} ids for {needed} photographs"
                )));
            }
            let mut seen = HashSet::new();
            if let Some(id) = ids.iter().find(|id| !seen.insert(*id)) {
                return Err(PyValueError::new_err(format!(
                    "ids: {id:?} stands there twice, and names one photograph"
                )));
            }
            let mut held = HashMap::new();
            for ((id, path), new) in found.items.iter_mut().zip(ids) {
                if is_of_memory(path) {
                    held.extend(found.held.remove(id).map(|object| (new.clone(), object)));
                }
                *id = new;
            }
            found.held = held;
        }
        Ok(found)
    }

    /// Refuses numbers as ids in a store: there, an id says whose tokens these are, so that those of the last call's photograph of
    /// that number would be taken for this one's.
    fn check_known_again(&self, ids_are_given: bool) -> PyResult<()> {
        match ids_are_given || self.held.is_empty() {
            true => Ok(()),
            false => Err(PyValueError::new_err(
                "ids: give one for each photograph, for some of them are no files: a store in `out` knows photographs by their ids, \
                 and would take those of another call, counted from 0 as well, for the same",
            )),
        }
    }

    fn of_folder(py: Python<'_>, folder: &Path) -> PyResult<Self> {
        if !folder.is_dir() {
            return Err(match folder.exists() {
                true => one(),
                false => raise(
                    "ImageError",
                    format!("{}: no such folder", folder.display()),
                ),
            });
        }
        let found = scan(folder);
        for failed in &found.failed {
            log::warn!("{}", failed.reason);
        }
        if found.photos.is_empty() && found.failed.is_empty() {
            warn_of(py, &format!("{}: holds no photographs", folder.display()))?;
        }
        let photos = found.photos.into_iter();
        Ok(Self {
            items: photos.map(|photo| (photo.id, photo.path)).collect(),
            held: HashMap::new(),
        })
    }

    fn of_iterable(images: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut found = Self {
            items: Vec::new(),
            held: HashMap::new(),
        };
        let of_rows =
            |array: &Bound<'_, PyUntypedArray>| numpy::PyUntypedArrayMethods::ndim(array) != 4;
        if images.cast::<PyUntypedArray>().is_ok_and(of_rows) {
            return Err(one());
        }
        for (place, image) in images.try_iter().map_err(|_| one())?.enumerate() {
            let image = image?;
            if is_held(&image)? {
                let id = place.to_string();
                found.items.push((id.clone(), PathBuf::new()));
                found.held.insert(id, image.unbind());
                continue;
            }
            // Not held, so a path or of a wrong type.
            let Photo::File(path) = Photo::of(&image, &Limits::default())? else {
                continue;
            };
            found.items.push((paths::text(&path), path));
        }
        Ok(found)
    }

    /// Reads one, on a thread that decodes.
    fn read(
        &self,
        id: &str,
        path: &Path,
        backbone: &dyn backbone::Backbone,
        limits: &Limits,
    ) -> ReadResult {
        let preprocess = &backbone.info().preprocess;
        // A file may be called like another photograph's number.
        let held = self.held.get(id).filter(|_| is_of_memory(path));
        let Some(object) = held else {
            return read_photo(path, || image::open_for(path, preprocess, limits));
        };
        let photo = Python::attach(|py| {
            let photo = Photo::of(object.bind(py), limits);
            photo.map_err(|error| error.value(py).to_string())
        });
        let photo = photo.map_err(|reason| Unread {
            reason: format!("{id}: {reason}"),
            content: true,
        })?;
        read_photo(id.as_ref(), || match &photo {
            Photo::File(path) => image::open_for(path, preprocess, limits),
            Photo::Bytes(bytes) => image::decode_for(id.as_ref(), bytes, preprocess, limits),
            Photo::Image(picture) => {
                let mut values = vec![0.0; preprocess.len()];
                preprocess.apply(picture, &mut values);
                Ok(Pixels { values, flaw: None })
            }
        })
    }
}

/// Whether an item with this path is in memory. (An empty path that somebody gives has an empty id.)
fn is_of_memory(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn one() -> PyErr {
    PyTypeError::new_err(
        "images are a folder, or an iterable of photographs, such as a list of paths or an array (n, H, W, 3), not one",
    )
}

/// What came of photographs in memory.
#[derive(Default)]
pub(crate) struct Made {
    pub ids: Vec<String>,
    pub tokens: Vec<f32>,
    pub global: Vec<f32>,
    /// Ids and reasons.
    pub failed: Vec<(String, String)>,
    flawed: Vec<(String, String)>,
}

/// Runs photographs through a backbone, into memory.
pub(crate) fn run(
    py: Python<'_>,
    images: &Images,
    backbone: &dyn backbone::Backbone,
    limits: Limits,
    progress: Option<&Progress>,
) -> PyResult<Made> {
    let total = images.items.len();
    let made = work_telling(py, progress, |stop| {
        let mut made = Made::default();
        let mut source = Source {
            info: backbone.info(),
            read: &|id, path| images.read(id, path, backbone, &limits),
            features: &mut |values, count, out: &mut Features| backbone.start(values, count, out),
            batch: backbone.device_batch(),
        };
        let run = run_source(&images.items, &mut source, &mut |batch| {
            made.ids.extend_from_slice(&batch.ids);
            made.tokens.extend_from_slice(&batch.features.tokens);
            made.global.extend_from_slice(&batch.features.global);
            let failed = batch.failed.iter();
            made.failed
                .extend(failed.map(|(id, unread)| (id.clone(), unread.reason.clone())));
            made.flawed.extend(batch.flawed.iter().map(pair));
            stop.tell(progress::Far {
                done: made.ids.len() + made.failed.len(),
                total: Some(total),
                what: "extract",
            });
            stop.flow()
        });
        run.map(|()| made)
    })?;
    made.or_raise()
}

fn pair(failure: &Failure) -> (String, String) {
    (failure.id.clone(), failure.reason.clone())
}

/// Which backbone: one that is loaded, or weights.
pub(crate) enum Which {
    Loaded(Py<Backbone>),
    Weights(PathBuf),
}

impl<'py> FromPyObject<'_, 'py> for Which {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(loaded) = given.cast::<Backbone>() {
            return Ok(Self::Loaded(loaded.to_owned().unbind()));
        }
        given.extract().map(Self::Weights).map_err(|error| {
            wrong_type(given.py(), error, || {
                let kind = given.get_type();
                format!("a Backbone, or the weights of one, not {kind}")
            })
        })
    }
}

/// Turns photographs into tokens.
///
/// `images` is a folder, whose photographs have their paths in it as ids, or an iterable of photographs (paths, bytes of files, images
/// of Pillow's, arrays of uint8), whose ids are given as `ids`, each once, or made: the path of a file, and the number of anything else.
/// `backbone` is a Backbone, or weights as `Backbone.load` takes them.
///
/// With `out`, a folder, the tokens are kept there as a TokenStore, and a call that was ended goes on where it stopped; `dtype` is
/// `f16` or `f32`, and `shard_size` images are in a file. A store knows photographs by their ids alone, so that `ids` must be given
/// there for what is no file. Without `out` the tokens are kept in memory, as float32. Photographs of more than `max_megapixels`
/// million pixels are refused [default: 100].
///
/// One that cannot be read costs the others nothing: the result names it.
///
/// Raises BackboneError, ExtractionError or StoreError, and ValueError for ids that are missing or stand there twice.
///
/// >>> made = extract("photos", "backbone.safetensors")
/// >>> len(made.ids) == len(made.tokens), made.failed
/// (True, [])
#[pyfunction]
#[pyo3(signature = (images, backbone, out=None, *, ids=None, dtype="f16", shard_size=128, max_megapixels=None, progress=None))]
#[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn extract(
    py: Python<'_>,
    images: &Bound<'_, PyAny>,
    backbone: Which,
    out: Option<PathBuf>,
    ids: Option<Vec<String>>,
    dtype: &str,
    #[pyo3(from_py_with = size)] shard_size: usize,
    #[pyo3(from_py_with = megapixels)] max_megapixels: Option<u32>,
    progress: Option<Progress>,
) -> PyResult<Extraction> {
    let dtype = named("dtype", dtype)?;
    let ids_are_given = ids.is_some();
    let images = Images::of(images, ids)?;
    if out.is_some() {
        images.check_known_again(ids_are_given)?;
    }
    let backbone = match backbone {
        Which::Loaded(loaded) => loaded.get().0.clone(),
        Which::Weights(weights) => {
            let loaded = work(py, |_| {
                let place = locate(&by_name(&weights), Download::Quiet)?;
                backbone::load(&place)
            })?;
            loaded.or_raise()?.into()
        }
    };
    let (backbone, limits) = (&*backbone, limits(max_megapixels));
    let Some(dir) = out else {
        let made = run(py, &images, backbone, limits, progress.as_ref())?;
        let (tokens, globals) = arrays(py, backbone, made.ids.len(), made.tokens, made.global)?;
        return Ok(Extraction {
            ids: made.ids,
            failed: made.failed,
            flawed: made.flawed,
            resumed: 0,
            kept: Kept::Arrays(tokens.unbind(), globals.unbind()),
        });
    };
    let options = ExtractOptions {
        dtype,
        shard_size,
        limits,
        ..ExtractOptions::default()
    };
    let report = work_telling(py, progress.as_ref(), |stop| {
        let mut source = Source {
            info: backbone.info(),
            read: &|id, path| images.read(id, path, backbone, &limits),
            features: &mut |values, count, out: &mut Features| backbone.start(values, count, out),
            batch: backbone.device_batch(),
        };
        write_store(
            &images.items,
            &mut source,
            &dir,
            &options,
            &mut |at: Far| {
                stop.tell(progress::Far {
                    done: at.done + at.failed,
                    total: Some(at.total),
                    what: "extract",
                });
                stop.flow()
            },
        )
    })?;
    let report = report.or_raise()?;
    let store = TokenStore::open(py, dir)?;
    Ok(Extraction {
        ids: store.get().ids().to_vec(),
        failed: report.failed.iter().map(pair).collect(),
        flawed: report.flawed.iter().map(pair).collect(),
        resumed: report.resumed,
        kept: Kept::Store(Py::new(py, store)?),
    })
}

enum Kept {
    Arrays(Py<PyArray3<f32>>, Py<PyArray2<f32>>),
    Store(Py<TokenStore>),
}

/// What came of photographs: tokens, and which could not be read.
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct Extraction {
    /// Ids of the photographs with tokens, one a row.
    #[pyo3(get)]
    ids: Vec<String>,
    /// Ids of those that could not be read, and why.
    #[pyo3(get)]
    failed: Vec<(String, String)>,
    /// Ids of those whose files are not quite right though they could be read, and what is wrong.
    #[pyo3(get)]
    flawed: Vec<(String, String)>,
    /// Photographs whose tokens an earlier call had left in the store.
    #[pyo3(get)]
    resumed: usize,
    kept: Kept,
}

#[pymethods]
impl Extraction {
    /// Tokens `(n, N, D)`, float32; read from the store, where there is one.
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray3<f32>>> {
        match &self.kept {
            Kept::Arrays(tokens, _) => Ok(tokens.bind(py).clone()),
            Kept::Store(store) => store.get().all_tokens(py),
        }
    }

    /// Global vectors `(n, G)`, float32.
    #[getter]
    fn globals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        match &self.kept {
            Kept::Arrays(_, globals) => Ok(globals.bind(py).clone()),
            Kept::Store(store) => store.get().all_globals(py),
        }
    }

    /// The token store; None where the tokens are in memory alone.
    #[getter]
    fn store(&self, py: Python<'_>) -> Option<Py<TokenStore>> {
        match &self.kept {
            Kept::Arrays(..) => None,
            Kept::Store(store) => Some(store.clone_ref(py)),
        }
    }

    fn __len__(&self) -> usize {
        self.ids.len()
    }

    fn __repr__(&self) -> String {
        format!(
            "Extraction({} photographs, {} failed)",
            self.ids.len(),
            self.failed.len()
        )
    }
}
