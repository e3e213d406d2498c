"""Proximal policy optimisation: one loop, read from top to bottom."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from pydantic import Field
from torch import nn

from .collect import Collector, LearnerConfig, Segment, explained_variance, gae, new_network, normalised, without_luck
from .envs import Env
from .envs.scenario import Positive
from .networks import ActorCritic, flat
from .runs import Recorder


class PPOConfig(LearnerConfig):
    """Hyperparameters of PPO."""

    segment: int = Field(250, ge=1, description="periods played by every environment between two updates")
    epochs: int = Field(4, ge=1, description="passes over the data of an update")
    minibatch: int = Field(2048, ge=2, description="samples in a gradient step")
    clip: Positive = Field(0.2, description="how far the probability ratio may move from 1 before its gradient stops")
    max_kl: Positive = Field(0.05, description="stop the passes early once the policy has moved this far, in nats")


def clipped_surrogate(log_ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """PPO's clipped objective as a loss, averaged over the samples.

    Source: Schulman et al. (2017), equation 7.
    """
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def train(
    env: Env, config: PPOConfig, seed: int, out: Path | None = None,
    *, resume: bool = False, progress: bool = True, tensorboard: bool = False,
) -> Recorder:  # fmt: skip
    """Train a PPO agent.

    Args:
        env: the environment; its observation set is the agent's.
        config: hyperparameters; see `meirl.runs.preset`.
        seed: same seed, same result on the same machine.
        out: folder for config, checkpoint, weights and history; None keeps nothing on disk.
        resume: continue from the checkpoint in ``out``; the result equals that of an uninterrupted run.
        progress: show a progress bar.
        tensorboard: also write TensorBoard events to ``out``.

    Returns:
        The `meirl.runs.Recorder` of the run: ``best`` weights (by validation cost) and ``history``.
    """
    torch.set_num_threads(1)  # the tensors are small: more threads cost more than they give
    network = new_network(env, config.network, seed)
    optimiser = new_optimiser(network, config)
    recorder = Recorder(
        env, "ppo", config, seed, network, out, resume=resume, progress=progress, tensorboard=tensorboard
    )
    if saved := recorder.restore():
        optimiser.load_state_dict(saved)
    steps, round_steps = recorder.steps, config.steps_per_round(env)
    collector = Collector(env, config, network, seed, first_round=steps // round_steps)

    for _ in range(config.rounds(env) - collector.round):
        while collector.period < env.horizon:
            left = 1 - steps / config.steps if config.anneal else 1.0  # lower to 0, linearly
            for group in optimiser.param_groups:
                group["lr"] = left * config.learning_rate
            network.anneal(1 - steps / config.steps)
            started = time.perf_counter()
            segment = collector.collect(min(config.segment, env.horizon - collector.period))
            diagnostics = update(network, optimiser, segment, config, collector.generator, left * config.entropy)
            steps += segment.reward.numel()
            recorder.log(diagnostics, segment.reward.numel(), time.perf_counter() - started)
        # Checkpoints fall between rounds of episodes, so there is no state of the simulator to save.
        if config.is_due(env, steps):
            recorder.validate(steps, collector.cost, optimiser.state_dict())
        collector.start()
    return recorder.finish()


def new_optimiser(network: ActorCritic, config: PPOConfig) -> torch.optim.Optimizer:
    """Adam, on all parameters as one vector."""
    return torch.optim.Adam([flat(network)], lr=config.learning_rate, eps=1e-5, fused=True)


def update(
    network: ActorCritic, optimiser: torch.optim.Optimizer, segment: Segment, config: PPOConfig,
    generator: torch.Generator, entropy_weight: float,
) -> dict[str, float]:  # fmt: skip
    """Improve the policy and the critic with one segment of experience; return the diagnostics people expect."""
    with torch.no_grad():
        value = network.value(segment.vector)  # (period + 1, env)
        bootstrap = value[1:].clone()
        if segment.terminal:
            bootstrap[-1] = 0.0
        advantage = gae(segment.reward, value[:-1], bootstrap, config.discount, config.gae_lambda)
        returns = advantage + value[:-1]
        network.update_return_scale(returns)
        advantage = without_luck(advantage, config.copies)
        old_log_prob = network.log_prob(segment.head, segment.draw)
    data = (segment.vector[:-1].flatten(0, 1), segment.draw.flatten(0, 1), advantage.flatten(), returns.flatten(),
            old_log_prob.flatten())  # fmt: skip
    sums, count = torch.zeros(4), 0
    for _ in range(config.epochs):
        order = torch.randperm(returns.numel(), generator=generator, device=returns.device)
        shuffled = [tensor.index_select(0, order).split(config.minibatch) for tensor in data]
        for vector, draw, weight, target, old in zip(*shuffled, strict=True):
            head = network.head(vector)
            log_ratio = network.log_prob(head, draw) - old
            weight = normalised(weight) if config.normalise_advantages else weight
            error = ((network.value(vector) - target) / network.return_std).square().mean()
            entropy = network.entropy(head).mean()
            policy_loss = clipped_surrogate(log_ratio, weight, config.clip)
            loss = policy_loss + config.value_weight * error - entropy_weight * entropy
            optimiser.zero_grad(set_to_none=False)  # the networks' gradients are views
            loss.backward()
            norm = nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], config.max_gradient_norm)
            if norm.isfinite():  # not so if a probability ratio overflowed: far beyond max_kl, where passes stop
                optimiser.step()
            with torch.no_grad():
                step = log_ratio.expm1()  # the probability ratio - 1
                kl = (step - log_ratio).mean()  # Schulman's low-variance estimate, never negative
                clipped = (step.abs() > config.clip).float().mean()
                sums, count = sums + torch.stack([kl, clipped, entropy, error]).cpu(), count + 1
        if kl > config.max_kl:
            break
    means = dict(zip(("kl", "clip_fraction", "entropy", "value_loss"), (sums / count).tolist(), strict=True))
    return means | {"explained_variance": explained_variance(value[:-1], returns)}
