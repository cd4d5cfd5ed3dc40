//! A folder of photographs tagged by a [`Predictor`]: what is new or has changed is tagged, what is gone is forgotten.
//!
//! What is known is kept in the folder's [`Library`]. A round that is stopped, however, loses at most one batch: the next one
//! goes on from there.

mod batch;
mod error;
mod index;
mod options;
mod ranked;
mod report;
mod sidecars;

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use same_file::Handle;

pub use self::error::TagError;
use self::error::{absolute, absolute_file, failed};
use self::index::Indices;
pub use self::options::{TagOptions, read_words, subjects};
pub use self::ranked::{assist, dismiss};
use self::report::Round;
pub use self::report::{Observe, TagEvent, TagReport};
use self::sidecars::Kept;
use crate::library::ownership::Subject;
pub use crate::library::sidecar::Name as SidecarName;
use crate::library::{
    Corrections, Journal, Library, Outcome, Photo, Places, Scan, Sidecars, Unseen, Walk,
};
use crate::library::{digest, tags_csv, unseen};
use crate::model::Ranker;
use crate::predictor::Predictor;
use crate::ranks::{Alone, Ranks};
use epsilon_data::paths::shown;

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
    /// The folder itself, wherever it is moved.
    handle: Handle,
    predictor: &'a Predictor,
    ranker: Ranker,
    words: Vec<Subject>,
    options: TagOptions,
    /// [`digest`] of what decides the tags.
    settings: String,
    /// [`Model::identity`](crate::model::Model::identity) of the model.
    identity: String,
    journal: Journal,
    corrections: Corrections,
    sidecars: Sidecars,
    indices: Indices,
    library: PathBuf,
    ranks: Arc<dyn Ranks>,
    /// See [`Tagger::seen`].
    seen: u64,
    _lock: File,
}

impl<'a> Tagger<'a> {
    /// Opens the library of a folder of photographs, or begins one. No other process can tag into it until this is dropped.
    ///
    /// # Errors
    /// [`TagError::File`] for a folder that cannot be read, [`TagError::Predict`] for words without a vector,
    /// [`TagError::Library`] for a library in use, of other photographs, or damaged.
    pub fn open(
        predictor: &'a Predictor,
        folder: &Path,
        options: TagOptions,
    ) -> Result<Self, TagError> {
        let folder = absolute(folder)?;
        std::fs::read_dir(&folder).map_err(|reason| failed(&folder, reason))?;
        let handle = Handle::from_path(&folder).map_err(|reason| failed(&folder, reason))?;
        let walk = Walk::new(&folder, &options.exclude)?;
        let ranker = match &options.words {
            Some(words) => predictor.labels(words.iter().map(|word| &word.name))?,
            None => predictor.own_labels()?,
        };
        let words = options.all_words(&ranker);
        let settings = options.settings(predictor, &ranker, &words);
        let settings = digest(&settings).map_err(|reason| failed(&folder, reason.into()))?;
        let library = match &options.library {
            // A folder that the user names may be a link; one that lies beside the photographs may not.
            Some(named) => named.canonicalize().unwrap_or_else(|_| named.clone()),
            None => Library::beside(&folder),
        };
        let lock = Library::lock(&library)?;
        Library::check_is_of(&library, &folder)?;
        let model = absolute(predictor.path())?;
        let identity = predictor.model().identity();
        let indices = Indices::open(predictor, &ranker, &library, &identity)?;
        let mut described = Library::new(model, identity.clone(), folder.clone());
        described.vectors = predictor.vectors().map(absolute_file).transpose()?;
        described.classes = predictor.classes().map(absolute).transpose()?;
        described.settings = Some(settings.clone());
        described.write(&library)?;
        let journal = Journal::open(&library)?;
        Ok(Self {
            sidecars: Sidecars::open(&library, &folder, &journal)?,
            folder,
            walk,
            handle,
            predictor,
            ranker,
            words,
            options,
            settings,
            identity,
            corrections: Corrections::open(&library)?,
            journal,
            indices,
            library,
            ranks: Arc::new(Alone),
            seen: 0,
            _lock: lock,
        })
    }

    /// Tags together with the other ranks of a job, which [`assist`] until this one [dismisses](dismiss) them, on a file system that
    /// all of them see.
    #[must_use]
    pub fn with_ranks(mut self, ranks: Arc<dyn Ranks>) -> Self {
        self.ranks = ranks;
        self
    }

