"""The first page: what every policy costs, as published and as measured here, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from .cells import Cells, estimates
from .chapter import verdict
from .published import RESULTS

RULES = {"order nothing": "never-order", "baseline": "published", "best heuristic": "best"}
"""The policies of the page that are not trained, for `meirl_study.cells.played`."""
ROWS = {
    "order nothing": ("order nothing", "measured"),
    "published baseline, as reported": ("baseline", "published"),
    "published baseline, re-measured": ("baseline", "measured"),
    "published RL agent, as reported": ("RL agent", "published"),
    "best tuned heuristic": ("best heuristic", "measured"),
    "PPO, tuned": ("PPO", "measured"),
    "A3C, tuned": ("A3C", "measured"),
}
"""Rows of the table for readers: policy and kind."""
NORMAL = 1.96  # standard errors in half of a 95 % interval
LARGE = 10_000  # costs above it are shown without decimals


def reported() -> pd.DataFrame:
    """What the study reports, with intervals over its test episodes, computed from its standard deviations.

    Returns:
        ``environment``, ``policy`` (``baseline`` and ``RL agent``), ``value``, ``low``, ``high``.
    """
    rows = []
    for name, theirs in RESULTS.iterrows():
        for policy, kind in (("baseline", "baseline"), ("RL agent", "agent")):
            cost = theirs[f"{kind}_cost"]
            half = NORMAL * theirs[f"{kind}_std"] / theirs["episodes"] ** 0.5
            rows.append([name, policy, cost, cost - half, cost + half])
    return pd.DataFrame(rows, columns=["environment", "policy", "value", "low", "high"])


def gather(cells: Cells) -> pd.DataFrame:
    """All evidence in one table, for `meirl_study.figures.evidence`.

    Args:
        cells: costs of the policies in `RULES`, PPO and A3C.

    Returns:
        ``environment``, ``policy``, ``value``, ``low``, ``high``; ``kind``: ``published`` or ``measured``; ``never``:
        what ordering nothing costs there.
    """
    never = {name: cost.mean() for (name, policy), cost in cells.items() if policy == "order nothing"}
    table = pd.concat([reported().assign(kind="published"), estimates(cells).assign(kind="measured")])
    return table.assign(never=table["environment"].map(never)).reset_index(drop=True)


def markdown(table: pd.DataFrame) -> str:
    """The table of `gather` for readers: one row of `ROWS` each, one column an environment."""
    names = list(dict.fromkeys(table["environment"]))
    keys = table[["environment", "policy", "kind"]].itertuples(index=False, name=None)
    costs = table[["value", "low", "high"]].itertuples(index=False, name=None)
    texts = {key: number(*cost) for key, cost in zip(keys, costs, strict=True)}
    lines = [["policy", *names], ["---"] + ["---:"] * len(names)]
    lines += [[row, *(texts[(name, *key)] for name in names)] for row, key in ROWS.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float, low: float, high: float) -> str:
    """A cost with half its interval, ``206.8 ± 1.0``; no-break spaces keep both on one line."""
    digits = 0 if value > LARGE else 1
    return f"{value:,.{digits}f}\N{NBSP}±\N{NBSP}{(high - low) / 2:,.{digits}f}"


def savings(table: pd.DataFrame) -> pd.Series:
    """How much less the best heuristic costs than the published agent, in percent, by environment."""
    cost = table.pivot_table(index="environment", columns=["policy", "kind"], values="value")
    return 100 * (1 - cost["best heuristic", "measured"] / cost["RL agent", "published"])


def verdict_on_all(intervals: Iterable[tuple[float, float]]) -> str:
    """What the intervals of several cost differences say of all learners: only what holds for each of them.

    Args:
        intervals: ends of each learner's, see `meirl_study.chapter.verdict`.

    Returns:
        ``beats`` or ``loses to`` if all do, else ``does not clearly beat``.
    """
    single = {verdict(low, high) for low, high in intervals}
    if single in ({"beats"}, {"loses to"}):
        return single.pop()
    return "does not clearly beat"
