//! `Predictor`: a model with its backbone, that ranks words for photographs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use epsilon::PredictError;
use epsilon::backbone::{MODELS, by_name, is_hub_id};
use epsilon::image::{self, Limits, RgbImage};
use epsilon::library::{Label as Kept, add_to_sidecar};
use epsilon::methods::LabelMap;
use epsilon::model::{Keep, Ranked as Label, Ranker, Ranking};
use epsilon::predictor::BundleOptions;
use epsilon::tokens::usual_batch;
use numpy::{PyArray1, PyArray2, PyArray3};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple, PyType};

use crate::batches::Batches;
use crate::errors::{OrRaise, raise};
use crate::photo::Photo;
use crate::progress::Progress;
use crate::tag::sidecar_name;
use crate::values::{Strings, Vectors, block, matrix, megapixels, most, record, top};
use crate::work::work;

/// Tokens `(N, D)` and global vector `(G,)`.
type Features<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<f32>>);

/// Published networks that rank words without training, by the short names that `Predictor.load` takes, as `epsilon models --json`.
#[pyfunction]
pub(crate) fn models(py: Python<'_>) -> PyResult<Py<PyAny>> {
    record(py, &MODELS)
}

/// The limits of pictures of up to so many million pixels.
pub(crate) fn limits(max_megapixels: Option<u32>) -> Limits {
    max_megapixels.map_or_else(Limits::default, Limits::megapixels)
}

/// The place of a model that is named.
pub(crate) fn named(model: &Path) -> PyResult<PathBuf> {
    let path = by_name(model);
    match is_hub_id(&path) || path.exists() {
        true => Ok(path),
        false => Err(raise(
            "ModelError",
            format!(
                "{}: no such file or folder, and no short name of a network: epsilon_zsl.models() lists the names",
                path.display()
            ),
        )),
    }
}

/// A model with its backbone and word vectors, that ranks labels for photographs; several threads may use one.
///
/// >>> predictor = Predictor.load("model.safetensors")
/// >>> ranking = predictor.rank("photo.png", ["striped circle", "plain star"])
/// >>> sorted(label.name for label in ranking)
/// ['plain star', 'striped circle']
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct Predictor {
    pub loaded: Arc<epsilon::Predictor>,
    /// Its own labels, once they were asked for.
    own: OnceLock<Arc<Ranker>>,
}

