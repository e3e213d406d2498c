"""Every figure of the book, one function each: it draws what it is given and returns a matplotlib `Figure`.

House style: the Okabe-Ito colours, told apart by colour-blind eyes; markers or line styles beside them, for print; axis
labels with units; no titles, since a caption says what to see.
"""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from .collect import LearnerConfig
from .envs import Env, Scenario

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
STYLE: Any = {
    "axes.axisbelow": True, "axes.grid": True, "axes.labelsize": 9, "axes.prop_cycle": plt.cycler(color=COLOURS),
    "axes.spines.right": False, "axes.spines.top": False, "axes.titlelocation": "left", "axes.titlesize": 9.5,
    "figure.constrained_layout.use": True, "figure.dpi": 130, "figure.facecolor": "white", "font.size": 9,
    "grid.color": "#DDDDDD", "grid.linewidth": 0.6, "legend.fontsize": 8, "legend.frameon": False,
    "lines.linewidth": 1.4, "xtick.labelsize": 8, "ytick.labelsize": 8,
}  # fmt: skip
WIDTH = 7.0  # inches: the text column


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the house style; close the figure, so that a notebook shows it once, where it is returned."""

    @functools.wraps(draw)
    def wrapped(*args: Any, **kwargs: Any) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*args, **kwargs)
        plt.close(figure)
        return figure

    return wrapped


@_styled
def chain(env: Env) -> Figure:
    """Draw a supply chain: nodes with their stock and costs, arrows with lead times, demand at the end."""
    p: Any = env.parameters
    figure, ax = plt.subplots(figsize=(WIDTH, 0.85 + 0.78 * env.retailers))
    rows = np.linspace(env.retailers - 1, 0, env.retailers)
    middle = (env.retailers - 1) / 2
    divergent = env.chain == "divergent"
    source, hub = ("supplier", "warehouse") if divergent else ("factory", "middle")
    lead = f"lead time\n{_range(p.lead_time.low, p.lead_time.high if p.lead_time.standard_deviation else 1)}"
    supply = getattr(p, "supplier_capacity", None)
    _box(ax, 0, middle, source, "no limit" if supply is None else f"≈ {supply.mean:g} a period", COLOURS[6])
    holding = p.holding_cost
    upstream = holding.warehouse if divergent else holding.middle
    outbound = "" if p.outbound_capacity is None else f"\nships ≈ {p.outbound_capacity.mean:,.0f}"
    _box(ax, 1.6, middle, hub, f"holding {upstream:g}{outbound}", COLOURS[0])
    _arrow(ax, 0.42, middle, 1.18, middle, lead)
    shortage, retail = (p.backorder_cost, holding.retailer) if divergent else (p.shortage_cost, holding.leaf)
    for name, y in zip(env.node_names[1:], rows, strict=True):
        _box(ax, 3.4, y, name, f"holding {retail:g}\nshortage {shortage:g}", COLOURS[2])
        _arrow(ax, 2.02, middle, 2.98, y, "")
        _arrow(ax, 3.82, y, 4.5, y, "")
        ax.text(4.55, y, f"demand ≈ {p.demand.mean:,.0f}", va="center", fontsize=8)
    if p.demand.direct:
        _arrow(ax, 1.6, middle - 0.36, 1.6, middle - 0.95, "")
        ax.text(
            1.6, middle - 1.0, f"own demand ≈ {p.demand.direct * p.demand.mean:g}", ha="center", va="top", fontsize=8
        )
    ax.set(xlim=(-0.5, 5.5), ylim=(-0.55, env.retailers - 0.45))
    ax.set_axis_off()
    return figure


def _range(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low}–{high}"


def _box(ax: Axes, x: float, y: float, name: str, note: str, colour: str) -> None:
    shape = FancyBboxPatch((x - 0.4, y - 0.34), 0.8, 0.68, boxstyle="round,pad=0.02", fc="white", ec=colour, lw=1.6)
    ax.add_patch(shape)
    ax.text(x, y + 0.17, name, ha="center", va="center", fontsize=9, color=colour, weight="bold")
    ax.text(x, y - 0.12, note, ha="center", va="center", fontsize=7)


def _arrow(ax: Axes, x: float, y: float, to_x: float, to_y: float, label: str) -> None:
    ax.add_patch(FancyArrowPatch((x, y), (to_x, to_y), arrowstyle="-|>", mutation_scale=11, color=GREY, lw=1.2))
    ax.text((x + to_x) / 2, (y + to_y) / 2 + 0.08, label, ha="center", va="bottom", fontsize=7, color=GREY)


@_styled
def stressors(env: Env, scenario: Scenario) -> Figure:
    """Show what nature does: one episode of demand, correlation of two retailers, lead times, outbound capacity."""
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 4.2), height_ratios=(1.1, 1))
    for ax in axes[0]:
        ax.remove()
    time = figure.add_subplot(axes[0, 0].get_gridspec()[0, :])
    demand, shock = scenario.demand.cpu().numpy(), scenario.shock[0].cpu().numpy()
    for i in range(env.retailers):
        label = env.node_names[1 + i]
        time.plot(demand[0, :, i], color=COLOURS[i], ls=LINES[i % len(LINES)], lw=0.7, alpha=0.8, label=label)
    time.plot(env.seasonal_mean.cpu().numpy(), color=COLOURS[6], label="mean, no shock")
    for start, stop in _runs(shock > 1):
        time.axvspan(start - 0.5, stop - 0.5, color=COLOURS[4], alpha=0.35, lw=0, label="_" if start else None)
    time.set(xlabel="period", ylabel="demand [units]", ylim=(0, None), xlim=(0, scenario.horizon))
    time.legend(ncols=env.retailers + 1, loc="upper left", bbox_to_anchor=(0, 1.22))
    pair, lead, capacity = axes[1]
    first, second = (demand[..., i].ravel()[:2000] for i in (0, 1))
    pair.plot(first, second, ".", ms=2, alpha=0.4)
    pair.set(xlabel=f"demand, {env.node_names[1]}\n[units]", ylabel=f"demand, {env.node_names[2]}\n[units]")
    days = scenario.lead_time.cpu().numpy().ravel()
    values, counts = np.unique(days, return_counts=True)
    lead.bar(values, counts / counts.sum(), color=COLOURS[0])
    lead.set(xlabel="lead time\n[periods]", ylabel="share of shipments", xlim=(0, 10.6), ylim=(0, 1.05))
    outbound = scenario.outbound_capacity.cpu().numpy().ravel()
    if np.isfinite(outbound).all():
        capacity.hist(outbound, bins=30, color=COLOURS[0], weights=np.full(outbound.size, 1 / outbound.size))
    else:
        capacity.text(0.5, 0.5, "unlimited", ha="center", va="center", transform=capacity.transAxes, color=GREY)
        capacity.set(xticks=[], yticks=[])
    capacity.set(xlabel="outbound capacity\n[units a period]", ylabel="share of periods")
    return figure


def _runs(active: np.ndarray) -> list[tuple[int, int]]:
    """Starts and ends (exclusive) of the stretches where ``active`` holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(int)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


