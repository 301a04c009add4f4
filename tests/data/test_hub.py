"""Datasets by name: the same rows from every kind of folder, and a pinned Hub."""

import csv
import json
import sys
from itertools import islice

import pytest

from folio.config import UserError
from folio.data.corpora import open_corpus
from folio.data.hub import HubDataset
from folio.data.prepare import prepare
from folio.data.records import read_conversations, read_pairs
from folio.data.shards import open_shards
from folio.text.byte import ByteTokenizer

datasets = pytest.importorskip(
    "datasets", reason="reading datasets by name: pip install 'folio-llm[data]'"
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = [{"text": f"Hen {i} sat on ☃ {i * i} eggs.", "n": i} for i in range(20)]
TEXTS = [row["text"] for row in ROWS]


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No way out, and no cache but the test's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


def write_json(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path, rows):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS = {".jsonl": write_json, ".csv": write_csv, ".parquet": write_parquet}


def write_folder(folder, kind, rows=ROWS):
    """Two files of a kind, or what `save_to_disk` writes."""
    folder.mkdir()
    if kind == "arrow":
        datasets.Dataset.from_list(rows).save_to_disk(folder, num_shards=2)
    elif kind == "arrows":
        own = datasets.Dataset.from_list(rows)
        datasets.DatasetDict({"train": own}).save_to_disk(folder)
    else:
        half = len(rows) // 2
        for number, part in enumerate((rows[:half], rows[half:])):
            WRITERS[kind](folder / f"train-{number}{kind}", part)
    return folder


@pytest.mark.parametrize("kind", [*WRITERS, "arrow", "arrows"])
def test_every_kind_of_folder_has_the_same_texts_in_order(tmp_path, kind):
    folder = write_folder(tmp_path / "hens", kind)
    assert list(open_corpus(f"hf:{folder}").documents()) == TEXTS
    some = open_corpus(f"hf:{folder}?split=train&rows=3", field="text")
    assert list(some.documents()) == TEXTS[:3]
    if kind != "arrows":  # which is one file
        parts = [open_corpus(f"hf:{folder}").part(i, 2) for i in range(2)]
        assert [t for part in parts for t in part.documents()] == TEXTS
        assert 0 < len(list(parts[0].documents())) < 20


def test_rows_come_as_they_are_wanted(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "hens", ".jsonl")
    read = []
    found = HubDataset.parse(f"hf:{folder}").records()
    for where, row in islice(found, 2):
        read.append((where, row["n"]))
    assert read == [(f"hf:{folder}, row 1", 0), (f"hf:{folder}, row 2", 1)]


def test_token_files_know_what_they_are_made_of(tmp_path):
    folder = write_folder(tmp_path / "hens", ".jsonl")
    corpus = open_corpus(f"hf:{folder}")
    tokenizer, shards = ByteTokenizer(), tmp_path / "shards"
    index = prepare(corpus, tokenizer, shards, val_fraction=0.2)
    assert not index["reused"]
    assert index["request"]["dataset"]["split"] == "train"
    assert len(index["request"]["dataset"]["files"]) == 2
    assert prepare(corpus, tokenizer, shards, val_fraction=0.2)["reused"]
    text = tokenizer.decode(open_shards(shards, "train")[:])
    assert all(t in text for t in TEXTS if t not in tokenizer.decode(
        open_shards(shards, "validation")[:]))  # fmt: skip
    write_json(folder / "train-2.jsonl", ROWS[:1])
    assert not prepare(corpus, tokenizer, shards, val_fraction=0.2)["reused"]


def test_chats_and_pairs(tmp_path):
    said = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I."}]
    folder = write_folder(tmp_path / "chats", ".parquet", [{"messages": said}] * 2)
    [one, other] = read_conversations(f"hf:{folder}")
    assert one.messages == other.messages == tuple(said)
    assert one.where == f"hf:{folder}, row 1"
    pair = {"prompt": "Who?", "chosen": "I.", "rejected": "Nobody."}
    folder = write_folder(tmp_path / "pairs", ".jsonl", [pair, pair | {"chosen": "Me"}])
    assert [found.chosen for found in read_pairs(f"hf:{folder}")] == ["I.", "Me"]


# ---- what is refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:me/hens?spilt=train", "no option 'spilt'; did you mean 'split'"),
        ("hf:me/hens?split=", "split is empty"),
        ("hf:me/hens?rows=0", "rows must be a number from 1 up"),
        ("hf:me/hens?rows=many", "rows must be a number"),
        ("hf:", "give a name, such as hf:OWNER/NAME"),
        ("hf:?split=train", "give a name"),
    ],
)
def test_sources_that_say_nothing_known(source, message):
    with pytest.raises(UserError, match=message):
        open_corpus(source)


