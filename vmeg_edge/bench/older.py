"""Reports of earlier schema versions in the form of the present one, so that a run of then can be held against now."""

from __future__ import annotations

from typing import Any

OLDER = (1, 2)
"""The versions that `lifted` takes."""


def lifted(raw: dict[str, Any]) -> dict[str, Any]:
    """A report of version 1 or 2 as version 3.

    What has not the form of its version is left for the schema to refuse.
    """
    return _third(_second(raw) if raw["schema_version"] == 1 else raw)


def _third(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 2 as version 3: it told the usable processors alone, and neither a quota nor a class."""
    rest = {**raw, "schema_version": 3}
    environment = raw.get("environment")
    if isinstance(environment, dict):
        untold = {"affinity_processors": None, "quota_processors": None, "processor_class": "unknown"}
        rest["environment"] = {**environment, **untold}
    return rest


def _second(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 1 as version 2: one model, whose notices and unused backends were the report's."""
    rest = {**raw, "schema_version": 2}
    model, cases = raw.get("model"), raw.get("cases")
    if not isinstance(model, dict) or not isinstance(cases, list):
        return rest
    about = {name: rest.pop(name) for name in ("notices", "not_run") if name in rest}
    label = model.get("name")
    del rest["model"]
    rest["models"] = [{"label": label, **model, **about}]
    rest["cases"] = [{**case, "model": label} if isinstance(case, dict) else case for case in cases]
    return rest
