//! Brings XMP sidecars up to date: which photographs a sidecar belongs to, what it should hold, and the way from what it holds
//! to that, in steps after each of which the program may be killed.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::ledger::{Ledger, Owned};
use super::ownership::{Lists, Wanted, plan};
use super::scan::is_photo;
use super::sidecar::{self, Changed, Found, Name, SidecarError};
use super::{Journal, Label, LibraryError, Outcome, Photo, xmp};
use epsilon_data::{files, paths};

/// How often a sidecar is tried that another program keeps changing.
const TRIES: usize = 5;

/// Why a sidecar is not up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpkeepError {
    /// The sidecar; the others can be gone on with.
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    /// The library's own files.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// The sidecars of a round's photographs. One may belong to several: `a.xmp` to `a.jpg` and `a.png`.
pub struct Places {
    photos: HashMap<String, Photo>,
    places: BTreeMap<String, Place>,
}

/// A sidecar.
struct Place {
    path: PathBuf,
    /// The photographs that it belongs to, and whether sidecars are named so in this round.
    photos: Vec<(String, bool)>,
}

impl Places {
    /// Those of the photographs that a folder holds, and of others of it that are remembered though they were not seen. `name`
    /// is how sidecars are named in this round; what was named otherwise in an earlier one is found, too.
    pub fn of(folder: &Path, photos: &[Photo], unseen: &[String], name: Option<Name>) -> Self {
        let seen = photos.iter().map(|photo| (&photo.id, photo.path.clone()));
        let unseen = unseen.iter().map(|id| (id, folder.join(paths::path(id))));
        let mut places = BTreeMap::new();
        for (id, path) in seen.chain(unseen) {
            for each in Name::ALL {
                let place = places.entry(each.key(id)).or_insert_with(|| Place {
                    path: each.of(&path),
                    photos: Vec::new(),
                });
                place.photos.push((id.clone(), Some(each) == name));
            }
        }
        let photos = photos.iter().map(|photo| (photo.id.clone(), photo.clone()));
        Self {
            photos: photos.collect(),
            places,
        }
    }

    /// All sidecars that there may be.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// What a sidecar should hold: the labels of all its photographs. A photograph that was not seen, could not be read, or
    /// waits to be tagged has unknown ones.
    fn wanted(
        &self,
        place: &Place,
        journal: &Journal,
        settings: &str,
    ) -> Result<Wanted, LibraryError> {
        let mut wanted = Wanted::default();
        for (id, named_so) in &place.photos {
            match self.labels(id, journal, settings)? {
                Some(labels) if *named_so => {
                    wanted.labels.extend(labels.iter().map(Label::subject));
                }
                Some(_) => {}
                None => wanted.partly = true,
            }
        }
        Ok(wanted)
    }

    fn labels(
        &self,
        id: &str,
        journal: &Journal,
        settings: &str,
    ) -> Result<Option<Vec<Label>>, LibraryError> {
        let known = self.photos.get(id).zip(journal.known().get(id));
        if !known.is_some_and(|(photo, known)| known.is_of(photo, settings)) {
            return Ok(None);
        }
        Ok(match journal.entry(id)?.map(|entry| entry.outcome) {
            Some(Outcome::Labels(labels)) => Some(labels),
            _ => None,
        })
    }
}

/// A moment in the work on a sidecar. Tests end the program there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The intent is on the disk, the sidecar is as it was.
    Intended,
    /// The sidecar is written or removed, and the ledger does not know yet.
    Written,
    /// The ledger knows.
    Settled,
}

/// The sidecars of a library.
pub struct Sidecars {
    folder: PathBuf,
    ledger: Ledger,
    step: fn(Step),
}

impl Sidecars {
    /// Those beside the photographs of a folder, of the library in another one.
    ///
    /// # Errors
    /// Those of [`Ledger::open`].
    pub fn open(library: &Path, photos: &Path, journal: &Journal) -> Result<Self, LibraryError> {
        Ok(Self {
            folder: photos.into(),
            ledger: Ledger::open(library, photos, journal)?,
            step: |_| {},
        })
    }

    /// Calls this at each moment in the work on a sidecar.
    #[cfg(test)]
    pub(super) fn at_each(&mut self, step: fn(Step)) {
        self.step = step;
    }

    /// Brings a sidecar of some photographs up to date, or leaves it as it is where nothing is wanted there and nothing is
    /// ours. Whether it need not be looked at again in this round.
    ///
    /// # Errors
    /// [`UpkeepError`].
    pub fn keep(
        &mut self,
        places: &Places,
        key: &str,
        journal: &Journal,
        settings: &str,
    ) -> Result<bool, UpkeepError> {
        let Some(place) = places.places.get(key) else {
            return Ok(true);
        };
        let named_so = place.photos.iter().any(|(_, named_so)| *named_so);
        if !named_so && !self.ledger.owns(key) {
            return Ok(true);
        }
        let wanted = places.wanted(place, journal, settings)?;
        if !wanted.labels.is_empty() || self.ledger.owns(key) && !wanted.partly {
            self.bring(key, &place.path, &wanted)?;
        }
        Ok(!wanted.partly)
    }

