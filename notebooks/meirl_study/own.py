"""For a chain of one's own: a made example, every rule that fits tuned, today's levels, service against cost."""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from joblib import Parallel, delayed

from meirl.envs import DivergentEnv, Env, MeisEnv, make
from meirl.envs.base import per_node
from meirl.evaluation import held_out
from meirl.heuristics import RULES, Levels, tuning
from meirl.heuristics.tuning import Search
from meirl.rollout import Policy, rollout

Z = 1.645  # standard deviations of safety stock: a textbook's 95 % of cycles without a shortage
EXAMPLE: dict[str, Any] = {
    "chain": "divergent", "horizon": 182, "warm_up": 14, "endless": True, "retailers": 3,
    "locations": ["Leeds", "York", "Hull"],
    "demand": {"record": {"file": "demand.csv"}},
    "lead_time": {"mean": [5, 1, 1, 2], "standard_deviation": [1.5, 0, 0, 0], "low": 1, "high": 9},
    "holding_cost": {"warehouse": 0.02, "retailer": 0.03}, "order_cost": {"warehouse": 40, "retailer": 2},
    "backorder_cost": 0.4, "lost_sale_cost": 3, "lost_share": 0.6,
    "initial_stock": {"warehouse": 500, "retailer": [160, 70, 30]},
    "max_inventory": {"warehouse": 4000, "retailer": 1500}, "max_backorder": 1000, "max_outstanding": 1000,
    "max_in_transit": 1000, "max_order": 1200, "max_retailer_order": 400, "order_cap": 1200,
    "rationing": "lowest stock",
}  # fmt: skip
"""A made chain: money in euros, a period is a day."""


def example(folder: Path, seed: int = 0, horizon: int = 182, periods: int = 728) -> Path:
    """Write a made chain and its made record, ``chain.yaml`` and ``demand.csv``; no such chain exists.

    Three shops that differ in size; a week with a quiet Sunday; good and bad days for all of them, and for each.

    Args:
        folder: where to, made if need be.
        seed: of the record.
        horizon: of an episode, in days.
        periods: days of it.

    Returns:
        The chain's file.
    """
    generator, week = np.random.default_rng(seed), np.array([0.9, 0.9, 1.0, 1.0, 1.3, 1.6, 0.3])
    mean = np.outer(week[np.arange(periods) % 7], [40, 16, 6])
    common = generator.gamma(20, 1 / 20, (periods, 1))  # weather, say: a day is good or bad for all
    units = generator.poisson(mean * common * generator.gamma(10, 1 / 10, mean.shape))
    dates = pd.date_range("2023-01-02", periods=periods, name="date")
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(units, dates, EXAMPLE["locations"])
    table.to_csv(folder / "demand.csv", date_format="%Y-%m-%d", lineterminator="\n")
    path = folder / "chain.yaml"
    path.write_text(yaml.safe_dump(EXAMPLE | {"horizon": horizon}, sort_keys=False), encoding="utf-8")
    return path


def fitting(env: Env) -> list[str]:
    """Names of the rules to tune for an environment: those with levels that react to nothing it does not have.

    Left out is the published misreading of the state, which is no rule but a mistake.
    """
    named = {name: rule for name, rule in RULES.items() if isinstance(env, rule.kind) and rule.fits(env)}
    return [name for name, rule in named.items() if rule.ranges(env) and name != "base-stock-misread"]


def tune_all(env: Env, jobs: int = 1, **options: Any) -> dict[str, Search]:
    """Tune every rule that fits the environment: the opponent is the best of all, not the one that one thought of.

    Args:
        env: the environment.
        jobs: searches at once; -1: one a core.
        **options: of `meirl.heuristics.tuning.tune`.

    Returns:
        Searches by rule, cheapest on validation scenarios first.
    """
    names = fitting(env)
    options = {"progress": False, **options}
    found = Parallel(n_jobs=jobs)(delayed(tuning.tune)(env, RULES[name], **options) for name in names)
    by_name = dict(zip(names, found, strict=True))
    return dict(sorted(by_name.items(), key=lambda item: item[1].tuned.provenance["validation_cost"]))


def tuned(env: Env, found: Search | Levels) -> Policy:
    """The rule with its levels, of a search or a file, for an environment."""
    levels = found.tuned if isinstance(found, Search) else found
    return RULES[levels.rule].policy(env, list(levels.levels.values()))


