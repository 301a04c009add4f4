"""Training: tokens per second and MFU, beside nanoGPT or transformers' GPT-2.

Eager and compiled, bf16 by autocast or in the weights. The micro-batch is found by
doubling until memory ends for one of the two sides. All ways of one size and precision
take turns with the same batch, both sides' weights and optimizers in memory throughout;
`peak_gib` has them in it. With bf16 weights the optimizer's averages are bf16 as well:
that row is about speed, not about learning.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from folio.data.batch import Batch
from folio.model.config import ModelConfig, gpt2_like
from folio.model.count import count_parameters, flops_per_token
from folio.model.decoder import Decoder
from folio.model.heads import LOGITS_AT_ONCE, chunked_logprobs
from folio.optim.adamw import adamw
from folio.training.learner import Learner
from gpu_parts.card import Case, Row, Setup, first_line, out_of_memory, peak_gib
from record import interleave, median

VOCABULARY, LENGTH = 50_304, 1024
SHAPES = {
    "124M": {"d_model": 768, "n_layers": 12, "n_heads": 12},
    "350M": {"d_model": 1024, "n_layers": 24, "n_heads": 16},
    "1B": {"d_model": 2048, "n_layers": 18, "n_heads": 16},
}
TINY = {"d_model": 32, "n_layers": 1, "n_heads": 2}
AUTOCAST, WEIGHTS = "bf16 autocast", "bf16 weights"
WHOLE = 2**62  # logits at once: all of them
MANY = 2**28  # a GiB of them in fp32
LARGEST = 512  # sequences; more would tell nothing
STEPS, ROUNDS = 4, 3  # steps of one turn, and turns of each way


def cases(setup: Setup) -> Iterator[Case]:
    """Each size with each kind of bf16; the larger ones with autocast alone."""
    for size in [size for size in setup.sizes if size in SHAPES]:
        for kind in (AUTOCAST, WEIGHTS) if size == "124M" else (AUTOCAST,):
            yield f"{size} {kind}", partial(compare, setup, size, kind)


def compare(setup: Setup, size: str, kind: str) -> Iterator[Row]:
    """One row per way of training, and one for the search of the batch before."""
    their_name, family = peer_of(setup)
    shape = TINY if setup.quick else SHAPES[size]
    length, vocabulary = (32, 128) if setup.quick else (LENGTH, VOCABULARY)
    config = gpt2_like(max_seq_len=length, vocab_size=vocabulary, **shape, **family)
    ours = Ours(config, setup.device, kind)
    theirs = Theirs(their_model(setup, config), setup.device, kind)
    sides = {"folio": ours.step, their_name: theirs.step}
    rows, found = largest_batch(setup, config, sides)
    yield from found
    ways = ways_of(ours, theirs, their_name, every=size == "124M")
    batch = make_batch(config, rows, setup.device)
    peaks: dict[str, float | None] = {}
    for name, step in list(ways.items()):  # compile; and find out what can't run
        release_memory()
        try:
            for _ in range(3):
                step(batch)
            peaks[name] = peak_gib(setup)
        except Exception as error:
            row = {"way": name, "ok": out_of_memory(error), "batch": rows}
            yield row | {"error": first_line(error)}
            del ways[name]
    turns = {name: repeated(step, batch) for name, step in ways.items()}
    seconds = interleave(turns, rounds=1 if setup.quick else ROUNDS, warmup=0)
    base = min(median(s) for name, s in seconds.items() if name.startswith(their_name))
    for name, values in seconds.items():
        speed = STEPS * rows * length / median(values)
        row: Row = {"way": name, "batch": rows, "length": length}
        row |= {"parameters": count_parameters(config)["total"]}
        row |= {"tokens_per_s": speed, "ms_per_step": 1e3 * median(values) / STEPS}
        row |= mfu(setup, config, speed, ours=name.startswith("folio"))
        row |= {"times_peers_best": base / median(values), "peak_gib": peaks[name]}
        yield row | {"rounds_s": values, "warmup": "3 steps and compiling, not timed"}


def mfu(setup: Setup, config: ModelConfig, speed: float, ours: bool) -> Row:
    """Shares of the rates that the card reaches by measurement and by name.

    The peer's go by another name, for the headline is about ours.
    """
    rate = speed * flops_per_token(config, config.max_seq_len)
    best = rate / (setup.nominal or setup.matmul)
    shares = {"mfu_of_measured": rate / setup.matmul, "tflops": rate / 1e12}
    return shares | ({"mfu": best} if ours else {"mfu_of_peer": best})


def repeated(step: Callable[[Batch], None], batch: Batch) -> Callable[[], None]:
    def turn() -> None:
        for _ in range(STEPS):
            step(batch)

    return turn


def make_batch(config: ModelConfig, rows: int, device: torch.device) -> Batch:
    """Random tokens: speed doesn't ask what they mean."""
    tokens = torch.randint(config.vocab_size, (rows, config.max_seq_len + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    weights = torch.ones(targets.shape)
    parts = {"inputs": inputs, "targets": targets, "weights": weights}
    return Batch(targets.numel(), **parts).to(device)


def largest_batch(
    setup: Setup, config: ModelConfig, sides: dict[str, Callable[[Batch], None]]
) -> tuple[int, list[Row]]:
    """Sequences that both sides can take, and a row with where each ended."""
    fits = dict.fromkeys(sides, 0)
    limit = 4 if setup.quick else LARGEST
    for name, step in sides.items():
        rows = 1
        while rows <= limit:
            release_memory()
            try:
                step(make_batch(config, rows, setup.device))
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                break
            fits[name], rows = rows, 2 * rows
    release_memory()
    least = min(fits.values())
    if least == 0:
        raise RuntimeError(f"not even one sequence fits: {fits}")
    return least, [{"way": "largest batch, eager", "most": limit, **fits}]


def release_memory() -> None:
    """Memory alone: what is compiled stays. Gradients of a failed step go later."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


# ---- the two sides -------------------------------------------------------------------


class Ours:
    """Folio's step (`Learner.update`) with losses computed in several ways.

    at_once: how many logits are in memory at a time; `LOGITS_AT_ONCE` is what
    `Decoder.forward` takes.
    """

    def __init__(self, config: ModelConfig, device: torch.device, kind: str):
        with device:
            self.model = Decoder(config)
        if kind == WEIGHTS:  # the optimizer's averages, too: for speed alone
            self.model.bfloat16()
        precision = "bf16" if kind == AUTOCAST else "fp32"
        self.learner = Learner(self.model, adamw(self.model), precision=precision)
        self.device = device

    def step(self, batch: Batch, losses: Callable | None = None) -> None:
        losses = self.losses(LOGITS_AT_ONCE) if losses is None else losses

        def objective(_: nn.Module, batch: Batch):
            return -(losses(batch.inputs, batch.targets) * batch.weights).sum(), {}

        try:
            self.learner.update([batch], objective)
        finally:  # after a step that ran out of memory, too
            self.learner.optimizer.zero_grad(set_to_none=True)

    def losses(self, at_once: int, compiled: str = "") -> Callable[..., Tensor]:
        """Log-probs of targets, with nothing, "layers" or "all" of it compiled."""

        def layers(tokens: Tensor) -> Tensor:
            return self.model.hidden(tokens)[0]

        run = torch.compile(layers) if compiled == "layers" else layers

        def both(tokens: Tensor, targets: Tensor) -> Tensor:
            read, count = self.model.read, self.model.config.vocab_size
            return chunked_logprobs(read, run(tokens), targets, count, at_once)

        return torch.compile(both) if compiled == "all" else both


class Theirs:
    """The peer's model in the plain loop of nanoGPT's train.py, fused AdamW."""

    def __init__(self, model: nn.Module, device: torch.device, kind: str):
        self.model = model.to(device).train()
        self.device, self.autocast = device, kind == AUTOCAST
        if kind == WEIGHTS:
            self.model.bfloat16()
        rates = {"lr": 3e-4, "betas": (0.9, 0.95), "weight_decay": 0.1}
        parameters = self.model.parameters()
        self.optimizer = torch.optim.AdamW(parameters, fused=True, **rates)

    def step(self, batch: Batch, model: Callable | None = None) -> None:
        model = self.model if model is None else model
        context = nullcontext()
        if self.autocast:
            context = torch.autocast(self.device.type, torch.bfloat16)
        try:
            with context:
                loss = model(batch.inputs, batch.targets)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
        finally:
            self.optimizer.zero_grad(set_to_none=True)


def ways_of(
    ours: Ours, theirs: Theirs, their_name: str, every: bool
) -> dict[str, Callable[[Batch], None]]:
    """Steps by name. The ways of a side share its weights."""

    def way(*options) -> Callable[[Batch], None]:
        return partial(ours.step, losses=ours.losses(*options))

    ways = {
        "folio eager, as it trains now": way(LOGITS_AT_ONCE),
        "folio eager, 2^28 logits at once": way(MANY),
        "folio layers compiled, 2^28 logits at once": way(MANY, "layers"),
        "folio all compiled, all logits": way(WHOLE, "all"),
        f"{their_name} eager": theirs.step,
        f"{their_name} compiled": partial(
            theirs.step, model=torch.compile(theirs.model)
        ),
    }
    if not every:
        del ways["folio eager, as it trains now"]
        del ways["folio all compiled, all logits"]
    return ways


def peer_of(setup: Setup) -> tuple[str, dict[str, object]]:
    """Whom we run beside, and what of GPT-2 that one leaves out."""
    if setup.nanogpt is not None:
        return "nanogpt", {"bias": False, "mlp": "gelu"}
    return "transformers", {}


def their_model(setup: Setup, config: ModelConfig) -> nn.Module:
    """nanoGPT's model or transformers' GPT-2, same shape: (ids, targets) -> loss."""
    if setup.nanogpt is not None:
        return NanoGPT(setup, config)
    return HuggingFace(config)


class NanoGPT(nn.Module):
    """model.py of a checkout of nanoGPT."""

    def __init__(self, setup: Setup, config: ModelConfig):
        super().__init__()
        path = setup.nanogpt / "model.py"
        spec = importlib.util.spec_from_file_location("nanogpt_model", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look themselves up there
        spec.loader.exec_module(module)
        options = module.GPTConfig(
            block_size=config.max_seq_len,
            vocab_size=config.vocab_size,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            n_embd=config.d_model,
            dropout=0.0,
            bias=False,
        )
        with setup.device:
            self.inner = module.GPT(options)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.inner(inputs, targets)[1]


class HuggingFace(nn.Module):
    """GPT-2 of transformers, which shifts the targets itself."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        options = GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.max_seq_len,
            n_embd=config.d_model,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            attn_implementation="sdpa",
            bos_token_id=None,
            eos_token_id=None,
        )
        self.inner = GPT2LMHeadModel(options)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.inner(inputs, labels=inputs, use_cache=False).loss
