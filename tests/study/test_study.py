"""The study on each backend: the same table, whoever is killed; nothing done twice; nothing left running."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from joblib.externals.loky import get_reusable_executor
from typer.testing import CliRunner

import meirl
from meirl.__main__ import app
from meirl.config import load_yaml
from meirl.learn import load_checkpoint, load_policy
from meirl_study import own, study

ROUND = 8 * 40  # environment steps
SHORT = {"environments": 8, "copies": 1, "validation_episodes": 4}
ROUNDS = 24  # enough to be killed in their midst
PPO = {**SHORT, "steps": ROUNDS * ROUND, "evaluations": ROUNDS}
A3C = {**SHORT, "steps": 2 * ROUND, "evaluations": 2, "workers": 1}
WORKER = {"loky": "popen_loky", "dask": "spawn_main", "ray": "ray::PoolActor"}  # in a worker's command line


def play(todo, root, **options):
    return study.run(todo, root, episodes=4, **{"jobs": 2, "progress": False, **options})


@pytest.fixture(scope="module")
def todo(tmp_path_factory):
    """Two PPO tasks, long enough to be killed, and one of A3C, on a short MEIS."""
    own = tmp_path_factory.mktemp("environment") / "short.yaml"
    own.write_text(
        yaml.safe_dump(load_yaml(Path(meirl.__file__).parent / "envs" / "meis-stationary.yaml") | {"horizon": 40})
    )
    ppo = study.tasks(range(2), [str(own)], ["ppo"], changes=PPO)
    return [*ppo, *study.tasks([0], [str(own)], ["a3c"], changes=A3C)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="module")
def undisturbed(todo, finished):
    """The table of a study on one process that nobody disturbs."""
    return play(todo, finished, jobs=1)


def workers(backend):
    """Processes below this one that work for a backend."""
    children = psutil.Process().children(recursive=True)
    return [p for p in children if p.status() != psutil.STATUS_ZOMBIE and WORKER[backend] in " ".join(p.cmdline())]


def wait_until(condition, seconds=120.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.01)


def begun(task, root):
    """Steps of a task's last checkpoint; 0 if there is none."""
    path = task.folder(root) / "checkpoint.pt"
    return load_checkpoint(path)["steps"] if path.exists() else 0


class Killer(threading.Thread):
    """Kills one worker as soon as both PPO tasks have begun; remembers how far they were."""

    def __init__(self, backend, tasks, root):
        super().__init__(daemon=True)
        self.backend, self.tasks, self.root, self.steps = backend, tasks, root, []

    def run(self):
        wait_until(lambda: all(begun(task, self.root) for task in self.tasks))
        workers(self.backend)[0].kill()
        self.steps = [begun(task, self.root) for task in self.tasks]


