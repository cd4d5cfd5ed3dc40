//! A trained method without a backbone: its scores of features in memory, and its bytes.

use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::Device;
use epsilon_data::dataset::SparseLabels;
use epsilon_data::formats::safetensors as format;
use epsilon_data::labels::LabelVectors;
use epsilon_metrics::Protocol;
use epsilon_vision::tokens::TokenSource;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::{EstimatorError, check_rows, known, vectors_error};
use crate::batch::Dims;
use crate::methods::{Kind, Vocabulary};
use crate::model::{Scorer, VECTORS, check_sizes, map_of, read_weights, tensors_of};
use crate::parameters::Weights;

const KEY: &str = "epsilon.estimator";
const VERSION: u32 = 1;

/// Everything but the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Card {
    version: u32,
    method: Kind,
    dims: Dims,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    best_epoch: Option<usize>,
}

/// A method that was trained on features in memory, see [`Estimator::fit`](super::Estimator::fit).
#[derive(Debug, Clone)]
pub struct FittedEstimator {
    card: Card,
    /// Of the labels that it was trained with, as they were given: those trained on, then the unseen ones.
    vectors: LabelVectors,
    weights: Weights,
}

impl FittedEstimator {
    pub(super) fn new(
        method: Kind,
        dims: Dims,
        vectors: LabelVectors,
        weights: Weights,
        best_epoch: Option<usize>,
    ) -> Self {
        let card = Card {
            version: VERSION,
            method,
            dims,
            best_epoch,
        };
        Self {
            card,
            vectors,
            weights,
        }
    }

    /// The method with its settings.
    pub fn method(&self) -> &Kind {
        &self.card.method
    }

    /// Sizes it was built for.
    pub fn dims(&self) -> Dims {
        self.card.dims
    }

    /// The epoch, from 1, that early stopping took; none without early stopping.
    pub fn best_epoch(&self) -> Option<usize> {
        self.card.best_epoch
    }

    /// The method's weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// How many labels it can score by their numbers: those that it was trained on, and behind them the unseen ones that it was
    /// trained with.
    pub fn known(&self) -> usize {
        known(self.card.method.vocabulary(), &self.card.dims)
    }

