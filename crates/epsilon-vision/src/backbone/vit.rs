//! The Vision Transformer (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021) and its relatives (DeiT,
//! DINOv2, CLIP's and SigLIP's image towers) on the CPU, forward only: one image a thread, so that its activations stay in
//! that thread's cache; with fewer images than threads, several threads an image, some of its rows each. The blocks
//! ([`Transformer`]) also carry the text towers.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::attention_pool::{AttentionPool, PoolScratch};
use super::precision::Precision;
use super::weights::{
    Activation, BlockConfig, BlockWeights, HeadInput, Linear, NormWeights, VitConfig, VitWeights,
};
use super::{Backbone, BackboneError, BackboneInfo, Features, Global};
use epsilon_kernels::attention::{Attention, attend};
use epsilon_kernels::finish::After;
use epsilon_kernels::linear::{Arithmetic, Encoded, LinearMap, stride};
use epsilon_kernels::packed::Rows;
use epsilon_kernels::rows::{Norm, layer_norm};

/// The fewest rows of an image that are worth a thread of their own.
const ROWS: usize = 24;

/// Columns of a product that are worked on before the next product takes them, so that they stay in the second cache.
const PART: usize = 768;

/// A Vision Transformer ready to run. [`Features::tokens`] are the patch tokens after the final layer
/// normalisation, [`Features::global`] is the class token there, or the mean of the patch tokens where there is no
/// class token; both through the projection where the network has one (the tokens only if
/// [`VitConfig::project_tokens`]); or what the pooling head makes of the patch tokens; or the scores of the network's classes ([`Global::Classes`]). Images of a batch are spread over the threads of rayon's current pool.
pub struct Vit {
    info: BackboneInfo,
    config: VitConfig,
    /// What the tokens are before the patches are added: class token, position, patch bias. `[P + N, D]`.
    start: Vec<f32>,
    /// In f32 whatever the rest is in: few operations, and where the largest part of the others' error would come from.
    patch_embed: LinearMap,
    norm_pre: Option<Norm>,
    transformer: Transformer,
    norm: Norm,
    projection: Option<LinearMap>,
    pool: Option<AttentionPool>,
    /// Of the classifier, where its scores are the global vector.
    head: Vec<(HeadInput, LinearMap)>,
    /// Working memory that finished images left for the next.
    spare: Mutex<Vec<Scratch>>,
}

/// The blocks, without what comes before and after.
pub(super) struct Transformer {
    config: BlockConfig,
    blocks: Vec<Block>,
}

struct Block {
    arithmetic: Arithmetic,
    norm1: Norm,
    /// Queries, keys and values of some heads at a time, and how many heads.
    qkv: Vec<(LinearMap, usize)>,
    proj: LinearMap,
    norm2: Norm,
    /// Both maps for a part of the hidden layer at a time.
    mlp: Vec<[LinearMap; 2]>,
}

/// Working memory for one sequence of tokens. Rows lie [`stride`] apart.
pub(super) struct Scratch {
    /// The sequence, `[rows, dim]`; [`Transformer::run`] works in place.
    pub(super) tokens: Vec<f32>,
    patches: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    hidden: Vec<f32>,
    attention: Attention,
    encoded: [Encoded; 2],
    pool: PoolScratch,
    /// Queries, keys and values of all heads, where several threads share a sequence.
    joined: Vec<f32>,
}

impl Block {
    fn new(weights: BlockWeights, config: &BlockConfig, arithmetic: Arithmetic) -> Self {
        let epsilon = config.layer_norm_eps;
        Self {
            arithmetic,
            norm1: norm(weights.norm1, epsilon),
            qkv: by_heads(&weights.qkv, config, arithmetic),
            proj: map(&weights.proj, arithmetic),
            norm2: norm(weights.norm2, epsilon),
            mlp: (0..config.hidden)
                .step_by(PART)
                .map(|first| {
                    let hidden = first..config.hidden.min(first + PART);
                    let part = |linear: &Linear, outputs, inputs| {
                        LinearMap::part(&linear.weight, &linear.bias, outputs, inputs, arithmetic)
                    };
                    [
                        part(&weights.fc1, hidden.clone(), 0..config.dim),
                        part(&weights.fc2, 0..config.dim, hidden),
                    ]
                })
                .collect(),
        }
    }
}

/// Heads whose queries, keys and values are computed together.
fn heads_at_once(config: &BlockConfig) -> usize {
    (PART / (3 * config.dim / config.heads)).clamp(1, config.heads)
}

