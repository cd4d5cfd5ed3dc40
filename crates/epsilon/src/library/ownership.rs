//! Who owns a label in an XMP sidecar: the one place that decides what is written there and taken out.
//!
//! A sidecar holds lists of texts ([`List`]). Three things are known of each of them:
//!
//! - *ours*: what this program has ever written there and not taken out, as its [ledger](super::Ledger) says;
//! - *there*: what stands there now;
//! - *wanted*: the labels that the photographs of the sidecar have now.
//!
//! From these [`plan`] makes the step to take:
//!
//! ```text
//! standing = ours that are there, once       (what somebody took out, or typed a second time, is not ours any more)
//! others   = there without standing
//! kept     = standing that are wanted, letter by letter, and not said by others in another form
//! gone     = standing without kept           -> taken out
//! new      = wanted that neither others nor kept say, in whatever case or Unicode form -> written
//! after    = kept + new                      -> ours from then on
//! intent   = standing + new                  -> ours from before the sidecar is touched until it is done
//! ```
//!
//! An approved label is wanted like any other: it is ours until the owner takes the word back, so that
//! a slip of the hand leaves nothing behind, and it stays in a sidecar whose photograph is gone.
//!
//! So others' entries are never touched, ours never stay behind, and nothing is said twice. The intent is on the disk before
//! the sidecar changes: a program that is killed at any moment finds, the next time, all that it may have written among *ours*,
//! and what it had not written yet, or had taken out already, is not *there*. What stays open is a word that somebody types
//! into the very sidecar between such a kill and the next run: it counts as ours where it was among those intended.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::told::Told;
use epsilon_data::labels::composed;

/// A label in a sidecar: its name, and its parents from the top down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The label.
    pub name: String,
    /// Its parents, such as `animal` of `dog`; none for most.
    pub parents: Vec<String>,
}

impl Subject {
    /// Of its names, from the top down.
    pub fn of_path(mut names: Vec<String>) -> Option<Self> {
        Some(Self {
            name: names.pop()?,
            parents: names,
        })
    }

    fn path(&self, between: &str) -> String {
        [&self.parents[..], std::slice::from_ref(&self.name)]
            .concat()
            .join(between)
    }
}

/// A list of texts in a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `dc:subject`: names.
    Subject,
    /// `lr:hierarchicalSubject`: names with their parents, `animal|dog`.
    Hierarchical,
    /// `digiKam:TagsList`: the same, `animal/dog`.
    Tags,
}

impl List {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Subject, Self::Hierarchical, Self::Tags];

    /// What the list says of a label.
    pub fn entry(self, subject: &Subject) -> String {
        let text = match self {
            Self::Subject => subject.name.clone(),
            Self::Hierarchical => subject.path("|"),
            Self::Tags => subject.path("/"),
        };
        text.trim().to_string()
    }
}

/// Something of each list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lists {
    /// Of `dc:subject`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject: Vec<String>,
    /// Of `lr:hierarchicalSubject`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hierarchical: Vec<String>,
    /// Of `digiKam:TagsList`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Lists {
    /// What is made for each list.
    pub fn of(mut make: impl FnMut(List) -> Vec<String>) -> Self {
        Self {
            subject: make(List::Subject),
            hierarchical: make(List::Hierarchical),
            tags: make(List::Tags),
        }
    }

    /// Those of a list.
    pub fn get(&self, list: List) -> &Vec<String> {
        match list {
            List::Subject => &self.subject,
            List::Hierarchical => &self.hierarchical,
            List::Tags => &self.tags,
        }
    }

    /// Those of a list, to be changed.
    #[cfg(test)]
    pub(super) fn get_mut(&mut self, list: List) -> &mut Vec<String> {
        match list {
            List::Subject => &mut self.subject,
            List::Hierarchical => &mut self.hierarchical,
            List::Tags => &mut self.tags,
        }
    }

    /// Whether all lists are empty.
    pub fn is_empty(&self) -> bool {
        List::ALL.iter().all(|list| self.get(*list).is_empty())
    }
}

/// The labels that a sidecar should hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Those of all its photographs that are known.
    pub labels: Vec<Subject>,
    /// What became of these and of those that the owner rejected.
    pub told: Vec<Told>,
    /// Whether one of its photographs could not be looked at or has not been: then nothing is taken out.
    pub partly: bool,
}

