"""The same text by every tokenizer: the run's own, and small ones of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from folio.config import UserError
from folio.data.corpora import open_corpus
from folio.infer.inspect import token_texts
from folio.studio.text import checked
from folio.text.bpe import BPETokenizer
from folio.text.byte import ByteTokenizer
from folio.text.char import CharTokenizer
from folio.text.tokenizer import Tokenizer
from folio.text.word_bpe import WordBPETokenizer
from folio.text.wordpiece import WordPieceTokenizer
from folio.viz.dialog import notice
from folio.viz.markup import Markup, join, tag
from folio.viz.svg import bar_chart
from folio.viz.tokens import token_strip, token_summary

SAMPLE = 0.06  # megabytes of the embedded tales that the small ones learn from
VOCABULARY = 512


@cache
def small_tokenizers() -> Mapping[str, Tokenizer]:
    """One of each kind, trained on the spot: a second's work, done once."""
    texts = list(open_corpus("tales", megabytes=SAMPLE).documents())
    return {
        "characters": CharTokenizer.train(texts),
        "bytes": ByteTokenizer(),
        "word BPE": WordBPETokenizer.train(texts, VOCABULARY),
        "byte BPE": BPETokenizer.train(texts, VOCABULARY),
        "WordPiece": WordPieceTokenizer.train(texts, VOCABULARY),
    }


def token_record(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """A text in the form that `folio.viz.tokens` draws."""
    ids = tokenizer.encode(text)
    special = set(tokenizer.special_tokens.values())
    rows = [
        {
            "id": number,
            "text": shown,
            "bytes": 0 if number in special else len(tokenizer.token_bytes(number)),
            "special": number in special,
        }
        for number, shown in zip(ids, token_texts(tokenizer, ids), strict=True)
    ]
    return {"text": text, "tokens": rows}


def tokens_view(text: str, own: Tokenizer | None = None, name: str = "") -> Markup:
    """Every tokenizer's strip, and how many bytes a token has with each.

    `own` is the run's, shown first under the run's `name`.
    """
    text = checked(text, filled=True)
    tokenizers = {f"{name} (this run)": own} if own is not None else {}
    parts, sizes = [], {}
    for title, tokenizer in (tokenizers | dict(small_tokenizers())).items():
        head = tag("h3", title, " ", tag("small", f"{tokenizer.vocab_size:,} tokens"))
        try:
            record = token_record(tokenizer, text)
        except UserError as error:  # such as a letter that it has never seen
            parts.append(tag("section", head, notice(error), class_="tokenizer"))
            continue
        sizes[title] = len(text.encode()) / max(1, len(record["tokens"]))
        lead = tag("p", token_summary(record), class_="quiet")
        strip = token_strip(record["tokens"])
        parts.append(tag("section", head, lead, strip, class_="tokenizer"))
    chart = bar_chart(
        list(sizes),
        list(sizes.values()),
        width=430,
        color="train",
        description="bytes per token, by tokenizer",
    )
    title = tag("h3", "Bytes per token")
    bars = tag("div", title, chart, class_="bars")
    return join([bars, *parts])
