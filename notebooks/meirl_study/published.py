"""What the published study reports, for comparison: github.com/singhdivyank/multi-echelon-rl-inventory.

Costs are means over test episodes, ``std`` their standard deviation over episodes; MEIS in units of 10,000. One seed.
"""

import math

import pandas as pd
import torch

from meirl.envs import Env
from meirl.heuristics.divergent import Position, base_stock
from meirl.rollout import Policy

RESULTS = pd.DataFrame(
    {
        "divergent-stationary": ("PPO", 100, 2_600_979.87, 29_021.34, 4_112_775.56, 8_759.19, 36.76, None, None),
        "divergent-nonstationary": ("PPO", 100, 631_129.99, 1_011_936.85, 10_873_502.07, 62_357.06, 94.20, None, None),
        "meis-stationary": ("A3C", 1000, 1_930.24, 4.02, 1_962.40, 52.39, 1.64, 0.9569, 0.9544),
        "meis-nonstationary": ("A3C", 1000, 2_881.98, 146.46, 2_366.29, 157.67, -21.79, 0.9327, 0.9411),
    },
    index=[
        "agent", "episodes", "agent_cost", "agent_std", "baseline_cost", "baseline_std", "claimed_percent",
        "agent_service_level", "baseline_service_level",
    ],
).T  # fmt: skip
"""One row an environment. ``claimed_percent``: by how much the agent is said to be cheaper than the baseline."""

S_BIG_S_BOX = {"middle": ((5_000, 20_000), (10_000, 30_000)), "leaf": ((2_000, 10_000), (4_000, 15_000))}
"""Search box of the published (s, S) tuner: ranges of the reorder point and of the order-up-to level, in units."""


def base_stock_levels(env: Env) -> torch.Tensor:
    """The study's formula, never tuned: expected demand plus safety stock over a lead time, ``(N,)`` units.

    Equation :eq:`eq-published-levels` of the book. With a season it takes peak demand and the noise's standard
    deviation, else mean demand d and sqrt(d).
    """
    p = env.parameters
    season, lead = p.demand.season, p.lead_time.mean
    demand = p.demand.mean * (1 + (season.amplitude if season else 0))
    deviation = p.demand.noise.standard_deviation if season else math.sqrt(demand)
    safety = 1.65 * deviation * math.sqrt(lead)
    return env.tensor([demand * lead + safety] + [0.5 * demand * lead + 0.8 * safety] * env.retailers)


def repairs(env: Env) -> dict[str, Policy]:
    """The published base stock repaired step by step, all at the published levels (the last: their echelon sums)."""
    levels = base_stock_levels(env)
    echelon = torch.cat([levels.sum()[None], levels[1:]])
    steps: dict[str, tuple[Position, torch.Tensor]] = {
        "as published": ("misread", levels),
        "state read correctly": ("on hand", levels),
        "inventory position": ("with outstanding", levels),
        "without the outstanding order": ("without outstanding", levels),
        "echelon position at the warehouse": ("echelon", echelon),
    }
    return {step: base_stock(step, "", position).policy(env, level) for step, (position, level) in steps.items()}
