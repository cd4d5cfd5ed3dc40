//! Text towers of CLIP (Radford et al., 2021), SigLIP (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023) and
//! SigLIP 2 (Tschannen et al., 2025): sentences to vectors that lie where the image tower's do, so that labels need no word
//! vectors. The blocks and what becomes of the last token are the same; the tokens are each one's own.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use epsilon_data::files;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::clip_text::ClipTokens;
use super::families::{TextKind, TextParts, read_text};
use super::hub::is_hub_id;
use super::siglip_text::SiglipTokens;
use super::tensors::{self, Table};
use super::vit::{Scratch, Transformer, map, norm};
use super::{BackboneError, BlockConfig, Pairing};
use epsilon_kernels::finish::After;
use epsilon_kernels::linear::{Arithmetic, LinearMap, stride};
use epsilon_kernels::packed::Rows;
use epsilon_kernels::rows::{Norm, layer_norm};

/// The text tower of a CLIP, SigLIP or SigLIP 2 with its tokenizer, ready to run. The words of a safetensors file stay there: it
/// must not be changed while the tower lives.
pub struct TextTower {
    /// SHA-256 of the weight file, in hexadecimal.
    pub weights_sha256: String,
    /// How its vectors and the image tower's are scored, where the file says so.
    pub pairing: Option<Pairing>,
    tokens: Tokens,
    /// Longest sequence, in tokens.
    length: usize,
    /// `[words, dim]`.
    embedding: Table,
    /// `[length, dim]`.
    positions: Vec<f32>,
    transformer: Transformer,
    norm: Norm,
    projection: LinearMap,
    config: BlockConfig,
}

/// What turns a sentence into tokens.
enum Tokens {
    Clip(Box<ClipTokens>),
    Siglip(SiglipTokens),
}

impl Tokens {
    fn path(&self) -> &Path {
        match self {
            Self::Clip(tokens) => &tokens.path,
            Self::Siglip(tokens) => &tokens.path,
        }
    }

    fn highest(&self) -> u32 {
        match self {
            Self::Clip(tokens) => tokens.highest(),
            Self::Siglip(tokens) => tokens.highest(),
        }
    }

    fn bad(&self, reason: String) -> BackboneError {
        BackboneError::Tokenizer {
            path: self.path().into(),
            reason,
        }
    }
}

impl TextTower {
    /// Reads a text tower from a folder, or from a weight file with its tokenizer beside it. CLIP's is `tokenizer.json`, or
    /// `vocab.json` and `merges.txt`; SigLIP's `spiece.model` or `tokenizer.json`; SigLIP 2's `tokenizer.json`. `weights_key`
    /// chooses the part of a file that holds several, as [`super::Options`] does.
    ///
    /// # Errors
    ///
    /// See [`BackboneError`].
    pub fn load(path: &Path, weights_key: Option<&str>) -> Result<Self, BackboneError> {
        let (parts, weights_sha256) = read_text(path, weights_key)?;
        let folder = if path.is_dir() {
            path
        } else {
            path.parent().unwrap_or(Path::new(""))
        };
        let TextParts {
            kind,
            config,
            embedding,
            positions,
            blocks,
            norm: last,
            projection,
            pairing,
        } = parts;
        let tokens = match kind {
            TextKind::Clip => Tokens::Clip(Box::new(ClipTokens::load(folder)?)),
            TextKind::Siglip => Tokens::Siglip(SiglipTokens::load(folder)?),
        };
        let (words, length) = (embedding.len(), positions.len() / config.dim);
        let highest = tokens.highest();
        if highest as usize >= words {
            return Err(tokens.bad(format!(
                "it has a token {highest}, but the weights hold {words} of them"
            )));
        }
        if length < 3 {
            return Err(tokens.bad(format!("{length} positions are too few for a word")));
        }
        Ok(Self {
            weights_sha256,
            pairing,
            tokens,
            length,
            embedding,
            positions,
            transformer: Transformer::new(blocks, &config, Arithmetic::F32),
            norm: norm(last, config.layer_norm_eps),
            projection: map(&projection, Arithmetic::F32),
            config,
        })
    }

    /// Whether a name can stand for a network with a text tower, and for no file of word vectors: an id on the hub, a folder, or
    /// weights in a file. Whether the tower is there is found by [`TextTower::load`].
    ///
    /// ```
    /// use epsilon_vision::backbone::TextTower;
    /// use std::path::Path;
    ///
    /// assert!(TextTower::is_named(Path::new("hf:openai/clip-vit-base-patch32")));
    /// assert!(!TextTower::is_named(Path::new("glove.6B.300d.txt")));
    /// ```
    pub fn is_named(path: &Path) -> bool {
        // All namings of text towers have this tensor, and no image tower has.
        let tells = |name: &str| name.ends_with("token_embedding.weight");
        is_hub_id(path) || path.is_dir() || tensors::is_network(path, tells)
    }

    /// Width of a vector.
    pub fn width(&self) -> usize {
        self.projection.outputs()
    }

