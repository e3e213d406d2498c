"""Tables of heuristics: sanity rows, published baselines re-run and repaired, rules of either kind as tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, differential_evolution

from meirl import heuristics
from meirl.envs import NAMES, Costs, Env, Scenario, make
from meirl.envs.base import per_node
from meirl.evaluation import compare, summarise
from meirl.heuristics import RULES, Box, Levels, Range, Rule, tuning
from meirl.rollout import Policy, rollout, trajectory

from . import published

MEASURES = {
    "mean_cost": "mean cost",
    "fill_rate": "fill rate",
    "published_service_level": "published service level",
}
"""Columns of `meirl.summarise` that this chapter shows, with their headings."""
BASELINES = ("never-order", "published")
"""What the tables of tuned rules begin with."""
KINDS = ("sanity", "published", "textbook", "designed")
EXAMPLES = {"divergent": "divergent-nonstationary", "meis": "meis-nonstationary"}
"""By chain, the environment in which a rule has all its levels."""


def kind(name: str) -> str:
    """Which of `KINDS` a rule, or the file ``published``, is."""
    if name in ("published", "base-stock-misread"):
        return "published"
    if RULES[name].kind is Env:
        return "sanity"
    return "textbook" if RULES[name].textbook else "designed"


def committed(env: Env) -> dict[str, Levels]:
    """The committed levels of an environment, kind by kind, by name of their file: the rule's, or ``published``."""
    files = heuristics.levels_file(env, "any").parent.glob("*.yaml")
    ordered = sorted(files, key=lambda path: (KINDS.index(kind(path.stem)), path.stem))
    return {path.stem: heuristics.read_levels(env, path) for path in ordered}


def best(env: Env, which: str) -> str:
    """Name of the tuned rule of a kind with the lowest validation cost; ValueError if none of it was tuned."""
    costs = {name: x.provenance["validation_cost"] for name, x in committed(env).items() if kind(name) == which}
    if not costs:
        raise ValueError(f"no {which} rule was tuned for {env.name}")
    return min(costs, key=lambda name: costs[name])


def steady(env: Env) -> Policy:
    """The policy that orders the mean demand in every period: the warehouse that of all retailers, MEIS in turns."""
    demand = env.parameters.demand
    levels = per_node(demand.average * env.retailers, demand.mean, env.retailers)
    return RULES["constant-order"].policy(env, levels)


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
    """Repair the published base stock step by step, then tune it, own or echelon; a table of `meirl.compare`."""
    tuned = {f"tuned: {name}": heuristics.load(env, name) for name in ("base-stock", "echelon-base-stock")}
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


def first_population(env: Env, rule: Rule, *, seed: int, episodes: int, candidates: int = 6) -> tuple[Any, float]:
    """The best of the random levels that `meirl.heuristics.tuning.tune` begins with, and no search.

    Args:
        env: the environment.
        rule: the form of the policy.
        seed: of the training scenarios and of the draw, a Latin hypercube over the rule's ranges.
        episodes: training episodes that every candidate plays.
        candidates: population size per level.

    Returns:
        The best levels, ``(k,)``, and their mean cost on the training scenarios, in units of ``cost_unit``.
    """
    low, high = zip(*((r.low, r.high) for r in rule.ranges(env).values()), strict=True)
    scenario = env.sample(episodes, seed)

    def costs(columns: np.ndarray) -> Any:  # SciPy has the candidates in columns
        return tuning.mean_costs(env, rule, columns.T.reshape(-1, len(columns)), scenario)

    found = differential_evolution(
        costs, Bounds(low, high), popsize=candidates, maxiter=0, seed=seed, vectorized=True, updating="deferred",
        polish=False,
    )  # fmt: skip
    return found.x, float(found.fun)


def tuned(envs: Mapping[str, Env], tests: Mapping[str, Scenario]) -> pd.DataFrame:
    """Play every rule whose levels are committed, after `BASELINES`.

    Returns:
        One row an environment and rule, columns as in `meirl.compare`, and the rule's ``kind``.
    """
    tables = {}
    for name, env in envs.items():
        names = dict.fromkeys([*BASELINES, *committed(env)])  # published is among the files
        table = compare({rule: heuristics.load(env, rule) for rule in names}, env, tests[name])
        tables[name] = table.assign(kind=[kind(rule) for rule in names])
    return pd.concat(tables)


