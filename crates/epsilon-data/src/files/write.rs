//! Writing files so that a reader never sees half of one, and a link that lies in wait is never followed.

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use tempfile::Builder;

use super::read::{open, refuse_special};

const PREFIX: &str = ".epsilon-";
const SUFFIX: &str = ".tmp";

/// Writes a file beside its place with `fill`, syncs it, and renames it into place; on failure nothing is left and what
/// was there before stays. The file beside has a name that nobody can foresee and is never one that exists; it takes the mode of
/// what was there, and the owner where the system lets it. A link in the place is replaced, not followed, and nothing is put into
/// the place of what is no file, as [`check_place`] tells.
///
/// ```
/// use epsilon_data::files;
/// use std::io::Write;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("list.txt");
/// files::replace(&path, |file| writeln!(file, "beach"))?;
/// assert_eq!(std::fs::read_to_string(&path)?, "beach\n");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// What `fill` or the system says.
pub fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    replace_if(path, fill, || Ok(()))
}

/// As [`replace`], with a last look at what is to be replaced: nothing but the renaming comes between `still` and the end, so that
/// what somebody else writes meanwhile is seen there.
///
/// # Errors
///
/// What `fill`, `still` or the system says.
pub fn replace_if(
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
    still: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    check_place(path)?;
    let parent = parent(path);
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What any new file has, less what the user masks.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    // The name of the file beside is of no use to anybody.
    let mut beside = builder
        .tempfile_in(parent)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let problem = format!("there is no folder {}", parent.display());
                io::Error::new(io::ErrorKind::NotFound, problem)
            }
            _ => error,
        })?;
    // Tells `tidy` that somebody writes here; without it, where a system has no locks, the folder's own lock must do. Not a shared
    // one: some systems then let nobody write, not even who holds it.
    let _ = beside.as_file().try_lock();
    fill(beside.as_file_mut())?;
    match path.symlink_metadata() {
        Ok(before) if before.is_file() => keep_owner_and_mode(beside.as_file(), &before)?,
        _ => {}
    }
    beside.as_file().sync_all()?;
    still()?;
    // Whoever opens it in its place finds no lock.
    let _ = beside.as_file().unlock();
    beside.persist(path).map_err(|error| error.error)?;
    #[cfg(unix)]
    File::open(parent)?.sync_all()?;
    Ok(())
}

/// Refuses a place where [`replace`] would take a pipe, a device or a folder away, or a link to one; and the system's folder of
/// devices, where `/dev/stdout` is a link to a regular file when the output goes into one.
///
/// ```
/// use epsilon_data::files;
///
/// let folder = tempfile::tempdir()?;
/// files::check_place(&folder.path().join("new.csv"))?;
/// let refused = files::check_place(folder.path()).unwrap_err();
/// assert_eq!(refused.to_string(), "it is a folder, not a file");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// What is there.
pub fn check_place(path: &Path) -> io::Result<()> {
    // What cannot be looked at, such as the end of a broken link, is no harm done: the link is replaced.
    if let Ok(there) = path.metadata() {
        refuse_special(&there)?;
    }
    #[cfg(unix)]
    if parent(path)
        .canonicalize()
        .is_ok_and(|p| p == Path::new("/dev"))
    {
        let problem = "it is in the folder of devices, where no file belongs";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
fn keep_owner_and_mode(file: &File, before: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
        // Only the administrator may give a file away; others keep their own.
        let _ = fchown(file, Some(before.uid()), Some(before.gid()));
    }
    file.set_permissions(before.permissions())
}

#[cfg(not(unix))]
fn keep_owner_and_mode(_: &File, _: &Metadata) -> io::Result<()> {
    // A read-only file could not be renamed over; nothing else is carried along.
    Ok(())
}

/// Whether a file's name is one of those under which [`replace`] writes. One that stays is what a killed process left.
fn is_leftover(name: &std::ffi::OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes())
}

/// Whether a process is writing a leftover's file: it then holds a lock on it.
fn is_written(path: &Path) -> bool {
    let lock = open(path, u64::MAX).map(|file| file.try_lock());
    matches!(lock, Ok(Err(TryLockError::WouldBlock)))
}

/// Removes what killed processes left half-written in a folder, not in those below it. What a living one is writing there stays. For
/// who holds the folder's lock, as not every system has locks of files.
///
/// ```
/// use epsilon_data::files;
///
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join(".epsilon-1a2b3c.tmp"), "half")?;
/// files::tidy(folder.path())?;
/// assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// What the system says.
pub fn tidy(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_file = is_leftover(&entry.file_name()) && !entry.file_type()?.is_dir();
        if is_file && !is_written(&entry.path()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes `bytes` as a file, whole or not at all, as [`replace`] does.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("figures.json");
/// epsilon_data::files::write(&path, b"{}")?;
/// assert_eq!(std::fs::read(&path)?, b"{}");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// What the system says.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, |file| file.write_all(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        write(&path, b"old").unwrap();
        let failed = replace(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_being_written_is_no_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        std::fs::write(folder.path().join(".epsilon-1a2b3c.tmp"), "half").unwrap();
        let other = |file: &mut File| {
            file.write_all(b"whole")?;
            tidy(folder.path())
        };
        replace(&path, other).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn t13_the_mode_is_kept() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        std::fs::write(&path, "old").unwrap();
        let usual = mode();
        std::fs::remove_file(&path).unwrap();
        write(&path, b"first").unwrap();
        assert_eq!(mode(), usual);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(mode(), 0o664);
    }

    #[cfg(unix)]
    #[test]
    fn a02_a_link_in_the_place_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (precious, path) = (folder.path().join("precious"), folder.path().join("link"));
        std::fs::write(&precious, "content").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&precious).unwrap(), b"content");
        assert!(!path.is_symlink());
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    /// The refusal comes before a file is made beside it.
    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink(at("folder"), at("link")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, kind) in [
            ("zero", "a device"),
            ("folder", "a folder"),
            ("link", "a folder"),
            ("socket", "a socket"),
        ] {
            let before = at(name).symlink_metadata().unwrap().file_type();
            let failed = replace(&at(name), |_| panic!("nothing is to be written"));
            assert_eq!(
                failed.unwrap_err().to_string(),
                format!("it is {kind}, not a file")
            );
            assert_eq!(at(name).symlink_metadata().unwrap().file_type(), before);
        }
        drop(socket);
        let refused = check_place(Path::new("/dev/epsilon.csv")).unwrap_err();
        assert!(refused.to_string().contains("devices"), "{refused}");
        std::os::unix::fs::symlink(at("nothing"), at("broken")).unwrap();
        write(&at("broken"), b"new").unwrap();
        assert_eq!(std::fs::read(at("broken")).unwrap(), b"new");
    }
}
