"""Guides built in every form: what is written, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from chapters import BOOK
from folio.book import build
from folio.book.portable import code_cell
from folio.cli import main
from folio.config import UserError

# what a browser would load by itself: not links that a reader may follow
REQUESTS = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*\b
        (?:src|data|srcset)=["']?(?:https?:)?//[^"'\s>]+
      | <link\b(?![^>]*rel=["'](?:canonical|author|license))[^>]*
        \bhref=["']?(?:https?:)?//[^"'\s>]+
      | url\(\s*["']?(?:https?:)?//[^)]+
      | @import\s+["'](?:https?:)?//[^"']+
      | (?:fetch|importScripts|open)\(\s*["'](?:https?:)?//[^"']+""",
    re.VERBOSE,
)


def requests_of(folder: Path) -> list[str]:
    """Everything that pages, styles and scripts would load from elsewhere."""
    files = [p for p in folder.rglob("*") if p.suffix in (".html", ".css", ".js")]
    assert files
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    return [f"{p.name}: {m[0]}" for p, t in texts.items() for m in REQUESTS.finditer(t)]


@pytest.mark.parametrize(
    "text",
    [
        '<script async src="https://cdn.example/x.js">',
        '<img alt="x" src="//example/x.png">',
        '<link rel="stylesheet" href="https://fonts.example/css">',
        "body { background: url('http://example/x.png') }",
        '@import "https://example/x.css";',
        'fetch("https://example/data.json")',
    ],
)
def test_a_request_would_be_found(text):
    assert REQUESTS.search(text)


@pytest.fixture(scope="module")
def built(guide, tmp_path_factory):
    """The template as a site, Markdown and notebooks."""
    out = tmp_path_factory.mktemp("out")
    for form in ("html", "markdown", "notebooks"):
        build.FORMS[form](guide, out / form)
    return out


def test_the_site_holds_quotes_outputs_and_their_links(built):
    page = (built / "html" / "01-first.html").read_text()
    assert '<span class="section-number">1 </span>' in page
    assert "[0.09, 0.245, 0.665]" in page
    link = re.search(r'href="(source/folio/scratch/attention.html)#(L-\d+)"', page)
    source = (built / "html" / link[1]).read_text()
    assert f'id="{link[2]}"' in source
    assert "var(--train)" in page
    assert "<details" in page
    assert "Vaswani et al. 2017" in page


def test_the_site_asks_nobody_for_anything(built):
    assert requests_of(built / "html") == []


def test_the_site_needs_no_script_for_formulas(built):
    page = (built / "html" / "01-first.html").read_text()
    formula = re.search(r'<div class="formula".*?</div>', page, re.DOTALL)[0]
    assert "<svg" in formula
    assert "<math" in formula
    assert not re.search(r"<script[^>]*mathjax", page, re.IGNORECASE)


def test_markdown_is_plain_and_whole(built):
    text = (built / "markdown" / "01-first.md").read_text()
    assert "{" not in re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$]+\$", "", text, flags=re.S)
    assert "total = sum(exponentials)" in text
    assert "[0.09, 0.245, 0.665]" in text
    figure = re.search(r"!\[[^\]]+\]\((figures/[^)]+)\)", text)
    svg = (built / "markdown" / figure[1]).read_text()
    assert svg.startswith("<svg xmlns")
    assert "var(" not in svg


def test_a_notebook_is_one_file_that_installs_folio_first(built):
    book = json.loads((built / "notebooks" / "01-first.ipynb").read_text())
    kinds = [cell["cell_type"] for cell in book["cells"]]
    assert kinds == ["code", "markdown", "code", "markdown"]
    assert "".join(book["cells"][0]["source"]).startswith("%pip install")
    text = "".join(book["cells"][3]["source"])
    assert "data:image/svg+xml;base64," in text
    assert "](figures/" not in text


def test_a_cell_that_is_to_fail_lets_jupyter_go_on():
    assert code_cell("1 / 0", raises=True)["metadata"]["tags"] == ["raises-exception"]
    assert code_cell("1")["metadata"] == {}


def test_the_pdf_is_the_same_to_the_byte(guide, tmp_path):
    first = build.pdf(guide, tmp_path / "a" / "pdf").read_bytes()
    second = build.pdf(guide, tmp_path / "b" / "pdf").read_bytes()
    assert first == second
    assert first.startswith(b"%PDF-")
    typst = (tmp_path / "a" / ".kept" / "page" / "book.typ").read_text()
    assert "Exercise 1.1" in typst
    assert '#numbered("(1.1)")' in typst
    assert "#answer-head(<01-first--ex-shift>" in typst


