//! LESA: a few attentions that all labels share, each label scored by the one that suits it best; and its control, one
//! attention for each cluster of labels.
//!
//! Source: "A Shared Multi-Attention Framework for Multi-Label Zero-Shot Learning", CVPR 2020, and its public code. With
//! R the tokens after a 2 x 2 convolution and batch normalisation: logits `e = [tanh([r, 1] W1), 1] W2` in T columns,
//! `a = softmax over tokens`, `f_t = sum_i a_it r_i`, `s_c = max_t f_t' W v_c`. Loss: the ranking hinge, and with the weights
//! of [`Lesa`] distribution = `mean_t (sum_p softmax_t(f_t' W v_p))^2` over the positive labels p (no attention takes them all),
//! global = `sum_c relu(-y_c (s_c - s of the mean token))`, span = the Frobenius norm of the off-diagonal cosines between
//! the attentions' logits.
//!
//! One attention per cluster: `s_c = f_m(c)' W v_c` on the tokens as they are, with m(c) the nearest of the centres of the
//! seen labels' vectors (k-means); the paper does not say how its attention is computed, here as LESA's.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use burn::tensor::activation::{relu, softmax};
use serde::{Deserialize, Serialize};

use super::input::largest;
use super::layers::{batch_norm, grid, map, norm_specs, windows};
use super::{GradientMethod, LabelMap, Loss, Method, MethodError, TrainedLabels, clusters};
use crate::batch::{Batch, Dims};
use crate::device;
use crate::fused::scores;
use crate::fused::shared_attention::{self, Seen};
use crate::loss::{self, Negatives};
use crate::parameters::{self, Spec, Weights};

/// Side of the convolution's window.
const WINDOW: usize = 2;

/// LESA's settings; the defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Lesa {
    /// T, the number of shared attentions.
    pub attentions: usize,
    /// Hidden width of the attentions; the default is the tokens' width.
    pub hidden: Option<usize>,
    /// Weight of the distribution loss.
    pub distribution: f64,
    /// Weight of the global loss.
    pub global: f64,
    /// Weight of the span loss.
    pub span: f64,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for Lesa {
    fn default() -> Self {
        Self {
            attentions: 10,
            hidden: None,
            distribution: 0.1,
            global: 0.001,
            span: 0.01,
            negatives: Negatives::Annotated,
        }
    }
}

/// Settings of one attention per cluster; the defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LesaPerCluster {
    /// Number of clusters, and of attentions.
    pub clusters: usize,
    /// Hidden width of the attentions; the default is the tokens' width.
    pub hidden: Option<usize>,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for LesaPerCluster {
    fn default() -> Self {
        Self {
            clusters: 10,
            hidden: None,
            negatives: Negatives::Annotated,
        }
    }
}

/// The softmax over the tokens of one attention of the first image, from logits `[B, N, T]`.
fn shares(logits: Tensor<3>, attention: usize) -> Vec<f32> {
    let shares = softmax(logits, 1);
    device::host(&shares.narrow(0, 0, 1).narrow(2, attention, 1))
}

/// Shares of the convolution's windows as shares of the tokens that they cover.
fn over_tokens(windows: &[f32]) -> Vec<f32> {
    let inside = windows.len().isqrt();
    let side = inside + WINDOW - 1;
    let mut tokens = vec![0.0; side * side];
    for (place, share) in windows.iter().enumerate() {
        let (row, column) = (place / inside, place % inside);
        for (down, right) in
            (0..WINDOW).flat_map(|down| (0..WINDOW).map(move |right| (down, right)))
        {
            tokens[(row + down) * side + column + right] += share;
        }
    }
    tokens
}

/// The attentions' logits, and their features as `f_t' W`.
fn attend(weights: &Weights, tokens: Tensor<3>) -> Seen {
    let maps = ["attention.hidden", "attention.logits"].map(|name| weights.linear(name));
    let [hidden, logits] = maps;
    let seen = shared_attention::attend(tokens, hidden, logits);
    Seen {
        features: to_labels(weights, seen.features),
        ..seen
    }
}

