//! Scores of labels for images: a method's weights against a fixed list of label vectors.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use burn::tensor::Device;

use super::{ModelAnchor, ModelError};
use crate::batch::{Batch, Dims, LabelsOn, Targets};
use crate::methods::anchor::{AnchorScores, BETA};
use crate::methods::{Kind, LabelMap};
use crate::parameters::Weights;
use epsilon_data::labels::LabelVectors;
use epsilon_metrics::{Labels, MetricsError, Protocol, Scores, Standard, evaluate, standardise};
use epsilon_vision::tokens::TokenSource;

/// Images scored at once.
pub(crate) const SCORE_BATCH: usize = 16;

/// The semantic vectors of some images, and what the anchor adds to their matches: all that has to be kept of an image to score
/// any label, by [`Model::queries`](super::Model::queries).
#[derive(Debug, Clone, PartialEq)]
pub struct SemanticVectors {
    /// M, vectors of an image.
    pub groups: usize,
    /// d, their width: that of the label vectors for most methods.
    pub width: usize,
    /// Classes of the model's anchor, where it has one.
    pub classes: Option<usize>,
    /// Image after image its `S [M, d]`, row-major; with an anchor followed by `p [classes]` and a constant b, all three scaled so
    /// that `max_m S_m . v + p . e + b` is the score of a label with the query `[v, e]`.
    pub values: Vec<f32>,
}

impl SemanticVectors {
    /// These images, and others of the same method behind them.
    pub(super) fn followed_by(mut self, others: Self) -> Self {
        self.values.extend(others.values);
        self
    }
}

/// Scores images against a fixed list of labels, a few images at a time.
pub struct Scorer {
    method: Kind,
    weights: Weights,
    dims: Dims,
    labels: LabelsOn,
    count: usize,
    /// With beta.
    anchor: Option<(Arc<Anchoring>, f64)>,
}

/// How an anchor's scores a join the method's s: `z(s + beta z(a)) + w z(a)`, with z by the scores of an image's own labels,
/// which are the model's, so that a label's score does not depend on what other labels are asked for.
pub(crate) struct Anchoring {
    weight: f64,
    trained: bool,
    scores: AnchorScores,
    own: Own,
}

/// The joined score of any label for one image: `of_scores s + of_anchor a + constant`.
struct Joint {
    of_scores: f64,
    of_anchor: f64,
    constant: f64,
}

/// Where the scores of the model's own labels are.
enum Own {
    /// Among those of the labels that are scored.
    Columns(Range<usize>),
    /// Nowhere yet.
    Apart(Box<(LabelsOn, AnchorScores)>),
}

impl Scorer {
    /// A scorer with a method's weights; `labels` are unit length, and `columns` their numbers among the labels the method
    /// was trained on, which only one with a closed vocabulary asks for.
    pub fn new(
        method: &Kind,
        weights: &Weights,
        dims: Dims,
        labels: Arc<LabelVectors>,
        columns: Arc<[usize]>,
        device: &Device,
    ) -> Self {
        let count = labels.len();
        Self {
            method: method.clone(),
            weights: weights.clone(),
            dims,
            labels: LabelsOn::known_as(labels, columns, device),
            count,
            anchor: None,
        }
    }

    /// The same with an anchor of the same labels.
    pub(crate) fn anchored(mut self, anchoring: Arc<Anchoring>) -> Self {
        let beta = match anchoring.trained {
            true => f64::from(crate::device::host(&self.weights.get_flat(BETA))[0]),
            false => 0.0,
        };
        self.anchor = Some((anchoring, beta));
        self
    }