def spread(env: Env) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of a period's demand by location and, last, of all together, in units.

    Of the earlier part of the record; without one, of training scenarios.
    """
    if env.record is None:
        units = env.sample(64, 0).demand.flatten(0, 1).double().cpu().numpy()
    else:
        units = env.record.table.units[: env.record.table.cut(env.record.record)]
    units = np.concatenate([units, units.sum(1, keepdims=True)], 1)
    return units.mean(0), units.std(0)


@singledispatch
def textbook(env: Env) -> Levels:
    """Levels as a textbook sets them, never tuned: a stand-in for today's, where nobody gives them.

    What an order has to cover is the demand of its lead time, of the period until the next one and, on the divergent
    chain, of the period before a retailer's order is shipped. A level is that demand and `Z` standard deviations of it.

    Raises:
        ValueError: if the chain is another one.

    Source: Silver, Pyke & Thomas (2017), Inventory and production management in supply chains, chapters 6 and 11.
    """
    raise ValueError(f"{env.name}: no textbook levels are known for {type(env).__name__}")


def _covered(env: Env, more: int) -> tuple[np.ndarray, np.ndarray]:
    """Demand that an order has to cover, and its safety stock, upstream first, ``(N,)`` units."""
    (*means, total), (*deviations, together) = spread(env)
    lead = np.full(1 + env.retailers, env.parameters.lead_time.mean) + 1
    lead[1:] += more
    return np.array([total, *means]) * lead, Z * np.array([together, *deviations]) * np.sqrt(lead)


@textbook.register
def _divergent(env: DivergentEnv) -> Levels:
    covered, safety = _covered(env, env.parameters.ships == "next period")
    cost = env.parameters.order_cost
    if cost is None:
        return _named(env, "base-stock-open-orders", covered + safety)
    # The warehouse's level is of the whole chain; an order is worth its cost from the economic quantity on.
    fixed, mean = np.array(per_node(cost.warehouse, cost.retailer, env.retailers)), spread(env)[0]
    holding = env.holding_cost.double().cpu().numpy().clip(1e-9)
    least = np.sqrt(2 * fixed * np.array([mean[-1], *mean[:-1]]) / holding).clip(max=env.largest_order.cpu().numpy())
    levels = covered + safety + least
    levels[0] += (covered + safety)[1:].sum()
    return _named(env, "echelon-s-S", [*levels, *least])


@textbook.register
def _meis(env: MeisEnv) -> Levels:
    covered, safety = _covered(env, 0)
    options = env.parameters.order_options
    smallest = np.array(per_node(min(options.middle), min(options.leaf), env.retailers))
    reorder = covered + safety
    return _named(env, "s-S-backlog", np.stack([reorder, reorder + smallest], 1).ravel())


def _named(env: Env, rule: str, levels: Iterable[float]) -> Levels:
    # A tenth of a unit, or three digits: where demand is counted in pallets, a tenth is a lot.
    rounded = (round(float(level), 1) if level >= 10 else float(f"{level:.3g}") for level in levels)
    named = dict(zip(RULES[rule].ranges(env), rounded, strict=True))
    return Levels(rule=rule, levels=named, provenance={"from": "a textbook's formula, not tuned"})


def for_service(
    env: str | Path, rule: str, costs: Iterable[dict[str, Any]], players: int, **options: Any
) -> pd.DataFrame:
    """Tune a rule for several costs of shortage and see how much it then serves and holds.

    Args:
        env: name or YAML file of the environment.
        rule: name of the rule.
        costs: what to change, as `meirl.make` takes it, one mapping a row.
        players: validation episodes to play.
        **options: of `meirl.heuristics.tuning.tune`.

    Returns:
        One row a mapping, in order; index: the values changed, under the keys of the last. ``fill rate`` (share) and
        ``on hand`` (mean units in the chain).
    """
    rows, labels, names = [], [], ""
    for changes in costs:
        labels.append(", ".join(f"{x:g}" if isinstance(x, int | float) else str(x) for x in changes.values()))
        chain = make(env, **changes)
        policy = tuned(chain, tuning.tune(chain, RULES[rule], progress=False, **options))
        played = rollout(chain, policy, held_out(chain, "validation", players)).mean()
        names = ", ".join(changes)
        rows.append({"fill rate": played["fill_rate"], "on hand": played["on_hand"]})
    return pd.DataFrame(rows, labels).rename_axis(names)
