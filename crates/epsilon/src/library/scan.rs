//! Which photographs a folder holds.

use std::collections::{BTreeMap, HashSet};
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use epsilon_data::files;
use epsilon_data::paths::{shown, text};
use epsilon_vision::image::{FORMATS, Kind, START, kind};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use walkdir::{DirEntry, WalkDir};

use super::resolved;

/// Endings of pictures that no build decodes; the content may be another's.
const OTHERS: [&str; 9] = [
    "jp2", "j2k", "psd", "xcf", "exr", "pef", "srw", "3fr", "iiq",
];
/// Endings of files that are plainly no pictures and are not opened: sidecars, text, films, sound, archives, databases.
const NOT_PICTURES: [&str; 60] = [
    "xmp", "pp3", "dop", "aae", "thm", "on1", "txt", "md", "rtf", "json", "jsonl", "csv", "tsv",
    "xml", "html", "htm", "css", "js", "svg", "pdf", "doc", "docx", "odt", "xls", "xlsx", "ods",
    "ini", "cfg", "toml", "yaml", "yml", "log", "url", "lnk", "db", "sqlite", "lrcat", "mp4",
    "mov", "m4v", "avi", "mkv", "webm", "mpg", "mpeg", "mts", "m2ts", "3gp", "wmv", "mp3", "wav",
    "flac", "m4a", "ogg", "zip", "tar", "gz", "7z", "rar", "iso",
];
/// Folders that file servers and systems make for themselves, with thumbnails and what was thrown away.
const OF_SYSTEMS: [&str; 5] = [
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
];

/// A photograph's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// Its path from the folder, with `/` between its parts, each as [`text`] has it.
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
    /// Pictures that are of no kind that is decoded, counted by their usual endings.
    pub others: BTreeMap<String, usize>,
}

impl Scan {
    /// A hash of what there is: the same, within one run of a program, for a folder that holds the same.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for photo in &self.photos {
            (&photo.id, photo.bytes, photo.modified).hash(&mut hasher);
        }
        for failed in &self.failed {
            failed.path.hash(&mut hasher);
        }
        self.others.hash(&mut hasher);
        hasher.finish()
    }

    /// What could not be looked at, to be asked for many paths.
    pub(super) fn unread(&self) -> Unread<'_> {
        Unread(self.failed.iter().map(|failed| &*failed.path).collect())
    }
}

/// The paths of files and folders that could not be looked at.
pub(super) struct Unread<'a>(HashSet<&'a Path>);

impl Unread<'_> {
    /// Whether a path is one of them, or below one.
    pub(super) fn hides(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.0.contains(above))
    }
}

/// A file or folder that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its path; nothing below it was seen.
    pub path: PathBuf,
    /// Why, with its name.
    pub reason: String,
}

/// A pattern for what is left out that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the pattern {pattern:?}: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A folder of photographs, and what in it is left out.
#[derive(Debug, Clone)]
pub struct Walk {
    folder: PathBuf,
    excluded: Gitignore,
}

/// What a file is to a [`Walk`].
enum Found {
    Photo,
    Other(String),
    Nothing,
}

