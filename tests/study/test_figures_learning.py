"""Learning curves where they come near the rules."""

import pandas as pd
import pytest

from meirl_study import figures

RULES = {"textbook rule": 220.0, "designed rule": 200.0}


def history(best: float) -> pd.DataFrame:
    cost = [3_000.0, 1_500.0, best]
    return pd.DataFrame({"steps": [1e6, 2e6, 3e6], "seconds": [0.0, 10.0, 20.0], "validation_cost": cost})


@pytest.mark.parametrize(
    ("best", "low", "high"), [(190.0, 0.98 * 190, 1.02 * 1_500), (900.0, 0.98 * 200, 1.02 * 1_500)]
)
def test_the_axis_shows_the_rules_and_the_cheaper_half_of_every_run(best, low, high):
    figure = figures.pays({"1 worker": history(200.0), "2 workers": history(best)}, "10,000s", RULES)
    steps, seconds = figure.axes
    assert steps.get_ylim() == pytest.approx((low, high))
    assert seconds.get_ylim() == steps.get_ylim()
    assert steps.lines[1].get_xdata().tolist() == [1, 2, 3]
    assert seconds.lines[1].get_xdata().tolist() == [0, 10, 20]
