//! `sidecars.jsonl`: what this program has written into each XMP sidecar and not taken out again, whatever came of the
//! photographs since.
//!
//! A line a sidecar; of two lines about one the later holds. What is about to be written stands here before the sidecar is
//! touched (see [`super::ownership`]).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::lines::{Lines, below, read_once};
use super::ownership::{List, Lists, Subject};
use super::sidecar::Name;
use super::{Journal, LibraryError, failed, told};
use epsilon_data::{files, paths};

const NAME: &str = "sidecars.jsonl";
const HINT: &str = "mend the line, or delete the file: what was written into sidecars then counts as somebody else's";

/// What is ours in a sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// Entries of its lists.
    #[serde(flatten)]
    pub lists: Lists,
    /// Whether `epsilon:Labels` (see [`super::told`]) stands there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// SHA-256 of the contents that are ours from the first byte to the last: the sidecar was made by us, and as long as it
    /// has one of these nobody else has written into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<String>,
    /// Whether the sidecar was not there, with its photographs, when it was last looked for: on a disk that is away it may come
    /// back, or else another one may take its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub away: bool,
}

impl Owned {
    fn is_nothing(&self) -> bool {
        self.lists.is_empty() && !self.told && self.made.is_empty()
    }

    /// Whether this is about the sidecar that holds this text. Where it was away, one that has taken its name is somebody else's:
    /// it neither says what became of our labels nor is a content of ours.
    pub(super) fn is_of(&self, text: &str) -> bool {
        let is_told = || told::read(text).is_ok_and(|told| !told.is_empty());
        let is_made = || self.made.contains(&files::sha256(text.as_bytes()));
        !self.away || is_told() || is_made()
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// Its path from the folder of photographs, with `/` between its parts.
    sidecar: String,
    #[serde(flatten)]
    owned: Owned,
}

/// The file, open for more.
pub struct Ledger {
    lines: Lines,
    owned: BTreeMap<String, Owned>,
    /// Lines that a later one has replaced.
    stale: usize,
}

impl Ledger {
    /// Opens the ledger of a library's folder. Where there is none it begins with what the journal of an earlier version says
    /// about sidecars; `photos` is the folder of photographs.
    ///
    /// # Errors
    /// When it cannot be read or written, or a line other than a last half one is damaged.
    pub fn open(folder: &Path, photos: &Path, journal: &Journal) -> Result<Self, LibraryError> {
        let path = folder.join(NAME);
        let earlier = match path.exists() {
            true => Vec::new(),
            false => earlier(photos, journal)?,
        };
        let mut ledger = Self::read(&path)?;
        for (sidecar, owned) in earlier {
            ledger.write(&sidecar, owned)?;
        }
        ledger.lines.sync()?;
        Ok(ledger)
    }

    fn read(path: &Path) -> Result<Self, LibraryError> {
        let (mut owned, mut stale) = (BTreeMap::new(), 0);
        let lines = Lines::open(path.into(), HINT, &mut |_, line| {
            let line: Line = serde_json::from_slice(line)?;
            below(&line.sidecar)?;
            stale += usize::from(owned.insert(line.sidecar, line.owned).is_some());
            Ok(())
        })?;
        let whole = owned.len();
        owned.retain(|_, owned: &mut Owned| !owned.is_nothing());
        stale += whole - owned.len();
        Ok(Self {
            lines,
            owned,
            stale,
        })
    }

    /// What is ours in each sidecar, as a library's folder says now; nothing is changed there, and where there is no ledger
    /// nothing is ours.
    ///
    /// # Errors
    /// When it cannot be read, or a line other than a last half one is damaged.
    pub fn snapshot(library: &Path) -> Result<BTreeMap<String, Owned>, LibraryError> {
        let mut owned = BTreeMap::new();
        read_once(library.join(NAME), HINT, &mut |line| {
            let line: Line = serde_json::from_slice(line)?;
            below(&line.sidecar)?;
            owned.insert(line.sidecar, line.owned);
            Ok(())
        })?;
        Ok(owned)
    }

