//! A folder of photographs tagged by a [`Predictor`]: what is new or has changed is tagged, what is gone is forgotten.
//!
//! What is known is kept in the folder's [`Library`]. A round that is stopped, however, loses at most one batch: the next one
//! goes on from there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::calibration::Calibration;
use crate::library::sidecar::{self, Subject};
use crate::library::tags_csv;
use crate::library::{Entry, Journal, Label, Library, LibraryError, Outcome, Photo, Scan};
use crate::library::{PatternError, Walk, digest};
use crate::model::{Keep, Ranker};
use crate::predictor::{PredictError, Predictor};
use crate::semantic_index::{IndexError, IndexInfo, IndexWriter};
use epsilon_data::labels::{LabelError, read_names};
use epsilon_data::paths::shown;
use epsilon_vision::tokens::{self, Failure, FeatureBatch};

/// What can go wrong with a tagging as a whole. A photograph that fails is none of it: see [`TagEvent::Failed`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// The library's own files.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The index of semantic vectors.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The words, or the backbone.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// The list of words.
    #[error(transparent)]
    Words(#[from] LabelError),
    /// A pattern for what is left out.
    #[error(transparent)]
    Exclude(#[from] PatternError),
    /// A line of the list of words that names no word.
    #[error("{}: {line:?}: between two | stands no word", shown(path))]
    Line {
        /// The list.
        path: PathBuf,
        /// The line.
        line: String,
    },
    /// A file or folder that cannot be read or written.
    #[error("{}: {reason}", shown(path))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The observer has broken off.
    #[error("stopped before all photographs were tagged")]
    Stopped,
}

/// How a photograph's sidecar is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SidecarName {
    /// `photo.jpg.xmp`, as darktable and digiKam have it.
    Full,
    /// `photo.xmp`.
    Stem,
}

impl SidecarName {
    /// The sidecar of a photograph.
    ///
    /// ```
    /// use epsilon::tagger::SidecarName;
    /// use std::path::Path;
    ///
    /// let photo = Path::new("2024/sea.jpg");
    /// assert_eq!(SidecarName::Full.of(photo), Path::new("2024/sea.jpg.xmp"));
    /// assert_eq!(SidecarName::Stem.of(photo), Path::new("2024/sea.xmp"));
    /// ```
    pub fn of(self, photo: &Path) -> PathBuf {
        match self {
            SidecarName::Full => {
                let mut name = photo.as_os_str().to_os_string();
                name.push(".xmp");
                name.into()
            }
            SidecarName::Stem => photo.with_extension("xmp"),
        }
    }
}

/// How a folder is tagged.
#[derive(Debug, Clone, PartialEq)]
pub struct TagOptions {
    /// Which labels of a photograph are kept.
    pub keep: Keep,
    /// Words to tag with, with their parents; the model's own labels where none are given.
    pub words: Option<Vec<Subject>>,
    /// The library's folder; [`Library::beside`] the photographs where none is given.
    pub library: Option<PathBuf>,
    /// Whether the labels are written into XMP sidecars, too, and how these are named.
    pub sidecars: Option<SidecarName>,
    /// A CSV file for all tags: photo, label, parents, score, probability, seen.
    pub csv: Option<PathBuf>,
    /// Patterns for what is left out of the folder, as [`Walk::new`] takes them.
    pub exclude: Vec<String>,
}

impl TagOptions {
    /// Tags with the model's own labels, kept in the library beside the photographs.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            words: None,
            library: None,
            sidecars: None,
            csv: None,
            exclude: Vec::new(),
        }
    }
}

