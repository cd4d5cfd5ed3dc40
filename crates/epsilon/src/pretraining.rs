//! Pretraining of the built-in backbone: a small Vision Transformer trained on generated scenes, on seen labels only.
//!
//! A seen label is two words, such as "striped" and "star". Patch tokens are trained to predict each word of the label whose
//! object (or none) covers most of their patch, by cross-entropy over the words that make a seen label of it; the class token to predict the picture's labels and their
//! words, by binary cross-entropy. The linear maps to these targets are discarded afterwards. Pictures are generated on the
//! fly, so none occurs twice.

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData, activation};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::device;
use crate::optimiser::{AdamSettings, Optimiser, OptimiserSettings};
use crate::parameters::{self, Weights};
use crate::tensor_vit;
use epsilon_data::dataset::scenes::{Scene, SceneOptions, Scenes};
use epsilon_data::dataset::{DatasetError, Split};
use epsilon_vision::backbone::{Activation, BlockConfig, Global, Resampling, VitConfig};
use epsilon_vision::image::{Filter, Fit, Preprocess, RgbImage};

/// Seed of the training pictures; the quickstart uses another.
const SCENES_SEED: u64 = 1000;
/// Seed of the pictures that the training is watched on.
const VALIDATION_SEED: u64 = 2000;
const WEIGHTS_SEED: u64 = 1;
/// Number of steps that the built-in weights were trained for.
pub const STEPS: usize = 17_000;
const BATCH: usize = 16;
/// Adam's highest rate.
const LEARNING_RATE: f64 = 1.2e-3;
/// Steps over which the rate rises from 0.
const WARM_UP: usize = 400;
/// Share of the steps, the last ones, over which it falls to 0 in a straight line.
const FALL: f64 = 0.4;
/// Batches of validation pictures.
const VALIDATION_BATCHES: usize = 32;
/// Steps from one look at the validation pictures to the next.
const REPORT_EVERY: usize = 500;

/// What is added to a logit that takes no part in a softmax.
const LEFT_OUT: f32 = -1e4;

/// Why the backbone could not be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainingError {
    /// The pictures cannot be generated.
    #[error(transparent)]
    Scenes(#[from] DatasetError),
    /// The observer has broken off.
    #[error("the pretraining was stopped: nothing is kept, and the same call begins anew")]
    Stopped,
    /// The weights cannot be written.
    #[error("{path}: {reason}")]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
}

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps taken.
    pub step: usize,
    /// Loss of this step's pictures.
    pub loss: f64,
    /// How the weights do on pictures that are not trained on, after every 500 steps.
    pub validation: Option<Validation>,
}

/// Figures on 512 pictures of seen labels that are not trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Validation {
    /// Mean loss.
    pub loss: f64,
    /// Share of the patches with an object for which each word of its label is predicted, in the order of a label's words.
    pub words: [f64; 2],
    /// Mean average precision of the labels that the class token predicts.
    pub map: f64,
}

/// Configuration of the built-in backbone: pictures of 64 x 64 pixels, 8 x 8 tokens of width 128.
///
/// ```
/// let config = epsilon::pretraining::config();
/// assert_eq!((config.grid, config.blocks.dim), (8, 128));
/// ```
pub fn config() -> VitConfig {
    VitConfig {
        preprocess: Preprocess {
            size: 64,
            fit: Fit::Squash,
            filter: Filter::Bicubic,
            mean: [0.5; 3],
            std: [0.25; 3],
        },
        patch: 8,
        grid: 8,
        prefix: 1,
        blocks: BlockConfig {
            dim: 128,
            depth: 4,
            heads: 4,
            hidden: 256,
            layer_norm_eps: 1e-6,
            activation: Activation::Gelu,
            causal: false,
        },
        project_tokens: false,
        resampling: Resampling::Antialiased,
        global: Global::Features,
    }
}

/// Words of a label.
const WORDS: usize = 2;

/// What is predicted: the seen labels, and their words by place.
struct Targets {
    /// Number of different words in each place.
    counts: [usize; WORDS],
    /// The words of every seen label, as numbers below `counts`.
    words: Vec<[usize; WORDS]>,
}

