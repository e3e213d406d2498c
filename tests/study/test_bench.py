"""What speed is for, on made histories and tiny networks."""

import math

import pandas as pd
import pytest

from meirl_study import bench, study


@pytest.mark.parametrize(
    ("costs", "seconds"),
    [([9, 8, 7], 1.0), ([11, 9, 8], 2.0), ([9, 11, 9], 3.0), ([11, 12, 11], math.inf), ([11, 11, 10], math.inf)],
)
def test_a_cost_counts_as_reached_once_it_stays_passed(costs, seconds):
    """As dear is not passed."""
    history = pd.DataFrame({"validation_cost": costs, "seconds": [1.0, 2.0, 3.0], "simulated_steps": [10, 20, 30]})
    found = bench.crossing(history, 10)
    assert found["seconds"] == seconds
    assert found["simulated_steps"] == seconds * 10


def test_seconds_to_the_rules_cost_are_medians_over_seeds(tmp_path, monkeypatch):
    small = {"steps": 4 * 365, "environments": 4, "copies": 2, "evaluations": 1, "validation_episodes": 2}
    made = study.tasks
    monkeypatch.setattr(study, "tasks", lambda *args, **fields: made(*args, changes=small, **fields))
    table = bench.time_to_cost(["meis-stationary"], ["ppo"], range(2), root=tmp_path)
    (row,) = table.to_dict("records")
    assert (row["environment"], row["algo"], row["reached"], row["seeds"]) == ("meis-stationary", "ppo", 0, 2)
    assert math.isinf(row["seconds"])


def test_training_speed_by_the_number_of_environments():
    table = bench.batch_speed(["meis-stationary"], [8, 16], "cpu", rounds=1)
    assert table["environments"].tolist() == [8, 16]
    assert (table["steps_per_second"] > 0).all()


def test_an_update_takes_longer_than_its_matrix_products():
    table = bench.distance_to_limit(["meis-stationary"], 1)
    assert (table["ratio"] > 1).all()
    assert table["ratio"].iloc[0] == pytest.approx(table["update"].iloc[0] / table["products"].iloc[0])


def test_speed_by_device_is_a_mean_over_the_chains_between_the_slowest_and_the_fastest():
    tables = bench.by_device()
    assert list(tables) == ["H200", "one core"]
    assert tables["H200"].index.tolist() == list(bench.BATCHES)
    for table in tables.values():
        assert (table["low"] < table["value"]).all()
        assert (table["value"] < table["high"]).all()
    measured = pd.read_csv(bench.BY_DEVICE, comment="#").query("device == 'H200' and environments == 64")
    product = measured["steps_per_second"].prod()
    assert len(measured) == 4
    assert tables["H200"]["value"][64] == pytest.approx(product ** (1 / 4))