/// Reads a list of words to tag with, one a line; `animal|dog` is the word dog below animal.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("words.txt");
/// std::fs::write(&path, "sea\nanimal|dog\n")?;
/// let words = epsilon::tagger::read_words(&path)?;
/// assert_eq!(words[0].name, "sea");
/// assert_eq!((&*words[1].name, &*words[1].parents), ("dog", &["animal".to_string()][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`TagError::Words`] for a list that cannot be read, [`TagError::Line`].
pub fn read_words(path: &Path) -> Result<Vec<Subject>, TagError> {
    let lines = read_names(path)?.into_iter();
    let words = lines.map(|line| {
        let parts: Vec<String> = line.split('|').map(|part| part.trim().into()).collect();
        let whole = parts.iter().all(|part| !part.is_empty());
        let word = subject(parts).filter(|_| whole);
        word.ok_or_else(|| TagError::Line {
            path: path.into(),
            line,
        })
    });
    words.collect()
}

/// What happens while a folder is tagged.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum TagEvent<'a> {
    /// So many photographs are new or have changed.
    Begin(usize),
    /// A photograph was tagged.
    Tagged(&'a Entry),
    /// A photograph, a sidecar or a folder failed; the message names it.
    Failed(&'a str),
    /// A photograph's file is not quite right, but it was read; the message names it.
    Flawed(&'a str),
    /// So many more of the photographs are done, for better or worse, and on the disk.
    Done(usize),
}

/// Is told what happens, and can break a tagging off.
pub type Observe<'a> = dyn FnMut(TagEvent<'_>) -> ControlFlow<()> + 'a;

/// How a round over the folder went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagReport {
    /// Photographs that were tagged.
    pub tagged: usize,
    /// Photographs that had their tags already.
    pub unchanged: usize,
    /// Photographs, sidecars and folders that failed.
    pub failed: usize,
    /// Of those that were tagged, photographs whose files are not quite right.
    pub flawed: usize,
    /// Pictures of kinds that are not decoded, by their usual endings.
    pub others: BTreeMap<String, usize>,
    /// Photographs that were left for the next round because they may still be written.
    pub fresh: usize,
}

/// What decides a photograph's tags beside the photograph.
#[derive(Serialize)]
struct Settings<'a> {
    model: &'a str,
    labels: Vec<String>,
    vectors: &'a [f32],
    keep: Keep,
    calibration: Option<&'a Calibration>,
}

/// Tags the photographs of a folder and of the folders in it.
///
/// ```
/// # mod drawn { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/drawn.rs")); }
/// # use drawn::*;
/// # let made = drawn_model("epsilon")?;
/// # let (model, photos) = (made.path().join("model.safetensors"), made.path().join("data/test"));
/// use epsilon::model::Keep;
/// use epsilon::tagger::TagOptions;
/// use std::ops::ControlFlow;
///
/// let predictor = epsilon::Predictor::load(model)?;
/// let mut tagger = epsilon::Tagger::open(&predictor, &photos, TagOptions::new(Keep::best(3)))?;
/// let report = tagger.tag(&mut |_| ControlFlow::Continue(()))?;
/// assert_eq!((report.tagged, report.failed), (8, 0));
/// // A second round has nothing to do.
/// let report = tagger.tag(&mut |_| ControlFlow::Continue(()))?;
/// assert_eq!((report.tagged, report.unchanged), (0, 8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tagger<'a> {
    folder: PathBuf,
    walk: Walk,
    predictor: &'a Predictor,
    ranker: Ranker<'a>,
    words: Vec<Subject>,
    options: TagOptions,
    /// [`digest`] of what decides the tags.
    settings: String,
    journal: Journal,
    /// None for a method without semantic vectors.
    index: Option<IndexWriter>,
    library: PathBuf,
    _lock: File,
}

