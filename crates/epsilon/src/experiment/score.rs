//! Scores of the test images, and their figures.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use burn::tensor::Device;
use epsilon_data::dataset::{Dataset, Split};
use epsilon_data::labels::LabelVectors;
use epsilon_metrics::{InMemory, Labels, MetricsError, Protocol, Resampling, Scores, Stoppable};
use epsilon_vision::backbone::Features;
use epsilon_vision::tokens::{self, TokenStore};

use super::figures::Parts;
use super::paired::{self, Resamples};
use super::prepare::dense;
use super::{ExperimentError, Figures, Prepared, folds};
use crate::calibration::LabelledScores;
use crate::methods::Vocabulary;
use crate::model::{self, Model, SCORE_BATCH, Scorer};
use crate::predictor::Predictor;
use crate::ranks::{self, Alone, Ranks};
use crate::recipe::{EvaluationSettings, Recipe};
use crate::training::Example;

/// Evaluates a model on the test images with a recipe's protocol, top-K sizes and bootstrap. `progress` is called with the
/// number of scored images and of all, at last with all again and again while the figures are computed; it can break off.
///
/// # Errors
/// As [`score`]; [`ExperimentError::Metrics`].
pub fn measure(
    model: &Model,
    prepared: &Prepared,
    store: &TokenStore,
    settings: &EvaluationSettings,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Figures, ExperimentError> {
    measure_by(model, prepared, store, settings, (device, &Alone), progress)
}

/// [`measure`], the images shared out among ranks, of which each has all figures.
pub(super) fn measure_by(
    model: &Model,
    prepared: &Prepared,
    store: &TokenStore,
    settings: &EvaluationSettings,
    on: On<'_>,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Figures, ExperimentError> {
    let images = test_images(model, prepared, store)?;
    let scored = score_images(model, prepared, store, &images, on, progress)?;
    let protocol = [settings.protocol.parse()?];
    let all = scored.images.len();
    let mut figures = scored.measure(&protocol, settings, &mut || progress(all, all))?;
    Ok(figures.remove(0))
}

/// A table of scores whose figures can be stopped.
type OfScores<'a> = Stoppable<'a, InMemory<'a>>;

/// Does work on other threads, and asks on this one, ten times a second, whether to go on; `work` is told when not.
fn asking<R: Send>(
    ask: &mut dyn FnMut() -> ControlFlow<()>,
    work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> R + Send,
) -> R {
    const OFTEN: Duration = Duration::from_millis(100);
    let stopped = &AtomicBool::new(false);
    let (send, receive) = sync_channel(1);
    std::thread::scope(|scope| {
        // With its end of the channel, so that a panic closes it.
        let worker = scope.spawn(move || {
            let done = work(&|| stopped.load(Ordering::Relaxed));
            // Only wakes the other thread, which goes on waiting where it has gone already.
            let _ = send.send(());
            done
        });
        while receive.recv_timeout(OFTEN) == Err(RecvTimeoutError::Timeout) {
            if ask().is_break() {
                stopped.store(true, Ordering::Relaxed);
                break;
            }
        }
        match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Scores of the test images with their ground truth.
pub struct Scored {
    /// Ids of the images.
    pub images: Vec<String>,
    /// Names of the labels, the seen ones first.
    pub labels: Vec<String>,
    /// Number of seen labels.
    pub seen: usize,
    /// Scores, row-major `[images, labels]`.
    pub scores: Vec<f32>,
    /// Scores `[images, unseen labels]` of the unseen labels scored on their own, if the method scores them differently then.
    unseen_alone: Option<Vec<f32>>,
    /// +1, -1 or 0 (unknown), likewise.
    targets: Vec<i8>,
    /// Where an anchor is part of the scores: which labels are classes of the backbone.
    classes: Option<Vec<bool>>,
}

/// Which labels are classes of the backbone, where a model's anchor is part of its scores.
fn classes(model: &Model, labels: &[String]) -> Option<Vec<bool>> {
    let anchor = model.anchor()?.card();
    let used = anchor.settings.trained || anchor.settings.weight > 0.0;
    used.then(|| anchor.classes.among(labels))
}

/// Scores the test images that have tokens. `progress` can break off.
///
/// # Errors
/// [`ExperimentError::NoImages`], [`ExperimentError::Stopped`], and [`ExperimentError::Model`] for tokens of another backbone.
pub fn score(
    model: &Model,
    prepared: &Prepared,
    store: &TokenStore,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Scored, ExperimentError> {
    let images = test_images(model, prepared, store)?;
    score_images(model, prepared, store, &images, (device, &Alone), progress)
}

/// Where to compute, and together with whom.
pub(super) type On<'a> = (&'a Device, &'a dyn Ranks);

/// Scores of the images in these rows, shared out among ranks, of which each has all: the same for any number of them. `progress` can
/// break off.
pub(super) fn score_rows(
    scorer: &Scorer,
    store: &TokenStore,
    rows: &[usize],
    ranks: &dyn Ranks,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> ControlFlow<(), Vec<f32>> {
    ranks::rows(ranks, rows.len(), SCORE_BATCH, |own| {
        scorer.score_rows(store, &rows[own], &mut |done| progress(done, rows.len()))
    })
}

/// Scores these images.
pub(super) fn score_images(
    model: &Model,
    prepared: &Prepared,
    store: &TokenStore,
    images: &[Example],
    (device, ranks): On<'_>,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Scored, ExperimentError> {
    let rows: Vec<usize> = images.iter().map(|item| item.store_row).collect();
    let dataset = &prepared.dataset;
    let vocabulary = model.card().method().vocabulary();
    let vectors = scored_labels(model, prepared);
    let labels = vectors.len();
    let scorer = model.scorer(&vectors, device)?;
    let mut score = |scorer: Scorer| {
        let scores = score_rows(&scorer, store, &rows, ranks, progress);
        scores.continue_value().ok_or(ExperimentError::Stopped)
    };
    let scores = score(scorer)?;
    let unseen_alone = match vocabulary {
        Vocabulary::Open | Vocabulary::Seen => None,
        Vocabulary::Closed => {
            let unseen: Vec<usize> = (dataset.seen..dataset.names.len()).collect();
            let scorer = model.scorer(&prepared.vectors.select(&unseen)?, device)?;
            Some(score(scorer)?)
        }
    };
    let id = |item: &Example| dataset.records[item.label_row].id.clone();
    Ok(Scored {
        images: images.iter().map(id).collect(),
        labels: dataset.names[..labels].to_vec(),
        seen: dataset.seen,
        scores,
        unseen_alone,
        targets: dense(dataset, images, labels),
        classes: classes(model, &dataset.names[..labels]),
    })
}

/// Scores the test photographs of a recipe's data set with a model that has its backbone, as one without training and a bundle have:
/// no tokens are kept. Photographs that cannot be read are left out, and told. `progress` can break off.
///
/// # Errors
/// [`ExperimentError::Stopped`], /// [`ExperimentError::Dataset`], [`ExperimentError::Predict`] for labels without a vector and a backbone that fails,
/// [`ExperimentError::NoTestImages`] where none can be read.
pub fn score_photographs(
    predictor: &Predictor,
    recipe: &Recipe,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(Scored, Vec<String>), ExperimentError> {
    let (dataset, _) = folds::of_recipe(recipe, recipe.data.source.read()?)?;
    let vocabulary = predictor.model().card().method().vocabulary();
    let vectors = photographs_labels(predictor, &dataset)?;
    let mut lists = vec![vectors.clone()];
    if vocabulary == Vocabulary::Closed {
        let unseen: Vec<usize> = (dataset.seen..dataset.names.len()).collect();
        lists.push(vectors.select(&unseen)?);
    }
    let photographs = Photographs::score(predictor, recipe, &dataset, &lists, progress)?;
    let Photographs {
        examples,
        scores,
        failed,
    } = photographs;
    let mut scores = scores.into_iter();
    let labels = vectors.len();
    let id = |item: &Example| dataset.records[item.label_row].id.clone();
    let scored = Scored {
        images: examples.iter().map(id).collect(),
        labels: dataset.names[..labels].to_vec(),
        seen: dataset.seen,
        scores: scores.next().unwrap_or_default(),
        unseen_alone: scores.next(),
        targets: dense(&dataset, &examples, labels),
        classes: classes(predictor.model(), &dataset.names[..labels]),
    };
    Ok((scored, failed))
}

/// The vectors of a data set's labels that the method can score.
fn photographs_labels(
    predictor: &Predictor,
    dataset: &Dataset,
) -> Result<LabelVectors, ExperimentError> {
    let labels = known_to(predictor.model(), dataset);
    let found = predictor.words().find(&dataset.words[..labels])?;
    let names = dataset.names[..labels].to_vec();
    let (dim, values) = (found.dim(), found.values().to_vec());
    Ok(LabelVectors::new(names, dim, values)?)
}

/// The test photographs of a data set that can be read, scored without a token store.
struct Photographs {
    examples: Vec<Example>,
    /// Of each list of labels, row-major `[images, labels]`.
    scores: Vec<Vec<f32>>,
    /// What was wrong with the others.
    failed: Vec<String>,
}

impl Photographs {
    fn score(
        predictor: &Predictor,
        recipe: &Recipe,
        dataset: &Dataset,
        lists: &[LabelVectors],
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self, ExperimentError> {
        let scorers = lists.iter();
        let scorers = scorers.map(|labels| predictor.model().scorer(labels, predictor.device()));
        let scorers: Vec<_> = scorers.collect::<Result<_, _>>()?;
        let test = dataset.rows(Split::Test);
        let named = |row: &usize| {
            let record = &dataset.records[*row];
            (record.id.clone(), record.path())
        };
        let items: Vec<_> = test.iter().map(named).collect();
        let rows: HashMap<&str, usize> = (items.iter().zip(&test))
            .map(|((id, _), &row)| (id.as_str(), row))
            .collect();
        let (mut examples, mut failed) = (Vec::new(), Vec::new());
        let mut scores = vec![Vec::new(); scorers.len()];
        let mut told = ControlFlow::Continue(());
        let (backbone, limits) = (predictor.backbone(), recipe.limits());
        tokens::run(&items, backbone, &limits, &mut |batch| {
            for (scorer, scores) in scorers.iter().zip(&mut scores) {
                let Features { tokens, global } = batch.features.clone();
                scores.extend(scorer.score(batch.ids.len(), tokens, global));
            }
            examples.extend(batch.ids.iter().map(|id| Example {
                store_row: 0,
                label_row: rows[id.as_str()],
            }));
            failed.extend(batch.failed.iter().map(|(_, unread)| unread.reason.clone()));
            told = progress(examples.len() + failed.len(), items.len());
            told
        })?;
        if told.is_break() {
            return Err(ExperimentError::Stopped);
        }
        if examples.is_empty() {
            return Err(ExperimentError::NoTestImages);
        }
        Ok(Self {
            examples,
            scores,
            failed,
        })
    }
}

/// The test images that have tokens.
pub(super) fn test_images(
    model: &Model,
    prepared: &Prepared,
    store: &TokenStore,
) -> Result<Vec<Example>, ExperimentError> {
    model.check_backbone(&store.manifest().header.backbone)?;
    let images = prepared.examples(store, Split::Test);
    if images.is_empty() {
        return Err(ExperimentError::NoImages {
            store: store.dir().into(),
            split: "test",
        });
    }
    Ok(images)
}

/// The labels of a data set that the method can score.
fn scored_labels(model: &Model, prepared: &Prepared) -> LabelVectors {
    prepared.vectors.first(known_to(model, &prepared.dataset))
}

/// How many of a data set's labels, from the first on, the method can score.
fn known_to(model: &Model, dataset: &Dataset) -> usize {
    match model.card().method().vocabulary() {
        Vocabulary::Seen => dataset.seen,
        Vocabulary::Open | Vocabulary::Closed => dataset.names.len(),
    }
}

/// Standardised scores of the test images, for calibration.
pub struct Standardised {
    scores: Vec<f32>,
    truths: Vec<i8>,
    labels: Vec<String>,
    seen: Vec<bool>,
}

impl Standardised {
    /// Scores, truths and labels.
    pub fn judged(&self) -> LabelledScores<'_> {
        LabelledScores {
            scores: &self.scores,
            truths: &self.truths,
            labels: &self.labels,
            seen: &self.seen,
        }
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.truths.len() / self.labels.len()
    }
}

/// Scores the test images that have tokens, and standardises each image's scores by the mean and standard deviation of its scores
/// of the model's own labels. `progress` can break off.
///
/// # Errors
/// As [`score`].
pub fn standardised(
    model: &Model,
    prepared: &Prepared,
    store: &TokenStore,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Standardised, ExperimentError> {
    let images = test_images(model, prepared, store)?;
    let rows: Vec<usize> = images.iter().map(|item| item.store_row).collect();
    let vectors = scored_labels(model, prepared);
    let own = model.own_labels();
    let scorer = model.scorer(&vectors.followed_by(&own)?, device)?;
    let scores = scorer.score_rows(store, &rows, &mut |done| progress(done, rows.len()));
    let scores = scores.continue_value().ok_or(ExperimentError::Stopped)?;
    let known = model.card().seen_labels();
    let labels = vectors.names();
    Ok(Standardised {
        scores: model::standardised(&scores, labels.len(), own.len()),
        truths: dense(&prepared.dataset, &images, labels.len()),
        seen: labels.iter().map(|label| known.contains(label)).collect(),
        labels: labels.to_vec(),
    })
}

/// [`standardised`] scores of test photographs, as [`score_photographs`] scores them.
///
/// # Errors
/// As [`score_photographs`].
pub fn standardised_photographs(
    predictor: &Predictor,
    recipe: &Recipe,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(Standardised, Vec<String>), ExperimentError> {
    let (dataset, _) = folds::of_recipe(recipe, recipe.data.source.read()?)?;
    let vectors = photographs_labels(predictor, &dataset)?;
    let (model, own) = (predictor.model(), predictor.model().own_labels());
    let lists = [vectors.followed_by(&own)?];
    let photographs = Photographs::score(predictor, recipe, &dataset, &lists, progress)?;
    let known = model.card().seen_labels();
    let labels = vectors.names();
    let scores = &photographs.scores[0];
    let standardised = Standardised {
        scores: model::standardised(scores, labels.len(), own.len()),
        truths: dense(&dataset, &photographs.examples, labels.len()),
        seen: labels.iter().map(|label| known.contains(label)).collect(),
        labels: labels.to_vec(),
    };
    Ok((standardised, photographs.failed))
}

impl Scored {
    /// Whether the backbone's own classes are part of the scores.
    pub fn backbone_classes_known(&self) -> bool {
        self.classes.is_some()
    }

    /// +1, -1 or 0 (unknown) for each image and label, row-major `[images, labels]`.
    pub fn targets(&self) -> &[i8] {
        &self.targets
    }

    /// ZSL, seen and GZSL figures, or those of the seen labels if there are no others, for each of these protocols, with the
    /// top-K sizes and the bootstrap of `settings`. `ask` is called again and again meanwhile, and can break off.
    ///
    /// # Errors
    /// [`ExperimentError::Metrics`], [`ExperimentError::Stopped`].
    pub fn measure(
        &self,
        protocols: &[Protocol],
        settings: &EvaluationSettings,
        ask: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<Figures>, ExperimentError> {
        Ok(self.with_tables(ask, |table, alone| {
            let parts = Parts::new(table, alone, self.seen, settings)?;
            let figures = parts.figures(protocols, settings)?.into_iter();
            Ok(match &self.classes {
                None => figures.collect(),
                Some(classes) => figures
                    .map(|figures| figures.of_backbone_classes(&self.labels, classes))
                    .collect(),
            })
        })?)
    }

    /// The mAP of each label set that was measured, and the harmonic mean, with their resamples, for [`differences`] between models.
    /// `ask` is called again and again meanwhile, and can break off.
    ///
    /// # Errors
    /// [`ExperimentError::Metrics`], [`ExperimentError::Stopped`].
    ///
    /// [`differences`]: epsilon_metrics::differences
    pub fn resample(
        &self,
        protocol: &Protocol,
        settings: &EvaluationSettings,
        resampling: &Resampling,
        ask: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Resamples, ExperimentError> {
        Ok(self.with_tables(ask, |table, alone| {
            paired::of_parts(
                &Parts::new(table, alone, self.seen, settings)?,
                protocol,
                resampling,
            )
        })?)
    }

    /// Calls `of` with the table of the scores, and that with the unseen labels scored on their own if they are scored differently
    /// then. Both can be read no more once `ask` breaks off.
    fn with_tables<R: Send>(
        &self,
        ask: &mut dyn FnMut() -> ControlFlow<()>,
        of: impl FnOnce(&OfScores<'_>, Option<&OfScores<'_>>) -> Result<R, MetricsError> + Send,
    ) -> Result<R, MetricsError> {
        let (images, labels) = (self.images.len(), self.labels.len());
        let targets = Labels::new(&self.targets, images, labels)?;
        let table = InMemory::new(Scores::new(&self.scores, images, labels)?, targets)?;
        let scores = self.unseen_alone.as_deref();
        let scores = scores.map(|alone| self.with_unseen(alone));
        let alone = scores.as_deref();
        let alone = alone.map(|scores| {
            let scores = Scores::new(scores, images, labels)?;
            InMemory::new(scores, targets)
        });
        let alone = alone.transpose()?;
        asking(ask, |stop| {
            let alone = alone.map(|alone| Stoppable::new(alone, stop));
            of(&Stoppable::new(table, stop), alone.as_ref())
        })
    }

    /// The scores with those of the unseen labels replaced.
    fn with_unseen(&self, unseen: &[f32]) -> Vec<f32> {
        let mut scores = self.scores.clone();
        let labels = self.labels.len();
        let rows = scores
            .chunks_exact_mut(labels)
            .zip(unseen.chunks_exact(labels - self.seen));
        for (row, unseen) in rows {
            row[self.seen..].copy_from_slice(unseen);
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_on_other_threads_is_told_to_stop() {
        let mut left = 3;
        let waited = asking(
            &mut || {
                left -= 1;
                match left {
                    0 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            },
            |stop| {
                while !stop() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                "stopped"
            },
        );
        assert_eq!((waited, left), ("stopped", 0));
        let on = &mut || ControlFlow::Continue(());
        assert_eq!(asking(on, |stop| (7, stop())), (7, false));
    }

    #[test]
    fn a_panic_on_another_thread_is_not_waited_for() {
        let mut asked = 0;
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let ask = &mut || {
                asked += 1;
                // Without end otherwise.
                match asked {
                    50 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            };
            asking::<()>(ask, |_| panic!("the figures"));
        }));
        let panic = ended.unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the figures"));
        assert!(asked < 50);
    }
}