#[pymethods]
impl Predictor {
    /// Loads a model with the backbone and the word vectors that it names.
    ///
    /// `model` is a model file, a bundle, or a network that ranks words without training: weights, `hf:OWNER/NAME` or a short name
    /// of `models()`, which is downloaded once. `backbone` and `vectors` name other places for the model's parts: `vectors` is a file or,
    /// of one that holds numbers alone such as a .npy, a pair `(file, names)` with the list of its words, one a line. `classes` is a list
    /// of a classifier's classes, `labels` the words that will be ranked, where they are known; `device` is `cpu`, or what this build has
    /// else. `allow_download` lets the hub be asked for what the model file names. Photographs of more than `max_megapixels` million
    /// pixels are refused [default: 100].
    ///
    /// Raises ModelError, BackboneError, LabelError, DeviceError or PredictError.
    #[staticmethod]
    #[pyo3(signature = (model, *, backbone=None, vectors=None, classes=None, labels=None, device="cpu", allow_download=false, max_megapixels=None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn load(
        py: Python<'_>,
        model: PathBuf,
        backbone: Option<PathBuf>,
        vectors: Option<Vectors>,
        classes: Option<PathBuf>,
        labels: Option<Strings>,
        device: &str,
        allow_download: bool,
        #[pyo3(from_py_with = megapixels)] max_megapixels: Option<u32>,
    ) -> PyResult<Self> {
        let mut options = epsilon::Predictor::options(named(&model)?)
            .device(epsilon::device::device(device).or_raise()?)
            .allow_download(allow_download)
            .limits(limits(max_megapixels));
        if let Some(weights) = backbone {
            options = options.backbone(by_name(&weights));
        }
        if let Some(file) = vectors {
            options = options.vectors(file.0);
        }
        if let Some(file) = classes {
            options = options.classes(file);
        }
        if let Some(words) = labels {
            options = options.labels(words.0);
        }
        let loaded = work(py, |_| options.load())?.or_raise()?;
        Ok(Self {
            loaded: Arc::new(loaded),
            own: OnceLock::new(),
        })
    }

    /// Words to rank, ready for any number of photographs; the model's own labels where none are given.
    ///
    /// Raises LabelError for a word without a vector or one that is given twice.
    #[pyo3(signature = (words=None))]
    fn labels(&self, py: Python<'_>, words: Option<Strings>) -> PyResult<Labels> {
        Ok(Labels {
            predictor: self.loaded.clone(),
            ranker: self.ranker(py, words.map(|words| Words::Words(words.0)))?,
        })
    }

    /// All labels for a photograph, best first; the best `top` where a number is given.
    ///
    /// A photograph is a path, the bytes of a file, an image of Pillow's, or an array of uint8 `(H, W)`, `(H, W, 3)` or `(H, W, 4)`.
    /// Labels are those of `Predictor.labels`, or a list of words; the model's own where none are given.
    ///
    /// Raises ImageError for a photograph that cannot be read, LabelError for a word without a vector.
    #[pyo3(signature = (photo, labels=None, top=None))]
    fn rank(
        &self,
        py: Python<'_>,
        photo: &Bound<'_, PyAny>,
        labels: Option<Words>,
        #[pyo3(from_py_with = top)] top: Option<usize>,
    ) -> PyResult<Vec<Ranked>> {
        let photo = self.photo(photo)?;
        let ranker = self.ranker(py, labels)?;
        let ranking = work(py, |_| {
            let ranking = self.loaded.rank(photo.get(), &ranker)?;
            warn(&ranking, &photo);
            Ok::<_, PredictError>(ranking)
        })?;
        best(ranking.or_raise()?, top)
    }

    /// As `rank`, of many photographs, any iterable of them, which are decoded on all threads: a list with the ranking of each, or the
    /// ImageError of one that cannot be read in its place.
    ///
    /// `progress` is called with (done, total, what) a few times a second; an exception that it raises ends the work. Photographs are
    /// held a few at a time.
    #[pyo3(signature = (photos, labels=None, top=None, progress=None))]
    fn rank_all<'py>(
        &self,
        py: Python<'py>,
        photos: &Bound<'py, PyAny>,
        labels: Option<Words>,
        #[pyo3(from_py_with = top)] top: Option<usize>,
        progress: Option<Progress>,
    ) -> PyResult<Bound<'py, PyList>> {
        let ranker = self.ranker(py, labels)?;
        let all = PyList::empty(py);
        self.each(
            photos,
            &ranker,
            progress.as_ref(),
            &mut |ranking| match ranking {
                Ok(ranking) => all.append(best(ranking, top)?),
                Err(error) => all.append(error.into_value(py)),
            },
        )?;
        Ok(all)
    }

    /// Scores of labels for photographs, `(photographs, labels)` float32, in the labels' order. Only their order within a row means
    /// something.
    ///
    /// Raises ImageError for the first photograph that cannot be read; `rank_all` goes on.
    #[pyo3(signature = (photos, labels=None, progress=None))]
    fn scores<'py>(
        &self,
        py: Python<'py>,
        photos: &Bound<'py, PyAny>,
        labels: Option<Words>,
        progress: Option<Progress>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let ranker = self.ranker(py, labels)?;
        let names = ranker.labels().names();
        let places = names
            .iter()
            .enumerate()
            .map(|(place, name)| (name.as_str(), place));
        let places: HashMap<&str, usize> = places.collect();
        let (mut scores, mut count) = (Vec::new(), 0);
        self.each(photos, &ranker, progress.as_ref(), &mut |ranking| {
            let mut row = vec![0.0; names.len()];
            for label in ranking?.iter() {
                row[places[label.name.as_str()]] = label.score;
            }
            scores.extend(row);
            count += 1;
            Ok(())
        })?;
        matrix(py, scores, [count, names.len()])
    }

    /// Those labels of a ranking that are kept: those of at least the probability `threshold`, at most `top`; those above the model's
    /// own thresholds where neither is given.
    ///
    /// Raises ModelError where that needs probabilities and the model is not calibrated.
    #[pyo3(signature = (ranking, *, threshold=None, top=None))]
    fn keep(
        &self,
        ranking: Vec<PyRef<'_, Ranked>>,
        threshold: Option<f32>,
        #[pyo3(from_py_with = top)] top: Option<usize>,
    ) -> PyResult<Vec<Ranked>> {
        let keep = Keep::chosen(self.loaded.model().card(), threshold, top).or_raise()?;
        let ranking = ranking.iter().map(|label| label.0.clone());
        let kept = keep.of(ranking.collect()).into_iter();
        Ok(kept.map(Ranked).collect())
    }

    /// What the backbone makes of a photograph: tokens `(N, D)` and a global vector `(G,)`, float32.
    fn features<'py>(&self, py: Python<'py>, photo: &Bound<'py, PyAny>) -> PyResult<Features<'py>> {
        let photo = self.photo(photo)?;
        let made = work(py, |_| {
            let made = self.loaded.features(photo.get());
            made.map(Cow::into_owned)
        })?;
        let made = made.or_raise()?;
        let info = self.loaded.backbone().info();
        let tokens = matrix(py, made.tokens, [info.tokens, info.dim])?;
        Ok((tokens, PyArray1::from_vec(py, made.global)))
    }

    /// The photograph's semantic vectors `(M, d)`, float32, whose best product with a label's query is the label's score; None where the
    /// model's method scores otherwise.
    fn semantic_vectors<'py>(
        &self,
        py: Python<'py>,
        photo: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyArray2<f32>>>> {
        let photo = self.photo(photo)?;
        let ranker = self.ranker(py, None)?;
        let vectors = work(py, |_| {
            let made = self.loaded.features(photo.get())?.into_owned();
            Ok::<_, PredictError>(ranker.rank_with_vectors(1, made.tokens, made.global).1)
        })?;
        let Some(mut vectors) = vectors.or_raise()? else {
            return Ok(None);
        };
        let shape = [vectors.groups, vectors.width];
        // What follows is of the anchor.
        vectors.values.truncate(shape[0] * shape[1]);
        matrix(py, vectors.values, shape).map(Some)
    }

    /// Heat maps of a label for a photograph: where in the picture its score comes from, one for each way in which the method looks.
    ///
    /// `labels` are those among which it is ranked, where they matter to the method; the label alone where none are given.
    ///
    /// Raises PredictError for a method without maps.
    #[pyo3(signature = (photo, label, labels=None))]
    fn explain(
        &self,
        py: Python<'_>,
        photo: &Bound<'_, PyAny>,
        label: String,
        labels: Option<Words>,
    ) -> PyResult<Vec<HeatMap>> {
        let photo = self.photo(photo)?;
        let among = labels.unwrap_or_else(|| Words::Words(vec![label.clone()]));
        let ranker = self.ranker(py, Some(among))?;
        let limits = self.loaded.limits();
        let explained = work(py, |_| {
            let picture = match photo {
                Photo::File(path) => image::open(&path, limits)?,
                Photo::Bytes(bytes) => image::decode("photograph".as_ref(), &bytes, limits)?,
                Photo::Image(picture) => picture,
            };
            let maps = self.loaded.explain(&picture, &ranker, &label)?;
            Ok::<_, PredictError>((Arc::new(picture), maps))
        })?;
        let (picture, maps) = explained.or_raise()?;
        let maps = maps.into_iter().map(|map| HeatMap {
            predictor: self.loaded.clone(),
            picture: picture.clone(),
            map,
        });
        Ok(maps.collect())
    }

    /// What the model is.
    #[getter]
    fn model(&self) -> Model {
        Model(self.loaded.clone())
    }

    /// Writes the model, its backbone and vectors of words as one file, from which `load` needs nothing else.
    ///
    /// It holds the first `words` of the vector file [default: 50,000] and `labels` besides. `exact` keeps all values as they are;
    /// otherwise matrices are rounded to half precision where that keeps them. `licence` names the licence of the backbone's weights,
    /// where it is not known. What was written is returned.
    #[pyo3(signature = (out, *, words=None, labels=None, exact=false, licence=None))]
    fn bundle(
        &self,
        py: Python<'_>,
        out: PathBuf,
        #[pyo3(from_py_with = most)] words: Option<usize>,
        labels: Option<Strings>,
        exact: bool,
        licence: Option<String>,
    ) -> PyResult<Py<PyAny>> {
        let usual = BundleOptions::default();
        let options = BundleOptions {
            words: words.unwrap_or(usual.words),
            labels: labels.map(|words| words.0).unwrap_or_default(),
            exact,
            licence,
        };
        let written = work(py, |_| self.loaded.bundle(&out, &options))?;
        record(py, &written.or_raise()?)
    }

    /// Writes labels of a photograph, such as those of `keep`, into its XMP sidecar, as `tag` does, and returns the sidecar's path.
    ///
    /// `name` is `"full"` (photo.jpg.xmp, as darktable and digiKam have it) or `"stem"` (photo.xmp). What stands there stays.
    ///
    /// Raises LibraryError.
    #[pyo3(signature = (photo, labels, name="full"))]
    fn write_sidecar<'py>(
        &self,
        py: Python<'py>,
        photo: PathBuf,
        labels: Vec<PyRef<'_, Ranked>>,
        name: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = sidecar_name(name)?;
        if !photo.is_file() {
            let photo = photo.display();
            return Err(raise(
                "LibraryError",
                format!("{photo}: no such photograph"),
            ));
        }
        let labels = labels
            .iter()
            .map(|label| Kept::of(label.0.clone(), Vec::new()));
        let labels: Vec<Kept> = labels.collect();
        let identity = self.loaded.model().identity();
        let written = work(py, |_| add_to_sidecar(&photo, labels, name, &identity))?;
        let path = written.or_raise()?;
        py.import("pathlib")?.getattr("Path")?.call1((path,))
    }

    fn __repr__(&self) -> String {
        let card = self.loaded.model().card();
        let (method, labels) = (card.method().name(), card.labels().len());
        let model = self.loaded.path();
        format!("Predictor({model:?}, method={method:?}, {labels} labels)")
    }
}

