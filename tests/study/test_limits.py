"""Chapter 9's tables and words, on made costs and bounds."""

import numpy as np
import pandas as pd
import pytest

from meirl.envs import NAMES
from meirl_study import limits
from meirl_study.chapter import setup

BOUNDS = {"a": np.array([5.0, 5.0])}
CELLS = {("a", "rule"): np.array([[10.0, 10.0, 70.0]]), ("a", "PPO"): np.array([[4.0, 20.0, 9.0], [16.0, 20.0, 9.0]])}


@pytest.fixture
def chapter(tmp_path):
    """A chapter that keeps its runs elsewhere."""
    made = setup("quick", 0, "cpu")
    vars(made)["root"] = tmp_path
    return made


def test_bounds_are_solved_once_then_read(chapter, monkeypatch):
    solved = []

    def bound(env, scenario, *steps_and_jobs):
        solved.append((env.name, scenario.episodes))
        return np.arange(scenario.episodes) + 1.0

    monkeypatch.setattr(limits, "hindsight_bound", bound)
    monkeypatch.setattr(limits, "lagrangian_bound", bound)
    first, again = limits.programs(chapter, 2), limits.programs(chapter, 2)
    assert list(first) == list(NAMES)
    assert solved == [(name, 2) for name in NAMES]
    np.testing.assert_array_equal(again["meis-stationary"], [1, 2])
    np.testing.assert_array_equal(limits.prices(chapter, 3, 4), limits.prices(chapter, 3, 4))
    assert solved[4:] == [("divergent-stationary", 3)]
    limits.prices(chapter, 3, 5)
    assert len(solved) == 6, "more iterations are another bound"


def test_one_row_a_bound():
    found = limits.table({"a": {"programs": np.array([2.0, 4.0]), "prices": np.array([5.0, 5.0, 5.0])}})
    assert found.loc[("a", "programs"), ["episodes", "value"]].tolist() == [2, 3]
    assert found.loc[("a", "prices")].tolist() == [3, 5, 5, 5]
    assert found.loc[("a", "programs"), "low"] < 3 < found.loc[("a", "programs"), "high"]


def test_a_policy_below_the_bound_is_found_whatever_its_seed():
    assert limits.respected(CELLS, BOUNDS)  # PPO's mean over seeds is 10, 20
    assert not limits.respected(CELLS, {"a": np.array([5.0, 20.1])})
    assert not limits.respected({("a", "rule"): CELLS["a", "rule"]}, {"a": np.array([10.1])})
    assert limits.respected(CELLS, {"a": np.array([10.0 + 1e-6])}), "rounding"


def test_room_is_the_share_of_the_cost_above_the_bound_on_the_same_episodes():
    found = limits.room(CELLS, BOUNDS)
    assert found.loc[("a", "rule")].tolist() == pytest.approx([50, 50, 50])
    assert found.loc[("a", "PPO"), "value"] == pytest.approx(100 * (1 - 5 / 15))
    assert found.loc[("a", "PPO"), "low"] < found.loc[("a", "PPO"), "value"] < found.loc[("a", "PPO"), "high"]


def test_the_cheapest_policy_of_an_environment():
    assert limits.cheapest(CELLS | {("b", "rule"): np.zeros((1, 3))}, "a") == "PPO"


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-2_000, -1_000, "costs less than PPO (+1.2 %; difference -2,000 to -1,000)"),
        (1_000, 2_000, "costs more than PPO (+1.2 %; difference +1,000 to +2,000)"),
        (-1_000, 2_000, "costs as much as PPO (+1.2 %; difference -1,000 to +2,000)"),
    ],
)
def test_a_difference_in_words(low, high, words):
    row = pd.Series({"value": 0.0, "low": low, "high": high, "percent": 1.23})
    assert limits.compared(row, "PPO", ",.0f") == words
    assert limits.compared(row, "it") == words.split("PPO")[0] + "it (+1.2 %)"


def test_what_the_gradient_gained_is_from_the_first_score_to_the_best():
    history = pd.DataFrame(
        {"seed": [0, 0, 0, 1, 1, 1], "steps": [1, 2, 3] * 2, "validation_cost": [100.0, 80.0, 90.0, 50.0, 60.0, 70.0]}
    )
    assert limits.gained(history).tolist() == pytest.approx([20, 0])


def test_the_curve_has_the_best_rule_on_the_same_scenarios(chapter):
    history = pd.DataFrame({"env": ["meis-stationary", "meis-nonstationary"]})
    curve, unit, reference = limits.curve(chapter, "meis-stationary", history)
    assert curve["env"].tolist() == ["meis-stationary"]
    assert unit == "10,000s"
    assert reference["best heuristic"] == pytest.approx(206, abs=3)
