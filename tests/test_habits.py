"""What a contributor meets first is valid: workflow, forms, citation, changelog, and the checks before a commit."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

import meirl

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.github-issue-forms": FORMS,
    "vendor.github-issue-config": [ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
HOOKS = {
    repo["repo"].split("/")[-1]: repo
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
}
PAIRS = sorted((ROOT / "notebooks").glob("*.md"))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_follow_their_schema(schema):
    assert SCHEMAS[schema]
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, "--force-filetype", "yaml"]
    done = subprocess.run([*command, *map(str, SCHEMAS[schema])], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_say_which_version_that_is(path):
    uses = re.findall(r"\buses:\s*(.*)", path.read_text(encoding="utf-8"))
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_the_citation_and_the_changelog_have_the_version():
    assert CITATION["version"] == meirl.__version__
    heading = f"## {meirl.__version__} - {CITATION['date-released']}"
    assert heading in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()


def test_the_citation_has_the_title_of_the_book_and_the_published_study():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert CITATION["title"] == config["title"]
    urls = [reference["repository-code"] for reference in CITATION["references"]]
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert urls == re.findall(r"@misc{published,.*?\\url{([^}]+)}", bibliography, re.DOTALL)


def test_readme_and_citation_have_the_address_of_the_repository():
    """It stands in ``pyproject.toml``; without one there, nobody else may name one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository")
    assert CITATION.get("repository-code") == address
    theirs = {reference["repository-code"] for reference in CITATION["references"]}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"https://github\.com/[\w.-]+/[\w.-]*\w", readme)) - theirs
    assert named == ({address} if address else set())


def test_the_checks_before_a_commit_use_the_versions_of_the_constraints():
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (local,) = HOOKS["local"]["hooks"]
    assert f"ruff=={HOOKS['ruff-pre-commit']['rev'].removeprefix('v')}" in constraints
    assert set(local["additional_dependencies"]) <= set(constraints)


def test_a_changed_half_of_a_pair_is_checked_before_a_commit():
    (local,) = HOOKS["local"]["hooks"]
    python, script = local["entry"].split()
    assert python == "python"
    assert (ROOT / script).is_file()
    files = {f"notebooks/{path.stem}{suffix}" for path in PAIRS for suffix in (".md", ".ipynb")}
    other = {"notebooks/pages.yaml", script, "book/00-abstract.ipynb"}
    assert {name for name in files | other if re.search(local["files"], name)} == files


@pytest.fixture(scope="module")
def check_pairs():
    spec = importlib.util.spec_from_file_location("check_pairs", ROOT / "notebooks" / "check_pairs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copied(tmp_path):
    """A copy of a pair, to spoil: source and pair."""
    return [Path(shutil.copy(PAIRS[0].with_suffix(suffix), tmp_path)) for suffix in (".md", ".ipynb")]


def change(pair: Path, edit) -> None:
    """Edit the last code cell."""
    notebook = nbformat.read(pair, as_version=4)
    edit([cell for cell in notebook.cells if cell.cell_type == "code"][-1])
    nbformat.write(notebook, pair)


def as_raw(cell) -> None:
    cell.cell_type = "raw"
    del cell["outputs"], cell["execution_count"]


def test_every_pair_passes_the_check(check_pairs, capsys):
    assert PAIRS
    assert check_pairs.main(map(str, [*PAIRS, *(path.with_suffix(".ipynb") for path in PAIRS)])) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "spoil",
    [
        lambda source, pair: source.write_text(source.read_text(encoding="utf-8") + "\nMore.\n", encoding="utf-8"),
        lambda source, pair: change(pair, lambda cell: cell.update(source=cell.source + "\n1 / 0")),
        lambda source, pair: change(pair, lambda cell: cell.update(metadata={"tags": ["hide-output"]})),
        lambda source, pair: change(pair, as_raw),
        lambda source, pair: pair.unlink(),
        lambda source, pair: source.unlink(),
    ],
    ids=["more text", "other code", "other tags", "other type", "no pair", "no source"],
)
@pytest.mark.parametrize("half", [0, 1], ids=["source", "pair"])
def test_a_pair_that_differs_fails_the_check(check_pairs, copied, spoil, half, capsys):
    assert check_pairs.main([str(copied[half])]) == 0
    spoil(*copied)
    assert check_pairs.main([str(copied[half])]) == 1
    assert capsys.readouterr().out == f"run make pairs: {PAIRS[0].stem}\n"


def test_other_outputs_pass_the_check(check_pairs, copied):
    change(copied[1], lambda cell: cell.update(outputs=[], execution_count=None))
    assert check_pairs.main(map(str, copied)) == 0


def test_the_check_is_a_command_whose_exit_code_says_the_result(copied):
    command = [sys.executable, str(ROOT / "notebooks" / "check_pairs.py"), *map(str, copied)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    copied[1].unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, f"run make pairs: {PAIRS[0].stem}\n")
