//! `tags.jsonl`: a line of JSON for every photograph of a library.
//!
//! Lines are appended while photographs are tagged; of two lines about one photograph the later holds. When a round of tagging
//! ends, the file is written anew in the photographs' order with one line each. A line that a killed program left half
//! written is dropped.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::lines::{Lines, below};
use super::ownership::Subject;
use super::{Corrections, Labelled, LibraryError, Photo, failed};
use crate::model::Ranked;

pub(super) const NAME: &str = "tags.jsonl";
pub(super) const HINT: &str = "mend the line or delete the file to tag all photographs anew";

/// A kept label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The label.
    pub name: String,
    /// Its parents, from the top down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// Its score; none of a label that the owner added and no model kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// How probable it is, where the model is calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
    /// Whether the model was trained on it.
    pub seen: bool,
}

impl Label {
    /// A ranked label, with its parents.
    pub fn of(ranked: Ranked, parents: Vec<String>) -> Self {
        Self {
            name: ranked.name,
            parents,
            score: Some(ranked.score),
            probability: ranked.probability,
            seen: ranked.seen,
        }
    }

    /// What a sidecar says of it.
    pub fn subject(&self) -> Subject {
        Subject {
            name: self.name.clone(),
            parents: self.parents.clone(),
        }
    }
}

/// What came of a photograph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome<L = Label> {
    /// Its labels, best first.
    Labels(Vec<L>),
    /// Why it could not be tagged.
    Error(String),
}

/// A line: with the labels as the model kept them, or, of type [`Labelled`], with the owner's word applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry<L = Label> {
    /// [`Photo::id`].
    pub photo: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// When its file was changed.
    pub modified: u64,
    /// [`super::digest`] of how it was tagged.
    pub settings: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome<L>,
    /// Whether trying again is of no use: the file was read, and its content is wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub content: bool,
    /// When it was taken: seconds since 1970 on the camera's clock, where its file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<i64>,
    /// [`crate::model::Ranking::doubt`] of it, where the model is calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<f32>,
    /// Labels in its sidecar, with their parents before them, as versions wrote that had no [`super::Ledger`]; read only.
    #[serde(default, skip_serializing)]
    pub sidecar: Option<Vec<Vec<String>>>,
}

impl Entry {
    /// With the owner's word applied to its labels.
    #[must_use]
    pub fn with(self, corrections: &Corrections) -> Entry<Labelled> {
        let outcome = match self.outcome {
            Outcome::Labels(labels) => Outcome::Labels(corrections.apply(&self.photo, labels)),
            Outcome::Error(reason) => Outcome::Error(reason),
        };
        Entry {
            photo: self.photo,
            bytes: self.bytes,
            modified: self.modified,
            settings: self.settings,
            outcome,
            content: self.content,
            taken: self.taken,
            doubt: self.doubt,
            sidecar: self.sidecar,
        }
    }
}

/// What is remembered of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    bytes: u64,
    modified: u64,
    settings: String,
    /// Whether it could not be tagged.
    pub failed: bool,
    /// Whether it may go better the next time.
    pub again: bool,
    place: u64,
}

impl Known {
    /// Whether it is about this very file, tagged with these settings.
    pub fn is_of(&self, photo: &Photo, settings: &str) -> bool {
        (self.bytes, self.modified) == (photo.bytes, photo.modified) && self.settings == settings
    }
}

/// The file, open for more.
pub struct Journal {
    lines: Lines,
    known: BTreeMap<String, Known>,
    /// Lines that a later one has replaced.
    stale: usize,
}

impl Journal {
    /// Opens the journal of a library's folder, made where there is none.
    ///
    /// # Errors
    /// When it cannot be read or written, or a line other than a last half one is damaged.
    pub fn open(folder: &Path) -> Result<Self, LibraryError> {
        let (mut known, mut stale) = (BTreeMap::new(), 0);
        let lines = Lines::open(folder.join(NAME), HINT, &mut |place, line| {
            let (photo, entry) = remembered(&serde_json::from_slice(line)?, place);
            below(&photo)?;
            stale += usize::from(known.insert(photo, entry).is_some());
            Ok(())
        })?;
        Ok(Self {
            lines,
            known,
            stale,
        })
    }

    /// Whether the file is still there; see [`LibraryError::Gone`].
    ///
    /// # Errors
    /// [`LibraryError::Gone`].
    pub fn check(&self) -> Result<(), LibraryError> {
        self.lines.check()
    }

    /// What is known of the photographs, by their ids.
    pub fn known(&self) -> &BTreeMap<String, Known> {
        &self.known
    }

