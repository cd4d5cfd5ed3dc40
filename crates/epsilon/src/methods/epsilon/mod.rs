//! Epsilon: group prompts aggregation (GPA), global forward propagation (GFP) and a fuser turn the tokens of a
//! frozen backbone into M semantic vectors; a label's score is the best match of its vector among them.
//!
//! Source: "Epsilon: Exploring Comprehensive Visual-Semantic Projection for Multi-Label Zero-Shot Learning",
//! AAAI 2025 (arXiv 2408.12253). Equation numbers below are the paper's.

pub mod fuser;
mod gfp;
pub mod gpa;

use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::input::{Input, dropout, largest, numbers};
use super::layers::{batch_norm, norm_specs};
use super::perceptron::{Perceptron, Step};
use super::{GradientMethod, LabelMap, Loss, Method, MethodError};
use crate::batch::{Batch, Dims};
use crate::device;
use crate::fused::scores;
use crate::loss::{self, Negatives, PairWeight, ScoreLoss};
use crate::parameters::{Spec, Weights};

/// How the refinement's logits (eq. 3) are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefinementScale {
    /// Divided by the square root of the token width.
    Sqrt,
    /// Left as they are.
    None,
}

/// What the refinement's softmax (eq. 3) runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefinementSoftmax {
    /// The N tokens: each group distributes its attention.
    Tokens,
    /// The M groups: each token is shared out among the groups.
    Groups,
}

/// Where GFP's M blocks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GlobalSource {
    /// One linear map D -> M * D, split into M blocks.
    Split,
    /// M copies of the tokens.
    Copies,
}

/// Which of the two modules are present (the paper's ablation, Table 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Modules {
    /// GPA and GFP.
    Both,
    /// Group prompts aggregation alone.
    Gpa,
    /// Global forward propagation alone.
    Gfp,
    /// Neither: the semantic vectors are those of the [`GlobalBranch`] alone.
    None,
}

impl Modules {
    fn gpa(self) -> bool {
        matches!(self, Modules::Both | Modules::Gpa)
    }

    fn gfp(self) -> bool {
        matches!(self, Modules::Both | Modules::Gfp)
    }
}

/// How the M matches of a label become its score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupScore {
    /// `s_c = max_m S_m . v_c`.
    Max,
    /// `s_c = log sum_m exp(S_m . v_c)`.
    LogSumExp,
}

/// An addition that the paper does not have: a perceptron of one vector of the image adds M rows of its own to the semantic
/// vectors, `S + MLP(g)`, so that what a whole image says need not pass through means over its tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct GlobalBranch {
    /// The vector of an image that it reads.
    pub input: Input,
    /// Widths of its hidden layers.
    pub hidden: Vec<usize>,
    /// Share of the hidden values that a training step leaves out.
    pub dropout: f64,
    /// Whether its input passes a batch normalisation first.
    pub batch_norm: bool,
    /// Whether its hidden values pass a batch normalisation before their ReLU.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden_norm: bool,
    /// Whether it has one row, which is added to the semantic vectors of all groups.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Whether its last layer starts at zero.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub zero_start: bool,
}

/// Names of the branch's batch normalisation.
const BRANCH_NORM: &str = "global-branch.norm";

impl Default for GlobalBranch {
    fn default() -> Self {
        Self {
            input: Input::Both,
            hidden: vec![2048],
            dropout: 0.3,
            batch_norm: true,
            hidden_norm: false,
            shared: false,
            zero_start: false,
        }
    }
}

