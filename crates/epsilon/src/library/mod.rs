//! A tagged library: a folder of photographs and what is known of them, kept in a folder of its own.
//!
//! That folder holds `library.json` (which model, which photographs), `tags.jsonl` (a line for every photograph),
//! `sidecars.jsonl` (what was written into XMP sidecars), `corrections.jsonl` (what the owner says of labels) and `index` (the
//! photographs' semantic vectors).

mod catalog;
mod corrections;
pub mod dates;
mod export;
mod forget;
mod journal;
pub mod keywords;
mod kinds;
mod ledger;
mod lines;
pub mod ownership;
mod quick;
mod scan;
mod search;
#[cfg(test)]
mod sequences;
pub mod sidecar;
pub mod tags_csv;
pub mod thumbnails;
pub mod told;
mod upkeep;
pub mod xmp;

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use catalog::{Catalog, Filter, Item, Order, Telling, Untold};
pub use corrections::{
    Correction, Corrections, Judged, Labelled, Line, Opinion, Proposal, Reviewed, State, Verdict,
    now,
};
pub use dates::DateError;
pub use export::{Export, ExportError, Vectors};
pub use forget::{Unseen, unseen};
pub use journal::{Entry, Journal, Known, Label, Outcome};
pub use kinds::Tag;
pub use ledger::{Ledger, Owned};
pub use scan::{Failed, PatternError, Photo, Scan, Walk, photo_ids, scan};
pub use search::Match;
pub use upkeep::{Facts, Places, Sidecars, UpkeepError, add_to_sidecar};

use epsilon_data::files;
use epsilon_data::labels::VectorFile;
use epsilon_data::paths::shown;

const VERSION: u32 = 1;
const MANIFEST: &str = "library.json";
const LOCK: &str = "lock";

/// What can go wrong with a library's own files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", shown(path))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{}: {reason}", shown(path))]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of the library that is not any more the one that was opened.
    #[error(
        "{}: was removed or moved away while it was in use; what was written until then is where it went: run it again",
        shown(path)
    )]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// A library of another folder of photographs.
    #[error(
        "{}: this library is of {}, and what is known of its photographs must not be said of others: name another folder for the library \
         (`epsilon tag --out`, `epsilon learn --library`), or, if these are the same photographs in a new place, remove or rename the old folder",
        shown(folder),
        shown(photos)
    )]
    OtherPhotos {
        /// The library's folder.
        folder: PathBuf,
        /// The folder of photographs that it is of.
        photos: PathBuf,
    },
    /// A folder without a library.
    #[error(
        "{}: holds no tagged library (library.json): make one with `epsilon tag PHOTOS`",
        shown(folder)
    )]
    None {
        /// The folder.
        folder: PathBuf,
    },
    /// What cannot be a photograph's id.
    #[error("{photo:?}: is no path of a photograph from the folder of photographs")]
    Photo {
        /// The id.
        photo: String,
    },
    /// What cannot be a label's name.
    #[error("{label:?}: is no name of a label: it is empty or holds control characters")]
    Label {
        /// The name.
        label: String,
    },
    /// Another process is tagging into the same folder.
    #[error("{}: another process is tagging into this library", shown(folder))]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
}

impl LibraryError {
    /// Whether the disk, or what this program may do there, lets nothing be written.
    pub fn is_read_only(&self) -> bool {
        self.is_of(&[ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied])
    }

    /// Whether there is no room for what is to be written.
    pub fn is_full(&self) -> bool {
        self.is_of(&[ErrorKind::StorageFull, ErrorKind::QuotaExceeded])
    }

    fn is_of(&self, kinds: &[ErrorKind]) -> bool {
        matches!(self, Self::File { source, .. } if kinds.contains(&source.kind()))
    }
}

/// A library: which model tagged which photographs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    version: u32,
    /// The model's file, as an absolute path, or `hf:OWNER/NAME` of a network that takes its place. The file has it relative to the
    /// library where it lies in it.
    pub model: PathBuf,
    /// [`crate::model::Model::identity`] of it.
    pub identity: String,
    /// The folder of photographs, as an absolute path. The file has it relative to the library where that lies in the folder
    /// of photographs or beside it, so that both can be moved together.
    pub photos: PathBuf,
    /// The words' vectors that were given beside the model, with absolute paths; or `hf:OWNER/NAME` of a network whose text tower
    /// makes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vectors: Option<VectorFile>,
    /// The classes' names that were given beside the model, as an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<PathBuf>,
    /// [`digest`] of how photographs are tagged by it: [`Entry::settings`] of each that the model has tagged by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
}

