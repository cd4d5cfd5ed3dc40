//! Attention among the channels of a group over the tokens of an image, as one operation with a hand-written backward pass, on
//! the CPU device; the framework's own operations elsewhere.
//!
//! With q, k, v `[N, C]` of a group, `a_i` and `b_j` the inverse lengths of q's and k's columns and t the group's temperature:
//! `L_ij = t a_i b_j q_i . k_j`, `S = softmax(L)` over j, `out = v S'`. Backwards, from `dO`: `dv = dO S`, `dS = dO' v`,
//! `dL = S (dS - sum S dS)`; with `H = k (dL b)'` and `K = q (a dL)`, `c_i = a_i q_i . H_i` and `d_j = b_j k_j . K_j`:
//! `dt = sum c`, `dq_i = t a_i (H_i - a_i c_i q_i)`, `dk_j = t b_j (K_j - b_j d_j k_j)`.

use burn::tensor::{Tensor, activation};
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::matrix::{Into, Matrix, product, product_strided};
use epsilon_kernels::rows::{scale_rows, softmax_rows, softmax_rows_backward};
use epsilon_kernels::vector::{add_product, add_scaled};

/// The least length that a column is divided by.
const SHORTEST: f32 = 1e-12;

/// `out [B G, N, C]` of `qkv [B, N, G 3 C]`, each group's queries, keys and values side by side, and `temperature [G]`.
pub(crate) fn channel_attention(qkv: Tensor<3>, temperature: Tensor<1>) -> Tensor<3> {
    if !runs_on(&qkv) {
        return composed(qkv, temperature);
    }
    let [images, tokens, width] = qkv.dims();
    let groups = temperature.dims()[0];
    let channels = width / groups / 3;
    let sizes = ChannelAttention {
        tokens,
        groups,
        channels,
    };
    let shape = [images * groups, tokens, channels];
    run(sizes, [qkv.into(), temperature.into()], shape).0
}

/// The straight form, from the framework's own operations.
fn composed(qkv: Tensor<3>, temperature: Tensor<1>) -> Tensor<3> {
    let [images, tokens, width] = qkv.dims();
    let groups = temperature.dims()[0];
    let channels = width / groups / 3;
    let qkv = qkv
        .reshape([images, tokens, groups, 3 * channels])
        .swap_dims(1, 2)
        .reshape([images * groups, tokens, 3 * channels]);
    let part = |which: usize| qkv.clone().narrow(2, which * channels, channels);
    let unit = |x: Tensor<3>| {
        let length = (x.clone() * x.clone()).sum_dim(1).sqrt();
        x / length.clamp_min(SHORTEST)
    };
    let temperature = temperature
        .reshape([1, groups, 1, 1])
        .expand([images, groups, 1, 1])
        .reshape([images * groups, 1, 1]);
    let logits = unit(part(0)).swap_dims(1, 2).matmul(unit(part(1))) * temperature;
    part(2).matmul(activation::softmax(logits, 2).swap_dims(1, 2))
}

#[derive(Debug, Clone)]
struct ChannelAttention {
    tokens: usize,
    groups: usize,
    channels: usize,
}

/// What the backward pass needs of the forward pass.
#[derive(Debug)]
struct Kept {
    /// `S [B G, C, C]`.
    attention: Vec<f32>,
    /// The inverse lengths of the columns of q and k, `[B G, 2 C]`.
    inverses: Vec<f32>,
}

impl ChannelAttention {
    /// Values of a token's row.
    fn width(&self) -> usize {
        self.groups * 3 * self.channels
    }

    fn first(&self, group: usize, part: usize) -> usize {
        (3 * group + part) * self.channels
    }

