"""The study: algorithm x environment x seed, on all cores or many machines, resumable; one row a test episode.

Every task keeps what it does in a folder of its own. So whoever is killed, worker, scheduler or machine, loses at most
the time since the last checkpoint: the next attempt resumes what was begun and reads what is done. With several
machines all of them must see that folder under the same path (a shared file system) and have `meirl` installed.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky import BrokenProcessPool
from tqdm import tqdm

from meirl import files
from meirl.envs import NAMES, Env, ObservationSet, make
from meirl.evaluation import TEST_EPISODES, held_out
from meirl.learn import ALGORITHMS, OtherRunError, find_learner, load_policy, preset, run_folder
from meirl.rollout import rollout

from .processes import attended

Profile = Literal["quick", "full"]
QUICK = {"steps": 24_000, "environments": 32, "copies": 4, "evaluations": 3, "validation_episodes": 32}
SEEDS = {"quick": 2, "full": 10}
"""Training seeds of each cell at the published budget, by profile."""
LONG_SEEDS = {"quick": 2, "full": 5}
"""Training seeds of each cell at ten times that budget."""
FEW_SEEDS = {"quick": 2, "full": 10}
"""Training seeds of experiments beside the study: the published agents trained again, faults, starts from a rule."""
BUDGETS = {"tuned": "1×", "long": "10×"}
"""Presets that are trained for the published number of simulated steps, and for ten times as many."""
WHAT_MADE_IT = (
    "env", "algo", "seed", "observation", "steps", "simulated_steps", "seconds", "best_validation_cost",
)  # fmt: skip
ASIDE = "-before-"  # in the names of runs that were set aside
ATTEMPTS = 5  # at a study whose workers get killed; more often, and something kills them on purpose


class Task(NamedTuple):
    """One training run of the study."""

    env: str
    algo: str
    preset: str = "tuned"
    observation: ObservationSet = "full"
    seed: int = 0
    changes: dict[str, Any] = {}  # noqa: RUF012  # of the preset; never modified

    def folder(self, root: Path) -> Path:
        """Where the run is kept."""
        return run_folder(root, self.env, self.algo, self.preset, self.seed, self.observation)

    def config(self) -> Any:
        """Its hyperparameters."""
        return preset(self.algo, self.preset, self.env, **self.changes)


def profile_changes(profile: str, algo: str = "ppo") -> dict[str, Any]:
    """What a profile changes in a learner's presets: ``quick`` shortens training, ``full`` changes nothing."""
    if profile not in ("quick", "full"):
        raise ValueError(f"profile must be quick or full, got {profile!r}")
    alone = {"workers": 1} if algo == "a3c" else {}  # a process takes longer to start than a quick run takes
    return QUICK | alone if profile == "quick" else {}


def tasks(
    seeds: Iterable[int], envs: Sequence[str] = NAMES, algos: Iterable[str] = tuple(ALGORITHMS),
    profile: str = "full", **fields: Any,
) -> list[Task]:  # fmt: skip
    """Every combination of seed, environment and algorithm.

    Args:
        seeds: of training; weights, scenarios and actions follow from it.
        envs: names, or YAML files.
        algos: names of learners.
        profile: gives the ``changes`` of every `Task`, see `profile_changes`, if ``fields`` have none.
        **fields: ``preset``, ``observation`` and ``changes`` of every `Task`.

    >>> [(task.algo, task.seed) for task in tasks(range(2), envs=["meis-stationary"])]
    [('ppo', 0), ('ppo', 1), ('a3c', 0), ('a3c', 1)]
    """
    return [
        Task(env, algo, seed=seed, **{"changes": profile_changes(profile, algo), **fields})
        for env in envs for algo in algos for seed in seeds
    ]  # fmt: skip


