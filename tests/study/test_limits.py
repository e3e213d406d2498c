"""Chapter 10's tables and words, on made costs and bounds."""

import numpy as np
import pandas as pd
import pytest

import meirl
from meirl.envs import NAMES
from meirl.heuristics import read_levels
from meirl_study import information, lagrangian, limits
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
    monkeypatch.setattr(limits, "dual_curves", bound)
    first, again = limits.programs(chapter, 2), limits.programs(chapter, 2)
    assert list(first) == list(NAMES)
    assert solved == [(name, 2) for name in NAMES]
    np.testing.assert_array_equal(again["meis-stationary"], [1, 2])
    np.testing.assert_array_equal(limits.prices(chapter, 3, 4), limits.prices(chapter, 3, 4))
    assert solved[4:] == [("divergent-stationary", 3)]
    limits.prices(chapter, 3, 5)
    assert len(solved) == 6, "more iterations are another bound"


def test_penalties_are_solved_once_and_compared_with_the_program(chapter):
    found = limits.penalties(chapter, 2, 1, 1)
    np.testing.assert_array_equal(found, limits.penalties(chapter, 2, 1, 1))
    lifted = information.tightened(np.array([22.0, 11.0]), np.array([20.0, 10.0]))
    assert lifted == pytest.approx({"value": 10, "low": 10, "high": 10})


def test_a_climb_is_a_share_of_the_rule_on_the_same_episodes():
    found = lagrangian.climbed(np.array([[10.0, 20.0], [30.0, 40.0]]), np.array([50.0, 150.0]))
    assert found["value"].tolist() == [20, 30]
    assert found.index.tolist() == [1, 2]
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()


def test_one_row_a_bound():
    found = limits.table({"a": {"programs": np.array([2.0, 4.0]), "prices": np.array([5.0, 5.0, 5.0])}})
    assert found.loc[("a", "programs"), ["episodes", "value"]].tolist() == [2, 3]
    assert found.loc[("a", "prices")].tolist() == [3, 5, 5, 5]
    assert found.loc[("a", "programs"), "low"] < 3 < found.loc[("a", "programs"), "high"]


def test_a_policy_below_the_bound_is_found_whatever_its_seed():
    assert limits.respected(CELLS, {"a": np.array([4.0, 5.0])})
    assert not limits.respected(CELLS, BOUNDS), "PPO's mean over seeds is 10, but one run is below"
    assert not limits.respected(CELLS, {"a": np.array([5.0, 20.1])})
    assert not limits.respected({("a", "rule"): CELLS["a", "rule"]}, {"a": np.array([10.1])})
    rule = {("a", "rule"): CELLS["a", "rule"]}
    assert limits.respected(rule, {"a": np.array([10.0 + 1e-6])}), "rounding"


def test_room_is_the_share_of_the_cost_above_the_bound_on_the_same_episodes():
    found = limits.room(CELLS, BOUNDS)
    assert found.loc[("a", "rule")].tolist() == pytest.approx([50, 50, 50])
    assert found.loc[("a", "PPO"), "value"] == pytest.approx(100 * (1 - 5 / 15))
    assert found.loc[("a", "PPO"), "low"] < found.loc[("a", "PPO"), "value"] < found.loc[("a", "PPO"), "high"]


def test_the_cheapest_policy_and_those_that_may_be_as_cheap():
    rule, close = np.arange(50.0)[None], np.arange(50.0)[None] + np.tile([1, -0.9], 25)
    cells = {("a", "rule"): rule, ("a", "close"): close, ("a", "dear"): rule + 5, ("b", "rule"): np.zeros((1, 3))}
    assert limits.cheapest(cells, "a") == ("rule", ["close"])
    assert limits.cheapest(cells, "b") == ("rule", [])


