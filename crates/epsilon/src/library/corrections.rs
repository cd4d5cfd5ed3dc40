//! `corrections.jsonl`: what the owner of a library says of its photographs' labels, whatever models say.
//!
//! Lines are appended, on the disk before the owner is told so, and never changed; of two lines about one label of a photograph
//! the later holds. Several processes may add: each append takes a lock, drops what a killed one left half written, and
//! reads what others added meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::lines::{News, Tail, below};
use super::ownership::folded;
use super::scan::modified;
use super::sidecar::Name;
use super::{Label, Library, LibraryError, Photo, Scan, failed};
use epsilon_data::{files, paths};

const NAME: &str = "corrections.jsonl";
const LOCK: &str = "corrections.lock";
const HINT: &str = "mend the line or take it out; the other lines hold";

/// What the owner says of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is there.
    Approved,
    /// It is not there.
    Rejected,
    /// Nothing any more: an earlier word is taken back.
    Withdrawn,
}

/// What the program had said when the owner judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// [`crate::model::Model::identity`] of the model that proposed the label.
    pub model: String,
    /// How probable it was, where the model is calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
}

/// The owner's word on one label of a photograph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    /// [`Photo::id`].
    pub photo: String,
    /// The label's name. Upper and lower case and Unicode forms make no other label ([`folded`]).
    pub label: String,
    /// Its parents, from the top down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// The word.
    pub verdict: Verdict,
    /// When it was said, in seconds after 1970; see [`now`].
    pub at: u64,
    /// What the program had said of the label, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Proposal>,
}

/// Whether the owner has looked at all of a photograph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reviewed {
    /// [`Photo::id`].
    pub photo: String,
    /// If so, any label that is not approved is not there.
    pub reviewed: bool,
    /// When it was said, in seconds after 1970; see [`now`].
    pub at: u64,
}

/// A line that is added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// About a label.
    Label(Correction),
    /// About a photograph as a whole.
    Photo(Reviewed),
}

impl Line {
    /// [`Photo::id`] of the photograph that it is about.
    pub fn photo(&self) -> &str {
        match self {
            Self::Label(correction) => &correction.photo,
            Self::Photo(reviewed) => &reviewed.photo,
        }
    }

    fn check(&self) -> Result<(), LibraryError> {
        if !paths::is_below(self.photo()) {
            return Err(LibraryError::Photo {
                photo: self.photo().into(),
            });
        }
        let Self::Label(correction) = self else {
            return Ok(());
        };
        let names = std::iter::once(&correction.label).chain(&correction.parents);
        let is_none = |name: &&String| name.trim().is_empty() || name.chars().any(char::is_control);
        match names.into_iter().find(is_none) {
            Some(name) => Err(LibraryError::Label {
                label: name.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// Seconds after 1970, as lines have them.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The content of a photograph's file, by which it is found under another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    photo: String,
    bytes: u64,
    modified: u64,
    sha256: String,
}

/// A photograph is now found under another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Moved {
    photo: String,
    to: String,
    at: u64,
}

/// What stands in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Record {
    Said(Line),
    Content(Content),
    Moved(Moved),
}

impl Record {
    fn read(line: &[u8]) -> serde_json::Result<Self> {
        let record: Self = serde_json::from_slice(line)?;
        record.photos().into_iter().try_for_each(below)?;
        Ok(record)
    }

    /// [`Photo::id`] of the photographs that it is about.
    fn photos(&self) -> Vec<&str> {
        match self {
            Self::Said(line) => vec![line.photo()],
            Self::Content(content) => vec![&content.photo],
            Self::Moved(moved) => vec![&moved.photo, &moved.to],
        }
    }
}

/// The word that holds for a label.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The label, as the owner last named it.
    pub name: String,
    /// Its parents, from the top down.
    pub parents: Vec<String>,
    /// [`Verdict::Approved`] or [`Verdict::Rejected`].
    pub verdict: Verdict,
    /// When it was said, in seconds after 1970.
    pub at: u64,
    /// What the program had said of the label, if it did.
    pub by: Option<Proposal>,
}

impl Judged {
    /// The label, without a model's score.
    pub fn label(&self) -> Label {
        Label {
            name: self.name.clone(),
            parents: self.parents.clone(),
            score: None,
            probability: None,
            seen: false,
        }
    }
}

/// What holds for a photograph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Opinion {
    /// The words on its labels, by their [`folded`] names.
    pub labels: BTreeMap<String, Judged>,
    /// Whether the owner has looked at all of it: any label that is not approved is not there.
    pub reviewed: bool,
    /// When that was last said or taken back, in seconds after 1970; 0 where it never was.
    pub reviewed_at: u64,
}

