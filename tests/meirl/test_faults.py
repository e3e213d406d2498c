"""Kills, full disks, divergence and company: nothing is lost, nothing is fooled, and what happened is said."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread

import pandas as pd
import pytest
import torch
import yaml
from filelock import FileLock

import meirl
from meirl import files, heuristics
from meirl.__main__ import main
from meirl.envs import Costs
from meirl.heuristics import RULES, tuning
from meirl.learn import Run, find_learner, load_checkpoint, load_policy, preset, run_folder
from meirl.learn import run as runs
from meirl.learn.networks import ActorCritic, seeded

HORIZON = 20
ROUND = 4 * HORIZON
SMALL = {"steps": 3 * ROUND, "environments": 4, "copies": 1, "segment": 10, "evaluations": 3, "validation_episodes": 4}


def small(algo, **changes):
    own = {"workers": 1} if algo == "a3c" else {"minibatch": 40}
    network = {"hidden": [8, 8], "final_log_std": None}
    return preset(algo, "tuned", "meis-stationary", **{**SMALL, **own, "network": network, **changes})


def train(algo, out=None, env=None, seed=0, resume=False, **changes):
    env = env or meirl.make("meis-stationary", horizon=HORIZON)
    return find_learner(algo).train(env, small(algo, **changes), seed, out, resume=resume, progress=False)


class Killed(BaseException):
    """What nothing catches."""


def killed_at(monkeypatch, number: int, when: str, work) -> bool:
    """Do some work, but end it at so many writes: before one, in the midst of it, or after it; whether it got there."""
    real, count = files.write, 0

    def write(path, content):
        nonlocal count
        count += 1
        if count == number and when != "after":
            if when == "midst":
                path.with_name(f".{path.name}.1.partial").write_bytes(b"half of i")
            raise Killed
        real(path, content)
        if count == number:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", write)
        try:
            work()
        except Killed:
            return True
    return False


def written(folder: Path) -> dict:
    """All that a run left, but what tells the time."""
    manifest = json.loads((folder / "manifest.json").read_text())
    saved = load_checkpoint(folder / "checkpoint.pt", runs.Checkpoint)
    rows = pd.DataFrame(saved["history"])
    pd.testing.assert_frame_equal(rows, pd.read_csv(folder / "history.csv"), check_exact=False)
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.pt", "config.json", "history.csv", "manifest.json", "policy.pt"
    ]  # fmt: skip
    return {
        "policy": (folder / "policy.pt").read_bytes(), "config": (folder / "config.json").read_bytes(),
        "history": rows.drop(columns="seconds").to_csv(),
        "manifest": {key: value for key, value in manifest.items() if key not in ("seconds", "finished")},
        "network": {key: value.tolist() for key, value in saved["network"].items()}, "steps": saved["steps"],
    }  # fmt: skip


def test_a_kill_in_any_write_changes_nothing_ppo(monkeypatch, tmp_path):
    train("ppo", tmp_path / "straight")
    straight = written(tmp_path / "straight")
    number, when = 0, "after"
    for number in range(1, 99):
        for when in ("before", "midst", "after"):
            folder = tmp_path / f"{number}-{when}"
            if not killed_at(monkeypatch, number, when, lambda out=folder: train("ppo", out)):
                break
            train("ppo", folder, resume=True)
            assert written(folder) == straight, (number, when)
        else:
            continue
        break
    assert number == 1 + 3 * 3 + 1 + 1, "config, three files at each of three validations, manifest; then no more"


def test_a_kill_in_the_last_writes_changes_nothing_a3c(monkeypatch, tmp_path):
    once = {"steps": ROUND, "evaluations": 1}
    train("a3c", tmp_path / "straight", **once)
    straight = written(tmp_path / "straight")
    for number in (6, 7, 8):  # config; three files at the start; the last history, checkpoint and manifest
        folder = tmp_path / str(number)
        assert killed_at(monkeypatch, number, "midst", lambda out=folder: train("a3c", out, **once))
        train("a3c", folder, resume=True, **once)
        assert written(folder) == straight, number
    assert not killed_at(monkeypatch, 9, "before", lambda: train("a3c", tmp_path / "none", **once))


def test_the_best_weights_are_kept_not_the_last(monkeypatch, tmp_path):
    """Validation costs 3, 1, 2: the second weights are the run's."""
    env = meirl.make("meis-stationary", horizon=HORIZON)
    network = seeded(ActorCritic, env, small("ppo"), 0)
    costs = iter([3.0, 1.0, 2.0])
    real = runs.simulate

    def simulate(*arguments):
        totals, cost = real(*arguments), next(costs) * env.cost_unit
        nothing = torch.zeros_like(totals.costs.holding)
        return totals._replace(costs=Costs(nothing + cost, *[nothing] * 4))

    monkeypatch.setattr(runs, "simulate", simulate)
    with Run(env, "ppo", small("ppo"), 0, network, tmp_path / "run", progress=False) as run:
        for number in range(3):
            network.actor[0].bias.data.fill_(number)
            run.validate(number, 0.0, {})
            assert load_checkpoint(tmp_path / "run" / "policy.pt")["best_cost"] == pytest.approx([3, 1, 1][number])
        run.finish()
    assert run.best_cost == pytest.approx(1.0)
    assert run.best["actor.0.bias"].unique().tolist() == [1]
    assert network.actor[0].bias.unique().tolist() == [1], "a finished run's policy is its best one"
    policy, _ = load_policy(tmp_path / "run", env)
    assert policy.actor[0].bias.unique().tolist() == [1]
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["network"]["actor.0.bias"].unique().tolist() == [2]


