"""Fast decoding: fixed shapes, fused products, one compiled graph per token.

The readable way is `folio.infer.generate`; this is the same computation for a fixed
number of texts at once. A `Decoder` is rebuilt around the same weights with its small
products joined (`folio.infer.fused`), its caches get the size they will ever have, and
what happens for one token of each text is compiled into one graph without a branch.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from types import FunctionType, MethodType
from typing import Literal

import torch
from torch import Tensor

from folio.config import UserError
from folio.infer.cache import RollingCache, make_caches
from folio.infer.fused import fuse
from folio.infer.sampling import GREEDY, Sampling, choose
from folio.model.decoder import Decoder
from folio.model.lora import lora_layers
from folio.model.quantize import quantization_of, quantize

Precision = Literal["fp32", "bf16", "int8", "int4"]
PRECISIONS = ("fp32", "bf16", "int8", "int4")


# ---- decoding ------------------------------------------------------------------------


def fast_decoder(
    model: Decoder,
    *,
    batch: int = 1,
    capacity: int | None = None,
    precision: Precision | None = None,
    compile: bool = True,
) -> FastDecoder:
    """Make `model` ready to continue `batch` texts of up to `capacity` tokens each.

    precision fp32 and bf16 say how the weights of matrices are kept, and with bf16 keys
    and values too (latent attention has few); int8 and int4 quantize weights first
    (`folio.model.quantize`); none: as they are, fp32 or quantized.
    capacity none: max_seq_len. Compiling takes 10 to 60 s; where that can't be done
    the decoder says so and works without (`FastDecoder.how`).
    """
    if batch < 1:
        raise UserError(f"batch = {batch}: must be at least 1")
    if lora_layers(model):
        raise UserError("the model has LoRA layers: merge them first")
    found = quantization_of(model)
    kept = "fp32" if found is None else f"int{found.bits}"
    precision = precision or kept
    if precision not in PRECISIONS:
        raise UserError(
            f"precision = {precision!r}: choose one of {', '.join(PRECISIONS)}"
        )
    if found is not None and precision != kept:
        raise UserError(
            f"precision = {precision!r}, but the model's weights are {kept}; take the "
            "model that it was made from"
        )
    if found is None and precision.startswith("int"):
        model = quantize(model, int(precision[3:]))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return FastDecoder(fuse(model, batch, dtype), batch, capacity, precision, compile)


class FastDecoder:
    """A fixed number of texts, read and continued side by side.

    `how` tells whether steps are compiled, or why not.
    """

    def __init__(
        self,
        model: Decoder,
        batch: int,
        capacity: int | None,
        precision: str,
        compile: bool,
    ):
        """`model` comes from `fuse`; see `fast_decoder`."""
        self.model, self.batch, self.precision = model, batch, precision
        self.capacity = capacity or model.config.max_seq_len
        self.device = model.embedding.weight.device
        if model.config.positions == "learned":
            model.check_length(self.capacity)
        small = precision == "bf16" and model.config.latent is None
        dtype = torch.bfloat16 if small else torch.float32
        config, size = model.config, (batch, self.capacity)
        self.caches = make_caches(config, *size, self.device, dtype)
        self.length = torch.zeros(batch, 1, dtype=torch.long, device=self.device)
        self.longest = 0  # of the texts; known without asking the device
        self.how, self.graph = "eager, as asked", self._step
        if compile:
            self._compile()

    @torch.no_grad()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Forget all, read one prompt per text; scores (B, V) of what follows each."""
        self._check(prompts)
        self.reset()
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        columns = torch.arange(int(lengths.max()))
        tokens = torch.zeros(self.batch, len(columns), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor(list(prompt))
        inside = columns < lengths[:, None]
        positions = torch.where(inside, columns, -1).to(self.device)
        hidden, _ = self.model.hidden(tokens.to(self.device), positions, self.caches)
        self.length, self.longest = lengths[:, None].to(self.device), len(columns)
        last = hidden[torch.arange(self.batch), (lengths - 1).to(self.device)]
        return self.model.read(last)

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        """One more token (B,) of each text; scores (B, V) of what follows.

        The result is overwritten by the next step.
        """
        if tokens.shape != (self.batch,):  # the compiled graph wouldn't notice
            raise ValueError(f"tokens {tuple(tokens.shape)}: expected ({self.batch},)")
        if self.longest >= self.capacity:
            raise ValueError(f"a text has capacity = {self.capacity} tokens already")
        tokens = tokens.contiguous()[:, None]  # the graph knows one layout
        logits = self.graph(tokens, self.length)
        self.length, self.longest = self.length + 1, self.longest + 1
        return logits

    def _step(self, tokens: Tensor, positions: Tensor) -> Tensor:
        hidden, _ = self.model.hidden(tokens, positions, self.caches)
        return self.model.read(hidden[:, 0])

    def reset(self) -> None:
        """Forget all texts."""
        self.length, self.longest = torch.zeros_like(self.length), 0
        for cache in self.caches:
            _positions_of(cache).fill_(-1)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        *,
        sampling: Sampling = GREEDY,
        seed: int = 0,
        stop: frozenset[int] = frozenset(),
        vocab_size: int | None = None,
    ) -> list[list[int]]:
        """The new tokens of each text, up to the first of `stop`.

        In fp32, text i gets what `generate(..., seed=seed + i)` of
        `folio.infer.generate` yields, rounding apart.
        """
        self._check(prompts)
        longest = max(map(len, prompts)) + max_new_tokens
        if longest > self.capacity:
            raise UserError(
                f"prompt and max_new_tokens make {longest} tokens, but there is room "
                f"for capacity = {self.capacity}"
            )
        choice = _Choice(self, prompts, sampling, seed, vocab_size)
        chosen, running = [], torch.ones(self.batch, dtype=torch.bool)
        for number in range(max_new_tokens):
            logits = self.step(chosen[-1]) if number else self.prefill(prompts)
            chosen.append(choice(logits))
            if stop:
                ended = torch.isin(chosen[-1].cpu(), torch.tensor(sorted(stop)))
                running &= ~ended
                if not running.any():
                    break
        rows = torch.stack(chosen, 1).tolist() if chosen else [[]] * self.batch
        return [_before(row, stop) for row in rows]

    def _check(self, prompts: Sequence[Sequence[int]]) -> None:
        if len(prompts) != self.batch:
            raise UserError(
                f"{len(prompts)} prompts, but the decoder was made for batch = "
                f"{self.batch}"
            )
        vocabulary = self.model.config.vocab_size
        for prompt in prompts:
            if not prompt:
                raise UserError("a prompt is empty; give at least one token")
            if len(prompt) > self.capacity:
                raise UserError(
                    f"a prompt has {len(prompt)} tokens, but there is room for "
                    f"capacity = {self.capacity}"
                )
            if min(prompt) < 0 or max(prompt) >= vocabulary:
                raise UserError(
                    f"a prompt has ids from {min(prompt)} to {max(prompt)}, the model "
                    f"knows 0 to {vocabulary - 1}; is it another model's tokenizer?"
                )

    def _compile(self) -> None:
        """Compile the step and run it once, so that no text waits for it later."""
        if missing := missing_compiler(self.device):
            self.how = f"eager: {missing}"
            warnings.warn(f"decoding is not compiled: {missing}", stacklevel=4)
            return
        self.how = "compiled"
        for cache in self.caches:  # so that CUDA's graphs need no copies of them
            for tensor in (cache.k, cache.v, _positions_of(cache)):
                torch._dynamo.mark_static_address(tensor)
        options = compile_options(self.device, self.batch)
        # The compiler keeps its work by code object, so each decoder has one of its own
        step = self._step.__func__
        step = FunctionType(step.__code__.replace(), step.__globals__)
        self.graph = torch.compile(
            MethodType(step, self), fullgraph=True, dynamic=False, options=options
        )
        self.step(torch.zeros(self.batch, dtype=torch.long, device=self.device))
        self.reset()


