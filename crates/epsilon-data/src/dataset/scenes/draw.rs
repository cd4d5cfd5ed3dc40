//! Painting of scenes: shapes as signed distances, textures as functions of a point, backgrounds and clutter.
//!
//! Every object pixel is sampled at 3 x 3 points, which keeps edges and stripes of two pixels legible.

use rand::{Rng, RngExt};
use std::f32::consts::{PI, TAU};

/// Sample points a side and pixel.
const SAMPLES: u32 = 3;
/// No sample point is further than this from its pixel's centre: a third of the diagonal.
const SPREAD: f32 = 0.472;

/// A point or a direction.
type Point = [f32; 2];
/// Red, green and blue, 0 to 255 before rounding.
type Colour = [f32; 3];

/// How an object's surface looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Texture {
    Plain,
    Striped,
    Dotted,
    Checkered,
    Ringed,
    Hollow,
}

impl Texture {
    pub(super) const ALL: [Self; 6] = [
        Self::Plain,
        Self::Striped,
        Self::Dotted,
        Self::Checkered,
        Self::Ringed,
        Self::Hollow,
    ];

    /// Whether it depends on the distance to the edge.
    fn follows_the_edge(self) -> bool {
        matches!(self, Self::Ringed | Self::Hollow)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Striped => "striped",
            Self::Dotted => "dotted",
            Self::Checkered => "checkered",
            Self::Ringed => "ringed",
            Self::Hollow => "hollow",
        }
    }
}

/// An object's outline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Cross,
    Heart,
}

impl Shape {
    pub(super) const ALL: [Self; 6] = [
        Self::Circle,
        Self::Square,
        Self::Triangle,
        Self::Star,
        Self::Cross,
        Self::Heart,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Star => "star",
            Self::Cross => "cross",
            Self::Heart => "heart",
        }
    }

    /// The corners, for an object of radius 1 with y pointing down. Sizes are balanced by eye: a star needs more
    /// room than a square to look as large. No corner is further than [`REACH`] from the centre.
    fn outline(self) -> Vec<Point> {
        let polar = |radius: f32, angle: f32| [radius * angle.sin(), -radius * angle.cos()];
        match self {
            Self::Circle => (0..32)
                .map(|i| polar(0.98, TAU * i as f32 / 32.0))
                .collect(),
            Self::Square => vec![[-0.84, -0.84], [0.84, -0.84], [0.84, 0.84], [-0.84, 0.84]],
            Self::Triangle => (0..3)
                .map(|i| polar(1.15, TAU * i as f32 / 3.0))
                .map(|[x, y]| [x, y + 0.1])
                .collect(),
            Self::Star => (0..10)
                .map(|i| polar(if i % 2 == 0 { 1.22 } else { 0.53 }, PI * i as f32 / 5.0))
                .collect(),
            Self::Cross => {
                let (long, short) = (1.02, 0.4);
                let quarter = [[-short, -short], [-short, -long], [short, -long]];
                let axes = [[1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 1.0]];
                axes.iter()
                    .flat_map(|&axis| quarter.map(|corner| seen_from(corner, axis)))
                    .collect()
            }
            Self::Heart => (0..28)
                .map(|i| {
                    // The well-known heart curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t.
                    let t = TAU * i as f32 / 28.0;
                    let y = 13.0 * t.cos()
                        - 5.0 * (2.0 * t).cos()
                        - 2.0 * (3.0 * t).cos()
                        - (4.0 * t).cos();
                    [t.sin().powi(3) * 1.08, -(y + 2.5) / 15.0]
                })
                .collect(),
        }
    }
}

/// No outline reaches further than this many radii from its centre.
const REACH: f32 = 1.25;

/// Least distance of two objects' centres as a share of the sum of their radii.
const APART: f32 = 0.8;

/// Centre and radius of an object, in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    centre: Point,
    radius: f32,
}

