"""The study: algorithm x environment x seed, on all cores, resumable; one row a test episode."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from .envs import NAMES, ObservationSet, make
from .evaluation import TEST_EPISODES, held_out
from .rollout import rollout
from .runs import ALGORITHMS, OtherRunError, learner, load_policy, preset, run_folder, write_atomically

QUICK = {"steps": 60_000, "environments": 16, "copies": 2, "evaluations": 4, "validation_episodes": 32}
TARGETS = {"divergent-stationary": 2_450_000, "divergent-nonstationary": 297_000, "meis-stationary": 201,
           "meis-nonstationary": 650}  # fmt: skip
"""Mean test cost, set before any agent of this study was trained, that the better algorithm has to beat."""


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
        return run_folder(root, self.env, self.algo, self.preset, self.seed)


def changes(profile: str) -> dict[str, Any]:
    """What a profile changes in every preset: ``quick`` shortens training, ``full`` changes nothing."""
    if profile not in ("quick", "full"):
        raise ValueError(f"profile must be quick or full, got {profile!r}")
    return QUICK if profile == "quick" else {}


def tasks(
    seeds: Iterable[int], envs: Sequence[str] = NAMES, algos: Sequence[str] = ALGORITHMS, **same: Any
) -> list[Task]:
    """Every combination of seed, environment and algorithm; ``same`` goes into each `Task`."""
    return [Task(env, algo, seed=seed, **same) for env in envs for algo in algos for seed in seeds]


def run(
    todo: Sequence[Task], root: Path, *, jobs: int = -1, episodes: int = TEST_EPISODES, progress: bool = True
) -> pd.DataFrame:
    """Train what is not trained yet, play the test scenarios, and gather everything in one table.

    Runs that were stopped are resumed; finished ones are only read. Each task uses one process, or, with A3C, one and
    its workers.

    Args:
        todo: the tasks.
        root: folder of the runs.
        jobs: tasks at once; -1: one a core.
        episodes: test episodes of each run.
        progress: show a progress bar.

    Returns:
        One row a test episode: ``env``, ``algo``, ``preset``, ``seed``, ``episode`` and the columns of `rollout`.
    """
    work = (delayed(_one)(task, root, episodes) for task in todo)
    done = Parallel(n_jobs=jobs, return_as="generator")(work)
    return pd.concat(tqdm(done, total=len(todo), desc="study", unit="run", disable=not progress), ignore_index=True)


def _one(task: Task, root: Path, episodes: int) -> pd.DataFrame:
    """Train (or resume, or do nothing), then test."""
    folder = task.folder(root)
    config = preset(task.algo, task.preset, task.env, **task.changes)
    env = make(task.env, observation=task.observation)
    train = partial(learner(task.algo).train, env, config, task.seed, folder, resume=True, progress=False)
    try:
        train()
    except OtherRunError:
        if not task.changes:
            raise
        shutil.rmtree(folder)  # a shortened run of an older preset: cheap to repeat
        train()
    table = _tested(folder, episodes)
    key = {"env": task.env, "algo": task.algo, "preset": task.preset, "seed": task.seed}
    return pd.concat([pd.DataFrame(key, index=table.index), table.rename_axis("episode").reset_index()], axis=1)


def _tested(folder: Path, episodes: int) -> pd.DataFrame:
    """Result of the run's best policy on the test scenarios, kept beside it."""
    path = folder / "test.csv"
    if path.exists() and path.stat().st_mtime >= (folder / "policy.pt").stat().st_mtime:
        table = pd.read_csv(path)
        if len(table) == episodes:
            return table
    policy, env = load_policy(folder)
    table = rollout(env, policy, held_out(env, "test", episodes))
    write_atomically(path, table.to_csv(index=False))
    return table


def histories(todo: Sequence[Task], root: Path) -> pd.DataFrame:
    """Learning curves of finished runs: one row a validation, with the run's key."""
    tables = []
    for task in todo:
        table = pd.read_csv(task.folder(root) / "history.csv")
        tables.append(table.assign(env=task.env, algo=task.algo, preset=task.preset, seed=task.seed))
    return pd.concat(tables, ignore_index=True)
