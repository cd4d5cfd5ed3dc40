//! The training loop of every method that follows gradients.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::batches::{Epoch, Shared};
use super::checkpoint::{Position, Sums, TrainingState};
use super::{Examples, StepPosition, TrainingError, TrainingSettings};
use crate::batch::{Batch, Dims, Draws, LabelsOn, TrainingPrecision};
use crate::device;
use crate::methods::varied::Varied;
use crate::methods::{
    Fitting, GradientMethod, Kind, MethodError, SolvedMethod, StagedMethod, Stages, TrainedLabels,
    Whole,
};
use crate::optimiser::{self, Learner, Optimiser};
use crate::parameters::{Weights, check_count};
use crate::ranks::{Alone, Ranks};
use epsilon_data::files;
use epsilon_data::labels::LabelVectors;
use epsilon_kernels::vector;

/// Values kept for the backward pass at once: a step works through its batch in parts below this. The parts' gradients
/// add up to the batch's, so only memory and rounding depend on it.
const LIVE_VALUES: usize = 48 << 20;

/// Where a training keeps its metrics and checkpoints. As long as it lives, no other one writes there.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Locked.
    _lock: File,
}

impl RunFolder {
    /// A run folder here, made when it does not exist.
    ///
    /// # Errors
    /// [`TrainingError::File`] when it cannot be made, [`TrainingError::Busy`] when another training has it.
    pub fn create(path: &Path) -> Result<Self, TrainingError> {
        let checkpoints = path.join("checkpoints");
        std::fs::create_dir_all(&checkpoints).map_err(|e| failed(&checkpoints, e))?;
        let name = path.join("lock");
        let lock = files::own(&name).map_err(|e| failed(&name, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(TrainingError::Busy {
                    folder: path.into(),
                });
            }
            Err(TryLockError::Error(e)) => return Err(failed(&name, e)),
        }
        // Only who has the folder knows that nobody is writing there.
        for folder in [path, &checkpoints] {
            files::tidy(folder).map_err(|e| failed(folder, e))?;
        }
        Ok(Self {
            path: path.into(),
            _lock: lock,
        })
    }

    /// Writes one of its files, whole or not at all.
    ///
    /// # Errors
    /// [`TrainingError::File`] when it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TrainingError> {
        let path = self.path.join(name);
        files::write(&path, bytes).map_err(|e| failed(&path, e))
    }

    /// One of its files, if it is there.
    ///
    /// # Errors
    /// [`TrainingError::File`] when it cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, TrainingError> {
        let path = self.path.join(name);
        match files::read(&path, files::LIST) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&path, e)),
        }
    }

    /// A run folder within this one.
    ///
    /// # Errors
    /// As [`RunFolder::create`].
    pub fn within(&self, name: &str) -> Result<Self, TrainingError> {
        Self::create(&self.path.join(name))
    }

    /// One line of JSON an epoch.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The newest checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoints").join("last.safetensors")
    }

    /// Removes the checkpoint of an earlier training, so that nobody resumes from it after this one has begun.
    pub(crate) fn forget_checkpoint(&self) -> Result<(), TrainingError> {
        remove(&self.checkpoint())
    }

    /// Removes one of its files that is not of the training that begins.
    pub(crate) fn forget(&self, name: &str) -> Result<(), TrainingError> {
        remove(&self.path.join(name))
    }

    /// Drops what is known of epochs after this one.
    fn cut_metrics(&self, epochs: usize) -> Result<(), TrainingError> {
        let path = self.metrics();
        let lines = match files::read_text(&path, files::LIST) {
            Ok(lines) => lines,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(failed(&path, e)),
        };
        let kept: String = lines
            .lines()
            .take(epochs)
            .flat_map(|line| [line, "\n"])
            .collect();
        files::write(&path, kept.as_bytes()).map_err(|e| failed(&path, e))
    }

    fn add_metrics(&self, record: &EpochRecord) -> Result<(), TrainingError> {
        let path = self.metrics();
        let line = serde_json::to_string(record).map_err(|e| failed(&path, e))?;
        files::append(&path)
            .and_then(|mut file| {
                writeln!(file, "{line}")?;
                file.sync_all()
            })
            .map_err(|e| failed(&path, e))
    }
}