/// `qkv` in parts of some heads each. Queries carry the scale of the attention.
fn by_heads(qkv: &Linear, config: &BlockConfig, arithmetic: Arithmetic) -> Vec<(LinearMap, usize)> {
    let &BlockConfig { dim, heads, .. } = config;
    let (width, most) = (dim / heads, heads_at_once(config));
    let scales = [1.0 / (width as f32).sqrt(), 1.0, 1.0];
    (0..heads)
        .step_by(most)
        .map(|first| {
            let count = most.min(heads - first);
            let mut weight = Vec::with_capacity(3 * count * width * dim);
            let mut bias = Vec::with_capacity(3 * count * width);
            for (which, scale) in scales.into_iter().enumerate() {
                let from = which * dim + first * width;
                let outputs = from..from + count * width;
                let values = &qkv.weight[from * dim..outputs.end * dim];
                weight.extend(values.iter().map(|value| value * scale));
                bias.extend(qkv.bias[outputs].iter().map(|value| value * scale));
            }
            (LinearMap::new(&weight, &bias, arithmetic), count)
        })
        .collect()
}

pub(super) fn map(linear: &Linear, arithmetic: Arithmetic) -> LinearMap {
    LinearMap::new(&linear.weight, &linear.bias, arithmetic)
}

pub(super) fn norm(weights: NormWeights, epsilon: f32) -> Norm {
    Norm {
        weight: weights.weight,
        bias: weights.bias,
        epsilon,
    }
}

impl Scratch {
    /// Memory for up to `tokens` rows, and for patches of `patch_values` values.
    pub(super) fn new(config: &BlockConfig, tokens: usize, patch_values: usize) -> Self {
        let rows = |width: usize| vec![0.0; tokens * stride(width)];
        Self {
            patches: rows(patch_values),
            tokens: rows(config.dim),
            normed: rows(config.dim),
            qkv: rows(3 * config.dim / config.heads * heads_at_once(config)),
            mixed: rows(config.dim),
            hidden: rows(config.hidden.min(PART)),
            attention: Attention::default(),
            encoded: Default::default(),
            pool: PoolScratch::default(),
            joined: Vec::new(),
        }
    }
}

impl Vit {
    /// Lays the weights out for the CPU.
    ///
    /// # Errors
    ///
    /// [`BackboneError::Cpu`] and [`BackboneError::Precision`] where the instructions cannot be had.
    pub fn new(weights: VitWeights, precision: Precision) -> Result<Self, BackboneError> {
        let arithmetic = precision.arithmetic()?;
        let mut info = weights.info();
        info.precision = precision;
        let config = weights.config;
        let dim = config.blocks.dim;
        let mut start = weights.pos_embed;
        let (prefix, patches) = start.split_at_mut(config.prefix * dim);
        for (value, added) in prefix.iter_mut().zip(&weights.prefix_tokens) {
            *value += added;
        }
        for row in patches.chunks_exact_mut(dim) {
            for (value, added) in row.iter_mut().zip(&weights.patch_embed.bias) {
                *value += added;
            }
        }
        let epsilon = config.blocks.layer_norm_eps;
        let patch_embed = Linear {
            weight: weights.patch_embed.weight,
            bias: vec![0.0; dim],
        };
        let exact = |linear: &Linear| map(linear, Arithmetic::F32);
        let head = match config.global {
            Global::Features => Vec::new(),
            Global::Classes => {
                let parts = weights.head.iter();
                parts.map(|part| (part.input, exact(&part.map))).collect()
            }
        };
        Ok(Self {
            info,
            start,
            patch_embed: exact(&patch_embed),
            norm_pre: weights.norm_pre.map(|weights| norm(weights, epsilon)),
            transformer: Transformer::new(weights.blocks, &config.blocks, arithmetic),
            norm: norm(weights.norm, epsilon),
            projection: weights.projection.as_ref().map(exact),
            pool: weights
                .pool
                .map(|pool| AttentionPool::new(pool, &config.blocks)),
            head,
            spare: Mutex::new(Vec::new()),
            config,
        })
    }

    /// One image through the whole network. `tokens` is `[N, D]`, `global` is one vector.
    fn forward_one(&self, image: &[f32], s: &mut Scratch, tokens: &mut [f32], global: &mut [f32]) {
        let rows = self.sequence();
        self.start(image, 0..rows, s);
        self.transformer.run(s, rows);
        self.transformer.normalise(&self.norm, s, rows);
        self.finish(s, tokens, global);
    }