def run(
    todo: Sequence[Task],
    root: Path,
    *,
    jobs: int = -1,
    episodes: int = TEST_EPISODES,
    progress: bool = True,
    backend: str = "loky",
    address: str | None = None,
) -> pd.DataFrame:
    """Train what is not trained yet, play the test scenarios, and gather everything in one table.

    Runs that were stopped are resumed; finished ones are only read. No run is deleted: one of other settings is renamed
    if it was shortened, which is said, and refused if not. Each task uses one process, or, with A3C, one and its
    workers. If a worker is killed, what it was doing is resumed by another.

    Args:
        todo: the tasks.
        root: folder of the runs; all machines must see it under the same path.
        jobs: tasks at once; -1: one a core (of the cluster, if there is an ``address``).
        episodes: test episodes of each run.
        progress: show how many runs have begun.
        backend: ``loky`` (this machine), ``dask`` or ``ray``; the last two need the extra of that name.
        address: of a Dask scheduler or a Ray cluster; None starts one on this machine. A3C has processes of its own:
            start Dask's workers with ``DASK_DISTRIBUTED__WORKER__DAEMON=False``, as we do, so that they may.

    Returns:
        One row a test episode: ``env``, ``algo``, ``preset``, ``seed``, ``episode`` and the columns of `rollout`.

    Raises:
        ValueError: if the backend is unknown or not installed.
        RuntimeError: if workers are killed again and again.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}: expected one of {', '.join(BACKENDS)}")
    one = attended(train_and_test) if backend == "loky" else train_and_test  # Dask and Ray end their own workers
    work = [delayed(one)(task, root.resolve(), episodes) for task in todo]
    with BACKENDS[backend](address, min(jobs, len(todo))) as lost_worker:
        for _ in range(ATTEMPTS):
            # Tasks are long: each goes out alone, when a worker is free. So the bar counts those that have begun;
            # joblib tells of finished ones (`return_as="generator"`) with some backends only, and Ray's is not one.
            begun = tqdm(work, desc="runs begun", unit="run", disable=not progress)
            with suppress(lost_worker):  # all that was done is on disk
                return pd.concat(Parallel(batch_size=1, pre_dispatch="n_jobs")(begun), ignore_index=True)
    raise RuntimeError(f"the study's workers were killed {ATTEMPTS} times (out of memory?); what is done is kept")


# Each backend is used for as long as its context lasts, and gives the exception that a killed worker raises.


@contextmanager
def _loky(address: str | None, jobs: int) -> Iterator[type[Exception]]:
    if address:
        raise ValueError("address: loky works on this machine only; choose the backend dask or ray")
    with parallel_config("loky", n_jobs=jobs):
        yield BrokenProcessPool


@contextmanager
def _dask(address: str | None, jobs: int) -> Iterator[type[Exception]]:
    dask, distributed = _import("dask", "dask"), _import("dask", "distributed")
    here = {"n_workers": cpu_count() if jobs < 0 else jobs, "threads_per_worker": 1, "dashboard_address": None}
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.Client(address, **({} if address else here)) as client,
        parallel_config("dask", client=client, n_jobs=jobs),
    ):
        yield distributed.KilledWorker


@contextmanager
def _ray(address: str | None, jobs: int) -> Iterator[type[Exception]]:
    ray = _import("ray", "ray")
    here = {"num_cpus": cpu_count() if jobs < 0 else jobs, "include_dashboard": False}
    ray.init(address or "local", log_to_driver=False, **({} if address else here))
    try:
        _import("ray", "ray.util.joblib").register_ray()
        with parallel_config("ray", n_jobs=jobs):
            yield ray.exceptions.RayActorError
    finally:
        ray.shutdown()


def _import(extra: str, module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(
            f"the backend {extra} is not installed ({error}): pip install 'meirl[{extra}]', or choose loky"
        ) from None


BACKENDS = {"loky": _loky, "dask": _dask, "ray": _ray}


def train_and_test(task: Task, root: Path, episodes: int) -> pd.DataFrame:
    """Train (or resume, or do nothing), then test; if somebody else is at it, wait and read."""
    folder, env = task.folder(root), make(task.env, observation=task.observation)
    train = partial(find_learner(task.algo).train, env, task.config(), task.seed, folder, resume=True, progress=False)
    with files.only_writer(folder, wait=True):
        anew_if_older(task, folder, train)
        table = _tested(folder, episodes, env)
    key = {"env": task.env, "algo": task.algo, "preset": task.preset, "seed": task.seed}
    return pd.concat([pd.DataFrame(key, index=table.index), table.rename_axis("episode").reset_index()], axis=1)


def finished(task: Task, root: Path) -> bool:
    """Whether a run is trained and tested; a stopped one is not."""
    return all((task.folder(root) / name).exists() for name in ("manifest.json", "test.csv"))


def anew_if_older(task: Task, folder: Path, begin: Callable[[], Any]) -> Any:
    """Begin or resume a run, which is the result; a shortened one that is there with older settings is set aside."""
    try:
        return begin()
    except OtherRunError as error:
        if not task.changes or error.key not in ("config", "parameters", "inputs"):
            raise
        set_aside(folder)  # cheap to repeat
        return begin()


def set_aside(folder: Path) -> Path:
    """Give a run another name, which it returns, so that nothing is lost and another can take its place; says so."""
    names = (folder.with_name(f"{folder.name}{ASIDE}{n}") for n in itertools.count(1))
    aside = folder.rename(next(name for name in names if not name.exists()))
    print(f"{folder} was made with other settings: kept as {aside.name}, and made again", file=sys.stderr)
    return aside


def _tested(folder: Path, episodes: int, env: Env) -> pd.DataFrame:
    """Result of the run's best policy on the test scenarios, kept beside it."""
    path, made_of = folder / "test.csv", [folder / "policy.pt"]
    if env.record is not None:  # test scenarios are drawn from its later part, of which no parameter tells
        made_of.append(Path(env.record.record.file))
    if path.exists() and path.stat().st_mtime >= max(file.stat().st_mtime for file in made_of):
        with suppress(ValueError):  # what cannot be read is played again
            table = pd.read_csv(path)
            if len(table) == episodes and "cost" in table:
                return table
    policy, env = load_policy(folder)
    table = rollout(env, policy, held_out(env, "test", episodes))
    files.write(path, table.to_csv(index=False))
    return table