    /// What is ours in a sidecar.
    pub fn of(&self, sidecar: &str) -> Owned {
        self.owned.get(sidecar).cloned().unwrap_or_default()
    }

    /// Whether anything in a sidecar is ours.
    pub fn owns(&self, sidecar: &str) -> bool {
        self.owned.contains_key(sidecar)
    }

    /// The sidecars in which something is ours.
    pub fn sidecars(&self) -> impl Iterator<Item = &str> {
        self.owned.keys().map(String::as_str)
    }

    /// Whether the file is still there.
    ///
    /// # Errors
    /// [`LibraryError::Gone`].
    pub fn check(&self) -> Result<(), LibraryError> {
        self.lines.check()
    }

    /// Writes down what may be ours from now on; when it returns, that is on the disk.
    ///
    /// # Errors
    /// When it cannot be written, [`LibraryError::Gone`].
    pub fn intend(&mut self, sidecar: &str, owned: Owned) -> Result<(), LibraryError> {
        self.write(sidecar, owned)?;
        self.lines.sync()
    }

    /// Writes down what is ours now that a sidecar is done.
    ///
    /// # Errors
    /// As [`Ledger::intend`].
    pub fn settle(&mut self, sidecar: &str, owned: Owned) -> Result<(), LibraryError> {
        match self.of(sidecar) == owned {
            true => Ok(()),
            false => self.write(sidecar, owned),
        }
    }

    fn write(&mut self, sidecar: &str, owned: Owned) -> Result<(), LibraryError> {
        let line = Line {
            sidecar: sidecar.into(),
            owned,
        };
        let text = serde_json::to_vec(&line);
        let mut text = text.map_err(|error| failed(self.lines.path(), error.into()))?;
        text.push(b'\n');
        self.lines.append(&text)?;
        self.stale += usize::from(self.owned.remove(sidecar).is_some());
        if line.owned.is_nothing() {
            self.stale += 1;
        } else {
            self.owned.insert(line.sidecar, line.owned);
        }
        Ok(())
    }

