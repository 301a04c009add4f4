"""Named corpora and local files: found, identified, downloaded whole or not at all."""

import hashlib
import io
import itertools
import urllib.error
import urllib.request

import pytest

from folio.config import UserError
from folio.data import corpora, open_corpus
from folio.data.corpora import SHAKESPEARE_SHA256, OneText, between, documents

# Files


@pytest.fixture
def library(tmp_path):
    """A folder with two texts, some JSON lines, and things that are none of it."""
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.md").write_text("first\n\nhalf")
    (tmp_path / "deep" / "c.jsonl").write_text('{"text": "third"}\n')
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "deep" / ".hidden" / "d.txt").write_text("never")
    return tmp_path


def test_a_folder_is_read_in_the_order_of_its_names(library):
    assert list(documents(library)) == ["first\n\nhalf", "second", "third"]
    split = open_corpus(library, separator="\n\n")
    assert list(split.documents()) == ["first", "half", "second", "third"]


def test_a_glob_and_a_single_file(library):
    assert list(documents(f"{library}/*.txt")) == ["second"]
    assert list(documents(f"{library}/**/*.jsonl")) == ["third"]
    assert list(documents(library / "a.md")) == ["first\n\nhalf"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing.txt", "no such corpus, file or folder"),
        ("empty.txt", "empty.txt: empty"),
        ("picture.png", r"can't read '.png'; known endings: .txt .md"),
        ("deep/.hidden/*.png", "no such corpus, file or folder"),
        ("*.png", "holds no .txt .md .jsonl .parquet files"),
    ],
)
def test_what_cannot_be_read_is_refused(library, name, words):
    with pytest.raises(UserError, match=words):
        open_corpus(library / name)


def test_a_mistyped_corpus_is_guessed():
    with pytest.raises(UserError, match="'shakespear'; did you mean 'shakespeare'"):
        open_corpus("shakespear")


def test_only_a_single_uncut_text_is_one_text(library):
    assert isinstance(open_corpus(library / "a.md"), OneText)
    assert not isinstance(open_corpus(library / "a.md", separator="\n\n"), OneText)
    assert not isinstance(open_corpus(library), OneText)
    assert not isinstance(open_corpus(library / "deep" / "c.jsonl"), OneText)


def test_one_text_is_parted_like_nanogpt(tmp_path):
    text = "".join(chr(97 + n % 26) for n in range(1001)) + "é😀"
    (tmp_path / "a.txt").write_text(text)
    corpus = open_corpus(tmp_path / "a.txt")
    parts = {name: "".join(p) for name, p in corpus.parts(0.1).items()}
    cut = int(len(text) * 0.9)
    assert parts == {"train": text[:cut], "validation": text[cut:]}
    assert "".join(corpus.training_texts(0.1)) == text[:cut]


def test_between_equals_slicing():
    pieces = ["abc", "", "d", "efgh"]
    for start, stop in itertools.product(range(9), range(9)):
        assert "".join(between(pieces, start, stop)) == "abcdefgh"[start:stop]
    assert "".join(between(pieces, 3, None)) == "defgh"


def test_training_texts_are_exactly_the_training_part(library):
    corpus = open_corpus(library)
    labeled = list(corpus.labeled(0.5, seed=3))
    assert [d.text for d in labeled] == list(corpus.documents())
    expected = [d.text for d in labeled if d.split == "train"]
    assert list(corpus.training_texts(0.5, seed=3)) == expected
    assert 0 < len(expected) < 3


def test_identity_changes_with_the_files_and_the_options(library):
    def identity(**options):
        return open_corpus(library, **options).identity()

    base = identity()
    assert identity() == base
    assert identity(separator="\n\n") != base
    assert identity(field="body") != base
    (library / "b.txt").write_text("other!")
    assert identity() != base


# The standard library


def test_the_standard_library_is_there():
    corpus = open_corpus("python")
    some = list(itertools.islice(corpus.documents(), 30))
    assert len("".join(some)) > 10_000
    assert any("def __init__" in text for text in some)
    assert corpus.identity() == open_corpus("python").identity()
    assert not any("site-packages" in path.parts for path in corpus.files())


# Shakespeare


class FakeNetwork:
    """Answers every request with `content`, or raises it."""

    def __init__(self, content):
        self.content, self.requests = content, []

    def __call__(self, url, timeout):
        self.requests.append(url)
        if isinstance(self.content, Exception):
            raise self.content
        return io.BytesIO(self.content)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOLIO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def online(monkeypatch, content):
    network = FakeNetwork(content)
    monkeypatch.setattr(urllib.request, "urlopen", network)
    return network


PLAY = b"First Citizen:\nBefore we proceed any further, hear me speak.\n"


def test_shakespeare_is_downloaded_once_and_checked(cache, monkeypatch):
    monkeypatch.setattr(corpora, "SHAKESPEARE_SHA256", hashlib.sha256(PLAY).hexdigest())
    network = online(monkeypatch, PLAY)
    for _ in range(2):
        assert list(open_corpus("shakespeare").documents()) == [PLAY.decode()]
    assert network.requests == [corpora.SHAKESPEARE]
    assert [path.name for path in cache.iterdir()] == ["shakespeare.txt"]
    # A copy that rotted in the cache is not trusted, but fetched again.
    (cache / "shakespeare.txt").write_bytes(PLAY[:-1])
    assert list(open_corpus("shakespeare").documents()) == [PLAY.decode()]
    assert len(network.requests) == 2


def test_a_changed_download_is_refused_and_nothing_is_left(cache, monkeypatch):
    online(monkeypatch, PLAY)
    with pytest.raises(
        UserError, match=r"has changed \(sha256 .*--data.path FILE"
    ) as e:
        open_corpus("shakespeare")
    assert SHAKESPEARE_SHA256[:12] in str(e.value)
    assert "\n" not in str(e.value)
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.URLError("Name or service not known"),
        TimeoutError("timed out"),
        ConnectionResetError("Connection reset by peer"),
        urllib.error.HTTPError("http://x", 404, "Not Found", None, None),
    ],
)
def test_without_network_the_alternative_is_named(cache, monkeypatch, failure):
    online(monkeypatch, failure)
    with pytest.raises(UserError, match=r"can't download .*--data.path FILE"):
        open_corpus("shakespeare")
    assert not cache.exists() or not list(cache.iterdir())


def test_a_full_disk_leaves_no_partial_download(cache, monkeypatch):
    monkeypatch.setattr(corpora, "SHAKESPEARE_SHA256", hashlib.sha256(PLAY).hexdigest())
    online(monkeypatch, PLAY)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        open_corpus("shakespeare")
    assert list(cache.iterdir()) == []


def test_nothing_else_goes_to_the_network(library, monkeypatch):
    network = online(monkeypatch, AssertionError("asked the network"))
    list(documents(library))
    next(documents("python"))
    assert network.requests == []
