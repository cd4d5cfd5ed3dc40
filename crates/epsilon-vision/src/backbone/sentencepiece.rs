//! Unigram models of sentencepiece (Kudo and Richardson, 2018): a text's most likely cut into pieces. Read from the program's
//! own model file, a protocol buffer, or from a `tokenizer.json` that was made of one.
//! Source of the format: <https://github.com/google/sentencepiece>, `src/sentencepiece_model.proto`, `src/normalizer.cc`.

use data_encoding::BASE64;
use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::Model as _;
use tokenizers::models::unigram::Unigram;

use super::text::{Outline, normalizers};

/// Bytes that a model file may have. Those of 250,000 pieces have 4 million.
pub(super) const MODEL: u64 = 16 << 20;

/// Bytes of all pieces together, and of one: each costs some hundred in the tree that they are looked up in, which is as deep as
/// the longest is long.
const ALL_PIECES: usize = 4 << 20;
const LONGEST_PIECE: usize = 512;

/// Bytes that one entry of a normaliser's table may turn into. The longest of Unicode's has 33.
const LONGEST_REPLACEMENT: usize = 256;

/// What stands for a space within pieces.
const SPACE: char = '\u{2581}';

/// A model, ready to cut.
pub(super) struct SentencePiece {
    unigram: Unigram,
    pieces: usize,
    table: Option<Table>,
    /// Whether several spaces are one and none stands at the end.
    trims: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, tag = "1")]
    piece: String,
    #[prost(float, tag = "2")]
    score: f32,
    /// 1 normal (where nothing is said), 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    /// 1 unigram (where nothing is said), 2 byte pairs, 3 words, 4 characters.
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(bool, tag = "35")]
    byte_fallback: bool,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", tag = "2")]
    table: Vec<u8>,
    #[prost(bool, optional, tag = "4")]
    trims: Option<bool>,
}

/// The part of a `tokenizer.json` that holds the pieces.
#[derive(Deserialize)]
struct Json {
    model: JsonModel,
}

#[derive(Deserialize)]
struct JsonModel {
    vocab: Vec<(String, f64)>,
    unk_id: Option<usize>,
    #[serde(default)]
    byte_fallback: bool,
}

impl SentencePiece {
    /// From a model file's bytes; a sentence where it is none of the kind.
    pub(super) fn from_model(bytes: &[u8]) -> Result<Self, String> {
        let model = ModelProto::decode(bytes)
            .map_err(|error| format!("not a sentencepiece model: {error}"))?;
        let trainer = model.trainer.unwrap_or_default();
        if trainer.model_type.unwrap_or(1) != 1 {
            return Err(
                "a sentencepiece model of another kind than unigram, which SigLIP's is".into(),
            );
        }
        let kind = |piece: &Piece| piece.kind.unwrap_or(1);
        if model.pieces.iter().any(|piece| kind(piece) == 5) {
            return Err("it has unused pieces, which SigLIP's has not".into());
        }
        let normal = model.pieces.iter().filter(|piece| kind(piece) == 1);
        let best = normal
            .map(|piece| piece.score)
            .fold(f32::NEG_INFINITY, f32::max);
        let unknown = model.pieces.iter().position(|piece| kind(piece) == 2);
        let pieces = model.pieces.into_iter().map(|piece| {
            let score = match kind(&piece) {
                // Always better than the same letters in other pieces.
                4 => piece.piece.len() as f32 * best - 0.1,
                _ => piece.score,
            };
            (piece.piece, f64::from(score))
        });
        let normalizer = model.normalizer.unwrap_or_default();
        Self::new(
            pieces.collect(),
            unknown,
            trainer.byte_fallback,
            Table::read(&normalizer.table)?,
            normalizer.trims.unwrap_or(true),
        )
    }

