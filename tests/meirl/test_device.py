"""Choosing a device, each case simulated: this machine may have none of them."""

import warnings

import pytest
import torch

from meirl import device
from meirl.device import pick_device


@pytest.fixture
def machine(monkeypatch):
    """Pretend that a device is present, and that it works (then it computes on the CPU) or not."""
    monkeypatch.delenv(device.VARIABLE, raising=False)

    def pretend(*present: str, broken: tuple[str, ...] = ()) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in present)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in present)
        for name in ("arange", "zeros"):
            real = getattr(torch, name)

            def create(*args, device="cpu", real=real, **kwargs):
                kind = torch.device(device).type
                if kind in broken:
                    raise RuntimeError(f"{kind} error: no kernel image is available\nmore lines")
                return real(*args, device="cpu" if kind in present else device, **kwargs)

            monkeypatch.setattr(torch, name, create)

    pretend()
    return pretend


@pytest.fixture
def quiet():
    """No warning may be raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    ("present", "best"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")]
)
@pytest.mark.usefixtures("quiet")
def test_auto_takes_the_best_that_is_present_and_works(machine, present, best):
    machine(*present)
    assert pick_device() == pick_device("auto") == torch.device(best)


@pytest.mark.parametrize(("others", "fallback"), [((), "cpu"), (("mps",), "mps")])
def test_a_broken_device_is_passed_over_with_a_warning_that_says_why(machine, others, fallback):
    machine("cuda", *others, broken=("cuda",))
    why = r"cuda cannot be used \(a test computation failed: cuda error: no kernel image is available\)"
    with pytest.warns(RuntimeWarning, match=why):
        assert pick_device() == torch.device(fallback)


def test_both_accelerators_broken_leaves_the_cpu_and_two_warnings(machine):
    machine("cuda", "mps", broken=("cuda", "mps"))
    with pytest.warns(RuntimeWarning) as caught:
        assert pick_device() == torch.device("cpu")
    assert [str(w.message).split()[0] for w in caught] == ["cuda", "mps"]


def test_a_device_that_fails_without_a_word_is_told_by_the_kind_of_error(machine, monkeypatch):
    machine("cuda")
    monkeypatch.setattr(torch, "relu", lambda _: (_ for _ in ()).throw(AssertionError))
    assert device.why_not("cuda") == "a test computation failed: AssertionError"


def test_a_device_that_computes_nonsense_is_not_used(machine, monkeypatch):
    machine("cuda")
    monkeypatch.setattr(torch, "relu", torch.zeros_like)
    assert device.why_not("cuda") == "a test computation came out wrong"
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        device, "why_not", {"cuda": "a test computation came out wrong", "mps": "none", "cpu": None}.get
    )
    with pytest.warns(RuntimeWarning, match="came out wrong"):
        assert pick_device() == torch.device("cpu")


@pytest.mark.usefixtures("quiet")
def test_the_argument_decides_before_the_environment_variable(machine, monkeypatch):
    machine("cuda", "mps")
    monkeypatch.setenv(device.VARIABLE, "mps")
    assert pick_device() == torch.device("mps")
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device(torch.device("cuda", 1)) == torch.device("cuda:1")
    monkeypatch.setenv(device.VARIABLE, "")  # set but empty is not set
    assert pick_device() == torch.device("cuda")


@pytest.mark.parametrize("wanted", ["cuda", "cuda:3", "mps"])
def test_a_device_asked_for_but_absent_is_replaced_by_the_cpu_with_a_warning(machine, wanted):
    with pytest.warns(RuntimeWarning, match=f"{wanted} cannot be used .PyTorch reports no such device"):
        assert pick_device(wanted) == torch.device("cpu")


def test_asked_for_through_the_variable_but_absent_warns_too(machine, monkeypatch):
    monkeypatch.setenv(device.VARIABLE, "cuda")
    with pytest.warns(RuntimeWarning, match="cuda cannot be used"):
        assert pick_device() == torch.device("cpu")


@pytest.mark.parametrize("wrong", ["gpu", "cuda:", "cuda:x", "auto:1", "cpu:0", "CUDA", ""])
def test_a_name_that_is_none_is_refused(machine, monkeypatch, wrong):
    with pytest.raises(ValueError, match=f"device must be auto, cuda, cuda:N, mps or cpu, got '{wrong}'"):
        pick_device(wrong)
    if wrong:
        monkeypatch.setenv(device.VARIABLE, wrong)
        with pytest.raises(ValueError, match=f"MEIRL_DEVICE must be .*, got '{wrong}'"):
            pick_device()


def test_the_cpu_works_here():
    assert device.why_not("cpu") is None
