//! CLIP's text tower (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021):
//! sentences to vectors that lie where the image tower's projected vectors do, so that labels need no word vectors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use epsilon_data::files;
use rayon::prelude::*;
use serde_json::json;
use tokenizers::Tokenizer;

use super::families::{TextParts, read_text};
use super::vit::{Scratch, Transformer, map, norm};
use super::{BackboneError, Pairing};
use epsilon_kernels::finish::After;
use epsilon_kernels::linear::{Arithmetic, LinearMap, stride};
use epsilon_kernels::packed::Rows;
use epsilon_kernels::rows::{Norm, layer_norm};

const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// CLIP's text tower with its tokenizer, ready to run.
pub struct TextTower {
    /// SHA-256 of the weight file, in hexadecimal.
    pub weights_sha256: String,
    /// How its vectors and the image tower's are scored, where the file says so.
    pub pairing: Option<Pairing>,
    path: PathBuf,
    tokenizer: Tokenizer,
    begin: u32,
    end: u32,
    dim: usize,
    /// Longest sequence, begin and end included.
    length: usize,
    /// `[words, dim]`.
    embedding: Vec<f32>,
    /// `[length, dim]`.
    positions: Vec<f32>,
    parts: Parts,
}

struct Parts {
    transformer: Transformer,
    norm: Norm,
    projection: LinearMap,
    config: super::BlockConfig,
}

impl TextTower {
    /// Reads a text tower from a folder, or from a weight file with its tokenizer beside it: `tokenizer.json`, or
    /// `vocab.json` and `merges.txt`. `weights_key` chooses the part of a file that holds several, as [`super::Options`] does.
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
        let (path, tokenizer) = tokenizer(folder)?;
        let bad = |reason: String| BackboneError::Tokenizer {
            path: path.clone(),
            reason,
        };
        let id = |token: &str| {
            tokenizer
                .token_to_id(token)
                .ok_or_else(|| bad(format!("it has no token {token}: not CLIP's tokenizer")))
        };
        let (begin, end) = (id(BEGIN)?, id(END)?);
        let TextParts {
            config,
            embedding,
            positions,
            blocks,
            norm: last,
            projection,
            pairing,
        } = parts;
        let dim = config.dim;
        let (words, length) = (embedding.len() / dim, positions.len() / dim);
        let highest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if highest as usize >= words {
            return Err(bad(format!(
                "it has a token {highest}, but the weights hold {words} of them"
            )));
        }
        if length < 3 {
            return Err(bad(format!("{length} positions are too few for a word")));
        }
        Ok(Self {
            weights_sha256,
            pairing,
            tokenizer,
            begin,
            end,
            dim,
            length,
            embedding,
            positions,
            parts: Parts {
                transformer: Transformer::new(blocks, &config, Arithmetic::F32),
                norm: norm(last, config.layer_norm_eps),
                projection: map(&projection, Arithmetic::F32),
                config,
            },
            path,
        })
    }

    /// Width of a vector.
    pub fn width(&self) -> usize {
        self.parts.projection.outputs()
    }

    /// The tokens of a text, begin and end included; what is too long is cut.
    fn tokens(&self, text: &str) -> Result<Vec<u32>, BackboneError> {
        let failed = |error: tokenizers::Error| BackboneError::Tokenizer {
            path: self.path.clone(),
            reason: format!("{text}: {error}"),
        };
        let encoding = self.tokenizer.encode(text, false).map_err(failed)?;
        let inner = encoding.get_ids().iter().take(self.length - 2);
        let begin = std::iter::once(self.begin);
        Ok(begin.chain(inner.copied()).chain([self.end]).collect())
    }

    /// Vectors of some texts, [`TextTower::width`] values each: the end token after the final layer normalisation,
    /// projected; not normalised to unit length.
    ///
    /// # Errors
    ///
    /// [`BackboneError::Tokenizer`] when a text cannot be cut into tokens.
    pub fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, BackboneError> {
        let new = || Scratch::new(&self.parts.config, self.length, 0);
        texts
            .par_iter()
            .map_init(new, |scratch, text| self.embed_one(text, scratch))
            .collect()
    }

    fn embed_one(&self, text: &str, s: &mut Scratch) -> Result<Vec<f32>, BackboneError> {
        let (dim, step) = (self.dim, stride(self.dim));
        let tokens = self.tokens(text)?;
        let rows = s.tokens.chunks_exact_mut(step);
        for ((row, token), place) in rows.zip(&tokens).zip(self.positions.chunks_exact(dim)) {
            let word = &self.embedding[*token as usize * dim..][..dim];
            for ((value, word), place) in row.iter_mut().zip(word).zip(place) {
                *value = word + place;
            }
        }
        // A causal tower: what would stand behind the end token changes nothing.
        self.parts.transformer.run(s, tokens.len());
        let mut last = vec![0.0; dim];
        let row = &s.tokens[(tokens.len() - 1) * step..][..dim];
        layer_norm(row, &self.parts.norm, &mut last);
        let mut out = vec![0.0; self.width()];
        let rows = Rows {
            data: &last,
            stride: dim,
            count: 1,
        };
        let width = self.width();
        self.parts
            .projection
            .apply(rows.into(), After::Store, &mut out, width);
        Ok(out)
    }
}

