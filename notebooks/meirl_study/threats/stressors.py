"""Env-2's stressors, switched off one by one: each design has its own best rule, and meets agents trained on Env-2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meirl.config import merged
from meirl.envs import Env, make
from meirl.evaluation import estimate, held_out
from meirl.heuristics import load
from meirl.heuristics.tuning import Search
from meirl.learn import load_policy
from meirl.rollout import Policy, rollout

from .searching import policy

_BOTH: dict[str, dict[str, Any]] = {
    "season": {"demand": {"season": {"amplitude": 0.0}}},
    "shocks": {"demand": {"shock": {"probability": 0.0}}},
    "correlation": {"demand": {"noise": {"common": 0.0, "own": 1.0}}},  # the variance stays: 0.6² + 0.8² = 1
    "random lead times": {"lead_time": {"standard_deviation": 0.0}},
    "lead-time tail": {"lead_time": {"tail_probability": 0.0}},
}
_CAPACITIES = {"supplier_capacity": None, "outbound_capacity": None}
STRESSORS = {
    "divergent": {**_BOTH, "capacities": _CAPACITIES, "lost sales": {"lost_share": 0.0}},
    "meis": {**_BOTH, "capacities": {"outbound_capacity": None}, "cost of withdrawals": {"withdrawal_cost": 0.0}},
}
"""What makes Env-2 hard, by chain, and the parameters that switch it off. No switch changes what an agent sees."""


def without(name: str, off: Iterable[str]) -> dict[str, Any]:
    """Changes, as `make` takes them, that switch stressors off.

    Args:
        name: of a non-stationary environment.
        off: stressors of its chain; keys of `STRESSORS`.

    Returns:
        Nested parameters to change.

    Raises:
        ValueError: if the chain has no such stressor.
    """
    known = STRESSORS[name.split("-")[0]]
    off = list(off)
    if unknown := [stressor for stressor in off if stressor not in known]:
        raise ValueError(f"unknown stressor {unknown[0]!r} of {name}: expected one of {', '.join(known)}")
    return merged({}, *(known[stressor] for stressor in off))


def one_by_one(name: str) -> dict[str, dict[str, Any]]:
    """All designs of the experiment on stressors: every one, all but one, only one, none; as `make` takes them."""
    known = list(STRESSORS[name.split("-")[0]])
    designs = {"all stressors": without(name, [])}
    designs |= {f"without {one}": without(name, [one]) for one in known}
    designs |= {f"only {one}": without(name, [other for other in known if other != one]) for one in known}
    return designs | {"none": without(name, known)}


def meet(env: Env, rules: Sequence[Policy], agents: Sequence[Policy], episodes: int) -> dict[str, float]:
    """Let agents meet the better of some rules.

    Args:
        env: the environment.
        rules: the one with the lowest cost on validation scenarios is the rival.
        agents: one a training seed.
        episodes: validation and test episodes.

    Returns:
        ``rule``, the rival's test cost, with its interval ``rule_low`` and ``rule_high`` over episodes; ``ppo``, that
        of the agents (both in units of ``cost_unit``); and the agents' extra cost in percent, ``value``, with its
        interval ``low`` and ``high`` over training seeds.
    """
    validation, test = (held_out(env, "validation", episodes), held_out(env, "test", episodes))
    rival = min(rules, key=lambda rule: rollout(env, rule, validation)["cost"].mean())
    cost = rollout(env, rival, test)["cost"].to_numpy()
    costs = np.array([rollout(env, agent, test)["cost"].mean() for agent in agents])
    return {**estimate(cost, "rule"), "ppo": costs.mean(), **estimate(100 * (costs / cost.mean() - 1))}


def play_designs(
    name: str, designs: Mapping[str, dict[str, Any]], found: Sequence[Search], runs: Sequence[Path], episodes: int,
    **same: Any,
) -> pd.DataFrame:  # fmt: skip
    """Play every design with the better of a rule tuned for it and Env-2's best rule, and with agents of Env-2.

    Args:
        name: of the environment.
        designs: changes by name, as in `one_by_one`.
        found: a search for levels in each.
        runs: folders of the agents.
        episodes: validation and test episodes.
        **same: of `make`, for all designs.

    Returns:
        One row a design, columns as in `meet`.
    """
    rows = {}
    for (design, changes), own in zip(designs.items(), found, strict=True):
        env = make(name, **{**changes, **same})
        agents = [load_policy(folder, env)[0] for folder in runs]
        rows[design] = meet(env, [policy(env, own), load(env)], agents, episodes)
    return pd.DataFrame.from_dict(rows, orient="index")


def relief(table: pd.DataFrame) -> pd.Series:
    """By how much the rule's cost falls without each stressor, in percent of its cost with all.

    Args:
        table: of `play_designs`, ``all stressors`` among the designs.

    Returns:
        Index: stressors.
    """
    rule = table["rule"]
    alone = rule[rule.index.str.startswith("without ")]
    return 100 * (1 - alone / rule["all stressors"]).rename(lambda design: str(design).removeprefix("without "))
