//! The built-in data set: small drawn pictures of 1 to 4 objects, each labelled by texture and shape.
//!
//! A label is a pair such as "striped circle". Of the 36 pairs 27 are seen and 9 unseen, and every texture and
//! every shape is part of seen pairs, so a model can know an unseen pair from its parts. Place, size, turn,
//! colours, background and clutter vary and carry no label.

mod draw;

use super::table::TableOptions;
use super::{DatasetError, Split};
use crate::labels::{LabelVectors, write_text_vectors};
use draw::{Canvas, Object as Drawn, Shape, Texture};
use image::{ExtendedColorType, ImageError, codecs::png::PngEncoder};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Smallest picture, in pixels a side: below it textures blur.
const MIN_SIZE: u32 = 48;
/// Largest picture, in pixels a side.
const MAX_SIZE: u32 = 1024;
/// Width of one attribute's vector; a label vector is twice as wide.
const ATTRIBUTE_DIM: usize = 16;
/// Length of the part of a label vector that belongs to the pair alone; an attribute's vector has length 1.
const PAIR_NOISE: f64 = 0.1;
/// ChaCha stream of the label vectors; pictures have the streams below it.
const VECTOR_STREAM: u64 = u64::MAX;

/// The unseen pairs: every texture and every shape is in one or two of them, and so in four or five seen pairs.
/// They do not depend on the seed: a backbone trained on seen pairs fits every set of scenes.
const UNSEEN: [(Texture, Shape); 9] = [
    (Texture::Plain, Shape::Star),
    (Texture::Plain, Shape::Square),
    (Texture::Striped, Shape::Circle),
    (Texture::Striped, Shape::Heart),
    (Texture::Dotted, Shape::Triangle),
    (Texture::Dotted, Shape::Cross),
    (Texture::Checkered, Shape::Heart),
    (Texture::Ringed, Shape::Square),
    (Texture::Hollow, Shape::Cross),
];

/// What the scenes depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SceneOptions {
    /// Width and height of a picture in pixels, 48 to 1024; objects take a third to six tenths of it.
    pub size: u32,
    /// Seed of the pictures and of the label vectors.
    pub seed: u64,
}

impl Default for SceneOptions {
    fn default() -> Self {
        Self { size: 64, seed: 0 }
    }
}

/// One picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// RGB, row-major of shape [size, size, 3].
    pub pixels: Vec<u8>,
    /// The objects, from the rearmost to the foremost; their labels differ.
    pub objects: Vec<SceneObject>,
    /// Which object is foremost at each pixel, of shape [size, size]: 0 the background, i object i - 1. An object's
    /// area is its silhouette, also where it is hollow.
    pub mask: Vec<u8>,
}

/// One object of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SceneObject {
    /// Number of its label in [`Scenes::names`].
    pub label: usize,
    /// Bounding box of its silhouette in pixels, hidden parts included: [left, top, right, bottom), right and
    /// bottom exclusive.
    pub bounds: [u32; 4],
}

/// The drawn data set: any picture of it can be drawn alone, in any order, on any thread.
#[derive(Debug, Clone)]
pub struct Scenes {
    options: SceneOptions,
    /// Texture and shape of every label, seen first.
    pairs: Vec<(Texture, Shape)>,
    names: Vec<String>,
    seen: usize,
}

impl Scenes {
    /// Prepares the set; nothing is drawn yet.
    ///
    /// # Errors
    /// A size outside 48 to 1024.
    pub fn new(options: SceneOptions) -> Result<Self, DatasetError> {
        let size = options.size;
        if !(MIN_SIZE..=MAX_SIZE).contains(&size) {
            return Err(DatasetError::SceneSize {
                size,
                min: MIN_SIZE,
                max: MAX_SIZE,
            });
        }
        let all = Texture::ALL
            .iter()
            .flat_map(|&texture| Shape::ALL.map(|shape| (texture, shape)));
        let mut pairs: Vec<_> = all.filter(|pair| !UNSEEN.contains(pair)).collect();
        let seen = pairs.len();
        pairs.extend(UNSEEN);
        let names = pairs
            .iter()
            .map(|(texture, shape)| format!("{} {}", texture.name(), shape.name()))
            .collect();
        Ok(Self {
            options,
            pairs,
            names,
            seen,
        })
    }

    /// The options.
    pub fn options(&self) -> SceneOptions {
        self.options
    }