/// `f' W` of `f [B, T, D]`.
fn to_labels(weights: &Weights, features: Tensor<3>) -> Tensor<3> {
    super::layers::product(weights, "score", features)
}

fn attention_specs(
    dims: &Dims,
    attentions: usize,
    hidden: Option<usize>,
) -> Result<Vec<Spec>, MethodError> {
    let hidden = hidden.unwrap_or(dims.width);
    if attentions == 0 || attentions > usize::from(u8::MAX) || hidden == 0 {
        let what = format!(
            "attentions or clusters = {attentions}, hidden = {hidden}: give 1 to 255, and at least 1"
        );
        return Err(MethodError::Setting(what));
    }
    let mut specs = parameters::linear("attention.hidden", dims.width, hidden).to_vec();
    specs.extend(parameters::linear("attention.logits", hidden, attentions));
    specs.push(super::layers::product_spec(
        "score",
        dims.width,
        dims.label_width,
    ));
    Ok(specs)
}

impl Lesa {
    /// The tokens after convolution and normalisation, `[B, N', D]`.
    fn tokens(
        &self,
        weights: &Weights,
        batch: &Batch,
        kept: Option<&mut Vec<(String, Tensor<1>)>>,
    ) -> Tensor<3> {
        let side = batch.tokens.dims()[1].isqrt();
        let windows = windows(batch.tokens.clone(), [side; 2], WINDOW, false);
        batch_norm(weights, "norm", map(weights, "convolution", windows), kept)
    }

    /// `mean_t (sum_p softmax_t(f_t' W v_p))^2`, summed over images; `matches` are `[B, T, C]`, `positive` ones and zeros.
    fn distribution(matches: Tensor<3>, positive: &Tensor<2>) -> Tensor<1> {
        let [images, labels] = positive.dims();
        let shares = softmax(matches, 1) * positive.clone().reshape([images, 1, labels]);
        shares.sum_dim(2).powf_scalar(2.0).mean_dim(1).sum()
    }

    /// The Frobenius norm of the cosines between different attentions' logits, summed over images.
    fn span(logits: Tensor<3>) -> Tensor<1> {
        let length = logits.clone().powf_scalar(2.0).sum_dim(1).sqrt();
        let unit = logits / length.clamp_min(1e-12);
        let [_, _, count] = unit.dims();
        let cosines = unit.clone().swap_dims(1, 2).matmul(unit);
        let others = Tensor::<2>::ones([count; 2], &cosines.device().inner())
            - Tensor::<2>::eye(count, &cosines.device().inner());
        let squares = (cosines * others.unsqueeze_dim(0)).powf_scalar(2.0);
        // Away from the root's pole, which a single attention or orthogonal ones would stand at.
        (squares.sum_dim(2).sum_dim(1) + 1e-12).sqrt().sum()
    }
}

impl Method for Lesa {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        let [side, _] = grid(dims, "LESA")?;
        if side < WINDOW {
            let what =
                format!("kind: LESA's {WINDOW} x {WINDOW} convolution needs more than one token");
            return Err(MethodError::Setting(what));
        }
        for (name, weight) in [
            ("distribution", self.distribution),
            ("global", self.global),
            ("span", self.span),
        ] {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(MethodError::Setting(format!(
                    "{name} = {weight}: give 0 or more"
                )));
            }
        }
        let inputs = WINDOW * WINDOW * dims.width;
        let mut specs = parameters::linear("convolution", inputs, dims.width).to_vec();
        specs.extend(norm_specs("norm", dims.width));
        specs.extend(attention_specs(dims, self.attentions, self.hidden)?);
        Ok(specs)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let seen = attend(weights, self.tokens(weights, batch, None));
        scores::best_match(seen.features, &batch.label_vectors)
    }

    fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(attend(weights, self.tokens(weights, batch, None)).features)
    }

    /// The attention whose feature matches the label best; each window of the convolution over the tokens it covers.
    fn maps(&self, weights: &Weights, batch: &Batch, label: usize) -> Vec<LabelMap> {
        let seen = attend(weights, self.tokens(weights, batch, None));
        let matches = scores::matches(seen.features.clone(), &batch.label_vectors);
        let matches = device::host(&matches.narrow(2, label, 1));
        let attention = largest(&matches);
        let shares = over_tokens(&shares(seen.logits, attention));
        let map = LabelMap::new("attention", Some(attention), shares);
        map.into_iter().collect()
    }
}

