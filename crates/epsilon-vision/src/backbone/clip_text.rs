//! CLIP's sentences (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021): byte-level
//! pairs in lower case, between a begin and an end token.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use epsilon_data::files;
use serde_json::json;
use tokenizers::Tokenizer;

use super::BackboneError;
use super::text::{guarded, highest, plain, whole_tokenizer};

const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// CLIP's tokenizer.
pub(super) struct ClipTokens {
    pub(super) path: PathBuf,
    tokenizer: Tokenizer,
    begin: u32,
    end: u32,
}

impl ClipTokens {
    /// Reads `tokenizer.json` of a folder, or `vocab.json` and `merges.txt`.
    pub(super) fn load(folder: &Path) -> Result<Self, BackboneError> {
        let (path, tokenizer) = tokenizer(folder)?;
        let id = |token: &str| {
            tokenizer
                .token_to_id(token)
                .ok_or_else(|| BackboneError::Tokenizer {
                    path: path.clone(),
                    reason: format!("it has no token {token}: not CLIP's tokenizer"),
                })
        };
        Ok(Self {
            begin: id(BEGIN)?,
            end: id(END)?,
            tokenizer,
            path,
        })
    }

    /// The highest number of a token.
    pub(super) fn highest(&self) -> u32 {
        highest(&self.tokenizer)
    }

    /// The tokens of a text, begin and end included; what is beyond `length` is cut.
    pub(super) fn of(&self, text: &str, length: usize) -> Result<Vec<u32>, String> {
        let encoding = guarded(|| self.tokenizer.encode(text, false))?;
        let inner = encoding.get_ids().iter().take(length.saturating_sub(2));
        let begin = std::iter::once(self.begin);
        Ok(begin.chain(inner.copied()).chain([self.end]).collect())
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
        let tokenizer = whole_tokenizer(&whole)?;
        return Ok((whole, tokenizer));
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
    guarded(|| Tokenizer::from_bytes(whole.to_string()))
        .map(|tokenizer| (vocabulary.clone(), plain(tokenizer)))
        .map_err(|error| {
            bad(
                &vocabulary,
                format!("not CLIP's vocabulary and merges: {error}"),
            )
        })
}
