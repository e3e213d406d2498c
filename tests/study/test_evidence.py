"""The first page's table, savings, verdicts, effort and ledger, on made data and on one short search and run."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from meirl.envs import NAMES
from meirl_study import evidence, searches, study
from meirl_study.chapter import Chapter
from meirl_study.published import RESULTS

COSTS = {
    "order nothing": 1e5, "baseline": 1e5, "textbook rule": 1500.0, "designed rule": 1000.0, "RL agent": 3000.0,
    "PPO 1×": 2000.0, "A3C 1×": 12_345.6, "PPO 10×": 900.0, "A3C 10×": 950.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def table():
    """Costs that are the same in every episode: ordering nothing 100,000, the others less."""
    cells = {(name, policy): np.full((1, 4), cost) for name in NAMES for policy, cost in COSTS.items()}
    return evidence.gather(cells)


def test_reported_intervals_come_from_the_published_standard_deviations():
    found = evidence.reported().set_index(["environment", "policy"])
    low, high = found.loc[("divergent-stationary", "RL agent"), ["low", "high"]]
    assert (low + high) / 2 == pytest.approx(2_600_979.87)
    assert (high - low) / 2 == pytest.approx(1.96 * 29_021.34 / 10)  # 100 episodes
    assert len(found) == 2 * len(NAMES)


def test_all_evidence_is_beside_what_ordering_nothing_costs(table):
    assert len(table) == len(NAMES) * (2 + len(COSTS))
    assert (table["never"] == 1e5).all()
    assert table["kind"].value_counts().to_dict() == {"measured": 36, "published": 8}


def test_the_table_for_readers_has_a_row_a_policy_and_a_column_an_environment(table):
    lines = evidence.markdown(table).split("\n")
    assert lines[:2] == ["| policy | " + " | ".join(NAMES) + " |", "| --- | ---: | ---: | ---: | ---: |"]
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {row}" for row in evidence.ROWS]
    assert next(line for line in lines if "A3C, published" in line).count("12,346\N{NBSP}±\N{NBSP}0") == len(NAMES)
    assert "2,600,980\N{NBSP}±\N{NBSP}5,688" in lines[5]
    assert evidence.number(206.83, 205.8, 207.8) == "206.8\N{NBSP}±\N{NBSP}1.0"


def test_savings_are_against_the_published_agent_as_reported(table):
    for name, percent in evidence.savings(table, "textbook rule").items():
        assert percent == pytest.approx(100 * (1 - 1500 / RESULTS.loc[name, "agent_cost"]))


def compared(words):
    """A table of `comparison.against` with these verdicts of two learners on four environments."""
    index = pd.MultiIndex.from_product([NAMES, ["PPO 1×", "PPO 10×"]])
    return pd.DataFrame({"value": -1.0, "low": -2.0, "high": 0.5, "verdict": words}, index)


def test_verdicts_count_environments():
    mixed = compared(["cheaper", "cheaper", "dearer", "cheaper", "undecided", "cheaper", "cheaper", "cheaper"])
    found = evidence.verdicts({"designed rule": mixed})
    assert found["ppo-1x-designed"] == "is cheaper on 2 and cannot be told apart on 1 and is dearer on 1 of 4"
    assert found["ppo-10x-designed"] == "is cheaper on 4 of 4"


def test_the_answer_has_three_rows_and_names_both_budgets():
    """PPO against either rule and A3C against the designed one; columns are the budgets of the study."""
    full = Chapter("full", 0, torch.device("cpu"))
    agents = ["A3C 1×", "A3C 10×", "PPO 1×", "PPO 10×"]
    index = pd.MultiIndex.from_product([NAMES, agents])
    tables = {
        "textbook rule": pd.DataFrame({"verdict": "cheaper"}, index),
        "designed rule": pd.DataFrame({"verdict": ["undecided", "dearer", "cheaper", "dearer"] * 4}, index),
    }
    heading, _, *rows = evidence.answer(full, tables).splitlines()
    assert evidence.budgets(full, "tuned") in heading.split("|")[2]
    assert evidence.budgets(full, "long") in heading.split("|")[3]
    assert rows == [
        "| PPO against the best textbook rule, tuned | is cheaper on 4 of 4 | is cheaper on 4 of 4 |",
        "| PPO against the best designed rule, tuned | is cheaper on 4 of 4 | is dearer on 4 of 4 |",
        "| A3C against the best designed rule, tuned | cannot be told apart on 4 of 4 | is dearer on 4 of 4 |",
    ]


def test_the_ledger_has_number_place_command_and_refutation(table):
    saving = {"textbook rule": evidence.savings(table, "textbook rule")}
    claims = evidence.claims({"designed rule": compared(["cheaper"] * 8)}, saving)
    assert list(claims)[1:] == ["PPO 1× against the designed rule", "PPO 10× against the designed rule"]
    number, _, command, _ = claims["PPO 10× against the designed rule"]
    assert number.startswith("divergent-stationary: -1.0 % (-2.0 to +0.5)")
    assert command == "`meirl study --profile full --algo ppo --preset long --seeds 5`"
    assert "--profile full --algo ppo --preset tuned --seeds 10" in claims["PPO 1× against the designed rule"][2]
    lines = evidence.ledger(claims).split("\n")
    assert len(lines) == 2 + len(claims)
    assert all(line.count(" | ") == 4 for line in lines[2:])


def test_a_curve_is_the_best_so_far_above_the_reference():
    run = pd.DataFrame({"simulated_steps": [1, 2, 3], "seconds": [0.1, 0.2, 0.3], "validation_cost": [300, 90, 120.0]})
    assert evidence.relative(run, "validation_cost", 100)["value"].tolist() == pytest.approx([200, -10, -10])


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A quick chapter whose runs are elsewhere, one environment, one seed of everything."""
    monkeypatch.setattr(study, "QUICK", {"steps": 4 * 365, "environments": 4, "copies": 2, "evaluations": 2,
                                         "validation_episodes": 3})  # fmt: skip
    monkeypatch.setattr(study, "SEEDS", {"quick": 1, "full": 10})
    monkeypatch.setattr(study, "LONG_SEEDS", {"quick": 1, "full": 5})
    monkeypatch.setattr(Chapter, "root", tmp_path)
    made = Chapter("quick", 0, torch.device("cpu"))
    made.__dict__["envs"] = {"meis-stationary": Chapter("quick", 0, torch.device("cpu")).envs["meis-stationary"]}
    return made


