//! BiAM: a region branch, in which the tokens attend to each other, and a scene branch, which the global vector gates, are
//! fused into token features; a label's score is the mean of its best matches among them.
//!
//! Source: "Discriminative Region-based Multi-Label Zero-Shot Learning", ICCV 2021, and its public code.
//! `h = BN(relu(conv3x3 R))`. Region: h plus 8-head attention, then plus an MLP of twice the width, without LayerNorm. Scene:
//! `v = lrelu(conv1x1 h)`, `c = sigmoid(mean(v) * W_g g) * v`, `c + BN(relu(conv3x3 c))`. Both side by side through a 1 x 1
//! convolution and a leaky ReLU are e; `w_c = P v_c + b`; `s_c` = mean of the 6 largest `e_i . w_c`. Ranking hinge.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use serde::{Deserialize, Serialize};

use super::input::dropout;
use super::layers::{batch_norm, grid, leaky_map, map, norm_specs};
use super::{GradientMethod, LabelMap, Loss, Method, MethodError};
use crate::batch::{Batch, Dims, InTurn};
use crate::device;
use crate::fused::convolution::convolve_relu;
use crate::fused::dropped::add_dropped;
use crate::fused::gate::gated;
use crate::fused::linear::{leaky_of_two, linear};
use crate::fused::pooled::{Pair, mean_of_largest};
use crate::fused::scores;
use crate::fused::self_attention::self_attention;
use crate::loss::{self, Negatives};
use crate::parameters::{self, Spec, Weights};

/// Side of the convolutions' windows.
const WINDOW: usize = 3;
/// Slope of the leaky ReLUs below 0.
const LEAK: f32 = 0.2;
/// Dropout of the global vector.
const GLOBAL_DROPOUT: f64 = 0.2;

/// BiAM's settings; the defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Biam {
    /// Channels of both branches.
    pub channels: usize,
    /// Heads of the region branch's attention; they divide the channels.
    pub heads: usize,
    /// How many of a label's best matches count.
    pub best: usize,
    /// Share of values that a training step leaves out: this of both steps of the region branch, twice this of the global
    /// vector (the paper's .1 and .2).
    pub dropout: f64,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for Biam {
    fn default() -> Self {
        Self {
            channels: 256,
            heads: 8,
            best: 6,
            dropout: GLOBAL_DROPOUT / 2.0,
            negatives: Negatives::Annotated,
        }
    }
}

/// What a training step has and scoring has not.
struct Step {
    kept: Vec<(String, Tensor<1>)>,
    draws: InTurn,
}

impl Biam {
    /// Token features `e` and the labels' vectors in their space.
    fn pair(&self, weights: &Weights, batch: &Batch, mut step: Option<&mut Step>) -> Pair {
        let side = batch.tokens.dims()[1].isqrt();
        let convolve = |name: &str, x: Tensor<3>, step: Option<&mut Step>| {
            let (weight, bias) = weights.linear(name);
            let x = convolve_relu(x, weight, bias, [side; 2]);
            let kept = step.map(|step| &mut step.kept);
            batch_norm(weights, &format!("{name}.norm"), x, kept)
        };
        let h = convolve("entry", batch.tokens.clone(), step.as_deref_mut());
        let region = self.region(weights, h.clone(), step.as_deref_mut());
        let gated = self.gated(weights, h, batch.global.clone(), step.as_deref_mut());
        let scene = gated.clone() + convolve("scene.window", gated, step);
        let (weight, bias) = weights.linear("fuse");
        Pair {
            tokens: leaky_of_two([region, scene], weight, bias, LEAK),
            labels: {
                let (weight, bias) = weights.linear("labels");
                batch.label_vectors.clone().matmul(weight) + bias.unsqueeze()
            },
        }
    }

    /// `x` plus its attention, and that plus its MLP.
    fn region(&self, weights: &Weights, x: Tensor<3>, mut step: Option<&mut Step>) -> Tensor<3> {
        let attended = attention(weights, x.clone(), self.heads);
        let x = self.add(x, attended, step.as_deref_mut());
        let hidden = leaky_map(weights, "region.fc1", x.clone(), 0.0);
        self.add(x, map(weights, "region.fc2", hidden), step)
    }

