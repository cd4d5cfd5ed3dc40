//! Families of published weight files: how each is told by its tensors' names, and how those become the engine's weights.

use std::path::Path;

use serde::Serialize;

use super::settings::{Config, Settings, Tower, read_folder};
use super::tensors::{METADATA_KEY, Reader, Tensors};
use super::vgg::{self, VggWeights};
use super::weights::{
    Activation, BlockConfig, BlockWeights, Linear, NormWeights, Resampling, VitConfig, VitWeights,
};
use super::{BackboneError, Options, Tokens};
use crate::image::{Filter, Fit, Preprocess};

const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

pub(super) const SWIGLU: &str = "its MLPs are SwiGLU (DINOv2 giant), which this program does not have: \
    take the small, base or large one";

/// A family of weight files.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Family {
    /// Short name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Tensors that tell it, after one of [`Family::prefixes`].
    pub recognised_by: &'static [&'static str],
    /// What may stand before all names.
    pub prefixes: &'static [&'static str],
    /// What the tokens are, and the global vector.
    pub tokens: &'static str,
    /// Tokens N x D of well-known members, and the global vector's width.
    pub widths: &'static str,
    /// Hub ids, or file names, of well-known members.
    pub typical: &'static [&'static str],
    /// Preprocessing where neither the file nor its folder says otherwise.
    pub preprocess: &'static str,
}

const VIT: Family = Family {
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
    tokens: "patch tokens after the final layer norm; global: the class token there",
    widths: "DeiT-Tiny 196 x 192, ViT-B/16 196 x 768; global as wide",
    typical: &[
        "timm/vit_base_patch16_224.augreg_in21k",
        "timm/vit_base_patch16_224.augreg_in1k",
        "timm/deit_tiny_patch16_224.fb_in1k",
        "timm/vit_base_patch14_reg4_dinov2.lvd142m",
    ],
    preprocess: "squashed to the position embedding's size, bicubic, ImageNet mean and deviation",
};

const HF_VIT: Family = Family {
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
    tokens: VIT.tokens,
    widths: "ViT-B/16 196 x 768; global as wide",
    typical: &[
        "google/vit-base-patch16-224",
        "google/vit-base-patch16-224-in21k",
        "facebook/deit-tiny-patch16-224",
    ],
    preprocess: "squashed to 224, bilinear, mean and deviation 0.5",
};

const HF_DINO: Family = Family {
    name: "dinov2-huggingface",
    about: "DINOv2, with and without registers, with transformers' names",
    recognised_by: &[
        "embeddings.cls_token",
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layer.0.layer_scale1.lambda1",
        "encoder.layer.0.attention.attention.query.weight",
        "layernorm.weight",
    ],
    prefixes: &["", "dinov2.", "dinov2_with_registers."],
    tokens: VIT.tokens,
    widths: "small 256 x 384, base 256 x 768, large 256 x 1024; global as wide",
    typical: &[
        "facebook/dinov2-small",
        "facebook/dinov2-base",
        "facebook/dinov2-with-registers-base",
    ],
    preprocess: "shorter side to 256, centre 224, bicubic, ImageNet mean and deviation",
};

const HF_CLIP: Family = Family {
    name: "clip-huggingface",
    about: "CLIP's image tower with transformers' names",
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
    ],
    preprocess: "shorter side to 224, centre 224, bicubic, CLIP's mean and deviation",
};

const OPEN_CLIP: Family = Family {
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
    tokens: HF_CLIP.tokens,
    widths: HF_CLIP.widths,
    typical: &["laion/CLIP-ViT-B-16-laion2B-s34B-b88K"],
    preprocess: HF_CLIP.preprocess,
};

