"""Parameters: validated models, YAML files and layers of changes; every error names the file and the key."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

# Limits that no chain comes near: beyond them sums overflow, or arrays that nobody meant to ask for fill the memory.
Positive = Annotated[float, Field(ge=1e-9, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
Factor = Annotated[float, Field(ge=1e-9, le=1_000)]
Weight = Annotated[float, Field(ge=0, le=1_000)]
Days = Annotated[int, Field(ge=1, le=365)]
Probability = Annotated[float, Field(ge=0, le=1)]

MOST_BYTES, MOST_VALUES = 200_000, 20_000  # of a YAML file


class Model(BaseModel):
    """A validated group of parameters: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of names to values.

    Raises:
        ValueError: if it is missing, not a file, too large, not YAML, or no mapping; if a key stands twice or is no
            text, as ``on`` and ``1`` are none; or if aliases make more than `MOST_VALUES` values of it. Names the file.
    """
    try:
        if path.exists() and not path.is_file():  # a folder, or a pipe that one would wait for
            raise ValueError("not a file")
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES:,} bytes")
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node and _count(node, {}) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values, aliases followed")
        values = loader.construct_document(node) if node else None
    except FileNotFoundError:
        raise ValueError(f"no such file: {path}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}: cannot be read as YAML: line {line}: {error.problem}") from error
    except Exception as error:  # PyYAML raises many kinds
        raise ValueError(f"{path}: cannot be read as YAML: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of keys to values, got {type(values).__name__}")
    return values


def _count(node: yaml.Node, known: dict[int, float]) -> float:
    """Number of values in a YAML node, aliases followed, inf if one holds itself; keys are checked on the way."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)], keys = math.inf, set()
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    for key, _ in pairs:
        problem = f"keys are text, got {key.value!r}" if isinstance(key, yaml.ScalarNode) else "keys are text"
        if key.tag in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            problem = f"the key {key.value!r} stands twice" if key.value in keys else ""
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        keys.add(key.value)
    parts = node.value if isinstance(node, yaml.SequenceNode) else [part for _, part in pairs]
    known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


def shown(value: Any) -> str:
    """A value as an error shows it: the beginning, if it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind if it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def validated(model: type[BaseModel], values: Mapping[str, Any] | str, source: str) -> Any:
    """Build a pydantic model; a ValueError names source, key, what was expected and what was there, a line for each.

    Args:
        model: what to build.
        values: its fields, or these as JSON.
        source: where they are from.
    """
    try:
        return model.model_validate_json(values) if isinstance(values, str) else model.model_validate(values)
    except ValidationError as error:
        lines = []
        for e in error.errors():
            key = ".".join(str(part) for part in e["loc"]) or "(whole file)"
            message = "unknown key" if e["type"] == "extra_forbidden" else e["msg"]
            lines.append(f"{source}: {key}: {message}, got {shown(e['input'])}")
        raise ValueError("\n".join(lines)) from None


def merged(base: Mapping[str, Any], *layers: Mapping[str, Any]) -> dict[str, Any]:
    """Copy of ``base`` with layers laid over it, mapping by mapping: a nested mapping changes only the keys it names.

    >>> merged({"demand": {"mean": 5, "floor": 0}}, {"demand": {"mean": 6}}, {"horizon": 9})
    {'demand': {'mean': 6, 'floor': 0}, 'horizon': 9}
    """
    result = dict(base)
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result
