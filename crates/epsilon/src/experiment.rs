//! An experiment from its recipe to its figures: prepare, extract, train, evaluate. Each step stands alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use epsilon_metrics::{
    Evaluation, InMemory, Labels, MetricsError, Protocol, Request, Scores, SplitEvaluation, Table,
    bootstrap_table, evaluate, evaluate_protocols, evaluate_table, standardise,
};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::calibration::Judged;
use crate::methods::{self, Dims, MethodError, Vocabulary, Whole};
use crate::model::{self, Card, Model, ModelError, Scorer};
use crate::parameters::Weights;
use crate::recipe::{EvaluationSettings, Recipe, RecipeError};
use crate::training::{Event, Example, Examples, Fit, RunFolder, TrainingError};
use epsilon_data::dataset::{Dataset, DatasetError, Split, Summary};
use epsilon_data::labels::{LabelError, LabelVectors, Resolution, resolve_words};
use epsilon_vision::backbone::{Backbone, BackboneError, BackboneInfo};
use epsilon_vision::tokens::{
    self, ExtractOptions, ExtractReport, FeatureError, Part, Progress, StoreError, TokenStore,
};

/// Seed of the cut of the validation images: the same for every seed of a recipe, so that their figures compare.
const VALIDATION_SEED: u64 = 0x5EED;

/// Seed of every bootstrap: the same figures from the same scores.
pub const BOOTSTRAP_SEED: u64 = 1;

