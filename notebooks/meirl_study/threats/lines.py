"""The lines of the study's code that an experiment is about: what they do, in words, and where they are."""

from __future__ import annotations

from ..published import Caveat, permalink

_ENV, _RULE, _MEIS = "ppo/models/env.py", "ppo/models/baseline.py", "actor-critic/src/meis_env.py"
_TUNER, _NETWORK = "actor-critic/src/s_s_policy.py", "ppo/models/actor_critic.py"
LINES: dict[str, tuple[Caveat, ...]] = {
    "straw": (
        Caveat("The environment shows every stock divided by its limit: empty is 0, full is 1.", _ENV, "L291-L302"),
        Caveat(
            "The baseline reads it back as (state + 1) x limit / 2, as if empty were -1: empty shelves look half full.",
            _RULE, "L69-L88",
        ),
        Caveat("It orders its level minus that stock, if positive; it counts nothing on its way.", _RULE, "L115-L124"),
        Caveat(
            "Its levels follow from a formula, cut at 0.6 and 0.5 of the limits; nothing tunes them.", _RULE, "L31-L67"
        ),
    ),
    "box": (
        Caveat(
            "The box: the leaves' reorder points up to 10,000, their order-up-to levels up to 15,000 units.",
            _TUNER, "L124-L131",
        ),
        Caveat("Differential evolution, polished, within it; nobody is told that a bound is hit.", _TUNER, "L186-L195"),
        Caveat(
            "What it found on Env-1: leaf 1 at 9,897 and 14,857, just below the upper bounds; leaf 2 at 2,456 and "
            "4,325, just above the lower ones.",
            "actor-critic/results/logs/baseline_params.json", "",
        ),
    ),
    "service": (
        Caveat(
            "One minus the customers now waiting as a share of mean demand times the days so far, cut at 0 and 1.",
            _MEIS, "L281-L300",
        ),
        Caveat("Who waits too long withdraws, and so leaves the backlog.", _MEIS, "L213-L233"),
        Caveat("The mean over the days is reported.", "actor-critic/utils/evaluation.py", "L66-L78"),
    ),
    "clip": (
        Caveat("Orders are scaled to at most 30 units and then clipped to 15.", _ENV, "L201-L202"),
        Caveat(
            'Env-2 leaves the clip out: it "silently limits throughput", says the comment.',
            "ppo/models/env_complex.py", "L213-L218",
        ),
        Caveat("Backorders above their cap are cut, at no cost.", _ENV, "L389"),
    ),
    "tail": (
        Caveat(
            "The cost of each of PPO's 100 test episodes on Env-2; one is 10,265,917.",
            "ppo/results_complex/evaluation_results.json", "",
        ),
        Caveat("Mean, standard deviation, least and most are computed; mean and standard deviation reported.",
               "ppo/src/evaluate.py", "L97-L112"),
    ),
    "confounded": (
        Caveat("PPO's program knows the divergent chain's two variants.", "ppo/main.py", "L107-L113"),
        Caveat("A3C's knows those of MEIS.", "actor-critic/main.py", "L232-L238"),
    ),
    "faults": (
        Caveat("The log-probability is the squashed action's under the unsquashed Gaussian.", _NETWORK, "L83-L86"),
        Caveat("A tanh ends the network, and the deterministic action is the tanh of that.", _NETWORK, "L37-L38"),
        Caveat("Training discounts by 0.95.", "ppo/configs/config.yaml", "L13"),
    ),
    "seed": (
        Caveat("One seed, 42, for PPO.", "ppo/configs/config.yaml", "L28"),
        Caveat("The same for A3C.", "actor-critic/configs/config.yaml", "L34"),
    ),
    "unpaired": (
        Caveat(
            "A t-test of two independent samples, though both policies restart the same random stream: their draws "
            "part with their orders.",
            "actor-critic/utils/evaluation.py", "L124-L127",
        ),
    ),
    "selection": (
        Caveat("The best of ten evaluations during training is kept ...", "actor-critic/src/trainer.py", "L340-L362"),
        Caveat("... and is what is tested.", "actor-critic/main.py", "L136-L143"),
        Caveat(
            "PPO keeps its best too, but tests its last weights.", "ppo/src/evaluate.py", "L245-L246"
        ),
    ),
    "discount": (
        Caveat("PPO's discount.", "ppo/configs/config.yaml", "L13"),
        Caveat("Costs of a test episode are added up without it.", "ppo/src/evaluate.py", "L72-L73"),
    ),
}  # fmt: skip
"""By threat."""


def code(threat: str) -> str:
    """The lines of a threat as a Markdown list, each linked to its file at the commit of `meirl_study.published`."""
    entries = []
    for line in LINES[threat]:
        where = line.lines.replace("L", "").replace("-", " to ")
        numbers = f", line{'s' if '-' in line.lines else ''} {where}" if where else ""
        entries.append(f"- {permalink(line.file, line.lines, f'`{line.file}`{numbers}')}: {line.says}")
    return "\n".join(entries)