/// One epoch as `metrics.jsonl` tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Mean loss over its images, before each step.
    pub loss: f64,
    /// The ranking part.
    pub ranking: f64,
    /// The regularisation part.
    pub regularisation: f64,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Figure on the validation images, when some were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_map: Option<f64>,
    /// Images a second.
    pub images_per_second: f64,
    /// Share of the time spent waiting for tokens.
    pub waiting: f64,
}

/// What the observer of a training is told.
#[non_exhaustive]
pub enum Event<'a> {
    /// A step is done.
    Step {
        /// Steps done in the whole training.
        done: usize,
        /// Steps of the whole training.
        total: usize,
        /// Loss of its batch.
        loss: f64,
        /// Its learning rate.
        learning_rate: f64,
    },
    /// Validation images are scored at an epoch's end.
    Validating {
        /// Images scored.
        done: usize,
        /// Images to score.
        total: usize,
    },
    /// An epoch is done.
    Epoch(&'a EpochRecord),
    /// Weights are solved for in closed form.
    Solving,
    /// Training goes on from a checkpoint.
    Resumed {
        /// Steps done before.
        done: usize,
        /// Steps of the whole training.
        total: usize,
        /// The epochs that it was to have before, where they are others now: what comes of it is the same as of one training of
        /// the epochs that it is to have now.
        before: Option<u64>,
    },
    /// Something happened in one of the trainings that choose before the model is trained.
    Choosing {
        /// The set of labels that is left out, from 1.
        fold: usize,
        /// How many such sets there are.
        folds: usize,
        /// What happened.
        event: &'a Event<'a>,
    },
}

/// What a training by gradient descent gives.
pub(crate) struct Fitted {
    /// The model's weights.
    pub weights: Weights,
    /// The epoch, from 1, that they are of; only for early stopping.
    pub best_epoch: Option<usize>,
}

/// The figure of weights on the validation images. It tells the observer the images scored and to score, and breaks off where that
/// does.
pub type Validate<'a> =
    dyn Fn(&Weights, &mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> ControlFlow<(), f64> + 'a;

/// Everything a training is given but the method.
pub struct Trainer<'a> {
    /// How to train.
    pub settings: &'a TrainingSettings,
    /// Seed of the weights' first values and of the order of images.
    pub seed: u64,
    /// The training images.
    pub examples: &'a Examples<'a>,
    /// Where to compute.
    pub device: &'a Device,
    /// Where to keep metrics and checkpoints.
    pub folder: Option<&'a RunFolder>,
    /// Go on from the folder's checkpoint if it has one.
    pub resume: bool,
    /// What the checkpoint must have been started with, such as the resolved recipe; an object's keys are compared.
    pub identity: serde_json::Value,
    /// The figure on the validation images, taken after every epoch.
    pub validate: Option<&'a Validate<'a>>,
    /// The last epoch, from 1, if it is an earlier one than that of the settings, whose schedule stays.
    pub last_epoch: Option<usize>,
    /// Who train together, each with its own part of every batch. The first rank alone has the folder.
    pub ranks: &'a dyn Ranks,
}

/// What the loop drives: the steps of a kind of method.
trait Steps {
    /// Takes the next step, the one at `position`.
    fn step(&mut self, learners: &mut [Learner], position: &Position) -> Step;
}

/// A step that was taken.
struct Step {
    sums: Sums,
    learning_rate: f64,
    /// Seconds spent waiting for its tokens.
    waiting: f64,
}

