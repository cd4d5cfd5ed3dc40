//! Searches a catalog by the semantic vectors of its photographs: those that match some words, or are like one of them, with the
//! owner's word respected.

use super::catalog::{Catalog, Criteria, Filter, Item, Order};
use super::corrections::State;
use crate::semantic_index::{Hit, Index, IndexError, Selection};

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
        let said = |item| criteria.pass(item).then(|| judgement(item));
        let said: Vec<Option<State>> = self.items().iter().map(said).collect();
        let mut found = Vec::new();
        for state in [State::Approved, State::Automatic] {
            if said.contains(&Some(state)) {
                let selection = self.in_index(index, |at| said[at] == Some(state))?;
                let hits = index.search_in(&selection, query, top - found.len())?;
                found.extend(self.matches(hits));
            }
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
        let criteria = Criteria::of(filter, self);
        let selection = self.in_index(index, |at| criteria.pass(&self.items()[at]))?;
        let mut found = self.matches(index.like_in(&selection, photo, top)?);
        self.sort(&mut found, order, |of| of.item);
        Ok(found)
    }

    /// Of the photographs that a filter passes, how many an index does not hold, and how many there are; without those that could not
    /// be tagged. It lacks some while a library is tagged by another model, and after such a tagging was stopped.
    ///
    /// # Errors
    /// Those of [`Index::select`].
    pub fn unindexed(&self, index: &Index, filter: &Filter) -> Result<(usize, usize), IndexError> {
        let criteria = Criteria::of(filter, self);
        let is_asked = |item: &Item| item.error.is_none() && criteria.pass(item);
        let held = self.in_index(index, |at| is_asked(&self.items()[at]))?;
        let asked = self.items().iter().filter(|item| is_asked(item)).count();
        Ok((asked.saturating_sub(held.count()), asked))
    }

    /// Those of an index whose places in the catalog pass.
    pub(super) fn in_index(
        &self,
        index: &Index,
        passes: impl Fn(usize) -> bool,
    ) -> Result<Selection, IndexError> {
        // Photographs are tagged in the order of their ids: mostly the next one is the one behind, and need not be looked for.
        let mut next = 0;
        index.select(|id| {
            let is_next = |item: &Item| item.id == id;
            let place = match self.items().get(next).is_some_and(is_next) {
                true => Ok(next),
                false => self.place(id),
            };
            next = place.map_or(next, |place| place + 1);
            place.is_ok_and(&passes)
        })
    }

    /// The hits as places; what the catalog does not hold, it did not select.
    fn matches(&self, hits: Vec<Hit>) -> Vec<Match> {
        let hits = hits.into_iter();
        let matches = hits.filter_map(|Hit { id, score, group }| {
            let item = self.place(&id).ok()?;
            Some(Match { item, score, group })
        });
        matches.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Correction, Corrections, Entry, Journal, Line, Outcome, Verdict};
    use super::*;
    use crate::semantic_index::{IndexInfo, IndexWriter};

    fn said(photo: &str, verdict: Verdict) -> Line {
        Line::Label(Correction {
            photo: photo.into(),
            label: "Sea".into(),
            parents: Vec::new(),
            verdict,
            at: 1,
            by: None,
        })
    }

    /// In whatever order an index has the photographs: those are found that both know.
    #[test]
    fn an_index_of_any_order_is_searched() {
        let folder = tempfile::tempdir().unwrap();
        let info = IndexInfo {
            model: "m".into(),
            groups: 1,
            width: 1,
            classes: None,
        };
        let entry = |id: &&str| Entry {
            photo: (*id).into(),
            bytes: 1,
            modified: 1,
            settings: "s".into(),
            outcome: Outcome::Labels(Vec::new()),
            content: false,
            taken: None,
            doubt: None,
            sidecar: None,
        };
        let mut journal = Journal::open(folder.path()).unwrap();
        let entries: Vec<Entry> = ["a", "b", "c", "d", "e"].iter().map(entry).collect();
        journal.add(&entries).unwrap();
        let mut corrections = Corrections::open(folder.path()).unwrap();
        let lines = [said("b", Verdict::Approved), said("e", Verdict::Rejected)];
        corrections.add(&lines).unwrap();
        let catalog = Catalog::read(folder.path()).unwrap();
        for (number, order) in ["abcde", "edcba", "bxaecd", "dezabc", "ca"]
            .iter()
            .enumerate()
        {
            let place = folder.path().join(number.to_string());
            let mut writer = IndexWriter::open(&place, &info).unwrap();
            for id in order.chars() {
                let value = f32::from(u8::try_from(id).unwrap() - b'a' + 1);
                writer.push(&id.to_string(), &[value]).unwrap();
            }
            writer.commit().unwrap();
            let index = Index::open(&place).unwrap();
            let ids = |found: Vec<Match>| -> String {
                let items = found.iter().map(|of| catalog.items()[of.item].id.as_str());
                items.collect()
            };
            let (filter, best) = (Filter::default(), (Order::Relevance, 9));
            let found = catalog.search(&index, &[1.0], "sea", &filter, best);
            let held: String = "bdca".chars().filter(|id| order.contains(*id)).collect();
            assert_eq!(ids(found.unwrap()), held, "{order}");
            let lacking = 5 - held.len() - usize::from(order.contains('e'));
            assert_eq!(catalog.unindexed(&index, &filter).unwrap(), (lacking, 5));
            let mut alike: Vec<char> = ids(catalog.like(&index, "a", &filter, best).unwrap())
                .chars()
                .collect();
            alike.sort_unstable();
            let others = "bcde".chars().filter(|id| order.contains(*id));
            assert!(alike.into_iter().eq(others), "{order}");
        }
    }
}
