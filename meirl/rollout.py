"""The one simulation loop: a policy plays a scenario; every episode becomes one row of a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from .envs import Costs, Env, Flows, Observation, Scenario

Policy = Callable[[Observation], torch.Tensor]
"""What every controller is: networks and heuristics alike see an `Observation` and return an action."""


class Totals(NamedTuple):
    """Sums over the periods of each episode; everything a result table needs."""

    costs: torch.Tensor  # (batch, part): the fields of `Costs`, in order
    flows: torch.Tensor  # (batch, R, field): the fields of `Flows` up to `backlog`, in order
    on_hand: torch.Tensor  # (batch, N) unit-periods
    ordered: torch.Tensor  # (batch, N, 2): orders, and their squares
    demand_squared: torch.Tensor  # (batch, R)
    waiting_share: torch.Tensor  # (batch,): backlog over all expected demand so far, summed over periods

    @property
    def cost(self) -> torch.Tensor:
        """Cost of each episode, ``(batch,)``, not yet in units of ``cost_unit``."""
        return self.costs.sum(1)


def simulate(env: Env, policy: Policy, scenario: Scenario) -> Totals:
    """Play every episode of a scenario to its end and sum up. Gradients flow if they are enabled.

    Args:
        env: the environment.
        policy: sees each `Observation`, returns the actions.
        scenario: the exogenous draws; one episode a row.

    Returns:
        Sums over the periods, one row an episode.
    """
    sums: list[torch.Tensor] | None = None
    state = env.reset(scenario.episodes)
    expected = env.parameters.demand.mean * env.retailers
    for t, exogenous in enumerate(scenario.periods()):
        orders = env.orders(policy(env.observe(state, t)))
        state, costs, flows = env.step(state, orders, exogenous)
        now = [
            torch.stack(costs, 1),
            torch.stack(flows[:6], 2),
            state.on_hand,
            torch.stack([flows.ordered, flows.ordered.square()], 2),
            flows.demand.square(),
            flows.backlog.sum(1) / (expected * (t + 1)),
        ]
        sums = now if sums is None else [a + b for a, b in zip(sums, now, strict=True)]
    assert sums is not None
    return Totals(*sums)


@torch.inference_mode()
def rollout(env: Env, policy: Policy, scenario: Scenario) -> pd.DataFrame:
    """Play a scenario and tabulate it: one row an episode.

    Args:
        env: the environment.
        policy: the controller.
        scenario: the exogenous draws.

    Returns:
        A table with the columns ``cost`` and its parts (in units of ``cost_unit``), ``fill_rate`` (share of demand met
        at once from stock on hand), ``fill_rate_same_period``, ``lost``, ``forgotten``, ``on_hand``, ``backlog`` (mean
        units), ``bullwhip`` (variance of the upstream node's orders over that of demand) and
        ``published_service_level`` (the study's measure, kept for comparison).
    """
    totals = simulate(env, policy, scenario)
    periods = scenario.horizon
    table = {f"cost_{part}": totals.costs[:, i] for i, part in enumerate(Costs._fields)}
    table = {"cost": totals.cost, **table}
    table = {key: value / env.parameters.cost_unit for key, value in table.items()}
    flow = dict(zip(Flows._fields, totals.flows.sum(1).unbind(1), strict=False))
    demand = flow["demand"].clamp(min=1)
    upstream, squares = totals.ordered[:, 0].unbind(1)
    asked = totals.flows[..., 0]  # (batch, R)
    variance = (totals.demand_squared / periods - (asked / periods).square()).sum(1)
    table |= {
        "fill_rate": flow["filled"] / demand,
        "fill_rate_same_period": flow["filled_same_period"] / demand,
        "lost": flow["lost"],
        "forgotten": flow["forgotten"],
        "on_hand": totals.on_hand.sum(1) / periods,
        "backlog": flow["backlog"] / periods,
        "bullwhip": (squares / periods - (upstream / periods).square()) / variance,
        "published_service_level": 1 - totals.waiting_share / periods,
    }
    return pd.DataFrame({key: value.double().cpu().numpy() for key, value in table.items()})


@torch.inference_mode()
def trajectory(env: Env, policy: Policy, scenario: Scenario) -> dict[str, np.ndarray]:
    """Play a scenario and keep every period, for pictures.

    Returns:
        Arrays with axes (episode, period, ...): ``orders``, ``on_hand``, ``on_order`` (everything on its way), ``cost``
        and every field of `Costs` and `Flows` under its own name.
    """
    record: dict[str, list[torch.Tensor]] = {}
    state = env.reset(scenario.episodes)
    for t, exogenous in enumerate(scenario.periods()):
        state, costs, flows = env.step(state, env.orders(policy(env.observe(state, t))), exogenous)
        on_order = state.in_transit if env.chain == "divergent" else state.on_order
        period = {**costs._asdict(), **flows._asdict(), "cost": costs.total}
        period |= {"orders": flows.ordered, "on_hand": state.on_hand, "on_order": on_order.sum(1)}
        for key, value in period.items():
            record.setdefault(key, []).append(value)
    return {key: torch.stack(values, 1).cpu().numpy() for key, values in record.items()}
