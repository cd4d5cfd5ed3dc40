//! Generator, encoder and critic, and their two losses.

use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Tensor, TensorData};

use super::Fusion;
use crate::fused::critic::{self, Critic, Judged, LEAK};
use crate::fused::linear;
use crate::loss::soft_cross_entropy;
use crate::parameters::{self, Spec, Weights};
use epsilon_data::labels::LabelVectors;

/// Sizes and form of the networks.
pub(super) struct Networks {
    pub fusion: Fusion,
    pub heads: usize,
    /// G, the global vector's width.
    pub features: usize,
    /// d_w.
    pub label_width: usize,
    /// Width of z.
    pub noise: usize,
    pub hidden: usize,
}

/// The vectors of the labels of B images, T labels in all.
pub(super) struct Conditions {
    /// Mean of each image's, `[B, d_w]`.
    pub pooled: Tensor<2>,
    /// All of them, image after image, `[T, d_w]`.
    labels: Tensor<2>,
    /// 1 where a label belongs to an image, `[T, B]`.
    owner: Tensor<2>,
    /// One over the number of an image's labels where one is its own, `[B, T]`.
    share: Tensor<2>,
}

impl Conditions {
    /// Those of these sets of labels, none of which is empty.
    pub(super) fn new(sets: &[&[usize]], vectors: &LabelVectors, device: &Device) -> Self {
        let total: usize = sets.iter().map(|set| set.len()).sum();
        let images = sets.len();
        let flat = sets.iter().flat_map(|set| set.iter());
        let values: Vec<f32> = flat.flat_map(|&c| vectors.row(c)).copied().collect();
        let (mut owner, mut share) = (vec![0.0; total * images], vec![0.0; images * total]);
        let mut place = 0;
        for (image, set) in sets.iter().enumerate() {
            for _ in *set {
                owner[place * images + image] = 1.0;
                share[image * total + place] = 1.0 / set.len() as f32;
                place += 1;
            }
        }
        let tensor = |values: Vec<f32>, shape: [usize; 2]| -> Tensor<2> {
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        let labels = tensor(values, [total, vectors.dim()]);
        let share = tensor(share, [images, total]);
        Self {
            pooled: share.clone().matmul(labels.clone()),
            owner: tensor(owner, [total, images]),
            labels,
            share,
        }
    }

    /// Those of the same images once more after themselves.
    fn twice(&self) -> Self {
        let rows = |x: &Tensor<2>| Tensor::cat(vec![x.clone(); 2], 0);
        let blocks = |x: &Tensor<2>| {
            let zeros = x.zeros_like();
            let above = Tensor::cat(vec![x.clone(), zeros.clone()], 1);
            let below = Tensor::cat(vec![zeros, x.clone()], 1);
            Tensor::cat(vec![above, below], 0)
        };
        Self {
            pooled: rows(&self.pooled),
            labels: rows(&self.labels),
            owner: blocks(&self.owner),
            share: blocks(&self.share),
        }
    }
}

impl Networks {
    /// Weights of generator and encoder.
    pub(super) fn generator_specs(&self) -> Vec<Spec> {
        let input = self.noise + self.label_width;
        let mut specs = Vec::new();
        let mut add = |name: &str, inputs, outputs| {
            specs.extend(parameters::linear(name, inputs, outputs));
        };
        let levels: &[&str] = match self.fusion {
            Fusion::Attribute => &["attribute"],
            Fusion::Feature => &["feature"],
            Fusion::Cross => &["attribute", "feature"],
        };
        for level in levels {
            add(&format!("{level}.fc1"), input, self.hidden);
            add(&format!("{level}.fc2"), self.hidden, self.features);
        }
        if self.fusion == Fusion::Cross {
            for name in ["query", "key", "value", "out"] {
                add(&format!("cross.{name}"), self.features, self.features);
            }
            add("cross.fc1", self.features, self.hidden);
            add("cross.fc2", self.hidden, self.features);
        }
        add("encoder.fc1", self.features + self.label_width, self.hidden);
        add("encoder.mean", self.hidden, self.noise);
        add("encoder.log-variance", self.hidden, self.noise);
        specs
    }

    /// The critic's weights.
    pub(super) fn critic_specs(&self) -> Vec<Spec> {
        let inputs = self.features + self.label_width;
        let layers = [
            parameters::linear("critic.fc1", inputs, self.hidden),
            parameters::linear("critic.fc2", self.hidden, 1),
        ];
        layers.concat()
    }

    /// Drawn images `[B, G]` from noise `[B, z]`.
    pub(super) fn draw(&self, weights: &Weights, noise: Tensor<2>, on: &Conditions) -> Tensor<2> {
        sigmoid(self.logits(weights, noise, on))
    }

