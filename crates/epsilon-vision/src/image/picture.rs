//! A picture on its way from its decoder: row by row where the decoder allows it, so that it can be made small without being
//! held as a whole.

use ::image::metadata::Orientation;
use ::image::{DynamicImage, RgbImage};

use super::Preprocess;
use super::error::{Fault, Flaw};
use super::png::Rows;
use super::resize::Narrowing;

/// Bytes of RGB pixels that are handed on at a time.
const BLOCK: u32 = 4 << 20;

/// A picture before it is turned upright.
pub(super) struct Picture<'a> {
    pub source: Source<'a>,
    pub orientation: Orientation,
}

/// Where its pixels are.
pub(super) enum Source<'a> {
    /// Decoded, of 8 bits a channel.
    Held(DynamicImage, Option<Flaw>),
    /// Yet to be decoded.
    Rows(Rows<'a>),
}

impl Picture<'_> {
    /// The upright picture as a whole.
    ///
    /// # Errors
    /// What its decoder says.
    pub(super) fn whole(self) -> Result<(RgbImage, Option<Flaw>), Fault> {
        let (image, flaw) = self.upright()?;
        Ok((image.into_rgb8(), flaw))
    }

    fn upright(self) -> Result<(DynamicImage, Option<Flaw>), Fault> {
        let (mut image, flaw) = match self.source {
            Source::Held(image, flaw) => (image, flaw),
            Source::Rows(rows) => {
                let (width, height) = rows.size();
                let mut pixels = Vec::with_capacity(3 * width as usize * height as usize);
                let flaw = rows.blocks(&mut |block| pixels.extend_from_slice(block.as_raw()))?;
                let image = RgbImage::from_raw(width, height, pixels);
                let image = image.ok_or_else(|| Fault::Broken("rows are missing".into()))?;
                (image.into(), flaw)
            }
        };
        image.apply_orientation(self.orientation);
        Ok((image, flaw))
    }

    /// The upright picture made as small as a backbone takes it.
    ///
    /// # Errors
    /// What its decoder says.
    pub(super) fn resized(self, to: &Preprocess) -> Result<(RgbImage, Option<Flaw>), Fault> {
        let narrowing = |(width, height)| Narrowing::new(width, height, to.size, to.fit, to.filter);
        match self.source {
            Source::Rows(rows) if self.orientation == Orientation::NoTransforms => {
                let mut narrow = narrowing(rows.size());
                let flaw = rows.blocks(&mut |block| narrow.push(&block))?;
                Ok((narrow.finish(), flaw))
            }
            source => {
                let (image, flaw) = Picture { source, ..self }.upright()?;
                let mut narrow = narrowing((image.width(), image.height()));
                blocks(&image, &mut |block| narrow.push(&block));
                Ok((narrow.finish(), flaw))
            }
        }
    }
}

/// Rows of this width that are handed on at a time.
pub(super) fn block_rows(width: u32) -> u32 {
    (BLOCK / 3 / width.max(1)).max(1)
}

/// Hands out an image's rows from the top, some at a time.
fn blocks(image: &DynamicImage, each: &mut dyn FnMut(RgbImage)) {
    let channels = usize::from(image.color().channel_count());
    let rows = block_rows(image.width()) as usize;
    let row = channels * image.width() as usize;
    for part in image.as_bytes().chunks((rows * row).max(1)) {
        let mut pixels = Vec::with_capacity(3 * part.len() / channels);
        push_rgb(part, channels, &mut pixels);
        let rows = (part.len() / row) as u32;
        // As many pixels as its sides say.
        RgbImage::from_raw(image.width(), rows, pixels)
            .into_iter()
            .for_each(&mut *each);
    }
}

/// Adds pixels of one to four channels to RGB pixels: grey is repeated, and alpha is left out.
pub(super) fn push_rgb(from: &[u8], channels: usize, to: &mut Vec<u8>) {
    match channels {
        1 | 2 => to.extend(from.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3])),
        3 => to.extend_from_slice(from),
        _ => {
            let pixels = from.chunks_exact(channels);
            to.extend(pixels.flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]));
        }
    }
}
