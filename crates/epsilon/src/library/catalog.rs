//! A library as people look at it: every photograph with its labels, its date and what its owner has said, chosen by criteria and
//! put in an order.
//!
//! A [`Catalog`] is a snapshot in memory. It changes nothing on the disk, so it may be read beside a program that is tagging.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::corrections::{Corrections, Proposal, State};
use super::journal;
use super::kinds::{Kind, Kinds, Tag};
use super::lines::{News, Tail};
use super::ownership::{Subject, folded};
use super::{Library, LibraryError, quick};
use crate::coverage::{Looks, most_telling};
use crate::semantic_index::{Index, IndexError};

/// Photographs that are put in the order of what they teach; a review of more is begun anew.
const TELLING: usize = 500;
/// Reviews after which that order is found anew.
const ROUND: usize = 50;
/// Nanoseconds of a second.
const NANOSECONDS: u64 = 1_000_000_000;

/// A photograph of a [`Catalog`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// [`super::Photo::id`].
    pub id: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// When its file was changed, nanoseconds after 1970.
    #[serde(skip)]
    pub modified: u64,
    /// When it was taken, seconds since 1970 on the camera's clock; where that is not known, when its file was last changed.
    pub date: i64,
    /// Its labels, those among them that the owner rejected, too.
    pub labels: Box<[Tag]>,
    /// Why it could not be tagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// [`super::Entry::doubt`].
    pub doubt: Option<f32>,
    /// Whether its owner has looked at all of it.
    pub reviewed: bool,
    /// [`super::Entry::settings`] of it.
    #[serde(skip)]
    pub(super) settings: Arc<str>,
    /// The labels that the program gave it, where its owner has said anything of it, as far as was heard.
    #[serde(skip)]
    given: Option<Box<[Tag]>>,
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
    /// Those first that teach most when they are reviewed, see [`Catalog::find_telling`]; where these were not found, and after them,
    /// those of whose labels the program is least sure, see [`Item::doubt`]; last those of which it does not know.
    Doubt,
}

/// A library's photographs.
pub struct Catalog {
    tags: Tail,
    corrections: Corrections,
    /// By their ids.
    items: Vec<Item>,
    kinds: Kinds,
    /// The photographs that teach most, by their ids, and their places in that order.
    telling: HashMap<String, usize>,
    /// How many photographs there were when these were found, and how many of them were reviewed.
    told: Option<(usize, usize)>,
    /// Whether something was added of which [`Catalog::refresh`] has not told: it failed after that.
    has_news: bool,
}

impl Catalog {
    /// Reads what is known in a library's folder, see [`super::Library::read`].
    ///
    /// # Errors
    /// When a file cannot be read, or a line other than a last half one is damaged.
    pub fn read(library: &Path) -> Result<Self, LibraryError> {
        let mut catalog = Self {
            tags: Tail::new(library.join(journal::NAME)),
            corrections: Corrections::read(library)?,
            items: Vec::new(),
            kinds: Kinds::default(),
            telling: HashMap::new(),
            told: None,
            has_news: false,
        };
        catalog.refresh()?;
        Ok(catalog)
    }

