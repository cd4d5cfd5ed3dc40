//! Labels of an image, best first, with probabilities where the model is calibrated.

use std::collections::HashSet;
use std::ops::Deref;

use burn::tensor::Device;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::scorer::SCORE_BATCH;
use super::{Card, Model, ModelError, Scorer, SemanticVectors};
use crate::calibration::LabelCalibration;
use crate::methods::LabelMap;
use epsilon_data::labels::LabelVectors;
use epsilon_metrics::Standard;
use epsilon_vision::image::Flaw;
use epsilon_vision::tokens::{TokenSource, TokenStore};

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

/// The labels of one image, best first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Ranking {
    labels: Vec<Ranked>,
    /// What was wrong with the photograph's file, though all of its picture could be read.
    #[serde(skip)]
    pub flaw: Option<Flaw>,
}

impl Ranking {
    fn new(labels: Vec<Ranked>) -> Self {
        Self { labels, flaw: None }
    }

    /// The best labels, at most `count`.
    pub fn top(&self, count: usize) -> &[Ranked] {
        &self.labels[..count.min(self.labels.len())]
    }

    /// How unsure the model is of the image's labels: the sum over all labels that were ranked of the binary entropy of their
    /// probabilities, `-p log2 p - (1 - p) log2 (1 - p)`, in bits. None where the model is not calibrated, or nothing was ranked.
    pub fn doubt(&self) -> Option<f32> {
        let bits = self
            .labels
            .iter()
            .map(|label| label.probability.map(entropy));
        let sum: Option<f64> = bits.sum();
        sum.filter(|_| !self.labels.is_empty())
            .map(|sum| sum as f32)
    }

    /// The labels that a choice keeps, in their order.
    pub fn keep(self, keep: &Keep) -> Vec<Ranked> {
        keep.of(self.labels)
    }
}

/// The binary entropy of a probability, in bits.
fn entropy(probability: f32) -> f64 {
    let of = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    let p = f64::from(probability);
    of(p) + of(1.0 - p)
}

impl Deref for Ranking {
    type Target = [Ranked];

    fn deref(&self) -> &[Ranked] {
        &self.labels
    }
}

impl IntoIterator for Ranking {
    type Item = Ranked;
    type IntoIter = std::vec::IntoIter<Ranked>;

    fn into_iter(self) -> Self::IntoIter {
        self.labels.into_iter()
    }
}

/// A choice of labels to keep that a model cannot make.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// At most no label.
    #[error("the best 0 labels: keep at least 1")]
    Nothing,
    /// No probability.
    #[error("a threshold of {0}: give a probability from 0 to 1")]
    Probability(f32),
    /// A probability, of a model that is not calibrated.
    #[error(
        "a threshold needs probabilities, and the model is not calibrated: calibrate it, or keep the best labels by their number"
    )]
    NoProbabilities,
    /// Neither probability nor number is said, and the model has no thresholds.
    #[error(
        "which labels to keep? The model has no thresholds: calibrate it, or keep the best labels by their number"
    )]
    NoThresholds,
}

/// Which labels of an image are kept.
///
/// ```
/// use epsilon::model::{Keep, Ranked};
///
/// let label = |name: &str, probability| Ranked {
///     name: name.into(),
///     score: 0.0,
///     seen: true,
///     probability: Some(probability),
///     kept: None,
/// };
/// let ranked = vec![label("sky", 0.9), label("sea", 0.6), label("dog", 0.1)];
/// let names = |keep: Keep| -> Vec<String> {
///     keep.of(ranked.clone()).into_iter().map(|label| label.name).collect()
/// };
/// assert_eq!(names(Keep::best(2)), ["sky", "sea"]);
/// assert_eq!(names(Keep::probability(0.7)), ["sky"]);
/// assert_eq!(names(Keep::probability(0.1).at_most(2)), ["sky", "sea"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Keep {
    /// At most so many.
    top: Option<usize>,
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum By {
    /// All, up to their number.
    Rank,
    /// Those of at least this probability.
    Probability(f32),
    /// Those above the model's thresholds.
    Model,
}

impl Keep {
    /// What is chosen for a model: the labels of at least a probability, the `top` best, or at most `top` of the former; the model's
    /// thresholds where neither is said.
    ///
    /// ```
    /// # mod drawn { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/drawn.rs")); }
    /// use epsilon::model::{Keep, KeepError, Model};
    ///
    /// let folder = drawn::drawn_model("ridge")?;
    /// let path = folder.path().join("model.safetensors");
    /// let model = Model::load(&path, &epsilon::device::device("cpu")?)?;
    /// assert_eq!(Keep::chosen(model.card(), None, Some(3)), Ok(Keep::best(3)));
    /// // It is not calibrated.
    /// assert_eq!(Keep::chosen(model.card(), None, None), Err(KeepError::NoThresholds));
    /// assert_eq!(Keep::chosen(model.card(), Some(0.5), Some(3)), Err(KeepError::NoProbabilities));
    /// assert_eq!(Keep::chosen(model.card(), Some(1.5), None), Err(KeepError::Probability(1.5)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`KeepError`].
    pub fn chosen(
        card: &Card,
        probability: Option<f32>,
        top: Option<usize>,
    ) -> Result<Self, KeepError> {
        let calibrated = card.has_probabilities();
        Ok(match (probability, top) {
            (_, Some(0)) => return Err(KeepError::Nothing),
            (Some(p), _) if !(0.0..=1.0).contains(&p) => return Err(KeepError::Probability(p)),
            (Some(_), _) if !calibrated => return Err(KeepError::NoProbabilities),
            (Some(p), Some(top)) => Self::probability(p).at_most(top),
            (Some(p), None) => Self::probability(p),
            (None, Some(top)) => Self::best(top),
            (None, None) if calibrated => Self::thresholds(),
            (None, None) => return Err(KeepError::NoThresholds),
        })
    }

