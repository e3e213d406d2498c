"""Figures of the policies: heuristics and the search for their levels, PPO, A3C, and how they learn and act.

``unit`` is that of the cost, for an axis; ``reference`` are costs by name, drawn as lines.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from . import style

Pair = tuple[float, float]
Levels = Mapping[str, float]
DIAGNOSTICS = {
    "kl": "KL divergence\nof an update [nats]", "clip_fraction": "clipped samples\n[share]",
    "gradient_norm": "gradient norm\nbefore the cap [-]", "entropy": "entropy of\nthe policy [nats]",
    "explained_variance": "variance explained\nby the critic [share]",
}  # fmt: skip


@style.styled
def ladder(steps: pd.DataFrame, unit: str, reference: Levels | None = None) -> Figure:
    """Draw mean costs as horizontal bars with intervals, first row at the top.

    ``steps`` has columns ``value``, ``low``, ``high``; its index says what the bar is.
    """
    figure, ax = plt.subplots(figsize=(style.WIDTH, 0.9 + 0.34 * len(steps)))
    heights = style.rows(ax, steps.index)
    ax.barh(heights, steps["value"], xerr=style.whiskers(steps), height=0.62, ecolor=style.BLACK)
    for height, cost in zip(heights, steps["value"], strict=True):
        label = ax.annotate(f"{cost:,.0f}", (cost, height), xytext=(6, 0), textcoords="offset points", va="center")
        label.set(fontsize=8, bbox={"fc": "white", "ec": "none", "pad": 1})
    style.reference_lines(ax.axvline, reference)
    if reference:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1))
    style.money(ax.xaxis, f"mean cost of an episode [{unit}]")
    ax.margins(x=0.16)
    ax.set_xlim(0, None)
    ax.grid(axis="y", visible=False)
    return figure


@style.styled
def cost_surface(
    grid: pd.DataFrame,
    labels: tuple[str, str],
    unit: str,
    box: tuple[Pair, Pair] | None = None,
    points: Mapping[str, Pair] | None = None,
) -> Figure:
    """Map the mean cost over two levels, logarithmically, with a search box, points of interest and the diagonal.

    Args:
        grid: index: the level on the vertical axis; columns: the level on the horizontal one.
        labels: of the axes; here and below the horizontal one comes first.
        unit: of the cost.
        box: ranges of a search box.
        points: by name.
    """
    figure, ax = plt.subplots(figsize=(style.WIDTH, 4))
    x, y = grid.columns.to_numpy(float), grid.index.to_numpy(float)
    levels = np.geomspace(np.nanmin(grid), np.nanmax(grid), 25)
    shades = ax.contourf(x, y, grid.to_numpy(), levels=levels, cmap="cividis_r", norm="log")
    bar = figure.colorbar(shades, ax=ax, label=f"mean cost of an episode [{unit}]")
    style.money(bar.ax.yaxis, f"mean cost of an episode [{unit}]", 1, 2, 5)
    ax.axline((0, 0), slope=1, color="white", ls=":", lw=1.5)
    if box:
        (left, right), (bottom, top) = box
        width, height = right - left, top - bottom
        ax.add_patch(Rectangle((left, bottom), width, height, fill=False, ec=style.VERMILION, lw=2, ls="--"))
        note = ax.annotate("published search box", (left, top), xytext=(2, 5), textcoords="offset points", fontsize=8)
        note.set(color="black", bbox={"fc": "white", "ec": "none", "alpha": 0.9, "pad": 1})
    for (name, point), look in zip((points or {}).items(), style.CYCLE, strict=False):
        ax.plot(*point, look["marker"], color="white", mec="black", ms=8, label=name)
    if points:
        ax.legend(loc="lower right", facecolor="white", framealpha=0.9, frameon=True)
    ax.set(xlabel=labels[0], ylabel=labels[1], xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    return figure


@style.styled
def searches(histories: Mapping[str, pd.DataFrame], unit: str, reference: Levels | None = None) -> Figure:
    """Plot the best cost found so far against simulated steps, one line a search.

    ``histories`` are those of `meirl.heuristics.tuning.tune`: ``simulated_steps``, ``best_cost``.
    """
    figure, ax = plt.subplots(figsize=(style.WIDTH, 3))
    for name, history in histories.items():
        ax.step(history["simulated_steps"] / 1e6, history["best_cost"], where="post", marker="", label=name)
    style.reference_lines(ax.axhline, reference)
    ax.set(xlabel="simulated steps [millions]", yscale="log")
    style.money(ax.yaxis, f"best training cost\nso far [{unit}]", 1, 2, 5)
    ax.legend()
    return figure


@style.styled
def curves(lines: Mapping[str, tuple[np.ndarray, np.ndarray]], labels: tuple[str, str]) -> Figure:
    """Plot lines by name, each ``(x, y)``; ``labels`` are of the two axes, with units."""
    figure, ax = plt.subplots(figsize=(style.WIDTH, 2.9))
    for name, (x, y) in lines.items():
        ax.plot(x, y, marker="", label=name)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.legend()
    return figure


@style.styled
def surrogate(ratio: np.ndarray, objective: Mapping[str, np.ndarray], clip: float) -> Figure:
    """Draw PPO's clipped objective of one sample against the probability ratio, one panel a sign of the advantage.

    ``ratio`` and every ``objective`` are ``(points,)``.
    """
    figure, axes = style.panels(objective, 2.6, "objective of the sample [-]", sharex=True)
    for name, ax in axes.items():
        sign = np.sign(objective[name][-1])
        ax.plot(ratio, sign * ratio, ":", color=style.GREY, label="not clipped")
        ax.plot(ratio, objective[name], "-", color=style.BLUE, lw=2, label="clipped")
        ax.axvspan(1 - clip, 1 + clip, color=style.ORANGE, alpha=0.2, lw=0)
        ax.plot(1, sign, "o", color=style.VERMILION, ms=6)
        ax.set_xlabel("probability ratio [-]")
    next(iter(axes.values())).legend()
    return figure


@style.styled
def shared_luck(before: np.ndarray, after: np.ndarray) -> Figure:
    """Plot advantages of copies of one scenario, ``(T, copies)`` reward units, before and after luck is taken out."""
    values = {"as estimated": before, "without luck": after}
    figure, axes = style.panels(values, 2.7, "advantage [reward units]", sharey=True)
    for name, ax in axes.items():
        ax.plot(values[name], "-", color=style.BLUE, lw=0.8, alpha=0.6)
        ax.plot(values[name].mean(1), "--", color=style.VERMILION, lw=1.8, label="mean of the copies")
        ax.set_xlabel("period")
    axes["as estimated"].legend()
    return figure


@style.styled
def training(history: pd.DataFrame, unit: str, reference: Levels) -> Figure:
    """Show a training run: validation cost, and what the learner reports about itself.

    ``history`` is that of a `meirl.learn.Run`, one row a validation: ``steps``, ``training_cost``, ``validation_cost``
    and any of ``kl``, ``clip_fraction``, ``gradient_norm``, ``entropy``, ``explained_variance``.
    """
    shown = [key for key in DIAGNOSTICS if key in history]
    columns = 3 if len(shown) == 3 else 2
    cells = np.reshape([*shown, *["."] * (-len(shown) % columns)], (-1, columns)).tolist()
    figure, axes = plt.subplot_mosaic(
        [["cost"] * columns, *cells], figsize=(style.WIDTH, 3 + 1.3 * len(cells)), sharex=True,
        height_ratios=(1.7, *[1] * len(cells)),
    )  # fmt: skip
    cost, millions = axes["cost"], history["steps"] / 1e6
    cost.plot(millions, history["training_cost"], "-", color=style.SKY, lw=1, label="training, actions drawn")
    cost.plot(millions, history["validation_cost"], "o-", color=style.BLUE, ms=3, label="validation, deterministic")
    cost.tick_params(labelbottom=True)
    cost.locator_params("x", nbins=5)  # of all panels, narrow ones too
    style.cost_axis(cost, unit, reference)
    style.legend_above(cost, 2)
    for key in shown:
        axes[key].plot(millions, history[key], ".-", color=style.BLUE, lw=1, ms=6)
        axes[key].set_ylabel(DIAGNOSTICS[key])
    figure.supxlabel("environment steps [millions]", fontsize=9)
    return figure


@style.styled
def ordering(seen: Mapping[str, tuple[np.ndarray, np.ndarray]], mean: np.ndarray, nodes: Mapping[int, str]) -> Figure:
    """Scatter orders against the echelon inventory position, one column a policy, one row a node.

    Args:
        seen: positions and orders by policy, each ``(episode, T, N)`` units.
        mean: demand that the season lets expect, ``(T,)`` units; the colour.
        nodes: names of the nodes to show, by index.
    """
    figure = plt.figure(figsize=(style.WIDTH, 2.3 * len(nodes)))
    axes = figure.subplots(len(nodes), len(seen), sharex="row", sharey="row", squeeze=False)
    for column, (policy, (position, orders)) in zip(axes.T, seen.items(), strict=True):
        column[0].set_title(policy)
        for ax, (node, name) in zip(column, nodes.items(), strict=True):
            colour = np.broadcast_to(mean, position.shape[:2])
            dots = ax.scatter(position[..., node], orders[..., node], 4, colour, cmap="cividis", rasterized=True)
            ax.set_xlabel(f"echelon inventory position,\n{name} [units]")
    for ax, name in zip(axes[:, 0], nodes.values(), strict=True):
        ax.set_ylabel(f"order, {name}\n[units a period]")
    figure.colorbar(dots, ax=axes, label="mean demand of the season\n[units a period and retailer]", aspect=40)
    return figure


@style.styled
def duel(records: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draw the first episode of `meirl.trajectory` by policy: demand, then stock, orders, backlog and cost so far."""
    labels = ("demand\n[units]", "warehouse stock\n[units]", "warehouse order\n[units]", "backlog\n[units]")
    figure, axes = plt.subplots(5, 1, figsize=(style.WIDTH, 6.6), sharex=True)
    for name, look in style.looks(records).items():
        record = records[name]
        stock, orders, backlog, cost = (record[key][0] for key in ("on_hand", "orders", "backlog", "cost"))
        for ax, values in zip(axes[1:], (stock[:, 0], orders[:, 0], backlog.sum(1), cost.cumsum()), strict=True):
            ax.plot(values, label=name, **look | {"marker": "", "lw": 1})
    axes[0].plot(record["demand"][0].sum(1), "-", color=style.BLACK, lw=0.8)  # the same for all
    for ax, label in zip(axes, (*labels, "cost so far\n[units of cost]"), strict=True):
        style.money(ax.yaxis, label)
    style.legend_above(axes[1], len(records))
    axes[-1].set(xlabel="period", xlim=(0, len(cost)))
    figure.align_ylabels()
    return figure
