"""What copies of a scenario have in common, what a learner gains by taking it out, and what its own noise costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import torch

from meirl.envs import Env, Observation, Scenario
from meirl.evaluation import compare
from meirl.learn import preset
from meirl.learn.experience import Collector, Segment, estimate, without_luck
from meirl.learn.networks import ActorCritic, seeded

from .chapter import Chapter

COPIES = 8  # of every scenario: enough to tell what they have in common
ENVIRONMENTS = 64
PERIODS = 120  # of a segment: the first of every episode
PARTS = ("common to all", "specific to a scenario", "due to actions")
"""What the variance of advantages consists of; see `parts`."""


def advantages(
    env: Env, network: ActorCritic, seed: int, batches: int, copies: int = COPIES
) -> Iterator[tuple[Segment, torch.Tensor]]:
    """Play fresh episodes and estimate advantages as PPO's tuned preset does, but leave luck in.

    Args:
        env: the environment.
        network: actor and critic; only read.
        seed: of scenarios and actions.
        batches: how many.
        copies: of every scenario; 1 plays as many different ones as there are environments.

    Yields:
        The segment, and its advantages, ``(PERIODS, ENVIRONMENTS)`` in reward units; copies are laid out as by
        `Scenario.repeat`.
    """
    config = preset("ppo", "tuned", env.name, environments=ENVIRONMENTS, copies=copies)
    with_luck = config.model_copy(update={"copies": 1})
    collector = Collector(env, config, network, seed)
    for _ in range(batches):
        segment = collector.collect(PERIODS)
        with torch.no_grad():
            advantage, _ = estimate(segment, network.value(segment.vector), with_luck)
        yield segment, advantage
        collector.start()


def parts(advantage: torch.Tensor) -> torch.Tensor:
    """Split the variance of advantages into `PARTS`, by unbiased estimates of a nested analysis of variance.

    ``A[t, s, k] = period[t] + scenario[t, s] + action[t, s, k]``. The first part is the trend of an episode, which the
    critic has not learnt: no luck, since a mean over a batch shows it. The second is luck. The third is what the
    actions did; to the learner it is signal and noise in one.

    Args:
        advantage: ``(T, S, K)``: periods, different scenarios, copies of each.

    Returns:
        Three variances, ``(3,)``, in squared units; they sum up to that of ``A``.
    """
    _, scenarios, copies = advantage.shape
    actions = advantage.var(2).mean()
    by_scenario = advantage.mean(2)
    between = by_scenario.var(1).mean()  # of the means of copies: a share of what actions do is in it
    period = by_scenario.mean(1).var(correction=0) - between / scenarios
    return torch.stack([period, between - actions / copies, actions]).clamp(min=0)


def luck_free(advantage: torch.Tensor, copies: int) -> torch.Tensor:
    """Advantages ``(T, B)`` with luck taken out, and scaled so that the expected gradient stays the same.

    Equation :eq:`eq-luck` of the book: the mean of the copies holds a share of each, so the rest is too small by a
    factor 1 - 1 / copies. If all B environments count as copies, the mean of the batch at each period is taken out.
    """
    return without_luck(advantage, copies) * copies / (copies - 1)


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


def variance_ratio(noisy: np.ndarray, calm: np.ndarray, resamples: int = 2_000) -> dict[str, float]:
    """Compare how much two estimates of one gradient scatter over batches.

    Args:
        noisy: gradients of independent batches, ``(batches, parameters)``.
        calm: gradients by the other estimate, as many.
        resamples: of the bootstrap over batches.

    Returns:
        ``value``: variance of the first, summed over parameters, over that of the second; its 95 % bootstrap interval
        ``low``, ``high``.
    """
    rng = np.random.default_rng(0)
    totals = []
    for gradients in (noisy, calm):
        count, centred = len(gradients), gradients - gradients.mean(0)
        products = centred @ centred.T
        weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count
        weights = np.concatenate([np.full((1, count), 1 / count), weights])  # first the sample itself
        totals.append(weights @ products.diagonal() - ((weights @ products) * weights).sum(1))
    ratio = totals[0] / totals[1]
    low, high = np.quantile(ratio[1:], [0.025, 0.975])
    return {"value": float(ratio[0]), "low": float(low), "high": float(high)}


def noise(env: Env, network: ActorCritic, seed: int, batches: int) -> dict[str, float]:
    """Measure what luck does to advantages, and what its removal does to the policy gradient.

    Three estimates of the gradient from batches of one size: copies with only the mean of the batch taken out, the same
    copies without luck, and as many different scenarios with the mean of the batch at each period taken out.

    Args:
        env: the environment.
        network: the agent as it is.
        seed: of scenarios and actions.
        batches: of each kind; the gradient's variance is over them.

    Returns:
        The shares of `PARTS`; ``same batch``, by what factor the gradient's variance falls against the first estimate,
        and ``fair`` against the third, with its interval ``low`` and ``high``.
    """
    estimates: dict[str, list[np.ndarray]] = {"raw": [], "copies": [], "different": []}
    seen = []
    for segment, advantage in advantages(env, network, seed, batches):
        seen.append(advantage.unflatten(1, (COPIES, -1)).transpose(1, 2))
        for name, a in {"raw": advantage - advantage.mean(), "copies": luck_free(advantage, COPIES)}.items():
            estimates[name].append(policy_gradient(network, segment, a).cpu().numpy())
    for segment, advantage in advantages(env, network, seed + 1, batches, copies=1):
        gradient = policy_gradient(network, segment, luck_free(advantage, ENVIRONMENTS))
        estimates["different"].append(gradient.cpu().numpy())
    split = parts(torch.cat(seen, 1))
    raw, copies, different = (np.stack(gradients) for gradients in estimates.values())
    fair = variance_ratio(different, copies)
    return {
        **dict(zip(PARTS, (split / split.sum()).tolist(), strict=True)),
        "same batch": variance_ratio(raw, copies)["value"],
        "fair": fair["value"], "low": fair["low"], "high": fair["high"],
    }  # fmt: skip


def before_and_after(chapter: Chapter, networks: Mapping[str, ActorCritic], batches: int) -> pd.DataFrame:
    """What `noise` measures in every environment, of an agent before its training and after.

    Args:
        chapter: gives environments and seed.
        networks: trained agents by environment.
        batches: of each estimate.

    Returns:
        Index: ``environment`` and ``agent`` (``untrained``, ``trained``); columns as in `noise`.
    """
    rows = {}
    for name, network in networks.items():
        env = chapter.envs[name]
        untrained = seeded(ActorCritic, env, preset("ppo", "tuned", name), chapter.seed)
        for agent, weights in {"untrained": untrained, "trained": network}.items():
            rows[name, agent] = noise(env, weights, chapter.seed, batches)
    return pd.DataFrame(rows).T.rename_axis(["environment", "agent"])


def exploration_tax(env: Env, network: ActorCritic, scenario: Scenario, seed: int) -> pd.DataFrame:
    """Play a network as it is tested, and as it was trained: with its noise as it was when these weights were kept.

    Args:
        env: the environment.
        network: actor and critic.
        scenario: what both play.
        seed: of the draws.

    Returns:
        The table of `meirl.compare`, rows ``as played`` and ``as trained``; the ``difference`` is the tax.
    """
    generator = torch.Generator(env.device).manual_seed(seed)

    def drawn(observation: Observation) -> torch.Tensor:
        return network.squashed(network.sample(network.head(observation.vector()), generator))

    return compare({"as played": network, "as trained": drawn}, env, scenario)
