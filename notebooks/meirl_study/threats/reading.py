"""Estimates for reading: in a table, and in the text."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from .. import exhibits
from ..chapter import shown


def table(estimates: pd.DataFrame, value: str, form: str, others: Mapping[str, str] | None = None) -> pd.DataFrame:
    """A table for reading: an estimate and its interval in one column, so that it fits the page.

    Args:
        estimates: columns ``value``, ``low``, ``high``, and others.
        value: heading of the estimate.
        form: format of its three numbers.
        others: formats of other columns to show.

    Returns:
        Text.
    """
    ends = estimates[["value", "low", "high"]].to_numpy()
    cells = [shown(value, low, high, form) for value, low, high in ends]
    rest = exhibits.table(estimates, others or {})[list(others or {})]
    return pd.concat([pd.DataFrame({value: cells}, estimates.index), rest], axis=1)


def texts(estimates: pd.DataFrame, key: str, form: str, unit: str = "", name: str = "value") -> dict[str, str]:
    """Every row's estimate for the text, with its interval.

    Args:
        estimates: columns ``value``, ``low``, ``high``, or as `meirl.evaluation.estimate` names them after ``name``.
        key: what the text calls a row's estimate, such as ``{1}-cost-{0}``: a pattern for the parts of its index.
        form: format of the three numbers.
        unit: follows the value.
        name: of the estimate.

    Returns:
        By key, what `meirl_study.chapter.shown` makes of it.
    """
    prefix = "" if name == "value" else f"{name}_"
    rows = estimates[[name, f"{prefix}low", f"{prefix}high"]].itertuples()
    return {
        key.format(*(index if isinstance(index, tuple) else (index,))): shown(value, low, high, form, unit)
        for index, value, low, high in rows
    }
