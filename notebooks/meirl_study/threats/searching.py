"""Searches for a rule's levels on a chain with other parameters or in another box, each made once and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from joblib import Memory, Parallel, delayed

from meirl.envs import make
from meirl.heuristics import RULES, tuning
from meirl.heuristics.tuning import Search


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