impl GlobalBranch {
    fn perceptron(&self) -> Perceptron<'_> {
        Perceptron {
            prefix: "global-branch.",
            last: "output",
            hidden: &self.hidden,
            dropout: self.dropout,
            norm: self.hidden_norm,
            zero: self.zero_start,
        }
    }

    /// Rows of its output.
    fn count(&self, groups: usize) -> usize {
        if self.shared { 1 } else { groups }
    }

    fn specs(&self, dims: &Dims, groups: usize) -> Result<Vec<Spec>, MethodError> {
        let inputs = self.input.width(dims);
        let outputs = self.count(groups) * dims.label_width;
        let mut specs = self.perceptron().specs(inputs, outputs)?;
        if self.batch_norm {
            specs.extend(norm_specs(BRANCH_NORM, inputs));
        }
        Ok(specs)
    }

    /// The rows it adds, `[B, M, d_w]`; where it is shared, M copies of one.
    fn rows(
        &self,
        weights: &Weights,
        batch: &Batch,
        groups: usize,
        mut step: Option<&mut Step>,
    ) -> Tensor<3> {
        let mut x = self.input.of(batch);
        if self.batch_norm {
            let kept = step.as_deref_mut().map(|step| &mut step.kept);
            x = batch_norm(weights, BRANCH_NORM, x.unsqueeze_dim(0), kept).squeeze_dim(0);
        }
        let rows = self.perceptron().forward(weights, x, step);
        let [images, width] = rows.dims();
        let count = self.count(groups);
        let rows: Tensor<3> = rows.reshape([images, count, width / count]);
        rows.expand([images, groups, width / count])
    }
}

/// Epsilon's settings; the defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Epsilon {
    /// M, the number of groups.
    pub groups: usize,
    /// Encoder blocks over `[prompts; tokens]`, 0 to 3.
    pub depth: usize,
    /// Attention heads of the encoder; the default is one per 64 channels.
    pub heads: Option<usize>,
    /// Whether the backbone's global vector (its CLS token) joins the patch tokens.
    pub with_cls: bool,
    /// Scale of the refinement's logits.
    pub refinement_scale: RefinementScale,
    /// What the refinement's softmax runs over.
    pub refinement_softmax: RefinementSoftmax,
    /// Where GFP's blocks come from.
    pub global_source: GlobalSource,
    /// Hidden width of GFP's MLPs; the default is the token width.
    pub hidden: Option<usize>,
    /// Whether all blocks of GFP share one MLP.
    pub shared_mlp: bool,
    /// Which modules are present.
    pub modules: Modules,
    /// Share of the tokens that a training step leaves out, the same ones for all images of a batch's part; the paper has
    /// none. It is also what a step saves.
    #[serde(skip_serializing_if = "is_zero")]
    pub token_dropout: f64,
    /// Share of what the fuser reads that a training step leaves out; the paper has none.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropout: f64,
    /// r, the width that the fuser's map passes through, `U dropout(V x)` with V to r values; the paper's is one map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuser_rank: Option<usize>,
    /// A perceptron of the whole image beside the two modules; the paper has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_branch: Option<GlobalBranch>,
    /// Trains by the binary cross-entropy of `s_c` less this, in place of `omega (1 - lambda) L_r`: every label of an image is true or
    /// not, which also fixes the level of the scores, while a ranking leaves it free. The paper has no such loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_offset: Option<f64>,
    /// How M matches become one score.
    pub score: GroupScore,
    /// Weight of the variance term; `1 - lambda` weighs the ranking loss.
    pub lambda: f64,
    /// Weight of a pair in the ranking loss.
    pub alpha: PairWeight,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

/// The additions are left out of recipes that do not use them.
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Default for Epsilon {
    fn default() -> Self {
        Self {
            groups: 8,
            depth: 1,
            heads: None,
            with_cls: false,
            refinement_scale: RefinementScale::Sqrt,
            refinement_softmax: RefinementSoftmax::Tokens,
            global_source: GlobalSource::Split,
            hidden: None,
            shared_mlp: false,
            modules: Modules::Both,
            token_dropout: 0.0,
            dropout: 0.0,
            fuser_rank: None,
            global_branch: None,
            binary_offset: None,
            score: GroupScore::Max,
            lambda: 0.3,
            alpha: PairWeight::PositivesNegatives,
            negatives: Negatives::NotPositive,
        }
    }
}

/// What Epsilon computes for a batch on the way to its semantic vectors.
pub struct Semantics {
    /// `S`, the semantic vectors `[B, M, d_w]`.
    pub vectors: Tensor<3>,
    /// What GPA computed, when it is present.
    pub refined: Option<gpa::Refined>,
    /// `GoS [B, M, D]`, when GFP is present.
    pub global: Option<Tensor<3>>,
}