@_styled
def episode(env: Env, record: Mapping[str, np.ndarray], periods: int | None = None) -> Figure:
    """Draw the first episode of a `trajectory`: stock, orders, waiting customers, cost by part."""
    figure, axes = plt.subplots(4, 1, figsize=(WIDTH, 5.6), sharex=True, height_ratios=(1.2, 1, 0.8, 0.9))
    keep = slice(periods)
    stock, orders, waiting, cost = axes
    for i, name in enumerate(env.node_names):
        line = {"color": COLOURS[i], "ls": LINES[i % len(LINES)], "lw": 1.1}
        stock.plot(record["on_hand"][0, keep, i], label=name, **line)
        placed = record["orders"][0, keep, i]
        when = np.flatnonzero(placed)
        orders.plot(when, placed[when], MARKERS[i], ms=2.5, color=COLOURS[i], alpha=0.7)
        if i:
            waiting.plot(record["backlog"][0, keep, i - 1], **line)
    stock.set_ylabel("on hand\n[units]")
    orders.set_ylabel("order\n[units]")
    waiting.set_ylabel("backlog\n[units]")
    parts = [part for part in ("holding", "shortage", "ordering", "pipeline", "lost_sales") if record[part].any()]
    values = [record[part][0, keep] for part in parts]
    shades = [COLOURS[k] for k in (5, 1, 4, 2, 3)][: len(parts)]
    cost.stackplot(np.arange(len(values[0])), values, labels=[p.replace("_", " ") for p in parts], colors=shades)
    cost.set(ylabel="cost of the\nperiod", xlabel="period", xlim=(0, len(values[0])))
    stock.legend(ncols=env.nodes, loc="lower left", bbox_to_anchor=(0, 1))
    cost.legend(ncols=len(parts), loc="lower left", bbox_to_anchor=(0, 0.97))
    for ax in axes:
        ax.yaxis.set_major_formatter("{x:,.0f}")
    figure.align_ylabels()
    return figure


