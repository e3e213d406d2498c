"""Chapter 3's tables: simple rules, the published baselines re-run and repaired, and the rules as tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from meirl import heuristics
from meirl.envs import Env, Scenario
from meirl.evaluation import compare, summarise
from meirl.heuristics import RULES, Box, Range, tuning
from meirl.rollout import Policy, rollout

from . import published

MEASURES = {
    "mean_cost": "mean cost",
    "fill_rate": "fill rate",
    "published_service_level": "published service level",
}
"""Columns of `meirl.summarise` that this chapter shows, with their headings."""
BASELINES = ("never-order", "published")
"""What the tables of tuned rules begin with."""


def steady(env: Env) -> Policy:
    """The policy that orders the mean demand in every period: the warehouse that of all retailers, MEIS in turns."""
    mean = env.parameters.demand.mean
    return RULES["constant-order"].policy(env, [mean * env.retailers] + [mean] * env.retailers)


def sanity(envs: Mapping[str, Env], tests: Mapping[str, Scenario]) -> pd.DataFrame:
    """Play the policies that nobody would use: one row an environment and policy, columns as in `MEASURES`."""
    rows = {}
    for name, env in envs.items():
        policies = {"never order": heuristics.load(env, "never-order"), "order mean demand": steady(env)}
        for label, policy in policies.items():
            summary = summarise(rollout(env, policy, tests[name]))
            rows[name, label] = {heading: summary[column] for column, heading in MEASURES.items()}
    return pd.DataFrame(rows).T


def rerun(envs: Mapping[str, Env], tests: Mapping[str, Scenario]) -> pd.DataFrame:
    """Set the published baselines, played here, beside what the study reports of them.

    Args:
        envs: environments by name.
        tests: what the baselines play, by environment.

    Returns:
        One row an environment: the ``published`` cost, the cost ``re-measured`` here with its ``standard error``, the
        ``difference in standard errors`` (of both measurements together), and the other measures of this one.
    """
    rows = {}
    for name, env in envs.items():
        theirs: Any = published.RESULTS.loc[name]
        ours: Any = summarise(rollout(env, heuristics.load(env, "published"), tests[name]))
        error = np.hypot(ours["standard_error"], theirs["baseline_std"] / theirs["episodes"] ** 0.5)
        rows[name] = {
            "published": theirs["baseline_cost"],
            "re-measured": ours["mean_cost"],
            "standard error": ours["standard_error"],
            "difference in standard errors": (ours["mean_cost"] - theirs["baseline_cost"]) / error,
            "fill rate": ours["fill_rate"],
            "published service level": ours["published_service_level"],
        }
    return pd.DataFrame(rows).T


def repaired(env: Env, test: Scenario) -> pd.DataFrame:
    """Repair the published base stock step by step, then tune its levels; a table of `meirl.compare`."""
    tuned = {"levels tuned": heuristics.load(env, "echelon-base-stock")}
    return compare(published.repairs(env) | tuned, env, test)


def published_agent(env: Env) -> dict[str, float]:
    """What the published agent of an environment costs, as reported, under its name: ``published PPO``."""
    reported: Any = published.RESULTS.loc[env.name]
    return {f"published {reported['agent']}": float(reported["agent_cost"])}


def published_box(env: Env) -> Box:
    """The box in which the study searched for the levels of (s, S), a range for every level of the rule."""
    box: Box = {}
    for node in env.node_names:
        reorder, up_to = published.S_BIG_S_BOX["middle" if node == "middle" else "leaf"]
        box |= {f"reorder point, {node}": Range(*reorder), f"order-up-to level, {node}": Range(*up_to)}
    return box


def leaf_surface(env: Env, reorder: np.ndarray, up_to: np.ndarray, scenario: Scenario) -> pd.DataFrame:
    """Map the cost of (s, S) over two levels that both leaves of MEIS share; the middle keeps its tuned levels.

    Args:
        env: MEIS.
        reorder: reorder points to try, ``(y,)`` units.
        up_to: order-up-to levels to try, ``(x,)`` units; below the reorder point, that takes its place.
        scenario: what all play.

    Returns:
        Mean costs in units of ``cost_unit``; index: reorder points, columns: order-up-to levels.
    """
    middle = list(heuristics.read_levels(env, "s-S").levels.values())[:2]
    grid = np.array([[*middle, *[s, max(s, top)] * 2] for s in reorder for top in up_to])
    costs = tuning.mean_costs(env, RULES["s-S"], grid, scenario)
    return pd.DataFrame(costs.reshape(len(reorder), len(up_to)), reorder, up_to)


def tuned(envs: Mapping[str, Env], tests: Mapping[str, Scenario]) -> pd.DataFrame:
    """Play every rule whose levels are committed, after `BASELINES`.

    Returns:
        One row an environment and rule, columns as in `meirl.compare`.
    """
    tables = {}
    for name, env in envs.items():
        files = sorted(path.stem for path in heuristics.levels_file(env, "any").parent.glob("*.yaml"))
        policies = {rule: heuristics.load(env, rule) for rule in [*BASELINES, *files]}  # published is among the files
        tables[name] = compare(policies, env, tests[name])
    return pd.concat(tables)


def described() -> str:
    """A Markdown list of the rules that one might tune, the published misreading of the state left out."""
    entries = []
    for rule in RULES.values():
        if rule.name != "base-stock-misread":
            chain = "both chains" if rule.kind is Env else rule.kind.chain
            entries.append(f"- **{rule.name}** ({chain}). {rule.about}")
    return "\n".join(entries)
