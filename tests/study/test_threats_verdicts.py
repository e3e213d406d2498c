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
        {"env": env, "algo": algo, "preset": "tuned", "seed": seed, "episode": i, "cost": cost}
        for (env, algo, seed), episodes in costs.items()
        for i, cost in enumerate(episodes)
    ]
    return pd.DataFrame(rows)


def run_table(percent, env="x"):
    """A table as `run_costs` gives it, designed rule 100."""
    rows = [
        {"env": env, "policy": f"{algo} 1×", "seed": seed, "cost": 100.0 + value, "percent": float(value)}
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
    assert list(table.index) == [("x", "PPO 1×"), ("y", "A3C 1×")]
    row = table.loc["x", "PPO 1×"]
    assert row["value"] == pytest.approx(20 / 3)
    assert row["sd"] == pytest.approx(np.std([10, 30, -20], ddof=1))
    assert row["high"] - row["value"] == pytest.approx(T2 * row["sd"] / 3**0.5, rel=1e-4)
    assert row[["worst", "best", "against", "seeds"]].tolist() == pytest.approx([30, -20, 1, 3])
    assert row["error"] == pytest.approx((10 + 10 + 5) / 3)  # standard errors, in percent of 100
    assert table.loc["y", "A3C 1×"][["error", "against"]].tolist() == pytest.approx([25, 1])


def test_budgets_are_told_apart():
    short = study_table({("x", "ppo", 0): [110], ("x", "ppo", 1): [130]})
    runs = verdicts.run_costs(pd.concat([short, short.assign(preset="long", cost=90)]), {"x": 100.0})
    assert runs.groupby("policy")["percent"].mean().to_dict() == pytest.approx({"PPO 1×": 20, "PPO 10×": -10})


def test_pairs_of_seeds_that_name_the_other_algorithm():
    one = run_table({"PPO": [1, 5], "A3C": [3, 4]})  # PPO on average; its second seed loses both times
    two = run_table({"PPO": [9, 9], "A3C": [1, 2]}, "y")  # A3C always
    assert verdicts.flips(one, verdicts.PAIR) == 50
    assert verdicts.flips(pd.concat([one, two]), verdicts.PAIR) == 25


def test_widths_are_those_of_both_tests():
    costs = np.array([[1.0, 0], [3, 2], [5, 5], [7, 5]])
    row = verdicts.unpaired_width(costs)
    assert row["difference"] == 1
    assert row["± paired"] == pytest.approx(3.18245 * (2 / 3) ** 0.5 / 2, rel=1e-5)  # differences 1, 1, 0, 2
    errors = costs.var(0, ddof=1) / 4
    freedom = errors.sum() ** 2 / (errors**2 / 3).sum()  # Welch and Satterthwaite
    assert row["± unpaired"] == pytest.approx(stats.t.ppf(0.975, freedom) * errors.sum() ** 0.5)
    assert row["ratio"] == pytest.approx(row["± unpaired"] / row["± paired"])
    assert row["episodes, times"] == pytest.approx(row["ratio"] ** 2)


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


def test_checkpoints_are_chosen_on_the_validation_scenarios_of_the_preset():
    env = meirl.make("meis-stationary", horizon=5)
    chosen = verdicts.chosen_on(env, "ppo", {"validation_episodes": 7})
    assert chosen.demand.equal(meirl.held_out(env, "validation", 7).demand)


def test_the_gap_of_selection_is_test_minus_validation_and_counts_all_luck():
    rule = np.array([90.0, 110, 100, 100])
    extra = np.array([8, 12, 10, 10])
    results = study_table({("x", "ppo", 0): rule + extra, ("x", "ppo", 1): rule + extra + 10})
    histories = pd.DataFrame(
        {"env": "x", "algo": "ppo", "preset": "tuned", "seed": [0, 0, 1, 1], "validation_cost": [60.0, 55, 59, 80]}
    )  # the best are 10 and 18 % above 50
    table = verdicts.selection_gaps(results, histories, {"x": np.array([45.0, 55])}, {"x": rule})
    row = table.loc["x", "PPO 1×"]
    assert row[["on validation [%]", "on test [%]", "gap"]].tolist() == pytest.approx([14, 15, 1])
    seeds = 2 / 2  # gaps 0 and 2
    luck = np.var([13, 17, 15, 15], ddof=1) * (1 / 4 + 1 / 2)
    assert row["gap_high"] - 1 == pytest.approx(1.96 * (seeds + luck) ** 0.5)


def test_one_outlier_makes_the_whole_standard_deviation():
    costs = np.array([1.0, 1, 1, 5])
    assert verdicts.lone_outlier(costs.mean(), costs.std(ddof=1), 4) == pytest.approx((5, 1))


def test_the_diagonal_mixes_chains_into_the_difference_of_algorithms():
    percent = {("divergent", "PPO"): [1, 3], ("divergent", "A3C"): [4, 4], ("meis", "PPO"): [10, 12],
               ("meis", "A3C"): [8, 6]}  # fmt: skip
    variants = {"stationary": 1, "nonstationary": 10}
    runs = pd.concat(
        run_table({algo: factor * np.array(values)}, f"{chain}-{variant}")
        for variant, factor in variants.items()
        for (chain, algo), values in percent.items()
    )
    table = verdicts.contrasts(runs)
    assert list(table.index) == [(d, v) for d in ("diagonal", "crossed") for v in variants]
    assert table["value"].tolist() == pytest.approx([5, 50, -1, -10])  # 7 and 3; 6 - 5.5 and 5 - 7.5
    assert table["high"].iloc[0] == pytest.approx(5 + T1 * 2, rel=1e-4)


@pytest.mark.parametrize(("ends", "cheaper"), [((1, 2), "PPO"), ((-2, -1), "A3C"), ((-1, 1), "undecided")])
def test_who_is_cheaper_follows_from_the_interval(ends, cheaper):
    assert verdicts.sides(pd.Series(dict(zip(("low", "high"), ends, strict=True)))) == cheaper


def test_tail_and_service_contradict_the_cost_only_by_clear_intervals():
    index = pd.MultiIndex.from_product([["x"], ["PPO 1×", "A3C 1×", "PPO 10×"]])
    table = pd.DataFrame(
        {"low": [1, -3, 1], "high": [2, -2, 2], "tail_low": [-3, -2, -1], "tail_high": [-1, -1, 1],
         "fill_low": [1, -2, -3], "fill_high": [2, -1, 3]}, index,
    )  # fmt: skip
    assert verdicts.disagreements(table) == "PPO 1× on x (tail, service), A3C 1× on x (service)"
    assert verdicts.disagreements(table[2:]) == "none"


def test_verdicts_that_change_with_the_budget():
    words = ["dearer", "cheaper", "undecided", "undecided"]
    index = pd.MultiIndex.from_product([["x", "y"], ["PPO 1×", "PPO 10×"]])
    compared = pd.DataFrame({"verdict": words}, index)
    assert verdicts.changed(compared, [("PPO 1×", "PPO 10×")]) == "PPO on x (dearer, then cheaper)"
    assert verdicts.changed(compared.loc[["y"]], [("PPO 1×", "PPO 10×")]) == "none"