@_styled
def same_luck(costs: Mapping[str, np.ndarray], unit: str) -> Figure:
    """Scatter the costs of two policies episode by episode: on common scenarios, and on independent ones.

    Args:
        costs: ``common``, ``independent``: each ``(episodes, 2)``.
        unit: of the costs, for the axis labels.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharex=True, sharey=True)
    for ax, (title, pairs), colour, marker in zip(axes, costs.items(), COLOURS, MARKERS, strict=False):
        ax.plot(*pairs.T, marker, ms=3, alpha=0.5, color=colour, mew=0)
        low, high = pairs.min(), pairs.max()
        ax.plot([low, high], [low, high], color=GREY, lw=0.8)
        ax.set(title=f"{title} scenarios, correlation {np.corrcoef(pairs.T)[0, 1]:.2f}", xlabel=f"cost of A [{unit}]")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0].set_ylabel(f"cost of B [{unit}]")
    return figure


@_styled
def wrong_choice(table: pd.DataFrame) -> Figure:
    """Plot how often the worse of two policies looks better, against the number of episodes.

    Args:
        table: index: episodes per policy; columns: ``(environment, design)``; values: shares.
    """
    names = list(dict.fromkeys(table.columns.get_level_values(0)))
    figure, axes = plt.subplots(1, len(names), figsize=(WIDTH, 2.6), sharey=True)
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        for i, design in enumerate(table[name].columns):
            ax.plot(table.index, table[name][design], MARKERS[i] + LINES[i], ms=4, color=COLOURS[i], label=design)
        ax.set(title=name, xlabel="episodes a policy", xscale="log", ylim=(-0.02, 0.55))
        ax.set_xticks(table.index[::2], [str(n) for n in table.index[::2]])
        ax.minorticks_off()
    np.atleast_1d(axes)[0].set_ylabel("share of experiments that\npick the worse policy")
    np.atleast_1d(axes)[-1].legend()
    return figure


@_styled
def ladder(steps: pd.DataFrame, unit: str, reference: Mapping[str, float] | None = None) -> Figure:
    """Draw costs as horizontal bars, first row at the top, with intervals and vertical lines to compare with.

    Args:
        steps: index: what the bar is; columns ``mean_cost``, ``low``, ``high``.
        unit: of the cost.
        reference: costs by name, drawn as lines.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.34 * len(steps)))
    rows = np.arange(len(steps))
    error = np.abs(steps[["low", "high"]].to_numpy().T - steps["mean_cost"].to_numpy())
    ax.barh(rows, steps["mean_cost"], xerr=error, color=COLOURS[0], height=0.62, ecolor=COLOURS[6], capsize=2)
    for row, cost in zip(rows, steps["mean_cost"], strict=True):
        label = ax.annotate(f"{cost:,.0f}", (cost, row), xytext=(6, 0), textcoords="offset points", va="center")
        label.set(fontsize=8, bbox={"fc": "white", "ec": "none", "pad": 1})
    for i, (name, cost) in enumerate((reference or {}).items()):
        ax.axvline(cost, color=COLOURS[1 + i], ls=LINES[1 + i], label=name)
    if reference:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set(yticks=rows, yticklabels=steps.index, xlabel=f"mean cost of an episode [{unit}]", xlim=(0, None))
    ax.margins(x=0.16)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return figure


@_styled
def cost_surface(
    grid: pd.DataFrame,
    labels: tuple[str, str],
    unit: str,
    box: tuple[tuple[float, float], tuple[float, float]] | None = None,
    points: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Map the cost over two levels, logarithmically, with a search box and points of interest drawn in.

    Args:
        grid: mean cost; index: the level on the vertical axis; columns: the level on the horizontal axis.
        labels: of the horizontal and the vertical axis.
        unit: of the cost.
        box: ranges of a search box, horizontal and vertical.
        points: coordinates by name.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4))
    x, y = grid.columns.to_numpy(float), grid.index.to_numpy(float)
    levels = np.geomspace(np.nanmin(grid), np.nanmax(grid), 25)
    shades = ax.contourf(x, y, grid.to_numpy(), levels=levels, cmap="cividis_r", norm="log")
    bar = figure.colorbar(shades, ax=ax, label=f"mean cost of an episode [{unit}]", ticks=levels[::4])
    bar.ax.set_yticklabels([f"{level:,.0f}" for level in levels[::4]])
    bar.ax.minorticks_off()
    if box:
        (left, right), (bottom, top) = box
        outline = Rectangle((left, bottom), right - left, top - bottom, fill=False, ec=COLOURS[1], lw=2, ls="--")
        ax.add_patch(outline)
        note = ax.annotate("published search box", (left, top), xytext=(2, 5), textcoords="offset points", fontsize=8)
        note.set(color="black", bbox={"fc": "white", "ec": "none", "alpha": 0.9, "pad": 1})
    for i, (name, point) in enumerate((points or {}).items()):
        ax.plot(*point, MARKERS[i], color="white", mec="black", ms=8, label=name)
    if points:
        ax.legend(loc="lower right", facecolor="white", framealpha=0.9, frameon=True)
    ax.set(xlabel=labels[0], ylabel=labels[1], xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    return figure


@_styled
def searches(histories: Mapping[str, pd.DataFrame], unit: str) -> Figure:
    """Plot the best cost found so far against simulated steps, one line a search (histories of `tuning.tune`)."""
    figure, ax = plt.subplots(figsize=(WIDTH, 3))
    for i, (name, history) in enumerate(histories.items()):
        steps, cost = history["simulated_steps"] / 1e6, history["best_cost"]
        ax.step(steps, cost, where="post", label=name, color=COLOURS[i], ls=LINES[i % len(LINES)])
    ax.set(xlabel="simulated steps [millions]", ylabel=f"best training cost\nso far [{unit}]", yscale="log")
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator(), major_formatter="{x:,.0f}")
    ax.legend()
    return figure


