"""Figures of the verdict: cost against effort, and learners against both opponents in cost, tail and service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from . import style

HIGHEST = 60  # percent above the rule: what is worse is off the axis
GRID = 80  # points of a curve
SMOOTHED = 20  # periods


@style.styled
def effort(panels: Mapping[str, Mapping[str, Sequence[pd.DataFrame]]], column: str, label: str) -> Figure:
    """Plot the best cost so far against effort, one panel an environment: mean over seeds, and from best to worst.

    Args:
        panels: of `meirl_study.evidence.effort`: by environment and method, a table for each seed with ``value``.
        column: of the effort, ``simulated_steps`` or ``seconds``.
        label: of the axis, with its unit.
    """
    figure, axes = style.panels(panels, 5.0, "cost above the\ndesigned rule [%]", rows=2)
    for name, ax in axes.items():
        ax.axhline(0, color=style.GREY, lw=0.8)
        for method, look in style.looks(panels[name]).items():
            tables = panels[name][method]
            x, values = together(tables, column)
            ax.plot(x, values.mean(0), label=method, **look | {"marker": "", "lw": 1.6})
            ax.fill_between(x, values.min(0), values.max(0), color=look["color"], alpha=0.15, lw=0)
        lowest = min(table["value"].min() for tables in panels[name].values() for table in tables)
        ax.set(xscale="log", xlabel=label, ylim=(min(1.25 * lowest, -5), HIGHEST))
        ax.xaxis.set_major_formatter("{x:g}")
    style.shared_legend(figure, 3)
    return figure


def together(tables: Sequence[pd.DataFrame], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Step curves of several seeds on one grid of efforts.

    Args:
        tables: one a seed, ``value`` at growing efforts.
        column: of the effort.

    Returns:
        Efforts from where every seed has begun to where the last one ends, ``(points,)``, and what each seed had by
        then, ``(seeds, points)``; one that has ended keeps what it had.
    """
    first = max(table[column].iloc[0] for table in tables)
    last = max(first * 1.01, *(table[column].iloc[-1] for table in tables))
    grid = np.geomspace(first, last, GRID)
    rows = [
        table["value"].to_numpy()[np.searchsorted(table[column].to_numpy(), grid * (1 + 1e-9), side="right") - 1]
        for table in tables
    ]
    return grid, np.array(rows)


@style.styled
def opponents(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw what learners cost against rules, one panel an opponent, one row an environment and learner.

    Args:
        panels: by opponent, a table with the index (environment, learner) and ``value``, ``low``, ``high`` in percent.
    """
    count = max(len(table) for table in panels.values())
    figure, axes = plt.subplots(1, len(panels), figsize=(style.WIDTH, 0.9 + 0.24 * count), sharey=True)
    for ax, (opponent, table) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        ax.axvline(0, color=style.GREY, lw=0.8)
        heights = style.rows(ax, [f"{name}, {learner}" for name, learner in table.index])
        for learner, look in style.looks(dict.fromkeys(table.index.get_level_values(1))).items():
            here = table.index.get_level_values(1) == learner
            spans = style.whiskers(table[here])
            ax.errorbar(table.loc[here, "value"], heights[here], xerr=spans, **look | {"linestyle": "", "ms": 5})
        ax.set(xlabel="cost against it [%]", title=opponent)
    return figure


@style.styled
def frontier(panels: Mapping[str, Mapping[str, pd.DataFrame]], units: Mapping[str, str]) -> Figure:
    """Plot mean cost against fill rate, one panel an environment: rules re-tuned for other shortage costs, and agents.

    Args:
        panels: by environment and policy, a table with ``fill_rate`` (share) and ``cost``, one row a run or a level of
            the shortage cost.
        units: of the cost, by environment.
    """
    figure, axes = style.panels(panels, 3.4, sharex=False)
    for name, ax in axes.items():
        for policy, look in style.looks(panels[name]).items():
            points = panels[name][policy].sort_values("fill_rate")
            line = {} if "rule" in policy else {"linestyle": ""}
            ax.plot(100 * points["fill_rate"], points["cost"], label=policy, ms=5, **look | line)
        ax.set_xlabel("fill rate [% of demand]")
        style.money(ax.yaxis, f"mean cost of an episode\n[{units[name]}]")
    style.shared_legend(figure, 3)
    return figure


@style.styled
def behaviour(seen: Mapping[str, Mapping[str, np.ndarray]], nodes: Sequence[str], unit: str) -> Figure:
    """Draw one episode under several policies, one column a policy, one row each for stock, orders, backlog and cost.

    Args:
        seen: of `meirl_study.behaviour.watch`.
        nodes: names, upstream first.
        unit: of the cost.
    """
    facts = {"on hand": "on hand\n[units]", "orders": f"orders, mean of\n{SMOOTHED} periods [units]",
             "backlog": "backlog\n[units]", "cost so far": f"cost so far\n[{unit}]"}  # fmt: skip
    figure, axes = plt.subplots(len(facts), len(seen), figsize=(style.WIDTH, 6.2), sharex=True, sharey="row")
    colours = style.looks(nodes)
    for column, (policy, record) in enumerate(seen.items()):
        axes[0, column].set_title(policy.replace(" ", "\n", 1), fontsize="small")
        for row, (fact, label) in enumerate(facts.items()):
            ax, values = axes[row, column], record[fact]
            series = [values] if values.ndim == 1 else values.T
            if fact == "orders":  # one by one they are a slab of ink
                series = [np.convolve(line, np.full(SMOOTHED, 1 / SMOOTHED), "valid") for line in series]
            named = nodes[len(nodes) - len(series) :] if values.ndim > 1 else ["all"]
            for name, line in zip(named, series, strict=True):
                look = colours.get(name, {"color": style.BLACK}) | {"marker": "", "lw": 0.8}
                ax.plot(
                    np.arange(len(values) - len(line), len(values)),
                    line,
                    label=name if name in colours else None,
                    **look,
                )
            if not column:
                ax.set_ylabel(label)
                style.money(ax.yaxis, label)
    second = sorted(record["cost so far"][-1] for record in seen.values())[-2]
    axes[-1, 0].set_ylim(
        0, 1.15 * second
    )  # the dearest, who orders nothing, leaves the axis: the others can be told apart
    for ax in axes[-1]:
        ax.set_xlabel("period")
    style.shared_legend(figure, len(nodes))
    return figure
