//! The labels of a catalog's photographs in few bytes: a library of many photographs has few kinds of labels, and what all
//! labels of a kind have in common is held once.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::corrections::{Labelled, State};
use super::journal::Label;
use super::ownership::folded;

/// A label of a photograph of a [`Catalog`](super::Catalog). It is written as a [`Labelled`].
#[derive(Debug, Clone)]
pub struct Tag {
    pub(super) kind: Arc<Kind>,
    pub(super) values: Values,
}

/// The numbers of a label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values {
    pub(super) score: Number,
    pub(super) probability: Number,
}

/// A number or none, in the bytes of the number: NaN stands for none, which no line can say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub(super) f32);

impl Number {
    pub(super) const NONE: Self = Self(f32::NAN);

    fn of(number: Option<f32>) -> Self {
        number.map_or(Self::NONE, Self)
    }

    fn get(self) -> Option<f32> {
        (!self.0.is_nan()).then_some(self.0)
    }
}

impl Default for Number {
    fn default() -> Self {
        Self::NONE
    }
}

impl Tag {
    /// [`Label::name`].
    pub fn name(&self) -> &str {
        &self.kind.name
    }

    /// [`Label::parents`].
    pub fn parents(&self) -> &[String] {
        &self.kind.parents
    }

    /// [`Label::score`].
    pub fn score(&self) -> Option<f32> {
        self.values.score.get()
    }

    /// [`Label::probability`].
    pub fn probability(&self) -> Option<f32> {
        self.values.probability.get()
    }

    /// [`Label::seen`].
    pub fn seen(&self) -> bool {
        self.kind.seen
    }

    /// What became of it.
    pub fn state(&self) -> State {
        self.kind.state
    }

    /// The label, without what became of it.
    pub fn label(&self) -> Label {
        Label {
            name: self.kind.name.clone(),
            parents: self.kind.parents.clone(),
            score: self.score(),
            probability: self.probability(),
            seen: self.kind.seen,
        }
    }

    /// The label and what became of it.
    pub fn labelled(&self) -> Labelled {
        Labelled {
            label: self.label(),
            state: self.kind.state,
        }
    }
}

impl PartialEq for Tag {
    fn eq(&self, other: &Self) -> bool {
        self.labelled() == other.labelled()
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.labelled().serialize(serializer)
    }
}

/// What labels have in common.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its place in what [`Kinds::which`] gives.
    pub(super) number: usize,
    pub(super) name: String,
    parents: Vec<String>,
    seen: bool,
    pub(super) state: State,
    /// [`folded`] of its name, and of each of its parents.
    key: String,
    above: Vec<String>,
}

impl Kind {
    /// Whether its name is this folded one.
    pub(super) fn is_named(&self, key: &str) -> bool {
        self.key == key
    }

    /// Whether its name, or that of one of its parents, is this folded one.
    pub(super) fn is_within(&self, key: &str) -> bool {
        self.is_named(key) || self.above.iter().any(|above| above == key)
    }
}

/// All kinds of labels that a catalog has met.
#[derive(Default)]
pub(super) struct Kinds {
    /// At their numbers.
    all: Vec<Arc<Kind>>,
    /// Numbers by the hash of what tells kinds apart: one name may have any number of parents, in a library from anybody.
    numbers: HashMap<u64, Vec<usize>>,
    /// What photographs say of how they were tagged: mostly all the same.
    settings: HashSet<Arc<str>>,
}

impl Kinds {
    /// A label in few bytes.
    pub(super) fn tag(&mut self, Labelled { label, state }: &Labelled) -> Tag {
        Tag {
            kind: self.kind(&label.name, &label.parents, label.seen, *state),
            values: Values {
                score: Number::of(label.score),
                probability: Number::of(label.probability),
            },
        }
    }

    /// The kind with all this.
    pub(super) fn kind(
        &mut self,
        name: &str,
        parents: &[impl AsRef<str>],
        seen: bool,
        state: State,
    ) -> Arc<Kind> {
        let parents = || parents.iter().map(AsRef::as_ref);
        let mut hasher = self.numbers.hasher().build_hasher();
        (name, seen, state).hash(&mut hasher);
        parents().for_each(|parent| parent.hash(&mut hasher));
        let numbers = self.numbers.entry(hasher.finish()).or_default();
        let mut alike = numbers.iter().map(|&number| &self.all[number]);
        let known = alike.find(|kind| {
            kind.name == name
                && (kind.seen, kind.state) == (seen, state)
                && parents().eq(&kind.parents)
        });
        if let Some(known) = known {
            return known.clone();
        }
        let kind = Arc::new(Kind {
            number: self.all.len(),
            name: name.into(),
            parents: parents().map(String::from).collect(),
            seen,
            state,
            key: folded(name),
            above: parents().map(folded).collect(),
        });
        numbers.push(kind.number);
        self.all.push(kind.clone());
        kind
    }

    /// How photographs were tagged, held once for all that say the same.
    pub(super) fn settings(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.settings.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.settings.insert(new.clone());
        new
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Of every kind, at its number, whether it passes.
    pub(super) fn which(&self, passes: impl Fn(&Kind) -> bool) -> Vec<bool> {
        self.all().map(passes).collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Kind> {
        self.all.iter().map(Arc::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drawn() -> impl Strategy<Value = Labelled> {
        let number = || proptest::option::of(-9.0_f32..9.0);
        let state =
            proptest::sample::select(vec![State::Automatic, State::Approved, State::Rejected]);
        let name = || proptest::sample::select(vec!["sea", "Sea", "dog", "b|c"]);
        let parents = proptest::collection::vec(name(), 0..3);
        let one = (name(), parents, number(), number());
        let rest = (any::<bool>(), state);
        (one, rest).prop_map(
            |((name, parents, score, probability), (seen, state))| Labelled {
                label: Label {
                    name: name.into(),
                    parents: parents.into_iter().map(String::from).collect(),
                    score,
                    probability,
                    seen,
                },
                state,
            },
        )
    }

    proptest! {
        /// What is held in few bytes is given back as it was, and written as it was.
        #[test]
        fn a_tag_is_its_label(labels in proptest::collection::vec(drawn(), 0..40)) {
            let mut kinds = Kinds::default();
            let tags: Vec<Tag> = labels.iter().map(|label| kinds.tag(label)).collect();
            let back: Vec<Labelled> = tags.iter().map(Tag::labelled).collect();
            prop_assert_eq!(&back, &labels);
            prop_assert_eq!(
                serde_json::to_string(&tags).unwrap(),
                serde_json::to_string(&labels).unwrap()
            );
            let is_named = kinds.which(|kind| kind.is_named("sea"));
            let is_within = kinds.which(|kind| kind.is_within("sea"));
            for (tag, Labelled { label, .. }) in tags.iter().zip(&labels) {
                let named = folded(&label.name) == "sea";
                let below = label.parents.iter().any(|parent| folded(parent) == "sea");
                prop_assert_eq!(is_named[tag.kind.number], named);
                prop_assert_eq!(is_within[tag.kind.number], named || below);
            }
            let distinct = kinds.all().count();
            prop_assert_eq!(distinct, kinds.count());
            labels.iter().for_each(|label| _ = kinds.tag(label));
            prop_assert_eq!(distinct, kinds.count());
        }
    }

    #[test]
    fn a_tag_is_small() {
        assert_eq!(size_of::<Tag>(), 16);
    }
}
