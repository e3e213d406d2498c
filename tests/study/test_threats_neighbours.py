"""Neighbours: other parameters within reach, every rule tuned on each, PPO with its neighbour's hyperparameters."""

import numpy as np
import pandas as pd
import pytest

import meirl
from meirl.heuristics import read_levels
from meirl.heuristics.tuning import Search
from meirl.learn import preset
from meirl_study import own, study
from meirl_study.threats import neighbours
from meirl_study.threats.neighbours import VARIED, Neighbour

SHORT = {"horizon": 20}


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("name", meirl.NAMES)
def test_a_neighbour_differs_in_all_that_varies_and_in_nothing_else(name):
    env, changes = meirl.make(name), Neighbour(name, 0).changes()
    near = meirl.make(name, **changes)
    before, after = (dict(leaves(e.parameters.model_dump(mode="json"))) for e in (env, near))
    changed = {key for key in before if before[key] != after[key]}
    varies = {key for key in VARIED[env.chain] if before.get(key)}
    assert changed - {"max_order"} == varies
    for key in varies:
        assert 2**-0.5 <= after[key] / before[key] <= 2**0.5
    assert len({after[key] / before[key] for key in varies}) == len(varies), "each by its own factor"
    if env.chain == "divergent":
        assert near.parameters.max_order >= near.parameters.order_cap
    assert Neighbour(name, 0).changes() == changes != Neighbour(name, 1).changes()


def test_rules_are_tuned_once_on_their_own_chain(tmp_path, monkeypatch):
    tuned = []

    def tune_all(env, **options):
        tuned.append((env.horizon, env.parameters.demand.mean, options))
        return {"s-S": Search(read_levels(env, "s-S"), pd.DataFrame())}

    monkeypatch.setattr(neighbours, "tune_all", tune_all)
    near = [Neighbour("meis-stationary", number) for number in (0, 1)]
    for _ in range(2):
        found = neighbours.rules_of(near, {"seed": 4}, SHORT, tmp_path, jobs=1)
    assert [list(searches) for searches in found] == [["s-S"]] * 2
    means = [n.changes()["demand"]["mean"] for n in near]
    assert tuned == [(20, mean, {"seed": 4}) for mean in means]


def test_ppo_is_trained_on_the_neighbour_as_on_the_environment(tmp_path):
    near, changes = Neighbour("divergent-nonstationary", 1), {"steps": 400, "environments": 8, "evaluations": 1}
    (task,) = neighbours.tasks([near], 5, changes, SHORT, tmp_path)
    assert task.seed == 5
    assert task.config() == preset("ppo", "tuned", near.env, **changes)
    assert task.config().discount == 0.997, "the environment's own exceptions"
    env = meirl.make(task.env)
    assert env.parameters == meirl.make(near.env, **{**near.changes(), **SHORT}).parameters


def test_a_neighbour_is_judged_with_its_own_rules(tmp_path):
    near = Neighbour("meis-stationary", 0)
    env = meirl.make(near.env, **{**near.changes(), **SHORT})
    found = {
        name: Search(read_levels(meirl.make(near.env), name), pd.DataFrame()) for name in ("constant-order", "s-S")
    }
    designed = neighbours.best_rule(meirl.make(near.env))
    found[designed] = Search(read_levels(meirl.make(near.env), designed), pd.DataFrame())
    test = meirl.held_out(env, "test", 4)
    cost = {name: meirl.rollout(env, own.tuned(env, search), test)["cost"] for name, search in found.items()}
    ppo = cost["s-S"] + np.array([1.0, 2, 3, 4])
    results = pd.DataFrame({"env": str(tmp_path / "meis-stationary-0.yaml"), "cost": ppo})
    table = neighbours.compare([near], [found], results, SHORT, 4)
    row = table.loc[("meis-stationary", 0)]
    assert row["best form"] == "constant-order"
    best, simple = cost["constant-order"].mean(), cost["s-S"].mean()
    assert row["form"] == pytest.approx(100 * (best / simple - 1))
    assert row["value"] == pytest.approx(100 * (ppo.mean() / best - 1))
    assert row["textbook"] == pytest.approx(250 / simple)
    assert row["own"] == pytest.approx(100 * (cost[designed].mean() / best - 1))
    half = 3.18245 * np.array([1, 2, 3, 4]).std(ddof=1) / 2 * 100 / simple
    assert row["textbook_high"] - row["textbook"] == pytest.approx(half, rel=1e-3)


def test_a_whole_neighbour_runs(tmp_path):
    near = [Neighbour("meis-stationary", 0)]
    options = {"episodes": 2, "generations": 1, "candidates": 2, "widen": False}
    found = neighbours.rules_of(near, options, SHORT, tmp_path, jobs=1)
    changes = {"steps": 320, "environments": 8, "copies": 2, "evaluations": 1, "validation_episodes": 2}
    todo = neighbours.tasks(near, 0, changes, SHORT, tmp_path)
    results = study.run(todo, tmp_path, jobs=1, episodes=3, progress=False)
    table = neighbours.compare(near, found, results, SHORT, 3)
    assert np.isfinite(table.drop(columns="best form").to_numpy(float)).all()


def test_designed_forms_are_neither_textbook_nor_published():
    assert neighbours.designed_forms("meis")[0] == "s-S-cover"
    assert not {"s-S", "s-S-backlog", "constant-order"} & set(neighbours.designed_forms("meis"))
    assert "bank-and-switch" in neighbours.designed_forms("divergent")
    assert not {"base-stock", "base-stock-misread"} & set(neighbours.designed_forms("divergent"))
