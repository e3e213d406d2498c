"""What a replenishment rule is: a form of policy with free numbers, its levels; and what rules of both chains share."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from pydantic import Field

from ..config import Model
from ..envs import Env, Observation
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

    def ranges(self, env: Env) -> Box:
        """Name and search range of every level; ValueError if the rule is for the other chain."""
        if not isinstance(env, self.kind):
            raise ValueError(f"rule {self.name!r} is for the {self.kind.chain} chain, {env.name} is {env.chain}")
        return self.box(env)

    def policy(self, env: Env, levels: Any) -> Policy:
        """Fix the levels, which gives a policy; ValueError if rule, environment and levels do not go together.

        Args:
            env: the environment the policy will play.
            levels: ``(k,)``, one vector for all episodes, or ``(batch, k)``, one row an episode; order as in `box`.
        """
        names = list(self.ranges(env))
        levels = env.tensor(levels)
        if levels.ndim not in (1, 2) or levels.shape[-1] != len(names):
            listed = ", ".join(names) or "none"
            raise ValueError(f"rule {self.name!r} takes {len(names)} levels ({listed}), got {tuple(levels.shape)}")
        return partial(self.decide, levels=torch.atleast_2d(levels))


class Levels(Model):
    """A file of levels with its provenance: ``meirl/heuristics/levels/ENV/RULE.yaml``."""

    rule: str = Field(description="name of the rule")
    levels: dict[str, float] = Field(description="level by name")
    provenance: dict[str, Any] = Field(default_factory=dict, description="where the levels come from")


def _nothing(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    return observation.env.action(torch.zeros_like(observation.state.on_hand))


def _constant(observation: Observation, levels: torch.Tensor) -> torch.Tensor:
    env, on_hand = observation.env, observation.state.on_hand
    orders = levels.expand_as(on_hand)
    if env.options is not None:  # one order a period: the nodes take turns
        orders = orders * (torch.arange(env.nodes, device=env.device) == observation.period % env.nodes)
    return env.action(orders.clamp(min=0))


def _constant_box(env: Env) -> Box:
    most = env.largest_order.tolist()
    return {f"order, {name}": Range(0, m, 0, m) for name, m in zip(env.node_names, most, strict=True)}


RULES = (
    Rule("never-order", Env, "Order nothing: the sanity row of every table.", lambda env: {}, _nothing),
    Rule("constant-order", Env, "Every node orders its constant; on MEIS nodes take turns.", _constant_box, _constant),
)


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


def wave_box(env: Env, name: str, level: Range, harmonics: int) -> Box:
    """Search range of a level and of its harmonics; an environment without a season has none."""
    box, swing = {name: level}, (level.high - max(level.low, 0.0)) / 2
    for k in range(1, 1 + harmonics * (env.parameters.demand.season is not None)):
        box |= {f"{name}, {part} {k}": Range(-swing, swing) for part in ("sine", "cosine")}
    return box