impl Epsilon {
    /// Attention heads of the encoder for tokens of this width.
    pub fn heads(&self, width: usize) -> usize {
        self.heads.unwrap_or((width / 64).max(1))
    }

    /// Hidden width of GFP's MLPs for tokens of this width.
    pub fn hidden(&self, width: usize) -> usize {
        self.hidden.unwrap_or(width)
    }

    /// Semantic vectors (and attention) of a batch.
    pub fn semantics(&self, weights: &Weights, batch: &Batch) -> Semantics {
        self.compute(weights, batch, None)
    }

    /// [`Epsilon::semantics`], or those of a training step.
    fn compute(&self, weights: &Weights, batch: &Batch, mut step: Option<&mut Step>) -> Semantics {
        let tokens = self.tokens(batch);
        let refined = self
            .modules
            .gpa()
            .then(|| gpa::refine(self, weights, gpa::encode(self, weights, &tokens), &tokens));
        let global = self
            .modules
            .gfp()
            .then(|| gfp::forward(self, weights, &tokens, batch.precision));
        let parts = [
            global.clone(),
            refined.as_ref().map(|r| r.semantics.clone()),
        ];
        let fused = (self.modules != Modules::None)
            .then(|| self.fuse(weights, fuser::read(parts), step.as_deref_mut()));
        let branch = self.global_branch.as_ref();
        let rows = branch.map(|branch| branch.rows(weights, batch, self.groups, step));
        let vectors = match (fused, rows) {
            (Some(fused), Some(rows)) => fused + rows,
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => unreachable!("`check` refuses an Epsilon of nothing"),
        };
        Semantics {
            vectors,
            refined,
            global,
        }
    }

    /// The fuser's rows `[B, M, d_w]`, in a training step of what dropout leaves.
    fn fuse(&self, weights: &Weights, read: Tensor<3>, step: Option<&mut Step>) -> Tensor<3> {
        let read = match self.fuser_rank {
            Some(_) => fuser::reduce(weights, read),
            None => read,
        };
        let [images, groups, width] = read.dims();
        let read = match step {
            Some(step) => {
                let rows = read.reshape([images * groups, width]);
                let rows = dropout(rows, self.dropout, &mut step.draws);
                rows.reshape([images, groups, width])
            }
            None => read,
        };
        fuser::forward(weights, read)
    }

    fn tokens(&self, batch: &Batch) -> Tensor<3> {
        if self.with_cls {
            Tensor::cat(
                vec![batch.global.clone().unsqueeze_dim(1), batch.tokens.clone()],
                1,
            )
        } else {
            batch.tokens.clone()
        }
    }

    /// `s_c` of every image and label, `[B, C]`, from semantic vectors `[B, M, d_w]` and label vectors `[C, d_w]`.
    pub fn match_labels(&self, vectors: &Tensor<3>, labels: &Tensor<2>) -> Tensor<2> {
        let [images, ..] = vectors.dims();
        let [count, _] = labels.dims();
        match self.score {
            GroupScore::Max => scores::best_match(vectors.clone(), labels),
            GroupScore::LogSumExp => {
                let matches = scores::matches(vectors.clone(), labels);
                let top = matches.clone().detach().max_dim(1);
                let sum = (matches - top.clone()).exp().sum_dim(1);
                (sum.log() + top).reshape([images, count])
            }
        }
    }
}

