//! Methods: from tokens and label vectors to scores. A method knows no data set, no backbone and no file.
//!
//! A new method is one file here and one line in [`Kind`].

mod biam;
mod bilinear_attention;
mod classifiers;
mod clip;
mod clusters;
mod cnn_rnn;
pub mod epsilon;
mod fast0tag;
mod gen_mlzsl;
mod input;
mod layers;
mod learnt_labels;
mod lesa;
mod linear;
mod ml2p;
mod perceptron;
mod random;
mod ridge;
mod sdl;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use biam::Biam;
pub use bilinear_attention::BilinearAttention;
pub use classifiers::{Logistic, Warp, Wsabie};
pub use clip::{ClipProjection, ClipZeroShot};
pub use cnn_rnn::CnnRnn;
pub use fast0tag::Fast0Tag;
pub use gen_mlzsl::{Fusion, GenMlzsl};
pub use input::Input;
pub use learnt_labels::LearntLabels;
pub use lesa::{Lesa, LesaPerCluster};
pub use linear::{Conse, LabelEm};
pub use ml2p::Ml2pEncoder;
pub use random::Random;
pub use ridge::Ridge;
pub use sdl::Sdl;

use crate::batch::{Batch, Dims, Targets};
use crate::loss::ScoreLoss;
use crate::parameters::{Spec, WeightError, Weights};
use epsilon_data::labels::LabelVectors;

/// What can go wrong in a method.
#[derive(Debug, thiserror::Error)]
pub enum MethodError {
    /// A setting out of its range, or one that does not fit the tokens.
    #[error("method setting {0}")]
    Setting(String),
    /// Weights that do not fit the method.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A closed-form solution that does not exist for these features.
    #[error("ridge: {0}")]
    Ridge(String),
    /// A loss of a method's own training that is not a number any more.
    #[error("the {what}'s loss became {value} in epoch {epoch}: lower `learning-rate` in [method]")]
    Diverged {
        /// Whose loss.
        what: &'static str,
        /// The loss.
        value: f64,
        /// Epoch, from 1.
        epoch: usize,
    },
}

/// Which labels a method can score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vocabulary {
    /// Any, through their vectors.
    Open,
    /// Those it was trained on alone.
    Seen,
    /// Those it was trained on, and the unseen ones whose vectors it had at training. Unseen labels that are asked for alone
    /// may be scored otherwise than among all labels.
    Closed,
}

/// The loss of some images: what is minimised, and its parts as they are reported.
pub struct Loss {
    /// What gradients are taken of. Its value carries rounding; report the parts.
    pub total: Tensor<1>,
    /// The ranking part, all factors included.
    pub ranking: f64,
    /// The regularisation part, its weight included.
    pub regularisation: f64,
    /// New values of weights that no gradient changes, such as running statistics.
    pub kept: Vec<(String, Tensor<1>)>,
}

impl Loss {
    /// That of a ranking loss alone, summed over some of a batch's `images`.
    pub fn ranking(pairs: ScoreLoss, images: usize) -> Self {
        let mean = 1.0 / images as f64;
        Self {
            ranking: pairs.value * mean,
            regularisation: 0.0,
            total: pairs.slope * mean,
            kept: Vec::new(),
        }
    }

    /// That of a ranking loss and a regularisation `[1]`, both summed over some of a batch's `images`.
    pub fn regularised(pairs: ScoreLoss, regularisation: Tensor<1>, images: usize) -> Self {
        let mean = 1.0 / images as f64;
        let value: f32 = regularisation.clone().inner().into_scalar();
        Self {
            ranking: pairs.value * mean,
            regularisation: f64::from(value) * mean,
            total: (pairs.slope + regularisation) * mean,
            kept: Vec::new(),
        }
    }
}

/// The labels that are trained on, as they are known before the first step.
#[derive(Debug, Clone, Copy)]
pub struct TrainedLabels<'a> {
    /// Their vectors, unit length.
    pub vectors: &'a LabelVectors,
    /// Training images that are positive for each.
    pub positives: &'a [usize],
}

/// Where a method looked in one image to score one label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelMap {
    /// What it shows, such as `attention`.
    pub what: &'static str,
    /// Which of the method's groups or attentions, counted from 0, scored the label; `None` where it has but one, or one for
    /// each label.
    pub group: Option<usize>,
    /// Rows and columns of the grid that the values stand on.
    pub grid: [usize; 2],
    /// A share of every place of the grid, row by row; they add up to 1.
    pub values: Vec<f32>,
}

impl LabelMap {
    /// A map of values that are not negative, brought to a sum of 1; `None` where they stand on no square grid, or are all 0.
    fn new(what: &'static str, group: Option<usize>, mut values: Vec<f32>) -> Option<Self> {
        let side = values.len().isqrt();
        let sum: f32 = values.iter().sum();
        if side * side != values.len() || !(sum > 0.0 && sum.is_finite()) {
            return None;
        }
        values.iter_mut().for_each(|value| *value /= sum);
        Some(Self {
            what,
            group,
            grid: [side; 2],
            values,
        })
    }
}

