//! A picture on its way from its decoder: row by row where the decoder allows it, so that it can be made small without being
//! held as a whole.

use ::image::metadata::Orientation;
use ::image::{DynamicImage, RgbImage};

use super::blocks::blocks;
use super::error::{Fault, Flaw};
use super::png::Rows;
use super::preprocess::Preprocess;
use super::resize::{Crop, Narrowing, crop};

/// A picture before it is turned upright.
pub(super) struct Picture<'a> {
    pub source: Source<'a>,
    pub orientation: Orientation,
}

/// Where its pixels are.
pub(super) enum Source<'a> {
    /// Decoded, of 8 bits a channel.
    Held(DynamicImage, Option<Flaw>),
    /// Decoded at a smaller size.
    Smaller(DynamicImage, Shrunk),
    /// Yet to be decoded.
    Rows(Rows<'a>),
}

/// How a picture became smaller as it was decoded.
#[derive(Clone, Copy)]
pub(super) struct Shrunk {
    /// Its whole width and height, before it is turned.
    pub size: (u32, u32),
    /// How many pixels there are for 8 of a side. The last ones may lie partly behind the edge.
    pub side: usize,
}

/// Whether width and height are those of the other side when a picture is turned.
pub(super) fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(
        orientation,
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH
    )
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
            Source::Smaller(image, _) => (image, None),
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
                let shrunk = match source {
                    Source::Smaller(_, shrunk) => Some(shrunk),
                    _ => None,
                };
                let orientation = self.orientation;
                let (image, flaw) = Picture { source, ..self }.upright()?;
                let size = (image.width(), image.height());
                let mut narrow = match shrunk {
                    Some(shrunk) => {
                        let crop = shrunk.crop(orientation, size, to);
                        Narrowing::of_crop(crop, size.1, to.size, to.filter)
                    }
                    None => narrowing(size),
                };
                blocks(&image, &mut |block| narrow.push(&block));
                Ok((narrow.finish(), flaw))
            }
        }
    }
}

impl Shrunk {
    /// The part of the smaller picture, turned upright, that the same part of the whole one became.
    fn crop(self, orientation: Orientation, (wide, high): (u32, u32), to: &Preprocess) -> Crop {
        use Orientation::{
            FlipHorizontal, FlipVertical, Rotate90, Rotate180, Rotate270, Rotate270FlipH,
        };
        let (width, height) = match swaps_sides(orientation) {
            true => (self.size.1, self.size.0),
            false => self.size,
        };
        let whole = crop(width, height, to.size, to.fit);
        let scale = self.side as f64 / 8.0;
        // What lies behind the right and the lower edge comes to lie before the left and the upper one.
        let left = matches!(
            orientation,
            FlipHorizontal | Rotate90 | Rotate180 | Rotate270FlipH
        );
        let top = matches!(
            orientation,
            FlipVertical | Rotate180 | Rotate270 | Rotate270FlipH
        );
        let place = |moved: bool, small: u32, full: u32, start: f64, length: f64| {
            let small = f64::from(small);
            let behind = small - f64::from(full) * scale;
            let start = start * scale + if moved { behind } else { 0.0 };
            (start, (length * scale).min(small - start))
        };
        let (left, width) = place(left, wide, width, whole.left, whole.width);
        let (top, height) = place(top, high, height, whole.top, whole.height);
        Crop {
            left,
            top,
            width,
            height,
        }
    }
}
