"""Files that outlive a run: written whole or not at all, by one process at a time, and signed with the commit."""

import math
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from filelock import FileLock, Timeout

STALE = 3600  # seconds


def write(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, finds the old content or the new, never half of it.

    What writes that were killed left beside it goes, once it is so old that nobody can still be at it.
    """
    for left in path.parent.glob(f".{escape(path.name)}.*.partial"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - STALE:
                left.unlink()
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        _replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _replace(new: Path, old: Path) -> None:
    """Put one file in the place of another, which Windows refuses while somebody reads that: then a little later."""
    for pause in (0.01, 0.1, 1.0) if os.name == "nt" else ():  # seconds
        with suppress(PermissionError):
            new.replace(old)
            return
        time.sleep(pause)
    new.replace(old)


@contextmanager
def only_writer(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only one to write a folder for as long as the context lasts; what killed writers left half done goes.

    The lock is a file beside the folder; the system frees it when its holder ends, however that comes about. Who holds
    it may take it again.

    Args:
        folder: need not exist yet.
        wait: until the other is done; else another writer is a ValueError.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), is_singleton=True)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise ValueError(f"{folder}: another process is writing it: wait for it, or choose another folder") from None
    try:
        for left in folder.glob(".*.partial"):
            left.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def check_archive(path: Path, most: int) -> None:
    """Refuse what is no whole zip archive, or unpacks to more than so many bytes, by a ValueError."""
    if not path.is_file():
        raise ValueError(f"{path}: {'not a file' if path.exists() else 'does not exist'}")
    try:
        with ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size <= most and (wrong := archive.testzip()):
                raise BadZipFile(f"{wrong} is not what was written")
    except Exception as error:  # what is wrong in an archive shows in many ways
        raise ValueError(f"{path}: damaged, or another kind of file: {error}") from error
    if size > most:
        raise ValueError(f"{path}: unpacks to {size:,} bytes, expected at most {most:,}")


def jsonable(value: Any) -> Any:
    """A copy of mappings, lists and numbers that is valid JSON: what is no finite number becomes null."""
    if isinstance(value, Mapping):
        return {key: jsonable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def commit(folder: Path = Path(__file__).parent) -> str:
    """Commit of the checkout that a folder is of, ``+ changes`` if its code differs; ``unknown`` if it is of none."""

    def git(*words: str) -> str:
        return subprocess.check_output(["git", *words], cwd=folder, stderr=subprocess.DEVNULL).decode(errors="replace")

    try:
        git("ls-files", "--error-unmatch", ".")  # fails where the folder only lies in a repository, as .venv does
        changed = git("status", "--porcelain", "--", ":/*.py", ":/*.yaml", ":/notebooks/*.md").strip()
        return git("rev-parse", "--short=12", "HEAD").strip() + (" + changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
