"""Folio: build a large language model from scratch."""

import importlib

__version__ = "0.1.0"

# name -> module. Loaded on first use (PEP 562), so that `folio --help` needs no torch.
_EXPORTS = {
    "BPETokenizer": "folio.text.bpe",
    "Batch": "folio.data.batch",
    "ByteTokenizer": "folio.text.byte",
    "CharTokenizer": "folio.text.char",
    "ChatTemplate": "folio.text.chat",
    "Decoder": "folio.model.decoder",
    "Engine": "folio.infer.engine",
    "Experts": "folio.model.config",
    "FullCache": "folio.infer.cache",
    "Latent": "folio.model.config",
    "Learner": "folio.training.learner",
    "LoRA": "folio.model.lora",
    "ModelConfig": "folio.model.config",
    "Request": "folio.infer.request",
    "RollingCache": "folio.infer.cache",
    "RopeScaling": "folio.model.config",
    "Sampling": "folio.infer.sampling",
    "SentencePieceTokenizer": "folio.text.sentencepiece_bpe",
    "TextStream": "folio.data.text",
    "Tokenizer": "folio.text.tokenizer",
    "Tokens": "folio.data.tokens",
    "WordBPETokenizer": "folio.text.word_bpe",
    "WordPieceTokenizer": "folio.text.wordpiece",
    "adamw": "folio.optim.adamw",
    "add_lora": "folio.model.lora",
    "constant": "folio.optim.schedule",
    "export_run": "folio.stages.exchange",
    "fast_decoder": "folio.infer.fast",
    "generate": "folio.infer.generate",
    "generate_speculative": "folio.infer.speculative",
    "generate_text": "folio.infer.generate",
    "gpt2_like": "folio.model.config",
    "import_model": "folio.stages.exchange",
    "llama_like": "folio.model.config",
    "load_model": "folio.model.store",
    "load_run": "folio.stages.use",
    "make_caches": "folio.infer.cache",
    "next_token": "folio.objectives.next_token",
    "open_corpus": "folio.data.corpora",
    "open_shards": "folio.data.shards",
    "perplexity": "folio.evals.perplexity",
    "quantize": "folio.model.quantize",
    "save_model": "folio.model.store",
    "streaming": "folio.infer.stream",
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
