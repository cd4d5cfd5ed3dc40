//! Resize to a square, in agreement with Pillow's `BICUBIC` (a = -0.5) and `BILINEAR`: a filter that
//! widens when an image shrinks, so that no pixel is skipped.

use ::image::RgbImage;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::fit::{Filter, Fit};

/// The part of an image that is kept, in pixels of the image before it is resized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crop {
    /// From the left edge.
    pub left: f64,
    /// From the top.
    pub top: f64,
    /// Its width.
    pub width: f64,
    /// Its height.
    pub height: f64,
}

/// Resizes `image` to `size` x `size` pixels with a filter.
///
/// With [`Fit::ShorterSide`] the sizes follow torchvision's `Resize` and `CenterCrop`: the longer
/// side becomes `resize * longer / shorter` pixels, rounded down, and the crop starts at
/// half of what is left over, rounded to the nearest even pixel where it falls between two.
pub fn resize(image: &RgbImage, size: u32, fit: Fit, filter: Filter) -> RgbImage {
    let mut narrowing = Narrowing::new(image.width(), image.height(), size, fit, filter);
    narrowing.push(image);
    narrowing.finish()
}

/// An image that is resized as its rows come: each is made narrow by itself, and the columns at the end.
///
/// Rows before columns. Pillow 13 takes the cheaper order first; as values are rounded and clipped to
/// 8 bits between the passes, hard edges of tall images may differ by a few levels from it.
pub(super) struct Narrowing {
    size: u32,
    crop: Crop,
    resizing: ResizeOptions,
    /// The rows so far, `size` pixels wide.
    rows: Vec<u8>,
}

impl Narrowing {
    pub(super) fn new(width: u32, height: u32, size: u32, fit: Fit, filter: Filter) -> Self {
        Self::of_crop(crop(width, height, size, fit), height, size, filter)
    }

    /// The same of a part of an image of this height.
    pub(super) fn of_crop(crop: Crop, height: u32, size: u32, filter: Filter) -> Self {
        let filter = match filter {
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Bilinear => FilterType::Bilinear,
        };
        Self {
            size,
            crop,
            resizing: ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)),
            rows: Vec::with_capacity(3 * size as usize * height as usize),
        }
    }

    /// Takes the next rows, of the whole width.
    pub(super) fn push(&mut self, block: &RgbImage) {
        if block.is_empty() || self.size == 0 {
            return;
        }
        let rows = block.height();
        let mut narrow = RgbImage::new(self.size, rows);
        let Crop { left, width, .. } = self.crop;
        self.pass(block, &mut narrow, [left, 0.0, width, f64::from(rows)]);
        self.rows.extend_from_slice(narrow.as_raw());
    }

    /// The resized image, when all rows have come.
    pub(super) fn finish(mut self) -> RgbImage {
        let mut out = RgbImage::new(self.size, self.size);
        let row = 3 * self.size as usize;
        let rows = self.rows.len().checked_div(row).unwrap_or_default() as u32;
        let narrow = RgbImage::from_raw(self.size, rows, std::mem::take(&mut self.rows));
        if let Some(narrow) = narrow.filter(|narrow| !narrow.is_empty()) {
            let Crop { top, height, .. } = self.crop;
            self.pass(&narrow, &mut out, [0.0, top, f64::from(self.size), height]);
        }
        out
    }

    fn pass(&self, from: &RgbImage, to: &mut RgbImage, [left, top, width, height]: [f64; 4]) {
        let options = self.resizing.crop(left, top, width, height);
        Resizer::new()
            .resize(from, to, &options)
            .expect("both images are RGB8 and the crop lies inside the source");
    }
}

/// The source rectangle that becomes the output. Cutting it out of the source and resizing only
/// that gives the pixels of "resize, then crop", without ever holding the uncropped picture.
pub fn crop(width: u32, height: u32, size: u32, fit: Fit) -> Crop {
    let (full_width, full_height) = match fit {
        Fit::Squash => (u64::from(size), u64::from(size)),
        Fit::ShorterSide { resize } => shorter_side(width, height, resize.max(size)),
    };
    let (left, width) = centre(width, full_width, size);
    let (top, height) = centre(height, full_height, size);
    Crop {
        left,
        top,
        width,
        height,
    }
}

/// Size of the resized image before the crop: torchvision's `_compute_resized_output_size`.
fn shorter_side(width: u32, height: u32, resize: u32) -> (u64, u64) {
    let (short, long) = (width.min(height).max(1), width.max(height));
    let resized_long = u64::from(resize) * u64::from(long) / u64::from(short);
    if width <= height {
        (u64::from(resize), resized_long)
    } else {
        (resized_long, u64::from(resize))
    }
}

