"""What a conversion makes for which classes of processors, and what it leaves out."""

from __future__ import annotations

import pytest
from vmeg_edge.converters import slots
from vmeg_edge.converters.slots import asked_for, plan

from vmeg_edge.errors import UsageError
from vmeg_edge.manifest import Precision
from vmeg_edge.processor_class import CLASSES, ProcessorClass

AVX2, AVX_VNNI, VNNI = (CLASSES[name] for name in ("x86-avx2", "x86-avx-vnni", "x86-avx512-vnni"))
SATURATING = ["x86", "x86-avx2", "x86-avx512"]
X86_EXACT = ["x86-avx-vnni", "x86-avx512-vnni", "x86-amx"]
ARM = ["arm64", "arm64-dotprod", "arm64-i8mm"]


@pytest.fixture(params=["x86-avx2", "x86-avx512-vnni", "arm64-dotprod"])
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The class of this machine, as the test would have it."""
    monkeypatch.setattr(slots.processor_class, "current", lambda: CLASSES[request.param])
    return str(request.param)


def names(classes: tuple[ProcessorClass, ...]) -> list[str]:
    return [one.name for one in classes]


def test_without_asking_this_machines_class_is_served_and_all_with_the_same_products(here: str) -> None:
    (slot,), left_out = plan(["onnxruntime"], "int8", (), transformer=True)
    assert not left_out
    assert names(slot.asked) == [here]
    assert slot.safe == (here == "x86-avx2")
    assert names(slot.claimed) == (list(CLASSES) if slot.safe else X86_EXACT + ARM)
    assert slot.timed_here
    assert slot.exact_here
    assert slot.proofs(simulated=False)[here] == "run"


def test_all_classes_share_two_files_and_this_machines_comes_first(here: str) -> None:
    made, left_out = plan(["onnxruntime"], "int8", asked_for(["all"]), transformer=True)
    assert not left_out
    first, second = made
    assert here in names(first.asked)
    assert (first.suffix, second.suffix) == ("", f"-{second.asked[0].name}")
    assert sorted([*names(first.claimed), *names(second.claimed)]) == sorted(CLASSES)
    assert {first.safe, second.safe} == {True, False}
    foreign = next(slot for slot in made if not slot.safe)
    assert foreign.exact_here == (here != "x86-avx2")
    proofs = foreign.proofs(simulated=not foreign.exact_here)
    assert set(proofs.values()) == ({"simulated"} if here == "x86-avx2" else {"run", "same"})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_float_artefacts_serve_every_class_or_say_none(precision: Precision, here: str) -> None:
    made, _ = plan(["openvino", "tensorrt"], precision, (), transformer=True)
    assert [slot.target for slot in made] == ["openvino", "tensorrt"]
    assert names(made[0].claimed) == ([name for name in CLASSES if name != "x86"] if precision == "float32" else [])
    assert made[1].claimed == ()
    assert made[0].timed_here, here


def test_openvinos_int8_of_a_vit_is_left_out_where_it_gains_nothing_and_onnx_runtime_serves(here: str) -> None:
    made, left_out = plan(["openvino", "onnxruntime"], "int8", (AVX2, AVX_VNNI), transformer=True)
    openvino = [slot for slot in made if slot.target == "openvino"]
    assert [names(slot.asked) for slot in openvino] == [["x86-avx-vnni"]]
    assert names(openvino[0].claimed) == X86_EXACT
    assert any("no int8 for x86-avx2; without VNNI" in line for line in left_out)
    alone, left_out = plan(["openvino"], "int8", (AVX2, AVX_VNNI), transformer=True)
    assert sorted(slot.safe for slot in alone) == [False, True]
    assert not left_out
    convolutional, left_out = plan(["openvino", "onnxruntime"], "int8", (AVX2,), transformer=False)
    assert len(convolutional) == 2, here
    assert not left_out


def test_nothing_left_to_make_is_refused_with_the_reason(here: str) -> None:
    with pytest.raises(UsageError, match=r"nothing is left to make: openvino: no int8 for arm64; it has not been"):
        plan(["openvino"], "int8", (CLASSES["arm64"],), transformer=True)
    assert here


def test_what_for_names_is_read_or_refused() -> None:
    assert names(asked_for(["x86-avx512-vnni,x86-avx2", "arm64"])) == ["x86-avx2", "x86-avx512-vnni", "arm64"]
    assert names(asked_for(["all"])) == list(CLASSES)
    assert asked_for([]) == ()
    with pytest.raises(UsageError, match=r"--for 'x87' is no processor class; choose one of x86, x86-avx2"):
        asked_for(["x87"])
    with pytest.raises(UsageError, match="--for names no processor class"):
        asked_for([" , "])


def test_openvino_is_held_only_to_lesser_classes_that_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots.processor_class, "current", lambda: VNNI)
    monkeypatch.setattr(slots.processor_class, "features_here", lambda: tuple(VNNI.needs))
    made, _ = plan(["openvino"], "int8", asked_for(["all"]), transformer=True)
    ran_as = {one.name for slot in made for one in slot.emulated}
    assert ran_as == {"x86-avx2", "x86-avx512"}
    safe = next(slot for slot in made if slot.safe)
    assert safe.proofs(simulated=False, ran_as=("x86-avx2",)) == {"x86-avx2": "emulated", "x86-avx512": "same"}
