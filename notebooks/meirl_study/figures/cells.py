"""Figures of the cells: learning curves at both budgets, where they come near the rules."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from . import style

HIGHEST = 140  # percent of the designed rule: what is worse is off the axis, unless a run ends there


@style.styled
def cell_curves(panels: Mapping[str, pd.DataFrame], textbook: Mapping[str, float], columns: int = 1) -> Figure:
    """Plot validation costs in percent of the designed rule's: mean over seeds, from best to worst seed, both budgets.

    Args:
        panels: of `meirl_study.training.curves`, by title: ``budget``, ``seed``, ``millions``, ``percent``.
        textbook: cost of the textbook rule in the same percent, by title.
        columns: of panels; those of a row share their scale.
    """
    rows = len(panels) // columns
    height = 3.2 if rows == 1 else 0.6 + 1.75 * rows
    figure, axes = style.panels(panels, height, "cost [% of the\ndesigned rule's]", rows=rows)
    for row in np.reshape(list(panels), (rows, columns)):
        ends = [panels[name].groupby(["budget", "seed"])["percent"].last().max() for name in row]
        lowest = min(panels[name]["percent"].min() for name in row)
        for name in row:
            limits = min(lowest, 100) - 4, max(HIGHEST, 1.05 * max(ends))
            _panel(axes[name], name, panels[name], textbook[name], limits)
    for name in row:
        axes[name].set_xlabel("simulated steps [millions]")
    for budget, dash in (("1×", "--"), ("10×", "-")):  # in the legend without a colour, which is the learner's
        label = f"{budget} the published budget: mean and range of seeds"
        axes[name].plot([], [], color=style.GREY, ls=dash, marker="", lw=1.8, label=label)
    style.shared_legend(figure, 2)
    return figure


def _panel(ax: Axes, name: str, curves: pd.DataFrame, textbook: float, limits: tuple[float, float]) -> None:
    tables = {str(budget): table for budget, table in curves.groupby("budget", sort=False)}
    looks = style.looks(f"{name} {budget}" for budget in tables)
    for look, table in zip(looks.values(), tables.values(), strict=True):
        seeds = table.pivot_table(index="millions", columns="seed", values="percent")
        ax.fill_between(seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=look["color"], alpha=0.2, lw=0)
        ax.plot(seeds.mean(axis=1), **look | {"marker": "", "lw": 1.8})
    ax.axhline(100, **style.policy("designed rule") | {"marker": "", "lw": 1}, label="designed rule")
    look = style.policy("textbook rule")
    if textbook <= limits[1]:
        ax.axhline(textbook, **look | {"marker": "", "lw": 1.2, "linestyle": ":"}, label="textbook rule")
    else:
        note = ax.annotate(f"textbook rule: {textbook:.0f} %", (0.98, 0.93), xycoords="axes fraction", fontsize=8)
        note.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5})
        note.set(ha="right", va="top", color=style.GREY)
    ax.set(xscale="log", ylim=limits)
    ax.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator(), major_formatter="{x:g}")
