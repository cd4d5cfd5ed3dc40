//! Small pictures of a library's photographs, made once and kept in `thumbs/`: a file each, in 256 folders, under a name made of the
//! photograph's id. A line before the JPEG says of which file it was made, so that neither a photograph that has changed since
//! nor a damaged file is shown; and the file is no picture to whoever looks through the folder for photographs.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use image::codecs::jpeg::JpegEncoder;

use super::{LibraryError, failed};
use epsilon_data::files;
use epsilon_vision::image::{ImageError, Limits, open_small};

/// Length of a thumbnail's longer side, in pixels.
pub const SIDE: u16 = 256;
/// JPEG's own measure, 1 to 100.
const QUALITY: u8 = 80;
/// The largest file of a thumbnail that is read.
const LARGEST: u64 = 1 << 20;
const FOLDER: &str = "thumbs";
const MARK: &str = "epsilon thumbnail";

/// Which file of a photograph a thumbnail is of: [`super::Photo::bytes`] and [`super::Photo::modified`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Bytes of the file.
    pub bytes: u64,
    /// When it was last changed, nanoseconds after 1970.
    pub modified: u64,
}

/// A thumbnail that was made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Made {
    /// A JPEG.
    pub picture: Vec<u8>,
    /// Why it could not be kept, as on a disk that is full or read-only: it has to be made again then.
    pub unkept: Option<LibraryError>,
}

/// The thumbnails of a library.
#[derive(Debug, Clone)]
pub struct Thumbnails {
    folder: PathBuf,
    /// Shared by those who write files and held alone by who tidies up: a file that is being written looks like one that a
    /// killed program left.
    writing: Arc<RwLock<()>>,
}

impl Thumbnails {
    /// Those in a library's folder.
    pub fn of(library: &Path) -> Self {
        Self {
            folder: library.join(FOLDER),
            writing: Arc::default(),
        }
    }

    /// A photograph's thumbnail, a JPEG, if there is a whole one of this version.
    pub fn read(&self, photo: &str, version: Version) -> Option<Vec<u8>> {
        let mut kept = files::read(&self.path(photo), LARGEST).ok()?;
        let end = kept.iter().position(|byte| *byte == b'\n')?;
        let picture = kept.split_off(end + 1);
        (kept == head(&picture, version).as_bytes()).then_some(picture)
    }

    /// Makes a photograph's thumbnail of its file and keeps it where it can.
    ///
    /// # Errors
    /// When the photograph cannot be read.
    pub fn make(
        &self,
        photo: &str,
        file: &Path,
        version: Version,
        limits: &Limits,
    ) -> Result<Made, ImageError> {
        let picture = small_jpeg(file, SIDE, QUALITY, limits)?;
        let unkept = self.store(photo, &picture, version).err();
        Ok(Made { picture, unkept })
    }

    fn store(&self, photo: &str, picture: &[u8], version: Version) -> Result<(), LibraryError> {
        let path = self.path(photo);
        let _writing = self.writing.read().unwrap_or_else(PoisonError::into_inner);
        for folder in [Some(&*self.folder), path.parent()].into_iter().flatten() {
            files::folder(folder).map_err(|source| failed(folder, source))?;
        }
        let kept = [head(picture, version).as_bytes(), picture].concat();
        files::write(&path, &kept).map_err(|source| failed(&path, source))
    }

    /// Removes the thumbnails of all but these photographs, and what killed programs left half written.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not removed.
    pub fn keep<'p>(&self, photos: impl Iterator<Item = &'p str>) -> Result<(), LibraryError> {
        let kept: HashSet<PathBuf> = photos.map(|photo| self.path(photo)).collect();
        let system = |source| failed(&self.folder, source);
        let _alone = self.writing.write().unwrap_or_else(PoisonError::into_inner);
        if !self.folder.is_dir() {
            return Ok(());
        }
        for part in fs::read_dir(&self.folder).map_err(system)? {
            let part = part.map_err(system)?;
            if !part.file_type().map_err(system)?.is_dir() {
                continue;
            }
            files::tidy(&part.path()).map_err(system)?;
            for file in fs::read_dir(part.path()).map_err(system)? {
                let path = file.map_err(system)?.path();
                let is_ours = path.file_name().is_some_and(|name| name.len() == NAME);
                if is_ours && !kept.contains(&path) {
                    fs::remove_file(&path).map_err(|source| failed(&path, source))?;
                }
            }
        }
        Ok(())
    }

    fn path(&self, photo: &str) -> PathBuf {
        let hash = files::sha256(photo.as_bytes());
        self.folder.join(&hash[..2]).join(&hash[2..2 + NAME])
    }
}

