"""Fixed scenario sets, summaries and paired comparisons: how every policy in the book is judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from .envs import Costs, Env, Scenario
from .rollout import Policy, rollout

# Streams are disjoint because seeds differ; training and tuning seeds stay below `FIRST_RESERVED_SEED`.
FIRST_RESERVED_SEED = 2_000_000_000
VALIDATION_SEED = FIRST_RESERVED_SEED + 1  # chooses checkpoints and re-scores tuned parameters
TEST_SEED = FIRST_RESERVED_SEED + 2  # only ever reported, never used to choose anything
VALIDATION_EPISODES, TEST_EPISODES = 200, 1_000


def held_out(env: Env, purpose: Literal["validation", "test"], episodes: int | None = None) -> Scenario:
    """Fixed scenarios, the same for every policy; a shorter set is the beginning of a longer one.

    Args:
        env: the environment.
        purpose: ``validation`` to choose with (checkpoints, tuned parameters), ``test`` only to report on.
        episodes: how many; `VALIDATION_EPISODES` or `TEST_EPISODES` if None.

    Returns:
        The scenarios.
    """
    if purpose == "validation":
        return env.sample(VALIDATION_EPISODES if episodes is None else episodes, VALIDATION_SEED)
    if purpose == "test":
        return env.sample(TEST_EPISODES if episodes is None else episodes, TEST_SEED)
    raise ValueError(f"purpose must be validation or test, got {purpose!r}")


def cvar(costs: np.ndarray, share: float = 0.05) -> float:
    """Mean of the worst ``share`` of episodes (conditional value at risk); at least one episode."""
    worst = max(1, round(share * len(costs)))
    return float(np.sort(costs)[-worst:].mean())


def summarise(table: pd.DataFrame) -> dict[str, object]:
    """Summarise a table of `rollout`: what ``meirl evaluate --json`` prints.

    Returns:
        ``mean_cost`` in units of ``cost_unit``, its ``standard_error`` and the ``std`` over episodes, ``cvar95`` (mean
        of the worst 5 %), the mean of every cost part, fill rates and the rest, and the number of ``episodes``.
    """
    cost = table["cost"].to_numpy()
    episodes = len(cost)
    std = float(cost.std(ddof=1)) if episodes > 1 else float("nan")
    other = [c for c in table.columns if not c.startswith("cost")]
    return {
        "mean_cost": float(cost.mean()),
        "standard_error": std / episodes**0.5,
        "std": std,
        "cvar95": cvar(cost),
        "cost_parts": {part: float(table[f"cost_{part}"].mean()) for part in Costs._fields},
        **{column: float(table[column].mean()) for column in other},
        "episodes": episodes,
    }


def compare(policies: Mapping[str, Policy], env: Env, scenario: Scenario, confidence: float = 0.95) -> pd.DataFrame:
    """Play all policies on the same scenarios and compare each with the first, episode by episode.

    Args:
        policies: policies by name; the first is the reference.
        env: the environment.
        scenario: common random numbers for all.
        confidence: of the intervals (Student's t over episodes).

    Returns:
        One row a policy: ``mean_cost``, its interval ``low`` and ``high``, ``cvar95``, ``fill_rate``, the paired
        ``difference`` to the first policy with ``difference_low`` and ``difference_high``.
    """
    costs: dict[str, np.ndarray] = {}
    rows = {}
    for name, policy in policies.items():
        table = rollout(env, policy, scenario)
        costs[name] = table["cost"].to_numpy()
        low, high = interval(costs[name], confidence)
        difference = costs[name] - next(iter(costs.values()))
        difference_low, difference_high = interval(difference, confidence)
        rows[name] = {
            "mean_cost": costs[name].mean(), "low": low, "high": high,
            "cvar95": cvar(costs[name]), "fill_rate": table["fill_rate"].mean(),
            "difference": difference.mean(), "difference_low": difference_low, "difference_high": difference_high,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def interval(sample: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval for the mean of a sample; a constant sample gives a point."""
    error = float(stats.sem(sample)) if len(sample) > 1 else float("nan")
    if error == 0:
        return float(sample.mean()), float(sample.mean())
    low, high = stats.t.interval(confidence, len(sample) - 1, loc=sample.mean(), scale=error)
    return float(low), float(high)
