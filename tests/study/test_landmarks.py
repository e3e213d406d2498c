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
    assert (table.map(len) <= len("2.51e+06")).all(axis=None)  # all of them are what they were


def test_a_score_that_is_not_near_is_shown_as_it_is(monkeypatch):
    """Machines differ in an agent's orders near a half: by less than 0.5 %; in a rule's last digits."""
    (textbook, best, ppo, a3c) = landmarks.SCORES["meis-stationary"]
    row = (textbook * (1 + 2e-6), best, ppo * 1.004, a3c * 1.006)
    monkeypatch.setitem(landmarks.SCORES, "meis-stationary", row)
    shown = landmarks.scores().loc["meis-stationary"]
    assert shown["best"] == f"{best:.3g}"
    assert shown["ppo"] == f"{ppo * 1.004:.3g}"
    assert shown[["textbook", "a3c"]].astype(float).tolist() == pytest.approx([textbook, a3c], rel=1e-6)
    assert (shown[["textbook", "a3c"]].map(len) > len("2.51e+06")).all()