impl Trainer<'_> {
    /// Trains a method in the way that is its own; `unseen` are unit vectors of labels that are known and not trained on. Settings
    /// that its way has no use for are ignored.
    ///
    /// # Errors
    /// Any [`TrainingError`].
    pub fn train(
        &self,
        method: &Kind,
        unseen: &LabelVectors,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Weights, TrainingError> {
        Ok(self.fit_kind(method, unseen, observe)?.weights)
    }

    /// [`Trainer::train`], and which epoch early stopping took.
    pub(crate) fn fit_kind(
        &self,
        method: &Kind,
        unseen: &LabelVectors,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Fitted, TrainingError> {
        let weights = match method.fitting() {
            Fitting::Given => return Err(MethodError::NotTrained.into()),
            Fitting::Gradient(method) => return self.fit(method, observe),
            Fitting::Staged(_) if self.ranks.size() > 1 => return Err(TrainingError::OneProcess),
            Fitting::Staged(method) => self.run_stages(method, unseen, observe)?,
            Fitting::Solved(method) => self.solve(method, unseen, observe)?,
        };
        Ok(Fitted {
            weights,
            best_epoch: None,
        })
    }

    /// Solves for the weights of a method.
    fn solve(
        &self,
        method: &dyn SolvedMethod,
        unseen: &LabelVectors,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Weights, TrainingError> {
        let images = self.examples.items().len();
        if images == 0 {
            return Err(TrainingError::NoImages);
        }
        let (targets, global) = self.examples.stretch(self.ranks.own(images));
        let whole = Whole {
            global: &global,
            targets: &targets,
            labels: self.examples.vectors(),
            unseen,
            seed: self.seed,
            ranks: self.ranks,
        };
        let mut ask = || observe(Event::Solving);
        Ok(method.solve(&self.examples.dims(), &whole, self.device, &mut ask)?)
    }

    /// Trains a method by gradient descent to the last epoch and returns its weights. The same inputs, machine and number of
    /// threads give the same weights bit for bit, stopped and resumed or not.
    ///
    /// `observe` is told of every step. Where it breaks off, the checkpoint is written, if there is a folder, and the training ends
    /// as [`TrainingError::Stopped`].
    ///
    /// # Errors
    /// Any [`TrainingError`].
    pub fn run(
        &self,
        method: &dyn GradientMethod,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Weights, TrainingError> {
        Ok(self.fit(method, observe)?.weights)
    }

    /// [`Trainer::run`], and which epoch early stopping took.
    pub(crate) fn fit(
        &self,
        method: &dyn GradientMethod,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Fitted, TrainingError> {
        self.settings.check()?;
        if self.examples.items().is_empty() {
            return Err(TrainingError::NoImages);
        }
        let variation = self.settings.variation();
        if !variation.is_none() {
            return self.run_plain(&Varied::new(method, variation)?, observe);
        }
        self.run_plain(method, observe)
    }

    /// [`Trainer::run`], whatever varies being part of the method.
    fn run_plain(
        &self,
        method: &dyn GradientMethod,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Fitted, TrainingError> {
        let dims = self.examples.dims();
        self.settings.check_device(self.device)?;
        if self.settings.precision == TrainingPrecision::Bf16 && !method.trains_in_bf16(&dims) {
            let what = "precision = \"bf16\": the method has no bf16 form with these settings; give \"f32\"";
            return Err(TrainingError::Setting(what.into()));
        }
        if self.ranks.size() > 1 && method.needs_whole_batches() {
            return Err(TrainingError::OneProcess);
        }
        let weights = self.first_weights(method, &dims)?;
        let average = self.settings.average.map(|_| weights.clone());
        let learners = vec![Learner::new("", weights, self.settings.optimiser)];
        let count = self.examples.items().len().div_ceil(self.settings.batch);
        let last = self.last_epoch.unwrap_or(self.settings.epochs);
        let epochs = vec![count; last.min(self.settings.epochs)];
        let state = std::thread::scope(|scope| {
            let mut steps = GradientSteps {
                trainer: self,
                method,
                part: part(method, &dims, self.settings.batch),
                dims,
                labels: LabelsOn::new(self.examples.vectors().clone(), self.device),
                count,
                scope,
                batches: None,
            };
            self.drive(&mut steps, learners, average, &epochs, observe)
        })?;
        let last = state.current().clone();
        Ok(Fitted {
            weights: state.best.unwrap_or(last),
            best_epoch: state.position.best.map(|(epoch, _)| epoch),
        })
    }

    /// Trains a method by steps of its own and returns its weights, with the same promise as [`Trainer::run`]. Of the settings only
    /// those of checkpoints matter.
    ///
    /// # Errors
    /// Any [`TrainingError`].
    pub fn run_stages(
        &self,
        method: &dyn StagedMethod,
        unseen: &LabelVectors,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Weights, TrainingError> {
        let settings = TrainingSettings {
            checkpoint_steps: self.settings.checkpoint_steps,
            ..TrainingSettings::default()
        };
        settings.check()?;
        let trainer = Trainer {
            settings: &settings,
            validate: None,
            identity: self.identity.clone(),
            ..*self
        };
        if self.examples.items().is_empty() {
            return Err(TrainingError::NoImages);
        }
        let (targets, global) = self.examples.whole();
        let whole = Whole {
            global: &global,
            targets: &targets,
            labels: self.examples.vectors(),
            unseen,
            seed: self.seed,
            ranks: self.ranks,
        };
        let dims = self.examples.dims();
        check_count(&method.specs(&dims)?).map_err(MethodError::from)?;
        let mut stages = method.stages(&dims, &whole, self.device)?;
        let (learners, epochs) = (stages.learners(), stages.steps());
        let state = trainer.drive(&mut *stages, learners, None, &epochs, observe)?;
        Ok(stages.weights(&state.learners)?)
    }

    /// The loop over the steps of all `epochs`, which holds how many each has.
    fn drive<S: Steps + ?Sized>(
        &self,
        steps: &mut S,
        learners: Vec<Learner>,
        average: Option<Weights>,
        epochs: &[usize],
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<TrainingState, TrainingError> {
        let mut state = TrainingState {
            learners,
            position: Position {
                identity: self.identity.clone(),
                ..Position::default()
            },
            best: None,
            average,
        };
        if self.resume {
            self.go_on(&mut state, epochs, observe)?;
        }
        if let Some(folder) = self.folder {
            if !self.resume {
                folder.forget_checkpoint()?;
            }
            folder.cut_metrics(state.position.epoch)?;
        }
        while state.position.epoch < epochs.len() && !self.stands_still(&state.position) {
            self.epoch(steps, &mut state, epochs, observe)?;
        }
        Ok(state)
    }

    /// Takes over the checkpoint of the folder, if it has one.
    fn go_on(
        &self,
        state: &mut TrainingState,
        epochs: &[usize],
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), TrainingError> {
        let Some((path, bytes)) = self.checkpoint()? else {
            return Ok(());
        };
        let before = state.resume(&path, &bytes, &self.settings.schedule, self.device)?;
        let position = &state.position;
        let count = epochs.get(position.epoch);
        let is_beyond = count.is_some_and(|&count| position.step > count);
        if position.epoch > epochs.len() || is_beyond {
            return Err(failed(
                &path,
                "stands beyond this training's end; delete it",
            ));
        }
        let resumed = Event::Resumed {
            done: position.done(epochs),
            total: epochs.iter().sum(),
            before: before.other,
        };
        tell(observe, resumed)
    }

    /// The checkpoint of the folder, if it has one, as the first rank reads it.
    fn checkpoint(&self) -> Result<Option<(PathBuf, Vec<u8>)>, TrainingError> {
        let path = self.folder.map(RunFolder::checkpoint).unwrap_or_default();
        let read = match self.folder.map(|_| files::read(&path, u64::MAX)) {
            None => None,
            Some(Ok(bytes)) => Some(bytes),
            Some(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => None,
            Some(Err(e)) => return Err(failed(&path, e)),
        };
        let is_there = self.ranks.share(0, vec![u8::from(read.is_some())]) == [1];
        let bytes = is_there.then(|| self.ranks.share(0, read.unwrap_or_default()));
        Ok(bytes.map(|bytes| (path, bytes)))
    }

    /// The weights before the first step: drawn, or what the method makes of the labels.
    fn first_weights(
        &self,
        method: &dyn GradientMethod,
        dims: &Dims,
    ) -> Result<Weights, TrainingError> {
        let specs = method.specs(dims)?;
        check_count(&specs).map_err(MethodError::from)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut weights = Weights::draw(specs, &mut rng, self.device);
        let labels = TrainedLabels {
            vectors: self.examples.vectors(),
            positives: &self.examples.positives(),
        };
        for (name, values) in method.first_values(dims, &labels) {
            weights.set_host(&name, values, self.device);
        }
        Ok(weights)
    }

    /// Whether early stopping ends the training here.
    fn stands_still(&self, position: &Position) -> bool {
        match (self.settings.patience, position.best) {
            (Some(patience), Some((best, _))) => position.epoch >= best + patience,
            _ => false,
        }
    }

    fn save(&self, state: &mut TrainingState) -> Result<(), TrainingError> {
        let Some(folder) = self.folder else {
            return Ok(());
        };
        let mut steps = state.learners.iter().map(|learner| learner.optimiser.steps);
        state.position.optimiser_steps = steps.next().unwrap_or(0);
        state.position.more_optimiser_steps = steps.collect();
        state.write(&folder.checkpoint())
    }

    fn epoch<S: Steps + ?Sized>(
        &self,
        steps: &mut S,
        state: &mut TrainingState,
        epochs: &[usize],
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), TrainingError> {
        let (start, before) = (Instant::now(), state.position.sums.images);
        let mut waiting = 0.0;
        while state.position.step < epochs[state.position.epoch] {
            let step = self.step(steps, state, epochs, observe)?;
            waiting += step.waiting;
        }
        let seconds = start.elapsed().as_secs_f64().max(1e-9);
        self.agree(state);
        let validation_map = self.figure(state, observe)?;
        let sums = std::mem::take(&mut state.position.sums);
        let images = sums.images as f64;
        state.position.epoch += 1;
        state.position.step = 0;
        let record = EpochRecord {
            epoch: state.position.epoch,
            loss: sums.mean(),
            ranking: sums.ranking / images,
            regularisation: sums.regularisation / images,
            learning_rate: state.position.learning_rate,
            validation_map,
            images_per_second: (sums.images - before) as f64 / seconds,
            waiting: waiting / seconds,
        };
        let plateaus = &mut state.position.plateaus;
        plateaus.note(record.loss, &self.settings.schedule);
        if let (Some(_), Some(map)) = (self.settings.patience, record.validation_map)
            && state.position.best.is_none_or(|(_, best)| map > best)
        {
            state.position.best = Some((record.epoch, map));
            state.best = Some(state.current().clone());
        }
        if let Some(folder) = self.folder {
            folder.add_metrics(&record)?;
        }
        self.save(state)?;
        tell(observe, Event::Epoch(&record))
    }

    /// Gives all ranks the first one's weights: processors that round differently would drift apart otherwise.
    fn agree(&self, state: &mut TrainingState) {
        if self.ranks.size() == 1 {
            return;
        }
        let learners = state
            .learners
            .iter_mut()
            .map(|learner| &mut learner.weights);
        for weights in learners.chain(&mut state.average) {
            for (spec, values) in weights.to_host() {
                let bytes = self.ranks.share(0, bytemuck::cast_slice(&values).to_vec());
                let values = bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned);
                weights.set_host(&spec.name, values.collect(), self.device);
            }
        }
    }

    /// The figure on the validation images, where it is taken. Stopped there, a training goes on at its epoch's end.
    fn figure(
        &self,
        state: &mut TrainingState,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Option<f64>, TrainingError> {
        let Some(validate) = self.validate else {
            return Ok(None);
        };
        let mut told = |done, total| observe(Event::Validating { done, total });
        match validate(state.current(), &mut told) {
            ControlFlow::Continue(figure) => Ok(Some(figure)),
            ControlFlow::Break(()) => {
                self.save(state)?;
                Err(TrainingError::Stopped)
            }
        }
    }

    fn step<S: Steps + ?Sized>(
        &self,
        steps: &mut S,
        state: &mut TrainingState,
        epochs: &[usize],
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Step, TrainingError> {
        let number = state.position.done(epochs);
        let step = steps.step(&mut state.learners, &state.position);
        if let (Some(average), Some(share)) = (&mut state.average, self.settings.average) {
            // Faster at first, so that the first values do not stay in it.
            let share = share.min((1 + number) as f64 / (10 + number) as f64);
            average.move_towards(&state.learners[0].weights, 1.0 - share);
        }
        let position = &mut state.position;
        let loss = step.sums.mean();
        position.step += 1;
        if !loss.is_finite() {
            let (epoch, step) = (position.epoch + 1, position.step);
            return Err(TrainingError::Diverged {
                value: loss,
                epoch,
                step,
            });
        }
        position.sums.images += step.sums.images;
        position.sums.ranking += step.sums.ranking;
        position.sums.regularisation += step.sums.regularisation;
        position.learning_rate = step.learning_rate;
        let told = tell(
            observe,
            Event::Step {
                done: number + 1,
                total: epochs.iter().sum(),
                loss,
                learning_rate: step.learning_rate,
            },
        );
        let last = position.step == epochs[position.epoch];
        let is_due = position.step.is_multiple_of(self.settings.checkpoint_steps) && !last;
        if is_due || told.is_err() {
            self.save(state)?;
        }
        told.map(|()| step)
    }
}

/// Tells an observer of an event; an error where it breaks off.
fn tell(
    observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    event: Event<'_>,
) -> Result<(), TrainingError> {
    match observe(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(TrainingError::Stopped),
    }
}

/// The steps of a method that is trained by gradient descent, on mini-batches that are read ahead.
struct GradientSteps<'scope, 'env> {
    trainer: &'scope Trainer<'scope>,
    method: &'scope dyn GradientMethod,
    dims: Dims,
    labels: LabelsOn,
    /// Images that are worked on at once.
    part: usize,
    /// Steps of an epoch.
    count: usize,
    scope: &'scope std::thread::Scope<'scope, 'env>,
    /// What is left of the epoch under way.
    batches: Option<Receiver<Shared>>,
}

impl GradientSteps<'_, '_> {
    fn rate(&self, position: &Position) -> f64 {
        let settings = self.trainer.settings;
        let progress = StepPosition {
            step: position.epoch * self.count + position.step,
            steps_per_epoch: self.count,
            epochs: settings.epochs,
            warm_up: settings.warm_up,
            plateaus: position.plateaus.count,
        };
        settings.learning_rate * settings.schedule.factor(progress)
    }

    /// The next batch, the rank's own images of it in parts.
    fn next(&mut self, position: &Position) -> Shared {
        let plan = Epoch {
            seed: self.trainer.seed,
            index: position.epoch,
            batch: self.trainer.settings.batch,
            part: self.part,
            first_batch: position.step,
            ranks: self.trainer.ranks,
        };
        let read = || self.trainer.examples.read_ahead(self.scope, plan);
        let batches = self.batches.get_or_insert_with(read);
        let batch = batches.recv().expect("a batch for every step of the epoch");
        if position.step + 1 == self.count {
            self.batches = None;
        }
        batch
    }
}

impl Steps for GradientSteps<'_, '_> {
    fn step(&mut self, learners: &mut [Learner], position: &Position) -> Step {
        let asked = Instant::now();
        let Shared { images, parts } = self.next(position);
        let waiting = asked.elapsed().as_secs_f64();
        let (seed, number) = (
            self.trainer.seed,
            position.epoch * self.count + position.step,
        );
        let settings = self.trainer.settings;
        let parts = parts
            .into_iter()
            .map(|batch| Batch {
                precision: settings.precision,
                draws: Draws::of(seed, number, 0).of_images(batch.place(), images),
                ..batch.onto(&self.dims, &self.labels)
            })
            .collect();
        let learning_rate = self.rate(position);
        let Learner {
            weights, optimiser, ..
        } = &mut learners[0];
        let ranks = self.trainer.ranks;
        let (sums, gradients) = descent(self.method, weights, parts, images, ranks);
        advance(
            self.method,
            weights,
            optimiser,
            gradients,
            settings.clip,
            learning_rate,
        );
        Step {
            sums,
            learning_rate,
            waiting,
        }
    }
}

impl Steps for dyn Stages + '_ {
    fn step(&mut self, learners: &mut [Learner], position: &Position) -> Step {
        let step = Stages::step(self, learners, position.epoch, position.step);
        Step {
            sums: Sums {
                images: step.images,
                ranking: step.loss * step.images as f64,
                regularisation: 0.0,
            },
            learning_rate: step.learning_rate,
            waiting: 0.0,
        }
    }
}

/// Images of a batch of this size that a step works on at once: as few parts as memory allows, of equal size.
pub fn part(method: &dyn GradientMethod, dims: &Dims, batch: usize) -> usize {
    if method.needs_whole_batches() {
        return batch;
    }
    let most = (LIVE_VALUES / method.live_values(dims).max(1)).max(1);
    batch.div_ceil(batch.div_ceil(most).max(1))
}

/// One step down the mean loss of a batch that comes in parts of at most [`part`] images; [`Trainer::run`] repeats it.
/// Gradients longer than `clip` are shortened to it. Returns the loss before the step.
pub fn step(
    method: &dyn GradientMethod,
    weights: &mut Weights,
    optimiser: &mut Optimiser,
    parts: Vec<Batch>,
    clip: Option<f64>,
    learning_rate: f64,
) -> Sums {
    let images = parts.iter().map(|part| part.tokens.dims()[0]).sum();
    let (sums, gradients) = descent(method, weights, parts, images, &Alone);
    advance(method, weights, optimiser, gradients, clip, learning_rate);
    sums
}

/// The loss and its gradients of a batch of `images`, of which every rank has some, in parts.
fn descent(
    method: &dyn GradientMethod,
    weights: &mut Weights,
    parts: Vec<Batch>,
    images: usize,
    ranks: &dyn Ranks,
) -> (Sums, Vec<Tensor<1>>) {
    let mut sums = Sums {
        images,
        ..Sums::default()
    };
    let mut gradients: Option<Vec<Tensor<1>>> = None;
    for part in parts {
        let tracked = weights.tracked();
        let loss = method.loss(&tracked, &part, images);
        sums.ranking += loss.ranking * images as f64;
        sums.regularisation += loss.regularisation * images as f64;
        let more = tracked.gradients(&mut loss.total.backward());
        for (name, value) in loss.kept {
            weights.set(&name, value);
        }
        gradients = Some(match gradients {
            None => more,
            Some(sum) => sum.into_iter().zip(more).map(|(a, b)| add(a, b)).collect(),
        });
    }
    if ranks.size() == 1 {
        return (sums, gradients.unwrap_or_default());
    }
    let mut both = [sums.ranking, sums.regularisation];
    ranks.sum_f64(&mut both);
    [sums.ranking, sums.regularisation] = both;
    (sums, summed(weights, gradients, ranks))
}

/// Gradients summed over all ranks, in one message; a rank without an image of a small batch has none of its own.
fn summed(
    weights: &Weights,
    gradients: Option<Vec<Tensor<1>>>,
    ranks: &dyn Ranks,
) -> Vec<Tensor<1>> {
    let trained: Vec<_> = weights.trained().collect();
    let mut all: Vec<f32> = match gradients {
        Some(gradients) => gradients.iter().flat_map(device::host).collect(),
        None => vec![0.0; trained.iter().map(|(spec, _)| spec.len()).sum()],
    };
    ranks.sum(&mut all);
    let mut rest = &all[..];
    let summed = trained.into_iter().map(|(spec, value)| {
        let (own, after) = rest.split_at(spec.len());
        rest = after;
        Tensor::from_data(TensorData::new(own.to_vec(), [own.len()]), &value.device())
    });
    summed.collect()
}

/// Takes the step.
fn advance(
    method: &dyn GradientMethod,
    weights: &mut Weights,
    optimiser: &mut Optimiser,
    mut gradients: Vec<Tensor<1>>,
    clip: Option<f64>,
    learning_rate: f64,
) {
    if let Some(limit) = clip {
        gradients = optimiser::clip(gradients, limit);
    }
    optimiser.step(weights, gradients, learning_rate);
    method.constrain(weights);
}

/// `a + b`, in the place of `a` on the CPU.
fn add(a: Tensor<1>, b: Tensor<1>) -> Tensor<1> {
    if a.device() != Device::flex() {
        return a + b;
    }
    let mut sum = device::flex(a);
    vector::add_row(sum.storage_mut(), device::values(&device::flex(b)));
    Tensor::from_primitive::<burn::backend::Flex>(sum)
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> Result<(), TrainingError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(path, e)),
        _ => Ok(()),
    }
}

fn failed(path: &Path, reason: impl std::fmt::Display) -> TrainingError {
    TrainingError::File {
        path: path.into(),
        reason: reason.to_string(),
    }
}
