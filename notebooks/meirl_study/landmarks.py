"""Numbers that come out the same on every machine, at the end of notebooks whose own numbers do not.

Long training differs from one processor to the next, first in the last digits, then in all of them. What a rule costs
differs in the last digits only; what an agent costs whose weights are given a little more, since an order near a half
is rounded up on one machine and down on another; the first updates of a learner by a little too. All of them are
compared with what is written here.
"""

from __future__ import annotations

import pandas as pd

from meirl import held_out, heuristics, make, rollout
from meirl.envs import NAMES
from meirl.learn import find_learner, load, preset

EPISODES = 20  # test episodes
SCORES = {
    "divergent-stationary": (2_510_905.27, 2_260_260.00, 2_202_478.21, 2_206_098.43),
    "divergent-nonstationary": (442_374.233, 266_086.636, 255_744.981, 291_330.273),
    "meis-stationary": (212.491728, 204.222689, 193.950771, 196.576361),
    "meis-nonstationary": (763.913168, 673.394920, 532.595818, 533.674403),
}
"""What `scores` measured on one machine, by environment: its columns."""
NEAR = {"textbook": 1e-6, "best": 1e-6, "ppo": 0.005, "a3c": 0.005}  # share by which machines may differ
SHORT = {"environments": 32, "copies": 4, "evaluations": 1, "validation_episodes": 20}
ROUNDS, TOLERANCE = 2, 0.02  # rounds of episodes that `updates` trains for; share by which machines may differ
KEYS = ("training_cost", "validation_cost", "entropy", "value_loss")
UPDATES = {
    "ppo": {
        "divergent-stationary": (2.76274e06, 2.73798e06, 5.32575, 2.95063),
        "divergent-nonstationary": (651_430, 623_214, 2.17575, 2.87424),
        "meis-stationary": (2_394.84, 3_083.41, 2.54066, 8.06136),
        "meis-nonstationary": (2_292.99, 2_838.18, 2.54614, 4.20898),
    },
    "a3c": {
        "divergent-stationary": (3.02517e06, 2.84707e06, 5.17575, 237.069),
        "divergent-nonstationary": (819_226, 696_198, 4.17575, 11.4239),
        "meis-stationary": (2_475.07, 3_292.18, 2.55878, 75.1937),
        "meis-nonstationary": (2_356.89, 1_224.33, 2.55263, 166.26),
    },
}
"""What `updates` gave where the book was made, by learner and environment: its `KEYS`."""


def scores() -> pd.DataFrame:
    """Mean cost of both tuned rules and of the shipped agents on the first test episodes, as text.

    Returns:
        One row an environment, one column a policy: three digits of what is written in `SCORES` if this machine comes
        `NEAR` it, so that all machines show the same; else nine digits of what it found.
    """
    rows = {}
    for name in NAMES:
        env = make(name)
        policies = {rule: heuristics.load(env, rule) for rule in ("textbook", "best")}
        policies |= {algo: load(algo, name)[0] for algo in UPDATES}
        test = held_out(env, "test", EPISODES)
        rows[name] = {key: rollout(env, policy, test)["cost"].mean() for key, policy in policies.items()}
    found = pd.DataFrame(rows).T
    expected = pd.DataFrame(SCORES, index=list(found)).T
    near = (found - expected).abs() <= expected * pd.Series(NEAR)
    return expected.map("{:.3g}".format).where(near, found.map("{:.9g}".format))


def updates(algo: str, name: str) -> pd.DataFrame:
    """Train for some rounds with the tuned preset, on the CPU, in one process.

    Returns:
        One row each of `KEYS`: ``found`` here, ``expected`` of `UPDATES`.
    """
    env = make(name)
    workers = {"workers": 1} if algo == "a3c" else {}
    steps = ROUNDS * SHORT["environments"] * env.horizon
    config = preset(algo, "tuned", name, steps=steps, **SHORT, **workers)
    last = find_learner(algo).train(env, config, 0, progress=False).history[-1]
    found = [last[key] for key in KEYS]
    return pd.DataFrame({"found": found, "expected": UPDATES[algo][name]}, index=list(KEYS))


def agree(table: pd.DataFrame) -> bool:
    """Whether all that `updates` found is within `TOLERANCE` of what was expected."""
    return bool(((table["found"] - table["expected"]).abs() <= TOLERANCE * table["expected"].abs()).all())