    /// From the bytes of a `tokenizer.json`, whose cutting of words and normaliser are taken for what sentencepiece does: the
    /// library's own forms of both differ from it in rare cases.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let Json { model } = serde_json::from_slice(bytes)
            .map_err(|error| format!("not a unigram tokenizer: {error}"))?;
        let outline = Outline::read(bytes)?;
        let mut table = None;
        for (kind, normalizer) in normalizers(&outline.normalizer) {
            match kind {
                "Precompiled" => {
                    let text = normalizer.get("precompiled_charsmap");
                    let text = text.and_then(Value::as_str).unwrap_or_default();
                    let bytes = BASE64
                        .decode(text.as_bytes())
                        .map_err(|error| format!("its normalizer's table: {error}"))?;
                    table = Table::read(&bytes)?;
                }
                "Sequence" | "Lowercase" | "Replace" | "Strip" | "Prepend" => {}
                other => {
                    return Err(format!(
                        "its normalizer is {other}, which SigLIP's tokenizer has not"
                    ));
                }
            }
        }
        Self::new(model.vocab, model.unk_id, model.byte_fallback, table, true)
    }

    fn new(
        pieces: Vec<(String, f64)>,
        unknown: Option<usize>,
        byte_fallback: bool,
        table: Option<Table>,
        trims: bool,
    ) -> Result<Self, String> {
        if unknown.is_none() {
            return Err("it has no piece for what is unknown".into());
        }
        let bytes: usize = pieces.iter().map(|(piece, _)| piece.len()).sum();
        let longest = pieces.iter().map(|(piece, _)| piece.len()).max();
        if bytes > ALL_PIECES || longest.unwrap_or(0) > LONGEST_PIECE {
            return Err(format!(
                "its pieces have {bytes} bytes and the longest {}: more than any SigLIP's",
                longest.unwrap_or(0)
            ));
        }
        if let Some((piece, _)) = pieces.iter().find(|(_, score)| !score.is_finite()) {
            return Err(format!("the score of the piece {piece} is not finite"));
        }
        let count = pieces.len();
        let unigram = Unigram::from(pieces, unknown, byte_fallback)
            .map_err(|error| format!("not a unigram model: {error}"))?;
        Ok(Self {
            unigram,
            pieces: count,
            table,
            trims,
        })
    }

    /// The number of a piece.
    pub(super) fn id(&self, piece: &str) -> Option<u32> {
        self.unigram.token_to_id(piece)
    }

    /// The highest number of a piece.
    pub(super) fn highest(&self) -> u32 {
        u32::try_from(self.pieces.saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// The numbers of a text's pieces, as if a space stood before it.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        let text = text.replace(SPACE, " ");
        let text = match &self.table {
            Some(table) => table.apply(&text)?,
            None => text,
        };
        let mut marked = String::new();
        if self.trims {
            for word in text.split(' ').filter(|word| !word.is_empty()) {
                marked.push(SPACE);
                marked.push_str(word);
            }
        } else if !text.is_empty() {
            marked.push(SPACE);
            marked.push_str(&text.replace(' ', "\u{2581}"));
        }
        let pieces = self.unigram.tokenize(&marked);
        let pieces = pieces.map_err(|error| error.to_string())?;
        Ok(pieces.into_iter().map(|piece| piece.id).collect())
    }
}

/// A normaliser's table: texts and what stands for them, the texts in a double-array trie (Darts-clone).
struct Table {
    units: Vec<u32>,
    /// Each ends in a zero.
    replacements: String,
}

impl Table {
    /// Reads a table; an empty one is none.
    fn read(bytes: &[u8]) -> Result<Option<Self>, String> {
        let damaged = || "its normalizer's table is damaged".to_string();
        if bytes.is_empty() {
            return Ok(None);
        }
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let size = u32::from_le_bytes(*size) as usize;
        let (units, replacements) = rest.split_at_checked(size).ok_or_else(damaged)?;
        let (units, []) = units.as_chunks::<4>() else {
            return Err(damaged());
        };
        Ok(Some(Self {
            units: units.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
            replacements: String::from_utf8(replacements.to_vec()).map_err(|_| damaged())?,
        }))
    }