# --- divergence ------------------------------------------------------------------------------------------------------
TOO_FAST = {
    "learning_rate": 1e9, "max_gradient_norm": 1e9, "steps": 8 * ROUND,
    "network": {"hidden": [64] * 4, "activation": "relu"},
}  # fmt: skip


@pytest.mark.parametrize("algo", ["ppo", "a3c"])
@pytest.mark.parametrize("name", ["divergent-stationary", "meis-stationary"])
def test_a_run_that_diverges_ends_and_says_so(algo, name, tmp_path):
    env = meirl.make(name, horizon=HORIZON)
    with pytest.raises(ValueError, match="is no longer finite: training has diverged"):
        train(algo, tmp_path / "run", env, **TOO_FAST)


@pytest.mark.parametrize("algo", ["ppo", "a3c"])
def test_a_segment_of_a_single_sample_is_no_divergence(algo):
    env = meirl.make("meis-stationary", horizon=HORIZON + 1)
    train(algo, env=env, environments=1, steps=2 * (HORIZON + 1))


@pytest.mark.parametrize("part", ["actor", "critic"])
def test_outputs_that_are_not_finite_are_refused_wherever_they_come_from(part):
    env = meirl.make("meis-stationary", horizon=HORIZON)
    network = seeded(ActorCritic, env, small("ppo"), 0)
    getattr(network, part)[-1].bias.data.fill_(float("nan"))
    vector = env.observe(env.reset(2), 0).vector()
    with pytest.raises(ValueError, match=f"the {part}'s output is no longer finite"):
        network.head(vector) if part == "actor" else network.value(vector)


def test_weights_and_costs_that_are_not_finite_are_no_best(tmp_path, monkeypatch):
    env = meirl.make("meis-stationary", horizon=HORIZON)
    network = seeded(ActorCritic, env, small("ppo"), 0)
    with Run(env, "ppo", small("ppo"), 0, network, tmp_path / "run", progress=False) as run:
        network.return_mean.fill_(float("nan"))  # the deterministic policy does not notice
        with pytest.raises(ValueError, match="return_mean is no longer finite"):
            run.validate(1, 0.0, {})
        network.return_mean.fill_(0)
        real = runs.simulate
        monkeypatch.setattr(
            runs, "simulate", lambda *a: (t := real(*a))._replace(costs=Costs(*[t.costs.holding * float("nan")] * 5))
        )
        with pytest.raises(ValueError, match="the validation cost is no longer finite"):
            run.validate(1, 0.0, {})
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


