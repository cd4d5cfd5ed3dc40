//! What a method is given of some images: tokens, global vectors, labels and their vectors, on a device.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use epsilon_data::labels::LabelVectors;

/// Sizes a method is built for.
///
/// ```
/// use epsilon::batch::Dims;
///
/// // A ViT-B/16 at 224 pixels, word vectors of 300 values, 925 labels to train on and 81 unseen ones.
/// let dims = Dims { tokens: 196, width: 768, label_width: 300, labels: 925, unseen: 81, global: None };
/// assert_eq!(dims.global_width(), 768);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dims {
    /// N, patch tokens of an image.
    pub tokens: usize,
    /// D, the tokens' width.
    pub width: usize,
    /// d_w, the label vectors' width.
    pub label_width: usize,
    /// Labels that it is trained on (the seen ones); only methods with weights for each of them ask.
    #[serde(default)]
    pub labels: usize,
    /// Unseen labels known at training; only a method that learns something of each of them asks.
    #[serde(default)]
    pub unseen: usize,
    /// The global vector's width where it is not D.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<usize>,
}

impl Dims {
    /// The global vector's width.
    pub fn global_width(&self) -> usize {
        self.global.unwrap_or(self.width)
    }
}

/// What large products of frozen tokens are computed in while training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingPrecision {
    /// Single precision.
    #[default]
    F32,
    /// bf16 values, f32 sums; weights and their updates stay f32. It needs a CPU with AVX-512's bf16 instructions.
    Bf16,
}

/// Tokens and labels of some images, as a method sees them.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Patch tokens `[B, N, D]`.
    pub tokens: Tensor<3>,
    /// Global vectors `[B, D]`, or [`Dims::global_width`] wide.
    pub global: Tensor<2>,
    /// Vectors `[C, d_w]`, unit length, of the labels to score.
    pub label_vectors: Tensor<2>,
    /// The same on the host.
    pub label_vectors_host: Arc<LabelVectors>,
    /// Labels of the images; empty where only scores are wanted.
    pub targets: Targets,
    /// For a method that knows but the labels of its training ([`Vocabulary::Closed`](crate::methods::Vocabulary::Closed)): the number, among those, of each
    /// label to score.
    pub columns: Arc<[usize]>,
    /// For a method that can choose.
    pub precision: TrainingPrecision,
    /// Where a loss takes its random numbers from.
    pub draws: Draws,
}

/// The random numbers of one training step, or of some of its images: a function of seed, step and image alone, so that a resumed
/// training draws what an unbroken one would have drawn, whatever parts and ranks share a step's images.
///
/// ```
/// use epsilon::batch::Draws;
/// use rand::RngExt;
///
/// let draw = |step| Draws::of(1, step, 0).rng().random::<u64>();
/// assert_eq!(draw(7), draw(7));
/// assert_ne!(draw(7), draw(8));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Draws {
    seed: u64,
    images: Images,
}

/// Which images of a step are drawn for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Images {
    first: usize,
    count: usize,
    /// How many the step has; 0 where those that are drawn for are all.
    of: usize,
}

impl Draws {
    /// Those of all images of a step of a training with this seed, for one of the purposes that a step may draw for.
    pub fn of(seed: u64, step: usize, purpose: usize) -> Self {
        let mix = |state: u64, value: u64| {
            (state ^ value)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(29)
        };
        Self {
            seed: mix(mix(mix(1, seed), step as u64), purpose as u64),
            images: Images::default(),
        }
    }

    /// Those of these images alone, of so many that the step has.
    #[must_use]
    pub fn of_images(self, images: Range<usize>, of: usize) -> Self {
        let images = Images {
            first: images.start,
            count: images.len(),
            of,
        };
        Self { images, ..self }
    }

    /// Others of the same images, for what is drawn beside a loss's own.
    pub(crate) fn apart(self) -> Self {
        Self {
            seed: self.seed.rotate_left(32) ^ 0x5851_F42D_4C95_7F2D,
            ..self
        }
    }

    /// A generator at the first of them. What it gives is the same for all images of the step.
    pub fn rng(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed)
    }

    /// A generator of one image's own draws, counted from 0 among those that are drawn for.
    pub fn image(self, image: usize) -> ChaCha8Rng {
        let mut rng = self.rng();
        rng.set_stream(1 + (self.images.first + image) as u64);
        rng
    }

    /// Draws of the step, one after the other, of which some are for all images and others for each.
    pub(crate) fn in_turn(self) -> InTurn {
        InTurn {
            rng: self.rng(),
            images: self.images,
        }
    }
}

/// The draws of a step in their order. Where the step's images are shared out, each share's draws are those that it would have had of
/// the whole step.
pub(crate) struct InTurn {
    /// For what is the same for all images.
    pub(crate) rng: ChaCha8Rng,
    images: Images,
}

impl InTurn {
    /// Draws `count` values of `words` words each of the generator's stream, as many for every image that is drawn for: `draw` is
    /// given a generator at the first of them.
    pub(crate) fn for_images<T>(
        &mut self,
        count: usize,
        words: u128,
        draw: impl FnOnce(ChaCha8Rng) -> T,
    ) -> T {
        let Images {
            first,
            count: images,
            of,
        } = self.images;
        let (before, all) = match of {
            0 => (0, count),
            of => (
                first * (count / images.max(1)),
                of * (count / images.max(1)),
            ),
        };
        let start = self.rng.get_word_pos();
        let at = |values: usize| start.wrapping_add(words * values as u128);
        let mut rng = self.rng.clone();
        rng.set_word_pos(at(before));
        self.rng.set_word_pos(at(all));
        draw(rng)
    }
}