    /// The same as [`Vit::forward_one`], to the last bit, on `threads` threads, each with some of the rows.
    fn forward_split(
        &self,
        image: &[f32],
        threads: usize,
        s: &mut Scratch,
        tokens: &mut [f32],
        global: &mut [f32],
    ) {
        let (rows, dim) = (self.sequence(), self.config.blocks.dim);
        let each = rows.div_ceil(threads);
        let starts = (0..rows).step_by(each);
        let mut parts: Vec<(Range<usize>, Scratch)> = starts
            .map(|first| (first..rows.min(first + each), self.take_scratch()))
            .collect();
        parts
            .par_iter_mut()
            .with_max_len(1)
            .for_each(|(rows, s)| self.start(image, rows.clone(), s));
        self.transformer.run_split(&mut parts, &mut s.joined, rows);
        let normed = s.normed.par_chunks_mut(each * stride(dim));
        parts
            .par_iter_mut()
            .zip(normed)
            .with_max_len(1)
            .for_each(|((rows, s), normed)| {
                self.transformer.normalise(&self.norm, s, rows.len());
                let values = rows.len() * stride(dim);
                normed[..values].copy_from_slice(&s.normed[..values]);
            });
        self.finish(s, tokens, global);
        for (_, scratch) in parts {
            self.return_scratch(scratch);
        }
    }

    /// Length of the sequence.
    fn sequence(&self) -> usize {
        self.config.prefix + self.config.grid * self.config.grid
    }

    /// Some rows of the sequence as the first block takes them.
    fn start(&self, image: &[f32], rows: Range<usize>, s: &mut Scratch) {
        let count = rows.len();
        self.embed(image, rows, s);
        if let Some(norm) = &self.norm_pre {
            self.transformer.normalise(norm, s, count);
            std::mem::swap(&mut s.tokens, &mut s.normed);
        }
    }

    /// Normalised rows to the results.
    fn finish(&self, s: &mut Scratch, tokens: &mut [f32], global: &mut [f32]) {
        let (dim, prefix) = (self.config.blocks.dim, self.config.prefix);
        let (step, count) = (stride(dim), self.info.tokens);
        let patches = &s.normed[prefix * step..];
        let heads_mean = self.head.iter().any(|(input, _)| *input == HeadInput::Mean);
        if prefix == 0 || heads_mean {
            // The place of the first row is free by now.
            mean(patches.chunks_exact(step).take(count), &mut s.tokens[..dim]);
        }
        let rows = |data, count| Rows {
            data,
            stride: step,
            count,
        };
        let whole = if prefix == 0 { &s.tokens } else { &s.normed };
        for (index, (input, map)) in self.head.iter().enumerate() {
            let row = match input {
                HeadInput::Token(index) => &s.normed[index * step..],
                HeadInput::Mean => &s.tokens,
            };
            let after = if index == 0 { After::Store } else { After::Add };
            map.apply(rows(row, 1).into(), after, global, map.outputs());
        }
        match (&self.pool, &self.projection) {
            _ if !self.head.is_empty() => {}
            (Some(pool), _) => pool.pool(rows(patches, count), &mut s.pool, global),
            (None, Some(map)) => {
                let whole = rows(whole, 1).into();
                map.apply(whole, After::Store, global, map.outputs());
            }
            (None, None) => global.copy_from_slice(&whole[..dim]),
        }
        match (&self.pool, &self.projection) {
            (Some(pool), _) if self.config.project_tokens => {
                pool.each(rows(patches, count), &mut s.pool, tokens);
            }
            (_, Some(map)) if self.config.project_tokens => {
                let patches = rows(patches, count).into();
                map.apply(patches, After::Store, tokens, map.outputs());
            }
            _ => {
                for (row, out) in patches.chunks_exact(step).zip(tokens.chunks_exact_mut(dim)) {
                    out.copy_from_slice(&row[..dim]);
                }
            }
        }
    }

    /// Patches to some rows of the sequence.
    fn embed(&self, image: &[f32], rows: Range<usize>, s: &mut Scratch) {
        let &VitConfig {
            patch,
            grid,
            prefix,
            ..
        } = &self.config;
        let dim = self.config.blocks.dim;
        let size = grid * patch;
        let (step, width) = (stride(3 * patch * patch), patch * patch);
        // The first of these rows may come before the patches.
        let before = prefix.saturating_sub(rows.start).min(rows.len());
        let count = rows.len() - before;
        let first = (rows.start + before).saturating_sub(prefix);
        let patches = s.patches.chunks_exact_mut(step).take(count);
        for (index, out) in (first..).zip(patches) {
            let corner = index / grid * patch * size + index % grid * patch;
            for channel in 0..3 {
                for row in 0..patch {
                    let from = channel * size * size + corner + row * size;
                    let to = channel * width + row * patch;
                    out[to..to + patch].copy_from_slice(&image[from..from + patch]);
                }
            }
        }
        let starts = &self.start[rows.start * dim..rows.end * dim];
        let tokens = s.tokens.chunks_exact_mut(stride(dim));
        for (row, start) in tokens.zip(starts.chunks_exact(dim)) {
            row[..dim].copy_from_slice(start);
        }
        let patches = Rows {
            data: &s.patches,
            stride: step,
            count,
        };
        let out = &mut s.tokens[before * stride(dim)..];
        self.patch_embed
            .apply(patches.into(), After::Add, out, stride(dim));
    }

