"""Chapter 1's tables: a few periods as they happen, what nature does, and what an agent gets to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from meirl.envs import NAMES, OBSERVATION_SETS, Env, Scenario, Transition, make

LATE = 5  # periods; a lead time that long is far above any mean


def periods(env: Env, played: Sequence[Transition]) -> pd.DataFrame:
    """Tabulate consecutive periods of one episode, in units rounded down.

    Args:
        env: the environment.
        played: what `Env.step` returned, period by period; the first episode of the batch is shown.

    Returns:
        One row a period; columns ``(quantity, node)``: demand of every retailer, stock on hand and in transit of every
        node, and the cost, whose node is empty.
    """
    nodes = [str(i) for i in range(env.nodes)]
    columns = [
        *(("demand", node) for node in nodes[1:]),
        *(("on hand", node) for node in nodes),
        *(("in transit", node) for node in nodes),
        ("cost", ""),
    ]
    rows = [
        [*flows.demand[0].tolist(), *state.on_hand[0].tolist(), *env.on_order(state)[0].tolist(), costs.total[0].item()]
        for state, costs, flows in played
    ]
    index = pd.RangeIndex(len(rows), name="period")
    return pd.DataFrame(rows, index, pd.MultiIndex.from_tuples(columns)).astype(int)


def stressors(scenarios: Mapping[str, Scenario]) -> pd.DataFrame:
    """Measure what nature does.

    Args:
        scenarios: by environment.

    Returns:
        One row an environment: mean and standard deviation of a retailer's demand (units), correlation of the first
        two retailers, share of periods in a shock, mean lead time (periods), share of lead times of `LATE` or more, and
        share of periods in which retailers ask for more than the warehouse can ship.
    """
    rows = {}
    for name, scenario in scenarios.items():
        draws = {field: values.cpu().numpy() for field, values in scenario._asdict().items()}
        demand, lead = draws["demand"], draws["lead_time"]
        rows[name] = {
            "mean demand per retailer": demand.mean(),
            "standard deviation": demand.std(),
            "correlation of two retailers": np.corrcoef(demand[..., 0].ravel(), demand[..., 1].ravel())[0, 1],
            "periods in a shock": (draws["shock"] > 1).mean(),
            "mean lead time": lead.mean(),
            f"lead time of {LATE} or more": (lead >= LATE).mean(),
            "demand above outbound capacity": (demand.sum(2) > draws["outbound_capacity"]).mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def observation_sets(names: Sequence[str] = NAMES) -> pd.DataFrame:
    """Compare the observation sets.

    Args:
        names: environments.

    Returns:
        One row an environment: how many numbers each set has, and what only the full one tells, without node names and
        due dates.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        legends = {chosen: make(name, observation=chosen).legend() for chosen in OBSERVATION_SETS}  # type: ignore[arg-type]
        added = [entry for entry in legends["full"] if entry not in legends["published"]]
        kinds = dict.fromkeys(entry.split(",")[0].rstrip("0123456789 ") for entry in added)
        rows[name] = {f"{chosen} set": len(legend) for chosen, legend in legends.items()}
        rows[name]["only in the full set"] = ", ".join(kinds)
    return pd.DataFrame(rows).T
