"""Replay a recorded trace: prove that an environment equals another implementation, step by step."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from .envs import Env, Exogenous, Scenario

# The reference moves a delayed leaf order to the end of its list, so after a leaf's first delay its "oldest order"
# columns of the observation mean something else. They are compared until then.
OLDEST = (1, 2)  # columns of a node's four that describe its oldest order


def replay(env: Env, path: Path) -> dict[str, float]:
    """Play a recorded trace again and return the largest absolute error of every recorded field.

    Args:
        env: the environment, in float64 and with the ``published`` observation.
        path: an ``.npz`` file with ``orders`` or ``actions``, the ``exo_*`` draws and what was recorded after each
            period.

    Returns:
        Largest absolute error by field; 0 is a perfect match.

    Raises:
        ValueError: if the file is no trace of this chain; the message names the file and the field.
    """
    try:
        data = np.load(path)
        if not isinstance(data, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with data:
            trace = {key: np.asarray(data[key], dtype=np.float64) for key in data.files}
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read as an .npz trace: {error}") from error
    played = _play(env, trace, path)
    unknown = [
        key for key in trace if key not in played and not key.startswith("exo_") and key not in ("orders", "actions")
    ]
    if unknown:
        raise ValueError(f"{path}: nothing to compare the field {unknown[0]!r} with; known: {', '.join(played)}")
    errors = {}
    for key, ours in played.items():
        theirs = _field(trace, key, ours.shape, path)
        difference = np.abs(ours - theirs)
        if key.endswith("observation"):  # recorded in float32: half a step of it is rounding, not error
            difference = np.maximum(0, difference - np.spacing(theirs.astype(np.float32)) / 2)
        if key == "observation" and env.chain == "meis":
            difference = np.where(_comparable(env, trace, difference.shape), difference, 0.0)
        errors[key] = float(difference.max())
    return errors


def _field(trace: dict[str, np.ndarray], key: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """A field of the trace, checked for presence, shape and NaN."""
    if key not in trace:
        raise ValueError(f"{path}: the trace lacks the field {key!r}; it has {', '.join(sorted(trace))}")
    if trace[key].shape != shape:
        raise ValueError(f"{path}: the field {key!r} should have shape {shape}, got {trace[key].shape}")
    if np.isnan(trace[key]).any():
        raise ValueError(f"{path}: the field {key!r} has NaN")
    return trace[key]


def _scenario(env: Env, trace: dict[str, np.ndarray], periods: int, path: Path) -> Scenario:
    """The recorded draws as a scenario of one episode."""
    outbound = "exo_warehouse_capacity" if env.chain == "divergent" else "exo_middle_capacity"
    demand = _field(trace, "exo_demand", (periods, env.retailers), path)
    lead_time = _field(trace, "exo_lead_time", (periods, env.nodes), path)
    if env.chain == "divergent":
        direct = _field(trace, "exo_warehouse_demand", (periods,), path)
        supply = _field(trace, "exo_supplier_capacity", (periods,), path)
    else:
        direct, supply = np.zeros(periods), np.full(periods, np.inf)
    longest = env.parameters.lead_time.high
    if lead_time.min() < 1 or lead_time.max() > longest or (lead_time % 1).any():
        raise ValueError(f"{path}: exo_lead_time must be whole numbers from 1 to {longest} (lead_time.high)")
    fields = (demand, direct, supply, _field(trace, outbound, (periods,), path), lead_time, np.ones(periods))
    return Scenario(*(torch.from_numpy(field)[None] for field in fields)).to(env.device, env.dtype)


def _play(env: Env, trace: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Our side of every recorded field."""
    given = "orders" if env.chain == "divergent" else "actions"
    if given not in trace:
        raise ValueError(f"{path}: the trace lacks the field {given!r}; it has {', '.join(sorted(trace))}")
    periods = len(np.atleast_1d(trace[given]))
    _field(trace, given, (periods, env.nodes) if given == "orders" else (periods,), path)
    if given == "actions" and (trace[given] % 1).any():
        raise ValueError(f"{path}: actions must be whole numbers")
    decided = torch.from_numpy(trace[given])
    orders = decided.to(env.dtype) if given == "orders" else env.orders(decided.long())
    state = env.reset(1)
    record: dict[str, list[np.ndarray]] = {}
    first = _unscaled(env, state, 0)
    for t, exogenous in enumerate(_scenario(env, trace, periods, path).periods()):
        state, costs, flows = env.step(state, orders[t : t + 1], exogenous)
        for key, value in _recorded(env, state, costs, flows, exogenous, t).items():
            record.setdefault(key, []).append(value)
    return {"reset_observation": first, **{key: np.stack(values) for key, values in record.items()}}


def _recorded(env: Env, state, costs, flows, exogenous: Exogenous, t: int) -> dict[str, np.ndarray]:
    """One period's values under the names of the trace."""
    if env.chain == "divergent":
        on_the_way = state.in_transit.sum(1)
        values = {
            "cost": costs.total, "on_hand_warehouse": state.on_hand[:, 0], "on_hand_retailer": state.on_hand[:, 1:],
            "backorder": state.backorder, "in_transit_warehouse": on_the_way[:, 0],
            "in_transit_retailer": on_the_way[:, 1:], "outstanding_warehouse": state.outstanding[:, 0],
            "outstanding_retailer": state.outstanding[:, 1:], "lost_sales": flows.lost.sum(1),
        }  # fmt: skip
    else:
        # The published "service level": the share of all demand so far that is not waiting now.
        so_far = env.parameters.demand.mean * env.retailers * (t + 1)
        values = {
            "cost": costs.total, "holding": costs.holding, "shortage": costs.shortage, "reordering": costs.ordering,
            "pipeline": costs.pipeline, "lost_sales": costs.lost_sales, "on_hand": state.on_hand,
            "on_order": state.on_order.sum(1), "backlog": flows.backlog,
            "reference_service_level": 1 - flows.backlog.sum(1) / so_far,
        }  # fmt: skip
    return {key: value[0].numpy() for key, value in values.items()} | {"observation": _unscaled(env, state, t + 1)}


def _unscaled(env: Env, state, period: int) -> np.ndarray:
    """The published observation as the reference returns it: MEIS in units, the network divides."""
    return env.observe(state, period).vector()[0].numpy() * (1 if env.chain == "divergent" else 10_000)


def _comparable(env: Env, trace: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Which entries of a MEIS observation are comparable: all, but a delayed leaf's oldest order."""
    mask = np.ones(shape, dtype=bool)
    orders = env.orders(torch.from_numpy(trace["actions"]).long())
    scenario_lead = trace["exo_lead_time"].astype(int)
    due = np.zeros((len(orders) + env.parameters.lead_time.high + 1, env.nodes))
    for t, node in zip(*np.nonzero(orders.numpy()), strict=True):
        due[t + scenario_lead[t, node], node] += orders[t, node].item()
    placed = orders.numpy().cumsum(0)
    delivered = placed - trace["on_order"]
    for node in range(1, env.nodes):
        late = due.cumsum(0)[: len(orders), node] - delivered[:, node] > 1e-6
        if late.any():
            mask[late.argmax() :, [4 * node + column for column in OLDEST]] = False
    return mask
