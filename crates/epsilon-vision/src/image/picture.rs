//! A picture on its way from its decoder: row by row where the decoder allows it, so that it can be made small without being
//! held as a whole.

use ::image::metadata::Orientation;
use ::image::{DynamicImage, RgbImage};

use super::blocks::blocks;
use super::error::{Fault, Flaw};
use super::png::Rows;
use super::preprocess::Preprocess;
use super::resize::Narrowing;

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
