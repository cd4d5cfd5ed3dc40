//! JPEG, PNG and WebP files to upright 8-bit RGB, with limits against decompression bombs and
//! errors that say which file could not be read and why.

use std::io::{Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use ::image::error::{DecodingError, ImageFormatHint};
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use epsilon_data::files;
use thiserror::Error;

/// What a file may ask for before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest width times height; checked from the header, before any pixel is decoded.
    pub max_pixels: u64,
    /// Longest side, in pixels; checked from the header as well. The memory and the work of resizing grow with each side by
    /// itself, so a bound on their product alone bounds neither.
    pub max_side: u32,
    /// Largest file, in bytes.
    pub max_file_bytes: u64,
}

impl Default for Limits {
    /// 100 million pixels, 65,535 pixels a side (the longest that a JPEG can have), 256 MiB.
    fn default() -> Self {
        Self {
            max_pixels: 100_000_000,
            max_side: 65_535,
            max_file_bytes: 256 << 20,
        }
    }
}

/// Why an image could not be read. Every message names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// There is no file of that name.
    #[error("{}: no such file", path.display())]
    Missing {
        /// The file asked for.
        path: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The content is none of JPEG, PNG and WebP.
    #[error("{}: not a JPEG, PNG or WebP image", path.display())]
    NotAnImage {
        /// The file asked for.
        path: PathBuf,
    },
    /// The file ends before the image does.
    #[error("{}: truncated {format} image: the file ends before the picture does", path.display())]
    Truncated {
        /// The file asked for.
        path: PathBuf,
        /// JPEG, PNG or WebP.
        format: &'static str,
    },
    /// More bytes than [`Limits::max_file_bytes`].
    #[error("{}: larger than the limit of {limit} bytes", path.display())]
    FileTooLarge {
        /// The file asked for.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// More pixels than [`Limits::max_pixels`].
    #[error("{}: {width} x {height} pixels, above the limit of {limit}", path.display())]
    TooManyPixels {
        /// The file asked for.
        path: PathBuf,
        /// Width from the header.
        width: u32,
        /// Height from the header.
        height: u32,
        /// The limit, in pixels.
        limit: u64,
    },
    /// A side longer than [`Limits::max_side`].
    #[error("{}: {width} x {height} pixels, a side above the limit of {limit}", path.display())]
    TooLong {
        /// The file asked for.
        path: PathBuf,
        /// Width from the header.
        width: u32,
        /// Height from the header.
        height: u32,
        /// The limit, in pixels.
        limit: u32,
    },
    /// The content is damaged or uses a feature the decoder does not know.
    #[error("{}: broken {format} image: {reason}", path.display())]
    Broken {
        /// The file asked for.
        path: PathBuf,
        /// JPEG, PNG or WebP.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
}

/// Reads an image file as upright 8-bit RGB.
///
/// The format is found from the content, not from the file's name. The EXIF orientation is applied.
/// Grey and palette images are expanded, CMYK is converted, 16-bit values are scaled to 8 bits, and an alpha
/// channel is dropped, not blended with a background (what Pillow's `convert("RGB")` does). Of an
/// animation the first frame is taken. Colour profiles are ignored.
///
/// # Errors
///
/// See [`ImageError`]. A truncated file is an error, whatever part of it could be shown.
pub fn open(path: &Path, limits: &Limits) -> Result<RgbImage, ImageError> {
    decode(path, &read(path, limits.max_file_bytes)?, limits)
}

/// The same of a file that is in memory; `path` is what errors call it.
///
/// # Errors
///
/// As [`open`].
pub fn decode(path: &Path, bytes: &[u8], limits: &Limits) -> Result<RgbImage, ImageError> {
    if bytes.len() as u64 > limits.max_file_bytes {
        return Err(ImageError::FileTooLarge {
            path: path.into(),
            limit: limits.max_file_bytes,
        });
    }
    let not_an_image = || ImageError::NotAnImage { path: path.into() };
    let format = ::image::guess_format(bytes).map_err(|_| not_an_image())?;
    let name = match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        _ => return Err(not_an_image()),
    };
    // The JPEG decoder fills what is missing with grey and says nothing; the WebP decoder may, too.
    let complete = match format {
        ImageFormat::Jpeg => jpeg_is_complete(bytes),
        ImageFormat::WebP => riff_is_complete(bytes),
        _ => true,
    };
    if !complete {
        return Err(ImageError::Truncated {
            path: path.into(),
            format: name,
        });
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allocation = ::image::Limits::no_limits();
    // The widest pixel is 16-bit RGBA, 8 bytes; decoders keep some rows besides.
    allocation.max_alloc = Some(limits.max_pixels.saturating_mul(8).saturating_add(64 << 20));
    reader.limits(allocation);
    let failed = |error| describe(path, name, error);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(ImageError::TooManyPixels {
            path: path.into(),
            width,
            height,
            limit: limits.max_pixels,
        });
    }
    if width.max(height) > limits.max_side {
        return Err(ImageError::TooLong {
            path: path.into(),
            width,
            height,
            limit: limits.max_side,
        });
    }
    let orientation = decoder.orientation().map_err(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// The whole file, unless it is larger than `limit` bytes.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ImageError> {
    let failed = |reason: std::io::Error| match reason.kind() {
        ErrorKind::NotFound => ImageError::Missing { path: path.into() },
        _ => ImageError::Read {
            path: path.into(),
            reason,
        },
    };
    let file = files::open(path, u64::MAX).map_err(failed)?;
    let expected = file.metadata().map_err(failed)?.len().min(limit);
    let mut bytes = Vec::with_capacity(expected as usize + 1);
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(ImageError::FileTooLarge {
            path: path.into(),
            limit,
        });
    }
    Ok(bytes)
}

fn describe(path: &Path, format: &'static str, error: ::image::ImageError) -> ImageError {
    let ends_early = match &error {
        ::image::ImageError::IoError(source) => source.kind() == ErrorKind::UnexpectedEof,
        ::image::ImageError::Decoding(source) => is_end_of_file(source),
        _ => false,
    };
    if ends_early {
        return ImageError::Truncated {
            path: path.into(),
            format,
        };
    }
    ImageError::Broken {
        path: path.into(),
        format,
        reason: error.to_string(),
    }
}

/// Whether a decoder's error has an unexpected end of file as its cause.
fn is_end_of_file(error: &DecodingError) -> bool {
    debug_assert!(!matches!(error.format_hint(), ImageFormatHint::Unknown));
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == ErrorKind::UnexpectedEof;
        }
        cause = error.source();
    }
    false
}

