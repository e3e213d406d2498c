"""Chapter "A second study": the divergent chain of the literature, as reported and re-measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from meirl import heuristics
from meirl.envs import Env, Observation
from meirl.evaluation import summarise
from meirl.heuristics import RULES as RULES_BY_NAME
from meirl.rollout import Policy, rollout

from .answers import Controls
from .cells import Cells
from .chapter import shown
from .statistics import bootstrap

NAME = "kunnumkal-topaloglu"
REPOSITORY, COMMIT, DATE = "https://github.com/ziegeo/DRL_Geevers", "f8da304", "25 September 2024"
"""Their code, at the commit that was read, and its day."""


class Report(NamedTuple):
    """A number that the study reports."""

    says: str
    cost: float | None  #: of 50 periods; None where only a percentage is given
    percent: float | None  #: below their base stock
    where: str


REPORTS = (
    Report("base stock, levels 124, 30, 30, 30", 4059.0, None, "thesis, chapter 5"),
    Report("PPO", 3724.0, 8.3, "thesis, chapter 5"),
    Report("PPO, on average", None, 11.3, "article, abstract"),
)
"""What is reported of the divergent case.

The article (Geevers, van Hezewijk & Mes 2024) was read in its abstract only. The thesis (Geevers 2020,
essay.utwente.nl/85432) was read in a transcription, in the repository NimaMan/invman, not page by page.
"""
FACTS = (
    ("levels of the base stock", "124, 30, 30, 30; average of 1,000 replications", "divergent_simulation.py"),
    ("horizon and warm-up", "75 periods, of which the first 25 do not count", "cases.py"),
    ("what PPO sees", "13 numbers: stocks, backorders, in transit, two totals; no date", "cases.py, inventory_env.py"),
    ("what PPO orders", "up to 300 at the warehouse and 75 at a retailer, rounded to whole units", "cases.py"),
    ("its training", "up to 50,000 times 256 periods, scored every 500 on 100 replications", "ppo_settings.py"),
    ("seeds", "10 replications", "divergent_drl.py"),
)
"""What their code says, by file, at `COMMIT`."""
BASELINE = "published base stock"
TUNED, LEVEL = "base stock, tuned", "balanced echelons, tuned"
RULES = {BASELINE: "published", TUNED: "base-stock", LEVEL: "balanced-echelon"}
"""What the chapter calls the rules: a name for `meirl.heuristics.load`."""
WHOLE = "balanced echelons, whole units"
ELSEWHERE = {(124, 30): (4041.4, 1.2), (111, 31): (3713.3, 1.7)}
"""Cost of base stock with its standard error, by levels of warehouse and retailers, in a program of its own."""


def reports() -> pd.DataFrame:
    """The reported numbers as a table for reading, with what follows from them: a cost, or a percentage."""
    base = REPORTS[0].cost
    assert base is not None
    rows = {}
    for report in REPORTS:
        follows = base * (1 - report.percent / 100) if report.cost is None and report.percent is not None else None
        cost = f"{report.cost:,.0f}" if report.cost is not None else f"(about {follows:,.0f})"
        below = "" if report.percent is None else f"{report.percent:.1f} %"
        rows[report.says] = {"cost of 50 periods": cost, "below their base stock": below, "where": report.where}
    return pd.DataFrame.from_dict(rows, orient="index")


def facts() -> pd.DataFrame:
    """What their code says, as a table for reading."""
    return pd.DataFrame(FACTS, columns=["", "in their code", "file"]).set_index("")


def in_whole_units(policy: Policy, env: Env) -> Policy:
    """The same policy with its orders rounded to whole units, as the study's agents order."""

    def rounded(observation: Observation) -> torch.Tensor:
        return env.action(env.orders(policy(observation)).round())

    return rounded