/// What to do with a sidecar, and whose its entries are then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is taken out, one occurrence each.
    pub gone: Lists,
    /// What is added.
    pub new: Lists,
    /// What may be ours while this is done.
    pub intent: Lists,
    /// What is ours when it is done.
    pub after: Lists,
}

impl Plan {
    /// Whether the sidecar is as it should be.
    pub fn is_done(&self) -> bool {
        self.gone.is_empty() && self.new.is_empty()
    }
}

/// Texts that a reader takes for the same label are the same here.
///
/// ```
/// use epsilon::library::ownership::folded;
///
/// assert_eq!(folded(" CAFE\u{301} "), folded("caf\u{e9}"));
/// ```
pub fn folded(text: &str) -> String {
    composed(&composed(text.trim()).to_lowercase()).into_owned()
}

/// The next step of a sidecar; see [the module](self).
pub fn plan(there: &Lists, ours: &Lists, wanted: &Wanted) -> Plan {
    let standing = Lists::of(|list| standing(there.get(list), ours.get(list)));
    let others = Lists::of(|list| without(there.get(list), standing.get(list)));
    let mut plan = Plan::default();
    let mut parts = List::ALL.map(|list| {
        let mut target = Vec::new();
        if wanted.partly {
            target.extend_from_slice(standing.get(list));
        }
        target.extend(entries(list, &others, &wanted.labels));
        step(standing.get(list), others.get(list), &target)
    });
    let mut take = |of: fn(&mut Step) -> &mut Vec<String>| {
        let [subject, hierarchical, tags] = &mut parts;
        Lists {
            subject: std::mem::take(of(subject)),
            hierarchical: std::mem::take(of(hierarchical)),
            tags: std::mem::take(of(tags)),
        }
    };
    (plan.gone, plan.new) = (take(|step| &mut step.gone), take(|step| &mut step.new));
    let kept = take(|step| &mut step.kept);
    let with_new = |of: &Lists| Lists::of(|list| [&of.get(list)[..], plan.new.get(list)].concat());
    (plan.intent, plan.after) = (with_new(&standing), with_new(&kept));
    plan
}

/// What is there of ours. What stands there twice is none of it, since we write nothing twice.
pub(super) fn standing(there: &[String], ours: &[String]) -> Vec<String> {
    let mut counts: HashMap<&String, usize> = HashMap::new();
    for text in there {
        *counts.entry(text).or_default() += 1;
    }
    // Each once, whatever the ledger says.
    let standing = ours.iter().filter(|text| counts.remove(text) == Some(1));
    standing.cloned().collect()
}

/// A list with one occurrence of each of these taken out.
pub(super) fn without(list: &[String], out: &[String]) -> Vec<String> {
    let mut out: HashSet<&str> = out.iter().map(String::as_str).collect();
    let mut rest = list.to_vec();
    rest.retain(|text| !out.remove(text.as_str()));
    rest
}

/// What a list should say of labels.
///
/// digiKam reads `digiKam:TagsList`, where that holds nothing `lr:hierarchicalSubject`, and only where that holds nothing, too,
/// `dc:subject` (`DMetadataSettingsContainer::defaultTagValues` and `DMetadata::getItemTagsPath` of its source). So a list with
/// parents says all labels or none, those without parents too, and one that we begin does not hide what others wrote.
fn entries(list: List, others: &Lists, labels: &[Subject]) -> Vec<String> {
    let all = || labels.iter().map(|subject| list.entry(subject));
    let parents = labels.iter().any(|subject| !subject.parents.is_empty());
    let theirs = |list: List| !others.get(list).is_empty();
    let mut entries: Vec<String> = match list {
        List::Subject => all().collect(),
        List::Hierarchical if theirs(List::Hierarchical) => all().collect(),
        List::Hierarchical if parents => all().chain(unsaid(&others.subject, labels)).collect(),
        List::Tags if theirs(List::Tags) => all().collect(),
        List::Tags if parents && !theirs(List::Subject) && !theirs(List::Hierarchical) => {
            all().collect()
        }
        List::Hierarchical | List::Tags => Vec::new(),
    };
    entries.retain(|entry| !entry.is_empty());
    entries
}

/// Names that are those of no label.
fn unsaid(names: &[String], labels: &[Subject]) -> Vec<String> {
    let said: HashSet<String> = labels.iter().map(|label| folded(&label.name)).collect();
    let unsaid = names.iter().filter(|name| !said.contains(&folded(name)));
    unsaid.cloned().collect()
}

/// What becomes of one list.
struct Step {
    gone: Vec<String>,
    new: Vec<String>,
    kept: Vec<String>,
}