    /// A photograph's line.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn entry(&self, photo: &str) -> Result<Option<Entry>, LibraryError> {
        let Some(known) = self.known.get(photo) else {
            return Ok(None);
        };
        let path = self.lines.path();
        let line = self.lines.line(known.place).map_err(|e| failed(path, e))?;
        let entry = serde_json::from_str(&line);
        entry.map(Some).map_err(|error| LibraryError::Form {
            path: path.into(),
            reason: error.to_string(),
        })
    }

    /// Appends lines; when it returns, they are on the disk.
    ///
    /// # Errors
    /// When they cannot be written, [`LibraryError::Gone`].
    pub fn add(&mut self, entries: &[Entry]) -> Result<(), LibraryError> {
        let (mut text, mut known) = (Vec::new(), Vec::new());
        for entry in entries {
            known.push(remembered(entry, self.lines.end() + text.len() as u64));
            let path = self.lines.path();
            serde_json::to_writer(&mut text, entry).map_err(|e| failed(path, e.into()))?;
            text.push(b'\n');
        }
        self.lines.append(&text)?;
        self.lines.sync()?;
        for (photo, entry) in known {
            self.stale += usize::from(self.known.insert(photo, entry).is_some());
        }
        Ok(())
    }

    /// Forgets a photograph that is not there any more.
    pub fn forget(&mut self, photo: &str) {
        self.stale += usize::from(self.known.remove(photo).is_some());
    }

    /// Writes the file anew where some lines do not hold any more.
    ///
    /// # Errors
    /// When it cannot be written; it is then as it was.
    pub fn tidy(&mut self) -> Result<(), LibraryError> {
        if self.stale == 0 {
            return Ok(());
        }
        self.lines.replace(|file| {
            let mut out = io::BufWriter::new(file);
            for known in self.known.values() {
                out.write_all(self.lines.line(known.place)?.as_bytes())?;
            }
            out.flush()
        })?;
        *self = Self::open(&self.lines.folder())?;
        Ok(())
    }

    /// All lines in the photographs' order.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, LibraryError>> {
        let photos = self.known.keys();
        photos.filter_map(|photo| self.entry(photo).transpose())
    }
}

fn remembered(entry: &Entry, place: u64) -> (String, Known) {
    let known = Known {
        bytes: entry.bytes,
        modified: entry.modified,
        settings: entry.settings.clone(),
        failed: matches!(entry.outcome, Outcome::Error(_)),
        again: matches!(entry.outcome, Outcome::Error(_)) && !entry.content,
        place,
    };
    (entry.photo.clone(), known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(photo: &str, bytes: u64) -> Entry {
        Entry {
            photo: photo.into(),
            bytes,
            modified: 1,
            settings: "s".into(),
            outcome: match bytes {
                0 => Outcome::Error("empty".into()),
                _ => Outcome::Labels(vec![Label {
                    name: "sky".into(),
                    parents: vec!["nature".into()],
                    score: Some(0.5),
                    probability: None,
                    seen: true,
                }]),
            },
            content: false,
            taken: None,
            doubt: None,
            sidecar: None,
        }
    }

    fn photo(id: &str, bytes: u64) -> Photo {
        Photo {
            id: id.into(),
            path: id.into(),
            bytes,
            modified: 1,
        }
    }

    #[test]
    fn lines_are_kept_replaced_and_put_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.add(&[entry("b", 1), entry("a", 0)]).unwrap();
        journal.add(&[entry("b", 2), entry("c", 3)]).unwrap();
        journal.forget("c");
        let all = |journal: &Journal| -> Vec<Entry> {
            journal.entries().collect::<Result<_, _>>().unwrap()
        };
        let expected = [entry("a", 0), entry("b", 2)];
        assert_eq!(all(&journal), expected);
        journal.tidy().unwrap();
        assert_eq!(all(&journal), expected);
        let path = folder.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);

        // A half line, as a killed program leaves it, is dropped, and what is added then stands whole.
        std::fs::write(&path, format!("{text}{{\"photo\": \"d\", \"byt")).unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        assert_eq!(all(&journal), expected);
        assert!(journal.known()["a"].failed);
        assert!(journal.known()["b"].is_of(&photo("b", 2), "s"));
        assert!(!journal.known()["b"].is_of(&photo("b", 3), "s"));
        assert!(!journal.known()["b"].is_of(&photo("b", 2), "t"));
        journal.add(&[entry("d", 4)]).unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.known().len(), 3);
        assert_eq!(journal.entry("d").unwrap(), Some(entry("d", 4)));
        assert_eq!(journal.entry("e").unwrap(), None);

        std::fs::write(&path, format!("nonsense\n{text}")).unwrap();
        let error = Journal::open(folder.path()).err().unwrap().to_string();
        assert!(
            error.contains("tags.jsonl") && error.contains("line 1"),
            "{error}"
        );
    }
}
