#!/usr/bin/env bash
# Builds and tests vmeg-edge on Arm64 without an Arm64 machine: a Debian root whose programs qemu emulates.
#
# usage: ci/arm64.sh [STEP ...]          all steps in this order where none is named:
#
#   root      makes the root folder with debootstrap (once)
#   wheel     builds the wheel in it, and installs it with its extras from PyPI
#   kernels   runs the kernels' tests on a processor of each class, and holds the detected classes to what is expected
#   count     counts the instructions of one resize for each instruction set
#   runtime   runs the runtime's tests with ONNX Runtime's and OpenVINO's arm64 wheels
#   stills    scores pictures with both engines on each processor, and holds the answers to this machine's
#
# environment:
#   ARM64_ROOT     the root folder (default: build/arm64-root); it takes 4 GB
#   ARM64_OUT      where each step writes STEP.txt (default: build/arm64)
#   ARM64_STILLS   a folder of pictures for `stills` (default: ../shared/data/fetal_brain)
#   ARM64_BUNDLES  bundles for `stills`, separated by blanks (default: the demo bundle)
#   ARM64_PROCESSORS   processors to emulate, separated by blanks (default: cortex-a72 neoverse-n1 max)
#   ARM64_PYTHON   an interpreter of this machine that has vmeg-edge, for `stills` (default: python3)
#
# Needs root, and on Debian 12: apt-get install debootstrap qemu-user-static g++-aarch64-linux-gnu. Without the last, the
# root's own g++ compiles, under emulation (half an hour). Run it again after a change: the root is kept, the wheel is
# built anew. Mounts are private to the run. Where the machine's kernel does not know yet that
# qemu runs Arm64 programs, that is registered for the length of the run.
set -euo pipefail
cd "$(dirname "$0")/.."
HERE=$PWD
ROOT=$(realpath -m "${ARM64_ROOT:-build/arm64-root}")
OUT=$(realpath -m "${ARM64_OUT:-build/arm64}")
STILLS=$(realpath -m "${ARM64_STILLS:-../shared/data/fetal_brain}")
BUNDLES=${ARM64_BUNDLES:-$HERE/vmeg_edge/demo.vmeg}
PYTHON=${ARM64_PYTHON:-python3}
SUITE=bookworm

# A processor of each class, as qemu names them, and the instruction sets that the kernels must find there.
read -ra PROCESSORS <<< "${ARM64_PROCESSORS:-cortex-a72 neoverse-n1 max}"
declare -A EXPECTED=(
  [cortex-a72]="neon"
  [neoverse-n1]="neon neon_dotprod"
  [max]="neon neon_dotprod neon_i8mm"
)

fail() { echo "arm64.sh: $*" >&2; exit 2; }

# Runs a command in the root as if on that processor: in_root PROCESSOR COMMAND ...
in_root() {
  local processor=$1
  shift
  env -i PATH=/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 QEMU_CPU="$processor" \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    chroot "$ROOT" "$@"
}

register_emulator() {
  local table=/proc/sys/fs/binfmt_misc
  mountpoint -q $table || mount -t binfmt_misc binfmt_misc $table || fail "$table: cannot be mounted; run as root"
  [[ -e $table/qemu-aarch64 ]] && return
  cat /usr/lib/binfmt.d/qemu-aarch64.conf > $table/register
  trap "echo -1 > $table/qemu-aarch64" EXIT
}

enter_root() {
  [[ -e $ROOT/.ready ]] || fail "there is no root at $ROOT; run: ci/arm64.sh root"
  mountpoint -q "$ROOT/proc" || mount -t proc proc "$ROOT/proc"
  mountpoint -q "$ROOT/dev" || mount --rbind /dev "$ROOT/dev"
  # This machine's name server and certificates: it may have a proxy's among them.
  for file in /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt; do
    if [[ -e $file && -e $ROOT$file ]]; then mount --bind "$file" "$ROOT$file"; fi
  done
  mkdir -p "$ROOT/shared"
  if [[ -d ../shared ]]; then mount --rbind --read-only ../shared "$ROOT/shared"; fi
}

root() {
  if [[ ! -e $ROOT/.ready ]]; then
    mkdir -p "$ROOT"
    debootstrap --foreign --arch=arm64 --variant=minbase \
      --include=ca-certificates,g++,python3,python3-dev,python3-venv $SUITE "$ROOT"
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$ROOT" /debootstrap/debootstrap --second-stage
    touch "$ROOT/.ready"
  fi
  echo "Debian $(cat "$ROOT/etc/debian_version"), $(in_root max uname -m), $(in_root max g++ --version | head -n 1)"
  qemu-aarch64-static --version | head -n 1
}

