"""Figures of learning: what a second worker brings."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from . import style


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
        for name, history in histories.items():
            ordered = history.sort_values(column)
            ax.plot(ordered[column] / scale, ordered["validation_cost"], ms=4, label=name)
        style.reference_lines(ax.axhline, reference)
    costs = [history["validation_cost"] for history in histories.values()]
    # A beginner costs many times as much: the dearer half of a run's validations may leave the axis.
    shown = [*reference.values(), *(end for cost in costs for end in (cost.min(), cost.median()))]
    axes[0].set(xlabel="environment steps [millions]", ylim=(0.98 * min(shown), 1.02 * max(shown)))
    axes[1].set(xlabel="time since the first report [seconds]")
    style.money(axes[0].yaxis, f"mean cost of an episode\n[{unit}]")
    style.shared_legend(figure, 2)
    return figure
