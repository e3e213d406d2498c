"""Figures of the report on a chain of one's own: narrow enough for a phone."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from . import style

WIDTH = 5.4  # inches


@style.styled
def record(dates: pd.DatetimeIndex, units: np.ndarray, names: tuple[str, ...], cut: int) -> Figure:
    """Draw recorded demand, week by week (month by month if it is long), and where its later part begins.

    Args:
        dates: of the periods.
        units: ``(periods, R)``.
        names: of the locations.
        cut: first period of the later part.
    """
    table = pd.DataFrame(units, dates, list(names))
    monthly = (dates[1] - dates[0]).days > 7
    step = "MS" if monthly or (dates[-1] - dates[0]).days >= 1_500 else "W"
    smooth = table.resample(step).mean().dropna().iloc[1:-1] if len(table) > 30 else table
    figure, ax = plt.subplots(figsize=(WIDTH, 2.6))
    for name, look in style.looks(names).items():
        ax.plot(smooth.index, smooth[name], label=name, **look | {"marker": ""})
    ax.axvspan(dates[cut], dates[-1], color=style.GREY, alpha=0.12, lw=0, label="judged on")  # type: ignore[arg-type]
    ax.set_ylim(bottom=0)
    ax.set_ylabel(f"mean demand a period\n[units], by {'week' if step == 'W' else 'month'}")
    ax.xaxis.set_major_locator(plt.MaxNLocator(5))
    style.legend_above(ax, 4)
    return figure


@style.styled
def parts(costs: Mapping[str, pd.Series], unit: str, per: str) -> Figure:
    """Stack the parts of the mean cost, one bar a policy; parts that nobody pays are left out.

    Args:
        costs: by policy, mean cost by part as `meirl.envs.Costs` names them.
        unit: of the cost.
        per: what time it is of.
    """
    table = pd.DataFrame(costs).T.rename(columns=lambda name: name.replace("_", " "))
    figure, ax = plt.subplots(figsize=(WIDTH, 1.0 + 0.42 * len(table)))
    heights, begin = style.rows(ax, table.index), np.zeros(len(table))
    for part in [name for name in table if table[name].any()]:
        ax.barh(heights, table[part], 0.6, begin, color=style.PARTS[str(part)], ec="white", lw=0.5, label=part)
        begin += table[part].to_numpy()
    style.money(ax.xaxis, f"mean cost {per} [{unit}]")
    ax.grid(axis="y", visible=False)
    style.shared_legend(figure, 3)
    return figure


@style.styled
def service(curve: pd.DataFrame, points: Mapping[str, tuple[float, float]], unit: str, per: str) -> Figure:
    """Plot what stock and orders cost against the fill rate that they give.

    Args:
        curve: ``fill rate`` (share) and ``stock and orders``, of the rule tuned for several costs of shortage.
        points: the same two numbers of single policies.
        unit: of the cost.
        per: what time it is of.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.0))
    looks = style.looks(["recommended rule, other levels", *points])
    ax.plot(100 * curve["fill rate"], curve["stock and orders"], **looks["recommended rule, other levels"],
            label="recommended rule, other levels")  # fmt: skip
    for name, (fill, cost) in points.items():
        ax.plot(100 * fill, cost, label=name, **looks[name] | {"linestyle": "", "markersize": 9})
    ax.set_xlabel("fill rate [% of demand met at once]")
    style.money(ax.yaxis, f"cost of stock and orders\n{per} [{unit}]")
    style.legend_above(ax, 2)
    return figure