/// Walks the segments of a JPEG file and says whether its end-of-image marker is there
/// (ITU-T T.81, annex B). A thumbnail's own marker lies inside a segment and is stepped over.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xD9;
    let mut rest = bytes;
    // A marker is 0xFF and a byte that is neither 0 (a stuffed data byte) nor 0xFF (filling).
    // Entropy-coded data holds no marker but restarts, so one search serves inside and between
    // segments.
    while let Some(at) = rest.iter().position(|byte| *byte == 0xFF) {
        let Some(&marker) = rest.get(at + 1) else {
            return false;
        };
        rest = match marker {
            END_OF_IMAGE => return true,
            0xFF => &rest[at + 1..],
            // Without a length: stuffing, TEM, restarts, start of image.
            0x00 | 0x01 | 0xD0..=0xD8 => &rest[at + 2..],
            _ => {
                let Some(&[high, low]) = rest.get(at + 2..at + 4) else {
                    return false;
                };
                let length = usize::from(u16::from_be_bytes([high, low])).max(2);
                let Some(after) = rest.get(at + 2 + length..) else {
                    return false;
                };
                after
            }
        };
    }
    false
}

/// Whether a RIFF container (WebP) is as long as its header says.
fn riff_is_complete(bytes: &[u8]) -> bool {
    let Some(&[a, b, c, d]) = bytes.get(4..8) else {
        return false;
    };
    bytes.len() as u64 >= 8 + u64::from(u32::from_le_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

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
        for bytes in [&b"just some words"[..], b"", b"GIF89a\x01\0\x01\0\0\0\0;"] {
            let error = open_bytes(bytes, &limits).unwrap_err();
            assert!(matches!(error, ImageError::NotAnImage { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_cut_short_is_an_error_at_every_length() {
        for name in [
            "rgb.jpg",
            "progressive.jpg",
            "rgb.png",
            "lossy.webp",
            "lossless.webp",
        ] {
            let bytes = fs::read(fixture(name)).unwrap();
            // The last chunk of a PNG holds no data: a file without its 12 bytes is whole.
            let end = if name == "rgb.png" {
                bytes.len() - 12
            } else {
                bytes.len()
            };
            for length in 0..end {
                let result = open_bytes(&bytes[..length], &Limits::default());
                assert!(result.is_err(), "{name} cut to {length} of {}", bytes.len());
            }
            let half = open_bytes(&bytes[..bytes.len() / 2], &Limits::default()).unwrap_err();
            assert!(
                matches!(half, ImageError::Truncated { .. }),
                "{name}: {half}"
            );
        }
    }

    #[test]
    fn an_end_marker_inside_a_thumbnail_does_not_count() {
        let thumbnail = [0xFF, 0xD8, 0xFF, 0xE1, 0x00, 0x06, 0xFF, 0xD8, 0xFF, 0xD9];
        assert!(!jpeg_is_complete(&thumbnail));
        assert!(jpeg_is_complete(
            &[&thumbnail[..], &[0x12, 0xFF, 0xFF, 0xD9]].concat()
        ));
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
