//! A trained model as one safetensors file: weights, label names and vectors, what made its tokens, its recipe.
//!
//! Tensors are the method's weights under their own names (`weight.NAME`) and `label_vectors [C, d_w]`; everything
//! else is JSON under the metadata key `epsilon.model`. The file is enough to score new photographs for new labels.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::batch::{Dims, LabelsOn, Targets, read};
use crate::calibration::{Calibration, Judge};
use crate::fused::scores::best_match;
use crate::methods::{Kind, LabelMap, MethodError, Vocabulary};
use crate::parameters::Weights;
use epsilon_data::files;
use epsilon_data::labels::{LabelError, LabelVectors};
use epsilon_vision::backbone::{BackboneInfo, DifferenceKind};
use epsilon_vision::tokens::TokenStore;

const KEY: &str = "epsilon.model";
const VERSION: u32 = 1;
const VECTORS: &str = "label_vectors";
/// Images scored at once.
const SCORE_BATCH: usize = 16;

/// What can go wrong with a model file.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read or written, or is no model.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong and what to do.
        reason: String,
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

/// Everything of a model but its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    version: u32,
    /// The method and its settings.
    pub method: Kind,
    /// Sizes it was built for.
    pub dims: Dims,
    /// Label names it was trained and measured with, the seen ones first.
    pub labels: Vec<String>,
    /// How many of them are seen.
    pub seen: usize,
    /// The backbone that made its tokens, preprocessing included.
    pub backbone: BackboneInfo,
    /// Where the backbone's weights were found.
    pub backbone_weights: PathBuf,
    /// The resolved recipe.
    pub recipe: serde_json::Value,
    /// The protocol its figures are measured under.
    pub protocol: String,
    /// Seed of its training.
    pub seed: u64,
    /// Probabilities and thresholds, once it is calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// A trained model.
pub struct Model {
    /// What it is and where it comes from.
    pub card: Card,
    /// Vectors of [`Card::labels`], as they were read (not unit length).
    pub vectors: LabelVectors,
    /// The method's weights.
    pub weights: Weights,
}

impl Card {
    /// The card of a model of this version of the format.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        method: Kind,
        dims: Dims,
        labels: Vec<String>,
        seen: usize,
        backbone: BackboneInfo,
        backbone_weights: PathBuf,
        recipe: serde_json::Value,
        protocol: String,
        seed: u64,
    ) -> Self {
        let version = VERSION;
        Self {
            version,
            method,
            dims,
            labels,
            seen,
            backbone,
            backbone_weights,
            recipe,
            protocol,
            seed,
            calibration: None,
        }
    }
}

