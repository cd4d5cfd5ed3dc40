//! VGG (Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015) on the
//! CPU, forward only, with torchvision's tensor names. A 3 x 3 convolution is nine products over shifted rows of
//! pixels: nothing is copied, and no matrix of patches is ever made.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::precision::Precision;
use super::tensors::Reader;
use super::weights::Linear;
use super::{Backbone, BackboneError, BackboneInfo, Features, Global};
use crate::image::Preprocess;
use epsilon_kernels::finish::After;
use epsilon_kernels::linear::{Arithmetic, Encoded, LinearMap};
use epsilon_kernels::packed::Rows;

/// Side of the map that the fully connected layers read.
const POOLED: usize = 7;
/// Added to the variance in torchvision's batch normalisation.
const BATCH_NORM_EPS: f32 = 1e-5;
/// Rows of pixels of one product: they and a panel of weights stay in the second cache.
const BLOCK: usize = 240;
/// Columns of a fully connected layer that one thread takes.
const SLICE: usize = 512;

/// All weights of a VGG, in f32; batch normalisation is part of the convolutions.
pub struct VggWeights {
    name: String,
    sha256: String,
    weights_key: Option<String>,
    preprocess: Preprocess,
    global: Global,
    parts: Parts,
}

/// What the tensors tell.
pub(super) struct Parts {
    convolutions: Vec<Convolution>,
    /// To the first fully connected layer, and to the second.
    connected: [Linear; 2],
    /// The classifier, the last fully connected layer, if it is there.
    head: Option<Linear>,
}

/// A 3 x 3 convolution with a border of zeros, and the ReLU after it.
pub struct Convolution {
    /// `[outputs, inputs, 3, 3]`.
    pub map: Linear,
    /// Channels that it reads.
    pub inputs: usize,
    /// Whether a 2 x 2 maximum stands before it.
    pub pooled: bool,
}

/// Takes the tensors of a VGG; the layers follow from the gaps in their numbers.
pub(super) fn read(reader: &mut Reader) -> Parts {
    let mut convolutions = Vec::new();
    let (mut layer, mut inputs, mut pooled) = (0, 3, false);
    loop {
        let name = format!("features.{layer}");
        let outputs = reader.size(&format!("{name}.weight"), 0);
        let mut map = reader.linear_of(&name, &[outputs, inputs, 3, 3]);
        layer += 1;
        let norm = format!("features.{layer}");
        if reader.shape(&format!("{norm}.weight")).len() == 1 {
            fold(reader, &norm, &mut map);
            layer += 1;
        }
        convolutions.push(Convolution {
            map,
            inputs,
            pooled,
        });
        inputs = outputs;
        // A ReLU, then perhaps a maximum: the next convolution says.
        layer += 1;
        let convolution =
            |layer: usize| reader.shape(&format!("features.{layer}.weight")).len() == 4;
        pooled = !convolution(layer);
        layer += usize::from(pooled);
        if !convolution(layer) {
            break;
        }
    }
    let hidden = reader.size("classifier.0.weight", 0);
    let outputs = reader.size("classifier.3.weight", 0);
    let values = inputs.saturating_mul(POOLED * POOLED);
    Parts {
        convolutions,
        connected: [
            reader.biased("classifier.0", hidden, values),
            reader.biased("classifier.3", outputs, hidden),
        ],
        head: reader.has("classifier.6.weight").then(|| {
            let classes = reader.size("classifier.6.weight", 0);
            reader.biased("classifier.6", classes, outputs)
        }),
    }
}

