"""Replenishment rules: what deep RL has to beat, from ordering nothing to tuned seasonal levels.

A `Rule` is a form with free numbers, its *levels*: order-up-to levels, reorder points, amplitudes. ``rule.policy(env,
levels)`` fixes them and gives a policy. Levels may be one vector for all episodes or one row an episode, so `tuning`
plays a whole population of candidates as one batch. Every rule reads the state in units and the calendar, never the
scenario, and works for any number of retailers.

`load` gives a rule with committed levels: ``never-order``, ``published`` (the study's baseline, its bugs included),
``best`` (the best tuned rule of the environment), or any tuned rule by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field

from .envs import Env, Observation, load_yaml, validated
from .envs.base import per_node
from .envs.scenario import Model
from .rollout import Policy

TUNED = Path(__file__).parent / "tuned"


class Range(NamedTuple):
    """Where to search for one level; `tuning` may widen it, but never beyond its natural limits."""

    low: float
    high: float
    least: float = -math.inf
    most: float = math.inf


Box = dict[str, Range]
Decide = Callable[[Observation, torch.Tensor], torch.Tensor]


class Rule(NamedTuple):
    """A form of policy with free levels.

    Attributes:
        name: what `load` and the command line call it.
        chain: the chain it is for; None: both.
        about: what it does, in a sentence or two.
        box: from an environment, the name and search range of every level, in order.
        decide: from an observation and levels ``(1, k)`` or ``(batch, k)``, the action.
    """

    name: str
    chain: str | None
    about: str
    box: Callable[[Env], Box]
    decide: Decide

    def ranges(self, env: Env) -> Box:
        """Name and search range of every level; ValueError if the rule is for the other chain."""
        if self.chain not in (None, env.chain):
            raise ValueError(f"rule {self.name!r} is for the {self.chain} chain, {env.name} is {env.chain}")
        return self.box(env)

    def policy(self, env: Env, levels: Any) -> Policy:
        """Fix the levels.

        Args:
            env: the environment the policy will play.
            levels: ``(k,)``, one vector for all episodes, or ``(batch, k)``, one row an episode; order as in `box`.

        Returns:
            A policy: `Observation` to action.

        Raises:
            ValueError: if the rule is for the other chain, or the number of levels is wrong.
        """
        names = list(self.ranges(env))
        levels = env.tensor(levels)
        if levels.ndim not in (1, 2) or levels.shape[-1] != len(names):
            listed = ", ".join(names) or "none"
            raise ValueError(f"rule {self.name!r} takes {len(names)} levels ({listed}), got {tuple(levels.shape)}")
        return partial(_play, self.decide, torch.atleast_2d(levels))


def _play(decide: Decide, levels: torch.Tensor, observation: Observation) -> torch.Tensor:
    return decide(observation, levels)


# ---------------------------------------------------------------------------------------------------------------------
# Both chains


def _nothing(observation: Observation, _: torch.Tensor) -> torch.Tensor:
    env = observation.env
    return env.action(torch.zeros_like(observation.state.on_hand))


def _constant(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    env, on_hand = observation.env, observation.state.on_hand
    orders = levels.expand_as(on_hand)
    if env.chain == "meis":  # one order a day: the nodes take turns
        turn = torch.arange(env.nodes, device=env.device) == torch.as_tensor(observation.period)[..., None] % env.nodes
        orders = orders * turn
    return env.action(orders.clamp(min=0))


def _constant_box(env: Env) -> Box:
    p: Any = env.parameters
    if env.chain == "meis":
        most = [max(p.order_options.middle)] + [max(p.order_options.leaf)] * env.retailers
    else:
        most = [p.order_cap] * env.nodes
    return {f"order, {name}": Range(0, m, 0, m) for name, m in zip(env.node_names, most, strict=True)}


# ---------------------------------------------------------------------------------------------------------------------
# Divergent chain: base stock


def inventory_position(observation: Observation, outstanding: bool = False, echelon: bool = False) -> torch.Tensor:
    """Inventory position of every node of the divergent chain, ``(batch, N)`` units.

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


