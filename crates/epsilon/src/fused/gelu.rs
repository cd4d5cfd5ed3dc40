//! GELU as one operation with its own backward pass, on all cores of the CPU device; the framework's own elsewhere.

use burn::tensor::{Device, Tensor, activation};
use rayon::prelude::*;

use super::operation::{Operation, run, runs_on};
use epsilon_kernels::vector;

/// Values a thread takes at once.
const CHUNK: usize = 1 << 14;

/// `x Phi(x)`, element by element.
pub(crate) fn gelu(x: Tensor<3>) -> Tensor<3> {
    if !runs_on(&x) {
        return composed(x);
    }
    let shape = x.dims();
    run(Gelu, [x.into()], shape).0
}

/// The straight form, from the framework's own operations. Its GELU has the derivative of an approximation, up to 1e-3 off, on every
/// device but the CPU.
pub(crate) fn composed<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    if x.device().inner() == Device::flex() {
        return activation::gelu(x);
    }
    let twice_phi = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    x * 0.5 * twice_phi
}

#[derive(Debug, Clone)]
struct Gelu;

impl Operation<1> for Gelu {
    type Kept = ();

    fn forward(&self, [x]: [&[f32]; 1], _: bool) -> (Vec<f32>, ()) {
        let mut out = vec![0.0; x.len()];
        let chunks = out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
        chunks.for_each(|(out, x)| vector::gelu(x, out));
        (out, ())
    }

    fn backward(&self, [x]: [&[f32]; 1], (): &(), upstream: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        let mut gradient = upstream.to_vec();
        gradient
            .par_chunks_mut(CHUNK)
            .zip(x.par_chunks(CHUNK))
            .for_each(|(gradient, x)| {
                let mut again = vec![0.0; x.len()];
                vector::gelu_backward(x, &mut again, gradient);
            });
        [gradient]
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
