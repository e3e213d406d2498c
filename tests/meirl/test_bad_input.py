"""Bad input: each a clear error that names the file, the key or the argument, and what was expected."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import meirl
from meirl.__main__ import app, main

# --- parameters ------------------------------------------------------------------------------------------------------


def test_an_unknown_environment_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match="unknown environment 'divergant': expected one of divergent-stationary, "):
        meirl.make("divergant")


WRONG = [
    ("divergent-stationary", {"colour": "red"}, r"divergent-stationary\.yaml: colour: unknown key, got 'red'"),
    ("meis-stationary", {"demand": {"meen": 3}}, r"demand\.meen: unknown key"),
    ("divergent-stationary", {"horizon": "long"}, r"horizon: .*integer.*, got 'long'"),
    ("divergent-stationary", {"horizon": 0}, r"horizon: .*greater than or equal to 1.*, got 0"),
    ("divergent-stationary", {"retailers": 1.5}, r"retailers: .*integer.*, got 1\.5"),
    ("divergent-stationary", {"lost_share": 1.2}, r"lost_share: .*less than or equal to 1.*, got 1\.2"),
    ("divergent-stationary", {"lost_sale_cost": -1}, r"lost_sale_cost: .*greater than or equal to 0.*, got -1"),
    ("divergent-stationary", {"order_cap": float("inf")}, r"order_cap: .*finite.*, got inf"),
    ("divergent-stationary", {"max_order": float("nan")}, r"max_order: .*got nan"),
    ("divergent-stationary", {"holding_cost": 3}, r"holding_cost: .*got 3"),
    (
        "divergent-stationary",
        {"backorder_cost": [19, 19]},
        r"backorder_cost lists 2 values, expected 3 \(3 retailers\)",
    ),
    ("divergent-stationary", {"initial_stock": {"retailer": [1, 2, 3, 4]}}, r"initial_stock\.retailer lists 4 values"),
    ("divergent-stationary", {"locations": ["A", "all", "B"]}, "each its own, not warehouse/middle/all, got .*'all'"),
    ("meis-stationary", {"locations": ["warehouse", "middle"]}, "each its own, not warehouse/middle/all"),
    ("divergent-stationary", {"demand": {"distribution": "zipf"}}, r"demand\.distribution: .*'poisson'.*got 'zipf'"),
    ("divergent-nonstationary", {"demand": {"shock": {"length": [7, 3]}}}, "length must be 1 <= shortest <= longest"),
    ("divergent-nonstationary", {"demand": {"shock": {"factor": [3, 2]}}}, "factor must be lowest <= highest"),
    ("divergent-nonstationary", {"lead_time": {"low": 11}}, r"need low <= mean <= high, got 11, 2\.0 and 10"),
    ("divergent-nonstationary", {"lead_time": {"mean": 11}}, r"need low <= mean <= high, got 1, 11\.0 and 10"),
    (
        "meis-stationary",
        {"lead_time": {"mean": [0.5, 2, 2]}},
        r"need low <= mean <= high, got 1, \(0\.5, 2\.0, 2\.0\) and",
    ),
    ("divergent-nonstationary", {"lead_time": {"low": 0}}, r"lead_time\.low: .*greater than or equal to 1.*got 0"),
    ("meis-stationary", {"demand": {"direct": 0.5}}, "the middle has no customers, got 0.5"),
    ("meis-stationary", {"order_options": {"leaf": []}}, r"order_options\.leaf: .*at least 1 item"),
    ("meis-stationary", {"chain": "ring"}, "chain: expected one of divergent, meis, got 'ring'"),
    (
        "divergent-stationary",
        {"demand": {"distribution": "gamma", "variation": 1e-160}},
        "variation must be 0 or at least 1e-6, got 1e-160",
    ),
]


@pytest.mark.parametrize(("name", "changes", "message"), WRONG, ids=[str(changes) for _, changes, _ in WRONG])
def test_a_wrong_parameter_is_refused_by_key_and_value(name, changes, message):
    with pytest.raises(ValueError, match=message):
        meirl.make(name, **changes)


def test_every_error_is_told_at_once():
    with pytest.raises(ValueError, match=r"horizon: .*\n.*colour: unknown key"):
        meirl.make("meis-stationary", horizon=-1, colour=1)


def test_unknown_observation_sets_are_refused():
    with pytest.raises(ValueError, match="observation must be one of published, full, got 'all'"):
        meirl.make("meis-stationary", observation="all")


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, "float32"], ids=str)
def test_types_that_are_too_coarse_are_refused(dtype):
    with pytest.raises(ValueError, match=rf"dtype must be torch\.float32 or torch\.float64, got {dtype}"):
        meirl.make("meis-stationary", dtype=dtype)


@pytest.mark.parametrize("device", ["gpu", "cuda:9999"])
def test_devices_that_are_not_there_are_refused(device):
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used: ") as refused:
        meirl.make("meis-stationary", device=device)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file: .*mine.yaml"),
        ("- 1\n- 2\n", r"mine\.yaml: expected a mapping of keys to values, got list"),
        ("", r"mine\.yaml: expected a mapping of keys to values, got NoneType"),
        ("a: [1, 2", r"mine\.yaml: cannot be read as YAML"),
        ("horizon: 3\n", r"mine\.yaml: chain: expected one of divergent, meis, got None"),
        ("chain: meis\nhorizon: 3\n", r"mine\.yaml: demand: Field required"),
    ],
    ids=["missing", "list", "empty", "syntax", "no chain", "incomplete"],
)
def test_a_bad_file_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        meirl.make(path)


def test_a_good_file_of_ones_own_works(tmp_path):
    source = Path(meirl.__file__).parent / "envs" / "meis-stationary.yaml"
    path = tmp_path / "mine.yaml"
    path.write_text(source.read_text(encoding="utf-8").replace("horizon: 365", "horizon: 9"), encoding="utf-8")
    assert meirl.make(path).horizon == 9
    assert meirl.make(str(path)).horizon == 9


# --- orders, actions, scenarios --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        (torch.zeros(2, 3, 1), r"orders must be \(2, \d\) for .*, got \(2, 3, 1\)"),
        (torch.zeros(1, 4), r"orders must be \(2, \d\) for .*, got \(1, 4\)"),
        (torch.zeros(2, 7), r"orders must be \(2, \d\) for (warehouse|middle), .*, got \(2, 7\)"),
        (float("nan"), "orders must be finite numbers >= 0, got nan"),
        (-1.0, "orders must be finite numbers >= 0, got -1.0"),
        (float("inf"), "orders must be finite numbers >= 0, got inf"),
    ],
    ids=["dimensions", "episodes", "nodes", "nan", "negative", "infinite"],
)
def test_bad_orders_are_refused(name, orders, message):
    env = meirl.make(name)
    if isinstance(orders, float):
        orders = torch.ones(2, env.nodes).index_fill(1, torch.tensor([1]), orders)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        env.step(env.reset(2), orders, env.sample(2, 0).at(0))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (torch.tensor([0, 13]), "actions are 0 .. 12, got 13"),
        (torch.tensor([-1, 0]), "actions are 0 .. 12, got -1"),
        (torch.tensor([1.0, 2.0]), "actions must be whole numbers"),
        (torch.tensor([[1, 2]]), "actions must be whole numbers"),
    ],
)
def test_bad_discrete_actions_are_refused(action, message):
    with pytest.raises(ValueError, match=f"meis-stationary: {message}"):
        meirl.make("meis-stationary").orders(action)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32], ids=str)
def test_discrete_actions_may_be_whole_numbers_of_any_kind(dtype):
    env = meirl.make("meis-stationary")
    assert torch.equal(env.orders(torch.tensor([0, 1, 1], dtype=dtype)), env.orders(torch.tensor([0, 1, 1])))
    if dtype is not torch.bool:
        with pytest.raises(ValueError, match=r"actions are 0 \.\. 12, got 13"):
            env.orders(torch.tensor([0, 13], dtype=dtype))


@pytest.mark.parametrize(("episodes", "seed", "first"), [(0, 1, 0), (-3, 1, 0), (1, -1, 0), (1, 1, -1)])
def test_bad_samples_are_refused(episodes, seed, first):
    with pytest.raises(ValueError, match=f"need episodes >= 1, seed >= 0 and first >= 0, got {episodes}, {seed}"):
        meirl.make("meis-stationary").sample(episodes, seed, first)


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--env", "nowhere", "--heuristic", "best"], "meirl: unknown environment 'nowhere'"),
        (["evaluate", "--env", "meis-stationary"], "meirl: give either --heuristic NAME or --policy DIR"),
        (["tune", "--env", "meis-stationary", "--heuristic", "base-stock"], "meirl: unknown heuristic 'base-stock'"),
        (["train", "--env", "meis-stationary", "--algo", "dqn"], "meirl: unknown algorithm 'dqn'"),
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
    assert CliRunner().invoke(app, ["evaluate", "--environment", "meis-stationary"]).exit_code == 2


class Broken:
    """An entry point whose packages are not installed."""

    name = "book"

    def load(self):
        raise ModuleNotFoundError("No module named 'papermill'")


def test_a_command_whose_packages_are_missing_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("meirl.__main__.entry_points", lambda **_: [Broken()])
    monkeypatch.setattr("sys.argv", ["meirl", "book", "--profile", "full"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "meirl: book needs more packages (No module named 'papermill'): pip install 'meirl[book]'\n"
    )
    assert "Not installed" in CliRunner().invoke(app, ["--help"]).output