impl Opinion {
    fn is_nothing(&self) -> bool {
        self.labels.is_empty() && !self.reviewed
    }

    /// What became of a label with this name.
    pub fn state(&self, name: &str) -> State {
        let judged = self.labels.get(&folded(name));
        match judged.map(|judged| judged.verdict) {
            Some(Verdict::Approved) => State::Approved,
            Some(Verdict::Rejected) => State::Rejected,
            Some(Verdict::Withdrawn) | None if self.reviewed => State::Rejected,
            Some(Verdict::Withdrawn) | None => State::Automatic,
        }
    }

    /// When anything of it was last said, in seconds after 1970.
    fn latest(&self) -> u64 {
        let said = self.labels.values().map(|judged| judged.at);
        said.fold(self.reviewed_at, u64::max)
    }

    /// The labels that the owner says are there.
    pub fn approved(&self) -> impl Iterator<Item = &Judged> {
        self.with(Verdict::Approved)
    }

    /// The labels that the owner says are not there.
    pub fn rejected(&self) -> impl Iterator<Item = &Judged> {
        self.with(Verdict::Rejected)
    }

    /// The lines that say the same of a photograph.
    fn lines(&self, photo: &str) -> Vec<Line> {
        let labels = self.labels.values().cloned().map(|judged| {
            Line::Label(Correction {
                photo: photo.into(),
                label: judged.name,
                parents: judged.parents,
                verdict: judged.verdict,
                at: judged.at,
                by: judged.by,
            })
        });
        let reviewed = (self.reviewed_at > 0).then(|| {
            Line::Photo(Reviewed {
                photo: photo.into(),
                reviewed: self.reviewed,
                at: self.reviewed_at,
            })
        });
        labels.chain(reviewed).collect()
    }

    fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Judged> {
        let labels = self.labels.values();
        labels.filter(move |judged| judged.verdict == verdict)
    }

    fn hear(&mut self, said: Correction) {
        let key = folded(&said.label);
        if said.verdict == Verdict::Withdrawn {
            self.labels.remove(&key);
            return;
        }
        let judged = Judged {
            name: said.label,
            parents: said.parents,
            verdict: said.verdict,
            at: said.at,
            by: said.by,
        };
        self.labels.insert(key, judged);
    }
}

/// What became of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A model keeps it, and the owner has said nothing.
    Automatic,
    /// The owner says that it is there.
    Approved,
    /// The owner says that it is not there.
    Rejected,
}

impl State {
    const ALL: [Self; 3] = [Self::Automatic, Self::Approved, Self::Rejected];

    /// As files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
        }
    }

    /// The state of this name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A label and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    /// The label.
    #[serde(flatten)]
    pub label: Label,
    /// What became of it.
    pub state: State,
}

impl Labelled {
    /// Whether it belongs to the photograph as far as is known.
    pub fn is_kept(&self) -> bool {
        self.state != State::Rejected
    }
}

/// The corrections of a library: a snapshot that can be brought up to date and added to.
///
/// ```
/// use epsilon::library::{Correction, Corrections, Line, State, Verdict, now};
///
/// let library = tempfile::tempdir()?;
/// let mut corrections = Corrections::open(library.path())?;
/// corrections.add(&[Line::Label(Correction {
///     photo: "2024/sea.jpg".into(),
///     label: "Dog".into(),
///     parents: Vec::new(),
///     verdict: Verdict::Approved,
///     at: now(),
///     by: None,
/// })])?;
/// let there = Corrections::read(library.path())?;
/// assert_eq!(there.of("2024/sea.jpg").map(|opinion| opinion.state("dog")), Some(State::Approved));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Corrections {
    path: PathBuf,
    /// The folder of photographs, where the library says which.
    photos: Option<PathBuf>,
    opinions: BTreeMap<String, Opinion>,
    contents: HashMap<String, Content>,
    tail: Tail,
}

