"""The book as one PDF: Jupyter Book puts all pages on one, a Chromium-based browser prints it."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .make import render

BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "${PROGRAMFILES}/Google/Chrome/Application/chrome.exe",
    "${LOCALAPPDATA}/Google/Chrome/Application/chrome.exe",
    "${PROGRAMFILES(X86)}/Microsoft/Edge/Application/msedge.exe",
)  # fmt: skip
# The pages are our own, so the sandbox, which fails for root in a container, is not missed. No request but the pages.
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
)  # fmt: skip


def browser() -> str:
    """Find Chrome, Chromium or Edge: the variable ``CHROME_PATH``, else the search path and the usual files.

    Raises:
        ValueError: if there is none; the message says what to install.
    """
    named = os.environ.get("CHROME_PATH")
    for name in [named] if named else BROWSERS:
        if found := shutil.which(os.path.expandvars(name)):
            return found
    if named:
        raise ValueError(f"CHROME_PATH must be the file of a Chromium-based browser, got {named!r}")
    raise ValueError(
        "the PDF is printed by a Chromium-based browser, and none was found. Install Chromium (Debian, Ubuntu: "
        "apt install chromium; macOS: brew install --cask chromium), Google Chrome or Microsoft Edge, or set "
        "CHROME_PATH to the file of one that is installed"
    )


def linked(text: str, first: str) -> str:
    """Let the links of the one page lead to what they mean, within the page: a PDF has no files beside it.

    Args:
        text: HTML of all pages on one.
        first: name of the first of them, which has no place of that name as the others have.
    """
    text = re.sub(r'href="(?:book/)?[\w-]+\.html#', 'href="#', text)
    text = re.sub(r'(<a [^>]*href=")(?:book/)?([\w-]+)\.html"', r'\1#document-book/\2"', text)
    text = re.sub(r' href="_downloads/[^"]*"', "", text)
    # Every page counts from id1 on; what is linked to are the entries of the bibliography.
    text = re.sub(r'(<(?!div class="citation")[^>]*) id="id\d+"', r"\1", text)
    return re.sub(r"(<main[^>]*>)", rf'\1<span id="document-{first}"></span>', text, count=1)


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
    whole, pdf = folder / "whole.html", root / "_build" / "book.pdf"  # the page belongs at the top, beside _static
    whole.write_text(linked(page.read_text(encoding="utf-8"), f"book/{page.stem}"), encoding="utf-8")
    pdf.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Virtual time: the browser prints when MathJax has nothing left to do, however slow the machine is.
        command = [
            program, *OPTIONS, f"--user-data-dir={profile}", "--virtual-time-budget=600000",
            "--no-pdf-header-footer", "--generate-pdf-document-outline", f"--print-to-pdf={pdf}", whole.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode or not pdf.exists():
        raise ValueError(f"{program} could not print {whole}:\n{done.stderr}")
    return pdf
