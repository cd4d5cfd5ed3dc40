//! Gen-MLZSL: a network learns to draw global vectors of images from the vectors of their labels; drawn images of unseen
//! labels then join the real ones, and linear classifiers are trained on both.
//!
//! Source: "Generative Multi-Label Zero-Shot Learning", TPAMI 2023, as it is outlined; no code was read. With x an image's global
//! vector (each channel brought to 0..1 over the training images), A the vectors of its labels and a their mean:
//! 1. Generator `G(z, A)`: one of three fusions. Attribute-level: a network of `[z, a]`. Feature-level: a network of
//!    `[z, a_j]` for every label j, its features averaged. Cross-level: both, enriched by attention over the two (8 heads,
//!    residual; then a network of two layers, residual) and averaged. A sigmoid ends all three.
//! 2. VAE: an encoder reads `[x, a]` and gives mean and variance of z; loss: the cross-entropy between x and `G(z, A)`, and
//!    the divergence of z from a standard normal.
//! 3. WGAN-GP: a critic D reads `[x, a]`; it takes several steps down `D(G) - D(x) + penalty (|dD/dx| - 1)^2`, the gradient
//!    taken between a drawn and a real image, for each step of generator and encoder down `VAE - adversarial D(G)`.
//! 4. Label sets are drawn for every unseen label, and images for them. One linear map with binary cross-entropy over the
//!    unseen labels is trained on these (ZSL), another over all labels on these and the real ones (GZSL).
//!
//! Not confirmed, and settings here: widths, `adversarial`, the length of the trainings and their rates, how many images are
//! drawn. Not confirmed either, and our reading: that both levels of the fusion have networks of their own, that one z serves
//! all labels of an image, that the sigmoid comes after the fusion, that x is brought to 0..1 and rebuilt by cross-entropy, and
//! that a drawn image has as many labels as some training image, all of them unseen.

mod classifiers;
mod networks;

use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Method, MethodError, SolvedMethod, Vocabulary, Whole};
use crate::batch::{Batch, Dims};
use crate::loss::Negatives;
use crate::optimiser::{AdamSettings, Optimiser, OptimiserSettings};
use crate::parameters::{Spec, Start, Weights, standard_normal};
use classifiers::{Drawn, Head};
use networks::{Conditions, Networks};

/// At what level the vectors of several labels are brought together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fusion {
    /// The labels' vectors are averaged.
    Attribute,
    /// One feature is drawn for every label, and these are averaged.
    Feature,
    /// Attention over the results of both.
    #[default]
    Cross,
}

/// Gen-MLZSL's settings; fusion, heads, critic steps and penalty are the paper's, the other defaults are not confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct GenMlzsl {
    /// The generator's fusion.
    pub fusion: Fusion,
    /// Hidden width of generator, encoder and critic.
    pub hidden: usize,
    /// Width of the noise z; the default is the width of the label vectors.
    pub noise: Option<usize>,
    /// Heads of the cross-level attention; must divide the global vector's width.
    pub heads: usize,
    /// Passes of the generator over the training images.
    pub epochs: usize,
    /// Images of a step, of generator, critic and classifiers.
    pub batch: usize,
    /// Adam's learning rate for generator, encoder and critic.
    pub learning_rate: f64,
    /// Steps of the critic for one of the generator.
    pub critic_steps: usize,
    /// Weight of the gradient penalty.
    pub penalty: f64,
    /// Weight of the critic's judgement beside the VAE's loss.
    pub adversarial: f64,
    /// Images drawn for every unseen label; each has other unseen labels too.
    pub samples: usize,
    /// The most labels that a drawn image has.
    pub most_labels: usize,
    /// Passes of the classifiers over their images.
    pub classifier_epochs: usize,
    /// Adam's learning rate for the classifiers.
    pub classifier_learning_rate: f64,
    /// What an absent label of a real image is to the classifier of all labels: `not-positive` counts every label that is
    /// not positive as absent, unseen ones too; `annotated` leaves all but those annotated as absent out of the loss.
    pub negatives: Negatives,
}

