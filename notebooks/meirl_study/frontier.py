"""Cost against service: the designed rule, tuned as if shortage cost more or less, beside every run of the agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock
from joblib import Parallel, delayed

from meirl.envs import make
from meirl.evaluation import held_out
from meirl.heuristics import RULES, best_rule, read_levels, tuning
from meirl.rollout import rollout

from .cells import LEARNERS
from .chapter import Chapter

ENVS = ("divergent-nonstationary", "meis-nonstationary")
"""Where a good policy can serve nearly everybody, or not, at a price."""
FACTORS = (0.5, 1.0, 2.0, 4.0)
"""Shortage costs that the rule is tuned for, in multiples of the true one; 1 is the committed rule."""
OPTIONS: dict[str, Any] = {"episodes": 64, "generations": 40, "candidates": 3}
"""Of every search, for `meirl.heuristics.tuning.tune`."""
QUICK: dict[str, Any] = {"episodes": 8, "generations": 2, "candidates": 2, "finalists": 2, "widen": False}
SHORTAGE = ("backorder_cost", "lost_sale_cost", "shortage_cost", "withdrawal_cost")
"""Parameters that are costs of shortage, in either chain."""


def all_points(chapter: Chapter, results: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """Cost and fill rate of rules and agents on the test scenarios.

    Args:
        chapter: its profile, environments and folder of runs.
        results: of `meirl_study.cells.played`, the agents among them.

    Returns:
        By environment and policy: ``fill_rate`` (share) and ``cost``, a row for each of `FACTORS` or each seed.
    """
    todo = [(name, factor) for name in ENVS for factor in FACTORS]
    options = QUICK if chapter.quick else OPTIONS
    played = Parallel(n_jobs=chapter.jobs)(
        delayed(retuned)(name, factor, options, chapter.root / "frontier", chapter.episodes) for name, factor in todo
    )
    panels: dict[str, dict[str, pd.DataFrame]] = {}
    for name in ENVS:
        own = [row for (env, _), row in zip(todo, played, strict=True) if env == name]
        here = results[results["env"] == name]
        runs = here.groupby(["policy", "seed"])[["fill_rate", "cost"]].mean()
        panels[name] = {"designed rule": pd.DataFrame(own, FACTORS)}
        panels[name] |= {agent: pd.DataFrame(runs.loc[agent]) for agent in LEARNERS}
    return panels


def retuned(name: str, factor: float, options: dict[str, Any], root: Path, episodes: int) -> dict[str, float]:
    """Tune an environment's best rule for another cost of shortage, and play it at the true one.

    Args:
        name: of the environment.
        factor: shortage costs so many times as much in the search; 1 plays the committed levels.
        options: of the search.
        root: where levels are kept.
        episodes: test episodes.

    Returns:
        ``fill_rate``, a share, and ``cost``, in units of ``cost_unit``.
    """
    torch.set_num_threads(1)
    env, rule = make(name), best_rule(make(name))
    path = root / name / f"{rule}-{factor:g}.yaml"
    if factor == 1:
        levels = read_levels(env, rule)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                other = make(name, **shortage(env.parameters.model_dump(), factor))
                tuning.write(tuning.tune(other, RULES[rule], progress=False, **options).tuned, path)
        levels = read_levels(env, path)
    table = rollout(env, RULES[rule].policy(env, list(levels.levels.values())), held_out(env, "test", episodes))
    return {"fill_rate": float(table["fill_rate"].mean()), "cost": float(table["cost"].mean())}


def shortage(parameters: dict[str, Any], factor: float) -> dict[str, Any]:
    """The costs of shortage among an environment's parameters, multiplied."""
    return {
        key: tuple(factor * each for each in value) if isinstance(value, tuple) else factor * value
        for key, value in parameters.items()
        if key in SHORTAGE
    }
