"""The environments: two chains, each stationary and non-stationary, all parameters in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError

from .base import OBSERVATION_SETS, Costs, Env, Flows, Observation, ObservationSet, Parameters, Transition
from .divergent import DivergentEnv, DivergentParameters, DivergentState
from .meis import MeisEnv, MeisParameters, MeisState
from .scenario import Exogenous, Scenario

__all__ = [
    "CHAINS", "NAMES", "OBSERVATION_SETS", "Costs", "DivergentEnv", "DivergentParameters", "DivergentState", "Env",
    "Exogenous", "Flows", "MeisEnv", "MeisParameters", "MeisState", "Observation", "ObservationSet", "Parameters",
    "Scenario", "Transition", "load_yaml", "make", "validated",
]  # fmt: skip

CHAINS: dict[str, tuple[type[Env], type[Parameters]]] = {
    "divergent": (DivergentEnv, DivergentParameters),
    "meis": (MeisEnv, MeisParameters),
}
NAMES = ("divergent-stationary", "divergent-nonstationary", "meis-stationary", "meis-nonstationary")


def make(
    name: str | Path,
    *,
    observation: ObservationSet = "full",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Env:
    """Make an environment.

    Args:
        name: one of `NAMES`, or the path of a YAML file of your own.
        observation: what `Observation.vector` shows: ``published`` or ``full`` (adds the backlog by age, the pipeline
            by due date and the calendar).
        device: where states and scenarios live.
        dtype: their floating type; float32 is for training, float64 for exact comparisons.
        **changes: parameters to change, by key; a mapping changes only the keys it names, for example
            ``make("divergent-nonstationary", demand={"shock": None})``.

    Returns:
        The environment.

    Raises:
        ValueError: if the name is unknown, or a parameter is unknown, of the wrong type or impossible. The message
            names the file, the key and what was expected.
    """
    path = Path(name)
    if str(name) in NAMES:
        path = Path(__file__).parent / f"{name}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"unknown environment {str(name)!r}: expected one of {', '.join(NAMES)}, or a YAML file")
    values = _merged(load_yaml(path), changes)
    chain = values.get("chain")
    if chain not in CHAINS:
        raise ValueError(f"{path.name}: chain: expected one of {', '.join(CHAINS)}, got {chain!r}")
    kind, parameters = CHAINS[chain]
    return kind(str(name), validated(parameters, values, path.name), observation, device, dtype)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ValueError: if it is missing, unreadable or no mapping; the message names the file.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of keys to values, got {type(values).__name__}")
    return values


def validated(model: type, values: Mapping[str, Any], source: str) -> Any:
    """Build a pydantic model; every error names the source, the key, what was expected and what was there.

    Raises:
        ValueError: one line for each error.
    """
    try:
        return model(**values)
    except ValidationError as error:
        lines = []
        for e in error.errors():
            key = ".".join(str(part) for part in e["loc"]) or "(whole file)"
            message = "unknown key" if e["type"] == "extra_forbidden" else e["msg"]
            lines.append(f"{source}: {key}: {message}, got {e['input']!r}")
        raise ValueError("\n".join(lines)) from None


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Copy of ``base`` with ``changes`` laid over it, mapping by mapping."""
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged
