"""Searches are made once; races put them and learners on one axis."""

import numpy as np
import pandas as pd
import pytest

import meirl
from meirl.heuristics import RULES, read_levels, tuning
from meirl_study.threats import searching
from meirl_study.threats.searching import SearchTask

SHORT = {"horizon": 5}
TINY = {"episodes": 2, "generations": 1, "seed": 1}


def test_a_search_is_made_once(tmp_path, monkeypatch):
    task = SearchTask("meis-stationary", "constant-order", SHORT, TINY)
    (first,) = searching.search([task], tmp_path, jobs=1)
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: pytest.fail("searched again"))
    (again,) = searching.search([task], tmp_path, jobs=1)
    assert again.tuned == first.tuned
    with pytest.raises(pytest.fail.Exception, match="searched again"):
        searching.search([task._replace(changes={"horizon": 6})], tmp_path, jobs=1)


def test_a_race_has_every_method_by_seed_and_costs_on_the_same_scenarios(tmp_path):
    env = meirl.make("meis-stationary", **SHORT)
    scenario = env.sample(3, seed=9)
    tasks = [
        SearchTask(env.name, "constant-order", SHORT, {**TINY, "seed": seed, "generations": generations})
        for seed in (4, 3)
        for generations in (1, 2)
    ]
    histories = pd.DataFrame(
        {"algo": ["ppo", "ppo", "a3c", "ppo"], "seed": [0, 0, 0, 1], "steps": [10, 20, 10, 10],
         "validation_cost": [5.0, 4.0, 6.0, 7.0]}
    )  # fmt: skip
    race = searching.race(env, tasks, histories, scenario, tmp_path)
    assert list(race) == ["search for the best rule", "PPO", "A3C", "committed levels"]
    assert [table["cost"].tolist() for table in race["PPO"]] == [[5.0, 4.0], [7.0]]
    assert [table["steps"].tolist() for table in race["A3C"]] == [[10]]
    for i, table in enumerate(race["search for the best rule"]):
        assert table["steps"].is_monotonic_increasing
        for cost, found in zip(table["cost"], searching.search(tasks[2 * i : 2 * i + 2], tmp_path), strict=True):
            assert cost == pytest.approx(meirl.rollout(env, searching.policy(env, found), scenario)["cost"].mean())
    committed = read_levels(env, "constant-order")
    policy = RULES["constant-order"].policy(env, list(committed.levels.values()))
    (last,) = race["committed levels"]
    assert last["cost"].tolist() == pytest.approx([meirl.rollout(env, policy, scenario)["cost"].mean()])
    assert last["steps"].tolist() == [committed.provenance["simulated_steps"]]


def test_methods_finish_at_their_best_cost():
    one = pd.DataFrame({"steps": [100, 200], "cost": [10.0, 11.0]})
    two = pd.DataFrame({"steps": [100, 200], "cost": [15.0, 12.0]})
    table = searching.finish({"twice": [one, two], "once": [two]})
    assert table["simulated steps"].tolist() == [200, 200]
    assert table["value"].tolist() == [11, 12]
    half = 12.706 * 1  # Student's t with one degree of freedom, standard error 1
    assert table.loc["twice", ["low", "high"]].tolist() == pytest.approx([11 - half, 11 + half], abs=1e-3)
    assert np.isnan(table.loc["once", "low"])
