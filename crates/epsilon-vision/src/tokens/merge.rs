//! Joins the stores of the parts of one list of images into the store of the whole.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::store::{
    JOURNAL, MANIFEST, Manifest, PartOf, StoreError, TokenStore, read_manifest, shard_name,
};
use epsilon_data::files;

/// Why parts cannot be joined. Nothing is written before the parts are known to belong together.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MergeError {
    /// A part, or what is in the way, is no store that can be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A store that is no part of anything.
    #[error(
        "{}: holds a whole list of images, no part of one (parts are made by `epsilon extract --shard I/N`)",
        dir.display()
    )]
    Whole {
        /// Its folder.
        dir: PathBuf,
    },
    /// Two parts of different lists, or of the same list cut in different ways.
    #[error("{} and {} are parts of different lists of images, or of one cut in different ways", first.display(), other.display())]
    Foreign {
        /// Folder of the first part.
        first: PathBuf,
        /// Folder of one that does not belong to it.
        other: PathBuf,
    },
    /// A part is there twice.
    #[error("{} and {} are both part {index}", first.display(), second.display())]
    Twice {
        /// One folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// Which part.
        index: usize,
    },
    /// Parts are missing.
    #[error("of {of} parts {} missing: {}", if missing.len() == 1 { "one is" } else { "some are" }, list(missing))]
    Incomplete {
        /// Which, from 1.
        missing: Vec<usize>,
        /// How many there should be.
        of: usize,
    },
    /// No part was given.
    #[error("no part to merge was given")]
    Nothing,
    /// There is a store already.
    #[error("{}: there is a token store already: choose another folder or delete it", dir.display())]
    Taken {
        /// The folder.
        dir: PathBuf,
    },
    /// A file cannot be written.
    #[error("{}: cannot be written: {reason}; the parts are as they were", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

fn list(numbers: &[usize]) -> String {
    let words: Vec<String> = numbers.iter().map(usize::to_string).collect();
    words.join(", ")
}

/// Joins the stores in the folders `parts`, given in any order, into one in the folder `dir`: the store of the whole
/// list, its images in the list's order. The parts' files are linked where the file system can, so that they take no
/// room twice, and copied elsewhere; the parts stay as they are. Their checksums are compared first.
///
/// # Errors
///
/// See [`MergeError`].
pub fn merge(parts: &[PathBuf], dir: &Path) -> Result<Manifest, MergeError> {
    let ordered = ordered(parts, dir)?;
    for (part, _) in &ordered {
        TokenStore::open(part)?.verify()?;
    }
    joined(ordered, dir)
}

/// [`merge`] of parts that this program has just written: their checksums, which cost a pass over all tokens, are not compared.
///
/// # Errors
///
/// See [`MergeError`].
pub fn join(parts: &[PathBuf], dir: &Path) -> Result<Manifest, MergeError> {
    joined(ordered(parts, dir)?, dir)
}

/// The parts by their number, for a folder that has no store.
fn ordered<'a>(parts: &'a [PathBuf], dir: &Path) -> Result<Vec<(&'a Path, Manifest)>, MergeError> {
    let ordered = in_order(parts)?;
    match dir.join(MANIFEST).exists() || dir.join(JOURNAL).exists() {
        true => Err(MergeError::Taken { dir: dir.into() }),
        false => Ok(ordered),
    }
}

fn joined(ordered: Vec<(&Path, Manifest)>, dir: &Path) -> Result<Manifest, MergeError> {
    let failed = |path: &Path, reason| MergeError::Write {
        path: path.into(),
        reason,
    };
    std::fs::create_dir_all(dir).map_err(|reason| failed(dir, reason))?;
    let mut whole: Option<Manifest> = None;
    for (part, manifest) in ordered {
        let first = whole.as_ref().map_or(0, |whole| whole.shards.len());
        let mut manifest = manifest;
        for (index, shard) in manifest.shards.iter_mut().enumerate() {
            let name = shard_name(first + index);
            let to = dir.join(&name);
            place(&part.join(&shard.file), &to).map_err(|reason| failed(&to, reason))?;
            shard.file = name;
        }
        match &mut whole {
            None => whole = Some(manifest),
            Some(whole) => {
                whole.shards.append(&mut manifest.shards);
                whole.failed.append(&mut manifest.failed);
                whole.ids.append(&mut manifest.ids);
            }
        }
    }
    let mut whole = whole.ok_or(MergeError::Nothing)?;
    if let Some(part) = whole.header.part.take() {
        whole.header.items_sha256 = part.whole_sha256;
    }
    let path = dir.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&whole).map_err(|e| failed(&path, e.into()))?;
    files::write(&path, &text).map_err(|reason| failed(&path, reason))?;
    Ok(whole)
}

/// The parts by their number, known to belong together and to be all.
fn in_order(parts: &[PathBuf]) -> Result<Vec<(&Path, Manifest)>, MergeError> {
    let mut found: Vec<(PartOf, &Path, Manifest)> = Vec::new();
    for dir in parts {
        let manifest = read_manifest(dir)?;
        let Some(part) = manifest.header.part.clone() else {
            return Err(MergeError::Whole { dir: dir.clone() });
        };
        if let Some((first, first_dir, first_manifest)) = found.first() {
            if (first.of, &first.whole_sha256) != (part.of, &part.whole_sha256) {
                return Err(MergeError::Foreign {
                    first: first_dir.to_path_buf(),
                    other: dir.clone(),
                });
            }
            // All but what tells the parts apart.
            let mut header = manifest.header.clone();
            header.part = first_manifest.header.part.clone();
            header.items_sha256 = first_manifest.header.items_sha256.clone();
            header.check_same(dir, &first_manifest.header)?;
        }
        if let Some((_, other, _)) = found.iter().find(|(p, _, _)| p.index == part.index) {
            return Err(MergeError::Twice {
                first: other.to_path_buf(),
                second: dir.clone(),
                index: part.index,
            });
        }
        found.push((part, dir, manifest));
    }
    let of = found.first().ok_or(MergeError::Nothing)?.0.of;
    let missing: Vec<usize> = (1..=of)
        .filter(|index| !found.iter().any(|(part, _, _)| part.index == *index))
        .collect();
    if !missing.is_empty() {
        return Err(MergeError::Incomplete { missing, of });
    }
    found.sort_by_key(|(part, _, _)| part.index);
    Ok(found
        .into_iter()
        .map(|(_, dir, manifest)| (dir, manifest))
        .collect())
}

/// Links a file, or copies it where that cannot be; replaces what a killed merge has left.
fn place(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => files::write(to, &files::read(from, u64::MAX)?),
    }
}
