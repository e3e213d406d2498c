"""The report on a chain of one's own: its findings, gathered once, and what it says of them in plain words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meirl.envs import Env, recorded
from meirl.evaluation import held_out
from meirl.heuristics import RULES, Levels, tuning

from . import own, recommend
from .chapter import shown, unit

LADDER = {"tuned on": ",.0f", "judged on": ",.0f", "levels": "d", "above the best, %": "+.1f"}
SERVICE = {
    "fill rate today": ".1%",
    "fill rate": ".1%",
    "worst 5 %": ".1%",
    "lost": ".1%",
    "waiting": ",.1f",
    "on hand": ",.0f",
}
MENU = {"fill rate": ".1%", "stock and orders": "money", "cost": "money", "on hand": ",.0f"}
FACTS = {"mean, earlier part": ",.1f", "mean, later part": ",.1f", "variation": ".2f", "periods without demand": ".1%"}
"""Formats of the report's tables."""
STEPS = {"quick": 60_000, "full": 2_304_000}
"""Environment steps of an agent, by profile."""
ECHELON = ("echelon", "balanced", "fair-shares")  # beginnings of rules whose warehouse counts everything downstream
SIMPLER = 1.0  # percent that a rule with fewer levels may cost more where it was tuned and still be worth a word


def fill(played: recommend.Played) -> float:
    """Share of all demand that was met at once."""
    return float(played.service["fill rate"].to_dict()["all"])


class Findings:
    """All that a report says, found once: searches, plays, bound, frontier and, if asked for, agents."""

    def __init__(
        self, env: Env, path: Path, profile: str, seed: int, jobs: int = 1, today: str | Path | None = None
    ) -> None:
        """Tune every rule that fits on the earlier part, judge on the later part.

        Args:
            env: the chain, as `meirl_study.recommend.prepare` wrote it.
            path: its file.
            profile: ``quick`` or ``full``.
            seed: of the searches.
            jobs: processes; -1: one a core.
            today: file of today's levels.
        """
        self.env, self.path, self.profile = env, path, profile
        self.unit, periods = unit(env), env.horizon - env.parameters.warm_up
        self.per = "a period" if env.parameters.cost_per == "period" else f"in {periods} periods"
        self.trained: dict[str, Any] | None = None
        self.today, self.how = recommend.today(env, today)
        self.levels = recommend.search(env, profile, seed, jobs)
        self.best = next(iter(self.levels.values()))
        test = held_out(env, "test", recommend.PLAYED[profile])
        self.played = {name: recommend.play(env, own.tuned(env, x), test) for name, x in self.levels.items()}
        self.ours, self.theirs = self.played[self.best.rule], recommend.play(env, own.tuned(env, self.today), test)
        self.saving = recommend.saving(self.ours.cost, self.theirs.cost)
        self.gap = recommend.left(env, self.ours.cost, recommend.BOUNDED[profile], jobs)
        self.curve = recommend.service_costs(path, self.best.rule, self.best, profile, seed, jobs)

    def train(self, seeds: Sequence[int], steps: int, folder: Path) -> None:
        """Train PPO over seeds, for so many steps each; 0: the profile's."""
        steps = steps or STEPS[self.profile]
        self.trained = recommend.agents(self.path, folder, seeds, steps, self.ours.cost, self.profile)

    def ladder(self) -> pd.DataFrame:
        """Every rule that fits: cost where it was tuned and where it is judged, levels, and percent above the best."""
        best = self.ours.cost.mean()
        return pd.DataFrame({
            name: {
                "tuned on": levels.provenance["validation_cost"], "judged on": self.played[name].cost.mean(),
                "above the best, %": 100 * (self.played[name].cost.mean() / best - 1), "levels": len(levels.levels),
            } for name, levels in self.levels.items()
        }).T.astype({"levels": int})  # fmt: skip

    def services(self) -> pd.DataFrame:
        """Service by location under the recommended rule, and the fill rate of today's."""
        return self.ours.service.assign(**{"fill rate today": self.theirs.service["fill rate"]})

    def points(self) -> dict[str, tuple[float, float]]:
        """Fill rate, and cost of stock and orders, of the recommended levels and of today's."""
        return {
            name: (fill(played), float(played.parts.drop(["shortage", "lost_sales"]).sum()))
            for name, played in {"recommended": self.ours, "today": self.theirs}.items()
        }

    def menu(self) -> pd.DataFrame:
        """Levels by fill rate, as text, a column a choice: for a target of service, where shortage has no price."""
        columns = {}
        for factor, row in self.curve.iterrows():
            levels = Levels(rule=self.best.rule, levels=row.drop(list(MENU)).to_dict())
            forms = {name: _money(row[name]) if form == "money" else form for name, form in MENU.items()}
            facts = pd.Series({name: format(row[name], form) for name, form in forms.items()})
            columns[f"shortage × {factor:g}"] = pd.concat([facts, level_table(self.env, levels)["value"]])
        return pd.DataFrame(columns)

    def write(self, folder: Path) -> None:
        """Write today's levels, those of every rule, and all numbers: ``today.yaml``, ``chain/``, ``report.json``."""
        tuning.write(self.today, folder / "today.yaml")
        verdict, why = recommend.advice(self.gap, self.trained)
        numbers = {
            "rule": self.best.rule, "levels": self.best.levels, "levels_by_location": level_table(self.env, self.best),
            "cost": self.ours.cost.mean(), "cost_unit": self.unit,
            "today": {"rule": self.today.rule, "levels": self.today.levels, "cost": self.theirs.cost.mean(),
                      "from": self.how},
            "saving": self.saving, "service": self.ours.service, "service_today": self.theirs.service,
            "cost_parts": self.ours.parts, "cost_parts_today": self.theirs.parts, "service_costs": self.curve,
            "rules": self.ladder(), "left": self.gap, "agents": self.trained,
            "reinforcement_learning": {"verdict": verdict, "why": why}, "profile": self.profile,
        }  # fmt: skip
        recommend.write_numbers(folder / "report.json", numbers)


