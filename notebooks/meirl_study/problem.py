"""Tables of the problem: a few periods that add up, what can be served, all parameters, what each side sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel

from meirl.envs import OBSERVATION_SETS, DivergentEnv, DivergentState, Env, Scenario, Transition, make
from meirl.envs.base import CLOCK, REMEMBERED, SEASON, per_node

LATE = 5  # periods; a lead time that long is far above any mean
NONE = "–"

FACTS = {
    "stock on hand": ("on hand",),
    "backlog": ("backorder", "waiting"),
    "orders not shipped yet": ("outstanding",),
    "oldest open order": ("quantity of", "age of"),
    "pipeline, in total": ("in transit", "on order"),
    "pipeline by due date": ("due in",),
    "season": tuple(SEASON),
    "time left": tuple(CLOCK),
    f"demand of the last {REMEMBERED} periods": ("demand",),
}
"""What a number of an observation tells, by how its name begins."""
HIDDEN = ("whether a shock is active", "future demand, lead times, capacities")
"""What no policy of the book sees."""
TOTAL = "numbers in all"

SYMBOLS = {
    "horizon": "T", "demand.mean": "μ", "demand.floor": "ε", "demand.season.amplitude": "α",
    "demand.season.period": "τ", "demand.shock.probability": "θ", "demand.shock.length": "ℓ",
    "demand.shock.factor": "f", "demand.noise.spread": "r", "demand.noise.standard_deviation": "σ",
    "demand.noise.common": "v", "demand.noise.own": "w", "demand.direct": "δ", "lead_time.mean": "m",
    "lead_time.standard_deviation": "σᴸ", "lead_time.tail_probability": "θᴸ", "lead_time.tail_extra": "d",
    "lead_time.low": "Lᵐⁱⁿ", "lead_time.high": "Lᵐᵃˣ", "holding_cost.warehouse": "h₀", "holding_cost.retailer": "hᵢ",
    "holding_cost.middle": "h₀", "holding_cost.leaf": "hᵢ", "backorder_cost": "b", "shortage_cost": "b",
    "lost_sale_cost": "p", "withdrawal_cost": "p", "lost_share": "φ", "max_inventory.warehouse": "I₀ᵐᵃˣ",
    "max_inventory.retailer": "Iᵢᵐᵃˣ", "max_backorder": "Bᵐᵃˣ", "max_outstanding": "Oᵐᵃˣ", "max_order": "qᵐᵃˣ",
    "order_cap": "qᶜᵃᵖ", "pipeline_cost": "g", "max_backlog_duration": "A", "order_cost.middle": "a₀",
    "order_cost.leaf.least": "a₁", "order_cost.leaf.per_unit": "a₂", "supplier_capacity.mean": "k",
    "supplier_capacity.standard_deviation": "σᴷ", "outbound_capacity.mean": "k",
    "outbound_capacity.standard_deviation": "σᴷ",
}  # fmt: skip
"""What the chapter's equations call a parameter."""


def ledger(env: DivergentEnv, start: DivergentState, played: Sequence[Transition], scenario: Scenario) -> pd.DataFrame:
    """Account for the units of the divergent chain: what came, what went, what is left.

    Args:
        env: the environment.
        start: the state before the first period; the first episode of the batch is shown.
        played: what `Env.step` returned, period by period.
        scenario: what was played.

    Returns:
        One column a period; rows ``(node, quantity)``, whole units, and the period's cost. In every node, what was on
        hand before plus and minus what moved is what is on hand after.
    """
    p, columns = env.parameters, {}
    shelf = env.tensor(per_node(p.max_inventory.warehouse, p.max_inventory.retailer, env.retailers))
    for t, (after, costs, flows) in enumerate(played):
        received = torch.minimum(start.in_transit[:, 0], shelf - start.on_hand)
        shipped = (env.on_order(after) - env.on_order(start) + start.in_transit[:, 0])[:, 1:]
        stock = start.on_hand[:, 0] + received[:, 0] - shipped.sum(1)
        column = {
            ("warehouse", "on hand before"): start.on_hand[:, 0],
            ("warehouse", "+ received"): received[:, 0],
            ("warehouse", "- shipped to retailers"): shipped.sum(1),
            ("warehouse", "- to its own customers"): torch.minimum(stock, scenario.direct_demand[:, t]),
            ("warehouse", "= on hand after"): after.on_hand[:, 0],
        }
        served = start.backorder + flows.demand - flows.lost - flows.forgotten - after.backorder
        for i, name in enumerate(env.node_names[1:]):
            column |= {
                (name, "on hand before"): start.on_hand[:, 1 + i],
                (name, "+ received"): received[:, 1 + i],
                (name, "- to customers"): served[:, i],
                (name, "= on hand after"): after.on_hand[:, 1 + i],
                (name, "asked for by customers"): flows.demand[:, i],
                (name, "waiting after"): after.backorder[:, i],
                (name, "ordered, not shipped"): after.outstanding[:, 1 + i],
                (name, "in transit to it"): env.on_order(after)[:, 1 + i],
            }
        column["all", "cost of the period"] = costs.total
        columns[t] = {key: round(value[0].item()) for key, value in column.items()}
        start = after
    return pd.DataFrame(columns).rename_axis(columns="period")