/// What can go wrong in an experiment.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
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
    Features(#[from] FeatureError),
    /// In the token store.
    Store(#[from] StoreError),
    /// In the method.
    Method(#[from] MethodError),
    /// In the training.
    Training(#[from] TrainingError),
    /// In the model file.
    Model(#[from] ModelError),
    /// In the figures.
    Metrics(#[from] MetricsError),
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
}

/// A data set with the vectors of its labels.
pub struct Prepared {
    /// Images and labels.
    pub dataset: Dataset,
    /// Counts at every filter.
    pub summary: Summary,
    /// The labels' vectors, as they were read, in the data set's order.
    pub vectors: LabelVectors,
    /// How each label found its vector.
    pub report: Vec<Resolution>,
}

/// Reads the data set of a recipe and finds its labels' vectors.
///
/// # Errors
/// [`ExperimentError::Dataset`] and [`ExperimentError::Labels`].
pub fn prepare(recipe: &Recipe) -> Result<Prepared, ExperimentError> {
    with_vectors(recipe, recipe.data.source.read()?)
}

/// [`prepare`] through the index of the run folder, which is made where it is missing or out of date.
///
/// # Errors
/// As [`prepare`], and an index that cannot be written.
pub fn prepare_in(recipe: &Recipe, folder: &Path) -> Result<Prepared, ExperimentError> {
    with_vectors(
        recipe,
        recipe.data.source.read_cached(&Layout(folder).index())?,
    )
}

fn with_vectors(
    recipe: &Recipe,
    (dataset, mut summary): (Dataset, Summary),
) -> Result<Prepared, ExperimentError> {
    if let Some(dir) = &recipe.features.store {
        // What counts is not whether an image is there, but whether its tokens are.
        let store = TokenStore::open(dir)?;
        summary.set_missing(&dataset, |_, record| store.row_of(&record.id).is_none());
    }
    let resolved = resolve_words(&recipe.data.vector_file(), &dataset.names, &dataset.words)?;
    Ok(Prepared {
        dataset,
        summary,
        vectors: resolved.vectors,
        report: resolved.report,
    })
}

impl Prepared {
    /// Whether there is something to train on and to measure, which would otherwise be found after hours.
    ///
    /// # Errors
    /// [`TrainingError::NoImages`], [`ExperimentError::NoTestImages`], [`ExperimentError::NotMeasurable`].
    pub fn check(&self, settings: &EvaluationSettings) -> Result<(), ExperimentError> {
        if self.summary.train.with_seen == 0 {
            return Err(TrainingError::NoImages.into());
        }
        let rows = self.dataset.rows(Split::Test).into_iter();
        let images: Vec<Example> = rows
            .map(|row| Example {
                store_row: row,
                label_row: row,
            })
            .collect();
        if images.is_empty() {
            return Err(ExperimentError::NoTestImages);
        }
        let count = self.dataset.names.len();
        let scores = vec![0.0; images.len() * count];
        let figures = || {
            let protocol: Protocol = settings.protocol.parse()?;
            let scores = Scores::new(&scores, images.len(), count)?;
            let targets = dense(&self.dataset, &images, count);
            let table = InMemory::new(scores, Labels::new(&targets, images.len(), count)?)?;
            let settings = EvaluationSettings {
                bootstrap: 0,
                ..settings.clone()
            };
            figures(&table, self.dataset.seen, &[protocol], &settings)
        };
        figures().map(drop).map_err(ExperimentError::NotMeasurable)
    }

    /// Id and file of every image, in table order, as extraction takes them.
    fn items(&self) -> Vec<(String, PathBuf)> {
        self.dataset
            .records
            .iter()
            .map(|r| (r.id.clone(), r.path()))
            .collect()
    }

    /// The images of a split that have tokens in the store.
    fn examples(&self, store: &TokenStore, split: Split) -> Vec<Example> {
        let rows = self.dataset.rows(split).into_iter();
        rows.filter_map(|label_row| {
            let store_row = store.row_of(&self.dataset.records[label_row].id)?;
            Some(Example {
                store_row,
                label_row,
            })
        })
        .collect()
    }

    /// Sizes that a method is built for with tokens of this backbone.
    pub fn dims(&self, backbone: &BackboneInfo) -> Dims {
        Dims {
            tokens: backbone.tokens,
            width: backbone.dim,
            label_width: self.vectors.dim(),
            labels: self.dataset.seen,
            unseen: self.dataset.names.len() - self.dataset.seen,
            global: backbone.global,
        }
    }

    /// Unit vectors of the seen labels.
    fn seen_vectors(&self) -> Arc<LabelVectors> {
        Arc::new(self.vectors.first(self.dataset.seen).unit())
    }
}

/// Extracts the tokens of a data set's images, or of one part of them, into `dir`; what an earlier run finished is kept.
///
/// # Errors
/// [`ExperimentError::Features`], and [`ExperimentError::Method`] when the method cannot be built for such tokens, which
/// is found before anything is extracted.
pub fn extract(
    recipe: &Recipe,
    prepared: &Prepared,
    backbone: &dyn Backbone,
    dir: &Path,
    part: Option<Part>,
    progress: &mut dyn FnMut(Progress),
) -> Result<ExtractReport, ExperimentError> {
    recipe.method.specs(&prepared.dims(backbone.info()))?;
    Ok(tokens::extract(
        &prepared.items(),
        backbone,
        dir,
        &ExtractOptions {
            part,
            ..recipe.extract_options()
        },
        progress,
    )?)
}

/// One training of a recipe.
pub struct Training<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Its data.
    pub prepared: &'a Prepared,
    /// Its tokens.
    pub store: &'a TokenStore,
    /// Seed of this training.
    pub seed: u64,
    /// Where to compute.
    pub device: &'a Device,
    /// Where to keep metrics and checkpoints.
    pub folder: Option<&'a RunFolder>,
    /// Go on from the folder's checkpoint if it has one.
    pub resume: bool,
}

impl Training<'_> {
    /// Trains on the seen labels of the training images, the validation images apart.
    ///
    /// # Errors
    /// [`ExperimentError::Training`] and [`ExperimentError::Method`]; no training image with tokens.
    pub fn run(&self, observe: &mut dyn FnMut(Event)) -> Result<Model, ExperimentError> {
        let (items, validation) = self.split()?;
        let labels = &self.prepared.dataset.labels;
        let vectors = self.prepared.seen_vectors();
        let examples = Examples::new(self.store, labels, items, vectors);
        let dims = examples.dims();
        let weights = match self.recipe.method.fit() {
            methods::Fit::Closed(method) => {
                let (targets, global) = examples.whole();
                if examples.items().is_empty() {
                    return Err(TrainingError::NoImages.into());
                }
                let dataset = &self.prepared.dataset;
                let unseen: Vec<usize> = (dataset.seen..dataset.names.len()).collect();
                let whole = Whole {
                    global: &global,
                    targets: &targets,
                    labels: examples.vectors(),
                    unseen: &self.prepared.vectors.select(&unseen)?.unit(),
                    seed: self.seed,
                };
                method.solve(&dims, &whole, self.device)?
            }
            methods::Fit::Gradient(method) => {
                let validate = |weights: &Weights| self.seen_map(weights, dims, &validation);
                let fit = Fit {
                    method,
                    settings: &self.recipe.training,
                    seed: self.seed,
                    examples: &examples,
                    device: self.device,
                    folder: self.folder,
                    resume: self.resume,
                    identity: self.identity(&examples),
                    validate: (!validation.is_empty()).then_some(&validate),
                };
                fit.run(observe)?
            }
        };
        Ok(self.model(dims, weights))
    }

    /// The training images and the validation images, which are the same for every seed.
    fn split(&self) -> Result<(Vec<Example>, Vec<Example>), ExperimentError> {
        let mut items = self.prepared.examples(self.store, Split::Train);
        if items.is_empty() {
            return Err(self.no_images());
        }
        let kept = (items.len() as f64 * self.recipe.training.validation).round() as usize;
        items.shuffle(&mut ChaCha8Rng::seed_from_u64(VALIDATION_SEED));
        let validation = items.split_off(items.len() - kept);
        items.sort_by_key(|item| item.store_row);
        Ok((items, validation))
    }

    /// mAP of the seen labels on the validation images, as a fraction; `None` where none are kept.
    ///
    /// # Errors
    /// No image with tokens.
    pub fn validate(&self, model: &Model) -> Result<Option<f64>, ExperimentError> {
        let (_, validation) = self.split()?;
        let map = || self.seen_map(&model.weights, model.card.dims, &validation);
        Ok((!validation.is_empty()).then(map))
    }

    fn no_images(&self) -> ExperimentError {
        ExperimentError::NoImages {
            store: self.store.dir().into(),
            split: "train",
        }
    }

    /// Seen-label mAP on the validation images; 0 where they have no positive.
    fn seen_map(&self, weights: &Weights, dims: Dims, images: &[Example]) -> f64 {
        let vectors = self.prepared.seen_vectors();
        let labels = vectors.len();
        let columns = (0..labels).collect();
        let scorer = Scorer::new(
            &self.recipe.method,
            weights,
            dims,
            vectors,
            columns,
            self.device,
        );
        let rows: Vec<usize> = images.iter().map(|item| item.store_row).collect();
        let mut scores = scorer.score_rows(self.store, &rows, &mut |_| {});
        if self.recipe.evaluation.standardise {
            standardise(&mut scores, labels);
        }
        let targets = dense(&self.prepared.dataset, images, labels);
        let figures = || -> Result<f64, MetricsError> {
            let protocol = self.recipe.evaluation.protocol.parse()?;
            let scores = Scores::new(&scores, rows.len(), labels)?;
            let targets = Labels::new(&targets, rows.len(), labels)?;
            let columns: Vec<usize> = (0..labels).collect();
            Ok(evaluate(scores, targets, &columns, &protocol, &[])?.map)
        };
        figures().unwrap_or_else(|error| {
            log::warn!("no validation figure: {error}");
            0.0
        })
    }

    /// What a checkpoint must have been started with.
    fn identity(&self, examples: &Examples) -> serde_json::Value {
        let vectors: Vec<u8> = examples
            .vectors()
            .values()
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        serde_json::json!({
            "method": self.recipe.method,
            "training": self.recipe.training,
            "seed": self.seed,
            "backbone": self.store.manifest().header.backbone,
            "images": examples.items().len(),
            "label vectors": epsilon_data::files::sha256(&vectors),
            "threads": rayon::current_num_threads(),
        })
    }

    fn model(&self, dims: Dims, weights: Weights) -> Model {
        let recipe = self.recipe;
        let card = Card::new(
            recipe.method.clone(),
            dims,
            self.prepared.dataset.names.clone(),
            self.prepared.dataset.seen,
            self.store.manifest().header.backbone.clone(),
            recipe
                .backbone
                .as_ref()
                .map(|b| b.weights.clone())
                .unwrap_or_default(),
            serde_json::json!(recipe),
            recipe.evaluation.protocol.clone(),
            self.seed,
        );
        Model {
            card,
            vectors: self.prepared.vectors.clone(),
            weights,
        }
    }
}

/// Measures a model on the test images under a recipe's protocol, top-K sizes and bootstrap.
///
/// # Errors
/// As [`score`]; [`ExperimentError::Metrics`].
pub fn measure(
    model: &Model,
    prepared: &Prepared,
    store: &TokenStore,
    settings: &EvaluationSettings,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Figures, ExperimentError> {
    let scored = score(model, prepared, store, device, progress)?;
    let protocol = [settings.protocol.parse()?];
    let mut figures = scored.measure(&protocol, settings)?;
    Ok(figures.remove(0))
}

/// Figures of a model on the test images. Prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Figures {
    /// Of seen and unseen labels.
    Split(Box<SplitEvaluation>),
    /// Of the labels it was trained on, where the data set has no others or the method knows no others.
    Seen(Box<Evaluation>),
}

impl Figures {
    /// The unseen labels among themselves, if any were measured.
    pub fn zsl(&self) -> Option<&Evaluation> {
        self.split().map(|split| &split.zsl)
    }

    /// The seen labels among themselves.
    pub fn seen(&self) -> &Evaluation {
        match self {
            Self::Split(split) => &split.seen,
            Self::Seen(seen) => seen,
        }
    }

    /// All labels together, if unseen ones were measured.
    pub fn gzsl(&self) -> Option<&Evaluation> {
        self.split().map(|split| &split.gzsl)
    }

    /// All of them, if unseen labels were measured.
    pub fn split(&self) -> Option<&SplitEvaluation> {
        match self {
            Self::Split(split) => Some(split),
            Self::Seen(_) => None,
        }
    }

    /// Says beside the protocol's name what was done with the scores before.
    fn of_standardised(mut self) -> Self {
        let parts = match &mut self {
            Self::Split(split) => vec![&mut split.zsl, &mut split.seen, &mut split.gzsl],
            Self::Seen(seen) => vec![&mut **seen],
        };
        for part in parts {
            part.protocol.push_str(STANDARDISED);
        }
        self
    }
}

/// What follows a protocol's name where the scores were standardised.
const STANDARDISED: &str = ", scores standardised per image";

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split(split) => split.fmt(f),
            Self::Seen(seen) => seen.fmt(f),
        }
    }
}