def _positions_of(cache) -> Tensor:
    return cache.ring.positions if isinstance(cache, RollingCache) else cache.positions


class _Choice:
    """Tokens chosen for each text, each with a generator of its own."""

    def __init__(self, decoder, prompts, sampling: Sampling, seed: int, vocab_size):
        self.sampling, self.vocab_size = sampling, vocab_size
        device, count = decoder.device, decoder.model.config.vocab_size
        self.generators = [
            torch.Generator(device).manual_seed(seed + i) for i in range(len(prompts))
        ]
        self.seen = None
        if sampling.repetition_penalty != 1.0:
            self.seen = torch.zeros(len(prompts), count, dtype=bool, device=device)
            for row, prompt in enumerate(prompts):
                self.seen[row, list(prompt)] = True

    def __call__(self, logits: Tensor) -> Tensor:  # (B, V) -> (B,)
        if self.vocab_size is not None:
            logits[:, self.vocab_size :] = float("-inf")
        if self.sampling.temperature == 0.0:
            tokens = choose(logits, self.sampling, None, self.seen)
        else:
            rows = [
                choose(
                    logits[i : i + 1],
                    self.sampling,
                    generator,
                    None if self.seen is None else self.seen[i : i + 1],
                )
                for i, generator in enumerate(self.generators)
            ]
            tokens = torch.cat(rows)
        if self.seen is not None:
            self.seen.scatter_(1, tokens[:, None], True)
        return tokens


def _before(tokens: list[int], stop: frozenset[int]) -> list[int]:
    """What comes before the first of `stop`.

    >>> _before([5, 6, 0, 7], frozenset([0]))
    [5, 6]
    """
    ends = [i for i, token in enumerate(tokens) if token in stop]
    return tokens[: ends[0]] if ends else tokens


# ---- compiling -----------------------------------------------------------------------


def missing_compiler(device: torch.device) -> str | None:
    """What keeps this machine from compiling; None: nothing."""
    if device.type == "cpu":
        usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        compiler = os.environ.get("CXX", usual)
        if shutil.which(compiler) is None:
            return f"no C++ compiler (looked for {compiler!r}; set CXX to name another)"
    return None


def compile_options(device: torch.device, rows: int) -> dict[str, object]:
    """What is asked of the compiler besides its defaults."""
    if device.type != "cpu":
        return {"triton.cudagraphs": True}  # what mode="reduce-overhead" sets
    options: dict[str, object] = {
        # Compute a normed or gated vector once, not again for every row of the matrix
        # that it meets
        "realize_reads_threshold": 1,
    }
    if rows == 1:  # call the loops from C++
        options["cpp_wrapper"] = True
    else:  # a query is turned once, not anew for each key: 7 to 12 % of a step in bf16
        options["realize_acc_reads_threshold"] = (
            3  # with one row it could fill matrices
        )
    if hasattr(torch.compiler, "skip_all_guards_unsafe"):
        # Weights and shapes never change here; looking whether they did costs time
        options["guard_filter_fn"] = torch.compiler.skip_all_guards_unsafe
    return options
