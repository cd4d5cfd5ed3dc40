//! Layers that several methods share: linear maps over tokens, windows of the token grid, batch normalisation.

use burn::tensor::Tensor;

use super::MethodError;
use crate::batch::Dims;
use crate::fused::batch_norm;
pub(super) use crate::fused::convolution::windows;
use crate::fused::linear;
use crate::parameters::{Spec, Start, Weights};

/// Added to a variance before its root.
const NORM_EPSILON: f32 = 1e-5;
/// Share of a batch in the running statistics.
const NORM_MOMENTUM: f64 = 0.1;

/// The grid `[H, W]` that the tokens of an image stand on, row by row; only square grids are known.
///
/// # Errors
/// [`MethodError::Setting`] when the number of tokens is no square; `method` is for the message.
pub(super) fn grid(dims: &Dims, method: &str) -> Result<[usize; 2], MethodError> {
    let side = dims.tokens.isqrt();
    if side * side == dims.tokens {
        return Ok([side; 2]);
    }
    Err(MethodError::Setting(format!(
        "kind: {method} needs tokens on a square grid, and these are {} an image",
        dims.tokens
    )))
}

/// `x W + b` over the last dimension of `x [A, R, inputs]`, with the weights of this name.
pub(super) fn map(weights: &Weights, name: &str, x: Tensor<3>) -> Tensor<3> {
    let (weight, bias) = weights.linear(name);
    linear::linear(x, weight, bias)
}

/// [`map`] and then the leaky ReLU of this slope; with 0 the ReLU.
pub(super) fn leaky_map(weights: &Weights, name: &str, x: Tensor<3>, slope: f32) -> Tensor<3> {
    let (weight, bias) = weights.linear(name);
    linear::leaky(x, weight, bias, slope)
}

/// `x W` likewise, without a bias.
pub(super) fn product(weights: &Weights, name: &str, x: Tensor<3>) -> Tensor<3> {
    let weight: Tensor<2> = weights.get(&format!("{name}.weight"));
    let [outer, rows, inputs] = x.dims();
    let outputs = weight.dims()[1];
    let flat = x.reshape([outer * rows, inputs]).matmul(weight);
    flat.reshape([outer, rows, outputs])
}

/// A weight `[inputs, outputs]` of a linear map without bias.
pub(super) fn product_spec(name: &str, inputs: usize, outputs: usize) -> Spec {
    Spec::new(
        format!("{name}.weight"),
        &[inputs, outputs],
        Start::linear(inputs),
    )
}

/// Scale, shift, running mean and running variance of a batch normalisation.
pub(super) fn norm_specs(name: &str, channels: usize) -> [Spec; 4] {
    let spec = |part: &str, start: f32| {
        Spec::new(
            format!("{name}.{part}"),
            &[channels],
            Start::Constant(start),
        )
    };
    [
        spec("gamma", 1.0),
        spec("beta", 0.0),
        spec("mean", 0.0).kept(),
        spec("variance", 1.0).kept(),
    ]
}

/// Batch normalisation of every channel of `x [B, N, C]` over images and tokens: with the statistics of the batch where
/// `kept` takes the running ones' new values, otherwise with the running ones.
pub(super) fn batch_norm(
    weights: &Weights,
    name: &str,
    x: Tensor<3>,
    kept: Option<&mut Vec<(String, Tensor<1>)>>,
) -> Tensor<3> {
    let [images, tokens, channels] = x.dims();
    let get = |part: &str| -> Tensor<1> { weights.get(&format!("{name}.{part}")) };
    let row = |values: Tensor<1>| -> Tensor<3> { values.reshape([1, 1, channels]) };
    let Some(kept) = kept else {
        let scale = get("gamma") / (get("variance") + f64::from(NORM_EPSILON)).sqrt();
        let shift = get("beta") - get("mean") * scale.clone();
        return x * row(scale) + row(shift);
    };
    let (out, [mean, variance]) =
        batch_norm::batch_norm(x, get("gamma"), get("beta"), NORM_EPSILON);
    let count = (images * tokens) as f64;
    let unbiased = count / (count - 1.0).max(1.0);
    for (part, now, factor) in [("mean", mean, 1.0), ("variance", variance, unbiased)] {
        let before = get(part).inner() * (1.0 - NORM_MOMENTUM);
        kept.push((
            format!("{name}.{part}"),
            before + now * (NORM_MOMENTUM * factor),
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// Two channels over two images of two tokens: means 2 and 0, variances 1 and 4 (unbiased 4/3 and 16/3).
    #[test]
    fn a_batch_is_normalised_by_hand() {
        let values = vec![1.0, 2.0, 3.0, -2.0, 1.0, -2.0, 3.0, 2.0];
        let data = TensorData::new(values, [2, 2, 2]);
        let x = Tensor::<3>::from_data(data, &Device::flex());
        let start = [2.0, 1.0, 0.0, 10.0, 0.5, 0.5, 3.0, 0.0];
        let specs = norm_specs("n", 2).to_vec();
        let values = specs.iter().zip(start.chunks(2));
        let values = values.map(|(spec, v)| (spec.name.clone(), v.to_vec()));
        let weights = Weights::from_values(specs.clone(), values.collect(), &Device::flex());
        let weights = weights.unwrap();
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);

        let mut kept = Vec::new();
        let out = batch_norm(&weights, "n", x.clone(), Some(&mut kept));
        let expected = [-2.0, 11.0, 2.0, 9.0, -2.0, 9.0, 2.0, 11.0];
        assert!(near(&crate::device::host(&out), &expected));
        let running: Vec<(&str, Vec<f32>)> = kept
            .iter()
            .map(|(name, value)| (name.as_str(), crate::device::host(value)))
            .collect();
        assert_eq!(running[0].0, "n.mean");
        assert!(near(&running[0].1, &[0.9 * 0.5 + 0.2, 0.45]));
        assert!(near(&running[1].1, &[2.7 + 0.4 / 3.0, 1.6 / 3.0]));

        // With the running statistics 0.5 and 3 of the first channel: (1 - 0.5) / sqrt(3) * 2.
        let out = batch_norm(&weights, "n", x, None);
        assert!(near(&crate::device::host(&out)[..1], &[1.0 / 3f32.sqrt()]));
    }

    #[test]
    fn a_grid_is_square() {
        let dims = |tokens| Dims {
            tokens,
            width: 1,
            label_width: 1,
            labels: 1,
            unseen: 0,
            global: None,
        };
        assert_eq!(grid(&dims(196), "LESA").unwrap(), [14, 14]);
        assert!(
            grid(&dims(197), "LESA")
                .unwrap_err()
                .to_string()
                .contains("LESA")
        );
    }
}
