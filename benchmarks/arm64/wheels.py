"""Which of pyproject's requirements have Arm64 wheels on PyPI: python benchmarks/arm64/wheels.py.

Asks uv to resolve the base install and each extra, wheels only, for Arm64 Linux and each Python version. Nothing is
installed. Needs uv, and Python 3.11 or later.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tomllib

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# Of glibc 2.28, so older than Debian 12, Ubuntu 22.04 and JetPack 6.
PLATFORM = "aarch64-manylinux_2_28"


def resolve(requirements: list[str], version: str) -> str:
    """Return uv's complaint, or an empty text where it found wheels for everything."""
    command = ["uv", "pip", "compile", "--quiet", "--only-binary=:all:", "--no-python-downloads", "-"]
    command += ["--python-platform", PLATFORM, "--python-version", version]
    done = subprocess.run(command, input="\n".join(requirements), capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else " ".join(done.stderr.split())


def main() -> int:
    """Print a line for each extra and version; return 1 where a wheel is missing."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {"(base)": project["dependencies"], **project["optional-dependencies"]}
    del wanted["test"]
    missing = 0
    for extra, requirements in wanted.items():
        for version in VERSIONS:
            complaint = resolve(requirements, version)
            missing += bool(complaint)
            print(f"{extra:14} Python {version:5} {complaint or 'all wheels'}", flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
