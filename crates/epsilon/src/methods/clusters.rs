//! Clusters of label vectors, by k-means.

use burn::tensor::{Tensor, TensorData};
use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_clustering::KMeans;
use ndarray::Array2;

use crate::batch::Batch;
use epsilon_data::labels::LabelVectors;

/// Centres `[count, d_w]` of the labels' vectors, row-major, of at most as many clusters as labels. They depend on nothing but
/// the vectors.
pub fn centres(labels: &LabelVectors, count: usize) -> Vec<f32> {
    let values = labels.values().to_vec();
    if labels.len() == count {
        return values;
    }
    let shape = (labels.len(), labels.dim());
    let points = Array2::from_shape_vec(shape, values).expect("as many values as the shape");
    // The library's generator starts from a seed of its own; k-means++ starts, the best of ten runs.
    let clusters = KMeans::params(count).fit(&DatasetBase::from(points));
    let clusters = clusters.expect("finite vectors, more of them than clusters");
    clusters.centroids().iter().copied().collect()
}

/// Which centre is nearest to each label of a batch, as ones and zeros `[count, C]`.
pub fn nearest(centres: &[f32], batch: &Batch) -> Tensor<2> {
    let labels = &batch.label_vectors_host;
    let (width, count) = (labels.dim(), labels.len());
    let clusters = centres.len() / width;
    let mut chosen = vec![0.0; clusters * count];
    for label in 0..count {
        let vector = labels.row(label);
        let distance = |cluster: usize| -> f32 {
            let centre = &centres[cluster * width..(cluster + 1) * width];
            centre
                .iter()
                .zip(vector)
                .map(|(a, b)| (a - b).powi(2))
                .sum()
        };
        let all = (0..clusters).map(|cluster| (distance(cluster), cluster));
        let best = all.min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, cluster)) = best {
            chosen[cluster * count + label] = 1.0;
        }
    }
    let device = batch.label_vectors.device().inner();
    Tensor::from_data(TensorData::new(chosen, [clusters, count]), &device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(points: &[[f32; 2]]) -> LabelVectors {
        let names = (0..points.len()).map(|i| i.to_string()).collect();
        LabelVectors::new(names, 2, points.concat()).unwrap()
    }

    #[test]
    fn two_clusters_by_hand() {
        let labels = labels(&[[0.0, 1.0], [0.0, 3.0], [8.0, 0.0], [10.0, 0.0]]);
        let mut found = centres(&labels, 2);
        if found[0] > found[2] {
            found.rotate_left(2);
        }
        // The library stops when the centres hardly move any more.
        let apart = found
            .iter()
            .zip([0.0, 2.0, 9.0, 0.0])
            .map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f32::max) < 1e-3, "{found:?}");
        assert_eq!(centres(&labels, 2), centres(&labels, 2));
    }

    #[test]
    fn as_many_labels_as_clusters_are_their_own_centres() {
        assert_eq!(centres(&labels(&[[1.0, 2.0]]), 1), [1.0, 2.0]);
    }
}