def test_print_knows_small_sections_left_pages_and_whose_an_exercise_is(
    guide, tmp_path
):
    shutil.copytree(guide, tmp_path / "guide")
    chapter = tmp_path / "guide" / "01-first.md"
    text = chapter.read_text().replace(":name: chances\n", ":name: chances\n:left:\n")
    chapter.write_text(text + "\n## Large\n\n### Small\n\nText.\n")
    summary = tmp_path / "guide" / "SUMMARY.md"
    summary.write_text(summary.read_text() + "\n[After all](after.md)\n")
    (tmp_path / "guide" / "after.md").write_text(
        "# After all\n\n```{exercise} late\nDo it.\n```\n\n"
        "```{solution} late\nDone.\n```\n"
    )
    build.pdf(tmp_path / "guide", tmp_path / "pdf")
    typst = (tmp_path / ".kept" / "page" / "book.typ").read_text()
    _, _, after = typst.partition('#pagebreak(weak: true, to: "even")')
    assert after.lstrip().startswith("#figure(")
    assert "Small" in after
    assert '<after--ex-late>, "After all, exercise 1")' in typst
    assert '"Exercise 1.1")' in typst


def test_code_that_only_draws_is_left_out_of_print(guide, tmp_path):
    shutil.copytree(guide, tmp_path / "guide")
    cells = "\n```{code-cell}\n:hide:\nhidden = 6 * 7\nprint('seen', hidden)\n```\n"
    with (tmp_path / "guide" / "01-first.md").open("a") as chapter:
        chapter.write(cells + "\n```{code-cell}\nshown = hidden\n```\n")
    build.pdf(tmp_path / "guide", tmp_path / "pdf")
    typst = (tmp_path / ".kept" / "page" / "book.typ").read_text()
    assert "shown = hidden" in typst
    assert "seen 42" in typst
    assert "6 * 7" not in typst


@pytest.mark.slow
def test_the_e_book_holds_the_chapters_and_the_same_bytes(guide, tmp_path):
    first = build.epub(guide, tmp_path / "a" / "epub")
    with zipfile.ZipFile(first) as book:
        pages = [book.read(n).decode() for n in book.namelist() if "/ch" in n]
    assert any("A first chapter" in page and "<math" in page for page in pages)
    second = build.epub(guide, tmp_path / "b" / "epub")
    assert first.read_bytes() == second.read_bytes()


# ---- what is refused -----------------------------------------------------------------

WRONG = """# Wrong

```{quote} folio.scratch.attention.sofmax
```

```{exercise} one
:check: no_such_exercise
Do it.
```

```{drawing} bars.chanzes([1])
:alt: nothing
x
```

See {cite}`nobody2000` and {number}`bench/none:x`.

```{quiz}
- q: Only one?
  options: [yes, no]
  answer: 1
  why: One.
```
"""


def test_mistakes_of_authors_are_told_of_with_their_lines(guide, tmp_path, capsys):
    folder = tmp_path / "wrong"
    shutil.copytree(guide, folder)
    (folder / "01-first.md").write_text(WRONG)
    with pytest.raises(UserError) as error:
        build.html(folder, tmp_path / "out")
    told = capsys.readouterr().err + str(error.value)
    for line, words in {
        3: "no 'sofmax' in attention.py",
        6: "no exercise 'no_such_exercise'",
        11: "no 'chanzes' in figures/bars.py",
        16: "no work 'nobody2000'",
        18: "1 questions; ask 5",
    }.items():
        assert re.search(rf"01-first\.md:{line}: .*{re.escape(words)}", told), words
    assert "no record 'bench/none'" in told
    assert "\n" not in str(error.value)
    with pytest.raises(UserError):  # and again, though nothing has changed
        build.html(folder, tmp_path / "out")


def test_a_cell_that_fails_fails_the_build_at_its_line(guide, tmp_path):
    folder = tmp_path / "failing"
    shutil.copytree(guide, folder)
    text = "# One\n\nText.\n\n```{code-cell}\n:hide:\nx = 1\nx / 0\n```\n"
    (folder / "01-first.md").write_text(text)
    with pytest.raises(UserError, match=r"01-first.md:8: .*ZeroDivisionError"):
        build.markdown(folder, tmp_path / "out")


RECORDED = """# One

```{recorded} heat
:name: fig-heat
:alt: A line.
It falls.
```

See {numref}`fig-heat`, {number}`heat:steps|,d` steps, {cite}`vaswani2017`.

```{code-cell}
:raises: ValueError
float("three")
```
"""


def test_what_was_recorded_is_printed_with_how_it_was_made(guide, tmp_path):
    folder = tmp_path / "recorded"
    shutil.copytree(guide, folder)
    (folder / "01-first.md").write_text(RECORDED)
    (folder / "results").mkdir()
    (folder / "results" / "heat.svg").write_text('<svg viewBox="0 0 1 1"></svg>\n')
    facts = {"command": "python heat.py", "date": "2026-01-02T03:04", "steps": 1200}
    (folder / "results" / "heat.json").write_text(json.dumps(facts))
    out = build.markdown(folder, tmp_path / "out" / "markdown")
    text = (out / "01-first.md").read_text()
    assert "It falls. Recorded by" in text.replace("*", "")
    assert "python heat.py" in text
    assert "2026-01-02" in text
    assert (
        "See Figure 1.1, 1,200 steps, [(Vaswani et al. 2017)](references.md)." in text
    )
    assert "ValueError: could not convert string to float: 'three'" in text


