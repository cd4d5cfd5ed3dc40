//! XMP sidecars as files: how they are named, looked at, and changed only while they are what was looked at.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use epsilon_data::files;
use epsilon_data::paths::shown;

/// Bytes of a sidecar that is still read.
pub const LARGEST: u64 = 8 << 20;

/// Why a sidecar could not be written. It is then as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SidecarError {
    /// It cannot be read or written.
    #[error("{}: {source}", shown(path))]
    File {
        /// The sidecar.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is there and is no XMP that can be added to.
    #[error("{}: {reason}; it was left as it is", shown(path))]
    Form {
        /// The sidecar.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// How a photograph's sidecar is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `photo.jpg.xmp`, as darktable and digiKam have it.
    Full,
    /// `photo.xmp`.
    Stem,
}

impl Name {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Full, Self::Stem];

    /// The sidecar of a photograph.
    ///
    /// ```
    /// use epsilon::library::sidecar::Name;
    /// use std::path::Path;
    ///
    /// let photo = Path::new("2024/sea.jpg");
    /// assert_eq!(Name::Full.of(photo), Path::new("2024/sea.jpg.xmp"));
    /// assert_eq!(Name::Stem.of(photo), Path::new("2024/sea.xmp"));
    /// ```
    pub fn of(self, photo: &Path) -> PathBuf {
        match self {
            Self::Full => {
                let mut name = photo.as_os_str().to_os_string();
                name.push(".xmp");
                name.into()
            }
            Self::Stem => photo.with_extension("xmp"),
        }
    }

    /// The same of a [`super::Photo::id`]: the sidecar's path from the folder of photographs.
    pub fn key(self, id: &str) -> String {
        // Joined by the parts, so that it has `/` between them wherever it runs.
        let (folder, name) = id.rsplit_once('/').map_or(("", id), |(f, n)| (f, n));
        let name = self.of(Path::new(name));
        let between = if folder.is_empty() { "" } else { "/" };
        format!("{folder}{between}{}", name.display())
    }
}

/// A sidecar as it was found.
#[derive(Debug)]
pub struct Found {
    /// The file itself, where the sidecar is a link to one.
    place: PathBuf,
    /// What it says; none where there is no such file.
    pub text: Option<String>,
}

/// Whether a sidecar was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It was.
    Done,
    /// It was not: it is not any more as it was found.
    Meanwhile,
}

/// Looks at a sidecar, through a link to one.
///
/// # Errors
/// [`SidecarError`] for what is no file of text, too large, or a link to anything but an existing `.xmp` file.
pub fn look(path: &Path) -> Result<Found, SidecarError> {
    let form = |reason: &str| SidecarError::Form {
        path: path.into(),
        reason: reason.into(),
    };
    let is_link = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.is_symlink(),
        // A photograph's name may be so long that no file can have its sidecar's.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::InvalidFilename
            ) =>
        {
            return Ok(Found {
                place: path.into(),
                text: None,
            });
        }
        Err(source) => return Err(system(path, source)),
    };
    let place = match is_link {
        true => fs::canonicalize(path).map_err(|_| form("is a symbolic link to nothing"))?,
        false => path.into(),
    };
    let ending = place.extension().unwrap_or_default();
    if is_link && !ending.eq_ignore_ascii_case("xmp") {
        return Err(form(
            "is a symbolic link to something else than an .xmp file",
        ));
    }
    let bytes = match files::read(&place, LARGEST) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Err(match error.kind() {
                ErrorKind::InvalidInput | ErrorKind::IsADirectory | ErrorKind::FileTooLarge => {
                    form(&error.to_string())
                }
                _ => system(path, error),
            });
        }
    };
    let text = String::from_utf8(bytes).map_err(|_| form("is not UTF-8 text"))?;
    Ok(Found {
        place,
        text: Some(text),
    })
}