@_styled
def evidence(table: pd.DataFrame) -> Figure:
    """Draw the cost of every policy on every environment, as a share of ordering nothing (logarithmic).

    Args:
        table: columns ``environment``, ``policy``, ``mean_cost``, ``low``, ``high``, ``kind`` (``published`` or
            ``measured``), ``never`` (the cost of ordering nothing there).
    """
    names = list(dict.fromkeys(table["environment"]))
    figure, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.72 * len(names)))
    series = list(table.groupby(["policy", "kind"], sort=False))
    colours = dict(zip(dict.fromkeys(table["policy"]), COLOURS, strict=False))
    for ((policy, kind), rows), offset in zip(series, np.linspace(-0.28, 0.28, len(series)), strict=True):
        y = [names.index(name) + offset for name in rows["environment"]]
        share = rows[["mean_cost", "low", "high"]].div(rows["never"], axis=0)
        error = np.abs(share[["low", "high"]].to_numpy().T - share["mean_cost"].to_numpy())
        marker, colour = MARKERS[list(colours).index(policy)], colours[policy]
        ax.errorbar(
            share["mean_cost"], y, xerr=error, fmt=marker, color=colour, mfc="white" if kind == "published" else colour,
            ms=6, capsize=2, label=f"{policy}, {kind}",
        )  # fmt: skip
    ax.set(yticks=range(len(names)), yticklabels=names, xscale="log", ylim=(len(names) - 0.5, -0.5))
    ax.set_xlabel("mean cost of an episode, as a share of ordering nothing (log scale)")
    ticks = [0.02, 0.05, 0.1, 0.2, 0.5, 1]
    ax.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def table(values: pd.DataFrame, formats: Mapping[Any, str]) -> pd.DataFrame:
    """A table for reading: every column named in ``formats`` as text, by its format (for example ``",.0f"``)."""
    shown = {c: values[c].map(("{:" + formats[c] + "}").format) if c in formats else values[c] for c in values}
    return pd.DataFrame(shown, index=values.index)


def source(function: Callable[..., object]) -> Any:
    """The code of a function as it is in `meirl`, without its docstring, which the API reference has."""
    from IPython.display import Markdown  # a notebook has it

    code = textwrap.dedent(inspect.getsource(function))
    return Markdown("```python\n" + re.sub(r'\n +"""(?s:.*?)"""', "", code, count=1).strip() + "\n```")


def _cost_axis(ax: Axes, unit: str, reference: Mapping[str, float] | None = None) -> None:
    """A logarithmic axis of costs, with labelled lines to compare with."""
    for i, (name, cost) in enumerate((reference or {}).items()):
        ax.axhline(cost, color=COLOURS[6 if i == 0 else 1], ls=LINES[1 + i], lw=1.1, label=name)
    ax.set(ylabel=f"mean cost of an episode\n[{unit}]", yscale="log")
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 3, 5, 7)), minor_locator=NullLocator())
    ax.yaxis.set_major_formatter(EngFormatter(sep=""))


@_styled
def curves(lines: Mapping[str, tuple[np.ndarray, np.ndarray]], labels: tuple[str, str]) -> Figure:
    """Plot lines by name, each ``(x, y)``."""
    figure, ax = plt.subplots(figsize=(WIDTH, 2.9))
    for i, (name, (x, y)) in enumerate(lines.items()):
        ax.plot(x, y, color=COLOURS[i], ls=LINES[i % len(LINES)], label=name)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.legend()
    return figure


@_styled
def surrogate(ratio: np.ndarray, objective: Mapping[str, np.ndarray], clip: float) -> Figure:
    """Draw PPO's clipped objective of one sample against the probability ratio, one panel a sign of the advantage."""
    figure, axes = plt.subplots(1, len(objective), figsize=(WIDTH, 2.6), sharex=True)
    for ax, (name, value) in zip(axes, objective.items(), strict=True):
        sign = np.sign(value[-1])
        ax.plot(ratio, sign * ratio, color=GREY, ls=":", label="not clipped")
        ax.plot(ratio, value, color=COLOURS[0], lw=2, label="clipped")
        ax.axvspan(1 - clip, 1 + clip, color=COLOURS[4], alpha=0.2, lw=0)
        ax.plot(1, sign, "o", color=COLOURS[1])
        ax.set(title=name, xlabel="probability ratio [-]")
    axes[0].set_ylabel("objective of the sample [-]")
    axes[0].legend()
    return figure


