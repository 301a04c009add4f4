"""SentencePiece BPE as a tokenizer.json of Hugging Face: Llama 2, Mistral, Gemma.

The files say in three ways where "▁" goes, and one reading of them is all there is to
these tokenizers: a normalizer (Llama 2: Prepend and Replace; Gemma: Replace alone), or
a pre-tokenizer (Mistral, newer Llama: Metaspace). Anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from folio.config import UserError
from folio.text.added_tokens import read_added_tokens
from folio.text.bpe_files import (
    post_processor,
    read_extras,
    read_flag,
    refuse_options,
    roles_json,
    split_merges,
)
from folio.text.sentencepiece_bpe import SPACE, Prefix, SentencePieceTokenizer
from folio.text.tokenizer import hugging_face_json

REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
PREPEND = {"type": "Prepend", "prepend": SPACE}
SCHEMES: dict[str, Prefix] = {
    "always": "new word",
    "first": "start",
    "never": "nowhere",
}


def sentencepiece_json(tokenizer: SentencePieceTokenizer) -> dict[str, Any]:
    """The content of tokenizer.json."""
    added = tokenizer.special_tokens | tokenizer.text_tokens
    vocab = sorted((tokenizer.pieces | added).items(), key=lambda item: item[1])
    unknown = tokenizer.extras.roles.get("unk_token")
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": dict(vocab),
        "merges": [list(pair) for pair in tokenizer.merges],
    }
    normalizer, pre_tokenizer = _spaces_json(tokenizer.prefix)
    extras = tokenizer.extras
    return hugging_face_json(
        added,
        model | roles_json(tokenizer.name, extras),
        pre_tokenizer,
        _decoder(tokenizer.leading_space),
        normalizer=normalizer,
        post_processor=post_processor(extras.start, tokenizer.special_tokens),
        flags=extras.flags,
    )


def _spaces_json(prefix: Prefix) -> tuple[dict | None, dict | None]:
    """The normalizer and the pre-tokenizer that put "▁" where `prefix` says."""
    if prefix == "nowhere":
        return REPLACE, None
    if prefix == "stretch":
        return {"type": "Sequence", "normalizers": [PREPEND, REPLACE]}, None
    scheme = next(name for name, value in SCHEMES.items() if value == prefix)
    return None, {
        "type": "Metaspace",
        "replacement": SPACE,
        "prepend_scheme": scheme,
        "split": False,
    }


def _decoder(leading_space: bool) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if leading_space:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def read_sentencepiece_json(data: Mapping[str, Any]) -> SentencePieceTokenizer:
    """A tokenizer from the content of a file; UserError for what we can't honor."""
    model = data["model"]
    if model.get("type", "BPE") != "BPE":
        raise UserError(f"model.type = {model['type']!r}: only BPE can be read")
    refuse_options(
        model,
        "dropout",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "ignore_merges",
    )
    if not read_flag(model, "byte_fallback"):
        raise UserError("model.byte_fallback = false: unknown characters would be lost")
    added = read_added_tokens(data)
    for token in added.text:
        if added.flags.get(token, {}).get("normalized"):
            raise UserError(f"added_tokens: {token!r} is normalized: not supported")
    prefix = _read_prefix(data.get("normalizer"), data.get("pre_tokenizer"))
    if data.get("decoder") != _decoder(prefix != "nowhere"):
        raise UserError(
            "decoder: not the one that undoes the spaces of this file's normalizer"
        )
    for token, index in (added.control | added.text).items():
        if model["vocab"].get(token, index) != index:
            raise UserError(f"added_tokens: {token!r} has two ids")
    merges = []
    for rank, pair in enumerate(split_merges(model["merges"])):
        if len(pair) != 2 or not all(isinstance(one, str) and one for one in pair):
            raise UserError(f"merge {rank}: {pair!r} is not a pair of tokens")
        merges.append((pair[0], pair[1]))
    return SentencePieceTokenizer(
        model["vocab"],
        merges,
        added.control,
        text_tokens=added.text,
        prefix=prefix,
        extras=read_extras(data, added.flags),
    )


def _read_prefix(normalizer: Any, pre_tokenizer: Any) -> Prefix:
    if isinstance(normalizer, dict) and normalizer.get("type") == "Sequence":
        steps = normalizer["normalizers"]
    else:
        steps = [] if normalizer is None else [normalizer]
    if steps == [PREPEND, REPLACE] and pre_tokenizer is None:
        return "stretch"
    if steps == [REPLACE] and (pre_tokenizer is None or _splits_spaces(pre_tokenizer)):
        return "nowhere"
    if not steps and isinstance(pre_tokenizer, dict):
        found = dict(pre_tokenizer)
        scheme = found.pop("prepend_scheme", None)
        found.pop("add_prefix_space", None)  # an older spelling, beside the scheme
        wanted = {"type": "Metaspace", "replacement": SPACE, "split": False}
        if found == wanted and scheme in SCHEMES:
            return SCHEMES[scheme]
    raise UserError(
        "normalizer and pre_tokenizer: together not those of Llama 2, Mistral or Gemma"
    )


def _splits_spaces(pre_tokenizer: dict[str, Any]) -> bool:
    """Gemma's: it cuts at spaces, of which the normalizer has left none."""
    return (
        pre_tokenizer.get("type") == "Split"
        and pre_tokenizer.get("pattern") == {"String": " "}
        and pre_tokenizer.get("invert") is False
    )
