//! The data set of a recipe with the vectors of its labels, and the tokens of its images.

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use epsilon_data::dataset::{Dataset, SparseLabels, Split, Summary};
use epsilon_data::labels::{LabelVectors, Resolution};
use epsilon_metrics::{MetricsError, Protocol, Table};
use epsilon_vision::backbone::{Backbone, BackboneInfo, Download};
use epsilon_vision::tokens::{self, ExtractOptions, ExtractReport, Part, Progress, TokenStore};

use super::{ExperimentError, Layout, anchor, figures, folds};
use crate::batch::Dims;
use crate::predictor::{PredictError, resolve_words};
use crate::recipe::{EvaluationSettings, Recipe};
use crate::training::{Example, TrainingError};

/// A data set with the vectors of its labels.
pub struct Prepared {
    /// Images and labels.
    pub dataset: Dataset,
    /// Statistics after every filter.
    pub summary: Summary,
    /// The labels' vectors as read (not unit length), in the data set's order.
    pub vectors: LabelVectors,
    /// How the vector of each label was found.
    pub report: Vec<Resolution>,
    pub(super) anchors: anchor::Kept,
}

/// Reads the data set of a recipe and looks up its labels' vectors, or has a text tower make them; a network for that which the
/// recipe names is downloaded where it is missing. Where the recipe names a label fold, its labels are the unseen ones.
///
/// # Errors
/// [`ExperimentError::Dataset`], [`ExperimentError::Labels`], and [`ExperimentError::Predict`] for a text tower.
pub fn prepare(recipe: &Recipe) -> Result<Prepared, ExperimentError> {
    prepare_with(recipe, None, Download::Quiet)
}

/// [`prepare`] with a cache of the data set in the run folder, which is written if it is missing or out of date.
///
/// # Errors
/// As [`prepare`], and an index that cannot be written.
pub fn prepare_in(recipe: &Recipe, folder: &Path) -> Result<Prepared, ExperimentError> {
    prepare_with(recipe, Some(folder), Download::Quiet)
}

/// [`prepare`] or [`prepare_in`] for a recipe of any origin: `download` says whether the hub may be asked for a network that it
/// names for the labels' vectors.
///
/// # Errors
/// As [`prepare_in`].
pub fn prepare_with(
    recipe: &Recipe,
    folder: Option<&Path>,
    download: Download,
) -> Result<Prepared, ExperimentError> {
    let source = &recipe.data.source;
    let read = match folder {
        Some(folder) => source.read_cached(&Layout(folder).index())?,
        None => source.read()?,
    };
    let (dataset, mut summary) = folds::of_recipe(recipe, read)?;
    if let Some(dir) = &recipe.features.store {
        // With a finished store an image counts as missing if its tokens are.
        let store = TokenStore::open(dir)?;
        summary.set_missing(&dataset, |_, record| store.row_of(&record.id).is_none());
    }
    let (names, words) = (&dataset.names, &dataset.words);
    let resolved = resolve_words(&recipe.data.vector_file(), names, words, download);
    let resolved = resolved.map_err(|error| match error {
        PredictError::Labels(error) => ExperimentError::Labels(error),
        other => other.into(),
    })?;
    Ok(Prepared {
        dataset,
        summary,
        vectors: resolved.vectors,
        report: resolved.report,
        anchors: Default::default(),
    })
}

impl Prepared {
    /// Checks that there are images to train and evaluate on, before a long computation starts.
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
        let settings = EvaluationSettings {
            bootstrap: 0,
            ..settings.clone()
        };
        self.measurable(&images, &settings)
            .map_err(ExperimentError::NotMeasurable)
    }

    /// Whether these images can be measured so, whatever their scores are.
    pub(super) fn measurable(
        &self,
        images: &[Example],
        settings: &EvaluationSettings,
    ) -> Result<(), MetricsError> {
        let protocol: Protocol = settings.protocol.parse()?;
        let table = Unscored {
            labels: &self.dataset.labels,
            images,
        };
        figures(&table, self.dataset.seen, &[protocol], settings).map(drop)
    }

    /// Id and file of every image in the data set's order, for extraction.
    pub(super) fn items(&self) -> Vec<(String, PathBuf)> {
        self.dataset
            .records
            .iter()
            .map(|r| (r.id.clone(), r.path()))
            .collect()
    }

    /// The images of a split that have tokens in the store.
    pub(super) fn examples(&self, store: &TokenStore, split: Split) -> Vec<Example> {
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

    /// The dimensions of a method on tokens of this backbone.
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
    pub(super) fn seen_vectors(&self) -> Arc<LabelVectors> {
        Arc::new(self.vectors.first(self.dataset.seen).unit())
    }
}

/// The labels of images that all have the same score: never held whole, because there are as many cells as images times labels.
struct Unscored<'a> {
    labels: &'a SparseLabels,
    images: &'a [Example],
}

impl Table for Unscored<'_> {
    type Score = f32;

    fn images(&self) -> usize {
        self.images.len()
    }

    fn labels(&self) -> usize {
        self.labels.columns()
    }

    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [f32],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        scores.fill(0.0);
        let rows = self.images[rows].iter();
        for (image, out) in rows.zip(labels.chunks_exact_mut(columns.len())) {
            self.labels
                .dense_part(image.label_row, columns.clone(), out);
        }
        Ok(())
    }
}

/// Extracts the tokens of a data set's images, or of one part of them, into the store at `dir`; an interrupted extraction is
/// resumed. `progress` can break off.
///
/// # Errors
/// [`ExperimentError::Features`], [`ExperimentError::Stopped`], and [`ExperimentError::Method`] if the method cannot be built for such tokens, which
/// is checked before anything is extracted.
pub fn extract(
    recipe: &Recipe,
    prepared: &Prepared,
    backbone: &dyn Backbone,
    dir: &Path,
    part: Option<Part>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
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

/// The ground truth of the first `labels` labels, row-major `[images, labels]`.
pub(super) fn dense(dataset: &Dataset, images: &[Example], labels: usize) -> Vec<i8> {
    let rows = images.iter().map(|image| image.label_row);
    dataset.labels.dense(rows, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unscored_table_has_the_labels_of_its_images() {
        let labels = SparseLabels::from_dense(3, &[1, 0, -1, 0, 0, 1, -1, 1, 0]).unwrap();
        let image = |label_row| Example {
            store_row: 0,
            label_row,
        };
        let table = Unscored {
            labels: &labels,
            images: &[image(2), image(0)],
        };
        assert_eq!((table.images(), table.labels()), (2, 3));
        let (mut scores, mut found) = ([1.0; 4], [9; 4]);
        table.read(0..2, 1..3, &mut scores, &mut found).unwrap();
        assert_eq!((scores, found), ([0.0; 4], [1, 0, 0, -1]));
    }
}
