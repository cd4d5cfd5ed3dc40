//! Files of pictures to upright 8-bit RGB, with limits against decompression bombs and errors that say which file could not be
//! read and why.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use epsilon_data::files;

#[cfg(feature = "avif")]
use super::avif::Avif;
use super::error::{Fault, Flaw, ImageError};
use super::fit::{Filter, Fit};
use super::jxl::Jxl;
use super::kind::{Kind, kind};
use super::limits::{Limits, wait_for_memory};
use super::picture::{Picture, Shrunk, Source, swaps_sides};
use super::png::Rows;
use super::reduced::Reduced;
use super::resize::crop;
use super::{Preprocess, heic, jpeg, png, raw, webp};

/// Reads an image file as upright 8-bit RGB.
///
/// The format is found from the content, not from the file's name. The EXIF orientation is applied.
/// Grey and palette images are expanded, CMYK is converted, 16-bit values are scaled to 8 bits, and an alpha
/// channel is dropped, not blended with a background (what Pillow's `convert("RGB")` does). Of an
/// animation the first frame is taken, and of a camera's raw file the largest JPEG in it. Colour profiles are ignored.
///
/// # Errors
///
/// See [`ImageError`]. A truncated file is an error, whatever part of it could be shown; one that lacks its end alone, not its
/// picture, is read.
pub fn open(path: &Path, limits: &Limits) -> Result<RgbImage, ImageError> {
    decode(path, &read(path, limits.max_file_bytes)?, limits)
}

/// The same of a file that is in memory; `path` is what errors call it.
///
/// # Errors
///
/// As [`open`].
pub fn decode(path: &Path, bytes: &[u8], limits: &Limits) -> Result<RgbImage, ImageError> {
    let whole = |picture: Picture<'_>| picture.whole();
    Ok(with_picture(path, bytes, limits, None, whole)?.0)
}

/// A picture of a file in memory, with `least` pixels on its shorter side at least, where it has them: a JPEG is decoded at a fraction
/// of its size where that is enough.
///
/// # Errors
///
/// As [`open`].
pub(super) fn open_reduced(
    path: &Path,
    bytes: &[u8],
    least: u32,
    limits: &Limits,
) -> Result<RgbImage, ImageError> {
    let to = Preprocess {
        size: least,
        fit: Fit::ShorterSide { resize: least },
        filter: Filter::Bilinear,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    // The rows of a PNG are all held, which is what none to be made small for stands for.
    let to = (kind(bytes) != Some(Kind::Png)).then_some(&to);
    let whole = |picture: Picture<'_>| picture.whole();
    Ok(with_picture(path, bytes, limits, to, whole)?.0)
}

/// What a backbone takes of a photograph.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// Preprocessed, `[3, size, size]`.
    pub values: Vec<f32>,
    /// What was wrong with the file, though all of its picture could be read.
    pub flaw: Option<Flaw>,
}

/// Reads an image file as [`open`] does, and preprocesses it as [`Preprocess::apply`] does, but in less memory and time: a PNG is
/// made small as it is decoded, to the same values; a JPEG is decoded at a half, a quarter or an eighth of its size where that
/// is twice the size of what is asked for at least, to values that hardly differ.
///
/// # Errors
///
/// As [`open`].
pub fn open_for(
    path: &Path,
    preprocess: &Preprocess,
    limits: &Limits,
) -> Result<Pixels, ImageError> {
    let bytes = read(path, limits.max_file_bytes)?;
    decode_for(path, &bytes, preprocess, limits)
}

/// The same of a file that is in memory; `path` is what errors call it.
///
/// # Errors
///
/// As [`open`].
pub fn decode_for(
    path: &Path,
    bytes: &[u8],
    preprocess: &Preprocess,
    limits: &Limits,
) -> Result<Pixels, ImageError> {
    let resized = |picture: Picture<'_>| picture.resized(preprocess);
    let (resized, flaw) = with_picture(path, bytes, limits, Some(preprocess), resized)?;
    let mut values = vec![0.0; preprocess.len()];
    preprocess.normalise(&resized, &mut values);
    Ok(Pixels { values, flaw })
}

type Made = (RgbImage, Option<Flaw>);