# What git tracks, so that nothing built for this machine comes along.
copy_sources() {
  rm -rf "$ROOT/source" "$ROOT/check"
  mkdir -p "$ROOT/source" "$ROOT/check"
  git ls-files -z -- ':!benchmarks/results' | tar --null --files-from=- --create | tar --extract --directory="$ROOT/source"
  # The tests see the installed wheel alone: vmeg_edge/ is not beside them.
  cp -r "$ROOT/source/"{tests,benchmarks,pyproject.toml} "$ROOT/check/"
}

# Lets the root run this machine's cross compiler, which needs a fortieth of the emulated one's time. It is of the same
# Debian source; headers and libraries of Python are the root's, and everything else still runs under emulation.
lend_compiler() {
  local folder
  for folder in /lib64 /usr/lib/x86_64-linux-gnu /usr/aarch64-linux-gnu; do
    mkdir -p "$ROOT$folder"
    mount --rbind --read-only "$folder" "$ROOT$folder"
  done
  mkdir -p "$ROOT/usr/x86"
  mount --rbind --read-only /usr "$ROOT/usr/x86"
}

wheel() {
  copy_sources
  rm -rf "$ROOT/wheels"
  [[ -x $ROOT/venv/bin/pip ]] || in_root max python3 -m venv /venv
  local compiler=g++ built
  if command -v aarch64-linux-gnu-g++ > /dev/null; then
    lend_compiler
    compiler=/usr/x86/bin/aarch64-linux-gnu-g++
  fi
  in_root max env CXX=$compiler pip wheel --quiet --no-deps --wheel-dir /wheels /source
  built=$(basename "$ROOT"/wheels/vmeg_edge-*.whl)
  echo "$built, compiled by $(in_root max $compiler --version | head -n 1)"
  in_root max pip install --quiet --prefer-binary "/wheels/$built[dicom,igtl,openvino,serve]" pytest hypothesis
  in_root max pip install --quiet --no-deps --force-reinstall "/wheels/$built"
  in_root max pip check
  in_root max pip list --format=freeze
}

kernels() {
  local processor sets
  for processor in "${PROCESSORS[@]}"; do
    in_root "$processor" python -c '
from vmeg_edge import kernels, processor_class
print("features:", *kernels.cpu_features(), "  class:", processor_class.current().name)'
    sets=$(in_root "$processor" python -c 'from vmeg_edge import _native; print(*_native.isas_available())')
    echo "$processor: instruction sets $sets"
    [[ $sets == "${EXPECTED[$processor]}" ]] || fail "$processor: expected ${EXPECTED[$processor]}"
    # What each processor is the first to run. The NumPy twin is the same on all, and slow here.
    in_check "$processor" pytest -q -p no:cacheprovider tests/kernels \
      -k "not reference and (native-${sets##* } or not native)"
  done
}

