//! The one place that opens files: what a stranger may have made is read if it is a regular file of a stated size; what is
//! written appears whole or not at all; what the program keeps open is its own.

mod mapped;
mod own;
mod read;
mod write;

use sha2::{Digest, Sha256};

pub use self::mapped::Mapped;
pub use self::own::{append, folder, own};
pub use self::read::{DESCRIPTION, LIST, open, read, read_list, read_text};
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

/// Bytes as text, two digits each.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