/// `(x - mean) / sqrt(variance + epsilon) * weight + bias` after a convolution, as part of it.
fn fold(reader: &mut Reader, name: &str, map: &mut Linear) {
    let mut take = |part: &str| reader.tensor(&format!("{name}.{part}"), &[map.bias.len()]);
    let [weight, bias, mean, variance] =
        ["weight", "bias", "running_mean", "running_var"].map(&mut take);
    if variance.iter().any(|value| *value < 0.0) {
        reader.problem(format!("{name}.running_var: a variance below zero"));
        return;
    }
    for (value, mean) in map.bias.iter_mut().zip(&mean) {
        *value -= mean;
    }
    let factors: Vec<f32> = weight
        .iter()
        .zip(&variance)
        .map(|(weight, variance)| weight / (variance + BATCH_NORM_EPS).sqrt())
        .collect();
    map.scale(&factors);
    for (value, bias) in map.bias.iter_mut().zip(&bias) {
        *value += bias;
    }
}

impl Parts {
    /// Puts name and preprocessing to the tensors; a sentence when the image is too small for them.
    pub(super) fn finish(
        self,
        name: String,
        sha256: String,
        weights_key: Option<String>,
        preprocess: Preprocess,
        global: Global,
    ) -> Result<VggWeights, String> {
        let pools = self.convolutions.iter().filter(|c| c.pooled).count() as u32;
        // The last maximum halves once more.
        let needed = 2usize.checked_pow(pools + 1).unwrap_or(usize::MAX);
        let size = preprocess.size as usize;
        if size < needed || !size.is_multiple_of(needed) {
            return Err(format!("a multiple of {needed} pixels is needed"));
        }
        Ok(VggWeights {
            name,
            sha256,
            weights_key,
            preprocess,
            global,
            parts: self,
        })
    }
}

impl VggWeights {
    /// What the network is and what goes in and comes out.
    pub fn info(&self) -> BackboneInfo {
        let convolutions = &self.parts.convolutions;
        let pools = convolutions.iter().filter(|c| c.pooled).count();
        let side = self.preprocess.size as usize >> pools;
        let dim = convolutions.last().map_or(0, |last| last.map.bias.len());
        let wanted = self.global == Global::Classes;
        let classes = self.classes().filter(|_| wanted);
        let global = classes.unwrap_or(self.parts.connected[1].bias.len());
        BackboneInfo {
            name: self.name.clone(),
            weights_sha256: self.sha256.clone(),
            weights_key: self.weights_key.clone(),
            preprocess: self.preprocess.clone(),
            tokens: side * side,
            dim,
            grid: (side, side),
            global: (global != dim).then_some(global),
            classes,
            projected: false,
            precision: Precision::F32,
        }
    }

    /// The convolutions, in order; a last 2 x 2 maximum and a mean over 7 x 7 windows lead from them to the
    /// [`connected`](Self::connected) layers.
    pub fn convolutions(&self) -> &[Convolution] {
        &self.parts.convolutions
    }

    /// Side of the map that the fully connected layers read, `[channels, 7, 7]`.
    pub const POOLED: usize = POOLED;

    /// The two fully connected layers, each with a ReLU after it.
    pub fn connected(&self) -> &[Linear; 2] {
        &self.parts.connected
    }

    /// The classifier, where its scores are the global vector ([`Global::Classes`]).
    pub fn scores(&self) -> Option<&Linear> {
        self.head().filter(|_| self.global == Global::Classes)
    }

    /// Classes of the classifier, if the file has one.
    pub fn classes(&self) -> Option<usize> {
        self.head().map(|head| head.bias.len())
    }

    /// The classifier, a linear map of the second fully connected layer after its ReLU.
    pub(super) fn head(&self) -> Option<&Linear> {
        self.parts.head.as_ref()
    }
}

/// A VGG ready to run. [`Features::tokens`] are the last convolution's map after its ReLU (VGG19: conv5_4),
/// [`Features::global`] is the second fully connected layer after its ReLU, or the last one's scores of the network's
/// classes ([`Global::Classes`]).
pub struct Vgg {
    info: BackboneInfo,
    layers: Vec<Layer>,
    connected: [Wide; 2],
    /// Of the classifier, where its scores are the global vector.
    head: Option<Wide>,
    /// Working memory that finished images left for the next.
    spare: Mutex<Vec<Scratch>>,
}