    /// Writes the file anew where some lines do not hold any more.
    ///
    /// # Errors
    /// When it cannot be written; it is then as it was.
    pub fn tidy(&mut self) -> Result<(), LibraryError> {
        if self.stale == 0 {
            return self.lines.sync();
        }
        self.lines.replace(|file| {
            let mut out = io::BufWriter::new(file);
            for (sidecar, owned) in &self.owned {
                let (sidecar, owned) = (sidecar.clone(), owned.clone());
                serde_json::to_writer(&mut out, &Line { sidecar, owned })?;
                out.write_all(b"\n")?;
            }
            out.flush()
        })?;
        *self = Self::read(&self.lines.folder().join(NAME))?;
        Ok(())
    }
}

/// What the journal of an earlier version says was written. It does not say how the sidecar was named: as is usual, unless
/// only one of the other name is there.
fn earlier(photos: &Path, journal: &Journal) -> Result<Vec<(String, Owned)>, LibraryError> {
    let mut found = Vec::new();
    for entry in journal.entries() {
        let entry = entry?;
        let Some(paths) = entry.sidecar.filter(|paths| !paths.is_empty()) else {
            continue;
        };
        let names = [Name::Full, Name::Stem].map(|name| name.key(&entry.photo));
        let there = |key: &&String| photos.join(paths::path(key)).exists();
        let key = names.iter().find(there).unwrap_or(&names[0]);
        let subjects: Vec<Subject> = paths.into_iter().filter_map(Subject::of_path).collect();
        // Labels without parents stood in `dc:subject` alone.
        let lists = Lists::of(|list| {
            let below = |s: &&Subject| list == List::Subject || !s.parents.is_empty();
            let subjects = subjects.iter().filter(below);
            subjects.map(|subject| list.entry(subject)).collect()
        });
        let owned = Owned {
            lists,
            ..Owned::default()
        };
        found.push((key.clone(), owned));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Owned {
        Owned {
            lists: Lists {
                subject: names.iter().map(ToString::to_string).collect(),
                ..Lists::default()
            },
            made: vec!["aa".into()],
            ..Owned::default()
        }
    }

    #[test]
    fn what_is_ours_is_kept_and_put_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let open = || Ledger::open(folder.path(), folder.path(), &journal).unwrap();
        let mut ledger = open();
        ledger.intend("b.xmp", owned(&["sea"])).unwrap();
        ledger.settle("a.xmp", owned(&["sky"])).unwrap();
        ledger.settle("b.xmp", owned(&["dog"])).unwrap();
        ledger.settle("a.xmp", Owned::default()).unwrap();
        let mut ledger = open();
        assert_eq!(ledger.sidecars().collect::<Vec<_>>(), ["b.xmp"]);
        assert_eq!(ledger.of("b.xmp"), owned(&["dog"]));
        assert!(!ledger.owns("a.xmp") && ledger.of("a.xmp").is_nothing());
        ledger.tidy().unwrap();
        let path = folder.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"sidecar\":\"b.xmp\",\"subject\":[\"dog\"],\"made\":[\"aa\"]}\n"
        );
        // A whole line that only lacks its end counts, also for who only reads it, and gets one.
        let more = "{\"sidecar\":\"c.xmp\",\"subject\":[\"sea\"]}";
        std::fs::write(&path, format!("{text}{more}")).unwrap();
        let there = Ledger::snapshot(folder.path()).unwrap();
        assert_eq!(there["c.xmp"].lists.subject, ["sea"]);
        let mut ledger = open();
        assert_eq!(ledger.of("c.xmp"), there["c.xmp"]);
        ledger.settle("d.xmp", owned(&["sky"])).unwrap();
        assert_eq!(open().sidecars().count(), 3);
        let now = std::fs::read_to_string(&path).unwrap();
        assert!(now.starts_with(&format!("{text}{more}\n{{")), "{now}");
        // A half line is dropped, a damaged one is named.
        std::fs::write(&path, format!("{text}{{\"side")).unwrap();
        let there = Ledger::snapshot(folder.path()).unwrap();
        assert_eq!(there["b.xmp"], owned(&["dog"]));
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("side"));
        assert_eq!(open().of("b.xmp"), owned(&["dog"]));
        std::fs::write(&path, format!("no\n{text}")).unwrap();
        let error = Ledger::snapshot(folder.path()).unwrap_err().to_string();
        assert!(error.contains("line 1: "), "{error}");
        let error = Ledger::open(folder.path(), folder.path(), &journal).err();
        let error = error.unwrap().to_string();
        assert!(
            error.contains("sidecars.jsonl") && error.contains("line 1"),
            "{error}"
        );
    }

    #[test]
    fn the_journal_of_an_earlier_version_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let line = |photo: &str, sidecar: &str| {
            format!(
                "{{\"photo\":\"{photo}\",\"bytes\":1,\"modified\":1,\"settings\":\"s\",\"labels\":[]{sidecar}}}\n"
            )
        };
        let tags = [
            line("a.jpg", ",\"sidecar\":[[\"sea\"],[\"pet\",\"dog\"]]"),
            line("b.jpg", ",\"sidecar\":[[\"sky\"]]"),
            line("c.jpg", ""),
            line("d.jpg", ",\"sidecar\":[]"),
        ];
        std::fs::write(folder.path().join("tags.jsonl"), tags.concat()).unwrap();
        std::fs::write(folder.path().join("b.xmp"), "").unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.known().len(), 4);
        let ledger = Ledger::open(folder.path(), folder.path(), &journal).unwrap();
        let keys: Vec<&str> = ledger.sidecars().collect();
        assert_eq!(keys, ["a.jpg.xmp", "b.xmp"]);
        let lists = ledger.of("a.jpg.xmp").lists;
        assert_eq!(lists.subject, ["sea", "dog"]);
        assert_eq!(lists.hierarchical, ["pet|dog"]);
        assert_eq!(lists.tags, ["pet/dog"]);
    }
}
