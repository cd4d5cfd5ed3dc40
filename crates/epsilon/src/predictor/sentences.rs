//! Vectors of words from the text tower of a network: several sentences about each word, averaged. A tower takes long over some
//! hundred words, so they are kept on disk, a file for each tower and choice of sentences.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use epsilon_data::files;
use epsilon_data::formats::safetensors as format;
use epsilon_vision::backbone::{self, BackboneError, Download, Pairing, TextTower};
use safetensors::SafeTensors;

use super::PredictError;

/// Sentences about a word, for towers that were trained on captions.
const SENTENCES: [&str; 4] = [
    "a photo of {}.",
    "a photo of a {}.",
    "a picture that shows {}.",
    "{}",
];
/// The same for a tower whose every sentence costs as much as its longest one.
const ONE_SENTENCE: [&str; 1] = ["This is a photo of {}."];
/// Most words that a file keeps; beyond it, it is begun anew.
const KEPT: usize = 50_000;
/// A file is written anew when one in so many of its words is not in it, and at the end: so it costs as much as what it keeps, not as
/// much for each word.
const SHARE: usize = 16;
const NAMES: &str = "words";
const VECTORS: &str = "vectors";

/// A text tower, and the sentences that it is asked about a word.
pub(super) struct Sentences {
    tower: TextTower,
    /// `{}` stands for the word.
    templates: &'static [&'static str],
    /// Where vectors are kept, if there is such a place.
    file: Option<PathBuf>,
    known: HashMap<String, Vec<f32>>,
    /// How many of these came after the file was written.
    unwritten: usize,
}

impl Sentences {
    /// The text tower of a network: a file, a folder or `hf:OWNER/NAME`, for which the hub is asked where `download` says so.
    ///
    /// # Errors
    /// [`PredictError::NoTextTower`], and [`PredictError::TextTower`] for weights that cannot be found or read.
    pub(super) fn open(network: &Path, download: Download) -> Result<Self, PredictError> {
        let path = backbone::locate(network, download).map_err(PredictError::TextTower)?;
        let tower = TextTower::load(&path, None).map_err(|error| match error {
            BackboneError::Unknown { .. } => PredictError::NoTextTower {
                path: network.into(),
            },
            error => PredictError::TextTower(error),
        })?;
        Ok(Self::new(tower))
    }

    /// A tower with the sentences of its kind, and the user's folder for the vectors of words.
    pub(super) fn new(tower: TextTower) -> Self {
        Self::kept_in(tower, files::cache("words").as_deref())
    }

    fn kept_in(tower: TextTower, cache: Option<&Path>) -> Self {
        let templates: &[&str] = match tower.pairing {
            Some(Pairing { bias: Some(_), .. }) => &ONE_SENTENCE,
            _ => &SENTENCES,
        };
        let identity = format!("{} {templates:?}", tower.weights_sha256);
        let name = files::sha256(identity.as_bytes());
        let file = cache.map(|folder| folder.join(format!("{}.safetensors", &name[..32])));
        let known = file.as_deref().map(|file| read(file, tower.width()));
        Self {
            known: known.unwrap_or_default(),
            tower,
            templates,
            file,
            unwritten: 0,
        }
    }

    /// Width of a vector.
    pub(super) fn width(&self) -> usize {
        self.tower.width()
    }

    /// SHA-256 of the network's weights.
    pub(super) fn weights_sha256(&self) -> &str {
        &self.tower.weights_sha256
    }

    /// Vectors of some words, row-major `[words, width]`: the mean of the unit vectors of their sentences.
    ///
    /// # Errors
    /// [`PredictError::TextTower`] for a word that the tokenizer cannot take.
    pub(super) fn vectors(&mut self, words: &[String]) -> Result<Vec<f32>, PredictError> {
        let new = words.iter().filter(|word| !self.known.contains_key(*word));
        let new: Vec<String> = new.cloned().collect();
        if !new.is_empty() {
            let made = self.make(&new).map_err(PredictError::TextTower)?;
            if self.known.len() + new.len() > KEPT {
                self.known.retain(|word, _| words.contains(word));
            }
            self.unwritten += new.len();
            self.known.extend(new.into_iter().zip(made));
            if self.unwritten * SHARE >= self.known.len() {
                self.keep();
            }
        }
        let rows = words.iter().map(|word| &self.known[word]);
        Ok(rows.flatten().copied().collect())
    }

    fn make(&self, words: &[String]) -> Result<Vec<Vec<f32>>, BackboneError> {
        let sentences = words.iter().flat_map(|word| {
            let about = self.templates.iter();
            about.map(move |template| template.replace("{}", word))
        });
        let vectors = self.tower.embed(&sentences.collect::<Vec<_>>())?;
        let means = vectors.chunks(self.templates.len()).map(|of_word| {
            let mut mean = vec![0.0; self.tower.width()];
            for vector in of_word {
                let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
                let share = 1.0 / (length.max(f32::MIN_POSITIVE) * self.templates.len() as f32);
                mean.iter_mut()
                    .zip(vector)
                    .for_each(|(mean, v)| *mean += v * share);
            }
            mean
        });
        Ok(means.collect())
    }

