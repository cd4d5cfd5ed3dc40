//! Brings XMP sidecars up to date: which photographs a sidecar belongs to, what it should hold, and the way from what it holds
//! to that, in steps after each of which the program may be killed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::ledger::{Ledger, Owned};
use super::ownership::{Lists, Wanted, folded, plan};
use super::scan::is_photo;
use super::sidecar::{self, Changed, Found, Name, SidecarError};
use super::told::{self, Told};
use super::{
    Corrections, Journal, Label, Labelled, LibraryError, Opinion, Outcome, Photo, State, xmp,
};
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

    /// What a sidecar should hold: the labels of all its photographs, with the owner's word applied. A photograph that was not
    /// seen, could not be read, or waits to be tagged has unknown ones beside those that the owner approved.
    fn wanted(&self, place: &Place, facts: &Facts<'_>) -> Result<Wanted, LibraryError> {
        let mut wanted = Wanted::default();
        let named_so = place.photos.iter().filter(|(_, named_so)| *named_so);
        let is_shared = named_so.count() > 1;
        for (id, named_so) in &place.photos {
            let labels = self.labels(id, facts)?;
            wanted.partly |= labels.is_none();
            if *named_so {
                let mut told = wanted.add(id, labels.unwrap_or_default(), facts);
                if is_shared {
                    let name = id.rsplit('/').next().map(String::from);
                    told.iter_mut()
                        .for_each(|told| told.photo.clone_from(&name));
                }
                wanted.told.append(&mut told);
            }
        }
        Ok(wanted)
    }

    fn labels(&self, id: &str, facts: &Facts<'_>) -> Result<Option<Vec<Label>>, LibraryError> {
        let journal = facts.journal;
        let known = self.photos.get(id).zip(journal.known().get(id));
        if !known.is_some_and(|(photo, known)| known.is_of(photo, facts.settings)) {
            return Ok(None);
        }
        Ok(match journal.entry(id)?.map(|entry| entry.outcome) {
            Some(Outcome::Labels(labels)) => Some(labels),
            _ => None,
        })
    }
}

/// What is known of a round's photographs.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Their labels.
    pub journal: &'a Journal,
    /// [`super::digest`] of how they are tagged.
    pub settings: &'a str,
    /// What their owner says.
    pub corrections: &'a Corrections,
    /// [`crate::model::Model::identity`] of the model that tags them.
    pub model: &'a str,
}

impl Wanted {
    /// Wants a photograph's labels, less those that were rejected; gives what is told of all of them.
    fn add(&mut self, id: &str, labels: Vec<Label>, facts: &Facts<'_>) -> Vec<Told> {
        let opinion = facts.corrections.of(id);
        let judged = |name: &str| opinion.and_then(|opinion| opinion.labels.get(&folded(name)));
        let labels = facts.corrections.apply(id, labels);
        let kept = labels.iter().filter(|labelled| labelled.is_kept());
        self.labels
            .extend(kept.map(|labelled| labelled.label.subject()));
        let told =
            |labelled: &Labelled| Told::of(labelled, judged(&labelled.label.name), facts.model);
        let told: Vec<Told> = labels.iter().map(told).collect();
        let rejected = opinion.into_iter().flat_map(Opinion::rejected);
        let rejected: Vec<Told> = rejected
            .map(|judged| Told::of_judged(judged, State::Rejected))
            .collect();
        Told::and_what_is_left(&told, &rejected)
    }

