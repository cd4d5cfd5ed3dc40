//! Weights of a Vision Transformer from a safetensors file with timm's tensor names: what the shapes
//! tell, what the file's metadata may add, and every way a file can be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::{BackboneError, BackboneInfo};
use crate::files::sha256;
use crate::image::{Fit, Preprocess};

/// Key of the file's metadata under which [`load_weights`] looks for settings.
const METADATA_KEY: &str = "epsilon.vit";
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// What stands between the two linear maps of a block's MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// `x Phi(x)`, exact.
    #[default]
    Gelu,
    /// `x sigmoid(1.702 x)`, as OpenAI's CLIP was trained.
    QuickGelu,
}

/// The shape of a transformer's blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockConfig {
    /// Width of a token, `D`.
    pub dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Width of the hidden layer of a block's MLP.
    pub hidden: usize,
    /// Added to the variance in every layer normalisation.
    pub layer_norm_eps: f32,
    /// Inside the MLPs.
    pub activation: Activation,
    /// Whether a token sees only itself and those before it (text towers).
    pub causal: bool,
}

/// The shape of a Vision Transformer. Its sequence is `[prefix + grid * grid, dim]`.
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfig {
    /// Width and height of the input, in pixels, and how an image is brought to it.
    pub preprocess: Preprocess,
    /// Width and height of a patch, in pixels.
    pub patch: usize,
    /// Patches along one side of the image.
    pub grid: usize,
    /// Tokens before the patches: the class token first, then others such as registers; or none at all.
    pub prefix: usize,
    /// The blocks.
    pub blocks: BlockConfig,
    /// Whether the projection (where there is one) makes the tokens too, not only the global vector.
    pub project_tokens: bool,
    /// Classes of the classifier, if the file has one.
    pub classes: Option<usize>,
}

/// A linear map as PyTorch keeps it: `y = weight x + bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[outputs, inputs]`, row by row.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

impl Linear {
    /// Multiplies every output by its own factor, `[outputs]`.
    pub fn scale(&mut self, factors: &[f32]) {
        let inputs = self.weight.len() / self.bias.len().max(1);
        let rows = self.weight.chunks_exact_mut(inputs.max(1));
        for ((row, bias), factor) in rows.zip(&mut self.bias).zip(factors) {
            row.iter_mut().for_each(|value| *value *= factor);
            *bias *= factor;
        }
    }
}

/// Scale and shift of a layer normalisation, `[dim]` each.
#[derive(Clone, Debug)]
pub struct NormWeights {
    /// Scale.
    pub weight: Vec<f32>,
    /// Shift.
    pub bias: Vec<f32>,
}

/// One block: `x += proj(attention(qkv(norm1(x))))`, then `x += fc2(activation(fc1(norm2(x))))`. A layer scale
/// is part of `proj` and `fc2` ([`Linear::scale`]).
#[derive(Clone, Debug)]
pub struct BlockWeights {
    /// Before the attention.
    pub norm1: NormWeights,
    /// `dim` to queries, keys and values, each `dim` wide, one after the other.
    pub qkv: Linear,
    /// From the joined heads back to `dim`.
    pub proj: Linear,
    /// Before the MLP.
    pub norm2: NormWeights,
    /// `dim` to `hidden`.
    pub fc1: Linear,
    /// `hidden` to `dim`.
    pub fc2: Linear,
}

/// All weights of a Vision Transformer, in f32.
#[derive(Clone, Debug)]
pub struct VitWeights {
    /// The shapes of what follows.
    pub config: VitConfig,
    /// The weight file's name without its ending.
    pub name: String,
    /// SHA-256 of the weight file, in hexadecimal.
    pub sha256: String,
    /// `[prefix, dim]`: the class token, then the others.
    pub prefix_tokens: Vec<f32>,
    /// `[prefix + grid * grid, dim]`; zero where a prefix token has no position.
    pub pos_embed: Vec<f32>,
    /// `[dim, 3 * patch * patch]`: channel, row, column of a patch.
    pub patch_embed: Linear,
    /// Before the first block, if any.
    pub norm_pre: Option<NormWeights>,
    /// `depth` of them.
    pub blocks: Vec<BlockWeights>,
    /// The final layer normalisation.
    pub norm: NormWeights,
    /// After the final layer normalisation, `[width, dim]`, if any.
    pub projection: Option<Linear>,
    /// The classifier on the class token, `[classes, dim]`.
    pub head: Option<Linear>,
}

