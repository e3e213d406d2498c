"""The pathwise learner: its gradient is that of the simulated cost, and it finds what is known to be best."""

from pathlib import Path

import pytest
import torch
from toys import Aim, toy

import meirl
from meirl import heuristics
from meirl.learn import Run, load_checkpoint, load_policy, ppo, preset
from meirl.learn.networks import seeded
from meirl.learn.run import Checkpoint
from meirl.rollout import play
from meirl_study import pathwise, study
from meirl_study.pathwise import Actor, Config, actor_critic_loss, train, update, warm_start

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


def test_an_update_returns_the_true_cost_and_steps_down_the_gradient():
    """The cost has kinks everywhere, so only a tiny step in double precision shows what its direction does."""
    env = meirl.make("divergent-nonstationary", horizon=40, dtype=torch.float64)
    torch.manual_seed(0)
    actor, scenario = Actor(env, SMALL).double(), env.sample(4, 0)
    with torch.no_grad():
        before = float(cost_of(env, actor, scenario))
    rate = 1e-6
    cost, norm = update(actor, env, scenario, torch.optim.SGD(actor.parameters(), lr=rate), largest_norm=0.1)
    with torch.no_grad():
        after = float(cost_of(env, actor, scenario))
    assert cost == pytest.approx(before / env.parameters.cost_unit, rel=1e-9)
    assert norm > 0.1  # so the gradient is cut to that norm
    expected = -rate * 0.1 * norm * env.horizon * env.parameters.reward_unit
    assert after - before == pytest.approx(expected, rel=0.01)


def test_the_budget_counts_imitation_and_discrete_actions_are_only_imitated():
    env = make("divergent-stationary")  # 100 periods
    config = Config(steps=10_000, environments=10, imitation=3)
    assert config.rounds(env) == 10
    assert config.model_copy(update={"steps": 1}).rounds(env) == 3
    assert config.rounds(make("meis-stationary")) == 3


@pytest.mark.parametrize(("imitation", "simulated"), [(20, 2_592_000), (0, 2_560_000)])
@pytest.mark.parametrize("name", meirl.NAMES[:2])
def test_with_validation_the_preset_simulates_what_its_file_says(name, imitation, simulated, monkeypatch):
    def imitate(network, loss, env, config, rounds, environments, run):
        run.steps = rounds * environments * env.horizon

    validated = []
    monkeypatch.setattr(pathwise, "imitate", imitate)
    monkeypatch.setattr(pathwise, "update", lambda *_: (1.0, 1.0))
    monkeypatch.setattr(Run, "validate", lambda run, steps, *_: validated.append(steps))
    env, config = meirl.make(name), preset("pathwise", "tuned", name, imitation=imitation)
    train(env, config, 0, progress=False)
    played = len(validated) * config.validation_episodes * env.horizon
    assert validated[-1] + played == simulated
    file = Path(pathwise.__file__).parent / "presets" / "pathwise-tuned.yaml"
    assert f"{simulated / 1e6:.2f} million" in " ".join(file.read_text(encoding="utf-8").split("\n# "))
    assert preset("ppo", "tuned", name).simulated_steps(env) == pytest.approx(2_560_000, rel=0.01)


def test_it_finds_a_known_optimum():
    """Every node should order 10; the network starts far from it and nothing is imitated."""
    env = toy(Aim, horizon=25)
    config = Config(steps=24_000, environments=4, imitation=0, learning_rate=0.01, hidden=(16,), validation_episodes=4)
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


@pytest.mark.parametrize("name", meirl.NAMES)
def test_imitated_samples_are_what_was_seen_and_what_the_rule_does_there(name):
    env = make(name)
    never, rule = heuristics.load(env, "never-order"), heuristics.load(env)
    scenario = env.sample(2, 1)
    vectors, actions = pathwise.play_and_ask(env, never, rule, scenario)
    seen = [(observation.vector(), rule(observation)) for observation, _ in play(env, never, scenario)]
    assert torch.equal(vectors, torch.cat([vector for vector, _ in seen]))
    assert torch.equal(actions, torch.cat([action for _, action in seen]))


def test_the_rule_and_the_network_play_in_turn(monkeypatch):
    env, players, ask = make("meis-stationary"), [], pathwise.play_and_ask

    def watched(env, player, teacher, scenario):
        players.append(player)
        return ask(env, player, teacher, scenario)

    monkeypatch.setattr(pathwise, "play_and_ask", watched)
    run = train(env, SMALL.model_copy(update={"imitation": 4}), 0, progress=False)
    assert [player is run.network for player in players] == [False, True, False, True]


