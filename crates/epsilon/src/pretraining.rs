//! Pretraining of the built-in backbone: a small Vision Transformer trained on generated scenes, on seen labels only.
//!
//! Patch tokens are trained to predict which label's object (or none) covers most of their patch, by cross-entropy; the class
//! token to predict the labels of the picture, by binary cross-entropy. Both use a linear map to the label vectors' space that
//! is discarded afterwards. Pictures are generated on the fly, so none occurs twice.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData, activation};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::optimiser::{AdamSettings, Optimiser, OptimiserSettings};
use crate::parameters::{self, Weights};
use crate::tensor_vit;
use crate::training::{Schedule, StepPosition};
use epsilon_data::dataset::scenes::{Scene, SceneOptions, Scenes};
use epsilon_data::dataset::{DatasetError, Split};
use epsilon_vision::backbone::{Activation, BlockConfig, Global, Resampling, VitConfig};
use epsilon_vision::image::{Filter, Fit, Preprocess, RgbImage};

/// Seed of the training pictures; the quickstart uses another.
const SCENES_SEED: u64 = 1000;
const WEIGHTS_SEED: u64 = 1;
/// Number of steps that the built-in weights were trained for.
pub const STEPS: usize = 1200;
const BATCH: usize = 64;
const LEARNING_RATE: f64 = 1.5e-3;
/// Scale of the dot products with the unit label vectors.
const MATCH_SCALE: f64 = 4.0;

/// Why the backbone could not be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainingError {
    /// The pictures cannot be generated.
    #[error(transparent)]
    Scenes(#[from] DatasetError),
    /// The weights cannot be written.
    #[error("{path}: {reason}")]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
}

/// Configuration of the built-in backbone: pictures of 64 x 64 pixels, 8 x 8 tokens of width 96.
///
/// ```
/// let config = epsilon::pretraining::config();
/// assert_eq!((config.grid, config.blocks.dim), (8, 96));
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
            dim: 96,
            depth: 4,
            heads: 3,
            hidden: 384,
            layer_norm_eps: 1e-6,
            activation: Activation::Gelu,
            causal: false,
        },
        project_tokens: false,
        resampling: Resampling::Antialiased,
        global: Global::Features,
    }
}

/// Trains the backbone for `steps` steps of 64 pictures and writes its weights in f16. `progress` is called with the number and
/// loss of every step.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("backbone.safetensors");
/// let mut steps = Vec::new();
/// epsilon::pretraining::run(&path, 1, &mut |step, loss| steps.push((step, loss.is_finite())))?;
/// assert_eq!(steps, [(1, true)]);
/// assert_eq!(epsilon::backbone::load(&path)?.info().tokens, 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`PretrainingError`] if the pictures cannot be generated or the file cannot be written.
pub fn run(
    path: &Path,
    steps: usize,
    progress: &mut dyn FnMut(usize, f64),
) -> Result<(), PretrainingError> {
    let config = config();
    let scenes = Scenes::new(SceneOptions {
        size: config.preprocess.size,
        seed: SCENES_SEED,
    })?;
    let device = Device::flex();
    let labels = scenes.vectors()?.first(scenes.seen()).unit();
    let vectors = TensorData::new(labels.values().to_vec(), [labels.len(), labels.dim()]);
    let vectors: Tensor<2> = Tensor::from_data(vectors, &device);

    let mut specs = tensor_vit::specs(&config);
    let kept = specs.len();
    for head in ["patch", "class"] {
        specs.extend(parameters::linear(
            &format!("map.{head}"),
            config.blocks.dim,
            labels.dim(),
        ));
        specs.extend(parameters::linear(
            &format!("logit.{head}"),
            config.blocks.dim,
            1,
        ));
    }
    let mut weights = Weights::draw(specs, &mut ChaCha8Rng::seed_from_u64(WEIGHTS_SEED), &device);
    let settings = OptimiserSettings::Adam(AdamSettings {
        weight_decay: 0.0,
        ..AdamSettings::default()
    });
    let mut adam = Optimiser::new(settings, &weights);
    let schedule = Schedule::Cosine { floor: 0.01 };
    for step in 0..steps {
        let pictures = Pictures::draw(&scenes, &config, step, &device);
        let tracked = weights.tracked();
        let all = tensor_vit::forward(&config, &tracked, pictures.images);
        let patches = all.clone().narrow(1, 1, config.grid * config.grid);
        let loss = patch_loss(&tracked, patches, &vectors, pictures.patches)
            + class_loss(&tracked, all.narrow(1, 0, 1), &vectors, pictures.labels);
        let value: f32 = loss.clone().inner().into_scalar();
        let gradients = tracked.gradients(&mut loss.backward());
        let at = StepPosition {
            step,
            steps_per_epoch: steps.div_ceil(20),
            epochs: 20,
            warm_up: 1.0,
            plateaus: 0,
        };
        adam.step(&mut weights, gradients, LEARNING_RATE * schedule.factor(at));
        progress(step + 1, f64::from(value));
    }
    write(path, &config, &weights, kept)
}

