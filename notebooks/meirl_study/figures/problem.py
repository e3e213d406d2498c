"""Figures of the problem: the chains, what nature does, episodes, and the luck that two policies share."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from meirl import Env, Scenario
from meirl.envs.processes import LeadTime

from . import style


@style.styled
def chain(env: Env) -> Figure:
    """Draw a supply chain: nodes with their costs, arrows with lead times, demand at the end; all in units a period."""
    p, supply = env.parameters, getattr(env.parameters, "supplier_capacity", None)
    holding, shortage = env.holding_cost.tolist(), env.shortage_cost.tolist()
    figure, ax = plt.subplots(figsize=(style.WIDTH, 0.85 + 0.78 * env.retailers))
    middle = (env.retailers - 1) / 2
    _box(ax, 0, middle, env.source, "no limit" if supply is None else f"≈ {supply.mean:g} a period", style.BLACK)
    lead = _lead_times(p.lead_time)
    _arrow(ax, (0.42, middle), (1.18, middle), f"lead time\n{lead}")
    outbound = "" if p.outbound_capacity is None else f"\nships ≈ {p.outbound_capacity.mean:,.0f}"
    _box(ax, 1.6, middle, env.node_names[0], f"holding {holding[0]:g}{outbound}", style.BLUE)
    for i, name in enumerate(env.node_names[1:]):
        y = env.retailers - 1 - i
        _box(ax, 3.4, y, name, f"holding {holding[1 + i]:g}\nshortage {shortage[i]:g}", style.GREEN)
        _arrow(ax, (2.02, middle), (2.98, y), f"lead time\n{lead}" if i == 0 else "")
        _arrow(ax, (3.82, y), (4.5, y))
        ax.text(4.55, y, f"demand ≈ {env.expected_demand[0, i - env.retailers]:,.0f}", va="center", fontsize=8)
    if p.demand.direct:
        own = f"own demand ≈ {p.demand.direct * p.demand.average:g}"
        _arrow(ax, (1.6, middle - 0.36), (1.6, middle - 0.95))
        ax.text(1.6, middle - 1.0, own, ha="center", va="top", fontsize=8)
    ax.set(xlim=(-0.5, 5.5), ylim=(-0.55, env.retailers - 0.45))
    ax.set_axis_off()
    return figure


def _lead_times(lead: LeadTime) -> str:
    """What lead times there are: one, or the shortest and the longest."""
    ends = {lead.low, lead.high}
    if not np.any(lead.standard_deviation):  # then only a disruption moves them
        extra = lead.tail_extra if lead.tail_probability else 0
        days = np.round([np.array(lead.mean) + late for late in {0, extra}]).clip(lead.low, lead.high)
        ends = {int(days.min()), int(days.max())}
    return "–".join(map(str, sorted(ends)))


def _box(ax: Axes, x: float, y: float, name: str, note: str, colour: str) -> None:
    shape = FancyBboxPatch((x - 0.4, y - 0.34), 0.8, 0.68, boxstyle="round,pad=0.02", fc="white", ec=colour, lw=1.6)
    ax.add_patch(shape)
    ax.text(x, y + 0.17, name, ha="center", va="center", fontsize=9, color=colour, weight="bold")
    ax.text(x, y - 0.12, note, ha="center", va="center", fontsize=7)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], label: str = "") -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=style.GREY, lw=1.2))
    x, y = np.mean([start, end], axis=0)
    side = "center" if start[1] == end[1] else "right"  # of a rising arrow: clear of it
    ax.text(x, y + 0.08, label, ha=side, va="bottom", fontsize=7, color=style.GREY)


@style.styled
def stressors(env: Env, scenario: Scenario) -> Figure:
    """Show what nature does: the start of an episode's demand, correlation of two retailers, lead times, capacity.

    Two seasons are shown, or 60 periods where there is none; two retailers and the outbound capacity only where there
    are any.
    """
    season = env.parameters.demand.season
    periods = min(scenario.horizon, round(2 * season.period) if season else 60)
    capacity = scenario.outbound_capacity.cpu().numpy().ravel()
    below = ["pair"] * (env.retailers > 1) + ["lead"] + ["outbound"] * bool(np.isfinite(capacity).all())
    grid = [["time"] * len(below), below]
    figure, axes = plt.subplot_mosaic(grid, figsize=(style.WIDTH, 4.2), height_ratios=(1.1, 1))  # type: ignore[arg-type]
    time, lead = axes["time"], axes["lead"]
    demand, shock = scenario.demand.cpu().numpy(), scenario.shock[0, :periods].cpu().numpy()
    time.plot(demand[0, :periods], marker="", lw=0.9, alpha=0.8, label=env.node_names[1:])
    time.plot(env.seasonal_mean[:periods].cpu().numpy(), "-", color=style.BLACK, label="mean, no shock")
    edges = np.flatnonzero(np.diff(shock != 1, prepend=False, append=False)) - 0.5
    for start, stop in edges.reshape(-1, 2):
        time.axvspan(start, stop, color=style.ORANGE, alpha=0.35, lw=0)
    time.set(xlabel="period", ylabel="demand [units]", ylim=(0, None), xlim=(0, periods))
    time.legend(ncols=env.retailers + 1, loc="upper left", bbox_to_anchor=(0, 1.22))
    if "pair" in axes:
        axes["pair"].plot(*demand[..., :2].reshape(-1, 2)[:2000].T, ".", ms=2, alpha=0.4)
        one, other = (f"demand, {name}\n[units]" for name in env.node_names[1:3])
        axes["pair"].set(xlabel=one, ylabel=other)
    values, counts = np.unique(scenario.lead_time.cpu().numpy(), return_counts=True)
    lead.bar(values, counts / counts.sum())
    longest = max(10, int(values.max())) + 0.6
    lead.set(xlabel="lead time\n[periods]", ylabel="share of shipments", xlim=(0, longest), ylim=(0, 1.05))
    if "outbound" in axes:
        axes["outbound"].hist(capacity, bins=30, weights=np.full(capacity.size, 1 / capacity.size))
        axes["outbound"].set(xlabel="outbound capacity\n[units a period]", ylabel="share of periods")
    return figure


@style.styled
def episode(env: Env, record: Mapping[str, np.ndarray], periods: int | None = None) -> Figure:
    """Draw the first episode of a `meirl.trajectory`: stock, orders (a row a node) and backlog in units, cost by part.

    Args:
        env: of the episode.
        record: of `meirl.trajectory`.
        periods: how many to show; all if None.
    """
    heights = [1.2, *[0.35] * env.nodes, 0.8, 0.9]
    size = (style.WIDTH, 1.55 * sum(heights))
    figure, axes = plt.subplots(len(heights), 1, figsize=size, sharex=True, height_ratios=heights)
    stock, *orders, waiting, cost = axes
    on_hand, placed, backlog = (record[key][0, :periods] for key in ("on_hand", "orders", "backlog"))
    stock.plot(on_hand, marker="", lw=1.1, label=env.node_names)
    # In one panel the node drawn last would hide the others: a row for each.
    for ax, line, order, most in zip(orders, stock.lines, placed.T, env.largest_order.tolist(), strict=True):
        ax.stairs(order, fill=True, color=line.get_color())
        ax.set(ylim=(0, most * 1.1), yticks=[0, most])
    # Nobody waits at the upstream node: an empty column in its place leaves every other node its colour.
    waiting.plot(np.pad(backlog, ((0, 0), (1, 0)), constant_values=np.nan), marker="", lw=1.1)
    parts = {part: record[part.replace(" ", "_")] for part in style.PARTS}
    shown = {part: values[0, :periods] for part, values in parts.items() if values.any()}
    colours = [style.PARTS[part] for part in shown]
    cost.stackplot(np.arange(len(on_hand)), list(shown.values()), labels=list(shown), colors=colours)
    labels = {stock: "on hand\n[units]", orders[env.nodes // 2]: "order\n[units]", waiting: "backlog\n[units]"}
    for ax, label in (labels | {cost: "cost of the\nperiod"}).items():
        ax.set_ylabel(label)
    for ax in axes:
        ax.yaxis.set_major_formatter("{x:,.0f}")
    cost.set(xlabel="period", xlim=(0, len(on_hand)))
    style.legend_above(stock, env.nodes)
    style.legend_above(cost, len(shown))
    figure.align_ylabels()
    return figure


@style.styled
def same_luck(costs: Mapping[str, np.ndarray], unit: str) -> Figure:
    """Scatter the costs of two policies episode by episode: on ``common`` scenarios, and on ``independent`` ones.

    Args:
        costs: by kind of scenarios, ``(episodes, 2)``.
        unit: of the costs.
    """
    figure, axes = style.panels(costs, 3.2, f"cost of B [{unit}]", sharex=True, sharey=True)
    for (name, ax), look in zip(axes.items(), style.CYCLE, strict=False):
        pairs = costs[name]
        ax.plot(*pairs.T, ms=3, alpha=0.5, mew=0, **look | {"linestyle": ""})
        ax.plot([pairs.min(), pairs.max()], [pairs.min(), pairs.max()], "-", color=style.GREY, lw=0.8)
        ax.set_title(f"{name} scenarios, correlation {np.corrcoef(pairs.T)[0, 1]:.2f}")
        style.money(ax.xaxis, f"cost of A [{unit}]")
        style.money(ax.yaxis, ax.get_ylabel())
    return figure


@style.styled
def wrong_choice(table: pd.DataFrame, aim: float) -> Figure:
    """Plot how often the worse of two policies looks better, against the number of episodes.

    Args:
        table: index: episodes a policy; columns: ``(environment, design)``; values: shares of experiments.
        aim: the share to reach, drawn as a line.
    """
    names = list(dict.fromkeys(table.columns.get_level_values(0)))
    label = "experiments that pick\nthe worse policy [%]"
    figure, axes = style.panels(names, 4.2, label, rows=2 if len(names) == 4 else 1, sharex=True, sharey=True)
    for name, ax in axes.items():
        ax.axhline(100 * aim, color=style.GREY, ls=":", lw=1)
        ax.plot(table.index, 100 * table[name], label=list(table[name]))
        ax.set(xscale="log", ylim=(-2, 55))
        ax.set_xticks(table.index, [str(n) for n in table.index])
        ax.minorticks_off()
    for name in names[-2:]:
        axes[name].set_xlabel("episodes a policy")
    style.shared_legend(figure, 2)
    return figure
