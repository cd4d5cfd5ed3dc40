//! SigLIP's attention pooling head (Zhai et al., "Scaling Vision Transformers", 2022): a learnt probe asks all tokens at once,
//! and one MLP block follows. The query is the same for every image, so the keys' map is folded into it, and the values' map
//! is applied to the tokens' weighted sums: two small products an image instead of two large ones.

use std::ops::Range;

use super::vit::{activation, map, norm};
use super::weights::{BlockConfig, PoolWeights};
use epsilon_kernels::finish::After;
use epsilon_kernels::linear::{Arithmetic, LinearMap};
use epsilon_kernels::packed::Rows;
use epsilon_kernels::rows::{Norm, layer_norm};

/// The head, ready to run; in f32 whatever the blocks are in.
pub(super) struct AttentionPool {
    dim: usize,
    /// A score a head of every token, `[heads, dim]`.
    scores: LinearMap,
    /// `[dim / heads, dim]` for each head.
    values: Vec<LinearMap>,
    proj: LinearMap,
    norm: Norm,
    fc1: LinearMap,
    activation: After,
    fc2: LinearMap,
}

/// Working memory.
#[derive(Default)]
pub(super) struct PoolScratch {
    scores: Vec<f32>,
    weights: Vec<f32>,
    sum: Vec<f32>,
    joined: Vec<f32>,
    normed: Vec<f32>,
    hidden: Vec<f32>,
}

impl AttentionPool {
    pub(super) fn new(weights: PoolWeights, config: &BlockConfig) -> Self {
        let (dim, heads) = (config.dim, config.heads);
        let width = dim / heads;
        let part = |of: usize| -> (&[f32], &[f32]) {
            let rows = of * dim..(of + 1) * dim;
            let qkv = &weights.qkv;
            (
                &qkv.weight[rows.start * dim..rows.end * dim],
                &qkv.bias[rows],
            )
        };
        let ((ask, ask_bias), (keys, _), (values, values_bias)) = (part(0), part(1), part(2));
        let scale = 1.0 / (width as f32).sqrt();
        let query = ask.chunks_exact(dim).zip(ask_bias);
        let query = query.map(|(row, bias)| (dot(row, &weights.probe) + bias) * scale);
        // q.(K x + k) is (K'q).x and a constant, which the softmax over the tokens does not see.
        let mut folded = vec![0.0; heads * dim];
        for (output, (query, key)) in query.zip(keys.chunks_exact(dim)).enumerate() {
            let row = &mut folded[output / width * dim..][..dim];
            row.iter_mut()
                .zip(key)
                .for_each(|(sum, key)| *sum += query * key);
        }
        let value = |rows: Range<usize>| {
            LinearMap::part(values, values_bias, rows, 0..dim, Arithmetic::F32)
        };
        let exact = |linear| map(linear, Arithmetic::F32);
        Self {
            dim,
            scores: LinearMap::new(&folded, &vec![0.0; heads], Arithmetic::F32),
            values: (0..heads)
                .map(|head| value(head * width..(head + 1) * width))
                .collect(),
            proj: exact(&weights.proj),
            fc1: exact(&weights.fc1),
            activation: activation(config.activation),
            fc2: exact(&weights.fc2),
            norm: norm(weights.norm, config.layer_norm_eps),
        }
    }

    /// One vector of all tokens, `[dim]`.
    pub(super) fn pool(&self, tokens: Rows, s: &mut PoolScratch, out: &mut [f32]) {
        let (dim, heads) = (self.dim, self.values.len());
        s.scores.resize(tokens.count * heads, 0.0);
        self.scores
            .apply(tokens.into(), After::Store, &mut s.scores, heads);
        s.joined.resize(dim, 0.0);
        s.sum.resize(dim, 0.0);
        for (head, map) in self.values.iter().enumerate() {
            s.weights.clear();
            s.weights.extend(s.scores.iter().skip(head).step_by(heads));
            softmax(&mut s.weights);
            s.sum.fill(0.0);
            for (token, weight) in tokens.iter(dim).zip(&s.weights) {
                let pairs = s.sum.iter_mut().zip(token);
                pairs.for_each(|(sum, value)| *sum += weight * value);
            }
            let sum = Rows {
                data: &s.sum,
                stride: dim,
                count: 1,
            };
            let out = &mut s.joined[head * map.outputs()..];
            map.apply(sum.into(), After::Store, out, dim);
        }
        self.finish(1, s, out);
    }