# --- one writer ------------------------------------------------------------------------------------------------------
def test_a_folder_has_one_writer(tmp_path):
    folder = tmp_path / "run"
    code = "import sys, pathlib; from meirl import files\nwith files.only_writer(pathlib.Path(sys.argv[1])):"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{code} print('held', flush=True); input()", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="run: another process is writing it"):
        train("ppo", folder)
    assert not folder.exists()
    holder.kill()
    holder.communicate()
    train("ppo", folder)  # the lock of the dead is no problem
    with files.only_writer(folder), files.only_writer(folder):  # who holds it may take it again
        pass
    with FileLock(tmp_path / ".run.lock", timeout=0):
        pass


def test_a_failed_run_gives_its_folder_up(tmp_path):
    with pytest.raises(ValueError, match="diverged") as error:
        train("ppo", tmp_path / "run", **TOO_FAST)
    with FileLock(tmp_path / ".run.lock", timeout=0):
        assert error.tb is not None, "which holds all that the run held"


def test_a_run_that_cannot_begin_gives_its_folder_up(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(OSError, match="No space") as error:
        train("ppo", tmp_path / "run")
    with FileLock(tmp_path / ".run.lock", timeout=0):
        assert error.tb is not None, "which holds all that the run held"


def contents(folder: Path) -> dict:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("change", [{"steps": ROUND}, {"seed": 1}, {"env": "published"}, {"resume": False}])
def test_a_refused_resume_writes_nothing(change, tmp_path):
    train("ppo", tmp_path / "run")
    (tmp_path / ".run.lock").unlink()
    before = contents(tmp_path)
    if change.get("env"):
        change = {"env": meirl.make("meis-stationary", horizon=HORIZON, observation="published")}
    with pytest.raises(ValueError, match=r"differs from this run's|holds a run already"):
        train("ppo", tmp_path / "run", **{"resume": True, **change})
    assert contents(tmp_path) == before


def test_observations_have_folders_of_their_own_and_the_full_one_keeps_its_own(tmp_path):
    assert run_folder(Path("runs"), "own.yaml", "ppo", "tuned", 3) == Path("runs/own/ppo/tuned/seed-3")
    seen = run_folder(Path("runs"), "own.yaml", "ppo", "tuned", 3, "published")
    assert seen == Path("runs/published-observation/own/ppo/tuned/seed-3")
    assert run_folder(seen.parents[3], "own.yaml", "ppo", "tuned", 3, "published") == seen


# --- files -----------------------------------------------------------------------------------------------------------
@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_files_have_the_mode_that_the_umask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        train("ppo", tmp_path / "run")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()} == {0o640}


