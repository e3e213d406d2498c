"""The study's own trained agents, played on our simulator from a reader's checkout of the study's repository.

The weights are the study's, so they stay in its repository. Of a checkpoint only tensors are read: a pickle may name
code to be run, and here whatever it names, but tensors, is replaced by an empty object. (PyTorch's own ``weights_only``
refuses these files, because YAML's and NumPy's types stand beside the tensors.) The forward passes are written by hand.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import linear

from meirl import files, heuristics
from meirl.envs import Observation, make
from meirl.evaluation import TEST_EPISODES, cvar, held_out
from meirl.rollout import Policy, rollout

from .published import COMMIT, DATE, REPOSITORY, RESULTS

KEPT = ["cost", "fill_rate", "published_service_level"]
"""What is kept of every episode."""


class Network(NamedTuple):
    """An actor of the study: where it is in a checkpoint, and what is between and behind its linear layers."""

    state: str  # the checkpoint's key of all tensors
    layers: str  # what the actor's keys begin with
    sizes: tuple[int, ...]  # units from the observation to the output
    activation: Callable[[torch.Tensor], torch.Tensor]
    action: Callable[[torch.Tensor], torch.Tensor]  # of the output


class Agent(NamedTuple):
    """A checkpoint of the study."""

    file: str  # in the repository
    sha256: str  # at `published.COMMIT`
    network: Network


# The study's PPO squashes twice: in the network's last layer, and again where it acts.
PPO = Network(
    "actor_critic_state_dict", "actor.network.", (14, 64, 64, 4), torch.tanh, lambda out: torch.tanh(torch.tanh(out))
)
"""The network of the study's PPO."""
A3C = Network("network_state_dict", "actor.", (12, 64, 64, 64, 13), torch.relu, lambda out: out.argmax(-1))
"""The network of the study's A3C."""
AGENTS = {
    "divergent-stationary": Agent(
        "ppo/results/checkpoints/ppo_divergent_final.pt",
        "0eda6939780efd5dfd81c392d61cbf9074d2e0fe1a0ec9d88c85387245b5128b", PPO,
    ),
    "divergent-nonstationary": Agent(
        "ppo/results_complex/checkpoints/ppo_divergent_final.pt",
        "38792d4c4e94d0c29d004550d07663f5273f7c5531c62ad658867f9f11229490", PPO,
    ),
    "meis-stationary": Agent(
        "actor-critic/results/checkpoints/best_model.pt",
        "070ffa8ce4c79536893c724aac65b57ec47e185af9f3ae795a00c4f771dd9966", A3C,
    ),
    "meis-nonstationary": Agent(
        "actor-critic/results_complex/checkpoints/best_model.pt",
        "3c58b29c400742cc197e603ee6923431019f039b8d601912664a07e6b3f2caf0", A3C,
    ),
}  # fmt: skip
"""The checkpoints that the study evaluated, by environment: PPO's last weights, A3C's best by its own evaluations."""


class _Nothing:
    """Stands for an object of any other class: takes what a pickle gives it, and does nothing."""

    def __new__(cls, *_: Any) -> _Nothing:
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None: ...

    def take(self, *_: Any) -> None: ...

    __setstate__ = append = extend = __setitem__ = take


