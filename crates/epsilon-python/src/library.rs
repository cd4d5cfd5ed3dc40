//! `Library`: what is known of a tagged folder of photographs, and the search over it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use epsilon::Finder;
use epsilon::finder::{Criteria, FindError, Found};
use epsilon::library::{
    Correction, Corrections, Filter, Item, Line, Order, Reviewed, Verdict, now,
};
use epsilon::paths;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{OrRaise, raise};
use crate::predictor::Predictor;
use crate::values::{Vectors, at_most, record, records};
use crate::work::work;

/// A tagged library: its photographs with their labels, the search over them, and what their owner says of labels.
///
/// >>> report = tag("photos", "model.safetensors", top=3)
/// >>> library = Library("photos")
/// >>> found = library.search("striped circle", top=1)
/// >>> len(found), len(library) == report.tagged + report.unchanged
/// (1, True)
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct Library(Mutex<Finder>);

/// Photographs that are asked for, in an order.
struct Asked {
    criteria: Criteria,
    order: Order,
    top: usize,
}

/// Says of how many photographs a search knows nothing yet: what it does not find may be among them. An index that was replaced
/// since it was searched takes nothing back of what was found.
fn warn_of_unindexed(finder: &Finder, filter: &Filter) {
    if let Ok((unindexed @ 1.., asked)) = finder.unindexed(filter) {
        log::warn!(
            "{unindexed} of {asked} photographs are not in the index yet and were not ranked: `tag` goes on with them"
        );
    }
}

impl Asked {
    /// Of keyword arguments.
    fn of(top: usize, sort: &str, criteria: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        if top == 0 {
            return Err(PyValueError::new_err(
                "top = 0: ask for at least 1 photograph",
            ));
        }
        let order = match sort {
            "relevance" => Order::Relevance,
            "date" => Order::Date,
            "doubt" => Order::Doubt,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "sort = {sort:?}: photographs are sorted by \"relevance\", \"date\" or \"doubt\""
                )));
            }
        };
        let mut asked = Criteria::default();
        for (name, value) in criteria.into_iter().flatten() {
            let name: String = name.extract()?;
            match &*name {
                "label" => asked.label = value.extract()?,
                "threshold" => asked.probability = value.extract()?,
                "since" => asked.since = value.extract()?,
                "until" => asked.until = value.extract()?,
                "folder" => asked.folder = value.extract()?,
                "unreviewed" => asked.unreviewed = value.extract()?,
                "broken" => asked.broken = value.extract()?,
                _ => {
                    return Err(pyo3::exceptions::PyTypeError::new_err(format!(
                        "{name} is no criterion: these are label, threshold, since, until, folder, unreviewed and broken"
                    )));
                }
            }
        }
        Ok(Self {
            criteria: asked,
            order,
            top,
        })
    }

    fn filter(&self, finder: &mut Finder) -> Result<(Filter, (Order, usize)), FindError> {
        finder.refresh()?;
        if self.order == Order::Doubt {
            finder.find_telling()?;
        }
        Ok((finder.filter(&self.criteria)?, (self.order, self.top)))
    }
}

#[pymethods]
impl Library {
    /// Opens the library in a folder, or in .epsilon in it.
    ///
    /// Raises LibraryError where there is none.
    #[new]
    fn open(py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        let finder = work(py, |_| Finder::open(&folder))?;
        Ok(Self(Mutex::new(finder.or_raise()?)))
    }

