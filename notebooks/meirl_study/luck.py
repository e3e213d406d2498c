"""Chapter 4's measurement: how much of an advantage is luck, and what a learner gains if it is taken out."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from meirl.envs import Env
from meirl.learn import preset
from meirl.learn.experience import Collector, Segment, estimate, without_luck
from meirl.learn.networks import ActorCritic

COPIES = 8  # of every scenario: enough to tell what they have in common
ENVIRONMENTS = 64
PERIODS = 120  # of a segment: the first of every episode


def advantages(env: Env, network: ActorCritic, seed: int, batches: int) -> Iterator[tuple[Segment, torch.Tensor]]:
    """Play fresh episodes, every scenario in copies, and estimate advantages as PPO's tuned preset does.

    Args:
        env: the environment.
        network: actor and critic; only read.
        seed: of scenarios and actions.
        batches: how many.

    Yields:
        The segment, and its advantages with luck and with mean 0, ``(PERIODS, ENVIRONMENTS)`` in reward units; copies
        are laid out as by `Scenario.repeat`.
    """
    config = preset("ppo", "tuned", env.name, environments=ENVIRONMENTS, copies=COPIES)
    with_luck = config.model_copy(update={"copies": 1})
    collector = Collector(env, config, network, seed)
    for _ in range(batches):
        segment = collector.collect(PERIODS)
        with torch.no_grad():
            advantage, _ = estimate(segment, network.value(segment.vector), with_luck)
        yield segment, advantage - advantage.mean()
        collector.start()


def luck_free(advantage: torch.Tensor, copies: int = COPIES) -> torch.Tensor:
    """Advantages ``(T, B)`` with luck taken out, and scaled so that the expected gradient stays the same.

    Equation :eq:`eq-luck` of the book: the mean of the copies holds a share of each, so the rest is too small by a
    factor 1 - 1 / copies.
    """
    return without_luck(advantage, copies) * copies / (copies - 1)


def variances(advantage: torch.Tensor, copies: int = COPIES) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance of advantages ``(T, B)`` with luck, and an unbiased estimate of what it is without."""
    return advantage.var(), luck_free(advantage, copies).var() * (copies - 1) / copies


def policy_gradient(network: ActorCritic, segment: Segment, advantage: torch.Tensor) -> torch.Tensor:
    """The policy gradient of one segment, equation :eq:`eq-policy-gradient` of the book.

    Args:
        network: its actor gets the gradient; it is not stored.
        segment: T periods of B environments.
        advantage: ``(T, B)``.

    Returns:
        ``mean(A * grad log pi)``, all parameters of the actor as one vector.
    """
    head = network.head(segment.vector[:-1])
    surrogate = (advantage * network.log_prob(head, segment.draw)).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(surrogate, list(network.actor.parameters()))])


def noise(env: Env, network: ActorCritic, seed: int, batches: int) -> dict[str, float]:
    """Measure what luck does to advantages and to the policy gradient.

    Args:
        env: the environment.
        network: the agent as it is.
        seed: of scenarios and actions.
        batches: of `advantages`; the gradient's variance is over them.

    Returns:
        ``std of advantages`` and the same ``without luck`` (reward units), the ``variance that is luck`` (a share), and
        the ``gradient variance falls by the factor``, its sum over all parameters with luck over that without.
    """
    spread, gradients = [], []
    for segment, advantage in advantages(env, network, seed, batches):
        spread.append(torch.stack(variances(advantage)))
        both = advantage, luck_free(advantage)
        gradients.append([policy_gradient(network, segment, a) for a in both])
    with_luck, without = torch.stack(spread).mean(0)
    total = torch.stack([torch.stack(pair) for pair in gradients]).var(0).sum(1)
    return {
        "std of advantages": float(with_luck.sqrt()),
        "without luck": float(without.sqrt()),
        "variance that is luck": float(1 - without / with_luck),
        "gradient variance falls by the factor": float(total[0] / total[1]),
    }
