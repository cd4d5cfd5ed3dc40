#!/usr/bin/env bash
# Builds, tests and measures the program on this machine's GPU: bench/gpu.sh [wgpu|cuda]
# `wgpu` needs a Vulkan driver alone; `cuda` an NVIDIA driver, and a network for its build, which downloads LLVM. Beside PyTorch in bf16
# where bench/setup_pytorch.sh has been run and its PyTorch sees the GPU. What cannot be done here is said, and left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

device=${1:-wgpu}
case $device in wgpu | cuda) ;; *) echo "usage: bench/gpu.sh [wgpu|cuda]" >&2; exit 2 ;; esac
say() { printf '\n==> %s\n' "$*"; }

say "the machine"
nproc
if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
else
    echo "no nvidia-smi: no NVIDIA driver"
fi
if command -v vulkaninfo >/dev/null; then
    vulkaninfo --summary 2>/dev/null | grep -E 'deviceName|driverInfo' || echo "vulkaninfo lists no card"
else
    echo "no vulkaninfo: Debian's package vulkan-tools has it"
fi

say "building with --features $device"
packages=(--locked --release -p epsilon-zsl -p epsilon-cli -p epsilon-bench --features "epsilon-cli/$device,epsilon-bench/$device")
if ! cargo build "${packages[@]}" --bin epsilon --bin bench_device; then
    if [ "$device" = cuda ]; then
        echo "not built: the CUDA kernels' compiler downloads LLVM when it is built, so a network is needed"
        say "type-checking alone"
        DOCS_RS=1 cargo check --locked --release -p epsilon-zsl --lib --features cuda
    fi
    exit 1
fi
# A release build has its programs there, where no other target folder is set.
programs=${CARGO_TARGET_DIR:-target}/release

say "whether the device answers"
weights=$(mktemp -d)/vit_b16.safetensors
trap 'rm -rf "$(dirname "$weights")"' EXIT
if ! "$programs/epsilon" quickstart --out "$(dirname "$weights")/quickstart" --device "$device"; then
    echo "nothing measured: the device cannot be had"
    exit 1
fi

say "the tests on it"
EPSILON_TEST_DEVICE=$device cargo test "${packages[@]}" --test devices --test tensor_vit --test epsilon_twin --test anchor \
    --test methods -- --skip scenes --nocapture

say "images a second through a ViT-B/16, and Epsilon's training step at D = 768"
"$programs/bench_device" --device "$device" --weights "$weights"
python=${EPSILON_BENCH_PYTHON:-${EPSILON_BENCH_VENV:-$HOME/.cache/epsilon-bench}/bin/python}
if ! [ -x "$python" ]; then
    echo "no PyTorch to compare with: bench/setup_pytorch.sh makes its environment"
elif ! "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())'; then
    echo "PyTorch sees no GPU: nothing to compare with"
else
    say "the same in PyTorch"
    (cd bench && "$python" peer_device.py --weights "$weights" && "$python" peer_device.py --weights "$weights" --precision f32)
fi