    /// The scene's values, each channel opened as far as their mean and the global vector agree.
    fn gated(
        &self,
        weights: &Weights,
        h: Tensor<3>,
        global: Tensor<2>,
        step: Option<&mut Step>,
    ) -> Tensor<3> {
        let value = leaky_map(weights, "scene.value", h, LEAK);
        let global = match step {
            Some(step) => dropout(global, 2.0 * self.dropout, &mut step.draws),
            None => global,
        };
        gated(value, map(weights, "scene.gate", global.unsqueeze_dim(1)))
    }

    /// The residual sum, in training with dropout of what is added.
    fn add(&self, base: Tensor<3>, x: Tensor<3>, step: Option<&mut Step>) -> Tensor<3> {
        match step {
            Some(step) => add_dropped(base, x, self.dropout, &mut step.draws),
            None => base + x,
        }
    }
}

/// The mixed values of the region branch's attention; queries, keys and values are one product.
fn attention(weights: &Weights, x: Tensor<3>, heads: usize) -> Tensor<3> {
    let maps = ["region.query", "region.key", "region.value"].map(|name| weights.linear(name));
    let (weight, bias): (Vec<_>, Vec<_>) = maps.into_iter().unzip();
    let qkv = linear(x, Tensor::cat(weight, 1), Tensor::cat(bias, 0));
    map(weights, "region.output", self_attention(qkv, heads))
}

impl Method for Biam {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        grid(dims, "BiAM")?;
        let wrong = |what: String| Err(MethodError::Setting(what));
        let &Self {
            channels,
            heads,
            best,
            dropout,
            ..
        } = self;
        if channels == 0 || heads == 0 || channels % heads != 0 {
            return wrong(format!(
                "heads = {heads} does not divide channels = {channels}"
            ));
        }
        if best == 0 {
            return wrong("best = 0: give at least 1".into());
        }
        if !(0.0..0.5).contains(&dropout) {
            return wrong(format!(
                "dropout = {dropout}: give a share from 0 to below 0.5"
            ));
        }
        let window = WINDOW * WINDOW;
        let maps = [
            ("entry", window * dims.width, channels),
            ("region.query", channels, channels),
            ("region.key", channels, channels),
            ("region.value", channels, channels),
            ("region.output", channels, channels),
            ("region.fc1", channels, 2 * channels),
            ("region.fc2", 2 * channels, channels),
            ("scene.value", channels, channels),
            ("scene.gate", dims.global_width(), channels),
            ("scene.window", window * channels, channels),
            ("fuse", 2 * channels, channels),
            ("labels", dims.label_width, channels),
        ];
        let mut specs = Vec::new();
        for (name, inputs, outputs) in maps {
            specs.extend(parameters::linear(name, inputs, outputs));
        }
        specs.extend(norm_specs("entry.norm", channels));
        specs.extend(norm_specs("scene.window.norm", channels));
        Ok(specs)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        mean_of_largest(self.pair(weights, batch, None), self.best)
    }

    /// It has no attention for a label: how far the label's matches with the tokens exceed their mean.
    fn maps(&self, weights: &Weights, batch: &Batch, label: usize) -> Vec<LabelMap> {
        let Pair { tokens, labels } = self.pair(weights, batch, None);
        let matches = scores::matches(tokens, &labels.narrow(0, label, 1)).narrow(0, 0, 1);
        let above = relu(matches.clone() - matches.mean_dim(1));
        let map = LabelMap::new("matches", None, device::host(&above));
        map.into_iter().collect()
    }
}

impl GradientMethod for Biam {
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let mut step = Step {
            kept: Vec::new(),
            draws: batch.draws.in_turn(),
        };
        let scores = mean_of_largest(self.pair(weights, batch, Some(&mut step)), self.best);
        let pairs = loss::hinge(scores, &batch.targets, self.negatives);
        Loss {
            kept: step.kept,
            ..Loss::ranking(pairs, images)
        }
    }

    fn needs_whole_batches(&self) -> bool {
        true
    }

    fn live_values(&self, dims: &Dims) -> usize {
        let windows = 9 * (dims.width + self.channels);
        dims.tokens * (windows + 30 * self.channels + 2 * self.heads * dims.tokens)
    }
}
