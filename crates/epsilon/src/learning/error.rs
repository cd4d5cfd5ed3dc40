//! What can go wrong when a library is learnt from.

use std::io;
use std::path::{Path, PathBuf};

use epsilon_data::dataset::DatasetError;
use epsilon_data::paths::shown;
use epsilon_vision::backbone::BackboneError;
use epsilon_vision::tokens::{FeatureError, StoreError};

use crate::experiment::ExperimentError;
use crate::library::{LibraryError, PatternError};
use crate::predictor::PredictError;
use crate::recipe::RecipeError;

/// What can go wrong when a library is learnt from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    /// A pattern of what is left out.
    #[error(transparent)]
    Exclude(#[from] PatternError),
    /// Another process learns from the same library.
    #[error("{}: another process is learning from this library", shown(library))]
    Busy {
        /// The library's folder.
        library: PathBuf,
    },
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", shown(path))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The library's own files.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// No photograph has a keyword or a correction.
    #[error(
        "{}: of {photos} photographs none has a keyword, in its file or a sidecar, and none was reviewed: give some keywords with any \
         photo program, review with `epsilon review`, or take the names of folders with --folders",
        shown(folder)
    )]
    NoKeywords {
        /// The folder.
        folder: PathBuf,
        /// Photographs in it.
        photos: usize,
    },
    /// No label has enough photographs.
    #[error(
        "no label has {at_least} photographs or more: {}; give more of them keywords, or ask for fewer with --at-least",
        most(rare)
    )]
    AllRare {
        /// Photographs that a label needs.
        at_least: usize,
        /// The labels with their photographs, most first.
        rare: Vec<(String, usize)>,
    },
    /// None of the labels has a word vector.
    #[error("{}: holds no vector of any of the {} labels, such as {:?}", path.display(), labels.len(), labels.first().map_or("", String::as_str))]
    Wordless {
        /// The file of word vectors.
        path: PathBuf,
        /// The labels.
        labels: Vec<String>,
    },
    /// There are too few photographs to train on some and to hold others out.
    #[error(
        "{known} photographs with keywords or reviews, of {scenes} scenes, are too few to train on some and hold others out: at least \
         two scenes that can be read are needed"
    )]
    TooFew {
        /// Photographs of which something is known.
        known: usize,
        /// Scenes that they are of.
        scenes: usize,
    },
    /// A network without a text tower, and no file of word vectors.
    #[error("{}: labels are learnt by their word vectors, and none were given: name a file of them, such as GloVe's (--vectors)", weights.display())]
    NoVectors {
        /// The network.
        weights: PathBuf,
    },
    /// The words' vectors.
    #[error(transparent)]
    Words(Box<PredictError>),
    /// The network.
    #[error(transparent)]
    Network(#[from] BackboneError),
    /// The extraction.
    #[error(transparent)]
    Features(FeatureError),
    /// The tokens.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The table of photographs and labels.
    #[error(transparent)]
    Table(#[from] DatasetError),
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The training.
    #[error(transparent)]
    Experiment(ExperimentError),
    /// The observer has broken off.
    #[error(
        "stopped: tokens that were extracted are kept, and the same call goes on from there; a training begins anew"
    )]
    Stopped,
}

impl From<FeatureError> for LearnError {
    fn from(error: FeatureError) -> Self {
        match error {
            FeatureError::Stopped => Self::Stopped,
            error => Self::Features(error),
        }
    }
}

impl From<ExperimentError> for LearnError {
    fn from(error: ExperimentError) -> Self {
        match error {
            ExperimentError::Stopped => Self::Stopped,
            error => Self::Experiment(error),
        }
    }
}

impl From<PredictError> for LearnError {
    fn from(error: PredictError) -> Self {
        Self::Words(Box::new(error))
    }
}

fn most(rare: &[(String, usize)]) -> String {
    let named = rare.iter().take(3);
    let named: Vec<String> = named.map(|(name, n)| format!("{name:?} has {n}")).collect();
    named.join(", ")
}

/// The error of a file.
pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> LearnError {
    move |source| LearnError::File {
        path: path.into(),
        source,
    }
}