/// Characters of a thumbnail's name.
const NAME: usize = 38;

/// The line before a thumbnail: its own hash, and what it is of.
fn head(picture: &[u8], version: Version) -> String {
    let hash = &files::sha256(picture)[..16];
    format!("{MARK} {hash} {} {}\n", version.bytes, version.modified)
}

/// A photograph's file as a JPEG with a longer side of `side` pixels or less, of a quality from 1 to 100.
///
/// # Errors
/// As [`open_small`].
pub fn small_jpeg(
    file: &Path,
    side: u16,
    quality: u8,
    limits: &Limits,
) -> Result<Vec<u8>, ImageError> {
    let picture = open_small(file, side.into(), limits)?;
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(&picture)
        .expect("a vector takes all bytes, and JPEG all sides of 16 bits");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;

    const NOW: Version = Version {
        bytes: 5,
        modified: 7,
    };

    #[test]
    fn a_thumbnail_is_made_once_and_of_one_version() {
        let library = tempfile::tempdir().unwrap();
        let thumbnails = Thumbnails::of(library.path());
        let photo = library.path().join("a.png");
        RgbImage::from_pixel(600, 300, image::Rgb([200, 30, 30]))
            .save(&photo)
            .unwrap();
        assert_eq!(thumbnails.read("a.png", NOW), None);
        thumbnails.keep(["a.png"].into_iter()).unwrap();
        let limits = Limits::default();
        let make = || {
            let made = thumbnails.make("a.png", &photo, NOW, &limits).unwrap();
            assert!(made.unkept.is_none());
            made.picture
        };
        let made = make();
        let shown = image::load_from_memory(&made).unwrap().into_rgb8();
        assert_eq!(shown.dimensions(), (256, 128));
        let red = shown.get_pixel(100, 60).0;
        assert!(red[0] > 180 && red[1] < 60, "{red:?}");
        assert_eq!(thumbnails.read("a.png", NOW), Some(made.clone()));
        for other in [Version { bytes: 6, ..NOW }, Version { modified: 8, ..NOW }] {
            assert_eq!(thumbnails.read("a.png", other), None);
        }
        assert_eq!(thumbnails.read("b.png", NOW), None);

        // Nobody who looks for photographs takes it for one.
        assert_eq!(super::super::scan(library.path()).photos.len(), 1);

        // Of damaged ones nothing is shown, and they are made anew.
        let path = thumbnails.path("a.png");
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..9], b"", b"\n"] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(thumbnails.read("a.png", NOW), None);
        }
        make();
        assert_eq!(thumbnails.read("a.png", NOW), Some(made));

        let other = path.with_file_name("somebody's");
        fs::write(&other, "").unwrap();
        thumbnails.keep(["a.png"].into_iter()).unwrap();
        assert!(path.exists());
        thumbnails.keep(["b.png"].into_iter()).unwrap();
        assert!(!path.exists() && other.exists());
        assert!(thumbnails.make("c", &path, NOW, &limits).is_err());
    }

    #[test]
    fn nothing_that_is_being_written_is_tidied_away() {
        let library = tempfile::tempdir().unwrap();
        let thumbnails = Thumbnails::of(library.path());
        let photo = library.path().join("a.png");
        RgbImage::new(8, 8).save(&photo).unwrap();
        let limits = Limits::default();
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                (0..100).all(|_| {
                    let made = thumbnails.make("a.png", &photo, NOW, &limits);
                    made.unwrap().unkept.is_none()
                })
            });
            while !made.is_finished() {
                thumbnails.keep(["a.png"].into_iter()).unwrap();
            }
            assert!(made.join().unwrap());
        });
    }

    #[test]
    fn one_that_cannot_be_kept_is_made_all_the_same() {
        let library = tempfile::tempdir().unwrap();
        let photo = library.path().join("a.png");
        RgbImage::new(8, 8).save(&photo).unwrap();
        // Nothing can be kept in a file.
        fs::write(library.path().join(FOLDER), "").unwrap();
        let thumbnails = Thumbnails::of(library.path());
        let made = thumbnails.make("a.png", &photo, NOW, &Limits::default());
        let made = made.unwrap();
        assert!(image::load_from_memory(&made.picture).is_ok());
        let why = made.unkept.unwrap().to_string();
        assert!(why.contains(FOLDER), "{why}");
    }
}