impl Default for GenMlzsl {
    fn default() -> Self {
        Self {
            fusion: Fusion::Cross,
            hidden: 4096,
            noise: None,
            heads: 8,
            epochs: 50,
            batch: 64,
            learning_rate: 1e-4,
            critic_steps: 5,
            penalty: 10.0,
            adversarial: 10.0,
            samples: 100,
            most_labels: 10,
            classifier_epochs: 30,
            classifier_learning_rate: 1e-3,
            negatives: Negatives::NotPositive,
        }
    }
}

impl GenMlzsl {
    fn networks(&self, dims: &Dims) -> Networks {
        Networks {
            fusion: self.fusion,
            heads: self.heads,
            features: dims.global_width(),
            label_width: dims.label_width,
            noise: self.noise.unwrap_or(dims.label_width),
            hidden: self.hidden,
        }
    }

    fn check(&self, dims: &Dims) -> Result<(), MethodError> {
        let wrong = |what: String| Err(MethodError::Setting(what));
        let counts = [
            (self.hidden, "hidden"),
            (self.noise.unwrap_or(1), "noise"),
            (self.heads, "heads"),
            (self.epochs, "epochs"),
            (self.batch, "batch"),
            (self.critic_steps, "critic-steps"),
            (self.samples, "samples"),
            (self.most_labels, "most-labels"),
            (self.classifier_epochs, "classifier-epochs"),
        ];
        if let Some((_, name)) = counts.iter().find(|(count, _)| *count == 0) {
            return wrong(format!("{name} = 0: give at least 1"));
        }
        let rates = [
            (self.learning_rate, "learning-rate"),
            (self.classifier_learning_rate, "classifier-learning-rate"),
        ];
        let positive = |rate: f64| rate > 0.0 && rate.is_finite();
        if let Some((rate, name)) = rates.iter().find(|(rate, _)| !positive(*rate)) {
            return wrong(format!("{name} = {rate}: give a value above 0"));
        }
        let weights = [(self.penalty, "penalty"), (self.adversarial, "adversarial")];
        let valid = |weight: f64| weight >= 0.0 && weight.is_finite();
        if let Some((weight, name)) = weights.iter().find(|(weight, _)| !valid(*weight)) {
            return wrong(format!("{name} = {weight}: give 0 or more"));
        }
        let width = dims.global_width();
        if self.fusion == Fusion::Cross && !width.is_multiple_of(self.heads) {
            return wrong(format!(
                "heads = {}: give a divisor of the global vector's width, {width}",
                self.heads
            ));
        }
        if dims.unseen == 0 {
            return wrong(
                "kind: gen-mlzsl draws images of unseen labels, and there are none".into(),
            );
        }
        Ok(())
    }

    /// Trains generator and critic in turn; returns the generator.
    fn generator(
        &self,
        networks: &Networks,
        images: &Images<'_>,
        device: &Device,
        rng: &mut ChaCha8Rng,
    ) -> Result<Weights, MethodError> {
        let mut generator = Learner::new(networks.generator_specs(), self.adam(), device, rng);
        let mut critic = Learner::new(networks.critic_specs(), self.adam(), device, rng);
        let mut order: Vec<usize> = (0..images.len()).collect();
        for epoch in 1..=self.epochs {
            order.shuffle(rng);
            let mut losses = [0.0; 2];
            for picks in order.chunks(self.batch) {
                for _ in 0..self.critic_steps {
                    let picks = rand::seq::index::sample(rng, images.len(), picks.len()).into_vec();
                    let batch = images.batch(&picks, device);
                    let loss = self.teach_critic(networks, &mut critic, &generator, &batch, rng);
                    losses[0] += loss / self.critic_steps as f64;
                }
                let batch = images.batch(picks, device);
                losses[1] += self.teach_generator(networks, &mut generator, &critic, &batch, rng);
            }
            let steps = order.len().div_ceil(self.batch) as f64;
            let [critic, generator] = losses.map(|loss| loss / steps);
            log::info!("gen-mlzsl, epoch {epoch}: critic {critic:.4}, generator {generator:.4}");
            for (value, what) in [(critic, "critic"), (generator, "generator")] {
                if !value.is_finite() {
                    return Err(MethodError::Diverged { what, value, epoch });
                }
            }
        }
        Ok(generator.weights)
    }

