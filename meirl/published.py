"""What the published study reports, for comparison: github.com/singhdivyank/multi-echelon-rl-inventory.

Costs are means over test episodes, ``std`` their standard deviation over episodes; MEIS in units of 10,000. One seed.
"""

from typing import Any

import pandas as pd

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

DEFECTS: dict[str, dict[str, Any]] = {
    "ppo": {"network": {"defect_no_jacobian": True, "defect_double_tanh": True}, "defect_terminal_horizon": True},
    "a3c": {"defect_terminal_horizon": True},
}
"""Switches that give each learner the faults of the published code; the preset ``as-published`` turns them on."""

S_BIG_S_BOX = {"middle": ((5_000, 20_000), (10_000, 30_000)), "leaf": ((2_000, 10_000), (4_000, 15_000))}
"""Search box of the published (s, S) tuner: ranges of the reorder point and of the order-up-to level, in units."""
