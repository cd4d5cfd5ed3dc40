//! A Vision Transformer's tensors, whatever a family calls them, and how they become the engine's weights.

use super::super::tensors::Reader;
use super::super::weights::{
    Activation, BlockConfig, BlockWeights, HeadInput, HeadPart, Linear, NormWeights, PoolWeights,
    Resampling, VitConfig, VitWeights,
};
use super::super::{BackboneError, Tokens};
use super::source::{Source, Usual};

/// The tensors of a Vision Transformer, not yet put together.
pub(super) struct Parts {
    pub(super) dim: usize,
    pub(super) patch: usize,
    pub(super) hidden: usize,
    /// `[prefix, dim]`.
    pub(super) prefix_tokens: Vec<f32>,
    /// How many of those have a row in `pos_embed`.
    pub(super) placed: usize,
    /// `[placed + patches, dim]`.
    pub(super) pos_embed: Vec<f32>,
    pub(super) patch_embed: Linear,
    pub(super) norm_pre: Option<NormWeights>,
    pub(super) blocks: Vec<BlockWeights>,
    pub(super) norm: NormWeights,
    pub(super) projection: Option<Linear>,
    pub(super) pool: Option<PoolWeights>,
    pub(super) head: Vec<HeadPart>,
}

/// Names of a block's parts; queries, keys and values joined or apart.
pub(super) struct Names {
    pub(super) norms: [&'static str; 2],
    pub(super) qkv: Joined,
    pub(super) proj: &'static str,
    pub(super) mlp: [&'static str; 2],
    pub(super) scales: [&'static str; 2],
}

pub(super) enum Joined {
    /// One linear map.
    One(&'static str),
    /// `in_proj_weight`, `in_proj_bias` of PyTorch's attention.
    PyTorch(&'static str),
    /// Three linear maps.
    Three([&'static str; 3]),
}

/// Reads one block whose names begin with `start`.
pub(super) fn block(
    reader: &mut Reader,
    start: &str,
    names: &Names,
    dim: usize,
    hidden: usize,
) -> BlockWeights {
    let name = |part: &str| format!("{start}{part}");
    let norm1 = reader.norm(&name(names.norms[0]), dim);
    let wide = dim.saturating_mul(3);
    let qkv = match &names.qkv {
        Joined::One(part) => reader.linear(&name(part), wide, dim),
        Joined::PyTorch(part) => Linear {
            weight: reader.values(&name(&format!("{part}.in_proj_weight")), &[wide, dim]),
            bias: reader.tensor(&name(&format!("{part}.in_proj_bias")), &[wide]),
        },
        Joined::Three(parts) => {
            let parts = parts.map(|part| reader.linear(&name(part), dim, dim));
            Linear {
                weight: parts.each_ref().map(|part| &*part.weight).concat().into(),
                bias: parts.iter().flat_map(|part| part.bias.clone()).collect(),
            }
        }
    };
    let mut proj = reader.biased(&name(names.proj), dim, dim);
    let norm2 = reader.norm(&name(names.norms[1]), dim);
    let fc1 = reader.biased(&name(names.mlp[0]), hidden, dim);
    let mut fc2 = reader.biased(&name(names.mlp[1]), dim, hidden);
    // Both layer scales or none.
    let scales = names.scales.map(name);
    if !names.scales[0].is_empty() && scales.iter().any(|name| reader.has(name)) {
        proj.scale(&reader.tensor(&scales[0], &[dim]));
        fc2.scale(&reader.tensor(&scales[1], &[dim]));
    }
    BlockWeights {
        norm1,
        qkv,
        proj,
        norm2,
        fc1,
        fc2,
    }
}

/// Reads all blocks whose names begin with `start` and a number.
pub(super) fn blocks(
    reader: &mut Reader,
    start: &str,
    names: &Names,
    dim: usize,
    hidden: usize,
) -> Vec<BlockWeights> {
    (0..reader.count(start).max(1))
        .map(|index| block(reader, &format!("{start}{index}."), names, dim, hidden))
        .collect()
}

/// The classifier called `name`, which reads these inputs side by side; nothing where there is no matrix that does.
pub(super) fn head(
    reader: &mut Reader,
    name: &str,
    dim: usize,
    inputs: &[HeadInput],
) -> Vec<HeadPart> {
    let shape = reader.shape(&format!("{name}.weight"));
    let &[classes, width] = shape else {
        return Vec::new();
    };
    if dim == 0 || width != dim.saturating_mul(inputs.len()) {
        return Vec::new();
    }
    let whole = reader.linear(name, classes, width);
    let parts = inputs.iter().enumerate().map(|(index, &input)| {
        let rows = whole.weight.chunks_exact(width);
        let weight = rows.flat_map(|row| row[index * dim..(index + 1) * dim].to_vec());
        let bias = match index {
            0 => whole.bias.clone(),
            _ => vec![0.0; classes],
        };
        HeadPart {
            input,
            map: Linear {
                weight: weight.collect(),
                bias,
            },
        }
    });
    parts.collect()
}

/// DeiT's two classifiers, whose mean are the classes' scores; nothing where not both are there with the same classes.
pub(super) fn distilled_head(reader: &mut Reader, names: [&str; 2], dim: usize) -> Vec<HeadPart> {
    let classes = names.map(|name| reader.size(&format!("{name}.weight"), 0));
    if classes[0] != classes[1] {
        return Vec::new();
    }
    let [first, second] =
        [0, 1].map(|index| head(reader, names[index], dim, &[HeadInput::Token(index)]));
    if first.is_empty() || second.is_empty() {
        return Vec::new();
    }
    let mut parts = [first, second].concat();
    for part in &mut parts {
        part.map.scale(&vec![0.5; classes[0]]);
    }
    parts
}

/// `[inputs, outputs]` as a linear map without bias.
pub(super) fn transposed(matrix: &[f32], outputs: usize) -> Linear {
    let column = |output: usize| matrix.iter().skip(output).step_by(outputs.max(1)).copied();
    Linear {
        weight: (0..outputs).flat_map(column).collect(),
        bias: vec![0.0; outputs],
    }
}

impl Source<'_> {
    /// Puts the tensors together. `usual_size` is the input size where nothing is said, if it is not the position
    /// embedding's.
    pub(super) fn vit(
        &self,
        parts: Parts,
        usual: Usual,
        activation: Option<Activation>,
        usual_size: Option<u32>,
        resampling: Resampling,
    ) -> Result<VitWeights, BackboneError> {
        let dim = parts.dim;
        let rows = parts.pos_embed.len() / dim;
        let patches = rows.saturating_sub(parts.placed);
        let grid = patches.isqrt();
        if grid == 0 || grid * grid != patches {
            return Err(self.bad(format!(
                "pos_embed has {rows} rows: the class token and a square number of patches are needed"
            )));
        }
        let too_large = || self.bad("the image size does not fit in 32 bits".into());
        let native = grid.checked_mul(parts.patch).ok_or_else(too_large)?;
        let native = u32::try_from(native).map_err(|_| too_large())?;
        let blocks = BlockConfig {
            dim,
            depth: parts.blocks.len(),
            heads: self.heads(dim)?,
            hidden: parts.hidden,
            layer_norm_eps: self.epsilon(usual)?,
            activation: self.activation(activation)?,
            causal: false,
        };
        self.check_claims(&[
            ("hidden_size", dim),
            ("num_hidden_layers", blocks.depth),
            ("intermediate_size", parts.hidden),
            ("patch_size", parts.patch),
            ("image_size", native as usize),
        ])?;
        let preprocess = self.preprocess(usual_size.unwrap_or(native), usual)?;
        let prefix = parts.prefix_tokens.len() / dim;
        let (placed, free) = parts.pos_embed.split_at(parts.placed * dim);
        let unplaced = vec![0.0; (prefix - parts.placed) * dim];
        let wanted = preprocess.size;
        let weights = VitWeights {
            name: self.name.clone(),
            sha256: self.tensors.sha256.clone(),
            weights_key: self.weights_key.clone(),
            prefix_tokens: parts.prefix_tokens,
            pos_embed: [placed, &unplaced, free].concat(),
            patch_embed: parts.patch_embed,
            norm_pre: parts.norm_pre,
            blocks: parts.blocks,
            norm: parts.norm,
            projection: parts.projection,
            pool: parts.pool,
            config: VitConfig {
                preprocess,
                patch: parts.patch,
                grid,
                prefix,
                blocks,
                project_tokens: self.options.tokens == Tokens::Projected,
                resampling,
                global: self.options.global,
            },
            head: parts.head,
        };
        weights
            .with_image_size(wanted)
            .map_err(|reason| self.bad(reason))
    }
}
