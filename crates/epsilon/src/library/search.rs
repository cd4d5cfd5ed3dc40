//! Searches a catalog by the semantic vectors of its photographs: those that match some words, or are like one of them, with the
//! owner's word respected.

use std::collections::HashMap;

use super::catalog::{Catalog, Criteria, Filter, Order};
use super::corrections::State;
use crate::semantic_index::{Hit, Index, IndexError};

/// A photograph that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Its place among [`Catalog::items`].
    pub item: usize,
    /// The best match of its semantic vectors, of which the method makes its score
    /// ([`Method::score_of_match`](crate::methods::Method::score_of_match)); or how like it is to the photograph asked for.
    pub score: f32,
    /// Which of its M vectors matches best, from 0; none where all were compared.
    pub group: Option<usize>,
}

impl Catalog {
    /// The `top` photographs that match words best, of those that a filter passes, put in an order then. `query` is the words' row
    /// of [`Model::queries`](crate::model::Model::queries). Those for which the owner approved these very words as a label come
    /// first, those for which they were rejected are left out.
    ///
    /// # Errors
    /// Those of [`Index::search`].
    pub fn search(
        &self,
        index: &Index,
        query: &[f32],
        words: &str,
        filter: &Filter,
        (order, top): (Order, usize),
    ) -> Result<Vec<Match>, IndexError> {
        let (judgement, criteria) = (self.judgement(words), Criteria::of(filter, self));
        let mut found = Vec::new();
        for state in [State::Approved, State::Automatic] {
            let passing = self.passing(&criteria);
            let places = self.by_id(passing.filter(|at| judgement(&self.items()[*at]) == state));
            if places.is_empty() {
                continue;
            }
            let selection = index.select(|id| places.contains_key(id))?;
            let hits = index.search_in(&selection, query, top - found.len())?;
            found.extend(matches(&places, hits));
        }
        self.sort(&mut found, order, |of| of.item);
        Ok(found)
    }

    /// The `top` photographs most like one of the library, of those that a filter passes, put in an order then; that one itself is
    /// left out. See [`Index::like`].
    ///
    /// # Errors
    /// Those of [`Index::like`].
    pub fn like(
        &self,
        index: &Index,
        photo: &str,
        filter: &Filter,
        (order, top): (Order, usize),
    ) -> Result<Vec<Match>, IndexError> {
        let places = self.by_id(self.passing(&Criteria::of(filter, self)));
        let selection = index.select(|id| places.contains_key(id))?;
        let mut found = matches(&places, index.like_in(&selection, photo, top)?);
        self.sort(&mut found, order, |of| of.item);
        Ok(found)
    }

    fn by_id(&self, places: impl Iterator<Item = usize>) -> HashMap<&str, usize> {
        let places = places.map(|place| (self.items()[place].id.as_str(), place));
        places.collect()
    }
}

/// The hits as places; what the catalog does not hold, it did not select.
fn matches(places: &HashMap<&str, usize>, hits: Vec<Hit>) -> Vec<Match> {
    let hits = hits.into_iter();
    let matches = hits.filter_map(|Hit { id, score, group }| {
        let item = *places.get(id.as_str())?;
        Some(Match { item, score, group })
    });
    matches.collect()
}