/// Chooses 1 to 4 places inside a picture that may overlap by a fifth of their radii.
pub(super) fn places(size: u32, rng: &mut impl Rng) -> Vec<Place> {
    let unit = size as f32 / 64.0;
    let wanted = rng.random_range(1..=4);
    let largest = [19.0, 17.0, 15.0, 13.5][wanted - 1] * unit;
    let mut places: Vec<Place> = Vec::new();
    for _ in 0..40 * wanted {
        let radius = rng.random_range(10.5 * unit..largest);
        let edge = radius * 1.1;
        let inside = edge..size as f32 - edge;
        let centre = [rng.random_range(inside.clone()), rng.random_range(inside)];
        let apart =
            |other: &Place| distance(centre, other.centre) > APART * (radius + other.radius);
        if places.iter().all(apart) {
            places.push(Place { centre, radius });
        }
        if places.len() == wanted {
            break;
        }
    }
    places
}

/// An object ready to be painted.
pub(super) struct Object {
    place: Place,
    outline: Vec<Edge>,
    /// The object's own x axis in the picture: how it is turned.
    turn: Point,
    texture: Texture,
    /// The two colours of the texture; plain and hollow objects show the first only.
    colours: [Colour; 2],
    /// Direction of stripes, dots and squares in the object's own frame, and where they begin.
    grain: Point,
    phase: Point,
    /// Scale of the texture, about 1.
    coarseness: f32,
}

impl Object {
    /// Chooses everything that carries no label: turn, colours and the lie of the texture.
    pub(super) fn random(
        texture: Texture,
        shape: Shape,
        place: Place,
        canvas: &Canvas,
        rng: &mut impl Rng,
    ) -> Self {
        let behind = canvas.mean_around(place);
        let first = contrasting(&[(behind, 130.0)], rng);
        let second = contrasting(&[(first, 190.0), (behind, 70.0)], rng);
        Self {
            place,
            outline: edges(&shape.outline()),
            turn: axis(rng.random_range(-0.35..0.35)),
            texture,
            colours: [first, second],
            grain: axis(rng.random_range(0.0..PI)),
            phase: [rng.random_range(0.0..1.0), rng.random_range(0.0..1.0)],
            coarseness: rng.random_range(0.9..1.15),
        }
    }

    /// Depth of a point of the picture below the object's edge in pixels, negative outside, and the point in the
    /// object's own turned frame, in pixels.
    fn locate(&self, point: Point) -> (f32, Point) {
        let offset = [
            point[0] - self.place.centre[0],
            point[1] - self.place.centre[1],
        ];
        let radius = self.place.radius;
        if squared(offset) > (REACH * radius + SPREAD).powi(2) {
            return (-1.0, offset);
        }
        let own = seen_from(offset, self.turn);
        (
            depth(&self.outline, [own[0] / radius, own[1] / radius]) * radius,
            own,
        )
    }

    /// The colour of a point inside, `None` where one sees through.
    fn colour(&self, depth: f32, own: Point) -> Option<Colour> {
        let radius = self.place.radius;
        let at_least = |pixels: f32, part: f32| (part * radius).max(pixels) * self.coarseness;
        let grained = seen_from(own, self.grain);
        let cell = |width: f32| {
            [
                grained[0] / width + self.phase[0],
                grained[1] / width + self.phase[1],
            ]
        };
        let second = match self.texture {
            Texture::Plain => false,
            Texture::Hollow if depth > at_least(2.0, 0.22) => return None,
            Texture::Hollow => false,
            Texture::Striped => cell(at_least(5.0, 0.45))[0].rem_euclid(1.0) < 0.5,
            Texture::Checkered => {
                let [x, y] = cell(at_least(3.4, 0.38));
                (x.floor() + y.floor()).rem_euclid(2.0) < 1.0
            }
            Texture::Dotted => {
                // Every second row of dots is shifted by half a cell.
                let [x, y] = cell(at_least(5.2, 0.5));
                let x = x + 0.5 * y.floor().rem_euclid(2.0);
                distance([x.rem_euclid(1.0), y.rem_euclid(1.0)], [0.5, 0.5]) < 0.31
            }
            Texture::Ringed => (depth / at_least(2.2, 0.2)).rem_euclid(2.0) >= 1.0,
        };
        Some(self.colours[usize::from(second)])
    }
}