def results(table: pd.DataFrame, forms: Mapping[str, str]) -> pd.DataFrame:
    """The table `tuned` for reading: cost with its interval, fill rate, and the mean cost of the worst 5 % of episodes.

    Args:
        table: of `tuned`.
        forms: format of each environment's cost.
    """
    rows = {}
    for key, row in table.iterrows():
        form = forms[key[0]]  # type: ignore[index]
        rows[key] = {
            "kind": row["kind"],
            "mean cost ± 95 %": f"{row['value']:{form}} ± {(row['high'] - row['low']) / 2:{form}}",
            "fill rate": f"{row['fill_rate']:.1%}",
            "worst 5 %": f"{row['cvar95']:{form}}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def effort(envs: Mapping[str, Env]) -> pd.DataFrame:
    """What it took to find the committed levels, for reading; rules that were searched, one row each.

    Returns:
        Index: environment and rule. The ``kind``, the number of ``levels``, of ``searches`` (seeds), all their
        simulated ``steps [millions]`` and ``seconds``, and the range of validation costs that the seeds ended at.
    """
    rows = {}
    for name, env in envs.items():
        form = ",.0f" if env.parameters.cost_unit == 1 else ",.1f"
        for rule, levels in committed(env).items():
            had = levels.provenance
            if "simulated_steps" not in had:
                continue
            ends = had.get("validation_costs", [had["validation_cost"]])
            rows[name, rule] = {
                "kind": kind(rule), "levels": len(levels.levels), "searches": had.get("searches", 1),
                "steps [millions]": f"{had['simulated_steps'] / 1e6:,.1f}", "seconds": f"{had['seconds']:,.0f}",
                "validation cost": " to ".join(dict.fromkeys(f"{cost:{form}}" for cost in (min(ends), max(ends)))),
            }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def savings(table: pd.DataFrame, envs: Mapping[str, Env]) -> pd.DataFrame:
    """Set the best rule of either kind beside the published agent.

    Args:
        table: of `tuned`.
        envs: environments by name.

    Returns:
        One row an environment: the cost that the ``published agent`` is reported to have, the ``textbook rule`` and the
        ``designed rule`` with their costs, ``textbook`` and ``designed``, and how many percent each is cheaper than the
        one before: ``textbook saves``, ``designed saves``.
    """
    rows = {}
    for name, env in envs.items():
        (theirs,) = published_agent(env).values()
        names = {which: best(env, which) for which in ("textbook", "designed")}
        costs: Any = {which: table.loc[(name, rule), "value"] for which, rule in names.items()}
        rows[name] = {
            "published agent": theirs, "textbook rule": names["textbook"], "designed rule": names["designed"], **costs,
            "textbook saves": 100 * (1 - costs["textbook"] / theirs),
            "designed saves": 100 * (1 - costs["designed"] / costs["textbook"]),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def opponents(saved: pd.DataFrame, forms: Mapping[str, str]) -> pd.DataFrame:
    """The table `savings` for reading: the two opponents of a learner by name, with their costs and the published one.

    Args:
        saved: of `savings`.
        forms: format of each environment's cost.
    """
    rows = {}
    for name, row in saved.iterrows():
        form = forms[str(name)]
        shown = {which: f"{row[f'{which} rule']}: {row[which]:{form}}" for which in ("textbook", "designed")}
        rows[name] = {"published agent": f"{row['published agent']:{form}}", **shown}
    return pd.DataFrame.from_dict(rows, orient="index")


def episode(env: Env, test: Scenario) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Play the first test episode under the best designed rule.

    Returns:
        The record of `meirl.trajectory`, and each part's share of the episode's cost in percent.
    """
    record = trajectory(env, heuristics.load(env, best(env, "designed")), test[:1])  # type: ignore[arg-type]
    total = record["cost"].sum()
    return record, {part: 100 * float(record[part].sum() / total) for part in Costs._fields}


def levels(env: Env, name: str) -> pd.DataFrame:
    """The committed levels of a rule for reading: value of each, and the range in which it was searched."""
    found = heuristics.read_levels(env, name)
    box = found.provenance["box"]
    rows = {
        level: {
            "value": f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}",
            "searched from": f"{box[level][0]:,g}",
            "to": f"{box[level][1]:,g}",
        }
        for level, value in found.levels.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def described() -> str:
    """A Markdown table of the textbook and the designed rules: chain, number of levels, where tuned, what each does."""
    files = {name: committed(make(name)) for name in NAMES}
    lines = ["| rule | kind | levels | tuned for | what it does |", "|---|---|---|---|---|"]
    for name, rule in RULES.items():
        if kind(name) in ("textbook", "designed"):
            count = len(rule.ranges(make(EXAMPLES[rule.kind.chain])))
            where = ", ".join(env for env, rules in files.items() if name in rules) or "nowhere"
            about = " ".join(rule.about.partition("\n\n")[0].split())
            lines.append(f"| {name} | {kind(name)} | {count} | {where} | {about} |")
    return "\n".join(lines)
