"""Everything plays, trains and loads on the accelerators of this machine, with the same results as on its CPU."""

import pandas as pd
import pytest
import torch

import meirl
from meirl import heuristics
from meirl.heuristics import RULES, levels_file, tuning
from meirl.learn import find_learner, load_policy, ppo, preset

DEVICES = [name for name, module in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if module.is_available()]
EVERY = (*meirl.NAMES, *meirl.CONTROLS)
pytestmark = pytest.mark.skipif(not DEVICES, reason="this machine has no accelerator that PyTorch can use")


@pytest.fixture(params=DEVICES or ["none"])
def device(request) -> str:
    return request.param


def exact(device: str) -> torch.dtype:
    """The highest precision of a device: the fewer decisions turn on how it rounds."""
    return torch.float32 if device == "mps" else torch.float64


def assert_alike(got: pd.Series, expected: pd.Series, what: str) -> None:
    """Most episodes cost the same; in some two orders are equal but for rounding, and another retailer comes first."""
    assert ((got / expected - 1).abs() < 1e-4).mean() >= 0.5, what
    assert got.mean() == pytest.approx(expected.mean(), rel=0.02), what


@pytest.mark.parametrize("name", EVERY)
def test_every_rule_costs_the_same_on_every_device(name, device):
    env = meirl.make(name, dtype=torch.float64)
    there = meirl.make(name, device=device, dtype=exact(device))
    scenario, moved = env.sample(64, 5), there.sample(64, 5)
    committed = sorted(path.stem for path in levels_file(env, "any").parent.glob("*.yaml"))
    assert committed
    for rule in ("never-order", *committed):
        expected = meirl.rollout(env, heuristics.load(env, rule), scenario)
        assert_alike(meirl.rollout(there, heuristics.load(there, rule), moved)["cost"], expected["cost"], rule)


@pytest.mark.parametrize("algo", ["ppo", "a3c"])
def test_every_agent_that_comes_with_meirl_costs_the_same_on_every_device(name, algo, device):
    policy, env = meirl.load(algo, name, dtype=torch.float64)
    moved, there = meirl.load(algo, name, device=device, dtype=exact(device))
    expected, got = (meirl.rollout(e, p, e.sample(64, 5))["cost"] for e, p in ((env, policy), (there, moved)))
    assert_alike(got, expected, algo)


@pytest.mark.parametrize("name", ["divergent-nonstationary", "meis-nonstationary", "two-echelon"])
def test_ppo_trains_stops_and_goes_on_and_its_policy_loads_on_the_cpu(name, device, tmp_path, monkeypatch):
    env = meirl.make(name, device=device)
    changes = {"environments": 8, "copies": 2, "evaluations": 2, "validation_episodes": 8, "minibatch": 64}
    config = preset("ppo", "tuned", name, **changes, steps=2 * 8 * env.horizon)
    learner = find_learner("ppo")
    whole = learner.train(env, config, 0, tmp_path / "whole", progress=False)
    assert whole.history[-1]["steps"] >= config.steps

    updates = 0

    def update_until_killed(*arguments):
        nonlocal updates
        updates += 1
        if updates == 2:
            raise KeyboardInterrupt
        return update(*arguments)

    update = ppo.update
    monkeypatch.setattr(ppo, "update", update_until_killed)
    with pytest.raises(KeyboardInterrupt):
        learner.train(env, config, 0, tmp_path / "stopped", progress=False)
    monkeypatch.undo()
    resumed = learner.train(env, config, 0, tmp_path / "stopped", resume=True, progress=False)
    assert [row["steps"] for row in resumed.history] == [row["steps"] for row in whole.history]
    for key, weights in whole.best.items():
        torch.testing.assert_close(resumed.best[key], weights, rtol=1e-3, atol=1e-5)

    policy, here = load_policy(tmp_path / "whole")
    assert here.device.type == "cpu"
    observation = here.observe(here.reset(3), 0)
    there = whole.policy(env.observe(env.reset(3), 0)).cpu()
    torch.testing.assert_close(policy(observation), there, rtol=1e-3, atol=1e-4)


def test_a_search_finds_the_same_levels(device):
    found = []
    for where in ("cpu", device):
        env = meirl.make("meis-stationary", device=where, dtype=exact(device))
        options = {"episodes": 4, "generations": 2, "candidates": 2, "widen": False, "progress": False}
        found.append(tuning.tune(env, RULES["s-S"], seed=0, **options).tuned.levels)
    assert found[1] == pytest.approx(found[0], rel=1e-6)
