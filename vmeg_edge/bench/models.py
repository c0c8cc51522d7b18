"""The bundles of a run: opened, told apart by a label each, and as the report describes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vmeg_edge.bench.report import Model
from vmeg_edge.bench.tables import plain, short
from vmeg_edge.bundle import Bundle, open_bundle
from vmeg_edge.errors import UsageError

MOST_LETTERS = 40
"""Of a label, since tables and pictures have to hold it."""


def open_models(paths: Iterable[Path]) -> dict[str, Bundle]:
    """Bundles by their labels, in the order of ``paths``.

    A label is the model's name; the folder's where two models are of one name; the folder's and the digest where these
    are equal too. Raises `UsageError` where one bundle is given twice, and what `open_bundle` raises.
    """
    bundles: dict[str, Bundle] = {}
    for path in paths:
        bundle = open_bundle(path)
        if bundle.digest in bundles:
            before = bundles[bundle.digest].path
            where = f"{path}: given twice" if before == path else f"{path}: the same bundle as {before}"
            raise UsageError(f"{where}; give each bundle once")
        bundles[bundle.digest] = bundle
    return dict(zip(_labels(list(bundles.values())), bundles.values(), strict=True))


def model_of(label: str, bundle: Bundle, notices: Iterable[str], not_run: Mapping[str, str]) -> Model:
    """As a report describes it."""
    manifest = bundle.manifest
    took = manifest.input
    return Model(
        label=label,
        name=manifest.name,
        architecture=manifest.architecture.summary,
        input=f"{took.width}x{took.height}",
        resize=took.resize,
        digest=bundle.digest,
        checkpoint=manifest.checkpoint.sha256,
        path=bundle.path.name,
        notices=tuple(dict.fromkeys(notices)),
        not_run=dict(not_run),
    )


def artefact_mb(bundle: Bundle, backend: str) -> float:
    """What the files on disk that ``backend`` opens take, in MB (1e6 bytes)."""
    files = bundle.manifest.artefacts[backend].files
    return sum((bundle.path / name).stat().st_size for name in files) / 1e6


def _labels(bundles: Sequence[Bundle]) -> list[str]:
    labels = [_word(bundle.manifest.name) for bundle in bundles]
    for longer in (_folder, lambda bundle: f"{_folder(bundle)} {bundle.digest[:12]}"):
        once = [labels.count(label) == 1 for label in labels]
        labels = [
            label if alone else _word(longer(bundle))
            for label, alone, bundle in zip(labels, once, bundles, strict=True)
        ]
    return labels


def _folder(bundle: Bundle) -> str:
    return bundle.path.name.removesuffix(".vmeg")


def _word(text: str) -> str:
    return short(plain(text), MOST_LETTERS)
