#!/usr/bin/env bash
# Runs the runtime's tests against the built wheel, on each interpreter given, one after the other.
#
#   ci/pythons.sh [--lowest] PYTHON... [-- PYTEST_ARGUMENT...]
#
# Each PYTHON gets a fresh virtual environment with the wheel, its runtime extras and the test tools: never torch, onnx
# or nncf. --lowest installs the lowest versions that pyproject.toml allows instead of the newest. What is not run is
# printed: test files that import the toolchain, the soak, and the static checks, which are the same on every version.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
extras=(dicom igtl openvino serve)
lowest=""
pythons=()
while [ $# -gt 0 ]; do
  case "$1" in
    --lowest) lowest=yes ;;
    --) shift; break ;;
    *) pythons+=("$1") ;;
  esac
  shift
done
[ ${#pythons[@]} -gt 0 ] || { sed -n '2,4p' "$0"; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The tests lie apart from the source, so that they import the installed wheel. ../shared is where they look for data.
mkdir "$work/tree"
cp -r "$root/tests" "$root/benchmarks" "$root/pyproject.toml" "$work/tree/"
if [ -d "$root/../shared" ]; then ln -s "$(cd "$root/../shared" && pwd)" "$work/shared"; fi
cd "$work/tree"
# Wheels alone, as on a device without a compiler; crcmod, which pyigtl needs, has none on any version.
export PIP_ONLY_BINARY=:all: PIP_NO_BINARY=crcmod UV_ONLY_BINARY=:all: UV_NO_BINARY_PACKAGE=crcmod

toolchain='^(from|import) (torch|onnx|nncf|safetensors|sklearn|vmeg_edge\.converters|checkpoints|conversions)\b'
left_out=(--ignore=tests/converters --ignore=tests/test_soak.py
  --deselect=tests/test_house.py::test_ruff_finds_nothing
  --deselect=tests/test_house.py::test_mypy_and_the_extensions_stub_check)
while read -r file; do left_out+=("--ignore=$file"); done < <(
  grep -rlE "$toolchain" tests --include='test_*.py' | grep -v '^tests/converters/' | sort)
printf 'not run: %s\n' "${left_out[@]}"

failed=0
for python in "${pythons[@]}"; do
  venv="$work/venv"
  rm -rf "$venv" "$work/wheel"
  "$python" -m venv "$venv"
  PIP_NO_BINARY=crcmod,vmeg-edge "$venv/bin/pip" wheel --quiet --no-deps --wheel-dir "$work/wheel" "$root"
  wheel=$(echo "$work"/wheel/*.whl)
  if [ -n "$lowest" ]; then
    "$venv/bin/pip" install --quiet uv
    # From pyproject.toml, so that uv takes the bounds as direct ones; the test tools come newest.
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --resolution lowest-direct \
      -r "$root/pyproject.toml" "${extras[@]/#/--extra=}"
    "$venv/bin/pip" install --quiet --no-deps "$wheel"
    "$venv/bin/pip" install --quiet pytest hypothesis
  else
    "$venv/bin/pip" install --quiet "$wheel[$(IFS=,; echo "${extras[*]}")]" pytest hypothesis
  fi
  "$venv/bin/pip" check
  "$venv/bin/python" -c 'import platform, sys; print("interpreter:", platform.python_implementation(), sys.version)'
  "$venv/bin/pip" list --format=freeze
  # The console script: `python -m pytest` would put the current folder on the import path.
  "$venv/bin/pytest" -q "${left_out[@]}" "$@" || { echo "FAILED on $python"; failed=1; }
done
exit $failed
