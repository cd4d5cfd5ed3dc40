//! A linear map with bias as one operation with its own backward pass, on the CPU device; the framework's own elsewhere.
//! The framework's products clear and copy their result, which costs more than the product where the rows are few.

use burn::tensor::Tensor;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::matrix::{Into, Matrix, product};
use epsilon_kernels::vector;

/// `x W + b` over the last dimension of `x [A, R, inputs]`; all three may need gradients.
pub(crate) fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    let [outer, rows, inputs] = x.dims();
    let [_, outputs] = weight.dims();
    let shape = [outer, rows, outputs];
    let rows = outer * rows;
    if !runs_on(&x) {
        let product = x.reshape([rows, inputs]).matmul(weight);
        return (product + bias.unsqueeze()).reshape(shape);
    }
    let sizes = Linear {
        rows,
        inputs,
        outputs,
    };
    run(sizes, [x.into(), weight.into(), bias.into()], shape).0
}

#[derive(Debug, Clone)]
struct Linear {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

impl Operation<3> for Linear {
    type Kept = ();

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], _: bool) -> (Vec<f32>, ()) {
        let mut out = vec![0.0; self.rows * self.outputs];
        let x = Matrix::new(x, self.rows, self.inputs);
        let weight = Matrix::new(weight, self.inputs, self.outputs);
        let threads = rayon::current_num_threads();
        product(&mut out, Into::Replace, x, weight, threads);
        vector::add_row(&mut out, bias);
        (out, ())
    }

    fn backward(
        &self,
        [x, weight, _]: [&[f32]; 3],
        (): &(),
        upstream: &[f32],
        wanted: [bool; 3],
    ) -> [Vec<f32>; 3] {
        let threads = rayon::current_num_threads();
        let lengths = [x.len(), weight.len(), self.outputs];
        let x = Matrix::new(x, self.rows, self.inputs).transposed();
        let weight = Matrix::new(weight, self.inputs, self.outputs).transposed();
        let gradient = Matrix::new(upstream, self.rows, self.outputs);
        let mut out =
            [0, 1, 2].map(|input| vec![0.0; if wanted[input] { lengths[input] } else { 0 }]);
        if wanted[0] {
            product(&mut out[0], Into::Replace, gradient, weight, threads);
        }
        if wanted[1] {
            product(&mut out[1], Into::Replace, x, gradient, threads);
        }
        if wanted[2] {
            vector::add_column_sums(upstream, &mut out[2]);
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
