"""Calls of pandoc, which turns our plain HTML into other formats."""

from __future__ import annotations

import subprocess
from pathlib import Path

FILTERS = Path(__file__).resolve().parent / "theme"


def convert(text: str, to: str, *options: str, folder: Path | None = None) -> str:
    """Plain HTML of a book -> text in pandoc's format `to`."""
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "-f", "html-auto_identifiers", "-t", to]
    done = subprocess.run(
        [*command, "--wrap=none", *options],
        input=text,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    if done.returncode:
        raise RuntimeError(f"pandoc failed: {done.stderr.strip()}")
    return done.stdout


def filtered(name: str) -> tuple[str, str]:
    """The option for one of our filters."""
    return "--lua-filter", str(FILTERS / name)
