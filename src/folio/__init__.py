"""Folio: build a large language model from scratch."""

import importlib

__version__ = "0.1.0"

# name -> module. Loaded on first use (PEP 562), so that `folio --help` needs no torch.
_EXPORTS = {
    "BPETokenizer": "folio.text.bpe",
    "Batch": "folio.data.batch",
    "ByteTokenizer": "folio.text.byte",
    "CharTokenizer": "folio.text.char",
    "Decoder": "folio.model.decoder",
    "FullCache": "folio.infer.cache",
    "Learner": "folio.training.learner",
    "ModelConfig": "folio.model.config",
    "Sampling": "folio.infer.sampling",
    "TextStream": "folio.data.text",
    "Tokenizer": "folio.text.tokenizer",
    "Tokens": "folio.data.tokens",
    "WordBPETokenizer": "folio.text.word_bpe",
    "WordPieceTokenizer": "folio.text.wordpiece",
    "adamw": "folio.optim.adamw",
    "constant": "folio.optim.schedule",
    "generate": "folio.infer.generate",
    "generate_text": "folio.infer.generate",
    "gpt2_like": "folio.model.config",
    "llama_like": "folio.model.config",
    "load_model": "folio.model.store",
    "load_run": "folio.stages.use",
    "next_token": "folio.objectives.next_token",
    "open_corpus": "folio.data.corpora",
    "open_shards": "folio.data.shards",
    "perplexity": "folio.evals.perplexity",
    "save_model": "folio.model.store",
    "train": "folio.training.loop",
    "validation_windows": "folio.data.text",
    "warmup_cosine": "folio.optim.schedule",
    "warmup_linear": "folio.optim.schedule",
    "warmup_stable_decay": "folio.optim.schedule",
    "write_shards": "folio.data.shards",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'folio' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
