"""The versions of every tool that had a hand in a conversion, for the manifest."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from vmeg_edge._version import __version__

_ALWAYS = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
_FOR_TARGET = {
    "onnxruntime": (),
    "openvino": ("openvino", "nncf"),
    "tensorrt": ("tensorrt", "tensorrt-rtx", "tensorrt-rtx-cu13-bindings"),
}


def tool_versions(targets: tuple[str, ...] = ()) -> dict[str, str]:
    """Package to version, of those that are installed and that ``targets`` use."""
    packages = [*_ALWAYS, *(package for target in targets for package in _FOR_TARGET[target])]
    found = {"vmeg-edge": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
