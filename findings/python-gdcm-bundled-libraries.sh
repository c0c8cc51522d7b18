#!/usr/bin/env bash
# python-gdcm 3.2.6 (May 2026; wheels for Python 3.10 to 3.14): which libraries lie inside the wheel.
#
# Expected: the current releases of what it bundles, as other wheels of its year do.
# Seen: OpenJPEG 2.3.0 (2017), CharLS 2.0, and OpenSSL 1.1.1k, whose series its makers ended in September 2023 (the
# distribution of the build image may have carried fixes back). A scanner of a device's software lists each of these, and
# pydicom 3.0 asks this plugin first for JPEG and JPEG 2000 wherever it is installed.
# Exits non-zero when a wheel shows other versions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip download --quiet --no-deps --only-binary :all: --python-version 3.12 \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --dest "$folder" python-gdcm==3.2.6
python3 - "$folder" << 'PY'
import re
import sys
import zipfile
from pathlib import Path

(wheel,) = Path(sys.argv[1]).glob("*.whl")
names = zipfile.ZipFile(wheel).namelist()
seen = set()
for name in names:
    found = re.search(r"(libcrypto|libgdcmopenjp2|libgdcmcharls)[^/]*?\.so\.([0-9][0-9a-z.]*)$", name)
    if found and "." in found[2]:
        seen.add((found[1], found[2]))
for library, version in sorted(seen):
    print(library, version)
assert seen == {("libcrypto", "1.1.1k"), ("libgdcmopenjp2", "2.3.0"), ("libgdcmcharls", "2.0")}, "other versions now"
PY
