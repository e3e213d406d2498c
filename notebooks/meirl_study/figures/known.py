"""Figure of the known answers: how far from the optimum everybody ends."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from . import style

LINEAR = 1.0  # percent: nearer to the optimum the axis is linear, so that 0 and what is below it are on it
TICKS = (0, 1, 3, 10, 30, 100, 300)
BELOW, ABOVE = -0.8, 1.6  # the axis begins at so much of `LINEAR`, and ends at so many times the largest value


@style.styled
def optimality(panels: Mapping[str, pd.DataFrame], marks: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw how much policies cost above the optimum, one panel a problem, one row a policy; nobody can be in the grey.

    Args:
        panels: by problem, a table with the policies as index and ``value``, ``low``, ``high`` in percent.
        marks: by problem and policy, the percentage that was to be reached, drawn as a bar.
    """
    lengths = [len(table) for table in panels.values()]
    height = 0.6 + 0.45 * len(lengths) + 0.22 * sum(lengths)
    figure, axes = style.panels(panels, height, rows=len(lengths), sharex=True, height_ratios=lengths)
    largest = max(float(table["high"].max()) for table in panels.values())
    for name, ax in axes.items():
        table, heights = panels[name], style.rows(ax, panels[name].index)
        ax.set_xscale("symlog", linthresh=LINEAR, linscale=0.5)
        ax.axvspan(-LINEAR, 0, color=style.GREY, alpha=0.25, lw=0)
        ax.axvline(0, color=style.GREY, lw=0.8)
        ax.errorbar(table["value"], heights, xerr=style.whiskers(table), color=style.BLUE, ls="", marker="o", ms=5)
        wanted = [marks.get(name, {}).get(policy, np.nan) for policy in table.index]
        ax.plot(wanted, heights, color=style.VERMILION, ls="", marker="|", ms=13, mew=2, label="to be reached")
        ax.set(xlim=(BELOW * LINEAR, ABOVE * max(largest, LINEAR)), xticks=[t for t in TICKS if t <= ABOVE * largest])
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[list(panels)[-1]].set_xlabel("cost above the optimum [%]")
    style.shared_legend(figure, 1)
    return figure