fn step(standing: &[String], others: &[String], target: &[String]) -> Step {
    let said: HashSet<String> = others.iter().map(|text| folded(text)).collect();
    let exact: HashSet<&String> = target.iter().collect();
    let (kept, gone): (Vec<String>, Vec<String>) = standing
        .iter()
        .cloned()
        .partition(|text| exact.contains(text) && !said.contains(&folded(text)));
    let mut said: HashSet<String> = said
        .into_iter()
        .chain(kept.iter().map(|t| folded(t)))
        .collect();
    let new = target.iter().filter(|text| said.insert(folded(text)));
    Step {
        new: new.cloned().collect(),
        gone,
        kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &str) -> Vec<String> {
        texts.split_whitespace().map(String::from).collect()
    }

    fn names(names: &str) -> Lists {
        Lists {
            subject: texts(names),
            ..Lists::default()
        }
    }

    fn wanted(labels: &str) -> Wanted {
        let subject = |text: String| {
            let mut parents: Vec<String> = text.split('|').map(String::from).collect();
            let name = parents.pop().unwrap();
            Subject { name, parents }
        };
        Wanted {
            labels: texts(labels).into_iter().map(subject).collect(),
            ..Wanted::default()
        }
    }

    /// There, ours, wanted; what goes, comes, and is ours then.
    fn check(there: &str, ours: &str, want: &str, gone: &str, new: &str, after: &str) {
        let plan = plan(&names(there), &names(ours), &wanted(want));
        assert_eq!(
            (plan.gone, plan.new, plan.after),
            (names(gone), names(new), names(after)),
            "{there} / {ours} / {want}"
        );
    }

    #[test]
    fn t01_what_was_ever_written_is_ours_until_it_is_taken_out() {
        check("", "", "sea sky", "", "sea sky", "sea sky");
        check("sea sky", "sea sky", "sky dog", "sea", "dog", "sky dog");
        // Others' stay, also where we would write the same.
        check("sea", "", "sea", "", "", "");
        check("sea", "", "", "", "", "");
        // Taken out by somebody: written again where it is wanted, and nobody's otherwise.
        check("", "sea", "sea", "", "sea", "sea");
        check("", "sea", "", "", "", "");
        // Typed a second time by somebody: theirs.
        check("sea sea", "sea", "sea", "", "", "");
        check("sea sea sky", "sea sky", "", "sky", "", "");
    }

    #[test]
    fn t14_case_and_unicode_form_make_no_other_label() {
        check("Water DOG", "", "water dog", "", "", "");
        check("CAFE\u{301}", "", "caf\u{e9}", "", "", "");
        check("Water", "", "water WATER sea", "", "sea", "sea");
        check("", "", "water WATER", "", "water", "water");
        // Typed anew in another form it is theirs; ours in another form is written as it is wanted now.
        check("water Water", "water", "water", "water", "", "");
        check("water", "water", "Water", "water", "Water", "Water");
    }

    #[test]
    fn nothing_is_taken_out_of_what_is_known_in_part() {
        let mut want = wanted("Sky dog");
        want.partly = true;
        let plan = plan(&names("sea sky"), &names("sea sky"), &want);
        assert_eq!((plan.gone, plan.new), (names(""), names("dog")));
        assert_eq!(plan.after, names("sea sky dog"));
    }

    #[test]
    fn t19_lists_with_parents_say_all_labels_or_none() {
        let new = |there: &Lists, want: &str| plan(there, &Lists::default(), &wanted(want)).new;
        let lists = |subject: &str, hierarchical: &str, tags: &str| Lists {
            subject: texts(subject),
            hierarchical: texts(hierarchical),
            tags: texts(tags),
        };
        // An own sidecar.
        assert_eq!(new(&lists("", "", ""), "sea"), lists("sea", "", ""));
        let both = lists("sea dog", "sea pet|dog", "sea pet/dog");
        assert_eq!(new(&lists("", "", ""), "sea pet|dog"), both);
        // A list that is there is kept in step, for labels without parents too.
        let tagged = lists("trip", "", "trip");
        assert_eq!(new(&tagged, "sea"), lists("sea", "", "sea"));
        // One that we begin hides nothing, and none is begun in front of one that is there.
        assert_eq!(
            new(&lists("trip", "", ""), "pet|dog"),
            lists("dog", "pet|dog trip", "")
        );
        assert_eq!(new(&lists("trip", "trip", ""), "pet|dog").tags, texts(""));
    }
}
