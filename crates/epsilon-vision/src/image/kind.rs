//! What a file is, by its first bytes.

/// Bytes from the start of a file that [`kind`] looks at.
pub const START: usize = 64;

/// What a picture's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
    /// A picture that is not decoded, by its usual ending in capital letters, such as `HEIC`.
    Other(&'static str),
}

/// First bytes of pictures that are not decoded.
const OTHERS: [(&[u8], &str); 17] = [
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0\x10\0\0\0CR", "CR2"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"IIRO", "ORF"),
    (b"IIRS", "ORF"),
    (b"IIU\0", "RW2"),
    (b"FUJIFILMCCD-RAW", "RAF"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2"),
    (b"\xff\x4f\xff\x51", "J2K"),
    (b"8BPS", "PSD"),
    (b"v/1\x01", "EXR"),
    (b"qoif", "QOI"),
];

/// What kind of picture begins with these bytes, if any.
///
/// ```
/// use epsilon_vision::image::{Kind, kind};
///
/// assert_eq!(kind(b"\xff\xd8\xff\xe0\0\x10JFIF"), Some(Kind::Jpeg));
/// assert_eq!(kind(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), Some(Kind::Other("HEIC")));
/// assert_eq!(kind(b"just some words"), None);
/// ```
pub fn kind(start: &[u8]) -> Option<Kind> {
    if start.starts_with(b"\xff\xd8\xff") {
        return Some(Kind::Jpeg);
    }
    if start.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some(Kind::Png);
    }
    if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP") {
        return Some(Kind::WebP);
    }
    let other = OTHERS.iter().find(|(bytes, _)| start.starts_with(bytes));
    let other = other.map(|(_, name)| *name);
    other.or_else(|| container(start)).map(Kind::Other)
}

/// A picture in an ISO base media file, by its brands (ISO/IEC 14496-12, 4.3), or a bitmap.
fn container(start: &[u8]) -> Option<&'static str> {
    // A bitmap's second field is reserved, and the header that follows has one of few lengths; "BM" alone may be words.
    if start.starts_with(b"BM")
        && start.get(6..10) == Some(&[0; 4])
        && start.get(15..18) == Some(&[0; 3])
    {
        return Some("BMP");
    }
    let brands = match start.get(4..8) {
        Some(b"ftyp") => start.get(8..).unwrap_or_default().chunks_exact(4),
        _ => return None,
    };
    brands
        .filter_map(|brand| match brand {
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => Some("HEIC"),
            b"avif" | b"avis" => Some("AVIF"),
            b"crx " => Some("CR3"),
            _ => None,
        })
        .next()
}
