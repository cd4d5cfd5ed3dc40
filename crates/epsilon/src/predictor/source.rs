//! What vectors of words are made of: a file of word vectors, or the text tower of a network. What a name stands for is decided
//! here, for recipes and programs alike.

use std::borrow::Cow;

use super::PredictError;
use super::sentences::Sentences;
use epsilon_data::labels::{
    self, Found, LabelError, LabelVectors, Resolution, Resolved, VectorFile, VectorIndex, composed,
};
use epsilon_vision::backbone::{Download, TextTower};

/// A source of vectors that was opened.
pub(super) enum Opened {
    /// A file of word vectors.
    Index(Box<VectorIndex>),
    /// The text tower of a network.
    Tower(Box<Sentences>),
}

impl Opened {
    /// Opens what `named` stands for; `download` says whether the hub may be asked for a network.
    pub(super) fn open(named: &VectorFile, download: Download) -> Result<Self, PredictError> {
        Ok(match tower(named)? {
            true => Self::Tower(Box::new(Sentences::open(&named.path, download)?)),
            false => Self::Index(Box::new(VectorIndex::read(named)?)),
        })
    }

    /// Width of the vectors.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Index(index) => index.dim(),
            Self::Tower(sentences) => sentences.width(),
        }
    }

    /// SHA-256 of the network's weights, if it is one.
    pub(super) fn weights_sha256(&self) -> Option<&str> {
        match self {
            Self::Index(_) => None,
            Self::Tower(sentences) => Some(sentences.weights_sha256()),
        }
    }

    /// The vectors of some words, row-major `[words, width]`.
    pub(super) fn vectors(&mut self, words: &[String]) -> Result<Vec<f32>, PredictError> {
        match self {
            Self::Index(index) => Ok(index.resolve(words)?.vectors.values().to_vec()),
            Self::Tower(sentences) => sentences.vectors(words),
        }
    }
}

/// Whether the name stands for a network, which has no lists of words.
fn tower(named: &VectorFile) -> Result<bool, LabelError> {
    let tower = TextTower::is_named(&named.path);
    match named.names.len() {
        found if tower && found > 0 => Err(LabelError::Lists {
            path: named.path.clone(),
            wanted: 0,
            found,
        }),
        _ => Ok(tower),
    }
}

/// Finds the vector of every name in a file of word vectors, as [`labels::resolve_words`] does, or makes it with the text tower of
/// the network that `named` stands for: a weight file, a folder or `hf:OWNER/NAME`. Name i is looked up as `words[i]`. `download`
/// says whether the hub may be asked for the network.
///
/// ```
/// use epsilon::backbone::Download;
/// use epsilon::predictor::resolve_words;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("words.txt");
/// std::fs::write(&path, "red 1 0\nflower 0 1\n")?;
/// let names = ["red flower".to_string()];
/// let resolved = resolve_words(&path.as_path().into(), &names, &names, Download::Refused)?;
/// assert_eq!(resolved.vectors.row(0), [0.5, 0.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`PredictError::Labels`] as [`labels::resolve_words`], and for lists of words of a network; [`PredictError::NoTextTower`],
/// [`PredictError::TextTower`] for a network that cannot be found or read.
///
/// # Panics
/// If there are not as many words as names.
pub fn resolve_words(
    named: &VectorFile,
    names: &[String],
    words: &[String],
    download: Download,
) -> Result<Resolved, PredictError> {
    if !tower(named)? {
        return Ok(labels::resolve_words(named, names, words)?);
    }
    assert_eq!(names.len(), words.len(), "a word for each name");
    let words = words.iter().map(|word| composed(word));
    let words: Vec<String> = words.map(Cow::into_owned).collect();
    let mut sentences = Sentences::open(&named.path, download)?;
    let values = sentences.vectors(&words)?;
    let resolution = |name: &String| Resolution {
        name: name.clone(),
        found: Found::TextTower,
    };
    Ok(Resolved {
        vectors: LabelVectors::new(names.to_vec(), sentences.width(), values)?,
        report: names.iter().map(resolution).collect(),
    })
}

/// Opens a file of word vectors where nothing else serves, as for the names of a classifier's classes.
///
/// # Errors
/// [`LabelError::Form`] for a network, and those of [`VectorIndex::read`].
pub(crate) fn index_of_words(named: &VectorFile) -> Result<VectorIndex, LabelError> {
    if TextTower::is_named(&named.path) {
        let reason = "a network; a classifier's classes and the labels are compared in a file of word vectors, such as GloVe's: name \
                      one as `vectors`";
        return Err(LabelError::Form {
            path: named.path.clone(),
            reason: reason.into(),
        });
    }
    VectorIndex::read(named)
}
