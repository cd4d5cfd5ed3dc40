//! Vision Transformers with timm's names: ViT, DeiT, DINOv2 (whose own names are the same) and CLIP's image tower.
//! Source: <https://github.com/huggingface/pytorch-image-models>, `timm/models/vision_transformer.py`.

use super::super::settings::{Pooling, SWIGLU};
use super::super::tensors::Reader;
use super::super::weights::{Activation, HeadInput, Resampling};
use super::super::{BackboneError, Network};
use super::Family;
use super::source::{DINO, IMAGENET, Source, Usual};
use super::vision_transformer::{Joined, Names, Parts, blocks, distilled_head, head};

pub(super) const FAMILY: Family = Family {
    name: "vit-timm",
    about: "ViT, DeiT and DINOv2 with timm's names (DINOv2's own are the same)",
    recognised_by: &[
        "pos_embed",
        "patch_embed.proj.weight",
        "blocks.0.norm1.weight",
        "blocks.0.attn.qkv.weight",
        "norm.weight",
    ],
    prefixes: &[""],
    tokens: "patch tokens after the final layer norm; global: the class token there, or the mean without one",
    widths: "DeiT-Tiny 196 x 192, ViT-B/16 196 x 768; global as wide",
    typical: &[
        "timm/vit_base_patch16_224.augreg_in21k",
        "timm/vit_base_patch16_224.augreg_in1k",
        "timm/deit_tiny_patch16_224.fb_in1k",
        "timm/vit_base_patch14_reg4_dinov2.lvd142m",
    ],
    projects: false,
    preprocess: "squashed to the position embedding's size, bicubic, ImageNet mean and deviation",
};

const NAMES: Names = Names {
    norms: ["norm1", "norm2"],
    qkv: Joined::One("attn.qkv"),
    proj: "attn.proj",
    mlp: ["mlp.fc1", "mlp.fc2"],
    scales: ["ls1.gamma", "ls2.gamma"],
};

/// Epsilon of CLIP's layer normalisation.
const CLIP_EPSILON: f32 = 1e-5;

/// Reads the weights.
pub(super) fn read(source: &Source, mut reader: Reader) -> Result<Network, BackboneError> {
    let dim = reader.size("patch_embed.proj.weight", 0);
    let patch = reader.size("patch_embed.proj.weight", 3);
    let hidden = reader.size("blocks.0.mlp.fc1.weight", 0);
    let rows = reader.size("pos_embed", 1);
    if reader.has("blocks.0.mlp.w12.weight")
        || (hidden > 0 && hidden == 2 * reader.size("blocks.0.mlp.fc2.weight", 1))
    {
        return Err(source.bad(SWIGLU.into()));
    }
    let mut prefix_tokens = Vec::new();
    // DINOv2's own files say register_tokens, timm's reg_token; neither has a position, nor has the
    // class token where the rows are the patches alone.
    let mut placed = 0;
    for name in ["cls_token", "dist_token", "reg_token", "register_tokens"] {
        let is_register = name.starts_with("reg");
        let count = if is_register { reader.size(name, 1) } else { 1 };
        let needed = name == "cls_token" && rows > 0 && !is_square(rows);
        if needed || reader.has(name) {
            prefix_tokens.extend(reader.tensor(name, &[1, count, dim]));
            placed += usize::from(!is_register);
        }
    }
    if is_square(rows) && !is_square(rows.saturating_sub(placed)) {
        placed = 0;
    }
    let registers = reader.has("register_tokens");
    // DINOv2's own files without registers resample as transformers' do; their mask token tells them.
    let resampling = if reader.has("mask_token") && !registers {
        Resampling::Plain
    } else {
        Resampling::Antialiased
    };
    let with_pre_norm = reader.has("norm_pre.weight");
    let distilled = reader.has("dist_token") && reader.has("head_dist.weight");
    let pooled = source.settings.pooling == Some(Pooling::Avg) || !reader.has("cls_token");
    let head = match (distilled, pooled) {
        (true, _) => distilled_head(&mut reader, ["head", "head_dist"], dim),
        (false, true) => head(&mut reader, "head", dim, &[HeadInput::Mean]),
        (false, false) => head(&mut reader, "head", dim, &[HeadInput::Token(0)]),
    };
    let parts = Parts {
        dim,
        patch,
        hidden,
        prefix_tokens,
        placed,
        pos_embed: reader.tensor("pos_embed", &[1, rows, dim]),
        patch_embed: reader.linear_of("patch_embed.proj", &[dim, 3, patch, patch]),
        norm_pre: with_pre_norm.then(|| reader.norm("norm_pre", dim)),
        blocks: blocks(&mut reader, "blocks.", &NAMES, dim, hidden),
        norm: reader.norm("norm", dim),
        projection: None,
        pool: None,
        head,
    };
    reader.finish("a Vision Transformer with timm's names", |name| {
        name == "mask_token" || name.starts_with("head.") || name.starts_with("head_dist.")
    })?;
    // timm's CLIP towers begin with a norm and come with either activation.
    let activation = (!with_pre_norm).then_some(Activation::Gelu);
    // DINOv2's own 518 pixels are five times the work of the 224 that it is published with.
    let dino = patch == 14 && matches!(rows, 1369 | 1370);
    let usual = match (dino, with_pre_norm) {
        (true, _) => DINO,
        (false, true) => Usual {
            epsilon: CLIP_EPSILON,
            ..IMAGENET
        },
        (false, false) => IMAGENET,
    };
    let weights = source.vit(parts, usual, activation, dino.then_some(224), resampling)?;
    Ok(Network::Vit(Box::new(weights)))
}

fn is_square(count: usize) -> bool {
    count.isqrt() * count.isqrt() == count
}
