#!/usr/bin/env bash
# The virtual environment build/venv with the package built into it. TORCH=yes installs PyTorch too: without the
# parts that only a GPU needs, if it can be imported so (2 GB instead of 5), else whole.
set -euo pipefail
cd "$(dirname "$0")/.."
python=build/venv/bin/python
wheels=(scikit-build-core nanobind numpy safetensors pytest mypy pyarrow matplotlib nbclient nbformat ipykernel)

say() { echo "python: $*" >&2; }
stop() { say "$1. One thing to try: $2"; exit 1; }
pip() { $python -m pip install --quiet --disable-pip-version-check "$@"; }
has() { $python -c "import $1" 2>/dev/null; }

mkdir -p build
[ -x $python ] || "${PYTHON:-python3}" -m venv build/venv ||
  stop "could not make the virtual environment build/venv" "bash apps/setup.sh python, or another interpreter: make python PYTHON=python3.12"

wanted="${wheels[*]}"
if [ "$(cat build/venv/wheels 2>/dev/null)" != "$wanted" ]; then
  say "fetching ${wanted// /, }"
  pip "${wheels[@]}" || stop "pip could not fetch them" "$python -m pip download numpy, to see it fail by itself"
  echo "$wanted" >build/venv/wheels
fi

if [ "${TORCH:-}" = yes ] && ! has torch; then
  say "fetching PyTorch"
  pip 'setuptools>=77' filelock typing-extensions sympy networkx jinja2 fsspec
  pip --no-deps torch
  # What its import needs beside the CUDA toolkit of this system; neither Triton nor what the toolkit has.
  mapfile -t libraries < <($python - <<'END'
import re
from importlib.metadata import requires
needed = [line.partition(";")[0].strip() for line in requires("torch") or []]
print(*(r for r in needed if re.match("nvidia-(cusparselt|nccl|nvshmem)", r)), sep="\n")
if any(r.startswith("cuda-toolkit") for r in needed):
    print("nvidia-cufile")
END
  )
  [ ${#libraries[@]} = 0 ] || pip --no-deps "${libraries[@]}"
  has torch || { say "it needs its own CUDA libraries here: fetching them"; pip torch; }
fi

# Kernels for GPUs are compiled where there is one: `pip install .` compiles them wherever there is nvcc.
gpu=OFF
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then gpu=ON; fi
say "building the package"
pip --no-build-isolation --no-deps --force-reinstall --config-settings=cmake.define.LAZY_CUDA=$gpu . ||
  stop "the package could not be built" "make build, which says what the compiler lacks"