@_styled
def shared_luck(before: np.ndarray, after: np.ndarray) -> Figure:
    """Plot the advantages of copies of one scenario over time, before and after their mean is taken out.

    Args:
        before: ``(T, copies)``, in reward units.
        after: the same without luck.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.7), sharey=True)
    for ax, values, name in zip(axes, (before, after), ("as estimated", "without luck"), strict=True):
        ax.plot(values, color=COLOURS[0], lw=0.8, alpha=0.6)
        ax.plot(values.mean(1), color=COLOURS[1], ls="--", lw=1.8, label="mean of the copies")
        ax.set(title=name, xlabel="period")
    axes[0].set_ylabel("advantage [reward units]")
    axes[0].legend()
    return figure


@_styled
def training(history: pd.DataFrame, unit: str, reference: Mapping[str, float]) -> Figure:
    """Show a training run: validation cost, and what the learner reports about itself.

    Args:
        history: a `Recorder`'s, one row a validation.
        unit: of the cost.
        reference: costs on the same scenarios, drawn as lines.
    """
    names = {
        "kl": "KL divergence\nof an update [nats]", "clip_fraction": "clipped samples\n[share]",
        "gradient_norm": "gradient norm\nbefore the cap [-]", "entropy": "entropy of\nthe policy [nats]",
        "explained_variance": "variance explained\nby the critic [share]",
    }  # fmt: skip
    names = {key: label for key, label in names.items() if key in history}
    columns = 3 if len(names) == 3 else 2
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(
        1 + rows, columns, figsize=(WIDTH, 3 + 1.3 * rows), sharex=True, height_ratios=(1.7, *[1] * rows)
    )
    grid = axes[0, 0].get_gridspec()
    for ax in axes[0]:
        ax.remove()
    cost = figure.add_subplot(grid[0, :])
    millions = history["steps"] / 1e6
    cost.plot(millions, history["training_cost"], color=COLOURS[5], lw=1, label="training, actions drawn")
    cost.plot(millions, history["validation_cost"], "o-", ms=3, color=COLOURS[0], label="validation, deterministic")
    _cost_axis(cost, unit, reference)
    cost.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    panels = axes[1:].ravel()
    for ax, (key, label) in zip(panels, names.items(), strict=False):
        ax.plot(millions, history[key], ".-", color=COLOURS[0], lw=1)
        ax.set_ylabel(label)
    for ax in panels[len(names) :]:
        ax.remove()
    figure.supxlabel("environment steps [millions]", fontsize=9)
    return figure


@_styled
def ordering(seen: Mapping[str, tuple[np.ndarray, np.ndarray]], mean: np.ndarray, nodes: Mapping[int, str]) -> Figure:
    """Scatter orders against the echelon inventory position, one column a policy, one row a node.

    Args:
        seen: positions and orders by policy, each ``(episode, T, N)`` units.
        mean: demand that the season lets expect, ``(T,)``; the colour.
        nodes: names of the nodes to show, by index.
    """
    figure, axes = plt.subplots(
        len(nodes), len(seen), figsize=(WIDTH, 2.3 * len(nodes)), sharex="row", sharey="row", squeeze=False
    )
    for column, (policy, (position, orders)) in enumerate(seen.items()):
        axes[0, column].set_title(policy)
        for row, (node, name) in enumerate(nodes.items()):
            ax = axes[row, column]
            colour = np.broadcast_to(mean, position.shape[:2])
            dots = ax.scatter(position[..., node], orders[..., node], 4, colour, cmap="cividis", rasterized=True)
            ax.set_xlabel(f"echelon inventory position,\n{name} [units]")
            axes[row, 0].set_ylabel(f"order, {name}\n[units a period]")
    figure.colorbar(dots, ax=axes, label="mean demand of the season\n[units a period and retailer]", aspect=40)
    return figure


@_styled
def duel(records: Mapping[str, dict[str, np.ndarray]]) -> Figure:
    """Draw the same episode under several policies: demand, then stock, orders, backlog and cost so far."""
    figure, axes = plt.subplots(5, 1, figsize=(WIDTH, 6.6), sharex=True)
    first = next(iter(records.values()))
    axes[0].plot(first["demand"][0].sum(1), color=COLOURS[6], lw=0.8)
    axes[0].set_ylabel("demand\n[units]")
    for i, (name, record) in enumerate(records.items()):
        series = {
            "warehouse stock\n[units]": record["on_hand"][0, :, 0],
            "warehouse order\n[units]": record["orders"][0, :, 0],
            "backlog\n[units]": record["backlog"][0].sum(1),
            "cost so far\n[units of cost]": record["cost"][0].cumsum(),
        }
        for ax, (label, values) in zip(axes[1:], series.items(), strict=True):
            ax.plot(values, color=COLOURS[i], ls=LINES[i], lw=1, label=name)
            ax.set_ylabel(label)
    for ax in axes:
        ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes[1].legend(ncols=len(records), loc="lower left", bbox_to_anchor=(0, 0.97))
    axes[-1].set(xlabel="period", xlim=(0, len(first["cost"][0])))
    figure.align_ylabels()
    return figure


@_styled
def processes(workers: int = 3) -> Figure:
    """Draw A3C: the parent process, the shared memory, and the workers with what each of them owns."""
    figure, ax = plt.subplots(figsize=(WIDTH, 3.9))

    def box(x: float, y: float, width: float, height: float, title: str, lines: str, colour: str) -> None:
        shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.03", fc="white", ec=colour, lw=1.6)
        ax.add_patch(shape)
        ax.text(x + width / 2, y + height - 0.12, title, ha="center", va="center", color=colour, weight="bold")
        ax.text(x + width / 2, y + (height - 0.2) / 2, lines, ha="center", va="center", fontsize=7)

    def arrow(start: tuple[float, float], end: tuple[float, float], colour: str, style: str = "-") -> None:
        ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=colour, lw=1.2, ls=style))

    memory = "weights θ\nAdam's mean and square\nscale of the returns, count of updates"
    box(1.6, 2.9, 3.2, 0.95, "shared memory (no lock)", memory, COLOURS[0])
    box(5.5, 2.9, 1.4, 0.95, "parent process", "validates,\nwrites checkpoints,\nstops the others", COLOURS[6])
    width, gap = 1.7, 0.3
    for rank in range(workers):
        x = rank * (width + gap)
        middle = x + width / 2
        own = "own copy of the network\nown environments\nown random stream\none thread"
        box(x, 0.2, width, 1.15, f"worker {rank}", own, COLOURS[2])
        top = 2.0 + 1.2 * (rank - (workers - 1) / 2)
        arrow((top + 1.1, 2.84), (middle - 0.12, 1.42), COLOURS[0])
        arrow((middle + 0.12, 1.42), (top + 1.34, 2.84), COLOURS[1])
        arrow((middle + 0.6, 1.42), (5.75 + 0.3 * rank, 2.84), GREY, ":")
    keys = {"read the weights": (COLOURS[0], "-"), "apply a gradient": (COLOURS[1], "-"), "report": (GREY, ":")}
    for name, (colour, style) in keys.items():
        ax.plot([], [], color=colour, ls=style, label=name)
    ax.legend(loc="upper left", bbox_to_anchor=(0, 0.98))
    ax.set(xlim=(-0.1, 7.05), ylim=(0, 4))
    ax.set_axis_off()
    return figure


@_styled
def workers(histories: Mapping[str, pd.DataFrame], unit: str, reference: Mapping[str, float]) -> Figure:
    """Plot learning curves beside each other: against environment steps, and against seconds."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3), sharey=True)
    for ax, column, scale in zip(axes, ("steps", "seconds"), (1e6, 1), strict=True):
        for i, (name, history) in enumerate(histories.items()):
            line = {"color": COLOURS[(0, 2)[i % 2]], "marker": MARKERS[i], "ms": 3, "ls": LINES[i]}
            ordered = history.sort_values(column)
            ax.plot(ordered[column] / scale, ordered["validation_cost"], label=name, **line)
        _cost_axis(ax, unit, reference)
    axes[0].set(xlabel="environment steps [millions]")
    axes[1].set(xlabel="time since the first report [seconds]", ylabel=None)
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=4, loc="outside upper left")
    return figure


