//! CLIP's image tower with OpenAI's and open_clip's names.
//! Source: <https://github.com/mlfoundations/open_clip>, `src/open_clip/transformer.py`.

use super::super::tensors::Reader;
use super::super::weights::Resampling;
use super::super::{BackboneError, Network};
use super::source::Source;
use super::vision_transformer::{Joined, Names, Parts, blocks, transposed};
use super::{Family, clip};

pub(super) const FAMILY: Family = Family {
    name: "clip-openclip",
    about: "CLIP's image tower with OpenAI's and open_clip's names",
    recognised_by: &[
        "visual.class_embedding",
        "visual.conv1.weight",
        "visual.transformer.resblocks.0.attn.in_proj_weight",
        "visual.ln_post.weight",
        "visual.proj",
    ],
    prefixes: &[""],
    tokens: clip::FAMILY.tokens,
    widths: clip::FAMILY.widths,
    typical: &["laion/CLIP-ViT-B-16-laion2B-s34B-b88K"],
    projects: true,
    preprocess: clip::FAMILY.preprocess,
};

pub(super) const NAMES: Names = Names {
    norms: ["ln_1", "ln_2"],
    qkv: Joined::PyTorch("attn"),
    proj: "attn.out_proj",
    mlp: ["mlp.c_fc", "mlp.c_proj"],
    scales: ["ls_1.gamma", "ls_2.gamma"],
};

/// Reads the weights.
pub(super) fn read(source: &Source, mut reader: Reader) -> Result<Network, BackboneError> {
    let dim = reader.size("visual.conv1.weight", 0);
    let patch = reader.size("visual.conv1.weight", 3);
    let start = "visual.transformer.resblocks.";
    let hidden = reader.size(&format!("{start}0.mlp.c_fc.weight"), 0);
    let rows = reader.size("visual.positional_embedding", 0);
    let width = reader.size("visual.proj", 1);
    let parts = Parts {
        dim,
        patch,
        hidden,
        prefix_tokens: reader.tensor("visual.class_embedding", &[dim]),
        placed: 1,
        pos_embed: reader.tensor("visual.positional_embedding", &[rows, dim]),
        patch_embed: reader.linear_of("visual.conv1", &[dim, 3, patch, patch]),
        norm_pre: Some(reader.norm("visual.ln_pre", dim)),
        blocks: blocks(&mut reader, start, &NAMES, dim, hidden),
        norm: reader.norm("visual.ln_post", dim),
        projection: Some(transposed(
            &reader.tensor("visual.proj", &[dim, width]),
            width,
        )),
        pool: None,
        head: Vec::new(),
    };
    reader.finish(source.family, |name| {
        !name.starts_with("visual.")
            && (name.starts_with("transformer.")
                || name.starts_with("token_embedding.")
                || name.starts_with("ln_final.")
                || matches!(
                    name,
                    "positional_embedding"
                        | "text_projection"
                        | "logit_scale"
                        | "logit_bias"
                        | "attn_mask"
                        | "input_resolution"
                        | "context_length"
                        | "vocab_size"
                ))
    })?;
    // OpenAI's have quick GELU, later ones the exact: names and shapes do not tell.
    let weights = source.vit(parts, clip::CLIP, None, None, Resampling::Antialiased)?;
    Ok(Network::Vit(Box::new(weights)))
}
