"""The first page's table, savings and verdict, on made data."""

import numpy as np
import pytest

from meirl.envs import NAMES
from meirl_study import evidence
from meirl_study.published import RESULTS


@pytest.fixture
def table():
    """Costs that are the same in every episode: ordering nothing 100,000, the others less."""
    costs = {"order nothing": 1e5, "baseline": 1e5, "best heuristic": 1000.0, "PPO": 2000.0, "A3C": 12_345.6}
    cells = {(name, policy): np.full((1, 4), cost) for name in NAMES for policy, cost in costs.items()}
    return evidence.gather(cells)


def test_reported_intervals_come_from_the_published_standard_deviations():
    found = evidence.reported().set_index(["environment", "policy"])
    low, high = found.loc[("divergent-stationary", "RL agent"), ["low", "high"]]
    assert (low + high) / 2 == pytest.approx(2_600_979.87)
    assert (high - low) / 2 == pytest.approx(1.96 * 29_021.34 / 10)  # 100 episodes
    assert len(found) == 2 * len(NAMES)


def test_all_evidence_is_beside_what_ordering_nothing_costs(table):
    assert len(table) == len(NAMES) * (2 + 5)
    assert (table["never"] == 1e5).all()
    assert table["kind"].value_counts().to_dict() == {"measured": 20, "published": 8}


def test_the_table_for_readers_has_a_row_a_policy_and_a_column_an_environment(table):
    lines = evidence.markdown(table).split("\n")
    assert lines[:2] == ["| policy | " + " | ".join(NAMES) + " |", "| --- | ---: | ---: | ---: | ---: |"]
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {row}" for row in evidence.ROWS]
    assert lines[-1].count("12,346\N{NBSP}±\N{NBSP}0") == len(NAMES)
    assert "2,600,980\N{NBSP}±\N{NBSP}5,688" in lines[5]
    assert evidence.number(206.83, 205.8, 207.8) == "206.8\N{NBSP}±\N{NBSP}1.0"


def test_savings_are_against_the_published_agent(table):
    for name, percent in evidence.savings(table).items():
        assert percent == pytest.approx(100 * (1 - 1000 / RESULTS.loc[name, "agent_cost"]))


@pytest.mark.parametrize(
    ("intervals", "words"),
    [
        ([(-3, -1), (-2, -0.5)], "beats"),
        ([(1, 3), (0.5, 2)], "loses to"),
        ([(-3, -1), (1, 2)], "does not clearly beat"),
        ([(-3, -1), (-1, 2)], "does not clearly beat"),
        ([(-1, 2), (-1, 2)], "does not clearly beat"),
    ],
)
def test_a_verdict_on_both_learners_holds_for_each_of_them(intervals, words):
    assert evidence.verdict_on_all(intervals) == words
