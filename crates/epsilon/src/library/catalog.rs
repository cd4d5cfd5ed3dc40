//! A library as people look at it: every photograph with its labels, its date and what its owner has said, chosen by criteria and
//! put in an order.
//!
//! A [`Catalog`] is a snapshot in memory. It changes nothing on the disk, so it may be read beside a program that is tagging.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::LibraryError;
use super::journal::{self, Entry, Label, Outcome};
use super::lines::{News, Tail};
use super::ownership::folded;

/// Nanoseconds of a second.
const NANOSECONDS: u64 = 1_000_000_000;

/// Who says that a photograph has a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The program.
    Automatic,
    /// The owner.
    Approved,
    /// The owner says that it has not.
    Rejected,
}

/// A label with the owner's word on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    /// The label.
    #[serde(flatten)]
    pub label: Label,
    /// Who says so.
    pub state: State,
}

/// A photograph of a [`Catalog`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// [`super::Photo::id`].
    pub id: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// When it was taken, seconds since 1970 on the camera's clock; where that is not known, when its file was last changed.
    pub date: i64,
    /// Its labels, those among them that the owner rejected, too.
    pub labels: Vec<Labelled>,
    /// Why it could not be tagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// [`Entry::doubt`].
    pub doubt: Option<f32>,
    /// Whether its owner has looked at all of it.
    pub reviewed: bool,
    /// The labels that the program gave it.
    #[serde(skip)]
    tagged: Vec<Label>,
}

/// Which photographs: those that meet all criteria given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// With this label, or one below it, that the owner did not reject. Case and Unicode form make no other label.
    pub label: Option<String>,
    /// With a label (that of `label`, where it is given) of at least this probability; one that the owner approved is certain.
    pub probability: Option<f32>,
    /// Of this time or later, see [`Item::date`].
    pub since: Option<i64>,
    /// Before this time.
    pub until: Option<i64>,
    /// In this folder or one within it: its path from the folder of photographs, as in [`Item::id`]; empty for that one itself.
    pub folder: Option<String>,
    /// Whether only those whose owner has not looked at all of them.
    pub unreviewed: bool,
    /// Whether only those that could not be tagged.
    pub broken: bool,
}

/// In which order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By the label of the filter: approved ones first, then the most probable (of a model without probabilities: of the highest
    /// score). Without a label by their ids.
    #[default]
    Relevance,
    /// The latest first.
    Date,
    /// Those first of whose labels the program is least sure, see [`Item::doubt`]; last those of which it does not know.
    Doubt,
}

/// A library's photographs.
pub struct Catalog {
    tags: Tail,
    /// By their ids.
    items: Vec<Item>,
    /// The folded forms of all names of labels and their parents.
    names: HashMap<String, String>,
}

impl Catalog {
    /// Reads what is known in a library's folder, see [`super::Library::read`].
    ///
    /// # Errors
    /// When a file cannot be read, or a line other than a last half one is damaged.
    pub fn read(library: &Path) -> Result<Self, LibraryError> {
        let mut catalog = Self {
            tags: Tail::new(library.join(journal::NAME)),
            items: Vec::new(),
            names: HashMap::new(),
        };
        catalog.refresh()?;
        Ok(catalog)
    }

    /// Reads what other programs have added since; whether something was.
    ///
    /// # Errors
    /// As [`Catalog::read`]; the catalog is then as it was.
    pub fn refresh(&mut self) -> Result<bool, LibraryError> {
        let mut lines = BTreeMap::new();
        let news = self.tags.read(journal::HINT, &mut |line| {
            let entry: Entry = serde_json::from_slice(line)?;
            lines.insert(entry.photo.clone(), entry);
            Ok(())
        })?;
        if news == News::Anew {
            self.items.clear();
        }
        self.take(lines.into_values());
        Ok(news != News::None)
    }

    /// The photographs, by their ids.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// A photograph.
    pub fn item(&self, id: &str) -> Option<&Item> {
        let place = self.place(id).ok()?;
        self.items.get(place)
    }

    /// Whether it has photographs in a folder, a path as [`Filter::folder`].
    pub fn has_folder(&self, folder: &str) -> bool {
        let begin = within(folder);
        self.items.iter().any(|item| item.id.starts_with(&begin))
    }

    /// Where a photograph stands among [`Catalog::items`], or would stand.
    fn place(&self, id: &str) -> Result<usize, usize> {
        self.items.binary_search_by(|item| item.id.as_str().cmp(id))
    }

    /// Lines about photographs, by their ids.
    fn take(&mut self, lines: impl Iterator<Item = Entry>) {
        let mut new = Vec::new();
        for line in lines {
            let item = item(line);
            self.learn_names(&item.labels);
            match self.place(&item.id) {
                Ok(place) => self.items[place] = item,
                Err(_) => new.push(item),
            }
        }
        self.items.extend(new);
        self.items.sort_by(|a, b| a.id.cmp(&b.id));
    }

    /// Places among [`Catalog::items`] of the photographs that a filter passes, in an order; those that are equal in it by
    /// their ids.
    pub fn select(&self, filter: &Filter, order: Order) -> Vec<usize> {
        let criteria = Criteria::of(filter, self);
        let mut selected: Vec<usize> = self.passing(&criteria).collect();
        if order == Order::Relevance && filter.label.is_some() {
            let relevance = |at: usize| (criteria.relevance(&self.items[at]), at);
            let mut by_label: Vec<_> = selected.into_iter().map(relevance).collect();
            by_label.sort_by(|(a, _), (b, _)| surer(*b, *a));
            selected = by_label.into_iter().map(|(_, at)| at).collect();
        }
        self.sort(&mut selected, order, |at| *at);
        selected
    }

