"""``vmeg-edge info``: what this machine has, and what is missing with the command that adds it."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import click

from vmeg_edge.cli.console import open_console, table

_PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13-bindings",
    "cuda-bindings",
    "pydantic",
    "pydicom",
    "torch",
    "onnx",
    "nncf",
)

RUN_ON_HARDWARE = {
    "onnxruntime": "has run on x86-64 CPUs",
    "openvino": "has run on x86-64 CPUs, never yet on an Intel GPU or NPU",
    "tensorrt": "has built engines for SM 8.9 and 12.0 (TensorRT-RTX), and has never yet run on a GPU",
}
"""What this release has been run on, as plain words: an untried path says so."""


@click.command(name="info")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(as_json: bool) -> None:
    """Show backends, kernels, CPU features, versions and the embedded bundle.

    \b
    Examples:
      vmeg-edge info
      vmeg-edge info --json
    """
    content = _collect()
    if as_json:
        click.echo(json.dumps(content, indent=2))
        return
    _show(content)


def _show(content: dict[str, Any]) -> None:
    console = open_console()
    console.print(f"vmeg-edge {content['vmeg_edge']}, Python {content['python']}, {content['platform']}")
    quota = content["quota_processors"]
    granted = f"affinity {content['affinity_processors']}, CPU quota {'none' if quota is None else f'{quota:g}'}"
    console.print(f"processors usable: {content['usable_processors']} ({granted})")
    kernels = content["kernels"]
    if "error" in kernels:
        console.print(f"kernels: {kernels['error']}", style="red")
    else:
        console.print(f"kernels: {kernels['implementation']}, {kernels['isa'] or 'NumPy'} ({kernels['reason']})")
        console.print(f"  instruction sets here: {', '.join(kernels['isa_available']) or 'none built'}")
    console.print(f"processor class: {content['processor_class']} (CPU features: {', '.join(content['cpu_features'])})")
    backends = [
        (b["name"], b["version"] or "-", ", ".join(b["found"]) or "none found", b["state"]) for b in content["backends"]
    ]
    console.print(table("backends", ("name", "version", "devices here", "state"), backends, text_columns=4))
    for backend in content["backends"]:
        console.print(f"{backend['name']}: this release {backend['run_on_hardware']}")
    for engine, told in content["telemetry"].items():
        console.print(f"telemetry of {engine}: {'off' if told['off'] else 'perhaps on'}, {told['means']}")
    console.print(f"engine cache: {content['engine_cache']} (set {content['cache_variable']} to move it)")
    inputs = [(source["formats"], source["reason"]) for source in content["sources"]]
    console.print(table("inputs", ("formats", "state"), inputs, text_columns=2))
    versions = ", ".join(f"{name} {value or 'absent'}" for name, value in content["packages"].items())
    console.print(f"packages: {versions}")
    demo = content["demo_bundle"]
    console.print(f"embedded bundle: {demo.get('error') or demo['summary']}")


def _collect() -> dict[str, Any]:
    from vmeg_edge import kernels, processor_class
    from vmeg_edge._version import __version__
    from vmeg_edge.backends import BACKENDS, availability, cache_folder, devices_of
    from vmeg_edge.backends.cache import CACHE_VARIABLE
    from vmeg_edge.bundle import open_bundle
    from vmeg_edge.cli.options import DEMO_BUNDLE
    from vmeg_edge.errors import VmegError
    from vmeg_edge.processors import processors
    from vmeg_edge.silence import SWITCHES, telemetry_of
    from vmeg_edge.sources.base import KINDS
    from vmeg_edge.sources.opening import require

    said_class: str
    try:
        said_class = processor_class.current().name
    except VmegError as error:
        said_class = str(error)
    described: dict[str, Any]
    try:
        described = kernels.describe()
    except VmegError as error:
        described = {"error": str(error)}
    backends = []
    for name in BACKENDS:
        found = availability(name)
        devices, why = devices_of(name) if found.usable else ((), found.reason)
        backends.append(
            {
                **asdict(found.entry),
                "version": found.version,
                "found": list(devices),
                "state": "; ".join(part for part in ("usable" if devices else "", why) if part),
                "run_on_hardware": RUN_ON_HARDWARE[name],
            }
        )
    usable = {backend["name"] for backend in backends if backend["version"]}
    sources = []
    for kind in KINDS:
        try:
            require(kind, kind.kind)
            reason = "usable"
        except VmegError as error:
            reason = str(error)
        sources.append({"kind": kind.kind, "formats": kind.formats, "reason": reason})
    demo: dict[str, Any]
    try:
        bundle = open_bundle(DEMO_BUNDLE)
        manifest = bundle.manifest
        demo = {
            "digest": bundle.digest,
            "summary": f"{manifest.name} ({bundle.digest[:12]}), {manifest.architecture.summary}, "
            f"{manifest.input.width}x{manifest.input.height}, "
            f"for {', '.join(manifest.artefacts)}; {manifest.intended_use}",
        }
    except VmegError as error:
        demo = {"error": str(error)}
    return {
        "vmeg_edge": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **processors().to_json(),
        "processor_class": said_class,
        "cpu_features": list(processor_class.features_here()),
        "kernels": described,
        "backends": backends,
        "telemetry": {name: asdict(telemetry_of(name)) for name in SWITCHES if find_spec(name) or name in usable},
        "engine_cache": str(cache_folder()),
        "cache_variable": CACHE_VARIABLE,
        "sources": sources,
        "packages": {name: _version(name) for name in _PACKAGES},
        "demo_bundle": demo,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
