//! What a backbone is given of an image: a square of normalised values.

use ::image::RgbImage;
use serde::{Deserialize, Serialize};

use super::fit::{Filter, Fit};
use super::resize::resize;

/// What happens to an upright RGB image before a backbone sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Width and height of the result, in pixels.
    pub size: u32,
    /// How the image becomes a square.
    pub fit: Fit,
    /// How it is resized.
    #[serde(default, skip_serializing_if = "Filter::is_bicubic")]
    pub filter: Filter,
    /// Subtracted from each channel (red, green, blue) after scaling to 0..1.
    pub mean: [f32; 3],
    /// Each channel is divided by this after the mean is subtracted.
    pub std: [f32; 3],
}

impl Preprocess {
    /// Number of values of one preprocessed image: `3 * size * size`.
    pub fn len(&self) -> usize {
        3 * self.size as usize * self.size as usize
    }

    /// Whether a preprocessed image holds no values (`size` is zero).
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Resizes `image` and writes `(value / 255 - mean) / std` to `out`, channel by channel
    /// (`[3, size, size]`, rows from the top).
    ///
    /// ```
    /// use epsilon_vision::image::{Filter, Fit, Preprocess};
    /// use image::{Rgb, RgbImage};
    ///
    /// let (fit, filter) = (Fit::Squash, Filter::Bilinear);
    /// let preprocess = Preprocess { size: 2, fit, filter, mean: [0.5; 3], std: [0.5; 3] };
    /// let mut values = vec![0.0; preprocess.len()];
    /// preprocess.apply(&RgbImage::from_pixel(8, 6, Rgb([255, 0, 255])), &mut values);
    /// assert_eq!(values, [[1.0; 4], [-1.0; 4], [1.0; 4]].concat());
    /// ```
    ///
    /// # Panics
    ///
    /// When `out.len()` is not [`Preprocess::len`].
    pub fn apply(&self, image: &RgbImage, out: &mut [f32]) {
        assert_eq!(out.len(), self.len(), "one image is [3, size, size]");
        self.normalise(&resize(image, self.size, self.fit, self.filter), out);
    }

    /// Writes the normalised values of an image of the right size to `out`.
    pub(super) fn normalise(&self, resized: &RgbImage, out: &mut [f32]) {
        if self.is_empty() {
            return;
        }
        let plane = out.len() / 3;
        for (channel, values) in out.chunks_exact_mut(plane).enumerate() {
            let table = self.table(channel);
            for (value, pixel) in values.iter_mut().zip(resized.as_raw().chunks_exact(3)) {
                *value = table[usize::from(pixel[channel])];
            }
        }
    }

    /// The normalised value of each of the 256 levels of one channel.
    fn table(&self, channel: usize) -> [f32; 256] {
        let (mean, std) = (self.mean[channel], self.std[channel]);
        std::array::from_fn(|level| (level as f32 / 255.0 - mean) / std)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_image_normalises_to_a_flat_array() {
        let image = RgbImage::from_pixel(5, 3, ::image::Rgb([0, 51, 255]));
        let preprocess = Preprocess {
            size: 2,
            fit: Fit::Squash,
            filter: Filter::Bicubic,
            mean: [0.5, 0.0, 0.25],
            std: [0.5, 1.0, 0.5],
        };
        let mut out = vec![f32::NAN; preprocess.len()];
        preprocess.apply(&image, &mut out);
        assert_eq!(&out[..4], &[-1.0; 4]);
        assert_eq!(&out[4..8], &[0.2; 4]);
        assert_eq!(&out[8..], &[1.5; 4]);
    }

    #[test]
    fn channels_are_planes_and_rows_run_from_the_top() {
        let image = RgbImage::from_fn(2, 2, |x, y| ::image::Rgb([x as u8 * 255, y as u8 * 255, 0]));
        let preprocess = Preprocess {
            size: 2,
            fit: Fit::Squash,
            filter: Filter::Bicubic,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        let mut out = vec![0.0; 12];
        preprocess.apply(&image, &mut out);
        assert_eq!(out, [0., 1., 0., 1., 0., 0., 1., 1., 0., 0., 0., 0.]);
    }
}
