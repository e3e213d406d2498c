"""The chapter of known answers: gaps on made costs, and the evidence for the simulator in small."""

import json
from pathlib import Path

import numpy as np
import pytest

import meirl
from meirl.config import load_yaml
from meirl_study import answers, proofs
from meirl_study.chapter import setup

TRACES = Path(__file__).parents[1] / "traces"
OPTIMA = {"lost-sales": 4.0, "two-echelon": 40.0}


def made(mean, spread=0.01, seeds=3, episodes=50):
    return np.random.default_rng(0).normal(mean, spread * mean, (seeds, episodes))


def test_a_chapter_of_controls_plays_their_rules():
    chapter = answers.controls(setup("quick", 3, "cpu"))
    assert tuple(chapter.envs) == meirl.CONTROLS
    assert (chapter.seed, chapter.quick, list(chapter.seeds)) == (3, True, [3])
    assert answers.controls(chapter, "lost-sales").names == ("lost-sales",)
    assert f"{4.7285:{chapter.forms['lost-sales']}}" == "4.729"
    table = chapter.play("two-echelon")
    assert len(table) == chapter.episodes
    assert table["cost"].mean() == pytest.approx(answers.optimum(chapter.envs["two-echelon"]), rel=0.03)


def test_the_optimum_of_every_control():
    found = {name: answers.optimum(meirl.make(name)) for name in meirl.CONTROLS}
    assert found == pytest.approx(
        {"lost-sales": 4.7285, "two-echelon": 42.2548, "kunnumkal-topaloglu": 3260.7}, rel=1e-5
    )


def test_gaps_are_percent_above_the_optimum():
    table = answers.gaps({("lost-sales", "PPO 1×"): made(5.0), ("two-echelon", "rule"): np.full((1, 4), 44.0)}, OPTIMA)
    ppo, rule = (table.loc[key] for key in table.index)
    assert ppo["value"] == pytest.approx(25, abs=0.5)
    assert ppo["low"] < ppo["value"] < ppo["high"] < ppo["value"] + 2
    assert (rule["cost"], rule["value"], rule["low"], rule["high"]) == (44, *[pytest.approx(10)] * 3)


def test_who_is_below_the_optimum_by_more_than_luck_is_named():
    costs = {
        ("lost-sales", "PPO 1×"): made(3.9),
        ("lost-sales", "A3C 1×"): made(3.98, spread=0.2) * 0.99,  # below, but not by more than luck
        ("two-echelon", "rule"): made(40.1),
    }
    assert answers.impossible(costs, OPTIMA) == ["PPO 1× on lost-sales"]


def test_who_misses_the_mark_is_named():
    costs = {
        ("lost-sales", "designed rule"): made(4.2, 1e-4),
        ("lost-sales", "textbook rule"): made(9.0, 1e-4),
        ("lost-sales", "PPO 10×"): made(4.05, 1e-4),
        ("two-echelon", "A3C 1×"): made(43.0, 1e-4),
        ("two-echelon", "pathwise"): made(400.0, 1e-4),
    }
    table = answers.gaps(costs, OPTIMA)
    assert answers.missed(table, quick=False) == [
        "designed rule on lost-sales: 5.0 % above the optimum, not within 1.5 %",
        "A3C 1× on two-echelon: 7.5 % above the optimum, not within 4 %",
        "pathwise on two-echelon: 900.0 % above the optimum, not within 1 %",
    ]
    assert answers.missed(table, quick=True) == [
        "designed rule on lost-sales: 5.0 % above the optimum, not within 1.5 %",
        "pathwise on two-echelon: 900.0 % above the optimum, not within 20 %",
    ]


def test_policies_with_an_exact_cost_cost_it():
    table = proofs.exact(60)
    assert len(table) == 7
    assert (table["difference"].abs() < 4).all()
    assert table["simulated"].to_numpy() == pytest.approx(table["exact"].to_numpy(), rel=0.03)


def test_traces_are_counted_and_a_missing_one_is_named(tmp_path):
    table = proofs.traces(TRACES)
    assert table["traces"].tolist() == [4] * 4
    assert table["largest error"].max() < 1e-6
    assert table["periods"].tolist() == [2000, 2000, 1460, 1460]
    with pytest.raises(ValueError, match="no trace of divergent-stationary"):
        proofs.traces(tmp_path)


def test_intervals_cover_the_exact_cost_as_often_as_they_say():
    found = proofs.coverage(200, 50)
    assert found["low"] <= 0.95 <= found["high"]
    assert found["low"] < found["share"] < found["high"]


