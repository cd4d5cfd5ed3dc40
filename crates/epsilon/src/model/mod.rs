//! A trained model: its file, its scores of any labels for an image, and their ranking.
//!
//! One safetensors file holds the method's weights under their own names (`weight.NAME`) and `label_vectors [C, d_w]`;
//! everything else is JSON under the metadata key `epsilon.model`. The file is enough to score new photographs for new labels.

mod anchor;
mod file;
mod ranker;
mod scorer;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use crate::batch::Dims;
use crate::calibration::Calibration;
use crate::methods::{MethodError, Vocabulary};
use crate::parameters::Weights;
use epsilon_data::files;
use epsilon_data::labels::{LabelError, LabelVectors, composed};
use epsilon_vision::backbone::{BackboneInfo, DifferenceKind};

pub use anchor::{AnchorCard, ModelAnchor};
pub(crate) use file::{BUNDLE, VECTORS, check_sizes, read_weights, tensors_of};
pub use file::{Card, Provenance};
pub(crate) use ranker::standardised;
pub use ranker::{Keep, KeepError, Ranked, Ranker, Ranking};
pub(crate) use scorer::{Anchoring, SCORE_BATCH, map_of};
pub use scorer::{Scorer, SemanticVectors};

/// What can go wrong with a model file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be read or written, or is no model.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong and what to do.
        reason: String,
    },
    /// Somebody has written another file in the place of the one that a model was read from.
    #[error(
        "{path}: is another model now than the one that was read, and stays as it is: run it again"
    )]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// The weights do not fit the method.
    #[error("{path}: {source}")]
    Method {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: MethodError,
    },
    /// The label vectors are unusable.
    #[error("{path}: {source}")]
    Labels {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: LabelError,
    },
    /// The word vectors of an anchor lack a label, or are others than it was made with.
    #[error("the anchor's word vectors: {reason}")]
    Anchor {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the file's name.
        reason: String,
    },
    /// A label that a method with a closed vocabulary was not trained on.
    #[error(
        "the method `{method}` scores only the {known} labels it was trained on, and \"{label}\" is none of them: \
         give some of those, or train a method that goes by label vectors"
    )]
    Unknown {
        /// The method.
        method: &'static str,
        /// The label.
        label: String,
        /// Labels that the model knows.
        known: usize,
    },
    /// Tokens or label vectors of another kind than the model was trained on.
    #[error(
        "{what} differ from what the model was trained on: {found} here, {expected} there; {remedy}"
    )]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// What was given.
        found: String,
        /// What the model was trained on.
        expected: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// A trained model.
pub struct Model {
    card: Card,
    vectors: LabelVectors,
    weights: Weights,
    anchor: Option<Arc<ModelAnchor>>,
}

impl Model {
    /// A model of its parts; `vectors` are those of [`Card::labels`], not necessarily of unit length.
    pub fn new(card: Card, vectors: LabelVectors, weights: Weights) -> Self {
        Self {
            card,
            vectors,
            weights,
            anchor: None,
        }
    }

    /// The same with an anchor; where that is trained along, its beta is among the weights.
    #[must_use]
    pub fn with_anchor(mut self, anchor: impl Into<Arc<ModelAnchor>>) -> Self {
        let anchor = anchor.into();
        self.card.anchor = Some(anchor.card().clone());
        self.anchor = Some(anchor);
        self
    }

    /// What the backbone's own classes add to its scores, if they do.
    pub fn anchor(&self) -> Option<&ModelAnchor> {
        self.anchor.as_deref()
    }

    /// What it is and where it comes from.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Vectors of [`Card::labels`], as they were read (not unit length).
    pub fn vectors(&self) -> &LabelVectors {
        &self.vectors
    }

    /// The method's weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Gives it probabilities and thresholds, in place of those that it has; [`Model::save`] keeps them.
    pub fn calibrate(&mut self, calibration: Calibration) {
        self.card.calibration = Some(calibration);
    }

    /// A scorer of these labels (any names; their vectors need not be unit length).
    ///
    /// # Errors
    /// [`ModelError::Mismatch`] when the vectors have another width than the model's, [`ModelError::Unknown`] for labels
    /// that a method with a closed vocabulary was not trained on, [`ModelError::Anchor`] for labels that the word vectors of
    /// the model's anchor lack.
    pub fn scorer(&self, labels: &LabelVectors, device: &Device) -> Result<Scorer, ModelError> {
        Self::check_width(self.card.dims.label_width, labels.dim())?;
        let method = self.card.method();
        let (unit, columns) = (Arc::new(labels.unit()), self.known(labels)?);
        let scorer = Scorer::new(method, &self.weights, self.card.dims, unit, columns, device);
        match &self.anchor {
            None => Ok(scorer),
            Some(anchor) => {
                let own = self.own_labels();
                let columns = self.known(&own)?;
                let anchoring = Anchoring::new(anchor, labels, &own, columns, device)?;
                Ok(scorer.anchored(anchoring.into()))
            }
        }
    }