    /// The numbers of a text's tokens as the tower reads them, with those that every sequence has: CLIP's begin and end, SigLIP's
    /// end and padding. What is too long is cut.
    ///
    /// # Errors
    ///
    /// [`BackboneError::Tokenizer`] when the text cannot be cut into tokens.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, BackboneError> {
        let found = match &self.tokens {
            Tokens::Clip(tokens) => tokens.of(text, self.length),
            Tokens::Siglip(tokens) => tokens.of(text, self.length),
        };
        found.map_err(|reason| self.tokens.bad(format!("{text}: {reason}")))
    }

    /// Vectors of some texts, [`TextTower::width`] values each: the last token after the final layer normalisation,
    /// projected; not normalised to unit length. CLIP's last token is its end token, SigLIP's the last place of the padded
    /// sequence.
    ///
    /// # Errors
    ///
    /// [`BackboneError::Tokenizer`] when a text cannot be cut into tokens.
    pub fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, BackboneError> {
        let new = || Scratch::new(&self.config, self.length, 0);
        texts
            .par_iter()
            .map_init(new, |scratch, text| self.embed_one(text, scratch))
            .collect()
    }

    fn embed_one(&self, text: &str, s: &mut Scratch) -> Result<Vec<f32>, BackboneError> {
        let (dim, step) = (self.config.dim, stride(self.config.dim));
        let tokens = self.tokens(text)?;
        let rows = s.tokens.chunks_exact_mut(step);
        for ((row, token), place) in rows.zip(&tokens).zip(self.positions.chunks_exact(dim)) {
            let word = self.embedding.row(*token as usize);
            for ((value, word), place) in row.iter_mut().zip(&word).zip(place) {
                *value = word + place;
            }
        }
        // In CLIP's causal tower, what would stand behind the end token changes nothing.
        self.transformer.run(s, tokens.len());
        let mut last = vec![0.0; dim];
        let row = &s.tokens[(tokens.len() - 1) * step..][..dim];
        layer_norm(row, &self.norm, &mut last);
        let width = self.width();
        let mut out = vec![0.0; width];
        let rows = Rows {
            data: &last,
            stride: dim,
            count: 1,
        };
        self.projection
            .apply(rows.into(), After::Store, &mut out, width);
        Ok(out)
    }
}

/// The bytes of a tokenizer's file.
pub(super) fn read_bytes(path: &Path, at_most: u64) -> Result<Vec<u8>, BackboneError> {
    files::read(path, at_most).map_err(|reason| BackboneError::Read {
        path: path.into(),
        reason,
    })
}

/// What a `tokenizer.json` says of itself, without its vocabulary.
#[derive(Deserialize)]
pub(super) struct Outline {
    pub(super) model: Model,
    #[serde(default)]
    pub(super) normalizer: Value,
}

/// The kind of a tokenizer's model.
#[derive(Deserialize)]
pub(super) struct Model {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
}

impl Outline {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("not a tokenizer: {error}"))
    }
}

/// The types of a normaliser and all within it, with the normaliser of each.
pub(super) fn normalizers(value: &Value) -> Vec<(&str, &Value)> {
    let own = value.get("type").and_then(Value::as_str);
    let within = value.get("normalizers").and_then(Value::as_array);
    let within = within.into_iter().flatten().flat_map(normalizers);
    own.map(|kind| (kind, value))
        .into_iter()
        .chain(within)
        .collect()
}

/// The tokenizer in a `tokenizer.json`.
pub(super) fn whole_tokenizer(path: &Path) -> Result<Tokenizer, BackboneError> {
    let bytes = read_bytes(path, files::DESCRIPTION)?;
    tokenizer_of(&bytes).map_err(|reason| BackboneError::Tokenizer {
        path: path.into(),
        reason,
    })
}

/// A tokenizer that neither pads nor cuts: texts are cut here.
pub(super) fn tokenizer_of(bytes: &[u8]) -> Result<Tokenizer, String> {
    let outline = Outline::read(bytes)?;
    // The library's reader of such tables panics on damaged ones, and neither CLIP nor SigLIP 2 has one.
    if normalizers(&outline.normalizer)
        .iter()
        .any(|(kind, _)| *kind == "Precompiled")
    {
        return Err(
            "its normalizer is a compiled table: not the tokenizer of CLIP or SigLIP 2".into(),
        );
    }
    guarded(|| Tokenizer::from_bytes(bytes))
        .map(plain)
        .map_err(|error| format!("not a tokenizer: {error}"))
}

/// Runs the library that tokenizers are read and used with; a panic in it, on a file made to harm, counts as damage.
pub(super) fn guarded<T, E: Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    let done = catch_unwind(AssertUnwindSafe(work)).map_err(|_| "its reader failed".to_string())?;
    done.map_err(|error| error.to_string())
}

/// A tokenizer without padding and cutting.
pub(super) fn plain(mut tokenizer: Tokenizer) -> Tokenizer {
    tokenizer.with_padding(None);
    // Without parameters it cannot fail.
    let _ = tokenizer.with_truncation(None);
    tokenizer
}

/// The highest number of a token.
pub(super) fn highest(tokenizer: &Tokenizer) -> u32 {
    tokenizer.get_vocab(true).into_values().max().unwrap_or(0)
}

/// A file of a folder, if it is there.
pub(super) fn beside(folder: &Path, name: &str) -> Option<PathBuf> {
    Some(folder.join(name)).filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The library's reader panics on half a letter in a decoder (found by `fuzz/`).
    #[test]
    fn a_tokenizer_that_its_library_panics_on_is_damaged() {
        let text = br#"{"version": "1.0", "decoder": {"pattern": "\ud800"}, "model": {"type": "BPE", "vocab": {}, "merges": []}}"#;
        let refused = tokenizer_of(text).err().unwrap();
        assert!(refused.contains("not a tokenizer"), "{refused}");
    }
}