/// Start and length, in source pixels, of the `size` pixels in the middle of `full` resized ones.
fn centre(source: u32, full: u64, size: u32) -> (f64, f64) {
    let source = f64::from(source);
    let scale = source / full as f64;
    let start = ((full - u64::from(size)) as f64 / 2.0).round_ties_even() * scale;
    // Rounding must not carry the far end beyond the image.
    (start, (f64::from(size) * scale).min(source - start))
}

#[cfg(test)]
mod tests {
    use ::image::Rgb;
    use proptest::prelude::*;

    use super::*;

    fn fixture(name: &str) -> RgbImage {
        let path = format!("{}/tests/fixtures/image/{name}", env!("CARGO_MANIFEST_DIR"));
        super::super::open(path.as_ref(), &super::super::Limits::default()).unwrap()
    }

    /// The same formula as `make.py` in the fixtures folder: waves with a hard-edged pattern on top.
    fn drawn(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let edge = if (x / 5 + y / 7) % 2 == 0 { 90 } else { 0 };
            Rgb([
                ((x * 255 / width + edge) % 256) as u8,
                ((y * 255 / height + edge) % 256) as u8,
                ((x * x + 3 * y * y + x * y) % 256) as u8,
            ])
        })
    }

    fn assert_close(ours: &RgbImage, theirs: &RgbImage, case: &str) {
        assert_eq!(ours.dimensions(), theirs.dimensions());
        let differences = ours.as_raw().iter().zip(theirs.as_raw());
        let (mut sum, mut largest) = (0u64, 0u8);
        for (a, b) in differences {
            sum += u64::from(a.abs_diff(*b));
            largest = largest.max(a.abs_diff(*b));
        }
        let mean = sum as f64 / ours.as_raw().len() as f64;
        assert!(
            mean < 0.3 && largest <= 8,
            "{case}: mean {mean}, largest {largest}"
        );
    }

    #[test]
    fn agrees_with_pillow() {
        for (width, height) in [(97, 61), (40, 133), (20, 14), (32, 32)] {
            let image = drawn(width, height);
            let name = format!("squash_{width}x{height}.png");
            assert_close(
                &resize(&image, 32, Fit::Squash, Filter::Bicubic),
                &fixture(&name),
                &name,
            );
            let name = format!("shorter_{width}x{height}.png");
            let fit = Fit::ShorterSide { resize: 37 };
            assert_close(
                &resize(&image, 32, fit, Filter::Bicubic),
                &fixture(&name),
                &name,
            );
            let name = format!("bilinear_{width}x{height}.png");
            assert_close(
                &resize(&image, 32, fit, Filter::Bilinear),
                &fixture(&name),
                &name,
            );
        }
    }

    #[test]
    fn sizes_follow_torchvision() {
        assert_eq!(shorter_side(97, 61, 37), (58, 37)); // 37 * 97 / 61 = 58.8
        assert_eq!(shorter_side(40, 133, 37), (37, 123)); // 37 * 133 / 40 = 123.025
        assert_eq!(shorter_side(5, 5, 8), (8, 8));
        // (37 - 32) / 2 = 2.5 rounds to 2, (35 - 32) / 2 = 1.5 rounds to 2 as well.
        assert_eq!(centre(37, 37, 32), (2.0, 32.0));
        assert_eq!(centre(35, 35, 32), (2.0, 32.0));
    }

    proptest! {
        #[test]
        fn any_shape_fits(width in 1u32..400, height in 1u32..400, size in 1u32..60, extra in 0u32..40) {
            let image = RgbImage::from_pixel(width, height, Rgb([9, 99, 199]));
            for fit in [Fit::Squash, Fit::ShorterSide { resize: size + extra }] {
                let out = resize(&image, size, fit, Filter::Bicubic);
                prop_assert!(out.pixels().all(|pixel| *pixel == Rgb([9, 99, 199])));
            }
        }

        #[test]
        fn the_crop_lies_inside(width in 1u32..=65_535, height in 1u32..=65_535, size in 1u32..2_000, resize in 1u32..2_000) {
            let crop = crop(width, height, size, Fit::ShorterSide { resize });
            prop_assert!(crop.left >= 0.0 && crop.left + crop.width <= f64::from(width));
            prop_assert!(crop.top >= 0.0 && crop.top + crop.height <= f64::from(height));
        }
    }
}
