//! The device that tests compute on: the CPU, or the one that `EPSILON_TEST_DEVICE` names, as `.ci/devices` does. `straight` is the CPU
//! without fused operations, in the forms that every other device runs.

use epsilon::burn::tensor::Device;

/// # Panics
/// Where the device cannot be had: the test was asked for on that one.
pub(crate) fn device() -> Device {
    let name = std::env::var("EPSILON_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    if name == "straight" {
        epsilon::profile::use_fused(false);
        return Device::flex();
    }
    epsilon::device::device(&name).unwrap_or_else(|error| panic!("{error}"))
}
