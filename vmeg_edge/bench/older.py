"""Reports of earlier schema versions in the form of the present one, so that a run of then can be held against now."""

from __future__ import annotations

from typing import Any

OLDER = (1,)
"""The versions that `lifted` takes."""


def lifted(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 1 as version 2: one model, whose notices and unused backends were the report's.

    What has not the form of version 1 is left for the schema to refuse.
    """
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