/// A picture while it is painted.
pub(super) struct Canvas {
    size: u32,
    pixels: Vec<Colour>,
    mask: Vec<u8>,
    objects: u8,
}

impl Canvas {
    /// A background: a gradient of two related colours, soft patches, and clutter of thin lines and specks.
    pub(super) fn background(size: u32, rng: &mut impl Rng) -> Self {
        let (hue, saturation, value) = (
            rng.random_range(0.0..1.0),
            rng.random_range(0.05..0.5),
            rng.random_range(0.2..0.95),
        );
        let here = hsv(hue, saturation, value);
        let value = (value + rng.random_range(-0.2..0.2_f32)).clamp(0.1, 1.0);
        let there = hsv(hue + rng.random_range(-0.12..0.12), saturation, value);
        let slope = axis(rng.random_range(0.0..TAU));
        let patches = Patches::random(rng);
        let pixel = |i: u32| {
            let at = [
                ((i % size) as f32 + 0.5) / size as f32,
                ((i / size) as f32 + 0.5) / size as f32,
            ];
            let along = 0.5 + 0.7 * ((at[0] - 0.5) * slope[0] + (at[1] - 0.5) * slope[1]);
            let shade = patches.at(at);
            mix(here, there, along.clamp(0.0, 1.0)).map(|channel| channel + shade)
        };
        let pixels = (0..size * size).map(pixel).collect();
        let mut canvas = Self {
            size,
            pixels,
            mask: vec![0; (size * size) as usize],
            objects: 0,
        };
        for _ in 0..rng.random_range(3..10) {
            canvas.clutter(mix(here, there, 0.5), rng);
        }
        canvas
    }

    /// One line or speck, in a colour not too far from the background's.
    fn clutter(&mut self, near: Colour, rng: &mut impl Rng) {
        let unit = self.size as f32 / 64.0;
        let colour = near.map(|channel| channel + rng.random_range(-75.0..75.0));
        let start = [
            rng.random_range(0.0..self.size as f32),
            rng.random_range(0.0..self.size as f32),
        ];
        let (reach, width) = if rng.random_bool(0.5) {
            (
                rng.random_range(6.0..26.0) * unit,
                rng.random_range(0.5..0.9) * unit,
            )
        } else {
            (0.0, rng.random_range(0.8..2.0) * unit)
        };
        let way = axis(rng.random_range(0.0..TAU)).map(|c| c * reach);
        let end = [start[0] + way[0], start[1] + way[1]];
        let line = Edge::new(start, end);
        let [columns, rows] =
            [0, 1].map(|i| self.range(start[i].min(end[i]), start[i].max(end[i]), width + 1.0));
        for y in rows[0]..rows[1] {
            for x in columns[0]..columns[1] {
                let cover = width + 0.5
                    - line
                        .squared_distance([x as f32 + 0.5, y as f32 + 0.5])
                        .sqrt();
                let pixel = &mut self.pixels[(y * self.size + x) as usize];
                *pixel = mix(*pixel, colour, cover.clamp(0.0, 1.0));
            }
        }
    }

    /// The mean colour where an object will stand.
    fn mean_around(&self, place: Place) -> Colour {
        let mut sum = [0.0; 3];
        let mut count = 0.0_f32;
        let [columns, rows] = self.area(place);
        for y in rows[0]..rows[1] {
            for x in columns[0]..columns[1] {
                let pixel = self.pixels[(y * self.size + x) as usize];
                sum = std::array::from_fn(|i| sum[i] + pixel[i]);
                count += 1.0;
            }
        }
        sum.map(|channel| channel / count.max(1.0))
    }

    /// Columns and rows that an object can touch, each as [first, one past the last].
    fn area(&self, place: Place) -> [[u32; 2]; 2] {
        place.centre.map(|c| self.range(c, c, REACH * place.radius))
    }

