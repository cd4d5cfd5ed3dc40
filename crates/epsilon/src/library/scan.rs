//! Which photographs a folder holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use walkdir::{DirEntry, WalkDir};

/// Endings of the files that are decoded.
const PHOTOS: [&str; 5] = ["jpg", "jpeg", "jpe", "png", "webp"];
/// Endings of pictures that are not.
const OTHERS: [&str; 14] = [
    "heic", "heif", "avif", "tif", "tiff", "gif", "bmp", "dng", "cr2", "cr3", "nef", "arw", "raf",
    "orf",
];

/// A photograph's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// Its path from the folder, with `/` between its parts.
    pub id: String,
    /// Its path.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    /// When it was last changed, nanoseconds after 1970.
    pub modified: u64,
}

impl Photo {
    /// How far from now it was changed. A time that lies ahead (a camera's clock, a copy from elsewhere) is as old as one that
    /// lies as far behind: it does not say that somebody is writing.
    pub fn age(&self) -> Duration {
        let changed = UNIX_EPOCH + Duration::from_nanos(self.modified);
        let age = SystemTime::now().duration_since(changed);
        age.unwrap_or_else(|ahead| ahead.duration())
    }
}

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Scan {
    /// Its photographs, by their ids.
    pub photos: Vec<Photo>,
    /// Files and folders that could not be looked at.
    pub failed: Vec<Failed>,
    /// Pictures that are of no kind that is decoded, counted by their endings.
    pub others: BTreeMap<String, usize>,
}

/// A file or folder that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its path; nothing below it was seen.
    pub path: PathBuf,
    /// Why, with its name.
    pub reason: String,
}

/// Whether a file is, by its ending, a photograph that can be decoded.
pub fn is_photo(path: &Path) -> bool {
    PHOTOS.contains(&ending(path).as_str())
}

/// Looks through a folder and all folders in it; links are followed, hidden files and folders are not looked at.
pub fn scan(folder: &Path) -> Scan {
    let mut scan = Scan::default();
    // The folder itself may be hidden.
    let open = |entry: &DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    let entries = WalkDir::new(folder).follow_links(true).sort_by_file_name();
    for entry in entries.into_iter().filter_entry(open) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                scan.failed.push(Failed {
                    path: error.path().unwrap_or(folder).into(),
                    reason: error.to_string(),
                });
                continue;
            }
        };
        if !entry.file_type().is_file() {
            continue;
        }
        let ending = ending(entry.path());
        if PHOTOS.contains(&ending.as_str()) {
            match photo(folder, &entry) {
                Ok(photo) => scan.photos.push(photo),
                Err(reason) => scan.failed.push(Failed {
                    path: entry.path().into(),
                    reason: format!("{}: {reason}", entry.path().display()),
                }),
            }
        } else if OTHERS.contains(&ending.as_str()) {
            *scan.others.entry(ending).or_default() += 1;
        }
    }
    scan.photos.sort_by(|a, b| a.id.cmp(&b.id));
    scan
}

fn ending(path: &Path) -> String {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    ending.to_lowercase()
}

fn photo(folder: &Path, entry: &DirEntry) -> Result<Photo, String> {
    let path = entry.path();
    let metadata = entry.metadata().map_err(|error| error.to_string())?;
    let modified = metadata.modified().map_err(|error| error.to_string())?;
    let inside = path
        .strip_prefix(folder)
        .map_err(|error| error.to_string())?;
    let parts = inside.iter().map(|part| part.to_str());
    let parts: Option<Vec<&str>> = parts.collect();
    let parts = parts.ok_or("its name is not UTF-8: rename it")?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Photo {
        id: parts.join("/"),
        path: path.into(),
        bytes: metadata.len(),
        modified: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_looked_through() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "b/2.JPG",
            "b/a.webp",
            "a.png",
            ".hidden/a.png",
            "b/.a.png",
            "c.HEIC",
            "d.txt",
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), name).unwrap();
        }
        let found = scan(folder.path());
        let ids: Vec<&str> = found.photos.iter().map(|photo| photo.id.as_str()).collect();
        assert_eq!(ids, ["a.png", "b/2.JPG", "b/a.webp"]);
        assert_eq!(found.others, BTreeMap::from([("heic".to_string(), 1)]));
        assert_eq!(found.photos[1].bytes, 7);
        assert!(found.photos[1].age() < Duration::from_secs(600));
        let ahead = Photo {
            modified: found.photos[1].modified + 3_600_000_000_000,
            ..found.photos[1].clone()
        };
        assert!(ahead.age() > Duration::from_secs(3000));
        assert!(found.failed.is_empty());
        let nowhere = scan(&at("nowhere"));
        assert!(nowhere.photos.is_empty() && nowhere.failed[0].reason.contains("nowhere"));
    }

    #[cfg(unix)]
    #[test]
    fn loops_of_links_and_strange_names_are_named() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("self")).unwrap();
        let name = std::ffi::OsStr::from_bytes(b"a\xff.png");
        std::fs::write(folder.path().join(name), "").unwrap();
        std::fs::write(folder.path().join("b.png"), "").unwrap();
        let found = scan(folder.path());
        assert_eq!(found.photos.len(), 1);
        assert_eq!(found.failed.len(), 2, "{:?}", found.failed);
    }
}
