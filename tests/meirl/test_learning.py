"""The parts of the learners, against cases worked out by hand."""

import math
import warnings

import pytest
import torch

import meirl
from meirl.learn import find_learner, gradient, ppo, preset
from meirl.learn.config import LearnerConfig, NetworkConfig
from meirl.learn.experience import Collector, Segment, estimate, explained_variance, gae, normalised, without_luck
from meirl.learn.networks import ActorCritic, flat, seeded
from meirl.learn.ppo import clipped_surrogate


def test_gae_equals_a_case_worked_out_by_hand():
    reward = torch.tensor([[1.0], [2.0], [3.0]])
    value, next_value = torch.tensor([[0.5], [1.0], [1.5]]), torch.tensor([[1.0], [1.5], [4.0]])
    # delta = r + 0.5 v' - v = 1, 1.75, 3.5; discount * lambda = 0.25
    expected = [1 + 0.25 * (1.75 + 0.25 * 3.5), 1.75 + 0.25 * 3.5, 3.5]
    assert gae(reward, value, next_value, 0.5, 0.5).flatten().tolist() == pytest.approx(expected)


def test_gae_of_a_right_constant_value_is_zero():
    reward, value = torch.full((50, 4), 2.0), torch.full((50, 4), 2.0 / (1 - 0.9))
    assert gae(reward, value, value, 0.9, 0.95).abs().max() < 1e-5


def test_gae_with_lambda_1_is_the_discounted_return_less_the_value():
    reward, value = torch.rand(6, 2), torch.rand(7, 2)
    advantage = gae(reward, value[:-1], value[1:], 0.9, 1.0)
    returns = sum(0.9**t * reward[t] for t in range(6)) + 0.9**6 * value[6]
    torch.testing.assert_close(advantage[0], returns - value[0])


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "gradient"),
    [
        (1.0, 2.0, -2.0, True),
        (1.1, 2.0, -2.2, True),
        (1.5, 2.0, -2.4, False),  # a good action may not become more likely than 1 + clip
        (0.5, 2.0, -1.0, True),
        (1.5, -2.0, 3.0, True),
        (0.5, -2.0, 1.6, False),  # a bad one may not become less likely than 1 - clip
    ],
)
def test_clipped_surrogate_on_hand_made_ratios(ratio, advantage, expected, gradient):
    log_ratio = torch.tensor([math.log(ratio)], requires_grad=True)
    loss = clipped_surrogate(log_ratio, torch.tensor([advantage]), 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    assert (log_ratio.grad.item() != 0) is gradient


def with_network(**network) -> LearnerConfig:
    return LearnerConfig(network=NetworkConfig(**network))


def network_for(name: str, **config) -> ActorCritic:
    return seeded(ActorCritic, meirl.make(name), with_network(policy_gain=1.0, **config), seed=1)


def mean_score(network: ActorCritic, count: int = 200_000) -> tuple[float, float]:
    """Mean score d log pi / d (actor's output) over draws, and its standard error, in the worst coordinate."""
    output = network.actor(torch.rand(1, network.actor[0].in_features)).detach().expand(count, -1).requires_grad_()
    head = output if network.gaussian else output.log_softmax(-1)
    with torch.no_grad():
        draw = network.sample(head, torch.Generator().manual_seed(0))
    (score,) = torch.autograd.grad(network.log_prob(head, draw).sum(), output)
    error = score.std(0) / count**0.5
    worst = (score.mean(0).abs() / error).argmax()
    return float(score.mean(0).abs()[worst]), float(error[worst])


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("divergent-stationary", {"squash": "clip"}),
        ("divergent-stationary", {"squash": "tanh"}),
        ("meis-stationary", {}),
    ],
    ids=["clipped Gaussian", "squashed Gaussian", "categorical"],
)
def test_score_has_mean_zero(name, config):
    mean, error = mean_score(network_for(name, **config))
    assert mean < 4 * error


def test_published_density_has_a_biased_score():
    mean, error = mean_score(network_for("divergent-stationary", squash="tanh", defect_no_jacobian=True))
    assert mean > 20 * error


