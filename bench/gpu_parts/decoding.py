"""Decoding in bf16: tokens per second, and the share of the card's bandwidth.

The readable `generate`, `fast_decoder` (CUDA graphs) and `Engine` with 64 requests,
beside transformers' generate for a Llama of the same shape. Weights are random: speed
doesn't ask what they say. At one text every step reads all weights once, so the bytes
of the matrices over the seconds of a step tell how near it is to what memory can do;
keys and values, which are few there, are not counted.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from folio.infer.engine import Engine
from folio.infer.fast import fast_decoder
from folio.infer.generate import generate
from folio.infer.sampling import GREEDY
from folio.model.config import ModelConfig, llama_like
from folio.model.decoder import Decoder
from gpu_parts.card import Case, Row, Setup, peak_gib, seconds_of
from record import interleave, median

PROMPT, NEW = 16, 64
REQUESTS = 64
CACHE = 16 << 30  # bytes, for the engine
SHAPES = {
    "124M": {"d_model": 768, "n_layers": 12, "n_heads": 12, "vocab_size": 50_304},
    "7B": {
        "d_model": 4096,
        "n_layers": 32,
        "n_heads": 32,
        "d_ff": 11_008,
        "vocab_size": 32_000,
    },
}
TINY = {"d_model": 32, "n_layers": 1, "n_heads": 2, "vocab_size": 128}


def cases(setup: Setup) -> Iterator[Case]:
    """For each size: the readable way, the engine, and each batch of the fast way."""
    for size in [size for size in setup.sizes if size in SHAPES]:
        config = make_config(setup, size)
        yield f"{size} readable", partial(readable, setup, config)
        yield f"{size} engine", partial(engine, setup, config)
        batches = (1, 2) if setup.quick else setup.batches
        for batch in batches:
            yield f"{size} fast, batch {batch}", partial(fast, setup, config, batch)
            name = f"{size} transformers, batch {batch}"
            yield name, partial(transformers, setup, config, batch)


def make_config(setup: Setup, size: str) -> ModelConfig:
    tied = size == "124M"
    shape = TINY if setup.quick else SHAPES[size]
    return llama_like(max_seq_len=512, tie_embeddings=tied, **shape)


def make_model(setup: Setup, config: ModelConfig, dtype: torch.dtype) -> Decoder:
    """Random weights, drawn where they will be."""
    torch.manual_seed(0)
    with setup.device:
        return Decoder(config).to(dtype).eval()


def new_tokens(setup: Setup) -> int:
    return 8 if setup.quick else NEW


def make_prompts(config: ModelConfig, count: int) -> list[list[int]]:
    torch.manual_seed(1)
    return torch.randint(1, config.vocab_size, (count, PROMPT)).tolist()


def matrix_bytes(model: Decoder) -> int:
    """Bytes of bf16 weights that a step reads: all matrices and the head."""
    table = model.embedding.weight.numel()
    all_of_them = sum(p.numel() for p in model.parameters())
    tied = model.head.weight is model.embedding.weight
    return 2 * (all_of_them if tied else all_of_them - table)


def shares(setup: Setup, weights: int, seconds: float) -> Row:
    """What one step of `seconds` reads a second, and beside what memory can do."""
    rate = weights / seconds
    return {
        "ms_per_step": 1e3 * seconds,
        "weights_gb_per_s": rate / 1e9,
        "share_of_bandwidth": rate / setup.bandwidth,
    }


def timed(setup: Setup, batch: int, call: Callable[[], object]) -> Row:
    """Tokens per second of whole calls, prompts included; one call warms up."""
    rounds = 1 if setup.quick else 3
    (values,) = interleave({"": call}, rounds=rounds).values()
    tokens = batch * new_tokens(setup)
    row = {"batch": batch, "new_tokens": new_tokens(setup), "prompt": PROMPT}
    return row | {"tokens_per_s": tokens / median(values), "rounds_s": values}


def readable(setup: Setup, config: ModelConfig) -> Iterator[Row]:
    """`generate` of folio.infer.generate with bf16 weights, one text."""
    model = make_model(setup, config, torch.bfloat16)
    (prompt,) = make_prompts(config, 1)
    count = new_tokens(setup)

    def call() -> None:
        list(generate(model, prompt, count, sampling=GREEDY))

    row = timed(setup, 1, call)
    step = count / row["tokens_per_s"] / count
    yield row | shares(setup, matrix_bytes(model), step) | {"dtype": "bf16 weights"}


def fast(setup: Setup, config: ModelConfig, batch: int) -> Iterator[Row]:
    """`fast_decoder`: whole calls, and steps alone by the card's own clock."""
    model = make_model(setup, config, torch.float32)
    weights = matrix_bytes(model)
    start, count = time.perf_counter(), new_tokens(setup)
    decoder = fast_decoder(
        model, batch=batch, capacity=PROMPT + count, precision="bf16"
    )
    made = time.perf_counter() - start
    prompts = make_prompts(config, batch)
    row = timed(setup, batch, lambda: decoder.generate(prompts, count))
    decoder.prefill(prompts)
    tokens = torch.ones(batch, dtype=torch.long, device=setup.device)
    half = count // 2
    seconds = seconds_of(lambda: decoder.step(tokens), half // 2, half)
    row |= {"how": decoder.how, "made_s": made, "peak_gib": peak_gib(setup)}
    row |= {"dtype": "bf16 matrices, all else fp32", "steps_per_s": 1 / seconds}
    row |= {"tokens_per_s_of_steps": batch / seconds}
    yield row | shares(setup, weights, seconds)


def engine(setup: Setup, config: ModelConfig) -> Iterator[Row]:
    """`Engine` with bf16 weights and 64 requests that arrive at once."""
    model = make_model(setup, config, torch.bfloat16)
    requests = 4 if setup.quick else REQUESTS
    prompts, count = make_prompts(config, requests), new_tokens(setup)
    memory = 1 << 24 if setup.quick else CACHE

    def call() -> None:  # an engine of its own each time: nothing is remembered
        server = Engine(model, max_batch=requests, memory=memory)
        done = server.generate(prompts, max_new_tokens=count, sampling=GREEDY)
        assert sum(len(sample.ids) for sample in done) == requests * count

    row = timed(setup, requests, call)
    row |= {"requests": requests, "peak_gib": peak_gib(setup)}
    step = requests / row["tokens_per_s"]
    yield row | shares(setup, matrix_bytes(model), step) | {"dtype": "bf16 weights"}


def transformers(setup: Setup, config: ModelConfig, batch: int) -> Iterator[Row]:
    """`LlamaForCausalLM.generate` with bf16 weights of the same shape, its own way."""
    if importlib.util.find_spec("transformers") is None:
        yield {"absent": "transformers is not installed here"}
        return
    model = their_model(setup, config)
    prompts = torch.tensor(make_prompts(config, batch), device=setup.device)
    count = new_tokens(setup)

    @torch.no_grad()
    def call() -> None:
        made = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            use_cache=True,
        )
        assert made.shape == (batch, PROMPT + count)

    row = timed(setup, batch, call)
    row |= {"peak_gib": peak_gib(setup), "dtype": "bf16 weights"}
    table = model.get_input_embeddings().weight.numel()
    weights = sum(p.numel() for p in model.parameters())
    weights -= 0 if config.tie_embeddings else table
    yield row | shares(setup, 2 * weights, batch / row["tokens_per_s"])


def their_model(setup: Setup, config: ModelConfig):
    """A Llama of transformers with the same shape and random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    options = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        intermediate_size=config.ff_width,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=config.max_seq_len,
        tie_word_embeddings=config.tie_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    with setup.device:
        return LlamaForCausalLM(options).to(torch.bfloat16).eval()
