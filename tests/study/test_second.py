"""The second study: what is reported, and what its numbers become."""

import numpy as np
import pytest
import torch

import meirl
from meirl import heuristics
from meirl_study import second

COSTS = {
    (second.NAME, second.BASELINE): np.array([[4000.0, 4100.0, 3900.0]]),
    (second.NAME, "rule"): np.array([[3000.0, 3100.0, 2900.0]]),
    (second.NAME, "PPO 1×"): np.array([[3000.0, 3400.0, 3200.0], [3200.0, 3600.0, 3400.0]]),
}


def test_reports_say_what_follows_from_a_percentage():
    table = second.reports()
    assert table.loc["PPO", "cost of 50 periods"] == "3,724"
    assert table.loc["PPO, on average", "cost of 50 periods"] == "(about 3,600)"
    assert pytest.approx(3724, abs=2) == 4059 * (1 - 0.083)  # the thesis agrees with itself
    assert len(second.facts()) == len(second.FACTS)


def test_orders_in_whole_units():
    env = meirl.make(second.NAME)
    policy = second.in_whole_units(lambda _: env.action(torch.tensor([[10.4, 3.6, 0.2, 75.0]])), env)
    assert env.orders(policy(env.observe(env.reset(1), 0)))[0].tolist() == pytest.approx([10, 4, 0, 75], abs=1e-4)


def test_policies_are_compared_with_the_base_stock_and_with_the_bound():
    table = second.compared(COSTS, 2500.0)
    assert table.loc["rule", ["value", "saves", "above"]].tolist() == pytest.approx([3000, 25, 20])
    assert table.loc["PPO 1×", "value"] == pytest.approx(3300)
    assert table.loc[second.BASELINE, ["saves", "saves_low", "saves_high"]].tolist() == [0, 0, 0]
    # All three episodes are 1,000 cheaper: what a pair saves varies far less than what an episode costs.
    row = table.loc["rule"]
    assert row["saves_high"] - row["saves_low"] < row["high"] / 40 - row["low"] / 40
    assert (row["above_low"], row["above_high"]) == pytest.approx((row["low"] / 25 - 100, row["high"] / 25 - 100))


def test_the_share_of_what_can_be_saved():
    shares = second.shares(second.compared(COSTS, 2500.0), 2500.0, {"as reported": 3700.0})
    assert shares.to_dict() == pytest.approx(
        {second.BASELINE: 0, "rule": 100 * 2 / 3, "PPO 1×": 140 / 3, "as reported": 20}
    )


def test_the_chapters_rules_have_levels():
    env = meirl.make(second.NAME)
    means = [
        meirl.rollout(env, heuristics.load(env, rule), env.sample(2_000, seed=1))["cost"].mean()
        for rule in second.RULES.values()
    ]
    assert means == sorted(means, reverse=True)
    assert means[-1] > 0.98 * 3260.7


def test_base_stock_costs_what_it_costs_in_another_program():
    table = second.agreement(meirl.make(second.NAME), 3_000)
    assert table["theirs"].tolist() == [4041.4, 3713.3]
    assert (table["difference"].abs() < 4).all()
    wrong = second.agreement(meirl.make(second.NAME, rationing="first retailer"), 3_000)
    assert (wrong["difference"].abs() > 4).any(), "another order of events must be noticed"


def test_texts_name_everybody_with_an_interval():
    costs = {(second.NAME, name): COSTS[second.NAME, "rule"] for name in (second.TUNED, second.LEVEL, "PPO", "A3C")}
    table = second.compared(costs | {(second.NAME, second.BASELINE): COSTS[second.NAME, second.BASELINE]}, 2500.0)
    found = second.texts(table)
    assert found["reported"] == "8.3 % or 11.3 %"
    assert found["ppo"].startswith("25.0 % (2")
    assert found["balanced-above"].startswith("20.0 % (1")
    assert second.for_reading(table).loc["A3C", "above the bound [%]"].startswith("20.0 (1")
