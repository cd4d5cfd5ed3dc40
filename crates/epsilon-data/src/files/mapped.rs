//! A file's content as a slice of bytes: mapped into memory where it is large, copied where it is small. Every memory
//! map of this crate and of `epsilon-vision` is made here, so that its contract is stated once.

use std::fs::TryLockError;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;

use super::remembered::{Stamp, cache};
use super::sha256;

/// Smaller files are copied: a map would save nothing, and a copy does not change when the file does.
const COPIED_BELOW: u64 = 1 << 20;

/// The bytes of a file, read-only, beginning at an address that is a multiple of 8.
///
/// # Contract
///
/// A file of 1 MiB or more is memory-mapped. While the value lives, **no program may shorten the file or write into
/// it**: a read beyond a new end raises `SIGBUS` and ends the process, and a write shows through the slice. Replacing the
/// file by a rename, as [`super::replace`] does, is safe: the map keeps the old content. Where the system has advisory
/// locks the file is locked shared, which programs that lock before they write respect; on Linux for as long as it is
/// mapped. Smaller files are copied and may change freely afterwards.
///
/// ```
/// use epsilon_data::files::Mapped;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("words");
/// std::fs::write(&path, "sun moon")?;
/// assert_eq!(&Mapped::open(&path)?[4..], b"moon");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Mapped {
    bytes: Bytes,
    /// The file's state, where its hash is worth keeping.
    stamp: Option<Stamp>,
}

#[derive(Debug)]
enum Bytes {
    Map(Mmap),
    /// Whole words, so that the first byte is aligned, and the number of bytes.
    Copy(Vec<u64>, usize),
}

impl Mapped {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// A file that cannot be opened, read or mapped, and [`io::ErrorKind::WouldBlock`] for one of 1 MiB or more that
    /// another program has locked for writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = super::open(path, u64::MAX)?;
        let about = file.metadata()?;
        if about.len() < COPIED_BELOW {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let mut words = vec![0u64; bytes.len().div_ceil(8)];
            bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
            return Ok(Self {
                bytes: Bytes::Copy(words, bytes.len()),
                stamp: None,
            });
        }
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    "another program is writing to it",
                ));
            }
            // Not every file system has locks; the contract holds without them.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // SAFETY: the map is only read, and the type's contract forbids that anybody writes to the file or shortens it.
        let map = unsafe { Mmap::map(&file) }?;
        Ok(Self {
            bytes: Bytes::Map(map),
            stamp: Stamp::of(&about),
        })
    }

    /// SHA-256 of the content in hexadecimal. That of a large file is kept in the user's folder for such things
    /// (`~/.cache/epsilon/hashes`), with the file's number, size and times of change, and computed again when any of them is another.
    pub fn sha256(&self) -> String {
        let compute = || {
            let hash = sha256(self);
            self.release(0..self.len());
            hash
        };
        match &self.stamp {
            Some(stamp) => stamp.hash(cache("hashes").as_deref(), compute),
            None => compute(),
        }
    }

    /// Hands the physical memory of a part of a mapped file back to the system; later reads come from the file again. Without
    /// it, a file and the values made of it would both be held.
    ///
    /// # Panics
    /// When the part does not lie in the file.
    pub fn release(&self, part: Range<usize>) {
        assert!(part.start <= part.end && part.end <= self.len());
        #[cfg(unix)]
        if let Bytes::Map(map) = &self.bytes {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is of a file and is only read, so that its pages come back with the same content, those beside the
            // part with which it shares a page among them. A failure costs memory only.
            let _ = unsafe { map.unchecked_advise_range(advice, part.start, part.len()) };
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Map(map) => map,
            Bytes::Copy(words, length) => &bytemuck::cast_slice(words)[..*length],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index % 251) as u8).collect()
    }

    #[test]
    fn small_files_are_copied_and_large_ones_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for length in [0, 1, 7, 8, 9, (1 << 20) - 1, 1 << 20, (1 << 20) + 5] {
            std::fs::write(&path, bytes(length)).unwrap();
            let mapped = Mapped::open(&path).unwrap();
            assert_eq!(*mapped, bytes(length));
            assert!(mapped.as_ptr().addr().is_multiple_of(8));
            assert_eq!(matches!(mapped.bytes, Bytes::Map(_)), length >= 1 << 20);
            for part in [0..length, length / 3..length / 2, 0..0] {
                mapped.release(part);
                assert_eq!(*mapped, bytes(length));
            }
            assert_eq!(mapped.sha256(), sha256(&bytes(length)));
        }
    }

    #[test]
    fn a_copy_does_not_change_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "before").unwrap();
        let mapped = Mapped::open(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(&*mapped, b"before");
    }

    /// Readers do not shut each other out; a writer that asks for the lock is kept out until the last of them is gone.
    #[test]
    #[cfg(target_os = "linux")]
    fn a11_a_mapped_file_is_locked_shared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, bytes(1 << 20)).unwrap();
        let writer = std::fs::File::open(&path).unwrap();
        let (first, second) = (Mapped::open(&path).unwrap(), Mapped::open(&path).unwrap());
        drop(first);
        assert!(matches!(writer.try_lock(), Err(TryLockError::WouldBlock)));
        drop(second);
        writer.try_lock().unwrap();
        let refused = Mapped::open(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a11_a_replaced_file_keeps_its_old_content_for_who_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, bytes(1 << 20)).unwrap();
        let mapped = Mapped::open(&path).unwrap();
        crate::files::write(&path, b"new").unwrap();
        assert_eq!(*mapped, bytes(1 << 20));
        assert_eq!(&*Mapped::open(&path).unwrap(), b"new");
    }
}