    /// Reads what other programs have added since the last call that succeeded; whether something was.
    ///
    /// # Errors
    /// As [`Catalog::read`]; the catalog is then as it was, or has the new photographs without what was newly said.
    pub fn refresh(&mut self) -> Result<bool, LibraryError> {
        let (mut lines, kinds) = (Vec::new(), &mut self.kinds);
        let news = self.tags.read(journal::HINT, &mut |line| {
            lines.push(quick::item(line, kinds)?);
            Ok(())
        })?;
        if news == News::Anew {
            self.items.clear();
        }
        // Before corrections are read, which may fail: these lines are not shown again.
        self.take(lines);
        self.has_news |= news != News::None;
        if self.corrections.refresh()? {
            self.has_news = true;
            self.hear();
        }
        Ok(std::mem::take(&mut self.has_news))
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

    /// Finds the photographs whose review teaches most ([`most_telling`]), of those that are not reviewed yet, by their doubts and how
    /// they look: the first 500 of them. Photographs that are like one another are far apart in that order. It is found anew
    /// after a round of 50 reviews. A library that was tagged before there was an index of looks goes without.
    ///
    /// # Errors
    /// Those of [`Index::open`] and [`Index::vectors`].
    pub fn find_telling(&mut self, library: &Path) -> Result<(), IndexError> {
        if let Some(untold) = self.untold(library) {
            self.tell(untold.find()?);
        }
        Ok(())
    }

    /// What [`Catalog::find_telling`] has to do, for whoever does it while others use the catalog; none where it has nothing to do.
    pub fn untold(&self, library: &Path) -> Option<Untold> {
        let looks = Library::looks(library);
        let now = self.items.iter().filter(|item| item.reviewed).count();
        let holds = |(items, reviewed): (usize, usize)| {
            items == self.items.len() && now.abs_diff(reviewed) < ROUND
        };
        if self.told.is_some_and(holds) || !Index::is_at(&looks) {
            return None;
        }
        let items = self.items.iter().filter(|item| item.error.is_none());
        let photos = items.map(|item| (item.id.clone(), item.doubt.unwrap_or(1.0), item.reviewed));
        Some(Untold {
            looks,
            photos: photos.collect(),
            counts: (self.items.len(), now),
        })
    }

    /// Takes up what [`Untold::find`] has found.
    pub fn tell(&mut self, Telling { ranks, counts }: Telling) {
        self.telling = ranks;
        self.told = Some(counts);
    }

    /// Whether it has photographs in a folder, a path as [`Filter::folder`].
    pub fn has_folder(&self, folder: &str) -> bool {
        let begin = within(folder);
        self.items.iter().any(|item| item.id.starts_with(&begin))
    }

    /// Where a photograph stands among [`Catalog::items`], or would stand.
    pub(super) fn place(&self, id: &str) -> Result<usize, usize> {
        self.items.binary_search_by(|item| item.id.as_str().cmp(id))
    }

    /// Takes up lines about photographs, of which the later holds.
    fn take(&mut self, mut lines: Vec<Item>) {
        lines.sort_by(|a, b| a.id.cmp(&b.id));
        lines.dedup_by(|later, earlier| {
            let same = later.id == earlier.id;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        lines.retain_mut(|item| {
            item.hear(&self.corrections, &mut self.kinds);
            match self.place(&item.id) {
                Ok(place) => {
                    std::mem::swap(&mut self.items[place], item);
                    false
                }
                Err(_) => true,
            }
        });
        if self.items.is_empty() {
            self.items = lines;
        } else if !lines.is_empty() {
            self.items.extend(lines);
            self.items.sort_by(|a, b| a.id.cmp(&b.id));
        }
    }

    /// Takes up what owners have said or taken back.
    fn hear(&mut self) {
        for item in &mut self.items {
            item.hear(&self.corrections, &mut self.kinds);
        }
    }

    /// How many photographs have each label, those left out whose owner rejected it; by the labels' names.
    pub fn label_counts(&self) -> BTreeMap<String, usize> {
        let mut of_kinds = vec![0; self.kinds.count()];
        for tag in self.items.iter().flat_map(|item| &item.labels) {
            of_kinds[tag.kind.number] += 1;
        }
        let mut counts = BTreeMap::new();
        for kind in self.kinds.all() {
            let count = of_kinds[kind.number];
            if count > 0 && kind.state != State::Rejected {
                *counts.entry(kind.name.clone()).or_default() += count;
            }
        }
        counts
    }

    /// A label of this name, by whatever case and Unicode form, as the first photograph has it that was given one.
    pub fn first_label(&self, name: &str) -> Option<&Tag> {
        let key = folded(name);
        let passing = self.kinds.which(|kind| kind.is_named(&key));
        if !passing.contains(&true) {
            return None;
        }
        let mut tags = self.items.iter().flat_map(|item| &item.labels);
        tags.find(|tag| passing[tag.kind.number])
    }

    /// A label of a photograph with its parents, by its name alone, in whatever case and Unicode form: as the photograph has it, or
    /// else as its owner named it last. What an owner says of `dog` is then said of the `animal|dog` that stands there.
    pub fn subject(&self, photo: &str, name: &str) -> Option<Subject> {
        let key = folded(name);
        let mut labels = self.item(photo)?.labels.iter();
        let label = labels.find(|tag| folded(tag.name()) == key);
        if let Some(tag) = label {
            return Some(tag.label().subject());
        }
        let opinion = self.corrections.of(photo)?;
        let judged = opinion.labels.get(&key)?;
        Some(judged.label().subject())
    }

    /// Places among [`Catalog::items`] of the photographs that a filter passes, in an order; those that are equal in it by
    /// their ids.
    pub fn select(&self, filter: &Filter, order: Order) -> Vec<usize> {
        let criteria = Criteria::of(filter, self);
        let all = 0..self.items.len();
        let passing = all.filter(|at| criteria.pass(&self.items[*at]));
        let mut selected: Vec<usize> = passing.collect();
        if order == Order::Relevance && filter.label.is_some() {
            let relevance = |at: usize| (criteria.relevance(&self.items[at]), at);
            let mut by_label: Vec<_> = selected.into_iter().map(relevance).collect();
            by_label.sort_by(|(a, _), (b, _)| surer(*b, *a));
            selected = by_label.into_iter().map(|(_, at)| at).collect();
        }
        self.sort(&mut selected, order, |at| *at);
        selected
    }

    /// Puts what belongs to photographs in an order; by relevance it stays as it is.
    pub(super) fn sort<T>(&self, found: &mut [T], order: Order, place: impl Fn(&T) -> usize) {
        let item = |of: &T| &self.items[place(of)];
        let doubt = |of: &T| item(of).doubt.unwrap_or(f32::NEG_INFINITY);
        match order {
            Order::Relevance => {}
            Order::Date => found.sort_by_key(|of| Reverse(item(of).date)),
            Order::Doubt => found.sort_by(|a, b| {
                let telling = |of| {
                    self.telling
                        .get(&item(of).id)
                        .copied()
                        .unwrap_or(usize::MAX)
                };
                let doubts = doubt(b).total_cmp(&doubt(a));
                telling(a).cmp(&telling(b)).then(doubts)
            }),
        }
    }

    /// What the owner says of a label, by its name alone, for each photograph. That one was reviewed rejects the labels that it was
    /// given, and no other words.
    pub(super) fn judgement(&self, name: &str) -> impl Fn(&Item) -> State + use<'_> {
        let key = folded(name);
        let named = self.kinds.which(|kind| kind.is_named(&key));
        move |item| {
            if item.given.is_none() {
                return State::Automatic;
            }
            let opinion = self.corrections.of(&item.id);
            let opinion = opinion.filter(|opinion| opinion.labels.contains_key(&key));
            let given = || item.labels.iter().find(|tag| named[tag.kind.number]);
            match opinion {
                Some(opinion) => opinion.state(&key),
                None => given().map_or(State::Automatic, Tag::state),
            }
        }
    }
}

/// What the photographs that teach most are found by, as it was when [`Catalog::untold`] gave it.
#[derive(Debug)]
pub struct Untold {
    /// The index of looks.
    looks: PathBuf,
    /// Those that could be tagged, by their ids: the id, the doubt, and whether it is reviewed.
    photos: Vec<(String, f32, bool)>,
    counts: (usize, usize),
}

/// What [`Untold::find`] has found.
#[derive(Debug)]
pub struct Telling {
    ranks: HashMap<String, usize>,
    counts: (usize, usize),
}

impl Untold {
    /// Finds them, see [`Catalog::find_telling`].
    ///
    /// # Errors
    /// Those of [`Index::open`] and [`Index::vectors`].
    pub fn find(&self) -> Result<Telling, IndexError> {
        let place = |id: &str| {
            self.photos
                .binary_search_by(|(known, ..)| known.as_str().cmp(id))
        };
        let looks = Index::open(&self.looks)?;
        let selection = looks.select(|id| place(id).is_ok())?;
        let (ids, vectors) = looks.vectors(&selection)?;
        let known = ids.iter().filter_map(|id| self.photos.get(place(id).ok()?));
        let (doubt, reviewed): (Vec<f32>, Vec<bool>) = known
            .map(|(_, doubt, reviewed)| (*doubt, *reviewed))
            .unzip();
        let looks = Looks {
            vectors: &vectors,
            width: looks.info().width,
            doubt: &doubt,
            reviewed: &reviewed,
        };
        let order = most_telling(&looks, TELLING).into_iter().enumerate();
        Ok(Telling {
            ranks: order.map(|(rank, at)| (ids[at].clone(), rank)).collect(),
            counts: self.counts,
        })
    }
}

impl Item {
    /// One without labels, of which nothing was said; with the size of its file and when that was changed.
    pub(super) fn new(id: String, (bytes, modified): (u64, u64), taken: Option<i64>) -> Self {
        Self {
            id,
            bytes,
            modified,
            date: taken.unwrap_or((modified / NANOSECONDS) as i64),
            labels: Box::default(),
            error: None,
            doubt: None,
            reviewed: false,
            settings: Arc::default(),
            given: None,
        }
    }

    /// What the model of its library had said of a label, by whatever case and Unicode form; none of a label that no model kept, and
    /// none where the photograph may have been tagged by another model, as in a library that is half tagged anew.
    pub fn proposal(&self, library: &Library, name: &str) -> Option<Proposal> {
        if library.settings.as_deref() != Some(&*self.settings) {
            return None;
        }
        let name = folded(name);
        let mut given = self.labels.iter().filter(|tag| tag.score().is_some());
        let tag = given.find(|tag| folded(tag.name()) == name)?;
        Some(Proposal {
            model: library.identity.clone(),
            probability: tag.probability(),
        })
    }

    /// Applies its owner's word, whatever it was before.
    fn hear(&mut self, corrections: &Corrections, kinds: &mut Kinds) {
        if let Some(given) = self.given.take() {
            self.labels = given;
        }
        let opinion = corrections.of(&self.id);
        self.reviewed = opinion.is_some_and(|opinion| opinion.reviewed);
        if opinion.is_some() {
            let given = self.labels.iter().map(Tag::label).collect();
            let heard = corrections.apply(&self.id, given);
            let heard = heard.iter().map(|labelled| kinds.tag(labelled)).collect();
            self.given = Some(std::mem::replace(&mut self.labels, heard));
        }
    }
}

/// A filter, ready to be held against many photographs.
pub(super) struct Criteria<'a> {
    filter: &'a Filter,
    /// Of every kind of label, whether it is asked for and not rejected.
    asked: Vec<bool>,
    /// See [`within`].
    folder: String,
}

impl<'a> Criteria<'a> {
    pub(super) fn of(filter: &'a Filter, catalog: &Catalog) -> Self {
        let label = filter.label.as_deref().map(folded);
        let is_asked = |kind: &Kind| label.as_ref().is_none_or(|label| kind.is_within(label));
        let asked = |kind: &Kind| kind.state != State::Rejected && is_asked(kind);
        Self {
            asked: catalog.kinds.which(asked),
            folder: within(filter.folder.as_deref().unwrap_or_default()),
            filter,
        }
    }

