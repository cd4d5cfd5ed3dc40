//! PNG files, row by row: a picture that is only to be made small is never held as a whole, whatever its depth.

use std::io::Cursor;

use ::image::RgbImage;
use ::image::metadata::Orientation;
use png::{BitDepth, ColorType, DecodingError, Transformations};

use super::blocks::{block_rows, push_rgb};
use super::error::{Fault, Flaw};

/// Memory for chunks other than pixels.
const CHUNKS: usize = 64 << 20;

/// Width and height, where the file begins as it should.
pub(super) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let (&[w3, w2, w1, w0, h3, h2, h1, h0], _) = bytes.get(16..)?.split_first_chunk()?;
    let width = u32::from_be_bytes([w3, w2, w1, w0]);
    let height = u32::from_be_bytes([h3, h2, h1, h0]);
    Some((width, height))
}

/// A file whose header has been read.
pub(super) struct Rows<'a> {
    reader: Box<png::Reader<Cursor<&'a [u8]>>>,
}

impl<'a> Rows<'a> {
    /// Reads a file up to its pixels.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let limits = png::Limits { bytes: CHUNKS };
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
        decoder.set_transformations(Transformations::EXPAND);
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        let reader = Box::new(decoder.read_info().map_err(fault)?);
        Ok(Self { reader })
    }

    /// Width and height.
    pub(super) fn size(&self) -> (u32, u32) {
        self.reader.info().size()
    }

    /// How the picture is to be turned.
    pub(super) fn orientation(&self) -> Orientation {
        let exif = self.reader.info().exif_metadata.as_deref();
        let orientation = exif.and_then(Orientation::from_exif_chunk);
        orientation.unwrap_or(Orientation::NoTransforms)
    }

    /// Bytes of memory that reading the rows takes: some of them, or all pixels where rows come in several passes.
    pub(super) fn memory(&self) -> u64 {
        let (width, height) = self.size();
        // A row in up to 8 bytes a pixel, filtered, unfiltered and expanded, some of each ahead.
        let rows = (8 << 20) + 64 * u64::from(width);
        match self.reader.info().interlaced {
            true => rows + 3 * u64::from(width) * u64::from(height),
            false => rows,
        }
    }

    /// Hands out all rows from the top, some at a time.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn blocks(mut self, each: &mut dyn FnMut(RgbImage)) -> Result<Option<Flaw>, Fault> {
        if self.reader.info().interlaced {
            each(self.interlaced()?);
            return self.end();
        }
        let (width, height) = self.size();
        let mut line = self.line()?;
        let block = block_rows(width);
        for first in (0..height).step_by(block as usize) {
            let rows = block.min(height - first);
            let mut pixels = Vec::with_capacity(3 * width as usize * rows as usize);
            for _ in 0..rows {
                self.reader.read_row(&mut line).map_err(fault)?;
                self.push(&line, &mut pixels);
            }
            each(image(width, rows, pixels)?);
        }
        self.end()
    }

    /// All pixels of a picture whose rows come in several passes.
    fn interlaced(&mut self) -> Result<RgbImage, Fault> {
        let (width, height) = self.size();
        let mut line = self.line()?;
        let stride = 3 * width as usize;
        let mut pixels = vec![0; stride * height as usize];
        let mut row = Vec::with_capacity(stride);
        while let Some(info) = self.reader.read_row(&mut line).map_err(fault)? {
            let png::InterlaceInfo::Adam7(pass) = info else {
                return Err(Fault::Broken("a row of no pass".into()));
            };
            row.clear();
            self.push(&line, &mut row);
            png::expand_interlaced_row(&mut pixels, stride, &row, &pass, 24);
        }
        image(width, height, pixels)
    }

    /// Room for a row of the whole width.
    fn line(&self) -> Result<Vec<u8>, Fault> {
        let length = self.reader.output_line_size(self.size().0);
        let length = length.ok_or_else(|| Fault::Broken("its rows are too long".into()))?;
        Ok(vec![0; length])
    }

    /// Adds a decoded row to RGB pixels.
    fn push(&self, line: &[u8], pixels: &mut Vec<u8>) {
        let (colour, depth) = self.reader.output_color_type();
        let channels = match colour {
            ColorType::Grayscale | ColorType::Indexed => 1,
            ColorType::GrayscaleAlpha => 2,
            ColorType::Rgb => 3,
            ColorType::Rgba => 4,
        };
        match depth {
            BitDepth::Sixteen => {
                // The nearest of 256 levels.
                let level = |pair: &[u8]| {
                    let value = u32::from(u16::from_be_bytes([pair[0], pair[1]]));
                    ((value + 128) / 257) as u8
                };
                let line: Vec<u8> = line.chunks_exact(2).map(level).collect();
                push_rgb(&line, channels, pixels);
            }
            _ => push_rgb(line, channels, pixels),
        }
    }

    /// What is wrong after the last row, if anything: checksums of the pixels may be missing but not wrong.
    fn end(&mut self) -> Result<Option<Flaw>, Fault> {
        let mut line = self.line()?;
        match self.reader.read_row(&mut line).map_err(fault) {
            Ok(_) => {}
            Err(Fault::Truncated) => return Ok(Some(Flaw::NoEnd)),
            Err(broken) => return Err(broken),
        }
        // What else stands behind the pixels is not needed.
        match self.reader.finish().map_err(fault) {
            Err(Fault::Truncated) => Ok(Some(Flaw::NoEnd)),
            _ => Ok(None),
        }
    }
}

fn image(width: u32, rows: u32, pixels: Vec<u8>) -> Result<RgbImage, Fault> {
    RgbImage::from_raw(width, rows, pixels).ok_or_else(|| Fault::Broken("rows are missing".into()))
}

fn fault(error: DecodingError) -> Fault {
    match error {
        DecodingError::IoError(reason) => Fault::from_cause(&reason),
        other => Fault::from_cause(&other),
    }
}
