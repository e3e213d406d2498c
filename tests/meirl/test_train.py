"""Learning solves small problems, is deterministic, survives kills and refuses bad checkpoints."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from multiprocessing import Pipe, active_children
from pathlib import Path

import pandas as pd
import pytest
import torch
from toys import Aim, Failing, Match, toy

import meirl
from meirl.learn import Run, find_learner, load_checkpoint, load_policy, preset, run_folder
from meirl.learn.a3c import LocalCopy, SharedLearner, _listen
from meirl.learn.networks import ActorCritic, seeded

ROUND = 8 * 365  # environment steps
SMALL = {"steps": 12 * ROUND, "environments": 8, "evaluations": 12, "validation_episodes": 8}


def small(algo: str, **changes):
    extra = {"workers": 1} if algo == "a3c" else {"minibatch": 256, "segment": 73}
    return preset(algo, "tuned", "meis-stationary", **{**SMALL, **extra, **changes})


def train(algo, env, config, seed=0, out=None, **keywords):
    return find_learner(algo).train(env, config, seed, out, progress=False, **keywords)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("algo", ["ppo", "a3c"])
def test_gaussian_policy_learns_a_known_optimum(algo):
    env = toy(Aim, horizon=32)
    rounds = 60 if algo == "ppo" else 300  # A3C takes one gradient step where PPO takes dozens
    changes = {"steps": 64 * 32 * rounds, "environments": 64, "segment": 16, "learning_rate": 0.005, "evaluations": 3}
    network = {"log_std": -0.5, "final_log_std": -1.5}  # noise that goes, whatever the preset says
    config = preset(algo, "tuned", "divergent-stationary", **changes, anneal=True, discount=0.5, network=network)
    done = train(algo, env, config)
    assert done.best_cost < 0.5 * 1000 * 32, "on average half a unit off; the optimum is 0, the start about 4"
    orders = env.orders(done.policy(env.observe(env.reset(1), 0)))
    assert orders.flatten().tolist() == pytest.approx([10.0] * 4, abs=1.0)


@pytest.mark.parametrize("algo", ["ppo", "a3c"])
def test_categorical_policy_learns_a_known_optimum(algo):
    env = toy(Match, horizon=32)
    changes = {"steps": 64 * 32 * 40, "environments": 64, "segment": 16, "learning_rate": 0.003, "evaluations": 3}
    done = train(algo, env, preset(algo, "tuned", "meis-stationary", **changes, discount=0.5))
    assert done.best_cost < 0.02 * 32, "the optimum is 0; always choosing the same node costs 16"


@pytest.mark.parametrize("algo", ["ppo", "a3c"])
def test_same_seed_same_result(algo):
    env, config = meirl.make("meis-stationary"), small(algo, steps=2 * ROUND)
    runs = [train(algo, env, config, seed) for seed in (3, 3, 4)]
    assert same(runs[0].best, runs[1].best)
    assert not same(runs[0].best, runs[2].best)
    timed = ["seconds"]
    tables = [pd.DataFrame(run.history).drop(columns=timed) for run in runs[:2]]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.parametrize("algo", ["ppo", "a3c"])
def test_the_result_does_not_depend_on_what_was_done_in_the_process_before(algo):
    """On some machines orthogonal weights differ in their last digits if PyTorch uses more threads."""
    env, config, runs = meirl.make("meis-stationary"), small(algo, steps=ROUND), []
    for threads in (2, 1):
        torch.set_num_threads(threads)
        runs.append(train(algo, env, config))
    assert same(runs[0].best, runs[1].best)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("algo", ["ppo", "a3c"])
def test_an_agent_trains_and_loads_in_the_precision_of_its_environment(algo, dtype, tmp_path):
    env = meirl.make("divergent-stationary", dtype=dtype)
    changes = {"copies": 1} | ({"workers": 1} if algo == "a3c" else {})
    tiny = {"steps": 1, "environments": 2, "evaluations": 1, "validation_episodes": 2, **changes}
    done = train(algo, env, preset(algo, "tuned", env.name, **tiny), out=tmp_path)
    for policy, where in ((done.policy, env), load_policy(tmp_path, dtype=dtype)):
        assert policy(where.observe(where.reset(1), 0)).dtype == dtype


def test_training_leaves_the_global_random_stream_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train("ppo", meirl.make("meis-stationary"), small("ppo", steps=1))
    assert torch.equal(torch.rand(3), expected)


def command(algo: str, folder: Path, *more: str, **changes: int) -> list[str]:
    own = folder / "own.yaml"
    own.write_text(json.dumps(json.loads(small(algo, **changes).model_dump_json())))
    arguments = ["train", "--algo", algo, "--env", "meis-stationary", "--preset", str(own), "--out", str(folder)]
    return [sys.executable, "-m", "meirl", *arguments, "--device", "cpu", *more]


def children_of(pid: int) -> list[int]:
    """Process numbers of the children, by ps, which Linux and macOS have."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in (line.split() for line in listed.splitlines()) if int(parent) == pid]