    fn take_scratch(&self) -> Scratch {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_else(|| {
            let patch = self.config.patch;
            Scratch::new(&self.config.blocks, self.sequence(), 3 * patch * patch)
        })
    }

    fn return_scratch(&self, scratch: Scratch) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push(scratch);
    }
}

/// Blocks of a transformer, from the first, that stay in bf16, or f32, where the others are in bytes. Few values of the embedded
/// patches are far larger than the rest, and what the first blocks round off, all others build on (docs/performance.md).
const EXACT_BLOCKS: usize = 2;

/// The arithmetic of a transformer's block, counted from 0.
fn of_block(arithmetic: Arithmetic, place: usize) -> Arithmetic {
    match arithmetic {
        Arithmetic::Int8(_) if place < EXACT_BLOCKS => Arithmetic::floats(),
        other => other,
    }
}

impl Transformer {
    pub(super) fn new(
        blocks: Vec<BlockWeights>,
        config: &BlockConfig,
        arithmetic: Arithmetic,
    ) -> Self {
        Self {
            config: config.clone(),
            blocks: blocks
                .into_par_iter()
                .enumerate()
                .map(|(place, block)| Block::new(block, config, of_block(arithmetic, place)))
                .collect(),
        }
    }

    /// The first `count` rows of `s.tokens` through all blocks.
    pub(super) fn run(&self, s: &mut Scratch, count: usize) {
        for block in &self.blocks {
            self.attend(block, s, count);
            self.mlp(block, s, count);
        }
    }

    /// The first `count` rows of a sequence through all blocks, each part on a thread of its own: its rows, which are the first of
    /// its `tokens`. `joined` is room for what the parts see of each other.
    fn run_split(
        &self,
        parts: &mut [(Range<usize>, Scratch)],
        joined: &mut Vec<f32>,
        count: usize,
    ) {
        let each = parts.first().map_or(1, |(rows, _)| rows.len());
        let step = stride(3 * self.config.dim);
        joined.resize(count * step, 0.0);
        for block in &self.blocks {
            let joined_rows = joined.par_chunks_mut(each * step);
            parts
                .par_iter_mut()
                .zip(joined_rows)
                .with_max_len(1)
                .for_each(|((rows, s), qkv)| self.ask(block, s, rows.len(), qkv, step));
            let qkv = Rows {
                data: joined,
                stride: step,
                count,
            };
            parts.par_iter_mut().with_max_len(1).for_each(|(rows, s)| {
                self.answer(block, s, rows.clone(), qkv);
                self.mlp(block, s, rows.len());
            });
        }
    }

    /// `qkv = qkv(norm1(x))`, the maps' results side by side.
    fn ask(&self, block: &Block, s: &mut Scratch, count: usize, qkv: &mut [f32], step: usize) {
        let dim = self.config.dim;
        self.normalise(&block.norm1, s, count);
        let [encoded, _] = &mut s.encoded;
        let normed = encoded.encode(block.arithmetic, rows(&s.normed, dim, count), dim);
        let mut first = 0;
        for (map, _) in &block.qkv {
            map.apply(normed, After::Store, &mut qkv[first..], step);
            first += map.outputs();
        }
    }

    /// `x += proj(attention(qkv))` for some of the tokens, `of`.
    fn answer(&self, block: &Block, s: &mut Scratch, of: Range<usize>, qkv: Rows) {
        let (dim, causal) = (self.config.dim, self.config.causal);
        let width = dim / self.config.heads;
        let mut first = 0;
        for (map, heads) in &block.qkv {
            let part = Rows {
                data: &qkv.data[3 * first * width..],
                ..qkv
            };
            debug_assert_eq!(map.outputs(), 3 * heads * width);
            let out = &mut s.mixed[first * width..];
            let shape = [*heads, width];
            let room = &mut s.attention;
            attend(
                block.arithmetic,
                part,
                shape,
                of.clone(),
                causal,
                room,
                out,
                stride(dim),
            );
            first += heads;
        }
        self.project(block, s, of.len());
    }

    /// `x += proj(mixed)`.
    fn project(&self, block: &Block, s: &mut Scratch, count: usize) {
        let dim = self.config.dim;
        let [encoded, _] = &mut s.encoded;
        let mixed = encoded.encode(block.arithmetic, rows(&s.mixed, dim, count), dim);
        block
            .proj
            .apply(mixed, After::Add, &mut s.tokens, stride(dim));
    }

