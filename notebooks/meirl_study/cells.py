"""Cells, one policy on one environment each: their test episodes in one table, as matrices of costs, with intervals.

Several chapters put the same policies beside each other: rules, which are not trained, and agents, trained with
several seeds. All have played the same test episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import product

import numpy as np
import pandas as pd

from meirl.evaluation import cvar

from .chapter import Chapter, shown
from .statistics import bootstrap, crossed
from .study import BUDGETS

Cells = dict[tuple[str, str], np.ndarray]
"""By environment and policy, what every run made of every test episode: ``(seeds, episodes)``, one row for a rule."""
LEARNERS = tuple(f"{algo} {budget}" for budget in BUDGETS.values() for algo in ("PPO", "A3C"))
"""What tables and figures call the agents: the algorithm and its budget, in multiples of the published one."""
OPPONENTS = {"textbook rule": "textbook", "designed rule": "best"}
"""Tuned rules by what they are called here, with their name for `meirl.heuristics.load`."""
MEASURES = {
    "fill_rate": ("fill rate", ".1%"),
    "fill_rate_same_period": ("same-period fill rate", ".1%"),
    "lost": ("lost or withdrawn [units]", ",.0f"),
    "forgotten": ("forgotten [units]", ",.0f"),
    "on_hand": ("on hand [units]", ",.0f"),
    "backlog": ("backlog [units]", ",.0f"),
    "bullwhip": ("bullwhip", ",.1f"),
}
"""What a policy does: columns of `meirl.rollout.rollout` with heading and format."""


def played(chapter: Chapter, rules: Mapping[str, str], *studies: pd.DataFrame) -> pd.DataFrame:
    """Play rules on the test scenarios, and put the test episodes of trained agents below theirs.

    Args:
        chapter: gives environments and test scenarios.
        rules: what a rule is called here: a name for `meirl.heuristics.load`.
        *studies: tables of `meirl_study.study.run`.

    Returns:
        One row a test episode: ``env``, ``policy``, ``seed`` (0 for a rule), ``episode`` and the columns of
        `meirl.rollout.rollout`.
    """
    tables = [
        chapter.play(name, rule).assign(env=name, policy=policy, seed=0, episode=range(chapter.episodes))
        for name in chapter.envs
        for policy, rule in rules.items()
    ]
    agents = [study.assign(policy=agent_names(study)) for study in studies]
    return pd.concat([*tables, *agents], ignore_index=True)


def agent_names(study: pd.DataFrame) -> pd.Series:
    """What the agents of a table of `meirl_study.study.run` are called: as in `LEARNERS`, or as their algorithm."""
    upper = study["algo"].str.upper() + " " + study["preset"].map(BUDGETS).fillna("")
    return upper.where(upper.isin(LEARNERS), study["algo"])


def matrices(table: pd.DataFrame, column: str = "cost") -> Cells:
    """Arrange one column of a table of `played`, cell by cell.

    Returns:
        In the order in which the table has environments and, within each, policies.
    """
    found = {key: crossed(rows, column) for key, rows in table.groupby(["env", "policy"])}
    order = product(table["env"].unique(), table["policy"].unique())
    return {key: found[key] for key in order if key in found}


def estimates(cells: Cells, statistic: Callable[[np.ndarray], float] = np.mean, resamples: int = 2_000) -> pd.DataFrame:
    """A statistic of every cell, with its interval over training seeds and episodes, both drawn anew.

    Args:
        cells: matrices.
        statistic: of one matrix.
        resamples: of the bootstrap.

    Returns:
        One row a cell: ``environment``, ``policy``, ``value``, ``low``, ``high``.
    """
    rows = [[*key, statistic(cell), *bootstrap(statistic, cell, resamples=resamples)] for key, cell in cells.items()]
    return pd.DataFrame(rows, columns=["environment", "policy", "value", "low", "high"])


def costs(cells: Cells, forms: Mapping[str, str], resamples: int) -> pd.DataFrame:
    """Mean, tail and worst episode of every cell, as text, with intervals over training seeds and episodes.

    Args:
        cells: matrices of costs.
        forms: format of the cost, by environment.
        resamples: of the bootstrap.
    """
    statistics: dict[str, Callable[[np.ndarray], float]] = {"mean cost": np.mean, "CVaR, worst 5 %": tail}
    rows = {}
    for key, cost in cells.items():
        form = forms[key[0]]
        rows[key] = {
            heading: shown(statistic(cost), *bootstrap(statistic, cost, resamples=resamples), form)
            for heading, statistic in statistics.items()
        } | {"worst episode": f"{cost.max():{form}}"}
    return pd.DataFrame(rows).T


def tail(cost: np.ndarray) -> float:
    """CVaR of every run, ``(seeds, episodes)``, averaged over the runs."""
    return float(np.mean(cvar(cost)))


def service(table: pd.DataFrame, resamples: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fill rates, stock and orders of every cell, as text.

    Args:
        table: of `played`.
        resamples: of the bootstrap.

    Returns:
        One row a cell, one column each of `MEASURES`: means, and half a 95 % interval over training seeds and episodes.
    """
    means, halves = {}, {}
    for column, (heading, form) in MEASURES.items():
        found = estimates(matrices(table, column), resamples=resamples).set_index(["environment", "policy"])
        means[heading] = found["value"].map(f"{{:{form}}}".format)
        halves[heading] = ((found["high"] - found["low"]) / 2).map(f"{{:{form}}}".format)
    return pd.DataFrame(means).rename_axis([None, None]), pd.DataFrame(halves).rename_axis([None, None])


def against(cells: Cells, policies: Iterable[str], opponent: str) -> pd.DataFrame:
    """How much more policies cost than an opponent that played the same episodes.

    Args:
        cells: matrices of costs.
        policies: their names.
        opponent: its name.

    Returns:
        Index: environment and policy. ``value``, ``low``, ``high``: the difference in the unit of the cost, over
        training seeds and episodes; ``percent``: of the opponent's cost.
    """
    rows = {}
    for name, policy in product(dict.fromkeys(name for name, _ in cells), policies):
        ours, theirs = cells[name, policy], cells[name, opponent]
        low, high = bootstrap(_difference, ours, theirs)
        percent = 100 * (ours.mean() / theirs.mean() - 1)
        rows[name, policy] = {"value": _difference(ours, theirs), "low": low, "high": high, "percent": percent}
    return pd.DataFrame.from_dict(rows, orient="index")


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return ours.mean() - theirs.mean()