/// The tokenizer in a folder, and the file it came from.
fn tokenizer(folder: &Path) -> Result<(PathBuf, Tokenizer), BackboneError> {
    let whole = folder.join("tokenizer.json");
    let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
    let bad = |path: &Path, reason: String| BackboneError::Tokenizer {
        path: path.into(),
        reason,
    };
    if whole.is_file() {
        return match Tokenizer::from_file(&whole) {
            Ok(tokenizer) => Ok((whole, plain(tokenizer))),
            Err(error) => Err(bad(&whole, format!("not a tokenizer: {error}"))),
        };
    }
    if !vocabulary.is_file() || !merges.is_file() {
        return Err(bad(
            folder,
            "no tokenizer there: tokenizer.json, or vocab.json and merges.txt, are needed".into(),
        ));
    }
    let read = |path: &Path| {
        files::read_text(path, files::LIST).map_err(|reason| BackboneError::Read {
            path: path.into(),
            reason,
        })
    };
    let words: HashMap<String, u32> = serde_json::from_str(&read(&vocabulary)?)
        .map_err(|error| bad(&vocabulary, format!("not a vocabulary: {error}")))?;
    let text = read(&merges)?;
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || (number == 0 && line.starts_with("#version")) {
            continue;
        }
        let pair = line
            .split_once(' ')
            .ok_or_else(|| bad(&merges, format!("line {}: not two parts", number + 1)))?;
        pairs.push([pair.0, pair.1]);
    }
    let special = [BEGIN, END].map(|token| {
        json!({"id": words.get(token), "content": token, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": true, "special": true})
    });
    if let Some(token) = [BEGIN, END]
        .into_iter()
        .find(|token| !words.contains_key(*token))
    {
        return Err(bad(
            &vocabulary,
            format!("it has no token {token}: not CLIP's vocabulary"),
        ));
    }
    // CLIP's tokenizer in the crate's own form: lower case, words split by kind, byte-level pairs.
    let whole = json!({
        "version": "1.0",
        "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Removed", "invert": true, "pattern": {
                "Regex": r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"}},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": null,
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": END, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false,
                  "vocab": words, "merges": pairs},
    });
    Tokenizer::from_bytes(whole.to_string())
        .map(|tokenizer| (vocabulary.clone(), plain(tokenizer)))
        .map_err(|error| {
            bad(
                &vocabulary,
                format!("not CLIP's vocabulary and merges: {error}"),
            )
        })
}

/// A tokenizer that neither pads nor cuts: texts are cut here.
fn plain(mut tokenizer: Tokenizer) -> Tokenizer {
    tokenizer.with_padding(None);
    // Without parameters it cannot fail.
    let _ = tokenizer.with_truncation(None);
    tokenizer
}
