//! An experiment from its recipe to its figures: prepare, extract, train, evaluate.
//!
//! [`Experiment`] takes a recipe through all steps and keeps its files in one folder. The steps also stand alone, for programs
//! that change what lies between them: [`prepare`], [`extract`], [`Training`], [`score`], [`figures`](figures()).

mod anchor;
mod choose;
mod figures;
mod folds;
mod layout;
mod paired;
mod prepare;
mod ranked;
mod score;
mod sums;
mod train;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use epsilon_data::dataset::DatasetError;
use epsilon_data::labels::LabelError;
use epsilon_metrics::MetricsError;
use epsilon_vision::backbone::{self, Backbone, BackboneError, Download, Engine, Options};
use epsilon_vision::tokens::{
    ExtractReport, FeatureError, MergeError, Part, Progress, StoreError, TokenStore,
};

pub use anchor::{AnchorError, BackboneClasses};
pub use choose::{Choice, ChoiceFold};
pub use figures::{Figures, LabelSet, figures};
pub use folds::{FoldFigures, Folded};
pub use layout::Layout;
pub use paired::{Measure, Resamples, resamples, resampling};
pub use prepare::{Prepared, extract, prepare, prepare_in, prepare_with};
pub use score::{
    Scored, Standardised, measure, score, score_photographs, standardised, standardised_photographs,
};
pub use train::Training;

use crate::methods::MethodError;
use crate::model::{Model, ModelError};
use crate::predictor::PredictError;
use crate::ranks::{self, Alone, Ranks};
use crate::recipe::{Recipe, RecipeError};
use crate::tensor_vit;
use crate::training::{Event, RunFolder, TrainingError};

/// The file of a run's figures in its seed's folder.
const FIGURES: &str = "figures.json";

/// What can go wrong in an experiment.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[non_exhaustive]
pub enum ExperimentError {
    /// In the recipe.
    Recipe(#[from] RecipeError),
    /// In the data set.
    Dataset(#[from] DatasetError),
    /// In the labels or their vectors.
    Labels(#[from] LabelError),
    /// In the backbone.
    Backbone(#[from] BackboneError),
    /// In the extraction.
    Features(FeatureError),
    /// In the token store.
    Store(#[from] StoreError),
    /// In the method.
    Method(MethodError),
    /// In the anchor.
    Anchor(#[from] AnchorError),
    /// In the training.
    Training(TrainingError),
    /// In the model file.
    Model(#[from] ModelError),
    /// In a model that is measured without tokens, or a text tower that makes the labels' vectors.
    Predict(#[from] Box<PredictError>),
    /// In the figures.
    Metrics(MetricsError),
    /// The observer has broken off, in whatever step.
    #[error(
        "stopped: what is finished is kept, and the same call goes on from there, a training where it resumes"
    )]
    Stopped,
    /// The data set has no test image.
    #[error("the data set has no test image to measure on: check the table's split column")]
    NoTestImages,
    /// The test images cannot be measured as the recipe wants.
    #[error("the test images cannot be measured: {0}")]
    NotMeasurable(MetricsError),
    /// No image of a split has tokens.
    #[error(
        "{store}: holds none of the data set's {split} images: extract them with this recipe first"
    )]
    NoImages {
        /// The token store.
        store: PathBuf,
        /// Which part of the data set.
        split: &'static str,
    },
    /// The validation images are so many that none is left to train on.
    #[error(
        "validation = {validation} leaves no training image with a seen positive label, of {images} that there are: give a \
         smaller share in [training]"
    )]
    Validation {
        /// The share of the training images.
        validation: f64,
        /// Training images with a seen positive label.
        images: usize,
    },
    /// More label folds than labels.
    #[error("label-folds = {folds}: the data set has {labels} labels; give fewer in [evaluation]")]
    LabelFolds {
        /// Folds asked for.
        folds: usize,
        /// Labels, seen and unseen ones together.
        labels: usize,
    },
    /// The recipe's label folds were to be run as one experiment.
    #[error(
        "the recipe has label folds, each with unseen labels of its own: run them one by one, or choose one with label-fold in \
         [evaluation]"
    )]
    Folded,
    /// The recipe has no label folds to run.
    #[error("the recipe has no label folds: give label-folds in [evaluation]")]
    NoFolds,
    /// The labels that are left out to choose settings are none or too many.
    #[error(
        "validation-labels = {share} leaves none of {seen} seen labels out, or too many for {folds} disjoint sets that leave some \
         to train on: give another share in [training]"
    )]
    LeftOut {
        /// The share of the seen labels.
        share: f64,
        /// How many sets.
        folds: usize,
        /// Seen labels.
        seen: usize,
    },
    /// The validation images do not hold the labels that are left out to choose settings.
    #[error(
        "the validation images cannot choose: {0}; give a greater validation or validation-labels in [training]"
    )]
    Choosing(MetricsError),
    /// The ranks of a job have not been given the same.
    #[error(
        "rank {rank} has {what} than rank 0: all ranks need the same command and the same files; is a copy on its machine an older one?"
    )]
    RanksDiffer {
        /// The first one that differs.
        rank: usize,
        /// What is another one there.
        what: &'static str,
    },
    /// A rank does not see what the first one writes.
    #[error(
        "{folder}: rank {rank} does not see there what rank 0 writes: the run's folder has to lie on a file system that all machines see, at \
         the same path"
    )]
    NotShared {
        /// The run's folder, as this rank names it.
        folder: PathBuf,
        /// The first rank that does not see it.
        rank: usize,
    },
    /// Several ranks were to go on with what one process has begun.
    #[error(
        "{dir}: was begun by one process: finish it with `epsilon extract` in one process, or delete it and let all ranks begin anew"
    )]
    BegunAlone {
        /// The token store.
        dir: PathBuf,
    },
    /// The parts of an extraction cannot be joined.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The recipe names no backbone to extract tokens with.
    #[error("the recipe names no backbone")]
    NoBackbone,
    /// The recipe in a model file is none of this version.
    #[error("{path}: its recipe: {reason}")]
    ModelRecipe {
        /// The model.
        path: PathBuf,
        /// What is wrong with it.
        reason: serde_json::Error,
    },
    /// The figures cannot be written as JSON.
    #[error("the figures cannot be written as JSON: {0}")]
    Json(serde_json::Error),
}

