//! The one place that opens files: what a stranger may have made is read if it is a regular file of a stated size; what is
//! written appears whole or not at all; what the program keeps open is its own.

mod mapped;
mod own;
mod read;
mod remembered;
mod write;

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

pub use self::mapped::Mapped;
pub use self::own::{append, folder, own};
pub(crate) use self::read::held;
pub use self::read::{DESCRIPTION, LIST, open, read, read_list, read_text};
pub use self::remembered::cache;
pub use self::write::{check_place, replace, replace_if, tidy, write};

/// SHA-256 in hexadecimal.
///
/// ```
/// let hash = epsilon_data::files::sha256(b"abc");
/// assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
/// ```
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// SHA-256 in hexadecimal of a file's content, of whatever size.
///
/// ```
/// use epsilon_data::files;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("a");
/// std::fs::write(&path, b"abc")?;
/// assert_eq!(files::sha256_of(&path)?, files::sha256(b"abc"));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`open`].
pub fn sha256_of(path: &Path) -> io::Result<String> {
    hash(&mut open(path, u64::MAX)?)
}

fn hash(file: &mut impl Read) -> io::Result<String> {
    let (mut hash, mut part) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut part) {
            Ok(0) => return Ok(hexadecimal(&hash.finalize())),
            Ok(read) => hash.update(&part[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes as text, two digits each.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