TABLE = {
    ("lost-sales", "designed rule"): made(4.2, 1e-4),
    ("lost-sales", "PPO"): made(5.0, 1e-4),
    ("two-echelon", "designed rule"): made(40.4, 1e-4),
}


def test_panels_and_text_say_what_was_to_be_reached():
    table = answers.gaps(TABLE, OPTIMA)
    tables, marks = answers.panels(table)
    assert list(tables) == ["lost-sales", "two-echelon"]
    assert list(tables["lost-sales"].index) == ["designed rule", "PPO"]
    assert marks["lost-sales"] == {"designed rule": 1.5, "PPO": 1.5}
    read = answers.for_reading(table, {"lost-sales": ".3f", "two-echelon": ".1f"})
    assert read.loc[("two-echelon", "designed rule"), "mean cost"] == "40.4"
    assert read.loc[("two-echelon", "designed rule"), "to be reached [%]"] == "0.5"
    assert read.loc[("lost-sales", "PPO"), "above the optimum [%]"].startswith("25.0")


def test_texts_give_every_gap_and_the_range_of_each_kind():
    found = answers.texts(answers.gaps(TABLE, OPTIMA))
    assert found["lost-sales-PPO"].startswith("25.0 % (2")
    assert found["gap-rule"] == "1.0 to 5.0 %"
    assert found["gap-PPO"] == "25.0 %"


def test_the_optimum_of_lost_sales_stands_beside_the_published_one():
    table = answers.lost_sales_table((2,))
    assert table["L = 2"].to_dict() == {
        "p = 4": "4.395 | 4.40", "p = 9": "6.094 | 6.09", "p = 19": "7.664 | 7.66", "p = 39": "9.106 | 9.11"
    }  # fmt: skip


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A chapter of one control, with next to no training."""
    chapter = answers.controls(setup("quick", 0, "cpu"), "lost-sales")
    vars(chapter)["root"] = tmp_path
    monkeypatch.setattr(answers, "EPISODES", {"quick": 20})
    few = {"steps": 400, "environments": 2, "copies": 1, "segment": 50, "evaluations": 1, "validation_episodes": 2}
    monkeypatch.setattr(answers, "SHORTER", {"ppo": few})
    return chapter


def test_the_settings_of_the_open_chains_change_foresight_and_noise_and_are_kept_apart(tiny):
    ((key, cost),) = answers.as_on_open_chains(tiny).items()
    assert (key, cost.shape) == (("lost-sales", "PPO"), (1, 20))
    (config,) = tiny.root.glob("variants/as-on-open-chains/lost-sales/**/config.json")
    made = json.loads(config.read_text())
    assert (made["discount"], made["gae_lambda"], made["steps"]) == (0.99, 0.97, 400)
    assert (made["network"]["log_std"], made["network"]["final_log_std"]) == (0.0, -1.5)


def test_noise_is_in_units_of_a_retailers_order():
    assert answers.noise(meirl.make("two-echelon"), 0.0) == 15.0  # orders of 0 to 30, actions of -1 to 1


def test_settings_that_were_tried_are_counted_over_learners_and_controls(tmp_path):
    (tmp_path / "trials.yaml").write_text("ppo: {a: 4, b: 2}\na3c: {a: 7}\n")
    assert answers.tried(tmp_path / "trials.yaml") == "2 to 7"
    assert {*load_yaml(answers.TRIALS)["ppo"]} == {*meirl.CONTROLS}


def test_rules_and_learners_of_a_control_become_cells(tiny):
    chapter = tiny
    costs = chapter.costs({"textbook rule": "textbook", "designed rule": "best"}, "ppo")
    assert {key: cost.shape for key, cost in costs.items()} == {
        ("lost-sales", policy): (1, 20) for policy in ("textbook rule", "designed rule", "PPO")
    }
    best = answers.playing_optimum(chapter)["lost-sales", answers.OPTIMAL]
    assert best.shape == (1, 20)
    assert best.mean() < costs["lost-sales", "textbook rule"].mean()


def test_every_chain_of_the_table_has_a_bound_that_the_rule_nearly_reaches():
    table = proofs.bounds_table(300)
    assert list(table.index) == list(proofs.CHAINS)
    assert table.loc["the control", ["bound", "V", "y"]].tolist() == ["42.255", "184", "53.0"]
    above = [float(text.split()[0]) for text in table["rule, above the bound [%]"]]
    assert max(map(abs, above)) < 2
