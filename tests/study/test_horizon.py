"""The toy of chapter 4: an episode in which nothing that an agent does matters."""

import numpy as np
import pytest

from meirl import make
from meirl.learn import preset
from meirl_study import horizon

CONFIG = preset("ppo", "tuned", "meis-stationary")
CASES = horizon.cases(CONFIG.discount)


@pytest.mark.parametrize("name", CASES)
def test_with_an_exact_critic_all_but_one_find_no_action_better_than_another(name):
    advantage = horizon.advantages(CASES[name], CONFIG)
    assert advantage.shape == (horizon.PERIODS,)
    if name == horizon.WRONG:  # the value of all that would follow, less the last cost, is taken for merit
        assert advantage[-1] == pytest.approx(CONFIG.discount / (1 - CONFIG.discount))
        assert (np.diff(advantage) > 0).all()
    else:
        assert np.abs(advantage).max() < 1e-9


def test_an_exact_value_is_what_follows():
    _, until_end, terminal = CASES["time left seen, the end"]
    assert terminal
    assert until_end[-3:] == pytest.approx([-1 - CONFIG.discount, -1, 0])
    _, forever, terminal = CASES["time left unseen, truncation"]
    assert not terminal
    assert forever[0] == forever[-1] == pytest.approx(-1 - CONFIG.discount * 1 / (1 - CONFIG.discount))


def test_the_clock_is_the_one_that_the_agents_see():
    env = make("meis-stationary", horizon=horizon.PERIODS)
    for period in (0, 60, horizon.PERIODS):
        seen = env.observe(env.reset(1), period).named()
        assert horizon.CLOCK[period, 1:] == pytest.approx([float(seen[name]) for name in env.legend()[-2:]], rel=1e-5)


def test_a_clock_without_an_end_lets_the_critic_drift():
    errors = {
        name: horizon.errors(case, CONFIG, rounds=120, repeats=50)
        for name, case in CASES.items()
        if name != horizon.WRONG
    }
    unseen, end, drifting = errors.values()
    assert max(unseen[-1], end[-1]) < 1.5  # of the order of the noise, a third
    assert drifting[-1] > 4 * max(unseen[-1], end[-1])
    assert drifting[-1] > 1.5 * drifting[40]  # it does not come back
    assert end[-1] < 1.5 * end[40]
    again = horizon.errors(CASES["time left seen, the end"], CONFIG, rounds=120, repeats=50)
    assert np.array_equal(again, end)
