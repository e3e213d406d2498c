"""Measurements of the chapter on scenarios: what common random numbers gain when two policies are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from meirl import heuristics
from meirl.envs import Env, Scenario
from meirl.heuristics import RULES, read_levels
from meirl.rollout import rollout

KNOWN = {"divergent": "base-stock", "meis": "s-S"}
"""The rule that is varied, by chain: the one that anybody knows."""
CANDIDATE = 1.1  # every level 10 % higher: a change of the size that a tuner tries
SIZES = (2, 8, 32, 128, 512)  # episodes of an experiment
WRONG = 0.05  # share of experiments that may pick the worse policy


def candidates(env: Env, scenario: Scenario, factor: float = CANDIDATE) -> np.ndarray:
    """Play a rule of `KNOWN` as it was tuned (A), and with every level changed by a factor (B).

    Args:
        env: the environment.
        scenario: what both play.
        factor: of the levels of B.

    Returns:
        Costs of A and B in every episode, ``(episodes, 2)`` in units of ``cost_unit``.
    """
    tuned = read_levels(env, KNOWN[env.chain])
    rule, levels = RULES[tuned.rule], np.array(list(tuned.levels.values()))
    costs = [rollout(env, rule.policy(env, k * levels), scenario)["cost"] for k in (1, factor)]
    return np.stack(costs, 1)


def beside_nothing(env: Env, scenario: Scenario, costs: np.ndarray) -> np.ndarray:
    """Costs of a policy beside those of ordering nothing on the same scenarios, ``(episodes, 2)``.

    Args:
        env: the environment.
        scenario: what was played.
        costs: of the policy, ``(episodes,)``.
    """
    never = rollout(env, heuristics.load(env, "never-order"), scenario)["cost"]
    return np.stack([costs, never], 1)


def gain(costs: np.ndarray) -> dict[str, float]:
    """Measure what pairing gains in the comparison of two policies.

    ``k = (var A + var B) / var(A - B)``, equation :eq:`eq-factor` of the book: how many times fewer episodes pairing
    needs for the same precision.

    Args:
        costs: of A and B on the same scenarios, ``(episodes, 2)``.

    Returns:
        ``B - A``, the ``correlation``, the standard error of the difference of means (``error, paired``; ``error,
        independent`` if A and B had met different scenarios), the ``factor k``, and the ``episodes, common`` and
        ``episodes, independent`` that it takes to be wrong as rarely as `WRONG` says.
    """
    a, b = costs.T
    difference = (b - a).mean()
    paired = (a - b).std(ddof=1)
    independent = np.hypot(a.std(ddof=1), b.std(ddof=1))
    return {
        "B - A": difference,
        "correlation": np.corrcoef(a, b)[0, 1],
        "error, paired": paired / len(costs) ** 0.5,
        "error, independent": independent / len(costs) ** 0.5,
        "factor k": (independent / paired) ** 2,
        "episodes, common": episodes_needed(difference, paired),
        "episodes, independent": episodes_needed(difference, independent),
    }


def episodes_needed(difference: float, deviation: float, wrong: float = WRONG) -> float:
    """Episodes a policy after which the worse one looks better in a share ``wrong`` of experiments, at least one.

    ``(z deviation / difference)^2``, equation :eq:`eq-episodes` of the book: the mean of so many differences is taken
    for normal.

    Args:
        difference: of the expected costs.
        deviation: standard deviation of the difference of one episode each.
        wrong: the share.
    """
    if not difference:
        return math.inf
    return max(1, math.ceil((stats.norm.isf(wrong) * deviation / difference) ** 2))


def wrong_choices(
    pairs: Mapping[str, np.ndarray], seed: int, experiments: int, sizes: Sequence[int] = SIZES
) -> pd.DataFrame:
    """Count how often an experiment of a few episodes picks the worse of two policies.

    Args:
        pairs: costs of A and B by environment, each ``(episodes, 2)``; the sign over all of them is the truth.
        seed: of the drawing of episodes.
        experiments: how often each is repeated.
        sizes: episodes a policy in an experiment, drawn with replacement.

    Returns:
        Shares of experiments; index: sizes, columns ``(environment, design)``, where ``common`` draws the same episodes
        for both policies and ``independent`` draws them apart.
    """
    generator = np.random.default_rng(seed)
    wrong: dict[tuple[str, str], dict[int, float]] = {}
    for name, costs in pairs.items():
        truth = np.sign(np.diff(costs.mean(0)))
        for size in sizes:
            for design, rows in {"common": [0, 0], "independent": [0, 1]}.items():
                a, b = generator.integers(0, len(costs), (2, experiments, size))[rows]
                difference = costs[b, 1].mean(1) - costs[a, 0].mean(1)
                wrong.setdefault((name, design), {})[size] = (np.sign(difference) != truth).mean()
    return pd.DataFrame(wrong)
