//! (ML)2P-Encoder: the token grid becomes groups of channels, each as wide as a label vector; attention among the channels
//! of a group and among the groups gives one semantic vector a group, and a label's score is its best match among them.
//!
//! Source: "(ML)2P-Encoder: On Exploration of Channel-Class Correlation for Multi-Label Zero-Shot Learning", CVPR 2023; there
//! is no public code. With X the tokens on their grid and G groups of d_w channels:
//! 1. `Z = shuffle(X W)`: a 1 x 1 convolution to `G d_w` channels, whose shuffle deals every group channels of all.
//! 2. In each group q, k, v are 1 x 1 and depth-wise 3 x 3 convolutions of Z; q and k have unit length over the grid;
//!    `Z <- softmax(t q k') v`, over channels, with a learnt temperature t.
//! 3. One block of an MLP-Mixer over each group's grid: `Z + MLP(norm(Z)')'`, then `Z + MLP(norm(Z))`.
//! 4. `U = sigmoid(max over the grid)`, one vector a group; `S = (q k') U` with q and k MLPs of U, without softmax.
//! 5. `s_c = max_g S_g . v_c`; loss `L_r + w L_reg`, Epsilon's L_r and L_reg.
//!
//! The mixer's hidden widths, whether blocks are shared by the groups, and the loss's pair weight are not told: the mixer's
//! widths and the pair weight are settings, and the groups share the mixer and the MLPs of step 4.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use serde::{Deserialize, Serialize};

use super::layers::{grid, map};
use super::{GradientMethod, Loss, Method, MethodError};
use crate::batch::{Batch, Dims};
use crate::fused::channel_attention::channel_attention;
use crate::fused::depthwise::{TAPS, depthwise};
use crate::fused::gelu::gelu;
use crate::fused::largest_token::largest_token;
use crate::fused::layer_norm::layer_norm;
use crate::fused::linear::linear;
use crate::fused::scores;
use crate::fused::token_mixer::{Mlp, mix_tokens};
use crate::loss::{self, Negatives, PairWeight};
use crate::parameters::{self, Spec, Start, Weights};

/// Added to a variance before its root.
const NORM_EPSILON: f32 = 1e-6;

/// (ML)2P-Encoder's settings; the defaults are the paper's where it tells them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Ml2pEncoder {
    /// G, the number of groups.
    pub groups: usize,
    /// Hidden width of the mixer's MLP over the grid; the default is the number of tokens.
    pub token_hidden: Option<usize>,
    /// Hidden width of the mixer's MLP over channels; the default is the width of the label vectors.
    pub channel_hidden: Option<usize>,
    /// `w`, the weight of the variance over the groups.
    pub regularisation: f64,
    /// Weight of a pair in the ranking loss.
    pub alpha: PairWeight,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for Ml2pEncoder {
    fn default() -> Self {
        Self {
            groups: 7,
            token_hidden: None,
            channel_hidden: None,
            regularisation: 0.4,
            alpha: PairWeight::PositivesNegatives,
            negatives: Negatives::NotPositive,
        }
    }
}

impl Ml2pEncoder {
    /// The semantic vectors `[B, G, d_w]`.
    fn semantics(&self, weights: &Weights, batch: &Batch) -> Tensor<3> {
        let [images, tokens, _] = batch.tokens.dims();
        let (weight, bias) = self.queries_keys_values(weights);
        let qkv = linear(batch.tokens.clone(), weight, bias);
        let qkv = depthwise(qkv, weights.get("attention.window"), [tokens.isqrt(); 2]);
        let attended = channel_attention(qkv, weights.get("attention.temperature"));
        let channels = attended.dims()[2];
        let mixed = mix(weights, attended);
        let pooled = sigmoid(largest_token(mixed)).reshape([images, self.groups, channels]);
        let query = mlp(weights, "query", pooled.clone());
        let key = mlp(weights, "key", pooled.clone());
        query.matmul(key.swap_dims(1, 2)).matmul(pooled)
    }

    /// Step 1 and the 1 x 1 convolutions of step 2, two linear maps one after the other, as one: its weight
    /// `[D, G 3 d_w]` and bias, with the queries, keys and values of a group side by side.
    fn queries_keys_values(&self, weights: &Weights) -> (Tensor<2>, Tensor<1>) {
        let (weight, bias) = weights.linear("groups");
        let width = weight.dims()[0];
        let both = Tensor::cat(vec![weight, bias.unsqueeze()], 0);
        let groups = self.groups;
        let channels = both.dims()[1] / groups;
        // The shuffle: channel `c` of group `g` becomes the one after channel `c` of group `g - 1`.
        let dealt = both
            .reshape([width + 1, groups, channels])
            .swap_dims(1, 2)
            .reshape([width + 1, groups, channels])
            .swap_dims(0, 1);
        let of_groups: Tensor<3> = weights.get("attention.map");
        let maps = dealt.matmul(of_groups).swap_dims(0, 1);
        let maps = maps.reshape([width + 1, groups * 3 * channels]);
        let bias = maps.clone().narrow(0, width, 1);
        (maps.narrow(0, 0, width), bias.squeeze_dim(0))
    }
}

