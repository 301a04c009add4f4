"""The PDF and the e-book, made of the one plain page."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path

from folio.book.formulas import renamed
from folio.book.pandoc import FILTERS, convert, filtered
from folio.book.settings import Settings
from folio.files import write_atomically


def timestamp() -> datetime.datetime:
    """SOURCE_DATE_EPOCH, or the first second: a book has no date of its own."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", 0))
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def write_pdf(page: Path, settings: Settings, out: Path) -> Path:
    """`page` is the folder with book.html and its figures; `out` the PDF's.

    Only the fonts inside the typesetter are used, and no date: the same bytes always.
    """
    import typst

    text = convert(
        (page / "book.html").read_text(encoding="utf-8"),
        "typst",
        *filtered("print.lua"),
        "--standalone",
        f"--template={FILTERS / 'print.typ'}",
        f"--variable=booktitle:{settings.title}",
        f"--variable=booksubtitle:{settings.subtitle}",
        f"--variable=bookauthor:{settings.author}",
        f"--variable=booklicense:{settings.license}",
    )
    text = renamed(text)
    (page / "book.typ").write_text(text, encoding="utf-8")
    made = typst.compile(
        str(page / "book.typ"),
        root=str(page),
        ignore_system_fonts=True,
        timestamp=timestamp(),
        pdf_standards=[],
    )
    return _place(made, out / "book.pdf")


def write_epub(page: Path, settings: Settings, out: Path) -> Path:
    """One file for e-readers, formulas as MathML."""
    target = page / "book.epub"
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")  # pandoc's clock, too
    convert(
        (page / "book.html").read_text(encoding="utf-8"),
        "epub3",
        *filtered("epub.lua"),
        "--mathml",
        "--toc",
        "--toc-depth=2",
        "--split-level=1",
        f"--css={FILTERS / 'epub.css'}",
        f"--metadata=title:{settings.title}",
        f"--metadata=author:{settings.author}",
        f"--metadata=identifier:{settings.identifier}",
        f"--metadata=lang:{settings.language}",
        "--output=book.epub",
        folder=page,
    )
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(target, out / "book.epub")
    return out / "book.epub"


def _place(made: bytes, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, made)
    return path
