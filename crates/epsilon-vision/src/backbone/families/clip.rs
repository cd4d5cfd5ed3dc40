//! CLIP's image tower with transformers' names, and what it shares with open_clip's.
//! Source: <https://github.com/huggingface/transformers>, `models/clip/modeling_clip.py`.

use super::super::tensors::Reader;
use super::super::weights::{Activation, Resampling};
use super::super::{BackboneError, Network};
use super::Family;
use super::source::{Source, Usual};
use super::vision_transformer::{Joined, Names, Parts, blocks};
use crate::image::{Filter, Fit};

const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

pub(super) const FAMILY: Family = Family {
    name: "clip-huggingface",
    about: "CLIP's and TinyCLIP's image tower with transformers' names",
    recognised_by: &[
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.patch_embedding.weight",
        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "vision_model.post_layernorm.weight",
        "visual_projection.weight",
    ],
    prefixes: &[""],
    tokens: "patch tokens after the final layer norm, or after the projection (tokens = \"projected\"); \
        global: the class token, projected",
    widths: "B/16 196 x 768 (projected 512), B/32 49 x 768 (512); global 512",
    typical: &[
        "openai/clip-vit-base-patch16",
        "openai/clip-vit-base-patch32",
        "wkcn/TinyCLIP-ViT-40M-32-Text-19M-LAION400M",
    ],
    projects: true,
    preprocess: "shorter side to 224, centre 224, bicubic, CLIP's mean and deviation",
};

pub(super) const CLIP: Usual = Usual {
    mean: CLIP_MEAN,
    std: CLIP_STD,
    fit: Fit::ShorterSide { resize: 224 },
    filter: Filter::Bicubic,
    epsilon: 1e-5,
};

pub(super) const NAMES: Names = Names {
    norms: ["layer_norm1", "layer_norm2"],
    qkv: Joined::Three(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    proj: "self_attn.out_proj",
    mlp: ["mlp.fc1", "mlp.fc2"],
    scales: ["", ""],
};

/// Reads the weights.
pub(super) fn read(source: &Source, mut reader: Reader) -> Result<Network, BackboneError> {
    let patches = "vision_model.embeddings.patch_embedding";
    let dim = reader.size(&format!("{patches}.weight"), 0);
    let patch = reader.size(&format!("{patches}.weight"), 3);
    let place = "vision_model.embeddings.position_embedding.weight";
    let start = "vision_model.encoder.layers.";
    let hidden = reader.size(&format!("{start}0.mlp.fc1.weight"), 0);
    let width = reader.size("visual_projection.weight", 0);
    let rows = reader.size(place, 0);
    let parts = Parts {
        dim,
        patch,
        hidden,
        prefix_tokens: reader.tensor("vision_model.embeddings.class_embedding", &[dim]),
        placed: 1,
        pos_embed: reader.tensor(place, &[rows, dim]),
        patch_embed: reader.linear_of(patches, &[dim, 3, patch, patch]),
        // transformers spells it so.
        norm_pre: Some(reader.norm("vision_model.pre_layrnorm", dim)),
        blocks: blocks(&mut reader, start, &NAMES, dim, hidden),
        norm: reader.norm("vision_model.post_layernorm", dim),
        projection: Some(reader.linear("visual_projection", width, dim)),
        pool: None,
        head: Vec::new(),
    };
    reader.finish(source.family, |name| {
        name.starts_with("text_model.")
            || name.starts_with("text_projection.")
            || name == "logit_scale"
            || name.ends_with("position_ids")
    })?;
    let activation = Some(Activation::QuickGelu);
    let weights = source.vit(parts, CLIP, activation, None, Resampling::Antialiased)?;
    Ok(Network::Vit(Box::new(weights)))
}
