"""Rules of the divergent chain: base stock in its forms, balanced echelons, fair shares, bank and switch."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch

from ..envs import DivergentEnv, Observation
from ..envs.base import per_retailer
from .rule import Box, Range, Rule, informed, informed_box, seasonal, wave, wave_box

# Search ranges, in periods of mean demand: far beyond any good level, since a narrow box decides the result.
WAREHOUSE_PERIODS, RETAILER_PERIODS = 30, 60
SAFETY_PERIODS = (-5, 10)  # a safety stock may be negative: below it, what customers wait for is served late
PACE_PERIODS = 2


def inventory_position(observation: Observation, outstanding: bool = False, echelon: bool = False) -> torch.Tensor:
    """Inventory position of every node, ``(batch, N)`` units.

    A retailer's: on hand + in transit - backorders. The warehouse's: on hand + in transit - what retailers still wait
    for (its backorders).

    Args:
        observation: the state.
        outstanding: add to a retailer's position its order that is not shipped yet, as textbooks do. That is right
            where the warehouse ships it at once. But a new order *replaces* the outstanding one: where the warehouse
            runs short, what was counted is forgotten and too little is ordered.
        echelon: the warehouse's position is everything in the chain: its own stock plus the retailers' positions.
    """
    state = observation.state
    own = state.on_hand + state.in_transit.sum(1)
    waiting = state.outstanding[:, 1:]
    retailers = own[:, 1:] - state.backorder
    downstream = retailers if echelon else -waiting
    warehouse = own[:, :1] + downstream.sum(1, keepdim=True)
    return torch.cat([warehouse, retailers + waiting if outstanding else retailers], 1)


def supply(observation: Observation, shipments: int) -> torch.Tensor:
    """What the warehouse has to ship from, all of its next so many shipments together, ``(batch, 1)`` units."""
    env, state = _divergent(observation), observation.state
    slots = shipments - 1 + (env.parameters.receives == "before shipping")
    return state.on_hand[:, :1] + state.in_transit[:, :slots, :1].sum(1)


def shipping(observation: Observation) -> torch.Tensor:
    """What the warehouse ships now of the orders that it has already, its capacity aside, ``(batch, R)`` units."""
    env, state = _divergent(observation), observation.state
    if env.parameters.ships == "at once":  # there are none: what is left of them, a new order replaces
        return torch.zeros_like(state.backorder)
    shelf = state.on_hand
    if env.parameters.receives == "before shipping":  # whose turn it is, is asked after that
        shelf = torch.minimum(shelf + state.in_transit[:, 0], env.limits["shelf"])
    return env.ration(state.outstanding[:, 1:], supply(observation, 1)[:, 0], shelf[:, 1:] - state.backorder)


def _divergent(observation: Observation) -> DivergentEnv:
    return observation.env  # type: ignore[return-value]


Position = Literal["misread", "on hand", "with outstanding", "without outstanding", "echelon", "open", "open echelon"]


def _position(observation: Observation, kind: Position) -> torch.Tensor:
    on_hand = observation.state.on_hand
    if kind == "misread":
        # The study's bug: the state is normalised to x / max and read back as (x / max + 1) / 2 * max, so that empty
        # shelves look half full, which is more than any level.
        shelf = _divergent(observation).limits["shelf"]
        return ((on_hand / shelf).clamp(-1, 1) + 1) * shelf / 2
    if kind == "on hand":
        return on_hand
    position = inventory_position(observation, kind == "with outstanding", kind.endswith("echelon"))
    if kind.startswith("open"):
        position[:, 1:] += shipping(observation)
    return position


def _base_stock(observation: Observation, levels: torch.Tensor, position: Position) -> torch.Tensor:
    env = observation.env
    return env.action((levels - _position(observation, position)).clamp(min=0))


def _base_stock_box(env: DivergentEnv, echelon: bool) -> Box:
    shelf, owed = (env.limits[of].tolist() for of in ("shelf", "backorder"))
    warehouse = sum(shelf) if echelon else shelf[0]
    box = {f"level, {env.node_names[0]}": Range(-sum(owed) if echelon else 0, warehouse)}
    return box | {f"level, {n}": Range(-b, s) for n, b, s in zip(env.node_names[1:], owed, shelf[1:], strict=True)}


def base_stock(name: str, about: str, position: Position) -> Rule:
    """A base-stock rule: every node orders its level minus its position; one constant level a node.

    ``order = max(0, level - position)``, equation :eq:`eq-base-stock` of the book.
    """
    box = _covering_box if position.startswith("open") else partial(_base_stock_box, echelon=position == "echelon")
    return Rule(name, DivergentEnv, about, box, partial(_base_stock, position=position), textbook=position != "misread")


def _capped(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    """Base stock in which no retailer orders more than a cap in a period. Source: Xin (2021)."""
    levels, cap = levels.split([levels.shape[1] - 1, 1], 1)
    wanted = (levels - _position(observation, "open")).clamp(min=0)
    return observation.env.action(torch.cat([wanted[:, :1], torch.minimum(wanted[:, 1:], cap)], 1))


def _covering_box(env: DivergentEnv, retailers: Sequence[str] = ()) -> Box:
    """Levels up to twice the demand that an order has to cover: far above, a rule's other numbers decide alone."""
    demand, lead = env.parameters.demand, env.parameters.lead_time.high
    chain = Range(0, WAREHOUSE_PERIODS * demand.average * (env.retailers + demand.direct))
    means = [demand.average] if retailers else per_retailer(demand.mean, env.retailers)
    levels = [Range(0, 2 * (lead + 2) * mean) for mean in means]
    named = zip(retailers or env.node_names[1:], levels, strict=True)
    return {"level, warehouse": chain} | {f"level, {name}": level for name, level in named}


