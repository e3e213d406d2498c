"""Replay a recorded trace: prove that an environment equals another implementation, step by step.

A trace is an ``.npz`` file of one episode: what was decided (``orders`` or ``actions``), what nature did (``exo_*``),
and what the other implementation reported after every period. What is recorded, and under which name, differs between
the chains: a `Record` says it for each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from meirl import files
from meirl.config import first_line
from meirl.envs import Costs, DivergentEnv, Env, Flows, MeisEnv, Scenario
from meirl.envs.meis import QUANTITY

Array = np.ndarray
OLDEST = (1, 2)  # columns of a node's four in the published MEIS observation that describe its oldest order
ROUNDING = 1e-6  # units; deliveries that differ by less are equal
MOST_BYTES = 100_000_000  # of a trace, unpacked; those of the tests have 400,000


def replay(env: Env, path: Path) -> dict[str, float]:
    """Play a recorded trace again and return the largest absolute error of every recorded field.

    Args:
        env: the environment, in float64 and with the ``published`` observation.
        path: an ``.npz`` file with ``orders`` or ``actions``, the ``exo_*`` draws and what was recorded after each
            period.

    Returns:
        Largest absolute error by field, in the field's unit; 0 is a perfect match.

    Raises:
        ValueError: if the file is no trace of this chain; the message names the file and the field.
    """
    trace = Trace(path)
    kind = next((kind for chain, kind in RECORDS.items() if isinstance(env, chain)), None)
    if kind is None:
        raise ValueError(f"{env.name}: it is not known what a trace of its chain records")
    record = kind(env, trace)
    played = record.play()
    compared = [key for key in trace.fields if not key.startswith("exo_") and key not in ("orders", "actions")]
    if unknown := [key for key in compared if key not in played]:
        raise ValueError(f"{path}: nothing to compare the field {unknown[0]!r} with; known: {', '.join(played)}")
    errors = {}
    for key, ours in played.items():
        theirs = trace.field(key, *ours.shape)
        difference = np.abs(ours - theirs)
        if key.endswith("observation"):  # recorded in float32: half a step of it is rounding, not error
            difference = np.maximum(0, difference - np.spacing(theirs.astype(np.float32)) / 2)
        if key == "observation":
            difference = np.where(record.comparable(difference.shape), difference, 0.0)
        errors[key] = float(difference.max())
    return errors


class Trace:
    """The fields of a recorded trace, each checked when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            files.check_archive(path, MOST_BYTES)
            with np.load(path) as data:
                self.fields = {key: _numbers(key, data[key]) for key in data.files}
        except Exception as error:  # NumPy and zipfile raise many kinds for a damaged file
            raise ValueError(f"{path}: cannot be read as an .npz trace: {first_line(error)}") from error

    def length(self, key: str) -> int:
        """Length of a field that must be there."""
        if key not in self.fields:
            raise ValueError(f"{self.path}: the trace lacks the field {key!r}; it has {', '.join(sorted(self.fields))}")
        length = len(np.atleast_1d(self.fields[key]))
        if not length:
            raise ValueError(f"{self.path}: the field {key!r} is empty")
        return length

    def field(self, key: str, *shape: int) -> Array:
        """A field, checked for presence, shape and NaN."""
        self.length(key)
        value = self.fields[key]
        if value.shape != shape:
            raise ValueError(f"{self.path}: the field {key!r} should have shape {shape}, got {value.shape}")
        if np.isnan(value).any():
            raise ValueError(f"{self.path}: the field {key!r} has NaN")
        return value


def _numbers(key: str, field: Array) -> Array:
    """A field in float64; a ValueError if it holds something else than real numbers."""
    if field.dtype.kind not in "fiub":
        raise ValueError(f"the field {key!r} should hold numbers, got {field.dtype}")
    return field.astype(np.float64)


