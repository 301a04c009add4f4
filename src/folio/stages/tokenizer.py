"""Learn a tokenizer, and show what it makes of the text."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from folio.stages.prepare import (
    recipe_corpus,
    texts_to_learn_from,
    train_tokenizer,
)
from folio.stages.recipe import PretrainRecipe


def learn_tokenizer(recipe: PretrainRecipe, out: Path) -> None:
    """`folio tokenizer`: train on the recipe's text, save, say how it packs."""
    corpus = recipe_corpus(recipe.data, recipe.seed)
    start = time.perf_counter()
    tokenizer = train_tokenizer(recipe.tokenizer, texts_to_learn_from(corpus, recipe))
    seconds = time.perf_counter() - start
    tokenizer.save(out)
    print(f"{out}: {tokenizer.name}, {tokenizer.vocab_size:,} tokens, {seconds:.1f} s")
    text = "".join(itertools.islice(corpus.documents(), 50))[:200_000]
    ids = tokenizer.encode(text)
    print(f"{len(text.encode()) / len(ids):.2f} bytes per token on a first sample:")
    shown = [tokenizer.token_bytes(i).decode("utf-8", "replace") for i in ids[:40]]
    print(" ".join(repr(piece)[1:-1] for piece in shown))
