"""Rules tuned for other costs of shortage, at their true cost."""

import pytest

from meirl.envs import make
from meirl_study import frontier


def test_only_costs_of_shortage_are_multiplied():
    for name, costs in {
        "divergent-nonstationary": {"backorder_cost": 38, "lost_sale_cost": 10},
        "meis-nonstationary": {"shortage_cost": 4, "withdrawal_cost": 6},
    }.items():
        changed = frontier.shortage(make(name).parameters.model_dump(), 2)
        assert changed == pytest.approx(costs)
        assert make(name, **changed).parameters.holding_cost == make(name).parameters.holding_cost
    each = frontier.shortage({"backorder_cost": (1.0, 2.0), "holding_cost": 1.0}, 3)
    assert each == {"backorder_cost": (3.0, 6.0)}


def test_a_rule_tuned_for_dearer_shortage_serves_more_and_is_kept(tmp_path):
    options = {"episodes": 6, "generations": 6, "candidates": 2, "finalists": 2, "widen": False}
    cheap, dear = (frontier.retuned("meis-nonstationary", f, options, tmp_path, 20) for f in (0.05, 20.0))
    assert cheap["fill_rate"] < dear["fill_rate"]
    kept = sorted(path.name for path in tmp_path.rglob("*.yaml"))
    assert len(kept) == 2
    assert frontier.retuned("meis-nonstationary", 20.0, {}, tmp_path, 20) == dear  # read, not searched again


def test_the_committed_rule_is_on_the_frontier(tmp_path):
    assert 0.6 < frontier.retuned("meis-nonstationary", 1.0, {}, tmp_path, 20)["fill_rate"] < 0.95
    assert not list(tmp_path.rglob("*.yaml"))