def test_what_a_folder_does_not_have(tmp_path):
    folder = write_folder(tmp_path / "hens", ".jsonl")
    saved = write_folder(tmp_path / "saved", "arrows")
    for source, message in {
        f"hf:{folder}?split=test": "Bad split: test",
        f"hf:{saved}?split=test": "Bad split: test",
        f"hf:{folder}?config=de": "'de' not found",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            list(open_corpus(source).documents())
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="row 1: no column 'txt'; it has 'text', 'n'"):
        list(open_corpus(f"hf:{folder}", field="txt").documents())
    with pytest.raises(UserError, match="row 1: column 'n' holds int, not text"):
        list(open_corpus(f"hf:{folder}", field="n").documents())
    with pytest.raises(UserError, match="a folder has no revision"):
        open_corpus(f"hf:{folder}?revision={COMMIT}").identity()
    with pytest.raises(UserError, match="3 parts of 2 files; ask for at most 2"):
        list(open_corpus(f"hf:{folder}").part(0, 3).documents())
    with pytest.raises(UserError, match="rows=4 can't be cut"):
        list(open_corpus(f"hf:{folder}?rows=4").part(0, 2).documents())


def test_a_damaged_file_is_named_by_the_row_it_breaks_at(tmp_path):
    folder = write_folder(tmp_path / "hens", ".jsonl")
    (folder / "train-1.jsonl").write_text('{"text": "so far so good", "n": 1}\n{"te')
    with pytest.raises(UserError, match=r"hens, row 11: ") as caught:
        list(open_corpus(f"hf:{folder}").documents())
    assert "\n" not in str(caught.value)


def test_without_the_package_there_is_one_line(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "hens", ".jsonl")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"datasets: pip install 'folio-llm\[data\]'$"):
        list(open_corpus(f"hf:{folder}").documents())


# ---- the Hub -------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """A Hub that has one dataset; what it was asked for is the result."""
    asked = []

    class Info:
        sha = COMMIT

    def dataset_info(self, name, revision=None):
        return Info()

    def load_dataset(*args, **options):
        asked.append((args, options))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize("revision", ["", "&revision=main", "&revision=0123456"])
def test_a_name_without_a_commit_is_told_the_newest_one(hub, revision):
    corpus = open_corpus(f"hf:me/hens?split=train{revision}")
    with pytest.raises(UserError, match=f"hf:me/hens: add revision={COMMIT}"):
        corpus.identity()
    with pytest.raises(UserError, match=f"add revision={COMMIT}"):
        list(corpus.documents())
    assert hub == []


def test_a_pinned_name_is_streamed_at_its_commit(hub):
    corpus = open_corpus(f"hf:me/hens?config=en&split=test&revision={COMMIT}")
    assert list(corpus.documents()) == TEXTS
    [(args, options)] = hub
    assert args == ("me/hens", "en")
    assert options == {"split": "test", "revision": COMMIT, "streaming": True}
    assert corpus.identity()["dataset"]["revision"] == COMMIT


def test_no_way_to_the_hub_is_one_line():
    with pytest.raises(UserError, match=r"^hf:me/hens: ") as caught:
        open_corpus("hf:me/hens").identity()
    assert "\n" not in str(caught.value)
    source = f"hf:me/hens?revision={COMMIT}"
    with pytest.raises(UserError, match=r"^hf:me/hens: ") as caught:
        list(open_corpus(source).documents())
    assert "\n" not in str(caught.value)
