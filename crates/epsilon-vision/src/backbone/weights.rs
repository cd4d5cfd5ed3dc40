//! Weights of a Vision Transformer or one of its relatives in the engine's terms, whatever file they came from.

use serde::{Deserialize, Serialize};

use super::precision::Precision;
use super::values::Values;
use super::{BackboneInfo, Global};
use crate::image::Preprocess;

/// What stands between the two linear maps of a block's MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `x Phi(x)`, exact.
    #[default]
    Gelu,
    /// `x sigmoid(1.702 x)`, as OpenAI's CLIP was trained.
    QuickGelu,
    /// GELU's approximation by a hyperbolic tangent (`gelu_pytorch_tanh`), as SigLIP was trained.
    TanhGelu,
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

/// How a position embedding becomes one of another size; both bicubic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resampling {
    /// a = -0.5, widened when shrinking: timm's `resample_abs_pos_embed`.
    #[default]
    Antialiased,
    /// a = -0.75, never widened: transformers' DINOv2 without registers.
    Plain,
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
    /// Whether the projection or the pooling head (where there is one) makes the tokens too, not only the global vector.
    pub project_tokens: bool,
    /// For images of another size.
    pub resampling: Resampling,
    /// Which global vector.
    pub global: Global,
}

/// A linear map as PyTorch keeps it: `y = weight x + bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[outputs, inputs]`, row by row.
    pub weight: Values,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

impl Linear {
    /// Multiplies every output by its own factor, `[outputs]`.
    pub fn scale(&mut self, factors: &[f32]) {
        let inputs = self.weight.len() / self.bias.len().max(1);
        let rows = self.weight.to_mut().chunks_exact_mut(inputs.max(1));
        for ((row, bias), factor) in rows.zip(&mut self.bias).zip(factors) {
            row.iter_mut().for_each(|value| *value *= factor);
            *bias *= factor;
        }
    }
}

/// What a part of a classifier reads, after the final layer normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadInput {
    /// One of the tokens before the patches, counted from 0: the class token, or DeiT's distillation token.
    Token(usize),
    /// The mean of the patch tokens.
    Mean,
}

/// A part of a classifier. The classes' scores are the sum over the parts.
#[derive(Clone, Debug)]
pub struct HeadPart {
    /// What it reads.
    pub input: HeadInput,
    /// `[classes, dim]`.
    pub map: Linear,
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

/// SigLIP's attention pooling head: with one query, `y = proj(attention(probe, x, x))`, then
/// `y + fc2(activation(fc1(norm(y))))`. Heads, activation and epsilon are the blocks'.
#[derive(Clone, Debug)]
pub struct PoolWeights {
    /// `[dim]`.
    pub probe: Vec<f32>,
    /// The probe to the query, tokens to keys and values, each `dim` wide, one after the other.
    pub qkv: Linear,
    /// From the joined heads back to `dim`.
    pub proj: Linear,
    /// Before the MLP.
    pub norm: NormWeights,
    /// `dim` to a hidden layer.
    pub fc1: Linear,
    /// From there to `dim`.
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
    /// The part of the file that they are, where it holds several networks.
    pub weights_key: Option<String>,
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
    /// What makes the global vector of the tokens, if any; a network with one has no projection.
    pub pool: Option<PoolWeights>,
    /// The classifier in the file, empty where it has none.
    pub head: Vec<HeadPart>,
}

impl VitWeights {
    /// What the network is and what goes in and comes out.
    pub fn info(&self) -> BackboneInfo {
        let (grid, dim) = (self.config.grid, self.config.blocks.dim);
        let pooled = self.pool.as_ref().map(|pool| pool.proj.bias.len());
        let projected = self.projection.as_ref().map(|map| map.bias.len());
        let projected = projected.or(pooled);
        let width = match projected {
            Some(width) if self.config.project_tokens => width,
            _ => dim,
        };
        let wanted = self.config.global == Global::Classes;
        let classes = self.classes().filter(|_| wanted);
        let global = classes.or(projected).unwrap_or(dim);
        BackboneInfo {
            name: self.name.clone(),
            weights_sha256: self.sha256.clone(),
            weights_key: self.weights_key.clone(),
            preprocess: self.config.preprocess.clone(),
            tokens: grid * grid,
            dim: width,
            grid: (grid, grid),
            global: (global != width).then_some(global),
            classes,
            projected: projected.is_some() && self.config.project_tokens,
            precision: Precision::F32,
        }
    }

    /// Classes of the classifier, if the file has one.
    pub fn classes(&self) -> Option<usize> {
        self.head.first().map(|part| part.map.bias.len())
    }

    /// The same network for images of `size` x `size` pixels. The position embedding of the patches is
    /// resampled ([`VitConfig::resampling`]); those of the tokens before them are kept.
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
            let filter = match self.config.resampling {
                Resampling::Antialiased => bicubic(from, to),
                Resampling::Plain => plain_bicubic(from, to),
            };
            let resampled = resample(patches, from, to, dim, &filter);
            self.pos_embed = [prefix, &resampled].concat();
        }
        self.config.grid = to;
        self.config.preprocess.size = size;
        Ok(self)
    }
}

/// For every output position, the input positions it is made of and their weights.
type Taps = Vec<Vec<(usize, f32)>>;

/// Resamples a square grid `[from, from, dim]` to `[to, to, dim]`, columns first.
fn resample(grid: &[f32], from: usize, to: usize, dim: usize, filter: &Taps) -> Vec<f32> {
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

/// Keys' cubic convolution with a = -0.5, widened by the scale when shrinking.
fn bicubic(from: usize, to: usize) -> Taps {
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

/// Keys' cubic convolution with a = -0.75 over the four nearest positions, those beyond the edge taken from it.
fn plain_bicubic(from: usize, to: usize) -> Taps {
    let scale = from as f64 / to as f64;
    let near = |x: f64| (1.25 * x - 2.25) * x * x + 1.0;
    let far = |x: f64| ((-0.75 * x + 3.75) * x - 6.0) * x + 3.0;
    (0..to)
        .map(|out| {
            let centre = (out as f64 + 0.5) * scale - 0.5;
            let (left, part) = (centre.floor(), centre - centre.floor());
            let weights = [
                far(1.0 + part),
                near(part),
                near(1.0 - part),
                far(2.0 - part),
            ];
            let index =
                |tap: usize| (left + tap as f64 - 1.0).clamp(0.0, (from - 1) as f64) as usize;
            (0..4)
                .map(|tap| (index(tap), weights[tap] as f32))
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
            for filter in [bicubic(from, to), plain_bicubic(from, to)] {
                let out = resample(&grid, from, to, 2, &filter);
                assert_eq!(out.len(), to * to * 2);
                assert!(out.iter().all(|x| (x - 2.0).abs() < 1e-5));
            }
        }
    }
}
