//! A simulated owner: how fast a library's model gets better with the photographs that its owner reviews.
//!
//! The owner knows the labels of a data set's training images. At first the backbone's own classes rank all labels. In each round the
//! owner reviews some photographs whole, chosen at random or by [`most_telling`]: labels that the model shows are approved or
//! rejected, those that it does not show are added, and the photograph is marked as reviewed, a click each. A model is learnt as
//! [`super::Learner`] does, of all reviews so far, and measured on the data set's test images, by all labels.

use std::collections::HashSet;
use std::ops::ControlFlow;

use epsilon_data::dataset::Split;
use epsilon_vision::tokens::{TokenSource, TokenStore};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{AT_LEAST, LearnError, recipe};
use crate::calibration::{Calibration, Rule};
use crate::coverage::{self, Looks, most_telling};
use crate::experiment::{self, Experiment, Prepared, RunEvent, Training};
use crate::methods::{Kind, Random};
use crate::model::{Model, Ranker};
use crate::ranks::Alone;
use crate::recipe::Recipe;

/// Of so many reviewed photographs one is held out, for probabilities and thresholds.
const ONE_HELD_OUT_IN: usize = 6;
/// Labels of a photograph that are shown where a model has no thresholds.
const SHOWN: usize = 5;
/// Images that are ranked at once.
const AT_ONCE: usize = 64;
/// What makes the backbone's own classes outweigh the random scores that they are added to at first.
const ALONE: f64 = 50.0;

/// Which photographs are reviewed next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Any.
    Random,
    /// Those that teach most, see [`most_telling`].
    Doubt,
}

/// How reviews go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rehearsal {
    /// Which photographs come next.
    pub choice: Choice,
    /// Rounds; fewer where there are not so many photographs.
    pub rounds: usize,
    /// Photographs of a round.
    pub reviews: usize,
    /// Seed of the choice and of the trainings.
    pub seed: u64,
}

/// Where things stand after a round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Photographs reviewed so far.
    pub reviewed: usize,
    /// Clicks so far.
    pub clicks: usize,
    /// mAP of all labels on the test images, as a fraction.
    pub map: f64,
}

/// What the observer of a [`Rehearsal`] is told.
#[non_exhaustive]
pub enum RehearsalEvent<'a> {
    /// A model is trained or images are scored within a round.
    Run(RunEvent<'a>),
    /// A round is done.
    Round(&'a Round),
}

/// Is told what happens, and can break off: [`LearnError::Stopped`].
pub type Watch<'a> = dyn FnMut(RehearsalEvent<'_>) -> ControlFlow<()> + 'a;

/// What there is to rehearse with.
struct Stage<'a> {
    recipe: Recipe,
    prepared: &'a Prepared,
    store: &'a TokenStore,
    experiment: &'a Experiment,
    /// Rows of the training images in the data set.
    pool: Vec<usize>,
    /// How they look, row-major `[pool, width]`.
    looks: Vec<f32>,
    width: usize,
}

/// What a model shows of a photograph, and its doubt.
struct Shown {
    labels: HashSet<String>,
    doubt: Option<f32>,
}

impl Rehearsal {
    /// The state before the first round and after each. `observe` is told each one, and can break off; nothing is kept then.
    ///
    /// # Errors
    /// [`LearnError::Stopped`], and those of [`Experiment::tokens`] and of the trainings. The backbone needs a classifier whose classes have names and vectors.
    pub fn run(
        &self,
        experiment: &mut Experiment,
        observe: &mut Watch<'_>,
    ) -> Result<Vec<Round>, LearnError> {
        let extracting = |at| RehearsalEvent::Run(RunEvent::Extracting(at));
        let store = experiment.tokens_told(&mut |at| observe(extracting(at)))?;
        let prepared = experiment.prepare()?;
        let stage = Stage::new(experiment, &prepared, &store, observe)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let (mut reviewed, mut clicks) = (Vec::new(), 0);
        let mut rounds = Vec::new();
        for round in 0..=self.rounds {
            let model = stage.learn(&reviewed, self.seed, observe)?;
            let map = stage.measure(&model, observe)?;
            let state = Round {
                reviewed: reviewed.len(),
                clicks,
                map,
            };
            go_on(observe(RehearsalEvent::Round(&state)))?;
            rounds.push(state);
            if round == self.rounds || reviewed.len() == stage.pool.len() {
                break;
            }
            let shown = stage.shown(&model, observe)?;
            let next = self.choose(&stage, &reviewed, &shown, &mut rng);
            clicks += next
                .iter()
                .map(|&at| stage.clicks(at, &shown[at]))
                .sum::<usize>();
            reviewed.extend(next);
        }
        Ok(rounds)
    }

