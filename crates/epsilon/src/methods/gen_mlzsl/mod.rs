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

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{MOST_EPOCHS, Method, MethodError, Staged, StagedMethod, Stages, Vocabulary, Whole};
use crate::batch::{Batch, Dims, Draws};
use crate::loss::Negatives;
use crate::optimiser::{AdamSettings, Learner, OptimiserSettings};
use crate::parameters::{Spec, Start, Weights, standard_normal};
use classifiers::{Drawn, Head, HeadOf};
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

/// The most steps of the critic for one of the generator: their images are drawn at once.
const MOST_CRITIC_STEPS: usize = 1000;
/// The most values of the images that are drawn for the classifiers: 4 GiB.
const MOST_DRAWN: usize = 1 << 30;

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
        let most = [
            (self.epochs, "epochs", MOST_EPOCHS),
            (self.classifier_epochs, "classifier-epochs", MOST_EPOCHS),
            (self.critic_steps, "critic-steps", MOST_CRITIC_STEPS),
        ];
        if let Some((count, name, most)) = most.iter().find(|(count, _, most)| count > most) {
            return wrong(format!("{name} = {count}: give at most {most}"));
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
        let fit = MOST_DRAWN / width.max(1) / dims.unseen;
        if self.samples > fit {
            return wrong(format!(
                "samples = {}: at most {fit} images of {width} values for each of {} unseen labels are held in memory",
                self.samples, dims.unseen
            ));
        }
        Ok(())
    }

    /// Adam for generator, encoder and critic.
    fn adam() -> OptimiserSettings {
        OptimiserSettings::Adam(AdamSettings {
            weight_decay: 0.0,
            beta1: 0.5,
            ..AdamSettings::default()
        })
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

impl StagedMethod for GenMlzsl {
    fn stages<'a>(
        &'a self,
        dims: &Dims,
        whole: &'a Whole<'a>,
        device: &Device,
    ) -> Result<Box<dyn Stages + 'a>, MethodError> {
        Ok(Box::new(Training {
            specs: self.specs(dims)?,
            settings: self,
            networks: self.networks(dims),
            images: Images::new(whole, dims.global_width()),
            device: device.clone(),
            order: None,
            drawn: None,
        }))
    }
}

/// The training: generator and critic in turn, then the head of unseen labels, then that of all labels.
struct Training<'a> {
    settings: &'a GenMlzsl,
    specs: Vec<Spec>,
    networks: Networks,
    images: Images<'a>,
    device: Device,
    /// An epoch and its order of images.
    order: Option<(usize, Vec<usize>)>,
    /// What the trained generator drew for the heads.
    drawn: Option<Drawn>,
}

