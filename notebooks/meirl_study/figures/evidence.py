"""Figures of the evidence: the comparison, its statistics, threats to it, and bounds.

An estimate with its interval has the columns ``value``, ``low``, ``high``; ``units`` are those of the cost, by
environment.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import style

FAR_OFF = 1.5  # times the median policy
Tables = Mapping[str, pd.DataFrame]
Levels = Mapping[str, float]


@style.styled
def evidence(table: pd.DataFrame) -> Figure:
    """Draw the mean cost of every policy on every environment, as a share of ordering nothing (logarithmic).

    ``table`` has columns ``environment``, ``policy``, ``value``, ``low``, ``high``, ``kind`` (``published`` or
    ``measured``) and ``never`` (the cost of ordering nothing there).
    """
    names, looks = list(dict.fromkeys(table["environment"])), style.looks(dict.fromkeys(table["policy"]))
    figure, ax = plt.subplots(figsize=(style.WIDTH, 0.9 + 0.72 * len(names)))
    shares = table.assign(**{column: table[column] / table["never"] for column in ("value", "low", "high")})
    series = list(shares.groupby(["policy", "kind"], sort=False))
    for ((policy, kind), cells), offset in zip(series, np.linspace(-0.28, 0.28, len(series)), strict=True):
        y, hollow = cells["environment"].map(names.index) + offset, kind == "published"
        look = looks[policy] | {"linestyle": "", "mfc": "white" if hollow else looks[policy]["color"]}
        ax.errorbar(cells["value"], y, xerr=style.whiskers(cells), ms=6, label=f"{policy}, {kind}", **look)
    style.rows(ax, names)
    ticks = [0.02, 0.05, 0.1, 0.2, 0.5, 1]
    ax.set(xscale="log", xlabel="mean cost of an episode, as a share of ordering nothing (log scale)")
    ax.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
    ax.minorticks_off()
    style.legend_above(ax, 2)
    return figure


@style.styled
def cost_parts(parts: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """Stack the parts of the mean cost, one panel an environment, one bar a policy.

    ``parts`` has the index ``(environment, policy)`` and any of the columns ``holding``, ``shortage``, ``ordering``,
    ``pipeline``, ``lost sales``.
    """
    figure, axes = style.panels(units, 3.9, rows=2)
    for name, ax in axes.items():
        costs = parts.loc[name]
        heights, left = style.rows(ax, costs.index), np.zeros(len(costs))
        for part in map(str, costs):
            ax.barh(heights, costs[part], 0.65, left, color=style.PARTS[part], ec="white", lw=0.5, label=part)
            left += costs[part]
        style.money(ax.xaxis, f"mean cost of an episode [{units[name]}]")
        ax.grid(axis="y", visible=False)
    style.shared_legend(figure, 5)
    return figure


@style.styled
def tails(results: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """Plot the share of episodes that cost more than x, logarithmically, with the means; one panel an environment.

    ``results`` has columns ``env``, ``policy``, ``cost``; one row an episode.
    """
    figure, axes = style.panels(units, 4.6, "share of episodes\nthat cost more", rows=2)
    looks = style.looks(dict.fromkeys(results["policy"]))
    for name, ax in axes.items():
        here = results[results["env"] == name]
        for policy, cost in here.groupby("policy", sort=False)["cost"]:
            ax.ecdf(cost, complementary=True, label=policy, **looks[policy] | {"marker": ""})
            ax.plot(cost.mean(), (cost >= cost.mean()).mean(), **looks[policy] | {"linestyle": ""})
        ax.set(xscale="log", yscale="log", ylim=(1e-3, 1.1))
        narrow = here["cost"].max() < 4 * here["cost"].min()
        style.money(ax.xaxis, f"cost of an episode [{units[name]}]", *((2, 2.5, 3, 4) if narrow else (1, 2, 5)))
    style.shared_legend(figure, 3)
    return figure


@style.styled
def intervals(table: pd.DataFrame, label: str) -> Figure:
    """Draw a value a row with its intervals over episodes, over training seeds and over both; a line marks zero.

    ``table`` has columns ``value``, ``episodes_low``, ``episodes_high``, ``seeds_low``, ``seeds_high``, ``low``,
    ``high``; ``label`` is of the value, with its unit.
    """
    figure, ax = plt.subplots(figsize=(style.WIDTH, 0.9 + 0.42 * len(table)))
    heights = style.rows(ax, table.index)
    names = {"episodes_": "over episodes", "seeds_": "over training seeds", "": "over both"}
    for (prefix, name), offset in zip(names.items(), (-0.22, 0, 0.22), strict=True):
        ax.errorbar(table["value"], heights + offset, xerr=style.whiskers(table, prefix), ls="", label=name)
    ax.axvline(0, color=style.GREY, lw=1)
    ax.set_xlabel(label)
    style.legend_above(ax, 3)
    return figure


@style.styled
def services(tables: Tables) -> Figure:
    """Scatter the published service level against the fill rate, one panel an environment, one marker a policy.

    ``tables``, by environment, have a row a policy and columns ``fill_rate``, ``published_service_level``: shares.
    """
    figure, axes = style.panels(tables, 3.6, "published service level [share]", sharex=True, sharey=True)
    for name, ax in axes.items():
        ax.plot([0, 1], [0, 1], "-", color=style.GREY, lw=0.8)
        measures = tables[name][["fill_rate", "published_service_level"]]
        for i, (policy, look) in enumerate(style.looks(measures.index).items()):
            again = {"mfc": "white"} if i >= len(style.CYCLE) else {}
            ax.plot(*measures.loc[policy], ms=8, label=policy, **look | {"linestyle": ""} | again)
        ax.set(xlabel="fill rate [share of demand]", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    style.shared_legend(figure, 4)
    return figure


@style.styled
def equal_effort(
    panels: Mapping[str, Mapping[str, list[pd.DataFrame]]], units: Mapping[str, str], references: Mapping[str, Levels]
) -> Figure:
    """Plot the best validation cost so far against simulated steps, one panel an environment, one line a seed.

    Args:
        panels: by environment and learner, a table a seed with columns ``steps`` and ``cost``.
        units: of the cost, by environment.
        references: costs to compare with, by environment and name.
    """
    figure, axes = style.panels(panels, 3.4, sharex=True)
    for name, ax in axes.items():
        for learner, look in style.looks(panels[name]).items():
            for table in panels[name][learner]:
                best = table["cost"].cummin()
                ax.plot(table["steps"] / 1e6, best, label=learner, lw=1, alpha=0.7, **look | {"marker": ""})
        style.cost_axis(ax, units[name], references[name])
        ax.set(xlabel="simulated steps [millions]")
    style.shared_legend(figure, 2)
    return figure


@style.styled
def forest(panels: Tables, label: str, *, one_scale: bool = True) -> Figure:
    """Draw changes with their intervals, one row each, panels below each other; a line marks zero.

    Args:
        panels: by title; index: what was changed; columns ``value``, ``low``, ``high``, in per cent.
        label: of the axis.
        one_scale: the same scale in all panels; else each has its own.
    """
    lengths = [len(table) for table in panels.values()]
    height = 0.7 + 0.42 * len(lengths) + 0.2 * sum(lengths)
    figure, axes = style.panels(panels, height, rows=len(lengths), sharex=one_scale, height_ratios=lengths)
    for (name, ax), look in zip(axes.items(), style.CYCLE(), strict=False):
        ax.axvline(0, color=style.GREY, lw=0.8)
        heights, spans = style.rows(ax, panels[name].index), style.whiskers(panels[name])
        ax.errorbar(panels[name]["value"], heights, xerr=spans, ms=5, **look | {"linestyle": ""})
    ax.set_xlabel(label)
    return figure


@style.styled
def sweep(lines: Tables, labels: tuple[str, str], *, log: str = "", reference: Levels | None = None) -> Figure:
    """Plot values with intervals against something that was varied, one line a name.

    Args:
        lines: index: what was varied; columns ``value``, ``low``, ``high``.
        labels: of the axes, with units.
        log: logarithmic axes: ``x``, ``y`` or ``xy``.
        reference: values by name, drawn as horizontal lines.
    """
    figure, ax = plt.subplots(figsize=(style.WIDTH, 3))
    for name, table in lines.items():
        ax.errorbar(table.index, table["value"], yerr=style.whiskers(table), label=name)
    style.reference_lines(ax.axhline, reference)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    if "x" in log:
        ticks = sorted({tick for table in lines.values() for tick in table.index})
        ax.set_xscale("log")
        ax.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
        ax.minorticks_off()
    if "y" in log:
        ax.set_yscale("log")
        style.money(ax.yaxis, labels[1], 1, 2, 5)
    style.legend_above(ax, 2)
    return figure


@style.styled
def seed_spread(table: pd.DataFrame) -> Figure:
    """Show every seed's difference to the designed rule and the interval of their mean, one panel an environment.

    ``table`` has one row a run: ``env``, ``algo``, ``value`` in per cent, and ``low`` and ``high`` of the cell's mean.
    """
    label, algos = "extra cost over the\ndesigned rule [%]", dict.fromkeys(table["algo"])
    names = dict.fromkeys(table["env"])
    figure, axes = style.panels(names, 2.4 * (len(names) // 2 or 1), label, rows=len(names) // 2 or 1, sharex=True)
    for name, ax in axes.items():
        ax.axhline(0, color=style.GREY, lw=0.8)
        for i, (algo, look) in enumerate(style.looks(algos).items()):
            cell = table.loc[(table["env"] == name) & (table["algo"] == algo), ["value", "low", "high"]]
            ax.plot([i] * len(cell), cell["value"], alpha=0.7, **look | {"linestyle": ""})
            mean = cell.mean().to_frame().T
            ax.errorbar(i + 0.25, mean["value"], yerr=style.whiskers(mean), fmt="_", color=style.BLACK, capsize=3)
        ax.set_xlim(-0.5, len(algos) - 0.4)
        ax.set_xticks(range(len(algos)), list(algos))
    return figure


@style.styled
def hindsight(panels: Mapping[str, Mapping[str, np.ndarray]], units: Mapping[str, str]) -> Figure:
    """Plot costs and bounds of the same episodes, one panel an environment, episodes by their first cost.

    ``panels``, by environment and name, have one value an episode; a shorter array is of the first episodes.
    """
    figure, axes = style.panels(panels, 4.6, rows=2)
    for name, ax in axes.items():
        looks = style.looks(panels[name])
        rank = np.argsort(np.argsort(next(iter(panels[name].values()))))
        for label, cost in panels[name].items():
            ax.plot(rank[: len(cost)], cost, label=label, **looks[label] | {"linestyle": "", "ms": 3})
        ax.set(ylim=(0, None), xlabel="episode, cheapest for the heuristic first")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.money(ax.yaxis, f"cost of the episode\n[{units[name]}]")
    style.shared_legend(figure, 3)
    return figure


@style.styled
def dual_curve(climbed: pd.DataFrame, levels: Levels) -> Figure:
    """Plot a bound against the steps that found it, in percent of a rule's cost, with levels to compare with.

    ``climbed`` has one row a step, with ``value``, ``low`` and ``high``.
    """
    figure, ax = plt.subplots(figsize=(style.WIDTH, 2.8))
    ax.plot(climbed.index, climbed["value"], marker="", label="by prices")
    ax.fill_between(climbed.index, climbed["low"], climbed["high"], alpha=0.2, lw=0)
    style.reference_lines(ax.axhline, levels)
    least = min(climbed["low"].min(), *levels.values())
    ax.set(xlabel="step of the prices", ylabel="lower bound\n[% of the designed rule's cost]", ylim=(0.95 * least, 100))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend_above(ax, 2)
    return figure


@style.styled
def gaps(table: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """Place the mean cost of every policy above what no policy can beat, one panel an environment.

    ``table`` has columns ``environment``, ``policy`` (``lower bound`` among them), ``value``, ``low``, ``high``. What
    costs more than `FAR_OFF` times the median policy lies off the axis, and says so.
    """
    figure, axes = style.panels(units, 6.4, rows=2, sharey=True)
    policies = list(dict.fromkeys(table["policy"]))
    looks = style.looks(policies) | {"lower bound": {"color": style.GREY, "marker": "X"}}
    for name, ax in axes.items():
        here = table[table["environment"] == name].set_index("policy")
        bound = float(here["value"]["lower bound"])
        end = FAR_OFF * float(here["value"].drop("lower bound").median())
        for policy, cell in here.iterrows():
            height = policies.index(str(policy))
            if cell["value"] > end:
                ax.annotate(f"{cell['value']:,.0f} →", (end, height), ha="right", va="center", fontsize=8)
                continue
            span, look = style.whiskers(cell.to_frame().T), looks[policy] | {"linestyle": ""}
            ax.errorbar(cell["value"], [height], xerr=span, ms=5, capsize=3, **look)
        start = bound - 0.1 * (end - bound)
        ax.axvspan(start, bound, color="#DDDDDD", lw=0)
        style.rows(ax, policies)
        ax.set_xlim(start, end)
        style.money(ax.xaxis, f"mean cost of an episode [{units[name]}]")
    return figure
