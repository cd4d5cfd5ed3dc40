//! `tag`: labels for all photographs of a folder; and `learn`, a model from what is known of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use epsilon::backbone::{by_name, is_hub_id};
use epsilon::learning::{AT_LEAST, LearnEvent, LearnOptions, Learner, Network, earlier_network};
use epsilon::library::Library;
use epsilon::model::{Keep, Model};
use epsilon::tagger::{SidecarName, TagEvent, TagOptions, Tagger, subjects};
use epsilon::training::Event;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::Serialize;

use crate::errors::{OrRaise, raise, wrong_type};
use crate::predictor::{Predictor, named};
use crate::progress::{Far, Progress};
use crate::values::{Strings, Vectors, at_least, record, top, warn_of};
use crate::work::{Stop, work, work_telling};

/// Which model: one that is loaded, or a file.
pub(crate) enum Which {
    Loaded(Py<Predictor>),
    File(PathBuf),
}

impl<'py> FromPyObject<'_, 'py> for Which {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(loaded) = given.cast::<Predictor>() {
            return Ok(Self::Loaded(loaded.to_owned().unbind()));
        }
        given.extract().map(Self::File).map_err(|error| {
            wrong_type(given.py(), error, || {
                let kind = given.get_type();
                format!("a Predictor, or the file of a model, not {kind}")
            })
        })
    }
}

impl Which {
    pub(crate) fn load(self, py: Python<'_>) -> PyResult<Arc<epsilon::Predictor>> {
        match self {
            Self::Loaded(predictor) => Ok(predictor.get().loaded.clone()),
            Self::File(path) => {
                let options = epsilon::Predictor::options(named(&path)?);
                Ok(Arc::new(work(py, |_| options.load())?.or_raise()?))
            }
        }
    }
}

/// How sidecars are named.
pub(crate) fn sidecar_name(name: &str) -> PyResult<SidecarName> {
    match name {
        "full" => Ok(SidecarName::Full),
        "stem" => Ok(SidecarName::Stem),
        _ => Err(PyValueError::new_err(format!(
            "{name:?}: sidecars are named \"full\" (photo.jpg.xmp) or \"stem\" (photo.xmp)"
        ))),
    }
}

/// A report with the messages of what failed.
#[derive(Serialize)]
struct Tagged<R: Serialize> {
    #[serde(flatten)]
    report: R,
    failures: Vec<String>,
}

/// Tags the photographs of a folder and of the folders in it, and keeps what is known of them in its library: what is tagged and has
/// not changed is left alone, and a call that was ended goes on where it stopped.
///
/// `model` is a Predictor or what `Predictor.load` takes; without it the one that was learnt from the folder is taken. `words` are those
/// to tag with, `animal|dog` the word dog below animal; the model's own labels where none are given. Labels of at least the probability
/// `threshold` are kept, at most `top`; those above the model's own thresholds where neither is given. `library` is the library's folder
/// [default: .epsilon in the folder], `xmp` writes sidecars, too (`"full"`: photo.jpg.xmp, `"stem"`: photo.xmp), `csv` a table; `exclude`
/// holds patterns as .gitignore has them. `forget_missing` and `prune` are as in `epsilon tag --help`.
///
/// A report: how many were tagged, unchanged, failed and so on, and the messages of `failures`.
///
/// Raises TagError, LibraryError, LabelError, ModelError or BackboneError.
#[pyfunction]
#[pyo3(signature = (folder, model=None, words=None, *, threshold=None, top=None, library=None, xmp=None, csv=None, exclude=Vec::new(), forget_missing=false, prune=false, progress=None))]
#[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn tag(
    py: Python<'_>,
    folder: PathBuf,
    model: Option<Which>,
    words: Option<Strings>,
    threshold: Option<f32>,
    #[pyo3(from_py_with = top)] top: Option<usize>,
    library: Option<PathBuf>,
    xmp: Option<&str>,
    csv: Option<PathBuf>,
    exclude: Vec<String>,
    forget_missing: bool,
    prune: bool,
    progress: Option<Progress>,
) -> PyResult<Py<PyAny>> {
    let place = library.clone().unwrap_or_else(|| Library::beside(&folder));
    let predictor = match model {
        Some(model) => model.load(py)?,
        None => Which::File(learnt(&place)?).load(py)?,
    };
    let words = words.map(|words| subjects(words.0, "words".as_ref()));
    let options = TagOptions {
        keep: Keep::chosen(predictor.model().card(), threshold, top).or_raise()?,
        words: words.transpose().or_raise()?,
        library,
        sidecars: xmp.map(sidecar_name).transpose()?,
        forget_missing,
        prune,
        csv,
        exclude,
    };
    let mut failures = Vec::new();
    let report = work_telling(py, progress.as_ref(), |stop| {
        let mut tagger = Tagger::open(&predictor, &folder, options)?;
        let (mut done, mut total) = (0, 0);
        tagger.tag(&mut |event| {
            match event {
                TagEvent::Begin(photos) => total = photos,
                TagEvent::Done(photos) => done += photos,
                TagEvent::Failed(reason) => failures.push(reason.to_string()),
                TagEvent::Flawed(reason) => log::warn!("{reason}"),
                TagEvent::Orphan(sidecar) => {
                    log::warn!(
                        "left behind: {sidecar}: its photograph is gone and it holds labels of ours"
                    );
                }
                _ => {}
            }
            if matches!(event, TagEvent::Begin(_) | TagEvent::Done(_)) {
                tell(stop, done, total, "tag");
            }
            stop.flow()
        })
    })?;
    let report = report.or_raise()?;
    if report.tagged + report.unchanged + report.failed == 0 && report.others.is_empty() {
        warn_of(py, &format!("{}: holds no photographs", folder.display()))?;
    }
    record(py, &Tagged { report, failures })
}

