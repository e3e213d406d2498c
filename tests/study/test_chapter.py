"""A chapter's set-up and its words: one table, one profile, one verdict for the same numbers everywhere."""

import numpy as np
import pandas as pd
import pytest
import torch

import meirl
from meirl_study import chapter, study

QUICK = chapter.setup("quick", 3, "cpu")


def test_the_profile_decides_seeds_episodes_and_budget():
    full = chapter.setup("full", 3, "cpu")
    assert (QUICK.quick, full.quick) == (True, False)
    assert (QUICK.seeds, full.seeds) == (range(3, 3 + study.SEEDS["quick"]), range(3, 3 + study.SEEDS["full"]))
    assert (QUICK.episodes, full.episodes) == (100, meirl.evaluation.TEST_EPISODES)
    assert (QUICK.changes, full.changes) == (study.QUICK, {})
    assert (QUICK.jobs, full.jobs) == (1, -1)
    assert QUICK.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("profile", "device", "message"),
    [
        ("fast", "cpu", "profile must be quick or full, got 'fast'"),
        ("quick", "gpu", "device must be .*, got 'gpu'"),
    ],
)
def test_parameters_of_a_chapter_that_are_not_known_are_refused(profile, device, message):
    with pytest.raises(ValueError, match=message):
        chapter.setup(profile, 0, device)


def test_runs_are_kept_in_the_checkout_wherever_python_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert chapter.setup("full", 0, "cpu").root == chapter.PROJECT / "runs" / "full"
    monkeypatch.setattr(chapter, "PROJECT", tmp_path / "site-packages")  # installed without a checkout
    assert chapter.setup("quick", 0, "cpu").root == tmp_path / "runs" / "quick"


def test_environments_and_their_units(name):
    assert QUICK.envs[name].name == name
    cost_unit = meirl.make(name).parameters.cost_unit
    assert QUICK.units[name] == {1: "units of cost", 10_000: "10,000s"}[cost_unit]
    assert chapter.unit(meirl.make(name, cost_unit=2_500)) == "2,500s"
    assert f"{1234.56:{QUICK.forms[name]}}" == {1: "1,235", 10_000: "1,234.6"}[cost_unit]


def test_a_rule_plays_the_test_scenarios():
    name = "meis-stationary"
    env = meirl.make(name)
    test = meirl.held_out(env, "test", QUICK.episodes)
    for rule, arguments in (("best", ()), ("never-order", ("never-order",))):
        expected = meirl.rollout(env, meirl.heuristics.load(env, rule), test)
        pd.testing.assert_frame_equal(QUICK.play(name, *arguments), expected)


def test_a_study_is_of_the_chapters_seeds_and_budget_and_all_else_is_passed_on(monkeypatch):
    calls = []
    monkeypatch.setattr(study, "run", lambda todo, root, **options: calls.append((todo, root, options)))
    QUICK.study()
    QUICK.study(envs=["meis-stationary"], algos=["a3c"], seeds=[8], preset="published", changes={"steps": 1})
    (everything, root, options), (one, _, _) = calls
    assert everything == study.tasks(QUICK.seeds, profile="quick") == QUICK.tasks()
    assert {task.algo: task.changes for task in everything} == {
        "ppo": QUICK.changes, "a3c": {**QUICK.changes, "workers": 1},
    }  # fmt: skip
    assert root == QUICK.root
    assert (options["jobs"], options["episodes"]) == (1, 100)
    assert one == [study.Task("meis-stationary", "a3c", "published", seed=8, changes={"steps": 1})]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-2.0, -0.1, "beats"),
        (0.1, 2.0, "loses to"),
        (-0.1, 0.1, "cannot be told apart from"),
        (-1.0, 0.0, "cannot be told apart from"),
        (0.0, 1.0, "cannot be told apart from"),
    ],
)
def test_a_verdict_is_what_the_interval_of_our_cost_minus_theirs_says(low, high, words):
    assert chapter.verdict(low, high) == words


def test_a_number_is_shown_with_its_interval():
    assert chapter.shown(5.04, 4.2, 5.9, unit=" %") == "5.0 % (4.2 to 5.9)"
    assert chapter.shown(12_345.6, -1.4, 20_000, ",.0f") == "12,346 (-1 to 20,000)"
    assert chapter.shown(-0.04, -0.3, 0.2) == "0.0 (-0.3 to 0.2)"


def test_what_is_glued_are_plain_values(monkeypatch):
    import myst_nb

    glued = {}
    monkeypatch.setattr(myst_nb, "glue", lambda name, value, display: glued.update({name: (value, display)}))
    count = pd.Series([1, 2]).sum()
    chapter.glue_all({"mean": np.float64(0.5), "count": count, "tensor": torch.tensor(2.5), "name": "PPO", "n": 7})
    assert glued == {key: (v, False) for key, v in
                     {"mean": 0.5, "count": 3, "tensor": 2.5, "name": "PPO", "n": 7}.items()}  # fmt: skip
    assert [type(value) for value, _ in glued.values()] == [float, int, float, str, int]
