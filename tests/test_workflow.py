"""What the workflow may do: only what its job needs."""

import re
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent.parent / ".github" / "workflows"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.yml")}
WORKFLOW, MUTANTS = WORKFLOWS["book"], WORKFLOWS["mutants"]
JOBS = {name: job for workflow in WORKFLOWS.values() for name, job in workflow["jobs"].items()}
STEPS = [step for job in JOBS.values() for step in job["steps"] if "uses" in step]


def test_only_the_deployment_may_write_and_only_pages():
    assert all(workflow["permissions"] == {} for workflow in WORKFLOWS.values())
    for name, job in JOBS.items():
        expected = {"pages": "write", "id-token": "write"} if name == "deploy" else {"contents": "read"}
        assert job["permissions"] == expected, name
    condition = "github.ref == 'refs/heads/main' && github.event.repository.has_pages"
    assert WORKFLOW["jobs"]["deploy"]["if"] == condition


def test_a_checkout_leaves_no_credentials():
    checkouts = [step for step in STEPS if step["uses"].startswith("actions/checkout@")]
    assert len(checkouts) == len(JOBS) - 1
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_a_younger_run_replaces_an_older_one_but_no_deployment():
    assert "github.ref" in WORKFLOW["concurrency"]["group"]
    assert WORKFLOW["concurrency"]["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"


def test_mutants_run_weekly_and_never_hold_up_a_change():
    triggers = MUTANTS[True]  # YAML's "on"
    assert set(triggers) == {"schedule", "workflow_dispatch"}
    (weekly,) = triggers["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* \d", weekly["cron"])
    assert MUTANTS["jobs"]["mutants"]["steps"][-1] == {"run": "make mutants"}
