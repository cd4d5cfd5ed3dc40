//! Hashes of large files, kept in the user's folder for such things, so that a program that starts for one photograph does not
//! hash a network's weights again. What is kept is only believed of the very file it was kept of, unchanged.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{DESCRIPTION, read_text, write};

/// Hashes of smaller files are computed faster than kept.
pub(super) const KEPT_FROM: u64 = 16 << 20;

/// A file that was changed so few nanoseconds before is not told from one that changes once more within a tick of the file
/// system's clock: nothing is kept of it.
const SETTLED: i128 = 3_000_000_000;

/// Hexadecimal digits of SHA-256.
const DIGITS: usize = 64;

/// What tells a file and its state: the device, its number there, its size, and when its content and anything about it were last
/// changed, in nanoseconds. The last of these no program can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    number: u64,
    size: u64,
    modified: i128,
    changed: i128,
}

impl Stamp {
    /// `None` where the system does not say, or the file is small.
    pub(super) fn of(about: &Metadata) -> Option<Self> {
        if about.len() < KEPT_FROM {
            return None;
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let nanoseconds =
                |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
            Some(Self {
                device: about.dev(),
                number: about.ino(),
                size: about.size(),
                modified: nanoseconds(about.mtime(), about.mtime_nsec()),
                changed: nanoseconds(about.ctime(), about.ctime_nsec()),
            })
        }
        #[cfg(not(unix))]
        None
    }

    /// The kept hash of the file, or the one that is computed, which is then kept. `folder` is where, if anywhere; a failure there
    /// costs time only.
    pub(super) fn hash(&self, folder: Option<&Path>, compute: impl FnOnce() -> String) -> String {
        let Some(folder) = folder else {
            return compute();
        };
        // A file that took another's place takes its entry as well.
        let path = folder.join(format!("{}-{}", self.device, self.number));
        let start = format!("{} {} {} ", self.size, self.modified, self.changed);
        let kept = read_text(&path, DESCRIPTION).ok();
        let hash = kept.as_deref().and_then(|text| text.strip_prefix(&*start));
        let is_hash = |text: &&str| {
            text.len() == DIGITS
                && text
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        if let Some(hash) = hash.filter(is_hash) {
            return hash.to_string();
        }
        let settled = self.is_settled(SystemTime::now());
        let hash = compute();
        if settled {
            let kept = std::fs::create_dir_all(folder)
                .and_then(|()| write(&path, format!("{start}{hash}").as_bytes()));
            if let Err(reason) = kept {
                log::debug!("{}: the hash is not kept: {reason}", path.display());
            }
        }
        hash
    }

    /// Whether the last change lies long enough before `now`.
    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let last = self.modified.max(self.changed);
        i128::try_from(now).is_ok_and(|now| last + SETTLED < now)
    }
}

/// The program's own folder of this name in the user's folder for what can be made again: `$XDG_CACHE_HOME`, or else `.cache` in
/// the home folder. It may not be there yet.
pub fn cache(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty());
    let caches = named.map(PathBuf::from);
    let caches = caches.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    Some(caches?.join("epsilon").join(name))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stamp(changed: i128) -> Stamp {
        Stamp {
            device: 1,
            number: 2,
            size: KEPT_FROM,
            modified: 5_000_000_000,
            changed,
        }
    }

    fn digits(digit: &str) -> String {
        digit.repeat(DIGITS)
    }

    #[test]
    fn a_hash_is_kept_of_the_same_state_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("hashes");
        let of = |stamp: &Stamp, hash: &str| stamp.hash(Some(&cache), || digits(hash));
        assert_eq!(of(&stamp(6_000_000_000), "a"), digits("a"));
        assert_eq!(of(&stamp(6_000_000_000), "b"), digits("a"));
        // The file was touched: hashed anew, in the same entry.
        assert_eq!(of(&stamp(6_000_000_001), "c"), digits("c"));
        assert_eq!(of(&stamp(6_000_000_000), "d"), digits("d"));
        let other = Stamp {
            number: 3,
            ..stamp(6_000_000_000)
        };
        assert_eq!(of(&other, "e"), digits("e"));
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 2);
        assert_eq!(stamp(6_000_000_000).hash(None, || digits("f")), digits("f"));
    }

    #[test]
    fn what_is_no_hash_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = stamp(6_000_000_000);
        let start = "16777216 5000000000 6000000000 ";
        for spoilt in ["", "a", &"g".repeat(DIGITS), &"A".repeat(DIGITS)] {
            std::fs::write(folder.path().join("1-2"), format!("{start}{spoilt}")).unwrap();
            let hash = stamp.hash(Some(folder.path()), || digits("b"));
            assert_eq!(hash, digits("b"));
        }
    }

    #[test]
    fn a_file_that_has_just_been_changed_is_hashed_again() {
        let now = UNIX_EPOCH + Duration::from_secs(10);
        assert!(stamp(6_000_000_000).is_settled(now));
        assert!(!stamp(7_500_000_000).is_settled(now));
        // A clock that was set back.
        assert!(!stamp(20_000_000_000).is_settled(now));
    }

    #[test]
    fn small_files_have_no_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(Stamp::of(&path.metadata().unwrap()), None);
    }
}