    /// The generator before its sigmoid.
    fn logits(&self, weights: &Weights, noise: Tensor<2>, on: &Conditions) -> Tensor<2> {
        let attribute = |noise: Tensor<2>| {
            let input = Tensor::cat(vec![noise, on.pooled.clone()], 1);
            mlp(weights, "attribute", input)
        };
        let feature = |noise: Tensor<2>| {
            let noise = on.owner.clone().matmul(noise);
            let input = Tensor::cat(vec![noise, on.labels.clone()], 1);
            on.share.clone().matmul(mlp(weights, "feature", input))
        };
        match self.fusion {
            Fusion::Attribute => attribute(noise),
            Fusion::Feature => feature(noise),
            Fusion::Cross => self.cross(weights, attribute(noise.clone()), feature(noise)),
        }
    }

    /// Attention over the features of both levels, each `[B, G]`.
    fn cross(&self, weights: &Weights, attribute: Tensor<2>, feature: Tensor<2>) -> Tensor<2> {
        let [images, width] = attribute.dims();
        let levels: Tensor<2> =
            Tensor::stack::<3>(vec![attribute, feature], 1).reshape([2 * images, width]);
        let heads = |name: &str| {
            let part = width / self.heads;
            linear(weights, name, levels.clone())
                .reshape([images, 2, self.heads, part])
                .swap_dims(1, 2)
        };
        let (query, key, value) = (
            heads("cross.query"),
            heads("cross.key"),
            heads("cross.value"),
        );
        let scale = 1.0 / ((width / self.heads) as f64).sqrt();
        let attention = softmax(query.matmul(key.swap_dims(2, 3)) * scale, 3);
        let seen = attention.matmul(value).swap_dims(1, 2);
        let seen = seen.reshape([2 * images, width]);
        let levels = levels.clone() + linear(weights, "cross.out", seen);
        let levels = levels.clone() + mlp(weights, "cross", levels);
        levels
            .reshape([images, 2, width])
            .mean_dim(1)
            .reshape([images, width])
    }

    /// `VAE - adversarial D(G(z, A))`, averaged over the images; `noise` is the encoder's and the generator's.
    pub(super) fn generator_loss(
        &self,
        weights: &Weights,
        critic: &Weights,
        real: &Tensor<2>,
        on: &Conditions,
        [encoders, generators]: &[Tensor<2>; 2],
        adversarial: f64,
    ) -> Tensor<1> {
        let [images, _] = real.dims();
        let input = Tensor::cat(vec![real.clone(), on.pooled.clone()], 1);
        let hidden = hidden(weights, "encoder.fc1", input);
        let mean = linear(weights, "encoder.mean", hidden.clone());
        let log_variance = linear(weights, "encoder.log-variance", hidden);
        let variance = log_variance.clone().exp();
        let code = mean.clone() + variance.clone().sqrt() * encoders.clone();
        // Both at once, so that the weights are read once.
        let noise = Tensor::cat(vec![code, generators.clone()], 0);
        let logits = self.logits(weights, noise, &on.twice());
        let rebuilt = soft_cross_entropy(logits.clone().narrow(0, 0, images), real).sum();
        let divergence = (mean.clone() * mean + variance - log_variance - 1.0).sum() * 0.5;
        let drawn = sigmoid(logits.narrow(0, images, images));
        let judgement = judge(critic, drawn, &on.pooled).sum() * adversarial;
        (rebuilt + divergence - judgement) / images as f64
    }
}

/// `D(drawn) - D(real) + penalty (|dD/dx| - 1)^2`, averaged over the images; the gradient is taken at `share` of the way from
/// drawn to real. `pooled` are the mean vectors of the images' labels.
pub(super) fn critic_loss(
    weights: &Weights,
    real: Tensor<2>,
    drawn: Tensor<2>,
    share: Tensor<2>,
    pooled: Tensor<2>,
    penalty: f64,
) -> Tensor<1> {
    let critic = Critic {
        first: weights.linear("critic.fc1"),
        second: weights.linear("critic.fc2"),
    };
    let judged = Judged {
        real,
        drawn,
        condition: pooled,
        share,
    };
    critic::critic_loss(critic, judged, penalty)
}

/// The critic's judgement `[B, 1]` of images `[B, G]`.
fn judge(weights: &Weights, x: Tensor<2>, pooled: &Tensor<2>) -> Tensor<2> {
    let input = Tensor::cat(vec![x, pooled.clone()], 1);
    mlp(weights, "critic", input)
}

/// Two layers with a leaky rectifier between.
fn mlp(weights: &Weights, name: &str, x: Tensor<2>) -> Tensor<2> {
    let hidden = hidden(weights, &format!("{name}.fc1"), x);
    linear(weights, &format!("{name}.fc2"), hidden)
}

fn hidden(weights: &Weights, name: &str, x: Tensor<2>) -> Tensor<2> {
    let (weight, bias) = weights.linear(name);
    linear::leaky(x.unsqueeze_dim(0), weight, bias, LEAK).squeeze_dim(0)
}

fn linear(weights: &Weights, name: &str, x: Tensor<2>) -> Tensor<2> {
    let (weight, bias) = weights.linear(name);
    linear::linear(x.unsqueeze_dim(0), weight, bias).squeeze_dim(0)
}
