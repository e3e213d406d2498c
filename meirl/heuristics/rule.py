"""What a replenishment rule is: a form of policy with free numbers, its levels; and what rules of both chains share."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, field_validator

from ..config import Model
from ..envs import Env, Observation
from ..envs.base import REMEMBERED
from ..rollout import Policy


class Range(NamedTuple):
    """Where to search for one level; `tuning` may widen it, but never beyond its natural limits."""

    low: float
    high: float
    least: float = -math.inf
    most: float = math.inf


Box = dict[str, Range]


class Rule(NamedTuple):
    """A form of policy with free levels: order-up-to levels, reorder points, amplitudes."""

    name: str  #: what `load` and the command line call it
    kind: Any  #: the class of environments it is for; `Env`: all
    about: str  #: what it does, in a sentence or two
    box: Callable[[Any], Box]  #: from an environment, the name and search range of every level, in order
    decide: Callable[..., torch.Tensor]  #: from an observation and ``levels``, ``(1 or batch, k)``, the action
    textbook: bool = False  #: whether any textbook has it, as against made for the chain
    fits: Callable[[Any], bool] = lambda env: True  #: whether an environment has what it reacts to

    def ranges(self, env: Env) -> Box:
        """Name and search range of every level; ValueError if the rule is for the other chain."""
        if not isinstance(env, self.kind):
            raise ValueError(f"rule {self.name!r} is for the {self.kind.chain} chain, {env.name} is {env.chain}")
        return self.box(env)

    def policy(self, env: Env, levels: Any) -> Policy:
        """Fix the levels, which gives a policy; ValueError if rule, environment and levels do not go together.

        Levels are in the order of `box`: ``(k,)``, one vector for all episodes, or ``(batch, k)``, one row an episode.
        """
        names = list(self.ranges(env))
        levels = env.tensor(levels.clone() if isinstance(levels, torch.Tensor) else np.array(levels))  # a copy
        if levels.ndim not in (1, 2) or levels.shape[-1] != len(names):
            listed = ", ".join(names) or "none"
            raise ValueError(f"rule {self.name!r} takes {len(names)} levels ({listed}), got {tuple(levels.shape)}")
        return partial(self.decide, levels=torch.atleast_2d(levels))


class Levels(Model):
    """A file of levels with its provenance: ``meirl/heuristics/levels/ENV/RULE.yaml``."""

    rule: str = Field(description="name of the rule")
    levels: dict[str, float] = Field(description="level by name")
    provenance: dict[str, Any] = Field(default_factory=dict, description="where the levels come from")

    @field_validator("provenance")
    @classmethod
    def _cost_can_be_compared(cls, value: dict[str, Any]) -> dict[str, Any]:
        cost = value.get("validation_cost", 0.0)
        if not isinstance(cost, (int, float)) or not math.isfinite(cost):
            raise ValueError(f"validation_cost must be a number, got {cost!r}")
        return value


def _nothing(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    return observation.env.action(torch.zeros_like(observation.state.on_hand))


def _constant(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    env, orders = observation.env, levels.expand_as(observation.state.on_hand)
    if env.options is not None:  # one order a period: the nodes take turns
        orders = orders * (torch.arange(env.nodes, device=env.device) == observation.period % env.nodes)
    return env.action(orders.clamp(min=0))


def _constant_box(env: Env) -> Box:
    most = env.largest_order.tolist()
    return {f"order, {name}": Range(0, m, 0, m) for name, m in zip(env.node_names, most, strict=True)}


RULES = (
    Rule("never-order", Env, "Order nothing: what every policy has to beat.", lambda env: {}, _nothing),
    Rule("constant-order", Env, "Every node orders its constant; on MEIS nodes take turns.", _constant_box, _constant),
)


def wave(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    """A level that swings with the season: ``level + a sin + b cos (+ c sin 2 + d cos 2) (+ w week)``, ``(batch, 1)``.

    Levels are ``(batch, 1)``, ``(batch, 3)`` or ``(batch, 5)``: the constant, then a pair for each harmonic; in an
    environment with a week one more, of `Env.week_ahead`.
    """
    value, pairs = levels[:, :1], (levels.shape[1] - 1) // 2
    if pairs:
        calendar = observation.env.calendar(observation.period, len(observation.state.on_hand)).values
        sine, cosine = calendar[:, :1], calendar[:, 1:2]
        basis = torch.cat([sine, cosine, 2 * sine * cosine, cosine.square() - sine.square()], 1)
        value = value + (levels[:, 1 : 1 + 2 * pairs] * basis[:, : 2 * pairs]).sum(1, keepdim=True)
    if levels.shape[1] % 2 == 0:
        value = value + levels[:, -1:] * observation.env.week_ahead[observation.period]
    return value


def wave_box(env: Env, name: str, level: Range, harmonics: int) -> Box:
    """Search range of a level, of its harmonics (none without a season) and of the week, if a level swings at all."""
    box, swing = {name: level}, (level.high - max(level.low, 0.0)) / 2
    for k in range(1, 1 + harmonics * (env.parameters.demand.season is not None)):
        box |= {f"{name}, {part} {k}": Range(-swing, swing) for part in ("sine", "cosine")}
    if harmonics and env.parameters.demand.week:
        box[f"{name}, day of the week"] = Range(-swing, swing)
    return box


def seasonal(env: Env, harmonics: int) -> bool:
    """Whether mean demand has what levels with so many harmonics follow: a season; for one of them, a week will do."""
    demand = env.parameters.demand
    return harmonics == 0 or demand.season is not None or (harmonics == 1 and demand.week is not None)


NEWS_WEIGHT, PACE_PERIODS = 20, 4  # search ranges: periods' worth of news, and periods of mean demand


def informed(
    observation: Observation, upstream: torch.Tensor, downstream: torch.Tensor, levels: torch.Tensor,
    shares: torch.Tensor | float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Two order-up-to levels that follow recent demand and the time left, equation :eq:`eq-informed` of the book.

    ``min(level + weight * news, pace * time left)``. News is by how much recent demand exceeds what the season leads to
    expect: a mean over retailers (a shock meets them all) and over the periods remembered, ``memory^k`` the weight of
    that k periods back. An endless task has no time left, and no pace.

    Args:
        observation: gives recent demand and the date.
        upstream: level, or levels, of the upstream node, ``(batch, 1)`` or ``(batch, k)`` units.
        downstream: level of every retailer, ``(batch, 1)`` or ``(batch, R)`` units; or ``(batch, k R)``.
        levels: ``(batch, 3 or 5)``, as in `informed_box`.
        shares: of the mean that each ``downstream`` level's retailer gets, if that is not an average one's.

    Source: exponential smoothing, as in any textbook; the levels' form is our own.
    """
    env, period = observation.env, observation.period
    memory, weight_up, weight_down, *pace = levels.split(1, dim=1)
    excess = observation.state.recent_demand[:, :, -env.retailers :].mean(2) - env.expected_recent[period]
    share = memory ** torch.arange(REMEMBERED, device=env.device)
    news = (share * excess).sum(1, keepdim=True) / share.sum(1, keepdim=True)
    upstream = upstream + weight_up * env.retailers * news
    downstream = downstream + weight_down * news * shares
    if not pace:
        return upstream, downstream
    (pace_up, pace_down), left = pace, env.horizon - period
    return torch.minimum(upstream, pace_up * left), torch.minimum(downstream, pace_down * left * shares)


def informed_box(env: Env) -> Box:
    """Search range of the levels of `informed`."""
    up, most = env.node_names[0], PACE_PERIODS * env.parameters.demand.average
    box = {"memory of recent demand": Range(0, 1, 0, 1)}
    box |= {f"weight of recent demand, {node}": Range(-NEWS_WEIGHT / 4, NEWS_WEIGHT) for node in (up, "retailer")}
    if not env.parameters.endless:
        box[f"level per period left, {up}"] = Range(0, most * env.retailers, 0)
        box["level per period left, retailer"] = Range(0, most, 0)
    return box
