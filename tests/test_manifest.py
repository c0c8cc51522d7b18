"""The manifest's JSON Schema is the contract that other tools read."""

from __future__ import annotations

import json
from pathlib import Path

from vmeg_edge.bundle import open_bundle
from vmeg_edge.manifest import Manifest, manifest_schema, parse_manifest


def test_the_schema_forbids_what_nothing_would_keep_and_names_what_is_required(demo_bundle: Path) -> None:
    schema = manifest_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["schema_version"]["const"] == 1
    content = json.loads((demo_bundle / "manifest.json").read_text())
    assert set(schema["required"]) <= set(content) <= set(schema["properties"])
    for part in schema["$defs"].values():
        assert part["additionalProperties"] is False


def test_text_and_object_are_one_another(demo_bundle: Path) -> None:
    manifest = open_bundle(demo_bundle).manifest
    again = parse_manifest(manifest.to_json().encode(), "again")
    assert again == manifest
    assert isinstance(again, Manifest)
    assert manifest.to_json() == (demo_bundle / "manifest.json").read_text()


def test_what_must_be_said_is_said_in_order(demo_bundle: Path) -> None:
    manifest = open_bundle(demo_bundle).manifest
    random = manifest.architecture.model_copy(update={"head": "random"})
    notices = manifest.model_copy(update={"architecture": random}).notices
    assert [notice.split(":")[0].split(";")[0] for notice in notices] == [
        "RANDOM HEAD",
        "DEMO MODEL",
        "Research use only",
    ]
    assert manifest.model_copy(update={"trained_on": None}).notices == notices[2:]
