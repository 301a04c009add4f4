"""Tokenizers of Hugging Face's folders: in, and out again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.files import write_atomically
from folio.hub.chat_template import chat_of, jinja_of
from folio.hub.folder import ModelFolder
from folio.text.bpe import BPETokenizer
from folio.text.bpe_files import gpt2_parts
from folio.text.chat import ChatTemplate
from folio.text.tokenizer import END_OF_TEXT, Tokenizer

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
ROLES_FILE, JINJA = "special_tokens_map.json", "chat_template.jinja"
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
ABROAD = ("bpe", "byte", "char", "sentencepiece")  # kinds that `tokenizers` can read
LARGEST_MERGES = 16 << 20  # bytes of merges.txt


# in


def read_tokenizer(
    folder: ModelFolder, ids: Mapping[str, Any], say: Callable[[str], None]
) -> Tokenizer:
    """The tokenizer of a folder, with the names of its roles and its chat template.

    `ids` are config.json and generation_config.json, whose "eos_token_id" and the like
    count where the tokenizer's own files name no role. UserError if it is of a kind
    that can't be had here exactly, or has no token that ends a text. A chat template
    that can't be had is said, and no error: the model can write on without it.
    """
    tokenizer = _read_vocabulary(folder)
    settings = folder.read_json_if_any(SETTINGS)
    roles = _read_roles(folder, settings, tokenizer, ids)
    _refuse_unknown(folder, settings)
    if roles == roles_of(tokenizer) and not tokenizer.extras.roles:
        return tokenizer  # one of ours come home
    if "eos_token" not in roles:
        raise UserError(
            f"{folder.path}: no file names the eos_token, or it is not among the added "
            f"tokens of {FILE}"
        )
    extras = replace(
        tokenizer.extras,
        roles=roles,
        start=_read_start(settings, tokenizer, roles),
        chat=None,
        jinja=None,
    )
    tokenizer = tokenizer.with_extras(extras)
    jinja = read_jinja(folder)
    template, reason = chat_of(tokenizer, jinja)
    if template is None:
        say(f"no chat with this model: {reason}")
        return tokenizer
    return tokenizer.with_extras(replace(extras, chat=template.to_json(), jinja=jinja))


def _read_vocabulary(folder: ModelFolder) -> Tokenizer:
    if folder.has(FILE):
        return Tokenizer.parse(folder.read_json(FILE), str(folder.path / FILE))
    if folder.has("vocab.json") and folder.has("merges.txt"):
        vocab = folder.read_json("vocab.json")
        merges = folder.read_text("merges.txt", LARGEST_MERGES)
        parts = gpt2_parts(vocab, merges, str(folder.path / "vocab.json"))
        return BPETokenizer(
            parts.merges, parts.pattern, parts.special_tokens, parts.vocab
        )
    raise UserError(
        f"{folder.path}: has no {FILE}; if it has a tokenizer.model, load and save it "
        "once with transformers, which writes one"
    )


def _refuse_unknown(folder: ModelFolder, settings: Mapping[str, Any]) -> None:
    """What tokenizer_config.json may ask for, and Folio doesn't do."""
    if settings.get("auto_map"):
        raise UserError(
            f"{folder.path / SETTINGS}: auto_map = {settings['auto_map']!r}: the "
            "tokenizer brings code of its own, which Folio never runs"
        )
    if settings.get("add_eos_token"):
        raise UserError(
            f"{folder.path / SETTINGS}: add_eos_token = true: a token behind every "
            "text is not supported"
        )


def _read_start(
    settings: Mapping[str, Any], tokenizer: Tokenizer, roles: Mapping[str, str]
) -> tuple[str, ...]:
    """What a prompt begins with: tokenizer_config.json may overrule tokenizer.json."""
    match settings.get("add_bos_token"):
        case True if "bos_token" in roles:
            return (roles["bos_token"],)
        case False:
            return ()
    return tokenizer.extras.start


def _read_roles(
    folder: ModelFolder,
    settings: Mapping[str, Any],
    tokenizer: Tokenizer,
    ids: Mapping[str, Any],
) -> dict[str, str]:
    """Which control token plays which role; roles of unknown tokens are left out."""
    names = folder.read_json_if_any(ROLES_FILE) | settings
    control = tokenizer.special_tokens
    by_id = {index: token for token, index in control.items()}
    roles: dict[str, str] = {}
    for role in ROLES:
        name = names.get(role)
        if isinstance(name, dict):
            name = name.get("content")
        index = ids.get(f"{role}_id")
        if isinstance(index, list) and index:
            index = index[0]
        if isinstance(name, str) and name in control:
            roles[role] = name
        elif name is None and isinstance(index, int) and index in by_id:
            roles[role] = by_id[index]
    return roles


def read_jinja(folder: ModelFolder) -> str | None:
    """The text of the chat template, wherever the folder has it; None if nowhere."""
    if folder.has(JINJA):
        return folder.read_text(JINJA)
    found = folder.read_json_if_any("chat_template.json").get("chat_template")
    found = found or folder.read_json_if_any(SETTINGS).get("chat_template")
    if isinstance(found, list):  # several under names
        texts = {
            entry.get("name"): entry.get("template")
            for entry in found
            if isinstance(entry, dict)
        }
        found = texts.get("default")
    return found if isinstance(found, str) else None


# out


def write_tokenizer(tokenizer: Tokenizer, folder: Path, max_seq_len: int) -> None:
    """Write what `AutoTokenizer.from_pretrained(folder)` reads.

    The chat template is the program that was imported, or ours written as one.
    UserError for kinds of tokenizers that the library `tokenizers` doesn't have.
    """
    if tokenizer.name not in ABROAD:
        raise UserError(
            f"a tokenizer of kind {tokenizer.name!r} can't be written for Hugging "
            f"Face; of ours, {', '.join(ABROAD)} can: train the model with one of them"
        )
    tokenizer.save(folder / FILE)
    roles = roles_of(tokenizer)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_seq_len,
        **roles,
    }
    _write_json(folder / SETTINGS, settings)
    _write_json(folder / ROLES_FILE, roles)
    jinja, template = tokenizer.extras.jinja, template_of(tokenizer)
    if jinja is None and template is not None:
        jinja = jinja_of(template)
    if jinja is not None:
        write_atomically(folder / JINJA, jinja)


def template_of(tokenizer: Tokenizer) -> ChatTemplate | None:
    """The chat template of a tokenizer, None if it has none."""
    try:
        return ChatTemplate.of(tokenizer)
    except UserError:
        return None


def roles_of(tokenizer: Tokenizer) -> dict[str, str]:
    """bos_token and the like; our own tokenizers have one token for both ends."""
    if tokenizer.extras.roles:
        return dict(tokenizer.extras.roles)
    own = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": "<|pad|>"}
    return {r: token for r, token in own.items() if token in tokenizer.special_tokens}


def token_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    """bos, eos and pad ids, as config.json and generation_config.json name them.

    A model that chats also stops at the end of its turn.
    """
    roles, template = roles_of(tokenizer), template_of(tokenizer)
    ids: dict[str, Any] = {
        f"{role}_id": tokenizer.special_id(roles[role])
        for role in ("bos_token", "eos_token", "pad_token")
        if role in roles
    }
    turn = template.end_of_turn if template else None
    if turn is not None and turn != roles.get("eos_token"):
        ends = [ids["eos_token_id"]] if "eos_token_id" in ids else []
        ids["eos_token_id"] = [*ends, tokenizer.special_id(turn)]
    return ids


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