# The instructions of one strip, less those of the program's start, as qemu counts them one by one.
count() {
  local sources="eigencam.cpp tridiagonal.cpp resize.cpp resize_axis.cpp cpu.cpp dispatch.cpp" here flags file set channels
  command -v aarch64-linux-gnu-g++ > /dev/null || fail "apt-get install g++-aarch64-linux-gnu"
  here=$(mktemp -d)
  declare -A flags=([neon]="" [neon_dotprod]="-march=armv8.2-a+dotprod" [neon_i8mm]="-march=armv8.2-a+dotprod+i8mm")
  local cxx="aarch64-linux-gnu-g++ -std=c++17 -O3 -fopenmp-simd -Icsrc"
  for set in "${!flags[@]}"; do
    $cxx -ffp-contract=fast ${flags[$set]} -DVMEG_ISA="$set" -c csrc/resize_kernels.cpp -o "$here/$set.o"
    for file in eigencam project; do
      $cxx -ffp-contract=fast ${flags[$set]} -DVMEG_ISA=neon -S csrc/${file}_kernels.cpp -o - |
        grep -vE '^\s\.(arch|ident|file)' > "$here/$file.$set.s"
    done
  done
  for file in eigencam project; do
    for set in neon_dotprod neon_i8mm; do
      cmp -s "$here/$file.neon.s" "$here/$file.$set.s" && echo "$file: the code for $set is neon's, to the instruction" ||
        echo "$file: the code for $set differs from neon's"
    done
    $cxx -ffp-contract=fast -DVMEG_ISA=neon -c csrc/${file}_kernels.cpp -o "$here/$file.o"
  done
  $cxx -ffp-contract=off -static -DVMEG_HAS_neon -DVMEG_HAS_neon_dotprod benchmarks/arm64/count_instructions.cpp \
    $(printf 'csrc/%s ' $sources) "$here"/*.o -o "$here/count"
  for channels in 3 1; do
    for set in neon neon_dotprod neon_i8mm; do
      echo "resize, $channels channels, $set: $(($(traced 1) - $(traced 0))) instructions"
    done
  done
  rm -r "$here"
}

# How many instructions `count_instructions` runs when it resizes so many times.
traced() {
  qemu-aarch64-static -cpu max -singlestep -d exec,nochain -D /dev/stderr \
    "$here/count" "$set" bilinear "$channels" "$1" 2>&1 > /dev/null | grep -c '^Trace'
}

# What of the runtime's tests needs neither torch nor this machine's speed.
RUNTIME_TESTS=(
  tests/backends/test_onnxruntime.py tests/backends/test_cache.py tests/test_scorer.py tests/test_bundle.py
  tests/test_decide.py tests/test_exam.py tests/test_explain.py tests/test_frames.py tests/test_gate.py
  tests/test_manifest.py tests/test_outputs.py tests/test_parity.py tests/test_streaming.py tests/live
  tests/phantom tests/sinks/test_jsonl.py tests/sources/test_images.py tests/sources/test_dicom.py
  tests/sources/test_dicom_made.py tests/sources/test_metaimage.py tests/sources/test_openigtlink.py
)

in_check() {
  local processor=$1
  shift
  in_root "$processor" env --chdir=/check "$@"
}

runtime() {
  in_root neoverse-n1 vmeg-edge info
  in_check neoverse-n1 pytest -q -p no:cacheprovider --durations=5 "${RUNTIME_TESTS[@]}"
}

# Each bundle on each engine: this machine's answers, then those of each processor.
stills() {
  local bundle engine processor precision here name failed=0
  here=$ROOT/scores
  rm -rf "$here"
  mkdir -p "$here/pictures"
  mount --bind "$STILLS" "$here/pictures"
  for bundle in $BUNDLES; do
    name=$(basename "$bundle")
    cp -r "$bundle" "$here/$name"
    for engine in onnxruntime openvino; do
      precision=$("$PYTHON" -c '
import json, sys
print(json.load(open(f"{sys.argv[1]}/manifest.json"))["artefacts"].get(sys.argv[2], {}).get("precision", ""))' "$bundle" $engine)
      [[ -n $precision ]] || continue
      "$PYTHON" -m vmeg_edge score "$STILLS" --bundle "$bundle" --backend $engine --no-cache --json \
        --out "$here/$name.$engine.here.jsonl" > /dev/null
      # Emulated, OpenVINO dies where there is no /sys, and ONNX Runtime where there is one, which is that of this machine.
      [[ $engine != openvino ]] || mount -t sysfs -o ro sysfs "$ROOT/sys"
      for processor in "${PROCESSORS[@]}"; do
        echo "$name, $engine, $precision, $processor against $(uname -m):"
        in_root "$processor" vmeg-edge score /scores/pictures --bundle "/scores/$name" --backend $engine --no-cache --json \
          --out "/scores/$name.$engine.$processor.jsonl" > /dev/null || failed=1
        "$PYTHON" benchmarks/arm64/compare_scores.py "$here/$name.$engine.here.jsonl" \
          "$here/$name.$engine.$processor.jsonl" "$precision" || failed=1
      done
      [[ $engine != openvino ]] || umount "$ROOT/sys"
    done
  done
  umount "$here/pictures"
  return $failed
}

run_step() {
  echo "vmeg-edge $(git describe --always --dirty)"
  register_emulator
  if [[ $1 != root ]]; then enter_root; fi
  "$1"
}

usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; }

case ${1:-} in -h | --help) usage; exit ;; esac
STEPS=("$@")
((${#STEPS[@]})) || STEPS=(root wheel kernels count runtime stills)
for step in "${STEPS[@]}"; do
  [[ " root wheel kernels count runtime stills " == *" $step "* ]] || fail "'$step' is no step; see ci/arm64.sh --help"
done
[[ $(id -u) == 0 ]] || fail "needs root, for chroot and mount"
command -v debootstrap qemu-aarch64-static > /dev/null || fail "apt-get install debootstrap qemu-user-static"
[[ -n ${ARM64_INSIDE:-} ]] || exec env ARM64_INSIDE=1 unshare --mount --propagation=private -- "$HERE/ci/arm64.sh" "${STEPS[@]}"

mkdir -p "$OUT"
for step in "${STEPS[@]}"; do
  echo "== $step"
  (run_step "$step") 2>&1 | sed -u -e "s#$ROOT#ROOT#g" -e "s#$HERE#.#g" | tee "$OUT/$step.txt"
done
