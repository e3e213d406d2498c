"""What makes a baseline weak: a misread state, a narrow search box, a clip on orders, an evaluator who discounts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meirl.envs import Env, Scenario, make
from meirl.evaluation import compare, estimate, held_out
from meirl.heuristics import load
from meirl.heuristics.tuning import Search
from meirl.rollout import rollout, trajectory

from .. import rules
from .searching import SearchTask, policy, search


def ladder(env: Env, scenario: Scenario) -> pd.DataFrame:
    """The published base stock, repaired step by step, then tuned, then the best tuned rule.

    Args:
        env: a divergent environment.
        scenario: what all play.

    Returns:
        One row a step: mean cost ``value`` with its interval ``low`` and ``high``, in units of ``cost_unit``.
    """
    best = compare({"best tuned rule": load(env)}, env, scenario)
    return pd.concat([rules.repaired(env, scenario), best])[["value", "low", "high"]]


def orders_nothing(env: Env, rule: str, scenario: Scenario) -> bool:
    """Whether a heuristic's costs are those of ordering nothing in every episode, to the last bit."""
    never, own = (rollout(env, load(env, name), scenario)["cost"] for name in ("never-order", rule))
    return bool((never == own).all())


def box_or_not(env: Env, inside: Search, scenario: Scenario) -> pd.DataFrame:
    """Play (s, S) with the published levels, with those found inside a box, and with those found without it.

    Args:
        env: MEIS.
        inside: a search for (s, S) in the published box.
        scenario: what all play.

    Returns:
        The table of `meirl.compare`.
    """
    policies = {
        "published levels": load(env, "published"),
        "our search in the published box": policy(env, inside),
        "same rule, wide box": load(env, "s-S"),
    }
    return compare(policies, env, scenario)


def raise_clip(
    env: Env, caps: Iterable[int], options: dict[str, Any], root: Path, episodes: int
) -> dict[str, pd.DataFrame]:
    """Raise the clip on orders, tune base stock anew for each, and play it beside ordering nothing.

    Args:
        env: a divergent environment.
        caps: clips to try, units a period.
        options: of the searches, see `tuning.tune`.
        root: where searches are kept.
        episodes: test episodes.

    Returns:
        By policy, ``base stock, tuned for the clip`` and ``order nothing``; index: clips; columns as in
        `meirl.compare`.
    """
    designs: dict[int, dict[str, Any]] = {cap: {"order_cap": cap, "max_order": max(cap, 30)} for cap in caps}
    found = search([SearchTask(env.name, "base-stock", changes, options) for changes in designs.values()], root)
    tables = {}
    for (cap, changes), own in zip(designs.items(), found, strict=True):
        clipped = make(env.name, device=env.device, **changes)
        policies = {
            "base stock, tuned for the clip": policy(clipped, own),
            "order nothing": load(clipped, "never-order"),
        }
        tables[cap] = compare(policies, clipped, held_out(clipped, "test", episodes))
    return {name: pd.DataFrame({cap: table.loc[name] for cap, table in tables.items()}).T for name in policies}


def discounted(env: Env, discounts: Iterable[float], scenario: Scenario) -> pd.DataFrame:
    """What an evaluator who discounts thinks of ordering nothing.

    Args:
        env: the environment.
        discounts: factors a period; 1 does not discount.
        scenario: what it and the best rule play.

    Returns:
        Index: the discount; extra cost over the best rule in percent of that one's mean, ``value``, with its interval
        ``low`` and ``high`` over episodes.
    """
    costs = [trajectory(env, load(env, rule), scenario)["cost"] for rule in ("never-order", "best")]
    rows = {}
    for discount in discounts:
        never, best = (cost @ discount ** np.arange(env.horizon) for cost in costs)
        rows[discount] = estimate(100 * (never - best) / best.mean())
    return pd.DataFrame.from_dict(rows, orient="index")
