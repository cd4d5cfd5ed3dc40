//! The indices of a library, as a tagging keeps them: by what a photograph is found for a word, and how it looks.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;

use super::TagError;
use super::error::failed;
use crate::coverage;
use crate::library::Library;
use crate::model::{Ranker, SemanticVectors};
use crate::predictor::Predictor;
use crate::semantic_index::{IndexError, IndexInfo, IndexWriter};
use epsilon_vision::backbone::Features;

/// The indices.
pub(super) struct Indices {
    /// Of semantic vectors; none where the method has no such vectors.
    words: Option<IndexWriter>,
    /// Of [`coverage::look`].
    looks: IndexWriter,
    /// Width of the tokens.
    width: usize,
}

impl Indices {
    /// Those in a library's folder, those of another model thrown away.
    pub(super) fn open(
        predictor: &Predictor,
        ranker: &Ranker,
        library: &Path,
        identity: &str,
    ) -> Result<Self, TagError> {
        // The number of vectors that it makes of zeros is that of any image.
        let dims = predictor.model().card().dims();
        let tokens = vec![0.0; dims.tokens * dims.width];
        let (_, vectors) = ranker.rank_with_vectors(1, tokens, vec![0.0; dims.global_width()]);
        let words = vectors.map(|vectors| IndexInfo {
            model: identity.into(),
            groups: vectors.groups,
            width: vectors.width,
            classes: vectors.classes,
        });
        let place = Library::index(library);
        let words = match words {
            Some(info) => Some(opened(&place, &info)?),
            // What an earlier model left would be searched as if it were this one's.
            None => removed(&place).map(|()| None)?,
        };
        let looks = IndexInfo {
            model: identity.into(),
            groups: 1,
            width: dims.width + dims.global_width(),
            classes: None,
        };
        Ok(Self {
            words,
            looks: opened(&Library::looks(library), &looks)?,
            width: dims.width,
        })
    }

    /// Whether they hold a photograph.
    pub(super) fn contain(&self, id: &str) -> bool {
        self.all().all(|index| index.contains(id))
    }

    /// Takes photographs in, with their features and semantic vectors.
    pub(super) fn push(
        &mut self,
        ids: &[String],
        features: &Features,
        vectors: Option<&SemanticVectors>,
    ) -> Result<(), TagError> {
        let Features { tokens, global } = features;
        let looks = coverage::look(tokens, global, ids.len(), self.width);
        push(&mut self.looks, ids, &looks)?;
        if let (Some(index), Some(vectors)) = (&mut self.words, vectors) {
            push(index, ids, &vectors.values)?;
        }
        Ok(())
    }

    /// Takes a photograph out.
    pub(super) fn remove(&mut self, id: &str) {
        self.all_mut().for_each(|index| index.remove(id));
    }

    /// Takes out photographs that are not among these.
    pub(super) fn keep(&mut self, photos: &HashSet<&str>) {
        for index in self.all_mut() {
            let gone = index.ids().filter(|id| !photos.contains(id));
            let gone: Vec<String> = gone.map(String::from).collect();
            gone.iter().for_each(|id| index.remove(id));
        }
    }

    /// What was pushed and removed counts from now on.
    pub(super) fn commit(&mut self) -> Result<(), TagError> {
        self.all_mut().try_for_each(|index| Ok(index.commit()?))
    }

    fn all(&self) -> impl Iterator<Item = &IndexWriter> {
        self.words.iter().chain([&self.looks])
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut IndexWriter> {
        self.words.iter_mut().chain([&mut self.looks])
    }
}

fn push(index: &mut IndexWriter, ids: &[String], values: &[f32]) -> Result<(), TagError> {
    let rows = values.chunks(values.len() / ids.len());
    for (id, rows) in ids.iter().zip(rows) {
        index.push(id, rows)?;
    }
    Ok(())
}

fn opened(folder: &Path, info: &IndexInfo) -> Result<IndexWriter, TagError> {
    match IndexWriter::open(folder, info) {
        Err(IndexError::OtherModel { .. }) => {
            removed(folder)?;
            Ok(IndexWriter::open(folder, info)?)
        }
        opened => Ok(opened?),
    }
}

/// Removes a folder if it is there.
fn removed(folder: &Path) -> Result<(), TagError> {
    match std::fs::remove_dir_all(folder) {
        Err(reason) if reason.kind() != ErrorKind::NotFound => Err(failed(folder, reason)),
        _ => Ok(()),
    }
}
