//! Global forward propagation: M views of the tokens, each summed over the tokens with weights of its own.

use burn::tensor::{Tensor, activation};

use super::{Epsilon, GlobalSource};
use crate::batch::TrainingPrecision;
use crate::fused::gelu;
use crate::fused::gfp::{self, Gfp};
use crate::parameters::{Spec, Start, Weights};

pub(super) fn specs(settings: &Epsilon, width: usize) -> Vec<Spec> {
    let groups = settings.groups;
    let hidden = settings.hidden(width);
    let mlps = if settings.shared_mlp { 1 } else { groups };
    let mut specs = Vec::new();
    if settings.global_source == GlobalSource::Split {
        specs.extend([
            Spec::new(
                "gfp.split.weight",
                &[groups, width, width],
                Start::linear(width),
            ),
            Spec::new("gfp.split.bias", &[groups, width], Start::linear(width)),
        ]);
    }
    let (first, second) = (Start::linear(width), Start::linear(hidden));
    specs.extend([
        Spec::new("gfp.fc1.weight", &[mlps, width, hidden], first),
        Spec::new("gfp.fc1.bias", &[mlps, hidden], first),
        Spec::new("gfp.fc2.weight", &[mlps, hidden, width], second),
        Spec::new("gfp.fc2.bias", &[mlps, width], second),
    ]);
    specs
}

/// `GoS [B, M, D]` of tokens `[B, N, D]`: `S^m = sum_n FG^m . softmax_n(MLP^m(FG^m))`, element-wise per channel.
///
/// The second bias of the MLP adds the same to a channel of every token, so the softmax over tokens does not see it.
pub(super) fn forward(
    settings: &Epsilon,
    weights: &Weights,
    tokens: &Tensor<3>,
    precision: TrainingPrecision,
) -> Tensor<3> {
    let fc1: Tensor<3> = weights.get("gfp.fc1.weight");
    let bias1: Tensor<2> = weights.get("gfp.fc1.bias");
    let fc2: Tensor<3> = weights.get("gfp.fc2.weight");
    let split = (settings.global_source == GlobalSource::Split).then(|| {
        (
            weights.get("gfp.split.weight"),
            weights.get("gfp.split.bias"),
        )
    });
    match split {
        Some((split, bias)) if !settings.shared_mlp && gfp::runs_on(tokens) => gfp::forward(
            tokens,
            Gfp {
                split,
                bias,
                fc1,
                bias1,
                fc2,
            },
            precision,
        ),
        split => composed(settings.groups, tokens, split, fc1, bias1, fc2),
    }
}

/// How much of each token of one image a group's global semantics take: its weights `softmax_n(MLP(FG))`, the mean over the
/// channels, `[N]`.
pub(super) fn shares(
    settings: &Epsilon,
    weights: &Weights,
    tokens: &Tensor<3>,
    group: usize,
) -> Tensor<1> {
    let mlp = if settings.shared_mlp { 0 } else { group };
    let of = |name: &str, place: usize| -> Tensor<2> {
        let weight: Tensor<3> = weights.get(name);
        weight.narrow(0, place, 1).squeeze_dim(0)
    };
    let bias = |name: &str, place: usize| -> Tensor<2> {
        let bias: Tensor<2> = weights.get(name);
        bias.narrow(0, place, 1)
    };
    let mut global: Tensor<2> = tokens.clone().squeeze_dim(0);
    if settings.global_source == GlobalSource::Split {
        global = global.matmul(of("gfp.split.weight", group)) + bias("gfp.split.bias", group);
    }
    let inner = global.matmul(of("gfp.fc1.weight", mlp)) + bias("gfp.fc1.bias", mlp);
    let logits = gelu::composed(inner).matmul(of("gfp.fc2.weight", mlp));
    activation::softmax(logits, 0).mean_dim(1).squeeze_dim(1)
}

