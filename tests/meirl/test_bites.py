"""What the learners do between a formula and a run: signs, flags and limits that no other test looks at alone."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import meirl
from meirl.envs import Env
from meirl.envs.scenario import FIRST_RESERVED_SEED
from meirl.learn import Run, a3c, ppo
from meirl.learn.config import MOST_SEED, MOST_WORKERS
from meirl.learn.experience import Collector
from meirl.learn.networks import ActorCritic, seeded

ENV = meirl.make("meis-stationary", horizon=10)
SMALL = {"environments": 4, "segment": 10, "validation_episodes": 2, "evaluations": 1, "network": {"hidden": (8,)}}


def played(config) -> tuple[ActorCritic, object]:
    """A network, and a segment that it has played."""
    network = seeded(ActorCritic, ENV, config, 0)
    return network, Collector(ENV, config, network, seed=1).collect(10)


def test_every_seed_worker_and_round_has_scenarios_of_its_own_and_none_is_held_out(monkeypatch):
    config, drawn, sample = ppo.Config(**SMALL, copies=2), [], Env.sample

    def watched(env, episodes, seed, first=0):
        drawn.extend((seed, episode) for episode in range(first, first + episodes))
        return sample(env, episodes, seed, first)

    monkeypatch.setattr(Env, "sample", watched)
    network = seeded(ActorCritic, ENV, config, 0)
    for seed in (0, 1, MOST_SEED):
        for worker in (0, 1, MOST_WORKERS - 1):
            collector = Collector(ENV, config, network, seed, worker=worker)
            collector.start()
    assert len(set(drawn)) == len(drawn) == 3 * 3 * 2 * 2, "two rounds of 4 environments, in pairs"
    assert max(seed for seed, _ in drawn) < FIRST_RESERVED_SEED


def test_ppo_cuts_its_gradient_to_a_norm():
    config = ppo.Config(**SMALL, epochs=1, max_gradient_norm=1e-3)
    network, segment = played(config)
    optimiser = ppo.new_optimiser(network, config)
    ppo.update(network, optimiser, segment, config, torch.Generator().manual_seed(0), 0.0)
    assert float(optimiser.param_groups[0]["params"][0].grad.norm()) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize(("max_kl", "passes"), [(1e-9, 1), (1e9, 4)])
def test_ppo_ends_its_passes_once_the_policy_has_moved(max_kl, passes, monkeypatch):
    config, done = ppo.Config(**SMALL, epochs=4, learning_rate=1e-2, minibatch=10, max_kl=max_kl), []
    network, segment = played(config)
    evaluate = ppo.gradient.evaluate
    monkeypatch.setattr(ppo.gradient, "evaluate", lambda *given: done.append(0) or evaluate(*given))
    ppo.update(network, ppo.new_optimiser(network, config), segment, config, torch.Generator().manual_seed(0), 0.0)
    assert len(done) == passes * 4, "40 samples are 4 minibatches a pass"


def test_ppo_lowers_its_rate_and_its_entropy_weight_linearly(monkeypatch):
    config, seen, update = ppo.Config(**SMALL, steps=4 * 40, learning_rate=1e-3, entropy=0.1), [], ppo.update

    def watched(network, optimiser, segment, config, generator, entropy_weight):
        seen.append((optimiser.param_groups[0]["lr"], entropy_weight))
        return update(network, optimiser, segment, config, generator, entropy_weight)

    monkeypatch.setattr(ppo, "update", watched)
    ppo.train(ENV, config, seed=0, progress=False)
    assert seen == [pytest.approx((share * 1e-3, share * 0.1)) for share in (1, 0.75, 0.5, 0.25)]


def test_a_resumed_ppo_goes_on_with_its_next_round_and_its_optimiser(tmp_path, monkeypatch):
    config = ppo.Config(**{**SMALL, "evaluations": 3}, steps=3 * 40, learning_rate=1e-2)
    straight, save = ppo.train(ENV, config, seed=0, progress=False), Run.save

    def stopped(run, optimiser):
        save(run, optimiser)
        if run.steps == 40:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        ppo.train(ENV, config, seed=0, out=tmp_path / "run", progress=False)
    resumed = ppo.train(ENV, config, seed=0, out=tmp_path / "run", resume=True, progress=False)
    for first, second in zip(straight.history, resumed.history, strict=True):
        keys = [key for key in first if key != "seconds"]
        assert [first[key] for key in keys] == [second[key] for key in keys]


class Watched(a3c.SharedLearner):
    """Notes the learning rates that it is given."""

    seen: list[float] = []  # noqa: RUF012 - the instance's own attributes are shared memory

    def apply(self, gradient, learning_rate, epsilon):
        self.seen.append(learning_rate)
        super().apply(gradient, learning_rate, epsilon)


def test_a3c_lowers_its_rate_linearly():
    config = a3c.Config(**SMALL, steps=4 * 40, learning_rate=1e-3, workers=1)
    context, reports = torch.multiprocessing.get_context("spawn"), []
    shared = Watched(seeded(a3c.Network, ENV, config, 0))
    counters = [context.Value("q", 0) for _ in range(2)]
    Watched.seen.clear()
    a3c._learn(a3c.Job(ENV, config, 0, 0, 0, shared, *counters, SimpleNamespace(send=reports.append)))
    assert Watched.seen == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])
    assert [report["steps"] for report in reports] == [40, 80, 120, 160]


def test_what_a3c_learns_depends_on_whether_the_episode_is_over():
    config = a3c.Config(**SMALL)
    network, segment = played(config)
    copy, gradients = a3c.LocalCopy(network), []
    for terminal in (True, False):
        a3c.compute_gradient(copy, segment._replace(terminal=terminal), config, 0.0)
        gradients.append(copy.gradient.clone())
    assert not torch.allclose(*gradients)


def test_a_new_scale_changes_nothing_that_the_shared_critic_predicts():
    config = a3c.Config(**SMALL)
    network, segment = played(config)
    shared, copy = a3c.SharedLearner(network), a3c.LocalCopy(network)
    with torch.no_grad():
        before = network.value(segment.vector).clone()
        a3c._update_scale(copy, shared, torch.linspace(-90.0, -30.0, 20))
        fresh = seeded(ActorCritic, ENV, config, 1)
        other = a3c.LocalCopy(fresh)
        other.pull(shared.state())
        torch.testing.assert_close(fresh.value(segment.vector), before, rtol=1e-4, atol=1e-4)
    assert float(fresh.return_mean) == pytest.approx(-60)
    assert torch.equal(nn.utils.parameters_to_vector(fresh.parameters()), shared.weights)


def test_a_resumed_a3c_knows_which_rounds_its_workers_have_played(tmp_path, monkeypatch):
    config, known = a3c.Config(**SMALL, steps=3 * 40, workers=1), []
    a3c.train(ENV, config, seed=0, out=tmp_path / "run", progress=False)
    monkeypatch.setattr(a3c, "_play", lambda run, network, shared, rounds: known.append(list(rounds)))
    a3c.train(ENV, config, seed=0, out=tmp_path / "run", resume=True, progress=False)
    assert known == [[3]]