def summary(found: Findings, made: bool) -> str:
    """The first lines: what to do, what it saves, what is left."""
    s = found.saving
    lines = ["> **Made data.** This chain does not exist: the page shows what a report looks like.\n"] if made else []
    if found.profile == "quick":
        lines.append(
            "> **A short try** (profile quick): searches were cut short. Decide on a run with the profile full.\n"
        )
    saves = shown(s["percent"], s["percent_low"], s["percent_high"], ".1f", " %")
    lines += [
        f"- **Use the rule `{found.best.rule}`** with the levels below.",
        f"- It {recommend.saved(s)} {saves} of today's cost, and meets {fill(found.ours):.1%} of demand at once, "
        f"today's {fill(found.theirs):.1%}.",
        f"- {recommend.advice(found.gap, found.trained)[1]}",
    ]
    return "\n".join(lines)


def rule(found: Findings) -> str:
    """What the recommended rule does, in a sentence, and how to read its levels."""
    about = " ".join(RULES[found.best.rule].about.partition("\n\n")[0].split())
    if not any(name.startswith(("level", "order-up-to")) for name in found.best.levels):
        return f"`{found.best.rule}`: {about}"
    more = ""
    if found.best.rule.startswith(ECHELON):
        more += f" That of the {found.env.node_names[0]} is for the whole chain: all stock, wherever it is."
    # A level's name begins with what it is; a location in it may be called anything.
    if any(re.search(r", sine \d$", name) for name in found.best.levels):
        more += " *Sine* and *cosine* say how far a level swings with the season."
    if any(name.endswith(", day of the week") for name in found.best.levels):
        more += (
            " *Day of the week* says how far a level moves with the days ahead: that much times the share by which "
            "demand until the next order is there will be above that of a mean day."
        )
    if any(name.startswith("memory") for name in found.best.levels):
        more += " *Memory* and *weight* say how far a level follows what was asked for lately."
    return (
        f"`{found.best.rule}`: {about} A level is an order-up-to level: what is on hand and on its "
        f"way, less what customers wait for, is brought up to it.{more}"
    )


def alternatives(found: Findings) -> str:
    """All rules that fit were tuned; and whether a simpler one would do."""
    table = found.ladder()
    tuned = 100 * (table["tuned on"] / table["tuned on"].iloc[0] - 1)  # the later part chooses nothing
    close = table[(tuned < SIMPLER) & (table["levels"] < len(found.best.levels))]
    simple = ""
    if len(close):
        name = close.index[int(close["levels"].to_numpy().argmin())]
        count, extra = int(close["levels"].min()), float(close["above the best, %"].to_dict()[name])
        cost = f"costs {extra:.1f} % more" if extra > 0.05 else "costs no more"
        simple = f" A simpler one would do: `{name}`, with {count} levels, {cost}."
    return (
        f"{len(table)} rules fit this chain. Each was tuned on the earlier part of the record, and the one that was "
        f"cheapest there is recommended; *judged on* is its cost on the later part, which no search has seen.{simple}"
    )


def savings(found: Findings) -> str:
    """The saving in money with its interval, where today's levels are from, and what the interval covers."""
    s = found.saving
    money = _money(s["value"])
    return (
        f"{found.how} On the later part the recommended rule costs {found.ours.cost.mean():{money}} {found.per} and "
        f"today's {found.theirs.cost.mean():{money}} ({found.unit}), so it {recommend.saved(s)} "
        f"{shown(s['value'], s['low'], s['high'], money)} {found.per}. Both met the same {len(found.ours.cost):,} "
        "episodes. The interval (95 %) covers which blocks of the record an episode happens to be made of; it does not "
        "cover that the future may differ from the record."
    )


