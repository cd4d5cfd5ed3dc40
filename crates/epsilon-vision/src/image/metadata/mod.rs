//! What a picture's file says beside its pixels: XMP documents, keywords of IPTC and of Windows, and when it was taken. Pixels are
//! not decoded, work and memory are bounded, and what is damaged is named while the rest is read.

mod containers;
mod iptc;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::Path;

use epsilon_data::files;

use super::error::ImageError;
use super::kind::{Kind, kind};
use super::limits::{Limits, wait_for_memory};
use super::tiff::{Entry, Tiff};

/// Bytes of a file's start that are read first: in most they hold all metadata, and the pixels behind need not be read.
const HEAD: u64 = 256 << 10;
/// Bytes of XMP that are kept of a file, and bytes that texts in it are unpacked to.
const LARGEST: usize = 8 << 20;
/// Keywords of IPTC, or of Windows, in a file.
const MOST_KEYWORDS: usize = 10_000;

/// What is said of a picture beside its pixels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// XMP documents, in the order of the file: one as a rule, more where a JPEG extends it or a PNG holds it twice.
    pub xmp: Vec<String>,
    /// IPTC keywords (IIM 2:25), in the order of the file.
    pub keywords_iptc: Vec<String>,
    /// Keywords of Windows (EXIF 0x9C9E, `XPKeywords`), in the order of the file.
    pub keywords_xp: Vec<String>,
    /// EXIF's `DateTimeOriginal`, as [`moment`] counts it.
    pub taken: Option<i64>,
    /// What could not be read. The other fields hold what could.
    pub flaws: Vec<String>,
}

/// Reads a file's metadata: of JPEG, PNG, WebP, TIFF, HEIC, AVIF, JPEG XL, and cameras' raw files. Other kinds of picture that are
/// decoded (GIF, BMP) have none here.
///
/// Of a file whose start holds all of it, the rest is not read.
///
/// # Errors
/// What the system says, a file above [`Limits::max_file_bytes`], and [`ImageError::NotAnImage`]. Damaged metadata is no error: see
/// [`Metadata::flaws`].
pub fn read(path: &Path, limits: &Limits) -> Result<Metadata, ImageError> {
    let limit = limits.max_file_bytes;
    let failed = |reason| ImageError::of_system(path, limit, reason);
    let mut file = files::open(path, limit).map_err(failed)?;
    let mut bytes = Vec::new();
    let head = file.by_ref().take(HEAD).read_to_end(&mut bytes);
    head.map_err(failed)?;
    let mut found = Found::of(path, &bytes)?;
    if found.more && bytes.len() as u64 == HEAD {
        let length = file.metadata().map_err(failed)?.len();
        let _permit = wait_for_memory(length);
        // It may grow while it is read.
        let mut rest = file.take(limit.saturating_sub(HEAD));
        rest.read_to_end(&mut bytes).map_err(failed)?;
        found = Found::of(path, &bytes)?;
    }
    Ok(found.metadata)
}

/// Reads the metadata of a file that is in memory; `path` is what errors call it.
///
/// # Errors
/// [`ImageError::NotAnImage`].
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Metadata, ImageError> {
    Ok(Found::of(path, bytes)?.metadata)
}

