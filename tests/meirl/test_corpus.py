"""Bad files and options by category, and what Hypothesis makes of them: one clear line each, never a traceback.

What is refused says which file, key or option; what is accepted works. Nothing takes long or fills the memory.
"""

import copy
import io
import json
import os
import re
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import meirl
from meirl import heuristics
from meirl.__main__ import main
from meirl.config import load_yaml
from meirl.heuristics import read_levels, tuning
from meirl.learn import find_learner, load_policy, preset
from meirl.learn.run import Checkpoint, load_checkpoint

PACKAGE = Path(meirl.__file__).parent
JUNK = [None, True, "x", "", [], {}, [1], {"a": 1}, 0, -1, 1.5, 1e30, -1e30, 1e308, 10**30, float("nan"), float("inf")]
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{to}: &{to} [{', '.join([f'*{of}'] * 10)}]\n" for of, to in zip("abcdefgh", "bcdefghi", strict=True)
)


def refused(error: ValueError, *words: str) -> None:
    """The error is short and says all of that."""
    text = str(error)
    assert all(word in text for word in words), text
    assert all(len(line) < 500 for line in text.splitlines()), text[:2000]


def spoilt(values: dict, path: tuple, value: object) -> dict:
    """A copy of nested mappings with one value changed."""
    changed = copy.deepcopy(values)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def paths(values: dict, above: tuple = ()) -> list[tuple]:
    """Every key of nested mappings, as a path."""
    own = [(*above, key) for key in values]
    return own + [p for key, value in values.items() if isinstance(value, dict) for p in paths(value, (*above, key))]


# --- YAML itself -----------------------------------------------------------------------------------------------------
TEXTS = {
    "bool key": "on: 1\nchain: meis", "integer key": "1: 2", "null key": "null: 1", "float key": "1.5: 2",
    "list key": "? [a, b]\n: 1", "mapping key": "? {a: 1}\n: 1", "date key": "2024-01-01: 1", "nested integer key":
    "chain: meis\ndemand: {1: 2}", "duplicate key": "chain: meis\nchain: meis",
    "nested duplicate key": "chain: meis\ndemand: {mean: 1, mean: 2}", "aliases": ALIASES, "endless": "a: &a [*a]",
    "endless mapping": "a: &a {b: *a}", "deep": "a: " + "[" * 600, "deep and closed": "a: " + "[" * 600 + "]" * 600,
    "bad date": "a: 2024-13-45", "many digits": "a: " + "9" * 5000, "nul": "a: \0", "tab": "\ta: 1", "two documents":
    "a: 1\n---\nb: 2", "unknown alias": "a: *b", "unknown tag": "a: !own x", "python": "a: !!python/name:os.system ''",
    "apply": "a: !!python/object/apply:os.system [ls]", "binary": "a: !!binary 1", "int": "a: !!int x", "bool":
    "a: !!bool x", "timestamp": "a: !!timestamp x", "pairs": "a: !!pairs [x]", "omap": "a: !!omap [x]", "merge":
    "a: {<<: 3}", "default": "a: =", "version": "%YAML 9.1\n---\na: 1", "quote": "a: 'x", "brace": "{a: 1", "number":
    "3", "text": "hello", "none": "null", "comment": "# nothing", "large": "a: " + "x" * 300_000,
    "many": "a: [" + "1, " * 21_000 + "]", "not closed": "a: [1, 2", "percent": "%", "at": "@a: 1", "reserved": "`a: 1",
    "colon": "a: b: c",
}  # fmt: skip
BYTES = {"utf-16": "chain: meis".encode("utf-16"), "latin": b"chain: m\xe9is", "binary": bytes(range(256))}


