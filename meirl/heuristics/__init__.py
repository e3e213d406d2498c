"""Replenishment rules: what deep RL has to beat, from ordering nothing to tuned seasonal levels.

A `Rule` is a form with free numbers, its *levels*, one vector for all episodes or one row an episode: so `tuning` plays
a whole population of candidates as one batch. Every rule reads the state in units and the calendar, never the scenario,
and works for any number of retailers. `load` gives a rule with committed levels.
"""

from pathlib import Path

from ..config import load_yaml, validated
from ..envs import Env
from ..rollout import Policy
from . import divergent, meis, rule
from .divergent import inventory_position
from .rule import Box, Levels, Range, Rule, wave

__all__ = ["RULES", "Box", "Levels", "Range", "Rule", "best_rule", "find_rule", "inventory_position", "levels_file",
           "load", "read_levels", "wave"]  # fmt: skip

RULES: dict[str, Rule] = {known.name: known for known in (*rule.RULES, *divergent.RULES, *meis.RULES)}
"""Every rule by name."""


def find_rule(env: Env, name: str) -> Rule:
    """The rule of that name; ValueError if there is none for the environment's chain."""
    known = [known for known, rule in RULES.items() if isinstance(env, rule.kind)]
    if name not in known:
        which = "" if name in ("published", "best", "textbook") else "published, best, textbook or "
        raise ValueError(f"unknown heuristic {name!r} for {env.name}: expected {which}one of {', '.join(known)}")
    return RULES[name]


def load(env: Env, name: str | Path = "best") -> Policy:
    """Give a heuristic with its committed levels, as a policy.

    Args:
        env: the environment.
        name: ``never-order``; ``published``, the study's baseline as it was; ``best``, the tuned rule with the lowest
            validation cost; ``textbook``, the best of those that any textbook has; any tuned rule; or a file of levels.

    Raises:
        ValueError: if the name is unknown, or nothing was tuned for the environment.

    >>> import meirl
    >>> env = meirl.make("meis-stationary")
    >>> policy = load(env, "best")
    >>> policy(env.observe(env.reset(1), 0))  # leaf 2 orders its largest option
    tensor([12])
    """
    if name == "never-order":
        return RULES["never-order"].policy(env, [])
    levels = read_levels(env, name)
    return RULES[levels.rule].policy(env, list(levels.levels.values()))


def read_levels(env: Env, name: str | Path) -> Levels:
    """Read the file of a tuned rule, arguments as in `load`; a ValueError names the file and the key that is wrong."""
    if name in ("best", "textbook"):
        name = best_rule(env, textbook=name == "textbook")
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name != "published":
            find_rule(env, str(name))
        path = levels_file(env, str(name))
        if not path.exists():
            hint = f"run `python -m meirl tune --env {env.name} --heuristic {'NAME' if name == 'published' else name}`"
            raise ValueError(f"no levels of {name!r} for {env.name}: {hint}")
    levels = validated(Levels, load_yaml(path), str(path))
    if levels.rule not in RULES:
        raise ValueError(f"{path}: rule: unknown rule {levels.rule!r}, expected one of {', '.join(RULES)}")
    try:
        names = list(RULES[levels.rule].ranges(env))
    except ValueError as error:
        raise ValueError(f"{path}: rule: {error}") from None
    if set(levels.levels) != set(names):
        raise ValueError(f"{path}: levels: expected {', '.join(names)}, got {', '.join(levels.levels)}")
    return levels.model_copy(update={"levels": {name: levels.levels[name] for name in names}})


def best_rule(env: Env, textbook: bool = False) -> str:
    """Name of the tuned rule (``textbook``: of those) with the lowest validation cost; ValueError if there is none."""
    costs = {}
    for path in sorted(levels_file(env, "any").parent.glob("*.yaml")):
        levels = read_levels(env, path)
        cost = levels.provenance.get("validation_cost")
        if cost is not None and (RULES[levels.rule].textbook or not textbook):
            costs[path.stem] = cost
    if not costs:
        raise ValueError(f"nothing tuned for {env.name}: run `python -m meirl tune --env {env.name} --heuristic NAME`")
    return min(costs, key=lambda name: costs[name])


def levels_file(env: Env, name: str) -> Path:
    """Where a rule's levels are kept: in the package, or in a folder beside the YAML file of one's own environment."""
    own = Path(env.name)
    folder = own.with_suffix("") if own.suffix in (".yaml", ".yml") else Path(__file__).parent / "levels" / env.name
    return folder / f"{name}.yaml"
