"""A full-size model with random weights as a bundle, for measuring speed where there is no checkpoint yet."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import torch

from vmeg_edge import processor_class
from vmeg_edge._version import __version__
from vmeg_edge.backends import cache_folder, why_unusable
from vmeg_edge.bundle import open_bundle
from vmeg_edge.errors import OutputError, VmegError
from vmeg_edge.manifest import DecisionRule, Precision

from .architectures.known import ARCHITECTURES, network
from .bundle_from_model import Quantization, convert
from .calibration import PHANTOMS
from .candidates import PRECISIONS
from .origin import Training, Weights
from .workshop import Report

RANDOM_WEIGHTS = "RANDOM WEIGHTS: this model was never trained; its speed is that of its size, its scores mean nothing."

# An untrained model says 0.5 of everything: at a bare threshold, each rounding would count as a flipped decision.
UNDECIDED = DecisionRule(temperature=1.0, threshold=0.5, abstain=(0.25, 0.75), origin="random weights")

# A bundle that serves speed alone needs no more frames than make its ranges and hold its gate.
_CALIBRATION = Quantization((PHANTOMS,), calibration_frames=32, validation_frames=32)
_SEED = 0
_HERE = ("onnxruntime", "openvino")


def random_bundle(arch: str, precision: Precision, targets: tuple[str, ...], report: Report) -> Path:
    """The bundle of ``arch`` with seeded random weights: made at the first call, and kept beside the engine cache.

    ``targets`` default to the engines that can be used here; int8 is calibrated on phantoms and passes the same gate as
    any other. Raises what `convert` raises, `OutputError` where the cache folder cannot be used.
    """
    chosen = targets or tuple(name for name in _HERE if precision in PRECISIONS[name] and why_unusable(name) is None)
    # The folder tells one from the other, so that the model's own name stays short in every table.
    made_for = f"{precision}-{'-'.join(sorted(chosen))}-{processor_class.current().name}-{_plain(__version__)}"
    folder = cache_folder() / "random" / made_for
    path = folder / f"{arch}.vmeg"
    try:
        open_bundle(path)
    except VmegError:
        report(f"making {arch} with random weights, {precision}, for {', '.join(chosen)}; it is kept in {folder}")
    else:
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made ({error.strerror}); set VMEG_EDGE_CACHE to another folder"
        ) from None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        checkpoint = Path(scratch) / f"{arch}-random.pt"
        model = network(ARCHITECTURES[arch])
        model.initialise(_SEED)
        encoder = {name: value for name, value in model.state_dict().items() if not name.startswith(model.head_name)}
        torch.save({"model": encoder}, checkpoint)
        convert(
            checkpoint,
            path,
            targets=chosen,
            precision=precision,
            quantization=_CALIBRATION if precision == "int8" else None,
            weights=Weights(new_head=2),  # so that every output says that it was never trained
            training=Training(decision=UNDECIDED, notes=(RANDOM_WEIGHTS,)),
            replace=True,
            report=report,
        ).check()
    return path


def _plain(version: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", version)