const VGG: Family = Family {
    name: "vgg",
    about: "VGG with torchvision's names, with and without batch norm",
    recognised_by: &[
        "features.0.weight",
        "classifier.0.weight",
        "classifier.3.weight",
    ],
    prefixes: &[""],
    tokens: "the last convolution's map after its ReLU (VGG19: conv5_4); global: the second fully connected \
        layer after its ReLU",
    widths: "VGG19 196 x 512; global 4096",
    typical: &["vgg19-dcbb9e9d.pth", "vgg19_bn-c79401a0.pth"],
    preprocess: "shorter side to 256, centre 224, bilinear, ImageNet mean and deviation",
};

/// All families, in the order in which they are tried.
pub const FAMILIES: [Family; 6] = [VIT, HF_DINO, HF_VIT, HF_CLIP, OPEN_CLIP, VGG];

/// The weights of a network of any family.
pub enum Network {
    /// A Vision Transformer or a relative.
    Vit(Box<VitWeights>),
    /// A VGG.
    Vgg(Box<VggWeights>),
}

/// A weight file as `epsilon backbone check` shows it.
pub(super) struct Recognised {
    pub family: &'static Family,
    pub network: Network,
    /// Number of values of all tensors, unused ones included.
    pub values: u64,
}

/// Reads the network that the tensors in `path` (a file, an index or a folder) make up.
pub(super) fn read(path: &Path, options: &Options) -> Result<Recognised, BackboneError> {
    let tensors = Tensors::open(path)?;
    let (family, prefix) = recognise(&tensors)?;
    let config = if path.is_dir() {
        read_folder(path, Tower::Image)?
    } else {
        Config::default()
    };
    let own = match &tensors.metadata {
        Some(text) => serde_json::from_str(text).map_err(|error| BackboneError::Config {
            path: tensors.path.clone(),
            reason: format!("metadata {METADATA_KEY}: {error}"),
        })?,
        None => Settings::default(),
    };
    let source = Source {
        tensors: &tensors,
        settings: own.or(config.settings.clone()),
        config: &config,
        name: name(path),
        family: family.name,
        options,
    };
    let mut reader = Reader::new(&tensors, prefix);
    let projected = options.tokens == Tokens::Projected;
    if projected && !matches!(family.name, "clip-huggingface" | "clip-openclip") {
        return Err(source.bad(format!(
            "tokens = \"projected\" is for CLIP; this is {}",
            family.about
        )));
    }
    let network = match family.name {
        "vit-timm" => Network::Vit(Box::new(source.timm(reader)?)),
        "vit-huggingface" => Network::Vit(Box::new(source.hugging_face(reader, false)?)),
        "dinov2-huggingface" => Network::Vit(Box::new(source.hugging_face(reader, true)?)),
        "clip-huggingface" => Network::Vit(Box::new(source.clip(reader)?)),
        "clip-openclip" => Network::Vit(Box::new(source.open_clip(reader)?)),
        _ => {
            let parts = vgg::read(&mut reader);
            reader.finish(family.name, |name| {
                name.starts_with("classifier.6.") || name.ends_with(".num_batches_tracked")
            })?;
            let preprocess = source.preprocess(224, VGG_USUAL)?;
            let size = preprocess.size;
            let weights = parts.finish(source.name.clone(), tensors.sha256.clone(), preprocess);
            Network::Vgg(Box::new(weights.map_err(|reason| {
                source.bad(format!("image size {size}: {reason}"))
            })?))
        }
    };
    Ok(Recognised {
        family,
        network,
        values: tensors.values(),
    })
}

