"""Chapter 7's comparisons on made costs: one environment where PPO is clearly cheaper, one where nothing is clear."""

import numpy as np
import pandas as pd
import pytest

from meirl_study import comparison
from meirl_study.published import RESULTS

EPISODES = np.linspace(90, 110, 20)
LEARNERS = ["PPO 1×", "A3C 1×", "PPO 10×", "A3C 10×"]


@pytest.fixture
def cells():
    """Costs of four seeds; the designed rule costs 100 on average, the textbook rule 200."""
    seeds = np.array([[-1.0], [1.0], [-2.0], [2.0]])
    clear = {"PPO 1×": EPISODES - 50 + seeds / 10, "A3C 1×": EPISODES + 50 + seeds / 10}
    clear |= {"PPO 10×": EPISODES - 75 + seeds / 10, "A3C 10×": EPISODES - 25 + seeds / 10}
    unclear = {"PPO 1×": EPISODES + seeds, "A3C 1×": EPISODES - seeds / 2, "PPO 10×": EPISODES + seeds / 3}
    unclear |= {"A3C 10×": EPISODES + seeds}
    rules = {"designed rule": EPISODES[None], "textbook rule": 2 * EPISODES[None]}
    made = {"clear": rules | clear, "unclear": rules | unclear}
    return {(name, policy): cost for name, policies in made.items() for policy, cost in policies.items()}


def test_a_learner_against_a_rule_in_percent_of_its_cost(cells):
    found = comparison.against(cells, "designed rule", 200)
    assert found.index.tolist() == [(name, learner) for name in ("clear", "unclear") for learner in LEARNERS]
    np.testing.assert_allclose(found["value"], [-50, 50, -75, -25, 0, 0, 0, 0], atol=1e-9)
    assert found["verdict"].tolist() == ["cheaper", "dearer", "cheaper", "cheaper", *["undecided"] * 4]
    assert found.loc[("clear", "PPO 1×"), "probability_of_improvement"] == 1
    np.testing.assert_allclose(found["episodes_low"], found["episodes_high"])  # paired: no spread over episodes
    np.testing.assert_allclose(found["p_holm"].min(), 8 * found["p"].min(), rtol=1e-9)  # corrected for all rows


def test_what_would_pass_as_the_only_test_is_undecided_among_eight(cells):
    cells["unclear", "PPO 1×"] = cells["unclear", "PPO 1×"] - 3.5
    row = comparison.against(cells, "designed rule", 200).loc[("unclear", "PPO 1×")]
    assert row["p"] < comparison.LEVEL < row["p_holm"]
    assert row["verdict"] == "undecided"


def test_the_other_opponent_is_dearer_to_beat(cells):
    found = comparison.against(cells, "textbook rule", 200)
    np.testing.assert_allclose(found["value"].head(4), [-75, -25, -87.5, -62.5], atol=1e-9)
    assert (found["verdict"] == "cheaper").all()


def test_the_comparison_for_readers(cells):
    found = comparison.against(cells, "designed rule", 200)
    shown = comparison.differences(found)
    assert list(shown) == ["difference [%]", "verdict", *comparison.OVER, "p, corrected"]
    assert shown.loc[("clear", "PPO 1×"), ["difference [%]", "over episodes"]].tolist() == ["-50.0", "-50.0 to -50.0"]
    assert shown.loc[("clear", "PPO 1×"), "p, corrected"] == "< 0.001"
    assert comparison.p_value(0.0123) == "0.012"
    assert comparison.with_verdict(found, "dearer") == "A3C 1× on clear"
    assert comparison.with_verdict(found.head(1), "dearer") == "none"
    assert comparison.environments_with(found, "PPO 10×", "cheaper") == "clear"
    assert comparison.environments_with(found, "PPO 10×", "dearer") == "none"


