//! Files and folders that the program keeps for itself (a lock, a journal, a library's folder): never by way of a link, which
//! somebody who hands over a folder may have planted.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use super::read::open_regular;

#[cfg(unix)]
const NO_LINK: i32 = libc::O_NOFOLLOW;
#[cfg(not(unix))]
const NO_LINK: i32 = 0;

/// Opens a file of the program's own for reading and writing, and makes it where it is missing; its content stays.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let lock = epsilon_data::files::own(&folder.path().join("lock"))?;
/// lock.try_lock()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// A link, what is no regular file, a file that has a second name elsewhere, and what the system says.
pub fn own(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().read(true).write(true), path)
}

/// Opens a journal of the program's own, as [`own`] does; what is written goes to its end.
///
/// ```
/// use std::io::Write;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("journal");
/// for line in ["one", "two"] {
///     writeln!(epsilon_data::files::append(&path)?, "{line}")?;
/// }
/// assert_eq!(std::fs::read_to_string(&path)?, "one\ntwo\n");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`own`].
pub fn append(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().read(true).append(true), path)
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // The flag alone would say "too many levels of symbolic links".
    refuse_link(path)?;
    options.create(true);
    let (file, _about) = open_regular(options, NO_LINK, path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if _about.nlink() > 1 {
            let problem = "it has a second name elsewhere (a hard link): remove it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
    }
    Ok(file)
}

/// Makes a folder of the program's own, with the folders above it, or takes the one that is there.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// epsilon_data::files::folder(&folder.path().join("a/b"))?;
/// assert!(folder.path().join("a/b").is_dir());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// A link, what is no folder, and what the system says.
pub fn folder(path: &Path) -> io::Result<()> {
    refuse_link(path)?;
    std::fs::create_dir_all(path)
}

fn refuse_link(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(about) if about.is_symlink() => {
            let problem = "it is a link, which is not followed: remove it";
            Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    #[test]
    fn a02_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (outside.path().join("precious"), folder.path().join("lock"));
        std::fs::write(&target, "content").unwrap();
        symlink(&target, &link).unwrap();
        for opened in [own(&link), append(&link)] {
            assert!(opened.unwrap_err().to_string().starts_with("it is a link"));
        }
        let dangling = folder.path().join("dangling");
        symlink(outside.path().join("new"), &dangling).unwrap();
        append(&dangling).unwrap_err();
        assert!(!outside.path().join("new").exists());
        let linked = folder.path().join("linked");
        symlink(outside.path(), &linked).unwrap();
        super::folder(&linked).unwrap_err();
        let second = folder.path().join("second");
        std::fs::hard_link(&target, &second).unwrap();
        let refused = append(&second).unwrap_err().to_string();
        assert!(refused.contains("second name"), "{refused}");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "content");
    }

    #[test]
    fn what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        append(&path).unwrap().write_all(b"one ").unwrap();
        drop(own(&path).unwrap());
        append(&path).unwrap().write_all(b"two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one two");
    }
}
