"""A candidate run by OpenVINO as on a lesser processor: in a process that oneDNN holds to that one's instructions.

oneDNN reads ``ONEDNN_MAX_CPU_ISA`` once, when it chooses its first kernel, so that each class takes a process of its
own (oneDNN developer guide, "CPU Dispatcher Control"). ONNX Runtime has no such switch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vmeg_edge.backends import open_backend, place
from vmeg_edge.backends.openvino import ISA_VARIABLE
from vmeg_edge.errors import BackendError
from vmeg_edge.manifest import Manifest, parse_manifest
from vmeg_edge.processor_class import ProcessorClass

from .answers import answers_of
from .candidate import Candidate
from .feeds import by_sector, pixels_alone

_MANIFEST, _TASK, _ANSWER = "manifest.json", "task.npz", "answer.npz"

Tensors = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def scored_as(
    one: ProcessorClass, candidate: Candidate, manifest: Manifest, tensors: Tensors, direction: Floats | None
) -> tuple[Floats, Floats]:
    """Return logits ``[n, classes]`` and heat maps ``[n, h, w]`` of a candidate on a processor of class ``one``.

    Args:
        one: a class whose instructions this machine has.
        candidate: for OpenVINO, without a stand-in.
        manifest: of its model.
        tensors: frames, uint8 ``[n, H, W, 3]``.
        direction: the map's sign, float32 ``[C]``.

    Raises:
        BackendError: the engine failed there.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        alone = manifest.model_copy(update={"artefacts": {candidate.target: candidate.artefact}})
        (folder / _MANIFEST).write_text(alone.to_json(), encoding="utf-8")
        for name, data in candidate.files.items():
            (folder / name).write_bytes(data)
        tokens = 0 if candidate.tokens is None else candidate.tokens
        np.savez(folder / _TASK, tensors=tensors, tokens=tokens, direction=[] if direction is None else direction)
        done = subprocess.run(  # noqa: S603 (this interpreter, our own module)
            [sys.executable, "-m", __name__, scratch],
            env={**os.environ, ISA_VARIABLE: one.onednn},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise BackendError(f"{candidate.target} held to {one.name} ({ISA_VARIABLE}={one.onednn}) failed: {last}")
        with np.load(folder / _ANSWER) as answer:
            return answer["logits"], answer["maps"]


def main(folder: Path) -> None:
    """Score the frames of ``folder``'s task, and write the answer beside it."""
    manifest = parse_manifest((folder / _MANIFEST).read_bytes(), _MANIFEST)
    ((target, artefact),) = manifest.artefacts.items()
    with np.load(folder / _TASK) as task:
        tensors, tokens, direction = task["tensors"], int(task["tokens"]), task["direction"]
    oriented = direction.astype(np.float32) if direction.size else None
    feed = by_sector(tokens, manifest.explanation.grid) if tokens else pixels_alone
    files = {name: (folder / name).read_bytes() for name in artefact.files}
    logits, maps = answers_of(open_backend(target, manifest, files, place(target)), tensors, feed, manifest, oriented)
    np.savez(folder / _ANSWER, logits=logits, maps=maps)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
