"""The cells of the study: what differs between them, their curves and tables, on made data."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from meirl import held_out, heuristics, make, rollout
from meirl.envs import NAMES
from meirl.learn import preset
from meirl_study import chapter, figures, study, training
from meirl_study.study import Task

QUICK = chapter.setup("quick", 0, "cpu")
ENV = "meis-stationary"


def runs(*costs, **columns):
    """Test episodes of as many seeds."""
    tables = [
        pd.DataFrame({"seed": seed, "episode": range(len(cost)), "cost": cost, "fill_rate": 0.5 + seed / 4, **columns})
        for seed, cost in enumerate(costs)
    ]
    return pd.concat(tables, ignore_index=True)


RULE = pd.DataFrame({"cost": [10.0, 20.0, 30.0], "fill_rate": 0.9})


def test_every_seed_and_their_mean_in_percent_of_the_rule():
    table = training.by_seed(runs(RULE["cost"] + 1, RULE["cost"] + 3), RULE)
    assert list(table.index) == ["seed 0", "seed 1", "mean over seeds"]
    assert table["cost"].tolist() == [21, 23, 22]
    assert table["fill_rate"].tolist() == [0.5, 0.75, 0.625]
    assert table["cvar95"].tolist() == [31, 33, 32]  # of three episodes, the worst one
    assert table["difference"].tolist() == pytest.approx([5, 15, 10])
    # Paired by episode, a seed's difference has no spread; between seeds it has, and there are only two.
    assert table.loc["seed 1", ["low", "high"]].tolist() == pytest.approx([15, 15])
    low, high = table.loc["mean over seeds", ["low", "high"]]
    assert low == pytest.approx(5)
    assert high == pytest.approx(15)


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """Finished runs of one cell at both budgets, as far as files go, and rules that cost 10 and 20 in each episode."""
    monkeypatch.setattr(chapter, "PROJECT", tmp_path)
    (tmp_path / "_config.yml").touch()
    here = chapter.setup("quick", 0, "cpu")
    for budget, todo in training.tasks(here, "a3c", ENV).items():
        for task in todo:
            folder = task.folder(here.root)
            folder.mkdir(parents=True)
            (folder / "manifest.json").write_text(json.dumps({"seconds": 60.0 * (1 + task.seed), "steps": 100}))
            history = {"steps": [50, 100], "simulated_steps": [1e6, 3e6], "validation_cost": [7.0, 5.0 + task.seed]}
            pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
        assert {task.seed for task in todo} == {0, 1}, budget
    cost = {"textbook": 20.0, "best": 10.0}
    monkeypatch.setattr(
        chapter.Chapter, "play", lambda self, env, rule: pd.DataFrame({"cost": cost[rule], "fill_rate": [0.9] * 3})
    )
    return here


@pytest.fixture
def results():
    """Two seeds that cost 11 and 13 an episode at the published budget, 8 and 9 at ten times that."""
    rows = {"tuned": ([11.0] * 3, [13.0] * 3), "long": ([8.0] * 3, [9.0] * 3)}
    return pd.concat([runs(*costs, env=ENV, algo="a3c", preset=name) for name, costs in rows.items()])


def test_tasks_of_a_cell_by_budget():
    short, long = training.tasks(QUICK, "ppo", ENV).values()
    assert short == QUICK.tasks(envs=[ENV], algos=["ppo"])
    assert {(task.env, task.algo, task.preset) for task in long} == {(ENV, "ppo", "long")}
    assert [task.seed for task in long] == list(QUICK.long_seeds)


def test_curves_are_in_percent_of_the_rule_on_the_same_scenarios(cell, monkeypatch):
    asked = []
    monkeypatch.setattr(training, "on_validation", lambda *arguments: asked.append(arguments) or 20.0)
    curves = training.curves(cell, "a3c", ENV)
    counts = [task.config().validation_episodes for task, _ in training.tasks(cell, "a3c", ENV).values()]
    assert asked == [(cell, ENV, "designed rule", count) for count in counts]
    assert curves["budget"].tolist() == ["1×"] * 4 + ["10×"] * 4
    assert curves["percent"].tolist() == [35, 25, 35, 30] * 2
    assert curves["millions"].tolist() == [1, 3] * 4


def test_rules_on_validation_scenarios():
    env = make(ENV)
    for opponent, name in (("textbook rule", "textbook"), ("designed rule", "best")):
        expected = rollout(env, heuristics.load(env, name), held_out(env, "validation", 4))["cost"].mean()
        assert training.on_validation(QUICK, ENV, opponent, 4) == pytest.approx(expected)


def test_the_textbook_rule_in_percent_of_the_designed_one(monkeypatch):
    monkeypatch.setattr(training, "on_validation", lambda _, env, opponent: {"textbook rule": 30}.get(opponent, 20))
    assert training.textbook_percent(QUICK, ENV) == 150


def test_the_sheet_of_a_cell_has_every_seed_at_both_budgets_and_both_rules(cell, results):
    sheet = training.data_sheet(cell, "a3c", ENV, results)
    assert list(sheet) == list(training.HEADINGS)
    assert sheet.loc["1×, seed 0":"1×, mean over seeds", "difference"].tolist() == pytest.approx([10, 30, 20])
    assert sheet.loc["10×, seed 0":"10×, mean over seeds", "difference"].tolist() == pytest.approx([-20, -10, -15])
    assert sheet["minutes"].tolist()[3:6] == [1, 2, 1.5]
    rules = sheet.loc[["textbook rule", "designed rule"]]
    assert rules["difference"].tolist() == [100, 0]
    assert rules["low"].isna().all()
    assert len(sheet) == 3 + 3 + 2
    assert training.cheaper_seeds(sheet, "1×") == "0 of 2 at 1×"
    assert training.cheaper_seeds(sheet, "10×") == "2 of 2 at 10×"


def test_gaps_to_both_rules_in_a_sentence(cell, results):
    gaps = training.gaps(cell, "a3c", ENV, results)
    assert gaps.loc[("1×", "designed rule"), "value"] == pytest.approx(20)
    assert gaps.loc[("10×", "textbook rule"), "value"] == pytest.approx(-57.5)
    gaps.loc[("1×", "designed rule"), ["low", "high"]] = [-1, 41]
    text = training.sentence(gaps, "1×", "A3C").replace("\N{NBSP}", " ")
    assert text.startswith("A3C beats the textbook rule (-40.0 %; -45.0 to -35.0) and cannot be told apart from the")
    assert text.endswith("the designed rule (+20.0 %; -1.0 to +41.0)")


def test_the_overview_has_a_row_a_cell_and_budget_with_a_link_to_its_sheet():
    index = pd.MultiIndex.from_tuples([(ENV, "PPO 1×"), (ENV, "A3C 10×")])
    table = pd.DataFrame({"value": [-3.0, 2.0], "low": -4.0, "high": [-2.0, 8.0]}, index)
    table["verdict"] = ["cheaper", "undecided"]
    costs = {(ENV, "PPO 1×"): np.full((2, 3), 1234.5), (ENV, "A3C 10×"): np.full((2, 3), 7.0)}
    against = {"textbook rule": table, "designed rule": table}
    head, _, first, second = training.overview(costs, against, {ENV: ",.1f"}).splitlines()
    assert head.count("against the") == 2
    assert first.startswith(
        f"| {ENV} | [PPO](06-ppo-{ENV}.html)\N{NBSP}1× | 1,234.5 | -3.0 (-4.0 to -2.0), cheaper | -3.0"
    )
    assert second.endswith("+2.0 (-4.0 to +8.0), undecided |")
    assert training.counted(against, "1×") == (
        "1 of 1 cells cost less than the textbook rule and 0 cost more; "
        "1 of 1 cells cost less than the designed rule and 0 cost more"
    )


@pytest.mark.parametrize("algo", ["ppo", "a3c"])
def test_hyperparameters_are_sorted_into_those_that_differ_and_the_others(algo):
    differ, same = training.hyperparameters(algo)
    assert list(differ) == list(NAMES)
    keys = [*differ.index, *same]
    assert len(keys) == len(set(keys))
    for name in NAMES:
        configs = [preset(algo, budget, name) for budget in study.BUDGETS]
        first, second = (f"{config.steps:,}" for config in configs)
        assert differ.loc["steps", name] == f"{first} → {second}"
        assert all(getattr(config, key) == same[key] for config in configs for key in same if hasattr(config, key))
    assert not any("defect" in key for key in same)
    assert {"network: activation", "discount"} <= set(keys)


def test_hyperparameters_in_words():
    assert training.in_words({"clip": 0.2, "network: hidden": (64, 64)}) == "`clip` 0.2, `network: hidden` (64, 64)"


def test_trials_are_counted_where_somebody_did(tmp_path, monkeypatch):
    path = tmp_path / "trials.yaml"
    counts = {
        "ppo": {"one": {"committed": 2, "tried": None}, "two": {"committed": 3, "tried": None}},
        "a3c": {"one": {"committed": 2, "tried": 7}, "two": {"committed": 2, "tried": 11}},
    }
    path.write_text(yaml.safe_dump(counts, sort_keys=False))
    monkeypatch.setattr(training, "TRIALS", path)
    assert training.trials() == ("PPO 2 to 3 committed, A3C 2 committed and 7 to 11 trained and compared")


def test_the_committed_trials_name_every_learner_and_environment():
    counts = yaml.safe_load(training.TRIALS.read_text(encoding="utf-8"))
    assert {algo: list(rows) for algo, rows in counts.items()} == {algo: list(NAMES) for algo in ("ppo", "a3c")}


@pytest.mark.parametrize(("textbook", "highest", "note"), [(110.0, 130, ""), (180.0, 130, "textbook rule: 180 %"),
                                                         (180.0, 300, "")])  # fmt: skip
def test_curves_are_drawn_where_they_come_near_the_rules(textbook, highest, note):
    rows = [(budget, seed, k, 60.0 + seed + (highest - 61) * (1 - k)) for budget in ("1×", "10×") for seed in (0, 1)
            for k in (0.5, 1.0)]  # fmt: skip
    curves = pd.DataFrame(rows, columns=["budget", "seed", "millions", "percent"])
    if highest > 140:  # a run that ends above is in sight
        curves["percent"] += highest
    (ax,) = figures.cell_curves({"cell": curves}, {"cell": textbook}).axes
    low, high = ax.get_ylim()
    assert low == pytest.approx(min(curves["percent"].min(), 100) - 4)
    assert high == pytest.approx(140 if highest < 140 else 1.05 * (60 + 1 + highest))
    assert [text.get_text() for text in ax.texts] == ([note] if note else [])
    mean = curves[curves["budget"] == "10×"].groupby("millions")["percent"].mean()
    assert ax.lines[1].get_ydata().tolist() == pytest.approx(mean.tolist())


def test_a_manifest_is_read(cell):
    assert training.manifest(Task(ENV, "a3c", seed=1), cell.root)["seconds"] == 120