    /// `normed = norm(tokens)`.
    fn normalise(&self, norm: &Norm, s: &mut Scratch, count: usize) {
        let dim = self.config.dim;
        let rows = s.tokens.chunks_exact(stride(dim)).take(count);
        for (row, out) in rows.zip(s.normed.chunks_exact_mut(stride(dim))) {
            layer_norm(&row[..dim], norm, &mut out[..dim]);
        }
    }

    /// `x += proj(attention(qkv(norm1(x))))`.
    fn attend(&self, block: &Block, s: &mut Scratch, count: usize) {
        let &BlockConfig {
            dim, heads, causal, ..
        } = &self.config;
        self.normalise(&block.norm1, s, count);
        let [encoded, _] = &mut s.encoded;
        let normed = encoded.encode(block.arithmetic, rows(&s.normed, dim, count), dim);
        let width = dim / heads;
        let mut first = 0;
        for (map, heads) in &block.qkv {
            let step = stride(map.outputs());
            map.apply(normed, After::Store, &mut s.qkv, step);
            let qkv = rows(&s.qkv, map.outputs(), count);
            let out = &mut s.mixed[first * width..];
            let shape = [*heads, width];
            let room = &mut s.attention;
            attend(
                block.arithmetic,
                qkv,
                shape,
                0..count,
                causal,
                room,
                out,
                stride(dim),
            );
            first += heads;
        }
        self.project(block, s, count);
    }

    /// `x += fc2(activation(fc1(norm2(x))))`.
    fn mlp(&self, block: &Block, s: &mut Scratch, count: usize) {
        let dim = self.config.dim;
        let activation = activation(self.config.activation);
        self.normalise(&block.norm2, s, count);
        let [encoded, encoded_hidden] = &mut s.encoded;
        let normed = encoded.encode(block.arithmetic, rows(&s.normed, dim, count), dim);
        for [fc1, fc2] in &block.mlp {
            let width = fc1.outputs();
            fc1.apply(normed, activation, &mut s.hidden, stride(width));
            let hidden = rows(&s.hidden, width, count);
            let hidden = encoded_hidden.encode(block.arithmetic, hidden, width);
            fc2.apply(hidden, After::Add, &mut s.tokens, stride(dim));
        }
    }
}

/// What a product's results go through.
pub(super) fn activation(activation: Activation) -> After {
    match activation {
        Activation::Gelu => After::Gelu,
        Activation::QuickGelu => After::QuickGelu,
        Activation::TanhGelu => After::TanhGelu,
    }
}

/// The mean of some rows.
fn mean<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, out: &mut [f32]) {
    let count = rows.len() as f32;
    out.fill(0.0);
    for row in rows {
        for (sum, value) in out.iter_mut().zip(row) {
            *sum += value / count;
        }
    }
}

/// `count` rows of `width` values, [`stride`] apart.
fn rows(data: &[f32], width: usize, count: usize) -> Rows<'_> {
    Rows {
        data,
        stride: stride(width),
        count,
    }
}

impl Backbone for Vit {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn forward(
        &self,
        images: &[f32],
        count: usize,
        out: &mut Features,
    ) -> Result<(), BackboneError> {
        let image_len = self.config.preprocess.len();
        self.info.check_images(images, count)?;
        let (tokens, dim, global) = (self.info.tokens, self.info.dim, self.info.global_dim());
        out.tokens.resize(count * tokens * dim, 0.0);
        out.global.resize(count * global, 0.0);
        let threads = (rayon::current_num_threads() / count.max(1)).min(self.sequence() / ROWS);
        images
            .par_chunks_exact(image_len)
            .zip(out.tokens.par_chunks_exact_mut(tokens * dim))
            .zip(out.global.par_chunks_exact_mut(global))
            .with_max_len(1)
            .for_each(|((image, tokens), global)| {
                let mut scratch = self.take_scratch();
                match threads {
                    0 | 1 => self.forward_one(image, &mut scratch, tokens, global),
                    _ => self.forward_split(image, threads, &mut scratch, tokens, global),
                }
                self.return_scratch(scratch);
            });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use safetensors::tensor::{TensorView, serialize};
    use safetensors::{Dtype, SafeTensors};

    use super::super::{Options, load, load_weights, load_with};
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/vit", name]
            .iter()
            .collect()
    }

    fn shared(name: &str) -> PathBuf {
        [
            env!("CARGO_MANIFEST_DIR"),
            "../../../shared/data/backbones",
            name,
        ]
        .iter()
        .collect()
    }

    /// Name to shape and little-endian f32 values: a weight file that can be spoilt.
    type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

    fn read(path: &Path) -> Tensors {
        let bytes = fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let values = |tensor: &TensorView| {
            let (quads, _) = tensor.data().as_chunks::<4>();
            quads.iter().map(|x| f32::from_le_bytes(*x)).collect()
        };
        file.iter()
            .map(|(name, tensor)| (name.into(), (tensor.shape().to_vec(), values(&tensor))))
            .collect()
    }

