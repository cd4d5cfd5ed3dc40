//! The largest JPEG in a camera's raw file: cameras put a finished picture beside the sensor's data, which is not developed here.
//!
//! Most raw files are TIFF inside (TIFF 6.0; TIFF/EP, ISO 12234-2; Adobe's DNG specification), with directories below
//! directories. Canon's CR3 is an ISO base media file, and Fujifilm's RAF has a header of its own.

use ::image::metadata::Orientation;

use super::boxes::{boxes, find, u32 as word};
use super::jpeg;
use super::tiff::{Entry, Tiff, slice};

/// Directories of a file that are looked at.
const MOST_DIRECTORIES: usize = 100;
/// The `uuid` of the box in which CR3 keeps its metadata.
pub(super) const CANON: [u8; 16] =
    *b"\x85\xc0\xb6\x87\x82\x0f\x11\xe0\x81\x11\xf4\xce\x46\x2b\x6a\x48";
/// The `uuid` of the box in which CR3 keeps a preview.
const CANON_PREVIEW: [u8; 16] =
    *b"\xea\xf4\x2b\x5e\x1c\x98\x4b\x88\xb9\xfb\xb7\xdc\x40\x6e\x4d\x16";

/// What a raw file says of its pictures.
#[derive(Default)]
pub(super) struct Raw<'a> {
    /// Whether there is a sensor's data: a TIFF without is a picture of its own.
    pub sensor: bool,
    /// Whether a picture that it names lies behind the end of the file.
    pub cut: bool,
    /// The largest JPEG, if there is any.
    pub preview: Option<&'a [u8]>,
    /// How the camera was held. A preview that says so itself may differ, as some programs change only this.
    pub orientation: Option<Orientation>,
    /// Pixels of the preview.
    pixels: u64,
    /// Directories seen so far.
    directories: usize,
}

/// Looks through a file that is TIFF inside.
pub(super) fn tiff(bytes: &[u8]) -> Raw<'_> {
    let mut raw = Raw::default();
    if let Some((tiff, first)) = Tiff::open(bytes) {
        raw.walk(tiff, first);
    }
    raw
}

/// Looks through a CR3: a preview in a box of its own, and the full picture as a track.
pub(super) fn cr3(bytes: &[u8]) -> Raw<'_> {
    let mut raw = Raw::default().of_sensor();
    for (kind, content) in boxes(bytes) {
        match &kind {
            b"moov" => raw.movie(bytes, content),
            b"uuid" if content.starts_with(&CANON_PREVIEW) => {
                let preview = content.get(24..).and_then(|inner| find(inner, b"PRVW"));
                raw.offer(preview.and_then(behind_a_header));
            }
            _ => {}
        }
    }
    raw
}

/// Looks through a RAF, whose header says where its JPEG is.
pub(super) fn raf(bytes: &[u8]) -> Raw<'_> {
    let mut raw = Raw::default().of_sensor();
    raw.offer_at(bytes, word(bytes, 84), word(bytes, 88));
    raw
}

/// A JPEG behind a few numbers.
fn behind_a_header(content: &[u8]) -> Option<&[u8]> {
    let start = content.get(..32)?;
    let at = start
        .windows(3)
        .position(|bytes| bytes == b"\xff\xd8\xff")?;
    content.get(at..)
}

impl<'a> Raw<'a> {
    /// The same of a file that is known to be raw.
    pub(super) fn of_sensor(self) -> Self {
        Self {
            sensor: true,
            ..self
        }
    }

    /// Keeps a JPEG if it is larger than those before.
    fn offer(&mut self, jpeg: Option<&'a [u8]>) {
        let size = jpeg.and_then(jpeg::size);
        if let Some((width, height)) = size {
            let pixels = u64::from(width) * u64::from(height);
            if pixels > self.pixels {
                (self.preview, self.pixels) = (jpeg, pixels);
            }
        }
    }

    /// Keeps what is at this place likewise.
    fn offer_at(&mut self, bytes: &'a [u8], at: Option<u32>, length: Option<u32>) {
        if let (Some(at), Some(length)) = (at, length) {
            let jpeg = slice(bytes, at, length);
            self.cut |= jpeg.is_none();
            self.offer(jpeg);
        }
    }

    /// The metadata and the tracks of a CR3.
    fn movie(&mut self, file: &'a [u8], movie: &'a [u8]) {
        for (kind, content) in boxes(movie).take(MOST_DIRECTORIES) {
            match &kind {
                b"uuid" => {
                    let inner = content.strip_prefix(&CANON).unwrap_or_default();
                    let camera = find(inner, b"CMT1").and_then(Tiff::open);
                    if let Some((tiff, first)) = camera {
                        self.walk(tiff, first);
                    }
                    self.offer(find(inner, b"THMB").and_then(behind_a_header));
                }
                b"trak" => {
                    let (at, length) = track(content).unzip();
                    self.offer_at(file, at, length);
                }
                _ => {}
            }
        }
    }

    /// Looks through the directories from one on, and those that they name.
    fn walk(&mut self, tiff: Tiff<'a>, first: u32) {
        let (mut open, mut next) = (Vec::new(), first);
        while next != 0 {
            next = self.directory(tiff, next, Names::Main, &mut open);
        }
        while let Some((tiff, at, names)) = open.pop() {
            self.directory(tiff, at, names, &mut open);
        }
    }

