"""The figures of the report on a chain of one's own."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from meirl_study.figures import report


@pytest.mark.parametrize(("periods", "label"), [(10, "week"), (400, "week"), (2_000, "month")])
def test_a_record_is_drawn_with_its_later_part(periods, label):
    dates, units = pd.date_range("2020-01-01", periods=periods), np.ones((periods, 2))
    (ax,) = report.record(dates, units, ("A", "B"), periods // 2).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["A", "B", "judged on"]
    assert label in ax.get_ylabel()
    assert ax.get_ylim()[0] == 0


@pytest.mark.parametrize("freq", ["MS", "ME"])
def test_a_record_of_months_has_a_line_by_month(freq):
    dates, units = pd.date_range("2020-01-01", periods=40, freq=freq), np.ones((40, 2))
    (ax,) = report.record(dates, units, ("A", "B"), 20).axes
    assert "by month" in ax.get_ylabel()
    assert ax.lines[0].get_ydata().tolist() == [1] * 38


def test_parts_are_stacked_and_those_that_nobody_pays_are_left_out():
    parts = pd.DataFrame({"holding": [3.0, 2.0], "lost_sales": [1.0, 0.0], "ordering": [0.0, 0.0]}, ["a", "b"])
    costs = {name: parts.loc[name] for name in parts.index}
    figure = report.parts(costs, "euros", "a period")
    (ax,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["holding", "lost sales"]
    assert ax.patches[2].get_x() == 3
    assert ax.get_xlabel() == "mean cost a period [euros]"


def test_service_is_a_line_with_points():
    curve = pd.DataFrame({"fill rate": [0.8, 0.9], "stock and orders": [10.0, 20.0]})
    before = plt.get_fignums()
    figure = report.service(curve, {"today": (0.85, 30.0)}, "euros", "a period")
    line, point = figure.axes[0].lines
    assert line.get_xdata().tolist() == [80, 90]
    assert point.get_xdata() == [85]
    assert plt.get_fignums() == before, "a notebook shows a figure once"
