//! The place of a fused operation in the framework's graph: its inputs, its result and the registration of its gradients.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Device, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn_flex::FlexTensor;

use crate::device;
use crate::profile::fused;

/// An operation of N tensors over their values; what is frozen stands in the operation itself.
pub(super) trait Operation<const N: usize>: Clone + Debug + Send + 'static {
    /// What the backward pass needs of the forward pass.
    type Kept: Debug + Send + Sync + 'static;

    /// The result's values. Without `keep` there is no backward pass, and what only it needs may be left out.
    fn forward(&self, inputs: [&[f32]; N], keep: bool) -> (Vec<f32>, Self::Kept);

    /// The inputs' gradients from that of the result, `upstream`; empty where none is `wanted`, if that saves work.
    fn backward(
        &self,
        inputs: [&[f32]; N],
        kept: &Self::Kept,
        upstream: &[f32],
        wanted: [bool; N],
    ) -> [Vec<f32>; N];
}

/// Whether the fused operations run where this tensor lives: on the CPU, unless they are switched off.
pub(super) fn runs_on<const R: usize>(tensor: &Tensor<R>) -> bool {
    fused() && tensor.device().inner() == Device::flex()
}

/// A tensor of any rank with its node in the graph.
pub(super) struct Input {
    value: FlexTensor,
    node: NodeGuard,
    autodiff: bool,
}

impl<const R: usize> From<Tensor<R>> for Input {
    fn from(tensor: Tensor<R>) -> Self {
        let autodiff = tensor.is_autodiff();
        // Frozen inputs, such as label vectors, get a node whose gradient nobody asks for.
        let tensor = if autodiff { tensor } else { tensor.autodiff() };
        let (value, node) = device::flex_parts(tensor);
        Self {
            value,
            node,
            autodiff,
        }
    }
}

/// Runs an operation; its result is part of the graph where an input is. What was kept comes with it.
pub(super) fn run<O: Operation<N>, const N: usize, const R: usize>(
    operation: O,
    inputs: [Input; N],
    shape: [usize; R],
) -> (Tensor<R>, Arc<O::Kept>) {
    let autodiff = inputs.iter().any(|input| input.autodiff);
    let values = inputs.each_ref().map(|input| input.value.clone());
    let (output, kept) = operation.forward(values.each_ref().map(device::values), autodiff);
    let (output, kept) = (device::flex_from(output, &shape), Arc::new(kept));
    if !autodiff {
        return (Tensor::from_primitive::<Flex>(output), kept);
    }
    let step = Step::<O, N>(PhantomData)
        .prepare::<NoCheckpointing>(inputs.map(|input| input.node))
        .compute_bound();
    let output = match step.stateful() {
        OpsKind::Tracked(step) => {
            let state = State {
                operation,
                inputs: values,
                kept: kept.clone(),
            };
            step.finish(state, output)
        }
        OpsKind::UnTracked(step) => step.finish(output),
    };
    (Tensor::from_primitive::<Autodiff<Flex>>(output), kept)
}

#[derive(Debug)]
struct State<O: Operation<N>, const N: usize> {
    operation: O,
    inputs: [FlexTensor; N],
    kept: Arc<O::Kept>,
}

impl<O: Operation<N>, const N: usize> Clone for State<O, N> {
    fn clone(&self) -> Self {
        Self {
            operation: self.operation.clone(),
            inputs: self.inputs.clone(),
            kept: self.kept.clone(),
        }
    }
}

#[derive(Debug)]
struct Step<O, const N: usize>(PhantomData<O>);

impl<O: Operation<N>, const N: usize> Backward<Flex, N> for Step<O, N> {
    type State = State<O, N>;

    fn backward(self, ops: Ops<State<O, N>, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let State {
            operation,
            inputs,
            kept,
        } = ops.state;
        let values = inputs.each_ref().map(device::values);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let results = operation.backward(values, &kept, device::values(&upstream), wanted);
        for ((parent, result), input) in ops.parents.into_iter().zip(results).zip(&inputs) {
            if let Some(parent) = parent {
                let gradient = device::flex_from(result, input.layout().shape());
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}