def _tensor(storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    return storage.as_strided(size, stride, offset)


KNOWN = {
    ("collections", "OrderedDict"): OrderedDict, ("torch", "FloatStorage"): torch.float32,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
}  # fmt: skip
"""All that a pickle may name and get: with it, tensors of 32-bit floats in mappings."""


class _Reader(pickle.Unpickler):
    """Reads the pickle in an archive of ``torch.save``; a storage is a file of the archive, a name is in `KNOWN`."""

    def __init__(self, archive: ZipFile) -> None:
        self.archive, self.folder = archive, archive.namelist()[0].split("/")[0]
        super().__init__(BytesIO(archive.read(f"{self.folder}/data.pkl")))

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle gets for a name."""
        return KNOWN.get((module, name), _Nothing)

    def persistent_load(self, reference: Any) -> torch.Tensor:
        """A storage: numbers that tensors are views of."""
        _, dtype, key, *_ = reference
        return torch.frombuffer(bytearray(self.archive.read(f"{self.folder}/data/{key}")), dtype=dtype)


def read(path: Path) -> dict[str, Any]:
    """Read the tensors of a checkpoint, and nothing else; a ValueError names a file that is missing or damaged."""
    try:
        with ZipFile(path) as archive:
            content = _Reader(archive).load()
    except FileNotFoundError:
        raise ValueError(f"no checkpoint: {path} does not exist") from None
    except Exception as error:  # a damaged pickle raises many kinds
        raise ValueError(f"{path}: damaged, or no checkpoint of PyTorch's: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping of keys to tensors, got {type(content).__name__}")
    return content


def load(path: Path, network: Network) -> Policy:
    """Make a policy of a checkpoint's actor.

    Args:
        path: of the checkpoint.
        network: what should be in it.

    Returns:
        The deterministic policy that the study evaluated; it sees the ``published`` observation.

    Raises:
        ValueError: if a tensor is missing or has another shape; the message names file and key.
    """
    tensors = read(path).get(network.state)
    if not isinstance(tensors, Mapping):
        raise ValueError(f"{path}: lacks the key {network.state!r}, a mapping of names to tensors")

    def tensor(key: str, *shape: int) -> torch.Tensor:
        value = tensors.get(key)
        if not isinstance(value, torch.Tensor) or value.shape != shape:
            got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise ValueError(f"{path}: {network.state}: {key}: expected a tensor of shape {shape}, got {got}")
        return value

    layers = []
    for i, (inputs, outputs) in enumerate(zip(network.sizes, network.sizes[1:], strict=False)):
        name = f"{network.layers}{2 * i}"  # activations have the odd numbers
        layers.append((tensor(f"{name}.weight", outputs, inputs), tensor(f"{name}.bias", outputs)))

    def policy(observation: Observation) -> torch.Tensor:
        out = observation.vector()
        for weight, bias in layers[:-1]:
            out = network.activation(linear(out, weight, bias))
        return network.action(linear(out, *layers[-1]))

    return policy


def play(checkout: Path, agents: Mapping[str, Agent] = AGENTS, episodes: int = TEST_EPISODES) -> pd.DataFrame:
    """Play the study's agents on the test scenarios.

    Args:
        checkout: folder of the study's repository, at `published.COMMIT`.
        agents: by environment.
        episodes: of each.

    Returns:
        One row a test episode: ``env``, ``episode`` and `KEPT`.

    Raises:
        ValueError: if a file is missing, is not the one that the study had at that commit, or does not fit.
    """
    tables = []
    for name, agent in agents.items():
        path = checkout / agent.file
        wanted = f"check out commit {COMMIT[:7]} of {REPOSITORY}"
        if not path.is_file():
            raise ValueError(f"{path} does not exist: {wanted}")
        if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != agent.sha256:
            raise ValueError(f"{path} is another version: expected sha256 {agent.sha256}, got {found}: {wanted}")
        env = make(name, observation="published")
        table = rollout(env, load(path, agent.network), held_out(env, "test", episodes))[KEPT]
        tables.append(table.assign(env=name, episode=range(episodes))[["env", "episode", *KEPT]])
    return pd.concat(tables, ignore_index=True)


def write(path: Path, table: pd.DataFrame, agents: Mapping[str, Agent] = AGENTS) -> None:
    """Write a table of `play` as CSV, below lines that say what was played, for `published.remeasured`.

    Beside file and sha256 they have what ordering nothing costs on the same episodes: scenarios or a simulator that
    give another cost are no longer those of this file.
    """
    lines = [
        "The study's own trained agents on meirl's test scenarios, one row an episode: `python -m meirl agents`.",
        f"Weights: {REPOSITORY}, commit {COMMIT[:7]} ({DATE}). Simulator: meirl, commit {files.commit()}.",
    ]
    for name, agent in agents.items():
        cost = never(name, int((table["env"] == name).sum()))
        lines.append(f"{name}: {agent.file}, sha256 {agent.sha256}; ordering nothing costs {cost:.8g}")
    head = "".join(f"# {line}\n" for line in lines)
    files.write(path, head + table.round({"cost": 3, "fill_rate": 5, "published_service_level": 5}).to_csv(index=False))


def never(name: str, episodes: int = TEST_EPISODES) -> float:
    """Mean cost of ordering nothing on the test scenarios of an environment."""
    env = make(name)
    return float(rollout(env, heuristics.load(env, "never-order"), held_out(env, "test", episodes))["cost"].mean())


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Set what the study's agents cost here beside what the study reports of them.

    Args:
        table: of `play` or `published.remeasured`.

    Returns:
        One row an environment: cost as ``reported``, with its standard error ``error reported``; as ``re-measured``
        with its ``standard error`` and ``cvar95``; the ``difference in standard errors``, both measurements' together;
        the study's service level as ``service reported`` and as ``service re-measured``; the ``fill rate``.
    """
    rows = {}
    for name, played in table.groupby("env", sort=False):
        theirs: Any = RESULTS.loc[str(name)]
        cost = played["cost"].to_numpy()
        ours, error = cost.mean(), cost.std(ddof=1) / len(cost) ** 0.5
        both = np.hypot(error, theirs["agent_std"] / theirs["episodes"] ** 0.5)
        rows[str(name)] = {
            "reported": theirs["agent_cost"], "error reported": theirs["agent_std"] / theirs["episodes"] ** 0.5,
            "re-measured": ours, "standard error": error, "cvar95": cvar(cost),
            "difference in standard errors": (ours - theirs["agent_cost"]) / both,
            "service reported": theirs["agent_service_level"],
            "service re-measured": played["published_service_level"].mean(), "fill rate": played["fill_rate"].mean(),
        }  # fmt: skip
    return pd.DataFrame(rows).T


def shown(table: pd.DataFrame, forms: Mapping[str, str]) -> pd.DataFrame:
    """The table of `agreement` for reading; ``forms`` are formats of the cost by environment."""
    rows = {}
    for name, row in table.iterrows():
        form, service = forms[str(name)], row["service reported"]
        rows[name] = {
            "reported": f"{row['reported']:{form}} ± {row['error reported']:{form}}",
            "re-measured": f"{row['re-measured']:{form}} ± {row['standard error']:{form}}",
            "difference in standard errors": f"{row['difference in standard errors']:+.1f}",
            "service level, reported": "none" if np.isnan(service) else f"{service:.1%}",
            "re-measured service level": f"{row['service re-measured']:.1%}", "fill rate": f"{row['fill rate']:.1%}",
        }  # fmt: skip
    return pd.DataFrame(rows).T