    /// The number by which the method knows each of these labels.
    fn known(&self, labels: &LabelVectors) -> Result<Arc<[usize]>, ModelError> {
        let Dims {
            labels: seen,
            unseen,
            ..
        } = self.card.dims;
        match self.card.method().vocabulary() {
            Vocabulary::Open => Ok((0..labels.len()).collect()),
            Vocabulary::Seen => self.columns(labels.names(), seen),
            Vocabulary::Closed => self.columns(labels.names(), seen + unseen),
        }
    }

    /// Vectors of labels that lie where the [semantic vectors](SemanticVectors) of images do, row-major `[labels, d]`: their best
    /// product with an image's is the label's score there, or grows with it. With an anchor `[labels, d + classes]`, each label's
    /// nearness to the anchor's classes behind its vector.
    ///
    /// # Errors
    /// [`ModelError::Mismatch`] when the labels' vectors have another width than the model's, [`ModelError::Anchor`] for labels
    /// that the word vectors of the model's anchor lack.
    pub fn queries(&self, labels: &LabelVectors, device: &Device) -> Result<Vec<f32>, ModelError> {
        Self::check_width(self.card.dims.label_width, labels.dim())?;
        let shape = [labels.len(), labels.dim()];
        let vectors = TensorData::new(labels.unit().values().to_vec(), shape);
        let vectors = Tensor::from_data(vectors, device);
        let mut queries = self.card.method().queries(&self.weights, &vectors);
        if let Some(anchor) = &self.anchor {
            queries = Tensor::cat(vec![queries, anchor.on(labels, device)?.queries()], 1);
        }
        Ok(crate::device::host(&queries))
    }

    /// Whether label vectors have the width of the model's.
    pub(crate) fn check_width(expected: usize, found: usize) -> Result<(), ModelError> {
        if found == expected {
            return Ok(());
        }
        Err(ModelError::Mismatch {
            what: "the label vectors",
            found: format!("{found} wide"),
            expected: format!("{expected} wide"),
            remedy: "give the vector file the model was trained with",
        })
    }

    /// SHA-256, in hexadecimal, of what decides its scores: the method, the backbone and the weights; and the anchor with the own
    /// labels that it is standardised over. Calibration does not change it.
    pub fn identity(&self) -> String {
        let card = &self.card;
        let (method, dims, backbone) = (card.method(), card.dims(), card.backbone());
        let mut bytes = serde_json::json!([method, dims, backbone])
            .to_string()
            .into_bytes();
        for (spec, values) in self.weights.to_host() {
            bytes.extend(spec.name.as_bytes());
            bytes.extend_from_slice(bytemuck::cast_slice(&values));
        }
        if let Some(anchor) = &self.anchor {
            bytes.extend(anchor.identity());
            let own = self.own_labels();
            bytes.extend(own.names().join("\n").into_bytes());
            bytes.extend_from_slice(bytemuck::cast_slice(own.values()));
        }
        files::sha256(&bytes)
    }

    /// Vectors of the labels that it ranks where nobody asks for others: those it was measured with, or those of its training
    /// where it knows no others.
    pub fn own_labels(&self) -> LabelVectors {
        match self.card.method().vocabulary() {
            Vocabulary::Open | Vocabulary::Closed => self.vectors.clone(),
            Vocabulary::Seen => self.vectors.first(self.card.seen_labels().len()),
        }
    }

    /// The number of each of these labels among the model's first `known` ones, which are all that its method knows.
    fn columns(&self, names: &[String], known: usize) -> Result<Arc<[usize]>, ModelError> {
        let known = &self.card.labels[..known.min(self.card.labels.len())];
        let column = |name: &String| {
            let name = &*composed(name);
            let found = known.iter().position(|label| composed(label) == name);
            found.ok_or_else(|| ModelError::Unknown {
                method: self.card.method().name(),
                label: name.into(),
                known: known.len(),
            })
        };
        names.iter().map(column).collect()
    }

    /// Whether tokens of this backbone are what the model reads.
    ///
    /// # Errors
    /// [`ModelError::Mismatch`] when they were made with other weights or another preprocessing, or have another shape.
    pub fn check_backbone(&self, backbone: &BackboneInfo) -> Result<(), ModelError> {
        let mine = self.card.backbone();
        if let Some(difference) = backbone.difference(mine) {
            let again = "extract the tokens again with the model's recipe";
            let (what, remedy) = match difference.kind {
                DifferenceKind::Weights => (
                    "the backbone's weights",
                    "give the weights the tokens were extracted with",
                ),
                DifferenceKind::Preprocess => ("the preprocessing settings", again),
                DifferenceKind::Precision => ("the backbone's precision", again),
                DifferenceKind::Shape => ("the tokens", again),
            };
            return Err(ModelError::Mismatch {
                what,
                found: difference.found,
                expected: difference.wanted,
                remedy,
            });
        }
        // Never so with a file that `save` wrote.
        let Dims { tokens, width, .. } = self.card.dims;
        let global = self.card.dims.global_width();
        if (backbone.tokens, backbone.dim, backbone.global_dim()) != (tokens, width, global) {
            return Err(ModelError::Mismatch {
                what: "the tokens",
                found: format!("{} of {} values", backbone.tokens, backbone.dim),
                expected: format!("{tokens} of {width} values"),
                remedy: "the model file is damaged: train it again",
            });
        }
        Ok(())
    }
}