/// The weight file's or folder's name, for people. A hub snapshot's folder is named by its repository.
fn name(path: &Path) -> String {
    let stem = |path: &Path| {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    if !path.is_dir() {
        return stem(path);
    }
    let snapshots = path.parent().filter(|parent| parent.ends_with("snapshots"));
    let repository = snapshots.and_then(Path::parent).and_then(Path::file_name);
    match repository.and_then(|name| name.to_str()?.rsplit("--").next()) {
        Some(repository) => repository.into(),
        None => path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    }
}

/// The family of these tensors, and what stands before their names.
fn recognise(tensors: &Tensors) -> Result<(&'static Family, &'static str), BackboneError> {
    static ALL: [Family; 6] = FAMILIES;
    let lacking = |family: &'static Family, prefix: &str| -> Vec<String> {
        let names = family.recognised_by.iter();
        let names = names.map(|name| format!("{prefix}{name}"));
        names.filter(|name| !tensors.has(name)).collect()
    };
    let candidates = ALL
        .iter()
        .flat_map(|family| family.prefixes.iter().map(move |prefix| (family, *prefix)));
    let nearest = candidates.min_by_key(|(family, prefix)| {
        lacking(family, prefix).len() * 100 / family.recognised_by.len()
    });
    let Some((family, prefix)) = nearest else {
        unreachable!("there are families")
    };
    let missing = lacking(family, prefix);
    if missing.is_empty() {
        return Ok((family, prefix));
    }
    Err(BackboneError::Unknown {
        path: tensors.path.clone(),
        tried: ALL.iter().map(|family| family.name).collect(),
        nearest: family.name,
        missing,
    })
}

/// Preprocessing where nothing else is said.
#[derive(Clone, Copy)]
struct Usual {
    mean: [f32; 3],
    std: [f32; 3],
    fit: Fit,
    filter: Filter,
    epsilon: f32,
}

const TIMM_USUAL: Usual = Usual {
    mean: IMAGENET_MEAN,
    std: IMAGENET_STD,
    fit: Fit::Squash,
    filter: Filter::Bicubic,
    epsilon: 1e-6,
};

const HF_USUAL: Usual = Usual {
    mean: [0.5; 3],
    std: [0.5; 3],
    fit: Fit::Squash,
    filter: Filter::Bilinear,
    epsilon: 1e-12,
};

const DINO_USUAL: Usual = Usual {
    fit: Fit::ShorterSide { resize: 256 },
    ..TIMM_USUAL
};

const CLIP_USUAL: Usual = Usual {
    mean: CLIP_MEAN,
    std: CLIP_STD,
    fit: Fit::ShorterSide { resize: 224 },
    filter: Filter::Bicubic,
    epsilon: 1e-5,
};

const VGG_USUAL: Usual = Usual {
    fit: Fit::ShorterSide { resize: 256 },
    filter: Filter::Bilinear,
    ..TIMM_USUAL
};

/// What is read, and all that is known about it besides its tensors.
struct Source<'a> {
    tensors: &'a Tensors,
    settings: Settings,
    config: &'a Config,
    name: String,
    family: &'static str,
    options: &'a Options,
}

/// The tensors of a Vision Transformer, not yet put together.
struct Parts {
    dim: usize,
    patch: usize,
    hidden: usize,
    /// `[prefix, dim]`.
    prefix_tokens: Vec<f32>,
    /// How many of those have a row in `pos_embed`.
    placed: usize,
    /// `[placed + patches, dim]`.
    pos_embed: Vec<f32>,
    patch_embed: Linear,
    norm_pre: Option<NormWeights>,
    blocks: Vec<BlockWeights>,
    norm: NormWeights,
    projection: Option<Linear>,
    head: Option<Linear>,
}

