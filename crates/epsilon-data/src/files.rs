//! Writing files so that a reader never sees half of one, and reading them through memory maps with a stated contract.

mod mapped;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use self::mapped::Mapped;

/// Writes a file beside its place with `fill`, syncs it, and renames it into place; on failure nothing is left and what
/// was there before stays.
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
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let beside: PathBuf = path.with_file_name(name);
    let written = File::create(&beside).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()
    });
    let placed = written.and_then(|()| std::fs::rename(&beside, path));
    if placed.is_err() {
        // The first error is the one to tell; what cannot be removed is overwritten the next time.
        let _ = std::fs::remove_file(&beside);
        return placed;
    }
    match path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
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

/// SHA-256 in hexadecimal.
///
/// ```
/// let hash = epsilon_data::files::sha256(b"abc");
/// assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
/// ```
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
}