    fn teach_critic(
        &self,
        networks: &Networks,
        critic: &mut Learner,
        generator: &Learner,
        (real, on): &(Tensor<2>, Conditions),
        rng: &mut ChaCha8Rng,
    ) -> f64 {
        let device = real.device();
        let [images, _] = real.dims();
        let noise = normal([images, networks.noise], rng, &device);
        let drawn = networks.draw(&generator.weights, noise, on);
        let share = uniform([images, 1], rng, &device);
        critic
            .step(|weights| networks::critic_loss(weights, real, &drawn, &share, on, self.penalty))
    }

    fn teach_generator(
        &self,
        networks: &Networks,
        generator: &mut Learner,
        critic: &Learner,
        (real, on): &(Tensor<2>, Conditions),
        rng: &mut ChaCha8Rng,
    ) -> f64 {
        let shape = [real.dims()[0], networks.noise];
        let noise = [(); 2].map(|()| normal(shape, rng, &real.device()));
        generator.step(|weights| {
            networks.generator_loss(weights, &critic.weights, real, on, &noise, self.adversarial)
        })
    }

    fn adam(&self) -> (AdamSettings, f64) {
        let settings = AdamSettings {
            weight_decay: 0.0,
            beta1: 0.5,
            ..AdamSettings::default()
        };
        (settings, self.learning_rate)
    }
}

impl Method for GenMlzsl {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Closed
    }

    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        self.check(dims)?;
        let all = dims.labels + dims.unseen;
        let heads = [("zsl", dims.unseen), ("gzsl", all)];
        let specs = heads.into_iter().flat_map(|(name, labels)| {
            let zero = Start::Constant(0.0);
            [
                Spec::new(
                    format!("{name}.weight"),
                    &[dims.global_width(), labels],
                    zero,
                ),
                Spec::new(format!("{name}.bias"), &[labels], zero),
            ]
        });
        Ok(specs.collect())
    }

    /// Scores of the head of unseen labels where only such are asked for, otherwise of the head of all labels.
    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let labels = |head: &str| weights.get_flat(&format!("{head}.bias")).dims()[0];
        let seen = labels("gzsl") - labels("zsl");
        let (head, first) = match batch.columns.iter().all(|&column| column >= seen) {
            true => ("zsl", seen),
            false => ("gzsl", 0),
        };
        let (weight, bias) = weights.linear(head);
        let scores = batch.global.clone().matmul(weight) + bias.unsqueeze();
        let columns: Vec<usize> = batch.columns.iter().map(|&c| c - first).collect();
        let columns = super::input::numbers(&columns, &scores.device());
        scores.select(1, columns)
    }
}

impl SolvedMethod for GenMlzsl {
    fn solve(
        &self,
        dims: &Dims,
        whole: &Whole<'_>,
        device: &Device,
    ) -> Result<Weights, MethodError> {
        let specs = self.specs(dims)?;
        let rng = &mut ChaCha8Rng::seed_from_u64(whole.seed);
        let images = Images::new(whole, dims.global_width());
        let networks = self.networks(dims);
        let generator = self.generator(&networks, &images, device, rng)?;
        let drawn = Drawn::new(self, &networks, &generator, &images, device, rng);
        let heads = [
            ("zsl", Head::of_unseen(&images, &drawn)),
            ("gzsl", Head::of_all(&images, &drawn)),
        ];
        let mut values = Vec::new();
        for (name, head) in heads {
            let [weight, bias] = head.train(self, device, rng);
            values.extend([
                (format!("{name}.weight"), weight),
                (format!("{name}.bias"), bias),
            ]);
        }
        let values = values.into_iter().collect();
        Ok(Weights::from_values(specs, values, device)?)
    }
}

/// Weights that are taught, and their optimiser.
struct Learner {
    weights: Weights,
    optimiser: Optimiser,
    rate: f64,
}

