"""Shared by all tests: every environment by name, one thread (batches are small), repeatable property tests."""

import pytest
import torch
from hypothesis import settings

import meirl

collect_ignore = ["mutants", "conftest.py", "book/conftest.py"]  # a tool (`make mutants`); fixtures have no doctests

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=25)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(params=meirl.NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(params=["published", "full"])
def observation(request) -> str:
    return request.param