/// Makes something of the picture in a file, once it is within the limits and there is memory for it; `to` what it is made small
/// for, where not all of its pixels are wanted.
fn with_picture(
    path: &Path,
    bytes: &[u8],
    limits: &Limits,
    to: Option<&Preprocess>,
    make: impl FnOnce(Picture<'_>) -> Result<Made, Fault>,
) -> Result<Made, ImageError> {
    if bytes.len() as u64 > limits.max_file_bytes {
        return Err(ImageError::FileTooLarge {
            path: path.into(),
            limit: limits.max_file_bytes,
        });
    }
    let file = File::of(path, bytes)?;
    let name = file.name;
    let decode = || file.with_picture(path, limits, to, make);
    // The decoders of some formats are young.
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref().copied());
        let reason = format!("its decoder failed: {}", said.unwrap_or("no reason given"));
        Err(Fault::Broken(reason).of(path, name))
    })
}

/// What of a file is decoded.
struct File<'a> {
    kind: Kind,
    /// What people call the file's format, which of a raw file is another than that of its preview.
    name: &'static str,
    bytes: &'a [u8],
    /// How it is to be turned, where that is said outside of what is decoded.
    orientation: Option<Orientation>,
}

impl<'a> File<'a> {
    fn of(path: &Path, bytes: &'a [u8]) -> Result<Self, ImageError> {
        let kind = match kind(bytes) {
            Some(kind) if kind.is_read() => kind,
            Some(kind) => {
                let feature = kind.format().and_then(|format| format.feature);
                let kind = kind.name();
                return Err(match feature {
                    Some(feature) => ImageError::NotBuilt {
                        path: path.into(),
                        kind,
                        feature,
                    },
                    None => ImageError::NotAnImage {
                        path: path.into(),
                        kind: Some(kind),
                    },
                });
            }
            None => {
                return Err(ImageError::NotAnImage {
                    path: path.into(),
                    kind: None,
                });
            }
        };
        let found = match kind {
            Kind::Raw("CR3") => raw::cr3(bytes),
            Kind::Raw("RAF") => raw::raf(bytes),
            Kind::Raw(_) => raw::tiff(bytes).of_sensor(),
            Kind::Tiff => raw::tiff(bytes),
            _ => raw::Raw::default(),
        };
        let name = match kind {
            Kind::Tiff if found.sensor => "raw TIFF",
            kind => kind.name(),
        };
        match (found.sensor, found.preview) {
            // What is left of a raw file may be a thumbnail.
            _ if found.cut => Err(Fault::Truncated.of(path, name)),
            (true, Some(bytes)) => Ok(Self {
                kind: Kind::Jpeg,
                name,
                bytes,
                orientation: found.orientation,
            }),
            (true, None) => Err(ImageError::NoPreview {
                path: path.into(),
                format: name,
            }),
            (false, _) => Ok(Self {
                kind,
                name,
                bytes,
                orientation: found.orientation,
            }),
        }
    }

    fn with_picture(
        &self,
        path: &Path,
        limits: &Limits,
        to: Option<&Preprocess>,
        make: impl FnOnce(Picture<'_>) -> Result<Made, Fault>,
    ) -> Result<Made, ImageError> {
        let failed = |fault: Fault| fault.of(path, self.name);
        // The decoder of PNG reserves a row before it tells its length.
        if let (Kind::Png, Some(size)) = (self.kind, png::size(self.bytes)) {
            limits.check_size(path, size)?;
        }
        let mut header = Header::read(self.kind, self.bytes, limits).map_err(failed)?;
        // Not every decoder refuses one without pixels, of which nothing can be made.
        if let (width, height @ 0) | (width @ 0, height) = header.size {
            let reason = format!("{width} x {height} pixels are no picture");
            return Err(failed(Fault::Broken(reason)));
        }
        header.orientation = self.orientation.unwrap_or(header.orientation);
        if let Some((reduced, side)) = to.and_then(|to| header.reduced(to, self.bytes)) {
            let need = reduced.memory(side) + header.turning(3 * reduced.pixels(side));
            limits.check(path, header.size, need, self.bytes.len())?;
            let _permit = wait_for_memory(need);
            if let Some(image) = reduced.decode(side) {
                let picture = Picture {
                    source: Source::Smaller(
                        image,
                        Shrunk {
                            size: header.size,
                            side,
                        },
                    ),
                    orientation: header.orientation,
                };
                return make(picture).map_err(failed);
            }
        }
        let need = header.memory(to.is_none());
        limits.check(path, header.size, need, self.bytes.len())?;
        let _permit = wait_for_memory(need);
        header.decode(self.bytes).and_then(make).map_err(failed)
    }
}

/// What is known of a file before its pixels are decoded.
struct Header<'a> {
    size: (u32, u32),
    orientation: Orientation,
    /// Bytes of memory that decoding takes.
    decoding: u64,
    content: Content<'a>,
}