    /// The best `count` labels.
    pub fn best(count: usize) -> Self {
        Self {
            top: Some(count),
            by: By::Rank,
        }
    }

    /// The labels of at least this probability; none of a model that is not calibrated.
    pub fn probability(least: f32) -> Self {
        Self {
            top: None,
            by: By::Probability(least),
        }
    }

    /// The labels above the thresholds in the model; none of a model that is not calibrated.
    pub fn thresholds() -> Self {
        Self {
            top: None,
            by: By::Model,
        }
    }

    /// At most `count` of them.
    #[must_use]
    pub fn at_most(self, count: usize) -> Self {
        let top = Some(count);
        Self { top, ..self }
    }

    /// Whether it needs probabilities, which only a calibrated model has.
    pub fn needs_calibration(&self) -> bool {
        self.by != By::Rank
    }

    /// Those labels of an image that are kept, in their order.
    pub fn of(&self, ranked: Vec<Ranked>) -> Vec<Ranked> {
        let kept = ranked.into_iter().filter(|label| match self.by {
            By::Rank => true,
            By::Probability(least) => label.probability.is_some_and(|p| p >= least),
            By::Model => label.kept == Some(true),
        });
        kept.take(self.top.unwrap_or(usize::MAX)).collect()
    }
}

/// Ranks a fixed list of labels for images: by their probability where the model is calibrated, otherwise by their score.
pub struct Ranker {
    labels: LabelVectors,
    seen: Vec<bool>,
    /// Whether the scores of an image are standardised before they are judged.
    standardised: bool,
    calibrated: Option<Vec<LabelCalibration>>,
    scorer: Scorer,
}

impl Ranker {
    /// One for these labels of a model.
    ///
    /// # Errors
    /// As [`Model::scorer`].
    pub fn new(model: &Model, labels: LabelVectors, device: &Device) -> Result<Self, ModelError> {
        let card = model.card();
        let standardised = card.calibration().is_some()
            || card.preset().is_some_and(|preset| preset.is_standardised());
        let scorer = match standardised {
            // Behind them the model's own labels, over whose scores those of an image are standardised.
            true => match labels.followed_by(&model.own_labels()) {
                Ok(both) => model.scorer(&both, device)?,
                // Of another width: the scorer's error says which is needed.
                Err(_) => model.scorer(&labels, device)?,
            },
            false => model.scorer(&labels, device)?,
        };
        let known: HashSet<&String> = card.seen_labels().iter().collect();
        let seen: Vec<bool> = labels.names().iter().map(|n| known.contains(n)).collect();
        let mut ranker = Self {
            labels,
            seen,
            standardised,
            calibrated: None,
            scorer,
        };
        ranker.calibrated = ranker.judges(model);
        Ok(ranker)
    }

    /// How each label is judged, where the model has probabilities.
    fn judges(&self, model: &Model) -> Option<Vec<LabelCalibration>> {
        if let Some(calibration) = model.card().calibration() {
            return Some(calibration.judges(self.labels.names(), &self.seen));
        }
        let preset = model.card().preset()?;
        let scores = match preset.is_standardised() {
            true => self.on_prototypes(model)?,
            false => Vec::new(),
        };
        let columns = (0..self.labels.len()).map(|label| {
            let column = scores.iter().skip(label).step_by(self.labels.len().max(1));
            column.map(|&score| f64::from(score)).collect::<Vec<f64>>()
        });
        Some(columns.map(|column| preset.judge(&column)).collect())
    }

    /// Standardised scores `[prototypes, labels]` of the method's prototypes.
    fn on_prototypes(&self, model: &Model) -> Option<Vec<f32>> {
        let own = model.own_labels().unit();
        let method = model.card().method();
        let global = method.prototypes(model.weights(), &own)?;
        let scores = self.scorer.score_global(global);
        Some(standardised(&scores, self.labels.len(), own.len()))
    }

    /// The labels, with their vectors.
    pub fn labels(&self) -> &LabelVectors {
        &self.labels
    }

