"""Opponents searched with an agent's budget: no step more than that, scenarios that are new, every seed counts."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import meirl
from meirl.evaluation import VALIDATION_EPISODES
from meirl.heuristics import RULES, best_rule, read_levels, tuning
from meirl_study import evolution
from meirl_study.chapter import verdict

NAME = "divergent-stationary"
HORIZON = 500


@pytest.fixture(scope="module")
def env():
    return meirl.make(NAME)


@pytest.fixture(scope="module")
def played(env, tmp_path_factory):
    """Two seeds of both opponents with three generations each, on four test episodes."""
    root, test = tmp_path_factory.mktemp("runs"), meirl.held_out(env, "test", 4)
    steps = (VALIDATION_EPISODES + 3 * 8 * evolution.EPISODES) * HORIZON + 99  # eight candidates a generation
    return evolution.play({NAME: env}, {NAME: steps}, range(2), {NAME: test}, root, jobs=1), root, steps


def test_a_search_finds_levels_that_are_known_with_few_steps(env):
    found = evolution.search(env, "base-stock", 1_000_000, seed=3)
    book = read_levels(env, "base-stock").provenance
    assert found.provenance["validation_cost"] < 1.001 * book["validation_cost"]
    assert found.provenance["simulated_steps"] <= 1_000_000 < book["simulated_steps"] / 100


def test_every_generation_meets_scenarios_of_its_own_which_all_its_candidates_share(env, monkeypatch):
    met, real = [], tuning.mean_costs
    monkeypatch.setattr(tuning, "mean_costs", lambda *given: met.append(given[2:]) or real(*given))
    evolution.search(env, "base-stock", (VALIDATION_EPISODES + 3 * 8 * evolution.EPISODES) * HORIZON, seed=3)
    (*generations, (result, validation)) = met
    assert [len(candidates) for candidates, _ in generations] == [8, 8, 8]
    expected = env.sample(3 * evolution.EPISODES, 3).demand.split(evolution.EPISODES)
    assert all((seen.demand == demand).all() for (_, seen), demand in zip(generations, expected, strict=True))
    assert (len(result), validation.episodes) == (1, VALIDATION_EPISODES)


def test_levels_stay_within_their_natural_limits_and_nowhere_else(env, monkeypatch):
    """Where the largest bank costs least it ends at its limit; a level without one may end beyond its range."""
    seen, ranges = [], RULES["bank-and-switch"].ranges(env)

    def cost(env, rule, candidates, scenario):
        seen.append(candidates)
        safety, margin, bank, per_period = candidates.T
        return (safety - 300) ** 2 + margin**2 - 100 * bank + per_period**2

    monkeypatch.setattr(tuning, "mean_costs", cost)
    levels = evolution.search(env, "bank-and-switch", (VALIDATION_EPISODES + 60 * 8 * 4) * HORIZON, seed=0).levels
    for candidates in (*seen, np.array([list(levels.values())])):
        assert (candidates >= [r.least for r in ranges.values()]).all()
        assert (candidates <= [r.most for r in ranges.values()]).all()
    assert levels["bank"] == pytest.approx(ranges["bank"].most, rel=0.05)
    assert levels["safety stock"] == pytest.approx(300, rel=0.05)
    assert ranges["safety stock"].high < 285


def test_no_search_takes_more_steps_than_it_is_given_and_each_is_made_once(env, played):
    table, root, steps = played
    assert (steps - 500 < table["steps"]).all()
    assert (table["steps"] <= steps).all()
    assert list(table["rule"].unique()) == [best_rule(env, textbook=True), best_rule(env)]
    for (_, _, seed), row in table.iterrows():
        made = evolution.kept(NAME, row["rule"], steps, seed, root)
        assert made.provenance["validation_cost"] == pytest.approx(row["validation"])
    assert len(list(root.rglob("*.yaml"))) == 4


def test_a_summary_is_over_seeds_and_chooses_by_validation(played):
    row = evolution.summary(played[0]).loc[(NAME, "designed rule")]
    seeds = played[0].loc[NAME].loc["designed rule"]
    change = 100 * (seeds["cost"] / seeds["book"] - 1)
    assert row["cost"] == pytest.approx(seeds["cost"].mean())
    assert row["value"] == pytest.approx(change.mean())
    assert row["chosen"] == pytest.approx(change[seeds["validation"].idxmin()])
    assert row["low"] < row["value"] < row["high"]


def test_verdicts_count_every_seed_of_both_sides(tmp_path, monkeypatch):
    cell = (NAME, "designed rule")
    played = pd.DataFrame({"cost": [100.0, 104.0]}, index=pd.MultiIndex.from_tuples([(*cell, 0), (*cell, 1)]))
    runs = np.array([90.0, 91.0, 92.0])
    monkeypatch.setattr(evolution, "RESULTS", tmp_path / "results.csv")
    pd.DataFrame({"env": NAME, "policy": "PPO 1×", "cost": runs}).to_csv(evolution.RESULTS)
    row = evolution.verdicts(played, ["PPO 1×"]).loc[(*cell, "PPO 1×")]
    low, high = stats.ttest_ind(runs, [100.0, 104.0], equal_var=False).confidence_interval()
    assert row["value"] == pytest.approx(100 * (91 / 102 - 1))
    assert (row["low"], row["high"]) == pytest.approx((low / 1.02, high / 1.02))
    assert row["says"] == verdict(row["low"], row["high"])
