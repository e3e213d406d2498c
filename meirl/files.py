"""Files that outlive a run: written whole or not at all, and signed with the commit that made them."""

import os
import subprocess
from pathlib import Path


def write(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, finds the old content or the new, never half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def commit(folder: Path = Path(__file__).parent) -> str:
    """Commit of the checkout around a folder, ``+ changes`` if its code differs; ``unknown`` outside a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "--", ":/*.py", ":/*.yaml", ":/notebooks/*.md").strip()
        return git("rev-parse", "--short=12", "HEAD").strip() + (" + changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
