//! Blocks of an image's rows, as RGB pixels.

use ::image::{DynamicImage, RgbImage};

/// Bytes of RGB pixels that are handed on at a time.
const BLOCK: u32 = 4 << 20;

/// Rows of this width that are handed on at a time.
pub(super) fn block_rows(width: u32) -> u32 {
    (BLOCK / 3 / width.max(1)).max(1)
}

/// Hands out an image's rows from the top, some at a time.
pub(super) fn blocks(image: &DynamicImage, each: &mut dyn FnMut(RgbImage)) {
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