    /// What stands in a sidecar whose photographs are gone, and their owner approved: nobody else takes that out.
    fn of_gone(sidecar: &str, text: Option<&str>, corrections: &Corrections) -> Self {
        let there = text.and_then(|text| xmp::read(text).ok());
        let there = there.unwrap_or_default().subject;
        let there: HashSet<String> = there.iter().map(|name| folded(name)).collect();
        let its = corrections.of_sidecar(sidecar);
        let approved = its.flat_map(Opinion::approved);
        let mut wanted = Self::default();
        for judged in approved.filter(|judged| there.contains(&folded(&judged.name))) {
            wanted.labels.push(judged.label().subject());
            wanted.told.push(Told::of_judged(judged, State::Approved));
        }
        wanted
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
    /// ours, or where none of the photographs was seen: their disk may be away, and a sidecar would be written into the empty folder
    /// in its place. Whether it need not be looked at again in this round.
    ///
    /// # Errors
    /// [`UpkeepError`].
    pub fn keep(
        &mut self,
        places: &Places,
        key: &str,
        facts: &Facts<'_>,
    ) -> Result<bool, UpkeepError> {
        let Some(place) = places.places.get(key) else {
            return Ok(true);
        };
        let named_so = place.photos.iter().any(|(_, named_so)| *named_so);
        let seen = |(id, _): &(String, bool)| places.photos.contains_key(id);
        if !place.photos.iter().any(seen) || !named_so && !self.ledger.owns(key) {
            return Ok(true);
        }
        let wanted = places.wanted(place, facts)?;
        if !wanted.told.is_empty() || self.ledger.owns(key) && !wanted.partly {
            self.bring(key, &place.path, &wanted)?;
        }
        Ok(!wanted.partly)
    }

    /// Sidecars with entries of ours, beside those that the owner approved, whose photographs are all gone, not only left out of
    /// the round, by their paths in the folder, written as [`paths::text`] does. What was ours in a sidecar that is gone, too, is
    /// remembered, since both may be on a disk that is away; it is forgotten where `believe` says that what is gone is gone for good.
    ///
    /// # Errors
    /// [`LibraryError`].
    pub fn orphans(
        &mut self,
        places: &Places,
        corrections: &Corrections,
        believe: bool,
    ) -> Result<Vec<String>, LibraryError> {
        let keys = self.ledger.sidecars();
        let keys = keys.filter(|key| !places.places.contains_key(*key));
        let (mut orphans, mut beside) = (Vec::new(), Beside::default());
        for key in keys.map(String::from).collect::<Vec<_>>() {
            let path = self.folder.join(paths::path(&key));
            if beside.has_photo(&path) {
                continue;
            }
            let found = sidecar::look(&path).ok();
            let ours = self.ledger.of(&key);
            if found.as_ref().is_some_and(|found| found.text.is_none()) {
                let away = Owned { away: true, ..ours };
                let after = if believe { Owned::default() } else { away };
                self.ledger.settle(&key, after)?;
                continue;
            }
            // What cannot be looked at may hold some.
            let act = found.and_then(|found| {
                let text = found.text.as_deref();
                let wanted = Wanted::of_gone(&key, text, corrections);
                Act::of(text, &ours, &wanted).ok()
            });
            match act {
                Some(Act::Nothing { after }) => self.ledger.settle(&key, after)?,
                _ => orphans.push(key),
            }
        }
        Ok(orphans)
    }

    /// Takes what is ours out of an orphan, but what the owner approved; removes it where we made it and nothing else is in it.
    ///
    /// # Errors
    /// [`UpkeepError`].
    pub fn prune(&mut self, orphan: &str, corrections: &Corrections) -> Result<(), UpkeepError> {
        let path = self.folder.join(paths::path(orphan));
        let found = sidecar::look(&path)?;
        let wanted = Wanted::of_gone(orphan, found.text.as_deref(), corrections);
        self.bring(orphan, &path, &wanted)
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

/// Writes labels of a photograph into its sidecar, outside of any library and as a round of tagging does. What stands there stays,
/// labels of an earlier call among it: without a library nobody knows whose they are. `model` is [`crate::model::Model::identity`] of the
/// model that gave them. The sidecar's path.
///
/// ```
/// use epsilon::library::sidecar::Name;
/// use epsilon::library::{Label, add_to_sidecar, xmp};
///
/// let folder = tempfile::tempdir()?;
/// let photo = folder.path().join("sea.jpg");
/// let label = |name: &str| Label {
///     name: name.into(),
///     parents: Vec::new(),
///     score: Some(1.5),
///     probability: None,
///     seen: true,
/// };
/// let path = add_to_sidecar(&photo, vec![label("sea"), label("sky")], Name::Full, "a model")?;
/// add_to_sidecar(&photo, vec![label("sky"), label("boat")], Name::Full, "a model")?;
/// assert_eq!(xmp::read(&std::fs::read_to_string(path)?)?.subject, ["sea", "sky", "boat"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`SidecarError`].
pub fn add_to_sidecar(
    photo: &Path,
    labels: Vec<Label>,
    name: Name,
    model: &str,
) -> Result<PathBuf, SidecarError> {
    let path = name.of(photo);
    let form = |reason| SidecarError::Form {
        path: path.clone(),
        reason,
    };
    let labels = labels.into_iter().map(|label| Labelled {
        label,
        state: State::Automatic,
    });
    let labels: Vec<Labelled> = labels.collect();
    let wanted = Wanted {
        labels: labels.iter().map(|of| of.label.subject()).collect(),
        told: labels.iter().map(|of| Told::of(of, None, model)).collect(),
        partly: false,
    };
    for _ in 0..TRIES {
        let found = sidecar::look(&path)?;
        let act = Act::of(found.text.as_deref(), &Owned::default(), &wanted).map_err(form)?;
        match act {
            Act::Write { text, .. } if found.replace(&text)? == Changed::Meanwhile => {}
            _ => return Ok(path),
        }
    }
    Err(form("is changed by another program time and again".into()))
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
        let nothing = Owned::default();
        let ours = match text {
            Some(text) if !ours.is_of(text) => &nothing,
            _ => ours,
        };
        let hash = |text: &str| files::sha256(text.as_bytes());
        let now: Vec<String> = text.map(hash).into_iter().collect();
        // Nobody else has written a byte of it.
        let all_ours = now.iter().all(|now| ours.made.contains(now));
        let made = |hashes: Vec<String>| if all_ours { hashes } else { Vec::new() };
        let there = text.map_or(Ok(Lists::default()), xmp::read)?;
        let told_there = text.map_or(Ok(Vec::new()), told::read)?;
        let plan = plan(&there, &ours.lists, wanted);
        let told = match wanted.partly {
            true => Told::and_what_is_left(&wanted.told, &told_there),
            false => wanted.told.clone(),
        };
        let after = |hashes| Owned {
            lists: plan.after.clone(),
            told: !told.is_empty(),
            made: made(hashes),
            away: false,
        };
        let intent = |hashes| Owned {
            lists: plan.intent.clone(),
            told: true,
            made: hashes,
            away: false,
        };
        if plan.is_done() && told == told_there {
            return Ok(Self::Nothing { after: after(now) });
        }
        if all_ours && plan.after.is_empty() && told.is_empty() {
            return Ok(Self::Remove {
                intent: intent(now),
            });
        }
        let text = xmp::edit(text.unwrap_or(xmp::EMPTY), &plan.gone, &plan.new)?;
        let text = told::write(&text, &told)?;
        let then = hash(&text);
        let both = [&now[..], std::slice::from_ref(&then)].concat();
        Ok(Self::Write {
            intent: intent(made(both)),
            after: after(vec![then]),
            text,
        })
    }
}