    /// The photographs that match words best, best first: records of photo, score, date, labels and so on, as `epsilon search --json`
    /// prints them, but for `photo`, a path as `os.fsdecode` gives it.
    ///
    /// `words` is a word or several as one, such as "red flower", also one that the library was not tagged with. `predictor` is the
    /// loaded model that tagged it; otherwise the model and the words' `vectors`, a file or a pair `(file, names)`, are read anew each time. Criteria choose among the
    /// photographs: `label`, `threshold` (a probability), `since` and `until` (dates such as "2024-05", or "30d" ago), `folder`,
    /// `unreviewed`, `broken`. `sort` puts the best `top` in an order: "relevance", "date" or "doubt".
    ///
    /// Raises LibraryError, SearchIndexError, LabelError and ModelError.
    #[pyo3(signature = (words, top=50, *, sort="relevance", predictor=None, vectors=None, **criteria))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn search(
        &self,
        py: Python<'_>,
        words: String,
        #[pyo3(from_py_with = at_most)] top: usize,
        sort: &str,
        predictor: Option<Py<Predictor>>,
        vectors: Option<Vectors>,
        criteria: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let asked = Asked::of(top, sort, criteria)?;
        let predictor = predictor.map(|predictor| predictor.get().loaded.clone());
        let vectors = vectors.map(|file| file.0);
        self.find(py, |finder| {
            let (filter, order) = asked.filter(finder)?;
            let found = match &predictor {
                Some(of) => finder.matching(&words, (of.model(), of.words()), &filter, order)?,
                None => {
                    let names = [words.clone()];
                    let (model, vectors) = finder.load_words(&names, vectors, false)?;
                    finder.matching(&words, (&model, &vectors), &filter, order)?
                }
            };
            warn_of_unindexed(finder, &filter);
            Ok(json(&found))
        })
    }

    /// The photographs most like one of the library, which is given by its path or its id; arguments and result as of `search`.
    #[pyo3(signature = (photo, top=50, *, sort="relevance", **criteria))]
    fn like(
        &self,
        py: Python<'_>,
        photo: PathBuf,
        #[pyo3(from_py_with = at_most)] top: usize,
        sort: &str,
        criteria: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let asked = Asked::of(top, sort, criteria)?;
        self.find(py, |finder| {
            let (filter, order) = asked.filter(finder)?;
            let found = finder.like(&photo, &filter, order)?;
            warn_of_unindexed(finder, &filter);
            Ok(json(&found))
        })
    }

    /// The photographs that meet criteria; arguments and result as of `search`. All of the library where none are given.
    #[pyo3(signature = (top=usize::MAX, *, sort="relevance", **criteria))]
    fn items(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = at_most)] top: usize,
        sort: &str,
        criteria: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let asked = Asked::of(top, sort, criteria)?;
        self.find(py, |finder| {
            let (filter, order) = asked.filter(finder)?;
            Ok(json(&finder.listed(&filter, order)))
        })
    }

    /// The folder of photographs.
    #[getter]
    fn photos<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let photos = self.with(py, |finder| finder.library().photos.clone());
        py.import("pathlib")?.getattr("Path")?.call1((photos,))
    }

    /// What its owner has said, by the photographs' ids: of labels `"approved"` or `"rejected"`, and whether all of the photograph was
    /// reviewed.
    fn corrections(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let folder = self.with(py, |finder| finder.folder().to_path_buf());
        let said = work(py, |_| Corrections::read(&folder))?.or_raise()?;
        let photos = said.photos().map(|(photo, opinion)| {
            let labels = opinion.labels.values();
            let labels = labels.map(|judged| (judged.name.clone(), word(judged.verdict).into()));
            let labels: serde_json::Map<String, serde_json::Value> = labels.collect();
            let of = serde_json::json!({ "labels": labels, "reviewed": opinion.reviewed });
            (photo.to_string(), of)
        });
        let photos: serde_json::Map<String, serde_json::Value> = photos.collect();
        record(py, &photos)
    }

    /// Notes that a photograph has a label, one that it was given or any other, as `epsilon review` does. `animal|dog` is dog below
    /// animal; `dog` alone, in whatever case, is the label of that name that the photograph has, with its parents, where it has one.
    fn approve(&self, py: Python<'_>, photo: PathBuf, label: &str) -> PyResult<()> {
        self.judge(py, photo, label, Verdict::Approved)
    }

    /// Notes that a photograph does not have a label.
    fn reject(&self, py: Python<'_>, photo: PathBuf, label: &str) -> PyResult<()> {
        self.judge(py, photo, label, Verdict::Rejected)
    }

    /// Takes back what was said of a photograph's label.
    fn withdraw(&self, py: Python<'_>, photo: PathBuf, label: &str) -> PyResult<()> {
        self.judge(py, photo, label, Verdict::Withdrawn)
    }

    /// Notes whether all of a photograph was looked at: any label that is not approved is then not there.
    #[pyo3(signature = (photo, reviewed=true))]
    fn review(&self, py: Python<'_>, photo: PathBuf, reviewed: bool) -> PyResult<()> {
        self.say(py, &photo, |photo, _, _| {
            Line::Photo(Reviewed {
                photo,
                reviewed,
                at: now(),
            })
        })
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.with(py, |finder| finder.catalog().items().len())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.with(py, |finder| {
            let photos = &finder.library().photos;
            format!(
                "Library({photos:?}, {} photographs)",
                finder.catalog().items().len()
            )
        })
    }
}

/// A verdict as files have it.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approved => "approved",
        Verdict::Rejected => "rejected",
        Verdict::Withdrawn => "withdrawn",
    }
}

/// As JSON: what was found borrows from the library, which is locked.
fn json(found: &[Found<'_>]) -> serde_json::Result<String> {
    serde_json::to_string(found)
}

impl Library {
    /// Looks at it, without the global lock: another thread may be searching.
    fn with<T: Send>(&self, py: Python<'_>, look: impl FnOnce(&Finder) -> T + Send) -> T {
        py.detach(|| look(&self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn find(
        &self,
        py: Python<'_>,
        find: impl FnOnce(&mut Finder) -> Result<serde_json::Result<String>, FindError> + Send,
    ) -> PyResult<Py<PyAny>> {
        let found = work(py, |_| {
            find(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        })?;
        let text = found.or_raise()?;
        let found = records(
            py,
            &text.map_err(|error| raise("EpsilonError", error.to_string()))?,
        )?;
        for of in found.bind(py).try_iter()? {
            // As os.fsdecode has it, so that files whose names are not UTF-8 can be opened.
            let of = of?;
            let photo = paths::path(&of.get_item("photo")?.extract::<String>()?);
            of.set_item("photo", photo.into_os_string())?;
        }
        Ok(found)
    }

    fn judge(&self, py: Python<'_>, photo: PathBuf, label: &str, verdict: Verdict) -> PyResult<()> {
        let subject = epsilon::tagger::subjects(vec![label.to_string()], "label".as_ref());
        let subject = subject.or_raise()?.remove(0);
        self.say(py, &photo, |photo, item, finder| {
            let stands = finder.catalog().subject(&photo, &subject.name);
            let stands = stands.filter(|_| subject.parents.is_empty());
            let subject = stands.unwrap_or(subject);
            Line::Label(Correction {
                photo,
                by: item.proposal(finder.library(), &subject.name),
                label: subject.name,
                parents: subject.parents,
                verdict,
                at: now(),
            })
        })
    }

    /// Notes a line about a photograph, once it is on the disk.
    fn say(
        &self,
        py: Python<'_>,
        photo: &Path,
        line: impl FnOnce(String, &Item, &Finder) -> Line + Send,
    ) -> PyResult<()> {
        let said = work(py, |_| {
            let mut finder = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            finder.refresh()?;
            let id = finder.photo_id(photo)?;
            let Some(item) = finder.catalog().item(&id) else {
                return Ok(());
            };
            let line = line(id.clone(), item, &finder);
            Corrections::open(finder.folder())?.add(&[line])?;
            finder.refresh()
        })?;
        said.or_raise()
    }
}