@_styled
def learning_curves(history: pd.DataFrame, unit: str, reference: Mapping[str, float]) -> Figure:
    """Plot the validation cost of several seeds: each thin, their mean thick, the range between them shaded."""
    by_seed = history.pivot_table(index="steps", columns="seed", values="validation_cost")
    figure, ax = plt.subplots(figsize=(WIDTH, 3.2))
    steps = by_seed.index / 1e6
    ax.fill_between(
        steps, by_seed.min(axis=1), by_seed.max(axis=1), color=COLOURS[5], alpha=0.35, lw=0, label="range over seeds"
    )
    ax.plot(steps, by_seed, color=COLOURS[0], lw=0.6, alpha=0.6)
    ax.plot(steps, by_seed.mean(axis=1), color=COLOURS[0], lw=2, label=f"mean of {by_seed.shape[1]} seeds")
    _cost_axis(ax, unit, reference)
    ax.set(xlabel="environment steps [millions]")
    ax.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def settings(config: LearnerConfig) -> Any:
    """A table of a learner's hyperparameters: value and meaning of each. Defects that are off are left out."""
    from IPython.display import Markdown  # a notebook has it

    rows = ["| hyperparameter | value | meaning |", "|---|---|---|"]
    for prefix, model in (("", config), ("network: ", config.network)):
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            if name != "network" and not (name.startswith("defect") and not value):
                rows.append(f"| {prefix}`{name}` | {value} | {field.description or ''} |")
    return Markdown("\n".join(rows))


# ---------------------------------------------------------------------------------------------------------------------
# Threats to validity


@_styled
def forest(panels: Mapping[str, pd.DataFrame], label: str, *, one_scale: bool = True) -> Figure:
    """Draw changes in percent with their intervals, one row each, panels below each other.

    Args:
        panels: by title; index: what was changed; columns ``percent``, ``percent_low``, ``percent_high``.
        label: of the axis.
        one_scale: the same scale in all panels; else each has its own.
    """
    rows = [len(table) for table in panels.values()]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(WIDTH, 0.7 + 0.42 * len(rows) + 0.2 * sum(rows)), sharex=one_scale, squeeze=False,
        height_ratios=rows,
    )  # fmt: skip
    for i, (ax, (title, table)) in enumerate(zip(axes[:, 0], panels.items(), strict=True)):
        y = np.arange(len(table))
        error = np.abs(table[["percent_low", "percent_high"]].to_numpy().T - table["percent"].to_numpy())
        ax.axvline(0, color=GREY, lw=0.8)
        ax.errorbar(table["percent"], y, xerr=error, fmt=MARKERS[i], color=COLOURS[i], ms=5, capsize=2)
        ax.set(yticks=y, yticklabels=table.index, ylim=(len(table) - 0.4, -0.6), title=title)
    axes[-1, 0].set_xlabel(label)
    return figure