@pytest.fixture
def quiet_ray(monkeypatch):
    """No token in the home folder, no word to anybody."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


@pytest.mark.parametrize("backend", study.BACKENDS)
@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_killed_worker_loses_nothing(backend, todo, undisturbed, tmp_path, quiet_ray):
    killer = Killer(backend, todo[:2], tmp_path)
    killer.start()
    table = play(todo, tmp_path, backend=backend)
    killer.join()
    assert all(0 < steps < PPO["steps"] for steps in killer.steps), "killed too late to test anything"
    pd.testing.assert_frame_equal(table, undisturbed, check_exact=True)
    if backend == "loky":
        get_reusable_executor().shutdown(wait=True)  # they would stay for the next call
    wait_until(lambda: not workers(backend))


def test_an_address_is_a_cluster_that_runs_already(todo, undisturbed, finished):
    from dask.distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        table = play(todo, finished, backend="dask", address=cluster.scheduler_address)
        assert len(cluster.workers) == 1, "the cluster goes on"
    pd.testing.assert_frame_equal(table, undisturbed, check_exact=True)


def test_what_is_done_is_only_read(todo, undisturbed, finished):
    def written():
        return {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.suffix in (".pt", ".csv")}

    before = written()
    pd.testing.assert_frame_equal(play(todo, finished, jobs=1), undisturbed, check_exact=True)
    assert written() == before
    assert len(undisturbed) == 3 * 4
    assert list(undisturbed.columns[:6]) == ["env", "algo", "preset", "seed", "episode", "cost"]


def test_two_studies_on_one_folder_do_not_disturb_each_other(todo, undisturbed, tmp_path):
    tables = []
    twins = [threading.Thread(target=lambda: tables.append(play(todo[:1], tmp_path, jobs=1))) for _ in range(2)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    first = undisturbed.query("algo == 'ppo' and seed == 0").reset_index(drop=True)
    for table in tables:
        pd.testing.assert_frame_equal(table, first, check_exact=True)
    assert len(tables) == 2


def test_a_study_whose_workers_are_always_killed_ends(todo, monkeypatch, tmp_path):
    def dies(*_):
        raise study.BrokenProcessPool

    monkeypatch.setattr(study, "train_and_test", dies)
    with pytest.raises(RuntimeError, match=r"workers were killed 5 times \(out of memory\?\); what is done is kept"):
        play(todo, tmp_path, jobs=1)


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_missing_extra_says_what_to_install(backend, todo, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(ValueError, match=rf"{backend} is not installed .*: pip install 'meirl\[{backend}\]'"):
        play(todo, tmp_path, backend=backend)


def test_bad_requests_are_refused(todo, tmp_path):
    with pytest.raises(ValueError, match="unknown backend 'slurm': expected one of loky, dask, ray"):
        play(todo, tmp_path, backend="slurm")
    with pytest.raises(ValueError, match="loky works on this machine only"):
        play(todo, tmp_path, address="tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="profile must be quick or full, got 'fast'"):
        study.profile_changes("fast")


def test_learning_curves_carry_their_runs_key_and_a_missing_run_is_named(todo, undisturbed, finished, tmp_path):
    table = study.histories(todo, finished)
    assert table.groupby(["algo", "seed"]).size().to_dict() == {("ppo", 0): ROUNDS, ("ppo", 1): ROUNDS, ("a3c", 0): 2}
    last = table.query("algo == 'ppo' and seed == 1")
    assert (last["env"] == todo[1].env).all()
    assert last["steps"].iloc[-1] == PPO["steps"]
    missing = re.escape(str(todo[0].folder(tmp_path)))
    with pytest.raises(ValueError, match=rf"{missing} holds no run: make it first, with study\.run or python -m meirl"):
        study.histories(todo, tmp_path)


def test_progress_counts_the_runs_that_have_begun(todo, undisturbed, finished, capsys):
    play(todo, finished, jobs=1)
    assert capsys.readouterr().err == ""
    play(todo, finished, jobs=1, progress=True)
    assert re.search(r"runs begun: 100%.*3/3", capsys.readouterr().err)


def test_the_command_line_writes_one_table(monkeypatch, tmp_path):
    monkeypatch.setattr(study, "QUICK", PPO | {"steps": 1, "evaluations": 1})
    options = ["--env", "meis-stationary", "--algo", "ppo", "--seeds", "2", "--jobs", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, ["study", "--profile", "quick", *options])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "quick" / "results.csv.gz")
    assert table.groupby("seed")["episode"].nunique().to_dict() == {0: 1000, 1: 1000}
    means = table.groupby("seed")["cost"].mean()
    assert f"{means.mean():,.3f}" in done.output
    assert f"{means.std():,.3f}" in done.output


TINY = {**SHORT, "steps": 1, "evaluations": 1, "network": {"hidden": [8]}}


def tiny(todo, **changes):
    return todo[0]._replace(changes={**TINY, **changes})


def test_a_run_is_played_on_the_test_scenarios(todo, tmp_path):
    task = tiny(todo)
    table = play([task], tmp_path, jobs=1)
    policy, env = load_policy(task.folder(tmp_path))
    expected = meirl.rollout(env, policy, meirl.held_out(env, "test", 4))
    pd.testing.assert_frame_equal(table[list(expected)], expected, check_exact=False, rtol=1e-6)
    other = meirl.rollout(env, policy, meirl.held_out(env, "validation", 4))
    assert (table["cost"] - other["cost"]).abs().min() > 1e-3


def test_a_shortened_run_of_other_settings_is_kept_under_another_name_and_said_so(todo, tmp_path, capsys):
    folder = tiny(todo).folder(tmp_path)
    play([tiny(todo)], tmp_path, jobs=1)
    (folder / "notes.txt").write_text("mine")
    before = (folder / "policy.pt").read_bytes()
    for number in (1, 2):
        play([tiny(todo, discount=0.9 - number / 100)], tmp_path, jobs=1)
        aside = folder.with_name(f"{folder.name}-before-{number}")
        assert f"{folder} was made with other settings: kept as {aside.name}, and made again" in capsys.readouterr().err
    aside = folder.with_name(f"{folder.name}-before-1")
    assert (aside / "notes.txt").read_text() == "mine"
    assert (aside / "policy.pt").read_bytes() == before
    assert not (folder / "notes.txt").exists()
    play([tiny(todo, discount=0.88)], tmp_path, jobs=1)
    assert capsys.readouterr().err == "", "the same settings: only read"


def test_another_observation_is_another_folder(todo, tmp_path):
    play([tiny(todo)], tmp_path, jobs=1)
    full = (tiny(todo).folder(tmp_path) / "policy.pt").read_bytes()
    other = tiny(todo)._replace(observation="published")
    play([other], tmp_path, jobs=1)
    assert other.folder(tmp_path) != tiny(todo).folder(tmp_path)
    assert (tiny(todo).folder(tmp_path) / "policy.pt").read_bytes() == full


def test_a_whole_run_or_one_of_another_chain_is_never_touched(todo, tmp_path):
    task, folder = tiny(todo), tiny(todo).folder(tmp_path)
    play([task], tmp_path, jobs=1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="its config differs"):
        play([task._replace(changes={})], tmp_path, jobs=1)
    twin = tmp_path / "elsewhere" / Path(task.env).name
    twin.parent.mkdir()
    twin.write_bytes(Path(task.env).read_bytes())
    play([task._replace(env=str(twin))], tmp_path, jobs=1)  # the same chain, moved
    values = yaml.safe_load(Path(task.env).read_text())
    twin.write_text(yaml.safe_dump(values | {"horizon": values["horizon"] + 1}))
    with pytest.raises(ValueError, match="its env differs"):
        play([task._replace(env=str(twin))], tmp_path, jobs=1)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("damage", [b"", b"not a table", b"a,b\n1,2\n1,2\n1,2\n1,2\n", b"\x00\xff"])
def test_a_damaged_table_is_made_again(damage, todo, tmp_path):
    table = play([tiny(todo)], tmp_path, jobs=1)
    path = tiny(todo).folder(tmp_path) / "test.csv"
    path.write_bytes(damage)
    pd.testing.assert_frame_equal(play([tiny(todo)], tmp_path, jobs=1), table, check_exact=True)


def test_a_policy_that_is_younger_than_its_results_is_played_again(todo, tmp_path):
    task = tiny(todo)
    table, folder = play([task], tmp_path, jobs=1), task.folder(tmp_path)
    kept = pd.read_csv(folder / "test.csv")
    kept.assign(cost=-1.0).to_csv(folder / "test.csv", index=False)
    assert (play([task], tmp_path, jobs=1)["cost"] == -1).all(), "results that are younger are only read"
    younger = (folder / "test.csv").stat().st_mtime + 10
    os.utime(folder / "policy.pt", (younger, younger))
    pd.testing.assert_frame_equal(play([task], tmp_path, jobs=1), table, check_exact=True)


ENDLESS = {**SHORT, "steps": 10**9, "evaluations": 10**9}
PARENT = f"""
import sys
from pathlib import Path
from meirl_study import study
todo = study.tasks([0], [sys.argv[1]], ["ppo", "a3c"], changes={ENDLESS})
study.run(todo, Path(sys.argv[2]), jobs=2, progress=False)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_no_worker_outlives_a_killed_study(todo, tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, todo[0].env, str(tmp_path)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )

    def at_work():
        found = psutil.Process(parent.pid).children(recursive=True)
        return [p for p in found if any(word in " ".join(p.cmdline()) for word in ("popen_loky", "spawn_main"))]

    endless = study.tasks([0], [todo[0].env], ["ppo", "a3c"], changes=ENDLESS)
    try:
        wait_until(lambda: all(begun(task, tmp_path) for task in endless))
        workers = at_work()
        assert len([p for p in workers if "popen_loky" in " ".join(p.cmdline())]) == 2
        assert len(workers) >= 4, "A3C has two of its own"
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    for process in alive:
        process.kill()
    assert not alive