    /// The photographs of the next round, as places in the pool.
    fn choose(
        &self,
        stage: &Stage,
        reviewed: &[usize],
        shown: &[Shown],
        rng: &mut ChaCha8Rng,
    ) -> Vec<usize> {
        let mut taken = vec![false; stage.pool.len()];
        reviewed.iter().for_each(|&at| taken[at] = true);
        match self.choice {
            Choice::Random => {
                let mut open: Vec<usize> = (0..taken.len()).filter(|&at| !taken[at]).collect();
                open.shuffle(rng);
                open.truncate(self.reviews);
                open
            }
            Choice::Doubt => {
                let doubt: Vec<f32> = shown
                    .iter()
                    .map(|shown| shown.doubt.unwrap_or(1.0))
                    .collect();
                let looks = Looks {
                    vectors: &stage.looks,
                    width: stage.width,
                    doubt: &doubt,
                    reviewed: &taken,
                };
                most_telling(&looks, self.reviews)
            }
        }
    }
}

/// Tells that images are scored.
fn scored(observe: &mut Watch<'_>, done: usize, total: usize) -> ControlFlow<()> {
    observe(RehearsalEvent::Run(RunEvent::Measuring { done, total }))
}

/// An error where an observer has broken off.
fn go_on(told: ControlFlow<()>) -> Result<(), LearnError> {
    match told {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(LearnError::Stopped),
    }
}

impl<'a> Stage<'a> {
    fn new(
        experiment: &'a Experiment,
        prepared: &'a Prepared,
        store: &'a TokenStore,
        observe: &mut Watch<'_>,
    ) -> Result<Self, LearnError> {
        let given = experiment.recipe();
        let mut recipe = recipe::defaults()?.apply(given.clone());
        recipe.anchor.get_or_insert_default();
        recipe.evaluation = given.evaluation.clone();
        recipe.evaluation.bootstrap = 0;
        recipe.evaluation.k_zsl.clear();
        recipe.evaluation.k_gzsl.clear();
        let dataset = &prepared.dataset;
        let has_tokens = |row: &usize| store.row_of(&dataset.records[*row].id).is_some();
        let pool: Vec<usize> = dataset
            .rows(Split::Train)
            .into_iter()
            .filter(has_tokens)
            .collect();
        if pool.is_empty() {
            let (store, split) = (store.dir().into(), "train");
            return Err(experiment::ExperimentError::NoImages { store, split }.into());
        }
        let rows = pool
            .iter()
            .filter_map(|&row| store.row_of(&dataset.records[row].id));
        let rows: Vec<usize> = rows.collect();
        let mut looks = Vec::new();
        for part in rows.chunks(128) {
            let (tokens, global) = store.read_rows(part);
            looks.extend(coverage::look(&tokens, &global, part.len(), store.dim()));
            go_on(scored(observe, looks.len(), looks.len()))?;
        }
        let width = looks.len() / pool.len().max(1);
        Ok(Self {
            recipe,
            prepared,
            store,
            experiment,
            pool,
            looks,
            width,
        })
    }

    /// The data set with some images of the pool to train on and others as test images, or its own where none are given. The labels
    /// that are trained on come first.
    fn with(
        &self,
        fit: &[usize],
        held: Option<&[usize]>,
        seen: &[usize],
    ) -> Result<Prepared, LearnError> {
        let dataset = &self.prepared.dataset;
        let others = (0..dataset.names.len()).filter(|label| !seen.contains(label));
        let labels: Vec<usize> = seen.iter().copied().chain(others).collect();
        let test = match held {
            Some(held) => held.iter().map(|&at| self.pool[at]).collect(),
            None => dataset.rows(Split::Test),
        };
        let train: Vec<usize> = fit.iter().map(|&at| self.pool[at]).collect();
        let rows = [&train[..], &test].concat();
        let mut prepared = self.prepared.select(&rows, &labels, seen.len())?;
        for (at, record) in prepared.dataset.records.iter_mut().enumerate() {
            record.split = match at < train.len() {
                true => Split::Train,
                false => Split::Test,
            };
        }
        Ok(prepared)
    }

    /// All labels.
    fn all_labels(&self) -> Vec<usize> {
        (0..self.prepared.dataset.names.len()).collect()
    }