def _capped_box(env: DivergentEnv) -> Box:
    return _covering_box(env) | {"largest order": Range(0, env.parameters.order_cap, 0)}


def _balanced(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    """Echelon base stock that keeps the retailers' positions level, equation :eq:`eq-balanced` of the book.

    They order up to a common height: their level, or as high as what the warehouse can ship next reaches if it is
    poured onto the lowest positions, like water. Retailers that differ are wells as wide as their share of demand.
    Source: the balance that Eppen & Schrage (1981) assume.
    """
    env, (warehouse, retailer) = _divergent(observation), levels.split(1, dim=1)
    position = _position(observation, "open echelon")
    direct = env.parameters.demand.average * env.parameters.demand.direct
    promised = shipping(observation).sum(1, keepdim=True)
    water = supply(observation, 1 if env.parameters.ships == "at once" else 2)
    water = (water - promised - direct).clamp(min=0)
    width = env.demand_shares
    lowest = (position[:, 1:] / width).argsort(stable=True, dim=1)
    ground = position[:, 1:].gather(1, lowest).cumsum(1)
    # The k lowest alone would hold the water at this height; with too few of them it stands too high.
    height = torch.minimum(((water + ground) / width[lowest].cumsum(1)).amin(1, keepdim=True), retailer)
    wanted = torch.cat([warehouse - position[:, :1], height * width - position[:, 1:]], 1)
    return env.action(wanted.clamp(min=0))


def _fair_shares(observation: Observation, levels: torch.Tensor, news: bool) -> torch.Tensor:
    """Echelon base stock; retailers' orders are scaled down, all by the same factor, to a common total.

    The retailers' level is for one of average demand; the others' are as much larger or smaller as their demand.
    """
    env = observation.env
    if news:
        facts, levels = levels.tensor_split([len(informed_box(env))], 1)
    total = levels[:, -1:]
    warehouse, retailer = (wave(observation, swing) for swing in levels[:, :-1].tensor_split(2, 1))
    if news:
        warehouse, retailer = informed(observation, warehouse, retailer, facts)
    retailer = retailer * env.demand_shares
    position = inventory_position(observation, echelon=True)
    wanted = (retailer - position[:, 1:]).clamp(min=0)
    share = (total / wanted.sum(1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
    return env.action(torch.cat([warehouse - position[:, :1], wanted * share], 1).clamp(min=0))


def _fair_shares_box(env: DivergentEnv, harmonics: int, news: bool) -> Box:
    demand, total = env.parameters.demand, env.parameters.order_cap * env.retailers
    chain = demand.average * (env.retailers + demand.direct)
    box = informed_box(env) if news else {}
    box |= wave_box(env, "level, warehouse", Range(0, WAREHOUSE_PERIODS * chain), harmonics)
    box |= wave_box(env, "level, retailer", Range(0, RETAILER_PERIODS * demand.average), harmonics)
    return box | {"total of retailers' orders": Range(0, total / 2, 0, total)}


def _fair_shares_rule(name: str, about: str, harmonics: int, news: bool = False) -> Rule:
    """A fair-shares rule; ``harmonics`` of the season in its levels, which may follow the news."""
    box = partial(_fair_shares_box, harmonics=harmonics, news=news)
    fits = partial(seasonal, harmonics=0 if news else harmonics)
    return Rule(name, DivergentEnv, about, box, partial(_fair_shares, news=news), fits=fits)


def _s_big_s(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    """Order up to the level, once the position is so far below it that an order is worth its fixed cost."""
    levels, least = levels.tensor_split(2, 1)
    gap = levels - _position(observation, "open echelon")
    return observation.env.action((gap * (gap >= least)).clamp(min=0))


def _s_big_s_box(env: DivergentEnv) -> Box:
    most = zip(env.node_names, env.largest_order.tolist(), strict=True)
    return _covering_box(env) | {f"least order, {name}": Range(0, order, 0, order) for name, order in most}


def _bank_and_switch(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    """Serve the best-off retailers; let the others sit at the backorder cap, where more shortage is free.

    The warehouse always orders the most. What it can ship next is handed out in this order, best-off retailer first:

    1. to every retailer clear of its cap: up to a safety stock;
    2. to the best-off one: a bank to live off later, never more than it can still use before the end;
    3. to the others: what is left. A full bank so lifts the next retailer off its cap, which makes it part of 1.
    """
    env = _divergent(observation)
    state, cap = observation.state, env.parameters.order_cap
    safety, margin, bank, pace = levels.expand(len(state.on_hand), -1).split(1, dim=1)
    waiting = state.outstanding[:, 1:].sum(1, keepdim=True)
    stock = state.on_hand[:, :1] + state.in_transit[:, 0, :1] - waiting
    direct = env.parameters.demand.average * env.parameters.demand.direct
    budget = (stock - direct).clamp(min=0) + cap  # left after this period's shipments, plus what arrives by the next
    position, rank = inventory_position(observation, outstanding=True)[:, 1:].sort(dim=1, descending=True, stable=True)
    clear = position > margin - env.limits["backorder"][rank]
    best = torch.arange(env.retailers, device=env.device) == 0
    bank = torch.minimum(bank, pace * (env.horizon - observation.period))
    given = torch.zeros_like(position)
    for served, level in ((clear, safety), (best, bank), (~best, env.tensor(math.inf))):
        room = torch.minimum((level - position - given).clamp(min=0), cap - given) * served
        share = torch.minimum(room, (budget - room.cumsum(1) + room).clamp(min=0))
        given, budget = given + share, budget - share.sum(1, keepdim=True)
    orders = torch.zeros_like(position).scatter(1, rank, given)
    return env.action(torch.cat([torch.full_like(stock, cap), orders], 1))


def _bank_and_switch_box(env: DivergentEnv) -> Box:
    most, cap = float(env.limits["shelf"][1:].max()), float(env.limits["backorder"].max())
    demand = env.parameters.demand.average
    return {
        "safety stock": Range(*(periods * demand for periods in SAFETY_PERIODS)),
        "margin above the cap": Range(0, cap / 5, 0, cap),
        "bank": Range(0, most, 0, most),
        "bank per period left": Range(0, PACE_PERIODS * demand, 0),
    }


_balanced_box = partial(_covering_box, retailers=["retailer"])

RULES = (
    base_stock("base-stock", "Every node orders up to its own constant level.", "without outstanding"),
    base_stock("echelon-base-stock", "Base stock; the warehouse counts everything downstream.", "echelon"),
    base_stock("base-stock-open-orders", "Base stock; orders that ship now count.", "open"),
    base_stock("echelon-base-stock-open-orders", "Its echelon form.", "open echelon"),
    base_stock("base-stock-misread", "Base stock on a misread state, as published: it never orders.", "misread"),
    Rule("echelon-s-S", DivergentEnv, "Echelon (s, S): up to the level, but no order below its least.", _s_big_s_box,
         _s_big_s, textbook=True, fits=lambda env: env.parameters.order_cost is not None),
    Rule("capped-base-stock", DivergentEnv, "Base stock; retailers' orders have a cap.", _capped_box, _capped),
    Rule("balanced-echelon", DivergentEnv, "Echelon base stock that keeps retailers level.", _balanced_box, _balanced),
    _fair_shares_rule("fair-shares", "Echelon base stock, orders scaled to a common total.", 0),
    _fair_shares_rule("fair-shares-seasonal", "Fair shares with levels that swing with the season.", 1),
    _fair_shares_rule("fair-shares-seasonal-2", "Fair shares with levels that swing in two harmonics.", 2),
    _fair_shares_rule("fair-shares-informed", "Two harmonics; levels follow recent demand and the time left.", 2, True),
    # Demand that nobody counts is the model's, not the world's; and whoever lives off a bank must see the end.
    Rule("bank-and-switch", DivergentEnv, _bank_and_switch.__doc__ or "", _bank_and_switch_box, _bank_and_switch,
         fits=lambda env: not env.parameters.endless),
)  # fmt: skip
