//! Group prompts aggregation: M learnt prompts read the tokens through an encoder, then refine them (eq. 3).
//!
//! Only the M prompt rows leave the last encoder block, so there its queries, output projection and MLP are computed
//! for M rows, and the key and value maps are folded into the few queries: with K = X W_k, `q . k_n = (W_k q) . x_n`,
//! and `sum_n a_n (W_v x_n) = W_v sum_n a_n x_n`. LayerNorm's scale and shift fold in the same way, so tokens that
//! need no gradient (a frozen backbone's) are only ever normalised, once. The result is the straight form's.

use burn::tensor::{Tensor, activation};

use super::{Epsilon, RefinementScale, RefinementSoftmax};
use crate::fused::cross_attention::{self, Encoder, Refinement};
use crate::fused::gelu::gelu;
use crate::fused::linear::linear;
use crate::parameters::{self, Spec, Start, Weights};

/// LayerNorm's epsilon inside the encoder.
const NORM_EPSILON: f64 = 1e-6;

/// What GPA computes for a batch.
pub struct Refined {
    /// `GT^Q`, the prompts after the encoder, `[B, M, D]`; `[1, M, D]` without an encoder.
    pub prompts: Tensor<3>,
    /// `GrS [B, M, D]`.
    pub semantics: Tensor<3>,
    /// Eq. 3's weights `[B, M, N]`.
    pub attention: Tensor<3>,
}

pub(super) fn specs(settings: &Epsilon, width: usize) -> Vec<Spec> {
    let prompts = &[settings.groups, width];
    let mut specs = vec![Spec::new(
        "gpa.prompts",
        prompts,
        Start::TruncatedNormal(0.02),
    )];
    for block in 0..settings.depth {
        let name = |part: &str| format!("gpa.blocks.{block}.{part}");
        specs.extend(norm_specs(&name("norm1"), width));
        specs.extend(parameters::linear(&name("qkv"), width, 3 * width));
        specs.extend(parameters::linear(&name("proj"), width, width));
        specs.extend(norm_specs(&name("norm2"), width));
        specs.extend(parameters::linear(&name("fc1"), width, 4 * width));
        specs.extend(parameters::linear(&name("fc2"), 4 * width, width));
    }
    for part in ["query", "key", "value"] {
        specs.extend(parameters::linear(&format!("gpa.{part}"), width, width));
    }
    specs
}

fn norm_specs(name: &str, width: usize) -> [Spec; 2] {
    [
        Spec::new(format!("{name}.gamma"), &[width], Start::Constant(1.0)),
        Spec::new(format!("{name}.beta"), &[width], Start::Constant(0.0)),
    ]
}

/// `GT^Q [B, M, D]` of tokens `[B, N, D]`, or `[1, M, D]` where no encoder makes the prompts differ between images.
pub fn encode(settings: &Epsilon, weights: &Weights, tokens: &Tensor<3>) -> Tensor<3> {
    let heads = settings.heads(tokens.dims()[2]);
    let mut prompts: Tensor<3> = weights.get::<2>("gpa.prompts").unsqueeze();
    let mut tokens = tokens.clone();
    for index in 0..settings.depth {
        let block = Block {
            weights,
            heads,
            name: format!("gpa.blocks.{index}"),
        };
        if index + 1 == settings.depth {
            prompts = block.prompt_rows(prompts, &tokens);
        } else {
            (prompts, tokens) = block.all_rows(prompts, tokens);
        }
    }
    prompts
}

/// One pre-LayerNorm encoder block.
struct Block<'a> {
    weights: &'a Weights,
    heads: usize,
    name: String,
}