def running(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody reaped does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


@contextmanager
def started(command: list[str], **options):
    """A process that does not outlive its test, whatever fails there: it would slow all others down."""
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.kill()  # workers end with it
        process.communicate()


def wait_until(condition, seconds: float = 120.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.02)


needs_posix = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


@needs_posix
@pytest.mark.parametrize("algo", ["ppo", "a3c"])
def test_a_killed_run_resumes_to_the_same_result(algo, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder in (straight, killed):
        folder.mkdir()
    subprocess.run(command(algo, straight), check=True, capture_output=True)
    run = run_folder(killed, "meis-stationary", algo, "own.yaml", 0)
    with started(command(algo, killed), stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: (run / "checkpoint.pt").exists() and load_checkpoint(run / "checkpoint.pt")["steps"] > 0)
        workers = children_of(process.pid)
        process.kill()  # SIGKILL
    assert load_checkpoint(run / "checkpoint.pt")["steps"] < 12 * ROUND, "killed too late to test anything"
    wait_until(lambda: not any(running(pid) for pid in workers))  # orphans stop by themselves
    subprocess.run(command(algo, killed, "--resume"), check=True, capture_output=True)
    first, second = (
        load_checkpoint(run_folder(f, "meis-stationary", algo, "own.yaml", 0) / "checkpoint.pt")
        for f in (straight, killed)
    )
    assert same(first["network"], second["network"])
    assert same(first["best"], second["best"])
    assert second["history"][-1]["simulated_steps"] == 24 * ROUND  # 12 rounds, 12 validations as long as a round
    tables = [pd.DataFrame(saved["history"]).drop(columns="seconds") for saved in (first, second)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def learners_left():
    """Actor-learner processes that still run; a study that another test ran may have left joblib's own, waiting."""
    return [process for process in active_children() if process.name.startswith("a3c-")]


def test_a_worker_that_raises_ends_the_run_with_its_traceback(tmp_path):
    env = toy(Failing)
    with pytest.raises(RuntimeError, match=r"(?s)worker 0 failed:.*toys\.py.*the toy fails on day 40") as error:
        train("a3c", env, small("a3c"), out=tmp_path / "run")
    assert error.value.__cause__ is None, "and not itself"
    assert not learners_left()
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["steps"] == 0  # usable: it can be resumed


UNGUARDED = """
import meirl
from meirl.learn import a3c, preset

a3c.train(meirl.make("meis-stationary"), preset("a3c", "tuned", "meis-stationary", steps=10_000, workers=1), 0)
"""


def test_a_script_without_a_main_guard_is_told_what_it_lacks(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    ended = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 1
    assert "if __name__ == '__main__':" in ended.stderr  # multiprocessing says it
    assert "AttributeError" not in ended.stderr  # and no second error buries it
    assert "A3C worker 0 was killed (exit code 1)" in ended.stderr.splitlines()[-1]


@needs_posix
def test_a_worker_that_is_killed_ends_the_run(tmp_path):
    long = command("a3c", tmp_path, workers=2, steps=1_000 * ROUND, evaluations=1_000)
    checkpoint = run_folder(tmp_path, "meis-stationary", "a3c", "own.yaml", 0) / "checkpoint.pt"
    with started(long, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: checkpoint.exists() and load_checkpoint(checkpoint)["steps"] > 0)
        workers = [pid for pid in children_of(process.pid) if "spawn_main" in _command_line(pid)]
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    assert process.returncode > 0
    assert "was killed (exit code -9)" in errors
    wait_until(lambda: not any(running(pid) for pid in workers))
    assert load_checkpoint(checkpoint)["steps"] > 0


@needs_posix
def test_ctrl_c_ends_all_processes_and_leaves_a_checkpoint(tmp_path):
    long = command("a3c", tmp_path, workers=2, steps=1_000 * ROUND, evaluations=1_000)
    own = {
        "start_new_session": True,
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    }
    checkpoint = run_folder(tmp_path, "meis-stationary", "a3c", "own.yaml", 0) / "checkpoint.pt"
    with started(long, stderr=subprocess.PIPE, **own) as process:
        wait_until(lambda: checkpoint.exists() and load_checkpoint(checkpoint)["steps"] > 0)
        workers = children_of(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
        process.communicate(timeout=120)
    assert process.returncode not in (0, -signal.SIGKILL)
    wait_until(lambda: not any(running(pid) for pid in workers))
    assert load_checkpoint(checkpoint)["steps"] > 0


def _command_line(pid: int) -> str:
    return subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout


def test_two_workers_learn_and_leave_nothing_behind(tmp_path):
    done = train("a3c", meirl.make("meis-stationary"), small("a3c", workers=2), out=tmp_path / "run")
    assert done.history[-1]["steps"] == 12 * ROUND
    assert not learners_left()


def test_a_late_report_does_not_turn_the_count_of_steps_back():
    env, config = meirl.make("meis-stationary"), small("a3c", workers=2)
    network = seeded(ActorCritic, env, config, 0)
    run = Run(env, "a3c", config, 0, network, progress=False)
    report = {"rounds": 1, "samples": ROUND, "cost": 0.0, "diagnostics": {}}
    report["state"] = SharedLearner(network).state()
    ours, theirs = zip(Pipe(), Pipe(), strict=True)
    theirs[0].send(report | {"steps": 2 * ROUND})  # the parent hears of the second round first
    theirs[1].send(report | {"steps": ROUND})
    for pipe in theirs:
        pipe.send({"done": True})
    _listen(run, LocalCopy(network), list(ours), [None, None], [0, 0])
    assert [row["steps"] for row in run.history] == [2 * ROUND]
    assert run.steps == 2 * ROUND


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    train("ppo", meirl.make("meis-stationary"), small("ppo", steps=1), out=folder)
    return folder


def test_a_run_keeps_what_made_it(finished):
    manifest = json.loads((finished / "manifest.json").read_text())
    assert {"commit", "torch", "device", "seconds", "steps", "seed", "machine", "finished"} <= manifest.keys()
    assert manifest["steps"] == ROUND
    assert {"kl", "clip_fraction", "explained_variance", "entropy"} <= set(
        pd.read_csv(finished / "history.csv").columns
    )
    assert json.loads((finished / "config.json").read_text())["environments"] == 8


@pytest.mark.parametrize("algo", ["ppo", "a3c"])
def test_a_run_counts_its_validations_among_the_simulated_steps(algo, tmp_path):
    """8 validation episodes of 365 days are as many steps as a round."""
    env, config = meirl.make("meis-stationary"), small(algo, steps=4 * ROUND, evaluations=2)
    done = train(algo, env, config, out=tmp_path)
    assert [row["steps"] for row in done.history] == [2 * ROUND, 4 * ROUND]
    assert [row["simulated_steps"] for row in done.history] == [3 * ROUND, 6 * ROUND]
    assert done.history[-1]["simulated_steps"] == config.simulated_steps(env)
    assert pd.read_csv(tmp_path / "history.csv")["simulated_steps"].tolist() == [3 * ROUND, 6 * ROUND]
    assert json.loads((tmp_path / "manifest.json").read_text())["simulated_steps"] == 6 * ROUND


def test_a_loaded_policy_costs_what_was_recorded(finished):
    policy, env = load_policy(finished)
    table = meirl.rollout(env, policy, meirl.held_out(env, "validation", 8))
    recorded = json.loads((finished / "manifest.json").read_text())["best_validation_cost"]
    assert table["cost"].mean() == pytest.approx(recorded, rel=1e-6)


def test_the_command_line_evaluates_a_run(finished):
    command = [sys.executable, "-m", "meirl", "evaluate", "--env", "meis-stationary", "--episodes", "20", "--json"]
    printed = subprocess.run([*command, "--policy", str(finished)], capture_output=True, text=True, check=True).stdout
    policy, env = load_policy(finished)
    expected = meirl.summarise(meirl.rollout(env, policy, meirl.held_out(env, "test", 20)))
    assert {key: json.loads(printed)[key] for key in expected} == expected
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "give either --heuristic NAME or --policy DIR" in refused.stderr


def test_a_finished_folder_is_not_overwritten(finished):
    with pytest.raises(ValueError, match="holds a run already: resume it, or choose another folder"):
        train("ppo", meirl.make("meis-stationary"), small("ppo", steps=1), out=finished)


def test_another_run_cannot_be_resumed(finished):
    with pytest.raises(ValueError, match="cannot resume: its seed differs"):
        train("ppo", meirl.make("meis-stationary"), small("ppo", steps=1), seed=1, out=finished, resume=True)
    with pytest.raises(ValueError, match="cannot resume: its config differs"):
        train("ppo", meirl.make("meis-stationary"), small("ppo", steps=1, clip=0.3), out=finished, resume=True)


def test_a_chain_may_move_with_its_runs(tmp_path):
    chain = json.loads(meirl.make("meis-stationary").parameters.model_dump_json())
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "chain.yaml").write_text(json.dumps(chain))
    train("ppo", meirl.make(here / "chain.yaml"), small("ppo", steps=1), out=here / "run")
    here.rename(there)
    train("ppo", meirl.make(there / "chain.yaml"), small("ppo", steps=1), out=there / "run", resume=True)
    (there / "chain.yaml").write_text(json.dumps(chain | {"horizon": 100}))
    with pytest.raises(ValueError, match="its env differs"):
        train("ppo", meirl.make(there / "chain.yaml"), small("ppo", steps=1), out=there / "run", resume=True)
    (there / "chain.yaml").rename(there / "other.yaml")
    with pytest.raises(ValueError, match="its env differs"):
        train("ppo", meirl.make(there / "other.yaml"), small("ppo", steps=1), out=there / "run", resume=True)


@pytest.mark.parametrize("damage", ["missing", "cut short", "garbage", "foreign", "a bit", "a name"])
def test_a_bad_checkpoint_is_refused_by_name(finished, tmp_path, damage):
    path = tmp_path / "policy.pt"
    whole = (finished / "policy.pt").read_bytes()
    if damage == "cut short":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "garbage":
        path.write_bytes(b"not a checkpoint")
    elif damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    elif damage == "a bit":  # of a weight: all else is as it was
        middle = whole.index(load_checkpoint(finished / "policy.pt")["best"]["actor.0.weight"].numpy().tobytes())
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif damage == "a name":  # in the archive's list of contents, marked as UTF-8, which it no longer is
        listed = whole.rindex(b"PK\x01\x02")
        flagged = whole[: listed + 9] + b"\x08" + whole[listed + 10 : listed + 46] + b"\xff" + whole[listed + 47 :]
        path.write_bytes(flagged)
    with pytest.raises(ValueError, match=r"policy\.pt"):
        load_policy(tmp_path)


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "pwned").touch, ())

    torch.save({"format": "meirl-checkpoint-1", "best": Evil()}, tmp_path / "policy.pt")
    with pytest.raises(ValueError, match="damaged, or no checkpoint"):
        load_policy(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_a_policy_for_another_chain_or_observation_is_refused(finished):
    with pytest.raises(ValueError, match="trained on other inputs than divergent-stationary shows"):
        load_policy(finished, meirl.make("divergent-stationary"))
    with pytest.raises(ValueError, match="trained on the full observation, not on published"):
        load_policy(finished, meirl.make("meis-stationary", observation="published"))


def test_a_given_environment_is_not_changed(finished):
    assert load_policy(finished, "meis-stationary", horizon=9)[1].horizon == load_policy(finished, horizon=9)[1].horizon
    with pytest.raises(ValueError, match="cannot change horizon of an environment that is made: give its name"):
        load_policy(finished, meirl.make("meis-stationary"), horizon=9)


def test_an_observation_that_is_asked_for_is_the_one_that_the_policy_was_trained_on(finished):
    assert load_policy(finished, "meis-stationary", observation="full")[1].observation == "full"
    with pytest.raises(ValueError, match="trained on the full observation, not on published"):
        load_policy(finished, observation="published")


def test_a_run_that_never_validated_has_no_policy(tmp_path):
    env, config = meirl.make("meis-stationary"), small("ppo")
    with Run(env, "ppo", config, 0, seeded(ActorCritic, env, config, 0), tmp_path / "run", progress=False) as run:
        run.save({})
    with pytest.raises(ValueError, match=r"policy\.pt: its run was stopped before its first validation: resume it"):
        load_policy(tmp_path / "run")


def test_a_policy_is_refused_where_the_same_vector_means_something_else(finished, tmp_path):
    saved = load_checkpoint(finished / "policy.pt")
    torch.save({**saved, "inputs": saved["inputs"][::-1]}, tmp_path / "policy.pt")
    with pytest.raises(ValueError, match="trained on other inputs than meis-stationary shows"):
        load_policy(tmp_path)
    del saved["inputs"]  # of a run that is older than the key: its weights tell
    torch.save(saved, tmp_path / "policy.pt")
    assert load_policy(tmp_path)[1].name == "meis-stationary"
    with pytest.raises(ValueError, match="do not fit divergent-stationary"):
        load_policy(tmp_path, meirl.make("divergent-stationary"))


def test_a3c_refuses_other_devices_than_the_cpu():
    with pytest.raises(ValueError, match="device='cpu'"):
        train("a3c", meirl.make("meis-stationary", device="meta"), small("a3c"))


def test_a_run_that_is_older_than_a_key_has_its_default(finished):
    checkpoint = finished / "checkpoint.pt"
    saved = load_checkpoint(checkpoint)
    config = json.loads(saved["config"])
    del config["anneal"]
    torch.save({**saved, "config": json.dumps(config)}, checkpoint)
    env = meirl.make(saved["env"], observation=saved["observation"])
    today = find_learner(saved["algo"]).Config.model_validate_json(json.dumps(config))
    find_learner(saved["algo"]).train(env, today, saved["seed"], finished, resume=True, progress=False)
    with pytest.raises(ValueError, match="its config differs"):
        find_learner(saved["algo"]).train(
            env, today.model_copy(update={"anneal": False}), saved["seed"], finished, resume=True, progress=False
        )


def test_a_run_that_is_older_than_a_parameter_has_its_default(tmp_path):
    """Checkpoints of version 1.0 know neither warm-up nor rationing by name."""
    env, config = meirl.make("divergent-stationary"), small("ppo", steps=1)
    train("ppo", env, config, out=tmp_path)
    checkpoint = tmp_path / "checkpoint.pt"
    saved = load_checkpoint(checkpoint)
    parameters = json.loads(saved["parameters"])
    for younger in ("warm_up", "endless", "cost_per", "ships", "receives", "unshipped", "rationing"):
        del parameters[younger]
    parameters["serve_largest_first"] = False
    torch.save({**saved, "parameters": json.dumps(parameters)}, checkpoint)
    train("ppo", env, config, out=tmp_path, resume=True)
    parameters["serve_largest_first"] = True
    torch.save({**saved, "parameters": json.dumps(parameters)}, checkpoint)
    with pytest.raises(ValueError, match="its parameters differs"):
        train("ppo", env, config, out=tmp_path, resume=True)