class Record(ABC):
    """What a trace of one kind of chain records, under which name and in which unit."""

    decisions: ClassVar[str]  # the field of what was decided
    direct_demand: ClassVar[str | None]  # the field of each draw that not all chains have; None: 0, or no limit
    supplier_capacity: ClassVar[str | None]
    outbound_capacity: ClassVar[str]
    observation_unit: ClassVar[float]  # what the reference's observation is divided by for ours

    def __init__(self, env: Env, trace: Trace) -> None:
        self.env, self.trace, self.periods = env, trace, trace.length(self.decisions)

    @abstractmethod
    def orders(self) -> torch.Tensor:
        """The recorded decisions as order quantities, ``(T, N)`` units."""

    @abstractmethod
    def values(self, state: Any, costs: Costs, flows: Flows, period: int) -> dict[str, torch.Tensor]:
        """One period's values under the names of the trace, each with a batch of one."""

    def comparable(self, shape: tuple[int, ...]) -> Array:
        """Which numbers of the observations ``(T, numbers)`` mean the same in both implementations."""
        return np.ones(shape, dtype=bool)

    def play(self) -> dict[str, Array]:
        """Our side of every recorded field, ``(T, ...)``; ``reset_observation`` has no axis of periods."""
        orders, state = self.orders(), self.env.reset(1)
        played: dict[str, list[Array]] = {}
        first = self._observation(state, 0)
        for t, exogenous in enumerate(self._scenario().periods()):
            state, costs, flows = self.env.step(state, orders[t : t + 1], exogenous)
            for key, value in self.values(state, costs, flows, t).items():
                played.setdefault(key, []).append(value[0].numpy())
            played.setdefault("observation", []).append(self._observation(state, t + 1))
        return {"reset_observation": first, **{key: np.stack(values) for key, values in played.items()}}

    def _observation(self, state: Any, period: int) -> Array:
        """The published observation as the reference returns it."""
        return self.env.observe(state, period).vector()[0].numpy() * self.observation_unit

    def _scenario(self) -> Scenario:
        """The recorded draws as a scenario of one episode."""
        env, trace, periods = self.env, self.trace, self.periods
        demand = trace.field("exo_demand", periods, env.retailers)
        lead_time = trace.field("exo_lead_time", periods, env.nodes)
        if demand.min() < 0 or np.isinf(demand).any():
            raise ValueError(f"{trace.path}: exo_demand must be numbers >= 0")
        direct, supply = self._draw(self.direct_demand, 0), self._draw(self.supplier_capacity, np.inf)
        longest = env.parameters.lead_time.high
        if lead_time.min() < 1 or lead_time.max() > longest or (lead_time % 1).any():
            raise ValueError(f"{trace.path}: exo_lead_time must be whole numbers from 1 to {longest} (lead_time.high)")
        outbound = self._draw(self.outbound_capacity, np.inf)
        fields = (demand, direct, supply, outbound, lead_time, np.ones(periods))
        return Scenario(*(torch.from_numpy(field)[None] for field in fields)).to(env.device, env.dtype)

    def _draw(self, key: str | None, otherwise: float) -> Array:
        """A draw of every period, ``(T,)``."""
        return np.full(self.periods, float(otherwise)) if key is None else self.trace.field(key, self.periods)


class DivergentRecord(Record):
    """The divergent chain: orders in units, observations as the network sees them."""

    decisions, observation_unit = "orders", 1
    direct_demand, supplier_capacity = "exo_warehouse_demand", "exo_supplier_capacity"
    outbound_capacity = "exo_warehouse_capacity"

    def orders(self) -> torch.Tensor:
        """The recorded orders."""
        return torch.from_numpy(self.trace.field("orders", self.periods, self.env.nodes)).to(self.env.dtype)

    def values(self, state: Any, costs: Costs, flows: Flows, period: int) -> dict[str, torch.Tensor]:
        """Stocks, orders and backorders, warehouse and retailers apart."""
        in_transit = self.env.on_order(state)
        return {
            "cost": costs.total, "on_hand_warehouse": state.on_hand[:, 0], "on_hand_retailer": state.on_hand[:, 1:],
            "backorder": state.backorder, "in_transit_warehouse": in_transit[:, 0],
            "in_transit_retailer": in_transit[:, 1:], "outstanding_warehouse": state.outstanding[:, 0],
            "outstanding_retailer": state.outstanding[:, 1:], "lost_sales": flows.lost.sum(1),
        }  # fmt: skip


class MeisRecord(Record):
    """MEIS: numbers of options; observations in units, which our network sees divided."""

    decisions, observation_unit = "actions", QUANTITY
    direct_demand, supplier_capacity = None, None  # the middle has no customers, and the factory no limit
    outbound_capacity = "exo_middle_capacity"

    def orders(self) -> torch.Tensor:
        """The quantities of the recorded options."""
        actions = self.trace.field("actions", self.periods)
        if (actions % 1).any():
            raise ValueError(f"{self.trace.path}: actions must be whole numbers")
        return self.env.orders(torch.from_numpy(actions).long())

    def values(self, state: Any, costs: Costs, flows: Flows, period: int) -> dict[str, torch.Tensor]:
        """Cost by part, stocks and backlogs."""
        # The published "service level": the share of all demand so far that is not waiting now, cut at 0.
        so_far = self.env.parameters.demand.average * self.env.retailers * (period + 1)
        return {
            "cost": costs.total, "holding": costs.holding, "shortage": costs.shortage, "reordering": costs.ordering,
            "pipeline": costs.pipeline, "lost_sales": costs.lost_sales, "on_hand": state.on_hand,
            "on_order": self.env.on_order(state), "backlog": flows.backlog,
            "reference_service_level": (1 - flows.backlog.sum(1) / so_far).clamp(min=0),
        }  # fmt: skip

    def comparable(self, shape: tuple[int, ...]) -> Array:
        """All, but a leaf's oldest order after its first delay.

        The reference moves a delayed leaf order to the end of its list, so from then on its "oldest order" columns mean
        something else.
        """
        orders, mask = self.orders().numpy(), np.ones(shape, dtype=bool)
        lead_time = self.trace.fields["exo_lead_time"].astype(int)
        due = np.zeros((len(orders) + self.env.parameters.lead_time.high + 1, self.env.nodes))
        for t, node in zip(*np.nonzero(orders), strict=True):
            due[t + lead_time[t, node], node] += orders[t, node].item()
        delivered = orders.cumsum(0) - self.trace.fields["on_order"]
        for node in range(1, self.env.nodes):
            late = due.cumsum(0)[: len(orders), node] - delivered[:, node] > ROUNDING
            if late.any():
                mask[late.argmax() :, [4 * node + column for column in OLDEST]] = False
        return mask


RECORDS: dict[type[Env], type[Record]] = {DivergentEnv: DivergentRecord, MeisEnv: MeisRecord}