/// Scaled dot products `[B R, C]` of mapped tokens `[B, R, D]` with the label vectors, and one more logit `[B R, 1]`.
fn matches(
    weights: &Weights,
    head: &str,
    tokens: Tensor<3>,
    vectors: &Tensor<2>,
) -> (Tensor<2>, Tensor<2>) {
    let [images, rows, width] = tokens.dims();
    let tokens = tokens.reshape([images * rows, width]);
    let (map, shift) = weights.linear(&format!("map.{head}"));
    let (logit, offset) = weights.linear(&format!("logit.{head}"));
    let matches =
        (tokens.clone().matmul(map) + shift.unsqueeze()).matmul(vectors.clone().transpose());
    (
        matches * MATCH_SCALE,
        tokens.matmul(logit) + offset.unsqueeze(),
    )
}

/// Cross-entropy of what covers each patch, `[1]`; targets `[B N, C + 1]` are one-hot, the last for no object.
fn patch_loss(
    weights: &Weights,
    tokens: Tensor<3>,
    vectors: &Tensor<2>,
    targets: Tensor<2>,
) -> Tensor<1> {
    let (labels, none) = matches(weights, "patch", tokens, vectors);
    let logits = Tensor::cat(vec![labels, none], 1);
    (activation::log_softmax(logits, 1) * targets)
        .sum_dim(1)
        .mean()
        * -1.0
}

/// Binary cross-entropy of the labels in a picture, `[1]`; targets `[B, C]` are 0 or 1. The extra logit is added to all labels.
fn class_loss(
    weights: &Weights,
    tokens: Tensor<3>,
    vectors: &Tensor<2>,
    targets: Tensor<2>,
) -> Tensor<1> {
    let (labels, bias) = matches(weights, "class", tokens, vectors);
    let logits = labels + bias;
    (activation::softplus(logits.clone(), 1.0) - logits * targets).mean()
}

/// A batch of normalised pictures and their targets.
struct Pictures {
    /// `[B, 3, S, S]`.
    images: Tensor<4>,
    /// Whether each seen label is in the picture, `[B, C]`.
    labels: Tensor<2>,
    /// The label that covers each patch, one-hot, `[B N, C + 1]`.
    patches: Tensor<2>,
}

impl Pictures {
    fn draw(scenes: &Scenes, config: &VitConfig, step: usize, device: &Device) -> Self {
        let (preprocess, seen, tokens) =
            (&config.preprocess, scenes.seen(), config.grid * config.grid);
        let mut pixels = vec![0.0; BATCH * preprocess.len()];
        let mut labels = vec![0.0; BATCH * seen];
        let mut patches = vec![0.0; BATCH * tokens * (seen + 1)];
        pixels
            .par_chunks_mut(preprocess.len())
            .zip(labels.par_chunks_mut(seen))
            .zip(patches.par_chunks_mut(tokens * (seen + 1)))
            .enumerate()
            .for_each(|(i, ((pixels, labels), patches))| {
                let scene = scenes.draw(Split::Train, (step * BATCH + i) as u32);
                for object in &scene.objects {
                    labels[object.label] = 1.0;
                }
                for (patch, target) in patches.chunks_exact_mut(seen + 1).enumerate() {
                    target[covering(&scene, config, patch).unwrap_or(seen)] = 1.0;
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
            labels: tensor(labels, [BATCH, seen]),
            patches: tensor(patches, [BATCH * tokens, seen + 1]),
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
