"""Tables of contents, records, references, settings and drawings: read and refused."""

import json

import pytest

from folio.book import drawing, recorded, references, settings, summary
from folio.config import UserError


def test_chapters_keep_their_numbers_when_others_are_missing(tmp_path):
    for name in ("a", "c", "z"):
        (tmp_path / f"{name}.md").write_text("# x\n")
    text = (
        "# Summary\n\n[A](a.md)\n# One\n- [B](b.md)\n- [C](c.md)\n# Two\n"
        "- [D](d.md)\n---\n[Z](z.md)\n"
    )
    found = summary.parse(text, tmp_path)
    assert [entry.number for entry in found.entries] == [None, 1, 2, 3, None]
    assert [entry.document for entry in found.written] == ["a", "c", "z"]
    parts = [(part, [e.document for e in es]) for part, es in found.parts()]
    assert parts == [("One", ["c"]), ("", ["z"])]
    assert "chapters 1, 3" in summary.missing_note(found)
    assert ":caption: One" in summary.toctrees(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[A](a.md)\n- [B](b.md)\n- [C](b.md)", ":3: b.md is listed twice"),
        ("[A](a.md)\nsome words", ":2: 'some words' is no entry"),
        ("[A](gone.md)", "first entry must be a page that exists"),
        ("", "first entry must be a page that exists"),
    ],
)
def test_a_broken_summary_is_told_of_in_one_line(tmp_path, text, message):
    (tmp_path / "a.md").write_text("# x\n")
    with pytest.raises(UserError, match=message) as error:
        summary.parse(text, tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_summary_gets_the_remedy(tmp_path):
    with pytest.raises(UserError, match="folio book new"):
        summary.read(tmp_path)


@pytest.fixture
def book(tmp_path):
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "book" / "results").mkdir(parents=True)
    rows = [{"name": "ours", "speed": 1234.5}, {"name": "theirs", "speed": 10}]
    (tmp_path / "bench/results/race.json").write_text(json.dumps({"rows": rows}))
    (tmp_path / "book/results/heat.json").write_text('{"steps": [1, 20]}')
    return tmp_path / "book"


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("bench/race:rows.0.speed|,.0f", "1,234"),
        ("bench/race:rows.name=theirs.speed", "10"),
        ("heat:steps.1", "20"),
    ],
)
def test_numbers_come_from_records(book, wanted, text):
    assert recorded.number(wanted, book)[1] == text


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("bench/race:rows.0.sped", "no 'sped' there; known: .*speed"),
        ("bench/race:rows.2", "no '2' there; known: 2 rows"),
        ("bench/rase:rows", "no record 'bench/rase'; there: race"),
        ("heat", "FILE:KEY"),
        ("heat:steps.0|%", "heat:steps.0"),
        ("bench/race:rows.0.name|.2f", "Unknown format code"),
    ],
)
def test_a_number_that_is_not_there_is_told_of(book, wanted, message):
    if wanted.endswith("|%"):
        assert recorded.number(wanted, book)[1] == "100.000000%"
        return
    with pytest.raises(recorded.RecordError, match=message):
        recorded.number(wanted, book)


WORK = 'authors = ["B, A", "D, C", "F, E"]\ntitle = "T"\nyear = 2001\nvenue = "V"\n'


def test_works_know_how_they_are_named(tmp_path):
    path = tmp_path / references.NAME
    path.write_text(f'[x]\n{WORK}arxiv = "1.2"\n')
    work = references.read(tmp_path)["x"]
    assert (work.short, work.named) == ("(B et al. 2001)", "B et al. (2001)")
    assert work.people == "A B, C D, and E F"
    assert work.link == "https://arxiv.org/abs/1.2"


def test_works_that_would_be_named_alike_get_a_letter(tmp_path):
    later = WORK.replace('"T"', '"a later title"') + 'url = "u"\n'
    other = WORK.replace("2001", "2002") + 'url = "u"\n'
    path = tmp_path / references.NAME
    path.write_text(f'[x]\n{WORK}url = "u"\n[y]\n{later}[z]\n{other}')
    works = references.read(tmp_path)
    assert works["x"].short == "(B et al. 2001b)"  # by title
    assert works["y"].named == "B et al. (2001a)"
    assert works["z"].short == "(B et al. 2002)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WORK, r"\[x\] lacks arxiv, doi or url"),
        (WORK.replace('venue = "V"\n', 'url = "u"\n'), "lacks venue"),
        (WORK + 'url = "u"\npages = 3\n', "pages"),
        ("authors =", "references.toml"),
    ],
)
def test_an_incomplete_work_is_refused(tmp_path, text, message):
    (tmp_path / references.NAME).write_text(f"[x]\n{text}")
    with pytest.raises(UserError, match=message):
        references.read(tmp_path)


def test_settings_refuse_what_they_do_not_know(tmp_path):
    (tmp_path / settings.NAME).write_text('title = "T"\nauthr = "A"\n')
    with pytest.raises(UserError, match=r"book.toml: unknown key 'authr'; .*'author'"):
        settings.read(tmp_path)


DRAWER = "def square(side, color='train'):\n    return f'<svg {side} var(--{color})>'\n"


def test_a_call_in_a_chapter_draws(tmp_path):
    (tmp_path / "shape.py").write_text(DRAWER)
    assert drawing.call("shape.square(3)", tmp_path) == "<svg 3 var(--train)>"
    assert drawing.call("shape.square(3, color='rate')", tmp_path).count("rate") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shape.circle()", "no 'circle' in figures/shape.py"),
        ("shap.square()", "no figures/shap.py; there: shape"),
        ("shape.square(open('x'))", "module.function"),
        ("square(3)", "module.function"),
    ],
)
def test_a_call_that_draws_nothing_is_told_of(tmp_path, text, message):
    (tmp_path / "shape.py").write_text(DRAWER)
    with pytest.raises(drawing.DrawingError, match=message):
        drawing.call(text, tmp_path)


@pytest.mark.parametrize("svg", ["<p>", '<svg fill="var(--blue)">'])
def test_a_drawing_has_only_colors_that_mean_something(svg):
    with pytest.raises(drawing.DrawingError):
        drawing.filled(svg)