    /// The library's folder.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// [`Scan::digest`] of what the last round found in the folder when it began; 0 before the first.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// What of the folder is looked at.
    pub fn walk(&self) -> &Walk {
        &self.walk
    }

    /// The folder of photographs, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the folder of photographs and the library are still where they were opened.
    ///
    /// # Errors
    /// [`TagError::Moved`], [`LibraryError::Gone`](crate::library::LibraryError::Gone).
    pub fn check(&self) -> Result<(), TagError> {
        match Handle::from_path(&self.folder) {
            Ok(there) if there == self.handle => {}
            _ => {
                return Err(TagError::Moved {
                    folder: self.folder.clone(),
                });
            }
        }
        self.sidecars.check()?;
        Ok(self.journal.check()?)
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
        let scan = self.walk.scan();
        self.seen = scan.digest();
        // Afterwards: what was looked at is then surely the folder that was opened.
        self.check()?;
        let mut round = Round {
            report: TagReport::default(),
            observe,
        };
        for failed in &scan.failed {
            round.fail(&failed.reason)?;
        }
        let unseen = self.forget(&scan, &mut round)?;
        round.report.followed = self.follow(&scan, &unseen)?;
        let Scan { photos, others, .. } = scan;
        round.report.others = others;
        let name = self.options.sidecars;
        let mut kept = Kept::new(Places::of(&self.folder, &photos, &unseen.kept, name));
        let found = photos.len();
        let settled = photos.into_iter().filter(|photo| photo.age() >= settle);
        let settled: Vec<Photo> = settled.collect();
        round.report.fresh = found - settled.len();
        let (known, new): (Vec<Photo>, Vec<Photo>) =
            settled.into_iter().partition(|photo| self.is_known(photo));
        self.unchanged(&known, &mut round)?;
        self.tag_new(&new, &mut kept, &mut round)?;
        self.keep_sidecars(&mut kept, &mut round)?;
        self.orphans(&kept, &mut round)?;
        self.journal.tidy()?;
        self.sidecars.tidy()?;
        if let Some(path) = &self.options.csv {
            tags_csv::write(path, &self.journal, &self.corrections)
                .map_err(|reason| failed(path, reason))?;
        }
        Ok(round.report)
    }

    /// Whether nothing of a photograph's tags has to be made anew.
    fn is_known(&self, photo: &Photo) -> bool {
        self.journal.known().get(&photo.id).is_some_and(|known| {
            known.is_of(photo, &self.settings)
                && !known.again
                && (known.failed || self.indices.contain(&photo.id))
        })
    }

    /// Brings corrections of photographs that have a new name to them; how many these are.
    fn follow(&mut self, scan: &Scan, unseen: &Unseen) -> Result<usize, TagError> {
        let known = self.journal.known();
        let is_known = |id: &str| known.contains_key(id);
        let doubted = unseen.kept.iter().map(String::as_str).collect();
        let corrections = &mut self.corrections;
        Ok(corrections.follow(&self.folder, scan, is_known, &doubted)?)
    }

    /// Forgets photographs that are not in the folder any more.
    fn forget(&mut self, scan: &Scan, round: &mut Round<'_, '_>) -> Result<Unseen, TagError> {
        let known = self.journal.known().keys().map(String::as_str);
        let unseen = unseen(known, scan, &self.folder, self.options.forget_missing);
        if let Some((there, known)) = unseen.doubted {
            round.fail(&format!(
                "{}: of {known} known photographs {there} are there, so nothing was forgotten: where the others are gone for \
                 good, run it again with --forget-missing",
                shown(&self.folder)
            ))?;
        }
        unseen.gone.iter().for_each(|id| self.journal.forget(id));
        let seen = scan.photos.iter().map(|photo| &photo.id);
        let there: HashSet<&str> = seen.chain(&unseen.kept).map(String::as_str).collect();
        self.indices.keep(&there);
        self.indices.commit()?;
        Ok(unseen)
    }

    /// Names what failed before, and will again.
    fn unchanged(&self, photos: &[Photo], round: &mut Round<'_, '_>) -> Result<(), TagError> {
        for photo in photos {
            if !self.journal.known()[&photo.id].failed {
                round.report.unchanged += 1;
                continue;
            }
            let entry = self.journal.entry(&photo.id)?;
            if let Some(Outcome::Error(reason)) = entry.map(|entry| entry.outcome) {
                round.fail(&reason)?;
            }
        }
        Ok(())
    }
}
