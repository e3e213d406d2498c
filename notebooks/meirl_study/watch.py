"""What the page *Watch an episode* knows: chains, rules and recorded orders, for a simulator in the reader's browser.

The browser plays the chains itself (``book/_static/chain.js``). So a page needs no more than what nature did on some
test scenarios, what each policy ordered, and what it cost. Numbers are whole multiples of a step, two bytes each,
compressed.
"""

from __future__ import annotations

import base64
import json
import zlib
from copy import copy
from typing import Any

import numpy as np
import pandas as pd
import torch

from meirl.envs import DivergentEnv, Env, MeisEnv, Scenario
from meirl.envs.base import per_node, per_retailer
from meirl.heuristics import best_rule, find_rule, load, read_levels
from meirl.rollout import Policy, trajectory

from . import behaviour
from .chapter import Chapter

SCENARIOS = {"quick": 10, "full": 50}
"""Test scenarios on which levels are tried, by profile: the first of the test set."""
EPISODES = {"quick": 2, "full": 8}
"""The first of them can be watched under every policy."""
LARGEST = 2**16 - 1  # of a number that is packed
DRAWS = {
    "demand": "demand", "direct": "direct_demand", "supply": "supplier_capacity", "outbound": "outbound_capacity",
    "lead": "lead_time",
}  # fmt: skip
"""Fields of a `meirl.envs.Scenario` by the name that the browser has for them."""
RULES: dict[str, dict[str, bool]] = {
    "base-stock": {"echelon": False, "open": False},
    "echelon-base-stock": {"echelon": True, "open": False},
    "base-stock-open-orders": {"echelon": False, "open": True},
    "echelon-base-stock-open-orders": {"echelon": True, "open": True},
    "s-S": {"backlog": False},
    "s-S-backlog": {"backlog": True},
}
"""The textbook rules, and how the browser tells them apart."""


def rounded(scenario: Scenario) -> Scenario:
    """A scenario that can be sent exactly: units and lead times are whole anyway, capacities are rounded."""
    return Scenario(*(_steps(field)[0] if field.isfinite().all() else field for field in scenario))


def rounding(env: Env) -> Env:
    """An environment like another that rounds orders before it plays them: a browser that gets them plays the same."""
    near = copy(env)
    near.orders = lambda action: _steps(env.orders(action))[0]  # type: ignore[method-assign]
    return near


