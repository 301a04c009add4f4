"""From any text to batches: corpora, shards of token ids, streams of windows."""

from folio.data.batch import Batch
from folio.data.corpora import open_corpus
from folio.data.prepare import prepare
from folio.data.shards import open_shards, write_shards
from folio.data.text import TextStream, next_token_batch, validation_windows
from folio.data.tokens import Tokens

__all__ = [
    "Batch",
    "TextStream",
    "Tokens",
    "next_token_batch",
    "open_corpus",
    "open_shards",
    "prepare",
    "validation_windows",
    "write_shards",
]
