"""Chapter 9: how far policies are from what no policy can beat, and from each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from joblib import Memory

from meirl import heuristics
from meirl.envs import make
from meirl.evaluation import held_out
from meirl.learn import preset
from meirl.rollout import rollout

from .bounds import hindsight_bound
from .cells import Cells
from .chapter import Chapter, verdict
from .lagrangian import lagrangian_bound
from .statistics import bootstrap

Array = np.ndarray
PRICED = "divergent-stationary"
"""The environment that prices bound too: its lead times are certain and no demand is lost."""
BOUND = "lower bound"
"""What tables and figures call it, beside the policies."""
ROUNDING = 1e-6  # share of a bound by which a cost may be below it: sums in single precision
WORDS = {"beats": "costs less than", "loses to": "costs more than", "cannot be told apart from": "costs as much as"}
"""What the text says for the verdicts of `meirl_study.chapter.verdict`."""


def programs(chapter: Chapter, episodes: int) -> dict[str, Array]:
    """Bound the first test episodes of every environment by relaxed programs; solved once, then read.

    Returns:
        By environment, one bound an episode, ``(episodes,)``; see `meirl_study.bounds.hindsight_bound`.
    """
    solve = _kept(chapter).cache(_relaxed, ignore=["jobs"])
    return {name: solve(name, episodes, jobs=chapter.jobs) for name in chapter.envs}


def prices(chapter: Chapter, episodes: int, iterations: int) -> Array:
    """Bound the first test episodes of `PRICED` by prices; solved once, then read.

    Returns:
        One bound an episode, ``(episodes,)``; see `meirl_study.lagrangian.lagrangian_bound`.
    """
    return _kept(chapter).cache(_priced, ignore=["jobs"])(PRICED, episodes, iterations, jobs=chapter.jobs)


def _kept(chapter: Chapter) -> Memory:
    return Memory(chapter.root / "bounds", verbose=0)


def _relaxed(name: str, episodes: int, jobs: int) -> Array:
    env = make(name)
    return hindsight_bound(env, held_out(env, "test", episodes), jobs)


def _priced(name: str, episodes: int, iterations: int, jobs: int) -> Array:
    env = make(name)
    return lagrangian_bound(env, held_out(env, "test", episodes), iterations, jobs)


def table(bounds: Mapping[str, Mapping[str, Array]]) -> pd.DataFrame:
    """Mean bounds, one row an environment and method, with intervals over episodes.

    Args:
        bounds: by environment and method, one bound an episode.

    Returns:
        ``episodes``, ``value``, ``low``, ``high``.
    """
    rows = {}
    for name, methods in bounds.items():
        for method, bound in methods.items():
            low, high = bootstrap(np.mean, bound[None])
            rows[name, method] = {"episodes": len(bound), "value": bound.mean(), "low": low, "high": high}
    return pd.DataFrame(rows).T


def curve(chapter: Chapter, name: str, history: pd.DataFrame) -> tuple[pd.DataFrame, str, dict[str, float]]:
    """Arguments of `meirl_study.figures.learning_curves` for the pathwise learner on one environment."""
    env = chapter.envs[name]
    validation = held_out(env, "validation", preset("pathwise", "tuned", name).validation_episodes)
    best = rollout(env, heuristics.load(env), validation)["cost"].mean()
    return history[history["env"] == name], chapter.units[name], {"best heuristic": float(best)}


def respected(cells: Cells, bounds: Mapping[str, Array]) -> bool:
    """Whether no policy is below a bound in any episode.

    Args:
        cells: matrices of costs.
        bounds: by environment, of its first episodes.
    """
    return all(
        (cost.mean(0)[: len(bounds[name])] >= bounds[name] * (1 - ROUNDING)).all() for (name, _), cost in cells.items()
    )


def room(cells: Cells, bounds: Mapping[str, Array]) -> pd.DataFrame:
    """The most that could be saved: cost above the bound as a share of the cost, on the same episodes, in percent.

    Args:
        cells: matrices of costs.
        bounds: by environment, of its first episodes.

    Returns:
        Index: environment and policy. ``value``, ``low``, ``high``.
    """
    rows = {}
    for (name, policy), cost in cells.items():
        bound = bounds[name][None]
        same = cost[:, : bound.shape[1]]
        low, high = bootstrap(_room, same, bound)
        rows[name, policy] = {"value": _room(same, bound), "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index")


def _room(cost: Array, bound: Array) -> float:
    return 100 * (1 - bound.mean() / cost.mean())


def cheapest(cells: Cells, name: str) -> str:
    """The policy with the lowest mean cost on an environment."""
    means = {policy: cost.mean() for (env, policy), cost in cells.items() if env == name}
    return min(means, key=lambda policy: means[policy])


def compared(row: pd.Series, opponent: str, form: str | None = None) -> str:
    """A row of `meirl_study.cells.against` in words: ``costs less than PPO (-3.0 %; difference -87,837 to -82,604)``.

    Args:
        row: of the table.
        opponent: what to call it.
        form: format of the difference's interval; None leaves it out.
    """
    ends = f"; difference {row['low']:+{form}} to {row['high']:+{form}}" if form else ""
    return f"{WORDS[verdict(row['low'], row['high'])]} {opponent} ({row['percent']:+.1f} %{ends})"


def gained(history: pd.DataFrame) -> pd.Series:
    """How much the gradient lowered the validation cost after imitation, the first score of a run, by seed, in percent.

    Args:
        history: of `meirl_study.study.histories`, one environment.
    """
    scores = history.pivot_table(index="seed", columns="steps", values="validation_cost")
    return 100 * (1 - scores.min(axis=1) / scores.iloc[:, 0])