    /// The pixels of one axis that lie within `margin` of the interval, as [first, one past the last].
    fn range(&self, from: f32, to: f32, margin: f32) -> [u32; 2] {
        // Casts of floats saturate, so what lies outside the picture is cut off.
        [
            (from - margin).floor() as u32,
            ((to + margin).ceil() as u32).min(self.size),
        ]
    }

    /// Paints an object in front of all others; gives the bounding box of its silhouette.
    pub(super) fn paint(&mut self, object: &Object) -> [u32; 4] {
        self.objects += 1;
        let [columns, rows] = self.area(object.place);
        let mut bounds = [self.size, self.size, 0, 0];
        for y in rows[0]..rows[1] {
            for x in columns[0]..columns[1] {
                if self.paint_pixel(object, x, y) {
                    bounds = [
                        bounds[0].min(x),
                        bounds[1].min(y),
                        bounds[2].max(x + 1),
                        bounds[3].max(y + 1),
                    ];
                }
            }
        }
        bounds
    }

    /// Paints one pixel; says whether half of it or more lies inside the silhouette.
    fn paint_pixel(&mut self, object: &Object, x: u32, y: u32) -> bool {
        let index = (y * self.size + x) as usize;
        let behind = self.pixels[index];
        let (centre, own) = object.locate([x as f32 + 0.5, y as f32 + 0.5]);
        if centre < -SPREAD {
            return false;
        }
        // A depth changes no faster than the point moves, so all samples lie inside where the centre lies deep enough.
        let sure = centre > SPREAD && !object.texture.follows_the_edge();
        let (mut sum, mut inside) = ([0.0; 3], 0);
        for sample in 0..SAMPLES * SAMPLES {
            let within = |i: u32| (i as f32 + 0.5) / SAMPLES as f32;
            let offset = [within(sample % SAMPLES), within(sample / SAMPLES)];
            let (depth, own) = if sure {
                let moved = seen_from(offset.map(|c| c - 0.5), object.turn);
                (centre, [own[0] + moved[0], own[1] + moved[1]])
            } else {
                object.locate([x as f32 + offset[0], y as f32 + offset[1]])
            };
            inside += u32::from(depth > 0.0);
            let colour = if depth > 0.0 {
                object.colour(depth, own)
            } else {
                None
            };
            let colour = colour.unwrap_or(behind);
            sum = std::array::from_fn(|i| sum[i] + colour[i]);
        }
        self.pixels[index] = sum.map(|channel| channel / (SAMPLES * SAMPLES) as f32);
        let covered = 2 * inside >= SAMPLES * SAMPLES;
        if covered {
            self.mask[index] = self.objects;
        }
        covered
    }

    /// Adds a little noise, as a camera would, and rounds; gives RGB bytes and the mask.
    pub(super) fn finish(self, rng: &mut impl Rng) -> (Vec<u8>, Vec<u8>) {
        let strength = rng.random_range(1.0..6.0_f32);
        let pixels = self.pixels.iter().flatten();
        let noisy = pixels.map(|channel| (channel + strength * grain(rng) + 0.5) as u8); // saturates
        (noisy.collect(), self.mask)
    }
}

/// Soft light and dark patches: random values on a coarse grid, interpolated smoothly.
struct Patches {
    grid: [[f32; 6]; 6],
    strength: f32,
}

impl Patches {
    fn random(rng: &mut impl Rng) -> Self {
        let grid = std::array::from_fn(|_| std::array::from_fn(|_| rng.random_range(-1.0..1.0)));
        Self {
            grid,
            strength: rng.random_range(4.0..30.0),
        }
    }

    /// The shade to be added at a point of the unit square.
    fn at(&self, point: Point) -> f32 {
        let scaled = point.map(|c| c.clamp(0.0, 0.999) * 5.0);
        let [column, row] = scaled.map(|c| c.floor() as usize);
        let [across, down] = scaled.map(f32::fract).map(|t| t * t * (3.0 - 2.0 * t));
        let along = |row: usize| {
            self.grid[row][column] * (1.0 - across) + self.grid[row][column + 1] * across
        };
        self.strength * (along(row) * (1.0 - down) + along(row + 1) * down)
    }
}