def test_policies_are_compared_with_those_that_are_there():
    table = limits.against(CELLS | {("b", "PPO"): CELLS["a", "PPO"]}, ["PPO"], ["rule", "PPO"])
    assert list(table.index) == [("a", "PPO"), ("b", "PPO")]
    assert table.loc[("a", "PPO"), "rule"].startswith("-56.7 (")  # 13 against 30
    assert table.loc[("b", "PPO"), "rule"] == table.loc[("a", "PPO"), "PPO"] == ""


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-2_000, -1_000, "costs less than PPO (+1.2 %; difference -2,000 to -1,000)"),
        (1_000, 2_000, "costs more than PPO (+1.2 %; difference +1,000 to +2,000)"),
        (-1_000, 2_000, "cannot be told apart from PPO (+1.2 %; difference -1,000 to +2,000)"),
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


CURVES = pd.DataFrame(
    {
        "env": ["divergent-stationary"] * 4 + ["divergent-stationary"] * 2 + ["meis-stationary"],
        "algo": ["gradient, from the rule"] * 4 + ["gradient, from nothing"] * 2 + ["imitation of the rule"],
        "seed": [0, 0, 1, 1, 0, 0, 0],
        "steps": [1e6, 3e6, 1e6, 3e6, 2e6, 3e6, 4e6],
        "simulated_steps": [1.5e6, 4e6, 1.5e6, 4e6, 2.5e6, 4e6, 4.5e6],
        "validation_cost": [9.0, 8, 7, 6, 5, 4, 3],
    }
)


def test_the_teachers_steps_count(chapter):
    table = limits.spent(chapter, CURVES)
    search = read_levels(chapter.envs["divergent-stationary"], "best").provenance["simulated_steps"] / 1e6
    row = table.loc[("divergent-stationary", "gradient, from the rule")]
    assert row.tolist() == pytest.approx([search, 1, 2, 1, search + 4])
    assert table.loc[("divergent-stationary", "gradient, from nothing")].tolist() == pytest.approx([0, 0, 3, 1, 4])
    assert table.loc[("meis-stationary", "imitation of the rule"), ["imitation", "learning"]].tolist() == [4, 0]


def test_panels_have_the_divergent_chain_with_the_rule_on_the_same_scenarios(chapter):
    drawn, lines = limits.panels(chapter, CURVES)
    assert list(drawn) == list(lines) == ["divergent-stationary"]
    assert [len(tables) for tables in drawn["divergent-stationary"].values()] == [2, 1]
    first = drawn["divergent-stationary"]["gradient, from the rule"][0]
    assert first[["steps", "cost"]].to_numpy().tolist() == [[1.5e6, 9], [4e6, 8]]
    env = chapter.envs["divergent-stationary"]
    validation = meirl.held_out(env, "validation", limits.SHORT["validation_episodes"])
    expected = meirl.rollout(env, meirl.heuristics.load(env), validation)["cost"].mean()
    assert lines["divergent-stationary"]["designed rule"] == pytest.approx(expected)


def test_starts_are_kept_apart_and_each_on_its_own_environments(chapter):
    folders = {
        task.folder(limits.root(chapter, name)) for name in limits.STARTS for task in limits.tasks(chapter, name)
    }
    assert len(folders) == sum(len(limits.tasks(chapter, name)) for name in limits.STARTS)
    for name, start in limits.STARTS.items():
        assert [task.env for task in limits.tasks(chapter, name)] == list(start.envs), "one seed each"
        assert [task.config() for task in limits.tasks(chapter, name)]
    assert limits.tasks(chapter, "gradient, from nothing")[0].config().imitation == 0


def test_all_starts_are_trained_and_told_apart(chapter, monkeypatch):
    begun, trained = [], []

    def run(todo, where, **_):
        trained.append((todo[0].algo, where.name, len(todo)))
        return pd.DataFrame({"env": ["x"], "algo": [todo[0].algo], "cost": [1.0]})

    monkeypatch.setattr(limits, "warm_start", lambda task, where: begun.append((task.algo, where.name)))
    monkeypatch.setattr(limits.study, "run", run)
    monkeypatch.setattr(limits.study, "histories", lambda todo, where: pd.DataFrame({"algo": [todo[0].algo]}))
    table, curves = limits.improved(chapter)
    assert list(table["algo"]) == list(curves["algo"]) == list(limits.STARTS)
    assert trained[2] == ("ppo", "from-the-rule", 2)
    assert begun == [("ppo", "from-the-rule")] * 2