/// A model's scores of the test images, and what is true of them.
pub struct Scored {
    /// Ids of the images.
    pub images: Vec<String>,
    /// Names of the labels, the seen ones first.
    pub labels: Vec<String>,
    /// How many labels are seen.
    pub seen: usize,
    /// Scores, row-major `[images, labels]`.
    pub scores: Vec<f32>,
    /// Scores `[images, unseen labels]` that the unseen labels have when asked for alone, where these are others.
    unseen_alone: Option<Vec<f32>>,
    /// +1, -1 or 0 (unknown), likewise.
    targets: Vec<i8>,
}

/// Scores the test images that have tokens.
///
/// # Errors
/// [`ExperimentError::NoImages`], and [`ExperimentError::Model`] for tokens of another backbone.
pub fn score(
    model: &Model,
    prepared: &Prepared,
    store: &TokenStore,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Scored, ExperimentError> {
    let images = test_images(model, prepared, store)?;
    let rows: Vec<usize> = images.iter().map(|item| item.store_row).collect();
    let dataset = &prepared.dataset;
    let vocabulary = model.card.method.vocabulary();
    let vectors = scored_labels(model, prepared);
    let labels = vectors.len();
    let scorer = model.scorer(&vectors, device)?;
    let scores = scorer.score_rows(store, &rows, &mut |done| progress(done, rows.len()));
    let unseen_alone = match vocabulary {
        Vocabulary::Open | Vocabulary::Seen => None,
        Vocabulary::Closed => {
            let unseen: Vec<usize> = (dataset.seen..dataset.names.len()).collect();
            let scorer = model.scorer(&prepared.vectors.select(&unseen)?, device)?;
            Some(scorer.score_rows(store, &rows, &mut |done| progress(done, rows.len())))
        }
    };
    let id = |item: &Example| dataset.records[item.label_row].id.clone();
    Ok(Scored {
        images: images.iter().map(id).collect(),
        labels: dataset.names[..labels].to_vec(),
        seen: dataset.seen,
        scores,
        unseen_alone,
        targets: dense(dataset, &images, labels),
    })
}

/// The test images that have tokens.
fn test_images(
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

/// Those of a data set's labels that the method can score.
fn scored_labels(model: &Model, prepared: &Prepared) -> LabelVectors {
    let dataset = &prepared.dataset;
    let labels = match model.card.method.vocabulary() {
        Vocabulary::Seen => dataset.seen,
        Vocabulary::Open | Vocabulary::Closed => dataset.names.len(),
    };
    prepared.vectors.first(labels)
}

/// What a model makes of a data set's test images, on the scale that its calibration is fitted on.
pub struct Standardised {
    scores: Vec<f32>,
    truths: Vec<i8>,
    labels: Vec<String>,
    seen: Vec<bool>,
}

impl Standardised {
    /// Scores, truths and labels.
    pub fn judged(&self) -> Judged<'_> {
        Judged {
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

/// Scores the test images that have tokens, and standardises each image's scores over those of the model's own labels.
///
/// # Errors
/// As [`score`].
pub fn standardised(
    model: &Model,
    prepared: &Prepared,
    store: &TokenStore,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Standardised, ExperimentError> {
    let images = test_images(model, prepared, store)?;
    let rows: Vec<usize> = images.iter().map(|item| item.store_row).collect();
    let vectors = scored_labels(model, prepared);
    let own = model.own_labels();
    let scorer = model.scorer(&vectors.followed_by(&own)?, device)?;
    let scores = scorer.score_rows(store, &rows, &mut |done| progress(done, rows.len()));
    let known = &model.card.labels[..model.card.seen];
    let labels = vectors.names();
    Ok(Standardised {
        scores: model::standardised(&scores, labels.len(), own.len()),
        truths: dense(&prepared.dataset, &images, labels.len()),
        seen: labels.iter().map(|label| known.contains(label)).collect(),
        labels: labels.to_vec(),
    })
}

impl Scored {
    /// +1, -1 or 0 (unknown) for each image and label, row-major `[images, labels]`.
    pub fn targets(&self) -> &[i8] {
        &self.targets
    }

    /// ZSL, seen and GZSL figures under each of these protocols, or those of the seen labels where there are no others,
    /// with the top-K sizes and the bootstrap of `settings`.
    ///
    /// # Errors
    /// [`ExperimentError::Metrics`].
    pub fn measure(
        &self,
        protocols: &[Protocol],
        settings: &EvaluationSettings,
    ) -> Result<Vec<Figures>, ExperimentError> {
        let together = self.figures(self.scores.clone(), protocols, settings)?;
        let Some(alone) = &self.unseen_alone else {
            return Ok(together);
        };
        let apart = self.figures(self.with_unseen(alone), protocols, settings)?;
        let both = together.into_iter().zip(apart);
        Ok(both
            .map(|(together, apart)| match (together, apart) {
                // The GZSL figures rank all labels by the scores they have together.
                (Figures::Split(together), Figures::Split(apart)) => {
                    let gzsl = together.gzsl;
                    Figures::Split(Box::new(SplitEvaluation { gzsl, ..*apart }))
                }
                (together, _) => together,
            })
            .collect())
    }

    fn figures(
        &self,
        mut scores: Vec<f32>,
        protocols: &[Protocol],
        settings: &EvaluationSettings,
    ) -> Result<Vec<Figures>, MetricsError> {
        let (images, labels) = (self.images.len(), self.labels.len());
        if settings.standardise {
            standardise(&mut scores, labels);
        }
        let scores = Scores::new(&scores, images, labels)?;
        let targets = Labels::new(&self.targets, images, labels)?;
        let table = InMemory::new(scores, targets)?;
        let figures = figures(&table, self.seen, protocols, settings)?.into_iter();
        Ok(match settings.standardise {
            true => figures.map(Figures::of_standardised).collect(),
            false => figures.collect(),
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

/// Figures of a table whose first `seen` labels are the seen ones under each of these protocols, with the top-K sizes and
/// the bootstrap of `settings`.
///
/// # Errors
/// As [`evaluate_protocols`] and [`bootstrap_table`].
pub fn figures(
    table: &impl Table,
    seen: usize,
    protocols: &[Protocol],
    settings: &EvaluationSettings,
) -> Result<Vec<Figures>, MetricsError> {
    if seen == table.labels() {
        let ks = &settings.k_gzsl;
        let figures = whole_figures(table, protocols, ks, settings.bootstrap)?.into_iter();
        return Ok(figures.map(|f| Figures::Seen(Box::new(f))).collect());
    }
    let figures = split_figures(table, seen, protocols, settings)?.into_iter();
    Ok(figures.map(|f| Figures::Split(Box::new(f))).collect())
}

/// Figures of all labels of a table together, under each of these protocols, at each of `ks`, with so many resamples for
/// the bootstrap.
///
/// # Errors
/// As [`evaluate_table`] and [`bootstrap_table`].
pub fn whole_figures(
    table: &impl Table,
    protocols: &[Protocol],
    ks: &[usize],
    resamples: usize,
) -> Result<Vec<Evaluation>, MetricsError> {
    let columns: Vec<usize> = (0..table.labels()).collect();
    let request = |protocol| Request {
        columns: &columns,
        protocol,
        ks,
    };
    let requests: Vec<Request<'_>> = protocols.iter().map(request).collect();
    let mut figures = evaluate_table(table, &requests)?;
    if resamples > 0 {
        for (figures, request) in figures.iter_mut().zip(requests) {
            figures.bootstrap = Some(bootstrap_table(table, request, resamples, BOOTSTRAP_SEED)?);
        }
    }
    Ok(figures)
}

fn split_figures(
    table: &impl Table,
    seen: usize,
    protocols: &[Protocol],
    settings: &EvaluationSettings,
) -> Result<Vec<SplitEvaluation>, MetricsError> {
    let (k_zsl, k_gzsl) = (&settings.k_zsl, &settings.k_gzsl);
    let mut figures = evaluate_protocols(table, seen, protocols, k_zsl, k_gzsl)?;
    if settings.bootstrap == 0 {
        return Ok(figures);
    }
    let all: Vec<usize> = (0..table.labels()).collect();
    for (figures, protocol) in figures.iter_mut().zip(protocols) {
        let parts = [
            (&mut figures.zsl, &all[seen..]),
            (&mut figures.seen, &all[..seen]),
            (&mut figures.gzsl, &all[..]),
        ];
        for (part, columns) in parts {
            let request = Request {
                columns,
                protocol,
                ks: &[],
            };
            let resamples = settings.bootstrap;
            part.bootstrap = Some(bootstrap_table(table, request, resamples, BOOTSTRAP_SEED)?);
        }
    }
    Ok(figures)
}

/// Row-major labels `[images, labels]` of the first `labels` names.
fn dense(dataset: &Dataset, images: &[Example], labels: usize) -> Vec<i8> {
    let mut row = vec![0; dataset.names.len()];
    let mut values = Vec::with_capacity(images.len() * labels);
    for image in images {
        dataset.labels.dense_row(image.label_row, &mut row);
        values.extend_from_slice(&row[..labels]);
    }
    values
}

/// Where an experiment keeps its files.
pub struct Layout<'a>(pub &'a Path);

impl Layout<'_> {
    /// The token store.
    pub fn tokens(&self) -> PathBuf {
        self.0.join("tokens")
    }

    /// The token store of one part of the images.
    pub fn part(&self, part: Part) -> PathBuf {
        let name = format!("tokens-{}-of-{}", part.index(), part.of());
        self.0.join(name)
    }

    /// The index of the data set.
    pub fn index(&self) -> PathBuf {
        self.0.join("index.parquet")
    }

    /// The run folder of a seed.
    pub fn seed(&self, seed: u64) -> PathBuf {
        self.0.join(format!("seed-{seed}"))
    }

    /// The model of a seed.
    pub fn model(&self, seed: u64) -> PathBuf {
        self.seed(seed).join("model.safetensors")
    }
}
