"""Equal to the reference implementation: every recorded field of every trace, to 1e-6."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import meirl
from meirl.__main__ import app
from meirl_study.replay import MeisRecord, Trace, replay

TRACES = sorted((Path(__file__).parents[1] / "traces").glob("*.npz"))
TOLERANCE = 1e-6


def environment(path: Path) -> str:
    """`divergent_stationary_random.npz` was recorded on `divergent-stationary`."""
    return "-".join(path.stem.split("_")[:2])


def play(path: Path, recorded: Path | None = None) -> dict[str, float]:
    return replay(meirl.make(environment(path), observation="published", dtype=torch.float64), recorded or path)


def test_there_are_four_traces_of_each_environment():
    assert sorted(map(environment, TRACES)) == sorted(meirl.NAMES * 4)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_every_recorded_field_is_matched(path):
    errors = play(path)
    with np.load(path) as recorded:
        compared = {key for key in recorded.files if not key.startswith("exo_") and key not in ("orders", "actions")}
    assert set(errors) == compared, "every recorded field is compared"
    assert max(errors.values()) <= TOLERANCE, {key: error for key, error in errors.items() if error > TOLERANCE}


@pytest.mark.parametrize(
    "path", [p for p in TRACES if p.stem.endswith("_nonstationary_random")], ids=lambda path: path.stem
)
def test_a_change_in_any_recorded_field_is_found(path, tmp_path):
    """The replay is no rubber stamp: spoil each field in turn, at the first period, and it must say so."""
    with np.load(path) as data:
        recorded = dict(data)
    for key in play(path):
        changed = recorded[key].copy()
        changed.flat[0] += 0.01
        np.savez(tmp_path / "changed.npz", **{**recorded, key: changed})
        errors = play(path, tmp_path / "changed.npz")
        assert errors[key] == pytest.approx(0.01, abs=1e-3)  # observations were recorded in float32
        assert all(error <= TOLERANCE for other, error in errors.items() if other != key)


def test_the_command_prints_errors_by_field_as_json():
    path = TRACES[0]
    done = CliRunner().invoke(app, ["replay", "--env", environment(path), str(path)])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == play(path)


def test_a_difference_is_an_exit_code_and_named(tmp_path):
    path = TRACES[0]
    with np.load(path) as data:
        recorded = dict(data)
    np.savez(tmp_path / "other.npz", **{**recorded, "cost": recorded["cost"] + 0.25})
    arguments = ["replay", "--env", environment(path), str(tmp_path / "other.npz")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert json.loads(done.stdout)["cost"] == pytest.approx(0.25)
    assert "differs by more than 1e-06: cost" in done.stderr
    assert CliRunner().invoke(app, [*arguments, "--tolerance", "0.3"]).exit_code == 0


def test_what_is_no_number_is_null_and_a_difference(tmp_path, monkeypatch):
    monkeypatch.setattr("meirl_study.replay.replay", lambda *_: {"cost": float("nan"), "backlog": 0.0})
    done = CliRunner().invoke(app, ["replay", "--env", "meis-stationary", "x.npz"])
    assert done.exit_code == 1
    assert json.loads(done.stdout, parse_constant=pytest.fail) == {"cost": None, "backlog": 0.0}


def test_the_studys_service_level_is_cut_at_zero(tmp_path):
    """As in the study, where more waits than was to be expected: here a hundredfold demand on the first days."""
    (path,) = (path for path in TRACES if path.stem == "meis_nonstationary_never")
    with np.load(path) as data:
        recorded = dict(data)
    recorded["exo_demand"][:3] *= 100
    np.savez(tmp_path / "flood.npz", **recorded)
    env = meirl.make(environment(path), observation="published", dtype=torch.float64)
    level = MeisRecord(env, Trace(tmp_path / "flood.npz")).play()["reference_service_level"]
    assert level.min() == 0
    assert level.max() <= 1
