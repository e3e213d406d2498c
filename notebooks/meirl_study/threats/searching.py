"""Searches for a rule's levels, each made once and kept on disk, and their race against learners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Memory, Parallel, delayed

from meirl.envs import Env, Scenario, make
from meirl.evaluation import estimate
from meirl.heuristics import RULES, read_levels, tuning
from meirl.heuristics.tuning import Search
from meirl.rollout import Policy


class SearchTask(NamedTuple):
    """A search to make: everything that decides its result."""

    env: str
    rule: str
    changes: dict[str, Any]  # of the environment's parameters
    options: dict[str, Any]  # of `tuning.tune`


def search(todo: Sequence[SearchTask], root: Path, jobs: int = -1) -> list[Search]:
    """Make searches side by side, or read those that were made before.

    Args:
        todo: the searches.
        root: where `joblib.Memory` keeps them.
        jobs: searches at once; -1: one a core.

    Returns:
        Their results, in order.
    """
    kept = Memory(root, verbose=0).cache(tune_once)
    return list(Parallel(n_jobs=jobs)(delayed(kept)(*task) for task in todo))


def tune_once(env: str, rule: str, changes: dict[str, Any], options: dict[str, Any]) -> Search:
    """Make one search, on the CPU; the arguments are the fields of `SearchTask`."""
    return tuning.tune(make(env, **changes), RULES[rule], progress=False, **options)


def policy(env: Env, found: Search) -> Policy:
    """The rule with the levels that a search found, for an environment."""
    return RULES[found.tuned.rule].policy(env, list(found.tuned.levels.values()))


def race(
    env: Env, tasks: Sequence[SearchTask], histories: pd.DataFrame, scenario: Scenario, root: Path
) -> dict[str, list[pd.DataFrame]]:
    """Put searches and learners on one axis: cost on the same scenarios against the steps simulated to get there.

    Args:
        env: the environment.
        tasks: searches for one rule of it; those with the same ``seed`` are one method's growing budgets.
        histories: of the learners' runs, as `meirl_study.study.histories` gives them.
        scenario: the validation scenarios that the learners met.
        root: where searches are kept.

    Returns:
        By method, one table a seed with ``steps`` and ``cost`` (units of ``cost_unit``): the search, each algorithm in
        capitals, and the rule's committed levels (one row).
    """
    rule = tasks[0].rule
    levels = [found.tuned for found in search(tasks, root)] + [read_levels(env, rule)]
    values = np.array([list(found.levels.values()) for found in levels])
    steps = [found.provenance["simulated_steps"] for found in levels]
    points = pd.DataFrame({"steps": steps, "cost": tuning.mean_costs(env, RULES[rule], values, scenario)})
    searched = points[:-1].groupby([task.options["seed"] for task in tasks], sort=False)
    runs = histories.rename(columns={"validation_cost": "cost"}).groupby("algo", sort=False)
    return {
        "search for the best rule": [table for _, table in searched],
        **{str(a).upper(): [t[["steps", "cost"]] for _, t in own.groupby("seed")] for a, own in runs},
        "committed levels": [points[-1:]],
    }


def finish(methods: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """Tabulate where each method of a `race` ends.

    Args:
        methods: what `race` returns.

    Returns:
        One row a method: ``simulated steps`` of a seed; ``value``, the best cost, as a mean over seeds, with its
        interval ``low`` and ``high`` (NaN if there is one seed).
    """
    rows = {}
    for method, tables in methods.items():
        best = np.array([table["cost"].min() for table in tables])
        rows[method] = {"simulated steps": tables[0]["steps"].max(), **estimate(best)}
    return pd.DataFrame.from_dict(rows, orient="index")
