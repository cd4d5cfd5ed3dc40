//! Where the formats of pictures keep their metadata.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use data_encoding::HEXLOWER_PERMISSIVE;
use fdeflate::BoundedDecompressionError;
use heic_rs::meta::iloc::Construction;

use super::super::boxes::{boxes, find, u32 as word};
use super::super::heic::check_places;
use super::super::jpeg::{START_OF_SCAN, Segments};
use super::super::kind::Kind;
use super::super::raw::{CANON, raf};
use super::super::tiff::Tiff;
use super::{Found, LARGEST};

/// Begins an APP1 segment with EXIF, and EXIF in some other containers.
const EXIF: &[u8] = b"Exif\0\0";
/// Begins one with XMP (XMP specification, part 3, 1.1.3).
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// Begins one with a part of XMP that does not fit into one segment.
const EXTENDED: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
/// Begins an APP13 segment with Photoshop's resources.
const PHOTOSHOP: &[u8] = b"Photoshop 3.0\0";
/// The `uuid` of the box in which CR3 keeps XMP.
const XMP_BOX: [u8; 16] = *b"\xbe\x7a\xcf\xcb\x97\xa9\x42\xe8\x9c\x71\x99\x94\x91\xe3\xaf\xac";

impl Found {
    pub(super) fn container(&mut self, kind: Kind, bytes: &[u8]) {
        match kind {
            Kind::Jpeg => self.jpeg(bytes),
            Kind::Png => self.png(bytes),
            Kind::WebP => self.webp(bytes),
            Kind::Tiff | Kind::Raw("CR2" | "ORF" | "RW2") => self.tiff(bytes),
            Kind::Raw("CR3") => self.cr3(bytes),
            Kind::Raw("RAF") => match raf(bytes).preview {
                Some(jpeg) => self.jpeg(jpeg),
                None => self.cut("its preview"),
            },
            Kind::Heic | Kind::Avif => self.heif(bytes),
            Kind::JpegXl => self.jpeg_xl(bytes),
            Kind::Gif | Kind::Bmp | Kind::Raw(_) | Kind::Other(_) => {}
        }
    }

    fn jpeg(&mut self, bytes: &[u8]) {
        let (mut resources, mut extended) = (Vec::new(), Extended::default());
        let mut segments = Segments::of(bytes);
        let mut whole = false;
        for (marker, content) in &mut segments {
            match marker {
                START_OF_SCAN => {
                    whole = true;
                    break;
                }
                0xE1 => {
                    if let Some(xmp) = content.strip_prefix(XMP) {
                        self.xmp(xmp);
                    } else if let Some(exif) = content.strip_prefix(EXIF) {
                        self.exif(exif);
                    } else if let Some(part) = content.strip_prefix(EXTENDED) {
                        extended.add(part);
                    }
                }
                // A resource may go on in the next segment.
                0xED => resources.extend(content.strip_prefix(PHOTOSHOP).unwrap_or_default()),
                _ => {}
            }
        }
        if !whole {
            self.cut("the file's header");
        }
        self.resources(&resources);
        for whole in extended.documents() {
            match whole {
                Some(xmp) => self.xmp(&xmp),
                None => self.flaw("its extended XMP is incomplete"),
            }
        }
    }

