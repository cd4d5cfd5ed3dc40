//! What is known of a library's photographs: keywords that others wrote, and the owner's word.

use std::collections::{BTreeMap, BTreeSet};

use epsilon_vision::image::Limits;

use super::{LearnError, LearnEvent, Learner, Observe, tell};
use crate::library::keywords::{self, Said};
use crate::library::ownership::{Subject, folded};
use crate::library::{Corrections, Ledger, Opinion, Photo, Verdict};

/// Photographs whose keywords are read at once.
const AT_ONCE: usize = 64;

/// What is known of one photograph. Labels go by their [`folded`] names.
pub(super) struct Known {
    pub(super) photo: Photo,
    /// Labels that it has.
    pub(super) present: BTreeSet<String>,
    /// Labels that its owner says it has not.
    pub(super) absent: BTreeSet<String>,
    /// Names above those labels in a hierarchy.
    pub(super) above: BTreeSet<String>,
    /// Whether it has keywords: who wrote them had the others in mind, too.
    pub(super) keyworded: bool,
    /// Whether its owner has looked at all of it.
    pub(super) reviewed: bool,
    /// Whether its owner has said anything.
    pub(super) corrected: bool,
    /// When it was taken.
    pub(super) taken: Option<i64>,
}

/// What is known of all.
#[derive(Default)]
pub(super) struct Gathered {
    /// The photographs of which something is known, by their ids.
    pub(super) photos: Vec<Known>,
    /// How each label is written, and how often.
    pub(super) spellings: BTreeMap<String, BTreeMap<String, usize>>,
    /// Labels that are keywords somewhere, and not only the owner's corrections.
    pub(super) keywords: BTreeSet<String>,
    /// What makes no sense in the files.
    pub(super) flaws: Vec<String>,
    /// What the system did not give of them.
    pub(super) unread: Vec<String>,
    /// Photographs that were looked at.
    pub(super) looked_at: usize,
}

/// Reads the keywords of photographs and joins them with the corrections, which hold where the two disagree.
pub(super) fn gather(
    learner: &Learner,
    photos: Vec<Photo>,
    corrections: &Corrections,
    observe: &mut Observe<'_>,
) -> Result<Gathered, LearnError> {
    let ours = Ledger::snapshot(&learner.library)?;
    let mut said = Vec::with_capacity(photos.len());
    for part in photos.chunks(AT_ONCE) {
        said.extend(keywords::of_all(part, &ours, &Limits::default()));
        tell(observe, LearnEvent::Read(part.len()))?;
    }
    let mut gathered = Gathered {
        looked_at: photos.len(),
        ..Gathered::default()
    };
    for (photo, said) in photos.into_iter().zip(said) {
        gathered.flaws.extend_from_slice(&said.flaws);
        gathered.unread.extend_from_slice(&said.unread);
        let folders = match learner.options.folders {
            true => keywords::folder_keywords(&photo.id),
            false => Vec::new(),
        };
        let opinion = corrections.of(&photo.id);
        gathered.add(photo, said, folders, opinion);
    }
    Ok(gathered)
}

impl Gathered {
    fn add(&mut self, photo: Photo, said: Said, folders: Vec<Subject>, opinion: Option<&Opinion>) {
        let subjects: Vec<Subject> = said.keywords.into_iter().chain(folders).collect();
        let mut known = Known {
            photo,
            present: BTreeSet::new(),
            absent: BTreeSet::new(),
            above: BTreeSet::new(),
            keyworded: !subjects.is_empty(),
            reviewed: opinion.is_some_and(|opinion| opinion.reviewed),
            corrected: opinion.is_some(),
            taken: said.taken,
        };
        for Subject { name, parents } in &subjects {
            if let Some(key) = self.name(name) {
                self.keywords.insert(key.clone());
                known.present.insert(key);
                self.parents(parents, &mut known);
            }
        }
        for judged in opinion
            .into_iter()
            .flat_map(|opinion| opinion.labels.values())
        {
            let Some(key) = self.name(&judged.name) else {
                continue;
            };
            match judged.verdict {
                Verdict::Approved => {
                    known.present.insert(key);
                    self.parents(&judged.parents, &mut known);
                }
                Verdict::Rejected | Verdict::Withdrawn => {
                    known.present.remove(&key);
                    known.absent.insert(key);
                }
            }
        }
        if known.keyworded || known.corrected {
            self.photos.push(known);
        }
    }

