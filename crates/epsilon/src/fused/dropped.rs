//! A residual sum with dropout as one operation on the CPU device, and the draw of its mask on all threads.

use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use crate::batch::InTurn;
use epsilon_kernels::vector::add_product;

/// Values that a thread takes at once.
const CHUNK: usize = 1 << 14;
/// Words of the generator's stream that one draw of a yes or no takes.
const WORDS: u128 = 2;

/// For each value 0 with the probability `rate` and else `1 / (1 - rate)`: the draws of one generator, one after the other,
/// whatever the number of threads. The values are as many for each of the images that are drawn for.
pub(crate) fn mask(count: usize, rate: f64, draws: &mut InTurn) -> Vec<f32> {
    draws.for_images(count, WORDS, |rng| mask_of(count, rate, &rng))
}

fn mask_of(count: usize, rate: f64, rng: &ChaCha8Rng) -> Vec<f32> {
    let kept = 1.0 / (1.0 - rate as f32);
    let start = rng.get_word_pos();
    let mut mask = vec![0.0; count];
    mask.par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(place, mask)| {
            let mut rng = rng.clone();
            rng.set_word_pos(start.wrapping_add(WORDS * (place * CHUNK) as u128));
            mask.fill_with(|| if rng.random_bool(rate) { 0.0 } else { kept });
        });
    mask
}

/// `base + dropout(x)`, with [`mask`]'s draws.
pub(crate) fn add_dropped(
    base: Tensor<3>,
    x: Tensor<3>,
    rate: f64,
    draws: &mut InTurn,
) -> Tensor<3> {
    if rate == 0.0 {
        return base + x;
    }
    let shape = x.dims();
    let mask = mask(shape.iter().product(), rate, draws);
    if !runs_on(&x) {
        let device = x.device().inner();
        return base + x * Tensor::from_data(TensorData::new(mask, shape), &device);
    }
    run(Dropped { mask }, [base.into(), x.into()], shape).0
}

#[derive(Debug, Clone)]
struct Dropped {
    mask: Vec<f32>,
}

impl Operation<2> for Dropped {
    type Kept = ();

    fn forward(&self, [base, x]: [&[f32]; 2], _: bool) -> (Vec<f32>, ()) {
        let mut out = base.to_vec();
        self.add_masked(x, &mut out);
        (out, ())
    }

    fn backward(&self, _: [&[f32]; 2], (): &(), upstream: &[f32], _: [bool; 2]) -> [Vec<f32>; 2] {
        let mut masked = vec![0.0; upstream.len()];
        self.add_masked(upstream, &mut masked);
        [upstream.to_vec(), masked]
    }
}

impl Dropped {
    fn add_masked(&self, x: &[f32], out: &mut [f32]) {
        out.par_chunks_mut(CHUNK)
            .zip(x.par_chunks(CHUNK))
            .zip(self.mask.par_chunks(CHUNK))
            .for_each(|((out, x), mask)| add_product(x, mask, out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Draws;
    use burn::tensor::Device;

    #[test]
    fn the_draws_are_those_of_one_generator() {
        let mut draws = Draws::of(5, 0, 0).in_turn();
        let _: u64 = draws.rng.random();
        let mut other = draws.rng.clone();
        let drawn = mask(CHUNK + 100, 0.25, &mut draws);
        let expected: Vec<f32> = (0..CHUNK + 100)
            .map(|_| {
                if other.random_bool(0.25) {
                    0.0
                } else {
                    1.0 / 0.75
                }
            })
            .collect();
        assert_eq!(drawn, expected);
        assert_eq!(draws.rng.random::<u64>(), other.random::<u64>());
    }

    #[test]
    fn shares_of_a_step_draw_what_the_whole_step_draws() {
        let step = Draws::of(3, 4, 0);
        let drawn = |draws: Draws, images: usize| {
            let mut draws = draws.in_turn();
            let first: u64 = draws.rng.random();
            let masks = [7, CHUNK].map(|width| mask(images * width, 0.5, &mut draws));
            (first, masks, draws.rng.random::<u64>())
        };
        let (first, whole, last) = drawn(step, 5);
        let mut masks = [Vec::new(), Vec::new()];
        for range in [0..2, 2..2, 2..5] {
            let share = drawn(step.of_images(range.clone(), 5), range.len());
            assert_eq!(
                (share.0, share.2),
                (first, if range.is_empty() { share.2 } else { last })
            );
            let both = masks.iter_mut().zip(share.1);
            both.for_each(|(all, more)| all.extend(more));
        }
        assert_eq!(masks, whole);
    }

    #[test]
    fn a_sum_and_its_gradients_by_hand() {
        let device = Device::flex();
        let leaf = |values: Vec<f32>| {
            let data = TensorData::new(values, [1, 1, 4]);
            Tensor::<3>::from_data(data, &device)
                .autodiff()
                .require_grad()
        };
        let (base, x) = (leaf(vec![1.0; 4]), leaf(vec![2.0, 4.0, 6.0, 8.0]));
        let draws = || Draws::of(1, 0, 0).in_turn();
        let mask = mask(4, 0.5, &mut draws());
        let out = add_dropped(base.clone(), x.clone(), 0.5, &mut draws());
        let expected: Vec<f32> = (0..4).map(|i| 1.0 + mask[i] * (2 + 2 * i) as f32).collect();
        assert_eq!(crate::device::host(&out.clone().inner()), expected);
        let mut gradients = out.sum().backward();
        let gradient = |leaf: &Tensor<3>, gradients: &mut _| {
            crate::device::host(&leaf.grad_remove(gradients).unwrap())
        };
        assert_eq!(gradient(&x, &mut gradients), mask);
        assert_eq!(gradient(&base, &mut gradients), [1.0; 4]);
    }
}