impl Walk {
    /// A walk over a folder and all folders in it that leaves out what a pattern fits, in the form of `.gitignore` (a `!` in front
    /// takes something in again). Hidden files and folders and those of file servers and systems (`@eaDir`, `lost+found`,
    /// recycle bins) are left out in any case.
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// for name in ["a.png", "b.png", "scans/c.png"] {
    ///     std::fs::create_dir_all(folder.path().join("scans"))?;
    ///     std::fs::write(folder.path().join(name), "")?;
    /// }
    /// let found = epsilon::library::Walk::new(folder.path(), &["scans/", "b*"])?.scan();
    /// let ids: Vec<&str> = found.photos.iter().map(|photo| &*photo.id).collect();
    /// assert_eq!(ids, ["a.png"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(folder: &Path, exclude: &[impl AsRef<str>]) -> Result<Self, PatternError> {
        let mut patterns = GitignoreBuilder::new(folder);
        patterns.allow_unclosed_class(false);
        for pattern in exclude.iter().map(AsRef::as_ref) {
            let added = patterns.add_line(None, pattern);
            added.map_err(|error| wrong(pattern, &error))?;
        }
        let excluded = patterns.build().map_err(|error| wrong("", &error))?;
        Ok(Self {
            folder: folder.into(),
            excluded,
        })
    }

    /// Looks through the folder; links are followed, and whatever is no regular file is not looked at.
    ///
    /// What a file is, its content decides: of the names that photographs usually have when it is decoded, of others by
    /// its first bytes, but for those that are plainly no pictures.
    pub fn scan(&self) -> Scan {
        let mut scan = Scan::default();
        let entries = WalkDir::new(&self.folder)
            .follow_links(true)
            .sort_by_file_name();
        let open = |entry: &DirEntry| {
            // The folder itself may have any name.
            entry.depth() == 0 || !self.leaves_out(entry.path(), entry.file_type().is_dir())
        };
        for entry in entries.into_iter().filter_entry(open) {
            match entry {
                Ok(entry) if entry.file_type().is_file() => self.take(&entry, &mut scan),
                Ok(_) => {}
                Err(error) if is_link_to_no_picture(&error) => {}
                Err(error) => scan.failed.push(Failed {
                    path: error.path().unwrap_or(&self.folder).into(),
                    reason: said(&error),
                }),
            }
        }
        scan.photos.sort_by(|a, b| a.id.cmp(&b.id));
        scan
    }

    /// Whether something that happened to a path may be about photographs: not to files that are plainly none, or left out.
    pub fn concerns(&self, path: &Path) -> bool {
        let inside = path.strip_prefix(&self.folder).unwrap_or(path);
        let outer = inside
            .ancestors()
            .filter(|part| !part.as_os_str().is_empty());
        let mut outer = outer.map(|part| self.folder.join(part));
        let left_out = outer.any(|part| self.leaves_out(&part, part != path || part.is_dir()));
        !left_out && !NOT_PICTURES.contains(&&*ending(path))
    }

    fn leaves_out(&self, path: &Path, is_folder: bool) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let of_system = |system: &str| system.eq_ignore_ascii_case(&name);
        name.starts_with('.')
            || is_folder && OF_SYSTEMS.iter().any(|system| of_system(system))
            || self.excluded.matched(path, is_folder).is_ignore()
    }

    fn take(&self, entry: &DirEntry, scan: &mut Scan) {
        match what(entry.path()) {
            Found::Nothing => {}
            Found::Other(kind) => *scan.others.entry(kind).or_default() += 1,
            Found::Photo => match photo(&self.folder, entry) {
                Ok(photo) => scan.photos.push(photo),
                Err(reason) => scan.failed.push(Failed {
                    path: entry.path().into(),
                    reason: format!("{}: {reason}", shown(entry.path())),
                }),
            },
        }
    }
}

/// [`Walk::scan`] with nothing more left out than usual.
pub fn scan(folder: &Path) -> Scan {
    let walk = Walk {
        folder: folder.into(),
        excluded: Gitignore::empty(),
    };
    walk.scan()
}

fn wrong(pattern: &str, error: &ignore::Error) -> PatternError {
    PatternError {
        pattern: pattern.into(),
        reason: error.to_string(),
    }
}

/// What a folder's walk says of something that it cannot look at.
fn said(error: &walkdir::Error) -> String {
    let path = shown(error.path().unwrap_or(Path::new("")));
    match (error.loop_ancestor(), error.io_error()) {
        (Some(above), _) => format!("{path}: a link to {}, which it is in", shown(above)),
        (None, Some(reason)) => format!("{path}: {reason}"),
        (None, None) => path,
    }
}

/// Whether something that cannot be looked at is a link to nothing that would be no picture either, such as a sidecar: whoever
/// wants it looks himself.
fn is_link_to_no_picture(error: &walkdir::Error) -> bool {
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    error.io_error().is_some_and(is_gone)
        && error
            .path()
            .is_some_and(|path| path.is_symlink() && NOT_PICTURES.contains(&&*ending(path)))
}

/// What a file is, by its ending or its first bytes.
fn what(path: &Path) -> Found {
    let ending = ending(path);
    let format = FORMATS.iter();
    let format = format
        .copied()
        .find(|format| format.endings.contains(&&*ending));
    // What is wrong with such a file is said when it is decoded.
    if format.is_some_and(|format| format.is_built()) {
        return Found::Photo;
    }
    if NOT_PICTURES.contains(&&*ending) {
        return Found::Nothing;
    }
    // Whether a file of such a name can be read matters only if it is a photograph.
    match first_bytes(path).ok().and_then(|bytes| kind(&bytes)) {
        // A raw picture is a TIFF inside: its ending says more.
        Some(Kind::Tiff) if OTHERS.contains(&&*ending) => Found::Other(ending),
        Some(kind) if kind.is_read() => Found::Photo,
        _ if format.is_some() || OTHERS.contains(&&*ending) => Found::Other(ending),
        Some(kind) => Found::Other(kind.name().to_lowercase()),
        None => Found::Nothing,
    }
}

/// Whether a file is a photograph, left out or not.
pub(super) fn is_photo(path: &Path) -> bool {
    matches!(what(path), Found::Photo)
}

