//! An LSTM over several sequences of known inputs, as one operation on the CPU device. The inputs of all steps meet their
//! weights in one product, a sequence ends where its inputs do, and the weights' gradient is one product over all steps.

use std::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::finish::Finish;
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::packed::{self, Packed, Rows};
use epsilon_kernels::vector::{self, add, add_column_sums};

/// Outputs `[T, H]` of an LSTM that begins each sequence with nothing but zeros. `x [T, E]` holds the inputs of one sequence
/// after the other, of these lengths; `weight [E + H, 4 H]` and `bias` are those of the gates: input, forget, new, output.
pub(crate) fn lstm(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    lengths: &[usize],
) -> Tensor<2> {
    if !runs_on(&x) {
        return by_the_framework(x, weight, bias, lengths);
    }
    let [rows, inputs] = x.dims();
    let hidden = weight.dims()[1] / 4;
    let sizes = Lstm {
        inputs,
        hidden,
        lengths: lengths.to_vec(),
    };
    let inputs = [x.into(), weight.into(), bias.into()];
    run(sizes, inputs, [rows, hidden]).0
}

/// Output and cell `[rows, H]` after one more step on inputs `[rows, E]`.
pub(crate) fn step(
    x: Tensor<2>,
    [output, cell]: [Tensor<2>; 2],
    weight: Tensor<2>,
    bias: Tensor<1>,
) -> [Tensor<2>; 2] {
    let hidden = cell.dims()[1];
    let gates = Tensor::cat(vec![x, output], 1).matmul(weight) + bias.unsqueeze();
    let gate = |place: usize| gates.clone().narrow(1, place * hidden, hidden);
    let (input, forget, new) = (sigmoid(gate(0)), sigmoid(gate(1)), gate(2).tanh());
    let cell = forget * cell + input * new;
    [sigmoid(gate(3)) * cell.clone().tanh(), cell]
}

fn by_the_framework(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    lengths: &[usize],
) -> Tensor<2> {
    let hidden = weight.dims()[1] / 4;
    let zeros = Tensor::zeros([1, hidden], &x.device().inner());
    let (mut outputs, mut first) = (Vec::new(), 0);
    for length in lengths {
        let mut memory = [zeros.clone(), zeros.clone()];
        for row in first..first + length {
            let x = x.clone().narrow(0, row, 1);
            memory = step(x, memory, weight.clone(), bias.clone());
            outputs.push(memory[0].clone());
        }
        first += length;
    }
    Tensor::cat(outputs, 0)
}

#[derive(Debug, Clone)]
struct Lstm {
    inputs: usize,
    hidden: usize,
    lengths: Vec<usize>,
}

/// What the backward pass reads, a row a step of a sequence.
#[derive(Debug, Default)]
struct Kept {
    /// Gates after their activations, `[T, 4 H]`.
    gates: Vec<f32>,
    /// `[T, H]`.
    cells: Vec<f32>,
    outputs: Vec<f32>,
}

/// Some of the sequences, which one thread follows.
struct Share {
    sequences: Range<usize>,
    rows: Range<usize>,
}

