//! In which order photographs are best reviewed: each next one is most like the doubtful photographs that none before is like.
//!
//! Photographs are compared by how they look, `k(i, j) = max(0, cos(x_i, x_j))^2` with the mean photograph taken off. The order is
//! the greedy one for the sum over all photographs j of `d_j max_i k(i, j)`, i running over those reviewed or chosen before (facility
//! location; Nemhauser et al. 1978: at least 1 - 1/e of what any choice reaches), with the doubt `d_j` of the model over the
//! labels of j. So one of many that are alike comes first, and the others after photographs that look otherwise.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Photographs that stand for all where there are more.
const STAND_FOR_ALL: usize = 2000;
/// Photographs among which the next one is chosen, and reviewed ones that count, where there are more.
const CANDIDATES: usize = 4000;
const SEED: u64 = 0x0DDE;

/// How images look: their global vector and the mean of their tokens, row-major.
pub fn look(tokens: &[f32], global: &[f32], images: usize, width: usize) -> Vec<f32> {
    let mut looks = Vec::new();
    let (of_tokens, of_global) = (tokens.len() / images.max(1), global.len() / images.max(1));
    for image in 0..images {
        looks.extend(&global[image * of_global..][..of_global]);
        let tokens = &tokens[image * of_tokens..][..of_tokens];
        let count = (of_tokens / width.max(1)).max(1) as f32;
        let mut mean = vec![0.0; width];
        for token in tokens.chunks_exact(width.max(1)) {
            for (mean, value) in mean.iter_mut().zip(token) {
                *mean += value / count;
            }
        }
        looks.extend(mean);
    }
    looks
}

/// What is known of photographs.
#[derive(Clone, Copy)]
pub struct Looks<'a> {
    /// How each looks, row-major `[photographs, width]`; no row needs to have unit length.
    pub vectors: &'a [f32],
    /// Width of a row.
    pub width: usize,
    /// The model's doubt, at least 0, likewise; all alike where it is not known.
    pub doubt: &'a [f32],
    /// Whether each is reviewed.
    pub reviewed: &'a [bool],
}

/// At most `count` photographs that are not reviewed, the one that teaches most first. The same for the same photographs.
///
/// ```
/// use epsilon::coverage::{Looks, most_telling};
///
/// // Three that look alike, two that look otherwise.
/// let vectors = [1.0, 0.0, 0.9, 0.1, 0.9, -0.1, -1.0, 0.1, -1.0, -0.1];
/// let looks = Looks { vectors: &vectors, width: 2, doubt: &[1.0; 5], reviewed: &[false; 5] };
/// let order = most_telling(&looks, 2);
/// assert!(order[0] < 3 && order[1] >= 3, "one of each: {order:?}");
/// ```
pub fn most_telling(looks: &Looks, count: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut sample = |of: Vec<usize>, most: usize| {
        let mut of = of;
        if of.len() > most {
            of.shuffle(&mut rng);
            of.truncate(most);
            of.sort_unstable();
        }
        of
    };
    let all: Vec<usize> = (0..looks.reviewed.len()).collect();
    let (reviewed, open): (Vec<usize>, Vec<usize>) =
        all.iter().partition(|&&at| looks.reviewed[at]);
    let all = sample(all, STAND_FOR_ALL);
    let (reviewed, open) = (sample(reviewed, CANDIDATES), sample(open, CANDIDATES));
    let mean = mean(looks);
    let rows = |of: &[usize]| -> Vec<Vec<f32>> {
        of.par_iter().map(|&at| unit(looks, &mean, at)).collect()
    };
    let (clients, known) = (rows(&all), rows(&reviewed));
    let mut cover: Vec<f32> = clients
        .par_iter()
        .map(|client| {
            known
                .iter()
                .map(|row| alike(client, row))
                .fold(0.0, f32::max)
        })
        .collect();
    let gains: Vec<Vec<f32>> = rows(&open)
        .par_iter()
        .map(|row| clients.iter().map(|client| alike(row, client)).collect())
        .collect();
    let weights: Vec<f32> = all.iter().map(|&at| looks.doubt[at]).collect();
    greedy(&gains, &weights, &mut cover, count)
        .into_iter()
        .map(|at| open[at])
        .collect()
}