impl Library {
    /// One of this model and these photographs.
    pub fn new(model: PathBuf, identity: String, photos: PathBuf) -> Self {
        Self {
            version: VERSION,
            model,
            identity,
            photos,
            vectors: None,
            classes: None,
            settings: None,
        }
    }

    /// Where a folder of photographs keeps its library unless told otherwise.
    pub fn beside(photos: &Path) -> PathBuf {
        photos.join(".epsilon")
    }

    /// The index of semantic vectors in a library's folder.
    pub fn index(folder: &Path) -> PathBuf {
        folder.join("index")
    }

    /// The index of how photographs look, in a library's folder.
    pub fn looks(folder: &Path) -> PathBuf {
        folder.join("looks")
    }

    /// What was learnt from a library, in its folder.
    pub fn learnt(folder: &Path) -> PathBuf {
        folder.join("learnt")
    }

    /// The model that was learnt from a library, in its folder, where it is not written elsewhere.
    pub fn model_file(folder: &Path) -> PathBuf {
        folder.join("model.safetensors")
    }

    /// Reads the library in this folder, or in [`Library::beside`] it; gives its folder, too.
    ///
    /// # Errors
    /// [`LibraryError::None`] where there is none, and for a damaged `library.json`.
    pub fn read(folder: &Path) -> Result<(Self, PathBuf), LibraryError> {
        let folders = [folder.to_path_buf(), Self::beside(folder)];
        let found = folders
            .into_iter()
            .find(|folder| folder.join(MANIFEST).exists());
        let Some(folder) = found else {
            return Err(LibraryError::None {
                folder: folder.into(),
            });
        };
        let path = folder.join(MANIFEST);
        let bytes =
            files::read(&path, files::DESCRIPTION).map_err(|source| failed(&path, source))?;
        let form = |reason: String| LibraryError::Form {
            path: path.clone(),
            reason,
        };
        let mut library: Self = serde_json::from_slice(&bytes).map_err(|e| form(e.to_string()))?;
        if library.version != VERSION {
            return Err(form(format!(
                "format version {}; this program reads version {VERSION}",
                library.version
            )));
        }
        let from = std::path::absolute(&folder).map_err(|source| failed(&folder, source))?;
        if library.photos.is_relative() {
            library.photos = resolved(&from, &library.photos);
        }
        // A name on the hub is no path from here.
        if library.model.components().next() == Some(Component::CurDir) {
            library.model = resolved(&from, &library.model);
        }
        Ok((library, folder))
    }

    /// Refuses a library's folder that is in use for other photographs: ids are paths, so that what is known of one folder would be
    /// said of another. A folder that is not there any more, or is empty, was moved, or its disk is mounted elsewhere; then, and where there
    /// is no library yet, it is free.
    ///
    /// # Errors
    /// [`LibraryError::OtherPhotos`].
    pub fn check_is_of(folder: &Path, photos: &Path) -> Result<(), LibraryError> {
        // The way to its photographs begins where it lies, not at a link to it.
        let place = folder.canonicalize().unwrap_or_else(|_| folder.into());
        let known = match Self::read(&place) {
            Ok((library, found)) if found == place => library.photos,
            // A damaged one names no photographs.
            _ => return Ok(()),
        };
        let is_same = same_file::is_same_file(&known, photos).unwrap_or(false);
        let is_empty = || std::fs::read_dir(&known).is_ok_and(|mut inside| inside.next().is_none());
        match is_same || !known.is_dir() || is_empty() {
            true => Ok(()),
            false => Err(LibraryError::OtherPhotos {
                folder: folder.into(),
                photos: known,
            }),
        }
    }

