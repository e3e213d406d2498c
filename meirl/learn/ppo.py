"""Proximal policy optimisation: one loop, read from top to bottom."""

import time
from functools import partial
from pathlib import Path

import torch
from pydantic import Field

from ..config import Positive
from ..envs import Env
from . import gradient
from .config import LearnerConfig
from .experience import Collector, Segment, estimate, explained_variance, normalised
from .networks import ActorCritic, flat, seeded
from .run import Run, load_adam

Network = ActorCritic


class Config(LearnerConfig):
    """Hyperparameters of PPO."""

    segment: int = Field(250, ge=1, description="periods played by every environment between two updates")
    epochs: int = Field(4, ge=1, description="passes over the data of an update")
    minibatch: int = Field(2048, ge=2, description="samples in a gradient step")
    clip: Positive = Field(0.2, description="how far the probability ratio may move from 1 before its gradient stops")
    max_kl: Positive = Field(0.05, description="stop the passes early once the policy has moved this far, in nats")


def train(
    env: Env, config: Config, seed: int, out: Path | None = None, *, resume: bool = False, progress: bool = True
) -> Run:
    """Train a PPO agent. Sets PyTorch to one thread in this process, for good.

    Args:
        env: the environment; its observation set is the agent's.
        config: hyperparameters; see `meirl.learn.preset`.
        seed: same seed, same result on the same machine.
        out: folder for config, checkpoint, weights and history; None keeps nothing on disk.
        resume: continue from the checkpoint in ``out``; the result equals that of an uninterrupted run.
        progress: show a progress bar.

    Returns:
        The `meirl.learn.run.Run`: ``best`` weights (by validation cost) and ``history``.

    Raises:
        ValueError: if ``out`` holds a run already and ``resume`` is not set, it is another run, or another process is
            writing it; or if the training diverges. The last checkpoint stays.

    >>> import meirl
    >>> env = meirl.make("divergent-stationary", horizon=20)
    >>> config = Config(steps=80, environments=4, segment=20, validation_episodes=2)  # a single round
    >>> train(env, config, seed=0, progress=False).steps
    80
    """
    torch.set_num_threads(1)  # the tensors are small: more threads cost more than they give
    network = seeded(Network, env, config, seed)
    optimiser = new_optimiser(network, config)
    with Run(env, "ppo", config, seed, network, out, resume=resume, progress=progress) as run:
        run.restore(partial(load_adam, optimiser))
        steps = run.steps
        collector = Collector(env, config, network, seed, first_round=steps // config.steps_per_round(env))
        for _ in range(config.rounds(env) - collector.round):
            while collector.period < env.horizon:
                optimiser.param_groups[0]["lr"] = config.annealed(steps) * config.learning_rate
                network.anneal(config.remaining(steps))
                started = time.perf_counter()
                segment = collector.collect(min(config.segment, env.horizon - collector.period))
                entropy_weight = config.annealed(steps) * config.entropy
                diagnostics = update(network, optimiser, segment, config, collector.generator, entropy_weight)
                steps += segment.reward.numel()
                run.log(diagnostics, segment.reward.numel(), time.perf_counter() - started)
            # Checkpoints fall between rounds of episodes, so there is no state of the simulator to save.
            if config.is_due(env, steps):
                run.validate(steps, collector.cost, optimiser.state_dict())
            collector.start()
        return run.finish()


def new_optimiser(network: ActorCritic, config: Config) -> torch.optim.Optimizer:
    """Adam, on all parameters as one vector."""
    return torch.optim.Adam([flat(network)], lr=config.learning_rate, eps=1e-5, fused=True)


@torch.no_grad()
def update(
    network: ActorCritic, optimiser: torch.optim.Optimizer, segment: Segment, config: Config,
    generator: torch.Generator, entropy_weight: float,
) -> dict[str, float]:  # fmt: skip
    """Improve the policy and the critic with one segment of experience.

    ``loss = clipped surrogate + value_weight * squared error of the critic - entropy_weight * entropy``, the surrogate
    of equation :eq:`eq-clip` of the book, the error in standard deviations of the returns.

    Args:
        network: actor and critic; changed in place.
        optimiser: of `new_optimiser`; steps once a minibatch.
        segment: T periods of B environments.
        config: clip, passes, minibatch and weights.
        generator: shuffles the T * B samples of each pass.
        entropy_weight: as it is now.

    Returns:
        Means over the last minibatch of each pass: ``kl`` (nats), ``clip_fraction``, ``entropy`` (nats),
        ``value_loss``; and the critic's ``explained_variance`` before the update.
    """
    value = network.value(segment.vector)  # (T + 1, B)
    advantage, returns = estimate(segment, value, config)
    network.update_return_scale(returns)
    old_log_prob = network.log_prob(segment.head, segment.draw)
    grad = optimiser.param_groups[0]["params"][0].grad  # of all parameters, one vector
    data = (segment.vector[:-1].flatten(0, 1), segment.draw.flatten(0, 1), advantage.flatten(), returns.flatten(),
            old_log_prob.flatten())  # fmt: skip
    passes: list[dict[str, torch.Tensor]] = []
    for _ in range(config.epochs):
        order = torch.randperm(returns.numel(), generator=generator, device=returns.device)
        shuffled = [tensor.index_select(0, order).split(config.minibatch) for tensor in data]
        for vector, draw, gain, target, old in zip(*shuffled, strict=True):
            batch = gradient.evaluate(network, vector, draw, target)
            log_ratio = network.log_prob(batch.head, draw) - old
            gain = normalised(gain) if config.normalise_advantages else gain
            by_log_prob = gradient.of_clipped_surrogate(log_ratio, gain, config.clip)
            gradient.write(network, batch, by_log_prob, config.value_weight, entropy_weight)
            norm = gradient.clip(grad, config.max_gradient_norm)
            if norm.isfinite():  # not so if a probability ratio overflowed: far beyond max_kl, where passes stop
                optimiser.step()
        # Of the last minibatch: one in sixteen is enough to watch.
        excess = log_ratio.expm1()  # the probability ratio - 1
        kl = (excess - log_ratio).mean()  # Schulman's low-variance estimate, never negative
        clipped, value_loss = (excess.abs() > config.clip).float().mean(), batch.error.square().mean()
        entropy = network.entropy(batch.head).mean()
        passes.append({"kl": kl, "clip_fraction": clipped, "entropy": entropy, "value_loss": value_loss})
        if kl > config.max_kl:
            break
    means = {key: float(sum(done[key] for done in passes) / len(passes)) for key in passes[0]}
    return means | {"explained_variance": explained_variance(value[:-1], returns)}


def clipped_surrogate(log_ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """PPO's clipped objective as a loss: ``-mean(min(ratio * A, clip(ratio, 1 - eps, 1 + eps) * A))``, a scalar.

    Args:
        log_ratio: log of the probability ratio of the new policy to the old one, ``(B,)``.
        advantage: A of the samples, ``(B,)``.
        clip: eps.

    Source: Schulman et al. (2017), equation 7; equation :eq:`eq-clip` of the book.
    """
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
