"""A bundle of several classes: each processor gets what was proven for it, the fastest first, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import vmeg_edge as sdk
from vmeg_edge import matching
from vmeg_edge.bundle import Bundle, open_bundle
from vmeg_edge.errors import BundleError, UsageError
from vmeg_edge.manifest import Artefact, Manifest, Proof, Ranking, Variant, parse_manifest
from vmeg_edge.processor_class import CLASS_VARIABLE, CLASSES, current

HERE = current().name
ELSEWHERE = "x86-amx" if HERE != "x86-amx" else "arm64-i8mm"


def bundle_of(demo_bundle: Path, artefacts: dict[str, Artefact], fastest: dict[str, Ranking] | None = None) -> Bundle:
    bundle = open_bundle(demo_bundle)
    manifest = bundle.manifest.model_copy(update={"artefacts": artefacts, "fastest": fastest or {}})
    return replace(bundle, manifest=manifest)


def artefact(*, proven: dict[str, Proof], file: str = "model.onnx", variants: tuple[Variant, ...] = ()) -> Artefact:
    return Artefact(files=(file,), precision="int8", proven=proven, variants=variants)


def test_each_class_gets_the_first_variant_that_was_proven_for_it() -> None:
    second = Variant(files=("b.onnx",), precision="int8", proven={"x86-amx": "simulated", "arm64": "same"})
    both = artefact(file="a.onnx", proven={"x86-avx2": "run"}, variants=(second,))
    for name, file in (("x86-avx2", "a.onnx"), ("x86-amx", "b.onnx"), ("arm64", "b.onnx")):
        found = both.on(name)
        assert found is not None
        assert (found.files, found.variants) == ((file,), ())
    assert both.on("x86-avx512") is None
    assert artefact(proven={}).on("x86-avx512") is not None, "made before there were classes: the golden frames decide"


def test_a_manifest_keeps_its_variants_and_an_older_one_its_bytes(demo_bundle: Path) -> None:
    old = open_bundle(demo_bundle)
    again = parse_manifest(old.manifest.to_json().encode(), "m")
    assert again == old.manifest
    if not any(one.proven for one in old.manifest.artefacts.values()):
        assert "proven" not in old.manifest.to_json()
        assert "fastest" not in old.manifest.to_json()
    second = Variant(files=("b.onnx",), precision="int8", proven={"arm64": "same"})
    artefacts = {"onnxruntime": artefact(proven={"x86-avx2": "run"}, variants=(second,))}
    fastest = {"x86-avx2": Ranking(backends=("onnxruntime",), measured=True)}
    changed = old.manifest.model_copy(update={"artefacts": artefacts, "fastest": fastest})
    assert Manifest.model_validate_json(changed.to_json()) == changed


def test_a_bundle_with_nothing_for_this_class_is_refused_with_the_command_that_makes_it(demo_bundle: Path) -> None:
    bundle = bundle_of(demo_bundle, {"onnxruntime": artefact(proven={ELSEWHERE: "run"})})
    with pytest.raises(
        BundleError, match=f"proven for this processor, {HERE}; it holds onnxruntime for {ELSEWHERE}"
    ) as said:
        matching.on_this_processor(bundle)
    assert str(said.value).endswith(f"convert the checkpoint again with --for {HERE}, or with --for all")


def test_a_backend_that_was_proven_for_others_alone_is_refused_by_name(demo_bundle: Path) -> None:
    whole = bundle_of(
        demo_bundle, {"openvino": artefact(proven={ELSEWHERE: "run"}), "onnxruntime": artefact(proven={HERE: "run"})}
    )
    bundle = matching.on_this_processor(whole)
    assert list(bundle.manifest.artefacts) == ["onnxruntime"]
    assert matching.choose_backend(whole, bundle, None) == "onnxruntime"
    with pytest.raises(
        UsageError, match=f"its artefact for openvino was proven for {ELSEWHERE}.*choose onnxruntime, or"
    ):
        matching.choose_backend(whole, bundle, "openvino")
    with pytest.raises(UsageError, match="holds no artefact for tensorrt"):
        matching.choose_backend(whole, bundle, "tensorrt")


@pytest.mark.parametrize("order", [("openvino", "onnxruntime"), ("onnxruntime", "openvino")])
def test_the_ranking_of_this_class_decides_and_not_the_order_of_the_list(
    demo_bundle: Path, order: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "why_unusable", lambda _name: None)
    held = {name: artefact(proven={HERE: "run"}) for name in ("onnxruntime", "openvino")}
    fastest = {HERE: Ranking(backends=order, measured=True), ELSEWHERE: Ranking(backends=order[::-1], measured=True)}
    bundle = bundle_of(demo_bundle, held, fastest)
    assert matching.usable_backends(bundle) == list(order)
    monkeypatch.setattr(matching, "why_unusable", lambda name: "absent" if name == order[0] else None)
    assert matching.choose_backend(bundle, bundle, None) == order[1]


def test_a_gpu_that_is_found_comes_before_the_processor(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "why_unusable", lambda _name: None)
    held = {"onnxruntime": artefact(proven={HERE: "run"}), "tensorrt": artefact(proven={})}
    assert matching.usable_backends(bundle_of(demo_bundle, held)) == ["tensorrt", "onnxruntime"]


def test_the_proofs_are_words() -> None:
    assert matching.proven_line({"x86-avx2": "run", "x86": "same", "x86-amx": "simulated", "x86-avx512": "same"}) == (
        "proven: run on x86-avx2; simulated for x86-amx; the same products on x86, x86-avx512"
    )


def test_load_takes_the_artefact_of_its_class_and_refuses_a_forged_claim_for_another(
    bundle_copy: Path, reseal: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = open_bundle(bundle_copy).manifest
    changed = {name: one.model_copy(update={"proven": {ELSEWHERE: "run"}}) for name, one in manifest.artefacts.items()}
    (bundle_copy / "manifest.json").write_text(manifest.model_copy(update={"artefacts": changed}).to_json())
    reseal(bundle_copy)
    with pytest.raises(BundleError, match="holds no artefact that was proven for this processor"):
        sdk.load(bundle_copy, cache=False)
    if CLASSES[HERE].machine == "x86-64":
        kept = {name: one.model_copy(update={"proven": {"x86": "same"}}) for name, one in manifest.artefacts.items()}
        (bundle_copy / "manifest.json").write_text(manifest.model_copy(update={"artefacts": kept}).to_json())
        reseal(bundle_copy)
        monkeypatch.setenv(CLASS_VARIABLE, "x86")
        with sdk.load(bundle_copy, cache=False) as scorer:
            assert scorer.provenance["processor"] == "x86"


def test_tune_tries_every_backend_and_later_loads_take_the_fastest(demo_bundle: Path, tmp_path: Path) -> None:
    with sdk.load(demo_bundle, cache=tmp_path, tune=True) as scorer:
        chosen, said = scorer.provenance["backend"], scorer.provenance["tuned"]
    usable = matching.usable_backends(matching.on_this_processor(open_bundle(demo_bundle)))
    if len(usable) > 1:
        assert f"{chosen} is the fastest backend here" in said
        assert all(f"{name}: " in said for name in usable)
    with sdk.load(demo_bundle, cache=tmp_path) as scorer:
        assert (scorer.provenance["backend"], scorer.provenance["tuned"]) == (chosen, said)
    other = next((name for name in usable if name != chosen), chosen)
    with sdk.load(demo_bundle, cache=tmp_path, backend=other) as scorer:
        assert scorer.provenance["backend"] == other
        assert "fastest backend" not in scorer.provenance["tuned"]
