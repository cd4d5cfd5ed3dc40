//! SigLIP's and SigLIP 2's image tower, of fixed resolution, with transformers' names.
//! Source: <https://github.com/huggingface/transformers>, `models/siglip/modeling_siglip.py`.

use super::super::tensors::Reader;
use super::super::weights::{Activation, HeadInput, Linear, PoolWeights, Resampling};
use super::super::{BackboneError, Network};
use super::source::{Source, Usual};
use super::vision_transformer::{Parts, blocks, head};
use super::{Family, clip};
use crate::image::{Filter, Fit};

pub(super) const FAMILY: Family = Family {
    name: "siglip-huggingface",
    about: "SigLIP's and SigLIP 2's image tower with transformers' names",
    recognised_by: &[
        "vision_model.embeddings.patch_embedding.weight",
        "vision_model.embeddings.position_embedding.weight",
        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "vision_model.post_layernorm.weight",
        "vision_model.head.probe",
    ],
    prefixes: &[""],
    tokens: "patch tokens after the final layer norm, or what the pooling head makes of each alone (tokens = \"projected\"); \
        global: the pooling head's vector",
    widths: "B/16 196 x 768; global as wide",
    typical: &[
        "google/siglip-base-patch16-224",
        "google/siglip2-base-patch16-224",
    ],
    projects: true,
    preprocess: "squashed to the position embedding's size, bicubic, mean and deviation 0.5",
};

pub(super) const SIGLIP: Usual = Usual {
    mean: [0.5; 3],
    std: [0.5; 3],
    fit: Fit::Squash,
    filter: Filter::Bicubic,
    epsilon: 1e-6,
};

/// Reads the weights.
pub(super) fn read(source: &Source, mut reader: Reader) -> Result<Network, BackboneError> {
    let patches = "vision_model.embeddings.patch_embedding";
    let dim = reader.size(&format!("{patches}.weight"), 0);
    let patch = reader.size(&format!("{patches}.weight"), 3);
    let place = "vision_model.embeddings.position_embedding.weight";
    let start = "vision_model.encoder.layers.";
    let hidden = reader.size(&format!("{start}0.mlp.fc1.weight"), 0);
    let rows = reader.size(place, 0);
    let parts = Parts {
        dim,
        patch,
        hidden,
        prefix_tokens: Vec::new(),
        placed: 0,
        pos_embed: reader.tensor(place, &[rows, dim]),
        patch_embed: reader.linear_of(patches, &[dim, 3, patch, patch]),
        norm_pre: None,
        blocks: blocks(&mut reader, start, &clip::NAMES, dim, hidden),
        norm: reader.norm("vision_model.post_layernorm", dim),
        projection: None,
        pool: Some(pool(&mut reader, "vision_model.head", dim)),
        // transformers' classifier reads the patches' mean, not the pooling head.
        head: head(&mut reader, "classifier", dim, &[HeadInput::Mean]),
    };
    reader.finish(source.family, |name| {
        name.starts_with("text_model.")
            || name.starts_with("classifier.")
            || matches!(name, "logit_scale" | "logit_bias")
            || name.ends_with("position_ids")
    })?;
    let activation = Some(Activation::TanhGelu);
    let weights = source.vit(parts, SIGLIP, activation, None, Resampling::Plain)?;
    Ok(Network::Vit(Box::new(weights)))
}

fn pool(reader: &mut Reader, name: &str, dim: usize) -> PoolWeights {
    let part = |part: &str| format!("{name}.{part}");
    let hidden = reader.size(&part("mlp.fc1.weight"), 0);
    let wide = dim.saturating_mul(3);
    PoolWeights {
        probe: reader.tensor(&part("probe"), &[1, 1, dim]),
        qkv: Linear {
            weight: reader.values(&part("attention.in_proj_weight"), &[wide, dim]),
            bias: reader.tensor(&part("attention.in_proj_bias"), &[wide]),
        },
        proj: reader.biased(&part("attention.out_proj"), dim, dim),
        norm: reader.norm(&part("layernorm"), dim),
        fc1: reader.biased(&part("mlp.fc1"), hidden, dim),
        fc2: reader.biased(&part("mlp.fc2"), dim, hidden),
    }
}
