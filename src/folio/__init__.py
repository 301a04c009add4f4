"""Folio: build a large language model from scratch."""

import importlib

__version__ = "0.1.0"

# name -> module. Loaded on first use (PEP 562), so that `folio --help` needs no torch.
_EXPORTS = {
    "ActorCritic": "folio.model.scorer",
    "AdaptiveKL": "folio.rl.control",
    "AnswerEvaluator": "folio.evals.answers",
    "BPETokenizer": "folio.text.bpe",
    "Batch": "folio.data.batch",
    "ByteTokenizer": "folio.text.byte",
    "CharTokenizer": "folio.text.char",
    "ChatStream": "folio.data.chats",
    "ChatTemplate": "folio.text.chat",
    "CriticBaseline": "folio.rl.baseline",
    "DPO": "folio.objectives.dpo",
    "Decoder": "folio.model.decoder",
    "Distill": "folio.objectives.distill",
    "Engine": "folio.infer.engine",
    "Experts": "folio.model.config",
    "FixedKL": "folio.rl.control",
    "FullCache": "folio.infer.cache",
    "GRPO": "folio.objectives.grpo",
    "GroupBaseline": "folio.rl.baseline",
    "Latent": "folio.model.config",
    "Learner": "folio.training.learner",
    "LoRA": "folio.model.lora",
    "MixedReward": "folio.rl.rewards",
    "ModelConfig": "folio.model.config",
    "ModelReward": "folio.rl.rewards",
    "PPO": "folio.objectives.ppo",
    "PairStream": "folio.data.pairs",
    "PromptStream": "folio.data.prompts",
    "Ranking": "folio.objectives.ranking",
    "Request": "folio.infer.request",
    "RollingCache": "folio.infer.cache",
    "RolloutOptions": "folio.rl.stream",
    "Rollouts": "folio.rl.stream",
    "RopeScaling": "folio.model.config",
    "Sampling": "folio.infer.sampling",
    "Scorer": "folio.model.scorer",
    "SentencePieceTokenizer": "folio.text.sentencepiece_bpe",
    "TextStream": "folio.data.text",
    "Tokenizer": "folio.text.tokenizer",
    "Tokens": "folio.data.tokens",
    "VerifierReward": "folio.rl.rewards",
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
    "load_scorer": "folio.stages.use",
    "make_caches": "folio.infer.cache",
    "next_token": "folio.objectives.next_token",
    "open_corpus": "folio.data.corpora",
    "open_shards": "folio.data.shards",
    "perplexity": "folio.evals.perplexity",
    "quantize": "folio.model.quantize",
    "respond_with": "folio.evals.respond",
    "sampled_pairs": "folio.data.sampled",
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
