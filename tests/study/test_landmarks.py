"""Numbers that notebooks end with: they are what they were, and notice what is not."""

import pandas as pd
import pytest

from meirl.envs import NAMES
from meirl.learn import ppo
from meirl_study import landmarks


@pytest.mark.parametrize("name", NAMES)
def test_first_updates_are_what_they_were(name):
    assert landmarks.agree(landmarks.updates("ppo", name))


def test_first_updates_notice_a_learner_that_learns_otherwise(monkeypatch):
    original = ppo.estimate
    monkeypatch.setattr(ppo, "estimate", lambda *given: tuple(-part for part in original(*given)))
    assert not landmarks.agree(landmarks.updates("ppo", "meis-stationary"))


def test_a_difference_is_a_share_of_what_was_expected():
    assert landmarks.agree(pd.DataFrame({"found": [101.0, -2.01], "expected": [100.0, -2.0]}))
    assert not landmarks.agree(pd.DataFrame({"found": [103.0], "expected": [100.0]}))
    assert not landmarks.agree(pd.DataFrame({"found": [float("nan")], "expected": [100.0]}))


def test_scores_are_of_rules_and_shipped_agents():
    table = landmarks.scores()
    assert list(table) == ["textbook", "best", "ppo", "a3c"]
    assert list(table.index) == list(NAMES)
    assert (table.astype(float)["best"] < table.astype(float)["textbook"]).all()
