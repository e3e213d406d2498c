"""Choose where tensors live: CUDA, then Apple's MPS, then the CPU; a device must prove itself before it is used."""

import os
import re
import warnings

import torch

VARIABLE = "MEIRL_DEVICE"
KINDS = ("cuda", "mps", "cpu")


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """Pick a device that works: the one asked for, or the best.

    One that was asked for by name but does not work is replaced by the CPU, with a `RuntimeWarning` that says why.

    Args:
        name: ``auto``, ``cuda``, ``cuda:1``, ``mps`` or ``cpu``, else a ValueError. None reads the environment variable
            ``MEIRL_DEVICE``, and means ``auto`` if that is not set.
    """
    source, wanted = ("device", str(name)) if name is not None else (VARIABLE, os.environ.get(VARIABLE) or "auto")
    if not re.fullmatch(r"auto|cuda(:\d+)?|mps|cpu", wanted):
        raise ValueError(f"{source} must be auto, cuda, cuda:N, mps or cpu, got {wanted!r}")
    for kind in KINDS if wanted == "auto" else (wanted, "cpu"):
        reason = why_not(kind)
        if reason is None:
            return torch.device(kind)
        if wanted != "auto" or is_present(kind):
            warnings.warn(f"{kind} cannot be used ({reason}); trying the next device", RuntimeWarning, stacklevel=2)
    raise RuntimeError("not even the CPU works")  # pragma: no cover


def is_present(kind: str) -> bool:
    """Whether PyTorch reports such a device on this machine (it may still fail to work)."""
    if kind.startswith("cuda"):
        return torch.cuda.is_available()
    return torch.backends.mps.is_available() if kind == "mps" else True


def why_not(kind: str) -> str | None:
    """Return why a device cannot be used, or None if it can: a small computation must come out right on it."""
    if not is_present(kind):
        return "PyTorch reports no such device"
    try:
        x = torch.arange(12, dtype=torch.float32, device=kind).reshape(3, 4).requires_grad_()
        index = torch.zeros((3, 1), dtype=torch.long, device=kind)
        total = (torch.relu(x.cumsum(1)) @ x.T).sum() + torch.zeros_like(x).scatter_add(1, index, x[:, :1]).sum()
        (gradient,) = torch.autograd.grad(total, x)
        right = abs(total.item() - 2757.0) < 1e-3 and torch.isfinite(gradient).all().item()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        return f"a test computation failed: {next(iter(str(error).splitlines()), type(error).__name__)}"
    return None if right else "a test computation came out wrong"