impl Training<'_> {
    /// A generator of random numbers for a purpose, a function of the seed and these numbers alone.
    fn rng(&self, purpose: Purpose, epoch: usize, step: usize) -> ChaCha8Rng {
        let seed = Draws::of(self.images.whole.seed, epoch, purpose as usize);
        Draws::of(seed.rng().next_u64(), step, 0).rng()
    }

    /// Images of an epoch: real ones for the generator, drawn and maybe real ones for a head.
    fn count(&self, epoch: usize) -> usize {
        let drawn = self.settings.samples * self.images.whole.unseen.len();
        match self.head(epoch) {
            None => self.images.len(),
            Some(HeadOf::Unseen) => drawn,
            Some(HeadOf::All) => self.images.len() + drawn,
        }
    }

    /// The head that is trained in an epoch; `None` where generator and critic are.
    fn head(&self, epoch: usize) -> Option<HeadOf> {
        let later = epoch.checked_sub(self.settings.epochs)?;
        match later < self.settings.classifier_epochs {
            true => Some(HeadOf::Unseen),
            false => Some(HeadOf::All),
        }
    }

    /// The numbers of the images of a step.
    fn picks(&mut self, epoch: usize, step: usize) -> Vec<usize> {
        if self.order.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let mut order: Vec<usize> = (0..self.count(epoch)).collect();
            order.shuffle(&mut self.rng(Purpose::Order, epoch, 0));
            self.order = Some((epoch, order));
        }
        let order = self.order.as_ref().map_or(&[][..], |(_, order)| order);
        let mut batches = order.chunks(self.settings.batch);
        batches.nth(step).unwrap_or_default().to_vec()
    }

    /// Steps of the critic, then one of the generator; the generator's loss, or the critic's where that is no number.
    fn adversaries(&self, learners: &mut [Learner], picks: &[usize], rng: &mut ChaCha8Rng) -> f64 {
        let [generator, critic, ..] = learners else {
            unreachable!("generator and critic come first");
        };
        let worst = self.teach_critic(critic, &generator.weights, picks.len(), rng);
        let loss = self.teach_generator(generator, &critic.weights, picks, rng);
        if f64::is_finite(worst) { loss } else { worst }
    }

    /// All steps of the critic, each on so many images; the sum of its losses. The generator, which rests meanwhile, draws the
    /// images of all steps at once.
    fn teach_critic(
        &self,
        critic: &mut Learner,
        generator: &Weights,
        count: usize,
        rng: &mut ChaCha8Rng,
    ) -> f64 {
        let (mut picks, mut noise, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.settings.critic_steps {
            picks.extend(rand::seq::index::sample(rng, self.images.len(), count));
            noise.push(normal([count, self.networks.noise], rng, &self.device));
            shares.push(uniform([count, 1], rng, &self.device));
        }
        let (real, on) = self.images.batch(&picks, &self.device);
        let drawn = self.networks.draw(generator, Tensor::cat(noise, 0), &on);
        let steps = shares.into_iter().enumerate().map(|(step, share)| {
            let of = |x: &Tensor<2>| x.clone().narrow(0, step * count, count);
            let (real, drawn, pooled) = (of(&real), of(&drawn), of(&on.pooled));
            critic.step(self.settings.learning_rate, |weights| {
                let penalty = self.settings.penalty;
                networks::critic_loss(weights, real, drawn, share, pooled, penalty)
            })
        });
        steps.sum()
    }

    fn teach_generator(
        &self,
        generator: &mut Learner,
        critic: &Weights,
        picks: &[usize],
        rng: &mut ChaCha8Rng,
    ) -> f64 {
        let (real, on) = self.images.batch(picks, &self.device);
        let shape = [picks.len(), self.networks.noise];
        let noise = [(); 2].map(|()| normal(shape, rng, &self.device));
        let adversarial = self.settings.adversarial;
        generator.step(self.settings.learning_rate, |weights| {
            let networks = &self.networks;
            networks.generator_loss(weights, critic, &real, &on, &noise, adversarial)
        })
    }

    /// What the heads learn from, drawn before their first step or after a training was resumed.
    fn draw(&mut self, generator: &Weights) {
        if self.drawn.is_none() {
            let rng = &mut self.rng(Purpose::Drawn, 0, 0);
            let (networks, images) = (&self.networks, &self.images);
            let drawn = Drawn::new(
                self.settings,
                networks,
                generator,
                images,
                &self.device,
                rng,
            );
            self.drawn = Some(drawn);
        }
    }
}

/// What random numbers are for.
#[derive(Clone, Copy)]
enum Purpose {
    First,
    Order,
    Step,
    Drawn,
}

impl Stages for Training<'_> {
    fn steps(&self) -> Vec<usize> {
        let epochs = self.settings.epochs + 2 * self.settings.classifier_epochs;
        let steps = |epoch| self.count(epoch).div_ceil(self.settings.batch);
        (0..epochs).map(steps).collect()
    }

    fn learners(&self) -> Vec<Learner> {
        let rng = &mut self.rng(Purpose::First, 0, 0);
        let mut learner = |name, specs, optimiser| {
            Learner::new(name, Weights::draw(specs, rng, &self.device), optimiser)
        };
        vec![
            learner(
                "generator",
                self.networks.generator_specs(),
                GenMlzsl::adam(),
            ),
            learner("critic", self.networks.critic_specs(), GenMlzsl::adam()),
            learner(
                "zsl",
                HeadOf::Unseen.specs(&self.images),
                classifiers::adam(),
            ),
            learner("gzsl", HeadOf::All.specs(&self.images), classifiers::adam()),
        ]
    }

    fn step(&mut self, learners: &mut [Learner], epoch: usize, step: usize) -> Staged {
        let picks = self.picks(epoch, step);
        let head = self.head(epoch);
        if head.is_some() {
            self.draw(&learners[0].weights);
        }
        let (loss, learning_rate) = match (head, &self.drawn) {
            (Some(of), Some(drawn)) => {
                let head = Head::new(of, &self.images, drawn);
                let batch = head.batch(&picks, self.settings.negatives, &self.device);
                let rate = self.settings.classifier_learning_rate;
                let learner = &mut learners[2 + of as usize];
                (
                    learner.step(rate, |weights| classifiers::loss(weights, batch)),
                    rate,
                )
            }
            _ => {
                let rng = &mut self.rng(Purpose::Step, epoch, step);
                let loss = self.adversaries(learners, &picks, rng);
                (loss, self.settings.learning_rate)
            }
        };
        Staged {
            images: picks.len(),
            loss,
            learning_rate,
        }
    }

    fn weights(&self, learners: &[Learner]) -> Result<Weights, MethodError> {
        let mut values = BTreeMap::new();
        for learner in &learners[2..] {
            let [weight, bias] = classifiers::unscaled(&self.images, &learner.weights);
            values.insert(format!("{}.weight", learner.name), weight);
            values.insert(format!("{}.bias", learner.name), bias);
        }
        Ok(Weights::from_values(
            self.specs.clone(),
            values,
            &self.device,
        )?)
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