fn tell(stop: &Stop, done: usize, total: usize, what: &'static str) {
    let total = Some(total);
    stop.tell(Far { done, total, what });
}

/// The model that was learnt from a library.
fn learnt(library: &Path) -> PyResult<PathBuf> {
    let learnt = Library::model_file(library);
    match learnt.exists() {
        true => Ok(learnt),
        false => Err(raise(
            "LibraryError",
            format!(
                "{}: nothing was learnt there: name a model",
                library.display()
            ),
        )),
    }
}

/// Learns a model from the keywords that a folder's photographs have, and from what their owner said of their labels.
///
/// `network` is the network to learn with, as weights, `hf:OWNER/NAME`, a short name of `models()` or a model file whose network is
/// taken; without it the one of the time before. `vectors` is a file of word vectors, or a pair `(file, names)` with the list of its words, where
/// the network has no text tower. The model is
/// written to `out` [default: model.safetensors in the library's folder, where `tag` finds it]. The other arguments are as in
/// `epsilon learn --help`.
///
/// A report, as `epsilon learn --json` prints it.
///
/// Raises LearnError, and those of the steps.
#[pyfunction]
#[pyo3(signature = (folder, network=None, *, vectors=None, classes=None, library=None, out=None, at_least=AT_LEAST, folders=false, exclude=Vec::new(), progress=None))]
#[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn learn(
    py: Python<'_>,
    folder: PathBuf,
    network: Option<PathBuf>,
    vectors: Option<Vectors>,
    classes: Option<PathBuf>,
    library: Option<PathBuf>,
    out: Option<PathBuf>,
    #[pyo3(from_py_with = at_least)] at_least: usize,
    folders: bool,
    exclude: Vec<String>,
    progress: Option<Progress>,
) -> PyResult<Py<PyAny>> {
    if at_least == 0 {
        return Err(PyValueError::new_err(
            "at_least = 0: give a number of photographs, at least 1",
        ));
    }
    let place = library.clone().unwrap_or_else(|| Library::beside(&folder));
    let mut network = match network {
        Some(named) => network_of(py, &named)?,
        None => earlier_network(&place).or_raise()?.ok_or_else(|| {
            raise(
                "LearnError",
                format!(
                    "{}: nothing was learnt there before: name a network",
                    place.display()
                ),
            )
        })?,
    };
    network.vectors = vectors.map(|file| file.0).or(network.vectors);
    network.classes = classes.or(network.classes);
    let options = LearnOptions {
        library,
        model: out,
        at_least,
        folders,
        exclude,
        ..LearnOptions::default()
    };
    let report = work_telling(py, progress.as_ref(), |stop| {
        let learner = Learner::open(&folder, network, options)?;
        let (mut read, mut photos) = (0, 0);
        learner.learn(&mut |event| {
            match event {
                LearnEvent::Reading(count) => photos = count,
                LearnEvent::Read(more) => {
                    read += more;
                    tell(stop, read, photos, "read");
                }
                LearnEvent::Measuring { done, total } => tell(stop, done, total, "measure"),
                LearnEvent::Flaw(flaw) => log::warn!("{flaw}"),
                LearnEvent::Extracting(at) => tell(stop, at.done + at.failed, at.total, "extract"),
                LearnEvent::Training(Event::Step { done, total, .. }) => {
                    tell(stop, done, total, "train");
                }
                _ => {}
            }
            stop.flow()
        })
    })?;
    record(py, &report.or_raise()?)
}

/// A network by its weights, or that of a trained model.
fn network_of(py: Python<'_>, network: &Path) -> PyResult<Network> {
    let path = by_name(network);
    if is_hub_id(&path) || !Model::is_at(&path).or_raise()? {
        return Ok(Network::of(path));
    }
    work(py, |_| Network::of_model(&path))?.or_raise()
}
