"""Estimates for reading: in a table, and in the text."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from .. import exhibits
from ..chapter import shown


def table(estimates: pd.DataFrame, value: str, form: str, others: Mapping[str, str] | None = None) -> pd.DataFrame:
    """A table for reading, with a name for its value.

    Args:
        estimates: columns ``value``, ``low``, ``high``, and others.
        value: name of the value.
        form: format of these three.
        others: formats of other columns.

    Returns:
        The table of `meirl_study.exhibits.table`.
    """
    formats = dict.fromkeys([value, "low", "high"], form) | dict(others or {})
    return exhibits.table(estimates.rename(columns={"value": value}), formats)


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
