"""Shared by all tests: one thread (batches are small, and machines are shared), and every environment by name."""

import pytest
import torch

import meirl


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(params=meirl.NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(params=["published", "full"])
def observation(request) -> str:
    return request.param