impl Predictor {
    fn photo(&self, given: &Bound<'_, PyAny>) -> PyResult<Photo> {
        Photo::of(given, self.loaded.limits())
    }

    /// A ranker of labels: those that are ready, or words.
    fn ranker(&self, py: Python<'_>, labels: Option<Words>) -> PyResult<Arc<Ranker>> {
        match labels {
            Some(Words::Ready(labels)) => {
                let labels = labels.get();
                match Arc::ptr_eq(&labels.predictor, &self.loaded) {
                    true => Ok(labels.ranker.clone()),
                    false => Err(PyValueError::new_err(
                        "these labels are another predictor's: make them with this one's labels()",
                    )),
                }
            }
            Some(Words::Words(words)) if words.is_empty() => {
                Err(raise("LabelError", "words: give at least one".into()))
            }
            Some(Words::Words(words)) => {
                let ranker = work(py, |_| self.loaded.labels(words))?;
                Ok(Arc::new(ranker.or_raise()?))
            }
            None => match self.own.get() {
                Some(own) => Ok(own.clone()),
                None => {
                    let own = Arc::new(work(py, |_| self.loaded.own_labels())?.or_raise()?);
                    Ok(self.own.get_or_init(|| own).clone())
                }
            },
        }
    }

    /// Ranks labels for photographs and hands each ranking, or the exception of a photograph that cannot be read, to `take`.
    fn each(
        &self,
        photos: &Bound<'_, PyAny>,
        ranker: &Ranker,
        progress: Option<&Progress>,
        take: &mut dyn FnMut(PyResult<Ranking>) -> PyResult<()>,
    ) -> PyResult<()> {
        let most = usual_batch(self.loaded.backbone());
        let mut batches = Batches::of(photos, most, *self.loaded.limits())?;
        while let Some(batch) = batches.next("rank", progress)? {
            let given: Vec<&Photo> = batch.iter().flatten().collect();
            let ranked = work(photos.py(), |_| {
                let ranked =
                    (self.loaded).rank_all(given.iter().map(|photo| photo.get()), ranker)?;
                for (ranking, photo) in ranked.iter().zip(&given) {
                    ranking.iter().for_each(|ranking| warn(ranking, photo));
                }
                Ok::<_, PredictError>(ranked)
            })?;
            let mut ranked = ranked.or_raise()?.into_iter();
            for photo in batch {
                let ranking = photo.map(|_| ranked.next());
                match ranking.transpose() {
                    Some(Ok(ranking)) => take(ranking.or_raise())?,
                    Some(Err(error)) => take(Err(error))?,
                    None => {}
                }
            }
        }
        Ok(())
    }
}

