#!/usr/bin/env bash
# The kernels for Windows, as far as a Linux machine goes: csrc/tests/windows.sh [PYTHON], by default .venv/bin/python.
#
# 1. writes the NumPy twin's answers (cases.py), and holds this machine's own build against them;
# 2. cross-compiles the kernels with mingw-w64 and holds them against the same answers under Wine;
# 3. looks for stores to the stack that need more than the 16 bytes of alignment that 64-bit Windows gives it;
# 4. cross-compiles the Python extension, with the headers of CPython's sources and an import library made from them.
#    It is linked and looked into, and not loaded: no Python for Windows is installed here.
#
# Needs Debian's g++-mingw-w64-x86-64 and wine64 (installed where this is root and they are absent), cmake, and a source
# package of Python to be had from the machine's own apt sources. PYTHON holds vmeg-edge and pybind11. What it prints
# is kept in windows.log.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(realpath -s "${1:-.venv/bin/python}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PATH="$(dirname "$python"):$PATH" WINEPREFIX="$work/wine" WINEDEBUG=-all
cross=x86_64-w64-mingw32
wine=$(command -v wine64 || echo /usr/lib/wine/wine64)

if ! { command -v $cross-g++-posix && [ -x "$wine" ]; } > /dev/null; then
  apt-get update && apt-get install -y --no-install-recommends g++-mingw-w64-x86-64-posix wine64
  wine=$(command -v wine64 || echo /usr/lib/wine/wine64)
fi > /dev/null
build() { # FOLDER OPTIONS...
  cmake -S . -B "$work/$1" -DCMAKE_BUILD_TYPE=Release "${@:2}" > "$work/$1.log" && cmake --build "$work/$1" >> "$work/$1.log" 2>&1 ||
    { cat "$work/$1.log"; exit 1; }
}
for_windows=(-DCMAKE_SYSTEM_NAME=Windows -DCMAKE_SYSTEM_PROCESSOR=AMD64 -DCMAKE_CXX_COMPILER=$cross-g++-posix
  -DCMAKE_EXE_LINKER_FLAGS=-static)
alone=(-DVMEG_BUILD_BINDINGS=OFF -DVMEG_BUILD_TESTS=ON)

echo "== here: $(uname -sm), $(c++ --version | head -n 1)"
"$python" csrc/tests/cases.py "$work/cases.bin"
build here "${alone[@]}"
"$work/here/kernels_test" "$work/cases.bin"

echo "== Windows: $($cross-g++-posix --version | head -n 1), $("$wine" --version 2> /dev/null)"
build windows "${for_windows[@]}" "${alone[@]}"
timeout 300 "$wine" "$work/windows/kernels_test.exe" "$work/cases.bin" 2> "$work/wine.log" || { cat "$work/wine.log"; exit 1; }
damaged="$work/damaged.bin" # a test that cannot fail proves nothing: one byte of an answer is changed
"$python" - "$work/cases.bin" "$damaged" << 'PYTHON'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
data[-13] ^= 0x40  # the last float of the last projection
open(sys.argv[2], "wb").write(data)
PYTHON
if timeout 300 "$wine" "$work/windows/kernels_test.exe" "$damaged" > "$work/damaged.log" 2>&1; then
  echo "kernels_test.exe passes a wrong answer"; exit 1
fi
grep -q FAILED "$work/damaged.log"
echo "a changed answer is found"

aligned=$($cross-objdump -d "$work/windows/libvmeg_core.a" | grep -cE 'vmov(aps|apd|dqa|dqa32|dqa64) .*%[yz]mm' || true)
echo "moves of 32 or 64 bytes that need alignment: $aligned"
[ "$aligned" = 0 ]

echo "== the Python extension for Windows"
mkdir "$work/source" "$work/lists" && cd "$work/source"
{ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null || true; } | sed -n 's/^deb /deb-src /p' > ../src.list
cat /etc/apt/sources.list.d/*.sources 2> /dev/null | sed 's/^Types: .*/Types: deb-src/' > ../src.sources || true
mkdir ../parts && mv ../src.list ../src.sources ../parts/
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
apt="-o Dir::Etc::sourcelist=- -o Dir::Etc::sourceparts=$work/parts -o Dir::State::lists=$work/lists"
apt-get $apt update > ../apt.log 2>&1 || true
apt-get $apt source --download-only "python$version" >> ../apt.log 2>&1 || true # its first archive alone is needed
archive=$(ls python"$version"_*.orig.tar.* 2> /dev/null | head -n 1)
[ -n "$archive" ] || { echo "the machine's apt sources have no source of Python $version: the extension is not built"; exit 1; }
tar xf "$archive" --strip-components=1 --wildcards '*/Include/*' '*/PC/pyconfig.h'
cp PC/pyconfig.h Include/
cd - > /dev/null
mkdir "$work/lib"
"$python" - "$work/source/Include" "python${version/./}" > "$work/lib/python.def" << 'PYTHON'
import re, sys
from pathlib import Path
names = set()
for path in Path(sys.argv[1]).rglob("*.h"):
    names |= set(re.findall(r"PyAPI_(?:FUNC|DATA)\([^)]*\)\s*\(?\**\s*(_?Py\w+)", path.read_text(errors="replace")))
print(f"LIBRARY {sys.argv[2]}.dll", "EXPORTS", *sorted(names), sep="\n")
PYTHON
$cross-dlltool -d "$work/lib/python.def" -l "$work/lib/libpython${version/./}.a"
$cross-ar rcs "$work/lib/libdl.a" # CMake takes this machine's libraries for Windows'
build extension "${for_windows[@]}" -DCMAKE_CXX_FLAGS=-DMS_WIN64 -DCMAKE_MODULE_LINKER_FLAGS="-static -L$work/lib" \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" -DPython_EXECUTABLE="$python" \
  -DPython_INCLUDE_DIR="$work/source/Include" -DPython_LIBRARY="$work/lib/libpython${version/./}.a" \
  -DPYTHON_MODULE_EXTENSION=".cp${version/./}-win_amd64.pyd"
extension=$(ls "$work"/extension/_native.*.pyd)
said=$($cross-objdump -p "$extension")
echo "$(basename "$extension"), $(stat -c %s "$extension") bytes, from CPython $(basename "$archive" | sed 's/.*_\(.*\)\.orig.*/\1/')"
grep -q ' PyInit__native$' <<< "$said"
echo "exports PyInit__native"
imports=$(sed -n 's/.*DLL Name: //p' <<< "$said" | tr '[:upper:]' '[:lower:]' | sort | tr '\n' ' ')
echo "needs $imports"
[ "$imports" = "kernel32.dll msvcrt.dll python${version/./}.dll " ]
echo "not loaded: no Python for Windows is here"
