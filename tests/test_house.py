"""The project's own files agree with each other: versions, verbs, workflow."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(lines: list[str]) -> dict[str, str]:
    found = (line.split("#")[0].strip().split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, version in found}


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
PIP = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
EXTRAS = PROJECT["optional-dependencies"]


def required(lines: list[str]) -> list[Requirement]:
    """Requirements, with the project's own extras resolved."""
    found = []
    for requirement in map(Requirement, lines):
        own = [line for extra in requirement.extras for line in EXTRAS[extra]]
        found += required(own) if requirement.name == PROJECT["name"] else [requirement]
    return found


REQUIREMENTS = required([*PROJECT["dependencies"], *EXTRAS["book"], *EXTRAS["test"]])


def test_conda_environment_has_the_versions_of_the_constraints():
    versions = pins(PIP)
    assert versions.items() <= CONSTRAINTS.items()
    assert set(versions) == {canonicalize_name(r.name) for r in REQUIREMENTS}
    assert "-e .[book,test]" in PIP


def test_conda_python_is_one_the_project_supports():
    python = next(d for d in CONDA["dependencies"] if str(d).startswith("python="))
    assert python.removeprefix("python=") in PROJECT["requires-python"]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: r.name)
def test_constraints_satisfy_the_project(requirement):
    assert requirement.specifier.contains(CONSTRAINTS[canonicalize_name(requirement.name)], prereleases=True)


def test_every_make_verb_is_listed_by_help_and_in_the_readme():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for verb in phony.split():
        assert re.search(rf"^{verb}:.*## ", makefile, re.MULTILINE), verb
        assert f"make {verb}" in readme, verb


def test_ci_runs_what_the_readme_says():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make test" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8"))
    assert {"run": "make test"} in workflow["jobs"]["test"]["steps"]
