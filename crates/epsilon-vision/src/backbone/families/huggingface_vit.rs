//! ViT and DeiT with transformers' names.
//! Source: <https://github.com/huggingface/transformers>, `models/vit/modeling_vit.py`.

use super::super::settings::SWIGLU;
use super::super::tensors::Reader;
use super::super::weights::{Activation, HeadInput, Resampling};
use super::super::{BackboneError, Network};
use super::source::{Source, Usual};
use super::vision_transformer::{Joined, Names, Parts, blocks, distilled_head, head};
use super::{Family, timm};
use crate::image::{Filter, Fit};

pub(super) const FAMILY: Family = Family {
    name: "vit-huggingface",
    about: "ViT and DeiT with transformers' names",
    recognised_by: &[
        "embeddings.cls_token",
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layer.0.layernorm_before.weight",
        "encoder.layer.0.attention.attention.query.weight",
        "layernorm.weight",
    ],
    prefixes: &["", "vit.", "deit."],
    tokens: timm::FAMILY.tokens,
    widths: "ViT-B/16 196 x 768; global as wide",
    typical: &[
        "google/vit-base-patch16-224",
        "google/vit-base-patch16-224-in21k",
        "facebook/deit-tiny-patch16-224",
    ],
    projects: false,
    preprocess: "squashed to 224, bilinear, mean and deviation 0.5",
};

const USUAL: Usual = Usual {
    mean: [0.5; 3],
    std: [0.5; 3],
    fit: Fit::Squash,
    filter: Filter::Bilinear,
    epsilon: 1e-12,
};

pub(super) const NAMES: Names = Names {
    norms: ["layernorm_before", "layernorm_after"],
    qkv: Joined::Three([
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
    ]),
    proj: "attention.output.dense",
    mlp: ["intermediate.dense", "output.dense"],
    scales: ["", ""],
};

/// Reads the weights.
pub(super) fn read(source: &Source, reader: Reader) -> Result<Network, BackboneError> {
    read_parts(source, reader, &NAMES, USUAL, false)
}

/// The tensors of ViT, DeiT (`dino` unset) and DINOv2 with transformers' names.
pub(super) fn read_parts(
    source: &Source,
    mut reader: Reader,
    names: &Names,
    usual: Usual,
    dino: bool,
) -> Result<Network, BackboneError> {
    let patches = "embeddings.patch_embeddings.projection";
    let dim = reader.size(&format!("{patches}.weight"), 0);
    let patch = reader.size(&format!("{patches}.weight"), 3);
    let rows = reader.size("embeddings.position_embeddings", 1);
    if reader.has("encoder.layer.0.mlp.weights_in.weight") {
        return Err(source.bad(SWIGLU.into()));
    }
    let hidden = reader.size(&format!("encoder.layer.0.{}.weight", names.mlp[0]), 0);
    let mut prefix_tokens = reader.tensor("embeddings.cls_token", &[1, 1, dim]);
    let mut placed = 1;
    if let Some(token) = reader.maybe("embeddings.distillation_token", &[1, 1, dim]) {
        prefix_tokens.extend(token);
        placed += 1;
    }
    let count = reader.size("embeddings.register_tokens", 1);
    let registers = reader.maybe("embeddings.register_tokens", &[1, count, dim]);
    // The form without registers resamples without antialiasing.
    let resampling = if dino && registers.is_none() {
        Resampling::Plain
    } else {
        Resampling::Antialiased
    };
    prefix_tokens.extend(registers.unwrap_or_default());
    let mut parts = Parts {
        dim,
        patch,
        hidden,
        prefix_tokens,
        placed,
        pos_embed: reader.tensor("embeddings.position_embeddings", &[1, rows, dim]),
        patch_embed: reader.linear_of(patches, &[dim, 3, patch, patch]),
        norm_pre: None,
        blocks: blocks(&mut reader, "encoder.layer.", names, dim, hidden),
        norm: reader.norm("layernorm", dim),
        projection: None,
        pool: None,
        head: Vec::new(),
    };
    // The classifier stands beside the network, not in it.
    let mut reader = reader.whole_names();
    parts.head = match (dino, reader.has("cls_classifier.weight")) {
        (true, _) => {
            let inputs = [HeadInput::Token(0), HeadInput::Mean];
            head(&mut reader, "classifier", dim, &inputs)
        }
        (false, true) if placed == 2 => {
            let names = ["cls_classifier", "distillation_classifier"];
            distilled_head(&mut reader, names, dim)
        }
        (false, _) => head(&mut reader, "classifier", dim, &[HeadInput::Token(0)]),
    };
    reader.finish(source.family, |name| {
        name.starts_with("pooler.")
            || name.contains(".pooler.")
            || name.starts_with("classifier.")
            || name.starts_with("cls_classifier.")
            || name.starts_with("distillation_classifier.")
            || name.ends_with("embeddings.mask_token")
    })?;
    let size = dino.then_some(224);
    let weights = source.vit(parts, usual, Some(Activation::Gelu), size, resampling)?;
    Ok(Network::Vit(Box::new(weights)))
}
