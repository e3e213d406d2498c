"""The environments, all parameters in YAML: two chains, each stationary and non-stationary; and three controls."""

from pathlib import Path
from typing import Any

import torch

from ..config import load_yaml, merged, validated
from . import recorded
from .base import OBSERVATION_SETS, Costs, Env, Flows, Observation, ObservationSet, Transition
from .divergent import DivergentEnv, DivergentParameters, DivergentState
from .meis import MeisEnv, MeisParameters, MeisState
from .processes import Parameters
from .scenario import Exogenous, Scenario

__all__ = [
    "CHAINS", "CONTROLS", "NAMES", "OBSERVATION_SETS", "Costs", "DivergentEnv", "DivergentParameters", "DivergentState",
    "Env", "Exogenous", "Flows", "MeisEnv", "MeisParameters", "MeisState", "Observation", "ObservationSet",
    "Parameters", "Scenario", "Transition", "make",
]  # fmt: skip

CHAINS: dict[str, tuple[type[Env], type[Parameters]]] = {
    "divergent": (DivergentEnv, DivergentParameters),
    "meis": (MeisEnv, MeisParameters),
}
NAMES = ("divergent-stationary", "divergent-nonstationary", "meis-stationary", "meis-nonstationary")
"""The environments of the study."""
CONTROLS = ("lost-sales", "two-echelon", "kunnumkal-topaloglu")
"""Environments whose optimum is known, or nearly so: what to try a learner on before an open question."""


def make(
    name: str | Path, *, observation: ObservationSet = "full", device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32, **changes: Any,
) -> Env:  # fmt: skip
    """Make an environment.

    Args:
        name: one of `NAMES` or of `CONTROLS`, or the path of a YAML file of your own.
        observation: what `Observation.vector` shows: ``published`` or ``full`` (adds the pipeline by due date, demand
            of the last five periods, the calendar and, on MEIS, the backlog by age).
        device: where states and scenarios live.
        dtype: their floating type; float32 is for training, float64 for exact comparisons.
        **changes: parameters to change, by key; a mapping changes only the keys it names, for example
            ``make("divergent-nonstationary", demand={"shock": None})``.

    Raises:
        ValueError: if the name is unknown, or a parameter is unknown, of the wrong type or impossible. The message
            names the file, the key and what was expected.

    >>> env = make("divergent-stationary", horizon=100)
    >>> env.horizon, env.node_names
    (100, ['warehouse', 'retailer 1', 'retailer 2', 'retailer 3'])
    """
    path = Path(name)
    if str(name) in (*NAMES, *CONTROLS):
        path = Path(__file__).parent / f"{name}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        known = ", ".join((*NAMES, *CONTROLS))
        raise ValueError(f"unknown environment {str(name)!r}: expected one of {known}, or a YAML file")
    values = merged(load_yaml(path), changes)
    chain = values.get("chain")
    if not isinstance(chain, str) or chain not in CHAINS:
        raise ValueError(f"{path.name}: chain: expected one of {', '.join(CHAINS)}, got {chain!r}")
    kind, parameters = CHAINS[chain]
    values = recorded.filled(values, path, parameters.count)
    return kind(str(name), validated(parameters, values, path.name), observation, device, dtype)
