"""The image can't be built here; at least it asks for nothing that isn't there."""

import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_what_is_copied_is_there_and_not_ignored():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    copied = [
        name
        for sources in re.findall(r"^COPY (.*) \S+$", TEXT, re.MULTILINE)
        for name in sources.split()
    ]
    assert len(copied) > 4
    for name in copied:
        assert (ROOT / name).exists()
        assert any(fnmatch(name, pattern) for pattern in kept)


def test_nothing_comes_unpinned_or_runs_as_root():
    installs = re.findall(r"^RUN pip install (.*?)(?<!\\)$", TEXT, re.M | re.S)
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in install for install in installs)
    assert TEXT.index("\nUSER folio") < TEXT.index("\nCMD")
    assert "/health" in TEXT[TEXT.index("HEALTHCHECK") : TEXT.index("\nCMD")]