    /// All labels of each image, best first; equal ones keep their order. Tokens `[images, N, D]` and global vectors
    /// `[images, Dims::global_width()]` are row-major. No image has no ranking.
    ///
    /// Each is scored by itself: products of several images at once are summed in another order, and what an image scores must not
    /// depend on how many were at hand.
    pub fn rank(&self, images: usize, tokens: Vec<f32>, global: Vec<f32>) -> Vec<Ranking> {
        let scores = each(images, &tokens, &global, |tokens, global| {
            self.scorer.score(1, tokens, global)
        });
        self.rankings(&scores.concat())
    }

    /// As [`Ranker::rank`], and the images' semantic vectors where the method scores by these.
    pub fn rank_with_vectors(
        &self,
        images: usize,
        tokens: Vec<f32>,
        global: Vec<f32>,
    ) -> (Vec<Ranking>, Option<SemanticVectors>) {
        let scored = each(images, &tokens, &global, |tokens, global| {
            self.scorer.score_with_vectors(1, tokens, global)
        });
        let (scores, vectors): (Vec<_>, Vec<_>) = scored.into_iter().unzip();
        let vectors = vectors.into_iter().collect::<Option<Vec<_>>>();
        let joined = vectors.and_then(|all| all.into_iter().reduce(SemanticVectors::followed_by));
        (self.rankings(&scores.concat()), joined)
    }

    /// As [`Ranker::rank`], of stored images.
    pub fn rank_rows(&self, store: &TokenStore, rows: &[usize]) -> Vec<Ranking> {
        let parts = rows.chunks(SCORE_BATCH);
        let ranked = parts.map(|part| {
            let (tokens, global) = store.read_rows(part);
            self.rank(part.len(), tokens, global)
        });
        ranked.flatten().collect()
    }

    /// Raw scores of one of the labels for each image.
    pub(crate) fn scores_of(
        &self,
        images: usize,
        tokens: Vec<f32>,
        global: Vec<f32>,
        label: usize,
    ) -> Vec<f32> {
        let scores = self.scorer.score(images, tokens, global);
        let labels = self.scorer.labels();
        scores.into_iter().skip(label).step_by(labels).collect()
    }

    /// Heat maps of one of the labels for one image, as [`Scorer::maps`].
    pub fn maps(&self, tokens: Vec<f32>, global: Vec<f32>, label: usize) -> Vec<LabelMap> {
        self.scorer.maps(tokens, global, label)
    }

    fn rankings(&self, scores: &[f32]) -> Vec<Ranking> {
        let rows = scores.chunks_exact(self.scorer.labels());
        rows.map(|row| Ranking::new(self.ranked(row))).collect()
    }

    fn ranked(&self, scores: &[f32]) -> Vec<Ranked> {
        let (asked, own) = scores.split_at(self.labels.len());
        let probabilities = self.calibrated.as_ref().map(|calibrated| {
            let standard = self.standardised.then(|| Standard::of(own));
            let pairs = calibrated.iter().zip(asked).map(|(label, &score)| {
                let score = standard.map_or(f64::from(score), |standard| standard.score(score));
                let probability = label.probability(score);
                (probability as f32, label.keeps(probability))
            });
            pairs.collect::<Vec<_>>()
        });
        let mut order: Vec<usize> = (0..asked.len()).collect();
        order.sort_by(|&a, &b| match &probabilities {
            Some(of) => of[b].0.total_cmp(&of[a].0),
            None => asked[b].total_cmp(&asked[a]),
        });
        let ranked = order.into_iter().map(|label| Ranked {
            name: self.labels.names()[label].clone(),
            score: asked[label],
            seen: self.seen[label],
            probability: probabilities.as_ref().map(|of| of[label].0),
            kept: probabilities.as_ref().map(|of| of[label].1),
        });
        ranked.collect()
    }
}

/// What is made of each image's tokens and global vector, on all threads.
fn each<T: Send>(
    images: usize,
    tokens: &[f32],
    global: &[f32],
    make: impl Fn(Vec<f32>, Vec<f32>) -> T + Sync,
) -> Vec<T> {
    let part = |of: &[f32], image: usize| {
        let size = of.len() / images;
        of[image * size..][..size].to_vec()
    };
    let images = (0..images).into_par_iter();
    let made = images.map(|image| make(part(tokens, image), part(global, image)));
    made.collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_is_the_sum_of_the_labels_entropies() {
        let ranking = |probabilities: &[Option<f32>]| {
            let labels = probabilities.iter().map(|&probability| Ranked {
                name: String::new(),
                score: 0.0,
                seen: true,
                probability,
                kept: None,
            });
            Ranking::new(labels.collect())
        };
        let doubt = |of: &[f32]| ranking(&of.iter().map(|p| Some(*p)).collect::<Vec<_>>()).doubt();
        assert_eq!(doubt(&[1.0, 0.5, 0.0]), Some(1.0));
        // -0.25 log2 0.25 - 0.75 log2 0.75 = 0.5 + 0.311278
        let quarters = doubt(&[0.75, 0.25]).unwrap();
        assert!((quarters - 1.622_556).abs() < 1e-5, "{quarters}");
        assert_eq!(ranking(&[None, None]).doubt(), None);
        assert_eq!(ranking(&[]).doubt(), None);
    }
}
