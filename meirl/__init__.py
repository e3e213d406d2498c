"""meirl: multi-echelon inventory, reinforcement learning and the heuristics it has to beat."""

from . import heuristics
from .device import pick_device
from .envs import CONTROLS, NAMES, Costs, Env, Flows, Observation, Scenario, make
from .envs.gym import register as _register
from .evaluation import compare, held_out, summarise
from .learn import load
from .rollout import Policy, play, rollout, simulate, trajectory

__version__ = "1.0.0"

__all__ = ["CONTROLS", "NAMES", "Costs", "Env", "Flows", "Observation", "Policy", "Scenario", "compare", "held_out",
           "heuristics", "load", "make", "pick_device", "play", "rollout", "simulate", "summarise",
           "trajectory"]  # fmt: skip

_register()
