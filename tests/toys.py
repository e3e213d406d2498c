"""Small problems with known answers, importable by worker processes."""

import torch

import meirl
from meirl.envs import Costs, DivergentEnv, Flows, MeisEnv, Transition


def _result(state, cost: torch.Tensor, orders: torch.Tensor, env) -> Transition:
    zero, flow = torch.zeros_like(cost), torch.zeros(len(cost), env.retailers)
    return Transition(state, Costs(cost, zero, zero, zero, zero), Flows(*[flow] * 6, ordered=orders))


class Aim(DivergentEnv):
    """Each node pays 1,000 * |order - 10|: the optimum orders 10 everywhere and costs 0."""

    def step(self, state, orders, exogenous):
        return _result(state, 1000 * (orders - 10).abs().mean(1), orders, self)


class Match(MeisEnv):
    """The right choice is the middle's order on even stock levels, leaf 1's on odd ones; the wrong one costs 10,000."""

    def step(self, state, orders, exogenous):
        want = (exogenous.demand[:, 0] % 2).long()
        right = torch.where(state.on_hand[:, 0] > 5_000, orders[:, 0] > 0, orders[:, 1] > 0)
        on_hand = torch.where(want.bool(), 10_000.0, 0.0)[:, None].expand(-1, self.nodes)
        return _result(state._replace(on_hand=on_hand), 10_000.0 * ~right, orders, self)


class Failing(MeisEnv):
    """Raises on day 40 of an episode."""

    def step(self, state, orders, exogenous):
        self.days = getattr(self, "days", 0) + 1
        if self.days > 40:
            raise ArithmeticError("the toy fails on day 40")
        return super().step(state, orders, exogenous)


def toy(kind, **changes):
    """A toy with the parameters of the stationary chain it stands on."""
    base = "divergent-stationary" if issubclass(kind, DivergentEnv) else "meis-stationary"
    return kind(base, meirl.make(base, **changes).parameters)
