"""The book as one PDF: Jupyter Book puts all pages on one, a Chromium-based browser prints it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .book import render

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
APPLICATIONS = ("Google Chrome", "Chromium", "Microsoft Edge")  # macOS
PROGRAMS = ("Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe")  # Windows
# The pages are our own, so the sandbox, which fails for root in a container, is not missed. No request but the pages.
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
)  # fmt: skip


def browser() -> Path:
    """Find Chrome, Chromium or Edge: the variable ``CHROME_PATH``, the search path, the systems' usual folders.

    Raises:
        ValueError: if there is none; the message says what to install.
    """
    if named := os.environ.get("CHROME_PATH"):
        if Path(named).is_file():
            return Path(named)
        raise ValueError(f"CHROME_PATH must be the file of a Chromium-based browser, got {named!r}")
    for path in _usual_places():
        if path.is_file():
            return path
    raise ValueError(
        "the PDF is printed by a Chromium-based browser, and none was found. Install Chromium (Debian, Ubuntu: "
        "apt install chromium; macOS: brew install --cask chromium), Google Chrome or Microsoft Edge, or set "
        "CHROME_PATH to the file of one that is installed"
    )


def _usual_places() -> Iterator[Path]:
    yield from (Path(found) for name in NAMES if (found := shutil.which(name)))
    yield from (Path("/Applications") / f"{name}.app" / "Contents" / "MacOS" / name for name in APPLICATIONS)
    folders = [os.environ[key] for key in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA") if key in os.environ]
    yield from (Path(folder) / program for folder in folders for program in PROGRAMS)


def make_pdf(root: Path) -> Path:
    """Print the published book, as committed under ``book/``, into ``_build/book.pdf``.

    Args:
        root: the project's folder.

    Returns:
        The PDF, with one bookmark a heading.

    Raises:
        ValueError: if there is no browser, the pages have warnings, or the browser fails.
    """
    program = browser()
    folder = render(root, "singlehtml")
    (page,) = (folder / "book").glob("*.html")
    # The page belongs at the top, beside _static; links within it must not name its file, or the PDF would link there.
    text = page.read_text(encoding="utf-8").replace(f'href="book/{page.name}#', 'href="#')
    whole, pdf = folder / "whole.html", root / "_build" / "book.pdf"
    whole.write_text(text, encoding="utf-8")
    pdf.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Virtual time: the browser prints when MathJax has nothing left to do, however slow the machine is.
        command = [
            str(program), *OPTIONS, f"--user-data-dir={profile}", "--virtual-time-budget=600000",
            "--no-pdf-header-footer", "--generate-pdf-document-outline", f"--print-to-pdf={pdf}", whole.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode or not pdf.exists():
        raise ValueError(f"{program} could not print {whole}:\n{done.stderr}")
    return pdf