    fn parents(&self, parents: &[String], known: &mut Known) {
        let keys = parents.iter().map(|parent| folded(plain(parent)));
        known.above.extend(keys.filter(|key| !key.is_empty()));
    }

    /// The key of a label; none for a name of nothing.
    fn name(&mut self, name: &str) -> Option<String> {
        let spaced = |c: char| if c.is_control() { ' ' } else { c };
        let name: String = name.chars().map(spaced).collect();
        let name = plain(&name);
        let key = folded(name);
        if key.is_empty() {
            return None;
        }
        let spellings = self.spellings.entry(key.clone()).or_default();
        *spellings.entry(name.to_string()).or_default() += 1;
        Some(key)
    }

    /// How a label is written most often.
    pub(super) fn spelling<'a>(&'a self, key: &'a str) -> &'a str {
        let spellings = self.spellings.get(key).into_iter().flatten();
        let most = spellings.max_by_key(|(name, count)| (**count, std::cmp::Reverse(*name)));
        most.map_or(key, |(name, _)| name)
    }
}

/// A name without the mark of a hashtag, which begins a comment in lists.
fn plain(name: &str) -> &str {
    name.trim().trim_start_matches('#').trim()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::library::{Correction, Line, Reviewed};

    fn photo(id: &str) -> Photo {
        Photo {
            id: id.into(),
            path: Path::new("p").join(id),
            bytes: 1,
            modified: 1,
        }
    }

    fn said(names: &[&str]) -> Said {
        let subject = |name: &&str| {
            let mut names: Vec<String> = name.split('|').map(Into::into).collect();
            Subject {
                name: names.pop().unwrap(),
                parents: names,
            }
        };
        Said {
            keywords: names.iter().map(subject).collect(),
            ..Said::default()
        }
    }

    #[test]
    fn corrections_hold_where_keywords_say_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let mut corrections = Corrections::open(folder.path()).unwrap();
        let word = |label: &str, verdict| {
            Line::Label(Correction {
                photo: "a".into(),
                label: label.into(),
                parents: Vec::new(),
                verdict,
                at: 1,
                by: None,
            })
        };
        let reviewed = Line::Photo(Reviewed {
            photo: "c".into(),
            reviewed: true,
            at: 2,
        });
        let lines = [
            word("Dog", Verdict::Rejected),
            word("sea", Verdict::Approved),
            reviewed,
        ];
        corrections.add(&lines).unwrap();
        let mut gathered = Gathered::default();
        for (id, names) in [
            ("a", &["animal|dog", "#Beach", "beach"][..]),
            ("b", &["Beach", " # ", "tall\nship"]),
            ("c", &[]),
            ("d", &[]),
        ] {
            gathered.add(photo(id), said(names), Vec::new(), corrections.of(id));
        }
        let ids: Vec<&str> = gathered
            .photos
            .iter()
            .map(|k| k.photo.id.as_str())
            .collect();
        assert_eq!(ids, ["a", "b", "c"], "nothing is known of d");
        let [a, b, c] = &gathered.photos[..] else {
            panic!()
        };
        assert_eq!(a.present.iter().collect::<Vec<_>>(), ["beach", "sea"]);
        assert_eq!(a.absent.iter().collect::<Vec<_>>(), ["dog"]);
        assert!(a.above.contains("animal") && a.keyworded && !a.reviewed);
        assert!(b.keyworded && c.reviewed && !c.keyworded);
        assert!(b.present.contains("tall ship"));
        assert_eq!(gathered.spelling("beach"), "Beach");
        assert!(gathered.keywords.contains("dog") && !gathered.keywords.contains("sea"));
    }
}
