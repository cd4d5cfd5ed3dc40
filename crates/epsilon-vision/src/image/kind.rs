//! What a file is, by its first bytes, and which kinds of picture this build reads.

/// Bytes from the start of a file that [`kind`] looks at.
pub const START: usize = 64;

/// What a picture's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
    /// GIF.
    Gif,
    /// A Windows bitmap.
    Bmp,
    /// TIFF, or a camera's raw file that begins as one does (DNG, NEF, ARW and others).
    Tiff,
    /// JPEG XL.
    JpegXl,
    /// A picture coded as a frame of HEVC.
    Heic,
    /// A picture coded as a frame of AV1.
    Avif,
    /// A camera's raw file, by its usual ending in capital letters, such as `CR3`.
    Raw(&'static str),
    /// A picture that no build decodes, by its usual ending in capital letters, such as `PSD`.
    Other(&'static str),
}

impl Kind {
    /// What people call it: `JPEG`, `HEIC`, `CR3`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::JpegXl => "JPEG XL",
            Self::Heic => "HEIC",
            Self::Avif => "AVIF",
            Self::Raw(name) | Self::Other(name) => name,
        }
    }

    /// The row of [`FORMATS`] that it belongs to.
    pub fn format(self) -> Option<&'static Format> {
        FORMATS.iter().find(|format| format.name == self.name())
    }

    /// Whether this build decodes it.
    pub fn is_read(self) -> bool {
        self.format().is_some_and(Format::is_built)
    }
}

/// What is taken of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The picture (of several pages the first).
    Picture,
    /// The first frame.
    FirstFrame,
    /// The largest JPEG that the camera put beside the sensor's data.
    Preview,
}

/// A format of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// What people call it.
    pub name: &'static str,
    /// Endings that its files usually have, in small letters. They decide nothing: the content does.
    pub endings: &'static [&'static str],
    /// What is taken of its files.
    pub part: Part,
    /// The cargo feature that it takes to read them, if it is not in every build.
    pub feature: Option<&'static str>,
}

impl Format {
    const fn new(name: &'static str, endings: &'static [&'static str], part: Part) -> Self {
        let feature = None;
        Self {
            name,
            endings,
            part,
            feature,
        }
    }

    /// Whether this build reads its files.
    pub fn is_built(&self) -> bool {
        self.feature.is_none() || cfg!(feature = "avif")
    }
}

/// All formats that some build reads.
pub const FORMATS: [Format; 17] = [
    Format::new("JPEG", &["jpg", "jpeg", "jpe", "jfif"], Part::Picture),
    Format::new("PNG", &["png", "apng"], Part::FirstFrame),
    Format::new("WebP", &["webp"], Part::FirstFrame),
    Format::new("GIF", &["gif"], Part::FirstFrame),
    Format::new("BMP", &["bmp", "dib"], Part::Picture),
    Format::new("TIFF", &["tif", "tiff"], Part::Picture),
    Format::new("JPEG XL", &["jxl"], Part::FirstFrame),
    Format::new("HEIC", &["heic", "heif", "hif"], Part::Picture),
    Format {
        feature: Some("avif"),
        ..Format::new("AVIF", &["avif"], Part::Picture)
    },
    Format::new("DNG", &["dng"], Part::Preview),
    Format::new("CR2", &["cr2"], Part::Preview),
    Format::new("CR3", &["cr3"], Part::Preview),
    Format::new("NEF", &["nef", "nrw"], Part::Preview),
    Format::new("ARW", &["arw"], Part::Preview),
    Format::new("RAF", &["raf"], Part::Preview),
    Format::new("ORF", &["orf"], Part::Preview),
    Format::new("RW2", &["rw2"], Part::Preview),
];

/// First bytes of pictures.
const STARTS: [(&[u8], Kind); 22] = [
    (b"\xff\xd8\xff", Kind::Jpeg),
    (b"\x89PNG\r\n\x1a\n", Kind::Png),
    (b"GIF87a", Kind::Gif),
    (b"GIF89a", Kind::Gif),
    (b"II*\0\x10\0\0\0CR", Kind::Raw("CR2")),
    (b"II*\0", Kind::Tiff),
    (b"MM\0*", Kind::Tiff),
    (b"II+\0", Kind::Tiff),
    (b"MM\0+", Kind::Tiff),
    (b"IIRO", Kind::Raw("ORF")),
    (b"IIRS", Kind::Raw("ORF")),
    (b"MMOR", Kind::Raw("ORF")),
    (b"IIU\0", Kind::Raw("RW2")),
    (b"FUJIFILMCCD-RAW", Kind::Raw("RAF")),
    (b"\0\0\0\x0cJXL \r\n\x87\n", Kind::JpegXl),
    (b"\xff\x0a", Kind::JpegXl),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Kind::Other("JP2")),
    (b"\xff\x4f\xff\x51", Kind::Other("J2K")),
    (b"8BPS", Kind::Other("PSD")),
    (b"v/1\x01", Kind::Other("EXR")),
    (b"gimp xcf", Kind::Other("XCF")),
    (b"qoif", Kind::Other("QOI")),
];

/// What kind of picture begins with these bytes, if any.
///
/// ```
/// use epsilon_vision::image::{Kind, kind};
///
/// assert_eq!(kind(b"\xff\xd8\xff\xe0\0\x10JFIF"), Some(Kind::Jpeg));
/// assert_eq!(kind(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), Some(Kind::Heic));
/// assert_eq!(kind(b"8BPS\0\x01"), Some(Kind::Other("PSD")));
/// assert_eq!(kind(b"just some words"), None);
/// ```
pub fn kind(start: &[u8]) -> Option<Kind> {
    let known = STARTS.iter().find(|(bytes, _)| start.starts_with(bytes));
    match known {
        Some((_, kind)) => Some(*kind),
        None if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP") => Some(Kind::WebP),
        // A bitmap's second field is reserved, and the header that follows has one of few lengths; "BM" alone may be words.
        None if start.starts_with(b"BM")
            && start.get(6..10) == Some(&[0; 4])
            && start.get(15..18) == Some(&[0; 3]) =>
        {
            Some(Kind::Bmp)
        }
        None => container(start),
    }
}

/// A picture in an ISO base media file, by its brands (ISO/IEC 14496-12, 4.3).
fn container(start: &[u8]) -> Option<Kind> {
    let mut brands = match start.get(4..8) {
        Some(b"ftyp") => start.get(8..).unwrap_or_default().chunks_exact(4),
        _ => return None,
    };
    brands.find_map(|brand| match brand {
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => Some(Kind::Heic),
        b"avif" | b"avis" => Some(Kind::Avif),
        b"crx " => Some(Kind::Raw("CR3")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_is_read_has_its_row() {
        for (_, kind) in STARTS {
            let other = matches!(kind, Kind::Other(_));
            assert_eq!(kind.format().is_none(), other, "{kind:?}");
        }
        for kind in [Kind::WebP, Kind::Bmp, Kind::Heic, Kind::Avif] {
            assert!(kind.format().is_some(), "{kind:?}");
        }
        assert!(Kind::Jpeg.is_read() && !Kind::Other("PSD").is_read());
        assert_eq!(Kind::Avif.is_read(), cfg!(feature = "avif"));
    }

    #[test]
    fn words_are_no_bitmap() {
        assert_eq!(kind(b"BMW is a make of cars, and more"), None);
        let header = b"BM\x36\x12\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0";
        assert_eq!(kind(header), Some(Kind::Bmp));
    }
}
