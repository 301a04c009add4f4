"""A training step of Folio beside nanoGPT's and transformers', same shape, same text.

Two sizes: nanoGPT's recipe for a laptop (0.8 M: 4 layers, 128 wide, 12 x 64 tokens)
and its model for a card (10.6 M: 6 layers, 384 wide, 4 x 256). All take turns, by ten
steps. nanoGPT's model and optimizer are its own (--peer is a checkout), in fp32, by
bf16 autocast, and compiled; transformers' is a Llama. Ours is the same GPT in fp32 and
with a twin in bf16, compiled and not: a batch of our stream, an update of our learner.

Then, speed aside: nanoGPT's in fp32 and each way of ours go through the same number of
steps on Shakespeare's characters, and the loss of the held-out part is measured.

The value is how many times nanoGPT's eager fp32 step our fastest one fits into, at
0.8 M. --quick: the small size, few steps.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from folio.data.text import TextStream
from folio.data.tokens import Tokens
from folio.evals.perplexity import perplexity
from folio.model.config import ModelConfig, gpt2_like
from folio.model.decoder import Decoder
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.schedule import warmup_cosine
from folio.runtime import find_device
from folio.text.char import CharTokenizer
from folio.training.learner import Learner
from record import interleave, median, parse_arguments, record, rows_of

SIZES = {
    "0.8M": {"d_model": 128, "n_layers": 4, "n_heads": 4, "length": 64, "batch": 12},
    "10.6M": {"d_model": 384, "n_layers": 6, "n_heads": 6, "length": 256, "batch": 4},
}
GOALS = {("0.8M", "nanogpt"): 2.5, ("10.6M", "nanogpt"): 4.0}
TURN = 10  # steps between two changes of turn
LR, WEIGHT_DECAY, BETAS, MAX_NORM = 1e-3, 0.1, (0.9, 0.99), 1.0
OURS = {
    "folio": {},
    "folio compiled": {"compiled": True},
    "folio bf16 weights": {"precision": "bf16-weights"},
    "folio bf16 weights compiled": {"precision": "bf16-weights", "compiled": True},
}
Turn = Callable[[], None]


class Text:
    """Shakespeare's characters as ids, the last tenth held out."""

    def __init__(self, path: Path):
        text = path.read_text(encoding="utf-8")
        tokenizer = CharTokenizer.train([text])
        ids = np.array(tokenizer.encode(text), dtype=np.uint16)
        cut = int(0.9 * len(ids))
        self.vocab_size = tokenizer.vocab_size
        self.train, self.held_out = ids[:cut], ids[cut:]

    def stream(self, shape: dict[str, int]) -> TextStream:
        tokens = Tokens.from_ids(self.train, vocab_size=self.vocab_size)
        sizes = {"batch": shape["batch"], "length": shape["length"]}
        return TextStream(tokens, **sizes, order="random")


def config_of(shape: dict[str, int], vocab_size: int) -> ModelConfig:
    """nanoGPT's GPT in our words."""
    sizes = {name: shape[name] for name in ("d_model", "n_layers", "n_heads")}
    length = shape["length"]
    return gpt2_like(max_seq_len=length, vocab_size=vocab_size, bias=False, **sizes)


def learner_of(shape: dict[str, int], text: Text, steps: int, **options) -> Learner:
    torch.manual_seed(0)
    model = Decoder(config_of(shape, text.vocab_size)).to(find_device())
    optimizer = adamw(model, LR, weight_decay=WEIGHT_DECAY, betas=BETAS)
    schedule = warmup_cosine(steps // 20, steps)
    return Learner(model, optimizer, schedule, max_norm=MAX_NORM, **options)


def our_turn(learner: Learner, stream: TextStream) -> Turn:
    def turn() -> None:
        for _ in range(TURN):
            learner.update([next(stream)], next_token)

    return turn


# ---- peers ---------------------------------------------------------------------------


def their_gpt(peer: Path, shape: dict[str, int], vocab_size: int) -> nn.Module:
    """nanoGPT's model, from its own file."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", peer / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    return module.GPT(
        module.GPTConfig(
            block_size=shape["length"],
            vocab_size=vocab_size,
            n_layer=shape["n_layers"],
            n_head=shape["n_heads"],
            n_embd=shape["d_model"],
            dropout=0.0,
            bias=False,
        )
    )


def their_llama(shape: dict[str, int], vocab_size: int) -> nn.Module:
    """About as many weights in transformers' Llama."""
    torch.manual_seed(0)
    width = shape["d_model"]
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            intermediate_size=int(8 / 3 * width / 32) * 32,
            num_hidden_layers=shape["n_layers"],
            num_attention_heads=shape["n_heads"],
            max_position_embeddings=shape["length"],
            tie_word_embeddings=True,
        )
    )


class Peer:
    """Steps of another project's model, as its own loop makes them."""

    def __init__(
        self, model: nn.Module, text: Text, shape: dict[str, int], autocast=False
    ):
        self.model, self.ids, self.shape = model, text.train, shape
        self.autocast = autocast
        if hasattr(model, "configure_optimizers"):
            self.optimizer = model.configure_optimizers(WEIGHT_DECAY, LR, BETAS, "cpu")
        else:
            self.optimizer = torch.optim.AdamW(
                model.parameters(), lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY
            )
        self.forward: Callable[..., Any] = model

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        length = self.shape["length"]
        starts = torch.randint(len(self.ids) - length, (self.shape["batch"],)).tolist()
        rows = [self.ids[i : i + length + 1].astype(np.int64) for i in starts]
        windows = torch.stack([torch.from_numpy(row) for row in rows])
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if isinstance(self.model, LlamaForCausalLM):
            logits = self.forward(inputs).logits
            return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return self.forward(inputs, targets)[1]

    def step(self) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            loss = self.loss(*self.batch())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        loss.item()  # its loop asks for it every now and then, ours always

    def turn(self) -> None:
        for _ in range(TURN):
            self.step()