impl Lstm {
    fn rows(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// The sequences in as many shares as there are threads, at most.
    fn shares(&self) -> Vec<Share> {
        let count = self.lengths.len();
        let size = count.div_ceil(rayon::current_num_threads()).max(1);
        let mut row = 0;
        let share = |first: usize| {
            let sequences = first..count.min(first + size);
            let start = row;
            row += self.lengths[sequences.clone()].iter().sum::<usize>();
            Share {
                sequences,
                rows: start..row,
            }
        };
        (0..count).step_by(size).map(share).collect()
    }

    /// Of a share's sequences that have a step of this number: each one's place, and the step's row, both from the share's
    /// first.
    fn active(&self, share: &Share, step: usize) -> Vec<(usize, usize)> {
        let mut row = 0;
        let lengths = &self.lengths[share.sequences.clone()];
        let all = lengths.iter().enumerate().map(|(place, &length)| {
            let at = row + step;
            row += length;
            (place, at, length)
        });
        all.filter(|&(.., length)| step < length)
            .map(|(place, at, _)| (place, at))
            .collect()
    }

    fn longest(&self, share: &Share) -> usize {
        let lengths = &self.lengths[share.sequences.clone()];
        lengths.iter().copied().max().unwrap_or(0)
    }

    /// `gates` hold what the inputs alone contribute.
    fn forward_of(
        &self,
        share: &Share,
        recurrent: &Packed,
        [gates, cells, outputs]: [&mut [f32]; 3],
    ) {
        let hidden = self.hidden;
        let (mut before, mut met) = (Vec::new(), Vec::new());
        for step in 0..self.longest(share) {
            let active = self.active(share, step);
            if step > 0 {
                gather(
                    outputs,
                    active.iter().map(|&(_, row)| row - 1),
                    hidden,
                    &mut before,
                );
                rows_product(&before, active.len(), recurrent, &mut met, 4 * hidden);
                for (&(_, row), met) in active.iter().zip(met.chunks_exact(4 * hidden)) {
                    add(met, &mut gates[row * 4 * hidden..][..4 * hidden]);
                }
            }
            for (_, row) in active {
                let (done, now) = cells.split_at_mut(row * hidden);
                let previous = (step > 0).then(|| &done[(row - 1) * hidden..]);
                cell_forward(
                    &mut gates[row * 4 * hidden..][..4 * hidden],
                    previous,
                    &mut now[..hidden],
                    &mut outputs[row * hidden..][..hidden],
                );
            }
        }
    }

    /// Gradients of the gates before their activations, `[rows, 4 H]`.
    fn backward_of(
        &self,
        share: &Share,
        recurrent: &Packed,
        kept: &Kept,
        upstream: &[f32],
        slopes: &mut [f32],
    ) {
        let (hidden, count) = (self.hidden, share.sequences.len());
        let of = |values: &[f32], width: usize, row: usize| -> Vec<f32> {
            values[(share.rows.start + row) * width..][..width].to_vec()
        };
        // What comes back from the step after, of every sequence.
        let mut from_output = vec![0.0; count * hidden];
        let mut from_cell = vec![0.0; count * hidden];
        let (mut now, mut back) = (Vec::new(), Vec::new());
        for step in (0..self.longest(share)).rev() {
            let active = self.active(share, step);
            for &(place, row) in &active {
                let mut gradient = of(upstream, hidden, row);
                add(&from_output[place * hidden..][..hidden], &mut gradient);
                let previous = (step > 0).then(|| of(&kept.cells, hidden, row - 1));
                cell_backward(
                    &of(&kept.gates, 4 * hidden, row),
                    previous.as_deref(),
                    &of(&kept.cells, hidden, row),
                    &gradient,
                    &mut from_cell[place * hidden..][..hidden],
                    &mut slopes[row * 4 * hidden..][..4 * hidden],
                );
            }
            if step == 0 {
                break;
            }
            gather(
                slopes,
                active.iter().map(|&(_, row)| row),
                4 * hidden,
                &mut now,
            );
            rows_product(&now, active.len(), recurrent, &mut back, hidden);
            for (&(place, _), back) in active.iter().zip(back.chunks_exact(hidden)) {
                from_output[place * hidden..][..hidden].copy_from_slice(back);
            }
        }
    }

    /// What each step has read, `[T, E + H]`: its input and the output before it.
    fn read(&self, x: &[f32], outputs: &[f32]) -> Vec<f32> {
        let (inputs, hidden) = (self.inputs, self.hidden);
        let mut read = vec![0.0; self.rows() * (inputs + hidden)];
        let steps = self.lengths.iter().flat_map(|&length| 0..length);
        for (row, (read, step)) in read
            .chunks_exact_mut(inputs + hidden)
            .zip(steps)
            .enumerate()
        {
            read[..inputs].copy_from_slice(&x[row * inputs..][..inputs]);
            if step > 0 {
                read[inputs..].copy_from_slice(&outputs[(row - 1) * hidden..][..hidden]);
            }
        }
        read
    }
}

/// Some rows of a matrix of this width, side by side.
fn gather(values: &[f32], rows: impl Iterator<Item = usize>, width: usize, out: &mut Vec<f32>) {
    out.clear();
    rows.for_each(|row| out.extend_from_slice(&values[row * width..][..width]));
}

/// `out = rows weight`, `[count, outputs]`.
fn rows_product(rows: &[f32], count: usize, weight: &Packed, out: &mut Vec<f32>, outputs: usize) {
    out.resize(count * outputs, 0.0);
    let rows = Rows {
        data: rows,
        stride: rows.len() / count,
        count,
    };
    packed::product(rows, weight, Finish::PLAIN, out, outputs);
}

/// Replaces the gates by their activations and computes cell and output.
fn cell_forward(gates: &mut [f32], previous: Option<&[f32]>, cell: &mut [f32], output: &mut [f32]) {
    let hidden = cell.len();
    let (sigmoids, rest) = gates.split_at_mut(2 * hidden);
    let (news, outs) = rest.split_at_mut(hidden);
    vector::sigmoid(sigmoids);
    vector::tanh(news);
    vector::sigmoid(outs);
    let (input, forget) = sigmoids.split_at(hidden);
    for i in 0..hidden {
        cell[i] = input[i] * news[i];
    }
    if let Some(previous) = previous {
        for i in 0..hidden {
            cell[i] += forget[i] * previous[i];
        }
    }
    output.copy_from_slice(cell);
    vector::tanh(output);
    for (output, out) in output.iter_mut().zip(&*outs) {
        *output *= out;
    }
}

/// From the gradient of a step's output and that of its cell from the step after: `slopes`, those of the gates before their
/// activations; `from_cell` becomes the gradient of the cell before.
fn cell_backward(
    gates: &[f32],
    previous: Option<&[f32]>,
    cell: &[f32],
    gradient: &[f32],
    from_cell: &mut [f32],
    slopes: &mut [f32],
) {
    let hidden = gradient.len();
    let (input, rest) = gates.split_at(hidden);
    let (forget, rest) = rest.split_at(hidden);
    let (new, out) = rest.split_at(hidden);
    let (to_input, rest) = slopes.split_at_mut(hidden);
    let (to_forget, rest) = rest.split_at_mut(hidden);
    let (to_new, to_out) = rest.split_at_mut(hidden);
    let zeros = vec![0.0; hidden];
    let previous = previous.unwrap_or(&zeros);
    let mut seen = cell.to_vec();
    vector::tanh(&mut seen);
    for i in 0..hidden {
        let seen = seen[i];
        let of_cell = from_cell[i] + gradient[i] * out[i] * (1.0 - seen * seen);
        to_input[i] = of_cell * new[i] * input[i] * (1.0 - input[i]);
        to_forget[i] = of_cell * previous[i] * forget[i] * (1.0 - forget[i]);
        to_new[i] = of_cell * input[i] * (1.0 - new[i] * new[i]);
        to_out[i] = gradient[i] * seen * out[i] * (1.0 - out[i]);
        from_cell[i] = of_cell * forget[i];
    }
}

/// The parts of a slice of rows of this width that belong to each share.
fn split<'a>(mut values: &'a mut [f32], shares: &[Share], width: usize) -> Vec<&'a mut [f32]> {
    let mut parts = Vec::with_capacity(shares.len());
    for share in shares {
        let (part, rest) = values.split_at_mut(share.rows.len() * width);
        parts.push(part);
        values = rest;
    }
    parts
}