/// Three-valued labels `[B, C]` of a batch: +1 positive, -1 negative, 0 unknown.
///
/// ```
/// use epsilon::batch::Targets;
///
/// let targets = Targets::new(vec![1, -1, 0, 1, 1, -1], 3);
/// assert_eq!(targets.labels(), 3);
/// assert_eq!(targets.row(1), [1, 1, -1]);
/// assert_eq!(targets.rows().len(), 2);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Targets {
    values: Vec<i8>,
    labels: usize,
    /// Scores `[B, C]` from elsewhere, see [`Targets::ranked_with`].
    added: Option<Tensor<2>>,
    /// See [`Targets::ranking_images`].
    image_ranking: f64,
}

impl Targets {
    /// Labels from row-major values; `values.len()` is a multiple of `labels`.
    ///
    /// # Panics
    /// When it is not.
    pub fn new(values: Vec<i8>, labels: usize) -> Self {
        assert!(labels > 0 && values.len().is_multiple_of(labels));
        Self {
            values,
            labels,
            added: None,
            image_ranking: 0.0,
        }
    }

    /// The same labels for losses that rank, beside the labels of an image, the images of a label, with this weight: `w B` times
    /// the mean over the labels with positive and negative images of `mean_{p, n} log(1 + exp(s_n - s_p))`, p and n images of the
    /// batch. Every loss of [`crate::loss`] adds it.
    #[must_use]
    pub fn ranking_images(&self, weight: f64) -> Self {
        Self {
            image_ranking: weight,
            ..self.clone()
        }
    }

    /// The weight of that.
    pub(crate) fn image_ranking(&self) -> f64 {
        self.image_ranking
    }

    /// Those of some labels alone.
    pub(crate) fn select(&self, labels: &[usize]) -> Self {
        let rows = self.rows();
        let values = rows.flat_map(|row| labels.iter().map(|&label| row[label]));
        let chosen: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
        let added = self.added.clone().map(|added| {
            let chosen = TensorData::new(chosen, [labels.len()]);
            let device = added.device().inner();
            added.select(1, Tensor::<1, Int>::from_data(chosen, &device))
        });
        Self {
            values: values.collect(),
            labels: labels.len(),
            added,
            ..self.clone()
        }
    }

    /// The same labels for losses that rank a method's scores together with these, `[B, C]`: every loss of
    /// [`crate::loss`] adds them to the scores that it is given.
    #[must_use]
    pub fn ranked_with(&self, added: Tensor<2>) -> Self {
        let added = Some(match &self.added {
            Some(before) => before.clone() + added,
            None => added,
        });
        Self {
            added,
            ..self.clone()
        }
    }

    /// The scores that a loss ranks where a method gives these.
    pub(crate) fn ranked(&self, scores: Tensor<2>) -> Tensor<2> {
        match &self.added {
            Some(added) => scores + added.clone(),
            None => scores,
        }
    }

    /// Number of labels C.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// The values as numbers, `[B, C]`.
    pub fn tensor(&self, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = self.values.iter().map(|&v| f32::from(v)).collect();
        let shape = [values.len() / self.labels, self.labels];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// The C values of an image.
    pub fn row(&self, image: usize) -> &[i8] {
        &self.values[image * self.labels..][..self.labels]
    }

    /// One row of C values an image.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, i8> {
        self.values.chunks_exact(self.labels)
    }
}

/// Label vectors on a device, made once.
pub(crate) struct LabelsOn {
    device: Device,
    tensor: Tensor<2>,
    host: Arc<LabelVectors>,
    columns: Arc<[usize]>,
}

impl LabelsOn {
    /// The labels that are trained on.
    pub(crate) fn new(host: Arc<LabelVectors>, device: &Device) -> Self {
        let columns = (0..host.len()).collect();
        Self::known_as(host, columns, device)
    }

    /// Labels of which the method knows each as the label of this number, where it knows but these.
    pub(crate) fn known_as(
        host: Arc<LabelVectors>,
        columns: Arc<[usize]>,
        device: &Device,
    ) -> Self {
        let shape = [host.len(), host.dim()];
        let data = TensorData::new(host.values().to_vec(), shape);
        Self {
            device: device.clone(),
            tensor: Tensor::from_data(data, device),
            host,
            columns,
        }
    }

    /// Images of a batch with these labels in place of the batch's.
    pub(crate) fn of(&self, batch: &Batch) -> Batch {
        Batch {
            label_vectors: self.tensor.clone(),
            label_vectors_host: self.host.clone(),
            columns: self.columns.clone(),
            targets: Targets::default(),
            ..batch.clone()
        }
    }

    pub(crate) fn batch(
        &self,
        dims: &Dims,
        images: usize,
        tokens: Vec<f32>,
        global: Vec<f32>,
        targets: Targets,
    ) -> Batch {
        let tokens = TensorData::new(tokens, [images, dims.tokens, dims.width]);
        let global = TensorData::new(global, [images, dims.global_width()]);
        Batch {
            tokens: Tensor::from_data(tokens, &self.device),
            global: Tensor::from_data(global, &self.device),
            label_vectors: self.tensor.clone(),
            label_vectors_host: self.host.clone(),
            targets,
            columns: self.columns.clone(),
            precision: TrainingPrecision::F32,
            draws: Draws::default(),
        }
    }
}
