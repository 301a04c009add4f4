"""What every tokenizer is: text to ids and back, losslessly; one file on disk.

Two promises hold for each of them and are tested on all of Unicode:

* `decode(encode(text)) == text` for every text that can be written down at all;
* text never turns into a control token. `encode("<|endoftext|>")` spells out
  thirteen characters; only `special_id("<|endoftext|>")`, called by code that
  means it, gives the id that ends a document.

Some tokenizers of others change a text before they split it, so what comes back is
the changed text: see `BPETokenizer.nfc` and sentencepiece_bpe.py.
"""

from __future__ import annotations

import codecs
import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from folio.config import UserError, nearest
from folio.files import write_atomically
from folio.text.added_tokens import Extras, Flags, added_tokens_json, is_id
from folio.text.parallel import parallel_map

END_OF_TEXT = "<|endoftext|>"  # between documents
END_OF_TURN = "<|end|>"  # of one turn in a conversation; chat.py has the roles
SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    END_OF_TURN,
)
FILE_NAME = "tokenizer.json"
BUFFER = 1 << 16  # characters encode_iterable gathers before it looks for a cut
GROUP = 1 << 19  # characters per trip to another process in encode_batch


class SurrogateError(UserError):
    """Half of a UTF-16 pair stands alone: no encoding can write such a text down."""

    def __init__(self, offset: int, character: str):
        super().__init__(offset, character)
        self.offset = offset
        self.character = character

    def __str__(self) -> str:
        return (
            f"text has a lone surrogate U+{ord(self.character):04X} at offset "
            f"{self.offset}: it is not Unicode text; decode the source with "
            f"errors='replace' or remove it"
        )


