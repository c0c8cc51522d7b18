"""JSON lines: one a result, provenance in full once."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from vmeg_edge.errors import OutputError
from vmeg_edge.sinks import JsonLines


def test_one_line_a_result_and_provenance_once(scored: list, tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "r.jsonl")
    for frame, result in scored:
        sink.write(frame, result)
    assert not (tmp_path / "r.jsonl").exists()
    sink.close()
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [frame.index for frame, _ in scored]
    digest = scored[0][1].provenance["bundle"]
    assert lines[0]["provenance"]["bundle"] == digest
    assert [line["provenance"] for line in lines[1:]] == [digest] * (len(lines) - 1)
    assert all("Research use only" in line["notices"][-1] for line in lines)


def test_aborting_leaves_nothing(scored: list, tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "r.jsonl")
    sink.write(*scored[0])
    sink.abort()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_stream_is_written_line_by_line_and_stays_open(scored: list) -> None:
    stream = io.StringIO()
    sink = JsonLines(stream)
    sink.write(*scored[0])
    assert stream.getvalue().count("\n") == 1
    sink.close()
    sink.abort()
    assert not stream.closed


def test_a_folder_as_the_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        JsonLines(tmp_path)