impl Block<'_> {
    fn linear(&self, part: &str) -> (Tensor<2>, Tensor<1>) {
        self.weights.linear(&format!("{}.{part}", self.name))
    }

    fn norm(&self, part: &str) -> (Tensor<1>, Tensor<1>) {
        (
            self.weights.get(&format!("{}.{part}.gamma", self.name)),
            self.weights.get(&format!("{}.{part}.beta", self.name)),
        )
    }

    fn normalise(&self, part: &str, x: Tensor<3>) -> Tensor<3> {
        let (gamma, beta) = self.norm(part);
        standardise(x) * gamma.unsqueeze() + beta.unsqueeze()
    }

    /// Adds the MLP of the block to `x [B, R, D]`.
    fn mlp(&self, x: Tensor<3>) -> Tensor<3> {
        let (fc1, bias1) = self.linear("fc1");
        let (fc2, bias2) = self.linear("fc2");
        let hidden = gelu(linear(self.normalise("norm2", x.clone()), fc1, bias1));
        x + linear(hidden, fc2, bias2)
    }

    /// The whole block over `[prompts; tokens]`, needed where another block follows.
    fn all_rows(&self, prompts: Tensor<3>, tokens: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let [images, count, width] = tokens.dims();
        let groups = prompts.dims()[1];
        let x = Tensor::cat(vec![prompts.expand([images, groups, width]), tokens], 1);
        let rows = groups + count;
        let head = width / self.heads;

        let (weight, bias) = self.linear("qkv");
        let qkv = linear(self.normalise("norm1", x.clone()), weight, bias)
            .reshape([images, rows, 3, self.heads, head])
            .permute([2, 0, 3, 1, 4]);
        let part = |index: usize| -> Tensor<4> {
            qkv.clone()
                .narrow(0, index, 1)
                .reshape([images, self.heads, rows, head])
        };
        let logits = part(0).matmul(part(1).swap_dims(2, 3)) * (head as f64).sqrt().recip();
        let mixed = activation::softmax(logits, 3).matmul(part(2));
        let mixed = mixed.swap_dims(1, 2).reshape([images, rows, width]);

        let (weight, bias) = self.linear("proj");
        let x = self.mlp(x + linear(mixed, weight, bias));
        (x.clone().narrow(1, 0, groups), x.narrow(1, groups, count))
    }

    /// The block's prompt rows alone, `[B, M, D]`, from prompts `[B or 1, M, D]`.
    fn prompt_rows(&self, prompts: Tensor<3>, tokens: &Tensor<3>) -> Tensor<3> {
        let [images, _, width] = tokens.dims();
        let [_, groups, _] = prompts.dims();
        let own = self.normalise("norm1", prompts.clone());
        let mixed = if cross_attention::runs_on(tokens) {
            self.read(own, tokens)
        } else {
            self.attend(own, standardise(tokens.clone()))
        };
        let (weight, bias) = self.linear("proj");
        self.mlp(prompts.expand([images, groups, width]) + linear(mixed, weight, bias))
    }

    /// [`Self::attend`] over tokens that are not standardised yet, as one operation.
    fn read(&self, own: Tensor<3>, tokens: &Tensor<3>) -> Tensor<3> {
        let tokens = cross_attention::standardise(tokens, NORM_EPSILON as f32);
        let (weight, bias) = self.linear("qkv");
        let (gamma, beta) = self.norm("norm1");
        let maps = Encoder {
            weight,
            bias,
            gamma,
            beta,
        };
        let head = tokens.dims()[2] / self.heads;
        maps.attend(own, &tokens, self.heads, (head as f64).sqrt().recip())
    }

    /// Attention of the prompts `own [B or 1, M, D]` (normalised) over themselves and the standardised tokens
    /// `[B, N, D]`, heads joined: `[B, M, D]`. The straight form of [`Encoder::attend`].
    fn attend(&self, own: Tensor<3>, tokens: Tensor<3>) -> Tensor<3> {
        let [images, count, width] = tokens.dims();
        let [copies, groups, _] = own.dims();
        let (heads, head) = (self.heads, width / self.heads);
        let (gamma, beta) = self.norm("norm1");
        let (weight, bias) = self.linear("qkv");
        let map = |index: usize| weight.clone().narrow(1, index * width, width);
        let shift = |index: usize| bias.clone().narrow(0, index * width, width);
        // [D, D] -> [h, D, d_h]
        let per_head = |map: Tensor<2>| map.reshape([width, heads, head]).permute([1, 0, 2]);

        // Queries with the key map folded in: [h, B' M, d_h] x [h, d_h, D]. The key bias adds the same to every
        // logit of a query, so the softmax does not see it.
        let query = linear(own.clone(), map(0), shift(0))
            .reshape([copies * groups, heads, head])
            .swap_dims(0, 1);
        let query = query.matmul(per_head(map(1)).swap_dims(1, 2)) * (head as f64).sqrt().recip();
        let query = query
            .reshape([heads, copies, groups, width])
            .swap_dims(0, 1)
            .reshape([copies, heads * groups, width]);

        let own_logits = query.clone().matmul(own.clone().swap_dims(1, 2));
        let offset = (query.clone() * beta.clone().unsqueeze()).sum_dim(2);
        let token_logits = rows_dot(query * gamma.clone().unsqueeze(), &tokens) + offset;
        let own_logits = own_logits.expand([images, heads * groups, groups]);
        let attention = activation::softmax(Tensor::cat(vec![own_logits, token_logits], 2), 2);
        let to_own = attention.clone().narrow(2, 0, groups);
        let to_tokens = attention.narrow(2, groups, count);

        let context = to_tokens.clone().matmul(tokens) * gamma.unsqueeze()
            + to_tokens.sum_dim(2) * beta.unsqueeze()
            + to_own.matmul(own.expand([images, groups, width]));
        // The value map per head, then heads side by side; attention sums to one, so the bias comes whole.
        context
            .reshape([images, heads, groups, width])
            .swap_dims(0, 1)
            .reshape([heads, images * groups, width])
            .matmul(per_head(map(2)))
            .swap_dims(0, 1)
            .reshape([images, groups, width])
            + shift(2).unsqueeze()
    }
}

