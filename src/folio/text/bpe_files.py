"""Byte-level BPE on disk: GPT-2's two files, and the tokenizer.json of today.

Our tokenizer.json is the one Hugging Face's `tokenizers` reads: same ids for all
ordinary text. (Its `encode` does turn the name of a special token into the control
token, unless `encode_special_tokens` is set; ours never does.) The other way around,
the files of GPT-2, Llama 3, Qwen, OLMo and Mistral Nemo can be read; what a file asks
for and we cannot honor is refused by its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.config import UserError
from folio.text.added_tokens import Extras, Flags, read_added_tokens
from folio.text.byte_level import BYTE_LEVEL, read_bytes, show_bytes
from folio.text.tokenizer import END_OF_TEXT, hugging_face_json

if TYPE_CHECKING:
    from folio.text.bpe import BPETokenizer


@dataclass(frozen=True)
class Parts:
    """What a BPE tokenizer is made of; `vocab` has no added tokens."""

    merges: list[tuple[bytes, bytes]]
    pattern: str
    special_tokens: dict[str, int]
    vocab: dict[bytes, int]
    text_tokens: dict[str, int] = field(default_factory=dict)
    nfc: bool = False
    whole_words: bool = False
    extras: Extras = field(default_factory=Extras)


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
    return gpt2_parts(shown, _read(merges), str(vocab))


def gpt2_parts(shown: Any, merges: str, where: str) -> Parts:
    """The parts from the content of vocab.json and merges.txt."""
    if not isinstance(shown, dict):
        raise UserError(f"{where}: expected an object of token: id")
    special = {END_OF_TEXT: shown[END_OF_TEXT]} if END_OF_TEXT in shown else {}
    lines = merges.split("\n")
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
    added = tokenizer.special_tokens | tokenizer.text_tokens
    pieces = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
    taken = set(added.values())
    vocab = {show_bytes(p): i for i, p in enumerate(pieces) if i not in taken}
    for token in added:
        if token in vocab:
            raise UserError(
                f"special token {token!r} is spelled like an ordinary one; a file "
                f"cannot hold both: rename it"
            )
    vocab = dict(sorted((vocab | added).items(), key=lambda item: item[1]))
    merges = [[show_bytes(a), show_bytes(b)] for a, b in tokenizer.merges]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": tokenizer.whole_words,
        "vocab": vocab,
        "merges": merges,
    }
    extras = tokenizer.extras
    return hugging_face_json(
        added,
        model | roles_json(tokenizer.name, extras),
        pre_tokenizer(tokenizer.pattern),
        BYTE_LEVEL,
        normalizer={"type": "NFC"} if tokenizer.nfc else None,
        post_processor=post_processor(extras.start, tokenizer.special_tokens),
        flags=extras.flags,
    )


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
    refuse_options(
        model,
        "dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback",
    )
    nfc = _read_normalizer(data.get("normalizer"))
    added = read_added_tokens(data)
    vocab = _read_vocab(model["vocab"], added.control | added.text)
    return Parts(
        _read_merges(split_merges(model["merges"])),
        _read_pattern(data),
        added.control,
        vocab,
        added.text,
        nfc,
        read_flag(model, "ignore_merges"),
        read_extras(data, added.flags),
    )


def refuse_options(model: Mapping[str, Any], *names: str) -> None:
    """Options of a BPE model that would change ids."""
    for name in names:
        if model.get(name):
            raise UserError(f"model.{name} = {model[name]!r}: not supported")


def read_flag(model: Mapping[str, Any], name: str) -> bool:
    value = model.get(name, False)
    if not isinstance(value, bool):
        raise UserError(f"model.{name} = {value!r}: expected true or false")
    return value


def split_merges(merges: list[Any]) -> list[list[str]]:
    """Both spellings of merges: `"a b"` of old, and `["a", "b"]`."""
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]


def _read_normalizer(normalizer: Any) -> bool:
    """Is text to be composed (NFC) first? Any other normalizer is refused."""
    if isinstance(normalizer, dict) and normalizer.get("type") == "Sequence":
        steps = normalizer["normalizers"]
        normalizer = steps[0] if len(steps) == 1 else (normalizer if steps else None)
    if normalizer is None:
        return False
    if normalizer != {"type": "NFC"}:
        kind = normalizer.get("type")
        raise UserError(f"normalizer: {kind!r} is not supported, only NFC is")
    return True


# what both kinds of BPE files share


def roles_json(kind: str, extras: Extras) -> dict[str, Any]:
    """Our note in `model`: roles of tokens, the chat template. Nothing for our own."""
    note = {"roles": dict(extras.roles), "chat": extras.chat, "jinja": extras.jinja}
    note = {name: value for name, value in note.items() if value}
    return {"folio": {"kind": kind, **note}} if note else {}


def post_processor(
    start: tuple[str, ...], special_tokens: Mapping[str, int]
) -> dict[str, Any] | None:
    """Control tokens before each text, as `tokenizers` writes it."""
    if not start:
        return None
    first = [{"SpecialToken": {"id": token, "type_id": 0}} for token in start]
    second = [{"SpecialToken": {"id": token, "type_id": 1}} for token in start]
    return {
        "type": "TemplateProcessing",
        "single": [*first, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            *first,
            {"Sequence": {"id": "A", "type_id": 0}},
            *second,
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {
            token: {"id": token, "ids": [special_tokens[token]], "tokens": [token]}
            for token in start
        },
    }


def read_extras(data: Mapping[str, Any], flags: Flags) -> Extras:
    """Everything of a tokenizer.json that is not its vocabulary."""
    from folio.text.chat import ChatTemplate

    note = data["model"].get("folio", {})
    roles, chat, jinja = note.get("roles", {}), note.get("chat"), note.get("jinja")
    if not all(isinstance(x, str) for item in roles.items() for x in item):
        raise UserError("model.folio.roles: expected names of tokens")
    if not isinstance(jinja, str | None):
        raise UserError("model.folio.jinja: expected a text")
    controls = ChatTemplate.from_json(chat).controls if chat is not None else ()
    start = read_start(data.get("post_processor"))
    known = {entry["content"] for entry in data.get("added_tokens") or []}
    for token in (*roles.values(), *start, *controls):
        if token not in known:
            raise UserError(f"{token!r} has a role, but is not in added_tokens")
    return Extras(dict(roles), start, flags, chat, jinja)


def read_start(processor: Any) -> tuple[str, ...]:
    """The control tokens that a post-processor puts before a text."""
    if processor is None:
        return ()
    match processor.get("type"):
        case "ByteLevel":  # moves offsets, not ids
            return ()
        case "Sequence":
            found = [read_start(step) for step in processor["processors"]]
            return tuple(token for start in found for token in start)
        case "TemplateProcessing":
            template = processor["single"]
    if processor.get("type") != "TemplateProcessing":
        raise UserError(f"post_processor: {processor.get('type')!r} is not supported")
    *start, last = template
    if "Sequence" not in last or not all("SpecialToken" in one for one in start):
        raise UserError(
            "post_processor: puts tokens behind a text; only those before it are "
            "supported"
        )
    return tuple(one["SpecialToken"]["id"] for one in start)


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


# The patterns of GPT-4 and Qwen as Llama 3 and Qwen write them; same cuts.
_BEGIN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_END = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
OTHER_SPELLINGS = {
    rf"{_BEGIN}\p{{N}}{{1,3}}{_END}": "gpt4",
    rf"{_BEGIN}\p{{N}}{_END}": "qwen2",
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
