"""The published study, of which this book re-examines the numbers: what it reports, what it says about itself.

One repository, github.com/singhdivyank/multi-echelon-rl-inventory, at one commit. Costs are means over test episodes,
``std`` their standard deviation over episodes; MEIS in units of 10,000. One seed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from meirl.envs import Env
from meirl.heuristics.divergent import Position, base_stock
from meirl.rollout import Policy

REPOSITORY = "https://github.com/singhdivyank/multi-echelon-rl-inventory"
COMMIT, DATE = "7e4834cccb56d68be6417c3dae79b8b12e350352", "22 April 2026"
"""The commit of the study whose numbers these are, and its day."""
SEED, WORST_EPISODE = 42, 10_265_917.24
"""The study's one training seed; the cost of the worst of its PPO's 100 episodes on divergent-nonstationary."""
REMEASURED = Path(__file__).with_name("published-agents.csv")
"""Every test episode of the study's own agents, played on our simulator; `meirl_study.agents` writes it."""

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

LATER = "38d0b60c1bcc2c9e4c485443f147d14e297c54f1"
LATER_RESULTS = pd.DataFrame(
    {
        "divergent-stationary": (2_595_204.68, 4_112_775.56),
        "divergent-nonstationary": (1_624_941.04, 4_207_665.17),
        "meis-stationary": (2_287.35, 1_962.40),
    },
    index=["agent_cost", "baseline_cost"],
).T
"""What the result files of the repository's later head `LATER`, of 24 April 2026, have: other numbers, three cells."""


class Caveat(NamedTuple):
    """Something that the study says about itself, and where."""

    says: str
    file: str
    lines: str  # first and last, as in a link: ``L152-L172``


CAVEATS = (
    Caveat(
        "One of its four cells is a loss, and it says so: on non-stationary MEIS the heuristic wins, "
        '"an honest negative result". So it claims three wins, not four.',
        "docs/report.md", "L144-L172",
    ),
    Caveat(
        'Its base stock is a fixed formula, "deliberately *not* re-tuned"; against one that is tuned, PPO\'s margin '
        '"would shrink substantially".',
        "docs/paper.tex", "L492-L497",
    ),
    Caveat(
        'The two baselines "are *not* directly comparable": (s, S) was tuned for each environment, base stock for '
        "none.",
        "docs/report.md", "L174-L187",
    ),
    Caveat(
        "All is from a single seed; standard deviations are over test episodes, and point estimates "
        '"could shift by several percent with a new seed".',
        "docs/report.md", "L190-L196",
    ),
    Caveat(
        "PPO's mean cost on the non-stationary divergent chain hides a tail: it is \"an optimistic summary\".",
        "docs/report.md", "L139-L142",
    ),
    Caveat(
        "How hard the second environments are was chosen, so that they break the formula.",
        "docs/report.md", "L205-L208",
    ),
    Caveat(
        "Hyperparameters were set on the first environments and kept; the (s, S) of the second was tuned there.",
        "docs/report.md", "L165-L168",
    ),
)  # fmt: skip
"""What the study says about itself at `COMMIT`."""

S_BIG_S_BOX = {"middle": ((5_000, 20_000), (10_000, 30_000)), "leaf": ((2_000, 10_000), (4_000, 15_000))}
"""Search box of the published (s, S) tuner: ranges of the reorder point and of the order-up-to level, in units."""


def base_stock_levels(env: Env) -> torch.Tensor:
    """The study's formula, never tuned: expected demand plus safety stock over a lead time, ``(N,)`` units.

    Equation :eq:`eq-published-levels` of the book. With a season it takes peak demand and the noise's standard
    deviation, else mean demand d and sqrt(d).
    """
    p = env.parameters
    season, lead = p.demand.season, float(np.mean(p.lead_time.mean))
    demand = p.demand.average * (1 + (season.amplitude if season else 0))
    deviation = float(np.mean(p.demand.noise.standard_deviation)) if season else math.sqrt(demand)
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


def permalink(file: str, lines: str = "", text: str = "") -> str:
    """A Markdown link to a file of the study as it was at `COMMIT`.

    Args:
        file: path in the repository.
        lines: to point at, for example ``L12-L20``.
        text: of the link; the file's path if not given.
    """
    plain = "?plain=1" if file.endswith(".md") else ""  # else GitHub renders it, and lines have no numbers
    anchor = f"{plain}#{lines}" if lines else ""
    return f"[{text or f'`{file}`'}]({REPOSITORY}/blob/{COMMIT}/{file}{anchor})"


def caveats() -> str:
    """What the study says about itself, as a box: Markdown with the HTML of an admonition around it."""
    says = "\n".join(f"- {caveat.says} ({permalink(caveat.file, caveat.lines)})" for caveat in CAVEATS)
    title = f'<p class="admonition-title">What the study says about itself (commit {COMMIT[:7]}, {DATE})</p>'
    return f'<div class="admonition note">\n{title}\n\n{says}\n\n</div>'


def remeasured(episodes: int | None = None) -> pd.DataFrame:
    """Costs of the study's own agents on our test scenarios, from the committed file `REMEASURED`.

    The weights are the study's and stay there; ``python -m meirl agents`` plays them again from anybody's checkout.

    Args:
        episodes: only so many, the first; None for all.

    Returns:
        One row a test episode, as in `meirl_study.study.run`: ``env``, ``algo`` (``RL agent``), ``preset``, ``seed``,
        ``episode``, ``cost`` in units of ``cost_unit``, ``fill_rate`` and ``published_service_level``. The episodes are
        those that everybody plays, so differences may be paired.
    """
    table = pd.read_csv(REMEASURED, comment="#").assign(algo="RL agent", preset="published", seed=SEED)
    return table if episodes is None else table[table["episode"] < episodes].reset_index(drop=True)