/// What shapes cannot tell; the JSON value of the metadata key `epsilon.vit`. All keys are optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    heads: Option<usize>,
    layer_norm_eps: Option<f32>,
    image_size: Option<u32>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    fit: Option<Fit>,
}

/// Reads the weights of a Vision Transformer.
///
/// The tensors are named as timm names them: `cls_token`, `pos_embed`, `patch_embed.proj`,
/// `blocks.N.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}`, `norm`, and optionally `head`, in f32, f16 or
/// bf16. Width, depth, patch size, MLP width and input size follow from their shapes. What shapes do not
/// tell is `dim / 64` heads, epsilon 1e-6, ImageNet's mean and standard deviation, and a squashed image, unless
/// the file's metadata says otherwise under the key `epsilon.vit`, as JSON:
///
/// ```json
/// {"heads": 3, "layer_norm_eps": 1e-6, "image_size": 224, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
///  "fit": {"shorter_side": {"resize": 248}}}
/// ```
///
/// An `image_size` other than the position embedding's resamples it ([`VitWeights::with_image_size`]).
///
/// # Errors
///
/// See [`BackboneError`]; every missing, extra or misshapen tensor is named. The file must not be changed
/// while it is read.
pub fn load_weights(path: &Path) -> Result<VitWeights, BackboneError> {
    let map = map(path)?;
    let file = WeightFile::parse(path, &map)?;
    let shape = file.shape()?;
    let settings = file.settings()?;
    let config = file.config(&shape, &settings)?;
    let weights = VitWeights {
        name: path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        sha256: sha256(&map),
        prefix_tokens: file.values("cls_token")?,
        pos_embed: file.values("pos_embed")?,
        patch_embed: file.linear("patch_embed.proj")?,
        norm_pre: None,
        blocks: (0..shape.depth)
            .map(|index| file.block(index))
            .collect::<Result<_, _>>()?,
        norm: file.norm("norm")?,
        projection: None,
        head: match config.classes {
            Some(_) => Some(file.linear("head")?),
            None => None,
        },
        config,
    };
    match settings.image_size {
        Some(size) => weights
            .with_image_size(size)
            .map_err(|reason| file.bad(reason)),
        None => Ok(weights),
    }
}

impl VitWeights {
    /// What the network is and what goes in and comes out.
    pub fn info(&self) -> BackboneInfo {
        let (grid, dim) = (self.config.grid, self.config.blocks.dim);
        let projected = self.projection.as_ref().map(|map| map.bias.len());
        let width = match projected {
            Some(width) if self.config.project_tokens => width,
            _ => dim,
        };
        let global = projected.unwrap_or(dim);
        BackboneInfo {
            name: self.name.clone(),
            weights_sha256: self.sha256.clone(),
            preprocess: self.config.preprocess.clone(),
            tokens: grid * grid,
            dim: width,
            grid: (grid, grid),
            global: (global != width).then_some(global),
        }
    }

    /// The same network for images of `size` x `size` pixels. The position embedding of the patches is
    /// resampled with an antialiased bicubic filter (a = -0.5), as timm's `resample_abs_pos_embed`
    /// does; those of the tokens before them are kept.
    ///
    /// # Errors
    ///
    /// A sentence when `size` is zero or no multiple of the patch size.
    pub fn with_image_size(mut self, size: u32) -> Result<Self, String> {
        let (patch, from) = (self.config.patch, self.config.grid);
        let to = size as usize / patch;
        if to == 0 || !(size as usize).is_multiple_of(patch) {
            return Err(format!(
                "image size {size} is not a multiple of the patch size {patch}"
            ));
        }
        if to != from {
            let dim = self.config.blocks.dim;
            let (prefix, patches) = self.pos_embed.split_at(self.config.prefix * dim);
            let resampled = resample(patches, from, to, dim);
            self.pos_embed = [prefix, &resampled].concat();
        }
        self.config.grid = to;
        self.config.preprocess.size = size;
        Ok(self)
    }
}

