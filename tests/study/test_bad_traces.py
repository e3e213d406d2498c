"""Bad traces: each a clear error that names the file and the field, in Python and on the command line."""

import io
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import meirl
from meirl.__main__ import app, main
from meirl_study.replay import replay

TRACES = Path(__file__).parents[1] / "traces"


def spoilt(tmp_path, changes, drop=(), source="divergent_stationary_random"):
    """A copy of a recorded trace with fields changed or dropped."""
    with np.load(TRACES / f"{source}.npz") as data:
        fields = {key: value for key, value in data.items() if key not in drop}
    path = tmp_path / "spoilt.npz"
    np.savez(path, **(fields | {key: change(fields.get(key)) for key, change in changes.items()}))
    return path


@pytest.mark.parametrize(
    ("changes", "drop", "message"),
    [
        ({}, ["backorder"], "the trace lacks the field 'backorder'; it has cost, "),
        ({}, ["orders"], "the trace lacks the field 'orders'"),
        ({}, ["exo_demand"], "the trace lacks the field 'exo_demand'"),
        (
            {"exo_demand": lambda x: x[:, :2]},
            [],
            r"'exo_demand' should have shape \(500, 3\), got \(500, 2\)",
        ),
        ({"orders": lambda x: x[:, :3]}, [], r"the field 'orders' should have shape \(500, 4\), got \(500, 3\)"),
        ({"cost": lambda x: x[:7]}, [], r"the field 'cost' should have shape \(500,\), got \(7,\)"),
        ({"cost": lambda x: x * np.nan}, [], "the field 'cost' has NaN"),
        ({"exo_lead_time": lambda x: x * 0}, [], "exo_lead_time must be whole numbers from 1 to 1"),
        ({"orders": lambda x: -1 - x}, [], "orders must be finite numbers >= 0"),
        ({"mood": lambda x: np.zeros(500)}, [], "nothing to compare the field 'mood' with"),
        ({"orders": lambda x: np.array(3.0)}, [], "the field 'orders' should have shape"),
        ({"orders": lambda x: np.array(["a"] * 500)}, [], "cannot be read as an .npz trace"),
        ({"cost": lambda x: x + 1j}, [], "the field 'cost' should hold numbers, got complex128"),
        ({"cost": lambda x: x.astype("datetime64[s]")}, [], "should hold numbers, got datetime64"),
        ({"cost": lambda x: x.astype([("a", float)])}, [], "should hold numbers, got "),
        ({"cost": lambda x: np.array([None] * 500)}, [], "cannot be read as an .npz trace"),
        ({"exo_demand": lambda x: -1 - x}, [], "exo_demand must be numbers >= 0"),
        ({"exo_demand": lambda x: x + np.inf}, [], "exo_demand must be numbers >= 0"),
        ({"orders": lambda x: x[:0]}, [], "the field 'orders' is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_spoilt_trace_is_refused_by_field(tmp_path, changes, drop, message):
    env = meirl.make("divergent-stationary", observation="published", dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        replay(env, spoilt(tmp_path, changes, drop))


def test_a_trace_of_the_other_chain_is_refused():
    env = meirl.make("meis-stationary", observation="published", dtype=torch.float64)
    with pytest.raises(ValueError, match=r"divergent_stationary_never\.npz: the trace lacks the field 'actions'"):
        replay(env, TRACES / "divergent_stationary_never.npz")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(2.5, "actions must be whole numbers"), (13, "got 13"), (-1, "got -1")],
)
def test_a_trace_with_impossible_actions_is_refused(tmp_path, wrong, message):
    env = meirl.make("meis-stationary", observation="published", dtype=torch.float64)
    path = spoilt(tmp_path, {"actions": lambda x: np.append(x[:-1], wrong)}, source="meis_stationary_random")
    with pytest.raises(ValueError, match=message):
        replay(env, path)


@pytest.mark.parametrize("content", [b"this is no archive", b"", None], ids=["text", "empty", "missing"])
def test_what_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "trace.npz"
    if content is not None:
        path.write_bytes(content)
    env = meirl.make("meis-stationary", observation="published", dtype=torch.float64)
    with pytest.raises(ValueError, match=r"trace\.npz: cannot be read as an \.npz trace"):
        replay(env, path)


def packed(tmp_path, header=None, compression=zipfile.ZIP_DEFLATED, size=10):
    """An archive with one array whose header may promise anything."""
    array = io.BytesIO()
    shape = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({header or size},), }}"
    array.write(b"\x93NUMPY\x01\x00" + len(shape).to_bytes(2, "little") + shape.encode() + bytes(8 * size))
    path = tmp_path / "trace.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("orders.npy", array.getvalue())
    return path


def directory(path):
    """Where the directory of an archive begins."""
    return path.read_bytes().find(b"PK\1\2")


def changed(path, at, value):
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(content)
    return path


DAMAGE = {
    "more than memory": lambda folder: packed(folder, header=10**13),
    "more than there is": lambda folder: packed(folder, header=10**6),
    "a bomb": lambda folder: packed(folder, size=15_000_000),
    "deflate": lambda folder: changed(packed(folder, size=1000), 60, 255),
    "encrypted": lambda folder: changed(changed(packed(folder), 6, 1), directory(packed(folder)) + 8, 1),
    "unknown compression": lambda folder: changed(packed(folder), directory(packed(folder)) + 10, 99),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_archive_is_refused_in_one_line(tmp_path, damage):
    env = meirl.make("divergent-stationary", observation="published", dtype=torch.float64)
    with pytest.raises(ValueError, match=r"trace\.npz: cannot be read as an \.npz trace: .") as error:
        replay(env, DAMAGE[damage](tmp_path))
    assert "\n" not in str(error.value)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.integers(0, 20_000), st.integers(0, 255), max_size=5), cut=st.integers(0, 30_000))
def test_bytes_that_changed_are_refused_or_harmless(changes, cut, tmp_path):
    content = bytearray((TRACES / "meis_stationary_never.npz").read_bytes())
    for at, byte in changes.items():
        content[at % len(content)] = byte
    (tmp_path / "trace.npz").write_bytes(bytes(content[:cut]) if cut < 1_000 else bytes(content))
    env = meirl.make("meis-stationary", observation="published", dtype=torch.float64)
    with suppress(ValueError):
        replay(env, tmp_path / "trace.npz")


def test_an_array_that_is_no_archive_is_refused(tmp_path):
    np.save(tmp_path / "trace.npy", np.zeros(3))
    env = meirl.make("meis-stationary", observation="published", dtype=torch.float64)
    with pytest.raises(ValueError, match=r"trace\.npy: cannot be read as an \.npz trace"):
        replay(env, tmp_path / "trace.npy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay", "--env", "nowhere", "x.npz"], "meirl: unknown environment 'nowhere'"),
        (["replay", "--env", "meis-stationary", "x.npz"], "meirl: x.npz: cannot be read as an .npz trace"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_one_line_and_exits_with_2(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("sys.argv", ["meirl", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.err.startswith(message)
    assert "Traceback" not in said.err
    assert said.out == ""


def test_an_unknown_option_is_refused():
    assert CliRunner().invoke(app, ["replay", "--environment", "meis-stationary"]).exit_code == 2