def histories(todo: Sequence[Task], root: Path) -> pd.DataFrame:
    """Learning curves of runs that `run` has trained.

    Args:
        todo: the tasks.
        root: folder of the runs, as `run` was given it.

    Returns:
        One row a validation: ``env``, ``algo``, ``preset``, ``seed``; ``steps``, ``seconds``, ``training_cost``,
        ``validation_cost`` (in units of ``cost_unit``) and the learner's diagnostics.

    Raises:
        ValueError: if a run is missing; names its folder, and what to run.
    """
    tables = []
    for task in todo:
        path = task.folder(root) / "history.csv"
        if not path.exists():
            raise ValueError(f"{path.parent} holds no run: make it first, with study.run or python -m meirl study")
        tables.append(pd.read_csv(path).assign(env=task.env, algo=task.algo, preset=task.preset, seed=task.seed))
    return pd.concat(tables, ignore_index=True)


def manifests(root: Path) -> list[Path]:
    """Manifests of the finished runs in a folder and below, in order, without those of runs that were set aside."""
    return sorted(path for path in root.rglob("manifest.json") if ASIDE not in path.parent.name)


def every_run(root: Path) -> pd.DataFrame:
    """Gather all trained and tested runs in a folder, whoever made them; not those that were set aside.

    Args:
        root: folder of the runs; subfolders are searched too.

    Returns:
        One row a run, sorted by its ``run`` (its folder in ``root``, between slashes): ``env``, ``algo``, ``seed``,
        ``observation``; ``steps``, ``simulated_steps`` (validation included), ``seconds``, ``best_validation_cost``;
        ``test_episodes``, and on them the mean ``cost`` and ``fill_rate``; ``commit``, ``torch``, ``machine``,
        ``finished``.
    """
    rows = []
    for path in manifests(root):
        if (path.parent / "test.csv").exists():
            made = json.loads(path.read_text(encoding="utf-8"))
            test = pd.read_csv(path.parent / "test.csv")
            known = {key: made[key] for key in WHAT_MADE_IT} | {"env": Path(made["env"]).stem}
            means = {"test_episodes": len(test), "cost": test["cost"].mean(), "fill_rate": test["fill_rate"].mean()}
            last = {key: made[key] for key in ("commit", "torch", "machine", "finished")}
            rows.append({"run": path.parent.relative_to(root).as_posix(), **known, **means, **last})
    return pd.DataFrame(rows)
