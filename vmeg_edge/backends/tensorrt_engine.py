"""An ONNX model to a TensorRT engine: parsed strongly typed, built with progress, its precisions counted.

The packages `tensorrt` and `tensorrt_rtx` have the same classes. Networks are strongly typed: every precision stands
in the ONNX, in Q/DQ pairs and casts, and the builder may choose none by itself.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from vmeg_edge.backends.base import Progress, availability, no_progress
from vmeg_edge.errors import BackendError, BackendMissingError, UsageError

WORKSPACE_BYTES = 1 << 30

_STAGE = "building the TensorRT engine"
_loggers: list[Any] = []  # TensorRT keeps the first logger that it is given, so there is one for the process


def engine_library() -> Any:
    """The module that `availability` found, ``tensorrt`` or ``tensorrt_rtx``. Raises `BackendMissingError`."""
    found = availability("tensorrt")
    if found.package is None:
        raise BackendMissingError(f"backend tensorrt: {found.reason}")
    return importlib.import_module(found.package.module)


def is_rtx(trt: Any) -> bool:
    """Whether the library is TensorRT-RTX, which compiles ahead of time for GPUs that are not here."""
    return "rtx" in str(trt.__name__)


def engine_name(trt: Any) -> str:
    """The library's name and version, such as ``TensorRT-RTX 1.7.1``."""
    return f"{'TensorRT-RTX' if is_rtx(trt) else 'TensorRT'} {trt.__version__}"


def logger(trt: Any) -> Any:
    """The process's one logger, emptied: it keeps the library's errors for the message that a user sees."""
    if not _loggers:

        class Logger(trt.ILogger):  # type: ignore[misc]
            """Keeps errors, drops talk."""

            def __init__(self) -> None:
                """Start empty."""
                trt.ILogger.__init__(self)
                self.errors: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                """Keep an error's first line."""
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    self.errors.append(" ".join(message.split())[:300])

        _loggers.append(Logger())
    _loggers[0].errors.clear()
    return _loggers[0]


def last_errors() -> str:
    """What the library last complained of, in one line."""
    errors = _loggers[0].errors[-2:] if _loggers else []
    return "; ".join(errors) or "no reason given"


def parse(trt: Any, model: bytes) -> tuple[Any, Any, Any]:
    """(builder, network, parser) of an ONNX model, strongly typed. Raises `BackendError` with the parser's words."""
    log = logger(trt)
    builder = trt.Builder(log)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # TensorRT 11 knows no other kind
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        said = "; ".join(parser.get_error(i).desc() for i in range(min(3, parser.num_errors)))
        raise BackendError(
            f"{engine_name(trt)} cannot parse the model ({' '.join(said.split())[:300]}); convert it again"
        )
    return builder, network, parser


def build_engine(
    trt: Any, model: bytes, *, capabilities: Sequence[str] = (), progress: Progress = no_progress
) -> bytes:
    """Build a serialised engine from an ONNX model.

    ``capabilities`` such as ``("8.9", "12.0")`` compile ahead of time for GPUs that need not be here, which
    TensorRT-RTX alone can do; without, the engine is for the GPU at hand. Raises `BackendError` or `UsageError`.
    """
    builder, network, parser = parse(trt, model)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if hasattr(config, "progress_monitor"):
        config.progress_monitor = _monitor(trt, progress)
    if capabilities:
        if not hasattr(config, "set_compute_capability"):
            raise UsageError(f"{engine_name(trt)} builds for the GPU at hand only; TensorRT-RTX compiles ahead of time")
        config.num_compute_capabilities = len(capabilities)
        for place, capability in enumerate(capabilities):
            found = getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}", None)
            if found is None:
                raise UsageError(f"{engine_name(trt)} knows no compute capability {capability!r}; give one such as 8.9")
            config.set_compute_capability(found, place)
    engine = builder.build_serialized_network(network, config)
    del parser
    if engine is None:
        said = last_errors()
        raise BackendError(f"{engine_name(trt)} cannot build the engine ({said}); see `vmeg-edge info`")
    return bytes(engine)


def layer_precisions(trt: Any, model: bytes) -> Counter[str]:
    """How many layers of the strongly typed network compute in each type, by kind: ``"MATRIX_MULTIPLY HALF"``.

    Without a GPU no engine can be inspected; in a strongly typed network the builder may change none of these.
    """
    _, network, _ = parse(trt, model)
    counts: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        dtype = layer.get_output(0).dtype
        counts[f"{layer.type.name} {dtype.name}"] += 1
    return counts


def _monitor(trt: Any, progress: Progress) -> Any:
    """The library's progress monitor, which tells ``progress`` of the outermost phase's steps."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Counts the phase that has no parent."""

        def __init__(self) -> None:
            """Nothing has begun."""
            trt.IProgressMonitor.__init__(self)
            self._phase = ""
            self._steps = 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Note the outermost phase."""
            if parent_phase is None:
                self._phase, self._steps = phase_name, num_steps
                progress(_STAGE, 0, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            """Say that it is done."""
            if phase_name == self._phase:
                progress(_STAGE, self._steps, self._steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Say how far it is; the build always goes on."""
            if phase_name == self._phase and step + 1 < self._steps:
                progress(_STAGE, step + 1, self._steps)
            return True

    return Monitor()