def test_the_help_names_the_seeds_of_each_profile():
    words = re.sub(r"[^\w]+", " ", CliRunner().invoke(app, ["study", "--help"]).output)
    assert f"quick {study.SEEDS['quick']} full {study.SEEDS['full']}" in words


def test_every_run_under_a_folder_is_one_row(todo, undisturbed, finished, tmp_path):
    runs = study.every_run(finished).set_index("run")
    assert len(runs) == len(todo)
    for task in todo:
        row = runs.loc[task.folder(finished).relative_to(finished).as_posix()]
        mine = undisturbed[(undisturbed["algo"] == task.algo) & (undisturbed["seed"] == task.seed)]
        assert row["cost"] == pytest.approx(mine["cost"].mean())
        assert (row["env"], row["algo"], row["seed"], row["test_episodes"]) == ("short", task.algo, task.seed, 4)
        assert row["simulated_steps"] > row["steps"]
    aside = shutil.copytree(todo[0].folder(finished), tmp_path / "twice" / "seed-0-before-1")
    assert study.every_run(tmp_path).empty, "a run that was set aside has a successor, and is none of the study"
    assert len(study.every_run(aside.rename(aside.with_name("seed-0")).parent)) == 1
    shutil.rmtree(tmp_path / "twice")
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "seed-0" / "manifest.json").write_text("{}", encoding="utf-8")  # trained, not tested
    assert study.every_run(tmp_path).empty


def test_a_record_whose_later_part_has_changed_is_played_again(tmp_path):
    """Nothing else tells: what is trained on is its earlier part."""
    chain = own.example(tmp_path, horizon=40)
    task = study.tasks([0], [str(chain)], ["ppo"], changes=TINY)[0]
    before = play([task], tmp_path, jobs=1)
    record = tmp_path / "demand.csv"
    units = pd.read_csv(record, index_col="date")
    units.iloc[int(0.6 * len(units)) :] *= 3
    units.to_csv(record)
    younger = (task.folder(tmp_path) / "test.csv").stat().st_mtime + 10
    os.utime(record, (younger, younger))
    policy, env = load_policy(task.folder(tmp_path))
    after = play([task], tmp_path, jobs=1)["cost"]
    assert after.to_numpy() == pytest.approx(meirl.rollout(env, policy, meirl.held_out(env, "test", 4))["cost"])
    assert (after - before["cost"]).abs().min() > 1