def _limits(env: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Shelf of every node ``(N,)`` and cap on the backorders of every retailer ``(R,)``, in units."""
    p, retailers = env.parameters, env.retailers
    shelf = per_node(p.max_inventory.warehouse, p.max_inventory.retailer, retailers)
    return env.tensor(shelf), env.tensor(per_node(0, p.max_backorder, retailers)[1:])


Position = Literal["misread", "on hand", "with outstanding", "without outstanding", "echelon"]


def _position(observation: Observation, kind: Position) -> torch.Tensor:
    env, on_hand = observation.env, observation.state.on_hand
    if kind == "misread":
        # The study's bug: the state is normalised to x / max and read back as (x / max + 1) / 2 * max, so that empty
        # shelves look half full, which is more than any level.
        shelf = _limits(env)[0]
        return ((on_hand / shelf).clamp(-1, 1) + 1) * shelf / 2
    if kind == "on hand":
        return on_hand
    return inventory_position(observation, kind == "with outstanding", kind == "echelon")


def _base_stock(observation: Observation, levels: torch.Tensor, position: Position) -> torch.Tensor:
    env = observation.env
    return env.action((levels - _position(observation, position)).clamp(min=0))


def _base_stock_box(env: Env, echelon: bool) -> Box:
    shelf, owed = (limit.tolist() for limit in _limits(env))
    warehouse = sum(shelf) if echelon else shelf[0]
    box = {f"level, {env.node_names[0]}": Range(-sum(owed) if echelon else 0, warehouse)}
    return box | {f"level, {n}": Range(-b, s) for n, b, s in zip(env.node_names[1:], owed, shelf[1:], strict=True)}


def base_stock(name: str, about: str, position: Position) -> Rule:
    """A base-stock rule: every node orders its level minus its position; one constant level a node."""
    box = partial(_base_stock_box, echelon=position == "echelon")
    return Rule(name, "divergent", about, box, partial(_base_stock, position=position))


def published_base_stock_levels(env: Env) -> torch.Tensor:
    """The study's formula, never tuned: expected demand plus safety stock over a lead time, ``(N,)`` units.

    With a season it takes peak demand and the noise's standard deviation, else mean demand d and sqrt(d).
    """
    p = env.parameters
    season, lead = p.demand.season, p.lead_time.mean
    demand = p.demand.mean * (1 + (season.amplitude if season else 0))
    deviation = p.demand.noise.standard_deviation if season else math.sqrt(demand)
    safety = 1.65 * deviation * math.sqrt(lead)
    return env.tensor([demand * lead + safety] + [0.5 * demand * lead + 0.8 * safety] * env.retailers)


def repairs(env: Env) -> dict[str, Policy]:
    """The published base stock repaired step by step, all at the published levels (the last: their echelon sums)."""
    levels = published_base_stock_levels(env)
    echelon = torch.cat([levels.sum()[None], levels[1:]])
    steps: dict[str, tuple[Position, torch.Tensor]] = {
        "as published": ("misread", levels),
        "state read correctly": ("on hand", levels),
        "inventory position": ("with outstanding", levels),
        "without the outstanding order": ("without outstanding", levels),
        "echelon position at the warehouse": ("echelon", echelon),
    }
    return {step: base_stock(step, "", position).policy(env, given) for step, (position, given) in steps.items()}


def wave(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    """A level that swings with the season: ``level + a sin + b cos (+ c sin 2 + d cos 2)``, ``(batch, 1)``.

    Args:
        observation: gives the calendar.
        levels: ``(batch, 1)``, ``(batch, 3)`` or ``(batch, 5)``: the constant, then a pair for each harmonic.
    """
    value, pairs = levels[:, :1], (levels.shape[1] - 1) // 2
    if pairs:
        calendar = observation.env.calendar(observation.period, len(observation.state.on_hand))
        sine, cosine = calendar.split(1, dim=1)
        basis = torch.cat([sine, cosine, 2 * sine * cosine, cosine.square() - sine.square()], 1)
        value = value + (levels[:, 1:] * basis[:, : 2 * pairs]).sum(1, keepdim=True)
    return value


def _wave_box(env: Env, name: str, level: Range, harmonics: int) -> Box:
    """Search range of a level and of its harmonics; an environment without a season has none."""
    box, swing = {name: level}, (level.high - max(level.low, 0.0)) / 2
    for k in range(1, 1 + harmonics * (env.parameters.demand.season is not None)):
        box |= {f"{name}, {wave} {k}": Range(-swing, swing) for wave in ("sine", "cosine")}
    return box


def _fair_shares(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    """Echelon base stock; retailers' orders are scaled down, all by the same factor, to a common total."""
    env, total = observation.env, levels[:, -1:]
    warehouse, retailer = levels[:, :-1].tensor_split(2, 1)
    position = inventory_position(observation, echelon=True)
    wanted = (wave(observation, retailer) - position[:, 1:]).clamp(min=0)
    share = (total / wanted.sum(1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
    return env.action(torch.cat([wave(observation, warehouse) - position[:, :1], wanted * share], 1).clamp(min=0))


def _fair_shares_box(env: Any, harmonics: int) -> Box:
    demand, total = env.parameters.demand, env.parameters.order_cap * env.retailers
    chain = demand.mean * (env.retailers + demand.direct)
    return (
        _wave_box(env, "level, warehouse", Range(0, 30 * chain), harmonics)
        | _wave_box(env, "level, retailer", Range(0, 60 * demand.mean), harmonics)
        | {"total of retailers' orders": Range(0, total / 2, 0, total)}
    )


def fair_shares(name: str, about: str, harmonics: int) -> Rule:
    """A fair-shares rule; ``harmonics`` of the season in its levels."""
    return Rule(name, "divergent", about, partial(_fair_shares_box, harmonics=harmonics), _fair_shares)


def _bank_and_switch(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    """Serve the best-off retailers; let the others sit at the backorder cap, where more shortage is free.

    The warehouse always orders the most. What it can ship next is handed out in this order, best-off retailer first:

    1. to every retailer clear of its cap: up to a safety stock;
    2. to the best-off one: a bank to live off later, never more than it can still use before the end;
    3. to the others: what is left. A full bank so lifts the next retailer off its cap, which makes it part of 1.
    """
    env: Any = observation.env
    state, cap = observation.state, env.parameters.order_cap
    safety, margin, bank, pace = levels.expand(len(state.on_hand), -1).split(1, dim=1)
    waiting = state.outstanding[:, 1:].sum(1, keepdim=True)
    stock = state.on_hand[:, :1] + state.in_transit[:, 0, :1] - waiting
    direct = env.parameters.demand.mean * env.parameters.demand.direct
    budget = (stock - direct).clamp(min=0) + cap  # left after this period's shipments, plus what arrives by the next
    position, rank = inventory_position(observation, outstanding=True)[:, 1:].sort(1, descending=True)
    clear = position > margin - _limits(env)[1][rank]
    best = torch.arange(env.retailers, device=env.device) == 0
    bank = torch.minimum(bank, pace * (env.horizon - observation.period))
    given = torch.zeros_like(position)
    for served, level in ((clear, safety), (best, bank), (~best, env.tensor(math.inf))):
        room = torch.minimum((level - position - given).clamp(min=0), cap - given) * served
        share = torch.minimum(room, (budget - room.cumsum(1) + room).clamp(min=0))
        given, budget = given + share, budget - share.sum(1, keepdim=True)
    orders = torch.zeros_like(position).scatter(1, rank, given)
    return env.action(torch.cat([torch.full_like(stock, cap), orders], 1))


def _bank_and_switch_box(env: Env) -> Box:
    shelf, owed = _limits(env)
    most, cap, demand = float(shelf[1:].max()), float(owed.max()), env.parameters.demand.mean
    return {
        "safety stock": Range(-5 * demand, 10 * demand),
        "margin above the cap": Range(0, cap / 5, 0, cap),
        "bank": Range(0, most, 0, most),
        "bank per period left": Range(0, 2 * demand, 0),
    }


# ---------------------------------------------------------------------------------------------------------------------
# MEIS: (s, S)


Urgency = Literal["gap", "cover"]


def _s_big_s(
    observation: Observation, levels: torch.Tensor, net: bool, backlog: bool, urgency: Urgency
) -> torch.Tensor:
    """Of the nodes below their reorder point, the most urgent one orders the option nearest to its gap to S."""
    env, state = observation.env, observation.state
    on_order = state.on_order.sum(1)
    position = state.on_hand + on_order
    if net:
        position = position - F.pad(on_order[:, 1:].sum(1, keepdim=True), (0, env.retailers))
    if backlog:
        position = position - F.pad(state.backlog.sum(1), (1, 0))
    levels, swings = levels.tensor_split([2 * env.nodes], 1)
    reorder, up_to = levels[:, 0::2], levels[:, 1::2]
    scale = _daily_demand(env)
    if swings.shape[1]:
        ones = torch.ones_like(swings[:, :1])
        middle, leaf = (wave(observation, torch.cat([ones, s], 1)) for s in swings.tensor_split(2, 1))
        season = torch.cat([middle, leaf.expand(-1, env.retailers)], 1).clamp(min=0.05)
        reorder, up_to, scale = reorder * season, up_to * season, scale * season
    gap = reorder - position
    urgent = gap / scale if urgency == "cover" else gap
    node = urgent.argmax(1, keepdim=True)
    action = _nearest_option(env, (up_to - position).gather(1, node), node[:, 0])
    return action * (gap.gather(1, node)[:, 0] > 0)


def _nearest_option(env: Any, quantity: torch.Tensor, node: torch.Tensor) -> torch.Tensor:
    """The action by which ``node`` ``(batch,)`` orders the option nearest to ``quantity`` ``(batch, 1)``."""
    options = env.parameters.order_options
    middle = (quantity - env.tensor(options.middle)).abs().argmin(1)
    leaf = (quantity - env.tensor(options.leaf)).abs().argmin(1)
    return 1 + torch.where(node == 0, middle, len(options.middle) + (node - 1) * len(options.leaf) + leaf)


def _daily_demand(env: Env) -> torch.Tensor:
    """Mean demand per day that each node serves, ``(N,)`` units."""
    mean = env.parameters.demand.mean
    return env.tensor([mean * env.retailers] + [mean] * env.retailers)


def _s_big_s_box(env: Env, harmonics: int) -> Box:
    box: Box = {}
    for name, daily in zip(env.node_names, _daily_demand(env).tolist(), strict=True):
        box[f"reorder point, {name}"] = Range(0, 20 * daily)
        box[f"order-up-to level, {name}"] = Range(0, 25 * daily)
    for group in ("middle", "leaves"):  # swings are shares of the levels
        box |= _wave_box(env, f"season, {group}", Range(-2, 2), harmonics)
        del box[f"season, {group}"]
    return box


def s_big_s(name: str, about: str, *, net: bool, backlog: bool, urgency: Urgency, harmonics: int = 0) -> Rule:
    """An (s, S) rule.

    Args:
        name: of the rule.
        about: what it does.
        net: the middle's position excludes what the leaves have on order.
        backlog: the leaves' positions exclude what customers wait for.
        urgency: who orders today: the largest ``gap`` to the reorder point in units, or in days of demand (``cover``).
        harmonics: of the season in the levels.
    """
    decide = partial(_s_big_s, net=net, backlog=backlog, urgency=urgency)
    return Rule(name, "meis", about, partial(_s_big_s_box, harmonics=harmonics), decide)


# ---------------------------------------------------------------------------------------------------------------------
# Names and files

_RULES = [
    Rule("never-order", None, "Order nothing: the sanity row of every table.", lambda env: {}, _nothing),
    Rule("constant-order", None, "Every node orders its constant; on MEIS nodes take turns.", _constant_box, _constant),
    base_stock("base-stock", "Every node orders up to its own constant level.", "without outstanding"),
    base_stock("echelon-base-stock", "Base stock; the warehouse counts everything downstream.", "echelon"),
    fair_shares("fair-shares", "Echelon base stock, orders scaled to a common total.", 0),
    fair_shares("fair-shares-seasonal", "Fair shares with levels that swing with the season.", 1),
    fair_shares("fair-shares-seasonal-2", "Fair shares with levels that swing in two harmonics.", 2),
    Rule("bank-and-switch", "divergent", _bank_and_switch.__doc__ or "", _bank_and_switch_box, _bank_and_switch),
    s_big_s("s-S", "(s, S) as published: largest gap first.", net=False, backlog=False, urgency="gap"),
    s_big_s("s-S-backlog", "(s, S), backlog in the position.", net=False, backlog=True, urgency="gap"),
    s_big_s("s-S-cover", "(s, S), net positions, largest gap in days first.", net=True, backlog=True, urgency="cover"),
    s_big_s("s-S-cover-seasonal", "The same, seasonal.", net=True, backlog=True, urgency="cover", harmonics=1),
]
HEURISTICS: dict[str, Rule] = {rule.name: rule for rule in _RULES}


class Tuned(Model):
    """A committed file of levels with its provenance: ``meirl/tuned/ENV/RULE.yaml``."""

    rule: str = Field(description="name of the rule")
    levels: dict[str, float] = Field(description="level by name")
    provenance: dict[str, Any] = Field(default_factory=dict, description="where the levels come from")


def rule(env: Env, name: str) -> Rule:
    """The rule of that name.

    Raises:
        ValueError: if there is none for the environment's chain.
    """
    known = [known for known, rule in HEURISTICS.items() if rule.chain in (None, env.chain)]
    if name not in known:
        raise ValueError(
            f"unknown heuristic {name!r} for {env.name}: expected published, best or one of {', '.join(known)}"
        )
    return HEURISTICS[name]


def load(env: Env, name: str | Path = "best") -> Policy:
    """Give a heuristic with its committed levels.

    Args:
        env: the environment.
        name: ``never-order``; ``published``, the study's baseline as it was; ``best``, the tuned rule with the lowest
            validation cost; the name of any tuned rule; or a file that `tuning.write` wrote.

    Returns:
        The policy.

    Raises:
        ValueError: if the name is unknown, or nothing was tuned for the environment.
    """
    if name == "never-order":
        return HEURISTICS["never-order"].policy(env, [])
    if name == "published" and env.chain == "divergent":
        return repairs(env)["as published"]
    tuned = read(env, name)
    return HEURISTICS[tuned.rule].policy(env, list(tuned.levels.values()))


def read(env: Env, name: str | Path) -> Tuned:
    """Read the file of a tuned rule; the arguments are those of `load`.

    Raises:
        ValueError: if there is none, or it does not fit the rule; the message names the file and the key.
    """
    if name == "best":
        name = best(env)
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name != "published":
            rule(env, str(name))
        path = tuned_file(env, str(name))
        if not path.exists():
            hint = f"run `python -m meirl tune --env {env.name} --heuristic {'NAME' if name == 'published' else name}`"
            raise ValueError(f"no levels of {name!r} for {env.name}: {hint}")
    tuned = validated(Tuned, load_yaml(path), str(path))
    if tuned.rule not in HEURISTICS:
        raise ValueError(f"{path}: rule: unknown rule {tuned.rule!r}, expected one of {', '.join(HEURISTICS)}")
    names = list(HEURISTICS[tuned.rule].box(env))
    if list(tuned.levels) != names:
        raise ValueError(f"{path}: levels: expected {', '.join(names)}, got {', '.join(tuned.levels)}")
    return tuned


def best(env: Env) -> str:
    """Name of the environment's tuned rule with the lowest validation cost.

    Raises:
        ValueError: if nothing was tuned for the environment.
    """
    costs = {}
    for path in sorted(tuned_file(env, "any").parent.glob("*.yaml")):
        cost = read(env, path).provenance.get("validation_cost")
        if cost is not None:
            costs[path.stem] = cost
    if not costs:
        raise ValueError(f"nothing tuned for {env.name}: run `python -m meirl tune --env {env.name} --heuristic NAME`")
    return min(costs, key=lambda name: costs[name])


def tuned_file(env: Env, name: str) -> Path:
    """Where a rule's levels are kept: in the package, or in a folder beside the YAML file of one's own environment."""
    own = Path(env.name)
    folder = own.with_suffix("") if own.suffix in (".yaml", ".yml") else TUNED / env.name
    return folder / f"{name}.yaml"
