"""What was made for one variant of a chain, played on the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meirl.envs import Env, Scenario, make
from meirl.evaluation import estimate, held_out
from meirl.heuristics import RULES, levels_file, read_levels
from meirl.rollout import rollout

from .variants import PUBLISHED_EYES, agents, extra


def transfer(
    chains: Iterable[Sequence[str]], seeds: Sequence[int], root: Path, episodes: int, **same: Any
) -> pd.DataFrame:
    """Play policies made for each variant of a chain on the other one: PPO, and the rules of both.

    The agents are variants that see the published observation, which has the same shape on both.

    Args:
        chains: names of the variants of each chain.
        seeds: training seeds of the agents.
        root: folder of the study's runs.
        episodes: test episodes.
        **same: of `make`, for the environments that are played.

    Returns:
        Index ``(policy, made for, played on)``; columns as in `moved`. Intervals are over training seeds for PPO (no
        seed has to do with one of another environment, so they are not paired), over paired episodes for rules.
    """
    rows = {}
    for made_for, target in (pair for chain in chains for pair in permutations(chain, 2)):
        homes = target, made_for
        env, plain = make(target, observation="published", **same), make(target, **same)
        scenario = held_out(env, "test", episodes)
        trained = (_agent_costs(root, home, seeds, env, scenario) for home in homes)
        rows["PPO", made_for, target] = moved(*trained, paired=False)
        for rule in rules_of_both(target, made_for):
            tuned = (_rule_costs(home, rule, plain, scenario) for home in homes)
            rows[rule, made_for, target] = moved(*tuned, paired=True)
    table = pd.DataFrame(rows).T.rename_axis(["policy", "made for", "played on"])
    return table.sort_index(level=["played on", "policy"])


def moved(native: np.ndarray, transferred: np.ndarray, *, paired: bool) -> dict[str, float]:
    """Compare a policy made for another environment with its native kind.

    Args:
        native: costs of the native kind, of episodes or of training seeds, ``(n,)``.
        transferred: costs of the other policy, in the same episodes or of other seeds, ``(n,)``.
        paired: by episode; else the samples are independent.

    Returns:
        Mean costs, ``native cost`` and ``transferred cost``; the extra cost in percent of the native one, ``value``,
        with its interval ``low`` and ``high`` over what the numbers are of.
    """
    share = 100 * (transferred - native) / native.mean()
    found = estimate(share) if paired else extra(transferred, native)
    return {"native cost": native.mean(), "transferred cost": transferred.mean(), **found}


def rules_of_both(one: str, other: str) -> list[str]:
    """Names of the rules with the same levels to tune in both environments; the published ones are another story."""
    envs = make(one), make(other)
    files = (levels_file(env, "any").parent.glob("*.yaml") for env in envs)
    shared = set.intersection(*({path.stem for path in own} for own in files)) - {"published"}
    # A rule may have levels for a season, where there is one: such levels mean nothing where there is none.
    return sorted(rule for rule in shared if len({tuple(read_levels(env, rule).levels) for env in envs}) == 1)


def _agent_costs(root: Path, home: str, seeds: Sequence[int], env: Env, scenario: Scenario) -> np.ndarray:
    """Mean cost of every seed of the agents made for ``home``, ``(seeds,)``."""
    policies = agents(root, PUBLISHED_EYES, home, seeds, env)
    return np.array([rollout(env, policy, scenario)["cost"].mean() for policy in policies])


def _rule_costs(home: str, name: str, env: Env, scenario: Scenario) -> np.ndarray:
    """Costs of a rule with the levels tuned for ``home``, ``(episodes,)``."""
    levels = list(read_levels(make(home), name).levels.values())
    return rollout(env, RULES[name].policy(env, levels), scenario)["cost"].to_numpy()
