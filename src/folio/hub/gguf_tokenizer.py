"""A tokenizer as metadata of a GGUF: tokens, merges or scores, roles, chat template.

llama.cpp knows how to cut a text into words by the names of known models only. So a
pattern of ours goes by the name of one that cuts equally, or the export is refused;
where llama.cpp is known to differ for some texts, that is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from folio.config import UserError
from folio.hub.chat_template import jinja_of
from folio.hub.tokenizer import roles_of, template_of
from folio.text.bpe import BPETokenizer
from folio.text.byte_level import show_bytes
from folio.text.sentencepiece_bpe import BYTE_NAMES, SentencePieceTokenizer
from folio.text.tokenizer import Tokenizer

Say = Callable[[str], None]
KIND = "tokenizer.ggml"
NORMAL, UNKNOWN, CONTROL, TEXT, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # types of tokens
# (pattern, whole_words) -> the name of a model whose words are cut the same way
NAMES = {
    ("gpt2", False): "gpt-2",
    ("gpt4", False): "dbrx",
    ("gpt4", True): "llama-bpe",
    ("qwen2", False): "qwen2",
    ("mistral", True): "tekken",
}
ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "pad_token": "padding_token_id",
    "unk_token": "unknown_token_id",
}


def tokenizer_metadata(
    tokenizer: Tokenizer, vocab_size: int, say: Say
) -> dict[str, Any]:
    """Key -> value of everything that llama.cpp needs to read and write text.

    `vocab_size` is the model's: what it has beyond the tokenizer is filled up.
    UserError for kinds of tokenizers, and ways to cut words, that llama.cpp lacks.
    """
    match tokenizer:
        case BPETokenizer():
            values = _bpe(tokenizer, say)
        case SentencePieceTokenizer():
            values = _sentencepiece(tokenizer, vocab_size, say)
        case _:
            raise UserError(
                f"a tokenizer of kind {tokenizer.name!r} can't be written to a GGUF; "
                "bpe and sentencepiece can: train the model with one of them"
            )
    values |= _vocabulary(tokenizer, vocab_size) | _roles(tokenizer)
    values = {f"{KIND}.{name}": value for name, value in values.items()}
    jinja, template = tokenizer.extras.jinja, template_of(tokenizer)
    if jinja is None and template is not None:
        jinja = jinja_of(template)
    if jinja is not None:
        values["tokenizer.chat_template"] = jinja
    return values


def _bpe(tokenizer: BPETokenizer, say: Say) -> dict[str, Any]:
    cut = tokenizer.pattern, tokenizer.whole_words
    if cut not in NAMES:
        raise UserError(
            f"pattern = {cut[0]!r} with whole_words = {cut[1]}: llama.cpp knows no "
            "model that cuts words like that"
        )
    if not tokenizer.merges:
        raise UserError(
            "a tokenizer without merges can't be written to a GGUF; train one with a "
            "larger vocab_size"
        )
    if tokenizer.pattern == "mistral":
        say("(llama.cpp cuts words with letters beyond ASCII, or marks, another way)")
    if tokenizer.nfc:
        say("(llama.cpp composes no characters (NFC), as this model does)")
    return {
        "model": "gpt2",
        "pre": NAMES[cut],
        "merges": [f"{show_bytes(a)} {show_bytes(b)}" for a, b in tokenizer.merges],
    }


def _sentencepiece(
    tokenizer: SentencePieceTokenizer, vocab_size: int, say: Say
) -> dict[str, Any]:
    """Scores instead of merges: what has the higher one is merged first."""
    lowest, last = -float(vocab_size + len(tokenizer.merges)), None
    scores = [lowest] * vocab_size
    for rank, (left, right) in enumerate(tokenizer.merges):
        whole = left + right
        index = tokenizer.pieces[whole]
        if whole != last and scores[index] != lowest:
            raise UserError(
                f"merge {rank}, {left!r} + {right!r}: llama.cpp knows the order of "
                "tokens, not of merges, and here the ways to make one are apart"
            )
        if whole != last:
            scores[index] = -float(rank)
        last = whole
    _say_what_else_merges(tokenizer, say)
    if tokenizer.prefix in ("new word", "start"):
        say("(llama.cpp puts a space before every stretch of text, this model not all)")
    return {
        "model": "llama",
        "pre": "default",
        "scores": scores,
        "add_space_prefix": tokenizer.prefix != "nowhere",
    }


def _say_what_else_merges(tokenizer: SentencePieceTokenizer, say: Say) -> None:
    """llama.cpp joins any two pieces whose text is a token, control tokens included."""
    known, merges = tokenizer.pieces.keys(), set(tokenizer.merges)
    for whole in [*tokenizer.pieces, *tokenizer.special_tokens]:
        for cut in range(1, len(whole)):
            parts = whole[:cut], whole[cut:]
            if known >= set(parts) and parts not in merges:
                say(f"(llama.cpp may join {parts[0]!r} and {parts[1]!r}; we never do)")
                return


def _vocabulary(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """Tokens as they are spelled there, and their types."""
    names, kinds = [""] * tokenizer.vocab_size, [NORMAL] * tokenizer.vocab_size
    if isinstance(tokenizer, SentencePieceTokenizer):
        for piece, index in tokenizer.pieces.items():
            names[index] = piece
        for piece in BYTE_NAMES:
            kinds[tokenizer.pieces[piece]] = BYTE
    else:
        spelled = range(tokenizer.vocab_size)
        names = [show_bytes(tokenizer.token_bytes(i)) for i in spelled]
    for token, index in tokenizer.text_tokens.items():
        names[index], kinds[index] = token, TEXT
    for token, index in tokenizer.special_tokens.items():
        names[index], kinds[index] = token, CONTROL
    unknown = roles_of(tokenizer).get("unk_token")
    if unknown is not None:
        kinds[tokenizer.special_id(unknown)] = UNKNOWN
    for index in range(tokenizer.vocab_size, vocab_size):
        names.append(f"[unused{index}]")
        kinds.append(UNUSED)
    return {"tokens": names, "token_type": kinds}


def _roles(tokenizer: Tokenizer) -> dict[str, Any]:
    """Which token begins and ends a text, and a turn."""
    roles, start = roles_of(tokenizer), tokenizer.extras.start
    values: dict[str, Any] = {
        name: tokenizer.special_id(roles[role])
        for role, name in ROLES.items()
        if role in roles
    }
    if start not in ((), (roles.get("bos_token"),)):
        raise UserError(
            f"a text begins with {list(start)}: a GGUF can have it begin with the "
            "bos_token, or with nothing"
        )
    values["add_bos_token"] = bool(start)
    values["add_eos_token"] = False
    template = template_of(tokenizer)
    if template is not None and template.end_of_turn is not None:
        values["eot_token_id"] = tokenizer.special_id(template.end_of_turn)
    return values
