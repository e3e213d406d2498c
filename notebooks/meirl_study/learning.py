"""What chapters 4 to 6 do with training runs: read their clock, compare them with rules, look at their orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from meirl import heuristics
from meirl.envs import Env, Scenario
from meirl.evaluation import held_out
from meirl.learn import Run, find_learner
from meirl.rollout import Policy, play, rollout

from . import exhibits
from .chapter import Chapter
from .rules import published_agent

HEADINGS = {
    "value": "mean cost", "fill_rate": "fill rate", "difference": "difference", "difference_low": "low",
    "difference_high": "high",
}  # fmt: skip
"""Columns of `meirl.compare` that a chapter shows, with their headings."""


def train_alone(chapter: Chapter, algo: str, env: Env, config: Any, name: str) -> Run:
    """Train an agent whose clock the chapter reads.

    Args:
        chapter: gives profile, seed and root.
        algo: name of the learner.
        env: the environment.
        config: the learner's configuration.
        name: of the run's folder. At the full profile the run is kept there, so that its time is that of the one run
            that was made while nothing else ran; a quick run is made anew.

    Returns:
        The finished run.
    """
    folder = None if chapter.quick else chapter.root / "alone" / f"{name}-seed-{chapter.seed}"
    return find_learner(algo).train(env, config, chapter.seed, folder, resume=True, progress=False)


def clocked(run: Run) -> pd.DataFrame:
    """History of a run whose clock starts at the first report: before it, processes start.

    Returns:
        One row a validation, ``seconds`` from the first on.
    """
    history = pd.DataFrame(run.history)
    history["seconds"] -= history["seconds"].iloc[0]
    return history


def rate(history: pd.DataFrame) -> float:
    """Environment steps a second from the first report of a `clocked` history to the last."""
    steps, seconds = (history[column].iloc[-1] - history[column].iloc[0] for column in ("steps", "seconds"))
    return float(steps / seconds)


def rates_by_learner(speeds: pd.DataFrame) -> pd.DataFrame:
    """Arrange a table of `meirl_study.speed.training_speed` for reading.

    Returns:
        Environment steps a second: one row an environment, one column a learner and number of processes.
    """
    processes = speeds["workers"].map({1: "1 process"}).fillna(speeds["workers"].astype(str) + " processes")
    learner = (speeds["algo"].str.upper() + ", " + processes).rename("learner")
    return speeds.pivot_table(index="environment", columns=learner, values="steps_per_second")


def weights_apart(first: Run, second: Run) -> float:
    """The largest difference of any weight between the networks of two runs."""
    one, two = (torch.nn.utils.parameters_to_vector(run.network.parameters()) for run in (first, second))
    return float((one - two).detach().abs().max())


def references(env: Env, episodes: int) -> dict[str, float]:
    """Costs to compare a learning curve with.

    Args:
        env: the environment.
        episodes: validation episodes of the curve.

    Returns:
        By name: the best heuristic on the same validation scenarios, and the published agent as reported.
    """
    validation = held_out(env, "validation", episodes)
    cost = rollout(env, heuristics.load(env), validation)["cost"].mean()
    return {f"best heuristic ({heuristics.best_rule(env)})": float(cost), **published_agent(env)}


def comparison(compared: pd.DataFrame, form: str = ",.0f") -> pd.DataFrame:
    """A table of `meirl.compare` for reading; ``low`` and ``high`` are the ends of the difference's interval.

    Args:
        compared: the table.
        form: format of costs.

    Returns:
        Text under the headings of `HEADINGS`.
    """
    formats = dict.fromkeys(HEADINGS.values(), form) | {"fill rate": ".1%"}
    return exhibits.table(compared[list(HEADINGS)].rename(columns=HEADINGS), formats)


@torch.inference_mode()
def echelon_positions(env: Env, policy: Policy, scenario: Scenario) -> np.ndarray:
    """Echelon inventory positions that a policy meets.

    Args:
        env: a divergent chain.
        policy: what orders.
        scenario: the exogenous draws.

    Returns:
        Units, ``(episode, period, N)``; see `meirl.heuristics.inventory_position`.
    """
    seen = (observation for observation, _ in play(env, policy, scenario))
    return torch.stack([heuristics.inventory_position(s, echelon=True) for s in seen], 1).cpu().numpy()


def explained_by_position(position: np.ndarray, orders: np.ndarray, bins: int = 25) -> float:
    """Share of the variance of orders that the inventory position explains.

    Args:
        position: in units, of any shape.
        orders: in units, of the same shape.
        bins: of equally many orders each, by position; the mean within its bin is what a position tells of an order.

    Returns:
        A share, 1 if orders follow from the position alone.
    """
    placed = orders.ravel()
    bin_of = pd.Series(pd.qcut(position.ravel(), bins, duplicates="drop"))
    within = pd.Series(placed).groupby(bin_of, observed=True).transform("mean")
    return float(1 - np.var(placed - within) / np.var(placed))