/// Working memory for one image.
#[derive(Default)]
struct Scratch {
    maps: [Map; 2],
    gathered: Vec<f32>,
    encoded: Encoded,
}

/// A convolution in the engine's layout: one matrix `[inputs, outputs]` a place under the 3 x 3 window, or a single one
/// for all nine where there are few inputs.
struct Layer {
    arithmetic: Arithmetic,
    /// The first adds the bias.
    places: Vec<LinearMap>,
    inputs: usize,
    pooled: bool,
}

/// A fully connected layer in slices of its outputs.
struct Wide {
    arithmetic: Arithmetic,
    slices: Vec<LinearMap>,
    inputs: usize,
}

/// A square map of pixels `[side + 2, side + 2, channels]` with a border of zeros.
#[derive(Default)]
struct Map {
    side: usize,
    channels: usize,
    values: Vec<f32>,
}

impl Map {
    /// Gives the map another shape. Borders are zero afterwards, the rest is undefined.
    fn shape(&mut self, side: usize, channels: usize) {
        (self.side, self.channels) = (side, channels);
        let wide = side + 2;
        self.values.resize(wide * wide * channels, 0.0);
        self.values[..wide * channels].fill(0.0);
        self.clear_sides();
        self.values[wide * (side + 1) * channels..].fill(0.0);
    }

    /// Zeros at the left and the right of every row.
    fn clear_sides(&mut self) {
        let wide = (self.side + 2) * self.channels;
        for row in self.values.chunks_exact_mut(wide) {
            row[..self.channels].fill(0.0);
            row[wide - self.channels..].fill(0.0);
        }
    }

    /// The values of one row of pixels, without the border.
    fn row(&self, row: usize) -> &[f32] {
        let from = ((row + 1) * (self.side + 2) + 1) * self.channels;
        &self.values[from..from + self.side * self.channels]
    }

    fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let from = ((row + 1) * (self.side + 2) + 1) * self.channels;
        &mut self.values[from..from + self.side * self.channels]
    }
}

impl Layer {
    fn new(convolution: Convolution, arithmetic: Arithmetic) -> Self {
        let Convolution {
            map,
            inputs,
            pooled,
        } = convolution;
        let outputs = map.bias.len();
        // The pixels' own layer has few operations, and every later one lives on it.
        let arithmetic = match gathers(inputs) {
            true => Arithmetic::F32,
            false => arithmetic,
        };
        // [outputs, inputs, 9] to [9, outputs, inputs].
        let at = |place: usize| -> Vec<f32> {
            map.weight.iter().skip(place).step_by(9).copied().collect()
        };
        let places = if gathers(inputs) {
            let places: Vec<Vec<f32>> = (0..9).map(at).collect();
            let rows = (0..outputs).flat_map(|output| {
                let part = output * inputs..(output + 1) * inputs;
                places
                    .iter()
                    .flat_map(move |place| place[part.clone()].to_vec())
            });
            let weight: Vec<f32> = rows.collect();
            vec![LinearMap::new(&weight, &map.bias, arithmetic)]
        } else {
            let place = |place: usize| {
                let bias = match place {
                    0 => map.bias.clone(),
                    _ => vec![0.0; outputs],
                };
                LinearMap::new(&at(place), &bias, arithmetic)
            };
            (0..9).map(place).collect()
        };
        Self {
            arithmetic,
            places,
            inputs,
            pooled,
        }
    }