fn first_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(START);
    let file = files::open(path, u64::MAX)?;
    file.take(START as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn ending(path: &Path) -> String {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    ending.to_lowercase()
}

/// What [`Photo::id`]s of a folder of photographs somebody may mean by a path: the id itself, or the path of the photograph, relative
/// to the current folder or not; the likelier first. The same holds for folders in it, of which the first parts of ids are meant.
pub fn photo_ids(photos: &Path, meant: &Path) -> Vec<String> {
    let mut ids = Vec::new();
    if let Some(id) = meant.to_str().filter(|id| !["", "."].contains(id)) {
        let id = id.trim_start_matches("./").trim_end_matches('/');
        ids.extend([id.to_string(), id_of(meant)]);
    }
    // As it is written, links and all, as the walk over the folder has it; then where it leads.
    let written =
        |path: &Path| std::path::absolute(path).map(|path| resolved(Path::new(""), &path));
    let real = |path: &Path| path.canonicalize();
    let pairs = [
        (written(meant), written(photos)),
        (real(meant), real(photos)),
    ];
    for (path, photos) in pairs {
        if let (Ok(path), Ok(photos)) = (path, photos)
            && let Ok(inside) = path.strip_prefix(photos)
        {
            ids.push(id_of(inside));
        }
    }
    ids
}

/// [`Photo::id`] of a path from the folder of photographs.
fn id_of(inside: &Path) -> String {
    let parts = inside.iter().map(|part| text(Path::new(part)));
    parts.collect::<Vec<String>>().join("/")
}

fn photo(folder: &Path, entry: &DirEntry) -> Result<Photo, String> {
    let path = entry.path();
    let metadata = entry.metadata().map_err(|error| error.to_string())?;
    let modified = modified(&metadata).map_err(|error| error.to_string())?;
    let inside = path
        .strip_prefix(folder)
        .map_err(|error| error.to_string())?;
    Ok(Photo {
        id: id_of(inside),
        path: path.into(),
        bytes: metadata.len(),
        modified,
    })
}

/// When a file was last changed, as [`Photo::modified`] has it.
pub(super) fn modified(about: &Metadata) -> io::Result<u64> {
    let since = about.modified()?.duration_since(UNIX_EPOCH);
    Ok(u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photographs_are_meant_by_id_or_path() {
        let folder = tempfile::tempdir().unwrap();
        let photos = folder.path().join("photos");
        std::fs::create_dir_all(photos.join("b")).unwrap();
        std::fs::write(photos.join("b/a.jpg"), "").unwrap();
        let means =
            |meant: &Path, id: &str| photo_ids(&photos, meant).iter().any(|found| found == id);
        for meant in ["b/a.jpg", "./b/a.jpg"] {
            assert_eq!(photo_ids(&photos, Path::new(meant))[0], "b/a.jpg");
        }
        assert!(means(&photos.join("b/a.jpg"), "b/a.jpg"));
        assert!(means(&photos.join("b/../b/a.jpg"), "b/a.jpg"));
        assert!(means(Path::new("b/"), "b") && means(&photos.join("b"), "b"));
        assert!(means(&photos, "") && !means(folder.path(), ""));
        let around = photo_ids(&photos.join("b/.."), &photos.join("b/a.jpg"));
        assert!(around.contains(&"b/a.jpg".to_string()), "{around:?}");
        #[cfg(unix)]
        {
            use std::os::unix::{ffi::OsStrExt, fs::symlink};
            symlink(photos.join("b"), photos.join("link")).unwrap();
            symlink(&photos, folder.path().join("other")).unwrap();
            assert!(means(&photos.join("link/a.jpg"), "link/a.jpg"));
            assert!(means(&folder.path().join("other/b/a.jpg"), "b/a.jpg"));
            let name = std::ffi::OsStr::from_bytes(b"b/\xe9.jpg");
            assert!(means(&photos.join(name), r"b/\xe9.jpg"));
        }
    }

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
            "c.PSD",
            "d.txt",
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), name).unwrap();
        }
        let found = scan(folder.path());
        let ids: Vec<&str> = found.photos.iter().map(|photo| photo.id.as_str()).collect();
        assert_eq!(ids, ["a.png", "b/2.JPG", "b/a.webp"]);
        assert_eq!(found.others, BTreeMap::from([("psd".to_string(), 1)]));
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
    fn loops_of_links_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("se\nlf")).unwrap();
        std::fs::write(folder.path().join("b.png"), "").unwrap();
        let found = scan(folder.path());
        assert_eq!(found.photos.len(), 1);
        assert_eq!(found.failed.len(), 1, "{:?}", found.failed);
        assert!(
            found.failed[0].reason.contains(r"se\nlf: a link to"),
            "{:?}",
            found.failed
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_nothing_matters_where_a_photograph_would_be() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.jpg", "a.jpg.xmp", "notes.txt"] {
            std::os::unix::fs::symlink("nowhere", folder.path().join(name)).unwrap();
        }
        let found = scan(folder.path());
        assert_eq!(found.failed.len(), 1, "{:?}", found.failed);
        assert!(found.failed[0].path.ends_with("a.jpg"));
    }

    #[cfg(unix)]
    #[test]
    fn t10_names_that_are_not_utf8_are_told_apart() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let names: [&[u8]; 3] = [b"a\xff.png", br"a\xff.png", b"a\xfe.png"];
        for name in names {
            let name = std::ffi::OsStr::from_bytes(name);
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = scan(folder.path());
        let ids: Vec<&str> = found.photos.iter().map(|photo| &*photo.id).collect();
        assert_eq!(ids, [r"a\x5cxff.png", r"a\xfe.png", r"a\xff.png"]);
    }

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF";
    const PSD: &[u8] = b"8BPS\0\x01";
    const HEIC: &[u8] = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic";

    #[test]
    fn t11_content_decides_not_the_ending() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, content) in [
            ("a.jfif", JPEG),
            ("b.jpe", JPEG),
            ("c", JPEG),
            ("d.psd", JPEG),
            ("e.dat", b"\x89PNG\r\n\x1a\n"),
            ("f.psd", PSD),
            ("g", PSD),
            ("h.PEF", b"II*\0 raw"),
            ("i.xcf", b"damaged"),
            ("m.heic", HEIC),
            ("n", HEIC),
            ("o.NEF", b"damaged"),
            ("j", b"words"),
            ("k.xmp", JPEG),
            ("l.mp4", JPEG),
        ] {
            std::fs::write(at(name), content).unwrap();
        }
        let found = scan(folder.path());
        let ids: Vec<&str> = found.photos.iter().map(|photo| &*photo.id).collect();
        assert_eq!(
            ids,
            [
                "a.jfif", "b.jpe", "c", "d.psd", "e.dat", "m.heic", "n", "o.NEF"
            ]
        );
        let others = [("pef", 1), ("psd", 2), ("xcf", 1)];
        let others = others.map(|(ending, count)| (ending.to_string(), count));
        assert_eq!(found.others, BTreeMap::from(others));
        assert!(found.failed.is_empty(), "{:?}", found.failed);
    }

    /// A FIFO without a writer would be waited for without end.
    #[cfg(unix)]
    #[test]
    fn t11_what_is_no_regular_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo")
            .args([folder.path().join("pipe"), folder.path().join("pipe.jpg")])
            .status();
        if !made.is_ok_and(|status| status.success()) {
            println!("skipped: mkfifo is not installed");
            return;
        }
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero")).unwrap();
        let found = scan(folder.path());
        assert!(
            found.photos.is_empty() && found.failed.is_empty(),
            "{found:?}"
        );
    }

    #[test]
    fn t12_folders_of_systems_and_patterns_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "a.png",
            "@eaDir/a.png/thumb.jpg",
            ".thumbnails/a.png",
            "lost+found/a.png",
            "$Recycle.Bin/a.png",
            "System Volume Information/a.png",
            "sub/#recycle/a.png",
            ".git/a.png",
            ".epsilon/a.png",
            "sub/b.png",
            "sub/raw/c.png",
            "sub/raw/keep.png",
            "old/d.png",
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "").unwrap();
        }
        let ids = |exclude: &[&str]| -> Vec<String> {
            let found = Walk::new(folder.path(), exclude).unwrap().scan();
            found.photos.into_iter().map(|photo| photo.id).collect()
        };
        let all = [
            "a.png",
            "old/d.png",
            "sub/b.png",
            "sub/raw/c.png",
            "sub/raw/keep.png",
        ];
        assert_eq!(ids(&[]), all);
        assert_eq!(
            ids(&["/old/", "**/raw/*", "!keep.png"]),
            ["a.png", "sub/b.png", "sub/raw/keep.png"]
        );
        assert_eq!(ids(&["*.png"]), [""; 0]);
        let error = Walk::new(folder.path(), &["a[b"]).unwrap_err().to_string();
        assert!(error.contains("\"a[b\""), "{error}");

        let walk = Walk::new(folder.path(), &["old/"]).unwrap();
        for (name, expected) in [
            ("new", true),
            ("sub/new.jfif", true),
            ("new.jpg.xmp", false),
            ("old/d.png", false),
            ("sub/@eaDir/x/y.jpg", false),
            (".epsilon/tags.jsonl", false),
        ] {
            assert_eq!(walk.concerns(&at(name)), expected, "{name}");
        }
    }
}
