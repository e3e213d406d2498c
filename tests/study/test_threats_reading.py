"""Estimates for reading: tables name their value, texts have the interval."""

import pandas as pd

from meirl_study.threats import reading

ROWS = pd.MultiIndex.from_tuples([("x", "PPO"), ("y", "A3C")])
ESTIMATES = pd.DataFrame({"value": [1.24, -2], "low": [1, -3.0], "high": [2, -1.0], "other": [0.5, 0.25]}, ROWS)


def test_a_table_has_an_estimate_and_its_interval_in_one_column():
    table = reading.table(ESTIMATES, "extra %", "+.1f", {"other": ".0%"})
    assert list(table) == ["extra %", "other"]
    assert table.loc["x", "PPO"].tolist() == ["+1.2 (+1.0 to +2.0)", "50%"]
    assert list(reading.table(ESTIMATES, "extra %", "+.1f")) == ["extra %"]


def test_texts_are_named_after_their_rows():
    texts = reading.texts(ESTIMATES, "{1} on {0}", "+.1f", " %")
    assert texts == {"PPO on x": "+1.2 % (+1.0 to +2.0)", "A3C on y": "-2.0 % (-3.0 to -1.0)"}
    flat = ESTIMATES.droplevel(1).add_prefix("gap_").rename(columns={"gap_value": "gap"})
    assert reading.texts(flat, "gap-{}", ".0f", name="gap") == {"gap-x": "1 (1 to 2)", "gap-y": "-2 (-3 to -1)"}