/// Says what was wrong with a photograph's file though it could be read.
fn warn(ranking: &Ranking, photo: &Photo) {
    match (ranking.flaw, photo) {
        (Some(flaw), Photo::File(path)) => log::warn!("{}: {flaw}", path.display()),
        (Some(flaw), _) => log::warn!("photograph: {flaw}"),
        (None, _) => {}
    }
}

fn best(ranking: Ranking, top: Option<usize>) -> PyResult<Vec<Ranked>> {
    if top == Some(0) {
        return Err(PyValueError::new_err("top = 0: ask for at least 1 label"));
    }
    let best = ranking.into_iter().take(top.unwrap_or(usize::MAX));
    Ok(best.map(Ranked).collect())
}

/// Labels as arguments: those that are ready, or words.
pub(crate) enum Words {
    Ready(Py<Labels>),
    Words(Vec<String>),
}

impl<'py> FromPyObject<'_, 'py> for Words {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(labels) = given.cast::<Labels>() {
            return Ok(Self::Ready(labels.to_owned().unbind()));
        }
        let words =
            || PyTypeError::new_err("labels are those of Predictor.labels, or a list of words");
        if given.cast::<PyString>().is_ok() {
            return Err(words());
        }
        let given = given.try_iter().map_err(|_| words())?;
        let all = given.map(|word| word?.extract::<String>().map_err(|_| words()));
        Ok(Self::Words(all.collect::<PyResult<_>>()?))
    }
}

