"""What makes a baseline weak: a misread state, a narrow search box, a clip on orders, an evaluator who discounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meirl.envs import Env, Scenario, make
from meirl.evaluation import compare, estimate, held_out
from meirl.heuristics import load
from meirl.heuristics.tuning import Search
from meirl.rollout import Policy, rollout, simulate, trajectory

from .. import published
from ..cells import OPPONENTS
from ..own import tuned
from .searching import SearchTask, search


def ladder(env: Env, scenario: Scenario) -> pd.DataFrame:
    """The published base stock, repaired step by step, then the textbook rule and the designed one, both tuned.

    Args:
        env: a divergent environment.
        scenario: what all play.

    Returns:
        One row a step: mean cost ``value`` with its interval ``low`` and ``high``, in units of ``cost_unit``.
    """
    tuned_rules = {f"{name}, tuned": load(env, which) for name, which in OPPONENTS.items()}
    return compare(published.repairs(env) | tuned_rules, env, scenario)[["value", "low", "high"]]


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
        "our search in the published box": tuned(env, inside),
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
            "base stock, tuned for the clip": tuned(clipped, own),
            "order nothing": load(clipped, "never-order"),
        }
        tables[cap] = compare(policies, clipped, held_out(clipped, "test", episodes))
    return {name: pd.DataFrame({cap: table.loc[name] for cap, table in tables.items()}).T for name in policies}


def margins(agents: pd.DataFrame, opponents: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """What the study's own agents cost more than an opponent: what is left of its claims.

    Args:
        agents: the study's own agents on the test scenarios, of `meirl_study.published.remeasured`.
        opponents: costs of a policy on the same episodes, by environment.

    Returns:
        Index: environment. The agent's extra cost in percent of the opponent's, ``value`` (negative: cheaper), with its
        interval ``low`` and ``high`` over paired episodes.
    """
    rows = {}
    for name, cost in opponents.items():
        own = agents[agents["env"] == name].set_index("episode")["cost"].sort_index().to_numpy()
        rows[name] = estimate(100 * (own - cost) / cost.mean())
    return pd.DataFrame.from_dict(rows, orient="index")


def turned(claimed: pd.Series, left: pd.DataFrame) -> int:
    """On how many environments a claimed win is a loss, or the reverse, by an interval without zero.

    Args:
        claimed: by how many percent the agent is said to be cheaper, by environment.
        left: of `margins`.
    """
    sign = np.where(left["low"] > 0, 1, np.where(left["high"] < 0, -1, 0))
    return int((sign * np.sign(claimed[left.index].astype(float)) > 0).sum())


def by_rank(env: Env, policies: Mapping[str, Policy], scenario: Scenario) -> pd.DataFrame:
    """Whom a policy serves: fill rates of the retailers of every episode, the best-served one first.

    Args:
        env: the environment.
        policies: by name.
        scenario: what all play.

    Returns:
        One row a policy, one column a rank, ``retailer 1`` the best-served one of an episode: mean shares of demand
        that are filled at once.
    """
    rows = {}
    for name, policy in policies.items():
        flows = simulate(env, policy, scenario).flows
        ranked, _ = (flows.filled / flows.demand.clamp(min=1)).sort(1, descending=True)
        rows[name] = {f"retailer {rank}": share for rank, share in enumerate(ranked.mean(0).tolist(), 1)}
    return pd.DataFrame.from_dict(rows, orient="index")


def discounted(env: Env, discounts: Iterable[float], scenario: Scenario) -> pd.DataFrame:
    """What an evaluator who discounts thinks of ordering nothing.

    Args:
        env: the environment.
        discounts: factors a period; 1 does not discount.
        scenario: what it and the designed rule play.

    Returns:
        Index: the discount; extra cost over the designed rule in percent of that one's mean, ``value``, with its
        interval ``low`` and ``high`` over episodes.
    """
    costs = [trajectory(env, load(env, rule), scenario)["cost"] for rule in ("never-order", "best")]
    rows = {}
    for discount in discounts:
        never, best = (cost @ discount ** np.arange(env.horizon) for cost in costs)
        rows[discount] = estimate(100 * (never - best) / best.mean())
    return pd.DataFrame.from_dict(rows, orient="index")