impl Targets {
    fn new(seen: &[String]) -> Self {
        let mut known: [Vec<&str>; WORDS] = Default::default();
        let mut words = Vec::new();
        for name in seen {
            let mut label = [0; WORDS];
            for ((number, known), word) in label.iter_mut().zip(&mut known).zip(name.split(' ')) {
                *number = known.iter().position(|k| *k == word).unwrap_or(known.len());
                if *number == known.len() {
                    known.push(word);
                }
            }
            words.push(label);
        }
        Self {
            counts: known.map(|known| known.len()),
            words,
        }
    }

    /// Logits of a patch: every word, and none, in each place.
    fn patch(&self) -> usize {
        self.counts.iter().map(|count| count + 1).sum()
    }

    /// Logits of a picture: the labels, then the words of each place.
    fn class(&self) -> usize {
        self.words.len() + self.counts.iter().sum::<usize>()
    }

    /// Where each place's logits of a patch begin, and how many they are.
    fn places(&self) -> [(usize, usize); WORDS] {
        let mut first = 0;
        self.counts.map(|count| {
            first += count + 1;
            (first - count - 1, count + 1)
        })
    }

    /// Marks the words of a patch's label, or none, in `target [patch()]`; and in `left_out`, of the same length, the words that
    /// would make an unseen label of it: of these nothing is learnt, not even that they do not occur together.
    fn mark_patch(&self, label: Option<usize>, target: &mut [f32], left_out: &mut [f32]) {
        for (place, (first, count)) in self.places().into_iter().enumerate() {
            let Some(label) = label else {
                target[first + count - 1] = 1.0;
                continue;
            };
            let words = self.words[label];
            target[first + words[place]] = 1.0;
            for other in 0..count - 1 {
                let mut changed = words;
                changed[place] = other;
                if !self.words.contains(&changed) {
                    left_out[first + other] = LEFT_OUT;
                }
            }
        }
    }

    /// Marks a label of a picture, and its words, in `target [class()]`.
    fn mark_class(&self, label: usize, target: &mut [f32]) {
        target[label] = 1.0;
        let mut first = self.words.len();
        for (&word, &count) in self.words[label].iter().zip(&self.counts) {
            target[first + word] = 1.0;
            first += count;
        }
    }
}