def peers_of(peer: Path, text: Text, shape: dict[str, int]) -> dict[str, Peer]:
    def gpt(**options: Any) -> Peer:
        return Peer(their_gpt(peer, shape, text.vocab_size), text, shape, **options)

    found = {
        "nanogpt": gpt(),
        "nanogpt compiled": gpt(),
        "nanogpt bf16": gpt(autocast=True),
        "nanogpt bf16 compiled": gpt(autocast=True),
        "transformers": Peer(their_llama(shape, text.vocab_size), text, shape),
    }
    for name, contestant in found.items():
        if "compiled" in name:
            contestant.forward = torch.compile(contestant.model)
    return found


# ---- what is measured ----------------------------------------------------------------


def speed(size: str, text: Text, peer: Path, quick: bool) -> list[dict[str, Any]]:
    """Every way in turns; a row each, with how often it fits into the eager peer."""
    shape, rounds = SIZES[size], 3 if quick else 9
    turns: dict[str, Turn] = {}
    for name, contestant in peers_of(peer, text, shape).items():
        if not (quick and "compiled" in name):
            turns[name] = contestant.turn
    for name, options in OURS.items():
        if not (quick and "compiled" in options):
            learner = learner_of(shape, text, 10_000, **options)
            turns[name] = our_turn(learner, text.stream(shape))
    seconds = interleave(turns, rounds, warmup=1, foreign=0.3)
    rows = rows_of(seconds, size=size, steps=TURN)
    base = median(seconds["nanogpt"])
    best = min(median(s) for name, s in seconds.items() if "nanogpt" in name)
    for row in rows:
        tokens = TURN * shape["batch"] * shape["length"]
        row["ms_per_step"] = 1e3 * row["median_s"] / TURN
        row["tokens_per_s"] = tokens / row["median_s"]
        row["times_nanogpt"] = base / row["median_s"]
        row["times_its_best"] = best / row["median_s"]
        print(
            f"{size:>5} {row['name']:<28} {row['ms_per_step']:7.2f} ms"
            f" {row['times_nanogpt']:6.2f}x, of its best {row['times_its_best']:.2f}x",
            flush=True,
        )
    return rows


def learning(text: Text, peer: Path, steps: int) -> list[dict[str, Any]]:
    """Held-out loss after the same steps of the small size."""
    shape, rows = SIZES["0.8M"], []
    held_out = Tokens.from_ids(text.held_out, vocab_size=text.vocab_size)
    for name, options in {n: o for n, o in OURS.items() if "compiled" not in o}.items():
        learner, stream = learner_of(shape, text, steps, **options), text.stream(shape)
        for _ in range(steps):
            learner.update([next(stream)], next_token)
        loss = perplexity(learner.model, held_out, shape["length"], 64)["val_loss"]
        rows.append({"name": name, "steps": steps, "val_loss": loss})
        print(rows[-1], flush=True)
    contestant = Peer(their_gpt(peer, shape, text.vocab_size), text, shape)
    schedule = warmup_cosine(steps // 20, steps)
    for step in range(steps):
        for group in contestant.optimizer.param_groups:
            group["lr"] = LR * schedule(step)
        contestant.step()
    loss = peer_loss(contestant.model, text.held_out, shape["length"])
    rows.append({"name": "nanogpt", "steps": steps, "val_loss": loss})
    print(rows[-1], flush=True)
    return rows


@torch.no_grad()
def peer_loss(model: nn.Module, ids: np.ndarray, length: int) -> float:
    """Mean loss over windows that don't overlap, the last, shorter one too."""
    model.eval()
    tokens, total = torch.from_numpy(ids.astype(np.int64)), 0.0
    for start in range(0, len(ids) - 1, length):
        targets = tokens[start + 1 : start + length + 1]
        inputs = tokens[start : start + len(targets)]
        total += model(inputs[None], targets[None])[1].item() * len(targets)
    return total / (len(ids) - 1)


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--peer", {"required": True, "type": Path, "help": "a checkout of nanoGPT"}),
        ("--text", {"required": True, "type": Path, "help": "tinyshakespeare.txt"}),
        ("--sizes", {"nargs": "+", "choices": SIZES, "default": list(SIZES)}),
    )
    text = Text(arguments.text)
    sizes = ["0.8M"] if arguments.quick else arguments.sizes
    rows = []
    for size in sizes:
        rows += speed(size, text, arguments.peer, arguments.quick)
    rows += learning(text, arguments.peer, 20 if arguments.quick else 2000)
    ratios = {
        size: max(
            row["times_nanogpt"]
            for row in rows
            if row.get("size") == size and row["name"].startswith("folio")
        )
        for size in sizes
    }
    record("train", ratios[sizes[0]], GOALS[sizes[0], "nanogpt"], rows)


if __name__ == "__main__":
    main()