def test_what_a_killed_writer_left_half_done_goes(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".policy.pt.77.partial").write_bytes(b"half")
    train("ppo", tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_with_stars_and_brackets_is_a_name(tmp_path):
    for name in ("a**b.yaml", "[a].yaml"):
        files.write(tmp_path / name, "whole")
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()


def test_what_a_killed_write_left_goes_when_it_is_old(tmp_path):
    old, young, other = (tmp_path / f".{name}.partial" for name in ("a.txt.1", "a.txt.2", "b.txt.1"))
    for left in (old, young, other):
        left.write_bytes(b"half")
    for left in (old, other):
        os.utime(left, (0, 0))
    files.write(tmp_path / "a.txt", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, other.name, "a.txt"]


def test_two_threads_may_write_one_file(monkeypatch, tmp_path):
    real, both, failed = Path.replace, Barrier(2, timeout=10), []

    def replace(path, target):
        both.wait()  # until the other has written its part too
        return real(path, target)

    def write():
        try:
            files.write(tmp_path / "a.txt", "whole")
        except OSError as error:
            failed.append(error)

    monkeypatch.setattr(Path, "replace", replace)
    threads = [Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("times", [0, 2, 99])
def test_windows_is_asked_again_while_somebody_reads_the_file(monkeypatch, tmp_path, times):
    real, refusals, pauses = Path.replace, [PermissionError(errno.EACCES, "in use")] * times, []

    def replace(path, target):
        if refusals:
            raise refusals.pop()
        return real(path, target)

    path = tmp_path / "a.txt"
    files.write(path, "old")
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(files.time, "sleep", pauses.append)
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        if times < 99:
            files.write(path, "new")
        else:
            with pytest.raises(PermissionError, match="in use"):
                files.write(path, "new")
    assert path.read_text() == ("new" if times < 99 else "old")
    assert pauses == sorted(pauses)
    assert len(pauses) == min(times, 3)
    pauses.clear()
    if times:
        refusals[:] = [PermissionError(errno.EACCES, "in use")]
        with pytest.raises(PermissionError):  # elsewhere it means that one may not
            files.write(path, "newer")
        assert not pauses
    assert [left.name for left in tmp_path.iterdir()] == ["a.txt"]


def test_the_commit_is_that_of_the_checkout_not_of_one_around_it(tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=me", "-c", "user.email=me@here", *arguments], cwd=tmp_path, check=True)

    own = tmp_path / ".venv" / "meirl"
    own.mkdir(parents=True)
    (own / "files.py").write_text("")
    (tmp_path / "theirs.py").write_text("")
    git("init", "-q")
    git("add", "theirs.py")
    git("commit", "-q", "-m", "theirs")
    assert files.commit(own) == "unknown"
    git("add", ".venv")
    git("commit", "-q", "-m", "ours")
    assert len(files.commit(own)) == 12
    (own / "files.py").write_text("# changed")
    assert files.commit(own).endswith(" + changes")


def said(monkeypatch, capsys, *arguments) -> tuple[object, str]:
    monkeypatch.setattr("sys.argv", ["meirl", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, capsys.readouterr().err


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(monkeypatch, capsys, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(json.dumps(json.loads(small("ppo").model_dump_json())))
    env = tmp_path / "short.yaml"
    source = Path(meirl.__file__).parent / "envs" / "meis-stationary.yaml"
    env.write_text(source.read_text(encoding="utf-8").replace("horizon: 365", f"horizon: {HORIZON}"), encoding="utf-8")
    arguments = ["train", "--env", env, "--algo", "ppo", "--preset", own, "--out", tmp_path, "--device", "cpu"]
    real, count = Path.write_bytes, 0

    def write_bytes(path, data):
        nonlocal count
        count += 1
        if count > 6:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        code, errors = said(monkeypatch, capsys, *arguments)
    assert code == 2
    assert "No space left on device" in errors.splitlines()[-1]
    assert errors.splitlines()[-1].startswith("meirl: ")
    assert "Traceback" not in errors
    folder = run_folder(tmp_path, "short", "ppo", "own", 0)
    assert load_checkpoint(folder / "checkpoint.pt", runs.Checkpoint)["steps"] == ROUND
    assert said(monkeypatch, capsys, *arguments, "--resume")[0] == 0
    assert load_checkpoint(folder / "checkpoint.pt", runs.Checkpoint)["steps"] == 3 * ROUND


@pytest.mark.parametrize("command", ["train", "tune", "tune over a folder", "study"])
def test_a_file_where_a_folder_is_meant_is_one_line(command, monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: pytest.fail("searched before it looked"))
    out = tmp_path / "file"
    code, errors = said(monkeypatch, capsys, *{
        "train": ["train", "--env=meis-stationary", "--algo=ppo", f"--out={out}"],
        "tune": ["tune", "--env=meis-stationary", "--heuristic=s-S", f"--out={out}/levels.yaml"],
        "tune over a folder": ["tune", "--env=meis-stationary", "--heuristic=s-S", f"--out={tmp_path / 'folder'}"],
        "study": ["study", "--env=meis-stationary", "--algo=ppo", "--seeds=1", "--jobs=1", f"--out={out}"],
    }[command])  # fmt: skip
    assert code == 2
    last = errors.splitlines()[-1]
    assert last.startswith("meirl: ")
    assert ("folder" if "folder" in command else "file") in last
    assert "Traceback" not in errors
    assert (tmp_path / "file").read_text() == "mine"


def test_tune_says_at_once_that_a_file_cannot_be_written(monkeypatch, capsys, tmp_path):
    def read_only(path, data):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_bytes", read_only)
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: pytest.fail("searched before it looked"))
    out = tmp_path / "cannot_be_written.yaml"
    code, errors = said(monkeypatch, capsys, "tune", "--env=meis-stationary", "--heuristic=s-S", f"--out={out}")
    assert code == 2
    assert errors.startswith("meirl: [Errno 13] Permission denied: ")


# --- tuning ----------------------------------------------------------------------------------------------------------
SEARCH = {"seed": 4, "episodes": 4, "generations": 4, "candidates": 4, "progress": False}


def search_env():
    return meirl.make("divergent-nonstationary", retailers=1, horizon=15)


def outcome(search) -> tuple:
    timeless = {key: value for key, value in search.tuned.provenance.items() if key != "seconds"}
    return search.tuned.levels, timeless, search.history.drop(columns="seconds").to_csv()


def test_a_search_that_is_stopped_goes_on_and_ends_the_same(monkeypatch, tmp_path):
    env, rule, kept = search_env(), RULES["base-stock"], tmp_path / "kept"
    straight = outcome(tuning.tune(env, rule, **SEARCH))
    real, played = tuning.mean_costs, []

    def counted(*arguments):
        played.append(1)
        return real(*arguments)

    monkeypatch.setattr(tuning, "mean_costs", counted)
    assert killed_at(monkeypatch, 3, "after", lambda: tuning.tune(env, rule, kept=kept, **SEARCH))
    assert len(played) == 3
    played.clear()
    again = tuning.tune(env, rule, kept=kept, **SEARCH)
    assert outcome(again) == straight
    assert again.history["seconds"].is_monotonic_increasing
    first = len(played)
    played.clear()
    assert outcome(tuning.tune(env, rule, kept=kept, **SEARCH)) == straight
    assert len(played) == 1 == first - (len(json.loads(kept.read_text())) - 3), "only the finalists are played again"
    played.clear()
    tuning.tune(env, rule, kept=kept, **{**SEARCH, "seed": 5})  # another search finds nothing of its own there
    assert len(played) > 4
    kept.write_bytes(b"half of i")
    assert outcome(tuning.tune(env, rule, kept=kept, **SEARCH)) == straight


@pytest.fixture
def own_chain(tmp_path):
    source = yaml.safe_load((Path(meirl.__file__).parent / "envs" / "divergent-nonstationary.yaml").read_text("utf-8"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**source, "retailers": 1, "horizon": 15}), encoding="utf-8")
    return path


def test_tune_goes_on_and_leaves_only_levels(own_chain, monkeypatch, capsys, tmp_path):
    arguments = ["tune", f"--env={own_chain}", "--heuristic=base-stock", "--episodes=4", "--generations=4"]
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "held_out", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            said(monkeypatch, capsys, *arguments)
    folder = tmp_path / "mine"
    assert [path.name for path in folder.iterdir()] == [".base-stock.yaml.search"]
    real, played = tuning.mean_costs, []
    monkeypatch.setattr(tuning, "mean_costs", lambda *a: played.append(1) or real(*a))
    assert said(monkeypatch, capsys, *arguments)[0] == 0
    assert len(played) == 1
    assert [path.name for path in folder.iterdir()] == ["base-stock.yaml"]


@pytest.mark.parametrize("wrong", ["text", "another rule's"])
def test_tune_looks_at_what_is_there_before_it_searches(wrong, own_chain, monkeypatch, capsys, tmp_path):
    path = heuristics.levels_file(meirl.make(own_chain), "base-stock")
    path.parent.mkdir()
    levels = dict.fromkeys(RULES["base-stock"].ranges(meirl.make(own_chain)), 5.0)
    found = {"rule": "base-stock", "levels": levels, "provenance": {"validation_cost": 1.0}}
    found["provenance"] = {"text": {"validation_cost": "cheap"}}.get(wrong, found["provenance"])
    found["rule"] = "s-S" if wrong.startswith("another") else found["rule"]
    path.write_text(yaml.safe_dump(found, sort_keys=False))
    before = path.read_bytes()
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: pytest.fail("searched before it looked"))
    code, errors = said(monkeypatch, capsys, "tune", f"--env={own_chain}", "--heuristic=base-stock")
    assert code == 2
    assert errors.count("\n") == 1
    assert f"{path}: " in errors
    assert path.read_bytes() == before


def test_tune_overwrites_nothing_better_that_came_meanwhile(own_chain, monkeypatch, capsys):
    path = heuristics.levels_file(meirl.make(own_chain), "base-stock")
    real, levels = tuning.tune, dict.fromkeys(RULES["base-stock"].ranges(meirl.make(own_chain)), 5.0)
    better = heuristics.Levels(rule="base-stock", levels=levels, provenance={"validation_cost": 0.0})

    def tune(env, rule, **options):
        found = real(env, rule, **options)
        tuning.write(better, path)
        cost = meirl.rollout(env, heuristics.load(env, path), meirl.held_out(env, "validation"))["cost"].mean()
        return found._replace(tuned=found.tuned.model_copy(update={"provenance": {"validation_cost": cost + 1}}))

    monkeypatch.setattr(tuning, "tune", tune)
    arguments = ["tune", f"--env={own_chain}", "--heuristic=base-stock", "--episodes=2", "--generations=1"]
    assert said(monkeypatch, capsys, *arguments)[0] == 0
    assert heuristics.read_levels(meirl.make(own_chain), path) == better


def test_tune_judges_what_is_there_on_the_chain_as_it_is_now(own_chain, monkeypatch, capsys):
    path = heuristics.levels_file(meirl.make(own_chain), "base-stock")
    path.parent.mkdir()
    levels = dict.fromkeys(RULES["base-stock"].ranges(meirl.make(own_chain)), 0.0)
    tuning.write(heuristics.Levels(rule="base-stock", levels=levels, provenance={"validation_cost": 0.0}), path)
    code, errors = said(monkeypatch, capsys, "tune", f"--env={own_chain}", "--heuristic=base-stock", "--generations=1")
    assert code == 0, errors
    assert heuristics.read_levels(meirl.make(own_chain), path).levels != levels


@pytest.mark.parametrize("wrong", [["--heuristic=never-order"], ["--heuristic=base-stock", "--seed=-1"]], ids=str)
def test_a_search_that_is_refused_leaves_nothing(wrong, own_chain, monkeypatch, capsys, tmp_path):
    code, errors = said(monkeypatch, capsys, "tune", f"--env={own_chain}", *wrong)
    assert code == 2
    assert errors.count("\n") == 1
    assert not list((tmp_path / "mine").iterdir())


def test_a_write_that_fails_leaves_the_old_levels(monkeypatch, tmp_path):
    path = tmp_path / "levels.yaml"
    tuned = heuristics.Levels(rule="s-S", levels={"a": 1.0})
    tuning.write(tuned, path)
    before = path.read_bytes()

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    def cannot(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    for method, failing in (("write_bytes", full), ("replace", cannot)):
        with monkeypatch.context() as patch:
            patch.setattr(Path, method, failing)
            with pytest.raises(OSError, match="No space"):
                tuning.write(tuned.model_copy(update={"levels": {"a": 2.0}}), path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["levels.yaml"]