@_styled
def sweep(
    lines: Mapping[str, pd.DataFrame],
    labels: tuple[str, str],
    *,
    log: str = "",
    reference: Mapping[str, float] | None = None,
) -> Figure:
    """Plot values with intervals against something that was varied, one line a name.

    Args:
        lines: index: what was varied; columns: the value, then its ``low`` and ``high``.
        labels: of the axes.
        log: logarithmic axes: ``x``, ``y`` or ``xy``.
        reference: values drawn as horizontal lines.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3))
    for i, (name, table) in enumerate(lines.items()):
        value = table.iloc[:, 0].to_numpy()
        error = np.abs(table[["low", "high"]].to_numpy().T - value)
        style: Any = {"color": COLOURS[i], "marker": MARKERS[i], "ls": LINES[i % len(LINES)], "ms": 4, "capsize": 2}
        ax.errorbar(table.index, value, yerr=error, label=name, **style)
    for i, (name, level) in enumerate((reference or {}).items()):
        ax.axhline(level, color=GREY, ls=LINES[1 + i], lw=1, label=name)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    if "x" in log:
        ax.set_xscale("log")
        ax.set_xticks(ticks := next(iter(lines.values())).index, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    if "y" in log:
        ax.set_yscale("log")
        ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
        ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


@_styled
def services(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Scatter the published service level against the fill rate, one panel an environment, one marker a policy."""
    figure, axes = plt.subplots(1, len(tables), figsize=(WIDTH, 3.6), sharex=True, sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes[0], tables.items(), strict=True):
        ax.plot([0, 1], [0, 1], color=GREY, lw=0.8)
        for i, (policy, row) in enumerate(table.iterrows()):
            style: Any = {"marker": MARKERS[i % 7], "color": COLOURS[i % 7], "mfc": "white" if i > 6 else None}
            ax.plot(row["fill_rate"], row["published_service_level"], ls="", ms=8, label=str(policy), **style)
        ax.set(title=name, xlabel="fill rate [share of demand]", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes[0, 0].set_ylabel("published service level [share]")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=4, loc="outside upper left")
    return figure


@_styled
def equal_effort(panels: Mapping[str, Mapping[str, list[pd.DataFrame]]], units: Mapping[str, str]) -> Figure:
    """Plot the best validation cost so far against simulated steps, for searches and learners on one axis.

    Args:
        panels: by environment, by method: one table a seed with ``steps`` and ``cost``.
        units: of the cost, by environment.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.4), sharex=True)
    for ax, (name, methods) in zip(axes, panels.items(), strict=True):
        for i, (method, tables) in enumerate(methods.items()):
            for k, table in enumerate(tables):
                line: Any = {"color": COLOURS[i], "ls": LINES[i % len(LINES)], "lw": 1, "marker": MARKERS[i], "ms": 3}
                best = table["cost"].cummin()
                ax.plot(table["steps"] / 1e6, best, label=method if k == 0 else None, alpha=0.7, **line)
        _cost_axis(ax, units[name])
        ax.set(title=name, xlabel="simulated steps [millions]", xscale="log")
        ax.xaxis.set_major_formatter("{x:g}")
    axes[1].set_ylabel(f"[{units[list(panels)[1]]}]")
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=2, loc="outside upper left")
    return figure


@_styled
def seed_spread(table: pd.DataFrame) -> Figure:
    """Show every seed's difference to the best heuristic and the interval over seeds, one panel an environment.

    Args:
        table: one row a run: ``env``, ``algo``, ``percent``; and the cell's ``low`` and ``high``, on each of its rows.
    """
    names = list(dict.fromkeys(table["env"]))
    figure, axes = plt.subplots(1, len(names), figsize=(WIDTH, 2.9), sharex=True)
    for ax, name in zip(axes, names, strict=True):
        ax.axhline(0, color=GREY, lw=0.8)
        for i, (_, rows) in enumerate(table[table["env"] == name].groupby("algo", sort=False)):
            ax.plot(np.full(len(rows), i), rows["percent"], MARKERS[i], ms=4, color=COLOURS[i], alpha=0.6, mew=0)
            mean, (low, high) = rows["percent"].mean(), rows[["low", "high"]].iloc[0]
            ax.errorbar(i + 0.25, mean, yerr=[[mean - low], [high - mean]], fmt="_", color=COLOURS[6], capsize=3)
        ax.set_title(name.replace("-", "\n"))
        ax.set_xticks([0, 1], [str(a).upper() for a in dict.fromkeys(table["algo"])])
        ax.set_xlim(-0.5, 1.6)
    axes[0].set_ylabel("extra cost over the\nbest heuristic [%]")
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Chapter 7: evaluation


@_styled
def cost_parts(parts: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """Stack the parts of the mean cost, one panel an environment, one bar a policy.

    Args:
        parts: index ``(environment, policy)``; one column a part of the cost.
        units: of the cost, by environment.
    """
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 3.9))
    colours = [COLOURS[k] for k in (5, 1, 4, 2, 3)]
    for ax, (name, unit) in zip(axes.flat, units.items(), strict=True):
        rows = parts.loc[name]
        left = np.zeros(len(rows))
        for part, colour in zip(parts.columns, colours, strict=True):
            ax.barh(rows.index, rows[part], left=left, color=colour, ec="white", lw=0.5, height=0.65, label=part)
            left += rows[part]
        ax.set(title=name, xlabel=f"mean cost of an episode [{unit}]")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=5, loc="outside upper left")
    return figure


@_styled
def tails(results: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """Plot the share of episodes that cost more than x, logarithmically, with the means; one panel an environment.

    Args:
        results: columns ``env``, ``policy``, ``cost``; one row an episode.
        units: of the cost, by environment.
    """
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 4.6))
    for ax, (name, unit) in zip(axes.flat, units.items(), strict=True):
        rows = results[results["env"] == name]
        for i, (policy, of_policy) in enumerate(rows.groupby("policy", sort=False)):
            line = {"color": COLOURS[i], "ls": LINES[i % len(LINES)], "label": policy}
            cost = of_policy["cost"]
            ax.ecdf(cost, complementary=True, **line)
            ax.plot(cost.mean(), (cost >= cost.mean()).mean(), MARKERS[i], color=COLOURS[i], ms=4)
        ax.set(title=name, xlabel=f"cost of an episode [{unit}]", xscale="log", yscale="log", ylim=(1e-3, 1.1))
        narrow = rows["cost"].max() < 4 * rows["cost"].min()
        ax.xaxis.set(
            major_locator=LogLocator(subs=(2, 2.5, 3, 4) if narrow else (1, 2, 5)), minor_locator=NullLocator()
        )
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    for ax in axes[:, 0]:
        ax.set_ylabel("share of episodes\nthat cost more")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=3, loc="outside upper left")
    return figure


@_styled
def intervals(table: pd.DataFrame, label: str) -> Figure:
    """Draw a value a row with its intervals over episodes, over training seeds and over both; a line marks zero.

    Args:
        table: columns ``value``, ``episodes_low``, ``episodes_high``, ``seeds_low``, ``seeds_high``, ``low``, ``high``.
        label: of the value, with its unit.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.42 * len(table)))
    rows = np.arange(len(table))
    names = {"episodes_": "over episodes", "seeds_": "over training seeds", "": "over both"}
    for i, ((prefix, name), offset) in enumerate(zip(names.items(), (-0.22, 0, 0.22), strict=True)):
        error = np.abs(table[[f"{prefix}low", f"{prefix}high"]].to_numpy().T - table["value"].to_numpy())
        ax.errorbar(
            table["value"], rows + offset, xerr=error, fmt=MARKERS[i], ms=4, capsize=2, color=COLOURS[i], label=name
        )
    ax.axvline(0, color=GREY, lw=1)
    ax.set(yticks=rows, yticklabels=table.index, xlabel=label, ylim=(len(table) - 0.5, -0.5))
    ax.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Bounds