    /// `to = relu(convolution(from))`, with the first map for the second and the rest for working memory.
    fn run(&self, s: &mut Scratch) {
        let [from, to] = &mut s.maps;
        let (wide, inputs, outputs) = (from.side + 2, self.inputs, self.places[0].outputs());
        to.shape(from.side, outputs);
        // From the first pixel to the last, the borders between rows included: long products, a little of them in vain.
        let (first, count) = (wide + 1, from.side * wide - 2);
        for start in (0..count).step_by(BLOCK) {
            let count = BLOCK.min(count - start);
            let out = &mut to.values[(first + start) * outputs..];
            for (place, map) in self.places.iter().enumerate() {
                let shifted = start + place / 3 * wide + place % 3;
                let (data, stride) = if gathers(inputs) {
                    gather(from, start, count, &mut s.gathered);
                    (&s.gathered[..], 9 * inputs)
                } else {
                    (&from.values[shifted * inputs..], inputs)
                };
                let rows = Rows {
                    data,
                    stride,
                    count,
                };
                let after = match place {
                    0 => After::Store,
                    _ => After::Add,
                };
                let rows = s.encoded.encode(self.arithmetic, rows, stride);
                map.apply(rows, after, out, outputs);
            }
        }
        for value in &mut to.values[first * outputs..(first + count) * outputs] {
            *value = relu(*value);
        }
        to.clear_sides();
    }
}