    /// Looks through one directory; returns where the next one is, or 0.
    fn directory(
        &mut self,
        tiff: Tiff<'a>,
        at: u32,
        names: Names,
        open: &mut Vec<(Tiff<'a>, u32, Names)>,
    ) -> u32 {
        self.directories += 1;
        if self.directories > MOST_DIRECTORIES {
            return 0;
        }
        let Some((entries, next)) = tiff.entries(at) else {
            self.cut |= names == Names::Main;
            return 0;
        };
        let (mut start, mut length, mut strip, mut strip_length) = (None, None, None, None);
        let mut compression = None;
        for entry in entries.chunks_exact(12) {
            let Some(entry) = tiff.entry(entry) else {
                return 0;
            };
            // What tells the picture's layout may have many values: they must be there.
            let layout = names == Names::Main && (0x0100..=0x0214).contains(&entry.tag);
            self.cut |= layout && entry.data().is_none();
            let one = || entry.numbers().next();
            match (names, entry.tag) {
                // The first directory's orientation is that of the photograph.
                (Names::Main, 0x0112) if self.orientation.is_none() => {
                    let number = one().and_then(|number| u8::try_from(number).ok());
                    self.orientation = number.and_then(Orientation::from_exif);
                }
                // A colour filter array, or what was made of one; a version of DNG.
                (Names::Main, 0x0106) => self.sensor |= matches!(one(), Some(32_803 | 34_892)),
                (Names::Main, 0xC612) => self.sensor = true,
                (Names::Main, 0x0103) => {
                    compression = one();
                    // Sony's, Nikon's, Samsung's and Pentax's own.
                    self.sensor |= matches!(compression, Some(32_767 | 34_713 | 32_770 | 65_535));
                }
                (Names::Main, 0x0111) => strip = one().filter(|_| entry.count == 1),
                (Names::Main, 0x0117) => strip_length = one(),
                (Names::Main | Names::Nikon, 0x0201) | (Names::Olympus, 0x0101) => start = one(),
                (Names::Main | Names::Nikon, 0x0202) | (Names::Olympus, 0x0102) => length = one(),
                // The whole JPEG of a RW2.
                (Names::Main, 0x002E) if tiff.is_panasonic() => self.offer(entry.data()),
                // Directories below this one, and that of EXIF.
                (Names::Main, 0x014A | 0x8769) | (Names::Nikon, 0x0011) => {
                    open.extend(entry.numbers().map(|at| (tiff, at, names)));
                }
                (Names::Main, 0x927C) => open.extend(maker(tiff, &entry)),
                (Names::Olympus, 0x2020) => {
                    // An offset, or the directory itself.
                    let at = match entry.kind {
                        7 => Some(entry.value),
                        _ => one(),
                    };
                    open.extend(at.map(|at| (tiff, at, names)));
                }
                _ => {}
            }
        }
        self.offer_at(tiff.bytes, start, length);
        // A JPEG as the strip of a picture, in the old or in the new way.
        if matches!(compression, Some(6 | 7)) {
            self.offer_at(tiff.bytes, strip, strip_length);
        }
        next
    }
}

/// Where the first sample of a track is, and its length.
fn track(track: &[u8]) -> Option<(u32, u32)> {
    let media = find(track, b"mdia").and_then(|media| find(media, b"minf"))?;
    let table = find(media, b"stbl")?;
    let sizes = find(table, b"stsz")?;
    let length = match word(sizes, 4)? {
        0 => word(sizes, 12)?,
        same => same,
    };
    let at = match find(table, b"co64") {
        Some(offsets) if word(offsets, 8)? == 0 => word(offsets, 12)?,
        Some(_) => return None,
        None => word(find(table, b"stco")?, 8)?,
    };
    Some((at, length))
}

/// What the tags of a directory mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Main,
    Nikon,
    Olympus,
}

/// The directory in a maker's own note, where its preview is found by it. Offsets count from the note or from a header in it.
fn maker<'a>(tiff: Tiff<'a>, entry: &Entry<'a>) -> Option<(Tiff<'a>, u32, Names)> {
    let note = entry.data()?;
    // The preview may lie behind the note's own end.
    let bytes = tiff.bytes.get(usize::try_from(entry.value).ok()?..)?;
    if note.starts_with(b"Nikon\0\x02") {
        let (inner, first) = Tiff::open(bytes.get(10..)?)?;
        return Some((inner, first, Names::Nikon));
    }
    let order: usize = match note {
        [b'O', b'L', b'Y', b'M', b'P', b'U', b'S', 0, ..] => 8,
        [b'O', b'M', b' ', b'S', b'Y', b'S', b'T', b'E', b'M', 0, ..] => 12,
        _ => return None,
    };
    let little = note.get(order..order + 2)? == b"II";
    Some((Tiff { bytes, little }, order as u32 + 4, Names::Olympus))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is its own next one, and one that names itself below it.
    #[test]
    fn circles_end() {
        let mut file = b"II*\0\x08\0\0\0".to_vec();
        file.extend(b"\x01\0\x4a\x01\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0");
        let raw = tiff(&file);
        assert!(raw.preview.is_none() && !raw.sensor);
        assert!(raw.directories > MOST_DIRECTORIES);
    }

    #[test]
    fn orientation_is_that_of_the_first_directory() {
        let mut file = b"MM\0*\0\0\0\x08".to_vec();
        file.extend(
            b"\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01\x06\0\x03\0\0\0\x01\x80\x23\0\0",
        );
        file.extend(b"\0\0\0\x26\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0");
        let raw = tiff(&file);
        assert_eq!(raw.orientation, Some(Orientation::Rotate90));
        assert!(raw.sensor);
        for length in 0..file.len() {
            tiff(&file[..length]);
        }
    }
}
