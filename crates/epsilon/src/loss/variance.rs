//! The two variance terms: how far an image's positive labels lie apart (omega), and its semantic vectors (L_reg).

use burn::tensor::Tensor;

use crate::batch::Targets;
use epsilon_data::labels::LabelVectors;

/// `omega = 1 + sum over d_w of the unbiased variance of the positive labels' vectors`, 1 when there is one; one value
/// an image.
///
/// ```
/// use epsilon::batch::Targets;
/// use epsilon::labels::LabelVectors;
/// use epsilon::loss::omega;
///
/// let names = vec!["sea".to_string(), "sky".to_string()];
/// let labels = LabelVectors::new(names, 2, vec![1.0, 0.0, 0.0, 1.0]).unwrap();
/// let targets = Targets::new(vec![1, -1, 1, 1], 2);
/// assert_eq!(omega(&targets, &labels), [1.0, 2.0]);
/// ```
pub fn omega(targets: &Targets, labels: &LabelVectors) -> Vec<f32> {
    targets
        .rows()
        .map(|row| {
            let positives: Vec<&[f32]> = (0..row.len())
                .filter(|&c| row[c] > 0)
                .map(|c| labels.row(c))
                .collect();
            (1.0 + summed_variance(&positives)) as f32
        })
        .collect()
}

/// Sum over dimensions of the unbiased variance over vectors; 0 for fewer than two.
fn summed_variance(vectors: &[&[f32]]) -> f64 {
    let Some((first, rest)) = vectors.split_first() else {
        return 0.0;
    };
    if rest.is_empty() {
        return 0.0;
    }
    let count = vectors.len() as f64;
    (0..first.len())
        .map(|d| {
            let mean = vectors.iter().map(|v| f64::from(v[d])).sum::<f64>() / count;
            let squares: f64 = vectors
                .iter()
                .map(|v| (f64::from(v[d]) - mean).powi(2))
                .sum();
            squares / (count - 1.0)
        })
        .sum()
}

/// `L_reg` of every image, `[B]`: the sum over d_w of the unbiased variance of `S [B, M, d_w]` over the M groups.
/// Equal groups give 0, and so does M = 1.
///
/// The paper does not say which variance; the unbiased one is that of the public code of the methods it builds on.
pub fn group_variance(semantics: Tensor<3>) -> Tensor<1> {
    let [images, groups, _] = semantics.dims();
    if groups == 1 {
        return semantics.sum_dim(1).sum_dim(2).reshape([images]) * 0.0;
    }
    let centred = semantics.clone() - semantics.mean_dim(1);
    let squares = (centred.clone() * centred).sum_dim(2).sum_dim(1);
    squares.reshape([images]) / (groups - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn labels() -> LabelVectors {
        let names = ["a", "b", "c"].map(String::from).to_vec();
        LabelVectors::new(names, 2, vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8]).unwrap()
    }

    #[test]
    fn omega_by_hand() {
        let targets = Targets::new(vec![1, -1, -1, 1, 1, -1, 1, 1, 1], 3);
        let omega = omega(&targets, &labels());
        assert_eq!(omega[0], 1.0);
        // (1,0) and (0,1): each dimension has variance 1/2.
        assert!((omega[1] - 2.0).abs() < 1e-6);
        // values 1, 0, .6 and 0, 1, .8: variances .2533.. and .28
        assert!((omega[2] - (1.0 + 0.253_333_33 + 0.28)).abs() < 1e-6);
    }

    #[test]
    fn group_variance_by_hand() {
        let device = Device::flex();
        let make = |values: Vec<f32>, groups| {
            Tensor::<3>::from_data(TensorData::new(values, [1, groups, 2]), &device)
        };
        let value = |tensor| crate::device::host(&group_variance(tensor))[0];
        assert_eq!(value(make(vec![3.0, 4.0, 3.0, 4.0], 2)), 0.0);
        assert_eq!(value(make(vec![3.0, 4.0], 1)), 0.0);
        // channel 0: 1, 3 -> 2; channel 1: 0, 4 -> 8
        assert_eq!(value(make(vec![1.0, 0.0, 3.0, 4.0], 2)), 10.0);
    }
}
