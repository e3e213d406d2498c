"""Verdicts: resampled ones agree with theory, tabulated ones with sums done by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import meirl
from meirl_study.threats import verdicts

T1, T2 = 12.7062, 4.30265  # Student's t with one and two degrees of freedom, two-sided 95 %


def study_table(costs):
    """A table as `study.run` gives it, from costs by environment, algorithm and seed."""
    rows = [
        {"env": env, "algo": algo, "seed": seed, "episode": i, "cost": cost}
        for (env, algo, seed), episodes in costs.items()
        for i, cost in enumerate(episodes)
    ]
    return pd.DataFrame(rows)


def run_table(percent, env="x"):
    """A table as `run_costs` gives it, best rule 100."""
    rows = [
        {"env": env, "algo": algo, "seed": seed, "cost": 100.0 + value, "percent": float(value)}
        for algo, values in percent.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_one_seed_is_compared_with_all():
    results = study_table({("x", "ppo", 0): [100, 120], ("x", "ppo", 1): [120, 140], ("x", "ppo", 2): [75, 85]})
    results = pd.concat([results, study_table({("y", "a3c", 0): [1, 3], ("y", "a3c", 1): [3, 5]})])
    best = {"x": 100.0, "y": 4.0}
    runs = verdicts.run_costs(results, best)
    assert runs["percent"].tolist() == pytest.approx([10, 30, -20, -50, 0])
    assert runs["cost"].tolist() == [110, 130, 80, 2, 4]
    table = verdicts.over_seeds(results, best)
    assert list(table.index) == [("x", "PPO"), ("y", "A3C")]
    row = table.loc["x", "PPO"]
    assert row["value"] == pytest.approx(20 / 3)
    assert row["sd"] == pytest.approx(np.std([10, 30, -20], ddof=1))
    assert row["high"] - row["value"] == pytest.approx(T2 * row["sd"] / 3**0.5, rel=1e-4)
    assert (row["worst"], row["best"], row["against"]) == pytest.approx((30, -20, 1))
    assert row["error"] == pytest.approx((10 + 10 + 5) / 3)  # standard errors, in percent of 100
    assert table.loc["y", "A3C"][["error", "against"]].tolist() == pytest.approx([25, 1])


def test_pairs_of_seeds_that_name_the_other_algorithm():
    one = run_table({"ppo": [1, 5], "a3c": [3, 4]})  # PPO on average; its second seed loses both times
    two = run_table({"ppo": [9, 9], "a3c": [1, 2]}, "y")  # A3C always
    assert verdicts.flips(one) == 50
    assert verdicts.flips(pd.concat([one, two])) == 25


def test_widths_are_those_of_both_tests():
    costs = np.array([[1.0, 0], [3, 2], [5, 5], [7, 5]])
    row = verdicts.unpaired_width(costs)
    assert row["difference"] == 1
    assert row["± paired"] == pytest.approx(3.18245 * (2 / 3) ** 0.5 / 2, rel=1e-5)  # differences 1, 1, 0, 2
    errors = costs.var(0, ddof=1) / 4
    freedom = errors.sum() ** 2 / (errors**2 / 3).sum()  # Welch and Satterthwaite
    assert row["± unpaired"] == pytest.approx(stats.t.ppf(0.975, freedom) * errors.sum() ** 0.5)
    assert row["ratio"] == pytest.approx(row["± unpaired"] / row["± paired"])
    assert row["episodes saved"] == pytest.approx(row["ratio"] ** 2)


def test_pairing_finds_what_luck_hides():
    generator = np.random.default_rng(1)
    luck = generator.normal(1000, 100, 4000)
    costs = np.stack([luck + generator.normal(0, 5, 4000), luck + 10], 1)
    power = verdicts.power(costs, [16], 500, generator)
    assert power["paired test"].loc[16, "value"] > 0.99
    assert power["unpaired test"].loc[16, "value"] < 0.1
    # Student's t, effect of 10 over a standard deviation of 141 with 1,600 episodes: power 1 - Phi(1.96 - 2) = 0.52
    many = verdicts.power(costs, [800], 500, generator)["unpaired test"].loc[800]
    assert many["value"] == pytest.approx(0.52, abs=0.1)
    assert many["high"] - many["low"] == pytest.approx(2 * 1.96 * 0.5 / 500**0.5, rel=0.05)


def test_the_winner_on_own_draws_is_the_lucky_one():
    generator = np.random.default_rng(2)
    costs = generator.normal(100, 20, (2, 100_000))
    costs += 100 - costs.mean(1, keepdims=True)
    table = verdicts.optimism(costs, [16], 4000, generator, common=False)
    expected = 20 / 16**0.5 / np.pi**0.5  # the larger of two standard normals is 1 / sqrt(pi) on average
    assert table.loc[16, "low"] < expected < table.loc[16, "high"]
    assert table.loc[16, "value"] == pytest.approx(expected, rel=0.1)


def test_on_common_draws_luck_helps_all_alike():
    generator = np.random.default_rng(3)
    luck = generator.normal(100, 20, 10_000)
    costs = np.stack([luck, luck + 5])
    table = verdicts.optimism(costs, [16], 4000, generator, common=True)
    assert table.loc[16, "low"] < 0 < table.loc[16, "high"]


def test_checkpoints_are_chosen_on_the_validation_scenarios_of_the_preset():
    env = meirl.make("meis-stationary", horizon=5)
    chosen = verdicts.chosen_on(env, "ppo", {"validation_episodes": 7})
    assert chosen.demand.equal(meirl.held_out(env, "validation", 7).demand)


def test_the_gap_of_selection_is_test_minus_validation():
    runs = run_table({"ppo": [10, 20]})
    histories = pd.DataFrame(
        {"env": "x", "algo": "ppo", "seed": [0, 0, 1, 1], "validation_cost": [60.0, 55, 59, 80]}
    )  # the best are 10 and 18 % above 50
    row = verdicts.selection_gaps(runs, histories, {("x", "ppo"): 50.0}).loc["x", "PPO"]
    assert row[["on validation [%]", "on test [%]", "gap"]].tolist() == pytest.approx([14, 15, 1])
    assert row["gap_high"] == pytest.approx(1 + T1, rel=1e-4)  # gaps 0 and 2


def test_one_outlier_makes_the_whole_standard_deviation():
    costs = np.array([1.0, 1, 1, 5])
    assert verdicts.lone_outlier(costs.mean(), costs.std(ddof=1), 4) == pytest.approx((5, 1))


def test_tails_stand_beside_means():
    costs = np.arange(1.0, 101)
    table = verdicts.tails({"rule": costs[None], "agents": np.stack([costs, costs])})
    for row in table.to_dict("records"):
        assert row["value"] == 50.5
        assert row["cvar"] == 98  # of 96 to 100
        assert (row["worst"], row["worst / median"]) == (100, 100 / 50.5)
        assert row["low"] < 50.5 < row["high"]
        assert row["cvar_low"] < 98 <= row["cvar_high"]
    half = 1.984 * costs.std(ddof=1) / 10  # Student's t over 100 episodes
    assert table.loc["rule", "high"] - 50.5 == pytest.approx(half, rel=0.1)


def test_the_diagonal_mixes_chains_into_the_difference_of_algorithms():
    percent = {("divergent", "ppo"): [1, 3], ("divergent", "a3c"): [4, 4], ("meis", "ppo"): [10, 12],
               ("meis", "a3c"): [8, 6]}  # fmt: skip
    variants = {"stationary": 1, "nonstationary": 10}
    runs = pd.concat(
        run_table({algo: factor * np.array(values)}, f"{chain}-{variant}")
        for variant, factor in variants.items()
        for (chain, algo), values in percent.items()
    )
    table = verdicts.contrasts(runs)
    assert list(table.index) == [(d, v) for d in ("diagonal, as published", "crossed") for v in variants]
    assert table["value"].tolist() == pytest.approx([5, 50, -1, -10])  # 7 and 3; 6 - 5.5 and 5 - 7.5
    assert table["high"].iloc[0] == pytest.approx(5 + T1 * 2, rel=1e-4)