/// What the shapes tell.
struct Shape {
    dim: usize,
    patch: usize,
    tokens: usize,
    depth: usize,
    hidden: usize,
    classes: Option<usize>,
}

/// An open weight file.
struct WeightFile<'a> {
    path: &'a Path,
    tensors: BTreeMap<String, TensorView<'a>>,
    metadata: Option<String>,
}

fn map(path: &Path) -> Result<Mmap, BackboneError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => BackboneError::Missing { path: path.into() },
        _ => BackboneError::Read {
            path: path.into(),
            source,
        },
    };
    let file = File::open(path).map_err(failed)?;
    // SAFETY: the map is only read. Nothing can keep another program from changing or shortening the file
    // meanwhile; the doc comment of `load_weights` asks not to.
    unsafe { Mmap::map(&file) }.map_err(failed)
}

impl<'a> WeightFile<'a> {
    fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self, BackboneError> {
        let failed = |error: safetensors::SafeTensorError| BackboneError::Format {
            path: path.into(),
            reason: error.to_string(),
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(failed)?;
        let metadata = header.metadata().as_ref();
        let metadata = metadata.and_then(|map| map.get(METADATA_KEY)).cloned();
        let tensors = SafeTensors::deserialize(bytes).map_err(failed)?;
        Ok(Self {
            path,
            tensors: tensors.tensors().into_iter().collect(),
            metadata,
        })
    }

    fn bad(&self, reason: String) -> BackboneError {
        BackboneError::Config {
            path: self.path.into(),
            reason,
        }
    }

    fn settings(&self) -> Result<Settings, BackboneError> {
        let Some(text) = &self.metadata else {
            return Ok(Settings::default());
        };
        serde_json::from_str(text)
            .map_err(|error| self.bad(format!("metadata {METADATA_KEY}: {error}")))
    }

    /// Size `axis` of a tensor, or 0.
    fn size(&self, tensor: &str, axis: usize) -> usize {
        let shape = self.tensors.get(tensor).map(TensorView::shape);
        shape
            .and_then(|shape| shape.get(axis))
            .copied()
            .unwrap_or(0)
    }

    /// Reads the sizes off a few tensors and holds every tensor against them.
    fn shape(&self) -> Result<Shape, BackboneError> {
        let blocks: BTreeSet<&str> = self
            .tensors
            .keys()
            .filter_map(|name| name.strip_prefix("blocks.")?.split('.').next())
            .collect();
        let shape = Shape {
            dim: self.size("patch_embed.proj.weight", 0),
            patch: self.size("patch_embed.proj.weight", 3),
            tokens: self.size("pos_embed", 1),
            depth: blocks.len(),
            hidden: self.size("blocks.0.mlp.fc1.weight", 0),
            classes: self
                .tensors
                .keys()
                .any(|name| name.starts_with("head."))
                .then(|| self.size("head.weight", 0)),
        };
        let problems = self.problems(&expected(&shape));
        if problems.is_empty() {
            Ok(shape)
        } else {
            Err(BackboneError::Tensors {
                path: self.path.into(),
                problems,
            })
        }
    }

    fn problems(&self, expected: &BTreeMap<String, Vec<usize>>) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, shape) in expected {
            match self.tensors.get(name) {
                None => problems.push(format!("{name}: missing")),
                Some(tensor) => {
                    if tensor.shape() != shape || shape.contains(&0) {
                        let found = tensor.shape();
                        problems.push(format!("{name}: shape {found:?}, expected {shape:?}"));
                    }
                    if !matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                        let found = tensor.dtype();
                        problems.push(format!("{name}: type {found}, expected F32, F16 or BF16"));
                    }
                }
            }
        }
        let extra = self
            .tensors
            .keys()
            .filter(|name| !expected.contains_key(*name));
        problems.extend(extra.map(|name| format!("{name}: not part of this network")));
        problems
    }

    fn config(&self, shape: &Shape, settings: &Settings) -> Result<VitConfig, BackboneError> {
        let patches = shape.tokens - 1;
        let grid = patches.isqrt();
        if grid == 0 || grid * grid != patches {
            return Err(self.bad(format!(
                "pos_embed has {} rows: the class token and a square number of patches are needed",
                shape.tokens
            )));
        }
        let heads = settings.heads.unwrap_or(shape.dim / 64);
        if heads == 0 || !shape.dim.is_multiple_of(heads) {
            return Err(self.bad(format!(
                "{} values a token do not divide into {heads} heads: give \"heads\" in the metadata key {METADATA_KEY}",
                shape.dim
            )));
        }
        let too_large = || self.bad("the image size does not fit in 32 bits".into());
        let size = u32::try_from(grid * shape.patch).map_err(|_| too_large())?;
        let preprocess = Preprocess {
            size,
            fit: settings.fit.unwrap_or(Fit::Squash),
            mean: settings.mean.unwrap_or(IMAGENET_MEAN),
            std: settings.std.unwrap_or(IMAGENET_STD),
        };
        let layer_norm_eps = settings.layer_norm_eps.unwrap_or(1e-6);
        if !(layer_norm_eps.is_finite() && layer_norm_eps >= 0.0) {
            return Err(self.bad("layer_norm_eps must be finite and not negative".into()));
        }
        let finite = preprocess.mean.iter().all(|x| x.is_finite());
        if !finite || !preprocess.std.iter().all(|x| x.is_finite() && *x > 0.0) {
            return Err(self.bad("mean must be finite, std finite and above zero".into()));
        }
        if let Fit::ShorterSide { resize } = preprocess.fit
            && resize < settings.image_size.unwrap_or(size)
        {
            return Err(self.bad(format!(
                "fit resizes to {resize} pixels, less than the input"
            )));
        }
        Ok(VitConfig {
            preprocess,
            patch: shape.patch,
            grid,
            prefix: 1,
            blocks: BlockConfig {
                dim: shape.dim,
                depth: shape.depth,
                heads,
                hidden: shape.hidden,
                layer_norm_eps,
                activation: Activation::Gelu,
                causal: false,
            },
            project_tokens: false,
            classes: shape.classes,
        })
    }

    fn block(&self, index: usize) -> Result<BlockWeights, BackboneError> {
        let name = |part: &str| format!("blocks.{index}.{part}");
        Ok(BlockWeights {
            norm1: self.norm(&name("norm1"))?,
            qkv: self.linear(&name("attn.qkv"))?,
            proj: self.linear(&name("attn.proj"))?,
            norm2: self.norm(&name("norm2"))?,
            fc1: self.linear(&name("mlp.fc1"))?,
            fc2: self.linear(&name("mlp.fc2"))?,
        })
    }

    fn linear(&self, name: &str) -> Result<Linear, BackboneError> {
        Ok(Linear {
            weight: self.values(&format!("{name}.weight"))?,
            bias: self.values(&format!("{name}.bias"))?,
        })
    }

    fn norm(&self, name: &str) -> Result<NormWeights, BackboneError> {
        Ok(NormWeights {
            weight: self.values(&format!("{name}.weight"))?,
            bias: self.values(&format!("{name}.bias"))?,
        })
    }

    /// The values of a tensor in f32.
    fn values(&self, name: &str) -> Result<Vec<f32>, BackboneError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(BackboneError::Tensors {
                path: self.path.into(),
                problems: vec![format!("{name}: missing")],
            });
        };
        let values = to_f32(tensor);
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(BackboneError::NotFinite {
                path: self.path.into(),
                tensor: name.into(),
            })
        }
    }
}