def to_bytes(text: str, offset: int = 0) -> bytes:
    """UTF-8, or a SurrogateError; `offset` is where `text` starts in the whole.

    >>> to_bytes("né")
    b'n\\xc3\\xa9'
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        bad = error.start
        raise SurrogateError(offset + bad, text[bad]) from None


class Tokenizer(ABC):
    """Text to ids and back. Ids are dense: 0 .. vocab_size - 1, specials included."""

    name: ClassVar[str]
    extras = Extras()  # an imported tokenizer has its own
    leading_space = False  # encode puts a space before a text, decode takes it away

    def __init__(self, ordinary: Sequence[bytes], special_tokens: Sequence[str]):
        """`ordinary[i]` is what id `i` stands for; special tokens get the next ids."""
        first = len(ordinary)
        ids = {token: first + i for i, token in enumerate(special_tokens)}
        if len(ids) < len(special_tokens):
            raise UserError(f"special_tokens = {special_tokens!r}: a name comes twice")
        self._set_pieces(list(ordinary), ids)

    def _set_pieces(self, pieces: list[bytes], special_tokens: dict[str, int]) -> None:
        """Lay special tokens over or behind `pieces`: each id stands for something."""
        taken = set(special_tokens.values())
        ordinary = {piece for i, piece in enumerate(pieces) if i not in taken}
        for token, index in sorted(special_tokens.items(), key=lambda item: item[1]):
            if not token:
                raise UserError("special_tokens: an empty name; give it characters")
            if to_bytes(token) in ordinary:
                raise UserError(f"special token {token!r} is an ordinary one already")
            if index > len(pieces):
                raise UserError(
                    f"special token {token!r} has id {index}, but id {len(pieces)} is "
                    f"not taken: ids must be dense"
                )
            pieces[index : index + 1] = [to_bytes(token)]
        self._pieces = pieces
        self.special_tokens = dict(special_tokens)
        self._hidden_ids = frozenset(
            index
            for token, index in special_tokens.items()
            if self.extras.flags.get(token, {}).get("special", True)
        )

    # text to ids

    @property
    def vocab_size(self) -> int:
        return len(self._pieces)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ordinary ids only, whatever the text says."""

    def encode_batch(self, texts: Sequence[str], processes: int = 1) -> list[list[int]]:
        """`[encode(text) for text in texts]`, shared out over `processes`."""
        if processes <= 1 or len(texts) < 2:
            return self._encode_group(texts)
        groups = parallel_map(self._encode_group, _group(texts), processes)
        return [ids for group in groups for ids in group]

    def _encode_group(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def encode_iterable(self, pieces: Iterable[str]) -> Iterator[int]:
        """The ids of `"".join(pieces)`, lazily and in constant memory.

        Text is held back up to a place where cutting cannot change the ids
        (`_safe_cut`), so only one unbroken run of characters can make it grow.
        """
        held: list[str] = []
        size, wanted, seen = 0, BUFFER, 0
        encode = self.encode
        for piece in pieces:
            to_bytes(piece, offset=seen)  # a lone surrogate is named by its true place
            seen += len(piece)
            held.append(piece)
            size += len(piece)
            if size >= wanted:
                text = "".join(held)
                cut = self._safe_cut(text)
                yield from encode(text[:cut])
                encode = self._encode_on if cut else encode
                held = [text[cut:]]
                size = len(text) - cut
                # Looking again only after the rest has doubled keeps it linear.
                wanted = max(BUFFER, 2 * size)
        yield from encode("".join(held))

    def encode_inside(self, text: str) -> list[int]:
        """`encode` for a text that follows a control token."""
        return self.encode(text)

    def _encode_on(self, text: str) -> list[int]:
        """`encode` for the rest of a text, behind a safe cut."""
        return self.encode(text)

    @property
    def start_ids(self) -> list[int]:
        """The control tokens with which a text begins: Llama's `<s>`; ours have none.

        `encode` leaves them out, so that texts can be joined.
        """
        return [self.special_id(token) for token in self.extras.start]

    def prompt_ids(self, text: str) -> list[int]:
        """What a model reads in order to write on from `text`: never nothing."""
        return [*self.start_ids, *self.encode(text)] or [self.end_of_text]

    def _safe_cut(self, text: str) -> int:
        """The last place where `text` may be cut, whatever follows; 0 if nowhere."""
        return len(text)

    # special tokens: the trusted call

    def special_id(self, token: str) -> int:
        """The id of a control token. Never call it on text from users or documents."""
        if token not in self.special_tokens:
            hint = nearest(token, list(self.special_tokens))
            raise UserError(f"no special token {token!r} in this tokenizer{hint}")
        return self.special_tokens[token]

    @property
    def end_of_text(self) -> int:
        """The id that ends a document; imported tokenizers have another name for it."""
        return self.special_id(self.extras.roles.get("eos_token", END_OF_TEXT))

    def with_extras(self, extras: Extras) -> Tokenizer:
        """The same tokenizer with other names for its roles and another start."""
        for token in (*extras.roles.values(), *extras.start):
            self.special_id(token)
        other = copy.copy(self)
        other.__dict__.pop("fingerprint", None)
        other.extras = extras
        other._set_pieces(list(self._pieces), self.special_tokens)
        return other

    def with_special_tokens(self, tokens: Sequence[str] = SPECIAL_TOKENS) -> Tokenizer:
        """The same tokenizer with the missing ones of `tokens` added at the end."""
        added = [token for token in tokens if token not in self.special_tokens]
        ids = {token: self.vocab_size + i for i, token in enumerate(added)}
        other = copy.copy(self)
        other.__dict__.pop("fingerprint", None)
        other._set_pieces(list(self._pieces), {**self.special_tokens, **ids})
        return other

    # ids to text

    def token_bytes(self, id: int) -> bytes:
        """What one id stands for; it may be part of a character."""
        self._check_ids([id])
        return self._pieces[id]

    def decode_bytes(self, ids: Iterable[int], *, special: bool = True) -> bytes:
        """The exact bytes, even where they are no valid UTF-8."""
        joined = self._join(ids, special)
        if self.leading_space and joined.startswith(b" "):
            return joined[1:]
        return joined

    def _join(self, ids: Iterable[int], special: bool) -> bytes:
        ids = [int(i) for i in ids]
        self._check_ids(ids)
        if not special:
            ids = [i for i in ids if i not in self._hidden_ids]
        pieces = self._pieces
        return b"".join([pieces[i] for i in ids])

    def _check_ids(self, ids: Sequence[int]) -> None:
        if ids and not (min(ids) >= 0 and max(ids) < self.vocab_size):
            bad = next(i for i in ids if not 0 <= i < self.vocab_size)
            raise UserError(
                f"token id {bad}: this tokenizer knows 0..{self.vocab_size - 1}; "
                f"was the text encoded by another one?"
            )

    def decode(self, ids: Iterable[int], *, special: bool = True) -> str:
        """Text; bytes that are no UTF-8 become U+FFFD. special=False drops specials."""
        return self.decode_bytes(ids, special=special).decode("utf-8", "replace")

    def stream_decoder(
        self, *, special: bool = True, continued: bool = False
    ) -> StreamDecoder:
        return StreamDecoder(self, special=special, continued=continued)

    # the file

    @abstractmethod
    def _to_json(self) -> dict[str, Any]:
        """The content of tokenizer.json."""

    @classmethod
    @abstractmethod
    def _from_json(cls, data: dict[str, Any]) -> Tokenizer:
        """Build from the content of tokenizer.json; UserError if it makes no sense."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the canonical content; equal content has it equal anywhere."""
        canonical = json.dumps(self._to_json(), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write one tokenizer.json (a folder is fine too), whole or not at all."""
        path = _file_of(Path(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._to_json(), ensure_ascii=False, indent=1)
        write_atomically(path, text + "\n")

    @staticmethod
    def load(path: str | Path) -> Tokenizer:
        """Read a tokenizer.json (or the one in a folder): ours, or HF's byte-level BPE.

        A damaged or foreign file is a UserError that names the file and the field.
        """
        path = _file_of(Path(path))
        if not path.is_file():
            raise UserError(f"no tokenizer at {path}; make one with `folio tokenizer`")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not valid JSON: {error}") from None
        return Tokenizer.parse(data, str(path))

    @staticmethod
    def parse(data: Any, where: str) -> Tokenizer:
        """The tokenizer of a tokenizer.json's content; `where` is named in errors."""
        try:
            return _class_of(data)._from_json(data)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            shown = f"{type(error).__name__}: {error}"
            raise UserError(f"{where}: not a tokenizer of ours: {shown}") from None


class StreamDecoder:
    """Text as it can be shown while ids arrive one by one: never half a character.

    The pieces that `push` and `flush` return, joined, are exactly `decode(ids)`; with
    `continued`, the ids go on from others, and a space at their start is kept.

    >>> from folio.text.byte import ByteTokenizer
    >>> decoder = ByteTokenizer().stream_decoder()
    >>> [decoder.push(byte) for byte in "né!".encode()]
    ['n', '', 'é', '!']
    """

    def __init__(
        self, tokenizer: Tokenizer, *, special: bool = True, continued: bool = False
    ):
        self._tokenizer = tokenizer
        self._special = special
        self._drop_space = tokenizer.leading_space and not continued
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The characters that `id` completes; U+FFFD only where none can come."""
        piece = self._tokenizer._join([id], self._special)
        if self._drop_space and piece:
            piece = piece.removeprefix(b" ")
            self._drop_space = False
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """What is left at the end: U+FFFD if the last character stayed unfinished."""
        return self._decoder.decode(b"", final=True)


# helpers of save and load


def hugging_face_json(
    special_tokens: Mapping[str, int],
    model: dict[str, Any],
    pre_tokenizer: dict[str, Any] | None = None,
    decoder: dict[str, Any] | None = None,
    normalizer: dict[str, Any] | None = None,
    post_processor: dict[str, Any] | None = None,
    flags: Flags | None = None,
) -> dict[str, Any]:
    """A whole tokenizer.json around `model`, in the order `tokenizers` writes it."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens_json(special_tokens, flags or {}),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }


def read_special_tokens(data: dict[str, Any]) -> dict[str, int]:
    """The added tokens of a tokenizer.json, checked: names and ids are unique."""
    tokens: dict[str, int] = {}
    for entry in data.get("added_tokens") or []:
        token, index = entry["content"], entry["id"]
        if not isinstance(token, str) or not is_id(index):
            raise UserError(f"added_tokens: {token!r} with id {index!r} makes no sense")
        if token in tokens or index in tokens.values():
            raise UserError(f"added_tokens: {token!r} (id {index}) comes twice")
        tokens[token] = index
    return dict(sorted(tokens.items(), key=lambda item: item[1]))


def _class_of(data: dict[str, Any]) -> type[Tokenizer]:
    from folio.text.bpe import BPETokenizer
    from folio.text.byte import ByteTokenizer
    from folio.text.char import CharTokenizer
    from folio.text.sentencepiece_bpe import SentencePieceTokenizer
    from folio.text.word_bpe import WordBPETokenizer
    from folio.text.wordpiece import WordPieceTokenizer

    if not isinstance(data, dict) or not isinstance(data.get("model"), dict):
        raise UserError("not a tokenizer.json: it has no table 'model'")
    kinds = (
        CharTokenizer,
        ByteTokenizer,
        WordBPETokenizer,
        BPETokenizer,
        SentencePieceTokenizer,
        WordPieceTokenizer,
    )
    known = {kind.name: kind for kind in kinds}
    # A file without our mark comes from elsewhere: one of two kinds of BPE.
    foreign = "sentencepiece" if data["model"].get("byte_fallback") else "bpe"
    name = data["model"].get("folio", {"kind": foreign})["kind"]
    if name not in known:
        raise UserError(f"model.folio.kind = {name!r}{nearest(str(name), list(known))}")
    return known[name]


def _file_of(path: Path) -> Path:
    return path / FILE_NAME if path.is_dir() or path.suffix != ".json" else path


def _group(texts: Sequence[str]) -> Iterator[list[str]]:
    """Groups of about GROUP characters: one trip to another process each."""
    group: list[str] = []
    total = 0
    for text in texts:
        group.append(text)
        total += len(text)
        if total >= GROUP:
            yield group
            group, total = [], 0
    if group:
        yield group
