//! Devices: the CPU always, GPUs behind cargo features; and the CPU tensors' values for the fused operations.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Device, Tensor, TensorData};
use burn_autodiff::ops::NodeGuard;
use burn_flex::FlexTensor;

/// A device name that this build cannot use.
#[derive(Debug, thiserror::Error)]
#[error("unknown device `{name}`: this build knows {known}")]
pub struct DeviceError {
    name: String,
    known: String,
}

/// Names that [`device`] takes in this build.
pub const NAMES: &[&str] = &[
    "cpu",
    #[cfg(feature = "cuda")]
    "cuda",
    #[cfg(feature = "wgpu")]
    "wgpu",
];

/// The device of this name: `cpu`, and where built in `cuda` (the first GPU) and `wgpu` (the best one found).
///
/// # Errors
/// [`DeviceError`] names what this build knows.
pub fn device(name: &str) -> Result<Device, DeviceError> {
    match name {
        "cpu" => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        _ => Err(DeviceError {
            name: name.into(),
            known: NAMES.join(", "),
        }),
    }
}

const CPU_ONLY: &str = "fused operations are only reached with CPU tensors";

/// The CPU tensor below `tensor`, contiguous.
pub(crate) fn flex<const R: usize>(tensor: Tensor<R>) -> FlexTensor {
    tensor
        .try_into_primitive::<Flex>()
        .expect(CPU_ONLY)
        .to_contiguous()
}

/// The CPU tensor below an autodiff tensor, contiguous, and its place in the graph.
pub(crate) fn flex_parts<const R: usize>(tensor: Tensor<R>) -> (FlexTensor, NodeGuard) {
    let tensor = tensor
        .try_into_primitive::<Autodiff<Flex>>()
        .expect(CPU_ONLY);
    let (primitive, node) = tensor.into_parts();
    (primitive.to_contiguous(), node)
}

/// A CPU tensor of these values.
pub(crate) fn flex_from(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

/// The values of a contiguous CPU tensor.
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("contiguous f32")
}

/// The values of a tensor on the host, row-major.
pub(crate) fn host<const R: usize>(tensor: &Tensor<R>) -> Vec<f32> {
    tensor
        .to_data()
        .try_to_vec::<f32>()
        .expect("the library's tensors are f32")
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_unknown_device_is_named_with_what_is_known() {
        let message = super::device("tpu").unwrap_err().to_string();
        assert!(
            message.contains("`tpu`") && message.contains("cpu"),
            "{message}"
        );
    }
}
