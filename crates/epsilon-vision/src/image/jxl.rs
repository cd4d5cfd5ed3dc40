//! JPEG XL (ISO/IEC 18181), with the reference's own decoder in Rust.

use ::image::{DynamicImage, GrayImage, RgbImage};
use jxl::api::{
    Event, JxlColorType, JxlDecoder, JxlDecoderOptions, JxlOutputBuffer, JxlPixelFormat,
};
use jxl::error::Error;

use super::error::Fault;

/// A frame may be larger than the picture, of which it then is a part; by this many times at most.
const LARGER: u64 = 4;

/// A file whose header has been read.
pub(super) struct Jxl<'a> {
    bytes: &'a [u8],
    /// Width and height of the upright picture.
    pub size: (u32, u32),
    /// Channels beside the colours: alpha, depth and others.
    extra: usize,
    grey: bool,
}

impl<'a> Jxl<'a> {
    /// Reads a file up to its first frame.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn open(bytes: &'a [u8], max_pixels: u64) -> Result<Self, Fault> {
        let mut rest = bytes;
        let decoder = start(&mut rest, LARGER.saturating_mul(max_pixels))?;
        let header = decoder.basic_info();
        let profile = decoder.embedded_color_profile();
        let (header, profile) = header.zip(profile).ok_or_else(|| unexpected("no header"))?;
        let side = |side: usize| u32::try_from(side).map_err(|_| unexpected("a side too long"));
        let grey = match profile.channels() {
            1 => true,
            3 => false,
            _ => return Err(unexpected("colours other than red, green and blue")),
        };
        Ok(Self {
            bytes,
            size: (side(header.size.0)?, side(header.size.1)?),
            extra: header.extra_channels.len(),
            grey,
        })
    }

    fn pixels(&self) -> u64 {
        u64::from(self.size.0) * u64::from(self.size.1)
    }

    fn samples(&self) -> u64 {
        self.pixels().saturating_mul(3 + self.extra as u64)
    }

    /// Bytes of memory that decoding takes, the pixels included.
    pub(super) fn memory(&self) -> u64 {
        // Values of four bytes, where they are kept at all.
        (16 << 20) + 4 * self.samples() + 3 * self.pixels() + self.bytes.len() as u64
    }

    /// The upright picture: its first frame.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn decode(&self) -> Result<DynamicImage, Fault> {
        let mut rest = self.bytes;
        let mut decoder = start(&mut rest, LARGER.saturating_mul(self.samples()))?;
        let channels = if self.grey { 1 } else { 3 };
        let format = JxlPixelFormat {
            color_type: if self.grey {
                JxlColorType::Grayscale
            } else {
                JxlColorType::Rgb
            },
            ..JxlPixelFormat::rgb8(self.extra)
        };
        decoder.set_pixel_format(format).map_err(fault)?;
        let (width, height) = self.size;
        let row = channels * width as usize;
        let mut pixels = vec![0; row * height as usize];
        loop {
            let out = JxlOutputBuffer::new(&mut pixels, height as usize, row);
            match decoder
                .process(&mut rest, Some(&mut [out]), None)
                .map_err(fault)?
            {
                Event::FrameComplete { .. } => break,
                Event::NeedMoreInput { .. } => return Err(Fault::Truncated),
                Event::Complete => return Err(unexpected("no frame")),
                Event::BasicInfo | Event::FrameHeader => {}
            }
        }
        let image = match self.grey {
            true => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
            false => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
        };
        image.ok_or_else(|| unexpected("rows are missing"))
    }
}

/// A decoder that has read the header.
fn start(rest: &mut &[u8], samples: u64) -> Result<Box<JxlDecoder>, Fault> {
    let mut options = JxlDecoderOptions::default();
    options.sample_limit = Some(usize::try_from(samples).unwrap_or(usize::MAX));
    let mut decoder = Box::new(JxlDecoder::new(options));
    match decoder.process(rest, None, None).map_err(fault)? {
        Event::BasicInfo => Ok(decoder),
        Event::NeedMoreInput { .. } => Err(Fault::Truncated),
        _ => Err(unexpected("no header")),
    }
}

fn fault(error: Error) -> Fault {
    match error {
        Error::OutOfBounds(_) => Fault::Truncated,
        other => Fault::Broken(other.to_string()),
    }
}

fn unexpected(what: &str) -> Fault {
    Fault::Broken(what.into())
}