def test_squashed_log_prob_equals_torch_distributions():
    network = network_for("divergent-stationary", squash="tanh", log_std=-0.3)
    head, draw = torch.randn(64, 4), torch.randn(64, 4)
    normal = torch.distributions.Normal(head, network.log_std.exp())
    squashed = torch.distributions.TransformedDistribution(normal, [torch.distributions.TanhTransform()])
    torch.testing.assert_close(
        network.log_prob(head, draw), squashed.log_prob(torch.tanh(draw)).sum(-1), rtol=1e-4, atol=1e-4
    )


def test_density_of_a_learned_noise_has_a_score_of_mean_zero_in_its_log_std():
    network = network_for("divergent-stationary", log_std=-0.3)
    head, count = torch.zeros(1, 4), 100_000
    with torch.no_grad():
        draw = network.sample(head.expand(count, -1), torch.Generator().manual_seed(0))
    (score,) = torch.autograd.grad(network.log_prob(head, draw).mean(), network.log_std)
    assert score.abs().max() < 5 * (2 / count) ** 0.5  # z^2 - 1 has variance 2


def test_categorical_sampling_follows_its_probabilities():
    network = network_for("meis-stationary")
    head = torch.linspace(-2, 1, 13).log_softmax(-1)
    draws = network.sample(head.expand(100_000, -1), torch.Generator().manual_seed(3))
    share = torch.bincount(draws, minlength=13) / 100_000
    assert (share - head.exp()).abs().max() < 5 * (0.25 / 100_000) ** 0.5
    torch.testing.assert_close(network.entropy(head), torch.distributions.Categorical(logits=head).entropy())


def test_deterministic_actions_reach_the_whole_range():
    env = meirl.make("divergent-nonstationary")
    network = network_for("divergent-nonstationary")
    reached = []
    for bias in (-30.0, 30.0):
        torch.nn.init.constant_(network.actor[-1].bias, bias)
        reached.append(env.orders(network(env.observe(env.reset(2), 0))))
    assert reached[0].unique().tolist() == [0.0]
    assert reached[1].unique().tolist() == [80.0]


def test_deterministic_action_is_the_mean_of_the_clipped_draws():
    network = network_for("divergent-nonstationary", log_std=-0.3)
    head = torch.tensor([[-2.0, -0.9, 0.1, 1.3]])
    draws = network.squashed(network.sample(head.expand(200_000, -1), torch.Generator().manual_seed(0)))
    assert ((draws.mean(0) - network.mode(head)[0]).abs() < 5 * draws.std(0) / 200_000**0.5).all()


def test_annealed_noise_goes_from_start_to_end_and_is_not_learned():
    network = network_for("divergent-stationary", log_std=0.0, final_log_std=-2.0)
    assert "log_std" not in dict(network.named_parameters())
    for left, expected in ((1.0, 0.0), (0.5, -1.0), (0.0, -2.0)):
        network.anneal(left)
        assert network.log_std.tolist() == pytest.approx([expected] * 4)


def test_published_double_tanh_cannot_order_nothing_or_the_maximum():
    network = network_for("divergent-nonstationary", squash="tanh", defect_double_tanh=True)
    torch.nn.init.constant_(network.actor[-1].bias, 50.0)
    env = meirl.make("divergent-nonstationary")
    action = network(env.observe(env.reset(1), 0))
    assert action.max().item() == pytest.approx(math.tanh(1.0))


def test_rescaling_the_critic_changes_no_prediction():
    network = network_for("meis-stationary")
    vector = torch.rand(20, network.actor[0].in_features)
    for mean, spread in ((-50.0, 3.0), (-30.0, 8.0)):
        before = network.value(vector)
        network.update_return_scale(mean + spread * torch.randn(1000))
        torch.testing.assert_close(network.value(vector), before, rtol=1e-3, atol=1e-3)
    assert network.return_mean != 0


