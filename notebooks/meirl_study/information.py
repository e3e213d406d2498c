"""Charge a plan in hindsight for what it knew too early: information penalties for MEIS.

Hindsight orders before a shock that nobody sees coming. A real policy cannot: what it orders on day t has nothing to do
with *innovations* of day t and later, what these days bring less what was to be expected of them. So products of the
two have mean zero for it, and may be added to the cost with any weights, while hindsight has to pay for them: the
smallest penalised cost is a lower bound for every policy as well, equation :eq:`eq-penalty` of the book. Weights are
chosen on training scenarios, by supergradient steps, as prices are in `meirl_study.lagrangian`.

Source: Brown, Smith & Sun (2010), Information relaxations and duality in stochastic dynamic programs.
"""

from __future__ import annotations

import numpy as np
import torch
from joblib import Parallel, delayed

from meirl.envs import Env, MeisParameters
from meirl.envs.scenario import Scenario, seasonal_mean

from .bounds import Array, Draws, each_episode, episodes, meis_program
from .statistics import bootstrap

WINDOWS = ((0, 1), (1, 3), (3, 5), (5, 8), (8, 12), (12, 17), (17, 25))
"""Days after an order, from ... to before ..., whose innovations have one weight."""
STEP = 0.1  # of Adam at first, in units of cost for a unit that is ordered before a mean shock; falls to 0
BETAS = (0.9, 0.99)


def innovations(p: MeisParameters, shock: Array) -> Array:
    """What a day brings of shocks, less what was to be expected, as a share of a mean shock.

    A shock that begins counts as what it adds to demand in all its days, ``(factor - 1) * length``. If none is active
    one begins with the probability p, whatever happened before, so the mean is zero given the past.

    Args:
        p: parameters of the chain.
        shock: multiplier of mean demand, ``(T,)``.

    Returns:
        ``(T,)``; the last days, on which a shock might be cut off, have none.

    Raises:
        ValueError: if all shocks have one factor, so that where one follows another they cannot be told apart, or the
            mean shock changes nothing.
    """
    process = p.demand.shock
    if process is None or not process.probability:
        return np.zeros(len(shock))
    if process.factor[0] == process.factor[1] or sum(process.factor) == 2:
        raise ValueError(f"demand.shock.factor must be a range, with a mean other than 1, got {process.factor}")
    goes_on = (shock == np.append(1.0, shock[:-1])) & (shock != 1)
    begins = np.flatnonzero((shock != 1) & ~goes_on)
    ends = [next((t for t in range(b, len(shock)) if shock[t] != shock[b]), len(shock)) for b in begins]
    mean = (sum(process.factor) / 2 - 1) * sum(process.length) / 2
    found = -process.probability * (~goes_on).astype(float)
    found[begins] += (shock[begins] - 1) * (np.array(ends) - begins) / mean
    found[max(0, len(shock) - process.length[1]) :] = 0
    return found


class Penalised:
    """The linear program of one episode under penalties: from weights ``(2, windows)`` to a bound and its gradient.

    Weights are of the middle's and of the leaves' orders. Orders count as what they are above mean demand: that leaves
    the mean as it is and takes out what only tells how many shocks there were.
    """

    def __init__(self, p: MeisParameters, episode: Draws) -> None:
        """Sum up the innovations of every window."""
        self.p, self.episode, days = p, episode, np.arange(len(episode.demand))
        so_far = np.append(0.0, innovations(p, episode.shock).cumsum())
        first, last = (np.minimum(days + np.array(end)[:, None], len(days)) for end in zip(*WINDOWS, strict=True))
        self.seen = so_far[last] - so_far[first]  # (windows, T)
        self.usual = seasonal_mean(p.demand, len(days))[:, None] * np.array([p.leaves, *[1] * p.leaves])

    def solve(self, weights: Array) -> tuple[float, Array]:
        """The smallest penalised cost, in the environment's own unit, and its supergradient, ``(2, windows)``."""
        by_kind = (weights @ self.seen).T  # (T, 2)
        price = by_kind[:, [0, *[1] * self.p.leaves]]
        cost, plan = meis_program(self.p, self.episode, price).optimum()
        above = plan[: price.size].reshape(price.shape) - self.usual
        kinds = np.stack([above[:, 0], above[:, 1:].sum(1)])
        return cost - float((price * self.usual).sum()), kinds @ self.seen.T


def weights(env: Env, scenario: Scenario, iterations: int, jobs: int = -1) -> Array:
    """Choose the weights that lift the mean bound of some episodes most.

    Args:
        env: a MEIS.
        scenario: training episodes.
        iterations: steps; each takes a tenth of a second an episode.
        jobs: episodes at once; -1: one a core.

    Returns:
        ``(2, windows)``: for the middle's orders and for the leaves'.

    Raises:
        ValueError: if the environment is another one.
    """
    programs = [Penalised(_meis(env), draws) for draws in episodes(scenario)]
    found = torch.zeros(2, len(WINDOWS), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([found], lr=STEP, betas=BETAS, maximize=True)
    with Parallel(n_jobs=jobs) as parallel:
        for k in range(iterations):
            optimiser.param_groups[0]["lr"] = STEP * (1 - k / iterations)
            solved = parallel(delayed(each.solve)(found.detach().numpy()) for each in programs)
            found.grad = torch.from_numpy(np.mean([gradient for _, gradient in solved], axis=0) / env.cost_unit)
            optimiser.step()
    return found.detach().numpy()


def penalised_bound(env: Env, scenario: Scenario, weights: Array, jobs: int = -1) -> Array:
    """Bound the mean cost from below, by penalised programs; valid for any policy on average, not for each episode.

    Args:
        env: a MEIS.
        scenario: the episodes, others than those that chose the weights.
        weights: of `weights`.
        jobs: episodes at once; -1: one a core.

    Returns:
        One penalised cost an episode, ``(batch,)``, in units of ``cost_unit``; their mean is the bound.

    Raises:
        ValueError: if the environment is another one.
    """
    p = _meis(env)
    return each_episode(lambda episode: Penalised(p, episode).solve(weights)[0], env, scenario, jobs)


def tightened(bound: Array, loose: Array) -> dict[str, float]:
    """By how many percent the mean of one bound is above that of another on the same episodes, with its interval."""
    low, high = bootstrap(_tightened, bound[None], loose[None])
    return {"value": _tightened(bound, loose), "low": low, "high": high}


def _tightened(bound: Array, loose: Array) -> float:
    return 100 * (bound.mean() / loose.mean() - 1)


def _meis(env: Env) -> MeisParameters:
    if not isinstance(env.parameters, MeisParameters):
        raise ValueError(f"{env.name}: expected a MEIS")
    return env.parameters