/// The candidates that add most to what is covered, one after the other. What a candidate adds never grows as others are chosen, so
/// one that adds more than all others once did need not be compared with them again.
fn greedy(alike: &[Vec<f32>], weights: &[f32], cover: &mut [f32], count: usize) -> Vec<usize> {
    let gain = |at: usize, cover: &[f32]| -> f32 {
        let each = alike[at].iter().zip(cover).zip(weights);
        each.map(|((alike, cover), weight)| weight * (alike - cover).max(0.0))
            .sum()
    };
    let gains = (0..alike.len()).into_par_iter();
    let gains = gains.map(|at| Candidate {
        gain: gain(at, cover),
        at,
    });
    let mut heap: BinaryHeap<Candidate> = gains.collect::<Vec<_>>().into();
    let mut chosen = Vec::new();
    while let (Some(Candidate { at, .. }), true) = (heap.pop(), chosen.len() < count) {
        let now = Candidate {
            gain: gain(at, cover),
            at,
        };
        if heap.peek().is_some_and(|next| *next > now) {
            heap.push(now);
            continue;
        }
        for (cover, alike) in cover.iter_mut().zip(&alike[at]) {
            *cover = cover.max(*alike);
        }
        chosen.push(at);
    }
    chosen
}

/// A candidate: the one that adds more is greater; of equal ones the earlier.
struct Candidate {
    gain: f32,
    at: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.gain
            .total_cmp(&other.gain)
            .then(other.at.cmp(&self.at))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

fn mean(looks: &Looks) -> Vec<f32> {
    let mut mean = vec![0.0; looks.width];
    let count = looks.reviewed.len().max(1) as f32;
    for row in looks.vectors.chunks_exact(looks.width) {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += value / count;
        }
    }
    mean
}

/// How a photograph differs from the mean one, of unit length.
fn unit(looks: &Looks, mean: &[f32], at: usize) -> Vec<f32> {
    let row = &looks.vectors[at * looks.width..][..looks.width];
    let mut unit: Vec<f32> = row.iter().zip(mean).map(|(a, b)| a - b).collect();
    let length = unit.iter().map(|v| v * v).sum::<f32>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    unit.iter_mut().for_each(|value| *value *= scale);
    unit
}

fn alike(a: &[f32], b: &[f32]) -> f32 {
    // Independent sums, which the compiler keeps in vector registers.
    let mut sums = [0.0_f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a
        .remainder()
        .iter()
        .zip(b.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    (sums.iter().sum::<f32>() + rest).max(0.0).powi(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::RngExt;

    use super::*;

    /// The same by looking at every photograph in every step.
    fn plain(looks: &Looks, count: usize) -> Vec<usize> {
        let mean = mean(looks);
        let rows: Vec<Vec<f32>> = (0..looks.reviewed.len())
            .map(|at| unit(looks, &mean, at))
            .collect();
        let mut taken = looks.reviewed.to_vec();
        let mut order = Vec::new();
        while order.len() < count && taken.contains(&false) {
            let cover: Vec<f32> = rows
                .iter()
                .map(|row| {
                    let near = (0..rows.len()).filter(|&at| taken[at]);
                    near.map(|at| alike(row, &rows[at])).fold(0.0, f32::max)
                })
                .collect();
            let gain = |at: usize| -> f32 {
                let each = (0..rows.len())
                    .map(|j| looks.doubt[j] * (alike(&rows[at], &rows[j]) - cover[j]).max(0.0));
                each.sum()
            };
            let open = (0..rows.len()).filter(|&at| !taken[at]);
            let best = open
                .max_by(|&a, &b| gain(a).total_cmp(&gain(b)).then(b.cmp(&a)))
                .unwrap();
            taken[best] = true;
            order.push(best);
        }
        order
    }

    #[test]
    fn doubt_and_what_is_reviewed_count() {
        let vectors = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, -1.0, -1.0];
        let order = |doubt: [f32; 5], reviewed: [bool; 5]| {
            let looks = Looks {
                vectors: &vectors,
                width: 2,
                doubt: &doubt,
                reviewed: &reviewed,
            };
            most_telling(&looks, 5)
        };
        let none = [false; 5];
        assert_eq!(order([1.0, 1.0, 9.0, 1.0, 1.0], none)[0], 2);
        let order = order([1.0; 5], [true, false, false, false, false]);
        assert_eq!(order.len(), 4);
        assert_ne!(order[0], 1, "its twin is reviewed");
        assert_eq!(order[3].min(order[2]), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn it_is_the_greedy_order(count in 0_usize..40, width in 1_usize..20, seed: u64) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let vectors: Vec<f32> = (0..count * width).map(|_| rng.random_range(-1.0..1.0)).collect();
            let doubt: Vec<f32> = (0..count).map(|_| rng.random_range(0.0..2.0)).collect();
            let reviewed: Vec<bool> = (0..count).map(|_| rng.random_bool(0.3)).collect();
            let looks = Looks { vectors: &vectors, width, doubt: &doubt, reviewed: &reviewed };
            prop_assert_eq!(most_telling(&looks, 10), plain(&looks, 10));
        }
    }
}
