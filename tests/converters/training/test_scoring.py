"""Scores by cases whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from vmeg_edge.converters.training.scoring import logits_of, scores, six_metrics

from training_frames import made_examples, tiny_vit


def test_scores_are_counted_at_one_half() -> None:
    data = made_examples(4)  # targets 0, 0, 1, 1
    logits = np.array([[2, 0], [0, 2], [0, 2], [2, 0]], np.float32)
    found = scores(logits, data)
    assert (found.accuracy, found.f1) == (0.5, 0.5)
    assert found.loss == pytest.approx(np.log(1 + np.exp(2)) - 1, abs=1e-6)
    assert scores(np.array([[2, 0]] * 4, np.float32), data).f1 == 0


def test_the_six_metrics_say_none_where_they_are_undefined() -> None:
    data = made_examples(4).at([0, 1])
    found = six_metrics(np.array([[2, 0], [3, 0]], np.float32), data)
    assert found == {
        "frames": 2,
        "groups": 1,
        "positives": 0,
        "accuracy": 1.0,
        "precision": None,
        "recall": None,
        "specificity": 1.0,
        "f1": None,
        "auc": None,
    }


def test_logits_do_not_depend_on_the_batch_and_leave_the_mode_alone() -> None:
    model = tiny_vit().train()
    data = made_examples(7)
    one, all_at_once = logits_of(model, data, batch=1), logits_of(model, data, batch=7)
    assert model.training
    assert np.allclose(one, all_at_once, atol=1e-5)
    assert not np.allclose(logits_of(model, replace(data, images=255 - data.images)), one, atol=1e-5)