    pub(super) fn pass(&self, item: &Item) -> bool {
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
        self.labels(item).any(|tag| {
            let probable = |least| certainty(tag).is_some_and(|probability| probability >= least);
            filter.probability.is_none_or(probable)
        })
    }

    /// The labels of a photograph that are asked for and not rejected.
    fn labels<'b>(&'b self, item: &'b Item) -> impl Iterator<Item = &'b Tag> {
        item.labels.iter().filter(|tag| self.asked[tag.kind.number])
    }

    /// How surely a photograph has the label, in the order of [`surer`].
    fn relevance(&self, item: &Item) -> (bool, f32) {
        let each = self.labels(item).map(|tag| {
            let value = certainty(tag).or(tag.score());
            let value = value.unwrap_or(f32::NEG_INFINITY);
            (tag.state() == State::Approved, value)
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
fn certainty(tag: &Tag) -> Option<f32> {
    match tag.state() {
        State::Approved => Some(1.0),
        State::Automatic | State::Rejected => tag.probability(),
    }
}

/// By which of two the label is there more surely: whether it is approved, then how probable it is or how high it scores.
fn surer(a: (bool, f32), b: (bool, f32)) -> Ordering {
    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::super::{Correction, Entry, Journal, Label, Line, Outcome, Reviewed, Verdict};
    use super::*;
    use crate::semantic_index::{IndexInfo, IndexWriter};

    fn label(name: &str, probability: Option<f32>) -> Label {
        Label {
            name: name.into(),
            parents: if name == "dog" {
                vec!["Animal".into()]
            } else {
                Vec::new()
            },
            score: Some(0.5),
            probability,
            seen: true,
        }
    }

    fn entry(photo: &str, labels: &[(&str, f32)]) -> Entry {
        let labels = labels.iter().map(|(name, p)| label(name, Some(*p)));
        Entry {
            photo: photo.into(),
            bytes: 7,
            modified: 1_000_000_000 * NANOSECONDS,
            settings: "s".into(),
            outcome: Outcome::Labels(labels.collect()),
            content: false,
            taken: None,
            doubt: None,
            sidecar: None,
        }
    }

    fn said(photo: &str, label: &str, verdict: Verdict) -> Line {
        Line::Label(Correction {
            photo: photo.into(),
            label: label.into(),
            parents: Vec::new(),
            verdict,
            at: 1,
            by: None,
        })
    }

    fn ids(catalog: &Catalog, selected: Vec<usize>) -> Vec<&str> {
        let items = selected
            .into_iter()
            .map(|at| catalog.items()[at].id.as_str());
        items.collect()
    }

    fn of_label(name: &str) -> Filter {
        Filter {
            label: Some(name.into()),
            ..Filter::default()
        }
    }

    /// A library of three photographs, one of which cannot be read.
    fn three() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        let old = Entry {
            taken: Some(5),
            doubt: Some(0.5),
            ..entry("b/old.jpg", &[("sea", 0.4), ("dog", 0.3)])
        };
        let broken = Entry {
            outcome: Outcome::Error("empty".into()),
            ..entry("b", &[])
        };
        let new = Entry {
            doubt: Some(2.0),
            ..entry("a.jpg", &[("sea", 0.9)])
        };
        journal.add(&[old, broken, new]).unwrap();
        folder
    }

    #[test]
    fn a_label_stands_as_the_photograph_has_it_or_its_owner_named_it() {
        let folder = three();
        let mut corrections = Corrections::open(folder.path()).unwrap();
        let cat = Line::Label(Correction {
            photo: "a.jpg".into(),
            label: "Cat".into(),
            parents: vec!["Animal".into()],
            verdict: Verdict::Rejected,
            at: 1,
            by: None,
        });
        corrections.add(&[cat]).unwrap();
        let catalog = Catalog::read(folder.path()).unwrap();
        let below = |name: &str| {
            Some(Subject {
                name: name.into(),
                parents: vec!["Animal".into()],
            })
        };
        assert_eq!(catalog.subject("b/old.jpg", "DOG"), below("dog"));
        assert_eq!(catalog.subject("a.jpg", "cat"), below("Cat"), "rejected");
        assert_eq!(
            catalog.subject("a.jpg", "dog"),
            None,
            "another photograph's"
        );
        assert_eq!(catalog.subject("c.jpg", "dog"), None);
    }

    #[test]
    fn a_label_is_proposed_by_the_model_that_surely_gave_it() {
        let folder = three();
        let catalog = Catalog::read(folder.path()).unwrap();
        let item = catalog.item("a.jpg").unwrap();
        let mut library = Library::new("m".into(), "now".into(), "p".into());
        assert_eq!(item.proposal(&library, "sea"), None, "nobody knows");
        library.settings = Some("t".into());
        assert_eq!(item.proposal(&library, "sea"), None, "another model's");
        library.settings = Some("s".into());
        let proposal = Proposal {
            model: "now".into(),
            probability: Some(0.9),
        };
        assert_eq!(item.proposal(&library, " SEA"), Some(proposal));
        assert_eq!(item.proposal(&library, "dog"), None, "no model's");
    }

    #[test]
    fn a_label_is_found_by_whatever_case_and_form() {
        let folder = three();
        let mut journal = Journal::open(folder.path()).unwrap();
        let school = Label {
            parents: vec!["building".into()],
            ..label("école", None)
        };
        let given = Entry {
            outcome: Outcome::Labels(vec![school]),
            ..entry("c.jpg", &[])
        };
        journal.add(&[given]).unwrap();
        let catalog = Catalog::read(folder.path()).unwrap();
        for name in ["école", "ÉCOLE", " e\u{301}cole"] {
            let label = catalog.first_label(name).unwrap();
            assert_eq!(
                (label.name(), label.parents()),
                ("école", &["building".into()][..])
            );
        }
        assert!(catalog.first_label("ecole").is_none());
    }

    /// Of three that are not reviewed: one of the two that look alike, then the one that looks otherwise. Others may change
    /// the catalog meanwhile.
    #[test]
    fn those_that_teach_most_are_found_beside_the_catalog() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        let tagged = ["a", "b", "c"].map(|id| entry(id, &[]));
        journal.add(&tagged).unwrap();
        let mut catalog = Catalog::read(folder.path()).unwrap();
        assert!(catalog.untold(folder.path()).is_none(), "no looks");
        let info = IndexInfo {
            model: "m".into(),
            groups: 1,
            width: 2,
            classes: None,
        };
        let mut writer = IndexWriter::open(&Library::looks(folder.path()), &info).unwrap();
        for (id, look) in [("c", [-1.0, 0.0]), ("a", [1.0, 0.0]), ("b", [1.0, 0.0])] {
            writer.push(id, &look).unwrap();
        }
        writer.commit().unwrap();
        let untold = catalog.untold(folder.path()).unwrap();
        journal.add(&[entry("0", &[])]).unwrap();
        assert!(catalog.refresh().unwrap());
        catalog.tell(untold.find().unwrap());
        let selected = catalog.select(&Filter::default(), Order::Doubt);
        assert_eq!(ids(&catalog, selected), ["a", "c", "b", "0"]);
        assert!(
            catalog.untold(folder.path()).is_some(),
            "another one has come"
        );
        catalog.find_telling(folder.path()).unwrap();
        assert!(catalog.untold(folder.path()).is_none());
    }

    #[test]
    fn damaged_corrections_cost_no_photograph() {
        let folder = three();
        let mut catalog = Catalog::read(folder.path()).unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.add(&[entry("late.jpg", &[("sea", 0.1)])]).unwrap();
        let corrections = folder.path().join("corrections.jsonl");
        fs::write(&corrections, "{\"photo\":\n").unwrap();
        let error = catalog.refresh().unwrap_err().to_string();
        assert!(error.contains("corrections.jsonl"), "{error}");
        fs::remove_file(&corrections).unwrap();
        assert!(catalog.refresh().unwrap());
        assert!(!catalog.refresh().unwrap());
        assert_eq!(catalog.items().len(), 4);
        assert_eq!(catalog.item("late.jpg").unwrap().labels[0].name(), "sea");
    }

    #[test]
    fn photographs_are_chosen_and_put_in_order() {
        let folder = three();
        let catalog = Catalog::read(folder.path()).unwrap();
        let select = |filter: &Filter, order| ids(&catalog, catalog.select(filter, order));
        let all = Filter::default();
        assert_eq!(select(&all, Order::Relevance), ["a.jpg", "b", "b/old.jpg"]);
        assert_eq!(select(&all, Order::Date), ["a.jpg", "b", "b/old.jpg"]);
        assert_eq!(select(&all, Order::Doubt), ["a.jpg", "b/old.jpg", "b"]);
        assert_eq!(
            select(&of_label("SEA"), Order::Relevance),
            ["a.jpg", "b/old.jpg"]
        );
        assert_eq!(select(&of_label("animal"), Order::Date), ["b/old.jpg"]);
        assert_eq!(select(&of_label("se"), Order::Date), [""; 0]);
        let broken = Filter {
            broken: true,
            ..Filter::default()
        };
        assert_eq!(select(&broken, Order::Date), ["b"]);
        let within = |folder: &str| Filter {
            folder: Some(folder.into()),
            ..Filter::default()
        };
        assert_eq!(select(&within("b"), Order::Date), ["b/old.jpg"]);
        assert_eq!(select(&within("b/"), Order::Date), ["b/old.jpg"]);
        assert_eq!(select(&within(""), Order::Date).len(), 3);
        assert!(catalog.has_folder("b") && !catalog.has_folder("b/old"));
        let until = Filter {
            since: Some(5),
            until: Some(1_000_000_000),
            ..Filter::default()
        };
        assert_eq!(select(&until, Order::Date), ["b/old.jpg"]);
        let probable = Filter {
            probability: Some(0.4),
            ..Filter::default()
        };
        assert_eq!(select(&probable, Order::Date).len(), 2);
        let dog = Filter {
            probability: Some(0.4),
            ..of_label("dog")
        };
        assert_eq!(select(&dog, Order::Date), [""; 0]);
    }

    #[test]
    fn an_approved_label_is_certain_and_a_rejected_one_is_not_there() {
        let folder = three();
        let mut corrections = Corrections::open(folder.path()).unwrap();
        let mut catalog = Catalog::read(folder.path()).unwrap();
        corrections
            .add(&[
                said("b/old.jpg", "Dog", Verdict::Approved),
                said("b/old.jpg", "snow", Verdict::Approved),
                said("b/old.jpg", "sea", Verdict::Approved),
                said("a.jpg", "cat", Verdict::Rejected),
                said("nobody", "cat", Verdict::Rejected),
            ])
            .unwrap();
        assert!(catalog.refresh().unwrap() && !catalog.refresh().unwrap());
        let select = |filter: &Filter| ids(&catalog, catalog.select(filter, Order::Relevance));
        assert_eq!(select(&of_label("dog")), ["b/old.jpg"]);
        assert_eq!(select(&of_label("SNOW")), ["b/old.jpg"]);
        assert_eq!(select(&of_label("sea")), ["b/old.jpg", "a.jpg"]);
        assert_eq!(
            catalog.judgement("Cat")(&catalog.items()[0]),
            State::Rejected
        );
        assert_eq!(
            catalog.judgement("cat")(&catalog.items()[1]),
            State::Automatic
        );
        assert_eq!(
            catalog.judgement("DOG")(&catalog.items()[2]),
            State::Approved
        );

        // All of it was looked at; then something is taken back.
        let reviewed = Line::Photo(Reviewed {
            photo: "a.jpg".into(),
            reviewed: true,
            at: 2,
        });
        let back = said("b/old.jpg", "snow", Verdict::Withdrawn);
        corrections.add(&[reviewed, back]).unwrap();
        assert!(catalog.refresh().unwrap());
        let select = |filter: &Filter| ids(&catalog, catalog.select(filter, Order::Relevance));
        assert_eq!(select(&of_label("sea")), ["b/old.jpg"]);
        assert_eq!(select(&of_label("snow")), [""; 0]);
        let unreviewed = Filter {
            unreviewed: true,
            ..Filter::default()
        };
        assert_eq!(select(&unreviewed), ["b", "b/old.jpg"]);
        assert!(catalog.item("a.jpg").unwrap().reviewed && catalog.item("c").is_none());
        assert_eq!(
            catalog.judgement("sea")(&catalog.items()[0]),
            State::Rejected
        );
        assert_eq!(
            catalog.judgement("purple")(&catalog.items()[0]),
            State::Automatic
        );
    }

    #[test]
    fn what_is_added_replaced_and_half_written_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::read(folder.path()).unwrap();
        assert!(catalog.items().is_empty() && !catalog.refresh().unwrap());
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.add(&[entry("b", &[]), entry("a", &[])]).unwrap();
        assert!(catalog.refresh().unwrap() && !catalog.refresh().unwrap());
        journal
            .add(&[entry("c", &[]), entry("a", &[("sea", 0.5)])])
            .unwrap();
        assert!(catalog.refresh().unwrap());
        let all = |catalog: &Catalog| -> Vec<String> {
            catalog
                .items()
                .iter()
                .map(|item| format!("{} {}", item.id, item.labels.len()))
                .collect()
        };
        assert_eq!(all(&catalog), ["a 1", "b 0", "c 0"]);
        journal.forget("b");
        journal.tidy().unwrap();
        assert!(catalog.refresh().unwrap() && !catalog.refresh().unwrap());
        assert_eq!(all(&catalog), ["a 1", "c 0"]);

        // A line that is being written counts when it is whole; reading leaves it alone.
        let path = folder.path().join(journal::NAME);
        let (text, line) = (
            fs::read_to_string(&path).unwrap(),
            serde_json::to_string(&entry("d", &[])).unwrap(),
        );
        fs::write(&path, format!("{text}{}", &line[..20])).unwrap();
        assert!(!catalog.refresh().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap().len(), text.len() + 20);
        fs::write(&path, format!("{text}{line}\n")).unwrap();
        assert!(catalog.refresh().unwrap());
        assert_eq!(all(&catalog), ["a 1", "c 0", "d 0"]);
        // A damaged one is named, and what was known stays known.
        fs::write(&path, format!("{text}{line}\nno\n")).unwrap();
        let error = catalog.refresh().unwrap_err().to_string();
        assert!(
            error.contains("tags.jsonl: line 4") && error.contains("mend the line"),
            "{error}"
        );
        assert_eq!(all(&catalog).len(), 3);
        drop(journal);
        fs::remove_file(&path).unwrap();
        assert!(catalog.refresh().unwrap() && catalog.items().is_empty());
    }

    /// What an older version wrote is read.
    #[test]
    fn a_line_without_date_and_doubt_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let line = r#"{"photo":"a","bytes":1,"modified":2500000000,"settings":"s","labels":[{"name":"x","score":1.5,"seen":true}]}"#;
        fs::write(folder.path().join(journal::NAME), format!("{line}\n")).unwrap();
        let catalog = Catalog::read(folder.path()).unwrap();
        let item = &catalog.items()[0];
        assert_eq!((item.date, item.doubt, item.bytes), (2, None, 1));
        assert_eq!(item.labels[0].score(), Some(1.5));
    }

