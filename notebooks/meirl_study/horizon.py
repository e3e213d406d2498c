"""A toy: what the horizon is to a critic, depending on whether it sees how much time is left.

In every period of an episode a cost of 1 is paid, whatever an agent does. So no action is better than another, and
every advantage should be 0.
"""

from __future__ import annotations

import numpy as np
import torch

from meirl.envs.base import NEAR
from meirl.learn.config import LearnerConfig
from meirl.learn.experience import gae

PERIODS = 100
LEFT = np.arange(PERIODS, -1, -1)  # before every period, and after the last
BLIND = np.ones((PERIODS + 1, 1))  # a critic that sees nothing has one weight, its value
CLOCK = np.stack([BLIND[:, 0], LEFT / PERIODS, np.exp(-LEFT / NEAR)], 1)  # as the observation set `full` shows it
WRONG = "time left unseen, the end"
"""The one of `cases` in which actions seem to matter."""
Case = tuple[np.ndarray, np.ndarray, bool]


def cases(discount: float) -> dict[str, Case]:
    """The four ways to treat a horizon.

    Returns:
        By name: what the critic sees, ``(PERIODS + 1, features)``; its exact value at every time, given that,
        ``(PERIODS + 1,)``; whether the horizon is the end, where nothing follows, or a truncation, where it bootstraps.
    """
    forever = np.full(PERIODS + 1, -1 / (1 - discount))
    until_end = -(1 - discount**LEFT) / (1 - discount)
    return {
        "time left unseen, truncation": (BLIND, forever, False), WRONG: (BLIND, forever, True),
        "time left seen, the end": (CLOCK, until_end, True), "time left seen, truncation": (CLOCK, forever, False),
    }  # fmt: skip


def advantages(case: Case, config: LearnerConfig) -> np.ndarray:
    """What the advantages of an episode are with an exact critic, ``(PERIODS,)``."""
    _, value, terminal = case
    return _advantage(np.full((PERIODS, 1), -1.0), value[:, None], terminal, config)[:, 0]


def errors(case: Case, config: LearnerConfig, rounds: int = 200, repeats: int = 200, seed: int = 0) -> np.ndarray:
    """How far a linear critic gets from where it should be at the horizon, if costs are noisy.

    It starts as well as it can be. In each round its weights move half way to a least-squares fit of the returns that
    `meirl.learn.experience.gae` gives. The value after the last period is never fitted: no action follows it.

    Args:
        case: one of `cases`.
        config: discount and lambda.
        rounds: of play and fit.
        repeats: independent critics.
        seed: of the noise.

    Returns:
        The root mean square over the repeats of the change since the start of the value at the horizon, in costs of a
        period, ``(rounds,)``.
    """
    features, truth, terminal = case
    rng, fit = np.random.default_rng(seed), np.linalg.pinv(features[:-1])
    start = weights = np.repeat((fit @ truth[:-1])[:, None], repeats, 1)
    found = np.empty(rounds)
    for k in range(rounds):
        value = features @ weights
        reward = rng.normal(-1, 1 / 3, (PERIODS, repeats))  # the mean of nine episodes, each of -1 +- 1
        returns = _advantage(reward, value, terminal, config) + value[:-1]
        weights = weights + (fit @ returns - weights) / 2
        found[k] = np.sqrt(np.square(features[-1] @ (weights - start)).mean())
    return found


def _advantage(reward: np.ndarray, value: np.ndarray, terminal: bool, config: LearnerConfig) -> np.ndarray:
    """`gae` of episodes that end at the horizon: rewards ``(PERIODS, B)``, values ``(PERIODS + 1, B)``."""
    following = torch.from_numpy(value[1:].copy())
    following[-1] *= not terminal
    now = torch.from_numpy(value[:-1].copy())
    return gae(torch.from_numpy(reward), now, following, config.discount, config.gae_lambda).numpy()