/// The larger of a value and zero; what is not a number stays so.
fn relu(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

/// Whether the nine places are one product: with so few inputs nine would mostly add up results.
fn gathers(inputs: usize) -> bool {
    inputs < 16
}

/// The windows of `rows` pixels from `start`, `[rows, 9 * channels]`.
fn gather(from: &Map, start: usize, rows: usize, out: &mut Vec<f32>) {
    let (wide, channels) = (from.side + 2, from.channels);
    out.clear();
    for pixel in start..start + rows {
        for row in 0..3 {
            let at = (pixel + row * wide) * channels;
            out.extend_from_slice(&from.values[at..at + 3 * channels]);
        }
    }
}

/// `to`: the maximum of every 2 x 2 pixels.
fn pool(from: &Map, to: &mut Map) {
    let channels = from.channels;
    to.shape(from.side / 2, channels);
    for row in 0..to.side {
        let (upper, lower) = (from.row(2 * row), from.row(2 * row + 1));
        let pairs = upper
            .chunks_exact(2 * channels)
            .zip(lower.chunks_exact(2 * channels));
        for ((upper, lower), out) in pairs.zip(to.row_mut(row).chunks_exact_mut(channels)) {
            for (c, out) in out.iter_mut().enumerate() {
                let two = |row: &[f32]| larger(row[c], row[c + channels]);
                *out = larger(two(upper), two(lower));
            }
        }
    }
}

/// The maximum; not a number if one of the two is not.
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// Means over `POOLED` x `POOLED` windows that cover the map, as PyTorch's adaptive average pooling; `[channels, 7, 7]`.
fn average(from: &Map, out: &mut [f32]) {
    let window = |i: usize| i * from.side / POOLED..((i + 1) * from.side).div_ceil(POOLED);
    for (channel, out) in out.chunks_exact_mut(POOLED * POOLED).enumerate() {
        for (place, out) in out.iter_mut().enumerate() {
            let (rows, columns) = (window(place / POOLED), window(place % POOLED));
            let count = rows.len() * columns.len();
            let sum: f32 = rows
                .flat_map(|row| {
                    let values = from.row(row);
                    columns
                        .clone()
                        .map(move |column| values[column * from.channels + channel])
                })
                .sum();
            *out = sum / count as f32;
        }
    }
}

impl Wide {
    fn new(linear: &Linear, arithmetic: Arithmetic) -> Self {
        let outputs = linear.bias.len();
        let inputs = linear.weight.len() / outputs;
        let slices = (0..outputs)
            .step_by(SLICE)
            .map(|first| {
                let part = first..outputs.min(first + SLICE);
                LinearMap::part(&linear.weight, &linear.bias, part, 0..inputs, arithmetic)
            })
            .collect();
        Self {
            arithmetic,
            slices,
            inputs,
        }
    }

    /// `weight rows + bias` of `count` rows.
    fn run(&self, data: &[f32], count: usize) -> Vec<f32> {
        let rows = Rows {
            data,
            stride: self.inputs,
            count,
        };
        let mut encoded = Encoded::default();
        let rows = encoded.encode(self.arithmetic, rows, self.inputs);
        let parts: Vec<Vec<f32>> = self
            .slices
            .par_iter()
            .map(|map| {
                let width = map.outputs();
                let mut out = vec![0.0; count * width];
                map.apply(rows, After::Store, &mut out, width);
                out
            })
            .collect();
        let mut joined = Vec::new();
        for row in 0..count {
            for (part, map) in parts.iter().zip(&self.slices) {
                let part = &part[row * map.outputs()..][..map.outputs()];
                joined.extend_from_slice(part);
            }
        }
        joined
    }

    /// `relu(weight rows + bias)` of `count` rows.
    fn run_relu(&self, data: &[f32], count: usize) -> Vec<f32> {
        let mut out = self.run(data, count);
        out.iter_mut().for_each(|value| *value = relu(*value));
        out
    }
}

impl Vgg {
    /// Lays the weights out for the CPU.
    ///
    /// # Errors
    ///
    /// [`BackboneError::Cpu`] and [`BackboneError::Precision`] where the instructions cannot be had.
    pub fn new(weights: VggWeights, precision: Precision) -> Result<Self, BackboneError> {
        let arithmetic = precision.arithmetic()?;
        let mut info = weights.info();
        info.precision = precision;
        let Parts {
            convolutions,
            connected,
            head,
        } = weights.parts;
        let head = head.filter(|_| weights.global == Global::Classes);
        Ok(Self {
            info,
            layers: convolutions
                .into_iter()
                .map(|convolution| Layer::new(convolution, arithmetic))
                .collect(),
            connected: connected.map(|linear| Wide::new(&linear, arithmetic)),
            head: head.map(|linear| Wide::new(&linear, Arithmetic::F32)),
            spare: Mutex::new(Vec::new()),
        })
    }

    /// One image through the convolutions. `tokens` is `[N, D]`, `pooled` is `[D, 7, 7]`.
    fn forward_one(&self, image: &[f32], s: &mut Scratch, tokens: &mut [f32], pooled: &mut [f32]) {
        let side = self.info.preprocess.size as usize;
        let from = &mut s.maps[0];
        from.shape(side, 3);
        for row in 0..side {
            for (pixel, out) in from.row_mut(row).chunks_exact_mut(3).enumerate() {
                for (channel, out) in out.iter_mut().enumerate() {
                    *out = image[(channel * side + row) * side + pixel];
                }
            }
        }
        for layer in &self.layers {
            if layer.pooled {
                let [from, to] = &mut s.maps;
                pool(from, to);
                s.maps.swap(0, 1);
            }
            layer.run(s);
            s.maps.swap(0, 1);
        }
        let [from, to] = &mut s.maps;
        let width = from.side * from.channels;
        for (row, out) in tokens.chunks_exact_mut(width).enumerate() {
            out.copy_from_slice(from.row(row));
        }
        pool(from, to);
        average(to, pooled);
    }
}

impl Backbone for Vgg {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn forward(
        &self,
        images: &[f32],
        count: usize,
        out: &mut Features,
    ) -> Result<(), BackboneError> {
        let image_len = self.info.preprocess.len();
        self.info.check_images(images, count)?;
        let (tokens, dim) = (self.info.tokens, self.info.dim);
        let values = dim * POOLED * POOLED;
        out.tokens.resize(count * tokens * dim, 0.0);
        let mut pooled = vec![0.0; count * values];
        images
            .par_chunks_exact(image_len)
            .zip(out.tokens.par_chunks_exact_mut(tokens * dim))
            .zip(pooled.par_chunks_exact_mut(values))
            .with_max_len(1)
            .for_each(|((image, tokens), pooled)| {
                let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
                let mut scratch = spare.pop().unwrap_or_default();
                drop(spare);
                self.forward_one(image, &mut scratch, tokens, pooled);
                let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
                spare.push(scratch);
            });
        let hidden = self.connected[0].run_relu(&pooled, count);
        let features = self.connected[1].run_relu(&hidden, count);
        out.global = match &self.head {
            Some(head) => head.run(&features, count),
            None => features,
        };
        Ok(())
    }
}