def test_explained_variance_and_normalised_advantages():
    observed = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(observed, observed) == 1
    assert explained_variance(torch.zeros(4), observed) == pytest.approx(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(explained_variance(torch.zeros(1), torch.ones(1)))
    assert normalised(observed).mean().abs() < 1e-6
    assert normalised(observed).square().mean().item() == pytest.approx(1)
    assert normalised(torch.tensor([3.0])).tolist() == [0.0]


def test_a_segment_continues_where_the_last_one_ended():
    env, config = meirl.make("meis-stationary"), LearnerConfig(environments=3, segment=5)
    network = seeded(ActorCritic, env, config, 0)
    collector = Collector(env, config, network, seed=5)
    first, second = collector.collect(5), collector.collect(4)
    torch.testing.assert_close(first.vector[-1], second.vector[0])
    whole = Collector(env, config, network, seed=5).collect(9)
    assert torch.equal(whole.reward, torch.cat([first.reward, second.reward]))
    assert torch.equal(whole.draw, torch.cat([first.draw, second.draw]))


def test_rounds_and_workers_have_their_own_scenarios():
    env, config = meirl.make("meis-stationary"), LearnerConfig(environments=2)
    network = seeded(ActorCritic, env, config, 0)

    def reward(**where) -> torch.Tensor:
        return Collector(env, config, network, **where).collect(20).reward

    start = reward(seed=5)
    for other in ({"seed": 6}, {"seed": 5, "worker": 1}, {"seed": 5, "first_round": 1}):
        assert not torch.equal(start, reward(**other))
    later = Collector(env, config, network, seed=5)
    later.start()
    assert torch.equal(later.collect(20).reward, reward(seed=5, first_round=1))


def test_copies_meet_the_same_scenario_and_their_luck_is_taken_out():
    env, config = meirl.make("meis-stationary"), LearnerConfig(environments=6, copies=3)
    collector = Collector(env, config, seeded(ActorCritic, env, config, 0), seed=5)
    demand = next(collector._exogenous).demand
    assert torch.equal(demand[:2], demand[2:4])
    assert not torch.equal(demand[0], demand[1])
    merit, luck = torch.randn(4, 6), torch.randn(4, 2).repeat(1, 3)
    torch.testing.assert_close(without_luck(merit + luck, 3), without_luck(merit, 3))
    assert without_luck(merit, 3).reshape(4, 3, 2).sum(1).abs().max() < 1e-5
    assert without_luck(merit, 1) is merit
    with pytest.raises(ValueError, match="copies must divide environments, got 4 and 6"):
        LearnerConfig(environments=6, copies=4)


def test_training_never_draws_from_the_held_out_streams():
    env, config = meirl.make("meis-stationary"), LearnerConfig(environments=2)
    with pytest.raises(ValueError, match="seed must be from 0 to"):
        Collector(env, config, seeded(ActorCritic, env, config, 0), seed=2_000_000)


@pytest.mark.parametrize("defect", [False, True])
def test_the_horizon_is_the_end_if_it_is_in_sight_or_the_defect_is_on(name, observation, defect):
    env = meirl.make(name, horizon=6, observation=observation)
    config = LearnerConfig(environments=2, defect_terminal_horizon=defect)
    collector = Collector(env, config, seeded(ActorCritic, env, config, 0), seed=1)
    assert collector.collect(5).terminal is False
    assert collector.collect(1).terminal is (observation == "full" or defect)


def test_nothing_follows_the_end_and_elsewhere_the_critic_says_what_follows():
    """Two periods of reward 1: the critic says 0.5 before each, and 9 after the second."""
    value, reward = torch.tensor([[0.5], [0.5], [9.0]]), torch.ones(2, 1)
    config = LearnerConfig(discount=0.5, gae_lambda=0)
    for terminal, last in ((True, 1 - 0.5), (False, 1 + 0.5 * 9 - 0.5)):
        advantage, returns = estimate(Segment(*[torch.empty(0)] * 3, reward, terminal), value, config)
        assert advantage.flatten().tolist() == pytest.approx([1 + 0.5 * 0.5 - 0.5, last])
        assert returns.flatten().tolist() == pytest.approx([1 + 0.5 * 0.5, last + 0.5])


def updated(terminal: bool = False, entropy: float = 0.0) -> ActorCritic:
    """A network after an update of PPO on a segment whose rewards say nothing about the actor."""
    env, config = meirl.make("meis-stationary"), ppo.Config(environments=2, epochs=20, minibatch=100, max_kl=1e9)
    network = seeded(ActorCritic, env, config, 0)
    segment = Collector(env, config, network, seed=1).collect(50)._replace(terminal=terminal)
    segment = segment._replace(reward=torch.zeros_like(segment.reward))
    optimiser, generator = ppo.new_optimiser(network, config), torch.Generator().manual_seed(0)
    ppo.update(network, optimiser, segment, config, generator, entropy)
    return network


def test_ppo_is_rewarded_for_entropy():
    entropies = []
    for weight in (0.0, 10.0):
        network = updated(entropy=weight)
        vector = torch.rand(64, network.actor[0].in_features, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            entropies.append(float(network.entropy(network.head(vector)).mean()))
    assert entropies[1] > entropies[0]


def test_what_ppo_learns_depends_on_whether_the_episode_is_over():
    """Rewards are 0; but the critic promises something after the last period, unless nothing follows."""
    over, on = (updated(terminal=terminal).critic[-1].bias for terminal in (True, False))
    assert not torch.equal(over, on)


BUDGET = {"divergent": 2_560_000, "meis": 3_650_000}
"""Steps that the published study simulated."""


@pytest.mark.parametrize("algo", ["ppo", "a3c"])
@pytest.mark.parametrize(("which", "times"), [("tuned", 1), ("long", 10)])
def test_a_preset_simulates_no_more_than_its_budget_validation_included(algo, which, times, name):
    env = meirl.make(name)
    config, budget = preset(algo, which, name), times * BUDGET[env.chain]
    assert 0.95 * budget < config.simulated_steps(env) <= budget
    assert not config.defect_terminal_horizon
    assert not [key for key, value in config.network.model_dump().items() if key.startswith("defect") and value]


@pytest.mark.parametrize("algo", ["ppo", "a3c"])
def test_the_published_preset_trains_for_as_many_steps_as_the_study(algo, name):
    config = preset(algo, "published", name)
    assert config.steps == BUDGET[meirl.make(name).chain]
    assert not [key for key, value in config.model_dump().items() if key.startswith("defect") and value]


def test_simulated_steps_are_whole_rounds_and_the_validations():
    env = meirl.make("meis-stationary", horizon=10)
    config = LearnerConfig(steps=1_050, environments=5, evaluations=4, validation_episodes=7)
    assert config.simulated_steps(env) == 21 * 5 * 10 + 4 * 7 * 10
    few = config.model_copy(update={"steps": 149})  # 2 rounds, so 2 validations
    assert few.simulated_steps(env) == 2 * 5 * 10 + 2 * 7 * 10


def test_nothing_is_left_to_anneal_once_all_steps_are_taken():
    """A round is played whole, even where fewer steps were asked for."""
    config = LearnerConfig(steps=10)
    assert [config.remaining(steps) for steps in (0, 5, 10, 16_000)] == [1, 0.5, 0, 0]
    assert config.annealed(16_000) == 0


def test_parameters_as_one_vector_learn_as_they_do_apart():
    env = meirl.make("meis-stationary")
    vectors = torch.rand(64, len(env.legend()))
    networks = [seeded(ActorCritic, env, LearnerConfig(), 0) for _ in range(2)]
    vector = flat(networks[1])
    optimisers = [torch.optim.Adam(given, lr=1e-2) for given in (networks[0].parameters(), [vector])]
    for _ in range(5):
        for network, optimiser in zip(networks, optimisers, strict=True):
            optimiser.zero_grad(set_to_none=False)
            (network.head(vectors).square().sum() + network.value(vectors).sum()).backward()
            parameters = optimiser.param_groups[0]["params"]
            torch.nn.utils.clip_grad_norm_(parameters, 0.5)
            optimiser.step()
    for apart, together in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(apart, together)
    networks[1].load_state_dict(seeded(ActorCritic, env, LearnerConfig(), 1).state_dict())
    assert torch.equal(vector, torch.nn.utils.parameters_to_vector(networks[1].parameters()))  # still views


def test_a_ratio_that_overflows_leaves_finite_weights():
    env = meirl.make("divergent-stationary")
    wild = {"steps": 4_000, "evaluations": 1, "validation_episodes": 4, "learning_rate": 1.0}
    run = ppo.train(env, preset("ppo", "as-published", env.name, **wild), 0, progress=False)
    assert run.history[-1]["kl"] == math.inf
    assert all(parameter.isfinite().all() for parameter in run.network.parameters())


def test_as_published_is_published_with_its_defects_on():
    for algo in ("ppo", "a3c"):
        repaired, faulty = (preset(algo, which, "meis-stationary") for which in ("published", "as-published"))
        assert faulty.defect_terminal_horizon
        assert not repaired.defect_terminal_horizon
        assert repaired.steps == faulty.steps
    assert faulty.network == repaired.network
    assert preset("ppo", "as-published", "divergent-stationary").network.defect_double_tanh


def test_a_variant_is_a_section_with_a_section_per_environment(tmp_path, monkeypatch):
    """From weak to strong: the file, its environment, the variant, its environment, and what the caller changes."""
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "ppo-tuned.yaml").write_text(
        "{steps: 1, segment: 1, epochs: 1, environments: 1, clip: 1, per_environment: {meis-stationary: {segment: 2, "
        "epochs: 2, environments: 2, clip: 2}}, long: {epochs: 3, environments: 3, clip: 3, network: {hidden: [3]}, "
        "per_environment: {meis-stationary: {environments: 4, clip: 4}}}}"
    )
    monkeypatch.setattr(ppo, "__file__", str(tmp_path / "ppo.py"))

    def values(which, name):
        config = preset("ppo", which, name, clip=5)
        return config.steps, config.segment, config.epochs, config.environments, config.clip, config.network.hidden

    assert values("tuned", "meis-stationary") == (1, 2, 2, 2, 5, (64, 64))
    assert values("long", "meis-stationary") == (1, 2, 3, 4, 5, (3,))
    assert values("tuned", "meis-nonstationary") == (1, 1, 1, 1, 5, (64, 64))
    assert values("long", "meis-nonstationary") == (1, 1, 3, 3, 5, (3,))


def test_diagnostics_are_those_of_the_last_minibatch_of_each_pass(monkeypatch):
    ratios = []
    real = gradient.of_clipped_surrogate
    monkeypatch.setattr(gradient, "of_clipped_surrogate", lambda log, *rest: ratios.append(log) or real(log, *rest))
    env = meirl.make("meis-stationary", horizon=30)
    config = ppo.Config(environments=4, minibatch=40, epochs=2, learning_rate=0.01, max_kl=100, clip=0.02)
    network = seeded(ActorCritic, env, config, 0)
    collector = Collector(env, config, network, seed=5)
    found = ppo.update(network, ppo.new_optimiser(network, config), collector.collect(30), config,
                       collector.generator, 0.0)  # fmt: skip
    assert len(ratios) == 2 * 3
    kl = [(log.exp() - 1 - log).mean().item() for log in ratios]
    clipped = [((log.exp() - 1).abs() > 0.02).float().mean().item() for log in ratios]
    assert found["kl"] == pytest.approx((kl[2] + kl[5]) / 2, rel=1e-3)
    assert found["clip_fraction"] == pytest.approx((clipped[2] + clipped[5]) / 2)
    assert found["kl"] != pytest.approx(sum(kl) / 6, rel=0.05)


class Announced:
    """An entry point of another package, whose own packages are missing."""

    def __init__(self, name):
        self.name = name

    def load(self):
        raise ModuleNotFoundError("No module named 'joblib'")


def test_a_learner_of_another_package_says_what_to_install_and_hides_none_of_meirls(monkeypatch):
    monkeypatch.setattr("meirl.learn.entry_points", lambda **_: [Announced("ppo"), Announced("pathwise")])
    assert find_learner("ppo") is ppo
    needs = r"pathwise needs more packages \(No module named 'joblib'\): pip install 'meirl\[study\]'"
    with pytest.raises(ValueError, match=needs):
        find_learner("pathwise")


def test_unknown_presets_and_keys_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown preset 'best': expected one of tuned, long, published, as-published"):
        preset("ppo", "best", "meis-stationary")
    with pytest.raises(ValueError, match=r"pathwise-tuned\.yaml has no section 'long': pathwise has no such preset"):
        preset("pathwise", "long", "meis-stationary")
    with pytest.raises(ValueError, match="unknown algorithm 'dqn': expected one of ppo, a3c, pathwise"):
        preset("dqn", "tuned", "meis-stationary")
    own = tmp_path / "own.yaml"
    own.write_text("steps: 1000\nnetwork: {hiden: [8]}\n")
    with pytest.raises(ValueError, match=r"own.yaml: network.hiden: unknown key"):
        preset("ppo", str(own), "meis-stationary")
    with pytest.raises(ValueError, match=r"discount: Input should be less than or equal to 1"):
        preset("ppo", "tuned", "meis-stationary", discount=1.5)