    /// Scores, row-major `[n, K]`, of any labels `[K, d_w]` for n images; `progress` is told how many images are
    /// done, and can break off.
    ///
    /// # Errors
    /// [`EstimatorError::Closed`] for a method that does not go by label vectors, [`EstimatorError::Shape`] for images or vectors
    /// of other sizes than those of the training.
    pub fn score(
        &self,
        images: &dyn TokenSource,
        labels: &LabelVectors,
        device: &Device,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<f32>, EstimatorError> {
        if self.card.method.vocabulary() != Vocabulary::Open {
            return Err(EstimatorError::Closed {
                method: self.card.method.name(),
                known: self.known(),
            });
        }
        let expected = self.card.dims.label_width;
        if labels.dim() != expected {
            return Err(EstimatorError::Shape {
                what: "vectors",
                found: format!("{} wide", labels.dim()),
                expected: format!("those of the training are {expected} wide"),
            });
        }
        let columns = (0..labels.len()).collect();
        self.scores(images, labels, columns, device, progress)
    }

    /// Scores, row-major `[n, K]`, of the K labels that it was trained with by these numbers, below [`FittedEstimator::known`].
    ///
    /// # Errors
    /// [`EstimatorError::NoSuchLabel`]; [`EstimatorError::Shape`] for images of other sizes than those of the training; [`EstimatorError::Stopped`].
    pub fn score_known(
        &self,
        images: &dyn TokenSource,
        labels: &[usize],
        device: &Device,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<f32>, EstimatorError> {
        let known = self.known();
        if let Some(&label) = labels.iter().find(|&&label| label >= known) {
            return Err(EstimatorError::NoSuchLabel {
                method: self.card.method.name(),
                label,
                known,
            });
        }
        let vectors = self.vectors.select(labels).map_err(vectors_error)?;
        self.scores(images, &vectors, labels.into(), device, progress)
    }

    /// mAP, as a fraction, of the labels that it was trained on, on n images with labels `[n, L]`.
    ///
    /// # Errors
    /// [`EstimatorError::Shape`] for images or labels of other sizes, [`EstimatorError::Metrics`] where no figure is defined.
    pub fn mean_average_precision(
        &self,
        images: &dyn TokenSource,
        labels: &SparseLabels,
        protocol: &Protocol,
        device: &Device,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<f64, EstimatorError> {
        let count = self.card.dims.labels;
        check_rows(images, labels)?;
        if labels.columns() != count {
            return Err(EstimatorError::Shape {
                what: "labels",
                found: format!("{} a row", labels.columns()),
                expected: format!("the training had {count}"),
            });
        }
        let columns: Vec<usize> = (0..count).collect();
        let scores = self.score_known(images, &columns, device, progress)?;
        let targets = labels.dense(0..labels.rows(), count);
        Ok(map_of(scores, &targets, count, protocol, false)?)
    }

    fn scores(
        &self,
        images: &dyn TokenSource,
        labels: &LabelVectors,
        columns: Arc<[usize]>,
        device: &Device,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<f32>, EstimatorError> {
        let dims = self.card.dims;
        let expected = [dims.tokens, dims.width, dims.global_width()];
        let found = [images.tokens_per_image(), images.dim(), images.global_dim()];
        if found != expected {
            let said = |[tokens, width, global]: [usize; 3]| {
                format!("{tokens} tokens of {width} values and global vectors of {global}")
            };
            return Err(EstimatorError::Shape {
                what: "features",
                found: said(found),
                expected: format!("the training had {}", said(expected)),
            });
        }
        let (method, unit) = (&self.card.method, Arc::new(labels.unit()));
        let scorer = Scorer::new(method, &self.weights, dims, unit, columns, device);
        let rows: Vec<usize> = (0..images.images()).collect();
        let scores = scorer.score_rows(images, &rows, progress);
        scores.continue_value().ok_or(EstimatorError::Stopped)
    }

    /// All of it as a safetensors file's bytes.
    ///
    /// # Errors
    /// [`EstimatorError::Bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, EstimatorError> {
        let failed = |reason: String| EstimatorError::Bytes(reason);
        let card = serde_json::to_string(&self.card).map_err(|e| failed(e.to_string()))?;
        let tensors = tensors_of(&self.weights, &self.vectors);
        let metadata = [(KEY.to_string(), card)].into();
        format::to_bytes(&tensors, metadata).map_err(|e| failed(e.to_string()))
    }

    /// Reads what [`FittedEstimator::to_bytes`] gave, onto a device.
    ///
    /// # Errors
    /// [`EstimatorError::Bytes`] says what is missing or does not fit.
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self, EstimatorError> {
        Self::read(bytes, device).map_err(EstimatorError::Bytes)
    }

    fn read(bytes: &[u8], device: &Device) -> Result<Self, String> {
        let card = format::metadata(bytes, KEY)?;
        let card: Card = serde_json::from_str(&card).map_err(|error| format!("card: {error}"))?;
        if card.version != VERSION {
            let version = card.version;
            return Err(format!(
                "format version {version}; this program reads version {VERSION}"
            ));
        }
        let dims = card.dims;
        check_sizes(&card.method, &dims)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let values = format::f32_values(&tensors, VECTORS)?;
        let seen = dims.labels.checked_mul(dims.label_width);
        let (Some(seen), true) = (seen, values.len().is_multiple_of(dims.label_width)) else {
            return Err(format!("label vectors of another size than {dims:?}"));
        };
        if seen == 0
            || seen > values.len()
            || (values.len() - seen) / dims.label_width != dims.unseen
        {
            return Err(format!("label vectors of another number than {dims:?}"));
        }
        let numbered = LabelVectors::numbered(dims.label_width, values);
        let vectors = numbered.map_err(|error| error.to_string())?;
        let specs = card
            .method
            .specs(&dims)
            .map_err(|error| error.to_string())?;
        let weights = read_weights(specs, &tensors, device)?;
        Ok(Self {
            card,
            vectors,
            weights,
        })
    }
}