    /// A text with the longest entry at each place replaced.
    fn apply(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = match self.longest(rest.as_bytes()) {
                Some((length, place)) if rest.is_char_boundary(length) => {
                    out.push_str(self.replacement(place)?);
                    length
                }
                _ => {
                    out.push(first);
                    first.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        Ok(out)
    }

    fn replacement(&self, place: usize) -> Result<&str, String> {
        let from = self.replacements.get(place..);
        let text = from.and_then(|text| text.split('\0').next());
        text.filter(|text| text.len() <= LONGEST_REPLACEMENT)
            .ok_or_else(|| "its normalizer's table is damaged".into())
    }

    /// Length of the longest entry that the bytes begin with, and where its replacement begins.
    fn longest(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let offset = |unit: u32| ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize;
        let mut found = None;
        let mut place = offset(*self.units.first()?);
        for (index, &byte) in bytes.iter().enumerate() {
            place ^= usize::from(byte);
            let Some(&unit) = self.units.get(place) else {
                break;
            };
            // The label, and the bit that tells a value.
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            place ^= offset(unit);
            if unit & 1 << 8 != 0 {
                let value = self.units.get(place)? & !(1 << 31);
                found = Some((index + 1, value as usize));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(pieces: &[(&str, f32, i32)]) -> ModelProto {
        let piece = |&(piece, score, kind): &(&str, f32, i32)| Piece {
            piece: piece.into(),
            score,
            kind: Some(kind),
        };
        ModelProto {
            pieces: pieces.iter().map(piece).collect(),
            trainer: None,
            normalizer: None,
        }
    }

    const PIECES: [(&str, f32, i32); 8] = [
        ("<unk>", 0.0, 2),
        ("</s>", 0.0, 3),
        ("\u{2581}", -3.0, 1),
        ("\u{2581}ab", -4.0, 1),
        ("a", -2.0, 1),
        ("b", -2.0, 1),
        ("\u{2581}a", -2.5, 1),
        ("bb", -3.0, 1),
    ];

    #[test]
    fn the_most_likely_cut_by_hand() {
        let model = SentencePiece::from_model(&model(&PIECES).encode_to_vec()).unwrap();
        // "_ab" costs 4, "_a" and "b" 4.5; "_a" and "bb" 5.5, "_ab" and "b" 6.
        assert_eq!(model.ids("ab").unwrap(), [3]);
        assert_eq!(model.ids("abb").unwrap(), [6, 7]);
        assert_eq!(model.ids(" ab  a ").unwrap(), [3, 6]);
        // Unknown letters side by side are one.
        assert_eq!(model.ids("axyb").unwrap(), [6, 0, 5]);
        assert_eq!(model.ids("").unwrap(), [0u32; 0]);
        assert_eq!((model.highest(), model.id("</s>")), (7, Some(1)));
    }

    #[test]
    fn models_of_other_kinds_are_refused() {
        let refused = |model: ModelProto| SentencePiece::from_model(&model.encode_to_vec()).err();
        let said = |model, part: &str| {
            let text = refused(model).unwrap();
            assert!(text.contains(part), "{part} is not in: {text}");
        };
        let mut pairs = model(&PIECES);
        pairs.trainer = Some(TrainerSpec {
            model_type: Some(2),
            byte_fallback: false,
        });
        said(pairs, "another kind than unigram");
        said(model(&PIECES[1..]), "no piece for what is unknown");
        said(model(&[PIECES[0], ("a", f32::NAN, 1)]), "not finite");
        said(model(&[PIECES[0], ("a", 0.0, 5)]), "unused pieces");
        let long = "a".repeat(513);
        said(model(&[PIECES[0], (&long, 0.0, 1)]), "longest 513");
        // A piece that claims four gigabytes.
        let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, b'a'];
        assert!(SentencePiece::from_model(&huge).is_err());
        let mut table = model(&PIECES);
        table.normalizer = Some(NormalizerSpec {
            table: vec![0xff, 0xff, 0xff, 0x7f, 1, 2],
            trims: None,
        });
        said(table, "table is damaged");
    }

    #[test]
    fn a_damaged_table_neither_panics_nor_hangs() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state
        };
        for _ in 0..2000 {
            let table = Table {
                units: (0..300).map(|_| random() & 0x0003_ffff | 0x100).collect(),
                replacements: "a\0\u{e9}\0".into(),
            };
            // Either a text or an error.
            let _ = table.apply("a b\u{e9} \u{1f600}");
        }
    }
}