    /// Label names, the seen ones first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many of the names are seen.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Draws picture `index` of `split`: training pictures hold seen pairs only, test pictures seen and unseen
    /// ones alike. The same options, split and index give the same picture.
    ///
    /// ```
    /// use epsilon_data::dataset::Split;
    /// use epsilon_data::dataset::scenes::{SceneOptions, Scenes};
    ///
    /// let scenes = Scenes::new(SceneOptions { size: 64, seed: 0 })?;
    /// let scene = scenes.draw(Split::Train, 0);
    /// assert!(scene.objects.iter().all(|object| object.label < scenes.seen()));
    /// # Ok::<(), epsilon_data::dataset::DatasetError>(())
    /// ```
    pub fn draw(&self, split: Split, index: u32) -> Scene {
        let (stream, labels) = match split {
            Split::Train => (2 * u64::from(index), self.seen),
            Split::Test => (2 * u64::from(index) + 1, self.names.len()),
        };
        let mut rng = self.rng(stream);
        let mut canvas = Canvas::background(self.options.size, &mut rng);
        let mut free: Vec<usize> = (0..labels).collect();
        let mut objects = Vec::new();
        for place in draw::places(self.options.size, &mut rng) {
            let label = free.swap_remove(rng.random_range(0..free.len()));
            let (texture, shape) = self.pairs[label];
            let bounds = canvas.paint(&Drawn::random(texture, shape, place, &canvas, &mut rng));
            objects.push(SceneObject { label, bounds });
        }
        let (pixels, mask) = canvas.finish(&mut rng);
        Scene {
            pixels,
            objects,
            mask,
        }
    }

    /// Label vectors of width 32: [texture; shape], each part a random direction of length 1 that all labels with
    /// this texture or shape share, plus a random vector of length 0.1 of the pair's own.
    ///
    /// # Errors
    /// None that can be met; the type is that of [`LabelVectors::new`].
    pub fn vectors(&self) -> Result<LabelVectors, DatasetError> {
        let mut rng = self.rng(VECTOR_STREAM);
        let textures = Texture::ALL.map(|_| direction(&mut rng, ATTRIBUTE_DIM, 1.0));
        let shapes = Shape::ALL.map(|_| direction(&mut rng, ATTRIBUTE_DIM, 1.0));
        let mut values = Vec::with_capacity(self.pairs.len() * 2 * ATTRIBUTE_DIM);
        for &(texture, shape) in &self.pairs {
            let attributes = textures[texture as usize]
                .iter()
                .chain(&shapes[shape as usize]);
            let own = direction(&mut rng, 2 * ATTRIBUTE_DIM, PAIR_NOISE);
            values.extend(
                attributes
                    .zip(own)
                    .map(|(attribute, own)| (attribute + own) as f32),
            );
        }
        Ok(LabelVectors::new(
            self.names.clone(),
            2 * ATTRIBUTE_DIM,
            values,
        )?)
    }

    /// Writes `train` and `test` pictures as PNG files with `labels.tsv`, `seen.txt`, `unseen.txt` and `vectors.txt`
    /// into `folder` (made if need be; files of these names are replaced), and says how
    /// [`table::read`](super::table::read) reads them.
    ///
    /// # Errors
    /// A file or folder that cannot be written.
    pub fn write(
        &self,
        folder: &Path,
        train: u32,
        test: u32,
    ) -> Result<TableOptions, DatasetError> {
        let mut table = String::new();
        for (split, name, count) in [(Split::Train, "train", train), (Split::Test, "test", test)] {
            let dir = folder.join(name);
            fs::create_dir_all(&dir).map_err(|reason| DatasetError::Write {
                path: dir.clone(),
                reason,
            })?;
            let write = |index: u32| {
                self.write_picture(folder, &format!("{name}/{index:06}.png"), split, index)
            };
            let rows: Result<Vec<String>, DatasetError> =
                (0..count).into_par_iter().map(write).collect();
            table.extend(rows?);
        }
        let options = TableOptions::in_folder(folder);
        write_text_vectors(&folder.join("vectors.txt"), &self.vectors()?)?;
        write_file(&options.seen, &(self.names[..self.seen].join("\n") + "\n"))?;
        if let Some(unseen) = &options.unseen {
            write_file(unseen, &(self.names[self.seen..].join("\n") + "\n"))?;
        }
        write_file(&options.table, &table)?;
        Ok(options)
    }

    /// Writes one picture and gives its row of the table.
    fn write_picture(
        &self,
        folder: &Path,
        id: &str,
        split: Split,
        index: u32,
    ) -> Result<String, DatasetError> {
        let scene = self.draw(split, index);
        let path = folder.join(id);
        let mut file = Vec::new();
        image::ImageEncoder::write_image(
            PngEncoder::new(&mut file),
            &scene.pixels,
            self.options.size,
            self.options.size,
            ExtendedColorType::Rgb8,
        )
        .map_err(|error| DatasetError::Write {
            path: path.clone(),
            reason: into_io(error),
        })?;
        write_file(&path, &file)?;
        let labels: Vec<&str> = scene
            .objects
            .iter()
            .map(|object| self.names[object.label].as_str())
            .collect();
        let split = id.split('/').next().unwrap_or_default();
        Ok(format!("{id}\t{split}\t{}\n", labels.join(",")))
    }