/// Rows to mean 0 and variance 1 over the last dimension, LayerNorm without its scale and shift.
fn standardise(x: Tensor<3>) -> Tensor<3> {
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    centred / (variance + NORM_EPSILON).sqrt()
}

/// `queries [B or 1, Q, D]` times `tokens [B, N, D]` transposed: `[B, Q, N]`.
fn rows_dot(queries: Tensor<3>, tokens: &Tensor<3>) -> Tensor<3> {
    let [images, count, width] = tokens.dims();
    let [copies, rows, _] = queries.dims();
    if copies == images {
        return queries.matmul(tokens.clone().swap_dims(1, 2));
    }
    let queries = queries.reshape([rows, width]);
    tokens
        .clone()
        .reshape([images * count, width])
        .matmul(queries.transpose())
        .reshape([images, count, rows])
        .swap_dims(1, 2)
}

/// Eq. 3, `GrS = softmax(K(F) . Q(GT^Q)) . V(F)`, with the key and value maps folded into the M queries.
pub fn refine(
    settings: &Epsilon,
    weights: &Weights,
    prompts: Tensor<3>,
    tokens: &Tensor<3>,
) -> Refined {
    let scale = match settings.refinement_scale {
        RefinementScale::Sqrt => (tokens.dims()[2] as f64).sqrt().recip(),
        RefinementScale::None => 1.0,
    };
    let softmax = settings.refinement_softmax;
    let (semantics, attention) =
        if softmax == RefinementSoftmax::Tokens && cross_attention::runs_on(tokens) {
            let maps = Refinement {
                query: weights.linear("gpa.query"),
                key: weights.linear("gpa.key").0,
                value: weights.linear("gpa.value"),
            };
            maps.attend(prompts.clone(), tokens, scale)
        } else {
            composed_refinement(softmax, scale, weights, prompts.clone(), tokens)
        };
    Refined {
        prompts,
        semantics,
        attention,
    }
}

