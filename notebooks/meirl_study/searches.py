"""The searches for the rules' levels: several seeds of each, kept on disk; the best by validation is committed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from joblib import Parallel, delayed
from tqdm import tqdm

from meirl import files
from meirl.envs import Env, Scenario, make
from meirl.heuristics import RULES, Levels, best_rule, levels_file, read_levels, tuning

from .processes import attended

SEEDS = range(5)
"""Seeds of every search: of its training scenarios and its candidates."""
LONG: dict[str, Any] = {"episodes": 64, "generations": 50, "candidates": 8}
SEARCHES: dict[str, dict[str, dict[str, Any]]] = {
    "divergent-stationary": {
        "base-stock": {}, "echelon-base-stock": {}, "balanced-echelon": {}, "bank-and-switch": LONG,
    },
    "divergent-nonstationary": {
        "base-stock": {}, "echelon-base-stock": {}, "balanced-echelon": {},
        "fair-shares-informed": {"episodes": 128, "generations": 80, "candidates": 4},
    },
    "meis-stationary": {"s-S": LONG, "s-S-cover": LONG, "s-S-cover-informed": LONG},
    "meis-nonstationary": {"s-S": LONG, "s-S-cover-informed": LONG},
}  # fmt: skip
"""What is searched: by environment and rule, options of `meirl.heuristics.tuning.tune`."""

QUICK: dict[str, Any] = {"episodes": 8, "generations": 3, "candidates": 2, "finalists": 2, "widen": False}
"""What the profile ``quick`` changes in every search."""


def raced(env: Env) -> dict[str, str]:
    """Whose searches are drawn beside the learners' training: by opponent, the rule whose levels are committed."""
    return {"textbook rule": best_rule(env, textbook=True), "designed rule": best_rule(env)}


class SearchTask(NamedTuple):
    """One search: environment, rule and seed; the options follow from `SEARCHES`."""

    env: str
    rule: str
    seed: int
    changes: dict[str, Any] = {}  # noqa: RUF012  # of the options; never modified

    def folder(self, root: Path) -> Path:
        """Where the search is kept: ``levels.yaml`` and ``history.csv``."""
        return root / "searches" / self.env / self.rule / f"seed-{self.seed}"


def tasks(seeds: Sequence[int] = SEEDS, **changes: Any) -> list[SearchTask]:
    """Every search of the study, shortest first: a search that is stopped is begun again.

    Args:
        seeds: of each.
        **changes: of the options in `SEARCHES`.
    """
    every = [(env, rule) for env, rules in SEARCHES.items() for rule in rules]
    order = sorted(every, key=lambda pair: SEARCHES[pair[0]][pair[1]].get("generations", 0))
    return [SearchTask(env, rule, seed, changes) for env, rule in order for seed in seeds]


def run(todo: Sequence[SearchTask], root: Path, jobs: int = -1, progress: bool = True) -> None:
    """Make the searches that are not there yet.

    Args:
        todo: the searches.
        root: folder of the runs.
        jobs: searches at once; -1: one a core.
        progress: show how many have begun.
    """
    begun = tqdm([delayed(attended(search))(task, root) for task in todo], desc="searches begun", disable=not progress)
    Parallel(n_jobs=jobs, batch_size=1, pre_dispatch="n_jobs")(begun)


def search(task: SearchTask, root: Path) -> None:
    """Make one search and keep it, unless it is there; if somebody else is at it, wait."""
    folder = task.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if (folder / "levels.yaml").exists():
            return
        torch.set_num_threads(1)
        options = {**SEARCHES[task.env].get(task.rule, {}), **task.changes}
        kept = folder / ".search"  # so that one that is stopped goes on
        found = tuning.tune(make(task.env), RULES[task.rule], seed=task.seed, progress=False, kept=kept, **options)
        files.write(folder / "history.csv", found.history.to_csv(index=False))
        tuning.write(found.tuned, folder / "levels.yaml")  # last: it says that the search is complete
        kept.unlink(missing_ok=True)


def found(task: SearchTask, root: Path) -> Levels:
    """The levels that a search ended with; ValueError if it was not made."""
    path = task.folder(root) / "levels.yaml"
    if not path.exists():
        raise ValueError(f"{path}: no such search: make it first, with meirl_study.searches.run")
    return read_levels(make(task.env), path)


def choose(env: Env, rule: str, todo: Sequence[SearchTask], root: Path) -> Levels:
    """The best of several searches by validation cost, its provenance with the effort of all of them.

    Args:
        env: the environment.
        rule: name of the rule.
        todo: the searches.
        root: folder of the runs.
    """
    each = [found(task, root) for task in todo if (task.env, task.rule) == (env.name, rule)]
    best = min(each, key=lambda levels: levels.provenance["validation_cost"])
    total = {key: sum(levels.provenance[key] for levels in each) for key in ("simulated_steps", "seconds")}
    costs = [levels.provenance["validation_cost"] for levels in each]
    searches = {"searches": len(each), "validation_costs": costs}
    return best.model_copy(update={"provenance": {**best.provenance, **total, **searches}})


def commit(todo: Sequence[SearchTask], root: Path) -> None:
    """Write the chosen levels of every rule that was searched into the package."""
    for name, rule in dict.fromkeys((task.env, task.rule) for task in todo):
        env = make(name)
        tuning.write(choose(env, rule, todo, root), levels_file(env, rule))


def curve(env: Env, task: SearchTask, root: Path, scenario: Scenario, points: int = 12) -> pd.DataFrame:
    """What a search's best candidate costs, against the steps simulated to find it.

    Args:
        env: the environment.
        task: the search.
        root: folder of the runs.
        scenario: what the candidates play.
        points: generations shown, evenly spaced in the logarithm of the steps.

    Returns:
        One row a generation: ``simulated_steps``, ``seconds`` and ``cost`` (in units of ``cost_unit``); the last row is
        the search's result, its validation counted.
    """
    history, levels = pd.read_csv(task.folder(root) / "history.csv"), found(task, root)
    steps = np.log(history["simulated_steps"])
    wanted = np.linspace(steps.iloc[0], steps.iloc[-1], points)
    shown = history.iloc[sorted({int((steps - point).abs().argmin()) for point in wanted})]
    candidates = np.vstack([shown[list(levels.levels)].to_numpy(), list(levels.levels.values())])
    cost = tuning.mean_costs(env, RULES[task.rule], candidates, scenario)
    effort = shown[["simulated_steps", "seconds"]]
    end = pd.DataFrame([{key: levels.provenance[key] for key in ("simulated_steps", "seconds")}])
    return pd.concat([effort, end], ignore_index=True).assign(cost=cost)
