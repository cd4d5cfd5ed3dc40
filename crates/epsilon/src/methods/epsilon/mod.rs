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
use super::perceptron::Perceptron;
use super::{GradientMethod, LabelMap, Loss, Method, MethodError};
use crate::batch::{Batch, Dims};
use crate::device;
use crate::fused::scores;
use crate::loss::{self, Negatives, PairWeight};
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
}

impl Modules {
    fn gpa(self) -> bool {
        self != Modules::Gfp
    }

    fn gfp(self) -> bool {
        self != Modules::Gpa
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

/// What a training step has and scoring has not.
struct Step {
    rng: ChaCha8Rng,
    kept: Vec<(String, Tensor<1>)>,
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
        }
    }

    fn specs(&self, dims: &Dims, groups: usize) -> Result<Vec<Spec>, MethodError> {
        let inputs = self.input.width(dims);
        let mut specs = self.perceptron().specs(inputs, groups * dims.label_width)?;
        if self.batch_norm {
            specs.extend(norm_specs(BRANCH_NORM, inputs));
        }
        Ok(specs)
    }

    /// The rows it adds, `[B, M, d_w]`.
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
        let rng = step.map(|step| &mut step.rng);
        let rows = self.perceptron().forward(weights, x, rng);
        let [images, width] = rows.dims();
        rows.reshape([images, groups, width / groups])
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
    /// A perceptron of the whole image beside the two modules; the paper has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_branch: Option<GlobalBranch>,
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
            global_branch: None,
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
        let mut read = fuser::read(parts);
        if let Some(step) = &mut step {
            let [images, groups, width] = read.dims();
            let rows = read.reshape([images * groups, width]);
            let rows = dropout(rows, self.dropout, &mut step.rng);
            read = rows.reshape([images, groups, width]);
        }
        let mut vectors = fuser::forward(weights, read);
        if let Some(branch) = &self.global_branch {
            vectors = vectors + branch.rows(weights, batch, self.groups, step);
        }
        Semantics {
            vectors,
            refined,
            global,
        }
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
        specs.extend(fuser::specs(self.modules, dims));
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
        let mut step = Step {
            rng: batch.draws.rng(),
            kept: Vec::new(),
        };
        let vectors = match self.token_dropout > 0.0 {
            true => {
                let thinned = self.thinned(batch, &mut step.rng);
                self.compute(weights, &thinned, Some(&mut step))
            }
            false => self.compute(weights, batch, Some(&mut step)),
        };
        let vectors = vectors.vectors;
        let scores = self.match_labels(&vectors, &batch.label_vectors);
        let omega = loss::omega(&batch.targets, &batch.label_vectors_host);
        let weight: Vec<f32> = omega
            .iter()
            .map(|w| w * (1.0 - self.lambda as f32))
            .collect();
        let pairs = loss::rank_net(scores, &batch.targets, self.negatives, self.alpha, &weight);
        let spread = loss::group_variance(vectors).sum() * self.lambda;
        Loss {
            kept: step.kept,
            ..Loss::regularised(pairs, spread, images)
        }
    }

    fn needs_whole_batches(&self) -> bool {
        let branch = self.global_branch.as_ref();
        branch.is_some_and(|branch| branch.batch_norm)
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