impl<'a> Tagger<'a> {
    /// Opens the library of a folder of photographs, or begins one. No other process can tag into it until this is dropped.
    ///
    /// # Errors
    /// [`TagError::File`] for a folder that cannot be read, [`TagError::Predict`] for words without a vector,
    /// [`TagError::Library`] for a library in use or damaged.
    pub fn open(
        predictor: &'a Predictor,
        folder: &Path,
        options: TagOptions,
    ) -> Result<Self, TagError> {
        let folder = absolute(folder)?;
        std::fs::read_dir(&folder).map_err(|reason| failed(&folder, reason))?;
        let walk = Walk::new(&folder, &options.exclude)?;
        let ranker = match &options.words {
            Some(words) => predictor.labels(words.iter().map(|word| &word.name))?,
            None => predictor.own_labels()?,
        };
        let words = options.words.clone().unwrap_or_else(|| {
            let names = ranker.labels().names().iter();
            let plain = names.map(|name| Subject {
                name: name.clone(),
                parents: Vec::new(),
            });
            plain.collect()
        });
        let identity = predictor.model().identity();
        let settings = digest(&Settings {
            model: &identity,
            labels: words.iter().map(|word| format!("{word:?}")).collect(),
            vectors: ranker.labels().values(),
            keep: options.keep,
            calibration: predictor.model().card().calibration(),
        })
        .map_err(|reason| failed(&folder, reason.into()))?;
        let library = match &options.library {
            // A folder that the user names may be a link; one that lies beside the photographs may not.
            Some(named) => named.canonicalize().unwrap_or_else(|_| named.clone()),
            None => Library::beside(&folder),
        };
        let lock = Library::lock(&library)?;
        let model = absolute(predictor.path())?;
        let index = index(predictor, &ranker, &Library::index(&library), &identity)?;
        Library::new(model, identity, folder.clone()).write(&library)?;
        Ok(Self {
            folder,
            walk,
            predictor,
            ranker,
            words,
            options,
            settings,
            journal: Journal::open(&library)?,
            index,
            library,
            _lock: lock,
        })
    }

    /// The library's folder.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// What of the folder is looked at.
    pub fn walk(&self) -> &Walk {
        &self.walk
    }

    /// The folder of photographs, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Tags what is new or has changed, and forgets what is gone.
    ///
    /// # Errors
    /// [`TagError`]; what was done until then stays done.
    pub fn tag(&mut self, observe: &mut Observe<'_>) -> Result<TagReport, TagError> {
        self.tag_settled(Duration::ZERO, observe)
    }

    /// As [`Tagger::tag`], of photographs that were last changed at least so long ago: younger ones may still be written.
    ///
    /// # Errors
    /// As [`Tagger::tag`].
    pub fn tag_settled(
        &mut self,
        settle: Duration,
        observe: &mut Observe<'_>,
    ) -> Result<TagReport, TagError> {
        let Scan {
            mut photos,
            failed,
            others,
        } = self.walk.scan();
        let mut round = Round {
            report: TagReport {
                others,
                ..TagReport::default()
            },
            observe,
        };
        failed.iter().try_for_each(|reason| round.fail(reason))?;
        self.forget(&photos)?;
        let found = photos.len();
        photos.retain(|photo| photo.age() >= settle);
        round.report.fresh = found - photos.len();
        let (known, new): (Vec<Photo>, Vec<Photo>) =
            photos.into_iter().partition(|photo| self.is_known(photo));
        self.unchanged(&known, &mut round)?;
        self.tag_new(&new, &mut round)?;
        self.journal.tidy()?;
        if let Some(path) = &self.options.csv {
            self.write_csv(path)?;
        }
        Ok(round.report)
    }

    /// Whether nothing of a photograph's tags has to be made anew.
    fn is_known(&self, photo: &Photo) -> bool {
        let indexed = |index: &IndexWriter| index.contains(&photo.id);
        self.journal.known().get(&photo.id).is_some_and(|known| {
            known.is_of(photo, &self.settings)
                && (known.failed || self.index.as_ref().is_none_or(indexed))
        })
    }

    /// Forgets photographs that are not in the folder any more.
    fn forget(&mut self, photos: &[Photo]) -> Result<(), TagError> {
        let there: HashSet<&str> = photos.iter().map(|photo| photo.id.as_str()).collect();
        let known = self.journal.known().keys();
        let gone = known.filter(|id| !there.contains(id.as_str()));
        for id in gone.cloned().collect::<Vec<_>>() {
            self.journal.forget(&id);
        }
        if let Some(index) = &mut self.index {
            let gone = index.ids().filter(|id| !there.contains(id));
            let gone: Vec<String> = gone.map(String::from).collect();
            gone.iter().for_each(|id| index.remove(id));
        }
        self.commit_index()
    }