    /// Writes a weight file, converting each value with `convert`.
    fn write<const N: usize>(
        tensors: &Tensors,
        settings: Option<&str>,
        dtype: Dtype,
        convert: impl Fn(f32) -> [u8; N],
    ) -> tempfile::NamedTempFile {
        let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .iter()
            .map(|(name, (shape, values))| {
                let bytes = values.iter().flat_map(|x| convert(*x)).collect();
                (name.clone(), shape.clone(), bytes)
            })
            .collect();
        let views = data.iter().map(|(name, shape, bytes)| {
            (name, TensorView::new(dtype, shape.clone(), bytes).unwrap())
        });
        let metadata = settings.map(|text| HashMap::from([("epsilon.vit".into(), text.into())]));
        let bytes = serialize(views, metadata).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn write_f32(tensors: &Tensors, settings: Option<&str>) -> tempfile::NamedTempFile {
        write(tensors, settings, Dtype::F32, f32::to_le_bytes)
    }

    fn message(tensors: &Tensors, settings: Option<&str>) -> String {
        let file = write_f32(tensors, settings);
        load(file.path())
            .err()
            .expect("a bad file was loaded")
            .to_string()
    }

    const HEADS: Option<&str> = Some(r#"{"heads": 5}"#);

    /// Largest differences of patch tokens, class tokens and logits from a reference `[n, 1 + N, D]`.
    fn differences(weights: &VitWeights, io: &Tensors, suffix: &str) -> [f32; 3] {
        let (shape, input) = &io[&format!("input{suffix}")];
        let run = |global| {
            let mut weights = weights.clone();
            weights.config.global = global;
            let vit = Vit::new(weights, Precision::F32).unwrap();
            let mut out = Features::default();
            vit.forward(input, shape[0], &mut out).unwrap();
            (vit, out)
        };
        let (vit, out) = run(Global::Features);
        let (classifier, Features { global: logits, .. }) = run(Global::Classes);
        let classes = classifier.info.classes.unwrap();
        assert_eq!(
            (classes, classifier.info.global_dim()),
            (logits.len() / shape[0], classes)
        );
        let dim = vit.info.dim;
        let (mut tokens, mut global) = (Vec::new(), Vec::new());
        for image in io[&format!("tokens{suffix}")]
            .1
            .chunks_exact((1 + vit.info.tokens) * dim)
        {
            global.extend_from_slice(&image[..dim]);
            tokens.extend_from_slice(&image[dim..]);
        }
        let largest = |a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len());
            a.iter()
                .zip(b)
                .map(|(a, b)| (a - b).abs())
                .max_by(f32::total_cmp)
                .unwrap_or_default()
        };
        [
            largest(&out.tokens, &tokens),
            largest(&out.global, &global),
            largest(&logits, &io[&format!("logits{suffix}")].1),
        ]
    }

    #[test]
    fn agrees_with_timm_at_every_input_size() {
        let io = read(&fixture("tiny_io.safetensors"));
        for size in [20, 12, 28] {
            let weights = load_weights(&fixture("tiny.safetensors")).unwrap();
            let weights = weights.with_image_size(size).unwrap();
            for difference in differences(&weights, &io, &format!("_{size}")) {
                assert!(difference < 1e-4, "{size} pixels: differs by {difference}");
            }
        }
    }

    #[test]
    fn agrees_with_real_weights() {
        let path = shared("deit_tiny_patch16_224.safetensors");
        if !path.exists() {
            println!("skipped: ../shared/data is missing");
            return;
        }
        let weights = load_weights(&path).unwrap();
        let info = weights.info();
        assert_eq!((info.tokens, info.dim, info.grid), (196, 192, (14, 14)));
        assert_eq!((info.preprocess.size, weights.classes()), (224, Some(1000)));
        let io = read(&shared("deit_tiny_reference_io.safetensors"));
        let [tokens, global, logits] = differences(&weights, &io, "");
        assert!(
            tokens < 1e-3 && global < 1e-3,
            "tokens {tokens}, class token {global}"
        );
        assert!(logits < 1e-3, "logits {logits}");
        let options = Options {
            global: Global::Classes,
            ..Options::default()
        };
        let classifier = load_with(&path, &options).unwrap();
        assert_eq!(classifier.info().options(), options);
        let mut out = Features::default();
        classifier.forward(&io["input"].1, 1, &mut out).unwrap();
        let best =
            |scores: &[f32]| (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        assert_eq!(best(&out.global), best(&io["logits"].1));
    }

    /// Mean cosine of rows of `dim` values.
    fn mean_cosine(a: &[f32], b: &[f32], dim: usize) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let pairs = a.chunks_exact(dim).zip(b.chunks_exact(dim));
        let cosines = pairs.map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
        cosines.sum::<f32>() / (a.len() / dim) as f32
    }