def test_without_a_gradient_and_a_rule_there_is_nothing_to_learn_from():
    with pytest.raises(ValueError, match="meis-stationary: actions are discrete, there is no gradient to follow"):
        train(make("meis-stationary"), SMALL.model_copy(update={"imitation": 0}), 0, progress=False)


@pytest.mark.parametrize("name", ["divergent-nonstationary", "meis-stationary"])
def test_an_actor_critic_learns_to_do_what_it_is_shown(name):
    env = make(name)
    vectors, actions = pathwise.play_and_ask(env, heuristics.load(env), heuristics.load(env), env.sample(8, 1))
    network = seeded(ppo.Network, env, preset("ppo", "tuned", name), 0)
    optimiser, losses = torch.optim.Adam(network.parameters(), lr=3e-3), []
    for _ in range(150):
        optimiser.zero_grad()
        loss = actor_critic_loss(network, vectors, actions)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        done = network.mode(network.head(vectors))
    if env.options is None:
        assert losses[-1] == pytest.approx(float((done - actions).square().mean()), rel=0.2)
    else:
        assert (done == actions).float().mean() > 0.7


def test_ppo_goes_on_from_the_imitation_and_counts_its_steps(tmp_path):
    changes = {"steps": 24_000, "environments": 4, "copies": 2, "validation_episodes": 2, "evaluations": 4}
    task = study.Task("divergent-nonstationary", "ppo", seed=3, changes=changes)
    warm_start(task, tmp_path)
    folder = task.folder(tmp_path)
    begun = (folder / "checkpoint.pt").read_bytes()
    warm_start(task, tmp_path)
    assert (folder / "checkpoint.pt").read_bytes() == begun, "it is made once"

    env, config = meirl.make(task.env), task.config()
    rule = heuristics.load(env)
    shown = pathwise.play_and_ask(env, rule, rule, env.sample(2, 1))
    network = seeded(ppo.Network, env, config, 3)
    before = actor_critic_loss(network, *shown)
    network.load_state_dict(load_checkpoint(folder / "checkpoint.pt")["network"])
    assert actor_critic_loss(network, *shown) < 0.6 * before

    warm = ppo.train(env, config, 3, folder, resume=True, progress=False)
    first, *rest = warm.history
    assert first["steps"] == config.rounds(env) // 2 * config.steps_per_round(env)
    assert first["simulated_steps"] == first["steps"] + 2 * env.horizon
    assert warm.steps == config.rounds(env) * config.steps_per_round(env)
    assert len(rest) >= 1


def test_a_warm_start_with_older_settings_is_imitated_anew(tmp_path, capsys):
    """Else the study would set it aside, and train from nothing under its name."""
    changes = {"steps": 2_400, "environments": 4, "copies": 1, "validation_episodes": 2, "evaluations": 1}
    older = study.Task("divergent-nonstationary", "ppo", changes={**changes, "discount": 0.9})
    task, folder = older._replace(changes=changes), older.folder(tmp_path)
    warm_start(older, tmp_path)
    warm_start(task, tmp_path)
    saved = load_checkpoint(folder / "checkpoint.pt", Checkpoint)
    assert saved["config"] == task.config().model_dump_json()
    assert len(saved["history"]) == 1
    assert "imitation_loss" in saved["history"][0]
    assert f"kept as {folder.name}-before-1" in capsys.readouterr().err
    with pytest.raises(ValueError, match="its config differs"):
        warm_start(task._replace(changes={}), tmp_path)


@pytest.mark.parametrize("name", ["divergent-stationary", "meis-stationary"])
def test_same_seed_same_run_and_a_resumed_run_equals_an_uninterrupted_one(name, tmp_path, monkeypatch):
    env = make(name)
    whole = train(env, SMALL, 3, progress=False)
    real, calls = Run.validate, []

    def stops(self, *arguments):
        real(self, *arguments)
        calls.append(1)
        if len(calls) == (2 if env.options is None else 1):
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


def test_costs_of_training_and_of_validation_have_one_unit():
    env = meirl.make("lost-sales")  # costs are reported of a period
    history = train(env, SMALL.model_copy(update={"imitation": 1}), 0, progress=False).history
    for row in history[1:]:  # what happens before the warm-up is over is in the first only
        assert 0.5 < row["training_cost"] / row["validation_cost"] < 2
