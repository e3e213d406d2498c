"""Cells on made data with answers known by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from meirl.evaluation import cvar
from meirl_study import cells

COSTS = {"never-order": 9.0, "best": 2.0}


@pytest.fixture
def chapter():
    """Two environments, two episodes; a rule's cost is its own plus the episode's number."""

    def play(name, rule):
        return pd.DataFrame({"cost": COSTS[rule] + np.arange(2), "fill_rate": [0.5, 1.0]})

    return SimpleNamespace(envs={"b": None, "a": None}, episodes=2, play=play)


def study(algo, costs):
    """A table as of `study.run`: cost by environment, seed and episode."""
    rows = [
        {"env": env, "algo": algo, "preset": "tuned", "seed": seed, "episode": episode, "cost": cost}
        for env, runs in costs.items()
        for seed, run in enumerate(runs)
        for episode, cost in enumerate(run)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def table(chapter):
    runs = [[3.0, 4.0], [5.0, 6.0]]
    ppo, pathwise = study("ppo", {"b": runs, "a": runs}), study("pathwise", {"b": runs[:1], "a": runs[:1]})
    return cells.played(chapter, {"order nothing": "never-order", "designed rule": "best"}, ppo, pathwise)


def test_rules_and_agents_are_one_table_in_the_order_in_which_they_were_given(table):
    found = cells.matrices(table)
    policies = ["order nothing", "designed rule", "PPO 1×", "pathwise"]
    assert list(found) == [(env, policy) for env in "ba" for policy in policies]
    np.testing.assert_array_equal(found["a", "order nothing"], [[9.0, 10.0]])
    np.testing.assert_array_equal(found["a", "PPO 1×"], [[3.0, 4.0], [5.0, 6.0]])
    assert found["b", "pathwise"].shape == (1, 2)
    np.testing.assert_array_equal(
        cells.matrices(table.dropna(subset="fill_rate"), "fill_rate")["a", "designed rule"], [[0.5, 1.0]]
    )


def test_a_cell_that_was_played_twice_is_refused(table):
    with pytest.raises(ValueError, match="more than one row"):
        cells.matrices(pd.concat([table, table.tail(1)]))


def test_estimates_have_the_interval_around_the_value():
    constant, spread = np.full((2, 3), 7.0), np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
    found = cells.estimates({("a", "calm"): constant, ("a", "wild"): spread}, resamples=200)
    assert list(found.columns) == ["environment", "policy", "value", "low", "high"]
    assert found.loc[0, ["value", "low", "high"]].tolist() == [7, 7, 7]
    assert found.loc[1, "value"] == 3
    assert found.loc[1, "low"] < 3 < found.loc[1, "high"]
    highest = cells.estimates({("a", "wild"): spread}, np.max, 200)
    assert highest.loc[0, ["value", "high"]].tolist() == [5, 5]


def test_costs_are_shown_in_the_environments_own_format():
    shown = cells.costs({("a", "PPO"): np.full((2, 40), 1234.56)}, {"a": ",.0f"}, 50)
    assert shown.loc[("a", "PPO")].tolist() == ["1,235 (1,235 to 1,235)", "1,235 (1,235 to 1,235)", "1,235"]


def test_the_tail_is_that_of_each_run_not_of_all_runs_together():
    one, other = np.zeros(40), np.zeros(40)
    one[:2], one[2:4], other[:2] = 10, 8, 4  # the worst 5 % of 40 are two
    assert cells.tail(np.stack([one, other])) == 7
    costs = np.random.default_rng(0).gamma(2, 1e4, (10, 1_000))
    for matrix in (costs, np.asfortranarray(costs)):  # to the last bit, however it lies in memory
        assert cells.tail(matrix) == np.mean([cvar(run) for run in costs])


def test_service_gives_means_and_half_intervals_as_text():
    policy = {"env": "a", "policy": "PPO", "seed": 0, "episode": [0, 1]}
    table = pd.DataFrame(policy | dict.fromkeys(cells.MEASURES, 0.25) | {"lost": [1000.0, 2000.0]})
    means, halves = cells.service(table, 100)
    assert means.loc[("a", "PPO"), "fill rate"] == "25.0%"
    assert means.loc[("a", "PPO"), "lost or withdrawn [units]"] == "1,500"
    assert halves.loc[("a", "PPO"), "fill rate"] == "0.0%"
    assert halves.loc[("a", "PPO"), "lost or withdrawn [units]"] == "500"  # drawn twice: between 1,000 and 2,000
    assert list(means) == list(halves) == [heading for heading, _ in cells.MEASURES.values()]


def test_a_difference_is_ours_minus_theirs_and_in_percent_of_theirs():
    rule = np.array([[10.0, 30.0, 20.0]])
    made = {("a", "rule"): rule, ("a", "worse"): np.concatenate([rule, rule]) + 5, ("a", "better"): rule - 2}
    found = cells.against(made, ["worse", "better"], "rule")
    # Paired: the spread between episodes cancels.
    np.testing.assert_allclose(found.loc[("a", "worse")], [5, 5, 5, 25])
    np.testing.assert_allclose(found.loc[("a", "better")], [-2, -2, -2, -10])
