//! An index as plain dot products, for other programs: the score of a photograph is `max_m p_m . w`, also where the model has an
//! anchor. Of an index without one, the vectors `p_m` are the semantic vectors `S_m`, and `w` is the query. With an anchor
//! `p_m = [S_m, p, b]` and `w = [v, e, 1]`, so that `p_m . w = S_m . v + p . e + b`.

use std::borrow::Cow;

use super::{Index, IndexError};

impl Index {
    /// The records of its photographs, in the order in which a search prefers one of equal scores, with the photographs' ids.
    ///
    /// # Errors
    /// [`IndexError::Form`] for an id that is no text.
    pub fn places(&self) -> Result<Vec<(usize, Cow<'_, str>)>, IndexError> {
        let living = self.ids.living();
        let places = living.map(|place| Ok((place, self.ids.text(place)?)));
        places.collect()
    }

    /// The vectors of a record of [`Index::places`], row-major `[M, E]` with E of
    /// [`IndexInfo::dot_width`](super::IndexInfo::dot_width): the best of their dot products with [`Index::dot_query`] is the score
    /// of [`Index::search`], but for the rounding of a sum in f32. They are not of unit length.
    ///
    /// # Panics
    /// For a record that the index does not have.
    pub fn dot_vectors(&self, place: usize) -> Vec<f32> {
        let (info, record) = (self.info(), self.record(place as u64));
        let (vectors, added) = (info.vectors_of(record), info.anchor_of(record));
        if added.is_empty() {
            return vectors;
        }
        let rows = vectors.chunks_exact(info.width);
        rows.flat_map(|row| row.iter().chain(&added))
            .copied()
            .collect()
    }

    /// A label's [query](crate::model::Model::queries) for [`Index::dot_vectors`], `[E]`, rounded as a search rounds it.
    ///
    /// # Errors
    /// As [`Index::search`].
    pub fn dot_query(&self, query: &[f32]) -> Result<Vec<f32>, IndexError> {
        Ok(self.query(query)?.dots(self.info()))
    }
}