@_styled
def hindsight(panels: Mapping[str, Mapping[str, np.ndarray]], units: Mapping[str, str]) -> Figure:
    """Plot costs and bounds of the same episodes, one panel an environment, episodes by their first cost.

    Args:
        panels: by environment and name, one value an episode; a shorter array is of the first episodes.
        units: of each environment's cost.
    """
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 4.6))
    for ax, (name, costs) in zip(axes.ravel(), panels.items(), strict=True):
        rank = np.argsort(np.argsort(next(iter(costs.values()))))
        for i, (label, cost) in enumerate(costs.items()):
            ax.plot(rank[: len(cost)], cost, MARKERS[i], ms=3, color=COLOURS[i], label=label)
        ax.set(title=name, ylim=(0, None), xlabel="episode, cheapest for the heuristic first")
        ax.set_ylabel(f"cost of the episode\n[{units[name]}]")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    handles = {label: h for ax in axes.ravel() for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), ncols=3, loc="outside upper left")
    return figure


@_styled
def gaps(table: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """Place every policy between what no policy can beat and ordering nothing, one panel an environment.

    Args:
        table: columns ``environment``, ``policy`` (``lower bound`` among them), ``mean_cost``, ``low``, ``high``.
        units: of each environment's cost.
    """
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 4.8), sharey=True)
    policies = list(dict.fromkeys(table["policy"]))[::-1]
    for ax, (name, unit) in zip(axes.ravel(), units.items(), strict=True):
        rows = table[table["environment"] == name]
        for i, row in enumerate(rows.to_dict("records")):
            bound = row["policy"] == "lower bound"
            span = [[row["mean_cost"] - row["low"]], [row["high"] - row["mean_cost"]]]
            style: Any = {"color": COLOURS[6] if bound else COLOURS[i % 6], "fmt": MARKERS[i % len(MARKERS)]}
            ax.errorbar(row["mean_cost"], policies.index(row["policy"]), xerr=span, ms=5, capsize=3, **style)
            if bound:
                ax.axvspan(0.5 * row["low"], row["mean_cost"], color="#DDDDDD", lw=0)
        low, high = rows["low"].min(), rows["high"].max()
        ax.set(title=name, xscale="log", xlim=(0.9 * low, 1.1 * high), xlabel=f"mean cost of an episode [{unit}]")
        steps = (1, 1.5, 2, 3, 5) if high < 10 * low else (1, 3)
        ax.xaxis.set(major_locator=LogLocator(subs=steps), minor_locator=NullLocator())
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.set_yticks(range(len(policies)), policies)
    return figure
