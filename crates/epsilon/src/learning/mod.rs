//! A model learnt from a library: from the keywords that its photographs have and from what its owner says of their labels.
//!
//! [`Learner`] gathers both, divides the photographs by scenes, keeps their tokens, trains, and calibrates on what it held out.

mod error;
mod gather;
mod recipe;
mod rehearsal;
mod report;
mod scenes;
mod store;
mod table;
mod vocabulary;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use epsilon_data::files;
use epsilon_data::labels::VectorFile;
use epsilon_vision::backbone::{Download, Engine, TextTower};
use epsilon_vision::tokens::Progress;

pub use self::error::LearnError;
use self::error::io;
use self::gather::{Gathered, gather};
pub use self::rehearsal::{Choice, Rehearsal, RehearsalEvent, Round, Watch};
pub use self::report::{Anchored, KeptLabels, LearnReport, LearntLabel};
pub use self::scenes::Held;
use self::table::Table;
use self::vocabulary::Vocabulary;
use crate::calibration::{Calibration, Rule, held_out_by_label};
use crate::experiment::{self, Experiment, ExperimentError, Layout, RunEvent};
use crate::library::{Corrections, Library, Walk};
use crate::model::Model;
use crate::recipe::Recipe;
use crate::training::Event;

/// Photographs to train on that a label needs, unless told otherwise, to be learnt: one is worth more than none (docs/learning.md).
pub const AT_LEAST: usize = 1;
/// The one seed of a learnt model.
const SEED: u64 = 1;

/// The network whose tokens are learnt from, and the vectors of words.
#[derive(Debug, Clone)]
pub struct Network {
    /// Its weights: a file, a folder, or `hf:OWNER/NAME`.
    pub weights: PathBuf,
    /// The file of word vectors; without one the network's own text tower makes them.
    pub vectors: Option<VectorFile>,
    /// The names of its classes, where it has some and they are not ImageNet's 1,000.
    pub classes: Option<PathBuf>,
}

impl Network {
    /// One without word vectors.
    pub fn of(weights: PathBuf) -> Self {
        Self {
            weights,
            vectors: None,
            classes: None,
        }
    }

    /// That of the trained model in a file.
    ///
    /// # Errors
    /// [`LearnError::Experiment`] for a file that cannot be read, or without the recipe of a training.
    pub fn of_model(path: &Path) -> Result<Self, LearnError> {
        let device = burn::tensor::Device::flex();
        let model = Model::load(path, &device).map_err(ExperimentError::from)?;
        let recipe = experiment::recipe_of(&model, path)?;
        let weights = recipe.backbone.as_ref();
        let weights = weights.ok_or(ExperimentError::NoBackbone)?.weights.clone();
        Ok(Self {
            weights,
            vectors: Some(recipe.data.vector_file()),
            classes: recipe.anchor.and_then(|anchor| anchor.classes),
        })
    }

    /// What the vectors of words are made of: the file, or the network's own text tower.
    fn vectors(&self) -> Result<VectorFile, LearnError> {
        match &self.vectors {
            Some(file) => Ok(file.clone()),
            None if TextTower::is_named(&self.weights) => Ok(self.weights.as_path().into()),
            None => Err(LearnError::NoVectors {
                weights: self.weights.clone(),
            }),
        }
    }
}

/// The network that a library was learnt with before, if it was.
///
/// # Errors
/// As [`Network::of_model`].
pub fn earlier_network(library: &Path) -> Result<Option<Network>, LearnError> {
    let folder = Library::learnt(library);
    let path = Layout(&folder).model(SEED);
    match path.exists() {
        true => Network::of_model(&path).map(Some),
        false => Ok(None),
    }
}

/// Settings of a [`Learner`].
#[derive(Debug, Clone)]
pub struct LearnOptions {
    /// The library's folder, if not the one [beside](Library::beside) the photographs.
    pub library: Option<PathBuf>,
    /// The model's file, if not [`Library::model_file`].
    pub model: Option<PathBuf>,
    /// Photographs to train on that a label needs to be learnt.
    pub at_least: usize,
    /// Whether the names of folders are keywords, too.
    pub folders: bool,
    /// Patterns of what is left out, as [`Walk::new`] takes them.
    pub exclude: Vec<String>,
    /// What runs the network.
    pub engine: Engine,
    /// Whether downloads show a bar on stderr.
    pub show_downloads: bool,
}

