"""TensorRT and TensorRT-RTX behind one adapter: the engine is built on the device from the ONNX, and kept there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge.backends import cuda
from vmeg_edge.backends.base import BackendReport, Placement, check_tensors
from vmeg_edge.backends.tensorrt_engine import (
    WORKSPACE_BYTES,
    build_engine,
    engine_library,
    engine_name,
    last_errors,
    logger,
)
from vmeg_edge.errors import BackendError, BackendMissingError, UsageError
from vmeg_edge.manifest import Manifest

_WARM_UP = 3


def find_devices() -> tuple[tuple[str, ...], str]:
    """The GPUs that CUDA finds here, or why it finds none."""
    try:
        gpus = cuda.find_gpus()
    except BackendError as error:
        return (), f"no NVIDIA GPU can be used here: {error}; engines can be built, not run"
    return tuple(f"CUDA:{gpu.index} {gpu.name} (SM {gpu.capability})" for gpu in gpus), ""


def open_model(manifest: Manifest, files: Mapping[str, bytes], placement: Placement) -> TensorRTBackend:
    """Open the artefact ``tensorrt`` of ``manifest``. Raises `UsageError`, `BackendError` or `BackendMissingError`."""
    name = manifest.artefacts["tensorrt"].files[0]
    if not name.endswith(".onnx"):
        raise BackendError(
            f"artefacts.tensorrt names {name}; an engine from elsewhere is executable code and is not opened: "
            "convert the checkpoint again, which ships the ONNX that the engine is built from"
        )
    return TensorRTBackend(manifest, files[name], placement)


class TensorRTBackend:
    """One engine, its pinned buffers, and one CUDA graph that copies a frame in, runs it and copies the answers out."""

    def __init__(self, manifest: Manifest, model: bytes, placement: Placement) -> None:
        """Find the GPU, then build the engine or take it from the cache. Raises `BackendError`."""
        trt = engine_library()
        gpu = _chosen(placement.device)
        cuda.call("cudaSetDevice", gpu.index)
        artefact = manifest.artefacts["tensorrt"]
        engine = _engine(trt, model, gpu, placement, {"precision": artefact.precision})
        self._runtime = trt.Runtime(logger(trt))
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise BackendError(
                f"{engine_name(trt)} cannot open the engine ({last_errors()}); remove the cache folder and try again"
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        found = {
            name: (_dtype(trt, self._engine.get_tensor_dtype(name)), list(self._engine.get_tensor_shape(name)))
            for name in names
        }
        check_tensors(manifest, found, engine_name(trt))
        self._buffers: dict[str, cuda.PinnedArray] = {}
        self._stream: Any = None
        self._recording: cuda.Recording | None = None
        try:
            self._context = self._engine.create_execution_context()
            self._stream = cuda.call("cudaStreamCreate")
            for name, (dtype, shape) in found.items():
                self._buffers[name] = cuda.PinnedArray(tuple(shape), dtype)
                self._context.set_tensor_address(name, self._buffers[name].device)
            self._pixels = self._buffers["pixels"].host
            self._logits, self._seen = self._buffers["logits"].host[0], self._buffers["activations"].host[0]
            graph = self._prepare()
        except BaseException:
            self.close()
            raise
        self.report = BackendReport(
            backend="tensorrt",
            version=engine_name(trt),
            requested_device=placement.device,
            device=f"CUDA:{gpu.index}",
            precision=artefact.precision,
            threads=1,
            float_precision=artefact.float_precision,
            details={
                "device_name": gpu.name,
                "compute_capability": gpu.capability,
                "driver": gpu.driver,
                "cuda_graph": graph,
                "cache": "off" if placement.cache is None else placement.cache.state,
            },
        )

    def infer(
        self, pixels: npt.NDArray[np.uint8], home: npt.NDArray[np.int32] | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(logits ``[classes]``, activations ``[rows * columns, channels]``) of uint8 ``[1, H, W, 3]``."""
        if home is not None:
            raise BackendError("backend tensorrt has no sized models; leave the sector out")
        np.copyto(self._pixels, pixels)
        if self._recording is None:
            self._queue()
        else:
            self._recording.launch(self._stream)
        cuda.call("cudaStreamSynchronize", self._stream)
        return self._logits, self._seen

    def close(self) -> None:
        """Free the graph, the buffers, the stream and the engine."""
        if self._recording is not None:
            self._recording.free()
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers = {}
        if self._stream is not None:
            cuda.call("cudaStreamDestroy", self._stream)
            self._stream = None
        self._context = self._engine = self._runtime = None

    def _queue(self) -> None:
        self._buffers["pixels"].upload(self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise BackendError(f"TensorRT failed on a frame ({last_errors()}); run `vmeg-edge verify`")
        self._buffers["logits"].download(self._stream)
        self._buffers["activations"].download(self._stream)

    def _prepare(self) -> str:
        """Warm up, which compiles what is compiled on first use, then record; says whether a CUDA graph runs."""
        for _ in range(_WARM_UP):
            self._queue()
        cuda.call("cudaStreamSynchronize", self._stream)
        try:
            with cuda.record(self._stream) as recording:
                self._queue()
        except BackendError as error:
            return f"no: {error}"
        self._recording = recording
        return "yes"


def _engine(trt: Any, model: bytes, gpu: cuda.Gpu, placement: Placement, options: Mapping[str, str]) -> bytes:
    cache = placement.cache
    depends = cache_key(trt, gpu, options)
    if cache is not None:
        engine = cache.fetch(depends)
        if engine is not None:
            return engine
    engine = build_engine(trt, model, progress=placement.progress)
    if cache is not None:
        cache.store(depends, engine)
    return engine


def cache_key(trt: Any, gpu: cuda.Gpu, options: Mapping[str, str]) -> dict[str, str | int]:
    """All that an engine depends on beside the model's digest."""
    return {
        "backend": "tensorrt",
        "version": engine_name(trt),
        "device_name": gpu.name,
        "compute_capability": gpu.capability,
        "driver": gpu.driver,
        "workspace_bytes": WORKSPACE_BYTES,
        **options,
    }


def _chosen(asked: str) -> cuda.Gpu:
    family, _, index = asked.upper().partition(":")
    if family not in ("CUDA", "GPU") or not (index or "0").isdigit():
        raise UsageError(f"backend tensorrt has no device {asked!r}; name a GPU such as CUDA:0")
    try:
        gpus = cuda.find_gpus()
    except BackendMissingError:
        raise
    except BackendError as error:
        raise BackendError(
            f"backend tensorrt looked for an NVIDIA GPU and found none: {error}; install NVIDIA's driver, "
            "or choose another backend"
        ) from None
    place = int(index or "0")
    if place >= len(gpus):
        found = ", ".join(f"CUDA:{gpu.index} {gpu.name}" for gpu in gpus) or "none"
        raise BackendError(f"backend tensorrt looked for CUDA:{place} and found: {found}")
    return gpus[place]


def _dtype(trt: Any, dtype: Any) -> str:
    return str(np.dtype(trt.nptype(dtype)).name)