impl Corrections {
    /// A snapshot of the corrections in a library's folder; nothing is changed there, and where there is no file nothing was said.
    ///
    /// # Errors
    /// When the file cannot be read, or a line other than a last half one is damaged.
    pub fn read(library: &Path) -> Result<Self, LibraryError> {
        let path = library.join(NAME);
        let mut corrections = Self {
            tail: Tail::new(path.clone()),
            path,
            photos: None,
            opinions: BTreeMap::new(),
            contents: HashMap::new(),
        };
        corrections.refresh()?;
        Ok(corrections)
    }

    /// As [`Corrections::read`], to be added to. Where the folder holds a library, the content of each photograph that is
    /// spoken of is remembered, too, so that a renamed one keeps its corrections.
    ///
    /// # Errors
    /// As [`Corrections::read`], and for a damaged `library.json`.
    pub fn open(library: &Path) -> Result<Self, LibraryError> {
        let photos = match Library::read(library) {
            Ok((library, _)) => Some(library.photos),
            Err(LibraryError::None { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            photos,
            ..Self::read(library)?
        })
    }

    /// Adds lines; when it returns, they are on the disk.
    ///
    /// # Errors
    /// [`LibraryError::Photo`] and [`LibraryError::Label`], then nothing is added; when they cannot be written.
    pub fn add(&mut self, lines: &[Line]) -> Result<(), LibraryError> {
        lines.iter().try_for_each(Line::check)?;
        let photos: BTreeSet<&str> = lines.iter().map(Line::photo).collect();
        let contents = photos.into_iter().filter_map(|photo| self.content(photo));
        let contents = contents.map(Record::Content);
        let said = lines.iter().cloned().map(Record::Said);
        self.append(&contents.chain(said).collect::<Vec<Record>>())
    }

    /// Reads what was added since; whether anything was.
    ///
    /// # Errors
    /// As [`Corrections::read`].
    pub fn refresh(&mut self) -> Result<bool, LibraryError> {
        let was_read = self.tail.end() > 0;
        match self.read_on() {
            // Somebody may have edited the file where it lies: then it is another one now.
            Err(_) if was_read => {
                self.tail = Tail::new(self.path.clone());
                self.read_on()
            }
            read => read,
        }
    }

    fn read_on(&mut self) -> Result<bool, LibraryError> {
        let mut records = Vec::new();
        let news = self.tail.read(HINT, &mut |line| {
            records.push(Record::read(line)?);
            Ok(())
        })?;
        if news == News::Anew {
            self.opinions.clear();
            self.contents.clear();
        }
        records.into_iter().for_each(|record| self.take(record));
        Ok(news != News::None)
    }

    /// What holds for a photograph, if anything was said.
    pub fn of(&self, photo: &str) -> Option<&Opinion> {
        self.opinions.get(photo)
    }

    /// All photographs of which anything was said, by their ids.
    pub fn photos(&self) -> impl Iterator<Item = (&str, &Opinion)> {
        let opinions = self.opinions.iter();
        opinions.map(|(photo, opinion)| (photo.as_str(), opinion))
    }

    /// What holds for the photographs that a sidecar of this [`Name::key`] belongs to.
    pub(super) fn of_sidecar(&self, key: &str) -> impl Iterator<Item = &Opinion> {
        let stem = key.strip_suffix(".xmp").unwrap_or(key);
        let endings = format!("{stem}.");
        // A sidecar is named after the whole name of its photograph, or after what stands before that one's ending.
        let whole = self.opinions.get_key_value(stem);
        let begin = self.opinions.range(endings.clone()..);
        let begin = begin.take_while(move |(id, _)| id.starts_with(&endings));
        let its = whole.into_iter().chain(begin);
        let its = its.filter(move |(id, _)| Name::ALL.iter().any(|name| name.key(id) == key));
        its.map(|(_, opinion)| opinion)
    }

    /// A model's labels of a photograph with the owner's word applied: rejected ones are marked, approved ones have the name and
    /// parents that the owner gave them, and those that the model did not keep stand at the end. All that is not approved of a
    /// photograph that was reviewed is rejected.
    pub fn apply(&self, photo: &str, labels: Vec<Label>) -> Vec<Labelled> {
        let Some(opinion) = self.of(photo) else {
            let state = State::Automatic;
            let labels = labels.into_iter();
            return labels.map(|label| Labelled { label, state }).collect();
        };
        let approved = opinion.approved();
        let mut left: BTreeMap<String, &Judged> = approved.map(|j| (folded(&j.name), j)).collect();
        let mut applied = Vec::with_capacity(labels.len());
        for mut label in labels {
            if let Some(judged) = left.remove(&folded(&label.name)) {
                label.name.clone_from(&judged.name);
                label.parents.clone_from(&judged.parents);
            }
            let state = opinion.state(&label.name);
            applied.push(Labelled { label, state });
        }
        applied.extend(left.into_values().map(|judged| Labelled {
            label: judged.label(),
            state: State::Approved,
        }));
        applied
    }

    /// Follows photographs that were renamed or moved: what was said of one that is gone is said of a new one with the same
    /// content. Where it is `doubted` that one is gone, it is said of both: its disk may only be away, and once the new one is known
    /// it could not be followed any more. Also remembers the content of those that have changed. How many were followed.
    ///
    /// # Errors
    /// As [`Corrections::add`].
    pub(crate) fn follow(
        &mut self,
        folder: &Path,
        scan: &Scan,
        is_known: impl Fn(&str) -> bool,
        doubted: &HashSet<&str>,
    ) -> Result<usize, LibraryError> {
        let photos = scan.photos.iter();
        let changed = photos.clone().filter(|photo| self.of(&photo.id).is_some());
        let changed = changed.filter_map(|photo| self.content(&photo.id));
        let mut records: Vec<Record> = changed.map(Record::Content).collect();
        let is_new = |photo: &&Photo| !is_known(&photo.id) && self.of(&photo.id).is_none();
        let (mut gone, mut followed) = (self.gone(folder, scan), 0);
        for photo in photos.filter(is_new) {
            let Some(same_size) = gone.get_mut(&photo.bytes) else {
                continue;
            };
            // One that cannot be read is named when it is tagged.
            let Ok(sha256) = files::sha256_of(&photo.path) else {
                continue;
            };
            let same = same_size.iter().enumerate();
            let same = same.filter(|(_, gone)| gone.sha256 == sha256);
            // Of several, such as one that was copied from another when both were doubted, the one of which was spoken last.
            let last = same.max_by_key(|(_, gone)| {
                let is_gone = !doubted.contains(gone.photo.as_str());
                (self.of(&gone.photo).map(Opinion::latest), is_gone)
            });
            if let Some((place, _)) = last {
                followed += 1;
                let gone = same_size.swap_remove(place);
                match doubted.contains(gone.photo.as_str()) {
                    true => records.extend(self.said_of_both(gone, photo)),
                    false => records.push(Record::Moved(Moved {
                        photo: gone.photo.clone(),
                        to: photo.id.clone(),
                        at: now(),
                    })),
                }
            }
        }
        self.append(&records)?;
        Ok(followed)
    }

    /// What says of another photograph of the same content what holds for one.
    fn said_of_both(&self, one: &Content, other: &Photo) -> Vec<Record> {
        let lines = self.of(&one.photo).map(|opinion| opinion.lines(&other.id));
        let lines = lines.into_iter().flatten().map(Record::Said);
        let content = Record::Content(Content {
            photo: other.id.clone(),
            bytes: other.bytes,
            modified: other.modified,
            sha256: one.sha256.clone(),
        });
        lines.chain([content]).collect()
    }

    /// The contents, by their size, of photographs that were spoken of and are not to be seen where they were.
    fn gone(&self, folder: &Path, scan: &Scan) -> HashMap<u64, Vec<&Content>> {
        let there: HashSet<&str> = scan.photos.iter().map(|photo| photo.id.as_str()).collect();
        let unread = scan.unread();
        let mut gone: HashMap<u64, Vec<&Content>> = HashMap::new();
        for id in self.opinions.keys() {
            let path = folder.join(paths::path(id));
            if there.contains(id.as_str()) || unread.hides(&path) || path.exists() {
                continue;
            }
            if let Some(content) = self.contents.get(id) {
                gone.entry(content.bytes).or_default().push(content);
            }
        }
        gone
    }

    /// The content of a photograph's file where it is not known yet; none for one that cannot be read.
    fn content(&self, photo: &str) -> Option<Content> {
        let path = self.photos.as_ref()?.join(paths::path(photo));
        let about = path.metadata().ok()?;
        let (bytes, modified) = (about.len(), modified(&about).ok()?);
        let known = self.contents.get(photo);
        if known.is_some_and(|known| (known.bytes, known.modified) == (bytes, modified)) {
            return None;
        }
        Some(Content {
            photo: photo.into(),
            bytes,
            modified,
            sha256: files::sha256_of(&path).ok()?,
        })
    }

    fn append(&mut self, records: &[Record]) -> Result<(), LibraryError> {
        if records.is_empty() {
            return Ok(());
        }
        let text = lines(records).map_err(|error| failed(&self.path, error.into()))?;
        let place = self.path.with_file_name(LOCK);
        let lock = files::own(&place).and_then(|file| file.lock().map(|()| file));
        let _lock = lock.map_err(|source| failed(&place, source))?;
        self.refresh()?;
        let file = files::own(&self.path);
        let written = file.and_then(|mut file| self.write_end(&mut file, &text));
        written.map_err(|source| failed(&self.path, source))?;
        self.refresh()?;
        Ok(())
    }

    /// Writes lines behind the last whole one. A last line that only lacks its end, as an editor may leave it, gets one; what a
    /// killed process left half written goes.
    fn write_end(&self, file: &mut File, text: &[u8]) -> std::io::Result<()> {
        let mut rest = Vec::new();
        file.seek(SeekFrom::Start(self.tail.end()))?;
        file.read_to_end(&mut rest)?;
        let mut end = self.tail.end();
        if Record::read(&rest).is_ok() {
            file.write_all(b"\n")?;
            end += rest.len() as u64 + 1;
        }
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        let written = file.write_all(text).and_then(|()| file.sync_data());
        if written.is_err() {
            // Nothing of it was promised; a half line that stays is dropped the next time.
            let _ = file.set_len(end);
        }
        written
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Said(line) => {
                let photo = line.photo().to_string();
                let mut opinion = self.opinions.remove(&photo).unwrap_or_default();
                match line {
                    Line::Label(correction) => opinion.hear(correction),
                    Line::Photo(said) => {
                        (opinion.reviewed, opinion.reviewed_at) = (said.reviewed, said.at);
                    }
                }
                if !opinion.is_nothing() {
                    self.opinions.insert(photo, opinion);
                }
            }
            Record::Content(content) => {
                self.contents.insert(content.photo.clone(), content);
            }
            Record::Moved(moved) => self.rename(&moved.photo, moved.to),
        }
    }

    fn rename(&mut self, from: &str, to: String) {
        if let Some(mut content) = self.contents.remove(from) {
            content.photo.clone_from(&to);
            self.contents.insert(to.clone(), content);
        }
        if let Some(mut opinion) = self.opinions.remove(from) {
            // What was said of the new name is the later word.
            let later = self.opinions.remove(&to).unwrap_or_default();
            opinion.labels.extend(later.labels);
            if later.reviewed_at > 0 {
                (opinion.reviewed, opinion.reviewed_at) = (later.reviewed, later.reviewed_at);
            }
            self.opinions.insert(to, opinion);
        }
    }
}

/// Records as they stand in the file.
fn lines(records: &[Record]) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    for record in records {
        serde_json::to_writer(&mut text, record)?;
        text.push(b'\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
