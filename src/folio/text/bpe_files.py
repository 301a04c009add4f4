"""Byte-level BPE on disk: GPT-2's two files, and the tokenizer.json of today.

Our tokenizer.json is the one Hugging Face's `tokenizers` reads: same ids for all
ordinary text. (Its `encode` does turn the name of a special token into the control
token, unless `encode_special_tokens` is set; ours never does.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.config import UserError
from folio.text.byte_level import BYTE_LEVEL, read_bytes, show_bytes
from folio.text.tokenizer import END_OF_TEXT, hugging_face_json, read_special_tokens

if TYPE_CHECKING:
    from folio.text.bpe import BPETokenizer


@dataclass(frozen=True)
class Parts:
    """What a BPE tokenizer is made of; `vocab` has no special tokens."""

    merges: list[tuple[bytes, bytes]]
    pattern: str
    special_tokens: dict[str, int]
    vocab: dict[bytes, int]


# GPT-2's files


def read_gpt2(
    folder: str | Path | None, vocab: str | Path | None, merges: str | Path | None
) -> Parts:
    """The parts in vocab.json and merges.txt; `<|endoftext|>` is its only special."""
    if folder is not None:
        vocab = vocab or Path(folder) / "vocab.json"
        merges = merges or Path(folder) / "merges.txt"
    if vocab is None or merges is None:
        raise UserError("from_gpt2: give the folder of vocab.json and merges.txt")
    try:
        shown = json.loads(_read(vocab))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{vocab}: not valid JSON: {error}") from None
    if not isinstance(shown, dict):
        raise UserError(f"{vocab}: expected an object of token: id")
    special = {END_OF_TEXT: shown[END_OF_TEXT]} if END_OF_TEXT in shown else {}
    lines = _read(merges).split("\n")
    if lines[0].startswith("#version"):
        lines = lines[1:]
    pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip()]
    return Parts(_read_merges(pairs), "gpt2", special, _read_vocab(shown, special))


def _read(path: str | Path) -> str:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None


# tokenizer.json


def bpe_json(tokenizer: BPETokenizer) -> dict[str, Any]:
    """The content of tokenizer.json."""
    special = tokenizer.special_tokens
    pieces = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
    taken = set(special.values())
    vocab = {show_bytes(p): i for i, p in enumerate(pieces) if i not in taken}
    for token in special:
        if token in vocab:
            raise UserError(
                f"special token {token!r} is spelled like an ordinary one; a file "
                f"cannot hold both: rename it"
            )
    vocab = dict(sorted((vocab | special).items(), key=lambda item: item[1]))
    merges = [[show_bytes(a), show_bytes(b)] for a, b in tokenizer.merges]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merges,
    }
    splitter = pre_tokenizer(tokenizer.pattern)
    return hugging_face_json(special, model, splitter, BYTE_LEVEL)


def pre_tokenizer(pattern: str) -> dict[str, Any]:
    """A split pattern as `tokenizers` writes it; it knows GPT-2's by itself."""
    if pattern == "gpt2":
        return BYTE_LEVEL
    from folio.text.bpe import PATTERNS

    cut = {
        "type": "Split",
        "pattern": {"Regex": PATTERNS[pattern]},
        "behavior": "Isolated",
        "invert": False,
    }
    return {
        "type": "Sequence",
        "pretokenizers": [cut, {**BYTE_LEVEL, "use_regex": False}],
    }


def read_bpe_json(data: dict[str, Any]) -> Parts:
    """The parts of a byte-level BPE tokenizer.json; anything else is a UserError."""
    model = data["model"]
    if model.get("type", "BPE") != "BPE":
        raise UserError(f"model.type = {model['type']!r}: only BPE can be read")
    for field in (
        "dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback",
        "ignore_merges",
    ):
        if model.get(field):
            raise UserError(f"model.{field} = {model[field]!r}: not supported")
    if data.get("normalizer") is not None:
        raise UserError("normalizer: not supported, it would change the text")
    special = read_special_tokens(data)
    pairs = [
        pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]
    ]
    vocab = _read_vocab(model["vocab"], special)
    return Parts(_read_merges(pairs), _read_pattern(data), special, vocab)


def _read_pattern(data: dict[str, Any]) -> str:
    """Which of our patterns the file names. Unknown ones are never run: a regular
    expression from a stranger can take forever."""
    from folio.text.bpe import PATTERNS

    found = data.get("pre_tokenizer")
    for pattern in PATTERNS:
        wanted = pre_tokenizer(pattern)
        if _essence(found) == _essence(wanted):
            return pattern
    for known, pattern in OTHER_SPELLINGS.items():
        wanted = json.loads(json.dumps(pre_tokenizer(pattern)))
        wanted["pretokenizers"][0]["pattern"]["Regex"] = known
        if _essence(found) == _essence(wanted):
            return pattern
    raise UserError(
        f"pre_tokenizer: an unknown split; known patterns are {list(PATTERNS)}"
    )


# GPT-4's pattern as Llama 3 and others write it; it cuts at the same places.
OTHER_SPELLINGS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "gpt4",
}


def _essence(part: Any) -> Any:
    """A pre-tokenizer without what has no influence on ids."""
    if isinstance(part, dict):
        return {k: _essence(v) for k, v in part.items() if k != "trim_offsets"}
    if isinstance(part, list):
        return [_essence(v) for v in part]
    return part


def _read_vocab(shown: Mapping[str, int], special: Mapping[str, int]) -> dict:
    for token, index in special.items():
        if shown.get(token, index) != index:
            raise UserError(f"special token {token!r} has two ids")
    return {read_bytes(t): i for t, i in shown.items() if t not in special}


def _read_merges(pairs: list[list[str]]) -> list[tuple[bytes, bytes]]:
    merges = []
    for rank, pair in enumerate(pairs):
        if len(pair) != 2 or not all(pair):
            raise UserError(f"merge {rank}: {pair!r} is not a pair of tokens")
        merges.append((read_bytes(pair[0]), read_bytes(pair[1])))
    return merges