/// A colour at least as far from each given colour as asked for, or the best of many.
fn contrasting(others: &[(Colour, f32)], rng: &mut impl Rng) -> Colour {
    let mut best = ([0.0; 3], f32::NEG_INFINITY);
    for _ in 0..32 {
        let (hue, value) = (rng.random_range(0.0..1.0), rng.random_range(0.1..1.0_f32));
        let colour = hsv(hue, rng.random_range(0.0..1.0_f32).sqrt(), value.sqrt());
        let margins = others
            .iter()
            .map(|(other, least)| colour_distance(colour, *other) - least);
        let margin = margins.fold(f32::INFINITY, f32::min);
        if margin > best.1 {
            best = (colour, margin);
        }
        if margin > 0.0 {
            break;
        }
    }
    best.0
}

/// Distance of colours as seen: brightness, by the usual luma weights, counts twice.
fn colour_distance(a: Colour, b: Colour) -> f32 {
    let luma = |c: Colour| 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2];
    let rgb: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (rgb / 3.0 + 4.0 * (luma(a) - luma(b)).powi(2)).sqrt()
}

/// RGB of hue (in turns, any value), saturation and value (0 to 1).
fn hsv(hue: f32, saturation: f32, value: f32) -> Colour {
    [0.0, 2.0 / 3.0, 1.0 / 3.0].map(|shift| {
        let wave = (((hue + shift).rem_euclid(1.0) * 6.0 - 3.0).abs() - 1.0).clamp(0.0, 1.0);
        255.0 * value * (1.0 - saturation + saturation * wave)
    })
}

fn mix(a: Colour, b: Colour, share: f32) -> Colour {
    std::array::from_fn(|i| a[i] + share * (b[i] - a[i]))
}

/// A standard normal number (Box and Muller).
pub(super) fn normal(rng: &mut impl Rng) -> f32 {
    let (u, v): (f32, f32) = (rng.random_range(0.0..1.0), rng.random_range(0.0..TAU));
    (-2.0 * (1.0 - u).ln()).sqrt() * v.cos()
}

/// A nearly normal number of mean 0 and standard deviation 1, cheap enough for every channel of every pixel: the
/// sum of four bytes.
fn grain(rng: &mut impl Rng) -> f32 {
    let sum: u32 = rng.next_u32().to_le_bytes().map(u32::from).iter().sum();
    (sum as f32 - 510.0) / 147.8
}

fn squared([x, y]: Point) -> f32 {
    x * x + y * y
}

fn distance(a: Point, b: Point) -> f32 {
    squared([a[0] - b[0], a[1] - b[1]]).sqrt()
}

/// The unit vector at `angle` to the x axis.
fn axis(angle: f32) -> Point {
    [angle.cos(), angle.sin()]
}

/// `point` in the frame whose x axis is the unit vector `axis`.
fn seen_from([x, y]: Point, axis: Point) -> Point {
    [x * axis[0] + y * axis[1], y * axis[0] - x * axis[1]]
}

/// A line from `start` to `start + way`, with what its distance to a point needs.
struct Edge {
    start: Point,
    way: Point,
    /// 1 / |way|^2.
    inverse: f32,
    /// Change of x for a step of 1 in y; not finite for a level line, which no level ray crosses.
    slope: f32,
}

impl Edge {
    fn new(start: Point, end: Point) -> Self {
        let way = [end[0] - start[0], end[1] - start[1]];
        Self {
            start,
            way,
            inverse: 1.0 / squared(way).max(f32::MIN_POSITIVE),
            slope: way[0] / way[1],
        }
    }

    /// Squared distance to a point.
    fn squared_distance(&self, point: Point) -> f32 {
        let from = [point[0] - self.start[0], point[1] - self.start[1]];
        let share =
            ((from[0] * self.way[0] + from[1] * self.way[1]) * self.inverse).clamp(0.0, 1.0);
        squared([from[0] - share * self.way[0], from[1] - share * self.way[1]])
    }

    /// Whether a ray from the point to the right crosses the line.
    fn crosses(&self, point: Point) -> bool {
        let below = point[1] - self.start[1];
        ((below < 0.0) != (below < self.way[1])) & (self.start[0] + below * self.slope > point[0])
    }
}