impl GradientMethod for Lesa {
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let mut kept = Vec::new();
        let tokens = self.tokens(weights, batch, Some(&mut kept));
        let mean = to_labels(weights, tokens.clone().mean_dim(1));
        let seen = attend(weights, tokens);
        let scores = scores::best_match(seen.features.clone(), &batch.label_vectors);
        let of_mean = scores::best_match(mean, &batch.label_vectors);
        let device = scores.device().inner();
        let targets = batch.targets.tensor(&device);
        let positive = targets.clone().clamp_min(0.0);
        let matches = scores::matches(seen.features, &batch.label_vectors);
        let global = relu((of_mean - scores.clone()) * targets).sum();
        let regularisation = Self::distribution(matches, &positive) * self.distribution
            + global * self.global
            + Self::span(seen.logits) * self.span;
        let pairs = loss::hinge(scores, &batch.targets, self.negatives);
        Loss {
            kept,
            ..Loss::regularised(pairs, regularisation, images)
        }
    }

    fn needs_whole_batches(&self) -> bool {
        true
    }

    fn live_values(&self, dims: &Dims) -> usize {
        dims.tokens * (2 * WINDOW * WINDOW + 12) * dims.width + 8 * self.attentions * dims.labels
    }
}

impl Method for LesaPerCluster {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        if self.clusters > dims.labels {
            return Err(MethodError::Setting(format!(
                "clusters = {}: give at most the {} labels that are trained on",
                self.clusters, dims.labels
            )));
        }
        let mut specs = attention_specs(dims, self.clusters, self.hidden)?;
        let shape = [self.clusters, dims.label_width];
        specs.push(Spec::new("clusters.centres", &shape, parameters::Start::Constant(0.0)).kept());
        Ok(specs)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let centres: Tensor<1> = weights.get_flat("clusters.centres");
        let chosen = clusters::nearest(&device::host(&centres.inner()), batch);
        let seen = attend(weights, batch.tokens.clone());
        let matches = scores::matches(seen.features, &batch.label_vectors);
        (matches * chosen.unsqueeze_dim(0))
            .sum_dim(1)
            .squeeze_dim(1)
    }

    /// The attention of the label's cluster.
    fn maps(&self, weights: &Weights, batch: &Batch, label: usize) -> Vec<LabelMap> {
        let centres = device::host(&weights.get_flat("clusters.centres"));
        let chosen = clusters::nearest(&centres, batch).narrow(1, label, 1);
        let seen = attend(weights, batch.tokens.clone());
        let attention = largest(&device::host(&chosen));
        let map = LabelMap::new("attention", Some(attention), shares(seen.logits, attention));
        map.into_iter().collect()
    }
}

impl GradientMethod for LesaPerCluster {
    fn first_values(&self, _: &Dims, labels: &TrainedLabels<'_>) -> BTreeMap<String, Vec<f32>> {
        let centres = clusters::centres(labels.vectors, self.clusters);
        [("clusters.centres".to_string(), centres)].into()
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let scores = self.scores(weights, batch);
        Loss::ranking(loss::hinge(scores, &batch.targets, self.negatives), images)
    }

    fn live_values(&self, dims: &Dims) -> usize {
        8 * dims.tokens * dims.width + 6 * self.clusters * dims.labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_four_tokens_each() {
        let tokens = over_tokens(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(tokens, [1.0, 3.0, 2.0, 4.0, 10.0, 6.0, 3.0, 7.0, 4.0]);
    }
}