/// Words whose vectors are found, to rank for photographs with the predictor that found them.
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct Labels {
    predictor: Arc<epsilon::Predictor>,
    ranker: Arc<Ranker>,
}

#[pymethods]
impl Labels {
    /// The words.
    #[getter]
    fn names(&self) -> Vec<String> {
        self.ranker.labels().names().to_vec()
    }

    fn __len__(&self) -> usize {
        self.ranker.labels().len()
    }

    fn __repr__(&self) -> String {
        format!("Labels({} words)", self.ranker.labels().len())
    }
}

/// A label with its score for a photograph.
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct Ranked(pub(crate) Label);

#[pymethods]
impl Ranked {
    /// A label with what is known of it.
    #[new]
    #[pyo3(signature = (name, score, seen, probability=None, kept=None))]
    fn new(
        name: String,
        score: f32,
        seen: bool,
        probability: Option<f32>,
        kept: Option<bool>,
    ) -> Self {
        Self(Label {
            name,
            score,
            seen,
            probability,
            kept,
        })
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        let of = &self.0;
        let known = (&of.name, of.score, of.seen, of.probability, of.kept);
        Ok((py.get_type::<Self>(), known.into_pyobject(py)?))
    }

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

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn __repr__(&self) -> String {
        let Label { name, score, .. } = &self.0;
        match self.0.probability {
            Some(probability) => {
                format!("Ranked({name:?}, score={score}, probability={probability})")
            }
            None => format!("Ranked({name:?}, score={score})"),
        }
    }
}

/// What a model is.
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct Model(Arc<epsilon::Predictor>);

#[pymethods]
impl Model {
    /// The labels that it ranks where nobody asks for others.
    #[getter]
    fn labels(&self) -> Vec<String> {
        self.0.model().card().labels().to_vec()
    }

    /// Those of them that it was trained on.
    #[getter]
    fn seen_labels(&self) -> Vec<String> {
        self.0.model().card().seen_labels().to_vec()
    }

    /// The method's name, as in recipes.
    #[getter]
    fn method(&self) -> &str {
        self.0.model().card().method().name()
    }

    /// The backbone's name.
    #[getter]
    fn backbone(&self) -> &str {
        &self.0.backbone().info().name
    }

    /// Whether it gives probabilities and has thresholds.
    #[getter]
    fn calibrated(&self) -> bool {
        self.0.model().card().has_probabilities()
    }

    /// What tells it from every other model.
    #[getter]
    fn identity(&self) -> String {
        self.0.model().identity()
    }

    fn __repr__(&self) -> String {
        let card = self.0.model().card();
        let (method, labels, seen) = (card.method().name(), card.labels(), card.seen_labels());
        format!(
            "Model(method={method:?}, {} labels, {} of them seen, backbone={:?})",
            labels.len(),
            seen.len(),
            self.backbone()
        )
    }
}

/// Where in a photograph the score of a label comes from.
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct HeatMap {
    predictor: Arc<epsilon::Predictor>,
    picture: Arc<RgbImage>,
    map: LabelMap,
}

#[pymethods]
impl HeatMap {
    /// What it shows, such as `attention`.
    #[getter]
    fn what(&self) -> &str {
        self.map.what
    }

    /// Which of the method's groups or attentions scored the label, from 0; None where it has but one.
    #[getter]
    fn group(&self) -> Option<usize> {
        self.map.group
    }

    /// The share of every place of the token grid, `(rows, columns)` float32; they add up to 1.
    #[getter]
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        matrix(py, self.map.values.clone(), self.map.grid)
    }

    /// The photograph with the map laid over it, `(H, W, 3)` uint8.
    fn picture<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray3<u8>>> {
        let drawn = work(py, |_| self.predictor.draw(&self.picture, &self.map))?;
        let (width, height) = drawn.dimensions();
        block(py, drawn.into_raw(), [height as usize, width as usize, 3])
    }

    fn __repr__(&self) -> String {
        let [rows, columns] = self.map.grid;
        format!("HeatMap({:?}, {rows} x {columns})", self.map.what)
    }
}