/// `GrS` and its attention in the straight form, from the framework's own operations.
fn composed_refinement(
    softmax: RefinementSoftmax,
    scale: f64,
    weights: &Weights,
    prompts: Tensor<3>,
    tokens: &Tensor<3>,
) -> (Tensor<3>, Tensor<3>) {
    let [images, count, width] = tokens.dims();
    let (query_map, query_bias) = weights.linear("gpa.query");
    let (key_map, key_bias) = weights.linear("gpa.key");
    let (value_map, value_bias) = weights.linear("gpa.value");
    let query = linear(prompts, query_map, query_bias) * scale;
    let [copies, groups, _] = query.dims();
    let offset = (query.clone() * key_bias.unsqueeze()).sum_dim(2);
    let folded = query
        .reshape([copies * groups, width])
        .matmul(key_map.transpose())
        .reshape([copies, groups, width]);
    let logits = rows_dot(folded, tokens) + offset;
    let logits = logits.expand([images, groups, count]);
    let attention = match softmax {
        RefinementSoftmax::Tokens => activation::softmax(logits, 2),
        RefinementSoftmax::Groups => activation::softmax(logits, 1),
    };
    let mixed = attention.clone().matmul(tokens.clone());
    let semantics = mixed
        .reshape([images * groups, width])
        .matmul(value_map)
        .reshape([images, groups, width])
        + attention.clone().sum_dim(2) * value_bias.unsqueeze();
    (semantics, attention)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const IMAGES: usize = 3;
    const COUNT: usize = 9;
    const WIDTH: usize = 20;
    const GROUPS: usize = 5;
    const HEADS: usize = 2;

    /// Tokens, prompts of `copies` images, the gradient of the result, and weights, none of them special.
    struct Case {
        weights: Weights,
        prompts: Tensor<3>,
        tokens: Tensor<3>,
        upstream: Tensor<3>,
    }

    /// From weights, prompts and tokens to what is read.
    type Form<'a> = &'a dyn Fn(&Weights, Tensor<3>, &Tensor<3>) -> Tensor<3>;

    impl Case {
        fn new(copies: usize) -> Self {
            let settings = Epsilon {
                groups: GROUPS,
                depth: 1,
                ..Epsilon::default()
            };
            let mut rng = ChaCha8Rng::seed_from_u64(copies as u64);
            let device = Device::flex();
            device.seed(copies as u64);
            let mut specs = specs(&settings, WIDTH);
            // Scale and shift start at 1 and 0, where mistakes in them would not show.
            for spec in &mut specs {
                spec.start = Start::Uniform(0.5);
            }
            let draw = |rows: usize, columns: usize| -> Tensor<3> {
                let shape = [rows, columns, WIDTH];
                Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device)
            };
            Self {
                weights: Weights::draw(specs, &mut rng, &device),
                prompts: draw(copies, GROUPS),
                tokens: draw(IMAGES, COUNT),
                upstream: draw(IMAGES, GROUPS),
            }
        }

        /// The result, and the gradients of the prompts and of every weight that `form` uses.
        fn run(&self, form: Form) -> Vec<Tensor<1>> {
            let weights = self.weights.tracked();
            let prompts = self.prompts.clone().autodiff().require_grad();
            let out = form(&weights, prompts.clone(), &self.tokens);
            let mut gradients = (out.clone() * self.upstream.clone()).sum().backward();
            let mut results = vec![out.inner().flatten(0, 2)];
            results.push(prompts.grad_remove(&mut gradients).unwrap().flatten(0, 2));
            for weight in weights.values() {
                results.extend(weight.grad_remove(&mut gradients));
            }
            results
        }

        /// The slope of `form` along a random direction through the prompts, against its gradient.
        fn check_slope(&self, form: Form) {
            let gradient = self.run(form).swap_remove(1);
            let direction = self.prompts.random_like(Distribution::Normal(0.0, 1.0));
            let value = |by: f64| -> f64 {
                let prompts = self.prompts.clone() + direction.clone() * by;
                let out = form(&self.weights, prompts, &self.tokens) * self.upstream.clone();
                out.into_data().iter::<f32>().map(f64::from).sum()
            };
            let step = 2e-3;
            let slope = (value(step) - value(-step)) / (2.0 * step);
            let expected: f32 = (gradient * direction.flatten(0, 2)).sum().into_scalar();
            let apart = (slope - f64::from(expected)).abs();
            assert!(apart < 5e-3 * slope.abs().max(1.0), "{slope}, {expected}");
        }
    }

    fn assert_close(ours: &[Tensor<1>], theirs: &[Tensor<1>]) {
        assert_eq!(ours.len(), theirs.len());
        for (index, (a, b)) in ours.iter().zip(theirs).enumerate() {
            let scale: f32 = b.clone().abs().max().into_scalar();
            let worst: f32 = (a.clone() - b.clone()).abs().max().into_scalar();
            assert!(
                worst <= 2e-5 * scale.max(1.0),
                "result {index}: worst {worst} at scale {scale}"
            );
        }
    }

    fn block(weights: &Weights) -> Block<'_> {
        Block {
            weights,
            heads: HEADS,
            name: "gpa.blocks.0".into(),
        }
    }

    #[test]
    fn the_encoder_as_one_operation_equals_its_straight_form() {
        for copies in [1, IMAGES] {
            let case = Case::new(copies);
            let fused = |weights: &Weights, prompts, tokens: &Tensor<3>| {
                block(weights).read(prompts, tokens)
            };
            let straight = |weights: &Weights, prompts, tokens: &Tensor<3>| {
                block(weights).attend(prompts, standardise(tokens.clone()))
            };
            let results = case.run(&fused);
            assert_eq!(results.len(), 2 + 4);
            assert_close(&results, &case.run(&straight));
            case.check_slope(&fused);
        }
    }

    #[test]
    fn the_refinement_as_one_operation_equals_its_straight_form() {
        for copies in [1, IMAGES] {
            let case = Case::new(copies);
            let fused = |weights: &Weights, prompts, tokens: &Tensor<3>| {
                let maps = Refinement {
                    query: weights.linear("gpa.query"),
                    key: weights.linear("gpa.key").0,
                    value: weights.linear("gpa.value"),
                };
                maps.attend(prompts, tokens, 0.3).0
            };
            let straight = |weights: &Weights, prompts, tokens: &Tensor<3>| {
                composed_refinement(RefinementSoftmax::Tokens, 0.3, weights, prompts, tokens).0
            };
            let mut theirs = case.run(&straight);
            // Rounding is all that the key bias's gradient holds; the operation has none.
            let bias = theirs.remove(5);
            let size: f32 = bias.abs().max().into_scalar();
            assert!(size < 1e-5, "{size}");
            assert_close(&case.run(&fused), &theirs);
            case.check_slope(&fused);
        }
    }
}
