//! Layers that several methods share: linear maps over tokens, windows of the token grid, batch normalisation.

use burn::tensor::Tensor;

use super::MethodError;
use crate::batch::Dims;
use crate::fused::linear;
use crate::parameters::{Spec, Start, Weights};

/// Added to a variance before its root.
const NORM_EPSILON: f64 = 1e-5;
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

/// The tokens in a `size x size` window at every place of the grid, side by side: `[B, H' W', size^2 D]`, so that a
/// convolution is a linear map of them. With `padded` places outside the grid hold zeros and the grid keeps its shape (odd
/// sizes); otherwise it shrinks by `size - 1`.
pub(super) fn windows(
    x: Tensor<3>,
    [height, width]: [usize; 2],
    size: usize,
    padded: bool,
) -> Tensor<3> {
    let [images, _, channels] = x.dims();
    let mut grid = x.reshape([images, height, width, channels]);
    let (mut rows, mut columns) = (height, width);
    if padded {
        let edge = size / 2;
        let across = Tensor::zeros([images, height, edge, channels], &grid.device());
        grid = Tensor::cat(vec![across.clone(), grid, across], 2);
        let above = Tensor::zeros([images, edge, width + 2 * edge, channels], &grid.device());
        grid = Tensor::cat(vec![above.clone(), grid, above], 1);
    } else {
        (rows, columns) = (height + 1 - size, width + 1 - size);
    }
    let window = |place: usize| {
        let (down, right) = (place / size, place % size);
        grid.clone().narrow(1, down, rows).narrow(2, right, columns)
    };
    let windows: Vec<Tensor<4>> = (0..size * size).map(window).collect();
    Tensor::cat(windows, 3).reshape([images, rows * columns, size * size * channels])
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
        let scale = get("gamma") / (get("variance") + NORM_EPSILON).sqrt();
        let shift = get("beta") - get("mean") * scale.clone();
        return x * row(scale) + row(shift);
    };
    let count = images * tokens;
    let flat = x.clone().reshape([count, channels]);
    let mean = flat.clone().mean_dim(0);
    let centred = flat - mean.clone();
    let variance = centred.clone().powf_scalar(2.0).mean_dim(0);
    let unbiased = count as f64 / (count as f64 - 1.0).max(1.0);
    let statistics = [
        ("mean", mean, 1.0),
        ("variance", variance.clone(), unbiased),
    ];
    for (part, now, factor) in statistics {
        let now = now.inner().reshape([channels]) * (NORM_MOMENTUM * factor);
        let before = get(part).inner() * (1.0 - NORM_MOMENTUM);
        kept.push((format!("{name}.{part}"), before + now));
    }
    let normed = centred / (variance + NORM_EPSILON).sqrt();
    let normed = normed.reshape([images, tokens, channels]);
    normed * row(get("gamma")) + row(get("beta"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn tokens(values: Vec<f32>, channels: usize) -> Tensor<3> {
        let count = values.len() / channels;
        Tensor::from_data(
            TensorData::new(values, [1, count, channels]),
            &Device::flex(),
        )
    }

    #[test]
    fn windows_by_hand() {
        let x = tokens(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1);
        let inside = windows(x.clone(), [2, 3], 2, false);
        assert_eq!(inside.dims(), [1, 2, 4]);
        let expected = [1.0, 2.0, 4.0, 5.0, 2.0, 3.0, 5.0, 6.0];
        assert_eq!(crate::device::host(&inside), expected);
        let padded = windows(x, [2, 3], 3, true);
        assert_eq!(padded.dims(), [1, 6, 9]);
        let first = crate::device::host(&padded);
        assert_eq!(first[..9], [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 4.0, 5.0]);
    }

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