    /// Scores of some images, row-major `[rows, C]`; `progress` is told how many rows are done, and where it breaks off there are
    /// none.
    pub fn score_rows(
        &self,
        source: &dyn TokenSource,
        rows: &[usize],
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> ControlFlow<(), Vec<f32>> {
        let mut scores = Vec::with_capacity(rows.len() * self.count);
        for part in rows.chunks(SCORE_BATCH) {
            let (tokens, global) = source.read_rows(part);
            scores.extend(self.score(part.len(), tokens, global));
            progress(scores.len() / self.count.max(1))?;
        }
        ControlFlow::Continue(scores)
    }

    /// Heat maps of one of the labels for one image, from its tokens `[N, D]` and global vector: the shares of the places of the
    /// token grid in the label's score. Empty for a method that uses the image as a whole.
    pub fn maps(&self, tokens: Vec<f32>, global: Vec<f32>, label: usize) -> Vec<LabelMap> {
        let batch = self.batch(1, tokens, global);
        self.method.maps(&self.weights, &batch, label)
    }

    /// Scores `[images, C]` of tokens `[images, N, D]` and global vectors `[images, Dims::global_width()]`, all row-major.
    pub fn score(&self, images: usize, tokens: Vec<f32>, global: Vec<f32>) -> Vec<f32> {
        if images == 0 {
            return Vec::new();
        }
        self.scores_of(&self.batch(images, tokens, global))
    }

    fn scores_of(&self, batch: &Batch) -> Vec<f32> {
        let scores = crate::device::host(&self.method.scores(&self.weights, batch));
        match &self.anchor {
            Some((anchor, beta)) => self.with_anchor(anchor, *beta, batch, &scores).0,
            None => scores,
        }
    }

    /// The method's scores `[images, C]` of a batch together with the anchor's, and how they are joined for each image.
    fn with_anchor(
        &self,
        anchor: &Anchoring,
        beta: f64,
        batch: &Batch,
        scores: &[f32],
    ) -> (Vec<f32>, Vec<Joint>) {
        let anchors = crate::device::host(&anchor.scores.of(batch));
        let own = match &anchor.own {
            Own::Columns(_) => None,
            Own::Apart(apart) => {
                let (labels, anchors) = &**apart;
                let batch = labels.of(batch);
                let scores = self.method.scores(&self.weights, &batch);
                Some([scores, anchors.of(&batch)].map(|scores| crate::device::host(&scores)))
            }
        };
        let images = batch.global.dims()[0];
        let (mut together, mut joints) = (Vec::with_capacity(scores.len()), Vec::new());
        for image in 0..images {
            let row = |of: &[f32]| {
                let width = of.len() / images;
                of[image * width..][..width].to_vec()
            };
            let (asked, added) = (row(scores), row(&anchors));
            let [own, own_added] = match (&anchor.own, &own) {
                (Own::Columns(range), _) => [&asked, &added].map(|row| row[range.clone()].to_vec()),
                (_, Some(own)) => own.each_ref().map(|scores| row(scores)),
                (Own::Apart(_), None) => [Vec::new(), Vec::new()],
            };
            let joint = anchor.joint(beta, &own, &own_added);
            let both = asked.iter().zip(&added);
            together.extend(both.map(|(&s, &a)| joint.score(s, a)));
            joints.push(joint);
        }
        (together, joints)
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
        crate::device::host(&self.method.scores(&self.weights, &batch))
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
        let Some(vectors) = self.method.semantic_vectors(&self.weights, &batch) else {
            return (self.scores_of(&batch), None);
        };
        let labels = &batch.label_vectors;
        let scores = (self.method).match_scores(&self.weights, vectors.clone(), labels);
        let scores = crate::device::host(&scores);
        let mut vectors = SemanticVectors {
            groups: vectors.dims()[1],
            width: vectors.dims()[2],
            classes: None,
            values: crate::device::host(&vectors),
        };
        let Some((anchor, beta)) = &self.anchor else {
            return (scores, Some(vectors));
        };
        let (scores, joints) = self.with_anchor(anchor, *beta, &batch, &scores);
        let probabilities = crate::device::host(&anchor.scores.probabilities(&batch));
        vectors.join(&probabilities, &joints);
        (scores, Some(vectors))
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

/// mAP, as a fraction, of scores and targets, both row-major `[images, labels]`. The scores of each image are standardised first
/// where `standardised`.
///
/// # Errors
/// [`MetricsError`] when these labels cannot be measured so.
pub(crate) fn map_of(
    mut scores: Vec<f32>,
    targets: &[i8],
    labels: usize,
    protocol: &Protocol,
    standardised: bool,
) -> Result<f64, MetricsError> {
    if standardised {
        standardise(&mut scores, labels);
    }
    let images = scores.len() / labels;
    let scores = Scores::new(&scores, images, labels)?;
    let targets = Labels::new(targets, images, labels)?;
    let columns: Vec<usize> = (0..labels).collect();
    Ok(evaluate(scores, targets, &columns, protocol, &[])?.map)
}

impl SemanticVectors {
    /// Puts the anchor's part behind each image's vectors, from its probabilities `[images, classes]`.
    fn join(&mut self, probabilities: &[f32], joints: &[Joint]) {
        let classes = probabilities.len() / joints.len();
        let images = self.values.chunks_exact(self.groups * self.width);
        let images = images.zip(probabilities.chunks_exact(classes)).zip(joints);
        let scaled = |values: &[f32], by: f64| -> Vec<f32> {
            let values = values.iter();
            values.map(|&v| (by * f64::from(v)) as f32).collect()
        };
        self.values = images
            .flat_map(|((vectors, p), joint)| {
                let mut all = scaled(vectors, joint.of_scores);
                all.extend(scaled(p, joint.of_anchor));
                all.push(joint.constant as f32);
                all
            })
            .collect();
        self.classes = Some(classes);
    }
}

impl Joint {
    fn score(&self, s: f32, a: f32) -> f32 {
        (self.of_scores * f64::from(s) + self.of_anchor * f64::from(a) + self.constant) as f32
    }
}

impl Anchoring {
    /// An anchor's scores of `labels`, standardised by those of the model's `own` labels, which the method knows by these `columns`.
    ///
    /// # Errors
    /// [`ModelError::Anchor`].
    pub(crate) fn new(
        anchor: &ModelAnchor,
        labels: &LabelVectors,
        own: &LabelVectors,
        columns: Arc<[usize]>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let (names, mine) = (labels.names(), own.names());
        let own = if names.starts_with(mine) {
            Own::Columns(0..mine.len())
        } else if names.ends_with(mine) {
            Own::Columns(names.len() - mine.len()..names.len())
        } else {
            let on = LabelsOn::known_as(Arc::new(own.unit()), columns, device);
            Own::Apart(Box::new((on, anchor.on(own, device)?)))
        };
        let settings = &anchor.card().settings;
        Ok(Self {
            weight: settings.weight,
            trained: settings.trained,
            scores: anchor.on(labels, device)?,
            own,
        })
    }

    /// How an image's scores are joined, by the method's and the anchor's scores of the model's own labels.
    fn joint(&self, beta: f64, own: &[f32], own_added: &[f32]) -> Joint {
        let of_anchor = Standard::of(own_added);
        let both = own.iter().zip(own_added);
        let trained = both.map(|(&s, &a)| s + (beta * of_anchor.score(a)) as f32);
        let trained: Vec<f32> = trained.collect();
        let (of_scores, constant) = Standard::of(&trained).line();
        let (slope, intercept) = of_anchor.line();
        let weight = of_scores * beta + self.weight;
        Joint {
            of_scores,
            of_anchor: weight * slope,
            constant: constant + weight * intercept,
        }
    }
}