    /// Writes what is known. Where that cannot be done, or the program is killed before, the words take as long again next time, and
    /// nothing is lost.
    fn keep(&mut self) {
        self.unwritten = 0;
        let Some(path) = &self.file else { return };
        let mut words: Vec<(&String, &Vec<f32>)> = self.known.iter().collect();
        words.sort_unstable_by_key(|(word, _)| *word);
        let names: Vec<&String> = words.iter().map(|(word, _)| *word).collect();
        let written = serde_json::to_string(&names).map_err(std::io::Error::from);
        let written = written.and_then(|names| {
            let values = words.iter().flat_map(|(_, vector)| vector.iter().copied());
            let shape = vec![words.len(), self.tower.width()];
            let tensors = [(VECTORS.to_string(), shape, values.collect())];
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            format::write_tensors(path, &tensors, [(NAMES.to_string(), names)].into())
        });
        if let Err(reason) = written {
            log::warn!(
                "{}: the words' vectors are not kept: {reason}",
                path.display()
            );
        }
    }
}

impl Drop for Sentences {
    fn drop(&mut self) {
        if self.unwritten > 0 {
            self.keep();
        }
    }
}

/// The vectors in a file; none where it is not there or cannot be used, for it is but a cache.
fn read(path: &Path, width: usize) -> HashMap<String, Vec<f32>> {
    let known = || -> Option<HashMap<String, Vec<f32>>> {
        let bytes = files::read(path, files::LIST).ok()?;
        let names = format::metadata(&bytes, NAMES).ok()?;
        let names: Vec<String> = serde_json::from_str(&names).ok()?;
        let tensors = SafeTensors::deserialize(&bytes).ok()?;
        let values = format::f32_values(&tensors, VECTORS).ok()?;
        let fits = values.len() == names.len() * width && values.iter().all(|v| v.is_finite());
        fits.then(|| {
            let rows = values.chunks_exact(width).map(<[f32]>::to_vec);
            names.into_iter().zip(rows).collect()
        })
    };
    known().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tower(name: &str) -> TextTower {
        let fixtures = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../epsilon-vision/tests/fixtures"
        );
        TextTower::load(&Path::new(fixtures).join(name), None).unwrap()
    }

    /// The mean of the unit vectors of a word's sentences, straight from the tower.
    fn by_hand(tower: &TextTower, sentences: &[&str]) -> Vec<f32> {
        let sentences: Vec<String> = sentences.iter().map(ToString::to_string).collect();
        let mut mean = vec![0.0; tower.width()];
        for vector in tower.embed(&sentences).unwrap() {
            let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
            let shares = vector.iter().map(|v| v / length / sentences.len() as f32);
            mean.iter_mut().zip(shares).for_each(|(sum, v)| *sum += v);
        }
        mean
    }

    #[test]
    fn a_words_vector_is_the_mean_over_the_sentences_of_its_kind_of_tower() {
        let clip = [
            "a photo of red moon.",
            "a photo of a red moon.",
            "a picture that shows red moon.",
            "red moon",
        ];
        for (name, sentences) in [
            ("backbones/clip", &clip[..]),
            ("siglip/siglip", &["This is a photo of red moon."]),
        ] {
            let expected = by_hand(&tower(name), sentences);
            let mut kept = Sentences::kept_in(tower(name), None);
            let found = kept.vectors(&["red moon".into()]).unwrap();
            let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            assert!(far.max_by(f32::total_cmp).unwrap() < 1e-6, "{name}");
        }
    }

    #[test]
    fn vectors_are_read_again_by_the_same_tower_alone() {
        let cache = tempfile::tempdir().unwrap();
        let words = ["sun".to_string(), "moon".to_string()];
        let mut first = Sentences::kept_in(tower("backbones/clip"), Some(cache.path()));
        let made = first.vectors(&words).unwrap();
        let mut again = Sentences::kept_in(tower("backbones/clip"), Some(cache.path()));
        assert_eq!(again.known.len(), 2);
        assert_eq!(again.vectors(&words).unwrap(), made);
        let other = Sentences::kept_in(tower("siglip/siglip"), Some(cache.path()));
        assert!(other.known.is_empty());
    }

    /// One new word in more than sixteen waits for others or the end, and is made again where the program was killed.
    #[test]
    fn a_file_is_not_written_for_every_word() {
        let cache = tempfile::tempdir().unwrap();
        let open = || Sentences::kept_in(tower("backbones/clip"), Some(cache.path()));
        let known = || open().known.len();
        let mut first = open();
        let words: Vec<String> = (0..32).map(|word| format!("w{word}")).collect();
        first.vectors(&words).unwrap();
        assert_eq!(known(), 32);
        let made = first.vectors(&["sun".into()]).unwrap();
        assert_eq!(known(), 32);
        std::mem::forget(first);
        let mut second = open();
        assert_eq!(second.vectors(&["sun".into()]).unwrap(), made);
        assert_eq!(known(), 32);
        drop(second);
        assert_eq!(known(), 33);
        let mut third = open();
        for (word, written) in [("moon", 33), ("star", 33), ("sky", 36)] {
            third.vectors(&[word.into()]).unwrap();
            assert_eq!(known(), written, "{word}");
        }
    }
}