def _money(value: float) -> str:
    """Format of a sum of money: two decimals where whole units would say little, three digits where these would."""
    size = abs(value)
    decimals = 0 if size >= 20 else 2 if size >= 0.1 or not size else 2 - int(np.floor(np.log10(size)))
    return f",.{decimals}f"


def service(found: Findings) -> str:
    """How to read the curve of service against cost."""
    return (
        "Few know what a shortage costs; most know the service they want. Here the recommended rule is tuned as if a "
        f"shortage cost {', '.join(f'{f:g}' for f in sorted(found.curve.index))} times as much as your file says. Pick "
        "the column with the fill rate that you want: its levels are in it. *Cost* is all of it, shortage at your "
        "price."
    )


def left(found: Findings) -> str:
    """What is left to gain at all, the criterion, and the advice."""
    gap, trained = found.gap, found.trained
    agents = ""
    if trained:
        agents = (
            f" PPO, trained {trained['seeds']} times for {trained['steps']:,} environment steps each, costs "
            f"{trained['cost']:{_money(trained['cost'])}} {found.per} and meets {trained['fill rate']:.1%} of demand "
            "at once."
        )
    return (
        f"A planner who knew all demand and all lead times in advance would still pay "
        f"{gap['bound']:{_money(gap['bound'])}} {found.per} (a lower bound, on {gap['episodes']} episodes). So at most "
        f"{shown(gap['percent'], gap['percent_low'], gap['percent_high'], '.1f', ' %')} of the recommended rule's cost "
        "is left, for any method whatsoever. How much of that is the price of not knowing the future, which nobody can "
        f"save, the bound cannot tell.{agents}\n\n**{recommend.advice(gap, trained)[1]}**\n\n"
        f"The criterion: reinforcement learning is not worth the trouble if at most {100 * recommend.WORTH:.0f} % is "
        "left (the upper end counts), or if trained agents are not cheaper than the rule, the luck of training and of "
        "episodes allowed for (95 %)."
    )


def grounds(found: Findings, folder: Path | None) -> str:
    """What was assumed: the record, its split, how episodes are drawn, and where everything is kept."""
    assert found.env.record is not None
    table, record = found.env.record.table, found.env.record.record
    cut, effort = table.cut(record), recommend.EFFORT[found.profile]
    keeps = "their time of the year and their day of the week" if record.yearly else "their day of the week"
    steps = sum(x.provenance["simulated_steps"] for x in found.levels.values())
    kept = f" The chain as used, all levels and all numbers are in `{folder.name}`." if folder else ""
    variation = "" if np.ndim(found.env.parameters.lead_time.mean) else " All nodes have the same lead time."
    return (
        f"The record has {len(table.dates):,} periods, {table.dates[0]:%d %B %Y} to {table.dates[-1]:%d %B %Y}, at "
        f"{len(table.locations)} locations. The first {cut:,} were tuned on, the other {len(table.dates) - cut:,} "
        f"judged on. An episode has {found.env.horizon} periods, strung together of blocks of {record.block} that "
        f"keep {keeps}; all locations together. Lead times are drawn as the chain's file says.{variation} Each rule "
        f"was searched for up to {effort['generations']} generations, more where the range of a level was widened, on "
        f"{effort['episodes']} episodes; {steps / 1e6:,.0f} million periods were simulated, those for the curve of "
        f"service aside.{kept}"
    )


def level_table(env: Env, levels: Levels) -> pd.DataFrame:
    """Levels for people: value, as text, and unit; a common level of the retailers is given for each of them."""
    rows = {}
    # Some rules have levels for each location, which may be called `retailer`; others have one for all.
    each_has = set(env.node_names[1:]) <= {name.partition(", ")[2] for name in levels.levels}
    for name, value in levels.levels.items():
        fact, _, place = name.partition(", ")
        common = place == "retailer" and fact == "level" and not each_has
        unit = "" if fact.startswith("memory") else "periods" if fact.startswith("weight") else "units"
        if env.options is not None and fact == "season":
            unit = "share of the level"
        one = place if each_has else place.replace("retailer", "mean location")
        for i, where in enumerate(env.node_names[1:] if common else [one]):
            each = float(env.demand_shares[i]) * value if common else value
            small = ".2f" if abs(each) >= 0.1 or not each else ".3g"
            shown = f"{each:,.0f}" if abs(each) >= 10 else f"{each:{small}}"
            rows[f"{fact}, {where}" if where else fact] = {"value": shown, "unit": unit}
    return pd.DataFrame.from_dict(rows, orient="index")


def facts(table: recorded.Table, record: recorded.Record) -> pd.DataFrame:
    """What a record says of each location: mean and variation of demand in both parts, and periods without demand."""
    cut, units = table.cut(record), table.units
    return pd.DataFrame({
        "mean, earlier part": units[:cut].mean(0), "mean, later part": units[cut:].mean(0),
        "variation": units[:cut].std(0) / units[:cut].mean(0), "periods without demand": (units == 0).mean(0),
    }, list(table.locations))  # fmt: skip