enum Content<'a> {
    Rows(Rows<'a>),
    /// A JPEG, whether or not it has an end.
    Jpeg(bool),
    WebP(Option<Flaw>),
    /// GIF, BMP or TIFF, and what its decoder may take.
    Plain(ImageFormat, u64),
    JpegXl(Jxl<'a>),
    Heic,
    #[cfg(feature = "avif")]
    Avif(Box<Avif<'a>>),
}

impl<'a> Header<'a> {
    fn read(kind: Kind, bytes: &'a [u8], limits: &Limits) -> Result<Self, Fault> {
        let upright = |size, decoding, content| Self {
            size,
            orientation: Orientation::NoTransforms,
            decoding,
            content,
        };
        match kind {
            Kind::Png => {
                let rows = Rows::open(bytes)?;
                Ok(Self {
                    size: rows.size(),
                    orientation: rows.orientation(),
                    decoding: rows.memory(),
                    content: Content::Rows(rows),
                })
            }
            Kind::Jpeg => Self::jpeg(bytes),
            Kind::WebP => {
                let webp = webp::examine(bytes)?;
                let (size, orientation) = told(decoder(bytes, ImageFormat::WebP, None)?)?;
                Ok(Self {
                    size,
                    orientation,
                    decoding: webp.memory * u64::from(size.0) * u64::from(size.1),
                    content: Content::WebP(webp.flaw),
                })
            }
            Kind::Gif => Self::plain(bytes, ImageFormat::Gif),
            Kind::Bmp => Self::plain(bytes, ImageFormat::Bmp),
            Kind::Tiff => Self::plain(bytes, ImageFormat::Tiff),
            Kind::JpegXl => {
                let jxl = Jxl::open(bytes, limits.max_pixels)?;
                Ok(upright(jxl.size, jxl.memory(), Content::JpegXl(jxl)))
            }
            Kind::Heic => {
                let heic = heic::examine(bytes)?;
                Ok(upright(heic.size, heic.memory, Content::Heic))
            }
            #[cfg(feature = "avif")]
            Kind::Avif => {
                let avif = Box::new(Avif::open(bytes)?);
                Ok(upright(avif.size(), avif.memory(), Content::Avif(avif)))
            }
            other => Err(Fault::Broken(format!("no decoder for {}", other.name()))),
        }
    }

    fn jpeg(bytes: &'a [u8]) -> Result<Self, Fault> {
        let jpeg = jpeg::examine(bytes)?;
        let (size, orientation) = told(decoder(bytes, ImageFormat::Jpeg, None)?)?;
        let pixels = u64::from(size.0) * u64::from(size.1);
        let file = bytes.len() as u64;
        Ok(Self {
            size,
            orientation,
            decoding: match jpeg.ended {
                // Looked at in three channels first, and with another ending.
                false => jpeg.memory() + 3 * pixels + 2 * file,
                // The decoder copies the file.
                true => jpeg.memory() + file,
            },
            content: Content::Jpeg(jpeg.ended),
        })
    }

    /// A format of which a decoder makes all pixels at once, of up to 16 bytes each, that then become RGB.
    fn plain(bytes: &'a [u8], format: ImageFormat) -> Result<Self, Fault> {
        // A TIFF's orientation is found before, within bounds.
        let decoder = decoder(bytes, format, None)?;
        let (size, total) = (decoder.dimensions(), decoder.total_bytes());
        let pixels = u64::from(size.0) * u64::from(size.1);
        // Beside the pixels: a GIF's frame, or a TIFF's own pixels and a strip of them.
        let most = 3 * total + (1 << 20);
        Ok(Self {
            size,
            orientation: Orientation::NoTransforms,
            decoding: most + 3 * pixels,
            content: Content::Plain(format, most),
        })
    }

    /// A JPEG that can be decoded at a smaller size, and that size: how many pixels for 8 of a side.
    fn reduced<'b>(&self, to: &Preprocess, bytes: &'b [u8]) -> Option<(Reduced<'b>, usize)> {
        if !matches!(self.content, Content::Jpeg(true)) {
            return None;
        }
        let (width, height) = self.size;
        let (width, height) = match swaps_sides(self.orientation) {
            true => (height, width),
            false => (width, height),
        };
        let part = crop(width, height, to.size, to.fit);
        let least = part.width.min(part.height);
        let enough = |side: &usize| least * *side as f64 / 8.0 >= 2.0 * f64::from(to.size);
        let side = [1, 2, 4].into_iter().find(enough)?;
        let reduced = Reduced::open(bytes)?;
        (reduced.size() == self.size).then_some((reduced, side))
    }

    /// Bytes of memory that turning so many takes.
    fn turning(&self, bytes: u64) -> u64 {
        match self.orientation {
            Orientation::NoTransforms => 0,
            _ => bytes,
        }
    }

    /// Bytes of memory that it takes to make an upright picture, or with `whole` to keep all of its pixels.
    fn memory(&self, whole: bool) -> u64 {
        let (width, height) = self.size;
        let pixels = 3 * u64::from(width) * u64::from(height);
        let turning = self.turning(pixels);
        let held = matches!(self.content, Content::Rows(_)) && (whole || turning > 0);
        self.decoding + turning + pixels * u64::from(held)
    }

    fn decode(self, bytes: &'a [u8]) -> Result<Picture<'a>, Fault> {
        let source = match self.content {
            Content::Rows(rows) => Source::Rows(rows),
            Content::Jpeg(true) => Source::Held(held(bytes, ImageFormat::Jpeg)?, None),
            Content::Jpeg(false) => Source::Held(without_end(bytes)?, Some(Flaw::NoEnd)),
            Content::WebP(flaw) => Source::Held(held(bytes, ImageFormat::WebP)?, flaw),
            Content::Plain(format, most) => {
                let decoder = decoder(bytes, format, Some(most))?;
                let image = DynamicImage::from_decoder(decoder).map_err(fault)?;
                Source::Held(image.into_rgb8().into(), None)
            }
            Content::JpegXl(jxl) => Source::Held(jxl.decode()?, None),
            Content::Heic => Source::Held(heic::decode(bytes)?, None),
            #[cfg(feature = "avif")]
            Content::Avif(avif) => Source::Held(avif.decode()?, None),
        };
        Ok(Picture {
            source,
            orientation: self.orientation,
        })
    }
}

/// Size and orientation, as a decoder tells them.
fn told(mut decoder: impl ImageDecoder) -> Result<((u32, u32), Orientation), Fault> {
    let orientation = decoder.orientation().map_err(fault)?;
    Ok((decoder.dimensions(), orientation))
}

fn held(bytes: &[u8], format: ImageFormat) -> Result<DynamicImage, Fault> {
    DynamicImage::from_decoder(decoder(bytes, format, None)?).map_err(fault)
}

/// A JPEG without its end marker: decoded with two endings, on which a whole picture does not depend.
fn without_end(bytes: &[u8]) -> Result<DynamicImage, Fault> {
    let [one, other] = jpeg::endings(bytes);
    if !jpeg::is_readable(&other) {
        return Err(Fault::Truncated);
    }
    let digest = |image: &DynamicImage| {
        let mut hasher = DefaultHasher::new();
        hasher.write(image.as_bytes());
        hasher.finish()
    };
    let expected = digest(&held(&one, ImageFormat::Jpeg)?);
    let image = held(&other, ImageFormat::Jpeg)?;
    match digest(&image) == expected {
        true => Ok(image),
        false => Err(Fault::Truncated),
    }
}

/// A decoder that takes `most` bytes of memory at most, where that is not known before it starts.
fn decoder(
    bytes: &[u8],
    format: ImageFormat,
    most: Option<u64>,
) -> Result<impl ImageDecoder + '_, Fault> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.no_limits();
    if let Some(most) = most {
        let mut limits = ::image::Limits::no_limits();
        limits.max_alloc = Some(most);
        reader.limits(limits);
    }
    reader.into_decoder().map_err(fault)
}

fn fault(error: ::image::ImageError) -> Fault {
    Fault::from_cause(&error)
}

/// The whole file, unless it is larger than `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ImageError> {
    files::read(path, limit).map_err(|reason| ImageError::of_system(path, limit, reason))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::super::{Filter, Fit};
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/image", name]
            .iter()
            .collect()
    }

    fn largest_difference(a: &RgbImage, b: &RgbImage) -> u8 {
        assert_eq!(a.dimensions(), b.dimensions());
        let pairs = a.as_raw().iter().zip(b.as_raw());
        pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
    }

    /// Nothing can be made of one (found by `fuzz/`: it was made small to a size below zero).
    #[test]
    fn a_picture_without_pixels_is_refused() {
        let path = fixture("../formats/plain.gif");
        let whole = fs::read(&path).unwrap();
        for side in [6, 8] {
            let mut bytes = whole.clone();
            bytes[side..side + 2].fill(0);
            let refused = decode(&path, &bytes, &Limits::default()).unwrap_err();
            assert!(refused.to_string().contains("are no picture"), "{refused}");
        }
    }

    /// Each file beside what Pillow made of it (see `make.py` there).
    #[test]
    fn every_kind_of_pixel_ends_as_rgb() {
        let limits = Limits::default();
        // JPEG decoders may differ a little: the inverse cosine transform and the chroma upsampling are
        // only specified up to rounding.
        for (name, tolerance) in [
            ("rgb.png", 0),
            ("rgba.png", 0),
            ("grey.png", 0),
            ("grey_alpha.png", 0),
            ("grey16.png", 0),
            ("rgb16.png", 0),
            ("palette.png", 0),
            ("palette_transparent.png", 0),
            ("bilevel.png", 0),
            ("lossless.webp", 0),
            ("lossless_alpha.webp", 0),
            ("lossy.webp", 3),
            ("rgb.jpg", 3),
            ("subsampled.jpg", 8),
            ("progressive.jpg", 3),
            ("grey.jpg", 3),
            ("cmyk.jpg", 3),
        ] {
            let ours = open(&fixture(name), &limits).unwrap();
            let stem = name.replace('.', "_");
            let theirs = open(&fixture(&format!("expected_{stem}.png")), &limits).unwrap();
            let difference = largest_difference(&ours, &theirs);
            assert!(difference <= tolerance, "{name}: differs by {difference}");
        }
    }

    #[test]
    fn exif_orientation_is_applied() {
        let limits = Limits::default();
        let upright = open(&fixture("expected_orientation.png"), &limits).unwrap();
        for orientation in 1..=8 {
            let name = format!("orientation_{orientation}.jpg");
            let ours = open(&fixture(&name), &limits).unwrap();
            let difference = largest_difference(&ours, &upright);
            assert!(difference <= 4, "{name}: differs by {difference}");
        }
    }

    fn open_bytes(bytes: &[u8], limits: &Limits) -> Result<RgbImage, ImageError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photo.jpg");
        fs::write(&path, bytes).unwrap();
        open(&path, limits)
    }

    #[test]
    fn the_name_does_not_decide_the_format() {
        let bytes = fs::read(fixture("rgb.png")).unwrap();
        assert!(open_bytes(&bytes, &Limits::default()).is_ok());
    }

    #[test]
    fn missing_files_and_other_content_are_told_apart() {
        let limits = Limits::default();
        let error = open(Path::new("/no/such/photo.jpg"), &limits).unwrap_err();
        assert_eq!(error.to_string(), "/no/such/photo.jpg: no such file");
        assert!(matches!(
            open(Path::new("/"), &limits),
            Err(ImageError::Read { .. })
        ));
        for bytes in [&b"just some words"[..], b"", b"8BPS\0\x01 and more"] {
            let error = open_bytes(bytes, &limits).unwrap_err();
            assert!(matches!(error, ImageError::NotAnImage { .. }), "{error}");
        }
    }

    /// Bytes at the end of a file that hold nothing of its picture: the end marker; the end of the
    /// compressed data, its checksums and the last chunk.
    const ENDS: [(&str, usize); 8] = [
        ("rgb.jpg", 2),
        ("progressive.jpg", 2),
        ("subsampled.jpg", 2),
        ("grey.jpg", 2),
        ("cmyk.jpg", 2),
        ("rgb.png", 21),
        ("lossy.webp", 0),
        ("lossless.webp", 0),
    ];

    #[test]
    fn t20_a_file_cut_short_is_an_error_at_every_length_but_for_its_end() {
        let limits = Limits::default();
        for (name, end) in ENDS {
            let bytes = fs::read(fixture(name)).unwrap();
            let whole = decode(name.as_ref(), &bytes, &limits).unwrap();
            for length in 0..bytes.len() {
                let result = read_for(&bytes[..length], whole.width());
                let case = format!("{name} cut to {length} of {}", bytes.len());
                if length < bytes.len() - end {
                    assert!(result.is_err(), "{case}");
                } else {
                    let (pixels, flaw) = result.unwrap();
                    assert_eq!(flaw, Some(Flaw::NoEnd), "{case}");
                    assert_eq!(pixels, read_for(&bytes, whole.width()).unwrap().0, "{case}");
                }
            }
            let half = decode(name.as_ref(), &bytes[..bytes.len() / 2], &limits).unwrap_err();
            assert!(
                matches!(half, ImageError::Truncated { .. }),
                "{name}: {half}"
            );
            assert_eq!(read_for(&bytes, 8).unwrap().1, None, "{name}");
        }
    }

    /// A file that was reserved on the disk but not filled: zeros where the rest of the picture should be.
    #[test]
    fn t20_zeros_are_no_picture() {
        // What a WebP's zeros mean is not known: its data has no end of its own.
        for (name, _) in ENDS.into_iter().filter(|(name, _)| !name.ends_with("webp")) {
            let mut bytes = fs::read(fixture(name)).unwrap();
            let length = bytes.len();
            bytes[length * 2 / 3..].fill(0);
            assert!(read_for(&bytes, 8).is_err(), "{name}");
        }
    }

    /// What a whole picture is followed by does not matter, and neither does a byte of filling that a WebP's header counts.
    #[test]
    fn t20_what_follows_a_picture_is_not_read() {
        for (name, _) in ENDS {
            let bytes = fs::read(fixture(name)).unwrap();
            let longer = [&bytes[..], b"\0\0and more"].concat();
            assert_eq!(
                read_for(&longer, 8).unwrap(),
                read_for(&bytes, 8).unwrap(),
                "{name}"
            );
        }
        let mut bytes = fs::read(fixture("lossy.webp")).unwrap();
        let claimed = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) + 1;
        bytes[4..8].copy_from_slice(&claimed.to_le_bytes());
        assert_eq!(read_for(&bytes, 8).unwrap().1, Some(Flaw::NoEnd));
    }

    fn read_for(bytes: &[u8], size: u32) -> Result<(Vec<f32>, Option<Flaw>), ImageError> {
        let preprocess = Preprocess {
            size,
            fit: Fit::Squash,
            filter: Filter::Bicubic,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        let pixels = decode_for("photo".as_ref(), bytes, &preprocess, &Limits::default())?;
        Ok((pixels.values, pixels.flaw))
    }

    /// Row by row or as a whole, turned or not: the same values.
    #[test]
    fn a01_pixels_are_those_of_the_whole_picture() {
        let limits = Limits::default();
        let mut seen = 0;
        for entry in fs::read_dir(fixture("")).unwrap() {
            let path = entry.unwrap().path();
            let Ok(whole) = open(&path, &limits) else {
                continue;
            };
            for fit in [Fit::Squash, Fit::ShorterSide { resize: 37 }] {
                let preprocess = Preprocess {
                    size: 32,
                    fit,
                    filter: Filter::Bicubic,
                    mean: [0.5; 3],
                    std: [0.25; 3],
                };
                let mut expected = vec![0.0; preprocess.len()];
                preprocess.apply(&whole, &mut expected);
                let found = open_for(&path, &preprocess, &limits).unwrap();
                assert!(found.values == expected, "{}", path.display());
                seen += 1;
            }
        }
        assert!(seen > 40);
    }

    #[test]
    fn limits_are_checked_before_decoding() {
        let bytes = fs::read(fixture("rgb.png")).unwrap();
        let small = Limits {
            max_file_bytes: bytes.len() as u64 - 1,
            ..Limits::default()
        };
        assert!(matches!(
            open_bytes(&bytes, &small),
            Err(ImageError::FileTooLarge { .. })
        ));
        // A header that claims 30,000 x 30,000 pixels, with a right checksum and no data behind it.
        let bomb = fixture("bomb.png");
        assert!(matches!(
            open(&bomb, &Limits::default()),
            Err(ImageError::TooManyPixels {
                width: 30_000,
                height: 30_000,
                ..
            })
        ));
    }

    proptest! {
        #[test]
        fn damage_never_panics(position in 0usize..10_000, value: u8, which in 0usize..5) {
            let name = ["rgb.jpg", "progressive.jpg", "rgb.png", "lossy.webp", "lossless.webp"][which];
            let mut bytes = fs::read(fixture(name)).unwrap();
            let position = position % bytes.len();
            bytes[position] = value;
            let limits = Limits { max_pixels: 1_000_000, ..Limits::default() };
            let _ = open_bytes(&bytes, &limits);
        }
    }
}
