//! The training loop of every method that follows gradients.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::batches::{Epoch, HostBatch};
use super::checkpoint::{Course, State};
use super::{Examples, Progress, TrainingError, TrainingSettings};
use crate::batch::{Batch, Dims, Draws, LabelsOn, TrainingPrecision};
use crate::device;
use crate::methods::{GradientMethod, TrainedLabels};
use crate::optimiser::{self, Optimiser};
use crate::parameters::Weights;
use epsilon_data::files;
use epsilon_kernels::vector;

/// Values kept for the backward pass at once: a step works through its batch in parts below this. The parts' gradients
/// add up to the batch's, so only memory and rounding depend on it.
const LIVE_VALUES: usize = 48 << 20;

/// Where a training keeps its metrics and checkpoints.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// A run folder here, made when it does not exist.
    ///
    /// # Errors
    /// [`TrainingError::File`] when it cannot be made.
    pub fn create(path: &Path) -> Result<Self, TrainingError> {
        let folder = Self { path: path.into() };
        let checkpoints = path.join("checkpoints");
        std::fs::create_dir_all(&checkpoints).map_err(|e| failed(&checkpoints, e))?;
        Ok(folder)
    }

    /// Writes one of its files, whole or not at all.
    ///
    /// # Errors
    /// [`TrainingError::File`] when it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TrainingError> {
        let path = self.path.join(name);
        files::write(&path, bytes).map_err(|e| failed(&path, e))
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
    fn forget_checkpoint(&self) -> Result<(), TrainingError> {
        let path = self.checkpoint();
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(&path, e)),
            _ => Ok(()),
        }
    }

    /// Drops what is known of epochs after this one.
    fn cut_metrics(&self, epochs: usize) -> Result<(), TrainingError> {
        let path = self.metrics();
        let lines = match std::fs::read_to_string(&path) {
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
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
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
    /// An epoch is done.
    Epoch(&'a EpochRecord),
    /// Training goes on from a checkpoint.
    Resumed {
        /// Steps done before.
        done: usize,
        /// Steps of the whole training.
        total: usize,
    },
}

/// The loss summed over images, of a step or of many.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Images.
    pub images: usize,
    /// The ranking part.
    pub ranking: f64,
    /// The regularisation part.
    pub regularisation: f64,
}

impl Sums {
    /// Mean loss of an image.
    pub fn mean(&self) -> f64 {
        (self.ranking + self.regularisation) / self.images as f64
    }
}

/// Everything a training is given.
pub struct Trainer<'a> {
    /// The method.
    pub method: &'a dyn GradientMethod,
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
    pub validate: Option<&'a dyn Fn(&Weights) -> f64>,
}

impl Trainer<'_> {
    /// Trains to the last epoch and returns its weights. The same inputs, machine and number of threads give the same
    /// weights bit for bit, stopped and resumed or not.
    ///
    /// # Errors
    /// Any [`TrainingError`].
    pub fn run(&self, observe: &mut dyn FnMut(Event)) -> Result<Weights, TrainingError> {
        self.settings.check()?;
        if self.examples.items().is_empty() {
            return Err(TrainingError::NoImages);
        }
        let dims = self.examples.dims();
        self.settings.check_device(self.device)?;
        if self.settings.precision == TrainingPrecision::Bf16 && !self.method.trains_in_bf16(&dims)
        {
            let what = "precision = \"bf16\": the method has no bf16 form with these settings; give \"f32\"";
            return Err(TrainingError::Setting(what.into()));
        }
        let weights = self.first_weights(&dims)?;
        let mut course = Course {
            optimiser: Optimiser::new(self.settings.optimiser, &weights),
            weights,
            state: State {
                identity: self.identity.clone(),
                ..State::default()
            },
            best: None,
            average: None,
        };
        course.average = self.settings.average.map(|_| course.weights.clone());
        let steps = self.examples.items().len().div_ceil(self.settings.batch);
        let total = steps * self.settings.epochs;
        if let (Some(folder), true) = (self.folder, self.resume) {
            let path = folder.checkpoint();
            if course.resume(&path, self.device)? {
                let state = &course.state;
                if state.epoch > self.settings.epochs || state.step >= steps {
                    return Err(failed(
                        &path,
                        "stands beyond this training's end; delete it",
                    ));
                }
                observe(Event::Resumed {
                    done: state.epoch * steps + state.step,
                    total,
                });
            }
        }
        if let Some(folder) = self.folder {
            if !self.resume {
                folder.forget_checkpoint()?;
            }
            folder.cut_metrics(course.state.epoch)?;
        }
        let labels = LabelsOn::new(self.examples.vectors().clone(), self.device);
        while course.state.epoch < self.settings.epochs && !self.stands_still(&course.state) {
            let mut epoch = RunningEpoch {
                fit: self,
                dims: &dims,
                labels: &labels,
                steps,
                total,
            };
            epoch.run(&mut course, observe)?;
        }
        let last = course.average.unwrap_or(course.weights);
        Ok(course.best.unwrap_or(last))
    }

    /// The weights before the first step: drawn, or what the method makes of the labels.
    fn first_weights(&self, dims: &Dims) -> Result<Weights, TrainingError> {
        let specs = self.method.specs(dims)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut weights = Weights::draw(specs, &mut rng, self.device);
        let labels = TrainedLabels {
            vectors: self.examples.vectors(),
            positives: &self.examples.positives(),
        };
        for (name, values) in self.method.first_values(dims, &labels) {
            weights.set_host(&name, values, self.device);
        }
        Ok(weights)
    }

    /// Whether early stopping ends the training here.
    fn stands_still(&self, state: &State) -> bool {
        match (self.settings.patience, state.best) {
            (Some(patience), Some((best, _))) => state.epoch >= best + patience,
            _ => false,
        }
    }

    fn save(&self, course: &Course) -> Result<(), TrainingError> {
        match self.folder {
            Some(folder) => course.write(&folder.checkpoint()),
            None => Ok(()),
        }
    }
}