impl From<PredictError> for ExperimentError {
    fn from(error: PredictError) -> Self {
        Self::Predict(Box::new(error))
    }
}

/// To be stopped is one error, whatever step it was in.
macro_rules! stoppable {
    ($($error:ident => $variant:ident),*) => {
        $(impl From<$error> for ExperimentError {
            fn from(error: $error) -> Self {
                match error {
                    $error::Stopped => Self::Stopped,
                    error => Self::$variant(error),
                }
            }
        })*
    };
}

stoppable! {
    FeatureError => Features,
    MethodError => Method,
    TrainingError => Training,
    MetricsError => Metrics
}

/// What the observer of [`Experiment::run`] is told. It answers whether to go on: where it breaks off, the call ends as
/// [`ExperimentError::Stopped`].
#[non_exhaustive]
pub enum RunEvent<'a> {
    /// Tokens that were missing are extracted.
    Extracting(Progress),
    /// The training goes on.
    Training(Event<'a>),
    /// Test images are scored with the trained model, and at last figures computed of all.
    Measuring {
        /// Images scored.
        done: usize,
        /// Images to score.
        total: usize,
    },
}

/// A recipe with a folder for its files: from photographs to a trained model and its figures, one training per seed.
///
/// Each step does those before it that are still missing, and keeps what it made in the folder (see [`Layout`]): an interrupted
/// extraction goes on where it stopped, and so does a training with [`with_resume`](Self::with_resume).
///
/// ```
/// use std::ops::ControlFlow::Continue;
///
/// use epsilon::Experiment;
/// use epsilon::dataset::scenes::{SceneOptions, Scenes};
/// use epsilon::recipe::Recipe;
///
/// // A small data set of drawn pictures, its label vectors, and the built-in backbone.
/// let folder = tempfile::tempdir()?;
/// Scenes::new(SceneOptions::default())?.write(&folder.path().join("data"), 24, 8)?;
/// std::fs::write(folder.path().join("backbone.safetensors"), epsilon::backbone::BUILT_IN)?;
/// let path = folder.path().join("recipe.toml");
/// std::fs::write(&path, r#"
///     [data]
///     table = "data/labels.tsv"
///     images = "data"
///     seen = "data/seen.txt"
///     unseen = "data/unseen.txt"
///     vectors = "data/vectors.txt"
///     [backbone]
///     weights = "backbone.safetensors"
///     [method]
///     kind = "ridge"
///     [evaluation]
///     bootstrap = 0
/// "#)?;
///
/// let run = folder.path().join("run");
/// let mut experiment = Experiment::open(Recipe::read(&path)?, &run)?;
/// assert_eq!(experiment.prepare()?.dataset.seen, 27);
/// let report = experiment.extract(&mut |_| Continue(()))?;
/// assert_eq!((report.images, report.failed.len()), (32, 0));
/// for seed in experiment.recipe().seeds.clone() {
///     let figures = experiment.run(seed, &mut |_| Continue(()))?;
///     assert_eq!(figures.seen().images_total, 8);
///     assert!(figures.parts().all(|(_, part)| (0.0..=1.0).contains(&part.map)));
/// }
/// assert!(run.join("seed-1/model.safetensors").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Experiment {
    recipe: Recipe,
    folder: PathBuf,
    device: Device,
    engine: Engine,
    resume: bool,
    show_downloads: bool,
    ranks: Arc<dyn Ranks>,
    prepared: Option<Arc<Prepared>>,
    store: Option<Arc<TokenStore>>,
}