    #[test]
    fn other_precisions_agree_with_f32() {
        let real = shared("deit_tiny_patch16_224.safetensors");
        let tiny = (
            fixture("tiny.safetensors"),
            fixture("tiny_io.safetensors"),
            "input_20",
            0.99,
        );
        let mut cases = vec![tiny];
        if real.exists() {
            let io = shared("deit_tiny_reference_io.safetensors");
            cases.push((real, io, "input", 0.999));
        } else {
            println!("skipped: ../shared/data is missing");
        }
        for (weights, io, input, int8) in cases {
            let (shape, input) = &read(&io)[input];
            let run = |precision| {
                let vit = Vit::new(load_weights(&weights).unwrap(), precision)?;
                let mut out = Features::default();
                vit.forward(input, shape[0], &mut out).unwrap();
                assert_eq!(vit.info.precision, precision);
                let blocks = &vit.transformer.blocks;
                let all_f32 = blocks
                    .iter()
                    .all(|block| matches!(block.arithmetic, Arithmetic::F32));
                Ok::<_, BackboneError>((out, vit.info.dim, all_f32))
            };
            let (exact, dim, _) = run(Precision::F32).unwrap();
            for (precision, least) in [(Precision::Bf16, 0.999), (Precision::Int8, int8)] {
                let (out, all_f32) = match run(precision) {
                    Ok((out, _, all_f32)) => (out, all_f32),
                    Err(error) => {
                        assert!(matches!(error, BackboneError::Precision { .. }), "{error}");
                        let int8 = epsilon_kernels::Int8Instructions::find().is_some();
                        assert!(!(precision == Precision::Int8 && int8), "{error}");
                        println!("skipped: {error}");
                        continue;
                    }
                };
                let cosine = mean_cosine(&out.tokens, &exact.tokens, dim);
                assert!(cosine > least, "{precision}: mean cosine {cosine}");
                // A network of no more blocks than stay in floats is in f32 where the CPU has no bf16.
                assert_eq!(out == exact, all_f32, "{precision}");
            }
        }
    }

    #[test]
    fn the_file_tells_the_shape() {
        let vit = load(&fixture("tiny.safetensors")).unwrap();
        let info = vit.info();
        assert_eq!(
            (info.name.as_str(), info.tokens, info.dim),
            ("tiny", 25, 40)
        );
        assert_eq!(info.preprocess.size, 20);
        assert_eq!(info.preprocess.mean, [0.5, 0.4, 0.3]);
        assert_eq!(info.weights_sha256.len(), 64);
    }

    #[test]
    fn half_precision_weights_are_read() {
        let io = read(&fixture("tiny_io.safetensors"));
        let tensors = read(&fixture("tiny.safetensors"));
        let f16 = write(&tensors, HEADS, Dtype::F16, |x| {
            half::f16::from_f32(x).to_le_bytes()
        });
        let bf16 = write(&tensors, HEADS, Dtype::BF16, |x| {
            half::bf16::from_f32(x).to_le_bytes()
        });
        for (file, tolerance) in [(f16, 0.02), (bf16, 0.2)] {
            let weights = load_weights(file.path()).unwrap();
            let difference = differences(&weights, &io, "_20")[0];
            assert!(difference < tolerance, "differs by {difference}");
        }
    }

