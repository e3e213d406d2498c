"""Worker processes that do not outlive the one that they work for, even if that was killed.

A process that has others work for it holds the lock of a file for as long as it lives; the system frees the lock
however it ends. Its workers wait for that lock in a thread: who gets it is alone.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from threading import Thread
from typing import Any

from filelock import FileLock

POLL = 1.0  # seconds between two looks


def attended(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same work, to be done by another process of this machine, which ends soon after the one that calls this.

    >>> attended(max)(3, 5)
    5
    """
    return partial(_attend, _sign_of_life()[0], work)


@cache
def _sign_of_life() -> tuple[Path, FileLock]:
    """A file, and its lock, which this process holds from now on."""
    folder = Path(tempfile.mkdtemp(prefix="meirl-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    lock = FileLock(folder / str(os.getpid()))
    lock.acquire()
    return Path(lock.lock_file), lock


def _attend(sign: Path, work: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    if sign.name != str(os.getpid()):  # who works alone is its own worker
        _end_with(sign)
    return work(*arguments, **keywords)


@cache
def _end_with(sign: Path) -> None:
    """From now on, end this process at once, in the midst of things, when the one whose sign it is has ended."""
    Thread(target=_wait_and_end, args=(sign,), daemon=True).start()


def _wait_and_end(sign: Path) -> None:
    try:
        FileLock(sign).acquire(poll_interval=POLL)
    finally:
        os._exit(1)
