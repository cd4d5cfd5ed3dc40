//! Photographs as people look at them on a screen: upright, of the same shape, and not larger than asked for.

use std::path::Path;

use ::image::RgbImage;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::decode::{open_reduced, read};
use super::error::ImageError;
use super::limits::Limits;

/// Reads an image file as [`super::open`] does, with its longer side `side` pixels or less: never enlarged. A JPEG is decoded at a
/// fraction of its size where that is enough.
///
/// ```
/// use epsilon_vision::image::{Limits, open_small};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("photo.png");
/// image::RgbImage::new(300, 100).save(&path)?;
/// assert_eq!(open_small(&path, 150, &Limits::default())?.dimensions(), (150, 50));
/// assert_eq!(open_small(&path, 999, &Limits::default())?.dimensions(), (300, 100));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`super::open`].
pub fn open_small(path: &Path, side: u32, limits: &Limits) -> Result<RgbImage, ImageError> {
    let bytes = read(path, limits.max_file_bytes)?;
    // Half of it for the shorter side, which is then decoded with `side` pixels at least.
    Ok(fit_within(
        open_reduced(path, &bytes, side.div_ceil(2), limits)?,
        side,
    ))
}

/// A picture of the same shape with its longer side `side` pixels or less; one that is small enough as it is.
pub fn fit_within(picture: RgbImage, side: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    if longest <= side {
        return picture;
    }
    let scaled = |length: u32| {
        let scaled = u64::from(length) * u64::from(side) + u64::from(longest / 2);
        (scaled / u64::from(longest)).max(1) as u32
    };
    let mut small = RgbImage::new(scaled(width), scaled(height));
    let filter = ResizeAlg::Convolution(FilterType::Bilinear);
    Resizer::new()
        .resize(
            &picture,
            &mut small,
            &ResizeOptions::new().resize_alg(filter),
        )
        .expect("both pictures are RGB8");
    small
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::Rgb;

    #[test]
    fn a_photograph_keeps_its_shape_and_is_turned() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/image");
        let limits = Limits::default();
        let mut seen = 0;
        for entry in std::fs::read_dir(fixtures).unwrap() {
            let path = entry.unwrap().path();
            let Ok(whole) = super::super::open(&path, &limits) else {
                continue;
            };
            seen += 1;
            let (width, height) = whole.dimensions();
            let small = open_small(&path, 16, &limits).unwrap();
            let longest = small.width().max(small.height());
            assert_eq!(longest, 16.min(width.max(height)), "{}", path.display());
            let [shape, expected] = [&small, &whole]
                .map(|picture| f64::from(picture.width()) / f64::from(picture.height()));
            assert!(
                (shape - expected).abs() <= expected / 10.0,
                "{}",
                path.display()
            );
        }
        assert!(seen > 5, "{seen}");
    }

    #[test]
    fn sides_are_never_nothing() {
        let line = RgbImage::from_pixel(4000, 2, Rgb([9, 8, 7]));
        let small = fit_within(line, 256);
        assert_eq!(small.dimensions(), (256, 1));
        assert_eq!(small.get_pixel(128, 0), &Rgb([9, 8, 7]));
    }
}
