"""One function per form of the book: the folder of sources in, a folder out."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import sys
from pathlib import Path

from folio.book import settings as book_settings
from folio.book import summary as contents
from folio.config import UserError, nearest

NEEDED = {
    "sphinx": "sphinx",
    "myst_parser": "myst-parser",
    "furo": "furo",
    "sphinx_copybutton": "sphinx-copybutton",
    "pypandoc": "pypandoc-binary",
    "typst": "typst",
}
THEME = Path(__file__).resolve().parent / "theme"
TEMPLATE = Path(__file__).resolve().parent / "template"


def html(source: Path, out: Path) -> Path:
    """The site; open `out`/index.html. It asks no other machine for anything."""
    sphinx("html", source, out)
    return out / "index.html"


def pdf(source: Path, out: Path) -> Path:
    """`out`/book.pdf, one file with its fonts; the same bytes for the same sources."""
    page = one_page(source, out)  # if the extra is missing, this says so
    from folio.book.printed import write_pdf

    return write_pdf(page, book_settings.read(source), out)


def epub(source: Path, out: Path) -> Path:
    """`out`/book.epub, for e-readers."""
    page = one_page(source, out)  # if the extra is missing, this says so
    from folio.book.printed import write_epub

    return write_epub(page, book_settings.read(source), out)


def notebooks(source: Path, out: Path) -> Path:
    """A notebook of each chapter in `out`; each is one file, and runs on Colab."""
    sphinx("notebooks", source, out)
    shutil.rmtree(out / "_static", ignore_errors=True)  # of the site's theme
    return out


def markdown(source: Path, out: Path) -> Path:
    """A plain Markdown file of each chapter in `out`, and their figures beside."""
    sphinx("markdown", source, out)
    shutil.rmtree(out / "_static", ignore_errors=True)  # of the site's theme
    return out


FORMS = {
    "html": html,
    "pdf": pdf,
    "notebooks": notebooks,
    "markdown": markdown,
    "epub": epub,
}


def make(form: str, source: Path = Path("book"), out: Path | None = None) -> Path:
    """One of `FORMS` of the book in `source`; returns what to open.

    Without `out`, it goes to build/NAME/FORM, where NAME is the sources' folder.
    """
    if form not in FORMS:
        raise UserError(f"no form {form!r}{nearest(form, sorted(FORMS))}")
    if out is None:
        out = Path("build") / (source.resolve().name or "book") / form
    return FORMS[form](source, out)


def new(folder: Path) -> Path:
    """Write a small guide of one's own into `folder`, ready to be built and changed."""
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty; name a new folder")
    compiled = shutil.ignore_patterns("__pycache__")  # pip leaves it in the template
    shutil.copytree(TEMPLATE, folder, ignore=compiled, dirs_exist_ok=True)
    return folder


def one_page(source: Path, out: Path) -> Path:
    """The folder with the whole book as plain HTML."""
    page = kept_of(out) / "page"
    sphinx("onepage", source, page, kept_of(out))
    return page


def kept_of(out: Path) -> Path:
    """Where outputs of cells and read chapters are kept between builds."""
    return out.parent / ".kept"


def sphinx(builder: str, source: Path, out: Path, kept: Path | None = None) -> None:
    """Read what changed and write it; the first problem, if any, is the error."""
    check_extra()
    summary = contents.read(source)
    settings = book_settings.read(source)
    if note := contents.missing_note(summary):
        print(note, file=sys.stderr)
    kept = (kept or kept_of(out)).resolve()
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    problems = io.StringIO()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            srcdir=source.resolve(),
            confdir=None,
            outdir=out.resolve(),
            doctreedir=kept / "chapters",
            buildername=builder,
            confoverrides=configuration(source, settings, summary, kept),
            status=None,
            warning=problems,
        )
        app.build()
    try:
        complain(problems.getvalue(), source)
    except UserError:  # what was read with errors must be read again
        shutil.rmtree(kept / "chapters", ignore_errors=True)
        raise


def configuration(source: Path, settings, summary: contents.Summary, kept: Path):
    """What a conf.py would say; sources hold none."""
    from folio.book.cells import package_hash

    written = {f"{entry.document}.md" for entry in summary.written}
    there = {p.relative_to(source).as_posix() for p in source.rglob("*.md")}
    return {
        "project": settings.title,
        "author": settings.author,
        "copyright": f"{settings.author} · {settings.license}",
        "language": settings.language,
        "extensions": ["myst_parser", "sphinx_copybutton", "folio.book.extension"],
        "root_doc": summary.root,
        "exclude_patterns": sorted(there - written),
        "myst_enable_extensions": [
            "amsmath",
            "attrs_block",
            "attrs_inline",
            "colon_fence",
            "deflist",
            "dollarmath",
            "smartquotes",
        ],
        "numfig": True,
        "numfig_format": {"figure": "Figure %s", "table": "Table %s"},
        "nitpicky": True,
        "suppress_warnings": ["misc.highlighting_failure", "toc.not_included"],
        "smartquotes": False,
        "html_theme": "furo",
        "html_title": settings.title,
        "html_static_path": [str(THEME / "static")],
        "html_css_files": ["colors.css", "book.css"],
        "html_js_files": ["quiz.js"],
        "html_math_renderer": "mathml",
        "html_copy_source": False,
        "html_secnumber_suffix": " ",
        "html_show_sphinx": False,
        "copybutton_exclude": ".linenos",
        "pygments_style": "a11y-light",
        "folio_numbers": {e.document: e.number for e in summary.written},
        "folio_parts": first_of_parts(summary),
        "folio_trees": contents.toctrees(summary),
        "folio_repository": settings.repository,
        "folio_install": settings.install,
        "folio_hash": package_hash(),
        "folio_kept": str(kept / "cells"),
    }


def first_of_parts(summary: contents.Summary) -> dict[str, str]:
    """The chapter with which each part begins, and the part's name."""
    return {entries[0].document: part for part, entries in summary.parts() if part}


def check_extra() -> None:
    """All packages of the extra are there, or one line says how to get them."""
    for module, package in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"folio book needs the package {package}: pip install 'folio-llm[book]'"
            )


def complain(text: str, source: Path) -> None:
    """The first problem as an error, the others before it, a line each."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = text.replace(f"{source.resolve()}/", f"{source}/")
    found = [
        line for line in text.splitlines() if re.search("WARNING|ERROR|CRIT", line)
    ]
    if not found:
        return
    for line in found[1:]:
        print(line, file=sys.stderr)
    more = f" (and {len(found) - 1} more, above)" if len(found) > 1 else ""
    raise UserError(found[0] + more)
