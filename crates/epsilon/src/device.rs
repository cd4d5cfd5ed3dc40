//! Devices: the CPU always, GPUs behind cargo features; and the CPU tensors' values for the fused operations.

use burn::backend::{Autodiff, Flex};
use std::future::Future as _;
#[cfg(feature = "wgpu")]
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use burn::tensor::{Device, Tensor, TensorData, read_sync};
use burn_autodiff::ops::NodeGuard;
use burn_flex::FlexTensor;

/// A device that cannot be computed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A name that this build does not know.
    #[error("unknown device `{name}`: this build knows {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Those that are known.
        known: String,
    },
    /// A device of this build that the machine does not have.
    #[error("--device {name}: {reason}")]
    Missing {
        /// The device.
        name: &'static str,
        /// What was not found and what to do.
        reason: String,
    },
}

/// Names that [`device`] takes in this build.
pub const NAMES: &[&str] = &[
    "cpu",
    #[cfg(feature = "cuda")]
    "cuda",
    #[cfg(feature = "wgpu")]
    "wgpu",
];

/// The device of this name: `cpu`, and where built in `cuda` (the first GPU) and `wgpu` (the best one found). A GPU is made ready
/// here, so that what it lacks is told before anything starts.
///
/// # Errors
/// [`DeviceError::Unknown`] names what this build knows, [`DeviceError::Missing`] what the machine lacks.
pub fn device(name: &str) -> Result<Device, DeviceError> {
    match name {
        "cpu" => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => cuda(),
        #[cfg(feature = "wgpu")]
        "wgpu" => wgpu(),
        _ => Err(DeviceError::Unknown {
            name: name.into(),
            known: NAMES.join(", "),
        }),
    }
}

#[cfg(feature = "cuda")]
fn cuda() -> Result<Device, DeviceError> {
    // Making the device itself would panic where there is no driver.
    let mut found = Device::enumerate(burn::tensor::DeviceType::Cuda).into_iter();
    found.next().ok_or_else(|| DeviceError::Missing {
        name: "cuda",
        reason: "no NVIDIA GPU answers: install the NVIDIA driver (`nvidia-smi` must list the card), or give --device cpu"
            .into(),
    })
}

/// The framework makes a device ready once in a process, so what came of it is kept.
#[cfg(feature = "wgpu")]
fn wgpu() -> Result<Device, DeviceError> {
    let found = READY.get_or_init(|| {
        let (device, setup) = Device::wgpu_options()
            .init_with_setup()
            .map_err(|error| format!("{error}; {INSTALL}"))?;
        let adapter = setup.adapter.get_info();
        let on_cpu = adapter.device_type == burn::tensor::wgpu::wgpu::DeviceType::Cpu;
        if on_cpu && std::env::var_os(SELECTION).is_none_or(|chosen| chosen != "Cpu") {
            return Err(format!(
                "the only driver found is `{}`, which computes on the CPU and slower than --device cpu does; {INSTALL}, or set \
                 {SELECTION}=Cpu to take it all the same",
                adapter.name
            ));
        }
        let limits = setup.adapter.limits();
        let largest = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        Ok((device, (!on_cpu).then_some(largest / 4)))
    });
    let found = found.as_ref().map(|(device, _)| device.clone());
    found.map_err(|reason| DeviceError::Missing {
        name: "wgpu",
        reason: reason.clone(),
    })
}

/// The device, and the most f32 values of a tensor on it unless it is the CPU in disguise; or what it lacks.
#[cfg(feature = "wgpu")]
static READY: OnceLock<Result<(Device, Option<u64>), String>> = OnceLock::new();

/// The framework's variable that says which adapter to take.
#[cfg(feature = "wgpu")]
const SELECTION: &str = "CUBECL_WGPU_DEFAULT_DEVICE";

#[cfg(feature = "wgpu")]
const INSTALL: &str = "install the card's Vulkan driver and its loader (Debian: libvulkan1, and mesa-vulkan-drivers for AMD and \
                       Intel or nvidia-driver for NVIDIA; `vulkaninfo --summary` must list the card)";

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

/// Has the values of a tensor copied to the host, row-major, behind what computes them, and does not wait: what is returned does.
pub(crate) fn fetch<const R: usize>(tensor: Tensor<R>) -> impl FnOnce() -> Vec<f32> {
    let mut coming = Box::pin(tensor.into_data_async());
    // The copy is asked for when it is first looked at, and stands then before whatever is asked for later.
    let mut came = match coming
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(data) => Some(data),
        Poll::Pending => None,
    };
    move || {
        let data = came.take().unwrap_or_else(|| read_sync(coming));
        let data = data.unwrap_or_else(|error| panic!("the device failed: {error}"));
        data.try_to_vec::<f32>()
            .expect("the library's tensors are f32")
    }
}

/// The most values of one tensor that a batch is sized for, 256 MB in f32: all of a network's tensors that live at once are then below
/// 2 GB.
const LARGEST: u64 = 1 << 26;

/// The most images of a batch on a device; more make it no faster.
const USUAL_BATCH: u64 = 128;

/// Images of a batch whose largest tensor has so many values for each; `None` for the CPU.
pub(crate) fn batch(device: &Device, values: usize) -> Option<usize> {
    let largest = largest(device)?.min(LARGEST);
    let fit = largest / (values.max(1) as u64);
    Some(fit.clamp(1, USUAL_BATCH) as usize)
}

/// The most f32 values that a tensor on this device can have; `None` for what computes on the CPU.
fn largest(device: &Device) -> Option<u64> {
    #[cfg(feature = "wgpu")]
    if let Some(Ok((ready, largest))) = READY.get()
        && ready == device
    {
        return *largest;
    }
    (*device != Device::flex()).then_some(LARGEST)
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