/// Trains the backbone for `steps` steps of 16 pictures and writes its weights in f16. `progress` is called after every step, and
/// can break off.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("backbone.safetensors");
/// let mut steps = Vec::new();
/// epsilon::pretraining::run(&path, 1, &mut |at| {
///     steps.push((at.step, at.loss.is_finite()));
///     std::ops::ControlFlow::Continue(())
/// })?;
/// assert_eq!(steps, [(1, true)]);
/// assert_eq!(epsilon::backbone::load(&path)?.info().tokens, 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`PretrainingError`] if the pictures cannot be generated, the file cannot be written, or it was stopped.
pub fn run(
    path: &Path,
    steps: usize,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(), PretrainingError> {
    let config = config();
    let scenes = |seed| {
        let size = config.preprocess.size;
        Scenes::new(SceneOptions { size, seed })
    };
    let (training, validation) = (scenes(SCENES_SEED)?, scenes(VALIDATION_SEED)?);
    let targets = Targets::new(&training.names()[..training.seen()]);
    let device = Device::flex();

    let mut specs = tensor_vit::specs(&config);
    let kept = specs.len();
    let width = config.blocks.dim;
    specs.extend(parameters::linear("patch", width, targets.patch()));
    specs.extend(parameters::linear("class", width, targets.class()));
    let mut weights = Weights::draw(specs, &mut ChaCha8Rng::seed_from_u64(WEIGHTS_SEED), &device);
    let settings = OptimiserSettings::Adam(AdamSettings {
        weight_decay: 0.0,
        ..AdamSettings::default()
    });
    let mut adam = Optimiser::new(settings, &weights);
    for step in 0..steps {
        let pictures = Pictures::draw(&training, &targets, &config, step, &device);
        let tracked = weights.tracked();
        let (loss, _) = losses(&tracked, &targets, &config, &pictures);
        let value: f32 = loss.clone().inner().into_scalar();
        let gradients = tracked.gradients(&mut loss.backward());
        adam.step(&mut weights, gradients, rate(step, steps));
        let step = step + 1;
        let told = progress(Progress {
            step,
            loss: f64::from(value),
            validation: (step % REPORT_EVERY == 0)
                .then(|| validate(&weights, &validation, &targets, &config)),
        });
        if told.is_break() {
            return Err(PretrainingError::Stopped);
        }
    }
    write(path, &config, &weights, kept)
}

/// Adam's rate in a step, of `steps` in all.
fn rate(step: usize, steps: usize) -> f64 {
    let risen = (step + 1) as f64 / WARM_UP as f64;
    let left = (steps - step) as f64 / (FALL * steps as f64);
    LEARNING_RATE * risen.min(left).min(1.0)
}

/// The logits of a batch: patches `[B N, patch()]` and pictures `[B, class()]`.
struct Logits {
    patches: Tensor<2>,
    pictures: Tensor<2>,
}

/// The sum of both losses, `[1]`, and the logits.
fn losses(
    weights: &Weights,
    targets: &Targets,
    config: &VitConfig,
    pictures: &Pictures,
) -> (Tensor<1>, Logits) {
    let all = tensor_vit::forward(config, weights, pictures.images.clone());
    let [images, rows, width] = all.dims();
    let linear = |name: &str, first: usize, count: usize| {
        let (weight, bias) = weights.linear(name);
        let tokens = all.clone().narrow(1, first, count);
        tokens.reshape([images * count, width]).matmul(weight) + bias.unsqueeze()
    };
    let logits = Logits {
        pictures: linear("class", 0, 1),
        patches: linear("patch", 1, rows - 1),
    };
    let patches = logits.patches.clone() + pictures.left_out.clone();
    let loss = patch_loss(&patches, targets, &pictures.patches)
        + class_loss(&logits.pictures, &pictures.labels);
    (loss, logits)
}

/// Cross-entropy of the words of what covers each patch, `[1]`; targets `[B N, patch()]` are one-hot in each place.
fn patch_loss(logits: &Tensor<2>, targets: &Targets, marked: &Tensor<2>) -> Tensor<1> {
    let of_place = |(first, count)| {
        let logits = logits.clone().narrow(1, first, count);
        let marked = marked.clone().narrow(1, first, count);
        (activation::log_softmax(logits, 1) * marked)
            .sum_dim(1)
            .mean()
            * -1.0
    };
    let [first, second] = targets.places().map(of_place);
    first + second
}

/// Binary cross-entropy of the labels and words in a picture, `[1]`; targets `[B, class()]` are 0 or 1.
fn class_loss(logits: &Tensor<2>, marked: &Tensor<2>) -> Tensor<1> {
    (activation::softplus(logits.clone(), 1.0) - logits.clone() * marked.clone()).mean()
}

/// Figures on the validation pictures.
fn validate(
    weights: &Weights,
    scenes: &Scenes,
    targets: &Targets,
    config: &VitConfig,
) -> Validation {
    let (mut loss, mut hits, mut covered) = (0.0, [0usize; WORDS], 0usize);
    let (mut scores, mut truth) = (Vec::new(), Vec::new());
    for batch in 0..VALIDATION_BATCHES {
        let pictures = Pictures::draw(scenes, targets, config, batch, &Device::flex());
        let (value, logits) = losses(weights, targets, config, &pictures);
        loss += f64::from(value.into_scalar::<f32>()) / VALIDATION_BATCHES as f64;
        let rows = device::host(&logits.patches);
        let marked = device::host(&pictures.patches);
        let rows = rows.chunks_exact(targets.patch());
        for (row, marked) in rows.zip(marked.chunks_exact(targets.patch())) {
            let words = |row: &[f32]| {
                targets
                    .places()
                    .map(|(first, count)| largest(&row[first..][..count]))
            };
            let (guess, right) = (words(row), words(marked));
            if right[0] == targets.counts[0] {
                continue;
            }
            covered += 1;
            for place in 0..WORDS {
                hits[place] += usize::from(guess[place] == right[place]);
            }
        }
        scores.extend(device::host(&logits.pictures));
        truth.extend(device::host(&pictures.labels));
    }
    Validation {
        loss,
        words: hits.map(|hits| hits as f64 / covered.max(1) as f64),
        map: mean_average_precision(&scores, &truth, targets.class(), targets.words.len()),
    }
}

/// Place of the largest value.
fn largest(values: &[f32]) -> usize {
    let places = 0..values.len();
    places
        .max_by(|&a, &b| values[a].total_cmp(&values[b]))
        .unwrap_or(0)
}

/// Mean over the first `labels` columns of `[pictures, columns]` of their average precision.
fn mean_average_precision(scores: &[f32], truth: &[f32], columns: usize, labels: usize) -> f64 {
    let of_label = |label: usize| {
        let column = |values: &[f32]| -> Vec<f32> {
            values
                .iter()
                .skip(label)
                .step_by(columns)
                .copied()
                .collect()
        };
        let (scores, truth) = (column(scores), column(truth));
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let (mut found, mut sum) = (0.0, 0.0);
        for (rank, &picture) in order.iter().enumerate() {
            if truth[picture] > 0.0 {
                found += 1.0;
                sum += found / (rank + 1) as f64;
            }
        }
        sum / f64::max(found, 1.0)
    };
    (0..labels).map(of_label).sum::<f64>() / labels as f64
}

/// A batch of normalised pictures and their targets.
struct Pictures {
    /// `[B, 3, S, S]`.
    images: Tensor<4>,
    /// The labels and words in the picture, `[B, class()]`.
    labels: Tensor<2>,
    /// The words of the label that covers each patch, `[B N, patch()]`.
    patches: Tensor<2>,
    /// What is added to the patches' logits, of the same shape.
    left_out: Tensor<2>,
}

impl Pictures {
    fn draw(
        scenes: &Scenes,
        targets: &Targets,
        config: &VitConfig,
        step: usize,
        device: &Device,
    ) -> Self {
        let (preprocess, tokens) = (&config.preprocess, config.grid * config.grid);
        let (class, patch) = (targets.class(), targets.patch());
        let mut pixels = vec![0.0; BATCH * preprocess.len()];
        let mut labels = vec![0.0; BATCH * class];
        let mut patches = vec![0.0; BATCH * tokens * patch];
        let mut left_out = patches.clone();
        pixels
            .par_chunks_mut(preprocess.len())
            .zip(labels.par_chunks_mut(class))
            .zip(patches.par_chunks_mut(tokens * patch))
            .zip(left_out.par_chunks_mut(tokens * patch))
            .enumerate()
            .for_each(|(i, (((pixels, labels), patches), left_out))| {
                let scene = scenes.draw(Split::Train, (step * BATCH + i) as u32);
                for object in &scene.objects {
                    targets.mark_class(object.label, labels);
                }
                let patches = patches.chunks_exact_mut(patch);
                let patches = patches.zip(left_out.chunks_exact_mut(patch));
                for (place, (target, left_out)) in patches.enumerate() {
                    targets.mark_patch(covering(&scene, config, place), target, left_out);
                }
                if let Some(image) =
                    RgbImage::from_raw(preprocess.size, preprocess.size, scene.pixels)
                {
                    preprocess.apply(&image, pixels);
                }
            });
        let side = preprocess.size as usize;
        let tensor =
            |values, shape: [usize; 2]| Tensor::from_data(TensorData::new(values, shape), device);
        Self {
            images: Tensor::from_data(TensorData::new(pixels, [BATCH, 3, side, side]), device),
            labels: tensor(labels, [BATCH, class]),
            patches: tensor(patches, [BATCH * tokens, patch]),
            left_out: tensor(left_out, [BATCH * tokens, patch]),
        }
    }
}

/// The label whose object covers most of a patch, if it covers at least a quarter of it.
fn covering(scene: &Scene, config: &VitConfig, patch: usize) -> Option<usize> {
    let (size, side) = (config.preprocess.size as usize, config.patch);
    let (top, left) = (patch / config.grid * side, patch % config.grid * side);
    let mut counts = vec![0; scene.objects.len() + 1];
    for row in top..top + side {
        for &object in &scene.mask[row * size + left..][..side] {
            counts[usize::from(object)] += 1;
        }
    }
    let (object, &count) = counts
        .iter()
        .enumerate()
        .skip(1)
        .max_by_key(|&(_, count)| count)?;
    (count * 4 >= side * side).then(|| scene.objects[object - 1].label)
}

/// Writes the first `kept` weights with timm's names and shapes.
fn write(
    path: &Path,
    config: &VitConfig,
    weights: &Weights,
    kept: usize,
) -> Result<(), PretrainingError> {
    let tensors: Vec<_> = weights
        .to_host()
        .into_iter()
        .take(kept)
        .map(|(spec, values)| {
            let shape = match spec.name.as_str() {
                "cls_token" => vec![1, 1, config.blocks.dim],
                "pos_embed" => vec![1, 1 + config.grid * config.grid, config.blocks.dim],
                "patch_embed.proj.weight" => vec![config.blocks.dim, 3, config.patch, config.patch],
                _ => spec.shape,
            };
            (spec.name, shape, values)
        })
        .collect();
    let preprocess = &config.preprocess;
    let settings = serde_json::json!({
        "heads": config.blocks.heads,
        "layer_norm_eps": config.blocks.layer_norm_eps,
        "mean": preprocess.mean,
        "std": preprocess.std,
        "fit": preprocess.fit,
    });
    let metadata = [("epsilon.vit".to_string(), settings.to_string())].into();
    epsilon_data::formats::safetensors::write_f16_tensors(path, &tensors, metadata).map_err(
        |reason| PretrainingError::Write {
            path: path.into(),
            reason,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Targets {
        let seen = ["plain circle", "striped square", "plain square"].map(String::from);
        Targets::new(&seen)
    }

    #[test]
    fn labels_are_taken_apart_into_their_words() {
        let targets = targets();
        assert_eq!(
            (targets.counts, targets.patch(), targets.class()),
            ([2, 2], 6, 7)
        );
        assert_eq!(targets.words, [[0, 0], [1, 1], [0, 1]]);
        let (mut patch, mut left_out, mut class) = ([0.0; 6], [0.0; 6], [0.0; 7]);
        targets.mark_patch(Some(1), &mut patch, &mut left_out);
        assert_eq!(patch, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        // A striped circle is not seen; a plain square is.
        assert_eq!(left_out, [0.0, 0.0, 0.0, LEFT_OUT, 0.0, 0.0]);
        (patch, left_out) = ([0.0; 6], [0.0; 6]);
        targets.mark_patch(None, &mut patch, &mut left_out);
        assert_eq!(patch, [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        assert_eq!(left_out, [0.0; 6]);
        targets.mark_class(2, &mut class);
        assert_eq!(class, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
        targets.mark_class(0, &mut class);
        assert_eq!(class, [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn the_rate_rises_stays_and_falls() {
        let share = |step| rate(step, 10_000) / LEARNING_RATE;
        assert_eq!([share(0), share(199), share(399)], [0.0025, 0.5, 1.0]);
        assert_eq!([share(5999), share(8000), share(9999)], [1.0, 0.5, 0.00025]);
    }

    /// Two labels of three pictures: the first is ranked first, the second behind a picture without it.
    #[test]
    fn mean_average_precision_by_hand() {
        let scores = [0.9, 0.5, 0.1, 0.8, 0.2, 0.1];
        let truth = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(mean_average_precision(&scores, &truth, 2, 1), 1.0);
        assert_eq!(mean_average_precision(&scores, &truth, 2, 2), 0.75);
    }
}
