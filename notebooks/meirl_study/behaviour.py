"""What each policy does: the same test episode under rules and agents, period by period, and what it comes to."""

from __future__ import annotations

import numpy as np
import pandas as pd

from meirl.envs import Env
from meirl.heuristics import load
from meirl.learn import load_policy
from meirl.rollout import Policy, rollout, trajectory

from . import study
from .cells import OPPONENTS
from .chapter import Chapter

RULES = {"order nothing": "never-order", **OPPONENTS}
"""Rules that are watched, with their names for `meirl.heuristics.load`."""
SUMMARY = {
    "cost": "cost", "fill_rate": "fill rate", "on_hand": "on hand", "backlog": "backlog", "lost": "lost",
    "bullwhip": "bullwhip",
}  # fmt: skip
"""Columns of `meirl.rollout.rollout` that tell policies apart, with headings."""


def policies(chapter: Chapter, env: Env) -> dict[str, Policy]:
    """Rules and the first seed's agents with ten times the published budget, by name; agents are trained if need be."""
    found = {name: load(env, which) for name, which in RULES.items()}
    todo = chapter.tasks(envs=[env.name], preset="long", seeds=chapter.long_seeds[:1])
    study.run(todo, chapter.root, jobs=chapter.jobs, episodes=chapter.episodes, progress=False)
    for task in todo:
        found[f"{task.algo.upper()} {study.BUDGETS['long']}"] = load_policy(task.folder(chapter.root), env)[0]
    return found


def watch(chapter: Chapter, env: Env, episode: int) -> dict[str, dict[str, np.ndarray]]:
    """Play one test episode with every policy.

    Args:
        chapter: gives the test scenarios and the folder of the runs.
        env: the environment.
        episode: index among the test scenarios.

    Returns:
        By policy: ``on hand``, ``orders`` ``(periods, N)`` and ``backlog`` ``(periods, R)`` in units, ``cost so far``
        ``(periods,)`` in units of ``cost_unit``.
    """
    one = chapter.tests[env.name][episode : episode + 1]
    seen = {}
    for name, policy in policies(chapter, env).items():
        record = trajectory(env, policy, one)  # type: ignore[arg-type]
        seen[name] = {
            "on hand": record["on_hand"][0], "orders": record["orders"][0], "backlog": record["backlog"][0],
            "cost so far": record["cost"][0].cumsum() / env.parameters.cost_unit,
        }  # fmt: skip
    return seen


def summary(chapter: Chapter, env: Env) -> pd.DataFrame:
    """Means over all test episodes: one row a policy, the columns of `SUMMARY`."""
    rows = {
        name: rollout(env, policy, chapter.tests[env.name])[list(SUMMARY)].mean()
        for name, policy in policies(chapter, env).items()
    }
    return pd.DataFrame(rows).T.rename(columns=SUMMARY)


def by_node(chapter: Chapter, env: Env) -> pd.DataFrame:
    """What every node holds, orders and owes in a period, on average over ten test episodes: one row a policy and node.

    Returns:
        ``on hand``, ``orders`` and the standard deviation of orders over time ``swing``, in units; ``backlog``; ``fill
        rate`` (share) of those that face customers, NaN upstream.
    """
    some, rows = chapter.tests[env.name][:10], {}
    for policy, act in policies(chapter, env).items():
        record = trajectory(env, act, some)  # type: ignore[arg-type]
        orders = record["orders"]
        for i, node in enumerate(env.node_names):
            shop = {"backlog": np.nan, "fill rate": np.nan}
            if i:
                filled, asked = record["filled"][:, :, i - 1].sum(), record["demand"][:, :, i - 1].sum()
                shop = {"backlog": record["backlog"][:, :, i - 1].mean(), "fill rate": filled / asked}
            own = orders[:, :, i]
            rows[policy, node] = {
                "on hand": record["on_hand"][:, :, i].mean(), "orders": own.mean(), "swing": own.std(axis=1).mean(),
            } | shop  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def contrast(overall: pd.DataFrame, nodes: pd.DataFrame, **policies: str) -> dict[str, float]:
    """What tells policies apart, as facts for a sentence.

    Args:
        overall: of `summary`.
        nodes: of `by_node`.
        **policies: names of policies in both, by the word that begins the keys.

    Returns:
        By ``word-fact``: ``cost``; ``hand``, ``upstream`` and ``shelves`` (units in stock: in all, at the first node,
        at those that face customers); ``backlog`` (units); ``fill``, ``first`` and ``last`` (percent of demand that is
        filled: in all, by the node that fills most, by the one that fills least).
    """
    facts: dict[str, float] = {}
    for word, policy in policies.items():
        whole, own_nodes = overall.loc[policy], nodes.loc[policy]
        upstream, *shelves = own_nodes["on hand"]
        filled = 100 * own_nodes["fill rate"].iloc[1:]
        own = {
            "cost": whole["cost"], "hand": whole["on hand"], "upstream": upstream, "shelves": sum(shelves),
            "backlog": whole["backlog"], "fill": 100 * whole["fill rate"], "first": filled.max(), "last": filled.min(),
        }  # fmt: skip
        facts |= {f"{word}-{fact}": float(value) for fact, value in own.items()}
    return facts