def test_searches_and_agents_on_one_axis(chapter, monkeypatch):
    monkeypatch.setattr(searches, "SEARCHES", {"meis-stationary": searches.SEARCHES["meis-stationary"]})
    monkeypatch.setattr(searches, "QUICK", {**searches.QUICK, "episodes": 4, "finalists": 1})
    chapter.study(envs=["meis-stationary"])
    chapter.study(envs=["meis-stationary"], preset="long", seeds=chapter.long_seeds)
    panel = evidence.effort(chapter, 5)["meis-stationary"]
    assert list(panel) == ["search, textbook rule", "search, designed rule", "PPO 1×", "A3C 1×", "PPO 10×", "A3C 10×"]
    assert [len(tables) for tables in panel.values()] == [2, 2, 1, 1, 1, 1]
    for tables in panel.values():
        assert all(
            (t["simulated_steps"].diff().dropna() > 0).all() and (t["value"].diff().dropna() <= 0).all() for t in tables
        )
    run = panel["PPO 1×"][0]  # 1,460 steps of training, 3 episodes of validation
    assert run["simulated_steps"].iloc[-1] == 1_460 + 3 * 365
    millions = evidence.in_millions({"meis-stationary": panel})["meis-stationary"]["PPO 1×"][0]
    assert millions["simulated_steps"].iloc[-1] == pytest.approx(0.002_555)
    given = evidence.given(chapter)
    assert given.loc[("meis-stationary", "PPO 1×"), ["steps", "times"]].tolist() == pytest.approx([0.002_555, 1])
    assert "levels" in given.loc[("meis-stationary", "textbook rule"), "what"]
    assert evidence.budgets(replace(chapter), "tuned") == "0.0 million"
