"""OpenVINO on a named device: precision pinned and read back, engines cached, no silent fall-back."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge import processor_class
from vmeg_edge.backends.base import BackendReport, Placement, check_tensors, inputs_of
from vmeg_edge.errors import BackendError, UsageError
from vmeg_edge.manifest import Artefact, Manifest
from vmeg_edge.processors import processors
from vmeg_edge.silence import silence

with silence():
    import openvino as ov

ISA_VARIABLE = "ONEDNN_MAX_CPU_ISA"
"""oneDNN's own limit to a lesser processor's instructions; an engine that was compiled under it is kept apart."""

_HINTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_FAMILIES = ("CPU", "GPU", "NPU")
_DRIVERS = {
    "GPU": "Intel's OpenCL driver (Debian and Ubuntu: apt install intel-opencl-icd)",
    "NPU": "Intel's NPU driver (github.com/intel/linux-npu-driver)",
}
_INT8 = ("i8", "u8")
_DTYPES = {"u8": "uint8", "f32": "float32", "uint8_t": "uint8", "float": "float32"}


def open_model(manifest: Manifest, files: Mapping[str, bytes], placement: Placement) -> OpenVinoBackend:
    """Open the artefact ``openvino`` of ``manifest``. Raises `UsageError` or `BackendError`."""
    artefact = manifest.artefacts["openvino"]
    if len(artefact.files) > 2:
        raise BackendError("artefacts.openvino must name an .onnx, or an .xml and a .bin file; convert again")
    return OpenVinoBackend(manifest, artefact, files, placement)


def find_devices() -> tuple[tuple[str, ...], str]:
    """The devices that OpenVINO finds here, and what the others would need."""
    found = tuple(ov.Core().available_devices)
    missing = [f"{name} needs {driver}" for name, driver in _DRIVERS.items() if not any(name in d for d in found)]
    return found, "; ".join(missing)


class OpenVinoBackend:
    """One compiled model and one request.

    The precision of everything that is not int8 is pinned by ``INFERENCE_PRECISION_HINT`` and read back: a device that
    computes in another, or an int8 model of which no layer runs in int8, is refused.
    """

    def __init__(
        self, manifest: Manifest, artefact: Artefact, files: Mapping[str, bytes], placement: Placement
    ) -> None:
        """Compile the model, or take it from the cache. Raises `UsageError` or `BackendError`."""
        core = ov.Core()
        device = _checked_device(core, placement.device)
        hint = _HINTS[artefact.float_precision]
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": placement.hint}
        if device == "CPU":
            options["INFERENCE_NUM_THREADS"] = placement.threads
            # Pinned, the lone threads of two models in one process, or of two containers that a quota holds to one
            # thread each, land on the same processor.
            options["ENABLE_CPU_PINNING"] = placement.threads >= processors().affinity
        compiled = _compiled(core, device, artefact, files, placement, options)

        tensors = [*compiled.inputs, *compiled.outputs]
        found = {port.any_name: (_dtype(port), list(port.shape)) for port in tensors}
        check_tensors(manifest, found, "OpenVINO")
        actual = _precision(compiled)
        if actual != artefact.float_precision:
            raise BackendError(
                f"OpenVINO computes {actual} on {device} where the bundle asks for {artefact.float_precision}; "
                f"convert with --precision {actual}, or choose another device"
            )
        layers = _layers(compiled) if device == "CPU" else Counter()
        in_int8 = sum(count for precision, count in layers.items() if precision in _INT8)
        if artefact.precision == "int8" and device == "CPU" and in_int8 == 0:
            raise BackendError(f"OpenVINO runs no layer of this int8 model in int8 on {device}; choose another backend")
        details: dict[str, Any] = {"hint": placement.hint, "device_name": _full_name(core, device)}
        if layers:
            details["int8_layers"] = in_int8
        details["cache"] = "off" if placement.cache is None else placement.cache.state
        self._request = compiled.create_infer_request()
        self._compiled = compiled
        self.report = BackendReport(
            backend="openvino",
            version=_version(),
            requested_device=placement.device,
            device=",".join(compiled.get_property("EXECUTION_DEVICES")),
            precision=artefact.precision,
            threads=int(compiled.get_property("INFERENCE_NUM_THREADS")) if device == "CPU" else placement.threads,
            float_precision=actual,
            details=details,
        )

    def infer(
        self, pixels: npt.NDArray[np.uint8], home: npt.NDArray[np.int32] | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(logits ``[classes]``, activations ``[rows * columns, channels]``) of uint8 ``[1, H, W, 3]``."""
        try:
            self._request.infer(inputs_of(pixels, home), share_inputs=True)
        except Exception as error:
            raise BackendError(f"OpenVINO failed on a frame ({_one_line(error)}); run `vmeg-edge verify`") from None
        return self._request.get_tensor("logits").data[0], self._request.get_tensor("activations").data[0]

    def close(self) -> None:
        """Free the request and the compiled model."""
        del self._request, self._compiled


