"""Chapter 3's tables: published baselines beside what is reported of them, the search box, the rules as tuned."""

import numpy as np
import pandas as pd
import pytest

from meirl import heuristics, make, rollout
from meirl.evaluation import compare
from meirl.heuristics import RULES, tuning
from meirl_study import published, rules


@pytest.fixture
def one():
    """An environment and a few short episodes for it, both by name."""
    env = make("divergent-nonstationary", horizon=30)
    return {env.name: env}, {env.name: env.sample(3, seed=7)}


def test_steady_orders_the_mean_demand_of_every_node():
    env = make("divergent-nonstationary")
    mean = env.parameters.demand.mean
    orders = env.orders(rules.steady(env)(env.observe(env.reset(1), 0)))
    assert orders[0].tolist() == pytest.approx([3 * mean, mean, mean, mean], rel=1e-5)


def test_sanity_has_a_row_for_either_policy(one):
    envs, tests = one
    table = rules.sanity(*one)
    (name, env), (test,) = *envs.items(), tests.values()
    never = rollout(env, heuristics.load(env, "never-order"), test)
    assert list(table.index) == [(name, "never order"), (name, "order mean demand")]
    assert table.loc[(name, "never order"), "mean cost"] == never["cost"].mean()
    assert table.loc[(name, "never order"), "fill rate"] == never["fill_rate"].mean()


def test_rerun_counts_the_difference_in_standard_errors_of_both(one, monkeypatch):
    envs, _ = one
    (name,) = envs
    ours = {"mean_cost": 110.0, "standard_error": 3.0, "fill_rate": 0.5, "published_service_level": 0.9}
    theirs = {"baseline_cost": 100.0, "baseline_std": 40.0, "episodes": 100}  # standard error 4, of both 5
    monkeypatch.setattr(rules, "summarise", lambda table: ours)
    monkeypatch.setattr(published, "RESULTS", pd.DataFrame({name: theirs}).T)
    row = rules.rerun(*one).loc[name]
    assert row["difference in standard errors"] == 2
    assert row[["published", "re-measured", "standard error"]].tolist() == [100, 110, 3]


def test_repaired_begins_as_published_and_ends_tuned(one):
    envs, tests = one
    (env,), (test,) = envs.values(), tests.values()
    table = rules.repaired(env, test)
    ends = {name: heuristics.load(env, name) for name in ("published", "echelon-base-stock")}
    assert list(table.index[[0, -1]]) == ["as published", "levels tuned"]
    assert table["value"].iloc[[0, -1]].tolist() == compare(ends, env, test)["value"].tolist()


def test_published_agent_is_what_is_reported():
    assert rules.published_agent(make("divergent-stationary")) == {"published PPO": 2_600_979.87}
    assert rules.published_agent(make("meis-stationary")) == {"published A3C": 1_930.24}


def test_published_box_has_a_range_for_every_level():
    env = make("meis-stationary")
    box = rules.published_box(env)
    assert list(box) == list(RULES["s-S"].ranges(env))
    assert box["reorder point, middle"][:2] == (5_000, 20_000)
    assert box["order-up-to level, leaf 2"][:2] == (4_000, 15_000)


def test_leaf_surface_gives_both_leaves_the_same_levels():
    env = make("meis-stationary", horizon=40)
    scenario = env.sample(2, seed=3)
    surface = rules.leaf_surface(env, np.array([10_000.0, 30_000]), np.array([20_000.0, 40_000, 60_000]), scenario)
    assert surface.index.tolist() == [10_000, 30_000]
    assert surface.columns.tolist() == [20_000, 40_000, 60_000]
    middle = list(heuristics.read_levels(env, "s-S").levels.values())[:2]
    by_hand = np.array([[*middle, 10_000, 40_000, 10_000, 40_000], [*middle, 30_000, 30_000, 30_000, 30_000]])
    costs = tuning.mean_costs(env, RULES["s-S"], by_hand, scenario)
    assert [surface.loc[10_000, 40_000], surface.loc[30_000, 20_000]] == costs.tolist()


def test_tuned_has_every_committed_rule_once_after_the_baselines(one):
    envs, tests = one
    (name, env), (test,) = *envs.items(), tests.values()
    table = rules.tuned(*one)
    names = [rule for _, rule in table.index]
    assert names[:2] == ["never-order", "published"]
    assert len(names) == len(set(names))
    assert set(names[2:]) == {"base-stock", "constant-order", "echelon-base-stock", "fair-shares-seasonal-2"}
    base_stock = rollout(env, heuristics.load(env, "base-stock"), test)["cost"].mean()
    assert table.loc[(name, "base-stock"), "value"] == base_stock


def test_described_lists_every_rule_that_one_might_tune():
    lines = [line for line in rules.described().splitlines() if line.startswith("- **")]
    assert [line.split("**")[1] for line in lines] == [rule for rule in RULES if rule != "base-stock-misread"]
    assert lines[0].startswith("- **never-order** (both chains). ")
    assert any(line.startswith("- **s-S** (meis). ") for line in lines)
