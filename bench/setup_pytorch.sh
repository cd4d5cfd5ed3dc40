#!/bin/sh
# Makes the Python environment of the PyTorch peers, outside the source tree.
# usage: bench/setup_pytorch.sh [FOLDER]   (default: $EPSILON_BENCH_VENV, else ~/.cache/epsilon-bench)
# Needs Python 3.11 or newer with venv. Prints the interpreter to use on the last line.
set -eu

folder="${1:-${EPSILON_BENCH_VENV:-$HOME/.cache/epsilon-bench}}"
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet \
    'torch==2.*' 'numpy==2.*' 'pillow==13.*' 'safetensors==0.*' 'timm==1.*' 'matplotlib==3.*' \
    'torchvision==0.*' 'transformers==5.*' 'sentencepiece==0.*' 'protobuf==*' 'pandas==3.*' 'pyarrow==*' 'h5py==3.*' 'scikit-learn==1.*' \
    'torchmetrics==1.*' 'maturin==1.*' \
    'onnx==1.*' 'onnxruntime==1.*' 'onnxscript==0.*'
"$folder/bin/python" -c 'import h5py, matplotlib, numpy, onnxruntime, onnxscript, pandas, pyarrow, PIL, safetensors, sentencepiece, sklearn, timm, torch, torchmetrics, torchvision, transformers; print("torch", torch.__version__)' >&2
echo "$folder/bin/python"