def _checked_device(core: ov.Core, asked: str) -> str:
    """The device's name as OpenVINO writes it. Raises `UsageError` for a group, `BackendError` where it is absent."""
    device = asked.upper()
    family = device.partition(".")[0]
    if family not in _FAMILIES:
        raise UsageError(
            f"backend openvino has no device {asked!r}; name one device, {', '.join(_FAMILIES)} or GPU.1: a group such "
            "as AUTO or HETERO would choose in silence"
        )
    found = list(core.available_devices)
    if device not in found and not any(name.partition(".")[0] == device for name in found):
        needs = _DRIVERS.get(family)
        mend = f"; {family} needs {needs}" if needs else ""
        raise BackendError(f"OpenVINO looked for the device {device} and found: {', '.join(found) or 'none'}{mend}")
    return device


def _compiled(
    core: ov.Core,
    device: str,
    artefact: Artefact,
    files: Mapping[str, bytes],
    placement: Placement,
    options: dict[str, Any],
) -> ov.CompiledModel:
    """From the cache where this device put it there, else compiled from the verified bytes."""
    cache = placement.cache
    depends: dict[str, str | int] = {
        "backend": "openvino",
        "version": _version(),
        "device": device,
        "device_name": _full_name(core, device),
        "driver": _driver(core, device),
        "processor": f"{processor_class.current().name} {os.environ.get(ISA_VARIABLE, '')}".strip(),
        "precision": artefact.precision,
        **options,
    }
    if cache is not None:
        engine = cache.fetch(depends)
        if engine is not None:
            try:
                return core.import_model(engine, device, options)
            except Exception as error:
                cache.state = f"refused: OpenVINO cannot import it ({_one_line(error)})"
    model_bytes, *weights = (files[name] for name in artefact.files)
    placement.progress("compiling for OpenVINO", 0, 1)
    try:
        model = core.read_model(model_bytes, *(weights or [b""]))
        compiled = core.compile_model(model, device, options)
    except Exception as error:
        raise BackendError(
            f"OpenVINO {_version()} cannot compile the model for {device} ({_one_line(error)}); "
            "convert the checkpoint again, or upgrade openvino"
        ) from None
    placement.progress("compiling for OpenVINO", 1, 1)
    if cache is not None:
        _keep(cache, depends, compiled)
    return compiled


def _keep(cache: Any, depends: Mapping[str, str | int], compiled: ov.CompiledModel) -> None:
    try:
        engine = compiled.export_model().getvalue()
    except Exception as error:
        cache.state = f"unusable: the device cannot export ({_one_line(error)})"
        return
    cache.store(depends, engine)


def _layers(compiled: ov.CompiledModel) -> Counter[str]:
    """How many products (matrix products, convolutions) run in each precision, by the executable graph."""
    counts: Counter[str] = Counter()
    for op in compiled.get_runtime_model().get_ops():
        info = op.get_rt_info()
        if _text(info, "layerType") in ("FullyConnected", "MatMul", "Convolution"):
            counts[_text(info, "runtimePrecision")] += 1
    return counts


def _text(info: Any, key: str) -> str:
    value = info[key] if key in info else ""  # noqa: SIM401
    return str(getattr(value, "value", value))


def _precision(compiled: ov.CompiledModel) -> str:
    names = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
    found = compiled.get_property("INFERENCE_PRECISION_HINT")
    name = str(found.get_type_name())
    return names.get(name, name)


def _dtype(port: Any) -> str:
    name = str(port.element_type.get_type_name())
    return _DTYPES.get(name, name)


def _full_name(core: ov.Core, device: str) -> str:
    return str(core.get_property(device, "FULL_DEVICE_NAME"))


def _driver(core: ov.Core, device: str) -> str:
    """The version of the device's driver; the CPU has its instruction sets instead."""
    for name in ("NPU_DRIVER_VERSION", "GPU_DRIVER_VERSION", "OPTIMIZATION_CAPABILITIES"):
        with contextlib.suppress(Exception):
            return f"{name}={core.get_property(device, name)}"
    return "unknown"


def _version() -> str:
    return str(ov.get_version())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