impl Default for LearnOptions {
    fn default() -> Self {
        Self {
            library: None,
            model: None,
            at_least: AT_LEAST,
            folders: false,
            exclude: Vec::new(),
            engine: Engine::Own,
            show_downloads: false,
        }
    }
}

/// What happens while a library is learnt from.
#[non_exhaustive]
pub enum LearnEvent<'a> {
    /// The keywords of so many photographs are to be read.
    Reading(usize),
    /// So many more of them are read.
    Read(usize),
    /// Something of a file could not be read.
    Flaw(&'a str),
    /// Tokens are extracted.
    Extracting(Progress),
    /// The training goes on.
    Training(Event<'a>),
    /// Photographs that were held out are scored, and figures computed of them.
    Measuring {
        /// Photographs scored.
        done: usize,
        /// Photographs to score.
        total: usize,
    },
}

/// Is told [`LearnEvent`]s, and can break off: [`LearnError::Stopped`].
pub type Observe<'a> = dyn FnMut(LearnEvent<'_>) -> ControlFlow<()> + 'a;

/// Tells an observer; an error where it breaks off.
fn tell(observe: &mut Observe<'_>, event: LearnEvent<'_>) -> Result<(), LearnError> {
    match observe(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(LearnError::Stopped),
    }
}

/// Learns a model from a folder of photographs.
///
/// ```no_run
/// use std::ops::ControlFlow::Continue;
/// use std::path::Path;
///
/// use epsilon::Learner;
/// use epsilon::learning::{LearnOptions, Network};
///
/// let network = Network {
///     vectors: Some(Path::new("glove.6B.300d.txt").into()),
///     ..Network::of("deit_tiny.safetensors".into())
/// };
/// let learner = Learner::open(Path::new("photos"), network, LearnOptions::default())?;
/// let report = learner.learn(&mut |_| Continue(()))?;
/// println!("{} labels, mAP {:?}: {}", report.labels.len(), report.map, report.model.display());
/// # Ok::<(), epsilon::learning::LearnError>(())
/// ```
pub struct Learner {
    photos: PathBuf,
    library: PathBuf,
    /// Where what it makes is kept.
    folder: PathBuf,
    walk: Walk,
    network: Network,
    options: LearnOptions,
    _lock: std::fs::File,
}

impl Learner {
    /// One for a folder of photographs. No other process can learn from the same library until this is dropped.
    ///
    /// # Errors
    /// [`LearnError::File`] for a folder that cannot be read, [`LearnError::Library`] for a library of other photographs,
    /// [`LearnError::Exclude`], [`LearnError::Busy`].
    pub fn open(
        photos: &Path,
        network: Network,
        options: LearnOptions,
    ) -> Result<Self, LearnError> {
        network.vectors()?;
        let photos = std::path::absolute(photos).map_err(io(photos))?;
        std::fs::read_dir(&photos).map_err(io(&photos))?;
        let walk = Walk::new(&photos, &options.exclude)?;
        let library = options.library.clone();
        let library = library.unwrap_or_else(|| Library::beside(&photos));
        Library::check_is_of(&library, &photos)?;
        let folder = Library::learnt(&library);
        files::folder(&library).map_err(io(&library))?;
        files::folder(&folder).map_err(io(&folder))?;
        let place = folder.join("lock");
        let lock = files::own(&place).map_err(io(&place))?;
        match lock.try_lock() {
            Ok(()) => files::tidy(&folder).map_err(io(&folder))?,
            Err(std::fs::TryLockError::WouldBlock) => return Err(LearnError::Busy { library }),
            Err(std::fs::TryLockError::Error(error)) => return Err(io(&place)(error)),
        }
        Ok(Self {
            photos,
            library,
            folder,
            walk,
            network,
            options,
            _lock: lock,
        })
    }

    fn download(&self) -> Download {
        Download::shown(self.options.show_downloads)
    }

    /// Where the model is written.
    pub fn model(&self) -> PathBuf {
        let named = self.options.model.clone();
        named.unwrap_or_else(|| Library::model_file(&self.library))
    }

