"""The learners by name, their presets, and trained policies to load.

A learner is a module with ``Config``, its hyperparameters; ``Network``, made from an environment and a ``Config``, its
own deterministic policy; and ``train``. Other packages announce theirs by the entry points ``meirl.learners``.
"""

import math
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from ..config import first_line, load_yaml, merged, shown, validated
from ..envs import Env, make
from ..rollout import Policy
from . import a3c, ppo
from .run import OtherRunError, Run, load_checkpoint, run_folder

__all__ = ["ALGORITHMS", "PRESETS", "OtherRunError", "Run", "find_learner", "load", "load_checkpoint", "load_policy",
           "preset", "run_folder"]  # fmt: skip

ALGORITHMS = {"ppo": ppo, "a3c": a3c}
AGENTS = Path(__file__).parent / "agents"  # a folder each: policy.pt, and card.yaml, which says what it is
PRESETS = ("tuned", "long", "published", "as-published")
VARIANTS = {"long": "tuned", "as-published": "published"}  # presets that are a section of another's file


def find_learner(algo: str) -> ModuleType:
    """The module of an algorithm: ``ppo``, ``a3c``, or one that another package announces; else a ValueError."""
    if algo in ALGORITHMS:
        return ALGORITHMS[algo]
    others = {other.name: other for other in entry_points(group="meirl.learners")}
    if algo not in others:
        raise ValueError(f"unknown algorithm {algo!r}: expected one of {', '.join([*ALGORITHMS, *others])}")
    try:
        return others[algo].load()
    except ImportError as error:
        raise ValueError(f"{algo} needs more packages ({error}): pip install 'meirl[study]'") from error


def preset(algo: str, name: str, env: str, **changes: Any) -> Any:
    """Load hyperparameters: the learner's validated ``Config``.

    Args:
        algo: name of the learner.
        name: ``tuned``, for as many simulated steps as the study took; ``long``, for ten times as many; ``published``,
            every hyperparameter of the study; ``as-published``, with its defects too; or a YAML file of your own.
        env: name of the environment; ``per_environment`` sections of the file may change keys for it.
        **changes: keys to change; ``network`` may be a mapping of the keys to change in it.

    Raises:
        ValueError: if algorithm or preset is unknown or a value is not valid; names the file and the key.
    """
    learner, path = find_learner(algo), Path(name)
    if name in PRESETS:
        path = Path(str(learner.__file__)).parent / "presets" / f"{algo}-{VARIANTS.get(name, name)}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}, or a YAML file")
    values = load_yaml(path)
    if name in VARIANTS and name not in values:
        raise ValueError(f"{path.name} has no section {name!r}: {algo} has no such preset")
    variants = {variant: _section(values, variant, path) for variant in VARIANTS}
    layers = [values, variants.get(name, {})]
    special = [_section(_section(layer, "per_environment", path), env, path) for layer in layers]
    ordered = [layer for pair in zip(layers, special, strict=True) for layer in pair]
    return validated(learner.Config, merged(*ordered, changes), path.name)


def _section(values: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    """Take a mapping out of another; empty if it is not there, a ValueError if it is no mapping."""
    section = values.pop(key, {})
    if not isinstance(section, dict):
        raise ValueError(f"{path.name}: {key}: expected a mapping of keys to values, got {shown(section)}")
    return section


def load_policy(folder: Path, env: Env | str | None = None, **changes: Any) -> tuple[Policy, Env]:
    """Load the best policy of a run, and its environment.

    Args:
        folder: of the run; holds ``policy.pt``.
        env: an environment to use it on, of the same shape; its name gives it the observation that the policy was
            trained on; None is the name of the one it was trained on, with the parameters that it has by now.
        **changes: parameters to change in an environment that is made here, as in `meirl.make`; else refused.

    Raises:
        ValueError: if the file is missing, damaged, no checkpoint of meirl's or never validated, or does not fit.
    """
    path = Path(folder) / "policy.pt"
    saved = load_checkpoint(path)
    if saved["best_cost"] == math.inf:
        raise ValueError(f"{path}: its run was stopped before its first validation: resume it")
    if not isinstance(env, Env):
        env = make(env or saved["env"], **{"observation": saved["observation"], **changes})
    elif changes:
        raise ValueError(f"cannot change {', '.join(changes)} of an environment that is made: give its name")
    if env.observation != saved["observation"]:
        raise ValueError(f"{path}: trained on the {saved['observation']} observation, not on {env.observation}")
    if env.legend() != saved.get("inputs", env.legend()):
        raise ValueError(f"{path}: trained on other inputs than {env.name} shows: another version, or another chain")
    learner = find_learner(saved["algo"])
    config = validated(learner.Config, saved["config"], f"{path}: config")
    network = learner.Network(env, config)
    try:
        network.load_state_dict(saved["best"])
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit {env.name}: {first_line(error)}") from error
    return network.to(env.device, env.dtype).eval(), env


def load(algo: str, env: str, **changes: Any) -> tuple[Policy, Env]:
    """Load a trained agent that comes with meirl, and its environment; its ``card.yaml`` in `AGENTS` says what it is.

    Changes are those of `load_policy`. A ValueError if there is no such agent.
    """
    folder = AGENTS / f"{env}-{algo}"
    if not (folder / "policy.pt").exists():
        there = sorted(path.parent.name for path in AGENTS.glob("*/policy.pt"))
        raise ValueError(f"no agent {algo!r} for {env!r} comes with meirl: there are {', '.join(there) or 'none'}")
    return load_policy(folder, env, **changes)