    #[test]
    fn metadata_sets_the_image_size() {
        let tensors = read(&fixture("tiny.safetensors"));
        let file = write_f32(
            &tensors,
            Some(r#"{"heads": 5, "image_size": 28, "layer_norm_eps": 1e-5}"#),
        );
        let info = load(file.path()).unwrap().info().clone();
        assert_eq!((info.preprocess.size, info.grid), (28, (7, 7)));
    }

    #[test]
    fn every_wrong_tensor_is_named() {
        let mut tensors = read(&fixture("tiny.safetensors"));
        tensors.remove("norm.bias");
        tensors.remove("blocks.1.attn.qkv.weight");
        tensors.insert("blocks.0.more.gamma".into(), (vec![40], vec![1.0; 40]));
        tensors.insert("blocks.1.mlp.fc2.bias".into(), (vec![4], vec![1.0; 4]));
        let text = message(&tensors, HEADS);
        for part in [
            "norm.bias: missing",
            "blocks.1.attn.qkv.weight: missing",
            "blocks.0.more.gamma: not part of this network",
            "blocks.1.mlp.fc2.bias: shape [4], expected [40]",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let integers = write(
            &read(&fixture("tiny.safetensors")),
            HEADS,
            Dtype::I32,
            |x| (x as i32).to_le_bytes(),
        );
        let text = load(integers.path()).err().unwrap().to_string();
        assert!(text.contains("cls_token: type I32"), "{text}");
        assert!(matches!(
            load(&fixture("tiny_io.safetensors")),
            Err(BackboneError::Unknown { .. })
        ));
    }

    #[test]
    fn settings_that_do_not_fit_are_errors() {
        let tensors = read(&fixture("tiny.safetensors"));
        for (settings, part) in [
            (None, "heads"),
            (Some(r#"{"heads": 3}"#), "3 heads"),
            (Some(r#"{"head": 5}"#), "unknown field `head`"),
            (Some("not json"), "epsilon.vit"),
            (
                Some(r#"{"heads": 5, "image_size": 30}"#),
                "multiple of the patch size 4",
            ),
            (
                Some(r#"{"heads": 5, "image_size": 0}"#),
                "multiple of the patch size 4",
            ),
            (Some(r#"{"heads": 5, "std": [1, 0, 1]}"#), "above zero"),
            (
                Some(r#"{"heads": 5, "fit": {"shorter_side": {"resize": 19}}}"#),
                "19 pixels",
            ),
        ] {
            let text = message(&tensors, settings);
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let mut odd = tensors;
        odd.insert("pos_embed".into(), (vec![1, 24, 40], vec![0.0; 960]));
        assert!(message(&odd, HEADS).contains("pos_embed has 24 rows"));
    }

    #[test]
    fn values_that_are_not_finite_are_an_error() {
        let mut tensors = read(&fixture("tiny.safetensors"));
        tensors.get_mut("blocks.1.norm2.weight").unwrap().1[3] = f32::NAN;
        assert!(message(&tensors, HEADS).contains("blocks.1.norm2.weight"));
    }

    #[test]
    fn a_file_cut_short_or_foreign_is_an_error() {
        let whole = fs::read(fixture("tiny.safetensors")).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
            fs::write(file.path(), &whole[..length]).unwrap();
            let error = load(file.path()).err().unwrap();
            assert!(
                matches!(
                    error,
                    BackboneError::Format { .. } | BackboneError::Read { .. }
                ),
                "{length}: {error}"
            );
        }
        fs::write(file.path(), "words, many words, no tensors").unwrap();
        assert!(matches!(
            load(file.path()),
            Err(BackboneError::Format { .. })
        ));
        let missing = Path::new("/no/such/weights.safetensors");
        assert!(matches!(load(missing), Err(BackboneError::Missing { .. })));
    }

    #[test]
    fn a_batch_of_the_wrong_length_is_an_error() {
        let vit = load(&fixture("tiny.safetensors")).unwrap();
        let error = vit.forward(&[0.0; 1199], 1, &mut Features::default());
        assert!(matches!(
            error,
            Err(BackboneError::Images { expected: 1200, .. })
        ));
        vit.forward(&[], 0, &mut Features::default()).unwrap();
    }

    /// However many threads share an image, it comes out the same to the last bit.
    #[test]
    fn an_image_does_not_depend_on_the_number_of_threads() {
        let side = 64;
        let settings = format!(r#"{{"heads": 5, "image_size": {side}, "layer_norm_eps": 1e-5}}"#);
        let file = write_f32(&read(&fixture("tiny.safetensors")), Some(&settings));
        let image: Vec<f32> = (0..3 * side * side)
            .map(|at| (at as f32 * 0.37).sin())
            .collect();
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let vit = match Vit::new(load_weights(file.path()).unwrap(), precision) {
                Ok(vit) => vit,
                Err(error) => {
                    println!("skipped: {error}");
                    continue;
                }
            };
            assert!(vit.sequence() > 8 * ROWS);
            let with = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let mut out = Features::default();
                pool.unwrap()
                    .install(|| vit.forward(&image, 1, &mut out))
                    .unwrap();
                out
            };
            let alone = with(1);
            for threads in [2, 3, 8, 40] {
                assert_eq!(with(threads), alone, "{threads} threads");
            }
        }
    }

    #[test]
    fn an_image_does_not_depend_on_its_batch() {
        let input = &read(&fixture("tiny_io.safetensors"))["input_20"].1;
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let weights = load_weights(&fixture("tiny.safetensors")).unwrap();
            let vit = match Vit::new(weights, precision) {
                Ok(vit) => vit,
                Err(error) => {
                    println!("skipped: {error}");
                    continue;
                }
            };
            let (mut all, mut one) = (Features::default(), Features::default());
            vit.forward(input, 3, &mut all).unwrap();
            vit.forward(&input[1200..2400], 1, &mut one).unwrap();
            assert_eq!(all.tokens[25 * 40..2 * 25 * 40], one.tokens);
            assert_eq!(all.global[40..80], one.global);
        }
    }
}
