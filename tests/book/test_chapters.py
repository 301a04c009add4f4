"""What every chapter must hold, and what it must not, without building it."""

import re

import pytest

from chapters import BOOK, CHAPTERS, blocks
from folio.book import drawing, recorded, references, summary, symbols
from folio.book.exercise import known_checks
from folio.book.quote import roots

NUMBERED = [
    BOOK / f"{entry.document}.md"
    for entry in summary.read(BOOK).written
    if entry.number
]
SECTIONS = (
    "## What goes wrong",
    "## How the real ones do it",
    "## Exercises",
    "## Quiz",
    "## Further reading",
)
chapters = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
numbered = pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)

# British: American. Stems, matched from the beginning of a word.
SPELLINGS = {
    "analys(e|es|ed|ing)\\b": "analyze",
    "artefact": "artifact",
    "behaviour": "behavior",
    "catalogue": "catalog",
    "centre": "center",
    "colour": "color",
    "defence": "defense",
    "favour": "favor",
    "fulfil\\b": "fulfill",
    "grey": "gray",
    "honour": "honor",
    "initialis": "initializ",
    "judgement": "judgment",
    "labell": "labeled",
    "licence": "license",
    "maths\\b": "math",
    "minimis": "minimiz",
    "modell": "modeling",
    "modernis": "moderniz",
    "neighbour": "neighbor",
    "normalis": "normaliz",
    "optimis": "optimiz",
    "organis": "organiz",
    "penalis": "penaliz",
    "programme\\b": "program",
    "quantis": "quantiz",
    "realis(e|ed|ing)\\b": "realize",
    "recognis": "recogniz",
    "summaris": "summariz",
    "tokenis": "tokeniz",
    "towards": "toward",
    "afterwards": "afterward",
    "travell": "travel",
    "whilst": "while",
}
MISSPELLED = (
    "accomodat",
    "acheiv",
    "adress",
    "definately",
    "dependan",
    "existance",
    "happend",
    "independant",
    "occured",
    "paralel",
    "prefered",
    "recieve",
    "refering",
    "seperat",
    "succesful",
    "teh\\b",
    "transfered",
    "untill",
)


@chapters
def test_quotes_resolve_and_fit_the_page(path):
    for line, name, options, _ in blocks(path, "quote"):
        quoted = symbols.quote(
            name,
            roots(BOOK),
            docstring="no-docstring" not in options,
            start=options.get("from", ""),
            end=options.get("to", ""),
        )
        text = "\n".join(t for piece in quoted.pieces for t in piece.lines)
        marked = options.get("emphasize", "")
        assert marked in text, f"{path.name}:{line}: {marked!r} marks nothing"


@chapters
def test_lines_of_code_fit_the_page(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert not line.endswith(" "), f"{path.name}:{number} ends in a space"
    for line, _, _, code in blocks(path, "code-cell"):
        wide = [text for text in code.splitlines() if len(text) > symbols.LONGEST]
        assert wide == [], f"{path.name}:{line}"


@chapters
def test_checks_exist(path):
    known = known_checks()
    for line, name, options, _ in blocks(path, "exercise"):
        check = options.get("check")
        if check and known is not None:
            assert check in known, f"{path.name}:{line}: {name} asks for {check}"


@chapters
def test_every_exercise_has_a_solution(path):
    exercises = [name for _, name, _, _ in blocks(path, "exercise")]
    assert [name for _, name, _, _ in blocks(path, "solution")] == exercises


@chapters
def test_figures_can_be_drawn_and_have_words_for_those_who_cannot_see(path):
    for line, name, options, body in blocks(path, "drawing"):
        assert drawing.filled(drawing.call(name, BOOK / "figures"))
        assert len(options.get("alt", "")) > 20, f"{path.name}:{line}"
        assert body.strip(), f"{path.name}:{line} has no caption"


def test_a_figure_is_the_same_every_time():
    for path in CHAPTERS:
        for _, name, _, _ in blocks(path, "drawing"):
            folder = BOOK / "figures"
            assert drawing.call(name, folder) == drawing.call(name, folder)


@chapters
def test_numbers_are_recorded(path):
    text = path.read_text(encoding="utf-8").replace(r"\|", "|")  # as in a table's cell
    for wanted in re.findall(r"\{number\}`([^`]+)`", text):
        assert recorded.number(wanted, BOOK)[1]


@numbered
def test_a_chapter_keeps_the_rhythm(path):
    text = path.read_text(encoding="utf-8")
    places = [text.find(f"\n{section}\n") for section in SECTIONS]
    missing = [s for s, at in zip(SECTIONS, places, strict=True) if at < 0]
    assert missing == []
    assert places == sorted(places)
    first = blocks(path, "drawing")[0]
    assert first[1].startswith("system.draw("), "a chapter begins with the map"
    assert len(blocks(path, "drawing")) + len(blocks(path, "code-cell")) > 2
    assert blocks(path, "quote"), "a chapter quotes the program"
    [(_, _, _, quiz)] = blocks(path, "quiz")
    assert len(re.findall(r"^- q:", quiz, re.MULTILINE)) >= 5


@chapters
def test_spelling_is_american(path):
    text = prose(path.read_text(encoding="utf-8"))
    for british, american in SPELLINGS.items():
        found = re.findall(rf"\b\w*?{british}\w*", text, re.IGNORECASE)
        assert found == [], f"write {american}"
    for wrong in MISSPELLED:
        assert not re.search(rf"\b{wrong}", text, re.IGNORECASE), wrong


def prose(text: str) -> str:
    """What a person wrote: without code, references and addresses."""
    text = re.sub(r"^```\{code-cell\}.*?^```$", "", text, flags=re.M | re.S)
    text = re.sub(r"^~~~.*?^~~~$", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]+`|https?://\S+", "", text)


def test_a_british_word_would_be_found():
    text = prose("The colour of `colour`.")
    assert re.findall(rf"\b\w*?{'colour'}\w*", text) == ["colour"]


def test_every_work_is_cited_and_every_citation_is_a_work():
    cited = set()
    for path in CHAPTERS:
        if path.name != "WRITING.md":
            text = path.read_text(encoding="utf-8")
            cited |= set(re.findall(r"\{citet?\}`([^`]+)`", text))
    works = set(references.read(BOOK))
    assert (cited - works, works - cited) == (set(), set())


def test_every_chapter_is_in_the_table_of_contents():
    listed = {f"{entry.document}.md" for entry in summary.read(BOOK).entries}
    others = {"SUMMARY.md", "WRITING.md"}
    assert {path.name for path in CHAPTERS} - listed - others == set()


def repeated(texts: dict[str, str]) -> list[str]:
    """Names of figures, formulas and exercises that stand for two things."""
    once = re.compile(
        r"^:name: (\S+)$|^\$\$ \((\S+)\)$|^`{3,}\{exercise\} (\S+)$", re.MULTILINE
    )
    found: dict[str, str] = {}
    twice = []
    for chapter, text in texts.items():
        for match in once.finditer(text):
            name = match[1] or match[2] or f"ex-{match[3]}"
            if name in found:
                twice.append(f"{name}: {found[name]}, {chapter}")
            found[name] = chapter
    return twice


def test_names_stand_for_one_thing_in_the_whole_book():
    texts = {p.name: p.read_text() for p in CHAPTERS if p.name != "WRITING.md"}
    assert repeated(texts) == []
    assert len(repeated({"a": ":name: x\n", "b": "$$ (x)\n"})) == 1
