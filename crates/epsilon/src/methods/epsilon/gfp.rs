//! Global forward propagation: M views of the tokens, each summed over the tokens with weights of its own.

use burn::tensor::{Tensor, activation};

use super::{Epsilon, GlobalSource};
use crate::kernels::gfp::{self, Gfp};
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
pub(super) fn forward(settings: &Epsilon, weights: &Weights, tokens: &Tensor<3>) -> Tensor<3> {
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
        ),
        split => composed(settings.groups, tokens, split, fc1, bias1, fc2),
    }
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
    let logits = activation::gelu(inner).matmul(spread(fc2));
    let weights = activation::softmax(logits.reshape([groups, images, count, width]), 2);
    (global.reshape([groups, images, count, width]) * weights)
        .sum_dim(2)
        .reshape([groups, images, width])
        .swap_dims(0, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    /// The fused operation and the straight form give the same values and gradients.
    #[test]
    fn fused_equals_composed() {
        let device = Device::flex();
        device.seed(5);
        let draw = |shape: &[usize]| -> Tensor<1> {
            Tensor::random(
                [shape.iter().product::<usize>()],
                Distribution::Normal(0.0, 0.5),
                &device,
            )
        };
        let (images, count, width, hidden, groups) = (5, 9, 20, 7, 3);
        let tokens = draw(&[images, count, width]).reshape([images, count, width]);
        let leaves = [
            draw(&[groups, width, width]),
            draw(&[groups * width]),
            draw(&[groups, width, hidden]),
            draw(&[groups, hidden]),
            draw(&[groups, hidden, width]),
        ];
        let upstream: Tensor<3> = draw(&[images, groups, width]).reshape([images, groups, width]);
        let run = |fused: bool| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [split, bias, fc1, bias1, fc2] = leaves.clone();
            let split = split.reshape([groups, width, width]);
            let bias = bias.reshape([groups, width]);
            let fc1 = fc1.reshape([groups, width, hidden]);
            let bias1 = bias1.reshape([groups, hidden]);
            let fc2 = fc2.reshape([groups, hidden, width]);
            let out = if fused {
                gfp::forward(
                    &tokens,
                    Gfp {
                        split,
                        bias,
                        fc1,
                        bias1,
                        fc2,
                    },
                )
            } else {
                composed(groups, &tokens, Some((split, bias)), fc1, bias1, fc2)
            };
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            let gradients = leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap());
            (out.inner(), gradients)
        };
        let (fused, straight) = (run(true), run(false));
        assert_close(&fused.0.flatten::<1>(0, 2), &straight.0.flatten::<1>(0, 2));
        for (a, b) in fused.1.iter().zip(&straight.1) {
            assert_close(a, b);
        }
    }

    fn assert_close(a: &Tensor<1>, b: &Tensor<1>) {
        let scale: f32 = b.clone().abs().max().into_scalar();
        let worst: f32 = (a.clone() - b.clone()).abs().max().into_scalar();
        assert!(
            worst <= 2e-5 * scale.max(1e-3),
            "worst {worst} at scale {scale}"
        );
    }
}