def test_without_the_extra_one_line_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(build.NEEDED, "no_such_module", "no-such-package")
    with pytest.raises(UserError) as error:
        build.html(BOOK, tmp_path)
    assert str(error.value) == (
        "folio book needs the package no-such-package: pip install 'folio-llm[book]'"
    )


@pytest.mark.parametrize("form", sorted(build.FORMS))
def test_without_any_package_of_the_extra_each_form_says_so(form, tmp_path):
    """A plain install has no docutils either, which some of our modules import."""
    script = (
        "import sys; from importlib.machinery import PathFinder\n"
        "absent = {'sphinx', 'docutils', 'pypandoc', 'typst'}\n"
        "live = PathFinder.find_spec\n"
        "def find(name, *rest):\n"
        "    return None if name.partition('.')[0] in absent else live(name, *rest)\n"
        "PathFinder.find_spec = find\n"
        "from pathlib import Path; from folio.book import build\n"
        "try:\n"
        f"    build.make({form!r}, Path({str(BOOK)!r}), Path({str(tmp_path)!r}))\n"
        "except build.UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith("folio book needs the package sphinx: pip install")


def test_forms_go_where_the_command_line_says(monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setitem(build.FORMS, "pdf", lambda *what: asked.append(what) or what[1])
    main(["book", "pdf", str(tmp_path / "mine")])
    assert capsys.readouterr().out == "build/mine/pdf\n"  # said once
    build.make("pdf", tmp_path / "mine", tmp_path / "there")
    assert asked == [
        (tmp_path / "mine", Path("build/mine/pdf")),
        (tmp_path / "mine", tmp_path / "there"),
    ]
    with pytest.raises(UserError, match="no form 'pfd'; did you mean 'pdf'"):
        build.make("pfd")


def test_a_new_guide_is_the_template_without_what_python_compiled(
    monkeypatch, tmp_path
):
    template = shutil.copytree(build.TEMPLATE, tmp_path / "template")
    (template / "figures" / "__pycache__").mkdir(exist_ok=True)
    (template / "figures" / "__pycache__" / "bars.cpython-311.pyc").touch()
    monkeypatch.setattr(build, "TEMPLATE", template)
    made = build.new(tmp_path / "mine")
    assert (made / "figures" / "bars.py").is_file()
    assert not list(made.rglob("__pycache__"))


def test_a_new_guide_overwrites_nothing(tmp_path):
    (tmp_path / "mine.md").write_text("precious")
    with pytest.raises(UserError, match="is not empty"):
        build.new(tmp_path)


# ---- the book itself: minutes --------------------------------------------------------


@pytest.fixture(scope="module")
def book(extra, tmp_path_factory):
    out = tmp_path_factory.mktemp("book")
    for form in ("html", "notebooks"):
        build.FORMS[form](BOOK, out / form)
    return out


@pytest.mark.slow
def test_the_book_asks_nobody_for_anything(book):
    assert requests_of(book / "html") == []


@pytest.mark.slow
def test_notebooks_run_from_top_to_bottom(book, tmp_path):
    for path in sorted((book / "notebooks").glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"][1:]
        lines = []
        for cell in code:
            text = "".join(cell["source"])
            if cell["metadata"].get("tags"):
                text = f"try:\n    exec({text!r})\nexcept Exception: pass"
            lines.append(text)
        script = tmp_path / f"{path.stem}.py"
        script.write_text("\n".join(lines))
        done = subprocess.run([sys.executable, script], capture_output=True, text=True)
        assert done.returncode == 0, f"{path.name}: {done.stderr[-600:]}"


@pytest.mark.slow
def test_the_printed_book_is_the_same_to_the_byte(extra, tmp_path):
    first, second = (build.pdf(BOOK, tmp_path / n / "pdf") for n in "ab")
    assert first.read_bytes() == second.read_bytes()


CLICK = """<script>addEventListener("load", () => {
  const [wrong, right] = [1, 0].map((i) =>
    document.querySelectorAll(".question")[0].querySelectorAll(".options > li")[i]);
  wrong.click();
  document.title = "after wrong: " + right.closest(".question").className;
  right.click();
  document.title += "; after right: " + right.closest(".question").className;
});</script>"""


@pytest.mark.browser
def test_a_quiz_answers_in_a_browser(built, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser here")
    page = built / "html" / "clicked.html"
    text = (built / "html" / "01-first.html").read_text()
    page.write_text(text.replace("</body>", f"{CLICK}</body>"))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout)[1]
    wrong, right = title.split("; ")
    assert "done" not in wrong
    assert right.endswith("done")
