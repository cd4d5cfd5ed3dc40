//! Scores of labels for images: a method's weights against a fixed list of label vectors.

use std::sync::Arc;

use burn::tensor::Device;

use crate::batch::{Batch, Dims, LabelsOn, Targets};
use crate::methods::{Kind, LabelMap};
use crate::parameters::Weights;
use epsilon_data::labels::LabelVectors;
use epsilon_vision::tokens::TokenStore;

/// Images scored at once.
pub(super) const SCORE_BATCH: usize = 16;

/// The semantic vectors of some images.
#[derive(Debug, Clone, PartialEq)]
pub struct SemanticVectors {
    /// M, vectors of an image.
    pub groups: usize,
    /// d, their width: that of the label vectors for most methods.
    pub width: usize,
    /// `[images, M, d]`, row-major.
    pub values: Vec<f32>,
}

/// Scores images against a fixed list of labels, a few images at a time.
pub struct Scorer<'a> {
    method: &'a Kind,
    weights: &'a Weights,
    dims: Dims,
    labels: LabelsOn,
    count: usize,
}

impl<'a> Scorer<'a> {
    /// A scorer with a method's weights; `labels` are unit length, and `columns` their numbers among the labels the method
    /// was trained on, which only one with a closed vocabulary asks for.
    pub fn new(
        method: &'a Kind,
        weights: &'a Weights,
        dims: Dims,
        labels: Arc<LabelVectors>,
        columns: Arc<[usize]>,
        device: &Device,
    ) -> Self {
        let count = labels.len();
        Self {
            method,
            weights,
            dims,
            labels: LabelsOn::known_as(labels, columns, device),
            count,
        }
    }

    /// Scores of stored images, row-major `[rows, C]`; `progress` is told how many rows are done.
    pub fn score_rows(
        &self,
        store: &TokenStore,
        rows: &[usize],
        progress: &mut dyn FnMut(usize),
    ) -> Vec<f32> {
        let mut scores = Vec::with_capacity(rows.len() * self.count);
        for part in rows.chunks(SCORE_BATCH) {
            let (tokens, global) = store.read_rows(part);
            scores.extend(self.score(part.len(), tokens, global));
            progress(scores.len() / self.count.max(1));
        }
        scores
    }

    /// Heat maps of one of the labels for one image, from its tokens `[N, D]` and global vector: the shares of the places of the
    /// token grid in the label's score. Empty for a method that uses the image as a whole.
    pub fn maps(&self, tokens: Vec<f32>, global: Vec<f32>, label: usize) -> Vec<LabelMap> {
        let batch = self.batch(1, tokens, global);
        self.method.maps(self.weights, &batch, label)
    }

    /// Scores `[images, C]` of tokens `[images, N, D]` and global vectors `[images, Dims::global_width()]`, all row-major.
    pub fn score(&self, images: usize, tokens: Vec<f32>, global: Vec<f32>) -> Vec<f32> {
        if images == 0 {
            return Vec::new();
        }
        let batch = self.batch(images, tokens, global);
        crate::device::host(&self.method.scores(self.weights, &batch))
    }

    /// Scores `[images, C]` of images that are global vectors alone, for a method that does not look at tokens.
    pub(super) fn score_global(&self, global: Vec<f32>) -> Vec<f32> {
        let width = self.dims.global_width();
        let images = global.len() / width;
        let dims = Dims {
            tokens: 1,
            width: 1,
            global: Some(width),
            ..self.dims
        };
        let (tokens, none) = (vec![0.0; images], Targets::default());
        let batch = self.labels.batch(&dims, images, tokens, global, none);
        crate::device::host(&self.method.scores(self.weights, &batch))
    }

    /// As [`Scorer::score`], and the images' semantic vectors where the method scores by these.
    pub fn score_with_vectors(
        &self,
        images: usize,
        tokens: Vec<f32>,
        global: Vec<f32>,
    ) -> (Vec<f32>, Option<SemanticVectors>) {
        if images == 0 {
            return (Vec::new(), None);
        }
        let batch = self.batch(images, tokens, global);
        let Some(vectors) = self.method.semantic_vectors(self.weights, &batch) else {
            let scores = self.method.scores(self.weights, &batch);
            return (crate::device::host(&scores), None);
        };
        let labels = &batch.label_vectors;
        let scores = (self.method).match_scores(self.weights, vectors.clone(), labels);
        let vectors = SemanticVectors {
            groups: vectors.dims()[1],
            width: vectors.dims()[2],
            values: crate::device::host(&vectors),
        };
        (crate::device::host(&scores), Some(vectors))
    }

    /// C, the number of labels.
    pub(super) fn labels(&self) -> usize {
        self.count
    }

    fn batch(&self, images: usize, tokens: Vec<f32>, global: Vec<f32>) -> Batch {
        let none = Targets::default();
        self.labels.batch(&self.dims, images, tokens, global, none)
    }
}