    const NAMES: [&str; 5] = ["sea", "Sea", "dog", "animal", "b|c"];
    const FOLDERS: [&str; 4] = ["", "x", "x/y", "xx"];

    fn drawn_entries() -> impl Strategy<Value = Vec<Entry>> {
        let labels =
            proptest::collection::vec((0..NAMES.len(), proptest::option::of(0_u8..=10)), 0..4);
        let one = (
            0..FOLDERS.len(),
            0..9_u8,
            -3..3_i64,
            proptest::option::of(0..3_u8),
            any::<bool>(),
            labels,
        );
        let one = one.prop_map(|(at, number, date, doubt, fails, labels)| {
            let labels = labels.into_iter();
            let labels = labels.map(|(name, p)| label(NAMES[name], p.map(|p| f32::from(p) / 10.0)));
            let photo = format!("{}/{number}", FOLDERS[at]);
            Entry {
                taken: Some(date),
                doubt: doubt.map(f32::from),
                outcome: match fails {
                    true => Outcome::Error("no".into()),
                    false => Outcome::Labels(labels.collect()),
                },
                ..entry(photo.trim_start_matches('/'), &[])
            }
        });
        proptest::collection::vec(one, 0..40)
    }

    fn drawn_corrections() -> impl Strategy<Value = Vec<Line>> {
        let one = (
            0..FOLDERS.len(),
            0..9_u8,
            proptest::option::of(0..NAMES.len()),
            0..3_usize,
        );
        let one = one.prop_map(|(at, number, name, verdict)| {
            let photo = format!("{}/{number}", FOLDERS[at])
                .trim_start_matches('/')
                .to_string();
            let verdicts = [Verdict::Approved, Verdict::Rejected, Verdict::Withdrawn];
            match name {
                Some(name) => said(&photo, NAMES[name], verdicts[verdict]),
                None => Line::Photo(Reviewed {
                    photo,
                    reviewed: verdict > 0,
                    at: 3,
                }),
            }
        });
        proptest::collection::vec(one, 0..20)
    }