/// A method that is trained by gradient descent on a ranking loss.
pub trait Method: Send + Sync {
    /// Names, shapes and starts of its weights.
    ///
    /// # Errors
    /// [`MethodError::Setting`] when a setting is out of range or does not fit the sizes.
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError>;

    /// First values, by name, of weights that are not drawn but follow from the labels that are trained on, such as the
    /// centres of clusters of them.
    fn first_values(&self, _: &Dims, _: &TrainedLabels<'_>) -> BTreeMap<String, Vec<f32>> {
        BTreeMap::new()
    }

    /// The loss of a batch (every image of which has a positive), summed and divided by `images`, so that the losses
    /// and gradients of the parts of a batch of `images` add up to the batch's mean.
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss;

    /// Whether it can train in bf16 with these settings and sizes.
    fn trains_in_bf16(&self, _: &Dims) -> bool {
        false
    }

    /// Whether the loss must see a batch whole and not in parts, as one with batch statistics must.
    fn needs_whole_batches(&self) -> bool {
        false
    }

    /// Brings the weights back into their bounds after a step, where a method has some.
    fn constrain(&self, _: &mut Weights) {}

    /// Values that one image keeps alive until its backward pass, roughly; a batch is worked through in parts by it.
    fn live_values(&self, dims: &Dims) -> usize;

    /// Scores `[B, C]` of the labels of [`Batch::label_vectors`], or of [`Batch::columns`] with a closed vocabulary.
    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2>;

    /// Semantic vectors `[B, M, d_w]` of the images, where a label's score is its best match among them, `max_m S_m . v_c`: all
    /// that has to be kept of an image to score any label. `None` where the method scores otherwise.
    fn semantic_vectors(&self, _: &Weights, _: &Batch) -> Option<Tensor<3>> {
        None
    }

    /// Where it looked in the one image of a batch to score one of the batch's labels; nothing where it does not look at
    /// places.
    fn maps(&self, _: &Weights, _: &Batch, _label: usize) -> Vec<LabelMap> {
        Vec::new()
    }
}

/// All training images at once, for a method that is solved in one go.
pub struct Whole<'a> {
    /// Global vectors, row-major `[images, Dims::global_width()]`.
    pub global: &'a [f32],
    /// A row for every image.
    pub targets: &'a Targets,
    /// Unit vectors of the seen labels.
    pub labels: &'a LabelVectors,
    /// Unit vectors of the unseen labels.
    pub unseen: &'a LabelVectors,
    /// Seed of what the method draws.
    pub seed: u64,
}

/// A method that is solved in one go from all global vectors.
pub trait ClosedForm: Send + Sync {
    /// Solves for the weights.
    ///
    /// # Errors
    /// A [`MethodError`] when no solution exists.
    fn solve(
        &self,
        dims: &Dims,
        whole: &Whole<'_>,
        device: &Device,
    ) -> Result<Weights, MethodError>;

    /// Names and shapes of its weights.
    ///
    /// # Errors
    /// As [`Method::specs`].
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError>;

    /// Scores `[B, C]`, as [`Method::scores`].
    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2>;

    /// As [`Method::semantic_vectors`].
    fn semantic_vectors(&self, _: &Weights, _: &Batch) -> Option<Tensor<3>> {
        None
    }
}

/// Every method by its name in recipes and model files, with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// [`epsilon::Epsilon`].
    Epsilon(epsilon::Epsilon),
    /// [`Ridge`].
    Ridge(Ridge),
    /// [`Random`].
    Random(Random),
    /// [`Fast0Tag`].
    Fast0tag(Fast0Tag),
    /// [`Sdl`].
    Sdl(Sdl),
    /// [`Ml2pEncoder`].
    Ml2pEncoder(Ml2pEncoder),
    /// [`Conse`].
    Conse(Conse),
    /// [`LabelEm`].
    LabelEm(LabelEm),
    /// [`BilinearAttention`].
    BilinearAttention(BilinearAttention),
    /// [`LesaPerCluster`].
    LesaPerCluster(LesaPerCluster),
    /// [`Lesa`].
    Lesa(Lesa),
    /// [`Biam`].
    Biam(Biam),
    /// [`ClipZeroShot`].
    ClipZeroShot(ClipZeroShot),
    /// [`ClipProjection`].
    ClipProjection(ClipProjection),
    /// [`GenMlzsl`].
    GenMlzsl(GenMlzsl),
    /// [`Logistic`].
    Logistic(Logistic),
    /// [`Warp`].
    Warp(Warp),
    /// [`Wsabie`].
    Wsabie(Wsabie),
    /// [`CnnRnn`].
    CnnRnn(CnnRnn),
    /// [`LearntLabels`].
    LearntLabels(LearntLabels),
}

