//! Heat maps: where a model looked for a label, over the photograph.
//!
//! A [`LabelMap`] stands on the token grid, which covers the part of the photograph that the network saw.

use crate::methods::LabelMap;
use epsilon_vision::image::{Preprocess, RgbImage, crop};

/// Colours of low and of high heat.
const COLOURS: [[f32; 3]; 2] = [[255.0, 225.0, 0.0], [215.0, 0.0, 40.0]];
/// How much of the photograph the highest heat hides.
const OPACITY: f32 = 0.75;

/// The heat of every pixel of a photograph of this size, row by row, interpolated between the places of the grid: from 0 to
/// 1, which the highest place has. What the network did not see is 0.
pub fn heat(map: &LabelMap, preprocess: &Preprocess, width: u32, height: u32) -> Vec<f32> {
    let seen = crop(width, height, preprocess.size, preprocess.fit);
    let top = map.values.iter().fold(0.0_f32, |top, &v| top.max(v));
    let [rows, columns] = map.grid;
    let mut heat = Vec::with_capacity(width as usize * height as usize);
    for y in 0..height {
        let down = place(y, seen.top, seen.height, rows);
        for x in 0..width {
            let along = place(x, seen.left, seen.width, columns);
            heat.push(match (down, along) {
                (Some((row, v)), Some((column, u))) => {
                    let at = |row: usize, column: usize| {
                        let (row, column) = (row.min(rows - 1), column.min(columns - 1));
                        map.values[row * columns + column]
                    };
                    let above = at(row, column) * (1.0 - u) + at(row, column + 1) * u;
                    let below = at(row + 1, column) * (1.0 - u) + at(row + 1, column + 1) * u;
                    (above * (1.0 - v) + below * v) / top
                }
                _ => 0.0,
            });
        }
    }
    heat
}

/// The place of the grid before a pixel's centre and the share of the next one; `None` outside of what was seen.
fn place(pixel: u32, start: f64, length: f64, places: usize) -> Option<(usize, f32)> {
    let along = (f64::from(pixel) + 0.5 - start) / length;
    if !(0.0..=1.0).contains(&along) {
        return None;
    }
    // Beyond the centres of the first and the last place their values go on.
    let position = (along * places as f64 - 0.5).clamp(0.0, (places - 1) as f64);
    Some((position as usize, position.fract() as f32))
}

/// The photograph with the heat of every pixel laid over it, from none over yellow to red.
///
/// # Panics
/// When there are not as many values as pixels.
pub fn overlay(photo: &RgbImage, heat: &[f32]) -> RgbImage {
    assert_eq!(
        heat.len(),
        photo.as_raw().len() / 3,
        "a value for each pixel"
    );
    let mut out = photo.clone();
    for (pixel, &heat) in out.pixels_mut().zip(heat) {
        let opacity = OPACITY * heat;
        for (channel, value) in pixel.0.iter_mut().enumerate() {
            let [low, high] = COLOURS.map(|colour| colour[channel]);
            let colour = low * (1.0 - heat) + high * heat;
            *value = (f32::from(*value) * (1.0 - opacity) + colour * opacity).round() as u8;
        }
    }
    out
}

/// The share of a map's heat that lies where `inside` says so, of the pixels of a photograph of this size; 0 where there is
/// no heat at all.
///
/// # Panics
/// When `inside` has another number of pixels.
pub fn share_inside(
    map: &LabelMap,
    preprocess: &Preprocess,
    [width, height]: [u32; 2],
    inside: &[bool],
) -> f64 {
    let heat = heat(map, preprocess, width, height);
    assert_eq!(heat.len(), inside.len(), "one answer for each pixel");
    let sum = |all: bool| -> f64 {
        let counted = heat
            .iter()
            .zip(inside)
            .filter(|(_, inside)| all || **inside);
        counted.map(|(&heat, _)| f64::from(heat)).sum()
    };
    match sum(true) {
        0.0 => 0.0,
        all => sum(false) / all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use epsilon_vision::image::{Filter, Fit};

    fn preprocess(fit: Fit) -> Preprocess {
        Preprocess {
            size: 4,
            fit,
            filter: Filter::Bicubic,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }

    fn map(values: [f32; 4]) -> LabelMap {
        LabelMap {
            what: "attention",
            group: None,
            grid: [2, 2],
            values: values.to_vec(),
        }
    }

    /// Centres of the places lie at pixels 0.5 and 2.5 of 4: the pixels between have shares of both.
    #[test]
    fn heat_by_hand() {
        let heat = heat(&map([0.5, 0.0, 0.25, 0.25]), &preprocess(Fit::Squash), 4, 4);
        assert_eq!(heat[..4], [1.0, 0.75, 0.25, 0.0]);
        assert_eq!(heat[12..], [0.5; 4]);
        assert_eq!(heat[4], 1.0 * 0.75 + 0.5 * 0.25);
    }

    #[test]
    fn what_was_cut_off_has_no_heat() {
        let fit = Fit::ShorterSide { resize: 4 };
        let heat = heat(&map([0.25; 4]), &preprocess(fit), 8, 4);
        assert_eq!(heat[..8], [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn no_heat_leaves_the_photograph_and_the_highest_is_red() {
        let photo = RgbImage::from_pixel(2, 1, image::Rgb([100, 100, 100]));
        let out = overlay(&photo, &[0.0, 1.0]);
        assert_eq!(out.get_pixel(0, 0).0, [100, 100, 100]);
        assert_eq!(out.get_pixel(1, 0).0, [186, 25, 55]);
    }

    #[test]
    fn a_share_by_hand() {
        let all = [true, true, true, true, false, false, false, false];
        let inside = [all, all].concat();
        let map = map([0.25; 4]);
        let share = share_inside(&map, &preprocess(Fit::Squash), [4, 4], &inside);
        assert!((share - 0.5).abs() < 1e-6, "{share}");
    }
}