def test_cost_tail_and_service_each_have_their_own_difference(cells):
    fills = {key: np.full_like(cost, 0.9) for key, cost in cells.items()}
    for name in ("clear", "unclear"):
        fills[name, "PPO 1×"] = fills[name, "PPO 1×"] + 0.03
    found = comparison.beside_cost(cells, fills, "designed rule", 200)
    row = found.loc[("clear", "PPO 1×")]
    assert row["value"] == pytest.approx(-50)
    elsewhere, ends = comparison.against(cells, "designed rule", 200), ["value", "low", "high"]
    pd.testing.assert_frame_equal(found[ends], elsewhere[ends])  # one interval for one number, on every page
    assert row["tail_value"] == pytest.approx(100 * (60 / 110 - 1))  # the worst of 20 episodes costs 110, or 60
    assert row[["fill_value", "fill_low", "fill_high"]].tolist() == pytest.approx([3, 3, 3])
    assert found.loc[("clear", "A3C 1×"), "fill_value"] == pytest.approx(0, abs=1e-9)
    shown = comparison.three_verdicts(found)
    assert shown.loc[("clear", "PPO 1×"), "fill rate [points]"] == "+3.0 (+3.0 to +3.0), more"
    assert shown.loc[("clear", "A3C 1×"), "tail, CVaR [%]"].endswith("worse")
    assert shown.loc[("unclear", "PPO 1×"), "cost [%]"].endswith("undecided")


def test_all_uncertainty_is_of_the_seeds_where_only_they_differ(cells):
    found = comparison.sources_of_error(cells, "designed rule")
    np.testing.assert_allclose(found[["seeds", "episodes", "interaction"]], [[1, 0, 0]] * 8, atol=1e-9)


def test_over_all_environments_ratios_have_a_geometric_mean_beside_the_four_values(cells):
    found = comparison.overall(cells)
    assert found.loc[("designed rule", "PPO 1×")].tolist() == pytest.approx([0.5, 1.0, 0.5**0.5])
    assert found.loc[("textbook rule", "A3C 1×")].tolist() == pytest.approx([0.75, 0.5, 0.375**0.5])


def test_ppo_against_a3c_at_each_budget(cells):
    found = comparison.duel(cells, 200)
    assert found.index.tolist() == [("clear", "1×"), ("clear", "10×"), ("unclear", "1×"), ("unclear", "10×")]
    assert found["PPO"].tolist() == ["cheaper", "cheaper", "undecided", "undecided"]
    assert found.loc[("clear", "1×"), "PPO against A3C [%]"] == "-66.7"  # 50 against 150
    assert found["probability that a PPO run is cheaper"].tolist()[:3] == [1, 1, 0.5]
    low, high = map(float, found.loc[("unclear", "1×"), "over both"].split(" to "))
    assert low < 0 < high


def test_runs_are_compared_by_their_means():
    ours, theirs = np.array([[0.0, 0.0, 9.0]]), np.ones((1, 3))
    cells = {("a", learner): ours if learner.startswith("PPO") else theirs for learner in LEARNERS}
    assert comparison.duel(cells, 50).loc[("a", "1×"), "probability that a PPO run is cheaper"] == 0


def test_published_cells_stand_beside_ours():
    agents = {name: theirs["agent"] for name, theirs in RESULTS.iterrows()}
    rules = {"designed rule": EPISODES[None], "textbook rule": EPISODES[None], "published baseline": 2 * EPISODES[None]}
    cells = {(name, policy): cost for name in agents for policy, cost in rules.items()}
    ours = np.stack([EPISODES[::-1] + 1, EPISODES[::-1] - 1])
    cells |= {(name, f"{agent} 1×"): ours for name, agent in agents.items()}
    table = comparison.published_cells(cells)
    assert len(table) == 4 * len(agents)
    ours = table.loc[("meis-stationary", "our A3C 1×", "published baseline")]
    assert ours[["cost", "opponent", "saved [%]"]].tolist() == pytest.approx([100, 200, 50])
    theirs = table.loc[("meis-stationary", "as published", "published baseline")]
    # (1930.24 - 1962.40) / sqrt((4.02² + 52.39²) / 2), and t = d sqrt(n / 2) for n = 1,000 each.
    assert theirs["Cohen's d"] == pytest.approx(-0.8656, abs=1e-4)
    assert theirs["t, unpaired"] == pytest.approx(theirs["Cohen's d"] * 500**0.5)
    assert np.isnan(theirs["paired d"])