/// The straight form, from the framework's own operations: every setting, any device.
fn composed(
    groups: usize,
    tokens: &Tensor<3>,
    split: Option<(Tensor<3>, Tensor<2>)>,
    fc1: Tensor<3>,
    bias1: Tensor<2>,
    fc2: Tensor<3>,
) -> Tensor<3> {
    let [images, count, width] = tokens.dims();
    let rows = images * count;
    let flat = tokens
        .clone()
        .reshape([1, rows, width])
        .expand([groups, rows, width]);
    // [M, B N, D]
    let global = match split {
        Some((split, bias)) => flat.matmul(split) + bias.unsqueeze_dim(1),
        None => flat,
    };
    let [mlps, hidden] = bias1.dims();
    let spread = |weight: Tensor<3>| {
        let [_, inputs, outputs] = weight.dims();
        weight.expand([groups, inputs, outputs])
    };
    let inner = global.clone().matmul(spread(fc1)) + bias1.reshape([mlps, 1, hidden]);
    let logits = gelu::composed(inner).matmul(spread(fc2));
    let weights = activation::softmax(logits.reshape([groups, images, count, width]), 2);
    (global.reshape([groups, images, count, width]) * weights)
        .sum_dim(2)
        .reshape([groups, images, width])
        .swap_dims(0, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, TensorData};

    const SIZES: [usize; 5] = [5, 9, 20, 8, 3];

    /// What computes GFP.
    #[derive(Clone, Copy, PartialEq)]
    enum Form {
        Composed,
        Fused(TrainingPrecision),
    }

    /// Tokens, weights (flat) and the gradient of the result.
    struct Case {
        tokens: Tensor<3>,
        leaves: [Tensor<1>; 5],
        upstream: Tensor<3>,
    }

    impl Case {
        fn new() -> Self {
            let device = Device::flex();
            device.seed(5);
            let draw = |shape: &[usize]| -> Tensor<1> {
                let length = shape.iter().product::<usize>();
                Tensor::random([length], Distribution::Normal(0.0, 0.5), &device)
            };
            let [images, count, width, hidden, groups] = SIZES;
            Self {
                tokens: draw(&[images, count, width]).reshape([images, count, width]),
                leaves: [
                    draw(&[groups, width, width]),
                    draw(&[groups, width]),
                    draw(&[groups, width, hidden]),
                    draw(&[groups, hidden]),
                    draw(&[groups, hidden, width]),
                ],
                upstream: draw(&[images, groups, width]).reshape([images, groups, width]),
            }
        }

        fn forward(&self, leaves: [Tensor<1>; 5], form: Form) -> Tensor<3> {
            let [_, _, width, hidden, groups] = SIZES;
            let [split, bias, fc1, bias1, fc2] = leaves;
            let split = split.reshape([groups, width, width]);
            let bias = bias.reshape([groups, width]);
            let fc1 = fc1.reshape([groups, width, hidden]);
            let bias1 = bias1.reshape([groups, hidden]);
            let fc2 = fc2.reshape([groups, hidden, width]);
            match form {
                Form::Composed => {
                    composed(groups, &self.tokens, Some((split, bias)), fc1, bias1, fc2)
                }
                Form::Fused(precision) => {
                    let weights = Gfp {
                        split,
                        bias,
                        fc1,
                        bias1,
                        fc2,
                    };
                    gfp::forward(&self.tokens, weights, precision)
                }
            }
        }

        /// The result and the five gradients, flat.
        fn run(&self, form: Form) -> Vec<Tensor<1>> {
            let leaves = self
                .leaves
                .clone()
                .map(|leaf| leaf.autodiff().require_grad());
            let out = self.forward(leaves.clone(), form);
            let mut gradients = (out.clone() * self.upstream.clone()).sum().backward();
            let mut results = vec![out.inner().flatten(0, 2)];
            results.extend(leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap()));
            results
        }
    }

    fn assert_close(ours: &[Tensor<1>], theirs: &[Tensor<1>], tolerance: f32) {
        for (a, b) in ours.iter().zip(theirs) {
            let scale: f32 = b.clone().abs().max().into_scalar();
            let worst: f32 = (a.clone() - b.clone()).abs().max().into_scalar();
            assert!(
                worst <= tolerance * scale.max(1e-3),
                "worst {worst} at scale {scale}"
            );
        }
    }

    #[test]
    fn fused_equals_composed() {
        let case = Case::new();
        let fused = case.run(Form::Fused(TrainingPrecision::F32));
        assert_close(&fused, &case.run(Form::Composed), 2e-5);
    }

    #[test]
    fn bf16_is_near() {
        if !epsilon_kernels::bf16::available() {
            eprintln!("skipped: this CPU has no AVX-512 bf16 instructions");
            return;
        }
        let case = Case::new();
        let rounded = case.run(Form::Fused(TrainingPrecision::Bf16));
        assert_close(
            &rounded,
            &case.run(Form::Fused(TrainingPrecision::F32)),
            0.03,
        );
        // Scores are always computed in f32.
        let plain = case.forward(case.leaves.clone(), Form::Fused(TrainingPrecision::Bf16));
        let exact = case.forward(case.leaves.clone(), Form::Fused(TrainingPrecision::F32));
        let apart: f32 = (plain - exact).abs().max().into_scalar();
        assert_eq!(apart, 0.0);
    }

    /// The slope along a random direction through each weight, against the hand-written gradient.
    #[test]
    fn gradients_by_finite_differences() {
        let case = Case::new();
        let gradients = case.run(Form::Fused(TrainingPrecision::F32)).split_off(1);
        for (which, gradient) in gradients.iter().enumerate() {
            let direction = case.leaves[which].random_like(Distribution::Normal(0.0, 1.0));
            let value = |by: f64| -> f64 {
                let mut leaves = case.leaves.clone();
                leaves[which] = leaves[which].clone() + direction.clone() * by;
                let out = case.forward(leaves, Form::Fused(TrainingPrecision::F32));
                let data: TensorData = (out * case.upstream.clone()).into_data();
                data.iter::<f32>().map(f64::from).sum()
            };
            let step = 2e-3;
            let slope = (value(step) - value(-step)) / (2.0 * step);
            let expected: f32 = (gradient.clone() * direction.clone()).sum().into_scalar();
            let apart = (slope - f64::from(expected)).abs();
            assert!(
                apart < 2e-3 * slope.abs().max(1.0),
                "weight {which}: {slope}, {expected}"
            );
        }
    }
}
