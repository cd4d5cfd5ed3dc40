//! CLIP's text tower with transformers' and with open_clip's names, and SigLIP's with transformers'.

use std::path::Path;

use super::super::settings::{Config, Tower, read_folder};
use super::super::tensors::{Reader, Table, Tensors};
use super::super::weights::{Activation, BlockConfig, BlockWeights, Linear, NormWeights};
use super::super::{BackboneError, Options, Pairing};
use super::part::{self, Found, Kind};
use super::source::Source;
use super::vision_transformer::{blocks, transposed};
use super::{clip, name, open_clip, siglip};

/// Which tokens a text tower reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backbone) enum TextKind {
    Clip,
    Siglip,
}

/// What a text tower is made of.
pub(in crate::backbone) struct TextParts {
    pub(in crate::backbone) kind: TextKind,
    pub(in crate::backbone) config: BlockConfig,
    /// `[words, dim]`.
    pub(in crate::backbone) embedding: Table,
    /// `[length, dim]`.
    pub(in crate::backbone) positions: Vec<f32>,
    pub(in crate::backbone) blocks: Vec<BlockWeights>,
    pub(in crate::backbone) norm: NormWeights,
    pub(in crate::backbone) projection: Linear,
    pub(in crate::backbone) pairing: Option<Pairing>,
}

/// The namings.
const KINDS: [Kind; 3] = [
    Kind {
        name: "siglip-huggingface (text)",
        recognised_by: &[
            "text_model.embeddings.token_embedding.weight",
            "text_model.head.weight",
        ],
        prefixes: &[""],
    },
    Kind {
        name: "clip-huggingface (text)",
        recognised_by: &["text_model.embeddings.token_embedding.weight"],
        prefixes: &[""],
    },
    Kind {
        name: "clip-openclip (text)",
        recognised_by: &["token_embedding.weight", "ln_final.weight"],
        prefixes: &[""],
    },
];

/// Reads a text tower from a file or a folder; `key` chooses among several.
pub(in crate::backbone) fn read_text(
    path: &Path,
    key: Option<&str>,
) -> Result<(TextParts, String), BackboneError> {
    let (tensors, found) = open(path, key)?;
    let found = found.ok_or_else(|| BackboneError::Unknown {
        path: tensors.path.clone(),
        tried: KINDS.map(|kind| kind.name).to_vec(),
        nearest: KINDS[1].name,
        missing: KINDS[1]
            .recognised_by
            .iter()
            .map(ToString::to_string)
            .collect(),
    })?;
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
        family: KINDS[found.kind].name,
        weights_key: found.key,
        options: &options,
    };
    let mut reader = Reader::new(&tensors, "");
    let parts = match found.kind {
        0 => from_hugging_face(&mut reader, TextKind::Siglip),
        1 => from_hugging_face(&mut reader, TextKind::Clip),
        _ => from_open_clip(&mut reader),
    };
    reader.finish(source.family, |name| {
        name.starts_with("vision_model.")
            || name.starts_with("visual")
            || matches!(name, "logit_scale" | "logit_bias")
            || name.ends_with("position_ids")
            || name == "attn_mask"
    })?;
    let (mut parts, activation) = parts;
    parts.pairing = pairing(&tensors)?;
    let dim = parts.config.dim;
    let heads = source.heads(dim)?;
    parts.config.heads = heads;
    parts.config.layer_norm_eps = source.epsilon(match parts.kind {
        TextKind::Clip => clip::CLIP,
        TextKind::Siglip => siglip::SIGLIP,
    })?;
    parts.config.activation = source.activation(activation)?;
    source.check_claims(&[
        ("hidden_size", dim),
        ("num_hidden_layers", parts.config.depth),
        ("intermediate_size", parts.config.hidden),
    ])?;
    Ok((parts, tensors.sha256.clone()))
}

/// Opens a file and finds the text tower in it, if there is one.
fn open(path: &Path, key: Option<&str>) -> Result<(Tensors, Option<Found>), BackboneError> {
    let mut tensors = Tensors::open(path)?;
    let found = part::choose(&mut tensors, &KINDS, key)?;
    Ok((tensors, found))
}

