"""Chapter 7's comparisons on made costs: one environment where PPO is clearly cheaper, one where nothing is clear."""

import numpy as np
import pytest

from meirl_study import comparison
from meirl_study.published import RESULTS

EPISODES = np.linspace(90, 110, 20)


@pytest.fixture
def cells():
    """Costs of four seeds; the rule costs 100 on average."""
    seeds = np.array([[-1.0], [1.0], [-2.0], [2.0]])
    clear = {"PPO": EPISODES - 50 + seeds / 10, "A3C": EPISODES + 50 + seeds / 10}
    unclear = {"PPO": EPISODES + seeds, "A3C": EPISODES - seeds / 2}
    rules = {"best heuristic": EPISODES[None], "published baseline": 2 * EPISODES[None]}
    made = {"clear": rules | clear, "unclear": rules | unclear}
    return {(name, policy): cost for name, policies in made.items() for policy, cost in policies.items()}


def test_a_learner_against_the_best_rule_in_percent_of_its_cost(cells):
    found = comparison.against_best(cells, 200)
    assert found.index.tolist() == [("clear", "PPO"), ("clear", "A3C"), ("unclear", "PPO"), ("unclear", "A3C")]
    np.testing.assert_allclose(found["value"], [-50, 50, 0, 0], atol=1e-9)
    assert found["verdict"].tolist() == ["cheaper", "dearer", "undecided", "undecided"]
    assert found.loc[("clear", "PPO"), "probability_of_improvement"] == 1
    np.testing.assert_allclose(found["episodes_low"], found["episodes_high"])  # paired: no spread over episodes
    np.testing.assert_allclose(found["p_holm"].iloc[0], 4 * found["p"].iloc[:2].min(), rtol=1e-9)


def test_the_comparison_for_readers(cells):
    found = comparison.against_best(cells, 200)
    shown = comparison.differences(found)
    assert list(shown) == ["difference [%]", *comparison.OVER]
    assert shown.loc[("clear", "PPO"), ["difference [%]", "over episodes"]].tolist() == ["-50.0", "-50.0 to -50.0"]
    assert comparison.tests(found).loc[("clear", "A3C")].tolist()[::2] == ["0.00", "dearer"]
    assert comparison.with_verdict(found, "cheaper") == "PPO on clear"
    assert comparison.with_verdict(found, "undecided") == "PPO on unclear, A3C on unclear"
    assert comparison.with_verdict(found.head(1), "dearer") == "none"


def test_all_uncertainty_is_of_the_seeds_where_only_they_differ(cells):
    found = comparison.sources_of_error(cells)
    np.testing.assert_allclose(found[["seeds", "episodes", "interaction"]], [[1, 0, 0]] * 4, atol=1e-9)


def test_over_all_environments_costs_are_relative_to_the_best_rule(cells):
    found = comparison.overall(cells, 200)
    assert found.loc["PPO", "mean"] == pytest.approx(0.75)  # half of the rule on one environment, the same on the other
    assert found.loc["PPO", "worst run"] == pytest.approx(1.02)
    # Sorted: 0.99 0.995 | 1.005 1.01 1.498 1.499 | 1.501 1.502.
    assert found.loc["A3C", "interquartile mean"] == pytest.approx(1.253)
    assert (found["low"] <= found["interquartile mean"]).all()
    assert (found["interquartile mean"] <= found["high"]).all()


def test_groups_are_drawn_each_on_its_own():
    low, high = comparison.stratified(lambda a, b: a.mean() + b.mean(), [np.zeros(5), np.full(3, 7.0)], 50)
    assert (low, high) == (7, 7)


def test_ppo_against_a3c(cells):
    found = comparison.duel(cells, 200)
    assert found["PPO"].tolist() == ["cheaper", "undecided"]
    assert found.loc["clear", "PPO against A3C [%]"] == "-66.7"  # 50 against 150
    assert found["probability that a PPO run is cheaper"].tolist() == [1, 0.5]
    low, high = map(float, found.loc["unclear", "over both"].split(" to "))
    assert low < 0 < high


def test_runs_are_compared_by_their_means():
    cells = {("a", "PPO"): np.array([[0.0, 0.0, 9.0]]), ("a", "A3C"): np.ones((1, 3))}
    assert comparison.duel(cells, 50).loc["a", "probability that a PPO run is cheaper"] == 0


def test_published_cells_stand_beside_ours():
    agents = {name: theirs["agent"] for name, theirs in RESULTS.iterrows()}
    rules = {"best heuristic": EPISODES[None], "published baseline": 2 * EPISODES[None]}
    cells = {(name, policy): cost for name in agents for policy, cost in rules.items()}
    cells |= {(name, agent): np.stack([EPISODES[::-1] + 1, EPISODES[::-1] - 1]) for name, agent in agents.items()}
    table = comparison.published_cells(cells)
    assert len(table) == 3 * len(agents)
    ours = table.loc[("meis-stationary", "our A3C", "published baseline")]
    assert ours[["cost", "opponent", "saved [%]"]].tolist() == pytest.approx([100, 200, 50])
    theirs = table.loc[("meis-stationary", "as published", "published baseline")]
    # (1930.24 - 1962.40) / sqrt((4.02² + 52.39²) / 2), and t = d sqrt(n / 2) for n = 1,000 each.
    assert theirs["Cohen's d"] == pytest.approx(-0.8656, abs=1e-4)
    assert theirs["t, unpaired"] == pytest.approx(theirs["Cohen's d"] * 500**0.5)
    assert np.isnan(theirs["paired d"])