    fn commit_index(&mut self) -> Result<(), TagError> {
        match &mut self.index {
            Some(index) => Ok(index.commit()?),
            None => Ok(()),
        }
    }

    /// Names what failed before, and writes sidecars where these are wanted now.
    fn unchanged(&mut self, photos: &[Photo], round: &mut Round<'_, '_>) -> Result<(), TagError> {
        for photo in photos {
            let known = &self.journal.known()[&photo.id];
            let wanted = self.options.sidecars.is_some() && !known.sidecar;
            if !known.failed && !wanted {
                round.report.unchanged += 1;
                continue;
            }
            let Some(mut entry) = self.journal.entry(&photo.id)? else {
                continue;
            };
            match entry.outcome.clone() {
                Outcome::Error(reason) => round.fail(&reason)?,
                Outcome::Labels(labels) => {
                    self.write_sidecar(photo, &labels, &mut entry, round)?;
                    self.journal.add(&[entry])?;
                    round.report.unchanged += 1;
                }
            }
        }
        Ok(())
    }

    fn tag_new(&mut self, photos: &[Photo], round: &mut Round<'_, '_>) -> Result<(), TagError> {
        let items: Vec<(String, PathBuf)> = photos
            .iter()
            .map(|photo| (photo.id.clone(), photo.path.clone()))
            .collect();
        let by_id: HashMap<&str, &Photo> = photos.iter().map(|p| (p.id.as_str(), p)).collect();
        round.tell(TagEvent::Begin(photos.len()))?;
        let mut ended = Ok(());
        let predictor = self.predictor;
        let (backbone, limits) = (predictor.backbone(), predictor.limits());
        tokens::run(&items, backbone, limits, &mut |batch| {
            ended = self.batch(batch, &by_id, round);
            match ended {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })
        .map_err(PredictError::Forward)?;
        ended
    }

    fn batch(
        &mut self,
        batch: &FeatureBatch,
        photos: &HashMap<&str, &Photo>,
        round: &mut Round<'_, '_>,
    ) -> Result<(), TagError> {
        let FeatureBatch {
            ids,
            features,
            failed,
            flawed,
            ..
        } = batch;
        let mut entries = Vec::new();
        for Failure { reason, .. } in flawed {
            round.report.flawed += 1;
            round.tell(TagEvent::Flawed(reason))?;
        }
        for Failure { id, reason } in failed {
            round.fail(reason)?;
            if let Some(index) = &mut self.index {
                // The vectors of an earlier picture of that name.
                index.remove(id);
            }
            entries.push(self.entry(photos[id.as_str()], Outcome::Error(reason.clone())));
        }
        let (tokens, global) = (features.tokens.clone(), features.global.clone());
        let (rankings, vectors) = self.ranker.rank_with_vectors(ids.len(), tokens, global);
        if let (Some(index), Some(vectors)) = (&mut self.index, vectors) {
            let rows = vectors.values.chunks(vectors.values.len() / ids.len());
            for (id, rows) in ids.iter().zip(rows) {
                index.push(id, rows)?;
            }
        }
        for (id, ranking) in ids.iter().zip(rankings) {
            let photo = photos[id.as_str()];
            let kept = ranking.keep(&self.options.keep).into_iter();
            let labels = kept.map(|label| {
                let parents = self.parents(&label.name);
                Label::of(label, parents)
            });
            let labels: Vec<Label> = labels.collect();
            let mut entry = self.entry(photo, Outcome::Labels(labels.clone()));
            self.write_sidecar(photo, &labels, &mut entry, round)?;
            round.tell(TagEvent::Tagged(&entry))?;
            entries.push(entry);
            round.report.tagged += 1;
        }
        // First the index: what the journal says is done is never missing there.
        self.commit_index()?;
        self.journal.add(&entries)?;
        round.tell(TagEvent::Done(entries.len()))
    }

    fn parents(&self, name: &str) -> Vec<String> {
        let word = self.words.iter().find(|word| word.name == name);
        word.map_or(Vec::new(), |word| word.parents.clone())
    }

    fn entry(&self, photo: &Photo, outcome: Outcome) -> Entry {
        Entry {
            photo: photo.id.clone(),
            bytes: photo.bytes,
            modified: photo.modified,
            settings: self.settings.clone(),
            outcome,
            sidecar: None,
        }
    }

    /// Writes a photograph's labels into its sidecar, where these are wanted, and what was added there into its entry. A
    /// sidecar that cannot be written is named, and tried again the next time.
    fn write_sidecar(
        &self,
        photo: &Photo,
        labels: &[Label],
        entry: &mut Entry,
        round: &mut Round<'_, '_>,
    ) -> Result<(), TagError> {
        let Some(name) = self.options.sidecars else {
            return Ok(());
        };
        let subjects: Vec<Subject> = labels.iter().map(Label::subject).collect();
        let before = match self.journal.entry(&photo.id) {
            Ok(entry) => entry.and_then(|entry| entry.sidecar).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let before: Vec<Subject> = before.into_iter().filter_map(subject).collect();
        match sidecar::update(&name.of(&photo.path), &subjects, &before) {
            Ok(added) => {
                entry.sidecar = Some(added.into_iter().map(path).collect());
                Ok(())
            }
            Err(error) => round.fail(&error.to_string()),
        }
    }

    /// All tags of the library, a line for every label of a photograph.
    fn write_csv(&self, path: &Path) -> Result<(), TagError> {
        tags_csv::write(path, &self.journal).map_err(|reason| failed(path, reason))
    }
}

/// A round that is under way.
struct Round<'a, 'o> {
    report: TagReport,
    observe: &'a mut Observe<'o>,
}

impl Round<'_, '_> {
    fn tell(&mut self, event: TagEvent<'_>) -> Result<(), TagError> {
        match (self.observe)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TagError::Stopped),
        }
    }

