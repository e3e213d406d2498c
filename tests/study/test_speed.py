"""The speed benchmark runs, says what it measured, and leaves PyTorch's threads as they were."""

import json
import math

import pytest
import torch
from typer.testing import CliRunner

from meirl.__main__ import app
from meirl_study import speed


@pytest.fixture
def two_threads():
    """All tests run on one: with two it shows whether they are given back."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_one_row_for_each_environment_and_batch(two_threads):
    table = speed.environment_speed(["divergent-stationary", "meis-nonstationary"], [1, 3], repeats=1)
    assert torch.get_num_threads() == 2
    assert list(zip(table["environment"], table["batch"], strict=True)) == [
        ("divergent-stationary", 1), ("divergent-stationary", 3), ("meis-nonstationary", 1), ("meis-nonstationary", 3),
    ]  # fmt: skip
    assert (table[["steps_per_second", "sampled_per_second"]] > 0).all(axis=None)
    assert table["target"][0] == 8_000
    assert math.isnan(table["target"][1])


def test_the_command_prints_a_table_or_json(monkeypatch):
    small = speed.environment_speed(["meis-stationary"], [1], repeats=1)
    monkeypatch.setattr(speed, "environment_speed", lambda: small)
    printed = CliRunner().invoke(app, ["bench", "--part", "environment", "--json"])
    assert json.loads(printed.stdout)["environment"][0]["environment"] == "meis-stationary"
    assert "steps_per_second" in CliRunner().invoke(app, ["bench", "--part", "environment"]).stdout
    refused = CliRunner().invoke(app, ["bench", "--part", "speed"])
    assert "unknown part 'speed'" in str(refused.exception)


def test_both_ppos_are_timed_and_training_speed_has_a_row_a_run():
    small = {"environments": 8, "copies": 1, "validation_episodes": 2}
    table = speed.against_sb3("meis-stationary", rounds=1, segment=8, minibatch=32, **small)
    rate = table["steps_per_second"]
    assert len(table) == 3
    assert table["ours_times"].tolist() == [rate[2] / rate[0], rate[2] / rate[1], 1.0]
    runs = speed.training_speed(["meis-stationary"], workers=[1], steps=4 * 8 * 365, **small)
    assert runs["algo"].tolist() == ["ppo", "a3c"]
    assert (runs["steps_per_second"] > 0).all()