/// Little-endian values of the three floating-point types that [`WeightFile::problems`] lets through.
fn to_f32(tensor: &TensorView) -> Vec<f32> {
    let (pairs, _) = tensor.data().as_chunks::<2>();
    let (quads, _) = tensor.data().as_chunks::<4>();
    match tensor.dtype() {
        Dtype::F16 => pairs
            .iter()
            .map(|x| f16::from_le_bytes(*x).to_f32())
            .collect(),
        Dtype::BF16 => pairs
            .iter()
            .map(|x| bf16::from_le_bytes(*x).to_f32())
            .collect(),
        _ => quads.iter().map(|x| f32::from_le_bytes(*x)).collect(),
    }
}

/// Name and shape of every tensor of a network of this shape.
fn expected(shape: &Shape) -> BTreeMap<String, Vec<usize>> {
    let &Shape {
        dim,
        patch,
        tokens,
        depth,
        hidden,
        classes,
    } = shape;
    let mut all = BTreeMap::new();
    let mut linear = |name: String, weight: Vec<usize>| {
        all.insert(format!("{name}.bias"), vec![weight[0]]);
        all.insert(format!("{name}.weight"), weight);
    };
    linear("patch_embed.proj".into(), vec![dim, 3, patch, patch]);
    for index in 0..depth.max(1) {
        let block = format!("blocks.{index}");
        linear(format!("{block}.norm1"), vec![dim]);
        linear(
            format!("{block}.attn.qkv"),
            vec![dim.saturating_mul(3), dim],
        );
        linear(format!("{block}.attn.proj"), vec![dim, dim]);
        linear(format!("{block}.norm2"), vec![dim]);
        linear(format!("{block}.mlp.fc1"), vec![hidden, dim]);
        linear(format!("{block}.mlp.fc2"), vec![dim, hidden]);
    }
    linear("norm".into(), vec![dim]);
    if let Some(classes) = classes {
        linear("head".into(), vec![classes, dim]);
    }
    all.insert("cls_token".into(), vec![1, 1, dim]);
    all.insert("pos_embed".into(), vec![1, tokens, dim]);
    all
}