def _steps(values: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Round to whole numbers, or to hundredths where they are none and small; also give how many steps make a unit."""
    whole = bool((values == values.round()).all()) or float(values.max()) * 100 > LARGEST
    per = 1 if whole else 100
    return ((values.double() * per).round() / per).to(values.dtype), per


def packed(values: torch.Tensor) -> dict[str, Any]:
    """Pack numbers for the browser: ``data``, base64 of zlib of little-endian 16-bit integers, and steps ``per`` unit.

    Args:
        values: any shape, row by row; not below 0.

    Raises:
        ValueError: if a number is negative, not finite, or too large for 16 bits.
    """
    if not (values.isfinite().all() and values.min() >= 0 and values.max() <= LARGEST):
        raise ValueError(f"numbers to pack must be 0 to {LARGEST}, got {float(values.min())} to {float(values.max())}")
    numbers, per = _steps(values)
    whole = (numbers.double() * per).round().cpu().numpy().astype("<u2")
    return {"per": per, "data": base64.b64encode(zlib.compress(whole.tobytes(), 9)).decode()}


def unpacked(field: dict[str, Any]) -> np.ndarray:
    """What the browser reads from `packed` numbers, ``(numbers,)``."""
    return np.frombuffer(zlib.decompress(base64.b64decode(field["data"])), "<u2") / field["per"]


def parameters(env: Env) -> dict[str, Any]:
    """What the browser's simulator has to know of an environment, one number a node, upstream first.

    Raises:
        ValueError: if it cannot play it: another kind of chain, another order of events, or a cost of ordering.
    """
    common = {
        "holding": _list(env.holding_cost), "shortage": _list(env.shortage_cost),
        "longest": env.parameters.lead_time.high,
    }  # fmt: skip
    if isinstance(env, MeisEnv):
        return common | _meis(env)
    if isinstance(env, DivergentEnv):
        p = env.parameters
        usual = ("next period", "before shipping", "waits", None)
        if (p.ships, p.receives, p.unshipped, p.order_cost) == usual and p.rationing != "lowest stock":
            return common | _divergent(env)
    raise ValueError(f"{env.name}: the browser's simulator has only the study's chains and their order of events")


def _meis(env: MeisEnv) -> dict[str, Any]:
    p, cost, n = env.parameters, env.parameters.order_cost, env.retailers
    return {
        "stock": per_node(p.initial_stock.middle, p.initial_stock.leaf, n), "patience": p.max_backlog_duration,
        "options": [list(p.order_options.middle), *[list(p.order_options.leaf)] * n], "pipeline": p.pipeline_cost,
        "orderLeast": per_node(cost.middle, cost.leaf.least, n), "lostCost": p.withdrawal_cost,
        "orderPerUnit": per_node(0, cost.leaf.per_unit, n),
    }  # fmt: skip


def _divergent(env: DivergentEnv) -> dict[str, Any]:
    p, n = env.parameters, env.retailers
    return {
        "stock": per_node(p.initial_stock.warehouse, p.initial_stock.retailer, n), "lostShare": p.lost_share,
        "shelf": per_node(p.max_inventory.warehouse, p.max_inventory.retailer, n), "lostCost": p.lost_sale_cost,
        "owedLimit": per_retailer(p.max_backorder, n), "waitingLimit": per_retailer(p.max_outstanding, n),
        "largestOrder": _list(env.largest_order), "largestFirst": p.rationing == "largest order",
    }  # fmt: skip


def _list(values: torch.Tensor) -> list[float]:
    return [float(value) for value in values]


def textbook(env: Env) -> dict[str, Any]:
    """The textbook rule of an environment: ``name``, how the browser tells it apart, and its ``levels`` with ranges.

    Raises:
        ValueError: if the browser has no such rule.
    """
    name = best_rule(env, textbook=True)
    if name not in RULES:
        raise ValueError(f"{env.name}: the browser has no rule {name!r}, only {', '.join(RULES)}")
    tuned, box = read_levels(env, name).levels, find_rule(env, name).ranges(env)
    levels = [
        {"name": key, "value": value, "low": min(box[key].low, value), "high": max(box[key].high, value)}
        for key, value in tuned.items()
    ]
    return {"name": name, "levels": levels, **RULES[name]}


def chains(chapter: Chapter) -> dict[str, dict[str, Any]]:
    """All that the page has to know, by environment: simulator, draws, textbook rule, and what every policy orders."""
    return {name: _chain(chapter, env) for name, env in chapter.envs.items()}


def _chain(chapter: Chapter, env: Env) -> dict[str, Any]:
    first = chapter.tests[env.name][: SCENARIOS[chapter.profile]]
    scenario, episodes = rounded(first), EPISODES[chapter.profile]  # type: ignore[arg-type]
    fields = scenario._asdict()
    return {
        "kind": env.chain, "source": env.source, "nodes": env.node_names, "periods": env.horizon,
        "period": "day" if isinstance(env, MeisEnv) else "period", "scenarios": scenario.episodes,
        "episodes": episodes, "unit": chapter.units[env.name], "costUnit": env.cost_unit,
        "parameters": parameters(env), "rule": textbook(env),
        "draws": {key: packed(fields[name]) for key, name in DRAWS.items() if fields[name].isfinite().all()},
        "policies": [
            {"name": name, **recorded(env, policy, scenario, episodes)}
            for name, policy in policies(chapter, env).items()
        ],
    }  # fmt: skip


def policies(chapter: Chapter, env: Env) -> dict[str, Policy]:
    """Those of `meirl_study.behaviour.policies`, and the rule of the published study as it was, in second place."""
    nothing, *others = behaviour.policies(chapter, env).items()
    return dict([nothing, ("published rule", load(env, "published")), *others])


def recorded(env: Env, policy: Policy, scenario: Scenario, episodes: int) -> dict[str, Any]:
    """What a policy orders on the first episodes of a scenario, packed, and its means over all of them.

    Returns:
        ``orders`` (episode by period by node), ``mean`` cost in units of ``cost_unit``, and ``fill`` rate as a share.
    """
    seen = trajectory(rounding(env), policy, scenario)
    fill = seen["filled"].sum((1, 2)) / seen["demand"].sum((1, 2))
    means = {"mean": float(seen["cost"].sum(1).mean()) / env.cost_unit, "fill": float(fill.mean())}
    return means | {"orders": packed(torch.from_numpy(seen["orders"][:episodes]))}


def means(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Means of `chains` over its scenarios: a row a policy; columns environment and ``mean cost`` or ``fill rate``."""
    columns = {
        (name, heading): {policy["name"]: policy[key] for policy in chain["policies"]}
        for name, chain in found.items()
        for heading, key in (("mean cost", "mean"), ("fill rate", "fill"))
    }
    return pd.DataFrame(columns)


def page(found: dict[str, dict[str, Any]], static: str = "../_static") -> str:
    """What brings the page to life, as HTML: the data themselves, style and scripts from the book's own files.

    Args:
        found: of `chains`.
        static: address of the book's files, relative to the page.
    """
    text = json.dumps(found, separators=(",", ":")).replace("<", "\\u003c")  # nothing in it can end the script
    scripts = "".join(f'<script defer src="{static}/{name}.js"></script>' for name in ("chain", "watch"))
    data = f'<script type="application/json" id="watch-data">{text}</script>'
    return f'<link rel="stylesheet" href="{static}/watch.css">{data}{scripts}'
