"""The pathwise learner: its gradient is that of the simulated cost, and it finds what is known to be best."""

import pytest
import torch
from toys import Aim, toy

import meirl
from meirl import heuristics
from meirl.learn import Run, load_policy, preset
from meirl_study.pathwise import Actor, Config, option_costs, scale_gradient, straight_through, train, update

SMALL = Config(steps=8_000, environments=8, imitation=2, evaluations=2, validation_episodes=4, hidden=(16,))


def make(name, **changes):
    return meirl.make(name, horizon=100, **changes)


def cost_of(env, actor, scenario):
    return meirl.simulate(env, actor, scenario).cost.mean()


def test_the_gradient_is_that_of_the_simulated_cost():
    """Against central differences, through stock, pipeline and policy, over a whole episode."""
    env = meirl.make("divergent-nonstationary", horizon=40, dtype=torch.float64)
    torch.manual_seed(0)
    actor, scenario = Actor(env, SMALL).double(), env.sample(4, 0)
    bias = actor.layers[-1].bias
    cost_of(env, actor, scenario).backward()
    for i in range(env.nodes):
        step, sides = 1e-6, []
        for sign in (1, -1):
            with torch.no_grad():
                bias[i] += sign * step
                sides.append(float(cost_of(env, actor, scenario)))
                bias[i] -= sign * step
        assert float(bias.grad[i]) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("name", meirl.NAMES)
def test_what_is_played_while_training_is_the_policy_itself(name):
    """The relaxation only changes the gradient: the cost of a round is the true cost of the policy."""
    env = make(name)
    torch.manual_seed(0)
    actor, scenario = Actor(env, SMALL), env.sample(4, 0)
    true = meirl.rollout(env, actor, scenario)["cost"].mean()
    frozen = torch.optim.SGD(actor.parameters(), lr=0.0)
    cost, norm = update(actor, env, scenario, frozen, SMALL)
    assert cost == pytest.approx(true, rel=1e-5)
    assert norm > 0


def test_segments_and_memory_shorten_the_gradient():
    env = make("divergent-nonstationary")
    grown = env.reset(2)
    grown = grown._replace(on_hand=grown.on_hand.clone().requires_grad_())
    for share in (0.0, 0.25, 1.0):
        after = scale_gradient(grown, share)
        assert torch.equal(after.on_hand, grown.on_hand)
        assert after.on_hand.requires_grad == (share > 0)
        if share:
            (slope,) = torch.autograd.grad(after.on_hand.sum(), grown.on_hand)
            assert (slope == share).all()


def test_straight_through_plays_the_likeliest_option_and_passes_the_softmax_gradient():
    logits = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
    worth = torch.tensor([3.0, 1.0, 2.0])
    choice = straight_through(logits, temperature=2.0)
    assert choice.tolist() == [[0, 1, 0]]
    (slope,) = torch.autograd.grad((choice * worth).sum(), logits)
    (expected,) = torch.autograd.grad(((logits / 2).softmax(1) * worth).sum(), logits)
    torch.testing.assert_close(slope, expected)


def test_fixed_order_costs_are_those_of_the_environment():
    leaf = [5000, 5000, 5000, 6000]
    assert option_costs(meirl.make("meis-stationary")).tolist() == [0, *[1000] * 4, *leaf, *leaf]


def test_it_finds_a_known_optimum():
    """Every node should order 10; the network starts far from it and nothing is imitated."""
    env = toy(Aim)
    config = Config(
        steps=16_000, environments=4, imitation=0, segment=25, learning_rate=0.01, hidden=(16,), validation_episodes=4
    )
    done = train(env, config, 0, progress=False)
    assert done.history[0]["training_cost"] > 100 * env.horizon
    assert done.best_cost < 20 * env.horizon  # within 0.02 units


def test_imitation_comes_close_to_the_heuristic():
    env = make("divergent-nonstationary")
    config = Config(steps=1, environments=32, imitation=30, validation_episodes=32, hidden=(64,))
    done = train(env, config, 0, progress=False)
    scenario = meirl.held_out(env, "validation", 32)
    teacher = meirl.rollout(env, heuristics.load(env), scenario)["cost"].mean()
    never = meirl.rollout(env, heuristics.load(env, "never-order"), scenario)["cost"].mean()
    assert done.history[0]["validation_cost"] < teacher + 0.1 * (never - teacher)


@pytest.mark.parametrize("name", ["divergent-stationary", "meis-stationary"])
def test_same_seed_same_run_and_a_resumed_run_equals_an_uninterrupted_one(name, tmp_path, monkeypatch):
    env = make(name)
    whole = train(env, SMALL, 3, progress=False)
    real, calls = Run.validate, []

    def stops(self, *arguments):
        real(self, *arguments)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Run, "validate", stops)
        with pytest.raises(KeyboardInterrupt):
            train(env, SMALL, 3, tmp_path, progress=False)
    again = train(env, SMALL, 3, tmp_path, resume=True, progress=False)
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in again.history]
    assert str(strip) == str([{k: v for k, v in row.items() if k != "seconds"} for row in whole.history])
    policy, _ = load_policy(tmp_path, env)
    scenario = env.sample(4, 9)
    assert meirl.rollout(env, policy, scenario).equals(meirl.rollout(env, whole.policy, scenario))


@pytest.mark.parametrize("name", meirl.NAMES)
def test_the_preset_is_known_to_the_command_line(name):
    assert preset("pathwise", "tuned", name, steps=5).steps == 5
    with pytest.raises(ValueError, match=r"pathwise-tuned\.yaml: entropy: unknown key"):
        preset("pathwise", "tuned", name, entropy=1)