impl Model {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`ModelError::File`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        let file = |reason: String| ModelError::File {
            path: path.into(),
            reason,
        };
        let mut tensors: Vec<_> = self
            .weights
            .to_host()
            .into_iter()
            .map(|(spec, values)| (format!("weight.{}", spec.name), spec.shape, values))
            .collect();
        let shape = vec![self.vectors.len(), self.vectors.dim()];
        tensors.push((VECTORS.into(), shape, self.vectors.values().to_vec()));
        let card = serde_json::to_string(&self.card).map_err(|e| file(e.to_string()))?;
        epsilon_data::formats::safetensors::write_tensors(
            path,
            &tensors,
            [(KEY.to_string(), card)].into(),
        )
        .map_err(|e| file(e.to_string()))
    }

    /// Reads a model onto a device.
    ///
    /// # Errors
    /// [`ModelError`] says what is missing or does not fit.
    pub fn load(path: &Path, device: &Device) -> Result<Self, ModelError> {
        let file = |reason: String| ModelError::File {
            path: path.into(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|e| file(e.to_string()))?;
        let card = epsilon_data::formats::safetensors::metadata(&bytes, KEY).map_err(file)?;
        let card: Card = serde_json::from_str(&card).map_err(|e| file(format!("its card: {e}")))?;
        if card.version != VERSION {
            let found = card.version;
            return Err(file(format!(
                "format version {found}; this program reads version {VERSION}"
            )));
        }
        if card.seen > card.labels.len() {
            return Err(file(format!(
                "{} seen labels of {}",
                card.seen,
                card.labels.len()
            )));
        }
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| file(e.to_string()))?;
        let vectors =
            epsilon_data::formats::safetensors::f32_values(&tensors, VECTORS).map_err(file)?;
        let vectors = LabelVectors::new(card.labels.clone(), card.dims.label_width, vectors)
            .map_err(|source| ModelError::Labels {
                path: path.into(),
                source,
            })?;
        let method = |source| ModelError::Method {
            path: path.into(),
            source,
        };
        let specs = card.method.specs(&card.dims).map_err(method)?;
        let values = specs
            .iter()
            .map(|spec| {
                let name = format!("weight.{}", spec.name);
                Ok((
                    spec.name.clone(),
                    epsilon_data::formats::safetensors::f32_values(&tensors, &name)
                        .map_err(file)?,
                ))
            })
            .collect::<Result<BTreeMap<_, _>, ModelError>>()?;
        let weights = Weights::from_values(specs, values, device).map_err(|e| method(e.into()))?;
        Ok(Self {
            card,
            vectors,
            weights,
        })
    }

    /// A scorer of these labels (any names; their vectors need not be unit length).
    ///
    /// # Errors
    /// [`ModelError::Mismatch`] when the vectors have another width than the model's, [`ModelError::Unknown`] for labels
    /// that a method with a closed vocabulary was not trained on.
    pub fn scorer(&self, labels: &LabelVectors, device: &Device) -> Result<Scorer<'_>, ModelError> {
        if labels.dim() != self.card.dims.label_width {
            return Err(ModelError::Mismatch {
                what: "the label vectors",
                found: format!("{} wide", labels.dim()),
                expected: format!("{} wide", self.card.dims.label_width),
                remedy: "give the vector file the model was trained with",
            });
        }
        let Dims {
            labels: seen,
            unseen,
            ..
        } = self.card.dims;
        let columns = match self.card.method.vocabulary() {
            Vocabulary::Open => (0..labels.len()).collect(),
            Vocabulary::Seen => self.columns(labels.names(), seen)?,
            Vocabulary::Closed => self.columns(labels.names(), seen + unseen)?,
        };
        Ok(Scorer::new(
            &self.card.method,
            &self.weights,
            self.card.dims,
            Arc::new(labels.unit()),
            columns,
            device,
        ))
    }

    /// SHA-256, in hexadecimal, of what decides its scores: the method, the backbone and the weights. Calibration does not
    /// change it.
    pub fn identity(&self) -> String {
        let Card {
            method,
            dims,
            backbone,
            ..
        } = &self.card;
        let mut bytes = serde_json::json!([method, dims, backbone])
            .to_string()
            .into_bytes();
        for (spec, values) in self.weights.to_host() {
            bytes.extend(spec.name.as_bytes());
            bytes.extend_from_slice(bytemuck::cast_slice(&values));
        }
        files::sha256(&bytes)
    }

    /// Vectors of the labels that it ranks where nobody asks for others: those it was measured with, or those of its training
    /// where it knows no others.
    pub fn own_labels(&self) -> LabelVectors {
        match self.card.method.vocabulary() {
            Vocabulary::Open | Vocabulary::Closed => self.vectors.clone(),
            Vocabulary::Seen => self.vectors.first(self.card.seen),
        }
    }

    /// The number of each of these labels among the model's first `known` ones, which are all that its method knows.
    fn columns(&self, names: &[String], known: usize) -> Result<Arc<[usize]>, ModelError> {
        let known = &self.card.labels[..known.min(self.card.labels.len())];
        let column = |name: &String| {
            let found = known.iter().position(|label| label == name);
            found.ok_or_else(|| ModelError::Unknown {
                method: self.card.method.name(),
                label: name.clone(),
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
        let mine = &self.card.backbone;
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

/// A label with its score for an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// The label.
    pub name: String,
    /// Its score: only its order among the labels of an image means something.
    pub score: f32,
    /// Whether the model was trained on it.
    pub seen: bool,
    /// How probable it is, where the model is calibrated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
    /// Whether it is probable enough to be kept, where the model is calibrated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<bool>,
}

/// The semantic vectors of some images.
#[derive(Debug, Clone, PartialEq)]
pub struct SemanticVectors {
    /// M, vectors of an image.
    pub groups: usize,
    /// `[images, M, d_w]`, row-major.
    pub values: Vec<f32>,
}

/// Ranks a fixed list of labels for images: by their probability where the model is calibrated, otherwise by their score.
pub struct Ranker<'a> {
    labels: LabelVectors,
    seen: Vec<bool>,
    judges: Option<Vec<Judge>>,
    scorer: Scorer<'a>,
}

impl<'a> Ranker<'a> {
    /// One for these labels of a model.
    ///
    /// # Errors
    /// As [`Model::scorer`].
    pub fn new(
        model: &'a Model,
        labels: LabelVectors,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let calibration = model.card.calibration.as_ref();
        let scorer = match calibration {
            // Behind them the model's own labels, over whose scores those of an image are standardised.
            Some(_) => match labels.followed_by(&model.own_labels()) {
                Ok(both) => model.scorer(&both, device)?,
                // Of another width: the scorer's error says which is needed.
                Err(_) => model.scorer(&labels, device)?,
            },
            None => model.scorer(&labels, device)?,
        };
        let known: HashSet<&String> = model.card.labels[..model.card.seen].iter().collect();
        let seen: Vec<bool> = labels.names().iter().map(|n| known.contains(n)).collect();
        let judges = calibration.map(|calibration| {
            let both = labels.names().iter().zip(&seen);
            both.map(|(name, &seen)| calibration.judge(name, seen))
                .collect()
        });
        Ok(Self {
            labels,
            seen,
            judges,
            scorer,
        })
    }

    /// The labels, with their vectors.
    pub fn labels(&self) -> &LabelVectors {
        &self.labels
    }

    /// All labels of each image, best first; equal ones keep their order. Tokens `[images, N, D]` and global vectors
    /// `[images, Dims::global_width()]` are row-major.
    pub fn rank(&self, images: usize, tokens: Vec<f32>, global: Vec<f32>) -> Vec<Vec<Ranked>> {
        let scores = self.scorer.score(images, tokens, global);
        let rows = scores.chunks_exact(self.scorer.count);
        rows.map(|row| self.ranked(row)).collect()
    }

    /// The same, and the images' semantic vectors where the method scores by these.
    pub fn rank_and_keep(
        &self,
        images: usize,
        tokens: Vec<f32>,
        global: Vec<f32>,
    ) -> (Vec<Vec<Ranked>>, Option<SemanticVectors>) {
        let Scorer {
            method,
            weights,
            labels,
            dims,
            count,
        } = &self.scorer;
        let batch = labels.batch(dims, images, tokens, global, Targets::default());
        let vectors = method.semantic_vectors(weights, &batch);
        let scores = match &vectors {
            Some(vectors) => best_match(vectors.clone(), &batch.label_vectors),
            None => method.scores(weights, &batch),
        };
        let scores = crate::device::host(&scores);
        let rows = scores.chunks_exact(*count);
        let ranked = rows.map(|row| self.ranked(row)).collect();
        let vectors = vectors.map(|vectors| SemanticVectors {
            groups: vectors.dims()[1],
            values: crate::device::host(&vectors),
        });
        (ranked, vectors)
    }

    /// The same of stored images.
    pub fn rank_rows(&self, store: &TokenStore, rows: &[usize]) -> Vec<Vec<Ranked>> {
        let parts = rows.chunks(SCORE_BATCH);
        let ranked = parts.map(|part| {
            let (tokens, global) = read(store, part);
            self.rank(part.len(), tokens, global)
        });
        ranked.flatten().collect()
    }

    /// Where the method looked in one image to score one of the labels, as [`Scorer::maps`].
    pub fn maps(&self, tokens: Vec<f32>, global: Vec<f32>, label: usize) -> Vec<LabelMap> {
        self.scorer.maps(tokens, global, label)
    }

    fn ranked(&self, scores: &[f32]) -> Vec<Ranked> {
        let (asked, own) = scores.split_at(self.labels.len());
        let judged = self.judges.as_ref().map(|judges| {
            let standard = Standard::of(own);
            let judged = judges.iter().zip(asked).map(|(judge, &score)| {
                let probability = judge.probability(standard.score(score));
                (probability as f32, judge.keeps(probability))
            });
            judged.collect::<Vec<_>>()
        });
        let mut order: Vec<usize> = (0..asked.len()).collect();
        order.sort_by(|&a, &b| match &judged {
            Some(judged) => judged[b].0.total_cmp(&judged[a].0),
            None => asked[b].total_cmp(&asked[a]),
        });
        let ranked = order.into_iter().map(|label| Ranked {
            name: self.labels.names()[label].clone(),
            score: asked[label],
            seen: self.seen[label],
            probability: judged.as_ref().map(|judged| judged[label].0),
            kept: judged.as_ref().map(|judged| judged[label].1),
        });
        ranked.collect()
    }
}

/// Standardised scores z of labels, row-major `[images, labels]`, for [`calibration`]: raw ones of the labels, then those of the
/// model's own labels behind them, in each of the rows.
pub(crate) fn standardised(scores: &[f32], labels: usize, own: usize) -> Vec<f32> {
    let rows = scores.chunks_exact(labels + own);
    let rows = rows.flat_map(|row| {
        let (asked, own) = row.split_at(labels);
        let standard = Standard::of(own);
        asked.iter().map(move |&score| standard.score(score) as f32)
    });
    rows.collect()
}

/// Mean and standard deviation of an image's scores of the model's own labels.
#[derive(Clone, Copy)]
struct Standard {
    mean: f64,
    deviation: f64,
}

impl Standard {
    fn of(scores: &[f32]) -> Self {
        let count = scores.len() as f64;
        let mean = scores.iter().map(|&s| f64::from(s)).sum::<f64>() / count;
        let squares = scores.iter().map(|&s| (f64::from(s) - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        Self { mean, deviation }
    }

    /// 0 where all scores are equal.
    fn score(self, score: f32) -> f64 {
        match self.deviation > 0.0 {
            true => (f64::from(score) - self.mean) / self.deviation,
            false => 0.0,
        }
    }
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
            let (tokens, global) = read(store, part);
            scores.extend(self.score(part.len(), tokens, global));
            progress(scores.len() / self.count.max(1));
        }
        scores
    }

    /// Where the method looked in one image to score one of the labels, from the image's tokens `[N, D]` and global vector;
    /// nothing where it does not look at places.
    pub fn maps(&self, tokens: Vec<f32>, global: Vec<f32>, label: usize) -> Vec<LabelMap> {
        let batch = self
            .labels
            .batch(&self.dims, 1, tokens, global, Targets::default());
        self.method.maps(self.weights, &batch, label)
    }

    /// Scores `[images, C]` of tokens `[images, N, D]` and global vectors `[images, Dims::global_width()]`, all row-major.
    pub fn score(&self, images: usize, tokens: Vec<f32>, global: Vec<f32>) -> Vec<f32> {
        let batch = self
            .labels
            .batch(&self.dims, images, tokens, global, Targets::default());
        crate::device::host(&self.method.scores(self.weights, &batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Ridge;
    use epsilon_vision::image::{Fit, Preprocess};

    fn model() -> Model {
        let dims = Dims {
            tokens: 1,
            width: 2,
            label_width: 3,
            labels: 1,
            unseen: 1,
            global: None,
        };
        let method = Kind::Ridge(Ridge::default());
        let specs = method.specs(&dims).unwrap();
        let values = [
            (
                "ridge.weight".to_string(),
                vec![1.0, 0.0, 0.0, 0.0, 2.0, 0.0],
            ),
            ("ridge.bias".to_string(), vec![0.0, 0.0, 0.5]),
        ];
        let weights = Weights::from_values(specs, values.into(), &Device::flex()).unwrap();
        let vectors = vec![2.0, 0.0, 0.0, 0.0, 3.0, 0.0];
        let names: Vec<String> = ["x", "y"].map(String::from).to_vec();
        let preprocess = Preprocess {
            size: 8,
            fit: Fit::Squash,
            filter: epsilon_vision::image::Filter::Bicubic,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        let backbone = BackboneInfo {
            name: "tiny".into(),
            weights_sha256: "ab".repeat(32),
            preprocess,
            tokens: 1,
            dim: 2,
            grid: (1, 1),
            global: None,
            projected: false,
            precision: Default::default(),
        };
        let recipe = serde_json::json!({"note": 1});
        let card = Card::new(
            method,
            dims,
            names.clone(),
            1,
            backbone,
            "tiny.safetensors".into(),
            recipe,
            "epsilon".into(),
            7,
        );
        Model {
            card,
            vectors: LabelVectors::new(names, 3, vectors).unwrap(),
            weights,
        }
    }

    #[test]
    fn a_model_round_trips_and_scores_labels_it_never_saw() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        model().save(&path).unwrap();
        let device = Device::flex();
        let read = Model::load(&path, &device).unwrap();
        assert_eq!(read.card, model().card);
        let new = LabelVectors::new(vec!["z".into()], 3, vec![0.0, 0.0, 4.0]).unwrap();
        let scorer = read.scorer(&new, &device).unwrap();
        assert_eq!(scorer.score(1, vec![0.0, 0.0], vec![1.0, 1.0]), vec![0.5]);
        let own = read.scorer(&read.vectors, &device).unwrap();
        assert_eq!(own.score(1, vec![0.0, 0.0], vec![1.0, 1.0]), vec![1.0, 2.0]);
        let wide = LabelVectors::new(vec!["z".into()], 2, vec![1.0, 0.0]).unwrap();
        assert!(read.scorer(&wide, &device).is_err());
    }

    #[test]
    fn damaged_files_are_errors_that_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        model().save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 7, 40, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let error = Model::load(&path, &Device::flex())
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains("model.safetensors"), "{error}");
        }
    }
}