    /// Chunks before and behind the pixels; checksums are not looked at.
    fn png(&mut self, bytes: &[u8]) {
        let mut rest = bytes.get(8..).unwrap_or_default();
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok();
            let whole = after.split_first_chunk::<4>().zip(length);
            let Some(((kind, after), content)) = whole
                .and_then(|((kind, after), length)| Some(((kind, after), after.get(..length)?)))
            else {
                break;
            };
            match kind {
                b"IEND" => return,
                b"eXIf" => self.exif(content),
                b"iTXt" => self.png_text(content),
                b"zTXt" => {
                    if let Some((name, [0, packed @ ..])) = named(content)
                        && name.starts_with(b"Raw profile type ")
                        && let Some(text) = self.unpacked(packed)
                    {
                        self.profile(name, &text);
                    }
                }
                b"tEXt" => {
                    if let Some((name, text)) = named(content) {
                        self.profile(name, text);
                    }
                }
                _ => {}
            }
            rest = after
                .get(length.unwrap_or_default() + 4..)
                .unwrap_or_default();
        }
        self.cut("the file");
    }

    /// A name, whether what follows is packed, a language, the name in it, and the text.
    fn png_text(&mut self, content: &[u8]) {
        let Some((b"XML:com.adobe.xmp", [packed, _, rest @ ..])) = named(content) else {
            return;
        };
        let text = named(rest).and_then(|(_, rest)| named(rest));
        match (text, packed) {
            (Some((_, text)), 0) => self.xmp(text),
            (Some((_, text)), _) => {
                if let Some(text) = self.unpacked(text) {
                    self.xmp(&text);
                }
            }
            (None, _) => self.flaw("its XMP chunk is damaged"),
        }
    }

    fn unpacked(&mut self, packed: &[u8]) -> Option<Vec<u8>> {
        // Work counts, whatever comes of it.
        let most = std::mem::take(&mut self.to_unpack);
        if most == 0 {
            return None;
        }
        match fdeflate::decompress_to_vec_bounded(packed, most) {
            Ok(text) => {
                self.to_unpack = most - text.len();
                Some(text)
            }
            Err(BoundedDecompressionError::OutputTooLarge { .. }) => {
                self.flaw(format!("holds more than {LARGEST} bytes of packed text"));
                None
            }
            Err(BoundedDecompressionError::DecompressionError { .. }) => {
                self.flaw("a packed text in it is damaged");
                None
            }
        }
    }

    /// A profile as ImageMagick and exiftool write it into a text: its name, its length, and hexadecimal digits.
    fn profile(&mut self, name: &[u8], text: &[u8]) {
        let Some(name) = name.strip_prefix(b"Raw profile type ") else {
            return;
        };
        let mut lines = text.trim_ascii_start().splitn(3, |byte| *byte == b'\n');
        let digits = lines.nth(2).unwrap_or_default().iter();
        let digits: Vec<u8> = digits
            .copied()
            .filter(|b| !b.is_ascii_whitespace())
            .collect();
        let Ok(bytes) = HEXLOWER_PERMISSIVE.decode(&digits) else {
            return self.flaw("a profile in its text is damaged");
        };
        match name {
            b"iptc" | b"8bim" if bytes.starts_with(b"8BIM") => self.resources(&bytes),
            b"iptc" => self.iptc(&bytes),
            b"xmp" => self.xmp(&bytes),
            b"exif" | b"APP1" => match bytes.strip_prefix(XMP) {
                Some(xmp) => self.xmp(xmp),
                None => self.exif(bytes.strip_prefix(EXIF).unwrap_or(&bytes)),
            },
            _ => {}
        }
    }

    /// Chunks before and behind the picture (RIFF; WebP Container Specification).
    fn webp(&mut self, bytes: &[u8]) {
        let mut rest = bytes.get(12..).unwrap_or_default();
        while let Some((&[k0, k1, k2, k3, l0, l1, l2, l3], after)) = rest.split_first_chunk() {
            let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok();
            let Some(content) = length.and_then(|length| after.get(..length)) else {
                return self.cut("the file");
            };
            match &[k0, k1, k2, k3] {
                b"XMP " => self.xmp(content),
                b"EXIF" => self.exif(content.strip_prefix(EXIF).unwrap_or(content)),
                _ => {}
            }
            // Chunks begin at even places.
            rest = after
                .get(content.len().next_multiple_of(2)..)
                .unwrap_or_default();
        }
        self.more = true;
    }

    fn tiff(&mut self, bytes: &[u8]) {
        match Tiff::open(bytes) {
            Some((tiff, first)) => self.directory(tiff, first),
            None => self.flaw("is a BigTIFF, whose metadata is not read"),
        }
    }

    /// The directories of EXIF in boxes of their own, and XMP in another.
    fn cr3(&mut self, bytes: &[u8]) {
        let movie = find(bytes, b"moov").unwrap_or_default();
        let own = |content: &&[u8]| content.starts_with(&CANON);
        let parts = boxes(movie).map(|(_, content)| content).find(own);
        for kind in [b"CMT1", b"CMT2"] {
            if let Some(exif) = parts.and_then(|parts| find(&parts[CANON.len()..], kind)) {
                self.exif(exif);
            }
        }
        let mut own = boxes(bytes).filter_map(|(_, content)| content.strip_prefix(&XMP_BOX));
        match own.next() {
            Some(xmp) => self.xmp(xmp),
            None => self.more = true,
        }
    }

    /// Items of an ISO base media file (ISO/IEC 23008-12).
    fn heif(&mut self, bytes: &[u8]) {
        // The reader of boxes is young.
        let read = catch_unwind(AssertUnwindSafe(|| heif_items(bytes)));
        match read.unwrap_or_else(|_| Err("its reader failed".into())) {
            Ok((xmp, exif)) => {
                if let Some(xmp) = xmp {
                    self.xmp(&xmp);
                }
                // An offset stands in front.
                if let Some(exif) = exif.as_deref().and_then(behind_offset) {
                    self.exif(exif);
                }
            }
            Err(reason) => {
                self.more = true;
                self.flaw(format!("the list of its parts: {reason}"));
            }
        }
    }

    /// Boxes around the codestream (ISO/IEC 18181-2); a bare codestream has none.
    fn jpeg_xl(&mut self, bytes: &[u8]) {
        for (kind, content) in boxes(bytes) {
            match (&kind, content) {
                (b"xml ", xmp) => self.xmp(xmp),
                (b"Exif", exif) => self.exif(behind_offset(exif).unwrap_or_default()),
                (b"brob", [b'x', b'm', b'l', b' ', ..] | [b'E', b'x', b'i', b'f', ..]) => {
                    self.flaw("its metadata is packed by Brotli, which is not read");
                }
                _ => {}
            }
        }
        self.more = true;
    }
}

