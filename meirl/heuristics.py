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
from pydantic import Field

from .envs import Env, Observation, load_yaml, validated
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
        if self.chain not in (None, env.chain):
            raise ValueError(f"rule {self.name!r} is for the {self.chain} chain, {env.name} is {env.chain}")
        names = list(self.box(env))
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
    most = [p.order_cap] * env.nodes
    if env.chain == "meis":
        most = [max(p.order_options.middle)] + [max(p.order_options.leaf)] * env.retailers
    return {f"order, {name}": Range(0, m, 0, m) for name, m in zip(env.node_names, most, strict=True)}


# ---------------------------------------------------------------------------------------------------------------------
# Divergent chain: base stock


def inventory_position(observation: Observation, outstanding: bool = False, echelon: bool = False) -> torch.Tensor:
    """Inventory position of every node of the divergent chain, ``(batch, N)`` units.

    A retailer's: on hand + in transit - backorders. The warehouse's: on hand + in transit - what retailers still wait
    for (its backorders).

    Args:
        observation: the state.
        outstanding: add to a retailer's position its order that is not shipped yet, as textbooks do. In this chain a
            new order *replaces* the outstanding one, so counting it orders too little.
        echelon: the warehouse's position is everything in the chain: its own stock plus the retailers' positions.
    """
    state = observation.state
    own = state.on_hand + state.in_transit.sum(1)
    waiting = state.outstanding[:, 1:]
    retailers = own[:, 1:] - state.backorder
    downstream = retailers if echelon else -waiting
    warehouse = own[:, :1] + downstream.sum(1, keepdim=True)
    return torch.cat([warehouse, retailers + waiting if outstanding else retailers], 1)


Position = Literal["misread", "on hand", "with outstanding", "without outstanding", "echelon"]


def _position(observation: Observation, kind: Position) -> torch.Tensor:
    env, on_hand = observation.env, observation.state.on_hand
    if kind == "misread":
        # The study's bug: the state is normalised to x / max and read back as (x / max + 1) / 2 * max, so that empty
        # shelves look half full, which is more than any level.
        shelf = env._limits["shelf"]
        return ((on_hand / shelf).clamp(-1, 1) + 1) * shelf / 2
    if kind == "on hand":
        return on_hand
    return inventory_position(observation, kind == "with outstanding", kind == "echelon")


def _base_stock(observation: Observation, levels: torch.Tensor, position: Position) -> torch.Tensor:
    env = observation.env
    return env.action((levels - _position(observation, position)).clamp(min=0))


def _base_stock_box(env: Env, echelon: bool) -> Box:
    shelf, owed = env._limits["shelf"].tolist(), env._limits["backorder"].tolist()
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


# ---------------------------------------------------------------------------------------------------------------------
# MEIS: (s, S)


def _s_big_s(
    observation: Observation, levels: torch.Tensor, backlog: bool, net: bool, urgency: Literal["gap", "cover"]
) -> torch.Tensor:
    """Of the nodes below their reorder point, the most urgent one orders the option nearest to its gap to S."""
    env, state = observation.env, observation.state
    on_order = state.on_order.sum(1)
    position = state.on_hand + on_order
    if backlog:
        position = torch.cat([position[:, :1], position[:, 1:] - state.backlog.sum(1)], 1)
    if net:
        promised = on_order[:, 1:].sum(1, keepdim=True)
        position = torch.cat([position[:, :1] - promised, position[:, 1:]], 1)
    reorder, up_to = levels[:, 0::2], levels[:, 1::2]
    gap = reorder - position
    urgent = gap / _daily_demand(env) if urgency == "cover" else gap
    chosen = urgent.argmax(1, keepdim=True)
    # The smallest option is the least that can be ordered, so "nearest" never means "none".
    quantity = torch.maximum(up_to - position, _smallest_option(env))
    orders = torch.zeros_like(gap).scatter(1, chosen, quantity.gather(1, chosen))
    return env.action(orders) * (gap > 0).any(1)


def _daily_demand(env: Env) -> torch.Tensor:
    mean = env.parameters.demand.mean
    return env.tensor([mean * env.retailers] + [mean] * env.retailers)


def _smallest_option(env: Any) -> torch.Tensor:
    options = env.parameters.order_options
    return env.tensor([min(options.middle)] + [min(options.leaf)] * env.retailers)


