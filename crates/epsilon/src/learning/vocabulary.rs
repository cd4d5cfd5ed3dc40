//! Which labels are learnt: those that enough photographs have and that have a word vector.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use epsilon_data::labels::{LabelError, VectorFile, composed, resolve_words};

use super::LearnError;
use super::gather::{Gathered, Known};

/// The labels of a library.
pub(super) struct Vocabulary {
    /// Their keys, those of most photographs first.
    pub(super) keys: Vec<String>,
    /// Their names, likewise.
    pub(super) names: Vec<String>,
    /// Photographs of each.
    pub(super) counts: Vec<usize>,
    /// Labels that too few photographs have, with their number, most first.
    pub(super) rare: Vec<(String, usize)>,
    /// Labels without a word vector.
    pub(super) wordless: Vec<String>,
}

impl Vocabulary {
    pub(super) fn of(
        gathered: &Gathered,
        at_least: usize,
        vectors: &VectorFile,
    ) -> Result<Self, LearnError> {
        let mut counted = counts(gathered);
        counted.sort_by(|(a, n), (b, m)| (Reverse(n), a).cmp(&(Reverse(m), b)));
        let enough = counted.partition_point(|(_, count)| *count >= at_least);
        let rare = counted.split_off(enough);
        let named = |key: &str| composed(gathered.spelling(key)).into_owned();
        let rare: Vec<_> = rare.into_iter().map(|(key, n)| (named(&key), n)).collect();
        if counted.is_empty() {
            return Err(LearnError::AllRare { at_least, rare });
        }
        let names: Vec<String> = counted.iter().map(|(key, _)| named(key)).collect();
        let wordless = wordless(&names, vectors)?;
        if wordless.len() == names.len() {
            return Err(LearnError::Wordless {
                path: vectors.path.clone(),
                labels: names,
            });
        }
        let mut vocabulary = Self {
            keys: Vec::new(),
            names: Vec::new(),
            counts: Vec::new(),
            rare,
            wordless: Vec::new(),
        };
        for ((key, count), name) in counted.into_iter().zip(names) {
            match wordless.contains(&name) {
                true => vocabulary.wordless.push(name),
                false => {
                    vocabulary.keys.push(key);
                    vocabulary.names.push(name);
                    vocabulary.counts.push(count);
                }
            }
        }
        Ok(vocabulary)
    }
}

/// Whether a photograph has a label: it says so, or one below it in a hierarchy.
pub(super) fn has(known: &Known, key: &str) -> bool {
    known.present.contains(key) || known.above.contains(key) && !known.absent.contains(key)
}

/// The photographs of each label. What only stands above others in a hierarchy, such as "Places", is none.
fn counts(gathered: &Gathered) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for known in &gathered.photos {
        let all = known.present.union(&known.above);
        for key in all.filter(|key| gathered.spellings.contains_key(*key) && has(known, key)) {
            *counts.entry(key).or_default() += 1;
        }
    }
    counts
        .into_iter()
        .map(|(key, n)| (key.to_string(), n))
        .collect()
}

/// The names that have no vector.
fn wordless(names: &[String], file: &VectorFile) -> Result<BTreeSet<String>, LearnError> {
    match resolve_words(file, names, names) {
        Ok(_) => Ok(BTreeSet::new()),
        Err(LabelError::Unresolved { labels, .. }) => {
            Ok(labels.into_iter().map(|label| label.name).collect())
        }
        Err(error) => Err(error.into()),
    }
}