def whole_units(chapter: Controls) -> Cells:
    """Costs of the rule that keeps retailers level, its orders in whole units, on the test scenarios."""
    env = chapter.envs[NAME]
    policy = in_whole_units(heuristics.load(env, RULES[LEVEL]), env)
    return {(NAME, WHOLE): rollout(env, policy, chapter.tests[NAME])["cost"].to_numpy()[None]}


def agreement(env: Env, episodes: int) -> pd.DataFrame:
    """Set the cost of base stock here beside that of an independent program of the same chain.

    Args:
        env: the chain.
        episodes: that each pair of levels plays.

    Returns:
        One row a pair: ``theirs`` and ``ours``, each with its ``error``; ``difference`` in standard errors of both.
    """
    rows = {}
    for (warehouse, retailer), (theirs, error) in ELSEWHERE.items():
        rule = RULES_BY_NAME["base-stock"].policy(env, [warehouse, *[retailer] * env.retailers])
        ours: Any = summarise(rollout(env, rule, env.sample(episodes, seed=6)))
        both = np.hypot(error, ours["standard_error"])
        rows[f"levels {warehouse}, {retailer}"] = {
            "theirs": theirs, "their error": error, "ours": ours["mean_cost"], "our error": ours["standard_error"],
            "difference": (ours["mean_cost"] - theirs) / both,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def compared(costs: Cells, bound: float) -> pd.DataFrame:
    """Every policy against their base stock and against the bound, over training seeds and episodes.

    Args:
        costs: matrices of costs of the chain's policies, `BASELINE` among them.
        bound: no stationary policy costs less in the long run.

    Returns:
        Index: policy. ``value``, ``low``, ``high``: cost of 50 periods; ``saves``, ``saves_low``, ``saves_high``:
        percent of the base stock's cost, paired; ``above``, ``above_low``, ``above_high``: percent above the bound.
    """
    base = costs[NAME, BASELINE]
    rows = {}
    for (_, policy), cost in costs.items():
        low, high = bootstrap(np.mean, cost)
        saved = bootstrap(_saved, cost, base)
        above = [100 * (value / bound - 1) for value in (cost.mean(), low, high)]
        rows[policy] = {
            "value": cost.mean(), "low": low, "high": high,
            "saves": _saved(cost, base), "saves_low": saved[0], "saves_high": saved[1],
            "above": above[0], "above_low": above[1], "above_high": above[2],
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def _saved(ours: np.ndarray, theirs: np.ndarray) -> float:
    return 100 * (1 - ours.mean() / theirs.mean())


def shares(table: pd.DataFrame, bound: float, reported: Mapping[str, float]) -> pd.Series:
    """Of what can be saved at all, from their base stock down to the bound: the share that each policy saves.

    Args:
        table: of `compared`.
        bound: as there.
        reported: costs that were not measured here, by name.

    Returns:
        Percent by policy, reported ones last.
    """
    base = float(table["value"][BASELINE])
    costs = pd.concat([table["value"], pd.Series(reported, dtype=float)])
    return 100 * (base - costs) / (base - bound)


def for_reading(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `compared` as text."""
    rows = {}
    for policy, row in table.iterrows():
        rows[policy] = {
            "cost of 50 periods": shown(row["value"], row["low"], row["high"], ",.0f"),
            "below the published base stock [%]": shown(row["saves"], row["saves_low"], row["saves_high"], ".1f"),
            "above the bound [%]": shown(row["above"], row["above_low"], row["above_high"], ".1f"),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def texts(table: pd.DataFrame) -> dict[str, str]:
    """What the chapter's text says of a table of `compared`, with intervals, and of the reports."""
    found = {"reported": " or ".join(f"{report.percent:.1f} %" for report in REPORTS if report.percent)}
    for key, policy in {"tuned": TUNED, "balanced": LEVEL, "ppo": "PPO", "a3c": "A3C"}.items():
        row: Any = table.loc[policy]
        found[key] = shown(row["saves"], row["saves_low"], row["saves_high"], ".1f", " %")
        found[f"{key}-above"] = shown(row["above"], row["above_low"], row["above_high"], ".1f", " %")
    return found
