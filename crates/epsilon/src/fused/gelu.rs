//! GELU as one operation with its own backward pass, on all cores of the CPU device; the framework's own elsewhere.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Device, Tensor, activation};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::device;
use crate::profile::fused;
use epsilon_kernels::vector;

/// Values a thread takes at once.
const CHUNK: usize = 1 << 14;

/// `x Phi(x)`, element by element.
pub(crate) fn gelu(x: Tensor<3>) -> Tensor<3> {
    if !fused() || x.device().inner() != Device::flex() {
        return activation::gelu(x);
    }
    let shape = x.dims();
    if !x.is_autodiff() {
        let values = run_forward(device::values(&device::flex(x)));
        return Tensor::from_primitive::<Flex>(device::flex_from(values, &shape));
    }
    let (x, node) = device::flex_parts(x);
    let output = device::flex_from(run_forward(device::values(&x)), &shape);
    let result = match Step
        .prepare::<NoCheckpointing>([node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(step) => step.finish(x, output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(result)
}

fn run_forward(x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let chunks = out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
    chunks.for_each(|(out, x)| vector::gelu(x, out));
    out
}

#[derive(Debug)]
struct Step;

impl Backward<Flex, 1> for Step {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let [Some(parent)] = ops.parents else { return };
        let x = device::values(&ops.state);
        let mut gradient = device::values(&upstream).to_vec();
        gradient
            .par_chunks_mut(CHUNK)
            .zip(x.par_chunks(CHUNK))
            .for_each(|(gradient, x)| {
                let mut again = vec![0.0; x.len()];
                vector::gelu_backward(x, &mut again, gradient);
            });
        gradients.register::<Flex>(
            parent.id,
            device::flex_from(gradient, ops.state.layout().shape()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    #[test]
    fn equals_the_frameworks_with_its_gradient() {
        let device = Device::flex();
        device.seed(7);
        let x: Tensor<3> = Tensor::random([3, 70, 101], Distribution::Normal(0.0, 2.0), &device);
        let upstream: Tensor<3> = Tensor::random([3, 70, 101], Distribution::Default, &device);
        let run = |gelu: &dyn Fn(Tensor<3>) -> Tensor<3>| {
            let leaf = x.clone().autodiff().require_grad();
            let out = gelu(leaf.clone());
            let mut gradients = (out.clone() * upstream.clone()).sum().backward();
            [out.inner(), leaf.grad_remove(&mut gradients).unwrap()]
        };
        for (ours, theirs) in run(&gelu).iter().zip(run(&activation::gelu)) {
            let worst: f32 = (ours.clone() - theirs).abs().max().into_scalar();
            assert!(worst < 2e-6, "{worst} apart");
        }
        let plain: f32 = (gelu(x.clone()) - activation::gelu(x))
            .abs()
            .max()
            .into_scalar();
        assert!(plain < 2e-6, "{plain} apart");
    }
}