/// Names of a block's parts; queries, keys and values joined or apart.
struct Names {
    norms: [&'static str; 2],
    qkv: Joined,
    proj: &'static str,
    mlp: [&'static str; 2],
    scales: [&'static str; 2],
}

enum Joined {
    /// One linear map.
    One(&'static str),
    /// `in_proj_weight`, `in_proj_bias` of PyTorch's attention.
    PyTorch(&'static str),
    /// Three linear maps.
    Three([&'static str; 3]),
}

const TIMM_NAMES: Names = Names {
    norms: ["norm1", "norm2"],
    qkv: Joined::One("attn.qkv"),
    proj: "attn.proj",
    mlp: ["mlp.fc1", "mlp.fc2"],
    scales: ["ls1.gamma", "ls2.gamma"],
};

const HF_VIT_NAMES: Names = Names {
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

const HF_DINO_NAMES: Names = Names {
    norms: ["norm1", "norm2"],
    mlp: ["mlp.fc1", "mlp.fc2"],
    scales: ["layer_scale1.lambda1", "layer_scale2.lambda1"],
    ..HF_VIT_NAMES
};

const HF_CLIP_NAMES: Names = Names {
    norms: ["layer_norm1", "layer_norm2"],
    qkv: Joined::Three(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    proj: "self_attn.out_proj",
    mlp: ["mlp.fc1", "mlp.fc2"],
    scales: ["", ""],
};

const OPEN_CLIP_NAMES: Names = Names {
    norms: ["ln_1", "ln_2"],
    qkv: Joined::PyTorch("attn"),
    proj: "attn.out_proj",
    mlp: ["mlp.c_fc", "mlp.c_proj"],
    scales: ["ls_1.gamma", "ls_2.gamma"],
};

/// Reads one block whose names begin with `start`.
fn block(
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
            weight: reader.tensor(&name(&format!("{part}.in_proj_weight")), &[wide, dim]),
            bias: reader.tensor(&name(&format!("{part}.in_proj_bias")), &[wide]),
        },
        Joined::Three(parts) => {
            let parts = parts.map(|part| reader.linear(&name(part), dim, dim));
            Linear {
                weight: parts.iter().flat_map(|part| part.weight.clone()).collect(),
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
fn blocks(
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

/// What a CLIP text tower is made of.
pub(super) struct TextParts {
    pub config: BlockConfig,
    /// `[words, dim]`.
    pub embedding: Vec<f32>,
    /// `[length, dim]`.
    pub positions: Vec<f32>,
    pub blocks: Vec<BlockWeights>,
    pub norm: NormWeights,
    pub projection: Linear,
}

/// Reads CLIP's text tower from a file or a folder with transformers' or open_clip's names.
pub(super) fn read_text(path: &Path) -> Result<(TextParts, String), BackboneError> {
    let tensors = Tensors::open(path)?;
    let config = if path.is_dir() {
        read_folder(path, Tower::Text)?
    } else {
        Config::default()
    };
    let options = Options::default();
    let source = Source {
        tensors: &tensors,
        settings: config.settings.clone(),
        config: &config,
        name: name(path),
        family: "clip-text",
        options: &options,
    };
    let mut reader = Reader::new(&tensors, "");
    let hugging_face = reader.has("text_model.embeddings.token_embedding.weight");
    let parts = if hugging_face {
        source.hugging_face_text(&mut reader)
    } else if reader.has("token_embedding.weight") && reader.has("ln_final.weight") {
        source.open_clip_text(&mut reader)
    } else {
        return Err(BackboneError::Unknown {
            path: tensors.path.clone(),
            tried: vec!["clip-huggingface (text)", "clip-openclip (text)"],
            nearest: "clip-huggingface (text)",
            missing: vec!["text_model.embeddings.token_embedding.weight".into()],
        });
    };
    reader.finish("CLIP's text tower", |name| {
        name.starts_with("vision_model.")
            || name.starts_with("visual")
            || matches!(name, "logit_scale" | "logit_bias")
            || name.ends_with("position_ids")
            || name == "attn_mask"
    })?;
    let (mut parts, activation) = parts;
    let dim = parts.config.dim;
    let heads = source.heads(dim)?;
    parts.config.heads = heads;
    parts.config.layer_norm_eps = source.epsilon(CLIP_USUAL)?;
    parts.config.activation = source.activation(activation)?;
    source.check_claims(&[
        ("hidden_size", dim),
        ("num_hidden_layers", parts.config.depth),
        ("intermediate_size", parts.config.hidden),
    ])?;
    Ok((parts, tensors.sha256.clone()))
}

impl Source<'_> {
    fn bad(&self, reason: String) -> BackboneError {
        BackboneError::Config {
            path: self.tensors.path.clone(),
            reason,
        }
    }

    /// ViT, DeiT, DINOv2 and CLIP's image tower with timm's names.
    fn timm(&self, mut reader: Reader) -> Result<VitWeights, BackboneError> {
        let dim = reader.size("patch_embed.proj.weight", 0);
        let patch = reader.size("patch_embed.proj.weight", 3);
        let hidden = reader.size("blocks.0.mlp.fc1.weight", 0);
        let rows = reader.size("pos_embed", 1);
        if reader.has("blocks.0.mlp.w12.weight")
            || (hidden > 0 && hidden == 2 * reader.size("blocks.0.mlp.fc2.weight", 1))
        {
            return Err(self.bad(SWIGLU.into()));
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
        let parts = Parts {
            dim,
            patch,
            hidden,
            prefix_tokens,
            placed,
            pos_embed: reader.tensor("pos_embed", &[1, rows, dim]),
            patch_embed: reader.linear_of("patch_embed.proj", &[dim, 3, patch, patch]),
            norm_pre: with_pre_norm.then(|| reader.norm("norm_pre", dim)),
            blocks: blocks(&mut reader, "blocks.", &TIMM_NAMES, dim, hidden),
            norm: reader.norm("norm", dim),
            projection: None,
            head: {
                let classes = reader.size("head.weight", 0);
                (reader.has("head.weight") || reader.has("head.bias"))
                    .then(|| reader.linear("head", classes, dim))
            },
        };
        reader.finish("a Vision Transformer with timm's names", |name| {
            name == "mask_token" || name.starts_with("head_dist.")
        })?;
        // timm's CLIP towers begin with a norm and come with either activation.
        let activation = (!with_pre_norm).then_some(Activation::Gelu);
        // DINOv2's own 518 pixels are five times the work of the 224 that it is published with.
        let dino = patch == 14 && matches!(rows, 1369 | 1370);
        let usual = match (dino, with_pre_norm) {
            (true, _) => DINO_USUAL,
            (false, true) => Usual {
                epsilon: CLIP_USUAL.epsilon,
                ..TIMM_USUAL
            },
            (false, false) => TIMM_USUAL,
        };
        self.vit(parts, usual, activation, dino.then_some(224), resampling)
    }

    /// ViT, DeiT and DINOv2 with transformers' names.
    fn hugging_face(&self, mut reader: Reader, dino: bool) -> Result<VitWeights, BackboneError> {
        let patches = "embeddings.patch_embeddings.projection";
        let dim = reader.size(&format!("{patches}.weight"), 0);
        let patch = reader.size(&format!("{patches}.weight"), 3);
        let rows = reader.size("embeddings.position_embeddings", 1);
        if reader.has("encoder.layer.0.mlp.weights_in.weight") {
            return Err(self.bad(SWIGLU.into()));
        }
        let names = if dino { &HF_DINO_NAMES } else { &HF_VIT_NAMES };
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
        let parts = Parts {
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
            head: None,
        };
        reader.finish(self.family, |name| {
            name.starts_with("pooler.")
                || name.contains(".pooler.")
                || name.starts_with("classifier.")
                || name.starts_with("cls_classifier.")
                || name.starts_with("distillation_classifier.")
                || name.ends_with("embeddings.mask_token")
        })?;
        let usual = if dino { DINO_USUAL } else { HF_USUAL };
        let size = dino.then_some(224);
        self.vit(parts, usual, Some(Activation::Gelu), size, resampling)
    }

    /// CLIP's image tower with transformers' names.
    fn clip(&self, mut reader: Reader) -> Result<VitWeights, BackboneError> {
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
            blocks: blocks(&mut reader, start, &HF_CLIP_NAMES, dim, hidden),
            norm: reader.norm("vision_model.post_layernorm", dim),
            projection: Some(reader.linear("visual_projection", width, dim)),
            head: None,
        };
        reader.finish(self.family, |name| {
            name.starts_with("text_model.")
                || name.starts_with("text_projection.")
                || name == "logit_scale"
                || name.ends_with("position_ids")
        })?;
        let activation = Some(Activation::QuickGelu);
        self.vit(parts, CLIP_USUAL, activation, None, Resampling::Antialiased)
    }

    /// CLIP's image tower with OpenAI's and open_clip's names.
    fn open_clip(&self, mut reader: Reader) -> Result<VitWeights, BackboneError> {
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
            blocks: blocks(&mut reader, start, &OPEN_CLIP_NAMES, dim, hidden),
            norm: reader.norm("visual.ln_post", dim),
            projection: Some(transposed(
                &reader.tensor("visual.proj", &[dim, width]),
                width,
            )),
            head: None,
        };
        reader.finish(self.family, |name| {
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
        self.vit(parts, CLIP_USUAL, None, None, Resampling::Antialiased)
    }

    fn hugging_face_text(&self, reader: &mut Reader) -> (TextParts, Option<Activation>) {
        let word = "text_model.embeddings.token_embedding.weight";
        let place = "text_model.embeddings.position_embedding.weight";
        let start = "text_model.encoder.layers.";
        let (words, dim) = (reader.size(word, 0), reader.size(word, 1));
        let hidden = reader.size(&format!("{start}0.mlp.fc1.weight"), 0);
        let (length, width) = (
            reader.size(place, 0),
            reader.size("text_projection.weight", 0),
        );
        let blocks = blocks(reader, start, &HF_CLIP_NAMES, dim, hidden);
        let parts = TextParts {
            config: text_config(dim, hidden, blocks.len()),
            embedding: reader.tensor(word, &[words, dim]),
            positions: reader.tensor(place, &[length, dim]),
            blocks,
            norm: reader.norm("text_model.final_layer_norm", dim),
            projection: reader.linear("text_projection", width, dim),
        };
        (parts, Some(Activation::QuickGelu))
    }

    fn open_clip_text(&self, reader: &mut Reader) -> (TextParts, Option<Activation>) {
        let (words, dim) = (
            reader.size("token_embedding.weight", 0),
            reader.size("token_embedding.weight", 1),
        );
        let start = "transformer.resblocks.";
        let hidden = reader.size(&format!("{start}0.mlp.c_fc.weight"), 0);
        let length = reader.size("positional_embedding", 0);
        let width = reader.size("text_projection", 1);
        let blocks = blocks(reader, start, &OPEN_CLIP_NAMES, dim, hidden);
        let parts = TextParts {
            config: text_config(dim, hidden, blocks.len()),
            embedding: reader.tensor("token_embedding.weight", &[words, dim]),
            positions: reader.tensor("positional_embedding", &[length, dim]),
            blocks,
            norm: reader.norm("ln_final", dim),
            projection: transposed(&reader.tensor("text_projection", &[dim, width]), width),
        };
        (parts, None)
    }

    fn heads(&self, dim: usize) -> Result<usize, BackboneError> {
        let heads = self.settings.heads.unwrap_or(dim / 64);
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(self.bad(format!(
                "{dim} values a token do not divide into {heads} heads: give \"heads\" in the metadata key \
                 {METADATA_KEY}, or \"num_attention_heads\" in the folder's config.json"
            )));
        }
        Ok(heads)
    }

    fn epsilon(&self, usual: Usual) -> Result<f32, BackboneError> {
        let epsilon = self.settings.layer_norm_eps.unwrap_or(usual.epsilon);
        if !(epsilon.is_finite() && epsilon >= 0.0) {
            return Err(self.bad("layer_norm_eps must be finite and not negative".into()));
        }
        Ok(epsilon)
    }

    fn activation(&self, usual: Option<Activation>) -> Result<Activation, BackboneError> {
        self.settings.activation.or(usual).ok_or_else(|| {
            self.bad(format!(
                "the tensors do not tell whether this CLIP has GELU or quick GELU: give the folder with its \
                 open_clip_config.json, or \"activation\": \"gelu\" or \"quick-gelu\" in the metadata key {METADATA_KEY}"
            ))
        })
    }

    /// Holds what the folder's configuration says against what the tensors are.
    fn check_claims(&self, found: &[(&str, usize)]) -> Result<(), BackboneError> {
        for (key, claimed) in &self.config.claims {
            let fact = found.iter().find(|(name, _)| name == key);
            if let Some((_, fact)) = fact
                && fact != claimed
            {
                return Err(BackboneError::Config {
                    path: self.config.path.clone(),
                    reason: format!("{key} is {claimed} there, but {fact} by the tensors"),
                });
            }
        }
        Ok(())
    }

    /// The preprocessing for a network made for `native` pixels.
    fn preprocess(&self, native: u32, usual: Usual) -> Result<Preprocess, BackboneError> {
        let settings = &self.settings;
        let size = settings.image_size.unwrap_or(native);
        let fit = match (settings.fit, usual.fit) {
            (Some(fit), _) => fit,
            // Another input size keeps the share that is cut off.
            (None, Fit::ShorterSide { resize }) => Fit::ShorterSide {
                resize: (u64::from(resize) * u64::from(size) / 224).max(u64::from(size)) as u32,
            },
            (None, Fit::Squash) => Fit::Squash,
        };
        let preprocess = Preprocess {
            size,
            fit,
            filter: settings.filter.unwrap_or(usual.filter),
            mean: settings.mean.unwrap_or(usual.mean),
            std: settings.std.unwrap_or(usual.std),
        };
        let finite = preprocess.mean.iter().all(|x| x.is_finite());
        if !finite || !preprocess.std.iter().all(|x| x.is_finite() && *x > 0.0) {
            return Err(self.bad("mean must be finite, std finite and above zero".into()));
        }
        if let Fit::ShorterSide { resize } = preprocess.fit
            && resize < size
        {
            return Err(self.bad(format!(
                "fit resizes to {resize} pixels, less than the input"
            )));
        }
        // 16,384 pixels a side are already 3 GiB a picture.
        if size > 1 << 14 {
            return Err(self.bad(format!("an image size of {size} pixels is out of reach")));
        }
        Ok(preprocess)
    }

    /// Puts the tensors together. `usual_size` is the input size where nothing is said, if it is not the position
    /// embedding's.
    fn vit(
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
            prefix_tokens: parts.prefix_tokens,
            pos_embed: [placed, &unplaced, free].concat(),
            patch_embed: parts.patch_embed,
            norm_pre: parts.norm_pre,
            blocks: parts.blocks,
            norm: parts.norm,
            projection: parts.projection,
            config: VitConfig {
                preprocess,
                patch: parts.patch,
                grid,
                prefix,
                blocks,
                project_tokens: self.options.tokens == Tokens::Projected,
                resampling,
                classes: parts.head.as_ref().map(|head| head.bias.len()),
            },
            head: parts.head,
        };
        weights
            .with_image_size(wanted)
            .map_err(|reason| self.bad(reason))
    }
}

fn is_square(count: usize) -> bool {
    count.isqrt() * count.isqrt() == count
}

fn text_config(dim: usize, hidden: usize, depth: usize) -> BlockConfig {
    BlockConfig {
        dim,
        depth,
        heads: 0,
        hidden,
        layer_norm_eps: 0.0,
        activation: Activation::Gelu,
        causal: true,
    }
}

/// `[inputs, outputs]` as a linear map without bias.
fn transposed(matrix: &[f32], outputs: usize) -> Linear {
    let column = |output: usize| matrix.iter().skip(output).step_by(outputs.max(1)).copied();
    Linear {
        weight: (0..outputs).flat_map(column).collect(),
        bias: vec![0.0; outputs],
    }
}