    /// Writes `library.json` into a folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), LibraryError> {
        let path = folder.join(MANIFEST);
        let from = std::path::absolute(folder).map_err(|source| failed(folder, source))?;
        let moving = Self {
            photos: relative(&from, &self.photos),
            model: match self.model.strip_prefix(&from) {
                Ok(within) => Path::new(".").join(within),
                Err(_) => self.model.clone(),
            },
            ..self.clone()
        };
        let text = serde_json::to_vec_pretty(&moving).map_err(|error| LibraryError::Form {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        files::write(&path, &text).map_err(|source| failed(&path, source))
    }

    /// Keeps other processes from tagging into the folder as long as the file lives; makes the folder.
    ///
    /// # Errors
    /// [`LibraryError::Busy`], and when the folder cannot be written.
    pub fn lock(folder: &Path) -> Result<File, LibraryError> {
        files::folder(folder).map_err(|source| failed(folder, source))?;
        let path = folder.join(LOCK);
        let file = files::own(&path).map_err(|source| failed(&path, source))?;
        match file.try_lock() {
            Ok(()) => {
                files::tidy(folder).map_err(|source| failed(folder, source))?;
                Ok(file)
            }
            Err(TryLockError::WouldBlock) => Err(LibraryError::Busy {
                folder: folder.into(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(&path, source)),
        }
    }
}

/// The way from a library to its photographs, where it lies in their folder or beside it; otherwise their path.
fn relative(library: &Path, photos: &Path) -> PathBuf {
    if let Ok(inside) = library.strip_prefix(photos) {
        let up = inside.components().map(|_| Component::ParentDir);
        return std::iter::once(Component::CurDir).chain(up).collect();
    }
    match (library.parent() == photos.parent(), photos.file_name()) {
        (true, Some(name)) => Path::new("..").join(name),
        _ => photos.into(),
    }
}

/// Where such a way leads.
fn resolved(library: &Path, way: &Path) -> PathBuf {
    let mut place = library.to_path_buf();
    for part in way.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                place.pop();
            }
            part => place.push(part),
        }
    }
    place
}

/// SHA-256, in hexadecimal, of what decides a photograph's tags beside the photograph: a change of it makes them anew.
pub fn digest(settings: &impl Serialize) -> serde_json::Result<String> {
    Ok(files::sha256(&serde_json::to_vec(settings)?))
}

fn failed(path: &Path, source: std::io::Error) -> LibraryError {
    LibraryError::File {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t16_photographs_are_found_from_their_library() {
        for (library, photos, way) in [
            ("/a/p/.epsilon", "/a/p", "./.."),
            ("/a/p/x/lib", "/a/p", "./../.."),
            ("/a/p", "/a/p", "."),
            ("/a/lib", "/a/p", "../p"),
            ("/b/lib", "/a/p", "/a/p"),
        ] {
            let (library, photos) = (Path::new(library), Path::new(photos));
            assert_eq!(relative(library, photos), Path::new(way));
            assert_eq!(resolved(library, Path::new(way)), photos);
        }
        let moved = resolved(Path::new("/c/q/.epsilon"), Path::new(".."));
        assert_eq!(moved, Path::new("/c/q"));
    }

    #[test]
    fn a_library_is_of_one_folder_wherever_that_is_moved() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["p", "q", "lib", "inner/.epsilon"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("p/a.jpg"), "a").unwrap();
        let of = |name: &str| Library::new("m".into(), "i".into(), at(name));
        let check = |photos: &str| Library::check_is_of(&at("lib"), &at(photos));
        assert!(check("q").is_ok(), "there is none yet");
        of("p").write(&at("lib")).unwrap();
        assert!(check("p").is_ok() && check("q/../p").is_ok());
        let refused = check("q").unwrap_err().to_string();
        assert!(refused.contains("/lib: this library is of"), "{refused}");
        std::fs::rename(at("p"), at("r")).unwrap();
        assert!(check("q").is_ok() && check("r").is_ok(), "it was moved");
        std::fs::create_dir(at("p")).unwrap();
        assert!(check("r").is_ok(), "an empty mount point");
        // A library of photographs within the folder is another one.
        of("inner").write(&at("inner/.epsilon")).unwrap();
        assert!(Library::check_is_of(&at("inner"), &at("q")).is_ok());
        std::fs::write(at("lib/library.json"), "{").unwrap();
        assert!(check("q").is_ok(), "nothing is known");
    }

    #[test]
    fn a_model_in_a_library_moves_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (model, moved) in [
            (
                at("p/.epsilon/model.safetensors"),
                at("q/.epsilon/model.safetensors"),
            ),
            (at("elsewhere.safetensors"), at("elsewhere.safetensors")),
            ("hf:owner/name".into(), "hf:owner/name".into()),
        ] {
            std::fs::create_dir_all(at("p/.epsilon")).unwrap();
            let library = Library::new(model.clone(), "m".into(), at("p"));
            library.write(&at("p/.epsilon")).unwrap();
            assert_eq!(Library::read(&at("p")).unwrap().0.model, model);
            std::fs::rename(at("p"), at("q")).unwrap();
            let (there, _) = Library::read(&at("q")).unwrap();
            assert_eq!((there.model, there.photos), (moved, at("q")));
            std::fs::remove_dir_all(at("q")).unwrap();
        }
    }
}
