"""Transfer: the native policy stays at home, the other one travels."""

import numpy as np
import pytest

import meirl
from meirl.heuristics import RULES, levels_file, load, read_levels
from meirl_study.threats import transfer, variants

MEIS = ("meis-stationary", "meis-nonstationary")


def test_moving_costs_are_shares_of_the_native_cost():
    row = transfer.moved(np.array([8.0, 12]), np.array([9.0, 15]), paired=True)
    assert (row["native cost"], row["transferred cost"], row["value"]) == (10, 12, 20)
    assert row["high"] - row["value"] == pytest.approx(12.706 * 10, rel=1e-4)  # 10 and 30 %: Student's t, error 10


def test_seeds_of_different_environments_are_no_pairs():
    native, moved = np.array([8.0, 12, 10]), np.array([9.0, 15, 12])
    row = transfer.moved(native, moved, paired=False)
    assert {key: row[key] for key in ("value", "low", "high")} == variants.extra(moved, native)
    shuffled = transfer.moved(native, moved[[2, 0, 1]], paired=False)
    assert shuffled["high"] == pytest.approx(row["high"])


def test_rules_travel_if_both_variants_have_their_levels():
    both = transfer.rules_of_both(*MEIS)
    assert {"constant-order", "s-S"} <= set(both)
    for name in both:
        assert all(levels_file(meirl.make(env), name).exists() for env in MEIS)
    assert "published" not in both
    assert "s-S-cover-informed" not in both  # it has a season's levels on one of them only
    assert all(levels_file(meirl.make(env), "s-S-cover-informed").exists() for env in MEIS)


def test_every_policy_plays_where_it_was_not_made(monkeypatch):
    asked = []

    def agents(root, variant, home, seeds, env):
        asked.append((root, variant, home, env.name, env.observation))
        return [load(env, "never-order" if home == MEIS[0] else "constant-order") for _ in seeds]

    monkeypatch.setattr(transfer, "agents", agents)
    table = transfer.transfer([MEIS], [0, 1], "root", 3, horizon=50)
    policies = ["PPO", *transfer.rules_of_both(*MEIS)]
    ways = [*((policy, MEIS[0], MEIS[1]) for policy in policies), *((policy, MEIS[1], MEIS[0]) for policy in policies)]
    assert list(table.index) == ways, "sorted by where they play"
    assert set(asked) == {
        ("root", "published observation", home, target, "published") for home in MEIS for target in MEIS
    }
    for home, target in (MEIS, MEIS[::-1]):
        env = meirl.make(target, horizon=50)
        test = meirl.held_out(env, "test", 3)
        levels = {name: list(read_levels(meirl.make(name), "s-S").levels.values()) for name in MEIS}
        native, moved = (
            meirl.rollout(env, RULES["s-S"].policy(env, levels[name]), test)["cost"].mean() for name in (target, home)
        )
        row = table.loc["s-S", home, target]
        assert (row["native cost"], row["transferred cost"]) == pytest.approx((native, moved))
        agent = table.loc["PPO", home, target]
        never, constant = (
            meirl.rollout(env, load(env, rule), test)["cost"].mean() for rule in ("never-order", "constant-order")
        )
        expected = (never, constant) if target == MEIS[0] else (constant, never)
        assert (agent["native cost"], agent["transferred cost"]) == pytest.approx(expected)
