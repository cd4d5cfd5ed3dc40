//! Which labels are learnt: those that enough photographs have and that have a word vector.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use epsilon_data::labels::{LabelError, VectorFile, composed};
use epsilon_vision::backbone::Download;

use super::gather::{Gathered, Known};
use super::scenes::Held;
use super::{LearnError, Learner};
use crate::predictor::{PredictError, resolve_words};

/// The labels of a library.
pub(super) struct Vocabulary {
    /// Their keys, those of most photographs first.
    pub(super) keys: Vec<String>,
    /// Their names, likewise.
    pub(super) names: Vec<String>,
    /// Photographs of each.
    pub(super) counts: Vec<usize>,
    /// Labels that too few of the photographs have that are trained on, with the number of all, most first.
    pub(super) rare: Vec<(String, usize)>,
    /// Labels without a word vector.
    pub(super) wordless: Vec<String>,
}

impl Vocabulary {
    pub(super) fn of(
        gathered: &Gathered,
        held: &Held,
        learner: &Learner,
    ) -> Result<Self, LearnError> {
        let at_least = learner.options.at_least;
        let mut counted = counts(gathered, held);
        counted.sort_by(|(a, n), (b, m)| (Reverse(n.all), a).cmp(&(Reverse(m.all), b)));
        let is_enough = |(_, count): &(String, Count)| count.trained_on >= at_least;
        let (counted, rare): (Vec<_>, Vec<_>) = counted.into_iter().partition(is_enough);
        let named = |key: &str| composed(gathered.spelling(key)).into_owned();
        let rare = rare
            .into_iter()
            .map(|(key, count)| (named(&key), count.all));
        let rare: Vec<(String, usize)> = rare.collect();
        if counted.is_empty() {
            return Err(LearnError::AllRare { at_least, rare });
        }
        let names: Vec<String> = counted.iter().map(|(key, _)| named(key)).collect();
        let vectors = learner.network.vectors()?;
        let wordless = wordless(&names, &vectors, learner.download())?;
        if wordless.len() == names.len() {
            return Err(LearnError::Wordless {
                path: vectors.path,
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
                    vocabulary.counts.push(count.all);
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

/// Photographs of a label.
#[derive(Default)]
struct Count {
    all: usize,
    trained_on: usize,
}

/// The photographs of each label. What only stands above others in a hierarchy, such as "Places", is none.
fn counts(gathered: &Gathered, held: &Held) -> Vec<(String, Count)> {
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    for (known, out) in gathered.photos.iter().zip(&held.out) {
        let all = known.present.union(&known.above);
        for key in all.filter(|key| gathered.spellings.contains_key(*key) && has(known, key)) {
            let count = counts.entry(key).or_default();
            count.all += 1;
            count.trained_on += usize::from(!out);
        }
    }
    let counts = counts.into_iter();
    counts
        .map(|(key, count)| (key.to_string(), count))
        .collect()
}

/// The names that have no vector.
fn wordless(
    names: &[String],
    file: &VectorFile,
    download: Download,
) -> Result<BTreeSet<String>, LearnError> {
    match resolve_words(file, names, names, download) {
        Ok(_) => Ok(BTreeSet::new()),
        Err(PredictError::Labels(LabelError::Unresolved { labels, .. })) => {
            Ok(labels.into_iter().map(|label| label.name).collect())
        }
        Err(error) => Err(error.into()),
    }
}