impl Found {
    /// Replaces it by a text, whole or not at all, unless it is not any more as it was found.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn replace(&self, text: &str) -> Result<Changed, SidecarError> {
        let fill = |file: &mut File| file.write_all(text.as_bytes());
        let written = files::replace_if(&self.place, fill, || self.is_as_found());
        self.changed(written)
    }

    /// Removes it, unless it is not any more as it was found.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self) -> Result<Changed, SidecarError> {
        let removed = self
            .is_as_found()
            .and_then(|()| fs::remove_file(&self.place));
        self.changed(removed)
    }

    fn changed(&self, done: io::Result<()>) -> Result<Changed, SidecarError> {
        match done {
            Ok(()) => Ok(Changed::Done),
            Err(error) => match error.downcast::<NotAsFound>() {
                Ok(NotAsFound) => Ok(Changed::Meanwhile),
                Err(source) => Err(system(&self.place, source)),
            },
        }
    }

    fn is_as_found(&self) -> io::Result<()> {
        let now = match files::read(&self.place, LARGEST) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            now => Some(now?),
        };
        match now.as_deref() == self.text.as_deref().map(str::as_bytes) {
            true => Ok(()),
            false => Err(io::Error::other(NotAsFound)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("changed while it was edited")]
struct NotAsFound;

fn system(path: &Path, source: io::Error) -> SidecarError {
    SidecarError::File {
        path: path.into(),
        source,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a08_what_changed_meanwhile_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg.xmp");
        let found = look(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert_eq!(found.replace("ours").unwrap(), Changed::Meanwhile);
        let found = look(&path).unwrap();
        fs::write(&path, "theirs, anew").unwrap();
        assert_eq!(found.replace("ours").unwrap(), Changed::Meanwhile);
        assert_eq!(found.remove().unwrap(), Changed::Meanwhile);
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs, anew");
        let found = look(&path).unwrap();
        assert_eq!(found.replace("ours").unwrap(), Changed::Done);
        assert_eq!(found.replace("ours").unwrap(), Changed::Meanwhile);
        assert_eq!(look(&path).unwrap().remove().unwrap(), Changed::Done);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn t13_mode_group_and_link_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("real")).unwrap();
        fs::write(at("real/a.xmp"), "theirs").unwrap();
        fs::set_permissions(at("real/a.xmp"), fs::Permissions::from_mode(0o664)).unwrap();
        let owner = |path: &Path| {
            let metadata = fs::metadata(path).unwrap();
            (metadata.mode() & 0o777, metadata.uid(), metadata.gid())
        };
        // Only the superuser can try another owner.
        let _ = std::os::unix::fs::chown(at("real/a.xmp"), Some(65534), Some(65534));
        let before = owner(&at("real/a.xmp"));
        symlink("real/a.xmp", at("a.jpg.xmp")).unwrap();
        let found = look(&at("a.jpg.xmp")).unwrap();
        assert_eq!(found.text.as_deref(), Some("theirs"));
        assert_eq!(found.replace("ours").unwrap(), Changed::Done);
        assert!(fs::symlink_metadata(at("a.jpg.xmp")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(at("real/a.xmp")).unwrap(), "ours");
        assert_eq!(owner(&at("real/a.xmp")), before);
        assert_eq!(before.0, 0o664);
    }

    #[test]
    fn a09_what_is_no_small_file_of_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("folder.xmp")).unwrap();
        fs::write(at("bytes.xmp"), [0xff, 0xfe, 0]).unwrap();
        fs::write(at("secret"), "no").unwrap();
        let large = File::create(at("large.xmp")).unwrap();
        large.set_len(LARGEST + 1).unwrap();
        let fifo = std::process::Command::new("mkfifo")
            .arg(at("fifo.xmp"))
            .status();
        assert!(fifo.unwrap().success());
        symlink("nothing.xmp", at("dangling.xmp")).unwrap();
        symlink("secret", at("strange.xmp")).unwrap();
        symlink("/dev/zero", at("endless.xmp")).unwrap();
        symlink("fifo.xmp", at("linked.xmp")).unwrap();
        for (name, part) in [
            ("folder.xmp", "not a file"),
            ("bytes.xmp", "not UTF-8"),
            ("large.xmp", "bytes"),
            ("fifo.xmp", "not a file"),
            ("dangling.xmp", "link to nothing"),
            ("strange.xmp", "something else"),
            ("endless.xmp", "something else"),
            ("linked.xmp", "not a file"),
        ] {
            let error = look(&at(name)).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(part), "{error}");
            assert!(error.contains("left as it is"), "{error}");
        }
    }
}
