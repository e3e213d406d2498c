"""The searches for the rules' levels: made once, kept, read again; the best of several seeds is what is committed."""

import shutil

import pandas as pd
import pytest
import torch

import meirl
from meirl.heuristics import RULES, levels_file, read_levels, tuning
from meirl_study import searches
from meirl_study.searches import SEARCHES, SearchTask

NAME, RULE = "meis-stationary", "s-S"
TINY = {"episodes": 2, "generations": 3, "candidates": 1, "widen": False}


@pytest.fixture(autouse=True)
def _few_validation_episodes(monkeypatch):
    monkeypatch.setattr(meirl.evaluation, "VALIDATION_EPISODES", 4)


@pytest.fixture(scope="module")
def todo():
    return [SearchTask(NAME, RULE, seed, TINY) for seed in range(2)]


@pytest.fixture(scope="module")
def root(todo, tmp_path_factory):
    """The folder of two tiny searches."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meirl.evaluation, "VALIDATION_EPISODES", 4)
        searches.run(todo, folder, jobs=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def env():
    return meirl.make(NAME)


def test_a_search_is_that_of_tune_with_its_options_and_its_seed(todo, root, env):
    for task in todo:
        expected = tuning.tune(env, RULES[RULE], seed=task.seed, progress=False, **TINY)
        found = searches.found(task, root)
        assert (found.rule, found.levels) == (RULE, expected.tuned.levels)
        history = pd.read_csv(task.folder(root) / "history.csv")
        pd.testing.assert_frame_equal(history.drop(columns="seconds"), expected.history.drop(columns="seconds"))
    assert searches.found(todo[0], root).levels != searches.found(todo[1], root).levels


def test_the_options_of_a_rule_are_those_of_the_study_but_for_what_is_changed(monkeypatch, tmp_path):
    asked = []

    class Asked(Exception):  # noqa: N818
        pass

    def tune(env, rule, **options):
        assert options.pop("kept").name == ".search"
        asked.append((env.name, rule.name, options))
        raise Asked

    monkeypatch.setattr(tuning, "tune", tune)
    for task in (SearchTask("divergent-stationary", "bank-and-switch", 3, {"episodes": 5}),
                 SearchTask("divergent-stationary", "base-stock", 4)):  # fmt: skip
        with pytest.raises(Asked):
            searches.search(task, tmp_path)
    study = SEARCHES["divergent-stationary"]["bank-and-switch"]
    assert asked[0][2] == {**study, "episodes": 5, "seed": 3, "progress": False}
    assert study["episodes"] != 5
    assert asked[1] == ("divergent-stationary", "base-stock", {"seed": 4, "progress": False})


def test_a_search_is_made_once_and_an_unfinished_one_again(todo, root, monkeypatch, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.*") if path.suffix in (".csv", ".yaml")}
    assert len(before) == 4
    real, made = tuning.tune, []
    monkeypatch.setattr(tuning, "tune", lambda *args, **options: made.append(options["seed"]) or real(*args, **options))
    searches.run(todo, root, jobs=1, progress=False)
    assert not made
    assert before == {path: path.stat().st_mtime_ns for path in before}
    (todo[0].folder(tmp_path)).mkdir(parents=True)
    (todo[0].folder(tmp_path) / "history.csv").write_text("cut short")
    searches.run(todo[:1], tmp_path, jobs=1, progress=False)
    assert made == [0]
    assert searches.found(todo[0], tmp_path).levels == searches.found(todo[0], root).levels


def test_a_search_that_was_not_made_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"seed-7.levels\.yaml: no such search: make it first"):
        searches.found(SearchTask(NAME, RULE, 7), tmp_path)


def test_the_best_seed_is_chosen_by_validation_and_answers_for_the_effort_of_all(todo, root, env):
    each = [searches.found(task, root) for task in todo]
    costs = [one.provenance["validation_cost"] for one in each]
    assert costs[0] != costs[1]
    other = SearchTask("meis-nonstationary", RULE, 0)  # was not made, and is not asked for
    chosen = searches.choose(env, RULE, [*todo, other], root)
    assert chosen.levels == each[costs.index(min(costs))].levels
    assert chosen.provenance["validation_cost"] == min(costs)
    assert chosen.provenance["seed"] == costs.index(min(costs))
    assert (chosen.provenance["searches"], chosen.provenance["validation_costs"]) == (2, costs)
    for key in ("simulated_steps", "seconds"):
        assert chosen.provenance[key] == sum(one.provenance[key] for one in each)
    assert searches.choose(env, RULE, todo[1:], root).levels == each[1].levels


def test_what_is_committed_is_what_was_chosen(todo, root, env, monkeypatch, tmp_path):
    monkeypatch.setattr(searches, "levels_file", lambda env, rule: tmp_path / env.name / f"{rule}.yaml")
    searches.commit(todo, root)
    written = read_levels(env, tmp_path / NAME / f"{RULE}.yaml")
    chosen = searches.choose(env, RULE, todo, root)
    assert (written.levels, written.provenance) == (chosen.levels, chosen.provenance)
    assert [path.name for path in tmp_path.rglob("*.yaml")] == [f"{RULE}.yaml"]


def test_a_curve_is_the_cost_of_the_best_so_far_against_the_steps_simulated(todo, root, env):
    scenario = env.sample(3, 9)
    history, found = pd.read_csv(todo[0].folder(root) / "history.csv"), searches.found(todo[0], root)
    curve = searches.curve(env, todo[0], root, scenario)
    steps = [*history["simulated_steps"], found.provenance["simulated_steps"]]
    assert curve["simulated_steps"].tolist() == steps  # few generations: all of them
    assert steps == [6 * 2 * 365 * k for k in (2, 3, 4)] + [6 * 2 * 365 * 4 + 6 * 4 * 365]  # 6 finalists
    assert curve["seconds"].tolist() == [*history["seconds"], found.provenance["seconds"]]
    for row, levels in ((0, history[list(found.levels)].iloc[0]), (-1, list(found.levels.values()))):
        policy = RULES[RULE].policy(env, torch.tensor(list(levels)))
        assert curve["cost"].iloc[row] == pytest.approx(meirl.rollout(env, policy, scenario)["cost"].mean(), rel=1e-5)


def test_a_curve_shows_few_generations_evenly_on_a_scale_of_factors(todo, root, env, tmp_path):
    folder = todo[0].folder(tmp_path)
    shutil.copytree(todo[0].folder(root), folder)
    history = pd.read_csv(folder / "history.csv").iloc[[0, 0, 1, 1, 2]]
    history.assign(simulated_steps=[1, 2, 40, 500, 1000]).to_csv(folder / "history.csv", index=False)
    curve = searches.curve(env, todo[0], tmp_path, env.sample(1, 9), points=3)
    assert curve["simulated_steps"].tolist()[:-1] == [1, 40, 1000]  # 32 is halfway from 1 to 1,000, by factors


def test_every_search_of_the_study_is_listed_for_every_seed():
    todo = searches.tasks(range(2), episodes=4)
    assert {(task.env, task.rule) for task in todo} == {(env, rule) for env, each in SEARCHES.items() for rule in each}
    assert sorted(task.seed for task in todo) == [0] * (len(todo) // 2) + [1] * (len(todo) // 2)
    assert all(task.changes == {"episodes": 4} for task in todo)
    assert len({task.folder(levels_file(meirl.make(NAME), "x")) for task in todo}) == len(todo)
    generations = [SEARCHES[task.env][task.rule].get("generations", 0) for task in todo]
    assert generations == sorted(generations)


def test_the_study_searches_for_a_textbook_rule_and_one_made_for_the_chain_everywhere(name):
    rules = [RULES[rule] for rule in SEARCHES[name]]
    assert {rule.textbook for rule in rules} == {True, False}
    for rule in rules:
        assert rule.ranges(meirl.make(name)), "it has levels, and is for this chain"
