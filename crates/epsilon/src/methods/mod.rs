//! Methods: from tokens and label vectors to scores. A method knows no data set, no backbone and no file.
//!
//! A new method is one file here (with its `mod` line) and one line in the table at the end of this file.

pub mod anchor;
mod biam;
mod bilinear_attention;
mod cholesky;
mod class_words;
mod classifier;
mod clip;
mod clip_projection;
mod clip_zero_shot;
mod clusters;
mod cnn_rnn;
mod conse;
pub mod epsilon;
mod fast0tag;
mod gen_mlzsl;
mod input;
mod label_em;
mod layers;
mod learnt_labels;
mod lesa;
mod logistic;
mod ml2p;
mod perceptron;
mod random;
mod ridge;
mod sdl;
pub mod varied;
mod warp;
mod wsabie;

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Deref};

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use classifier::Classifier;
pub use gen_mlzsl::Fusion;
pub use input::Input;

use crate::batch::{Batch, Dims, Targets};
use crate::fields::fields;
use crate::fused::scores::best_match;
use crate::loss::{self, Negatives, ScoreLoss};
use crate::optimiser::Learner;
use crate::parameters::{Spec, WeightError, Weights};
use crate::ranks::Ranks;
use epsilon_data::labels::LabelVectors;

/// What can go wrong in a method.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
    /// A setting out of its range, or one that does not fit the tokens.
    #[error("method setting {0}")]
    Setting(String),
    /// Weights that do not fit the method.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The method of a network that others have trained.
    #[error(
        "its weights come with a classifier and are not trained: give the classifier's weights in place of a model (`epsilon eval \
         WEIGHTS --data RECIPE --vectors FILE`)"
    )]
    NotTrained,
    /// A closed-form solution that does not exist for these features.
    #[error("ridge: {0}")]
    Ridge(String),
    /// The caller has broken off.
    #[error("the closed-form solution was stopped: the same call begins it anew")]
    Stopped,
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
            total: pairs.scalar * mean,
            kept: Vec::new(),
        }
    }

    /// The sampled ranking loss [`loss::warp`] of some of a batch's `images`.
    fn sampled(scores: Tensor<2>, batch: &Batch, negatives: Negatives, images: usize) -> Self {
        let pairs = loss::warp(scores, &batch.targets, negatives, batch.draws);
        Self::ranking(pairs, images)
    }

    /// That of a ranking loss and a regularisation `[1]`, both summed over some of a batch's `images`.
    pub fn regularised(pairs: ScoreLoss, regularisation: Tensor<1>, images: usize) -> Self {
        let mean = 1.0 / images as f64;
        let value: f32 = regularisation.clone().inner().into_scalar();
        Self {
            ranking: pairs.value * mean,
            regularisation: f64::from(value) * mean,
            total: (pairs.scalar + regularisation) * mean,
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
    pub(crate) fn new(
        what: &'static str,
        group: Option<usize>,
        mut values: Vec<f32>,
    ) -> Option<Self> {
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

/// A method as a model uses it: its weights' names, and scores from them.
pub trait Method: Send + Sync {
    /// Which labels it can score.
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Open
    }

    /// Whether anything depends on the vectors of the labels, and not on their number alone.
    fn reads_label_vectors(&self) -> bool {
        true
    }

    /// Names, shapes and starts of its weights.
    ///
    /// # Errors
    /// [`MethodError::Setting`] when a setting is out of range or does not fit the sizes.
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError>;

    /// Scores `[B, C]` of the labels of [`Batch::label_vectors`], or of [`Batch::columns`] where the vocabulary is not open.
    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2>;

    /// Semantic vectors `[B, M, d_w]` of the images, where a label's score is its best match among them, `max_m S_m . v_c`: all
    /// that has to be kept of an image to score any label. `None` where the method scores otherwise.
    fn semantic_vectors(&self, _: &Weights, _: &Batch) -> Option<Tensor<3>> {
        None
    }

    /// Vectors `[C, d]` of labels (`[C, d_w]`, of unit length) that lie where the semantic vectors do.
    fn queries(&self, _: &Weights, labels: &Tensor<2>) -> Tensor<2> {
        labels.clone()
    }

    /// Scores `[B, C]` of semantic vectors `[B, M, d]` and labels `[C, d_w]`, as [`Method::scores`] has them.
    fn match_scores(&self, _: &Weights, vectors: Tensor<3>, labels: &Tensor<2>) -> Tensor<2> {
        best_match(vectors, labels)
    }

    /// The score of a label whose query matches an image's semantic vectors that well at best: [`Method::match_scores`] of one.
    fn score_of_match(&self, best: f32) -> f32 {
        best
    }

    /// Global vectors `[n, Dims::global_width()]` of images that no camera made, each of one thing alone, from the weights or the
    /// model's own labels (unit length): what a label scores on them tells how high it scores on anything. `None` for a method
    /// that has no such images; a trained one is calibrated on photographs.
    fn prototypes(&self, _: &Weights, _labels: &LabelVectors) -> Option<Vec<f32>> {
        None
    }

    /// Where it attended in the one image of a batch to score one of the batch's labels; empty where it does not attend to
    /// places.
    fn maps(&self, _: &Weights, _: &Batch, _label: usize) -> Vec<LabelMap> {
        Vec::new()
    }
}

/// A method whose weights are trained by gradient descent.
pub trait GradientMethod: Method {
    /// First values, by name, of weights that are not drawn but follow from the labels that are trained on, such as the
    /// centres of clusters of them.
    fn first_values(&self, _: &Dims, _: &TrainedLabels<'_>) -> BTreeMap<String, Vec<f32>> {
        BTreeMap::new()
    }

    /// The loss of a batch (every image of which has a positive), summed and divided by `images`, so that the losses
    /// and gradients of the parts of a batch of `images` add up to the batch's mean.
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss;

    /// Whether the loss is one of the method's own scores, so that others can be trained along with them
    /// ([`Targets::ranked_with`]).
    fn ranks_its_scores(&self) -> bool {
        true
    }

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
}

/// All training images at once, for a method that does not take them by mini-batches of the training.
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
    /// Who solve together: these are the images of one of them.
    pub ranks: &'a dyn Ranks,
}

/// A method whose weights are solved for in one go from all global vectors.
pub trait SolvedMethod: Method {
    /// Solves for the weights. `ask` is called again and again meanwhile, and can break off.
    ///
    /// # Errors
    /// A [`MethodError`] when no solution exists; [`MethodError::Stopped`].
    fn solve(
        &self,
        dims: &Dims,
        whole: &Whole<'_>,
        device: &Device,
        ask: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Weights, MethodError>;
}

/// A method that trains several networks in turn, by steps of its own.
pub trait StagedMethod: Method {
    /// The training before its first step.
    ///
    /// # Errors
    /// As [`Method::specs`].
    fn stages<'a>(
        &'a self,
        dims: &Dims,
        whole: &'a Whole<'a>,
        device: &Device,
    ) -> Result<Box<dyn Stages + 'a>, MethodError>;
}

/// The training of a [`StagedMethod`]. What a step does follows from its place, the seed and the learners, so that a training
/// that is resumed goes on as an unbroken one.
pub trait Stages {
    /// Steps of every epoch, all stages one after the other.
    fn steps(&self) -> Vec<usize>;

    /// The learners before the first step.
    fn learners(&self) -> Vec<Learner>;

    /// A step of an epoch, both counted from 0.
    fn step(&mut self, learners: &mut [Learner], epoch: usize, step: usize) -> Staged;

    /// The method's weights from the learners after the last step.
    ///
    /// # Errors
    /// [`MethodError::Weights`].
    fn weights(&self, learners: &[Learner]) -> Result<Weights, MethodError>;
}

/// What a step of a [`StagedMethod`] reports.
pub struct Staged {
    /// Images of the step.
    pub images: usize,
    /// Their mean loss before it.
    pub loss: f64,
    /// Its learning rate.
    pub learning_rate: f64,
}

/// The ways a method comes to its weights.
pub enum Fitting<'a> {
    /// By gradient descent.
    Gradient(&'a dyn GradientMethod),
    /// By steps of its own over several networks.
    Staged(&'a dyn StagedMethod),
    /// In one go.
    Solved(&'a dyn SolvedMethod),
    /// Not at all: they come with a network that others have trained.
    Given,
}

/// The most passes over the images that a setting may ask for: far more than any training has, and few enough that all their steps
/// can be counted.
pub(crate) const MOST_EPOCHS: usize = 1_000_000;

/// The table of methods: name in recipes and model files, settings, and the trait that says how it is fitted.
macro_rules! methods {
    (@fitting Given, $method:ident) => {{
        let _ = $method;
        Fitting::Given
    }};
    (@fitting $fitting:ident, $method:ident) => { Fitting::$fitting($method) };
    ($($name:literal => $file:ident::$method:ident, $fitting:ident;)*) => {
        $(pub use self::$file::$method;)*

        /// Every method by its name in recipes and model files, with its settings; it is used as the [`Method`] it holds.
        ///
        /// ```
        /// use epsilon::methods::{Kind, Vocabulary};
        ///
        /// let method: Kind = serde_json::from_str(r#"{ "kind": "ridge", "penalty": 0.5 }"#)?;
        /// assert_eq!(method.name(), "ridge");
        /// assert_eq!(method.vocabulary(), Vocabulary::Open);
        /// assert!(serde_json::from_str::<Kind>(r#"{ "kind": "ridge", "penalties": 1 }"#).is_err());
        /// # Ok::<(), serde_json::Error>(())
        /// ```
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Kind {
            $(
                #[doc = concat!("`", $name, "`, [`", stringify!($method), "`].")]
                #[serde(rename = $name)]
                $method($method),
            )*
        }

        impl Kind {
            /// The name of every method.
            pub const NAMES: [&'static str; [$($name),*].len()] = [$($name),*];

            /// The names of a method's settings in recipes; `None` where there is no method of this name.
            pub fn fields(name: &str) -> Option<&'static [&'static str]> {
                match name {
                    $($name => Some(fields::<$method>()),)*
                    _ => None,
                }
            }

            /// The name in recipes and tables.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Kind::$method(_) => $name,)*
                }
            }

            /// How the method is fitted.
            pub fn fitting(&self) -> Fitting<'_> {
                match self {
                    $(Kind::$method(method) => methods!(@fitting $fitting, method),)*
                }
            }
        }

        impl Deref for Kind {
            type Target = dyn Method;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Kind::$method(method) => method,)*
                }
            }
        }
    };
}

