#!/usr/bin/env bash
# OpenVINO 2026.4.1, held by oneDNN's own switch ONEDNN_MAX_CPU_ISA to SSE4.1, does not compile a model with MVN (the
# operation that LayerNormalization becomes): «bad combination». MatMul alone compiles, and under AVX or AVX2 both do.
# Expected: the lesser instructions are slower, and nothing else. What a processor without AVX does was not seen.
# Seen with openvino 2026.4.1 and numpy 2.4.6 on x86-64 with AVX2. Exit 0: as seen before.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'openvino==2026.4.1' 'numpy==2.4.6'
cat > "$folder/compile.py" <<'P'
import sys

sys.modules["openvino_telemetry"] = None  # so that nothing is sent
import numpy as np
import openvino as ov
from openvino import opset13 as ops

x = ops.parameter([8, 64], np.float32, name="x")
weights = ops.constant(np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32))
product = ops.matmul(x, weights, False, False)
normed = ops.mvn(product, np.array([1]), True, 1e-6, "INSIDE_SQRT")
model = ov.Model([normed if sys.argv[1] == "mvn" else product], [x])
try:
    said = ov.Core().compile_model(model, "CPU")(np.ones((8, 64), np.float32))[0]
    print("ran" if np.isfinite(said).all() else "not finite")
except RuntimeError as error:
    print("bad combination" if "bad combination" in str(error) else f"another error: {error}")
P
status=0
for wanted in "SSE41 matmul ran" "SSE41 mvn bad combination" "AVX mvn ran" "AVX2 mvn ran"; do
  read -r isa kind expected <<< "$wanted"
  found=$(ONEDNN_MAX_CPU_ISA=$isa "$folder/venv/bin/python" "$folder/compile.py" "$kind" 2> /dev/null)
  echo "ONEDNN_MAX_CPU_ISA=$isa, $kind: $found (expected: $expected)"
  [ "$found" = "$expected" ] || status=1
done
exit $status