    /// Sidecars with entries of ours whose photographs are all gone, not only left out of the round, by their paths in the
    /// folder, written as [`paths::text`] does.
    ///
    /// # Errors
    /// [`LibraryError`].
    pub fn orphans(&mut self, places: &Places) -> Result<Vec<String>, LibraryError> {
        let keys = self.ledger.sidecars();
        let keys = keys.filter(|key| !places.places.contains_key(*key));
        let (mut orphans, mut beside) = (Vec::new(), Beside::default());
        for key in keys.map(String::from).collect::<Vec<_>>() {
            let path = self.folder.join(paths::path(&key));
            if beside.has_photo(&path) {
                continue;
            }
            let found = sidecar::look(&path).ok();
            let text = found.as_ref().map(|found| found.text.as_deref());
            let ours = self.ledger.of(&key);
            // What cannot be looked at may hold some.
            let act = text.and_then(|text| Act::of(text, &ours, &Wanted::default()).ok());
            match act {
                Some(Act::Nothing { after }) => self.ledger.settle(&key, after)?,
                _ => orphans.push(key),
            }
        }
        Ok(orphans)
    }

    /// Takes what is ours out of an orphan; removes it where we made it and nothing else is in it.
    ///
    /// # Errors
    /// [`UpkeepError`].
    pub fn prune(&mut self, orphan: &str) -> Result<(), UpkeepError> {
        let path = self.folder.join(paths::path(orphan));
        self.bring(orphan, &path, &Wanted::default())
    }

    fn bring(&mut self, key: &str, path: &Path, wanted: &Wanted) -> Result<(), UpkeepError> {
        let form = |reason| SidecarError::Form {
            path: path.into(),
            reason,
        };
        // Of each try the same: what we meant to write and somebody else then wrote is theirs.
        let ours = self.ledger.of(key);
        for _ in 0..TRIES {
            let found = sidecar::look(path)?;
            let act = Act::of(found.text.as_deref(), &ours, wanted).map_err(form)?;
            if self.act(key, &found, act)? == Changed::Done {
                return Ok(());
            }
        }
        self.ledger.settle(key, ours)?;
        Err(form("is changed by another program time and again".into()).into())
    }

    fn act(&mut self, key: &str, found: &Found, act: Act) -> Result<Changed, UpkeepError> {
        let (intent, after, text) = match act {
            Act::Nothing { after } => {
                self.ledger.settle(key, after)?;
                return Ok(Changed::Done);
            }
            Act::Remove { intent } => (intent, Owned::default(), None),
            Act::Write {
                text,
                intent,
                after,
            } => (intent, after, Some(text)),
        };
        self.ledger.intend(key, intent)?;
        (self.step)(Step::Intended);
        let changed = match text {
            Some(text) => found.replace(&text)?,
            None => found.remove()?,
        };
        (self.step)(Step::Written);
        if changed == Changed::Done {
            self.ledger.settle(key, after)?;
            (self.step)(Step::Settled);
        }
        Ok(changed)
    }

    /// Whether the library's files are still there; see [`LibraryError::Gone`].
    ///
    /// # Errors
    /// [`LibraryError::Gone`].
    pub fn check(&self) -> Result<(), LibraryError> {
        self.ledger.check()
    }

    /// Ends a round: all that is known is on the disk, in order.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tidy(&mut self) -> Result<(), LibraryError> {
        self.ledger.tidy()
    }
}

/// The files of folders by the sidecars that they would have, each folder read once.
#[derive(Default)]
struct Beside(HashMap<PathBuf, HashMap<PathBuf, Vec<PathBuf>>>);

impl Beside {
    /// Whether a photograph lies beside a sidecar that is named so.
    fn has_photo(&mut self, sidecar: &Path) -> bool {
        let folder = sidecar.parent().unwrap_or(Path::new(""));
        let files = self
            .0
            .entry(folder.into())
            .or_insert_with(|| by_sidecar(folder));
        let mut photos = files.get(sidecar).into_iter().flatten();
        photos.any(|photo| is_photo(photo))
    }
}

fn by_sidecar(folder: &Path) -> HashMap<PathBuf, Vec<PathBuf>> {
    let mut files: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        for name in Name::ALL {
            let sidecar = name.of(&file.path());
            files.entry(sidecar).or_default().push(file.path());
        }
    }
    files
}

/// What is to be done with a sidecar.
enum Act {
    /// It is as it should be.
    Nothing { after: Owned },
    Write {
        text: String,
        intent: Owned,
        after: Owned,
    },
    /// We made it, and nothing of it stays.
    Remove { intent: Owned },
}

impl Act {
    fn of(text: Option<&str>, ours: &Owned, wanted: &Wanted) -> Result<Self, String> {
        let hash = |text: &str| files::sha256(text.as_bytes());
        let now: Vec<String> = text.map(hash).into_iter().collect();
        // Nobody else has written a byte of it.
        let all_ours = now.iter().all(|now| ours.made.contains(now));
        let made = |hashes: Vec<String>| if all_ours { hashes } else { Vec::new() };
        let there = text.map_or(Ok(Lists::default()), xmp::read)?;
        let plan = plan(&there, &ours.lists, wanted);
        if plan.is_done() {
            let after = Owned {
                lists: plan.after,
                made: made(now),
            };
            return Ok(Self::Nothing { after });
        }
        if all_ours && plan.after.is_empty() {
            let intent = Owned {
                lists: plan.intent,
                made: now,
            };
            return Ok(Self::Remove { intent });
        }
        let text = xmp::edit(text.unwrap_or(xmp::EMPTY), &plan.gone, &plan.new)?;
        let then = vec![hash(&text)];
        Ok(Self::Write {
            intent: Owned {
                lists: plan.intent,
                made: made([&now[..], &then].concat()),
            },
            after: Owned {
                lists: plan.after,
                made: made(then),
            },
            text,
        })
    }
}
