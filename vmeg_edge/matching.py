"""Which of a bundle's artefacts this processor gets, and which backend: proven for its class, the fastest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vmeg_edge import processor_class
from vmeg_edge.backends import BACKENDS, why_unusable
from vmeg_edge.backends.base import backend_entry
from vmeg_edge.bundle import Bundle
from vmeg_edge.errors import BackendMissingError, BundleError, UsageError

_WORDS = {
    "run": "run on",
    "emulated": "run as",
    "simulated": "simulated for",
    "same": "the same products on",
}


def on_this_processor(bundle: Bundle) -> Bundle:
    """Return the bundle with the artefacts that serve this machine's class of processors, one a backend.

    Raises:
        BundleError: none was proven for the class; the message has the option that makes one.
        UsageError: the class cannot be told, or was forced and does not fit.
    """
    here = processor_class.current().name
    manifest = bundle.manifest.on(here)
    if manifest.artefacts:
        return replace(bundle, manifest=manifest)
    proven = [f"{name} for {_classes_of(bundle, name)}" for name in bundle.manifest.artefacts]
    raise BundleError(
        f"{bundle.path}: holds no artefact that was proven for this processor, {here}; it holds {'; '.join(proven)}; "
        f"{_mend(here)}"
    )


def choose_backend(whole: Bundle, bundle: Bundle, asked: str | None) -> str:
    """Return the backend to open: the one asked for, or the fastest that can be used here.

    An engine for a GPU that finds its device comes first, then the ranking of this class of processors, then what the
    bundle lists.

    Args:
        whole: the bundle as it lies on disk.
        bundle: the same with the artefacts of this processor.
        asked: a backend's name, or ``None``.

    Raises:
        UsageError: the backend asked for is unknown, or the bundle has no artefact for it here.
        BundleError: this version knows none of the bundle's backends.
        BackendMissingError: none of them can be used here.
    """
    held = bundle.manifest.artefacts
    if asked is not None:
        backend_entry(asked)
        if asked in held:
            return asked
        if asked not in whole.manifest.artefacts:
            raise UsageError(f"{bundle.path}: holds no artefact for {asked}; it holds: {', '.join(held)}")
        here = processor_class.current().name
        raise UsageError(
            f"{bundle.path}: its artefact for {asked} was proven for {_classes_of(whole, asked)}, and this processor "
            f"is {here}; choose {' or '.join(held)}, or convert the checkpoint for it alone, with --target {asked} "
            f"--for {here}"
        )
    if not any(name in BACKENDS for name in held):
        raise BundleError(f"{bundle.path}: holds artefacts for {', '.join(held)} only; upgrade vmeg-edge")
    return usable_backends(bundle, most=1)[0]


def usable_backends(bundle: Bundle, most: int | None = None) -> list[str]:
    """Return the backends that can be used here, the fastest first; at most so many.

    Raises:
        BackendMissingError: there is none.
    """
    usable, reasons = [], []
    for name in _in_order(bundle):
        why = why_unusable(name)
        if why is not None:
            reasons.append(f"{name}: {why}")
            continue
        usable.append(name)
        if len(usable) == most:
            break
    if not usable:
        raise BackendMissingError(f"{bundle.path}: none of its backends can be used here: {'; '.join(reasons)}")
    return usable


def _in_order(bundle: Bundle) -> list[str]:
    known = [name for name in bundle.manifest.artefacts if name in BACKENDS]
    ranking = bundle.manifest.fastest.get(processor_class.current().name)
    places = {name: place for place, name in enumerate(ranking.backends)} if ranking is not None else {}
    on_gpu = [name for name in known if BACKENDS[name].default_device != "CPU"]
    on_cpu = [name for name in known if name not in on_gpu]
    return [*on_gpu, *sorted(on_cpu, key=lambda name: places.get(name, len(places)))]


def proven_line(proven: Mapping[str, str]) -> str:
    """Return the classes that an artefact was proven for, and how, as words."""
    by_proof: dict[str, list[str]] = {}
    for name, proof in proven.items():
        by_proof.setdefault(proof, []).append(name)
    return "proven: " + "; ".join(
        f"{_WORDS[proof]} {', '.join(by_proof[proof])}" for proof in _WORDS if proof in by_proof
    )


def _classes_of(bundle: Bundle, backend: str) -> str:
    names = dict.fromkeys(name for one in bundle.manifest.artefacts[backend].made for name in one.proven)
    return ", ".join(names)


def _mend(here: str) -> str:
    return f"convert the checkpoint again with --for {here}, or with --for all"