/// What the file says of pairs of an image and a sentence, if it has a text tower.
pub(in crate::backbone) fn read_pairing(
    path: &Path,
    key: Option<&str>,
) -> Result<Option<Pairing>, BackboneError> {
    let (tensors, found) = open(path, key)?;
    if found.is_none() {
        return Ok(None);
    }
    pairing(&tensors)
}

fn pairing(tensors: &Tensors) -> Result<Option<Pairing>, BackboneError> {
    let mut reader = Reader::new(tensors, "");
    // CLIP's is a number, SigLIP's a vector of one.
    let mut number = |name: &str| {
        let shape = reader.shape(name).to_vec();
        let shape = if shape.len() == 1 {
            vec![1]
        } else {
            Vec::new()
        };
        reader.maybe(name, &shape)
    };
    let (scale, bias) = (number("logit_scale"), number("logit_bias"));
    // The others are not asked for here.
    reader.finish("a text tower", |_| true)?;
    let Some(&[scale]) = scale.as_deref() else {
        return Ok(None);
    };
    let scale = scale.exp();
    if !scale.is_finite() {
        return Err(BackboneError::NotFinite {
            path: tensors.path.clone(),
            tensor: "exp(logit_scale)".into(),
        });
    }
    let bias = bias.and_then(|bias| bias.first().copied());
    Ok(Some(Pairing { scale, bias }))
}

fn from_hugging_face(reader: &mut Reader, kind: TextKind) -> (TextParts, Option<Activation>) {
    let (projection, activation) = match kind {
        TextKind::Clip => ("text_projection", Activation::QuickGelu),
        TextKind::Siglip => ("text_model.head", Activation::TanhGelu),
    };
    let word = "text_model.embeddings.token_embedding.weight";
    let place = "text_model.embeddings.position_embedding.weight";
    let start = "text_model.encoder.layers.";
    let (words, dim) = (reader.size(word, 0), reader.size(word, 1));
    let hidden = reader.size(&format!("{start}0.mlp.fc1.weight"), 0);
    let (length, width) = (
        reader.size(place, 0),
        reader.size(&format!("{projection}.weight"), 0),
    );
    let blocks = blocks(reader, start, &clip::NAMES, dim, hidden);
    let parts = TextParts {
        kind,
        config: text_config(kind, dim, hidden, blocks.len()),
        embedding: reader.table(word, words, dim),
        positions: reader.tensor(place, &[length, dim]),
        blocks,
        norm: reader.norm("text_model.final_layer_norm", dim),
        projection: reader.linear(projection, width, dim),
        pairing: None,
    };
    (parts, Some(activation))
}

fn from_open_clip(reader: &mut Reader) -> (TextParts, Option<Activation>) {
    let (words, dim) = (
        reader.size("token_embedding.weight", 0),
        reader.size("token_embedding.weight", 1),
    );
    let start = "transformer.resblocks.";
    let hidden = reader.size(&format!("{start}0.mlp.c_fc.weight"), 0);
    let length = reader.size("positional_embedding", 0);
    let width = reader.size("text_projection", 1);
    let blocks = blocks(reader, start, &open_clip::NAMES, dim, hidden);
    let parts = TextParts {
        kind: TextKind::Clip,
        config: text_config(TextKind::Clip, dim, hidden, blocks.len()),
        embedding: reader.table("token_embedding.weight", words, dim),
        positions: reader.tensor("positional_embedding", &[length, dim]),
        blocks,
        norm: reader.norm("ln_final", dim),
        projection: transposed(&reader.tensor("text_projection", &[dim, width]), width),
        pairing: None,
    };
    (parts, None)
}

fn text_config(kind: TextKind, dim: usize, hidden: usize, depth: usize) -> BlockConfig {
    BlockConfig {
        dim,
        depth,
        heads: 0,
        hidden,
        layer_norm_eps: 0.0,
        activation: Activation::Gelu,
        causal: kind == TextKind::Clip,
    }
}
