//! What a look at a folder lets a library forget: a photograph is gone where its folder was seen without it, and where so many
//! are gone at once that a mount may be away instead, only when told so.

use std::collections::HashSet;
use std::path::Path;

use super::Scan;
use epsilon_data::paths;

/// Of so many known photographs at least half must be there to be believed.
const MANY: usize = 8;

/// What became of the known photographs that were not seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// They are gone.
    pub gone: Vec<String>,
    /// They may be there.
    pub kept: Vec<String>,
    /// Where not all that is gone was believed to be: how many known photographs are there, and of how many.
    pub doubted: Option<(usize, usize)>,
}

/// Sorts the known photographs that a scan of their folder did not see. Below what could not be looked at nothing is gone. What
/// lies there and was left out of the scan is forgotten. Of the rest nothing is gone, unless `believe`, where the folder holds no
/// photographs at all, or fewer than half of those that are known, if these are at least 8.
pub fn unseen<'a>(
    known: impl Iterator<Item = &'a str>,
    scan: &Scan,
    folder: &Path,
    believe: bool,
) -> Unseen {
    let seen: HashSet<&str> = scan.photos.iter().map(|photo| photo.id.as_str()).collect();
    let unread = scan.unread();
    let hidden = |id: &str| unread.hides(&folder.join(paths::path(id)));
    let left_out = |id: &str| folder.join(paths::path(id)).exists();
    let (mut unseen, mut there, mut out) = (Unseen::default(), 0, Vec::new());
    for id in known {
        match seen.contains(id) {
            true => there += 1,
            false if hidden(id) => unseen.kept.push(id.into()),
            false if left_out(id) => out.push(id.to_string()),
            false => unseen.gone.push(id.into()),
        }
    }
    let of = there + unseen.gone.len();
    let few = scan.photos.is_empty() || of >= MANY && 2 * there < of;
    if few && !believe && !unseen.gone.is_empty() {
        unseen.doubted = Some((there, of));
        unseen.kept.append(&mut unseen.gone);
    }
    unseen.gone.append(&mut out);
    unseen
}

#[cfg(test)]
mod tests {
    use super::super::{Failed, Photo};
    use super::*;

    fn scan(photos: &[&str], failed: &[&str]) -> Scan {
        let photo = |id: &&str| Photo {
            id: id.to_string(),
            path: Path::new("p").join(id),
            bytes: 1,
            modified: 1,
        };
        let unread = |path: &&str| Failed {
            path: path.into(),
            reason: "no".into(),
        };
        Scan {
            photos: photos.iter().map(photo).collect(),
            failed: failed.iter().map(unread).collect(),
            ..Scan::default()
        }
    }

    fn sorted(known: &[&str], scan: &Scan, believe: bool) -> Unseen {
        unseen(known.iter().copied(), scan, Path::new("p"), believe)
    }

    #[test]
    fn t02_nothing_is_gone_where_nobody_could_look() {
        let found = sorted(&["a", "s/b", "s/t/c", "sd"], &scan(&["e"], &["p/s"]), false);
        assert_eq!(found.gone, ["a", "sd"]);
        assert_eq!(found.kept, ["s/b", "s/t/c"]);
        let found = sorted(&["a", "s/b"], &scan(&[], &["p"]), true);
        assert_eq!((found.gone.len(), found.kept.len()), (0, 2));
    }

    #[test]
    fn what_is_there_and_left_out_is_forgotten_without_doubt() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "").unwrap();
        let known = ["a", "b"].into_iter();
        let found = unseen(known, &scan(&[], &[]), folder.path(), false);
        assert_eq!(
            (found.doubted, found.gone),
            (Some((0, 1)), vec!["a".to_string()])
        );
        assert_eq!(found.kept, ["b"]);
    }

    #[test]
    fn t03_a_folder_that_lost_most_is_doubted() {
        let found = sorted(&["a"], &scan(&[], &[]), false);
        assert_eq!((found.doubted, found.gone.len()), (Some((0, 1)), 0));
        assert_eq!(sorted(&["a"], &scan(&[], &[]), true).gone, ["a"]);
        let known = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let gone = |there: &[&str]| sorted(&known, &scan(there, &[]), false).gone.len();
        assert_eq!(gone(&["a", "b", "c"]), 0, "3 of 8");
        assert_eq!(gone(&["a", "b", "c", "d"]), 4, "4 of 8");
        assert_eq!(
            sorted(&known[..7], &scan(&["a"], &[]), false).gone.len(),
            6,
            "1 of 7"
        );
        assert_eq!(gone(&["x"]), 0, "others than those that are known");
    }
}