    /// Queries (0), keys (1) or values (2) of a group, `[N, C]`.
    fn part<'a>(&self, qkv: &'a [f32], group: usize, part: usize) -> Matrix<'a> {
        let from = &qkv[self.first(group, part)..];
        Matrix::strided(from, self.tokens, self.channels, self.width())
    }

    /// The rows of the same.
    fn rows<'a>(
        &self,
        qkv: &'a [f32],
        group: usize,
        part: usize,
    ) -> impl Iterator<Item = &'a [f32]> {
        let (first, channels) = (self.first(group, part), self.channels);
        qkv.chunks_exact(self.width())
            .map(move |row| &row[first..first + channels])
    }

    /// The inverse lengths of the columns of queries or keys.
    fn inverse_lengths(&self, qkv: &[f32], group: usize, part: usize, out: &mut [f32]) {
        out.fill(0.0);
        self.rows(qkv, group, part)
            .for_each(|row| add_product(row, row, out));
        out.iter_mut()
            .for_each(|x| *x = 1.0 / x.sqrt().max(SHORTEST));
    }

    /// One group of one image.
    fn attend(
        &self,
        qkv: &[f32],
        group: usize,
        temperature: f32,
        [attention, inverses, out]: [&mut [f32]; 3],
    ) {
        let channels = self.channels;
        let [query, key, value] = [0, 1, 2].map(|part| self.part(qkv, group, part));
        let (of_query, of_key) = inverses.split_at_mut(channels);
        self.inverse_lengths(qkv, group, 0, of_query);
        self.inverse_lengths(qkv, group, 1, of_key);
        product(attention, Into::Replace, query.transposed(), key, 1);
        let mut scales = vec![0.0; channels];
        for (row, &length) in attention.chunks_exact_mut(channels).zip(&*of_query) {
            scales.fill(0.0);
            add_scaled(of_key, temperature * length, &mut scales);
            let logits = row.to_vec();
            scale_rows(&logits, &scales, row);
        }
        softmax_rows(attention, channels);
        let weights = Matrix::new(attention, channels, channels).transposed();
        product(out, Into::Replace, value, weights, 1);
    }

    /// One group of one image: the gradients of its queries, keys and values, and of the temperature.
    fn attend_backward(
        &self,
        qkv: &[f32],
        group: usize,
        temperature: f32,
        [attention, inverses, upstream]: [&[f32]; 3],
        gradient: &mut [f32],
    ) -> f32 {
        let (channels, width) = (self.channels, self.width());
        let [query, key, value] = [0, 1, 2].map(|part| self.part(qkv, group, part));
        let weights = Matrix::new(attention, channels, channels);
        let upstream = Matrix::new(upstream, self.tokens, channels);
        let to = |part| self.first(group, part);
        product_strided(
            &mut gradient[to(2)..],
            width,
            Into::Replace,
            upstream,
            weights,
            1,
        );
        let mut logits = vec![0.0; channels * channels];
        product(&mut logits, Into::Replace, upstream.transposed(), value, 1);
        softmax_rows_backward(attention, &mut logits, channels);
        let (of_query, of_key) = inverses.split_at(channels);
        let mut scaled = vec![0.0; logits.len()];
        scale_rows(&logits, of_key, &mut scaled);
        let by_key = Matrix::new(&scaled, channels, channels).transposed();
        product_strided(&mut gradient[to(0)..], width, Into::Replace, key, by_key, 1);
        for (row, &length) in logits.chunks_exact_mut(channels).zip(of_query) {
            row.iter_mut().for_each(|x| *x *= length);
        }
        let by_query = Matrix::new(&logits, channels, channels);
        product_strided(
            &mut gradient[to(1)..],
            width,
            Into::Replace,
            query,
            by_query,
            1,
        );
        let dots = self.through_lengths(qkv, group, 0, of_query, temperature, gradient);
        self.through_lengths(qkv, group, 1, of_key, temperature, gradient);
        dots.iter().sum()
    }

    /// Turns what is in the place of the queries' or keys' gradient, H, into the gradient, and returns `a_i q_i . H_i`.
    fn through_lengths(
        &self,
        qkv: &[f32],
        group: usize,
        part: usize,
        inverses: &[f32],
        temperature: f32,
        gradient: &mut [f32],
    ) -> Vec<f32> {
        let (channels, first) = (self.channels, self.first(group, part));
        let mut dots = vec![0.0; channels];
        for (row, gradient) in self
            .rows(qkv, group, part)
            .zip(gradient.chunks(self.width()))
        {
            add_product(&gradient[first..first + channels], row, &mut dots);
        }
        dots.iter_mut().zip(inverses).for_each(|(dot, a)| *dot *= a);
        let scales: Vec<f32> = inverses.iter().map(|a| temperature * a).collect();
        let shares = dots.iter().zip(inverses).zip(&scales);
        let shares: Vec<f32> = shares.map(|((dot, a), scale)| -scale * a * dot).collect();
        let mut scaled = vec![0.0; channels];
        for (row, gradient) in self
            .rows(qkv, group, part)
            .zip(gradient.chunks_mut(self.width()))
        {
            let gradient = &mut gradient[first..first + channels];
            scale_rows(gradient, &scales, &mut scaled);
            add_product(row, &shares, &mut scaled);
            gradient.copy_from_slice(&scaled);
        }
        dots
    }
}

