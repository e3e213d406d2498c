"""Weak baselines: what orders nothing is found out, boxes and clips change only what they say."""

import numpy as np
import pandas as pd
import pytest
import torch

import meirl
from meirl.heuristics import load, read_levels
from meirl.heuristics.tuning import Search
from meirl_study.threats import baselines
from meirl_study.threats.searching import SearchTask


def mean_cost(env, rule, scenario):
    return meirl.rollout(env, load(env, rule), scenario)["cost"].mean()


def test_the_ladder_leads_from_ordering_nothing_to_the_best_rule():
    env = meirl.make("divergent-nonstationary")
    scenario = env.sample(3, seed=1)
    ladder = baselines.ladder(env, scenario)
    assert list(ladder.index[[0, -2, -1]]) == ["as published", "textbook rule, tuned", "designed rule, tuned"]
    costs = [mean_cost(env, rule, scenario) for rule in ("never-order", "textbook", "best")]
    assert ladder["value"].iloc[[0, -2, -1]].tolist() == pytest.approx(costs)
    assert (ladder["low"] < ladder["value"]).all()


def test_only_the_published_rule_orders_nothing():
    env = meirl.make("divergent-stationary")
    scenario = env.sample(2, seed=1)
    assert baselines.orders_nothing(env, "published", scenario)
    assert not baselines.orders_nothing(env, "base-stock", scenario)


@pytest.mark.parametrize(("levels", "same"), [("published", "published levels"), ("s-S", "same rule, wide box")])
def test_levels_found_in_the_box_are_played_as_such(levels, same):
    env = meirl.make("meis-stationary", horizon=60)
    found = Search(read_levels(env, levels), pd.DataFrame())
    table = baselines.box_or_not(env, found, env.sample(2, seed=1))
    equal = table.index[table["value"] == table.loc["our search in the published box", "value"]]
    assert list(equal) == [name for name in table.index if name in ("our search in the published box", same)]


def test_a_raised_clip_serves_more_and_leaves_ordering_nothing_alone(tmp_path, monkeypatch):
    env, options, searched = meirl.make("divergent-stationary"), {"seed": 3}, []

    def search(todo, root):
        searched.extend(todo)
        assert root == tmp_path
        return [Search(read_levels(env, "base-stock"), pd.DataFrame())] * len(todo)

    monkeypatch.setattr(baselines, "search", search)
    curves = baselines.raise_clip(env, [1, 40], options, tmp_path, 2)
    clips = ({"order_cap": 1, "max_order": 30}, {"order_cap": 40, "max_order": 40})
    assert searched == [SearchTask(env.name, "base-stock", changes, options) for changes in clips]
    tuned, never = curves["base stock, tuned for the clip"], curves["order nothing"]
    assert list(tuned.index) == list(never.index) == [1, 40]
    assert (
        never.loc[1, "value"] == never.loc[40, "value"] == mean_cost(env, "never-order", meirl.held_out(env, "test", 2))
    )
    for cap, changes in zip((1, 40), clips, strict=True):
        clipped = meirl.make(env.name, **changes)
        cost = mean_cost(clipped, "base-stock", meirl.held_out(clipped, "test", 2))
        assert tuned.loc[cap, "value"] == pytest.approx(cost)
    assert tuned.loc[40, "value"] < 0.5 * tuned.loc[1, "value"]
    assert tuned.loc[40, "fill_rate"] > tuned.loc[1, "fill_rate"]


def test_what_is_left_of_a_claim_is_counted_by_paired_episodes():
    agents = pd.DataFrame({"env": ["x"] * 3 + ["y"] * 2, "episode": [2, 0, 1, 0, 1], "cost": [6.0, 2, 4, 10, 12]})
    left = baselines.margins(agents, {"x": np.array([3.0, 5, 10]), "y": np.array([5.0, 7])})
    assert left.loc["x", "value"] == pytest.approx(-100 * 2 / 6)  # 1, 1 and 4 of 6
    assert left.loc["y"].tolist() == pytest.approx([500 / 6] * 3)
    half = 4.30265 * np.std([1, 1, 4], ddof=1) / 3**0.5 * 100 / 6
    assert left.loc["x", "high"] - left.loc["x", "value"] == pytest.approx(half, rel=1e-4)


def test_a_claim_is_turned_round_by_an_interval_of_the_other_sign():
    left = pd.DataFrame({"low": [2.0, -1, -3, -2], "high": [3.0, 1, -2, -1]}, list("abcd"))
    claimed = pd.Series({"a": 5, "b": 5, "c": -5, "d": 5}, dtype=object)
    assert baselines.turned(claimed, left) == 2


def test_retailers_are_ranked_within_their_episode():
    env = meirl.make("divergent-stationary", horizon=80)
    scenario = env.sample(3, seed=1)

    def first_is_served(observation):
        orders = torch.full_like(observation.state.on_hand, 15.0)
        orders[:, 2:] = 0
        return env.action(orders)

    table = baselines.by_rank(env, {"never": load(env, "never-order"), "one": first_is_served}, scenario)
    totals = meirl.simulate(env, first_is_served, scenario).flows
    served = totals.filled / totals.demand
    assert list(table) == ["retailer 1", "retailer 2", "retailer 3"]
    assert table.loc["one", "retailer 1"] == pytest.approx(float(served[:, 0].mean()))
    assert table.loc["one", "retailer 2"] == pytest.approx(float(served[:, 1:].amax(1).mean()))
    assert table.loc["one"].is_monotonic_decreasing
    assert table.loc["never", "retailer 2"] < 0.4 < 0.6 < table.loc["one", "retailer 1"]


def test_who_discounts_all_sees_the_first_period_and_who_does_not_sees_the_episode():
    env = meirl.make("meis-stationary", horizon=50)
    scenario = env.sample(4, seed=1)
    table = baselines.discounted(env, (0, 1), scenario)
    never, best = (meirl.trajectory(env, load(env, rule), scenario)["cost"] for rule in ("never-order", "best"))
    for discount, seen in ((0, slice(1)), (1, slice(None))):
        expected = 100 * (never[:, seen].sum() / best[:, seen].sum() - 1)
        assert table.loc[discount, "value"] == pytest.approx(expected, rel=1e-4)
        assert table.loc[discount, "low"] <= table.loc[discount, "value"] <= table.loc[discount, "high"]
