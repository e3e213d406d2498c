"""Asynchronous advantage actor-critic: processes that learn one shared network, without locks."""

from __future__ import annotations

import signal
import time
import traceback
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.multiprocessing as mp
from pydantic import Field
from torch import nn

from .collect import Collector, LearnerConfig, Segment, explained_variance, gae, new_network, normalised, without_luck
from .envs import Env
from .envs.scenario import Positive
from .networks import ActorCritic, flat
from .runs import Recorder

BETA1, BETA2 = 0.9, 0.999  # Adam's


class A3CConfig(LearnerConfig):
    """Hyperparameters of A3C."""

    workers: int = Field(2, ge=1, le=999, description="actor-learner processes; 1 is deterministic")
    adam_epsilon: Positive = Field(1e-5, description="gradients far below it are not scaled up by Adam")


class SharedLearner:
    """One network and its Adam statistics in memory that all processes share.

    Everything is a view of, or parallel to, one flat vector of weights, so that reading the network and updating it are
    a few vector operations. Updates take no lock: processes may overwrite each other's, as in the original algorithm
    (Mnih et al. 2016, Hogwild updates with shared optimiser statistics).
    """

    def __init__(self, network: ActorCritic) -> None:
        self.weights = nn.utils.parameters_to_vector(network.parameters()).detach().share_memory_()
        self.mean = torch.zeros_like(self.weights).share_memory_()
        self.square = torch.zeros_like(self.weights).share_memory_()
        self.updates = torch.zeros((), dtype=torch.long).share_memory_()
        self.buffers = nn.utils.parameters_to_vector(network.buffers()).share_memory_()  # scales; one worker keeps them

    def apply(self, gradient: torch.Tensor, learning_rate: float, epsilon: float) -> None:
        """One step of Adam with a gradient computed elsewhere."""
        self.updates += 1
        count = int(self.updates)
        self.mean.lerp_(gradient, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        spread = (self.square / (1 - BETA2**count)).sqrt_().add_(epsilon)
        self.weights.addcdiv_(self.mean, spread, value=-learning_rate / (1 - BETA1**count))

    def state(self) -> dict[str, np.ndarray]:
        """A copy of everything, as plain arrays that travel between processes by value."""
        return {name: tensor.clone().numpy() for name, tensor in vars(self).items()}

    def load(self, state: dict[str, Any]) -> None:
        """Overwrite everything."""
        for name, tensor in vars(self).items():
            tensor.copy_(torch.as_tensor(state[name]))


class LocalCopy:
    """A process's own network, whose weights and gradients are views of two flat vectors."""

    def __init__(self, network: ActorCritic) -> None:
        vector = flat(network)
        self.network, self.weights, self.gradient = network, vector.data, cast(torch.Tensor, vector.grad)

    def pull(self, shared: SharedLearner | dict[str, Any]) -> None:
        """Copy the shared weights."""
        state = vars(shared) if isinstance(shared, SharedLearner) else shared
        self.weights.copy_(torch.as_tensor(state["weights"]))
        nn.utils.vector_to_parameters(torch.as_tensor(state["buffers"]).clone(), self.network.buffers())  # type: ignore[arg-type]


@dataclass
class Job:
    """What a worker process is given."""

    env: Env
    config: A3CConfig
    seed: int
    rank: int
    first_round: int
    shared: SharedLearner
    claimed: Any  # steps that some worker has played or is playing, a locked counter
    finished: Any  # steps whose round is over, a locked counter
    pipe: Connection


def train(
    env: Env, config: A3CConfig, seed: int, out: Path | None = None,
    *, resume: bool = False, progress: bool = True, tensorboard: bool = False,
) -> Recorder:  # fmt: skip
    """Train an A3C agent with ``config.workers`` processes.

    With one worker the result depends on the seed alone. With more, the order of updates depends on the machine. In a
    script, call this under ``if __name__ == "__main__":``, as processes are started afresh (``spawn``).

    Args:
        env: the environment, on the CPU; its observation set is the agent's.
        config: hyperparameters; see `meirl.runs.preset`.
        seed: of weights, scenarios and actions.
        out: folder for config, checkpoint, weights and history; None keeps nothing on disk.
        resume: continue from the checkpoint in ``out``.
        progress: show a progress bar.
        tensorboard: also write TensorBoard events to ``out``.

    Returns:
        The `meirl.runs.Recorder` of the run: ``best`` weights (by validation cost) and ``history``.

    Raises:
        RuntimeError: if a worker raised, with its traceback, or was killed. No process is left behind, and the last
            checkpoint in ``out`` can be resumed.
    """
    if env.device.type != "cpu":
        raise ValueError(
            f"A3C learns in processes on the CPU: make the environment with device='cpu', not {env.device}"
        )
    network = new_network(env, config.network, seed)
    recorder = Recorder(
        env, "a3c", config, seed, network, out, resume=resume, progress=progress, tensorboard=tensorboard
    )
    shared, rounds = SharedLearner(network), [0] * config.workers
    if saved := recorder.restore():
        shared.load(saved)
        rounds = list(saved["rounds"])
    elif out is not None:
        recorder.save({**_tensors(shared.state()), "rounds": rounds})
    if mp.get_start_method(allow_none=True) == "loky":  # inside joblib; a spawned child does not know that method
        mp.set_start_method("spawn", force=True)
    context = mp.get_context("spawn")
    claimed, over = context.Value("q", recorder.steps), context.Value("q", recorder.steps)
    budget = config.rounds(env) * config.steps_per_round(env)
    pipes, workers = [], []
    try:
        for rank in range(config.workers if recorder.steps < budget else 0):  # a finished run needs no workers
            ours, theirs = context.Pipe(duplex=False)
            job = Job(env, config, seed, rank, rounds[rank], shared, claimed, over, theirs)
            workers.append(context.Process(target=_work, args=(job,), name=f"a3c-{rank}", daemon=True))
            workers[-1].start()
            theirs.close()
            pipes.append(ours)
        _listen(recorder, LocalCopy(network), pipes, workers, rounds)
    finally:  # an error, Ctrl-C or the end: no process is left behind
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
    return recorder.finish()


def _listen(
    recorder: Recorder, copy: LocalCopy, pipes: list[Connection], workers: list[Any], rounds: list[int]
) -> None:
    """Record what the workers report until all are done."""
    listening = dict(zip(pipes, range(len(pipes)), strict=True))
    last = time.perf_counter()
    while listening:
        for pipe in cast(list[Connection], wait(list(listening))):
            rank = listening[pipe]
            try:
                report = pipe.recv()
            except (EOFError, OSError):  # the process is gone without a word
                workers[rank].join()
                raise RuntimeError(f"A3C worker {rank} was killed (exit code {workers[rank].exitcode})") from None
            if "error" in report:
                raise RuntimeError(f"A3C worker {rank} failed:\n{report['error']}")
            if "done" in report:
                del listening[pipe]
                continue
            now = time.perf_counter()
            rounds[rank] = report["rounds"]
            recorder.log(report["diagnostics"], report["samples"], now - last)
            last = now
            if "state" in report and report["steps"] > recorder.steps:  # another worker's later report may come first
                copy.pull(report["state"])
                saved = {**_tensors(report["state"]), "rounds": list(rounds)}
                recorder.validate(report["steps"], report["cost"], saved)


def _work(job: Job) -> None:
    """Body of a worker process: play, learn, report, until the budget of steps is spent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers
    torch.set_num_threads(1)
    try:
        _learn(job)
        job.pipe.send({"done": True})
    except BaseException:
        job.pipe.send({"error": traceback.format_exc()})


def _learn(job: Job) -> None:
    env, config, shared = job.env, job.config, job.shared
    copy = LocalCopy(new_network(env, config.network, job.seed))
    collector = Collector(env, config, copy.network, job.seed, worker=job.rank, first_round=job.first_round)
    round_steps, parent = config.steps_per_round(env), parent_process()
    budget = config.rounds(env) * round_steps
    while parent is None or parent.is_alive():  # an orphan stops
        with job.claimed.get_lock():
            if job.claimed.value >= budget:
                return
            job.claimed.value += round_steps
            steps = job.claimed.value
        sums: dict[str, float] = {}
        updates = 0
        while collector.period < env.horizon:
            copy.pull(shared)
            copy.network.anneal(1 - (steps - round_steps) / config.steps)
            segment = collector.collect(min(config.segment, env.horizon - collector.period))
            left = 1 - (steps - round_steps) / config.steps if config.anneal else 1.0
            diagnostics = compute_gradient(copy, segment, config, left * config.entropy)
            returns = diagnostics.pop("returns")
            if job.rank == 0:
                _update_scale(copy, shared, returns)
            shared.apply(copy.gradient, left * config.learning_rate, config.adam_epsilon)
            sums = {key: sums.get(key, 0.0) + float(value) for key, value in diagnostics.items()}
            updates += 1
        with job.finished.get_lock():  # workers need not finish in the order in which they claimed
            job.finished.value += round_steps
            finished = job.finished.value
        report = {
            "rounds": collector.round + 1, "samples": round_steps, "steps": finished, "cost": collector.cost,
            "diagnostics": {key: value / updates for key, value in sums.items()},
        }  # fmt: skip
        if config.is_due(env, finished):
            report["state"] = shared.state()
        job.pipe.send(report)
        collector.start()


def compute_gradient(copy: LocalCopy, segment: Segment, config: A3CConfig, entropy_weight: float) -> dict[str, Any]:
    """Put the gradient of the actor-critic loss of one segment into ``copy.gradient``; return diagnostics."""
    network = copy.network
    value = network.value(segment.vector)  # (period + 1, env)
    with torch.no_grad():
        bootstrap = value[1:].clone()
        if segment.terminal:
            bootstrap[-1] = 0.0
        advantage = gae(segment.reward, value[:-1], bootstrap, config.discount, config.gae_lambda)
        returns = advantage + value[:-1]
        weight = without_luck(advantage, config.copies)
        weight = normalised(weight) if config.normalise_advantages else weight
    head = network.head(segment.vector[:-1])
    entropy = network.entropy(head).mean()
    policy_loss = -(weight * network.log_prob(head, segment.draw)).mean()
    value_loss = ((value[:-1] - returns) / network.return_std).square().mean()
    loss = policy_loss + config.value_weight * value_loss - entropy_weight * entropy
    copy.gradient.zero_()
    loss.backward()
    norm = copy.gradient.norm()
    copy.gradient.mul_((config.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0))
    return {
        "entropy": entropy.detach(), "value_loss": value_loss.detach(), "gradient_norm": norm,
        "explained_variance": explained_variance(value[:-1].detach(), returns), "returns": returns,
    }  # fmt: skip


def _update_scale(copy: LocalCopy, shared: SharedLearner, returns: torch.Tensor) -> None:
    """Move the critic's scale, in the shared network, without changing what it predicts; only one worker does."""
    copy.network.update_return_scale(returns, rate=0.005)
    shared.buffers.copy_(nn.utils.parameters_to_vector(copy.network.buffers()))
    # The critic's last layer was rescaled with the returns; its weights are the last of the vector.
    size = sum(parameter.numel() for parameter in copy.network.critic[-1].parameters())
    shared.weights[-size:] = copy.weights[-size:]


def _tensors(state: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(array) for name, array in state.items()}
