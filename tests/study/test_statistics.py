"""Training seeds x episodes: intervals cover what they claim, shares and effects agree with a calculation by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from meirl.evaluation import interval
from meirl_study.statistics import (
    bootstrap,
    crossed,
    effect_sizes,
    holm,
    probability_of_improvement,
    variance_components,
    versus,
)


def noise(rng, seeds=10, episodes=200, *, between_seeds=1.0, between_episodes=1.0, rest=1.0):
    """Costs with a known standard deviation of each kind, and mean 0."""
    return (
        between_seeds * rng.normal(size=(seeds, 1))
        + between_episodes * rng.normal(size=episodes)
        + rest * rng.normal(size=(seeds, episodes))
    )


def test_one_cell_becomes_a_matrix_of_seeds_and_episodes():
    rows = [(seed, episode, 10 * seed + episode) for seed in (4, 2) for episode in (1, 0, 2)]
    table = pd.DataFrame(rows, columns=["seed", "episode", "cost"])
    np.testing.assert_array_equal(crossed(table), [[20, 21, 22], [40, 41, 42]])
    with pytest.raises(ValueError, match="cost: the seeds have not played the same episodes"):
        crossed(table[:-1])
    with pytest.raises(ValueError, match="select one cell of the study first"):
        crossed(pd.concat([table, table]))


@pytest.mark.parametrize("over", ["seeds", "episodes", "both"])
def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say(over):
    """With what is not drawn anew held fixed, as the interval claims; at least 95 % where both are drawn."""
    rng = np.random.default_rng(3)
    spread = {"between_seeds": float(over != "episodes"), "between_episodes": float(over != "seeds")}
    covered, repeats = 0, 400
    for _ in range(repeats):
        low, high = bootstrap(np.mean, noise(rng, 8, 40, rest=0.2, **spread), over=over, resamples=300)
        covered += low <= 0 <= high
    assert stats.binomtest(covered, repeats, 0.95, alternative="less").pvalue > 1e-3
    assert over == "both" or stats.binomtest(covered, repeats, 0.98, alternative="greater").pvalue > 1e-3


def test_bootstrap_keeps_the_pairing_and_draws_each_policys_seeds_apart():
    rng = np.random.default_rng(4)
    luck = 100 * rng.normal(size=500)
    ours, theirs = luck + rng.normal(size=(5, 1)), luck + 3 + rng.normal(size=(7, 1))

    def gain(a, b):
        return a.mean() - b.mean()

    # Without differences in what the seeds make of an episode, other episodes change nothing.
    assert np.ptp(bootstrap(gain, ours, theirs, over="episodes")) == pytest.approx(0, abs=1e-9)
    low, high = bootstrap(gain, ours, theirs, over="seeds")
    assert low < gain(ours, theirs) < high
    assert bootstrap(gain, ours, theirs) == pytest.approx((low, high), abs=0.3)


def test_an_interval_over_both_is_as_wide_as_few_seeds_make_it():
    costs = np.random.default_rng(10).normal(size=(5, 1)) * np.ones(300)  # the episodes do not matter at all
    assert np.ptp(bootstrap(np.mean, costs)) == pytest.approx(np.ptp(bootstrap(np.mean, costs, over="seeds")), rel=0.1)


def test_bootstrap_of_a_policy_that_is_not_trained():
    costs = np.random.default_rng(5).normal(size=(1, 300))
    assert bootstrap(np.mean, costs, over="seeds") == (costs.mean(), costs.mean())
    low, high = bootstrap(np.mean, costs)
    assert (low, high) == bootstrap(np.mean, costs, over="episodes")
    assert (low, high) == pytest.approx(interval(costs[0]), abs=0.01)
    assert (low, high) != bootstrap(np.mean, costs, seed=1)


def test_a_bootstrap_of_a_single_episode_draws_seeds_only_and_of_a_single_number_nothing():
    assert bootstrap(np.mean, np.ones((1, 1))) == (1, 1)
    costs = np.random.default_rng(5).normal(size=(6, 1))
    assert bootstrap(np.mean, costs) == pytest.approx(bootstrap(np.mean, costs, over="seeds"), abs=0.1)


def test_bootstrap_refuses_what_it_cannot_pair():
    with pytest.raises(ValueError, match="played 5, 6 episodes: expected the same"):
        bootstrap(np.mean, np.zeros((2, 5)), np.zeros((2, 6)))
    with pytest.raises(ValueError, match="over must be episodes, seeds or both, got 'runs'"):
        bootstrap(np.mean, np.zeros((2, 5)), over="runs")


def test_variance_is_split_by_its_source():
    by_hand = variance_components(np.array([[0.0, 2.0], [4.0, 6.0]]))  # means 1 and 5, 2 and 4; nothing is left over
    assert by_hand["standard_error"] ** 2 == pytest.approx(8 / 2 + 2 / 2)
    assert by_hand[["seeds", "episodes", "interaction"]].tolist() == pytest.approx([0.8, 0.2, 0])
    rng = np.random.default_rng(6)
    many = pd.DataFrame([variance_components(noise(rng, 10, 50, between_episodes=2, rest=3)) for _ in range(300)])
    expected = 1 / 10 + 4 / 50 + 9 / 500
    assert (many["standard_error"] ** 2).mean() == pytest.approx(expected, rel=0.1)
    assert many["seeds"].mean() == pytest.approx(0.1 / expected, abs=0.06)
    with pytest.raises(ValueError, match="need at least 2 seeds and 2 episodes, got 1 and 9"):
        variance_components(np.zeros((1, 9)))


def test_p_values_over_both_are_uniform_where_nothing_differs():
    rng = np.random.default_rng(7)
    p = [versus({"a": noise(rng, 6, 30)}, np.zeros(30), resamples=2)["p"].item() for _ in range(400)]
    assert stats.binomtest(sum(np.array(p) < 0.05), 400, 0.05).pvalue > 1e-3
    assert stats.kstest(p, "uniform").pvalue > 1e-4


def test_probability_of_improvement_counts_pairs_of_runs_on_the_same_episode():
    ours, theirs = np.array([[1.0, 5.0], [3.0, 3.0]]), np.array([[2.0, 3.0]])
    assert probability_of_improvement(ours, theirs) == (1 + 0 + 0 + 0.5) / 4
    assert probability_of_improvement(theirs, ours) == 1 - 1.5 / 4
    a, b = (np.random.default_rng(8).normal(loc, 1, (9, 1)) for loc in (0, 1))
    mann_whitney = stats.mannwhitneyu(b[:, 0], a[:, 0]).statistic / 81
    assert probability_of_improvement(a, b) == pytest.approx(mann_whitney)


def test_effect_sizes_by_hand():
    effect = effect_sizes(np.array([1.0, 2.0, 3.0, 6.0]), np.array([2.0, 4.0, 4.0, 8.0]))
    assert effect["difference"] == -1.5
    assert effect["paired_d"] == pytest.approx(-1.5 / np.sqrt(1 / 3))
    assert effect["paired_t"] == pytest.approx(2 * effect["paired_d"])
    assert effect["cohen_d"] == pytest.approx(-1.5 / np.sqrt((14 / 3 + 19 / 3) / 2))
    assert effect["paired_p"] < 0.05 < effect["unpaired_p"]
    none = effect_sizes(np.arange(4.0), np.arange(4.0))
    assert none["difference"] == 0
    assert np.isnan(none["paired_d"])


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.6, 0.9]).tolist() == [1, 1]


def test_versus_gives_every_row_its_own_numbers():
    rng = np.random.default_rng(9)
    luck = 10 * rng.normal(size=100)
    costs = {
        "cheaper": luck - 5 + noise(rng, 6, 100),
        "equal": luck + noise(rng, 6, 100),
        "fixed": luck[None] + rng.uniform(1, 2, 100),
    }
    table = versus(costs, luck)
    for name, row in table.iterrows():
        assert row["cost"] == pytest.approx(costs[name].mean())
        difference = costs[name] - luck
        assert row["value"] == pytest.approx(difference.mean())
        assert (row["episodes_low"], row["episodes_high"]) == bootstrap(np.mean, difference, over="episodes")
        assert (row["seeds_low"], row["seeds_high"]) == bootstrap(np.mean, difference, over="seeds")
        assert (row["low"], row["high"]) == bootstrap(np.mean, difference)
    assert table["p_holm"].tolist() == holm(table["p"]).tolist()
    assert table.loc["cheaper", "high"] < 0
    assert table.loc["cheaper", "p_holm"] < 0.01
    assert table.loc["equal", "low"] < 0 < table.loc["equal", "high"]
    assert table.loc["fixed", "probability_of_improvement"] == 0


@pytest.mark.parametrize("seeds", [1, 2])
def test_an_episode_without_a_number_is_refused_not_left_out(seeds):
    one = pd.DataFrame({"episode": range(4), "cost": [1.0, 2.0, np.nan, 4.0]})
    table = pd.concat([one.assign(seed=seed) for seed in range(seeds)])
    with pytest.raises(ValueError, match="cost: the seeds have not played the same episodes, or a value is no number"):
        crossed(table)
