//! A linear map with bias as one operation with its own backward pass, on the CPU device; the framework's own elsewhere.
//! The framework's products clear and copy their result, which costs more than the product where the rows are few.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Device, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;

use crate::device;
use crate::profile::fused;
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::vector;

/// `x W + b` over the last dimension of `x [A, R, inputs]`; all three may need gradients.
pub(crate) fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    let [outer, rows, inputs] = x.dims();
    let [_, outputs] = weight.dims();
    let sizes = Sizes {
        rows: outer * rows,
        inputs,
        outputs,
    };
    let shape = [outer, rows, outputs];
    let tracked = [x.is_autodiff(), weight.is_autodiff(), bias.is_autodiff()];
    if !fused() || x.device().inner() != Device::flex() || tracked != [tracked[0]; 3] {
        let product = x.reshape([sizes.rows, inputs]).matmul(weight);
        return (product + bias.unsqueeze()).reshape(shape);
    }
    if !tracked[0] {
        let parts = [device::flex(x), device::flex(weight), device::flex(bias)];
        let out = run_forward(&sizes, &parts);
        return Tensor::from_primitive::<Flex>(device::flex_from(out, &shape));
    }
    let (x, x_node) = device::flex_parts(x);
    let (weight, weight_node) = device::flex_parts(weight);
    let (bias, bias_node) = device::flex_parts(bias);
    let parts = [x, weight, bias];
    let output = device::flex_from(run_forward(&sizes, &parts), &shape);
    let result = match Step
        .prepare::<NoCheckpointing>([x_node, weight_node, bias_node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(step) => {
            let [x, weight, _] = parts;
            step.finish(State { sizes, x, weight }, output)
        }
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(result)
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

fn run_forward(sizes: &Sizes, parts: &[FlexTensor; 3]) -> Vec<f32> {
    let [x, weight, bias] = parts.each_ref().map(device::values);
    let mut out = vec![0.0; sizes.rows * sizes.outputs];
    let x = Matrix::new(x, sizes.rows, sizes.inputs);
    let weight = Matrix::new(weight, sizes.inputs, sizes.outputs);
    let threads = rayon::current_num_threads();
    product(&mut out, Into::Replace, x, weight, threads);
    vector::add_row(&mut out, bias);
    out
}

#[derive(Debug, Clone)]
struct State {
    sizes: Sizes,
    x: FlexTensor,
    weight: FlexTensor,
}

#[derive(Debug)]
struct Step;

impl Backward<Flex, 3> for Step {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let State { sizes, x, weight } = ops.state;
        let Sizes {
            rows,
            inputs,
            outputs,
        } = sizes;
        let threads = rayon::current_num_threads();
        let pull = Matrix::new(device::values(&upstream), rows, outputs);
        let [x_parent, weight_parent, bias_parent] = ops.parents;
        if let Some(parent) = x_parent {
            let mut out = vec![0.0; rows * inputs];
            let weight = Matrix::new(device::values(&weight), inputs, outputs).transposed();
            product(&mut out, Into::Replace, pull, weight, threads);
            gradients.register::<Flex>(parent.id, device::flex_from(out, x.layout().shape()));
        }
        if let Some(parent) = weight_parent {
            let mut out = vec![0.0; inputs * outputs];
            let x = Matrix::new(device::values(&x), rows, inputs).transposed();
            product(&mut out, Into::Replace, x, pull, threads);
            gradients.register::<Flex>(parent.id, device::flex_from(out, &[inputs, outputs]));
        }
        if let Some(parent) = bias_parent {
            let mut out = vec![0.0; outputs];
            vector::add_column_sums(device::values(&upstream), &mut out);
            gradients.register::<Flex>(parent.id, device::flex_from(out, &[outputs]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    #[test]
    fn equals_the_frameworks_with_its_gradients() {
        let device = Device::flex();
        device.seed(11);
        let draw = |length: usize| -> Tensor<1> {
            Tensor::random([length], Distribution::Normal(0.0, 1.0), &device)
        };
        let leaves = [draw(3 * 5 * 7), draw(7 * 20), draw(20)];
        let upstream = draw(3 * 5 * 20).reshape([3, 5, 20]);
        let run = |ours: bool| {
            let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
            let [x, weight, bias] = leaves.clone();
            let (x, weight) = (x.reshape([3, 5, 7]), weight.reshape([7, 20]));
            let out = if ours {
                linear(x, weight, bias)
            } else {
                (x.reshape([15, 7]).matmul(weight) + bias.unsqueeze()).reshape([3, 5, 20])
            };
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            let mut results = vec![out.inner().flatten::<1>(0, 2)];
            results.extend(leaves.map(|leaf| leaf.grad_remove(&mut gradients).unwrap()));
            results
        };
        for (ours, theirs) in run(true).into_iter().zip(run(false)) {
            let worst: f32 = (ours - theirs).abs().max().into_scalar();
            assert!(worst < 2e-5, "{worst} apart");
        }
        let [x, weight, bias] = leaves.clone();
        let plain = linear(x.reshape([3, 5, 7]), weight.reshape([7, 20]), bias);
        let tracked = run(true).swap_remove(0);
        let worst: f32 = (plain.flatten::<1>(0, 2) - tracked)
            .abs()
            .max()
            .into_scalar();
        assert_eq!(worst, 0.0);
    }
}