    /// The labels that enough of some images have.
    fn learnt_labels(&self, fit: &[usize]) -> Vec<usize> {
        let labels = &self.prepared.dataset.labels;
        let mut positives = vec![0; self.prepared.dataset.names.len()];
        for &at in fit {
            labels
                .positives(self.pool[at])
                .for_each(|label| positives[label] += 1);
        }
        let enough = |label: &usize| positives[*label] >= AT_LEAST;
        (0..positives.len()).filter(enough).collect()
    }

    fn training<'b>(
        &'b self,
        recipe: &'b Recipe,
        prepared: &'b Prepared,
        seed: u64,
    ) -> Training<'b> {
        Training {
            recipe,
            prepared,
            store: self.store,
            seed,
            device: self.experiment.device(),
            folder: None,
            resume: false,
            ranks: &Alone,
        }
    }

    /// The model of the reviews so far.
    fn learn(
        &self,
        reviewed: &[usize],
        seed: u64,
        observe: &mut Watch<'_>,
    ) -> Result<Model, LearnError> {
        let mut recipe = self.recipe.clone();
        let is_held = |at: &usize| at % ONE_HELD_OUT_IN == ONE_HELD_OUT_IN - 1;
        let (held, fit): (Vec<usize>, Vec<usize>) = (0..reviewed.len()).partition(is_held);
        let [held, fit] =
            [held, fit].map(|of| of.iter().map(|&at| reviewed[at]).collect::<Vec<_>>());
        let seen = self.learnt_labels(&fit);
        if seen.is_empty() || held.is_empty() {
            recipe.method = Kind::Random(Random::default());
            recipe.anchor.get_or_insert_default().weight = ALONE;
            // Of a method that is not trained any image will do.
            let any = self.with(&[0], None, &self.all_labels())?;
            let training = self.training(&recipe, &any, seed);
            return Ok(training.run(&mut |_| ControlFlow::Continue(()))?);
        }
        recipe::fit_to(&mut recipe, fit.len());
        let prepared = self.with(&fit, Some(&held), &seen)?;
        let training = self.training(&recipe, &prepared, seed);
        let mut model =
            training.run(&mut |event| observe(RehearsalEvent::Run(RunEvent::Training(event))))?;
        let device = self.experiment.device();
        let scoring = &mut |done, total| scored(observe, done, total);
        let judged = experiment::standardised(&model, &prepared, self.store, device, scoring)?;
        // With too few reviews there are no probabilities yet, as in a library.
        if let Ok(calibration) = Calibration::fit(&judged.judged(), Rule::BestF1, String::new()) {
            model.calibrate(calibration);
        }
        Ok(model)
    }

    /// mAP of all labels on the test images.
    fn measure(&self, model: &Model, observe: &mut Watch<'_>) -> Result<f64, LearnError> {
        let prepared = self.with(&[], None, &self.all_labels())?;
        let (settings, device) = (&self.recipe.evaluation, self.experiment.device());
        let figures = experiment::measure(
            model,
            &prepared,
            self.store,
            settings,
            device,
            &mut |done, total| scored(observe, done, total),
        )?;
        Ok(figures.seen().map)
    }

    /// What a model shows of each photograph of the pool.
    fn shown(&self, model: &Model, observe: &mut Watch<'_>) -> Result<Vec<Shown>, LearnError> {
        let device = self.experiment.device();
        let ranker = Ranker::new(model, self.prepared.vectors.clone(), device);
        let ranker = ranker.map_err(experiment::ExperimentError::from)?;
        let records = &self.prepared.dataset.records;
        let rows = self
            .pool
            .iter()
            .filter_map(|&row| self.store.row_of(&records[row].id));
        let rows: Vec<usize> = rows.collect();
        let of = |ranking: crate::model::Ranking| {
            let doubt = ranking.doubt();
            let labels = ranking.into_iter().enumerate();
            let labels = labels.filter(|(at, label)| label.kept.unwrap_or(*at < SHOWN));
            Shown {
                labels: labels.map(|(_, label)| label.name).collect(),
                doubt,
            }
        };
        let mut shown = Vec::with_capacity(rows.len());
        for part in rows.chunks(AT_ONCE) {
            shown.extend(ranker.rank_rows(self.store, part).into_iter().map(of));
            go_on(scored(observe, shown.len(), rows.len()))?;
        }
        Ok(shown)
    }

    /// Clicks that the review of a photograph takes: one for each label shown, one for each added, and one that it is reviewed.
    fn clicks(&self, at: usize, shown: &Shown) -> usize {
        let dataset = &self.prepared.dataset;
        let positives = dataset.labels.positives(self.pool[at]);
        let added = positives.filter(|&label| !shown.labels.contains(&dataset.names[label]));
        shown.labels.len() + added.count() + 1
    }
}