methods! {
    "epsilon" => epsilon::Epsilon, Gradient;
    "ridge" => ridge::Ridge, Solved;
    "random" => random::Random, Solved;
    "fast0tag" => fast0tag::Fast0Tag, Gradient;
    "sdl" => sdl::Sdl, Gradient;
    "ml2p-encoder" => ml2p::Ml2pEncoder, Gradient;
    "conse" => conse::Conse, Gradient;
    "label-em" => label_em::LabelEm, Gradient;
    "bilinear-attention" => bilinear_attention::BilinearAttention, Gradient;
    "lesa-per-cluster" => lesa::LesaPerCluster, Gradient;
    "lesa" => lesa::Lesa, Gradient;
    "biam" => biam::Biam, Gradient;
    "clip-zero-shot" => clip_zero_shot::ClipZeroShot, Solved;
    "class-words" => class_words::ClassWords, Given;
    "clip-projection" => clip_projection::ClipProjection, Gradient;
    "gen-mlzsl" => gen_mlzsl::GenMlzsl, Staged;
    "logistic" => logistic::Logistic, Gradient;
    "warp" => warp::Warp, Gradient;
    "wsabie" => wsabie::Wsabie, Gradient;
    "cnn-rnn" => cnn_rnn::CnnRnn, Gradient;
    "learnt-labels" => learnt_labels::LearntLabels, Gradient;
}
