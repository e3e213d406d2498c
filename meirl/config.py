"""Parameters: validated models, YAML files and layers of changes; every error names the file and the key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Model(BaseModel):
    """A validated group of parameters: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; a ValueError names the file that is missing, unreadable or no mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of keys to values, got {type(values).__name__}")
    return values


def validated(model: type, values: Mapping[str, Any], source: str) -> Any:
    """Build a pydantic model; a ValueError names source, key, what was expected and what was there, a line for each."""
    try:
        return model(**values)
    except ValidationError as error:
        lines = []
        for e in error.errors():
            key = ".".join(str(part) for part in e["loc"]) or "(whole file)"
            message = "unknown key" if e["type"] == "extra_forbidden" else e["msg"]
            lines.append(f"{source}: {key}: {message}, got {e['input']!r}")
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
