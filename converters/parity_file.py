"""``parity.json``: a conversion's table, with what another decision rule can be proven by."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vmeg_edge import kernels, processor_class
from vmeg_edge.manifest import Manifest
from vmeg_edge.processors import processors

from .measure import Row


def parity_file(
    manifest: Manifest,
    rows: Sequence[Row],
    reference: str,
    logits: Mapping[str, npt.NDArray[np.float32]],
    given: bool,
) -> bytes:
    """The table as JSON, with every frame's logits: parity under another decision rule can be worked out from them."""
    origins = [manifest.golden_origin]
    if manifest.golden_origin == "phantoms":
        origins.append("more phantoms")
    if given:
        origins.append("frames given with --frames")
    if manifest.calibration is not None and manifest.calibration.validation_frames:
        origins.append(f"{manifest.calibration.validation_frames} validation frames")
    content = {
        "reference": reference,
        "frames": len(logits["reference"]),
        "frames_origin": ", ".join(origins),
        "merge": list(manifest.merge),
        "machine": {
            "architecture": platform.machine(),
            **processors().to_json(),
            "class": processor_class.current().name,
            "cpu_features": list(kernels.cpu_features()),
        },
        "artefacts": [row.to_json() for row in rows],
        "logits": {name: np.round(said.astype(np.float64), 6).tolist() for name, said in logits.items()},
    }
    return (json.dumps(content, indent=1) + "\n").encode()