/// The closed polygon with these corners.
fn edges(corners: &[Point]) -> Vec<Edge> {
    let ends = corners.iter().cycle().skip(1);
    corners
        .iter()
        .zip(ends)
        .map(|(&start, &end)| Edge::new(start, end))
        .collect()
}

/// Distance from a point to the edge of a polygon, positive inside and negative outside: a ray crosses the edge
/// an odd number of times from inside.
fn depth(outline: &[Edge], point: Point) -> f32 {
    let (mut nearest, mut inside) = (f32::INFINITY, false);
    for edge in outline {
        nearest = nearest.min(edge.squared_distance(point));
        inside ^= edge.crosses(point);
    }
    if inside {
        nearest.sqrt()
    } else {
        -nearest.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn depth_of_a_square_by_hand() {
        let square = edges(&[[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]);
        assert_eq!(depth(&square, [0.0, 0.0]), 1.0);
        assert_eq!(depth(&square, [0.5, 0.0]), 0.5);
        assert_eq!(depth(&square, [3.0, 0.0]), -2.0);
        assert!((depth(&square, [4.0, 5.0]) + 5.0).abs() < 1e-6);
    }

    #[test]
    fn hues_by_hand() {
        assert_eq!(hsv(0.0, 1.0, 1.0), [255.0, 0.0, 0.0]);
        assert_eq!(hsv(-1.0 / 3.0, 1.0, 1.0).map(f32::round), [0.0, 0.0, 255.0]);
        assert_eq!(hsv(0.3, 0.0, 0.5), [127.5; 3]);
    }

    #[test]
    fn outlines_fit_their_reach_and_hold_their_centre() {
        for shape in Shape::ALL {
            let outline = shape.outline();
            assert!(
                outline
                    .iter()
                    .all(|&corner| squared(corner) <= REACH * REACH),
                "{shape:?}"
            );
            assert!(depth(&edges(&outline), [0.0, 0.0]) > 0.3, "{shape:?}");
        }
    }

    #[test]
    fn every_texture_shows_what_it_should() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let canvas = Canvas::background(64, &mut rng);
        let place = Place {
            centre: [32.0, 32.0],
            radius: 15.0,
        };
        for texture in Texture::ALL {
            let object = Object::random(texture, Shape::Circle, place, &canvas, &mut rng);
            let mut shares = [0.0_f32; 3]; // first colour, second colour, see-through
            for i in 0..60 * 60 {
                let point = [17.0 + (i % 60) as f32 / 2.0, 17.0 + (i / 60) as f32 / 2.0];
                let (depth, own) = object.locate(point);
                if depth > 0.0 {
                    let kind = object
                        .colour(depth, own)
                        .map_or(2, |c| usize::from(c == object.colours[1]));
                    shares[kind] += 1.0;
                }
            }
            let total: f32 = shares.iter().sum();
            let [first, second, through] = shares.map(|share| share / total);
            match texture {
                Texture::Plain => assert_eq!([first, second, through], [1.0, 0.0, 0.0]),
                Texture::Hollow => {
                    assert!(first > 0.3 && second == 0.0 && through > 0.4, "{shares:?}");
                }
                Texture::Dotted => {
                    assert!(first > 0.6 && second > 0.2 && through == 0.0, "{shares:?}");
                }
                _ => assert!(
                    (0.35..0.65).contains(&second) && through == 0.0,
                    "{texture:?} {shares:?}"
                ),
            }
        }
    }

    proptest! {
        #[test]
        fn places_lie_inside_and_apart(seed in any::<u64>(), size in 48_u32..200) {
            let places = places(size, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert!((1..=4).contains(&places.len()));
            for (i, place) in places.iter().enumerate() {
                prop_assert!(place.centre.iter().all(|&c| c > place.radius && c + place.radius < size as f32));
                for other in &places[..i] {
                    prop_assert!(distance(place.centre, other.centre) > APART * (place.radius + other.radius));
                }
            }
        }
    }
}
