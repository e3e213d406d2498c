"""Chapter "A second study": the divergent chain of the literature, as reported and re-measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from meirl.envs import Env, Observation
from meirl.rollout import Policy

from .cells import Cells
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
RULES = {BASELINE: "published", "base stock, tuned": "base-stock", "balanced echelons, tuned": "balanced-echelon"}
"""What the chapter calls the rules: a name for `meirl.heuristics.load`."""
WHOLE = "balanced echelons, whole units"


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