    fn fail(&mut self, reason: &str) -> Result<(), TagError> {
        self.report.failed += 1;
        self.tell(TagEvent::Failed(reason))
    }
}

/// The index of semantic vectors, that of another model thrown away; none where the method has no such vectors.
fn index(
    predictor: &Predictor,
    ranker: &Ranker<'_>,
    folder: &Path,
    identity: &str,
) -> Result<Option<IndexWriter>, TagError> {
    // The number of vectors that it makes of zeros is that of any image.
    let dims = predictor.model().card().dims();
    let tokens = vec![0.0; dims.tokens * dims.width];
    let (_, vectors) = ranker.rank_with_vectors(1, tokens, vec![0.0; dims.global_width()]);
    let Some(vectors) = vectors else {
        return Ok(None);
    };
    let info = IndexInfo {
        model: identity.into(),
        groups: vectors.groups,
        width: dims.label_width,
    };
    match IndexWriter::open(folder, &info) {
        Err(IndexError::OtherModel { .. }) => {
            std::fs::remove_dir_all(folder).map_err(|reason| failed(folder, reason))?;
            Ok(Some(IndexWriter::open(folder, &info)?))
        }
        opened => Ok(Some(opened?)),
    }
}

/// A subject from its names, from the top down.
fn subject(mut names: Vec<String>) -> Option<Subject> {
    Some(Subject {
        name: names.pop()?,
        parents: names,
    })
}

fn path(subject: Subject) -> Vec<String> {
    let Subject { name, mut parents } = subject;
    parents.push(name);
    parents
}

fn absolute(path: &Path) -> Result<PathBuf, TagError> {
    std::path::absolute(path).map_err(|reason| failed(path, reason))
}

fn failed(path: &Path, reason: io::Error) -> TagError {
    TagError::File {
        path: path.into(),
        reason,
    }
}