def stressors(scenarios: Mapping[str, Scenario]) -> pd.DataFrame:
    """Measure what nature does.

    Args:
        scenarios: by environment.

    Returns:
        One row an environment: mean and standard deviation of a retailer's demand (units), correlation of the first
        two retailers (NaN for a single one), share of periods in a shock, mean lead time (periods), share of lead times
        of `LATE` or more, and share of periods in which retailers ask for more than the warehouse can ship.
    """
    rows = {}
    for name, scenario in scenarios.items():
        draws = {field: values.cpu().numpy() for field, values in scenario._asdict().items()}
        demand, lead = draws["demand"], draws["lead_time"]
        two = [demand[..., i].ravel() for i in range(demand.shape[2])][:2]
        rows[name] = {
            "mean demand per retailer": demand.mean(),
            "standard deviation": demand.std(),
            "correlation of two retailers": np.corrcoef(*two)[0, 1] if len(two) == 2 else np.nan,
            "periods in a shock": (draws["shock"] != 1).mean(),  # some lower demand
            "mean lead time": lead.mean(),
            f"lead time of {LATE} or more": (lead >= LATE).mean(),
            "demand above outbound capacity": (demand.sum(2) > draws["outbound_capacity"]).mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def bottleneck(env: Env, scenario: Scenario) -> dict[str, Any]:
    """Set what customers ask for against what the narrowest place of the chain lets pass.

    On the divergent chain that is the supplier's link (the cap on orders or the supplier's capacity), which feeds the
    warehouse's own customers too, or the warehouse's outbound capacity. On MEIS it is the one order a day: a unit must
    be ordered twice, by the middle and by a leaf, each at most in its largest option.

    Args:
        env: the environment.
        scenario: what means are taken over.

    Returns:
        The ``narrowest place``, ``asked for`` and ``can pass`` in units a period, their ratio ``load``, and the ``load
        at the season's peak``.
    """
    retail, own = scenario.demand.sum(2).mean().item(), scenario.direct_demand.mean().item()
    largest = env.largest_order.tolist()
    if env.options is not None:
        asked, passes = {"one order a day": retail}, {"one order a day": 1 / (1 / largest[0] + 1 / max(largest[1:]))}
    else:
        asked = {"supplier to warehouse": retail + own, "warehouse to retailers": retail}
        supply = scenario.supplier_capacity.clamp(max=largest[0]).mean().item()
        outbound = scenario.outbound_capacity.clamp(max=sum(largest[1:])).mean().item()
        passes = {"supplier to warehouse": supply, "warehouse to retailers": outbound}
    place = max(asked, key=lambda link: asked[link] / passes[link])
    load, season = asked[place] / passes[place], env.parameters.demand.season
    return {
        "narrowest place": place, "asked for": asked[place], "can pass": passes[place], "load": load,
        "load at the season's peak": load * (1 + season.amplitude) if season else load,
    }  # fmt: skip


def parameters(*envs: Env) -> Any:
    """List every parameter of environments of one chain beside each other, from `Env.parameters`; a Markdown table.

    A row that an environment lacks (no season, no limit) has a dash. What a parameter means comes from its field's
    description, or from that of the group it belongs to.
    """
    from IPython.display import Markdown  # a notebook has it

    values = [dict(_leaves(env.parameters)) for env in envs]
    every = {key: about for column in sorted(values, key=len, reverse=True) for key, about in column.items()}
    heads = ["parameter", "symbol", *(env.name.partition("-")[2] for env in envs), "meaning"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for key, (_, meaning) in every.items():
        cells = [_text(column[key][0]) if key in column else NONE for column in values]
        parameter = key.replace(".", ".\u200b")  # a narrow column may break there
        lines.append(f"| `{parameter}` | {SYMBOLS.get(key, '')} | {' | '.join(cells)} | {meaning} |")
    return Markdown("\n".join(lines))


def _leaves(model: BaseModel, prefix: str = "", about: str = "") -> Iterator[tuple[str, tuple[Any, str]]]:
    """Every number of a group of parameters by its key, with its meaning; absent groups and the chain are left out."""
    for name, field in type(model).model_fields.items():
        value, meaning = getattr(model, name), field.description or about
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.", meaning or (type(value).__doc__ or "").partition("\n")[0])
        elif value is not None and name != "chain":
            yield prefix + name, (value, meaning)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "; ".join(map(_text, value))
    return f"{value:,g}" if isinstance(value, int | float) else str(value)


def published_numbers(env: Env) -> Any:
    """List the numbers of the published observation of a chain, one line a fact; Markdown."""
    from IPython.display import Markdown  # a notebook has it

    nodes: dict[str, list[str]] = {}
    for entry in make(env.name, observation="published").legend():
        fact, _, node = entry.partition(", ")
        nodes.setdefault(fact, []).append(node)
    return Markdown("\n".join(f"- {fact}: {', '.join(names)}" for fact, names in nodes.items()))


def seen(names: Sequence[str]) -> pd.DataFrame:
    """Tabulate what each side gets to see.

    Args:
        names: environments.

    Returns:
        One row a fact of `FACTS` and of `HIDDEN`, and their total; columns ``(environment, observation set)``: how many
        numbers tell it. Every number that `Env.legend` names is counted once.
    """
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for name in names:
        for chosen in OBSERVATION_SETS:
            legend = make(name, observation=chosen).legend()  # type: ignore[arg-type]
            count = {fact: sum(entry.startswith(begins) for entry in legend) for fact, begins in FACTS.items()}
            counts[name, chosen] = count | dict.fromkeys(HIDDEN, 0) | {TOTAL: len(legend)}
    return pd.DataFrame(counts)


def who_sees_what(names: Sequence[str]) -> pd.DataFrame:
    """The table `seen` for reading: beside it what a rule may read, which is what the full set shows."""
    table = seen(names)
    shown = table.astype(str).mask(table == 0, NONE)
    full = table.xs("full", axis=1, level=1).T.max()
    shown["rules", "may read"] = np.where(full > 0, "yes", NONE)
    shown.loc[TOTAL, ("rules", "may read")] = ""
    heads = {"published": "published agent", "full": "our learners"}
    return shown.rename(columns=heads, level=1)