/// What stands before a zero, and what behind it.
fn named(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// EXIF behind a number that says how far behind it begins.
fn behind_offset(bytes: &[u8]) -> Option<&[u8]> {
    let offset = usize::try_from(word(bytes, 0)?).ok()?;
    bytes.get(4..)?.get(offset..)
}

/// The first item of XMP and the first of EXIF.
type Items = (Option<Vec<u8>>, Option<Vec<u8>>);

fn heif_items(bytes: &[u8]) -> Result<Items, String> {
    check_places(bytes).map_err(|_| "it is damaged")?;
    let meta = heic_rs::meta::parse(bytes).map_err(|error| error.to_string())?;
    let is_xmp = |content: &str| content == "application/rdf+xml";
    let item = |wanted: &dyn Fn(&heic_rs::meta::iinf::ItemInfo) -> bool| {
        let Some(item) = meta.items.iter().find(|item| wanted(item)) else {
            return Ok(None);
        };
        // What is put together of other items can be made to cost any time.
        let place = meta.location(item.id);
        if place.is_none_or(|place| place.construction == Construction::Item) {
            return Err("an item's place is missing or not read".to_string());
        }
        let data = meta
            .item_data(bytes, item.id)
            .map_err(|error| error.to_string())?;
        Ok(Some(data.into_owned()))
    };
    let xmp = item(&|item| &item.item_type == b"mime" && item.content_type.is_some_and(is_xmp))?;
    Ok((xmp, item(&|item| &item.item_type == b"Exif")?))
}

/// The parts of extended XMP, by the name of their document: where each belongs, and its bytes.
#[derive(Default)]
struct Extended<'a>(BTreeMap<&'a [u8], Pieces<'a>>);

/// Bytes of a whole document, and its pieces with their places in it.
type Pieces<'a> = (u32, Vec<(u32, &'a [u8])>);

impl<'a> Extended<'a> {
    fn add(&mut self, part: &'a [u8]) {
        if let Some((name, rest)) = part.split_at_checked(32)
            && let (Some(length), Some(at)) = (word(rest, 0), word(rest, 4))
        {
            let (_, parts) = self.0.entry(name).or_insert((length, Vec::new()));
            parts.push((at, &rest[8..]));
        }
    }

    /// Each document, or none where a part of it is missing.
    fn documents(self) -> impl Iterator<Item = Option<Vec<u8>>> {
        self.0.into_values().map(|(length, mut parts)| {
            parts.sort_by_key(|(at, _)| *at);
            let mut whole = Vec::new();
            for (at, part) in parts {
                (usize::try_from(at).ok()? == whole.len()).then_some(())?;
                whole.extend_from_slice(part);
            }
            (whole.len() == usize::try_from(length).ok()?).then_some(whole)
        })
    }
}
