//! How a folder is tagged, and with which words.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::TagError;
use crate::calibration::{Calibration, Preset};
use crate::library::ownership::Subject;
use crate::library::sidecar::Name as SidecarName;
use crate::model::{Keep, Ranker};
use crate::predictor::Predictor;
use epsilon_data::labels::read_list;

/// How a folder is tagged.
#[derive(Debug, Clone, PartialEq)]
pub struct TagOptions {
    /// Which labels of a photograph are kept.
    pub keep: Keep,
    /// Words to tag with, with their parents; the model's own labels where none are given.
    pub words: Option<Vec<Subject>>,
    /// The library's folder; [`Library::beside`](crate::library::Library::beside) the photographs where none is given.
    pub library: Option<PathBuf>,
    /// Whether the labels are written into XMP sidecars, too, and how these are named.
    pub sidecars: Option<SidecarName>,
    /// Whether photographs that are not there any more are forgotten however many they are. Otherwise a folder that holds none,
    /// or fewer than half of those that are known, is not believed: a mount may be away.
    pub forget_missing: bool,
    /// Whether labels are taken out of sidecars whose photographs are gone.
    pub prune: bool,
    /// A CSV file for all tags: photo, label, parents, score, probability, seen, state.
    pub csv: Option<PathBuf>,
    /// Patterns for what is left out of the folder, as [`Walk::new`](crate::library::Walk::new) takes them.
    pub exclude: Vec<String>,
}

impl TagOptions {
    /// Tags with the model's own labels, kept in the library beside the photographs.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            words: None,
            library: None,
            sidecars: None,
            forget_missing: false,
            prune: false,
            csv: None,
            exclude: Vec::new(),
        }
    }

    /// The words that are tagged with.
    pub(super) fn all_words(&self, ranker: &Ranker) -> Vec<Subject> {
        let plain = |name: &String| Subject {
            name: name.clone(),
            parents: Vec::new(),
        };
        let own = || ranker.labels().names().iter().map(plain).collect();
        self.words.clone().unwrap_or_else(own)
    }

    pub(super) fn settings<'a>(
        &self,
        predictor: &'a Predictor,
        ranker: &'a Ranker,
        words: &[Subject],
    ) -> Settings<'a> {
        Settings {
            model: predictor.model().identity(),
            labels: words.iter().map(|word| format!("{word:?}")).collect(),
            vectors: ranker.labels().values(),
            keep: self.keep,
            calibration: predictor.model().card().calibration(),
            preset: predictor.model().card().preset(),
        }
    }
}

/// Reads a list of words to tag with, one a line; `animal|dog` is the word dog below animal. It may be a pipe.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("words.txt");
/// std::fs::write(&path, "sea\nanimal|dog\n")?;
/// let words = epsilon::tagger::read_words(&path)?;
/// assert_eq!(words[0].name, "sea");
/// assert_eq!((&*words[1].name, &*words[1].parents), ("dog", &["animal".to_string()][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`TagError::Words`] for a list that cannot be read, [`TagError::Line`].
pub fn read_words(path: &Path) -> Result<Vec<Subject>, TagError> {
    subjects(read_list(path)?, path)
}

/// Words to tag with, as [`read_words`] reads them, that were found at `place`.
///
/// # Errors
/// [`TagError::Line`].
pub fn subjects(lines: Vec<String>, place: &Path) -> Result<Vec<Subject>, TagError> {
    let words = lines.into_iter().map(|line| {
        let parts: Vec<String> = line.split('|').map(|part| part.trim().into()).collect();
        let whole = parts.iter().all(|part| !part.is_empty());
        let word = Subject::of_path(parts).filter(|_| whole);
        word.ok_or_else(|| TagError::Line {
            path: place.into(),
            line,
        })
    });
    words.collect()
}

/// What decides a photograph's tags beside the photograph.
#[derive(Serialize)]
pub(super) struct Settings<'a> {
    model: String,
    labels: Vec<String>,
    vectors: &'a [f32],
    keep: Keep,
    calibration: Option<&'a Calibration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<Preset>,
}