    /// The generator of one picture or of the vectors.
    fn rng(&self, stream: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed);
        rng.set_stream(stream);
        rng
    }
}

fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<(), DatasetError> {
    // In place: thousands of small pictures, drawn again from the start by every run; a sync each would take longer than
    // drawing them.
    std::fs::write(path, content.as_ref()).map_err(|reason| DatasetError::Write {
        path: path.into(),
        reason,
    })
}

fn into_io(error: ImageError) -> std::io::Error {
    match error {
        ImageError::IoError(error) => error,
        other => std::io::Error::other(other),
    }
}

/// A random vector of the given width and Euclidean length, its direction uniform.
fn direction(rng: &mut impl Rng, width: usize, length: f64) -> Vec<f64> {
    let values: Vec<f64> = (0..width).map(|_| f64::from(draw::normal(rng))).collect();
    let scale = length
        / values
            .iter()
            .map(|v| v * v)
            .sum::<f64>()
            .sqrt()
            .max(f64::MIN_POSITIVE);
    values.into_iter().map(|value| value * scale).collect()
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;
    use std::collections::HashSet;

    fn scenes(seed: u64) -> Scenes {
        Scenes::new(SceneOptions {
            seed,
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn every_part_is_seen_in_at_least_three_pairs() {
        let scenes = scenes(0);
        assert_eq!((scenes.names().len(), scenes.seen()), (36, 27));
        assert_eq!(scenes.names().iter().collect::<HashSet<_>>().len(), 36);
        let seen = &scenes.names()[..27];
        for part in Texture::ALL
            .map(Texture::name)
            .iter()
            .chain(&Shape::ALL.map(Shape::name))
        {
            let count = |names: &[String]| {
                names
                    .iter()
                    .filter(|name| name.split(' ').any(|word| word == *part))
                    .count()
            };
            assert!((4..=5).contains(&count(seen)), "{part}");
            assert!((1..=2).contains(&count(&scenes.names()[27..])), "{part}");
        }
        assert_eq!(scenes.names()[35], "hollow cross");
    }

    #[test]
    fn pictures_depend_on_options_split_and_index_only() {
        let (one, two) = (scenes(7), scenes(7));
        let forward: Vec<Scene> = (0..4).map(|i| one.draw(Split::Train, i)).collect();
        let backward: Vec<Scene> = (0..4).rev().map(|i| two.draw(Split::Train, i)).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
        assert_ne!(forward[0], forward[1]);
        assert_ne!(forward[0].pixels, one.draw(Split::Test, 0).pixels);
        assert_ne!(forward[0].pixels, scenes(8).draw(Split::Train, 0).pixels);
    }

    #[test]
    fn train_pictures_hold_seen_pairs_and_test_pictures_all() {
        let scenes = scenes(1);
        for (split, labels) in [(Split::Train, 27), (Split::Test, 36)] {
            let mut counts = vec![0; 36];
            let mut sizes = [0; 5];
            for scene in (0..200).map(|i| scenes.draw(split, i)) {
                sizes[scene.objects.len()] += 1;
                let labels: HashSet<usize> =
                    scene.objects.iter().map(|object| object.label).collect();
                assert_eq!(labels.len(), scene.objects.len());
                labels.into_iter().for_each(|label| counts[label] += 1);
            }
            assert!(
                counts[..labels].iter().all(|&count| count >= 3),
                "{counts:?}"
            );
            assert!(
                counts[labels..].iter().all(|&count| count == 0),
                "{counts:?}"
            );
            assert!(
                sizes[0] == 0 && sizes[1..].iter().all(|&count| count > 20),
                "{sizes:?}"
            );
        }
    }

    #[test]
    fn masks_and_bounds_agree() {
        for size in [48, 64, 97] {
            let scenes = Scenes::new(SceneOptions { size, seed: 2 }).unwrap();
            for scene in (0..20).map(|i| scenes.draw(Split::Test, i)) {
                assert_eq!(scene.pixels.len(), (size * size * 3) as usize);
                assert_eq!(scene.mask.len(), (size * size) as usize);
                let mut areas = vec![0_u32; scene.objects.len() + 1];
                for (i, &owner) in (0..).zip(&scene.mask) {
                    areas[owner as usize] += 1;
                    if let Some(object) = owner.checked_sub(1).map(|i| &scene.objects[i as usize]) {
                        let [left, top, right, bottom] = object.bounds;
                        assert!(
                            (left..right).contains(&(i % size))
                                && (top..bottom).contains(&(i / size))
                        );
                    }
                }
                for (object, area) in scene.objects.iter().zip(&areas[1..]) {
                    let [left, top, right, bottom] = object.bounds;
                    assert!(right <= size && bottom <= size);
                    let sides =
                        [right - left, bottom - top].map(|side| f64::from(side) / f64::from(size));
                    assert!(
                        sides.iter().all(|side| (0.2..0.75).contains(side)),
                        "{object:?}"
                    );
                    // Even a thin shape that others overlap shows a fifth of its bounding box.
                    assert!(
                        5 * area >= (right - left) * (bottom - top),
                        "{object:?} {area}"
                    );
                }
            }
        }
    }

    #[test]
    fn objects_stand_out_from_what_surrounds_them() {
        let scenes = scenes(3);
        for scene in (0..50).map(|i| scenes.draw(Split::Train, i)) {
            let mean = |owner: u8| {
                let pixels = scene
                    .pixels
                    .chunks_exact(3)
                    .zip(&scene.mask)
                    .filter(|(_, mask)| **mask == owner);
                let (mut sum, mut count) = ([0.0; 3], 0.0);
                for (pixel, _) in pixels {
                    sum = std::array::from_fn(|i| sum[i] + f64::from(pixel[i]));
                    count += 1.0;
                }
                sum.map(|channel| channel / count)
            };
            let background = mean(0);
            for (object, owner) in scene.objects.iter().zip(1..) {
                let away: f64 = mean(owner)
                    .iter()
                    .zip(background)
                    .map(|(a, b)| (a - b).abs())
                    .sum();
                assert!(away > 12.0, "{:?} {away}", scenes.names()[object.label]);
            }
        }
    }

    #[test]
    fn label_vectors_share_their_parts() {
        let scenes = scenes(0);
        let vectors = scenes.vectors().unwrap();
        assert_eq!((vectors.len(), vectors.dim()), (36, 32));
        assert_eq!(vectors, scenes.vectors().unwrap());
        let row = |name: &str| vectors.row(scenes.names().iter().position(|n| n == name).unwrap());
        let apart = |a: &[f32], b: &[f32]| {
            a.iter()
                .zip(b)
                .map(|(a, b)| (a - b).powi(2))
                .sum::<f32>()
                .sqrt()
        };
        let (one, two, three) = (
            row("striped circle"),
            row("striped star"),
            row("dotted circle"),
        );
        assert!(apart(&one[..16], &two[..16]) < 0.21 && apart(&one[16..], &two[16..]) > 0.5);
        assert!(apart(&one[16..], &three[16..]) < 0.21 && apart(&one[..16], &three[..16]) > 0.5);
        for row in vectors.values().chunks_exact(32) {
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            assert!((length - 2.0_f32.sqrt()).abs() < 0.11, "{length}");
        }
    }

    #[test]
    fn written_pictures_are_read_as_a_table() {
        let dir = tempfile::tempdir().unwrap();
        let scenes = scenes(4);
        let options = scenes.write(&dir.path().join("new/folder"), 5, 3).unwrap();
        let (dataset, summary) = table::read(&options).unwrap();
        assert_eq!(
            (dataset.names.as_slice(), dataset.seen),
            (scenes.names(), 27)
        );
        assert_eq!(
            (
                summary.train.images,
                summary.test.images,
                summary.missing_images
            ),
            (5, 3, 0)
        );
        assert_eq!((summary.ignored_words, summary.train.with_unseen), (0, 0));
        for (index, row) in (0..).zip(dataset.rows(Split::Test)) {
            let scene = scenes.draw(Split::Test, index);
            let mut labels: Vec<usize> = scene.objects.iter().map(|object| object.label).collect();
            labels.sort_unstable();
            assert!(dataset.labels.positives(row).eq(labels));
            let image = image::open(dataset.records[row].path()).unwrap();
            assert_eq!(image.as_rgb8().unwrap().as_raw(), &scene.pixels);
        }
        let vectors =
            crate::labels::resolve(&options.images.join("vectors.txt"), scenes.names()).unwrap();
        assert_eq!(vectors.vectors, scenes.vectors().unwrap());
    }

    #[test]
    fn what_cannot_be_drawn_or_written_is_named() {
        let error = Scenes::new(SceneOptions { size: 8, seed: 0 })
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "scenes of 8 x 8 pixels cannot be drawn; choose a size from 48 to 1024"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = scenes(0).write(file.path(), 1, 1).unwrap_err().to_string();
        assert!(error.contains("cannot be written"), "{error}");
    }
}