    /// The photographs that meet criteria, by their ids.
    pub(super) fn passing(&self, criteria: &Criteria<'_>) -> impl Iterator<Item = usize> {
        (0..self.items.len()).filter(|at| criteria.pass(&self.items[*at]))
    }

    /// Puts what belongs to photographs in an order; by relevance it stays as it is.
    pub(super) fn sort<T>(&self, found: &mut [T], order: Order, place: impl Fn(&T) -> usize) {
        let item = |of: &T| &self.items[place(of)];
        let doubt = |of: &T| item(of).doubt.unwrap_or(f32::NEG_INFINITY);
        match order {
            Order::Relevance => {}
            Order::Date => found.sort_by_key(|of| Reverse(item(of).date)),
            Order::Doubt => found.sort_by(|a, b| doubt(b).total_cmp(&doubt(a))),
        }
    }

    /// What the owner says of a label, by its name alone, for a photograph.
    pub(super) fn judgement(&self, name: &str) -> impl Fn(&Item) -> State {
        let names = self.spelt(name);
        move |item| {
            let labels = item.labels.iter();
            let mut states = labels
                .filter(|of| names.contains(&of.label.name))
                .map(|of| of.state);
            let word = |state: &State| *state != State::Automatic;
            states.find(word).unwrap_or(State::Automatic)
        }
    }

    fn learn_names(&mut self, labels: &[Labelled]) {
        for Labelled { label, .. } in labels {
            for name in label.parents.iter().chain([&label.name]) {
                if !self.names.contains_key(name) {
                    self.names.insert(name.clone(), folded(name));
                }
            }
        }
    }

    /// How a name is written in this library.
    fn spelt(&self, name: &str) -> HashSet<String> {
        let name = folded(name);
        let written = self.names.iter().filter(|(_, folded)| **folded == name);
        written.map(|(written, _)| written.clone()).collect()
    }
}

fn item(entry: Entry) -> Item {
    let (tagged, error) = match entry.outcome {
        Outcome::Labels(labels) => (labels, None),
        Outcome::Error(reason) => (Vec::new(), Some(reason)),
    };
    let labels = tagged.iter().cloned().map(|label| Labelled {
        label,
        state: State::Automatic,
    });
    Item {
        labels: labels.collect(),
        id: entry.photo,
        bytes: entry.bytes,
        date: entry.taken.unwrap_or((entry.modified / NANOSECONDS) as i64),
        error,
        doubt: entry.doubt,
        reviewed: false,
        tagged,
    }
}

/// A filter, ready to be held against many photographs.
pub(super) struct Criteria<'a> {
    filter: &'a Filter,
    /// How the label is written in this library; none where no label is asked for.
    names: Option<HashSet<String>>,
    /// See [`within`].
    folder: String,
}

impl<'a> Criteria<'a> {
    pub(super) fn of(filter: &'a Filter, catalog: &Catalog) -> Self {
        Self {
            names: filter.label.as_ref().map(|label| catalog.spelt(label)),
            folder: within(filter.folder.as_deref().unwrap_or_default()),
            filter,
        }
    }

    fn pass(&self, item: &Item) -> bool {
        let filter = self.filter;
        item.id.starts_with(&self.folder)
            && filter.since.is_none_or(|since| since <= item.date)
            && filter.until.is_none_or(|until| item.date < until)
            && !(filter.unreviewed && item.reviewed)
            && !(filter.broken && item.error.is_none())
            && self.passes_labels(item)
    }

    fn passes_labels(&self, item: &Item) -> bool {
        let filter = self.filter;
        if filter.label.is_none() && filter.probability.is_none() {
            return true;
        }
        self.labels(item).any(|label| {
            let probable = |least| certainty(label).is_some_and(|probability| probability >= least);
            filter.probability.is_none_or(probable)
        })
    }

    /// The labels of a photograph that are asked for and not rejected.
    fn labels<'b>(&'b self, item: &'b Item) -> impl Iterator<Item = &'b Labelled> {
        item.labels.iter().filter(|Labelled { label, state }| {
            let is_asked = |names: &HashSet<String>| {
                names.contains(&label.name)
                    || label.parents.iter().any(|parent| names.contains(parent))
            };
            *state != State::Rejected && self.names.as_ref().is_none_or(is_asked)
        })
    }

    /// How surely a photograph has the label, in the order of [`surer`].
    fn relevance(&self, item: &Item) -> (bool, f32) {
        let each = self.labels(item).map(|label| {
            let value = certainty(label).unwrap_or(label.label.score);
            (label.state == State::Approved, value)
        });
        let most = each.max_by(|a, b| surer(*a, *b));
        most.unwrap_or((false, f32::NEG_INFINITY))
    }
}

/// How the ids of photographs in a folder begin; nothing for the folder of all photographs.
fn within(folder: &str) -> String {
    match folder.trim_end_matches('/') {
        "" => String::new(),
        folder => format!("{folder}/"),
    }
}

/// How probable a label is with the owner's word on it.
fn certainty(label: &Labelled) -> Option<f32> {
    match label.state {
        State::Approved => Some(1.0),
        _ => label.label.probability,
    }
}

/// By which of two the label is there more surely: whether it is approved, then how probable it is or how high it scores.
fn surer(a: (bool, f32), b: (bool, f32)) -> Ordering {
    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
}