@pytest.mark.parametrize("case", [*TEXTS, *BYTES])
def test_what_is_no_mapping_of_names_to_values(case, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(BYTES[case] if case in BYTES else TEXTS[case].encode())
    for read in (load_yaml, meirl.make, lambda p: preset("ppo", str(p), "meis-stationary")):
        with pytest.raises(ValueError, match=r"mine\.yaml") as error:
            read(path)
        refused(error.value)


@pytest.mark.skipif(os.name == "nt", reason="no named pipes in the file system")
def test_pipes_and_folders_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    for name in ("pipe", "folder", "loop"):
        with pytest.raises(ValueError, match=f"{name}.yaml"):
            meirl.make(tmp_path / f"{name}.yaml")
    for name in ("policy.pt", "checkpoint.pt"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}: not a file"):
            load_checkpoint(tmp_path / name)


# --- values ----------------------------------------------------------------------------------------------------------
ENVIRONMENTS = {name: load_yaml(PACKAGE / "envs" / f"{name}.yaml") for name in meirl.NAMES}
KEYS = [(name, path) for name in (meirl.NAMES[1], meirl.NAMES[3]) for path in paths(ENVIRONMENTS[name])]


def works(env) -> None:
    """An environment plays a period."""
    env.step(env.reset(1), torch.zeros(1, env.nodes), env.sample(1, 0).at(0))


@pytest.mark.parametrize(("name", "path"), KEYS, ids=[f"{name} {'.'.join(path)}" for name, path in KEYS])
def test_a_parameter_is_refused_or_works(name, path, tmp_path):
    file = tmp_path / "mine.yaml"
    for value in JUNK:
        file.write_text(yaml.safe_dump(spoilt({**ENVIRONMENTS[name], "horizon": 30}, path, value)), encoding="utf-8")
        try:
            env = meirl.make(file)
        except ValueError as error:
            refused(error, "mine.yaml", path[0])
        else:
            works(env)


@pytest.mark.parametrize(
    ("name", "changes", "limit"),
    [
        ("divergent-stationary", {"horizon": 10**12}, 10_000), ("divergent-stationary", {"retailers": 10**9}, 100),
        ("meis-stationary", {"leaves": 10**9}, 100), ("meis-stationary", {"max_backlog_duration": 10**9}, 1_000),
        ("meis-stationary", {"lead_time": {"high": 10**12}}, 1_000),
        ("divergent-nonstationary", {"demand": {"shock": {"length": [1, 10**12]}}}, 365),
        ("divergent-nonstationary", {"demand": {"noise": {"spread": 1e308}}}, 1_000_000_000),
        ("divergent-nonstationary", {"demand": {"mean": 1e30}}, 1_000_000_000),
        ("meis-stationary", {"cost_unit": 1e-320}, "0.000000001"),
    ],
)  # fmt: skip
def test_a_size_beyond_reason_is_refused_with_its_limit(name, changes, limit):
    with pytest.raises(ValueError, match=f"{name}.yaml") as error:
        meirl.make(name, **changes)
    refused(error.value, str(limit))


def test_a_long_value_is_not_repeated_whole():
    with pytest.raises(ValueError, match=r"horizon: .*got 'xxx") as error:
        meirl.make("meis-stationary", horizon="x" * 10**6)
    refused(error.value)


def test_more_episodes_than_memory_holds_are_refused(monkeypatch):
    monkeypatch.setattr("meirl.envs.scenario.MOST_DRAWS", 10_000)
    env = meirl.make("meis-stationary")
    assert env.sample(13, 0).episodes == 13
    with pytest.raises(
        ValueError, match="14 episodes of 365 periods at 2 locations do not fit in memory: at most 10,000"
    ):
        env.sample(14, 0)


PRESET = {"steps": 100, "per_environment": {"meis-stationary": {"clip": 0.1}}, "network": {"hidden": [8]}}
LAYERS = [("per_environment",), ("per_environment", "meis-stationary"), ("network",), ("long",), ("as-published",)]
FIELDS = [*((key,) for key in meirl.learn.ppo.Config.model_fields), *LAYERS]
INNER = [("network", key) for key in ("hidden", "log_std", "final_log_std", "activation", "squash", "policy_gain")]


@pytest.mark.parametrize("path", [*FIELDS, *INNER], ids=".".join)
def test_a_hyperparameter_is_refused_or_accepted(path, tmp_path):
    file = tmp_path / "mine.yaml"
    for value in [*JUNK, [-3], [0], [10**9], [10**30], ["x"], {"meis-stationary": 3}]:
        file.write_text(yaml.safe_dump(spoilt(PRESET, path, value)), encoding="utf-8")
        try:
            preset("ppo", str(file), "meis-stationary")
        except ValueError as error:
            refused(error, "mine.yaml")


@pytest.mark.parametrize("key", ["environments", "validation_episodes", "workers"])
def test_a_hyperparameter_beyond_reason_names_its_limit(key):
    with pytest.raises(ValueError, match=rf"a3c-tuned\.yaml: {key}: .*less than or equal to \d+, got 1000000000"):
        preset("a3c", "tuned", "meis-stationary", **{key: 10**9})


def test_more_workers_than_a_few_times_the_cores_are_refused(tmp_path, monkeypatch):
    env, config = meirl.make("meis-stationary", horizon=10), preset("a3c", "tuned", "meis-stationary")
    for cores, most in ((1, 16), (8, 32)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        more = config.model_copy(update={"workers": most + 1, "steps": 1})
        with pytest.raises(ValueError, match=f"workers: at most {most} on this machine, .*got {most + 1}"):
            find_learner("a3c").train(env, more, 0, tmp_path / "run", progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("algo", ["ppo", "a3c", "pathwise"])
@pytest.mark.parametrize("seed", [-1, 2_000_000, 10**20])
def test_a_bad_seed_writes_nothing(algo, seed, tmp_path):
    config = preset(algo, "tuned", "divergent-stationary")
    with pytest.raises(ValueError, match=f"seed must be from 0 to 1999999, got {seed}"):
        find_learner(algo).train(meirl.make("divergent-stationary"), config, seed, tmp_path / "run", progress=False)
    assert not list(tmp_path.iterdir())


# --- levels ----------------------------------------------------------------------------------------------------------
LEVELS = {"rule": "s-S", "levels": {}, "provenance": {"validation_cost": 3.0}}
WRONG_LEVELS = [
    *(("rule", value) for value in [*JUNK, "never-order", "base-stock", "bank-and-switch"]),
    *(("levels", value) for value in JUNK), *(("provenance", value) for value in JUNK),
    *(("provenance", {"validation_cost": value}) for value in ["cheap", [1], None, float("nan")]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG_LEVELS, ids=[f"{k} {v!r}"[:40] for k, v in WRONG_LEVELS])
def test_a_file_of_levels_is_refused_or_works(key, value, tmp_path):
    env, file = meirl.make("meis-stationary"), tmp_path / "mine.yaml"
    good = {**LEVELS, "levels": dict.fromkeys(heuristics.RULES["s-S"].ranges(env), 5.0)}
    file.write_text(yaml.safe_dump(good, sort_keys=False), encoding="utf-8")
    assert read_levels(env, file).rule == "s-S"
    file.write_text(yaml.safe_dump({**good, key: value}, sort_keys=False), encoding="utf-8")
    try:
        read_levels(env, file)
    except ValueError as error:
        refused(error, "mine.yaml")


# --- checkpoints -----------------------------------------------------------------------------------------------------
ENV = "meis-stationary"
SHORT = {"steps": 1, "environments": 2, "copies": 1, "minibatch": 64, "validation_episodes": 1, "evaluations": 1}


def short_run(folder, **options):
    env = meirl.make(ENV, horizon=10)
    config = preset("ppo", "tuned", ENV, **SHORT, network={"hidden": [4]})
    return find_learner("ppo").train(env, config, 0, folder, progress=False, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    short_run(folder)
    return folder


def kept(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def fresh(run: Path, folder: Path, name: str, content: dict | bytes) -> Path:
    """A copy of a run with one file replaced."""
    folder.mkdir(exist_ok=True)
    for file in run.glob("[!.]*"):
        (folder / file.name).write_bytes(file.read_bytes())
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        torch.save(content, folder / name)
    return folder


MISSING = object()
SAVED = ["format", "algo", "env", "observation", "inputs", "seed", "parameters", "config", "best", "best_cost"]
PROGRESS = ["network", "optimiser", "history", "steps", "seconds"]
STATES = [None, "x", "null", "[1]", "7", "{}", 3, -3, 1.5, float("nan"), [1], {}, {"state": 1}, [{}], {"w": "x"}]


def damaged(saved: dict, key: str, value: object) -> dict:
    return {k: v for k, v in saved.items() if k != key} if value is MISSING else {**saved, key: value}


@pytest.mark.parametrize("key", SAVED)
def test_a_policy_is_refused_or_plays(key, run, tmp_path):
    for value in [MISSING, *STATES]:
        folder = fresh(run, tmp_path / "run", "policy.pt", damaged(kept(run / "policy.pt"), key, value))
        try:
            policy, env = load_policy(folder)
        except ValueError as error:
            refused(error)
        else:
            policy(env.observe(env.reset(1), 0))


@pytest.mark.parametrize("key", [*SAVED, *PROGRESS])
def test_a_checkpoint_is_refused_or_resumed(key, run, tmp_path):
    for value in [MISSING, *STATES]:
        content = damaged(kept(run / "checkpoint.pt"), key, value)
        folder = fresh(run, tmp_path / "run", "checkpoint.pt", content)
        try:
            short_run(folder, resume=True)
        except ValueError as error:
            refused(error, "checkpoint.pt")


def test_moments_that_do_not_fit_are_refused(run, tmp_path):
    saved = kept(run / "checkpoint.pt")
    (moments,) = saved["optimiser"]["state"].values()
    for wrong in ({}, {**moments, "exp_avg": torch.zeros(3)}, {**moments, "step": "x"}):
        content = {**saved, "optimiser": {**saved["optimiser"], "state": {0: wrong}}}
        folder = fresh(run, tmp_path / "run", "checkpoint.pt", content)
        with pytest.raises(ValueError, match=r"checkpoint\.pt does not fit"):
            short_run(folder, resume=True)


@pytest.mark.parametrize("name", ["policy.pt", "checkpoint.pt"])
def test_weights_that_are_not_finite_are_refused(name, run, tmp_path):
    saved = kept(run / name)
    saved["best"]["actor.0.bias"][1] = float("nan")
    folder = fresh(run, tmp_path / "run", name, saved)
    with pytest.raises(ValueError, match=rf"{name}: best: .*actor\.0\.bias is no longer finite: training has diverged"):
        load_policy(folder) if name == "policy.pt" else short_run(folder, resume=True)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data/0", "w") as member:
        for _ in range(600):
            member.write(bytes(1_000_000))
    (tmp_path / "policy.pt").write_bytes(packed.getvalue())
    with pytest.raises(ValueError, match=r"policy\.pt: unpacks to 600,000,000 bytes, expected at most 536,870,912"):
        load_policy(tmp_path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bytes_that_changed_are_noticed_or_harmless(data, run, tmp_path):
    whole = bytearray((run / "policy.pt").read_bytes())
    cut = data.draw(st.integers(0, len(whole)))
    changes = data.draw(st.dictionaries(st.integers(0, len(whole) - 1), st.integers(0, 255), max_size=5))
    for at, byte in changes.items():
        whole[at] = byte
    content = bytes(whole if data.draw(st.booleans()) else whole[:cut])
    try:
        load_policy(fresh(run, tmp_path / "run", "policy.pt", content))
    except ValueError as error:
        refused(error)


def test_every_key_of_a_checkpoint_is_tried():
    assert {*SAVED, *PROGRESS} == {"format", *Checkpoint.model_fields}


# --- the command line ------------------------------------------------------------------------------------------------
def said(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of the command line."""
    monkeypatch.setattr("sys.argv", ["meirl", *arguments])
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    else:
        code = 0
    return code, capsys.readouterr().err


OPTIONS = {
    "train": {"env": ENV, "algo": "ppo", "steps": "1"}, "evaluate": {"env": ENV, "heuristic": "published"},
    "tune": {"env": ENV, "heuristic": "s-S", "generations": "1", "episodes": "1"},
}  # fmt: skip
WORDS = ["", "x", "-1", "1e9", "1000000000", "99999999999999999999", "nan", "../..", "no.yaml", "\udcff", "a" * 5000]
COMMANDS = [
    ("train", "env"), ("train", "algo"), ("train", "preset"), ("train", "observation"), ("train", "seed"),
    ("train", "workers"), ("train", "device"), ("train", "out"), ("evaluate", "env"), ("evaluate", "heuristic"),
    ("evaluate", "policy"), ("evaluate", "episodes"), ("evaluate", "warm-up"), ("tune", "env"), ("tune", "heuristic"),
    ("tune", "seed"), ("tune", "episodes"),
]  # fmt: skip


class ReachedError(ValueError):
    """The command got as far as its work."""


@pytest.fixture
def idle(monkeypatch, tmp_path):
    """Commands check everything and then do not work."""

    def work(*_, **__):
        raise ReachedError("at work")

    for name in ("rollout", "find_learner"):
        monkeypatch.setattr(f"meirl.__main__.{name}", work)
    monkeypatch.setattr(tuning, "_search", work)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("command", "option"), COMMANDS, ids=[" --".join(pair) for pair in COMMANDS])
def test_an_option_is_refused_in_few_lines(command, option, monkeypatch, capsys, idle):
    for word in WORDS:
        given = {**OPTIONS[command], option: word}
        code, errors = said(monkeypatch, capsys, command, *(f"--{key}={value}" for key, value in given.items()))
        assert code == 2, (word, errors)
        assert "Traceback" not in errors
        assert errors.count("\n") < 12


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.sampled_from(sorted(OPTIONS)), data=st.data())
def test_any_words_are_refused_in_few_lines(command, data, monkeypatch, capsys, idle):
    keys = st.sampled_from([option for of, option in COMMANDS if of == command])
    given = data.draw(st.dictionaries(keys, st.text(st.characters(exclude_characters="\0"), max_size=8), max_size=4))
    code, errors = said(monkeypatch, capsys, command, *(f"--{k}={v}" for k, v in {**OPTIONS[command], **given}.items()))
    assert code == 2, errors
    assert "Traceback" not in errors


def test_episodes_and_generations_have_limits_that_are_named(monkeypatch, capsys, idle):
    for arguments in (["evaluate", f"--env={ENV}", "--heuristic=best", "--episodes=1000000000"],
                      ["tune", f"--env={ENV}", "--heuristic=s-S", "--episodes=1000000000"],
                      ["tune", f"--env={ENV}", "--heuristic=s-S", "--generations=1000000000"]):  # fmt: skip
        code, errors = said(monkeypatch, capsys, *arguments)
        assert code == 2
        assert re.search(r"1<=x<=\d+|less than or equal to\W+\d+", errors), errors


def test_what_is_no_number_is_null_in_json(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["meirl", "evaluate", f"--env={ENV}", "--heuristic=s-S", "--episodes=1", "--json"])
    with pytest.raises(SystemExit):
        main()
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["standard_error"] is None  # of one episode


# --- YAML of random structure ----------------------------------------------------------------------------------------
names = st.sampled_from(["chain", "horizon", "demand", "mean", "shock", "lead_time", "retailers", "meis", "x", "<<"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), names, st.dates(), st.binary(max_size=3)
)
nested = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(names, scalars), inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=nested, at=st.sampled_from(KEYS), text=st.text(max_size=30))
def test_yaml_of_any_structure_is_refused_or_works(content, at, text, tmp_path):
    path, (name, key) = tmp_path / "mine.yaml", at
    whole = spoilt({**ENVIRONMENTS[name], "horizon": 20}, key, content)
    for written in (yaml.dump(content), yaml.dump(whole), text):
        path.write_text(written, encoding="utf-8", errors="replace")
        try:
            env = meirl.make(path)
        except ValueError as error:
            refused(error, "mine.yaml")
        else:
            works(env)