    fn drawn_filter() -> impl Strategy<Value = Filter> {
        let date = || proptest::option::of(-3..3_i64);
        let label = proptest::option::of(0..NAMES.len());
        let probability = proptest::option::of(0_u8..=10);
        let folder = proptest::option::of(0..FOLDERS.len());
        (
            label,
            probability,
            date(),
            date(),
            folder,
            any::<bool>(),
            any::<bool>(),
        )
            .prop_map(
                |(label, probability, since, until, folder, unreviewed, broken)| Filter {
                    label: label.map(|name| NAMES[name].to_uppercase()),
                    probability: probability.map(|p| f32::from(p) / 10.0),
                    since,
                    until,
                    folder: folder.map(|at| FOLDERS[at].into()),
                    unreviewed,
                    broken,
                },
            )
    }

    /// Each criterion on its own, as it is documented.
    fn meets(item: &Item, filter: &Filter) -> bool {
        let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
        let is_asked = |of: &&Tag| {
            filter.label.as_ref().is_none_or(|name| {
                same(of.name(), name) || of.parents().iter().any(|parent| same(parent, name))
            })
        };
        let is_there = |of: &&Tag| of.state() != State::Rejected;
        let there: Vec<&Tag> = item
            .labels
            .iter()
            .filter(is_asked)
            .filter(is_there)
            .collect();
        let is_probable = |of: &&Tag| {
            let least = filter.probability.unwrap_or(0.0);
            of.state() == State::Approved || of.probability().is_some_and(|p| p >= least)
        };
        let folder = filter.folder.as_ref().filter(|folder| !folder.is_empty());
        folder.is_none_or(|folder| item.id.starts_with(&format!("{folder}/")))
            && (filter.label.is_none() || !there.is_empty())
            && (filter.probability.is_none() || there.iter().any(is_probable))
            && item.date >= filter.since.unwrap_or(i64::MIN)
            && item.date < filter.until.unwrap_or(i64::MAX)
            && (!filter.unreviewed || !item.reviewed)
            && (!filter.broken || item.error.is_some())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// What is selected is what a plain look at each photograph selects, in the order asked for; and a catalog that was
        /// kept up to date is one that is read anew.
        #[test]
        fn select_is_a_plain_scan(
            entries in drawn_entries(), later in drawn_entries(),
            corrections in drawn_corrections(), filter in drawn_filter(), tidied: bool,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut journal = Journal::open(folder.path()).unwrap();
            journal.add(&entries).unwrap();
            let (first, second) = corrections.split_at(corrections.len() / 2);
            let mut said = Corrections::open(folder.path()).unwrap();
            said.add(first).unwrap();
            let mut catalog = Catalog::read(folder.path()).unwrap();
            journal.add(&later).unwrap();
            said.add(second).unwrap();
            if tidied {
                journal.tidy().unwrap();
            }
            catalog.refresh().unwrap();
            let fresh = Catalog::read(folder.path()).unwrap();
            prop_assert_eq!(catalog.items(), fresh.items());
            prop_assert!(catalog.items().is_sorted_by(|a, b| a.id < b.id));
            let all = 0..catalog.items().len();
            let expected: Vec<usize> = all.filter(|at| meets(&catalog.items()[*at], &filter)).collect();
            for order in [Order::Relevance, Order::Date, Order::Doubt] {
                let selected = catalog.select(&filter, order);
                let mut sorted = selected.clone();
                sorted.sort_unstable();
                prop_assert_eq!(&sorted, &expected);
                let items: Vec<&Item> = selected.iter().map(|at| &catalog.items()[*at]).collect();
                prop_assert!(items.is_sorted_by(|a, b| match order {
                    Order::Relevance => filter.label.is_some() || a.id < b.id,
                    Order::Date => (a.date, &b.id) > (b.date, &a.id),
                    Order::Doubt => (a.doubt, &b.id) > (b.doubt, &a.id),
                }), "{:?}", order);
            }
        }
    }
}
