//! SigLIP's sentences: in lower case without punctuation, cut into pieces by a sentencepiece model (SigLIP), or in lower case
//! alone and cut by Gemma's tokenizer (SigLIP 2); an end token, and padding up to the tower's length, because its attention sees
//! all places and its last place is read.

use std::path::{Path, PathBuf};

use epsilon_data::files;
use tokenizers::Tokenizer;

use super::BackboneError;
use super::sentencepiece::{MODEL, SentencePiece};
use super::text::{Outline, beside, guarded, highest, read_bytes, tokenizer_of};

/// The tokenizer of SigLIP or SigLIP 2.
pub(super) struct SiglipTokens {
    pub(super) path: PathBuf,
    cut: Cut,
    end: u32,
    padding: u32,
}

enum Cut {
    /// SigLIP's.
    Pieces(Box<SentencePiece>),
    /// SigLIP 2's.
    Gemma(Box<Tokenizer>),
}

impl SiglipTokens {
    /// Reads `spiece.model` of a folder, from which SigLIP's `tokenizer.json` was made, or `tokenizer.json`.
    pub(super) fn load(folder: &Path) -> Result<Self, BackboneError> {
        if let Some(path) = beside(folder, "spiece.model") {
            let bytes = read_bytes(&path, MODEL)?;
            let pieces = SentencePiece::from_model(&bytes);
            return Self::new(path, pieces.map(|pieces| Cut::Pieces(Box::new(pieces))));
        }
        if let Some(path) = beside(folder, "tokenizer.json") {
            let bytes = read_bytes(&path, files::DESCRIPTION)?;
            let cut = from_json(&bytes);
            return Self::new(path, cut);
        }
        Err(BackboneError::Tokenizer {
            path: folder.into(),
            reason: "no tokenizer there: spiece.model or tokenizer.json is needed".into(),
        })
    }

    fn new(path: PathBuf, cut: Result<Cut, String>) -> Result<Self, BackboneError> {
        let tokens = cut.and_then(|cut| {
            let id = |token: &str| {
                let id = match &cut {
                    Cut::Pieces(pieces) => pieces.id(token),
                    Cut::Gemma(tokenizer) => tokenizer.token_to_id(token),
                };
                id.ok_or_else(|| format!("it has no token {token}: not SigLIP's tokenizer"))
            };
            let (end, padding) = match &cut {
                // SigLIP pads with its end token.
                Cut::Pieces(_) => (id("</s>")?, id("</s>")?),
                Cut::Gemma(_) => (id("<eos>")?, id("<pad>")?),
            };
            Ok((cut, end, padding))
        });
        match tokens {
            Ok((cut, end, padding)) => Ok(Self {
                path,
                cut,
                end,
                padding,
            }),
            Err(reason) => Err(BackboneError::Tokenizer { path, reason }),
        }
    }

    /// The highest number of a token.
    pub(super) fn highest(&self) -> u32 {
        match &self.cut {
            Cut::Pieces(pieces) => pieces.highest(),
            Cut::Gemma(tokenizer) => highest(tokenizer),
        }
    }

    /// The tokens of a text, its end and padding: `length` of them.
    pub(super) fn of(&self, text: &str, length: usize) -> Result<Vec<u32>, String> {
        let mut ids = match &self.cut {
            Cut::Pieces(pieces) => pieces.ids(&canonical(text))?,
            Cut::Gemma(tokenizer) => {
                // Letter by letter, as the tokenizer's own normaliser does.
                let lower: String = text.chars().flat_map(char::to_lowercase).collect();
                let encoding = guarded(|| tokenizer.encode(lower, false))?;
                encoding.get_ids().to_vec()
            }
        };
        ids.truncate(length.saturating_sub(1));
        ids.push(self.end);
        ids.resize(length, self.padding);
        Ok(ids)
    }
}

fn from_json(bytes: &[u8]) -> Result<Cut, String> {
    Ok(match Outline::read(bytes)?.model.kind.as_deref() {
        Some("Unigram") => Cut::Pieces(Box::new(SentencePiece::from_json(bytes)?)),
        _ => Cut::Gemma(Box::new(tokenizer_of(bytes)?)),
    })
}

/// A text as SigLIP was trained on: lower case, no ASCII punctuation, one space between words and none around.
/// Source: `canonicalize_text` of <https://github.com/google-research/big_vision>.
fn canonical(text: &str) -> String {
    let lower = text.to_lowercase();
    let kept: String = lower
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    // What Python calls a space, which the separators of ASCII are, too.
    let space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let words: Vec<&str> = kept.split(space).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_texts_by_hand() {
        for (text, wanted) in [
            ("A photo of a cat.", "a photo of a cat"),
            ("  rock-'n'-roll!\t(live)\n", "rocknroll live"),
            ("ΟΔΟΣ, Straße", "οδος straße"),
            ("<unk></s>", "unks"),
            ("...", ""),
            ("a\u{1f}b\u{a0}c", "a b c"),
        ] {
            assert_eq!(canonical(text), wanted);
        }
    }
}
