"""The page of one cell, on made data."""

import json

import numpy as np
import pandas as pd
import pytest

from meirl_study import training
from meirl_study.published import RESULTS
from meirl_study.study import Task


def runs(*costs):
    tables = [
        pd.DataFrame({"seed": seed, "cost": cost, "fill_rate": 0.5 + seed / 4}) for seed, cost in enumerate(costs)
    ]
    return pd.concat(tables, ignore_index=True)


def test_every_seed_and_their_mean_beside_the_rule():
    rule = pd.DataFrame({"cost": [10.0, 20.0, 30.0], "fill_rate": 0.9})
    table = training.by_seed(runs(rule["cost"] + 1, rule["cost"] + 3), rule)
    assert list(table.index) == ["seed 0", "seed 1", "mean over seeds", "best heuristic"]
    assert list(table) == list(training.HEADINGS)
    assert table["cost"].tolist() == [21, 23, 22, 20]
    assert table["fill_rate"].tolist() == [0.5, 0.75, 0.625, 0.9]
    assert table["cvar95"].tolist() == [31, 33, 32, 30]  # of three episodes, the worst one
    assert table["difference"].tolist()[:3] == [1, 3, 2]
    # Paired by episode, a seed's difference has no spread; over two seeds Student's t has one degree of freedom.
    assert table.loc["seed 1", ["difference_low", "difference_high"]].tolist() == [3, 3]
    half = 12.706 * np.sqrt(2) / np.sqrt(2)
    np.testing.assert_allclose(table.loc["mean over seeds", "difference_low":], [2 - half, 2 + half], atol=1e-3)
    assert table.loc["best heuristic", "difference":].isna().all()


@pytest.fixture
def tasks(tmp_path):
    """Two finished runs, as far as files go."""
    todo = [Task("meis-stationary", "a3c", seed=seed) for seed in (3, 4)]
    for task in todo:
        task.folder(tmp_path).mkdir(parents=True)
        made = {"steps": 100, "seconds": 2.0 * task.seed, "best_validation_cost": 7.0}
        (task.folder(tmp_path) / "manifest.json").write_text(json.dumps(made))
        history = pd.DataFrame({"steps": [50, 100], "validation_cost": [7.0, 10.0 * task.seed]})
        history.to_csv(task.folder(tmp_path) / "history.csv", index=False)
    return todo


def test_effort_is_read_from_the_manifests(tasks, tmp_path):
    table = training.effort(tasks, tmp_path)
    assert table.index.tolist() == [3, 4]
    assert table.loc[4].tolist() == [100, 8, 12.5, 7]


def test_the_published_agent_by_its_kept_and_its_last_weights(tasks, tmp_path):
    results = pd.DataFrame({"seed": [3, 3, 4, 4], "cost": [1.0, 3.0, 10.0, 20.0], "fill_rate": [0.5, 0.7, 0.1, 0.3]})
    found = training.kept_and_last(results, tasks, tmp_path)
    assert found.loc[3].tolist() == pytest.approx([2, 0.6, 30])
    assert found.loc[4].tolist() == pytest.approx([15, 0.2, 40])
    theirs = RESULTS.loc["meis-stationary"]
    text = training.trained_again(theirs, found, 1_000, 3_650_000, ",.1f")
    assert text.startswith("With its one seed the study reports 1,930.2. Trained again, for 1,000 of 3,650,000 steps,")
    assert "**2.0** with seed 3 (fill rate 60.0%; by its last weights, on validation scenarios, 30.0); **15.0**" in text
    assert "by a factor of 7.5 by the weights that were kept, 1.3 by the last ones." in text
    assert "factor" not in training.trained_again(theirs, found.head(1), 1_000, 3_650_000, ",.1f")
