"""OpenVINO's own benchmark tool, on the same int8 model, as an outside check of raw inference."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_MEDIAN = re.compile(r"^\[ INFO \]\s+Median:\s+([0-9.]+) ms\s*$", re.MULTILINE)
_CODE = "import sys; from openvino.tools.benchmark.main import main; sys.exit(main())"


def median_ms(output: str) -> float:
    """The median latency that it printed. Raises `ValueError` where it printed none."""
    found = _MEDIAN.search(output)
    if found is None:
        raise ValueError(f"benchmark_app printed no median latency; its last words: {output[-300:]!r}")
    return float(found[1])


def run(model: Path, threads: int, seconds: int, precision: str) -> float:
    """Median latency of one stream, in ms. ``precision`` is that of the layers that are not int8.

    The tool takes a number of threads with no hint alone; one stream and one request are what the latency hint means.
    """
    options = ["-m", str(model), "-d", "CPU", "-hint", "none", "-api", "sync", "-t", str(seconds)]
    options += ["-nthreads", str(threads), "-nstreams", "1", "-infer_precision", precision]
    done = subprocess.run([sys.executable, "-c", _CODE, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"benchmark_app failed with {done.returncode}: {(done.stdout + done.stderr)[-600:]}")
    return median_ms(done.stdout)