impl Operation<2> for ChannelAttention {
    type Kept = Kept;

    fn forward(&self, [qkv, temperature]: [&[f32]; 2], _: bool) -> (Vec<f32>, Kept) {
        let (channels, image) = (self.channels, self.tokens * self.width());
        let units = qkv.len() / image * self.groups;
        let mut out = vec![0.0; units * self.tokens * channels];
        let mut kept = Kept {
            attention: vec![0.0; units * channels * channels],
            inverses: vec![0.0; units * 2 * channels],
        };
        out.par_chunks_mut(self.tokens * channels)
            .zip(kept.attention.par_chunks_mut(channels * channels))
            .zip(kept.inverses.par_chunks_mut(2 * channels))
            .enumerate()
            .for_each(|(unit, ((out, attention), inverses))| {
                let (at, group) = (unit / self.groups, unit % self.groups);
                let qkv = &qkv[at * image..][..image];
                self.attend(qkv, group, temperature[group], [attention, inverses, out]);
            });
        (out, kept)
    }

    fn backward(
        &self,
        [qkv, temperature]: [&[f32]; 2],
        kept: &Kept,
        upstream: &[f32],
        _: [bool; 2],
    ) -> [Vec<f32>; 2] {
        let (channels, image) = (self.channels, self.tokens * self.width());
        let mut gradient = vec![0.0; qkv.len()];
        let of_temperature: Vec<Vec<f32>> = gradient
            .par_chunks_mut(image)
            .zip(qkv.par_chunks(image))
            .enumerate()
            .map(|(at, (gradient, qkv))| {
                let of_group = |group: usize| {
                    let unit = at * self.groups + group;
                    let part = |size: usize| unit * size..(unit + 1) * size;
                    let kept = [
                        &kept.attention[part(channels * channels)],
                        &kept.inverses[part(2 * channels)],
                        &upstream[part(self.tokens * channels)],
                    ];
                    self.attend_backward(qkv, group, temperature[group], kept, gradient)
                };
                (0..self.groups).map(of_group).collect()
            })
            .collect();
        let mut temperatures = vec![0.0; self.groups];
        for of_image in of_temperature {
            for (sum, value) in temperatures.iter_mut().zip(of_image) {
                *sum += value;
            }
        }
        [gradient, temperatures]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        let device = Device::flex();
        device.seed(41);
        let (images, groups, tokens, channels) = (2, 3, 9, 5);
        let draw = |shape: [usize; 3]| -> Tensor<3> {
            Tensor::random(shape, Distribution::Normal(0.2, 1.0), &device)
        };
        let qkv = draw([images, tokens, groups * 3 * channels]);
        // One column of the queries is nothing.
        let none = qkv.clone().narrow(2, 0, 1) * 0.0;
        let qkv = Tensor::cat(vec![none, qkv.narrow(2, 1, groups * 3 * channels - 1)], 2);
        let (temperature, upstream) = (
            draw([1, 1, groups]),
            draw([images * groups, tokens, channels]),
        );
        let run = |attention: fn(Tensor<3>, Tensor<1>) -> Tensor<3>| {
            let [qkv, temperature] =
                [&qkv, &temperature].map(|leaf| leaf.clone().autodiff().require_grad());
            let out = attention(qkv.clone(), temperature.clone().reshape([groups]));
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            // The gradient of the empty column is arbitrary: the shortest length is below rounding.
            let of_qkv = qkv.grad_remove(&mut gradients).unwrap();
            let of_qkv = of_qkv.narrow(2, 1, groups * 3 * channels - 1);
            [
                out.inner(),
                of_qkv,
                temperature.grad_remove(&mut gradients).unwrap(),
            ]
        };
        for (place, (ours, theirs)) in run(channel_attention)
            .into_iter()
            .zip(run(composed))
            .enumerate()
        {
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 2e-5, "{place}: {worst} apart");
        }
    }
}