impl Method for Epsilon {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        self.check(dims)?;
        let mut specs = Vec::new();
        if self.modules.gpa() {
            specs.extend(gpa::specs(self, dims.width));
        }
        if self.modules.gfp() {
            specs.extend(gfp::specs(self, dims.width));
        }
        specs.extend(fuser::specs(self.modules, self.fuser_rank, dims));
        if let Some(branch) = &self.global_branch {
            specs.extend(branch.specs(dims, self.groups)?);
        }
        Ok(specs)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let vectors = self.semantics(weights, batch).vectors;
        self.match_labels(&vectors, &batch.label_vectors)
    }

    fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        (self.score == GroupScore::Max).then(|| self.semantics(weights, batch).vectors)
    }

    /// Of the group that wins the label: its attention over the tokens (eq. 3), and the mean over the channels of its weights
    /// in GFP, as far as the modules are there. Patch tokens alone: the class token stands at no place.
    fn maps(&self, weights: &Weights, batch: &Batch, label: usize) -> Vec<LabelMap> {
        let Semantics {
            vectors, refined, ..
        } = self.semantics(weights, batch);
        let matches = scores::matches(vectors.narrow(0, 0, 1), &batch.label_vectors);
        let group = largest(&device::host(&matches.narrow(2, label, 1)));
        let attention = refined.map(|refined| {
            let row = refined.attention.narrow(0, 0, 1).narrow(1, group, 1);
            ("attention", device::host(&row))
        });
        let global = self.modules.gfp().then(|| {
            let tokens = self.tokens(batch).narrow(0, 0, 1);
            let shares = gfp::shares(self, weights, &tokens, group);
            ("global weights", device::host(&shares))
        });
        let without_class = usize::from(self.with_cls);
        let maps = [attention, global].into_iter().flatten();
        maps.filter_map(|(what, values)| {
            LabelMap::new(what, Some(group), values[without_class..].to_vec())
        })
        .collect()
    }
}

impl GradientMethod for Epsilon {
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let mut step = Step::of(batch);
        let vectors = match self.token_dropout > 0.0 {
            true => {
                let thinned = self.thinned(batch, &mut step.draws.rng);
                self.compute(weights, &thinned, Some(&mut step))
            }
            false => self.compute(weights, batch, Some(&mut step)),
        };
        let vectors = vectors.vectors;
        let scores = self.match_labels(&vectors, &batch.label_vectors);
        let pairs = match self.binary_offset {
            Some(offset) => {
                loss::cross_entropy(scores.sub_scalar(offset), &batch.targets, self.negatives)
            }
            None => self.ranking(scores, batch),
        };
        let spread = loss::group_variance(vectors).sum() * self.lambda;
        Loss {
            kept: step.kept,
            ..Loss::regularised(pairs, spread, images)
        }
    }

    fn needs_whole_batches(&self) -> bool {
        let branch = self.global_branch.as_ref();
        branch.is_some_and(|branch| branch.batch_norm || branch.hidden_norm)
    }

    fn trains_in_bf16(&self, dims: &Dims) -> bool {
        let even = dims.width.is_multiple_of(2) && self.hidden(dims.width).is_multiple_of(2);
        self.modules.gfp() && self.global_source == GlobalSource::Split && !self.shared_mlp && even
    }

    fn live_values(&self, dims: &Dims) -> usize {
        let blocks = self.groups * (2 * dims.width + self.hidden(dims.width));
        // A whole encoder block keeps about 16 D values a token; the last one, of prompt rows alone, the standardised
        // tokens, and for every prompt and head its attention and what is read with it.
        let whole = 16 * dims.width * self.depth.saturating_sub(1);
        let queries = self.groups * self.heads(dims.width);
        let branch = self.global_branch.as_ref();
        let branch = branch.map_or(0, |branch| branch.perceptron().live_values());
        let encoder = whole + dims.width + 2 * queries;
        dims.tokens * (blocks + encoder) + 4 * queries * dims.width + branch
    }
}

impl Epsilon {
    /// `omega (1 - lambda) L_r`.
    fn ranking(&self, scores: Tensor<2>, batch: &Batch) -> ScoreLoss {
        let omega = loss::omega(&batch.targets, &batch.label_vectors_host);
        let weight: Vec<f32> = omega
            .iter()
            .map(|w| w * (1.0 - self.lambda as f32))
            .collect();
        loss::rank_net(scores, &batch.targets, self.negatives, self.alpha, &weight)
    }

    /// A batch with some of its tokens alone, at least one.
    fn thinned(&self, batch: &Batch, rng: &mut ChaCha8Rng) -> Batch {
        let [_, tokens, _] = batch.tokens.dims();
        let kept = ((1.0 - self.token_dropout) * tokens as f64)
            .round()
            .max(1.0);
        let mut kept = rand::seq::index::sample(rng, tokens, kept as usize).into_vec();
        kept.sort_unstable();
        let kept = numbers(&kept, &batch.tokens.device());
        Batch {
            tokens: batch.tokens.clone().select(1, kept),
            ..batch.clone()
        }
    }

