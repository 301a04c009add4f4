"""Memory of one training step of 124 M parameters in bf16 autocast, one sequence.

What checkpointing the layers saves, what reading the logits in pieces saves where the
vocabulary is large, and how both grow with the context. Running out is a result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

from folio.model.config import llama_like
from folio.model.heads import LOGITS_AT_ONCE
from gpu_parts.card import Case, Row, Setup, out_of_memory, peak_gib, seconds_of
from gpu_parts.training import (
    AUTOCAST,
    SHAPES,
    TINY,
    VOCABULARY,
    WHOLE,
    Ours,
    make_batch,
    release_memory,
)

LENGTHS = (1024, 4096, 16_384, 32_768)
VOCABULARIES = (VOCABULARY, 131_072)


def cases(setup: Setup) -> Iterator[Case]:
    """Each context and vocabulary, both savings with and without."""
    lengths = (16, 32) if setup.quick else LENGTHS
    vocabularies = (64, 128) if setup.quick else VOCABULARIES
    for length, vocabulary in itertools.product(lengths, vocabularies):
        name = f"context {length}, vocabulary {vocabulary}"
        yield name, partial(measure, setup, length, vocabulary)


def measure(setup: Setup, length: int, vocabulary: int) -> Iterator[Row]:
    """One row per combination of savings: peak memory and seconds of a step."""
    shape = TINY if setup.quick else SHAPES["124M"]
    config = llama_like(
        max_seq_len=length, vocab_size=vocabulary, tie_embeddings=True, **shape
    )
    ours = Ours(config, setup.device, AUTOCAST)
    batch = make_batch(config, 1, setup.device)
    for checkpoint, pieces in itertools.product((False, True), (False, True)):
        ours.model.checkpoint_layers = checkpoint
        losses = ours.losses(LOGITS_AT_ONCE if pieces else WHOLE)
        row = {"checkpoint_layers": checkpoint, "logits_in_pieces": pieces}
        release_memory()
        step = partial(ours.step, batch, losses)
        try:
            seconds = seconds_of(step, warmup=2, times=1 if setup.quick else 3)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            yield row | {"out_of_memory": True}
            continue
        yield row | {"peak_gib": peak_gib(setup), "ms_per_step": 1e3 * seconds}
