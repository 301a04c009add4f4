"""Documents from files: exact, streaming, and refused with their place."""

import itertools
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.data import files
from folio.data.files import read_documents, read_pieces, split_pieces


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# Text


@settings(max_examples=100, derandomize=True, deadline=None)
@given(text=st.text(max_size=60), piece=st.integers(1, 7))
def test_pieces_join_to_the_text_as_python_reads_it(tmp_path_factory, text, piece):
    path = written(tmp_path_factory.mktemp("t"), "a.txt", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "PIECE", piece)
        read = "".join(read_pieces(path))
    assert read == path.read_text(encoding="utf-8-sig")


def test_windows_line_ends_and_a_byte_order_mark_are_normalized(tmp_path):
    path = written(tmp_path, "a.txt", b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert list(read_documents(path)) == ["one\ntwo\nthree\n"]


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", "añ€😀".encode()])
@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3(", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98"]
)
def test_invalid_utf8_is_refused_at_its_byte(tmp_path, monkeypatch, piece, start, bad):
    monkeypatch.setattr(files, "PIECE", piece)
    path = written(tmp_path, "a.txt", start + bad + b"(" * (bad[-1] < 0x80))
    expected = f"a.txt: invalid UTF-8 at byte {len(start)};"
    with pytest.raises(UserError, match=expected):
        list(read_pieces(path))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    text=st.text("ab\n", max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    separator=st.sampled_from(["\n", "\n\n", "ab", "aab", "aba", "a\nb\n"]),
)
def test_splitting_pieces_equals_splitting_the_whole(text, cuts, separator):
    ends = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(ends)]
    whole = [part.strip("\n") for part in text.split(separator)]
    assert list(split_pieces(pieces, separator)) == [part for part in whole if part]


def test_a_long_text_is_split_in_constant_memory():
    story = "a fox met a hen. " * 50
    pieces = (f"{story}{n}\n\n{story}" for n in range(20_000))  # 34 MB
    tracemalloc.start()
    count = sum(1 for _ in split_pieces(pieces, "\n\n"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_001
    assert peak < 100_000


def test_a_separator_that_never_comes_is_refused(monkeypatch):
    monkeypatch.setattr(files, "LONGEST", 1000)
    with pytest.raises(UserError, match=r"separator = '###': not found in \d+ char"):
        list(split_pieces(["no end " * 20] * 20, "###"))
    with pytest.raises(UserError, match="separator = ''"):
        list(split_pieces(["a"], ""))


# JSONL


def test_jsonl_gives_the_field_of_each_line(tmp_path):
    texts = ["one\ntwo", "naïve 😀", ""]
    lines = [json.dumps({"text": t, "body": t.upper()}) for t in texts]
    path = written(tmp_path, "a.jsonl", "\ufeff" + "\n\n".join(lines) + "\r\n")
    assert list(read_documents(path)) == texts
    assert list(read_documents(path, field="body")) == [t.upper() for t in texts]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"text": "a"', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"{'text': 'a'}", "not valid JSON"),
        (b'["text"]', "expected an object with field 'text', not list"),
        (b'{"body": "a", "id": 3}', "no field 'text'; the record's fields: 'body', "),
        (b"{}", "fields: none"),
        (b'{"text": 3}', "field 'text' holds int, not text"),
        (b'{"text": null}', "field 'text' holds NoneType"),
        (b'{"text": "a\\ud800b"}', "half of a surrogate pair at character 1"),
    ],
)
def test_bad_records_are_refused_with_file_line_and_field(tmp_path, line, words):
    path = written(tmp_path, "a.jsonl", b'{"text": "fine"}\n\n' + line + b"\n")
    with pytest.raises(UserError, match=rf"a.jsonl, line 3: .*{words}"):
        list(read_documents(path))


def test_jsonl_invalid_utf8_is_refused_at_its_byte(tmp_path):
    path = written(tmp_path, "a.jsonl", b'{"text": "fine"}\n{"text": "\xff"}\n')
    with pytest.raises(UserError, match=r"a.jsonl: invalid UTF-8 at byte 27"):
        list(read_documents(path))


def test_an_endless_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST", 1000)
    path = written(tmp_path, "a.jsonl", b'{"text": "' + b"a" * 2000 + b'"}')
    with pytest.raises(UserError, match="line 1: longer than 1000 bytes"):
        list(read_documents(path))


# Parquet


def test_parquet_gives_a_column(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = [f"story {n} 😀" for n in range(3000)]
    table = pyarrow.table({"id": list(range(3000)), "text": texts})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    assert list(read_documents(tmp_path / "a.parquet")) == texts
    for field, words in (("body", "no column 'body'; it has 'id', 'text'"), ("id", "")):
        with pytest.raises(UserError, match=words or "row 1: field 'id' holds int"):
            list(read_documents(tmp_path / "a.parquet", field=field))


def test_a_damaged_parquet_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    path = written(tmp_path, "a.parquet", b"PAR1 and then nothing of the kind PAR1")
    with pytest.raises(UserError, match=r"a.parquet: not readable as Parquet"):
        list(read_documents(path))


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    path = written(tmp_path, "a.parquet", b"PAR1")
    with pytest.raises(UserError, match=r"pip install 'folio-llm\[parquet\]'"):
        list(read_documents(path))
