//! Clusters of label vectors, by k-means.

use burn::tensor::{Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::batch::Batch;
use epsilon_data::labels::LabelVectors;

/// Starts of which the best counts.
const STARTS: usize = 10;
/// Rounds after which a start ends that has not settled before.
const ROUNDS: usize = 300;
/// Seed of the starts, so that the centres depend on nothing but the vectors.
const SEED: u64 = 42;

/// Centres `[count, d_w]` of the labels' vectors, row-major, of at most as many clusters as labels: k-means from starts drawn by
/// k-means++. They depend on nothing but the vectors.
pub(super) fn centres(labels: &LabelVectors, count: usize) -> Vec<f32> {
    if labels.len() <= count {
        return labels.values().to_vec();
    }
    let rng = &mut ChaCha8Rng::seed_from_u64(SEED);
    let starts = (0..STARTS).map(|_| settled(labels, start(labels, count, rng)));
    let best = starts.min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or_else(Vec::new, |(_, centres)| centres)
}

/// The first centres by k-means++: each a label's vector, drawn with the square of its distance to the centres before it.
fn start(labels: &LabelVectors, count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut centres = labels.row(rng.random_range(0..labels.len())).to_vec();
    while centres.len() < count * labels.dim() {
        let (_, apart) = assign(labels, &centres);
        let mut left = rng.random::<f32>() * apart.iter().sum::<f32>();
        let drawn = apart.iter().position(|&square| {
            left -= square;
            left < 0.0
        });
        // Where no vector is apart from the centres, or rounding leaves something, the last one.
        centres.extend_from_slice(labels.row(drawn.unwrap_or(labels.len() - 1)));
    }
    centres
}

/// Moves centres to the means of their clusters until they stay; with the sum of the squares of the distances to them.
fn settled(labels: &LabelVectors, mut centres: Vec<f32>) -> (f32, Vec<f32>) {
    let width = labels.dim();
    let mut nearest = Vec::new();
    for _ in 0..ROUNDS {
        let (now, _) = assign(labels, &centres);
        if now == nearest {
            break;
        }
        nearest = now;
        for (cluster, centre) in centres.chunks_exact_mut(width).enumerate() {
            let members = (0..labels.len()).filter(|&label| nearest[label] == cluster);
            let members: Vec<&[f32]> = members.map(|label| labels.row(label)).collect();
            // A centre that has lost all its labels stays where it is.
            for (channel, value) in centre
                .iter_mut()
                .enumerate()
                .filter(|_| !members.is_empty())
            {
                let sum: f32 = members.iter().map(|row| row[channel]).sum();
                *value = sum / members.len() as f32;
            }
        }
    }
    let (_, apart) = assign(labels, &centres);
    (apart.iter().sum(), centres)
}

/// Each label's nearest centre, and the square of its distance.
fn assign(labels: &LabelVectors, centres: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let rows = labels.values().par_chunks_exact(labels.dim());
    rows.map(|row| closest(centres, row)).unzip()
}

/// The centre nearest to a vector, the first of equals, and the square of its distance.
fn closest(centres: &[f32], vector: &[f32]) -> (usize, f32) {
    let square = |centre: &[f32]| -> f32 {
        let pairs = centre.iter().zip(vector);
        pairs.map(|(a, b)| (a - b).powi(2)).sum()
    };
    let all = centres.chunks_exact(vector.len()).map(square).enumerate();
    let best = all.min_by(|a, b| a.1.total_cmp(&b.1));
    best.unwrap_or((0, 0.0))
}

/// Which centre is nearest to each label of a batch, as ones and zeros `[count, C]`.
pub(super) fn nearest(centres: &[f32], batch: &Batch) -> Tensor<2> {
    let labels = &batch.label_vectors_host;
    let (clusters, count) = (centres.len() / labels.dim(), labels.len());
    let mut chosen = vec![0.0; clusters * count];
    for (label, cluster) in assign(labels, centres).0.into_iter().enumerate() {
        chosen[cluster * count + label] = 1.0;
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

    /// Centres in order, for they come in any.
    fn sorted(centres: &[f32]) -> Vec<[f32; 2]> {
        let mut rows: Vec<[f32; 2]> = centres.chunks_exact(2).map(|c| [c[0], c[1]]).collect();
        rows.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
        rows
    }

    #[test]
    fn two_clusters_by_hand() {
        let labels = labels(&[[0.0, 1.0], [0.0, 3.0], [8.0, 0.0], [10.0, 0.0]]);
        let found = centres(&labels, 2);
        assert_eq!(sorted(&found), [[0.0, 2.0], [9.0, 0.0]]);
        assert_eq!(found, centres(&labels, 2));
    }

    /// Three groups on a line, of which a poor start would part one and join two.
    #[test]
    fn three_clusters_of_unequal_size_by_hand() {
        let mut points = vec![[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]];
        points.extend([[40.0, 1.0], [42.0, 1.0], [50.0, 1.0]]);
        let found = centres(&labels(&points), 3);
        assert_eq!(sorted(&found), [[1.5, 1.0], [41.0, 1.0], [50.0, 1.0]]);
    }

    #[test]
    fn equal_vectors_share_a_cluster() {
        let found = centres(&labels(&[[1.0, 2.0]; 4]), 2);
        assert_eq!(found, [1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn as_many_labels_as_clusters_are_their_own_centres() {
        assert_eq!(centres(&labels(&[[1.0, 2.0]]), 1), [1.0, 2.0]);
    }
}