    /// What the head would make of each token if it were the only one, `[count, dim]`: vectors in the space of the pooled one.
    pub(super) fn each(&self, tokens: Rows, s: &mut PoolScratch, out: &mut [f32]) {
        s.joined.resize(tokens.count * self.dim, 0.0);
        for (head, map) in self.values.iter().enumerate() {
            let out = &mut s.joined[head * map.outputs()..];
            map.apply(tokens.into(), After::Store, out, self.dim);
        }
        self.finish(tokens.count, s, out);
    }

    /// What follows the attention: `y = proj(joined)`, then `y + fc2(activation(fc1(norm(y))))`.
    fn finish(&self, count: usize, s: &mut PoolScratch, out: &mut [f32]) {
        let (dim, hidden) = (self.dim, self.fc1.outputs());
        let rows = |data, stride| Rows {
            data,
            stride,
            count,
        };
        self.proj
            .apply(rows(&s.joined, dim).into(), After::Store, out, dim);
        s.normed.resize(count * dim, 0.0);
        for (row, normed) in out.chunks_exact(dim).zip(s.normed.chunks_exact_mut(dim)) {
            layer_norm(row, &self.norm, normed);
        }
        s.hidden.resize(count * hidden, 0.0);
        let normed = rows(&s.normed, dim).into();
        self.fc1
            .apply(normed, self.activation, &mut s.hidden, hidden);
        self.fc2
            .apply(rows(&s.hidden, hidden).into(), After::Add, out, dim);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn softmax(values: &mut [f32]) {
    let top = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values
        .iter_mut()
        .for_each(|value| *value = (*value - top).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::{Activation, Linear, NormWeights};

    fn wave(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    fn head(dim: usize, hidden: usize, heads: usize) -> AttentionPool {
        let linear = |outputs: usize, inputs: usize, step: f32| Linear {
            weight: wave(outputs * inputs, step).into(),
            bias: wave(outputs, 2.0 * step),
        };
        let weights = PoolWeights {
            probe: wave(dim, 0.3),
            qkv: linear(3 * dim, dim, 0.7),
            proj: linear(dim, dim, 0.9),
            norm: NormWeights {
                weight: wave(dim, 0.2),
                bias: wave(dim, 0.4),
            },
            fc1: linear(hidden, dim, 1.1),
            fc2: linear(dim, hidden, 1.3),
        };
        let config = BlockConfig {
            dim,
            depth: 1,
            heads,
            hidden,
            layer_norm_eps: 1e-6,
            activation: Activation::TanhGelu,
            causal: false,
        };
        AttentionPool::new(weights, &config)
    }

    #[test]
    fn equal_tokens_pool_to_what_each_of_them_gives() {
        let (pool, token) = (head(12, 20, 3), wave(12, 0.77));
        let tokens = token.repeat(5);
        let rows = Rows {
            data: &tokens,
            stride: 12,
            count: 5,
        };
        let (mut room, mut pooled, mut each) = (PoolScratch::default(), [0.0; 12], [0.0; 60]);
        pool.pool(rows, &mut room, &mut pooled);
        pool.each(rows, &mut room, &mut each);
        for row in each.chunks_exact(12) {
            let worst = row.iter().zip(&pooled);
            let worst = worst
                .map(|(a, b)| (a - b).abs())
                .max_by(f32::total_cmp)
                .unwrap_or_default();
            assert!(worst < 1e-4, "{worst} apart");
        }
        // Other tokens pool to something else, whatever the room was used for before.
        let other = wave(60, 0.5);
        let rows = Rows {
            data: &other,
            ..rows
        };
        let (mut fresh, mut again) = ([0.0; 12], [0.0; 12]);
        pool.pool(rows, &mut room, &mut again);
        pool.pool(rows, &mut PoolScratch::default(), &mut fresh);
        assert_eq!(fresh, again);
        assert_ne!(fresh, pooled);
    }
}