impl Experiment {
    /// An experiment on the CPU that keeps its files in `folder`, which is made when something is written. Nothing is read yet.
    ///
    /// # Errors
    /// [`ExperimentError::Recipe`] for a setting out of range, which only a recipe put together by a program can have.
    pub fn open(recipe: Recipe, folder: impl Into<PathBuf>) -> Result<Self, ExperimentError> {
        recipe.check(Path::new("recipe"))?;
        Ok(Self {
            recipe,
            folder: folder.into(),
            device: Device::flex(),
            engine: Engine::Own,
            resume: false,
            show_downloads: false,
            ranks: Arc::new(Alone),
            prepared: None,
            store: None,
        })
    }

    /// The experiment of the recipe at `path` in its [default folder](Layout::default_folder).
    ///
    /// # Errors
    /// [`ExperimentError::Recipe`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ExperimentError> {
        let path = path.as_ref();
        Self::open(Recipe::read(path)?, Layout::default_folder(path))
    }

    /// The experiment that the model in the file at `path` was trained in, or with `other` that of another recipe, so that the
    /// model can be measured on its test images. Tokens are those of `store`, of the recipe's `features.store`, or of the nearest
    /// folder above the model that has some, whichever is given first.
    ///
    /// # Errors
    /// [`ExperimentError::ModelRecipe`], [`ExperimentError::Store`] for tokens that are not where they are looked for, and those
    /// of [`prepare`].
    pub fn of_model(
        model: &Model,
        path: &Path,
        other: Option<&Path>,
        store: Option<&Path>,
    ) -> Result<Self, ExperimentError> {
        let recipe = match other {
            Some(other) => Recipe::read(other)?,
            None => recipe_of(model, path)?,
        };
        let run = run_of(path);
        let run = run.as_deref();
        let beside = run.map(|run| Layout(run).tokens()).unwrap_or_default();
        let own = recipe.features.store.clone().unwrap_or(beside);
        let store = TokenStore::open(store.unwrap_or(&own))?;
        let prepared = match other {
            // The index in the run folder is that of the model's own data set; its recipe may come from anybody.
            None => prepare_with(&recipe, run, Download::Refused)?,
            Some(_) => prepare(&recipe)?,
        };
        let mut experiment = Self::open(recipe, run.unwrap_or(Path::new("")))?;
        experiment.prepared = Some(Arc::new(prepared));
        experiment.store = Some(Arc::new(store));
        Ok(experiment)
    }

    /// Computes on this device instead of the CPU.
    #[must_use]
    pub fn with_device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Has the backbone run by this engine.
    #[must_use]
    pub fn with_engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Whether trainings go on from the checkpoint in their seed's folder, if there is one.
    #[must_use]
    pub fn with_resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Together with the other ranks of a job, on a file system that all of them see: extraction deals the images out, training
    /// and scoring share them, and the first rank writes. All ranks make the same calls.
    #[must_use]
    pub fn with_ranks(mut self, ranks: Arc<dyn Ranks>) -> Self {
        self.ranks = ranks;
        self
    }

    /// These seeds instead of the recipe's.
    #[must_use]
    pub fn with_seeds(mut self, seeds: Vec<u64>) -> Self {
        self.recipe.seeds = seeds;
        self
    }

    /// Whether the download of a network shows a progress bar on stderr.
    #[must_use]
    pub fn with_download_bar(mut self, show: bool) -> Self {
        self.show_downloads = show;
        self
    }

    /// Another recipe on the same data and tokens, such as another method, with its files in a folder of its own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn variant(
        &self,
        recipe: Recipe,
        folder: impl Into<PathBuf>,
    ) -> Result<Self, ExperimentError> {
        recipe.check(Path::new("recipe"))?;
        Ok(Self {
            recipe,
            folder: folder.into(),
            ..self.clone()
        })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The ranks that work on it together.
    pub fn ranks(&self) -> &dyn Ranks {
        &*self.ranks
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its files.
    pub fn layout(&self) -> Layout<'_> {
        Layout(&self.folder)
    }

    /// The data set with its labels' vectors, read on the first call. A published data set is indexed in the folder.
    ///
    /// # Errors
    /// As [`prepare_in`].
    pub fn prepare(&mut self) -> Result<Arc<Prepared>, ExperimentError> {
        let prepared = match self.prepared.take() {
            Some(prepared) => prepared,
            None => {
                let download = Download::shown(self.show_downloads);
                // The first rank leaves the index, and what is downloaded, to the others.
                if !self.ranks.is_first() {
                    self.ranks.wait();
                }
                let prepared = prepare_with(&self.recipe, Some(&self.folder), download)?;
                if self.ranks.is_first() {
                    self.ranks.wait();
                }
                self.agree_on("another recipe, or other data,", || {
                    let recipe = serde_json::json!(self.recipe);
                    format!("{recipe} {}", sums::whole(&prepared))
                })?;
                Arc::new(prepared)
            }
        };
        Ok(self.prepared.insert(prepared).clone())
    }

    /// The experiment of one of the recipe's label folds, from 1, with the same tokens and its files in a
    /// [folder](Layout::fold) within this one's.
    ///
    /// ```
    /// # mod drawn { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/drawn.rs")); }
    /// use std::ops::ControlFlow::Continue;
    ///
    /// use epsilon::Experiment;
    /// use epsilon::recipe::Recipe;
    ///
    /// let folder = drawn::drawn_recipe("ridge")?;
    /// let mut recipe = Recipe::read(&folder.path().join("recipe.toml"))?;
    /// recipe.evaluation.label_folds = Some(4);
    /// let mut experiment = Experiment::open(recipe, folder.path().join("run"))?;
    /// let folded = experiment.run_folds(1, &mut |_, _| Continue(()))?;
    /// let unseen: usize = folded.folds.iter().map(|fold| fold.unseen.len()).sum();
    /// assert_eq!(unseen, 36); // each of the 36 labels once
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ExperimentError::Recipe`] for a fold that the recipe does not have, [`ExperimentError::LabelFolds`], and those of
    /// [`tokens`](Self::tokens).
    pub fn fold(&mut self, fold: usize) -> Result<Self, ExperimentError> {
        // Before the folder is another one, so that all folds share them.
        self.tokens()?;
        let mut recipe = self.recipe.clone();
        recipe.evaluation.label_fold = Some(fold);
        let mut experiment = self.variant(recipe, self.layout().fold(fold))?;
        let folds = self.recipe.evaluation.label_folds.unwrap_or_default();
        let prepared = self.prepare()?.label_fold(folds, fold)?;
        experiment.prepared = Some(Arc::new(prepared));
        Ok(experiment)
    }

    /// [`run`](Self::run) on every label fold of the recipe; writes the figures into the [folder](Layout::folds) as well. `observe`
    /// is told the fold with each event.
    ///
    /// # Errors
    /// As [`fold`](Self::fold) and [`run`](Self::run), and [`ExperimentError::NoFolds`].
    pub fn run_folds(
        &mut self,
        seed: u64,
        observe: &mut dyn FnMut(usize, RunEvent) -> ControlFlow<()>,
    ) -> Result<Folded, ExperimentError> {
        let mut folds = Vec::new();
        for fold in self.recipe.evaluation.folds() {
            self.tokens_told(&mut |at| observe(fold, RunEvent::Extracting(at)))?;
            let mut experiment = self.fold(fold)?;
            folds.push(FoldFigures {
                fold,
                figures: experiment.run(seed, &mut |event| observe(fold, event))?,
                unseen: experiment.prepare()?.dataset.unseen_names().to_vec(),
            });
        }
        let folded = Folded::of(folds).ok_or(ExperimentError::NoFolds)?;
        let text = serde_json::to_vec_pretty(&folded).map_err(ExperimentError::Json)?;
        let path = self.layout().folds(seed);
        if self.ranks.is_first() {
            epsilon_data::files::write(&path, &text).map_err(|reason| TrainingError::File {
                path,
                reason: reason.to_string(),
            })?;
        }
        Ok(folded)
    }

    /// What the trainings that leave seen labels out give with a seed; they are made if the seed's folder does not keep what they
    /// gave.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens) and [`Training::choose`].
    pub fn choose(
        &mut self,
        seed: u64,
        observe: &mut dyn FnMut(RunEvent) -> ControlFlow<()>,
    ) -> Result<Choice, ExperimentError> {
        let folder = self.run_folder(seed, &mut |at| observe(RunEvent::Extracting(at)))?;
        let (prepared, store) = (self.prepare()?, self.tokens()?);
        self.training(&prepared, &store, seed, folder.as_ref())
            .choose(&mut |event| observe(RunEvent::Training(event)))
    }

    /// A sum over the images, labels, vectors, tokens and the anchor that trainings and figures rest on: with the same sum,
    /// recipe and seed they come out the same.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens), and those of the recipe's anchor.
    pub fn data_sum(&mut self) -> Result<String, ExperimentError> {
        let (prepared, store) = (self.prepare()?, self.tokens()?);
        let anchor = anchor::anchor(&self.recipe, &prepared, Some(&store))?;
        let anchor = anchor.map(|anchor| anchor.sum(prepared.dataset.names.len()));
        let shards = sums::shards(&store)?;
        let all = format!("{} {anchor:?} {shards}", sums::whole(&prepared));
        Ok(epsilon_data::files::sha256(all.as_bytes()))
    }

    /// What [`choose`](Self::choose) has given before, if the seed's folder keeps it.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens) and [`Training::chosen`].
    pub fn chosen(&mut self, seed: u64) -> Result<Option<Choice>, ExperimentError> {
        let folder = self.run_folder(seed, &mut |_| ControlFlow::Continue(()))?;
        let (prepared, store) = (self.prepare()?, self.tokens()?);
        self.training(&prepared, &store, seed, folder.as_ref())
            .chosen()
    }

    /// Whether some validation image has a seen label, so that settings can be told apart by them.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens); no training image with tokens.
    pub fn can_validate(&mut self) -> Result<bool, ExperimentError> {
        let (prepared, store) = (self.prepare()?, self.tokens()?);
        self.training(&prepared, &store, 0, None).can_validate()
    }

    /// Whether the device can train the recipe, and there are images to train on and to measure: what would otherwise be found
    /// after hours of extraction.
    ///
    /// # Errors
    /// [`ExperimentError::Training`], [`ExperimentError::Anchor`], those of [`prepare`](Self::prepare), and those of [`Prepared::check`].
    pub fn check(&mut self) -> Result<(), ExperimentError> {
        self.recipe.training.check_device(&self.device)?;
        self.check_data()
    }

    /// [`check`](Self::check) wherever the recipe will be trained.
    ///
    /// # Errors
    /// As [`check`](Self::check), but for the device.
    pub fn check_data(&mut self) -> Result<(), ExperimentError> {
        let prepared = self.prepare()?;
        anchor::anchor(&self.recipe, &prepared, None)?;
        let folds = self.recipe.evaluation.folds();
        if folds.is_empty() {
            return prepared.check(&self.recipe.evaluation);
        }
        let settings = &self.recipe.evaluation;
        let count = settings.label_folds.unwrap_or_default();
        let mut folds = folds.map(|fold| prepared.label_fold(count, fold)?.check(settings));
        folds.try_for_each(|checked| checked)
    }

    /// Extracts the tokens of all images that have none yet. With `features.store` in the recipe that store is opened and nothing
    /// is extracted. Images that cannot be read are no error: the report names them. Where `progress` breaks off, a later call goes
    /// on from there.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare), [`ExperimentError::Stopped`], and [`ExperimentError::NoBackbone`], [`ExperimentError::Backbone`],
    /// [`ExperimentError::Method`] for a method that cannot be built for such tokens, [`ExperimentError::Features`],
    /// [`ExperimentError::Store`].
    pub fn extract(
        &mut self,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<ExtractReport, ExperimentError> {
        let (store, report) = match &self.recipe.features.store {
            Some(dir) => {
                let store = TokenStore::open(dir)?;
                let images = store.len();
                let report = ExtractReport {
                    images,
                    resumed: images,
                    failed: Vec::new(),
                    flawed: Vec::new(),
                };
                (store, report)
            }
            None if self.ranks.size() > 1 || self.has_parts() => self.extract_by_ranks(progress)?,
            None => self.extract_into(&self.layout().tokens(), None, progress)?,
        };
        self.store = Some(Arc::new(store));
        Ok(report)
    }

    /// Extracts the tokens of one part of the images into a store of its own, to be [merged](epsilon_vision::tokens::merge) with
    /// those of the other parts, which other machines may make.
    ///
    /// # Errors
    /// As [`extract`](Self::extract).
    pub fn extract_part(
        &mut self,
        part: Part,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(TokenStore, ExtractReport), ExperimentError> {
        self.extract_into(&self.layout().part(part), Some(part), progress)
    }

    fn extract_into(
        &mut self,
        dir: &Path,
        part: Option<Part>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(TokenStore, ExtractReport), ExperimentError> {
        let prepared = self.prepare()?;
        let network = self.load_backbone()?;
        let report = extract(&self.recipe, &prepared, &*network, dir, part, progress)?;
        Ok((TokenStore::open(dir)?, report))
    }

    /// Makes sure that all ranks have the same of something.
    fn agree_on(
        &self,
        what: &'static str,
        text: impl FnOnce() -> String,
    ) -> Result<(), ExperimentError> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        match ranks::dissenter(&*self.ranks, text().into_bytes()) {
            Some(rank) => Err(ExperimentError::RanksDiffer { rank, what }),
            None => Ok(()),
        }
    }

    fn load_backbone(&self) -> Result<Box<dyn Backbone>, ExperimentError> {
        let settings = self.recipe.backbone.as_ref();
        let settings = settings.ok_or(ExperimentError::NoBackbone)?;
        let path = backbone::locate(&settings.weights, Download::shown(self.show_downloads))?;
        let options = Options {
            engine: self.engine,
            ..settings.options()
        };
        Ok(tensor_vit::load_on(&path, &options, &self.device)?)
    }

    /// The token store, after what is missing in it was extracted; [`extract`](Self::extract) does that and can be stopped.
    ///
    /// # Errors
    /// As [`extract`](Self::extract).
    pub fn tokens(&mut self) -> Result<Arc<TokenStore>, ExperimentError> {
        self.tokens_told(&mut |_| ControlFlow::Continue(()))
    }

    /// [`tokens`](Self::tokens), with an observer of what is still to be extracted.
    pub(crate) fn tokens_told(
        &mut self,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Arc<TokenStore>, ExperimentError> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        self.extract(progress)?;
        self.tokens_told(progress)
    }

    /// Trains with a seed and measures the model; writes the recipe, metrics, checkpoints, `model.safetensors` and
    /// `figures.json` into the seed's folder. `observe` can break off: the same call then goes on from there
    /// [with resuming](Self::with_resume).
    ///
    /// # Errors
    /// As [`train`](Self::train) and [`measure`](Self::measure).
    pub fn run(
        &mut self,
        seed: u64,
        observe: &mut dyn FnMut(RunEvent) -> ControlFlow<()>,
    ) -> Result<Figures, ExperimentError> {
        let folder = self.run_folder(seed, &mut |at| observe(RunEvent::Extracting(at)))?;
        let model = self.train_in(folder.as_ref(), seed, observe)?;
        let figures = self.measure(&model, &mut |done, total| {
            observe(RunEvent::Measuring { done, total })
        })?;
        if let Some(folder) = folder {
            let text = serde_json::to_string_pretty(&figures).map_err(ExperimentError::Json)?;
            folder.write(FIGURES, text.as_bytes())?;
        }
        Ok(figures)
    }

    /// The folder of a seed, which no other training has, once there are tokens to train on; the first rank has it alone.
    fn run_folder(
        &mut self,
        seed: u64,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<RunFolder>, ExperimentError> {
        if !self.recipe.evaluation.folds().is_empty() {
            return Err(ExperimentError::Folded);
        }
        self.tokens_told(progress)?;
        let first = self.ranks.is_first();
        let folder = first.then(|| RunFolder::create(&self.layout().seed(seed)));
        Ok(folder.transpose()?)
    }

    /// Trains with a seed on the seen labels of the training images, and writes all files of [`run`](Self::run) but the figures.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens) and [`Training::run`], and [`ExperimentError::Model`] for a model that cannot be written.
    pub fn train(
        &mut self,
        seed: u64,
        observe: &mut dyn FnMut(RunEvent) -> ControlFlow<()>,
    ) -> Result<Model, ExperimentError> {
        let folder = self.run_folder(seed, &mut |at| observe(RunEvent::Extracting(at)))?;
        self.train_in(folder.as_ref(), seed, observe)
    }

    fn train_in(
        &mut self,
        folder: Option<&RunFolder>,
        seed: u64,
        observe: &mut dyn FnMut(RunEvent) -> ControlFlow<()>,
    ) -> Result<Model, ExperimentError> {
        let (prepared, store) = (self.prepare()?, self.tokens()?);
        if let Some(folder) = folder {
            folder.forget(FIGURES)?;
            folder.write("recipe.toml", self.recipe.to_toml()?.as_bytes())?;
        }
        let training = self.training(&prepared, &store, seed, folder);
        let model = training.run(&mut |event| observe(RunEvent::Training(event)))?;
        if folder.is_some() {
            model.save(&self.layout().model(seed))?;
        }
        Ok(model)
    }

    fn training<'a>(
        &'a self,
        prepared: &'a Prepared,
        store: &'a TokenStore,
        seed: u64,
        folder: Option<&'a RunFolder>,
    ) -> Training<'a> {
        Training {
            recipe: &self.recipe,
            prepared,
            store,
            seed,
            device: &self.device,
            folder,
            resume: self.resume,
            ranks: &*self.ranks,
        }
    }

    /// mAP of the seen labels on the validation images, as a fraction; `None` where the recipe keeps none. `progress` is told the
    /// images scored and to score, and can break off.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens); no training image with tokens; [`ExperimentError::Stopped`].
    pub fn validate(
        &mut self,
        model: &Model,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Option<f64>, ExperimentError> {
        let store = self.tokens_told(&mut |at| progress(at.done + at.failed, at.total))?;
        let prepared = self.prepare()?;
        let training = self.training(&prepared, &store, model.card().seed(), None);
        training.validate(model, progress)
    }

    /// The scores of a model on the test images; `progress` is told the images scored and to score, and can break off.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens) and [`score`].
    pub fn score(
        &mut self,
        model: &Model,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Scored, ExperimentError> {
        let store = self.tokens_told(&mut |at| progress(at.done + at.failed, at.total))?;
        let prepared = self.prepare()?;
        let images = score::test_images(model, &prepared, &store)?;
        self.agree_on("another model", || model.identity())?;
        let on = (&self.device, &*self.ranks);
        score::score_images(model, &prepared, &store, &images, on, progress)
    }

    /// The figures of a model on the test images under the recipe's protocol; `progress` is told the images scored and to score,
    /// and can break off.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens) and [`measure`].
    pub fn measure(
        &mut self,
        model: &Model,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Figures, ExperimentError> {
        let store = self.tokens_told(&mut |at| progress(at.done + at.failed, at.total))?;
        let prepared = self.prepare()?;
        let settings = &self.recipe.evaluation;
        self.agree_on("another model", || model.identity())?;
        let on = (&self.device, &*self.ranks);
        score::measure_by(model, &prepared, &store, settings, on, progress)
    }
}

/// The run folder of the model in the file at `path`: the nearest folder above it that has tokens, else that of its seed's
/// folder.
fn run_of(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let seed = absolute.parent()?;
    let tokens = Layout(seed).nearest_tokens();
    let run = tokens.as_deref().and_then(Path::parent);
    run.or_else(|| seed.parent()).map(Path::to_path_buf)
}

/// The recipe that a model was trained with; `path` is for messages.
///
/// # Errors
/// [`ExperimentError::ModelRecipe`].
pub fn recipe_of(model: &Model, path: &Path) -> Result<Recipe, ExperimentError> {
    let recipe = model.card().recipe();
    recipe.map_err(|reason| ExperimentError::ModelRecipe {
        path: path.into(),
        reason,
    })
}