impl Operation<3> for Lstm {
    type Kept = Kept;

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], keep: bool) -> (Vec<f32>, Kept) {
        let (rows, inputs, hidden) = (self.rows(), self.inputs, self.hidden);
        let mut gates = bias.repeat(rows);
        let (of_inputs, of_outputs) = weight.split_at(inputs * 4 * hidden);
        product(
            &mut gates,
            Into::Add,
            Matrix::new(x, rows, inputs),
            Matrix::new(of_inputs, inputs, 4 * hidden),
            rayon::current_num_threads(),
        );
        let mut recurrent = Packed::default();
        recurrent.fill(of_outputs, 4 * hidden, 4 * hidden);
        let (mut cells, mut outputs) = (vec![0.0; rows * hidden], vec![0.0; rows * hidden]);
        let shares = self.shares();
        let parts = split(&mut gates, &shares, 4 * hidden)
            .into_iter()
            .zip(split(&mut cells, &shares, hidden))
            .zip(split(&mut outputs, &shares, hidden));
        let parts: Vec<_> = parts.collect();
        parts
            .into_par_iter()
            .zip(&shares)
            .for_each(|(((gates, cells), outputs), share)| {
                self.forward_of(share, &recurrent, [gates, cells, outputs]);
            });
        if !keep {
            return (outputs, Kept::default());
        }
        let kept = Kept {
            gates,
            cells,
            outputs: outputs.clone(),
        };
        (outputs, kept)
    }

    fn backward(
        &self,
        [x, weight, _]: [&[f32]; 3],
        kept: &Kept,
        upstream: &[f32],
        wanted: [bool; 3],
    ) -> [Vec<f32>; 3] {
        let (rows, inputs, hidden) = (self.rows(), self.inputs, self.hidden);
        let threads = rayon::current_num_threads();
        let (of_inputs, of_outputs) = weight.split_at(inputs * 4 * hidden);
        let recurrent = Packed::transposed(of_outputs, 4 * hidden, 4 * hidden);
        let mut slopes = vec![0.0; rows * 4 * hidden];
        let shares = self.shares();
        let parts = split(&mut slopes, &shares, 4 * hidden);
        parts
            .into_par_iter()
            .zip(&shares)
            .for_each(|(slopes, share)| {
                self.backward_of(share, &recurrent, kept, upstream, slopes);
            });
        let gradient = Matrix::new(&slopes, rows, 4 * hidden);
        let mut out = [Vec::new(), Vec::new(), Vec::new()];
        if wanted[0] {
            out[0] = vec![0.0; x.len()];
            let weight = Matrix::new(of_inputs, inputs, 4 * hidden).transposed();
            product(&mut out[0], Into::Replace, gradient, weight, threads);
        }
        if wanted[1] {
            out[1] = vec![0.0; weight.len()];
            let read = self.read(x, &kept.outputs);
            let read = Matrix::new(&read, rows, inputs + hidden).transposed();
            product(&mut out[1], Into::Replace, read, gradient, threads);
        }
        if wanted[2] {
            out[2] = vec![0.0; 4 * hidden];
            add_column_sums(&slopes, &mut out[2]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        const INPUTS: usize = 5;
        const HIDDEN: usize = 7;
        let lengths = [3, 1, 4, 2, 0, 2];
        let rows = lengths.iter().sum::<usize>();
        let device = Device::flex();
        device.seed(5);
        let draw = |length: usize| -> Tensor<1> {
            Tensor::random([length], Distribution::Normal(0.0, 0.7), &device)
        };
        let leaves = [
            draw(rows * INPUTS),
            draw((INPUTS + HIDDEN) * 4 * HIDDEN),
            draw(4 * HIDDEN),
        ];
        let upstream = draw(rows * HIDDEN).reshape([rows, HIDDEN]);
        let run = |ours: bool| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [x, weight, bias] = leaves.clone();
            let x = x.reshape([rows, INPUTS]);
            let weight = weight.reshape([INPUTS + HIDDEN, 4 * HIDDEN]);
            let out = match ours {
                true => lstm(x, weight, bias, &lengths),
                false => by_the_framework(x, weight, bias, &lengths),
            };
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            let mut results = vec![out.inner().flatten::<1>(0, 1)];
            results.extend(leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap()));
            results
        };
        for (ours, theirs) in run(true).into_iter().zip(run(false)) {
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 2e-5, "{worst} apart");
        }
    }
}