    /// Reads keywords and corrections, extracts the tokens of what is new, trains, calibrates, and writes the model.
    ///
    /// # Errors
    /// [`LearnError::NoKeywords`], [`LearnError::AllRare`], [`LearnError::Wordless`] where nothing can be learnt; those of the steps.
    /// The model of an earlier time is then as it was.
    pub fn learn(&self, observe: &mut Observe<'_>) -> Result<LearnReport, LearnError> {
        let gathered = self.gather(observe)?;
        let held = scenes::hold_out(&gathered.photos);
        let vocabulary = Vocabulary::of(&gathered, &held, self)?;
        let store = store::extract(self, &gathered.photos, observe)?;
        let table = Table::of(&gathered, &vocabulary, &held, &store);
        if table.trained_on() == 0 || table.held_out() == 0 {
            return Err(LearnError::TooFew {
                known: gathered.photos.len(),
                scenes: held.scenes,
            });
        }
        table.write(&self.folder)?;
        let recipe = recipe::of(self, &table)?;
        let (mut experiment, mut model, anchored) = self.train(recipe, observe)?;
        let mut scoring = |done, total| observe(LearnEvent::Measuring { done, total });
        let map = match experiment.measure(&model, &mut scoring) {
            Ok(figures) => Some(figures.seen().map),
            // Among few photographs none may have a label that was learnt.
            Err(ExperimentError::Metrics(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let judged = calibrate(&mut experiment, &mut model, &mut scoring)?;
        let place = self.model();
        model.save(&place).map_err(ExperimentError::from)?;
        Ok(LearnReport {
            model: place,
            anchored,
            map,
            ..report::of(&gathered, &vocabulary, &held, &table, &store, judged)
        })
    }

    fn gather(&self, observe: &mut Observe<'_>) -> Result<Gathered, LearnError> {
        let scan = self.walk.scan();
        tell(observe, LearnEvent::Reading(scan.photos.len()))?;
        let corrections = Corrections::read(&self.library)?;
        let mut gathered = gather(self, scan.photos, &corrections, observe)?;
        let failed = scan.failed.into_iter().map(|failed| failed.reason);
        gathered.unread.extend(failed);
        for flaw in &gathered.flaws {
            tell(observe, LearnEvent::Flaw(flaw))?;
        }
        match gathered.photos.is_empty() {
            true => Err(LearnError::NoKeywords {
                folder: self.photos.clone(),
                photos: gathered.looked_at,
            }),
            false => Ok(gathered),
        }
    }

    /// Trains a recipe, with what the backbone's own classes say of a label where they can be used.
    fn train(
        &self,
        recipe: Recipe,
        observe: &mut Observe<'_>,
    ) -> Result<(Experiment, Model, Anchored), LearnError> {
        let mut train = |recipe: Recipe| -> Result<(Experiment, Model), ExperimentError> {
            let mut experiment = Experiment::open(recipe, &self.folder)?;
            let model = experiment.train(SEED, &mut |event| match event {
                RunEvent::Training(event) => observe(LearnEvent::Training(event)),
                // The tokens are there already, and it is measured later.
                _ => ControlFlow::Continue(()),
            })?;
            Ok((experiment, model))
        };
        let weight = recipe.anchor.as_ref().map_or(0.0, |anchor| anchor.weight);
        match train(recipe.clone()) {
            Ok((experiment, model)) => Ok((experiment, model, Anchored::Weight(weight))),
            Err(ExperimentError::Anchor(error)) => {
                let without = Recipe {
                    anchor: None,
                    ..recipe
                };
                let (experiment, model) = train(without)?;
                Ok((experiment, model, Anchored::Without(error.to_string())))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Fits probabilities and thresholds to the photographs that were held out; what the thresholds keep of each label, where there
/// are enough of them.
fn calibrate(
    experiment: &mut Experiment,
    model: &mut Model,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<report::Judged, LearnError> {
    let (prepared, store) = (experiment.prepare()?, experiment.tokens()?);
    let device = experiment.device();
    let standardised = experiment::standardised(model, &prepared, &store, device, progress)?;
    let judged = standardised.judged();
    let on = format!("{} photographs held out", standardised.images());
    match Calibration::fit(&judged, Rule::BestF1, on) {
        Ok(calibration) => {
            let kept = held_out_by_label(&judged, Rule::BestF1);
            model.calibrate(calibration);
            Ok(report::Judged::Kept(kept.unwrap_or_default()))
        }
        Err(error) => Ok(report::Judged::TooFew(error.to_string())),
    }
}