def _s_big_s_box(env: Env) -> Box:
    box: Box = {}
    for name, daily in zip(env.node_names, _daily_demand(env).tolist(), strict=True):
        box[f"reorder point, {name}"] = Range(0, 15 * daily)
        box[f"order-up-to level, {name}"] = Range(0, 20 * daily)
    return box


def s_big_s(name: str, about: str, *, backlog: bool, net: bool, urgency: Literal["gap", "cover"]) -> Rule:
    """An (s, S) rule with a choice of position and of urgency."""
    return Rule(name, "meis", about, _s_big_s_box, partial(_s_big_s, backlog=backlog, net=net, urgency=urgency))


# ---------------------------------------------------------------------------------------------------------------------
# Names and files

HEURISTICS: dict[str, Rule] = {
    rule.name: rule
    for rule in [
        Rule("never-order", None, "Order nothing: the sanity row of every table.", lambda env: {}, _nothing),
        Rule(
            "constant-order",
            None,
            "Every node orders the same quantity every period; on MEIS the nodes take turns.",
            _constant_box,
            _constant,
        ),
        base_stock(
            "base-stock", "Every node orders up to a constant level of its own position.", "without outstanding"
        ),
        base_stock("echelon-base-stock", "Base stock; the warehouse counts everything downstream.", "echelon"),
        s_big_s("s-S", "The published rule: largest gap first, no backlog.", backlog=False, net=False, urgency="gap"),
        s_big_s("s-S-backlog", "(s, S) with the backlog in the position.", backlog=True, net=False, urgency="gap"),
        s_big_s(
            "s-S-cover", "(s, S) on net positions, fewest days of cover first.", backlog=True, net=True, urgency="cover"
        ),
    ]
}


class Tuned(Model):
    """A committed file of levels with its provenance: ``meirl/tuned/ENV/RULE.yaml``."""

    rule: str = Field(description="name of the rule")
    levels: dict[str, float] = Field(description="level by name")
    provenance: dict[str, Any] = Field(default_factory=dict, description="where the levels come from")


def load(env: Env, name: str = "best") -> Policy:
    """Give a heuristic with its committed levels.

    Args:
        env: the environment.
        name: ``never-order``; ``published``, the study's baseline as it was; ``best``, the tuned rule with the lowest
            validation cost; or the name of any tuned rule.

    Returns:
        The policy.

    Raises:
        ValueError: if the name is unknown, or nothing was tuned for the environment.
    """
    if name == "never-order":
        return HEURISTICS[name].policy(env, [])
    if name == "published" and env.chain == "divergent":
        return repairs(env)["as published"]
    if name == "best":
        name = best(env)
    elif name != "published" and name not in HEURISTICS:
        raise ValueError(f"unknown heuristic {name!r}: expected published, best or one of {', '.join(HEURISTICS)}")
    tuned = read(env, name)
    return HEURISTICS[tuned.rule].policy(env, list(tuned.levels.values()))


def read(env: Env, name: str) -> Tuned:
    """Read the committed file of a tuned rule.

    Raises:
        ValueError: if there is none, or it does not fit the rule; the message names the file and the key.
    """
    path = _folder(env) / f"{name}.yaml"
    if not path.exists():
        hint = f"run `python -m meirl tune --env {env.name} --heuristic {name}` first"
        raise ValueError(f"no tuned levels for {name!r} on {env.name} ({path}): {hint}")
    tuned = validated(Tuned, load_yaml(path), str(path))
    if tuned.rule not in HEURISTICS:
        raise ValueError(f"{path}: rule: unknown rule {tuned.rule!r}")
    names = list(HEURISTICS[tuned.rule].box(env))
    if list(tuned.levels) != names:
        raise ValueError(f"{path}: levels: expected {', '.join(names)}, got {', '.join(tuned.levels)}")
    return tuned


def best(env: Env) -> str:
    """Name of the environment's tuned rule with the lowest validation cost."""
    costs = {
        path.stem: tuned.provenance["validation_cost"]
        for path in sorted(_folder(env).glob("*.yaml"))
        if "validation_cost" in (tuned := read(env, path.stem)).provenance
    }
    if not costs:
        raise ValueError(f"nothing tuned for {env.name}: run `python -m meirl tune --env {env.name} --heuristic NAME`")
    return min(costs, key=lambda name: costs[name])


def _folder(env: Env) -> Path:
    """Committed files for the study's environments; beside the YAML file for one's own."""
    own = Path(env.name)
    return own.with_suffix("") if own.suffix else TUNED / env.name
