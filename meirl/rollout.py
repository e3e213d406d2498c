"""The one simulation loop: a policy plays a scenario; every episode becomes one row of a table."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from .envs import Costs, Env, Flows, Observation, Scenario, Transition

Policy = Callable[[Observation], torch.Tensor]
"""What every controller is: networks and heuristics alike see an `Observation` and return an action."""


def play(env: Env, policy: Policy, scenario: Scenario) -> Iterator[tuple[Observation, Transition]]:
    """Play every episode of a scenario to its end; yield what the policy saw in each period, and what followed.

    Args:
        env: the environment.
        policy: sees each `Observation`, returns the actions; gradients flow if they are enabled.
        scenario: the exogenous draws; one episode a row.

    Raises:
        ValueError: if the scenario has another horizon, or another number of retailers, than the environment.
    """
    if (there := scenario.demand.shape[1:]) != (expected := (env.horizon, env.retailers)):
        raise ValueError(f"{env.name}: expected a scenario of (horizon, retailers) {expected}, got {tuple(there)}")
    state = env.reset(scenario.episodes)
    for t, exogenous in enumerate(scenario.periods()):
        observation = env.observe(state, t)
        transition = env.step(state, env.orders(policy(observation)), exogenous)
        state = transition.state
        yield observation, transition


class Totals(NamedTuple):
    """Sums over the periods of each episode, those of the warm-up aside; everything a result table needs."""

    costs: Costs  # each (batch,), not yet in units of `cost_unit`
    flows: Flows  # each (batch, R) units, `ordered` (batch, N)
    on_hand: torch.Tensor  # (batch, N) unit-periods
    ordered_squared: torch.Tensor  # (batch, N)
    demand_squared: torch.Tensor  # (batch, R)
    waiting_share: torch.Tensor  # (batch,): backlog over all expected demand so far, at most 1, summed over periods

    @property
    def cost(self) -> torch.Tensor:
        """Cost of each episode, ``(batch,)``, not yet in units of ``cost_unit``."""
        return torch.stack(self.costs, 1).sum(1)


def simulate(env: Env, policy: Policy, scenario: Scenario) -> Totals:
    """Play a scenario and sum up over its periods after the warm-up, one row an episode; arguments as in `play`."""
    sums: list[torch.Tensor] = []
    expected = env.parameters.demand.average * env.retailers
    for observation, (state, costs, flows) in play(env, policy, scenario):
        if observation.period < env.parameters.warm_up:
            continue
        waiting = (flows.backlog.sum(1) / (expected * (observation.period + 1))).clamp(max=1)
        now = [*costs, *flows, state.on_hand, flows.ordered.square(), flows.demand.square(), waiting]
        sums = [a + b for a, b in zip(sums, now, strict=True)] if sums else now
    parts, moves = len(Costs._fields), len(Flows._fields)
    return Totals(Costs(*sums[:parts]), Flows(*sums[parts : parts + moves]), *sums[parts + moves :])


@torch.inference_mode()
def rollout(env: Env, policy: Policy, scenario: Scenario) -> pd.DataFrame:
    """Play a scenario and tabulate it: one row an episode; arguments as in `play`.

    What happens before the environment's ``warm_up`` is over does not count.

    Returns:
        A table with the columns ``cost`` and its parts (in units of `Env.cost_unit`), ``fill_rate`` (share of demand
        met at once from stock on hand), ``fill_rate_same_period``, ``lost`` and ``forgotten`` (units in all),
        ``on_hand`` and ``backlog`` (mean units), ``bullwhip`` (variance of the upstream node's orders over the sum of
        those of each location's demand) and ``published_service_level`` (the study's measure, kept for comparison).

    >>> import meirl
    >>> env = meirl.make("divergent-stationary")
    >>> table = rollout(env, meirl.heuristics.load(env, "never-order"), env.sample(3, seed=7))
    >>> len(table), float(table["cost_ordering"].sum())
    (3, 0.0)
    """
    totals = simulate(env, policy, scenario)
    periods = scenario.horizon - env.parameters.warm_up
    money = {"cost": totals.cost, **{f"cost_{part}": cost for part, cost in totals.costs._asdict().items()}}
    flow = {name: moved.sum(1) for name, moved in totals.flows._asdict().items()}  # over nodes
    upstream, squares = totals.flows.ordered[:, 0], totals.ordered_squared[:, 0]
    variance = (totals.demand_squared / periods - (totals.flows.demand / periods).square()).sum(1)
    table = {key: value / env.cost_unit for key, value in money.items()} | {
        "fill_rate": (flow["filled"] / flow["demand"]).nan_to_num(1.0),  # of nothing, all is filled
        "fill_rate_same_period": (flow["filled_same_period"] / flow["demand"]).nan_to_num(1.0),
        "lost": flow["lost"],
        "forgotten": flow["forgotten"],
        "on_hand": totals.on_hand.sum(1) / periods,
        "backlog": flow["backlog"] / periods,
        "bullwhip": (squares / periods - (upstream / periods).square()).clamp(min=0) / variance,
        "published_service_level": 1 - totals.waiting_share / periods,
    }
    return pd.DataFrame({key: value.cpu().double().numpy() for key, value in table.items()})  # MPS has no float64


@torch.inference_mode()
def trajectory(env: Env, policy: Policy, scenario: Scenario) -> dict[str, np.ndarray]:
    """Play a scenario and keep every period, for pictures; arguments as in `play`.

    Returns:
        Arrays with axes (episode, period, ...): ``orders``, ``on_hand``, ``on_order`` (everything on its way), ``cost``
        and every field of `Costs` and `Flows` under its own name.
    """
    record: dict[str, list[torch.Tensor]] = {}
    for _, (state, costs, flows) in play(env, policy, scenario):
        period = {**costs._asdict(), **flows._asdict(), "cost": costs.total}
        period |= {"orders": flows.ordered, "on_hand": state.on_hand, "on_order": env.on_order(state)}
        for key, value in period.items():
            record.setdefault(key, []).append(value)
    return {key: torch.stack(values, 1).cpu().numpy() for key, values in record.items()}
