"""What ``vmeg-edge bench`` cannot measure, or could not write, it refuses before anything is measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.reports import make_case, make_report, make_samples
from conftest import Ran
from vmeg_edge.cli.options import DEMO_BUNDLE


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, reseal: Callable[[Path], None]) -> dict[str, str]:
    """The demo bundle, a copy of it, and one for ONNX Runtime alone."""
    folder = tmp_path_factory.mktemp("bundles")
    copy, bare = (Path(shutil.copytree(DEMO_BUNDLE, folder / f"{name}.vmeg")) for name in ("copy", "bare"))
    manifest = json.loads((bare / "manifest.json").read_text())
    manifest["artefacts"] = {"onnxruntime": manifest["artefacts"]["onnxruntime"]}
    (bare / "manifest.json").write_text(json.dumps(manifest))
    reseal(bare)
    return {"demo": str(DEMO_BUNDLE), "copy": str(copy), "bare": str(bare)}


@pytest.fixture
def places(tmp_path: Path, bundles: dict[str, str]) -> dict[str, str]:
    """Names that the bad options below use."""
    still, junk, empty, pictures = (tmp_path / name for name in ("still.png", "junk.json", "empty", "nothing"))
    cv2.imwrite(str(still), np.arange(4096, dtype=np.uint8).reshape(64, 64))
    junk.write_text("not JSON")
    (tmp_path / "version.json").write_text('{"schema_version": 99}')
    (tmp_path / "single.json").write_text(
        make_report([make_case(samples=make_samples(frames=8))]).to_json(), encoding="utf-8"
    )
    empty.mkdir()
    pictures.mkdir()
    (pictures / "notes.txt").write_text("no picture")
    return {"here": str(tmp_path), **bundles}


@pytest.fixture
def _never_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with the command line is said before a process is started."""

    def bench(*_: object, **__: object) -> None:
        raise AssertionError("it was measured all the same")

    monkeypatch.setattr("vmeg_edge.bench.run.bench", bench)


PACED = "--scenario paced"
BAD = [
    ("--backend abacus", "choose one of: onnxruntime"),
    ("--backend tensorrt", "holds no artefact for tensorrt"),
    ("--device GPU", "name one with --backend"),
    *((f"--threads {value}", "--threads") for value in ("0", "a", "1,,2", "-1", "1.5", "1025", "9" * 5000)),
    *((f"--pin {value}", "--pin") for value in ("a", "-1", "9" * 5000)),
    ("--streams 2", "--streams serves --scenario offline"),
    ("--scenario offline --threads 2 --streams 3", "give --threads 3 or more"),
    ("--fps 25", "--fps serves --scenario paced"),
    ("--deadline-ms 25", "--deadline-ms serves --scenario paced"),
    *((f"{PACED} --fps {value}", "give a rate above 0") for value in ("0", "-1", "nan", "inf")),
    *((f"{PACED} --deadline-ms {value}", "give milliseconds above 0") for value in ("0", "-1", "nan", "inf")),
    *((f"--duration {value}", "give seconds above 0") for value in ("0", "-1", "nan", "inf")),
    ("--iterations 4", "--iterations 4 over 5 rounds"),
    ("--iterations 0", "--iterations"),
    ("--compare {here}/absent.json", "No such file"),
    ("--compare {here}/junk.json", "not JSON"),
    ("--compare {here}/version.json", "schema_version is 99"),
    ("--compare {here}", "Is a directory"),
    (f"{PACED} --compare {{here}}/single.json", "is a run of scenario single, and this one is paced"),
    ("--max-regression 5", "give --compare OLD.json"),
    *((f"--max-p99-ms {value}", "--max-p99-ms") for value in ("nan", "-1", "inf")),
    ("--min-fps nan", "--min-fps"),
    ("--compare {here}/single.json --max-regression nan", "--max-regression"),
    ("--arch vit_tiny --bundle {here}", "it is no bundle"),
    ("--arch vit_tiny --arch resnet18 --arch vit_tiny", "--arch vit_tiny: given twice"),
    ("--bundle {demo} --bundle {demo}", "demo.vmeg: given twice; give each bundle once"),
    ("--bundle {copy} --bundle {demo}", "the same bundle as {copy}"),
    ("--bundle {bare} --bundle {demo} --backend openvino", "{bare}: holds no artefact for openvino"),
    ("--arch vit_tiny --bundle {bare} --backend openvino", "{bare}: holds no artefact for openvino"),
    ("--arch abacus", "--arch"),
    ("--precision int8", "--precision is that of --arch"),
    ("--bundle {here}/absent", "does not exist"),
    ("--bundle {here}/empty", "it is no bundle"),
    ("--frames {here}/still.png", "1 different frame"),
    ("--frames {here}/absent", "no such file or folder"),
    ("--frames {here}/nothing", "holds nothing that can be read"),
    ("--frames {here}/empty", "holds nothing that can be read"),
    ("--frames camera:9", "camera 9"),
    *((f"--size {value}", "--size") for value in ("0x0", "axb", "640", "1x1", "99999x99999")),
    ("--region 0,0,9999,9999", "reaches beyond the frame of 1920x1080"),
    ("--json {here}/absent/run.json", "cannot be written"),
    ("--csv {here}/absent/run.csv", "cannot be written"),
    ("--html {here}", "is a folder; name a file"),
    ("--csv {here}/one --html {here}/one", "name one file twice"),
]


@pytest.mark.usefixtures("_never_measured")
@pytest.mark.parametrize(("words", "said"), BAD, ids=[words[:60] for words, _ in BAD])
def test_what_cannot_be_measured_is_refused_at_once_in_one_line(
    vmeg_edge: Callable[..., Ran], places: dict[str, str], words: str, said: str
) -> None:
    before = sorted(Path(places["here"]).iterdir())
    ran = vmeg_edge("bench", *words.format(**places).split())
    assert ran.code == 2
    assert said.format(**places) in ran.error
    assert ran.out == ""
    assert sorted(Path(places["here"]).iterdir()) == before


@pytest.mark.usefixtures("_never_measured")
def test_a_source_without_a_name_is_refused(vmeg_edge: Callable[..., Ran]) -> None:
    assert "no source is named" in vmeg_edge("bench", "--frames", "").error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--pin 98765 --backend onnxruntime", "no processor 98765"),
        ("--device GPU --backend onnxruntime", "runs on the device CPU, and 'GPU' was asked for"),
    ],
)
def test_what_only_the_cases_process_can_tell_is_one_line_too(
    vmeg_edge: Callable[..., Ran], words: str, said: str
) -> None:
    ran = vmeg_edge("bench", "--size", "64x48", *words.split())
    assert ran.code == 2
    assert said in ran.error
    assert ran.out == ""
