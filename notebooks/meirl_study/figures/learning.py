"""Figures of learning: what a second worker brings."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from . import style

ABOVE = 1.5  # the axis ends at so many times the dearest reference: what matters happens below


@style.styled
def pays(histories: Mapping[str, pd.DataFrame], unit: str, reference: Mapping[str, float]) -> Figure:
    """Plot learning curves against environment steps and against seconds, where they come near the references.

    Args:
        histories: those of a `meirl.learn.Run` by name: ``steps``, ``seconds``, ``validation_cost``.
        unit: of the cost.
        reference: costs by name, drawn as lines.
    """
    figure, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 3.2), sharey=True)
    for ax, column, scale in zip(axes, ("steps", "seconds"), (1e6, 1), strict=True):
        ax.set_prop_cycle(style.CYCLE[::2])  # the colour between is that of a reference line
        for name, history in histories.items():
            ordered = history.sort_values(column)
            ax.plot(ordered[column] / scale, ordered["validation_cost"], ms=4, label=name)
        style.reference_lines(ax.axhline, reference)
    best = [history["validation_cost"].min() for history in histories.values()]
    top = max(ABOVE * max(reference.values()), 1.1 * max(best))  # a curve that comes near nothing is seen all the same
    axes[0].set(xlabel="environment steps [millions]", ylim=(0.97 * min(*best, *reference.values()), top))
    axes[1].set(xlabel="time since the first report [seconds]")
    style.money(axes[0].yaxis, f"mean cost of an episode\n[{unit}]")
    style.shared_legend(figure, 2)
    return figure