/// One mixer block over `[B G, N, d_w]`.
fn mix(weights: &Weights, x: Tensor<3>) -> Tensor<3> {
    let normed = norm(weights, "mixer.tokens.norm", x.clone());
    let across = Mlp {
        fc1: weights.linear("mixer.tokens.fc1"),
        fc2: weights.linear("mixer.tokens.fc2"),
    };
    let x = mix_tokens(x, normed, across);
    let normed = norm(weights, "mixer.channels.norm", x.clone());
    x + mlp(weights, "mixer.channels", normed)
}

/// `W2 gelu(W1 x)` over the last dimension.
fn mlp(weights: &Weights, name: &str, x: Tensor<3>) -> Tensor<3> {
    let hidden = gelu(map(weights, &format!("{name}.fc1"), x));
    map(weights, &format!("{name}.fc2"), hidden)
}

/// LayerNorm over the last dimension.
fn norm(weights: &Weights, name: &str, x: Tensor<3>) -> Tensor<3> {
    let gamma = weights.get(&format!("{name}.gamma"));
    layer_norm(x, gamma, weights.get(&format!("{name}.beta")), NORM_EPSILON)
}

impl Method for Ml2pEncoder {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        let wrong = |what: String| Err(MethodError::Setting(what));
        if !(1..=64).contains(&self.groups) {
            return wrong(format!("groups = {}: give 1 to 64", self.groups));
        }
        if !(self.regularisation >= 0.0 && self.regularisation.is_finite()) {
            return wrong(format!(
                "regularisation = {}: give 0 or more",
                self.regularisation
            ));
        }
        let Dims {
            tokens,
            width,
            label_width: channels,
            ..
        } = *dims;
        grid(dims, "(ML)2P-Encoder")?;
        let hidden = [
            self.token_hidden.unwrap_or(tokens),
            self.channel_hidden.unwrap_or(channels),
        ];
        if hidden.contains(&0) {
            return wrong("token-hidden or channel-hidden = 0: give at least 1".into());
        }
        let groups = self.groups;
        let mut specs = parameters::linear("groups", width, groups * channels).to_vec();
        let map = [groups, channels, 3 * channels];
        let window = [TAPS, groups * 3 * channels];
        specs.extend([
            Spec::new("attention.map", &map, Start::linear(channels)),
            Spec::new("attention.window", &window, Start::linear(TAPS)),
            Spec::new("attention.temperature", &[groups], Start::Constant(1.0)),
        ]);
        let mlps = [
            ("mixer.tokens", tokens, hidden[0]),
            ("mixer.channels", channels, hidden[1]),
            ("query", channels, channels),
            ("key", channels, channels),
        ];
        for (name, width, hidden) in mlps {
            specs.extend(parameters::linear(&format!("{name}.fc1"), width, hidden));
            specs.extend(parameters::linear(&format!("{name}.fc2"), hidden, width));
        }
        for name in ["mixer.tokens.norm", "mixer.channels.norm"] {
            let gamma = Spec::new(format!("{name}.gamma"), &[channels], Start::Constant(1.0));
            let beta = Spec::new(format!("{name}.beta"), &[channels], Start::Constant(0.0));
            specs.extend([gamma, beta]);
        }
        Ok(specs)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        scores::best_match(self.semantics(weights, batch), &batch.label_vectors)
    }

    fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(self.semantics(weights, batch))
    }
}

impl GradientMethod for Ml2pEncoder {
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let semantics = self.semantics(weights, batch);
        let scores = scores::best_match(semantics.clone(), &batch.label_vectors);
        let equal = vec![1.0; scores.dims()[0]];
        let pairs = loss::rank_net(scores, &batch.targets, self.negatives, self.alpha, &equal);
        let spread = loss::group_variance(semantics).sum() * self.regularisation;
        Loss::regularised(pairs, spread, images)
    }

    fn live_values(&self, dims: &Dims) -> usize {
        // Some twenty values a token and channel from the first map to the pooling, and the channels' attention.
        let channels = self.groups * dims.label_width;
        channels * (24 * dims.tokens + 4 * dims.label_width)
    }
}