    fn check(&self, dims: &Dims) -> Result<(), MethodError> {
        let heads = self.heads(dims.width);
        let wrong = |what: String| Err(MethodError::Setting(what));
        if !(1..=64).contains(&self.groups) {
            return wrong(format!("groups = {}: give 1 to 64", self.groups));
        }
        if self.depth > 3 {
            return wrong(format!("depth = {}: give 0 to 3", self.depth));
        }
        if heads == 0 || !dims.width.is_multiple_of(heads) {
            return wrong(format!(
                "heads = {heads} does not divide the token width {}",
                dims.width
            ));
        }
        if self.with_cls && dims.global_width() != dims.width {
            return wrong(format!(
                "with-cls: the global vector has {} values, the tokens {}: they cannot stand together",
                dims.global_width(),
                dims.width
            ));
        }
        if self.hidden(dims.width) == 0 {
            return wrong("hidden = 0: give at least 1".into());
        }
        if self.fuser_rank == Some(0) {
            return wrong("fuser-rank = 0: give at least 1".into());
        }
        if self.binary_offset.is_some_and(|offset| !offset.is_finite()) {
            return wrong("binary-offset: give a finite number".into());
        }
        if self.modules == Modules::None && self.global_branch.is_none() {
            return wrong("modules = \"none\" needs a global-branch: there is nothing else".into());
        }
        for (name, share) in [
            ("dropout", self.dropout),
            ("token-dropout", self.token_dropout),
        ] {
            if !(0.0..1.0).contains(&share) {
                return wrong(format!("{name} = {share}: give a share from 0 to below 1"));
            }
        }
        if !(0.0..=1.0).contains(&self.lambda) {
            return wrong(format!(
                "lambda = {}: give a value from 0 to 1",
                self.lambda
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Draws, LabelsOn, Targets};
    use burn::tensor::Device;
    use epsilon_data::labels::LabelVectors;
    use std::sync::Arc;

    const DIMS: Dims = Dims {
        tokens: 4,
        width: 6,
        label_width: 3,
        labels: 5,
        unseen: 0,
        global: None,
    };
    const IMAGES: usize = 4;

    fn batch() -> Batch {
        let mut rng = Draws::of(3, 0, 0).rng();
        let mut draw = |count: usize| -> Vec<f32> {
            let values = (0..count).map(|_| crate::parameters::standard_normal(&mut rng));
            values.collect()
        };
        let names = (0..5).map(|label| format!("label {label}")).collect();
        let labels = LabelVectors::new(names, 3, draw(15)).unwrap().unit();
        let targets = (0..IMAGES * 5).map(|at| if at % 3 == 0 { 1 } else { -1 });
        let targets = Targets::new(targets.collect(), 5);
        let on = LabelsOn::new(Arc::new(labels), &Device::flex());
        on.batch(&DIMS, IMAGES, draw(IMAGES * 24), draw(IMAGES * 6), targets)
    }

    fn drawn(method: &Epsilon) -> Weights {
        let mut rng = Draws::of(1, 0, 0).rng();
        Weights::draw(method.specs(&DIMS).unwrap(), &mut rng, &Device::flex())
    }

    fn branch() -> GlobalBranch {
        GlobalBranch {
            hidden: vec![7],
            dropout: 0.0,
            batch_norm: false,
            hidden_norm: true,
            ..GlobalBranch::default()
        }
    }

    /// `S = W2 relu(BN(W1 g + b1)) + b2` with running mean 0 and variance 1, of the global vector and the mean token.
    #[test]
    fn the_branch_alone_by_its_equation() {
        let method = Epsilon {
            groups: 1,
            modules: Modules::None,
            global_branch: Some(branch()),
            ..Epsilon::default()
        };
        let (weights, batch) = (drawn(&method), batch());
        let host = |name: &str| device::host(&weights.get_flat(name));
        let [w1, b1] =
            ["weight", "bias"].map(|part| host(&format!("global-branch.hidden.0.{part}")));
        let [w2, b2] = ["weight", "bias"].map(|part| host(&format!("global-branch.output.{part}")));
        let (tokens, global) = (device::host(&batch.tokens), device::host(&batch.global));
        let scores = device::host(&method.scores(&weights, &batch));
        for image in 0..IMAGES {
            let mean =
                |d: usize| (0..4).map(|n| tokens[(4 * image + n) * 6 + d]).sum::<f32>() / 4.0;
            let own = (0..6).map(|d| global[6 * image + d]);
            let g: Vec<f32> = own.chain((0..6).map(mean)).collect();
            let hidden: Vec<f32> = (0..7)
                .map(|h| (0..12).map(|d| g[d] * w1[7 * d + h]).sum::<f32>() + b1[h])
                .map(|x| (x / (1.0_f32 + 1e-5).sqrt()).max(0.0))
                .collect();
            for label in 0..5 {
                let row = batch.label_vectors_host.row(label);
                let s = |k: usize| (0..7).map(|h| hidden[h] * w2[3 * h + k]).sum::<f32>() + b2[k];
                let expected: f32 = (0..3).map(|k| s(k) * row[k]).sum();
                assert!((scores[5 * image + label] - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_shared_row_is_the_same_for_all_groups_and_may_start_at_zero() {
        let of = |zero_start: bool| {
            let method = Epsilon {
                groups: 3,
                modules: Modules::None,
                global_branch: Some(GlobalBranch {
                    shared: true,
                    zero_start,
                    ..branch()
                }),
                ..Epsilon::default()
            };
            let semantics = method.semantics(&drawn(&method), &batch());
            assert_eq!(semantics.vectors.dims(), [IMAGES, 3, 3]);
            device::host(&semantics.vectors)
        };
        for groups in of(false).chunks(9) {
            assert!(groups[0] != 0.0);
            assert_eq!((&groups[..3], &groups[..3]), (&groups[3..6], &groups[6..]));
        }
        assert!(of(true).iter().all(|&v| v == 0.0));
    }

    /// Prompts through a fuser of low rank beside a shared row, with batch statistics: the slope along the gradient.
    #[test]
    fn prompts_beside_a_shared_row_by_finite_differences() {
        let method = Epsilon {
            groups: 2,
            heads: Some(2),
            modules: Modules::Gpa,
            lambda: 0.0,
            fuser_rank: Some(4),
            global_branch: Some(GlobalBranch {
                shared: true,
                ..branch()
            }),
            ..Epsilon::default()
        };
        let (weights, batch) = (drawn(&method), batch());
        assert_eq!(weights.get::<2>("fuser.reduce.weight").dims(), [6, 4]);
        assert_eq!(weights.get::<2>("fuser.weight").dims(), [4, 3]);
        assert!(method.needs_whole_batches());
        let tracked = weights.tracked();
        let loss = method.loss(&tracked, &batch, IMAGES);
        let kept: Vec<&str> = loss.kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            kept,
            ["global-branch.norm.0.mean", "global-branch.norm.0.variance"]
        );
        let gradients = tracked.gradients(&mut loss.total.backward());
        let names: Vec<String> = weights.trained().map(|(s, _)| s.name.clone()).collect();
        let moved = |by: f32| {
            let mut weights = weights.clone();
            for (name, gradient) in names.iter().zip(&gradients) {
                weights.set(name, weights.get_flat(name) + gradient.clone() * by);
            }
            method.loss(&weights.tracked(), &batch, IMAGES).ranking
        };
        let squares = gradients.iter().flat_map(device::host);
        let squares: f64 = squares.map(|g| f64::from(g).powi(2)).sum();
        let slope = (moved(2e-3) - moved(-2e-3)) / 4e-3;
        assert!(
            squares > 1e-4 && (slope - squares).abs() < 2e-2 * squares,
            "{slope} {squares}"
        );
    }

    #[test]
    fn an_epsilon_of_nothing_is_refused() {
        let nothing = Epsilon {
            modules: Modules::None,
            ..Epsilon::default()
        };
        let said = nothing.specs(&DIMS).unwrap_err().to_string();
        assert!(said.contains("global-branch"), "{said}");
        let flat = Epsilon {
            fuser_rank: Some(0),
            ..Epsilon::default()
        };
        assert!(
            flat.specs(&DIMS)
                .unwrap_err()
                .to_string()
                .contains("fuser-rank = 0")
        );
    }
}