impl Learner {
    fn new(
        specs: Vec<Spec>,
        (settings, rate): (AdamSettings, f64),
        device: &Device,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let weights = Weights::draw(specs, rng, device);
        let optimiser = Optimiser::new(OptimiserSettings::Adam(settings), &weights);
        Self {
            weights,
            optimiser,
            rate,
        }
    }

    /// One step down a loss; returns its value before.
    fn step(&mut self, loss: impl FnOnce(&Weights) -> Tensor<1>) -> f64 {
        let tracked = self.weights.tracked();
        let loss = loss(&tracked);
        let value: f32 = loss.clone().inner().into_scalar();
        let gradients = tracked.gradients(&mut loss.backward());
        drop(tracked);
        self.optimiser.step(&mut self.weights, gradients, self.rate);
        f64::from(value)
    }
}

/// The training images that have a positive, their channels brought to 0..1.
struct Images<'a> {
    whole: &'a Whole<'a>,
    width: usize,
    /// Row of each in [`Whole::global`].
    rows: Vec<usize>,
    /// The numbers of its positive labels.
    positives: Vec<Vec<usize>>,
    /// Smallest value of each channel.
    low: Vec<f32>,
    /// Largest less smallest value of each channel; 1 where they are equal.
    range: Vec<f32>,
}

impl<'a> Images<'a> {
    fn new(whole: &'a Whole<'a>, width: usize) -> Self {
        let positives = whole
            .targets
            .rows()
            .map(|row| (0..row.len()).filter(|&c| row[c] > 0).collect::<Vec<_>>());
        let (rows, positives): (Vec<usize>, Vec<Vec<usize>>) = positives
            .enumerate()
            .filter(|(_, labels)| !labels.is_empty())
            .unzip();
        let (mut low, mut high) = (vec![f32::INFINITY; width], vec![f32::NEG_INFINITY; width]);
        for &row in &rows {
            let values = &whole.global[row * width..][..width];
            for ((low, high), &value) in low.iter_mut().zip(&mut high).zip(values) {
                *low = low.min(value);
                *high = high.max(value);
            }
        }
        let range = low.iter().zip(&high).map(|(low, high)| high - low);
        let range = range.map(|range| if range > 0.0 { range } else { 1.0 });
        Self {
            whole,
            width,
            rows,
            positives,
            range: range.collect(),
            low,
        }
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn seen(&self) -> usize {
        self.whole.labels.len()
    }

    /// Adds an image's scaled vector to `out`.
    fn append(&self, image: usize, out: &mut Vec<f32>) {
        let values = &self.whole.global[self.rows[image] * self.width..][..self.width];
        let scale = self.low.iter().zip(&self.range);
        out.extend(
            values
                .iter()
                .zip(scale)
                .map(|(v, (low, range))| (v - low) / range),
        );
    }

    /// Some images `[B, G]` and what they are conditioned on.
    fn batch(&self, picks: &[usize], device: &Device) -> (Tensor<2>, Conditions) {
        let mut values = Vec::with_capacity(picks.len() * self.width);
        picks
            .iter()
            .for_each(|&image| self.append(image, &mut values));
        let sets: Vec<&[usize]> = picks
            .iter()
            .map(|&image| &self.positives[image][..])
            .collect();
        let on = Conditions::new(&sets, self.whole.labels, device);
        let data = TensorData::new(values, [picks.len(), self.width]);
        (Tensor::from_data(data, device), on)
    }
}

fn normal(shape: [usize; 2], rng: &mut ChaCha8Rng, device: &Device) -> Tensor<2> {
    drawn(shape, device, || standard_normal(rng))
}

fn uniform(shape: [usize; 2], rng: &mut ChaCha8Rng, device: &Device) -> Tensor<2> {
    drawn(shape, device, || rand::RngExt::random::<f32>(rng))
}

fn drawn(shape: [usize; 2], device: &Device, draw: impl FnMut() -> f32) -> Tensor<2> {
    let values: Vec<f32> = std::iter::repeat_with(draw)
        .take(shape[0] * shape[1])
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests;