/// Resamples a square grid `[from, from, dim]` to `[to, to, dim]`, columns first.
fn resample(grid: &[f32], from: usize, to: usize, dim: usize) -> Vec<f32> {
    let filter = bicubic(from, to);
    let mut narrow = vec![0.0; from * to * dim];
    for (row, out) in grid
        .chunks_exact(from * dim)
        .zip(narrow.chunks_exact_mut(to * dim))
    {
        for (taps, out) in filter.iter().zip(out.chunks_exact_mut(dim)) {
            add_weighted(taps, |column| &row[column * dim..][..dim], out);
        }
    }
    let mut out = vec![0.0; to * to * dim];
    for (taps, out) in filter.iter().zip(out.chunks_exact_mut(to * dim)) {
        add_weighted(taps, |row| &narrow[row * to * dim..][..to * dim], out);
    }
    out
}

fn add_weighted<'a>(taps: &[(usize, f32)], source: impl Fn(usize) -> &'a [f32], out: &mut [f32]) {
    for &(index, weight) in taps {
        for (out, value) in out.iter_mut().zip(source(index)) {
            *out += weight * value;
        }
    }
}

/// For every output position, the input positions it is made of and their weights: Keys' cubic
/// convolution with a = -0.5, widened by the scale when shrinking.
fn bicubic(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    let scale = from as f64 / to as f64;
    let widen = scale.max(1.0);
    let kernel = |x: f64| match x.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    };
    (0..to)
        .map(|out| {
            let centre = (out as f64 + 0.5) * scale;
            let weight = |index: usize| kernel((index as f64 + 0.5 - centre) / widen);
            let sum: f64 = (0..from).map(weight).sum();
            (0..from)
                .map(|index| (index, (weight(index) / sum) as f32))
                .filter(|(_, weight)| *weight != 0.0)
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_by_hand() {
        // Halving 4 to 2: the first output lies at 1, distances -0.25, 0.25, 0.75, 1.25 after widening by 2
        // with kernel values 0.8671875, 0.8671875, 0.2265625, -0.0703125.
        let filter = bicubic(4, 2);
        let sum = 2.0 * 0.867_187_5 + 0.226_562_5 - 0.070_312_5;
        for (&(index, weight), value) in
            filter[0]
                .iter()
                .zip([0.867_187_5, 0.867_187_5, 0.226_562_5, -0.070_312_5])
        {
            assert!(
                (f64::from(weight) - value / sum).abs() < 1e-7,
                "{index}: {weight}"
            );
        }
        // The same size is the identity.
        assert_eq!(bicubic(3, 3)[1], [(1, 1.0)]);
    }

    #[test]
    fn a_flat_grid_stays_flat() {
        for (from, to) in [(3, 7), (7, 3), (1, 4), (4, 1)] {
            let grid = vec![2.0; from * from * 2];
            let out = resample(&grid, from, to, 2);
            assert_eq!(out.len(), to * to * 2);
            assert!(out.iter().all(|x| (x - 2.0).abs() < 1e-5));
        }
    }
}
