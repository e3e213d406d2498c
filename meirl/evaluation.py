"""Fixed scenario sets, summaries and paired comparisons: how every policy is judged."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # scipy.stats has it too, and takes half a second to import

from .envs import Costs, Env, Scenario
from .envs.scenario import FIRST_RESERVED_SEED, VALIDATION_SEED
from .rollout import Policy, rollout

TEST_SEED = FIRST_RESERVED_SEED + 2  # only ever reported, never used to choose anything
VALIDATION_EPISODES, TEST_EPISODES = 1_000, 1_000


def held_out(env: Env, purpose: Literal["validation", "test"], episodes: int | None = None) -> Scenario:
    """Fixed scenarios, the same for every policy: ``validation`` to choose with, ``test`` only to report on.

    There are `VALIDATION_EPISODES` or `TEST_EPISODES`, if not said; a shorter set is the beginning of a longer one.
    """
    sets = {"validation": (VALIDATION_EPISODES, VALIDATION_SEED), "test": (TEST_EPISODES, TEST_SEED)}
    if purpose not in sets:
        raise ValueError(f"purpose must be validation or test, got {purpose!r}")
    count, seed = sets[purpose]
    return env.sample(count if episodes is None else episodes, seed)


def cvar(costs: np.ndarray, share: float = 0.05) -> Any:
    """Conditional value at risk of costs: the mean of the worst ``share`` of them, at least one.

    Of ``(episodes,)`` a float; of ``(runs, episodes)`` one for each run, ``(runs,)``.

    Source: Rockafellar & Uryasev (2000), Optimization of conditional value-at-risk.

    >>> cvar(np.arange(100.0))
    97.0
    """
    worst = max(1, round(share * costs.shape[-1]))
    tail = np.sort(np.ascontiguousarray(costs), axis=-1)[..., -worst:].mean(-1)
    return tail if tail.ndim else float(tail)


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

    Pairing is what common random numbers buy: equation :eq:`eq-pairing` of the book.

    Args:
        policies: policies by name, at least one; the first is the reference.
        env: the environment.
        scenario: common random numbers for all.
        confidence: of the intervals (Student's t over episodes).

    Returns:
        One row a policy: mean cost of an episode, ``value``, with its interval ``low`` and ``high``, in units of
        ``cost_unit``; ``cvar95``, ``fill_rate``; the paired ``difference`` to the first policy with
        ``difference_low`` and ``difference_high``.
    """
    if not policies:
        raise ValueError("expected at least one policy to compare")
    tables = {name: rollout(env, policy, scenario) for name, policy in policies.items()}
    reference = next(iter(tables.values()))["cost"].to_numpy()
    rows = {}
    for name, table in tables.items():
        cost = table["cost"].to_numpy()
        rows[name] = {
            **estimate(cost, confidence=confidence), "cvar95": cvar(cost), "fill_rate": table["fill_rate"].mean(),
            **estimate(cost - reference, "difference", confidence),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def estimate(sample: np.ndarray, name: str = "value", confidence: float = 0.95) -> dict[str, float]:
    """Mean of a sample ``(n,)`` with its interval: ``value, low, high``; or ``name, name_low, name_high``."""
    prefix = "" if name == "value" else f"{name}_"
    low, high = interval(sample, confidence)
    return {name: float(sample.mean()), f"{prefix}low": low, f"{prefix}high": high}


def interval(sample: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval for the mean of a sample ``(n,)``; a constant sample gives a point, a single number NaN."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be a share between 0 and 1, such as 0.95, got {confidence}")
    error = float(sample.std(ddof=1)) / len(sample) ** 0.5 if len(sample) > 1 else float("nan")
    half = error * float(stdtrit(len(sample) - 1, (1 + confidence) / 2)) if error else 0.0
    return float(sample.mean()) - half, float(sample.mean()) + half
