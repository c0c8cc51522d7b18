"""A run is VALID only where nothing speaks against it, and each thing that does is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vmeg_edge.bench.verdict import Evidence, judge

STEADY = np.random.default_rng(5).normal(30.0, 1.0, 300).tolist()
CLEAN = Evidence(end_to_end_ms=STEADY, others=[0.0, 0.05, 0.10], throttled=0, probes_ms=[0.20, 0.21, 0.229, 0.2])


def only_reason(evidence: Evidence) -> str:
    verdict = judge(evidence)
    assert not verdict.valid
    assert verdict.word == "INVALID"
    assert len(verdict.reasons) == 1, verdict.reasons
    return verdict.reasons[0]


def test_clean_evidence_is_valid_without_a_word() -> None:
    verdict = judge(CLEAN)
    assert (verdict.valid, verdict.word, verdict.reasons) == (True, "VALID", ())


def test_64_samples_are_enough_and_63_are_not() -> None:
    assert judge(replace(CLEAN, end_to_end_ms=STEADY[:64])).valid
    reason = only_reason(replace(CLEAN, end_to_end_ms=STEADY[:63]))
    assert reason == "too few samples: 63, and a p90 needs 64; give --iterations 64 or more"


@pytest.mark.parametrize(("factor", "said"), [(1.2, "1.20 times"), (0.8, "0.80 times")])
def test_a_drift_up_or_down_is_one(factor: float, said: str) -> None:
    samples = np.full(300, 30.0)
    samples[200:] *= factor
    assert said in only_reason(replace(CLEAN, end_to_end_ms=samples.tolist()))


@pytest.mark.parametrize("factor", [1.09, 0.91])
def test_a_change_below_a_tenth_is_no_drift(factor: float) -> None:
    samples = np.full(300, 30.0)
    samples[200:] *= factor
    assert judge(replace(CLEAN, end_to_end_ms=samples.tolist())).valid


def test_rounds_that_disagree_are_named_though_first_and_last_agree() -> None:
    samples = np.full(300, 30.0)
    samples[100:200] *= 1.2
    turns = np.repeat(np.arange(3), 100).tolist()
    reason = only_reason(replace(CLEAN, end_to_end_ms=samples.tolist(), rounds=turns))
    assert reason.startswith("the rounds disagree: their medians go from 30.00 to 36.00 ms")
    samples[100:200] = 30.0 * 1.14
    assert judge(replace(CLEAN, end_to_end_ms=samples.tolist(), rounds=turns)).valid


def test_rounds_of_few_frames_prove_no_disagreement() -> None:
    samples = np.tile([30.0] * 15 + [38.0] * 15, 12)
    turns = np.repeat(np.arange(24), 15).tolist()
    assert judge(replace(CLEAN, end_to_end_ms=samples.tolist(), rounds=turns)).valid


def test_times_that_scatter_without_a_trend_are_unsteady() -> None:
    samples = np.tile([30.0, 30.0, 90.0], 100).tolist()
    assert only_reason(replace(CLEAN, end_to_end_ms=samples)).startswith(
        "unsteady: the coefficient of variation is 0.57"
    )


def test_throttling_is_named_with_its_count() -> None:
    assert "slowed itself down for heat 3 times" in only_reason(replace(CLEAN, throttled=3))


def test_a_fixed_piece_of_work_that_takes_longer_means_a_changed_speed() -> None:
    assert "0.200 to 0.240 ms" in only_reason(replace(CLEAN, probes_ms=[0.2, 0.24, 0.2]))


def test_one_slice_beside_other_work_is_enough_to_doubt_all() -> None:
    assert only_reason(replace(CLEAN, others=[0.0, 0.31, 0.0])) == (
        "other load: up to 31% of the processors went to other work"
    )


def test_a_system_that_tells_nothing_of_load_or_speed_is_not_held_against_the_run() -> None:
    assert judge(replace(CLEAN, others=[], probes_ms=[])).valid


def test_each_failure_of_parity_is_a_reason() -> None:
    failures = ("max |dp| 0.2 above 0.05", "1 flip")
    assert judge(replace(CLEAN, parity_failures=failures)).reasons == tuple(f"parity failed: {f}" for f in failures)


def test_frames_that_failed_are_counted() -> None:
    assert only_reason(replace(CLEAN, failed=2)) == "2 frames failed"


def test_every_reason_is_given_not_the_first_alone() -> None:
    verdict = judge(replace(CLEAN, end_to_end_ms=STEADY[:10], others=[0.5], throttled=1, failed=1))
    assert len(verdict.reasons) == 4