struct RunningEpoch<'a> {
    fit: &'a Trainer<'a>,
    dims: &'a Dims,
    labels: &'a LabelsOn,
    steps: usize,
    total: usize,
}

impl RunningEpoch<'_> {
    fn run(
        &mut self,
        course: &mut Course,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), TrainingError> {
        let fit = self.fit;
        let state = &course.state;
        let plan = Epoch {
            seed: fit.seed,
            index: state.epoch,
            batch: fit.settings.batch,
            part: part(fit.method, self.dims, fit.settings.batch),
            first_batch: state.step,
        };
        let (start, before) = (Instant::now(), state.sums.images);
        let mut waiting = 0.0;
        let mut rate = 0.0;
        std::thread::scope(|scope| {
            let batches = fit.examples.read_ahead(scope, plan);
            loop {
                let asked = Instant::now();
                let Ok(parts) = batches.recv() else { break };
                waiting += asked.elapsed().as_secs_f64();
                rate = self.rate(&course.state);
                self.step(course, parts, rate, observe)?;
            }
            Ok::<(), TrainingError>(())
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let sums = std::mem::take(&mut course.state.sums);
        let images = sums.images as f64;
        course.state.epoch += 1;
        course.state.step = 0;
        let record = EpochRecord {
            epoch: course.state.epoch,
            loss: sums.mean(),
            ranking: sums.ranking / images,
            regularisation: sums.regularisation / images,
            learning_rate: rate,
            validation_map: fit.validate.map(|validate| validate(course.current())),
            images_per_second: (sums.images - before) as f64 / seconds,
            waiting: waiting / seconds,
        };
        course
            .state
            .plateaus
            .note(record.loss, &fit.settings.schedule);
        if let (Some(_), Some(map)) = (fit.settings.patience, record.validation_map)
            && course.state.best.is_none_or(|(_, best)| map > best)
        {
            course.state.best = Some((record.epoch, map));
            course.best = Some(course.current().clone());
        }
        if let Some(folder) = fit.folder {
            folder.add_metrics(&record)?;
        }
        fit.save(course)?;
        observe(Event::Epoch(&record));
        Ok(())
    }

    fn rate(&self, state: &State) -> f64 {
        let settings = self.fit.settings;
        let progress = Progress {
            step: state.epoch * self.steps + state.step,
            steps_per_epoch: self.steps,
            epochs: settings.epochs,
            warm_up: settings.warm_up,
            plateaus: state.plateaus.count,
        };
        settings.learning_rate * settings.schedule.factor(progress)
    }

    fn step(
        &self,
        course: &mut Course,
        parts: Vec<HostBatch>,
        rate: f64,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), TrainingError> {
        let (fit, state) = (self.fit, &mut course.state);
        let number = state.epoch * self.steps + state.step;
        let parts = parts
            .into_iter()
            .enumerate()
            .map(|(part, batch)| Batch {
                precision: fit.settings.precision,
                draws: Draws::of(fit.seed, number, part),
                ..batch.onto(self.dims, self.labels)
            })
            .collect();
        let (weights, optimiser) = (&mut course.weights, &mut course.optimiser);
        let step = step(
            fit.method,
            weights,
            optimiser,
            parts,
            fit.settings.clip,
            rate,
        );
        if let (Some(average), Some(share)) = (&mut course.average, fit.settings.average) {
            // Faster at first, so that the first values do not stay in it.
            let share = share.min((1 + number) as f64 / (10 + number) as f64);
            average.move_towards(weights, 1.0 - share);
        }
        let loss = step.mean();
        state.step += 1;
        if !loss.is_finite() {
            let (epoch, step) = (state.epoch + 1, state.step);
            return Err(TrainingError::Diverged {
                value: loss,
                epoch,
                step,
            });
        }
        state.sums.images += step.images;
        state.sums.ranking += step.ranking;
        state.sums.regularisation += step.regularisation;
        state.optimiser_steps = optimiser.steps;
        observe(Event::Step {
            done: state.epoch * self.steps + state.step,
            total: self.total,
            loss,
            learning_rate: rate,
        });
        if state.step.is_multiple_of(fit.settings.checkpoint_steps) && state.step < self.steps {
            fit.save(course)?;
        }
        Ok(())
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
    let mut gradients = gradients.unwrap_or_default();
    if let Some(limit) = clip {
        gradients = optimiser::clip(gradients, limit);
    }
    optimiser.step(weights, gradients, learning_rate);
    method.constrain(weights);
    sums
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

fn failed(path: &Path, reason: impl std::fmt::Display) -> TrainingError {
    TrainingError::File {
        path: path.into(),
        reason: reason.to_string(),
    }
}
