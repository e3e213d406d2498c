"""Sparse linear programs over time: a small language of stocks and flows, solved by HiGHS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

Array = np.ndarray
SECONDS, GAP = 5, 0.01  # a program with whole numbers is searched so long, or until its bound is so close to a plan
Term = tuple[Array, Any]
"""Indices of variables, and the factor of each; the two broadcast together."""


class Program:
    """A sparse linear program that grows by blocks: minimise ``cost @ x`` within bounds of variables and of rows.

    Variables are known by their indices, arrays of any shape; a *term* is such an array and a factor, and rows are sums
    of terms, element by element. Axis 0 of a stock or a flow is time.

    Example, two periods: 5 units in stock, 3 asked for in each, more can be bought at a price of 1 and kept at 0.1:

    >>> lp = Program()
    >>> bought = lp.add(2, high=4, cost=1)
    >>> stock = lp.stock(5, [(bought, 1)], (2,), cost=0.1, known=[-3, -3])
    >>> round(lp.solve(), 6)  # the one missing unit in period 1; 2 units are kept in period 0
    1.2
    """

    def __init__(self) -> None:
        self._variables: list[tuple[Array, ...]] = []  # lowest, highest value, cost, whether whole
        self._rows: list[tuple[Array, ...]] = []  # lowest and highest value
        self._entries: list[tuple[Array, ...]] = []  # row, variable, factor
        self._width = self._height = 0

    def add(self, *shape: int, low: Any = 0.0, high: Any = np.inf, cost: Any = 0.0, whole: bool = False) -> Array:
        """Add variables.

        Args:
            *shape: of the array of variables.
            low: smallest value; broadcasts to the shape, as the next two do.
            high: largest value.
            cost: of a unit.
            whole: whether they are whole numbers.

        Returns:
            Their indices, an array of that shape.
        """
        columns = (low, high, cost, whole)
        self._variables.append(tuple(np.broadcast_to(v, shape).ravel().astype(float) for v in columns))
        first, self._width = self._width, self._width + int(np.prod(shape))
        return np.arange(first, self._width).reshape(shape)

    def require(self, terms: Sequence[Term], low: Any = -np.inf, high: Any = np.inf) -> None:
        """Require ``low <= sum of variable * factor <= high``, element by element of the terms' broadcast shape.

        Args:
            terms: indices and factors to sum up.
            low: smallest sum; broadcasts to the shape.
            high: largest sum; equal to ``low`` for an equation.
        """
        shape = np.broadcast_shapes(*(np.shape(part) for term in terms for part in term))
        first, self._height = self._height, self._height + int(np.prod(shape))
        rows = np.arange(first, self._height).reshape(shape)
        for index, factor in terms:
            self._entries.append(tuple(np.broadcast_to(part, shape).ravel() for part in (rows, index, factor)))
        self._rows.append(tuple(np.broadcast_to(side, shape).ravel() for side in (low, high)))

    def stock(self, start: Any, moves: Sequence[Term], shape: tuple[int, ...], cost: Any, known: Any = 0) -> Array:
        """Add a stock: at the end of a period it is what it was before, and the moves, and the known changes.

        Args:
            start: before period 0.
            moves: flows, factor 1 if they come in and -1 if they go out.
            shape: ``(T,)``, or ``(T, nodes)``.
            cost: of a unit for a period.
            known: change that no variable decides, such as demand; broadcasts to the shape.

        Returns:
            Indices of the levels at the end of each period.
        """
        level = self.add(*shape, cost=cost)
        self.require([(level, 1), (self.before(level, start), -1), *((i, -f) for i, f in moves)], known, known)
        return level

    def before(self, level: Array, start: Any) -> Array:
        """Levels at the end of the period before.

        Args:
            level: indices of a stock, ``(T, ...)``.
            start: its level before period 0.

        Returns:
            Indices of the same shape.
        """
        first = self.add(1, *level.shape[1:], low=start, high=start)
        return np.concatenate([first, level[:-1]])

    def arrivals(self, sent: Array, lead_time: Array) -> Array:
        """Add what arrives of what was sent; what is due after the last period does not.

        Args:
            sent: indices of what leaves in each period, ``(T, nodes)``.
            lead_time: periods until it arrives, of the same shape.

        Returns:
            Indices of what arrives in each period, of the same shape.
        """
        arrived = self.add(*sent.shape)
        due = np.arange(len(sent))[:, None] + lead_time
        node = np.broadcast_to(np.arange(sent.shape[1]), sent.shape)
        inside = due < len(sent)
        row = self._height + due[inside] * sent.shape[1] + node[inside]
        self._entries.append((row, sent[inside], np.full(len(row), -1.0)))
        self.require([(arrived, 1)], 0, 0)
        return arrived

    def solve(self) -> float:
        """The smallest cost; with whole numbers a lower bound on it; see `optimum`."""
        return self.optimum()[0]

    def optimum(self) -> tuple[float, Array]:
        """The smallest cost, as `solve` has it, and the values of all variables there, NaN if only a bound was found.

        With whole numbers it is what is proven in `SECONDS`, or, if that is nothing, the smallest cost with fractions.

        Raises:
            RuntimeError: if the solver does not prove its solution optimal: only then is it a bound.
        """
        row, column, factor = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        matrix = sparse.csr_array((factor.astype(float), (row, column)), shape=(self._height, self._width))
        lowest, highest, cost, whole = (np.concatenate(parts) for parts in zip(*self._variables, strict=True))
        sides = (np.concatenate(parts) for parts in zip(*self._rows, strict=True))
        # `milp`, unlike `linprog`, takes rows that are bounded on both sides.
        limits: dict[str, Any] = {"bounds": Bounds(lowest, highest), "constraints": LinearConstraint(matrix, *sides)}
        if whole.any():
            options: Any = {"time_limit": SECONDS, "mip_rel_gap": GAP}
            result = milp(cost, integrality=whole, options=options, **limits)
            if result.mip_dual_bound is not None and np.isfinite(result.mip_dual_bound):
                return float(result.mip_dual_bound), np.full(self._width, np.nan) if result.x is None else result.x
        # Nothing was proven in time. With fractions for whole numbers it takes as long as it takes, and bounds as well.
        result = milp(cost, **limits)
        if not result.success:
            raise RuntimeError(f"the linear program was not solved: {result.message}")
        return float(result.fun), np.full(self._width, np.nan) if whole.any() else result.x