/// The two ways a method comes to its weights.
pub enum Fit<'a> {
    /// By gradient descent.
    Gradient(&'a dyn Method),
    /// In one go.
    Closed(&'a dyn ClosedForm),
}

impl Kind {
    /// The name of every method.
    pub const NAMES: [&str; 20] = [
        "epsilon",
        "ridge",
        "random",
        "fast0tag",
        "sdl",
        "ml2p-encoder",
        "conse",
        "label-em",
        "bilinear-attention",
        "lesa-per-cluster",
        "lesa",
        "biam",
        "clip-zero-shot",
        "clip-projection",
        "gen-mlzsl",
        "logistic",
        "warp",
        "wsabie",
        "cnn-rnn",
        "learnt-labels",
    ];

    /// How the method is fitted.
    pub fn fit(&self) -> Fit<'_> {
        match self {
            Kind::Epsilon(method) => Fit::Gradient(method),
            Kind::Ridge(method) => Fit::Closed(method),
            Kind::Random(method) => Fit::Closed(method),
            Kind::Fast0tag(method) => Fit::Gradient(method),
            Kind::Sdl(method) => Fit::Gradient(method),
            Kind::Ml2pEncoder(method) => Fit::Gradient(method),
            Kind::Conse(method) => Fit::Gradient(method),
            Kind::LabelEm(method) => Fit::Gradient(method),
            Kind::BilinearAttention(method) => Fit::Gradient(method),
            Kind::LesaPerCluster(method) => Fit::Gradient(method),
            Kind::Lesa(method) => Fit::Gradient(method),
            Kind::Biam(method) => Fit::Gradient(method),
            Kind::ClipZeroShot(method) => Fit::Closed(method),
            Kind::ClipProjection(method) => Fit::Gradient(method),
            Kind::GenMlzsl(method) => Fit::Closed(method),
            Kind::Logistic(method) => Fit::Gradient(method),
            Kind::Warp(method) => Fit::Gradient(method),
            Kind::Wsabie(method) => Fit::Gradient(method),
            Kind::CnnRnn(method) => Fit::Gradient(method),
            Kind::LearntLabels(method) => Fit::Gradient(method),
        }
    }

    /// The name in recipes and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Epsilon(_) => "epsilon",
            Kind::Ridge(_) => "ridge",
            Kind::Random(_) => "random",
            Kind::Fast0tag(_) => "fast0tag",
            Kind::Sdl(_) => "sdl",
            Kind::Ml2pEncoder(_) => "ml2p-encoder",
            Kind::Conse(_) => "conse",
            Kind::LabelEm(_) => "label-em",
            Kind::BilinearAttention(_) => "bilinear-attention",
            Kind::LesaPerCluster(_) => "lesa-per-cluster",
            Kind::Lesa(_) => "lesa",
            Kind::Biam(_) => "biam",
            Kind::ClipZeroShot(_) => "clip-zero-shot",
            Kind::ClipProjection(_) => "clip-projection",
            Kind::GenMlzsl(_) => "gen-mlzsl",
            Kind::Logistic(_) => "logistic",
            Kind::Warp(_) => "warp",
            Kind::Wsabie(_) => "wsabie",
            Kind::CnnRnn(_) => "cnn-rnn",
            Kind::LearntLabels(_) => "learnt-labels",
        }
    }

    /// Which labels it can score.
    pub fn vocabulary(&self) -> Vocabulary {
        match self {
            Kind::Epsilon(_)
            | Kind::Ridge(_)
            | Kind::Random(_)
            | Kind::Fast0tag(_)
            | Kind::Sdl(_)
            | Kind::Ml2pEncoder(_)
            | Kind::Conse(_)
            | Kind::LabelEm(_)
            | Kind::BilinearAttention(_)
            | Kind::LesaPerCluster(_)
            | Kind::Lesa(_)
            | Kind::Biam(_)
            | Kind::ClipZeroShot(_)
            | Kind::ClipProjection(_) => Vocabulary::Open,
            Kind::Logistic(_)
            | Kind::Warp(_)
            | Kind::Wsabie(_)
            | Kind::CnnRnn(_)
            | Kind::LearntLabels(_) => Vocabulary::Seen,
            Kind::GenMlzsl(_) => Vocabulary::Closed,
        }
    }

    /// Names, shapes and starts of the weights.
    ///
    /// # Errors
    /// As [`Method::specs`].
    pub fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        match self.fit() {
            Fit::Gradient(method) => method.specs(dims),
            Fit::Closed(method) => method.specs(dims),
        }
    }

    /// Semantic vectors, as [`Method::semantic_vectors`].
    pub fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        match self.fit() {
            Fit::Gradient(method) => method.semantic_vectors(weights, batch),
            Fit::Closed(method) => method.semantic_vectors(weights, batch),
        }
    }

    /// Where it looked, as [`Method::maps`].
    pub fn maps(&self, weights: &Weights, batch: &Batch, label: usize) -> Vec<LabelMap> {
        match self.fit() {
            Fit::Gradient(method) => method.maps(weights, batch, label),
            Fit::Closed(_) => Vec::new(),
        }
    }

    /// Scores `[B, C]` of a batch.
    pub fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        match self.fit() {
            Fit::Gradient(method) => method.scores(weights, batch),
            Fit::Closed(method) => method.scores(weights, batch),
        }
    }
}
