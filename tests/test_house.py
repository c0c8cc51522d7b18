"""The house holds: who may import whom, what a bare import loads, and what is installed."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / "vmeg_edge"
TOOLCHAIN_ONLY = {
    "torch",
    "onnx",
    "onnxscript",
    "nncf",
    "safetensors",
    "sklearn",
    "scipy",
    "matplotlib",
    "torchvision",
    "timm",
}

TALKATIVE = {"onnxruntime", "openvino", "nncf"}

# Each room and the rooms of the runtime that it may import at any depth of its own files.
MAY_IMPORT = {
    "errors": set(),
    "_version": set(),
    "processors": set(),
    "spawning": set(),
    "frames": {"errors"},
    "outputs": {"errors"},
    "results": {"frames"},
    "manifest": {"errors"},
    "parity": {"errors", "results"},
    "silence": set(),
    "bundle": {"errors", "manifest", "outputs", "processors"},
    "golden": {"errors", "frames", "manifest"},
    "kernels": {"errors", "frames", "_native"},
    "processor_class": {"errors", "kernels"},
    "preprocess": {"errors", "frames", "kernels", "manifest"},
    "explain": {"frames", "kernels", "results"},
    "decide": {"errors", "manifest", "results"},
    "gate": {"errors", "kernels", "manifest", "results"},
    "sector": {"backends", "errors"},
    "exam": {"errors", "results"},
    "live": {"errors", "exam", "frames", "results"},
    "recording": {"errors", "exam", "frames", "live", "outputs"},
    "backends": {"errors", "manifest", "outputs", "processor_class", "processors", "silence"},
    "sources": {"errors", "frames", "phantom", "processors", "spawning"},
    "sinks": {"errors", "explain", "frames", "manifest", "outputs", "results"},
    "serve": {"_version", "errors", "explain", "frames", "manifest", "results", "sinks"},
    "phantom": {"errors", "frames"},
    "bench": None,
    "scorer": None,
    "loading": None,
    "matching": {"backends", "bundle", "errors", "processor_class"},
    "tuning": {"bench", "errors"},
    "tuner": None,
    "streaming": None,
    "replaying": None,
    "cli": None,
    "__init__": None,
    "__main__": {"cli"},
}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: the runtime imports by full names"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _room(path: Path) -> str:
    return path.relative_to(RUNTIME).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_runtime_never_imports_the_toolchain_and_rooms_keep_their_direction(path: Path) -> None:
    names = _imports(path)
    assert not {name.partition(".")[0] for name in names} & TOOLCHAIN_ONLY
    assert not any(name.startswith("vmeg_edge.converters") for name in names)
    room = _room(path)
    allowed = MAY_IMPORT[room]
    if allowed is None:
        return
    for name in names:
        parts = name.split(".")
        if parts[0] == "vmeg_edge" and len(parts) > 1:
            assert parts[1] in allowed | {room}, f"{room} imports {name}"


def _loud_imports(tree: ast.AST, quiet: bool = False) -> list[int]:
    """The lines that import an engine outside `with silence():`."""
    lines = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            engines = {name.partition(".")[0] for name in names} & TALKATIVE
            lines += [node.lineno] if engines and not quiet and not getattr(node, "level", 0) else []
        silenced = isinstance(node, ast.With) and any(ast.unparse(i.context_expr) == "silence()" for i in node.items)
        # What a function does when it is called is not inside the region that it was defined in.
        inside = (quiet or silenced) and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        lines += _loud_imports(node, inside)
    return lines


def test_every_import_of_an_engine_is_silenced() -> None:
    """Tests are silenced as a whole, by their conftest."""
    loud = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("vmeg_edge", "converters", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in _loud_imports(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not loud, "import these inside `with silence():` of vmeg_edge.silence"


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("import openvino as ov", [1]),
        ("def f():\n    from onnxruntime.quantization import QuantType", [2]),
        ("with silence():\n    import nncf\nimport nncf.torch", [3]),
        ("with silence():\n    def f():\n        import nncf", [3]),
        ("with silence():\n    try:\n        import nncf\n    except ImportError:\n        pass", []),
        ("from .onnxruntime import open_model\nfrom vmeg_edge.backends import onnxruntime", []),
    ],
)
def test_what_counts_as_a_silenced_import(code: str, lines: list[int]) -> None:
    assert _loud_imports(ast.parse(code)) == lines


def test_a_bare_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, vmeg_edge; "
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'pydantic', 'torch', 'click', 'rich'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_loads_no_engine() -> None:
    code = (
        "import sys; from vmeg_edge.cli import run; run(['--help']); "
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'torch', 'rich'} & set(sys.modules); sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_sorted_and_all_there() -> None:
    import vmeg_edge

    assert vmeg_edge.__all__ == sorted(vmeg_edge.__all__)
    for name in vmeg_edge.__all__:
        assert getattr(vmeg_edge, name) is not None
    import vmeg_edge.streaming  # importing the module must not hide the function

    assert callable(vmeg_edge.stream)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = vmeg_edge.nonsense


def test_every_error_is_in_the_tree_drawn_in_its_module() -> None:
    from vmeg_edge import errors

    drawn = errors.__doc__ or ""
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert name in drawn
            assert issubclass(value, errors.VmegError)


def test_what_is_installed_says_that_it_is_typed_and_carries_the_demo_bundle() -> None:
    installed = resources.files("vmeg_edge")
    assert (installed / "py.typed").is_file()
    assert (installed / "demo.vmeg" / "SHA256SUMS").is_file()
