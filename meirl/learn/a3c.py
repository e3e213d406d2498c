"""Asynchronous advantage actor-critic: processes that learn one shared network, without locks."""

import os
import signal
import time
import traceback
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import Any, cast

import torch
import torch.multiprocessing as mp
from pydantic import Field
from torch import nn

from ..config import Positive
from ..envs import Env
from . import gradient
from .config import LearnerConfig
from .experience import Collector, Segment, estimate, explained_variance, normalised
from .networks import ActorCritic, flat, seeded
from .run import Run

Network = ActorCritic
BETA1, BETA2 = 0.9, 0.999  # Adam's
SCALE_RATE = 0.005  # of the critic's scale: a tenth of PPO's, since updates are as many times as frequent


class Config(LearnerConfig):
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
        """One step of Adam with a gradient computed elsewhere, equation :eq:`eq-shared-adam` of the book.

        ``weights -= learning_rate * m / (sqrt(v) + epsilon)``, with m and v the running means of the gradient and of
        its square, both corrected for their start at 0.

        Args:
            gradient: of the loss, ``(weights,)``.
            learning_rate: as it is now.
            epsilon: gradients far below it are not scaled up.

        Source: Kingma & Ba (2015), Adam, with the statistics shared as by Mnih et al. (2016).
        """
        self.updates += 1
        count = int(self.updates)
        self.mean.lerp_(gradient, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        spread = (self.square / (1 - BETA2**count)).sqrt_().add_(epsilon)
        self.weights.addcdiv_(self.mean, spread, value=-learning_rate / (1 - BETA1**count))

    def state(self) -> dict[str, Any]:
        """A copy of everything, as plain arrays that travel between processes by value."""
        return {name: tensor.clone().numpy() for name, tensor in vars(self).items()}

    def load(self, state: dict[str, Any]) -> None:
        """Overwrite everything."""
        for name, tensor in vars(self).items():
            tensor.copy_(state[name])


class LocalCopy:
    """A process's own network, whose weights and gradients are views of two flat vectors."""

    def __init__(self, network: ActorCritic) -> None:
        vector = flat(network)
        self.network, self.weights, self.gradient = network, vector.data, cast(torch.Tensor, vector.grad)

    def pull(self, state: dict[str, Any]) -> None:
        """Copy the weights of a shared learner, given as ``vars`` or `SharedLearner.state`."""
        self.weights.copy_(torch.as_tensor(state["weights"]))
        nn.utils.vector_to_parameters(torch.as_tensor(state["buffers"]).clone(), self.network.buffers())  # type: ignore[arg-type]


@dataclass
class Job:
    """What a worker process is given."""

    env: Env
    config: Config
    seed: int
    rank: int
    first_round: int
    shared: SharedLearner
    claimed: Any  # steps that some worker has played or is playing, a locked counter
    finished: Any  # steps whose round is over, a locked counter
    pipe: Connection


def train(
    env: Env, config: Config, seed: int, out: Path | None = None, *, resume: bool = False, progress: bool = True
) -> Run:
    """Train an A3C agent with ``config.workers`` processes; arguments and result as in `meirl.learn.ppo.train`.

    With one worker the result depends on the seed alone. With more, the order of updates depends on the machine. In a
    script, call this under ``if __name__ == "__main__":``, as processes are started afresh (``spawn``).

    Raises:
        ValueError: if the environment is not on the CPU, there are many more workers than cores, ``out`` holds a run
            that this one may not continue, or the training diverges.
        RuntimeError: if a worker raised, with its traceback, or was killed. No process is left behind, and the last
            checkpoint in ``out`` can be resumed.
    """
    if env.device.type != "cpu":
        raise ValueError(f"A3C learns in processes: make the environment with device='cpu', not {env.device}")
    if config.workers > (most := max(16, 4 * (os.cpu_count() or 1))):
        raise ValueError(f"workers: at most {most} on this machine, or it would stall; got {config.workers}")
    torch.set_num_threads(1)  # as the workers: the last digits of the first weights depend on it
    network = seeded(Network, env, config, seed)
    with Run(env, "a3c", config, seed, network, out, resume=resume, progress=progress) as run:
        shared, rounds = SharedLearner(network), [0] * config.workers

        def load(saved: dict[str, Any]) -> None:
            shared.load(saved)
            rounds[:] = [int(saved["rounds"][rank]) for rank in range(config.workers)]

        if not run.restore(load) and out is not None:
            run.save(_saved(shared.state(), rounds))
        _play(run, network, shared, rounds)
        return run.finish()


def _play(run: Run, network: ActorCritic, shared: SharedLearner, rounds: list[int]) -> None:
    """Start the workers, each with the number of rounds that it has played, and record what they report."""
    env, config = run.env, run.config
    if mp.get_start_method(allow_none=True) == "loky":  # inside joblib; a spawned child does not know that method
        mp.set_start_method("spawn", force=True)
    context = mp.get_context("spawn")
    claimed, over = context.Value("q", run.steps), context.Value("q", run.steps)
    budget = config.rounds(env) * config.steps_per_round(env)
    pipes, workers = [], []
    try:
        for rank in range(config.workers if run.steps < budget else 0):  # a finished run needs no workers
            ours, theirs = context.Pipe(duplex=False)
            job = Job(env, config, run.seed, rank, rounds[rank], shared, claimed, over, theirs)
            worker = context.Process(target=_work, args=(job,), name=f"a3c-{rank}", daemon=True)
            worker.start()
            workers.append(worker)
            theirs.close()
            pipes.append(ours)
        _listen(run, LocalCopy(network), pipes, workers, rounds)
    finally:  # an error, Ctrl-C or the end: no process is left behind
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _listen(run: Run, copy: LocalCopy, pipes: list[Connection], workers: list[Any], rounds: list[int]) -> None:
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
                failed, refused = RuntimeError(f"A3C worker {rank} failed:\n{report['error']}"), report["refused"]
                raise (ValueError(refused) if refused else failed) from (failed if refused else None)
            if "done" in report:
                del listening[pipe]
                continue
            now = time.perf_counter()
            rounds[rank] = report["rounds"]
            run.log(report["diagnostics"], report["samples"], now - last)
            last = now
            if "state" in report and report["steps"] > run.steps:  # another worker's later report may come first
                copy.pull(report["state"])
                run.validate(report["steps"], report["cost"], _saved(report["state"], rounds))


def _work(job: Job) -> None:
    """Body of a worker process: play, learn, report, until the budget of steps is spent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        _learn(job)
        job.pipe.send({"done": True})
    except BaseException as error:
        refused = str(error) if isinstance(error, ValueError) else ""  # such as: training has diverged
        job.pipe.send({"error": traceback.format_exc(), "refused": refused})


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, even if that was killed."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _learn(job: Job) -> None:
    env, config, shared = job.env, job.config, job.shared
    copy = LocalCopy(seeded(Network, env, config, job.seed))
    collector = Collector(env, config, copy.network, job.seed, worker=job.rank, first_round=job.first_round)
    round_steps = config.steps_per_round(env)
    budget = config.rounds(env) * round_steps
    while True:
        with job.claimed.get_lock():
            if job.claimed.value >= budget:
                return
            job.claimed.value += round_steps
            started = job.claimed.value - round_steps
        sums: dict[str, float] = {}
        updates = 0
        while collector.period < env.horizon:
            copy.pull(vars(shared))
            copy.network.anneal(config.remaining(started))
            segment = collector.collect(min(config.segment, env.horizon - collector.period))
            annealed = config.annealed(started)
            diagnostics = compute_gradient(copy, segment, config, annealed * config.entropy)
            returns = diagnostics.pop("returns")
            if job.rank == 0:
                _update_scale(copy, shared, returns)
            shared.apply(copy.gradient, annealed * config.learning_rate, config.adam_epsilon)
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


@torch.no_grad()
def compute_gradient(copy: LocalCopy, segment: Segment, config: Config, entropy_weight: float) -> dict[str, Any]:
    """Put the gradient of the actor-critic loss of one segment into ``copy.gradient``.

    ``loss = -mean(A * log pi) + value_weight * squared error of the critic - entropy_weight * entropy``, equation
    :eq:`eq-a3c-loss` of the book, the error in standard deviations of the returns.

    Args:
        copy: the worker's network, with the shared weights.
        segment: T periods of B environments.
        config: discount, lambda, weights and the largest norm of the gradient.
        entropy_weight: as it is now.

    Returns:
        Diagnostics: ``entropy`` (nats), ``value_loss``, ``gradient_norm`` before clipping, ``explained_variance``; and
        ``returns``, ``(T, B)`` in reward units.
    """
    network = copy.network
    value = network.value(segment.vector)  # (T + 1, B)
    advantage, returns = estimate(segment, value, config)
    advantage = normalised(advantage) if config.normalise_advantages else advantage
    vector, draw, target = (x.flatten(0, 1) for x in (segment.vector[:-1], segment.draw, returns))
    batch = gradient.evaluate(network, vector, draw, target)
    by_log_prob = advantage.flatten() / -advantage.numel()
    gradient.write(network, batch, by_log_prob, config.value_weight, entropy_weight)
    norm = gradient.clip(copy.gradient, config.max_gradient_norm)
    return {
        "entropy": network.entropy(batch.head).mean(), "value_loss": batch.error.square().mean(), "gradient_norm": norm,
        "explained_variance": explained_variance(value[:-1], returns), "returns": returns,
    }  # fmt: skip


def _update_scale(copy: LocalCopy, shared: SharedLearner, returns: torch.Tensor) -> None:
    """Move the critic's scale, in the shared network, without changing what it predicts; only one worker does."""
    copy.network.update_return_scale(returns, rate=SCALE_RATE)
    shared.buffers.copy_(nn.utils.parameters_to_vector(copy.network.buffers()))
    # The critic's last layer was rescaled with the returns; its weights are the last of the vector.
    size = sum(parameter.numel() for parameter in copy.network.critic[-1].parameters())
    shared.weights[-size:] = copy.weights[-size:]


def _saved(state: dict[str, Any], rounds: list[int]) -> dict[str, Any]:
    return {**{name: torch.as_tensor(array) for name, array in state.items()}, "rounds": list(rounds)}
