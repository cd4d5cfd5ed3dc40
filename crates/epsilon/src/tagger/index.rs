//! The index of semantic vectors, as a tagging keeps it.

use std::collections::HashSet;
use std::path::Path;

use super::TagError;
use super::error::failed;
use crate::model::Ranker;
use crate::predictor::Predictor;
use crate::semantic_index::{IndexError, IndexInfo, IndexWriter};

/// The index of semantic vectors, that of another model thrown away; none where the method has no such vectors.
pub(super) fn open(
    predictor: &Predictor,
    ranker: &Ranker<'_>,
    folder: &Path,
    identity: &str,
) -> Result<Option<IndexWriter>, TagError> {
    // The number of vectors that it makes of zeros is that of any image.
    let dims = predictor.model().card().dims();
    let tokens = vec![0.0; dims.tokens * dims.width];
    let (_, vectors) = ranker.rank_with_vectors(1, tokens, vec![0.0; dims.global_width()]);
    let Some(vectors) = vectors else {
        return Ok(None);
    };
    let info = IndexInfo {
        model: identity.into(),
        groups: vectors.groups,
        width: vectors.width,
        classes: vectors.classes,
    };
    match IndexWriter::open(folder, &info) {
        Err(IndexError::OtherModel { .. }) => {
            std::fs::remove_dir_all(folder).map_err(|reason| failed(folder, reason))?;
            Ok(Some(IndexWriter::open(folder, &info)?))
        }
        opened => Ok(Some(opened?)),
    }
}

/// Takes out photographs that are not among these.
pub(super) fn keep(index: &mut IndexWriter, photos: &HashSet<&str>) {
    let gone = index.ids().filter(|id| !photos.contains(id));
    let gone: Vec<String> = gone.map(String::from).collect();
    gone.iter().for_each(|id| index.remove(id));
}
