"""The few CUDA runtime calls that TensorRT's backend makes, each with its error turned into one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import BackendError, BackendMissingError

INSTALL = "pip install 'cuda-bindings>=13.0'"


def _runtime() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendMissingError(
            f"backend tensorrt: import cuda.bindings failed ({error}); add it with: {INSTALL}"
        ) from None
    return runtime


def call(name: str, *arguments: Any) -> Any:
    """One runtime function by its CUDA name; what it returns beside the error code. Raises `BackendError`."""
    runtime = _runtime()
    code, *values = getattr(runtime, name)(*arguments)
    if code != runtime.cudaError_t.cudaSuccess:
        _, text = runtime.cudaGetErrorString(code)
        said = text.decode() if isinstance(text, bytes) else str(text)
        raise BackendError(f"CUDA's {name} failed ({said})")
    return values[0] if len(values) == 1 else tuple(values)


@dataclass(frozen=True)
class Gpu:
    """One GPU: its place, name, compute capability (as in ``SM 8.9``), and the driver's CUDA version."""

    index: int
    name: str
    capability: str
    driver: int


def find_gpus() -> list[Gpu]:
    """Every GPU that CUDA sees. Raises `BackendError` where there is no driver or no GPU."""
    count = call("cudaGetDeviceCount")
    driver = int(call("cudaDriverGetVersion"))
    found = []
    for index in range(count):
        properties = call("cudaGetDeviceProperties", index)
        name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
        found.append(Gpu(index, name, f"{properties.major}.{properties.minor}", driver))
    return found


class PinnedArray:
    """A page-locked host array with its twin on the GPU, so that copies are ordered in the stream."""

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        """Allocate both. Raises `BackendError`."""
        self.nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.device = int(call("cudaMalloc", self.nbytes))
        try:
            self._pinned = int(call("cudaMallocHost", self.nbytes))
        except BackendError:
            call("cudaFree", self.device)
            raise
        import ctypes

        memory = (ctypes.c_uint8 * self.nbytes).from_address(self._pinned)
        self.host: npt.NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def upload(self, stream: Any) -> None:
        """Queue the copy to the GPU."""
        kind = _runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpyAsync", self.device, self._pinned, self.nbytes, kind, stream)

    def download(self, stream: Any) -> None:
        """Queue the copy from the GPU."""
        kind = _runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        call("cudaMemcpyAsync", self._pinned, self.device, self.nbytes, kind, stream)

    def free(self) -> None:
        """Give both back."""
        with suppress(BackendError):
            call("cudaFree", self.device)
        with suppress(BackendError):
            call("cudaFreeHost", self._pinned)


class Recording:
    """What `record` captured, instantiated; `launch` replays it."""

    def __init__(self) -> None:
        """Empty until the capture ended well."""
        self._executable: Any = None

    def instantiate(self, graph: Any) -> None:
        """Make the captured graph launchable."""
        self._executable = call("cudaGraphInstantiate", graph, 0)

    def launch(self, stream: Any) -> None:
        """Queue the whole recording."""
        call("cudaGraphLaunch", self._executable, stream)

    def free(self) -> None:
        """Give the graph back."""
        if self._executable is not None:
            with suppress(BackendError):
                call("cudaGraphExecDestroy", self._executable)
            self._executable = None


@contextmanager
def record(stream: Any) -> Iterator[Recording]:
    """Capture what the block queues on ``stream`` as a CUDA graph. Raises `BackendError` where that fails."""
    recording = Recording()
    mode = _runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    call("cudaStreamBeginCapture", stream, mode)
    try:
        yield recording
    except BaseException:
        with suppress(BackendError):
            call("cudaStreamEndCapture", stream)
        raise
    graph = call("cudaStreamEndCapture", stream)
    try:
        recording.instantiate(graph)
    finally:
        call("cudaGraphDestroy", graph)
