"""Runs on disk: presets, checkpoints that survive a kill, histories, manifests, and trained policies to load."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from tqdm import tqdm

from .collect import LearnerConfig
from .envs import OBSERVATION_SETS, Env, ObservationSet, load_yaml, make, validated
from .evaluation import held_out
from .networks import ActorCritic, Agent
from .published import DEFECTS
from .rollout import Policy, simulate

ALGORITHMS = ("ppo", "a3c")  # of the study; `learner` knows one more, pathwise
PRESETS = ("tuned", "published", "as-published")
FORMAT = "meirl-checkpoint-1"


def preset(algo: str, name: str, env: str, **changes: Any) -> Any:
    """Load hyperparameters.

    Args:
        algo: ``ppo``, ``a3c`` or ``pathwise``.
        name: ``tuned``; ``published``, every hyperparameter of the study; ``as-published``, with its defects too; or
            a YAML file of your own.
        env: name of the environment; the file's ``per_environment`` section may change keys for it.
        **changes: keys to change; ``network`` may be a mapping of the keys to change in it.

    Returns:
        The validated configuration of that learner.

    Raises:
        ValueError: if algorithm or preset is unknown or a value is not valid; names the file and the key.
    """
    model = learner(algo).config
    path, defects = Path(name), DEFECTS.get(algo, {}) if name == "as-published" else {}
    if name in PRESETS:
        path = Path(__file__).parent / "presets" / f"{algo}-{name.removeprefix('as-')}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}, or a YAML file")
    values = load_yaml(path)
    special = values.pop("per_environment", {}).get(env, {})
    for layer in (special, defects, changes):
        network = {**values.get("network", {}), **layer.get("network", {})}
        values = {**values, **layer, **({"network": network} if network else {})}
    return validated(model, values, path.name)


class OtherRunError(ValueError):
    """The folder holds another run: one with another configuration, environment or seed."""


class Learner(NamedTuple):
    """An algorithm: the model of its configuration, its network and its ``train(env, config, seed, out, ...)``."""

    config: type[Any]
    network: Callable[[Env, Any], torch.nn.Module]
    train: Callable[..., Recorder]


def learner(algo: str) -> Learner:
    """Look up an algorithm, ``ppo``, ``a3c`` or ``pathwise``.

    Raises:
        ValueError: if there is no such algorithm.
    """
    from . import a3c, pathwise, ppo  # they import this module

    def actor_critic(env: Env, config: LearnerConfig) -> ActorCritic:
        return ActorCritic(env, config.network)

    known = {
        "ppo": Learner(ppo.PPOConfig, actor_critic, ppo.train),
        "a3c": Learner(a3c.A3CConfig, actor_critic, a3c.train),
        "pathwise": Learner(pathwise.PathwiseConfig, pathwise.Actor, pathwise.train),
    }
    if algo not in known:
        raise ValueError(f"unknown algorithm {algo!r}: expected one of {', '.join(known)}")
    return known[algo]


def as_policy(network: torch.nn.Module) -> Policy:
    """The deterministic policy of a network; one without a critic is its own."""
    return Agent(network) if isinstance(network, ActorCritic) else network


def run_folder(root: Path, env: str, algo: str, preset_name: str, seed: int) -> Path:
    """Where a run is kept: ``root/env/algo/preset/seed-N``."""
    return root / Path(env).stem / algo / Path(preset_name).stem / f"seed-{seed}"


class Recorder:
    """Keeps what a run produces: the history, the best weights by validation cost, and the checkpoint to resume from.

    Attributes:
        history: one dict a validation, in order.
        best: the network's state at its lowest validation cost so far.
        best_cost: that cost, in units of ``cost_unit``.
        steps: environment steps at the last validation.
    """

    def __init__(
        self, env: Env, algo: str, config: Any, seed: int, network: torch.nn.Module, out: Path | None,
        *, resume: bool, progress: bool, tensorboard: bool,
    ) -> None:  # fmt: skip
        self.env, self.algo, self.config, self.seed, self.out = env, algo, config, seed, out
        self.network, self.best_cost = network, float("inf")
        self.history: list[dict[str, float]] = []
        self.best = _copied(network)
        self._sums: dict[str, float] = {}
        self._count, self._seconds, self.steps, self._trained = 0, 0.0, 0, False
        self._validation = held_out(env, "validation", config.validation_episodes)
        self._bar = tqdm(
            total=config.steps, unit="step", unit_scale=True, disable=not progress, desc=f"{algo} {env.name}"
        )
        if out is not None:
            existing = out / "checkpoint.pt"
            if existing.exists() and not resume:
                raise ValueError(f"{out} holds a run already: resume it, or choose another folder")
            out.mkdir(parents=True, exist_ok=True)
            write_atomically(out / "config.json", config.model_dump_json(indent=2))
        self._board = _tensorboard(out) if tensorboard and out is not None else None

    def identity(self) -> dict[str, Any]:
        """What must agree before a checkpoint may be continued or loaded."""
        return {
            "format": FORMAT, "algo": self.algo, "env": self.env.name, "observation": self.env.observation,
            "seed": self.seed, "parameters": self.env.parameters.model_dump_json(),
            "config": self.config.model_dump_json(),
        }  # fmt: skip

    def restore(self) -> Any:
        """Continue from the checkpoint if there is one to continue; return the optimiser's state, or None."""
        if self.out is None or not (self.out / "checkpoint.pt").exists():
            return None
        saved = load_checkpoint(self.out / "checkpoint.pt")
        identity = self.identity()
        # As configurations, not as text: a key that is younger than the run has its default.
        with suppress(ValidationError, KeyError):
            if type(self.config).model_validate_json(saved["config"]) == self.config:
                identity["config"] = saved["config"]
        for key, expected in identity.items():
            if saved.get(key) != expected:
                path = self.out / "checkpoint.pt"
                raise OtherRunError(
                    f"{path}: cannot resume: its {key} differs from this run's; delete the folder or choose another"
                )
        self.network.load_state_dict(saved["network"])
        self.best, self.best_cost, self.history = saved["best"], saved["best_cost"], saved["history"]
        self._seconds, self.steps = saved["seconds"], saved["steps"]
        self._bar.update(self.steps)
        return saved["optimiser"]

    def log(self, diagnostics: dict[str, float], samples: int, seconds: float) -> None:
        """Add one update's diagnostics; they are averaged until the next validation."""
        for key, value in diagnostics.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._count += 1
        self._trained = True
        self._seconds += seconds
        self._bar.update(samples)

    def validate(self, steps: int, training_cost: float, optimiser: dict[str, Any]) -> None:
        """Score the network on the validation scenarios, keep it if it is the best so far, write a checkpoint."""
        cost = validation_cost(self.env, self.network, self._validation)
        row: dict[str, float] = {"steps": steps, "seconds": self._seconds, "training_cost": training_cost}
        row |= {"validation_cost": cost, **{k: v / max(self._count, 1) for k, v in self._sums.items()}}
        self.history.append(row)
        if self._board is not None:
            for key, value in row.items():
                self._board.add_scalar(key, value, steps)
        self.steps, self._sums, self._count = steps, {}, 0
        if cost < self.best_cost:
            self.best, self.best_cost = _copied(self.network), cost
        rate = steps / self._seconds if self._seconds else float("nan")
        self._bar.set_postfix_str(f"cost {cost:,.5g}, best {self.best_cost:,.5g}, {rate:,.0f} steps/s")
        self.save(optimiser)

    def save(self, optimiser: dict[str, Any]) -> None:
        """Write checkpoint, best weights and history, each atomically."""
        if self.out is None:
            return
        common = {**self.identity(), "best": self.best, "best_cost": self.best_cost}
        progress = {"steps": self.steps, "seconds": self._seconds, "history": self.history}
        learner = {"network": _copied(self.network), "optimiser": optimiser}
        _save_tensors(self.out / "checkpoint.pt", {**common, **progress, **learner})
        _save_tensors(self.out / "policy.pt", common)
        text = StringIO(newline="")
        keys = list(dict.fromkeys(key for row in self.history for key in row))
        writer = csv.DictWriter(text, keys)
        writer.writeheader()
        writer.writerows(self.history)
        write_atomically(self.out / "history.csv", text.getvalue())

    def finish(self) -> Recorder:
        """Close the run: write the manifest, load the best weights into the network."""
        self._bar.close()
        if self._board is not None:
            self._board.close()
        self.network.load_state_dict(self.best)
        if self.out is not None and (self._trained or not (self.out / "manifest.json").exists()):
            write_atomically(self.out / "manifest.json", json.dumps(self.manifest(), indent=2))
        return self

    def manifest(self) -> dict[str, Any]:
        """Where a result comes from: commit, versions, device, time, steps."""
        return {
            "algo": self.algo, "env": self.env.name, "observation": self.env.observation, "seed": self.seed,
            "steps": self.steps, "seconds": round(self._seconds, 1), "best_validation_cost": self.best_cost,
            "device": str(self.env.device), "commit": commit(), "python": platform.python_version(),
            "torch": torch.__version__, "numpy": np.__version__, "machine": f"{platform.system()} {platform.machine()}",
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip

    @property
    def policy(self) -> Policy:
        """The trained policy; the best one by validation cost once the run is finished."""
        return as_policy(self.network)


@torch.inference_mode()
def validation_cost(env: Env, network: torch.nn.Module, scenario: Any) -> float:
    """Mean cost of the deterministic policy, in units of ``cost_unit``."""
    return float(simulate(env, as_policy(network), scenario).cost.mean()) / env.parameters.cost_unit


def load_policy(folder: Path, env: Env | None = None) -> tuple[Policy, Env]:
    """Load the best policy of a run.

    Args:
        folder: of the run; holds ``policy.pt``.
        env: an environment to use it on, of the same shape; None makes the one it was trained on.

    Returns:
        The policy and the environment.

    Raises:
        ValueError: if the file is missing, damaged, no checkpoint of meirl's, or does not fit the environment.
    """
    path = Path(folder) / "policy.pt"
    saved = load_checkpoint(path)
    env = env or make(saved["env"], observation=trained_on(folder))
    if env.observation != saved["observation"]:
        raise ValueError(f"{path}: trained on the {saved['observation']} observation, not on {env.observation}")
    config = validated(learner(saved["algo"]).config, json.loads(saved["config"]), str(path))
    network = learner(saved["algo"]).network(env, config)
    try:
        network.load_state_dict(saved["best"])
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit {env.name}: {str(error).splitlines()[0]}") from error
    return as_policy(network.to(env.device).eval()), env


def trained_on(folder: Path) -> ObservationSet:
    """The observation set that the run in a folder was trained on; errors as in `load_policy`."""
    path = Path(folder) / "policy.pt"
    observation = load_checkpoint(path).get("observation")
    if observation not in OBSERVATION_SETS:
        raise ValueError(f"{path}: unknown observation set: {observation!r}")
    return observation


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without pickle's powers.

    Raises:
        ValueError: if the file is missing, damaged or not one of meirl's.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"no checkpoint: {path} does not exist") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(f"{path}: damaged, or no checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise ValueError(f"{path}: not a checkpoint of this version of meirl (expected format {FORMAT!r})")
    return saved


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, finds the old content or the new, never half of it."""
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def commit() -> str:
    """Commit of the source tree this package runs from, or ``unknown`` outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "TensorBoard is not installed: pip install 'meirl[tensorboard]', or train without it"
        ) from None
    return SummaryWriter(folder)


def _save_tensors(path: Path, content: dict[str, Any]) -> None:
    buffer = BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def _copied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