/// A local time, written as EXIF (`2023:05:01 10:11:12`) or XMP (`2023-05-01T10:11:12+02:00`) do, as if it were UTC: seconds since
/// 1970. Seconds or the whole time of day may be missing; a time without a day is none.
///
/// ```
/// use epsilon_vision::image::metadata::moment;
///
/// assert_eq!(moment("1970:01:02 00:01:00"), Some(86_460));
/// assert_eq!(moment("2023-05-01T10:11:12.5+02:00"), Some(1_682_935_872));
/// assert_eq!(moment("2023-05-01"), Some(1_682_899_200));
/// assert_eq!((moment("0000:00:00 00:00:00"), moment("2023-05")), (None, None));
/// ```
pub fn moment(text: &str) -> Option<i64> {
    let text = text.trim().as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute) = match text.len() {
        10 => (0, 0),
        _ => (number(11, 13)?, number(14, 16)?),
    };
    let second = match text.get(16) {
        Some(b':') => number(17, 19)?,
        _ => 0,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let known = year > 0 && (1..=12).contains(&month) && (1..=length).contains(&day);
    (known && hour < 24 && minute < 60 && second <= 60).then_some(())?;
    // Days since 1970 in the Gregorian calendar, of years that begin with March: the leap day is then the last one.
    let (years, months) = (year - i64::from(month < 3), (month + 9) % 12);
    let days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day;
    Some((days - 719_469) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// What has been found of a file so far.
struct Found {
    metadata: Metadata,
    /// Whether more bytes of the file, where there are any, may hold more.
    more: bool,
    /// Bytes of XMP that may still be kept.
    left: usize,
    /// Bytes that may still be unpacked.
    to_unpack: usize,
}

impl Found {
    fn of(path: &Path, bytes: &[u8]) -> Result<Self, ImageError> {
        let kind = match kind(bytes) {
            Some(kind) if kind.format().is_some() => kind,
            other => {
                let (path, kind) = (path.into(), other.map(Kind::name));
                return Err(ImageError::NotAnImage { path, kind });
            }
        };
        let mut found = Self {
            metadata: Metadata::default(),
            more: false,
            left: LARGEST,
            to_unpack: LARGEST,
        };
        found.container(kind, bytes);
        Ok(found)
    }

    fn flaw(&mut self, what: impl Into<String>) {
        let what = what.into();
        // A hostile file can be wrong in the same way many times.
        if !self.metadata.flaws.contains(&what) && self.metadata.flaws.len() < 8 {
            self.metadata.flaws.push(what);
        }
    }

    /// What ends before it should: where these are not all bytes of the file, more of them may be what is missing.
    fn cut(&mut self, what: &str) {
        self.more = true;
        self.flaw(format!("{what} is cut short"));
    }

    fn xmp(&mut self, bytes: &[u8]) {
        // Filled up with zeros by some programs.
        let filling = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let bytes = &bytes[..bytes.len() - filling];
        if bytes.is_empty() {
            return;
        }
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            return self.flaw(format!("holds more than {LARGEST} bytes of XMP"));
        };
        self.left = left;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.metadata.xmp.push(text.into()),
            Err(_) => self.flaw("its XMP is not UTF-8 text"),
        }
    }

    /// EXIF: a TIFF's header and directories.
    fn exif(&mut self, bytes: &[u8]) {
        match Tiff::open(bytes) {
            Some((tiff, first)) => self.directory(tiff, first),
            None => self.flaw("its EXIF does not begin as it should"),
        }
    }

    /// The first directory of a TIFF or of EXIF, and that of the camera's settings below it.
    fn directory(&mut self, tiff: Tiff, at: u32) {
        let Some((entries, _)) = tiff.entries(at) else {
            return self.cut("its TIFF or EXIF directory");
        };
        let entry = |tag| entry(tiff, entries, tag);
        if let Some(bytes) = entry(700).and_then(|entry| self.data(&entry)) {
            self.xmp(bytes);
        }
        if let Some(bytes) = entry(0x83BB).and_then(|entry| self.data(&entry)) {
            self.iptc(bytes);
        }
        if let Some(bytes) = entry(0x8649).and_then(|entry| self.data(&entry)) {
            self.resources(bytes);
        }
        if let Some(bytes) = entry(0x9C9E).and_then(|entry| self.data(&entry)) {
            self.windows(bytes);
        }
        self.date(entry(0x9003));
        if let Some(below) = entry(0x8769).and_then(|entry| entry.numbers().next()) {
            match tiff.entries(below) {
                Some((entries, _)) => self.date(self::entry(tiff, entries, 0x9003)),
                None => self.cut("its EXIF directory"),
            }
        }
    }

    fn data<'a>(&mut self, entry: &Entry<'a>) -> Option<&'a [u8]> {
        let data = entry.data();
        if data.is_none() {
            self.cut("what a TIFF or EXIF directory points to");
        }
        data
    }

    /// A date of EXIF; the first of a file counts.
    fn date(&mut self, entry: Option<Entry>) {
        let bytes = entry.and_then(|entry| self.data(&entry));
        let text = bytes.map(String::from_utf8_lossy);
        let taken = text.and_then(|text| moment(text.trim_end_matches('\0')));
        self.metadata.taken = self.metadata.taken.or(taken);
    }

    /// Keywords of Windows: UTF-16 in little-endian order, `;` between them.
    fn windows(&mut self, bytes: &[u8]) {
        let units = bytes
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let text: Vec<u16> = units
            .take(LARGEST / 2)
            .take_while(|unit| *unit != 0)
            .collect();
        let text = String::from_utf16_lossy(&text);
        let keywords = text
            .split(';')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        for keyword in keywords {
            self.keyword(|metadata| &mut metadata.keywords_xp, keyword.into());
        }
    }

    fn keyword(&mut self, list: fn(&mut Metadata) -> &mut Vec<String>, keyword: String) {
        match list(&mut self.metadata) {
            keywords if keywords.len() < MOST_KEYWORDS => keywords.push(keyword),
            _ => self.flaw(format!("holds more than {MOST_KEYWORDS} keywords")),
        }
    }
}

/// The first entry of a directory with this tag.
fn entry<'a>(tiff: Tiff<'a>, entries: &'a [u8], tag: u16) -> Option<Entry<'a>> {
    let mut entries = entries
        .chunks_exact(12)
        .filter_map(|entry| tiff.entry(entry));
    entries.find(|entry| entry.tag == tag)
}
