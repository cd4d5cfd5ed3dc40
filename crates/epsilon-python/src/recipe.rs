//! `Recipe`: an experiment from its data to its figures.

use std::path::{Path, PathBuf};

use epsilon::Experiment;
use epsilon::experiment::{ExperimentError, Layout, RunEvent};
use epsilon::recipe;
use epsilon::training::Event;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{OrRaise, raise};
use crate::progress::{Far, Progress};
use crate::values::record;
use crate::work::work_telling;

/// An experiment: data set, backbone, method, training and evaluation, as docs/recipes.md describes them.
///
/// >>> recipe = Recipe.read("ridge.toml")
/// >>> recipe.method
/// 'ridge'
/// >>> figures = recipe.run("runs/doctest", seeds=[1])
/// >>> 0 <= figures[1].zsl.map <= 1
/// True
#[pyclass(frozen, module = "epsilon_zsl")]
pub(crate) struct Recipe {
    recipe: recipe::Recipe,
    /// Its file, if it has one.
    path: Option<PathBuf>,
}

#[pymethods]
impl Recipe {
    /// Reads a recipe; its paths are from its folder.
    ///
    /// Raises RecipeError, which names the key and for a mistyped one the nearest.
    #[staticmethod]
    fn read(path: PathBuf) -> PyResult<Self> {
        Ok(Self {
            recipe: recipe::Recipe::read(&path).or_raise()?,
            path: Some(path),
        })
    }

    /// A recipe of TOML; its paths are from the current folder.
    ///
    /// Raises RecipeError.
    #[staticmethod]
    fn parse(text: &str) -> PyResult<Self> {
        Ok(Self {
            recipe: recipe::Recipe::parse(Path::new("recipe"), text).or_raise()?,
            path: None,
        })
    }

    /// A recipe of a dictionary with what the TOML would say, such as one of `to_dict`; its paths are from the current folder.
    ///
    /// Raises RecipeError.
    #[staticmethod]
    fn from_dict(settings: &Bound<'_, PyDict>) -> PyResult<Self> {
        let json = settings.py().import("json")?;
        let text: String = json.call_method1("dumps", (settings,))?.extract()?;
        let form = |error: String| raise("RecipeError", format!("recipe: {error}"));
        let mut value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| form(error.to_string()))?;
        without_nothing(&mut value);
        let text = toml::to_string(&value).map_err(|error| form(error.to_string()))?;
        Self::parse(&text)
    }

    /// What it says, every default written out.
    fn to_dict(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        record(py, &self.recipe)
    }

    /// It as TOML, every default written out.
    fn to_toml(&self) -> PyResult<String> {
        self.recipe.to_toml().or_raise()
    }

    /// The method's name.
    #[getter]
    fn method(&self) -> &str {
        self.recipe.method.name()
    }

    /// Its seeds: one training for each.
    #[getter]
    fn seeds(&self) -> Vec<u64> {
        self.recipe.seeds.clone()
    }

    /// Extracts missing tokens, trains once for each seed, and measures the models: the figures by seed, as `figures.json` has them,
    /// such as `figures[1].zsl.map`. With label folds those over all folds.
    ///
    /// Its files are kept in `folder` [default: runs/NAME of the recipe's file]: the seed's model in seed-N/model.safetensors. With
    /// `resume` a training goes on from the checkpoint of an earlier call; an extraction does so in any case.
    ///
    /// Raises ExperimentError, RecipeError, TrainingError and those of the steps.
    #[pyo3(signature = (folder=None, seeds=None, *, device="cpu", resume=false, progress=None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        folder: Option<PathBuf>,
        seeds: Option<Vec<u64>>,
        device: &str,
        resume: bool,
        progress: Option<Progress>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let named = self.path.as_deref().map(Layout::default_folder);
        let folder = folder.or(named).ok_or_else(|| {
            PyValueError::new_err("a recipe without a file: name the folder to keep its files in")
        })?;
        let device = epsilon::device::device(device).or_raise()?;
        let seeds = seeds.unwrap_or_else(|| self.recipe.seeds.clone());
        let figures = PyDict::new(py);
        let mut experiment = Experiment::open(self.recipe.clone(), folder)
            .or_raise()?
            .with_device(device)
            .with_resume(resume)
            .with_seeds(seeds.clone());
        let report = work_telling(py, progress.as_ref(), |stop| {
            experiment.check()?;
            experiment.extract(&mut |at| {
                let total = Some(at.total);
                stop.tell(Far {
                    done: at.done + at.failed,
                    total,
                    what: "extract",
                });
                stop.flow()
            })
        })?;
        for failure in report.or_raise()?.failed {
            log::warn!("{}", failure.reason);
        }
        let folded = !self.recipe.evaluation.folds().is_empty();
        for seed in seeds {
            let measured = work_telling(py, progress.as_ref(), |stop| {
                let mut observe = |event: RunEvent<'_>| {
                    let far = match event {
                        RunEvent::Training(Event::Step { done, total, .. }) => {
                            Some((done, total, "train"))
                        }
                        RunEvent::Measuring { done, total } => Some((done, total, "measure")),
                        _ => None,
                    };
                    if let Some((done, total, what)) = far {
                        let total = Some(total);
                        stop.tell(Far { done, total, what });
                    }
                    stop.flow()
                };
                Ok::<_, ExperimentError>(match folded {
                    true => {
                        experiment
                            .run_folds(seed, &mut |_, event| observe(event))?
                            .figures
                    }
                    false => experiment.run(seed, &mut observe)?,
                })
            })?;
            figures.set_item(seed, record(py, &measured.or_raise()?)?)?;
        }
        Ok(figures)
    }

    fn __repr__(&self) -> String {
        match &self.path {
            Some(path) => format!("Recipe({path:?}, method={:?})", self.method()),
            None => format!("Recipe(method={:?})", self.method()),
        }
    }
}

/// Takes None out of dictionaries: what is not said has its default.
fn without_nothing(value: &mut serde_json::Value) {
    if let serde_json::Value::Object(entries) = value {
        entries.retain(|_, value| !value.is_null());
        entries.values_mut().for_each(without_nothing);
    }
}
