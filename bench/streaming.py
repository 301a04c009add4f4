"""Endless streaming: is memory flat, and does the text stay as likely as it was?

(a) Resident memory and bytes of the caches after 1,000, 10,000 and 100,000 tokens of
`folio stream`. (b) The plot of StreamingLLM (Xiao et al. 2023, figure 3): perplexity
against position on a long text that the model hasn't seen, for dense attention past
the trained length, a window, a window with sinks, and re-reading the window for each
token, which is what the others are measured by. The value is the perplexity of window
and sinks over that of re-reading, beyond the trained length.

The model is trained here, with full attention, on the first nine tenths of the text;
each row begins with the end-of-text token, on which sinks can form. `--run` takes a
trained run instead. `--figure` draws the curves.
"""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path

import torch
from torch import Tensor

from folio import (
    BPETokenizer,
    Decoder,
    Learner,
    ModelConfig,
    Tokenizer,
    adamw,
    load_run,
    next_token,
    open_corpus,
    train,
    warmup_stable_decay,
)
from folio.data.batch import Batch
from folio.data.text import next_token_batch
from folio.infer.cache import make_caches
from folio.infer.generate import generate
from folio.infer.stream import CHUNK, SINKS, score, streaming
from folio.model.heads import token_logprobs
from folio.viz.color import resolve
from folio.viz.svg import Series, line_chart
from record import parse_arguments, record

GOAL = 1.05  # perplexity of window + sinks over that of re-reading
MOST_TEXT = 6_000_000  # characters


@dataclass(frozen=True)
class Plan:
    """How large everything is."""

    vocab_size: int = 512
    max_seq_len: int = 64
    d_model: int = 64
    n_layers: int = 3
    n_heads: int = 4
    steps: int = 20_000  # sinks form slowly
    batch: int = 16
    lr: float = 4e-3
    memory: tuple[int, ...] = (1_000, 10_000, 100_000)  # tokens streamed
    texts: int = 4  # that are scored
    length: int = 16_384  # tokens of each
    dense: int = 4_096  # tokens of each with full attention: it costs their square


QUICK = Plan(
    n_layers=2,
    steps=150,
    memory=(500, 1_000, 2_000),
    texts=2,
    length=1_024,
    dense=512,
)


# --- the model ---------------------------------------------------------------


def read_text(source: str) -> str:
    """The documents of a corpus or file, one after another."""
    documents, size = [], 0
    for document in open_corpus(source).documents():
        documents.append(document)
        size += len(document)
        if size > MOST_TEXT:
            break
    return "\n\n".join(documents)


def rows(ids: Tensor, first: int, plan: Plan) -> Iterator[Batch]:
    """Pieces from anywhere in the text, behind the token `first`."""
    generator = torch.Generator().manual_seed(1)
    length, start = plan.max_seq_len, torch.full((plan.batch, 1), first)
    while True:
        places = torch.randint(len(ids) - length, (plan.batch, 1), generator=generator)
        pieces = ids[places + torch.arange(length)]
        yield next_token_batch(torch.cat([start, pieces], 1))


def train_model(tokenizer: Tokenizer, ids: Tensor, plan: Plan) -> Decoder:
    """A small decoder with rotary positions and full attention."""
    torch.manual_seed(1)
    model = Decoder(
        ModelConfig(
            vocab_size=tokenizer.vocab_size,
            max_seq_len=plan.max_seq_len,
            d_model=plan.d_model,
            n_layers=plan.n_layers,
            n_heads=plan.n_heads,
        )
    )
    schedule = warmup_stable_decay(min(200, plan.steps // 5), plan.steps)
    learner = Learner(model, adamw(model, plan.lr), schedule)

    def say(learner: Learner, metrics: dict[str, float]) -> None:
        if learner.step % max(plan.steps // 20, 1) == 0:
            print(f"step {learner.step} loss {metrics['loss']:.3f}", file=sys.stderr)

    stream = rows(ids, tokenizer.end_of_text, plan)
    train(learner, stream, next_token, steps=plan.steps, hooks=[say])
    return model.eval()


@torch.no_grad()
def attention_to_first(model: Decoder, ids: list[int]) -> list[list[float]]:
    """Share of attention that the first token gets, by layer and head.

    A mean over the second half of a row as long as those of the training.
    """
    length = model.config.max_seq_len
    maps = model.attention_maps(torch.tensor([ids[:length]]))  # (L, 1, H, T, T)
    shares = maps[:, 0, :, length // 2 :, 0].mean(-1)
    return [[round(share, 4) for share in layer] for layer in shares.tolist()]


# --- memory ------------------------------------------------------------------


def resident_bytes() -> int | None:
    """Memory that this process holds now; None where /proc is absent."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * 4096


def cache_bytes(model: Decoder) -> int:
    """Of all tensors in the caches of a text without end."""
    config = model.config
    caches = make_caches(config, 1, config.window + config.sinks + 1)
    positions = {id(c.ring): c.ring.positions.nbytes for c in caches}
    return sum(c.k.nbytes + c.v.nbytes for c in caches) + sum(positions.values())


def measure_memory(model: Decoder, plan: Plan) -> list[dict]:
    """Stream one token after another; look at memory at some of them."""
    torch.set_num_threads(1)  # one token at a time leaves nothing to share
    found, start = [], time.perf_counter()
    config, done = model.config, 0
    per_token = 2 * 4 * config.n_layers * config.kv_heads * config.head_width
    tokens = generate(model, [0], None, seed=1)
    for count in plan.memory:
        for _ in islice(tokens, count - done):
            pass
        done = count
        found.append(
            {
                "name": "memory",
                "tokens": count,
                "resident_bytes": resident_bytes(),
                "cache_bytes": cache_bytes(model),
                "full_cache_bytes": per_token * count,
                "seconds": time.perf_counter() - start,
            }
        )
        print(found[-1], flush=True)
    return found


# --- perplexity by position ----------------------------------------------------


@torch.no_grad()
def dense_losses(model: Decoder, ids: list[int]) -> Tensor:
    """Every token sees all before it, beyond the trained length too: (N - 1,)."""
    caches = make_caches(model.config, 1, len(ids))
    tokens, found = torch.tensor([ids]), []
    for start in range(0, len(ids) - 1, CHUNK):
        targets = tokens[:, start + 1 : start + 1 + CHUNK]
        end = start + targets.shape[1]
        positions = torch.arange(start, end)[None]
        hidden, _ = model.hidden(tokens[:, start:end], positions, caches)
        found.append(-token_logprobs(model.read(hidden), targets)[0])
    return torch.cat(found)


@torch.no_grad()
def reread_losses(model: Decoder, ids: list[int]) -> Tensor:
    """Every token sees the first one and the newest, read afresh as in training.

    To read a whole row for each token is dear, so each row is judged by its last
    sixteenth: a token sees between 15/16 of the trained length and all of it. (N - 1,)
    """
    length, tokens = model.config.max_seq_len, torch.tensor(ids)
    stride = max(length // 16, 1)
    losses = torch.empty(len(ids) - 1)
    start = tokens[None, : length + 1]
    losses[:length] = -model(start[:, :-1], targets=start[:, 1:]).logprobs[0]
    # Each row ends at a token that is judged; the last may overlap the one before.
    ends = torch.arange(length + stride, len(ids) + stride - 1, stride)
    ends = ends.clamp(max=len(ids) - 1)[:, None]  # (rows, 1)
    newest = tokens[ends + torch.arange(1 - length, 1)]  # (rows, length)
    first = tokens[:1].expand(len(ends), 1)
    judged = ends - torch.arange(stride, 0, -1)  # (rows, stride)
    for row, place in zip(
        torch.cat([first, newest], 1).split(64), judged.split(64), strict=True
    ):
        logprobs = model(row[:, :-1], targets=row[:, 1:]).logprobs
        losses[place] = -logprobs[:, -stride:]
    return losses


def measure_losses(
    model: Decoder, texts: list[list[int]], plan: Plan, sinks: int
) -> dict[str, Tensor]:
    """Loss by position, a mean over the texts, for each way to read them."""
    whole = model.config.max_seq_len  # window and sinks together, for all
    ways = {
        "dense": lambda ids: dense_losses(model, ids[: plan.dense]),
        "window": lambda ids: -score(streaming(model, whole, 0), ids),
        "window + sinks": lambda ids: (
            -score(streaming(model, whole - sinks, sinks), ids)
        ),
        "re-read": lambda ids: reread_losses(model, ids),
    }
    found = {}
    for name, way in ways.items():
        start = time.perf_counter()
        found[name] = torch.stack([way(ids).double() for ids in texts]).mean(0)
        seconds = time.perf_counter() - start
        print(f"{name}: {seconds:.1f} s", file=sys.stderr)
    return found


def curve(losses: Tensor, points: int = 48) -> tuple[list[float], list[float]]:
    """Positions and perplexities: means over spans that grow with the position."""
    edges = torch.logspace(1, math.log10(len(losses)), points).round().long().unique()
    edges = [0, *edges.tolist()]
    spans = list(pairwise(edges))
    return (
        [(start + end) / 2 for start, end in spans],
        [losses[start:end].mean().exp().item() for start, end in spans],
    )


COLORS = {
    "dense": "gradient",
    "window": "validation",
    "window + sinks": "train",
    "re-read": "rate",
}


def draw(losses: dict[str, Tensor], path: Path) -> None:
    """Perplexity against position, both on logarithmic axes."""
    lines = []
    for name, values in losses.items():
        x, y = curve(values)
        dashed = name == "re-read"
        lines.append(Series(name, x, y, color=COLORS[name], dashed=dashed))
    chart = line_chart(
        lines,
        x_label="position in the text, tokens",
        y_label="perplexity",
        x_log=True,
        y_log=True,
        description="Perplexity of a long text, read in four ways",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(resolve(str(chart)) + "\n", encoding="utf-8")


def rows_of_losses(losses: dict[str, Tensor], length: int) -> list[dict]:
    """For each way: perplexity beyond the trained length, and the whole curve."""
    beyond = {name: values[length:].mean().exp() for name, values in losses.items()}
    found = []
    for name, values in losses.items():
        x, y = curve(values)
        # The same positions: dense attention was judged on the first of them alone.
        reference = losses["re-read"][length : len(values)].mean().exp()
        found.append(
            {
                "name": name,
                "tokens": len(values),
                "perplexity": beyond[name].item(),
                "over_re-read": (beyond[name] / reference).item(),
                "positions": x,
                "perplexities": y,
            }
        )
        print(f"{name:15} {found[-1]['perplexity']:10.3f}", end="")
        print(f"  x {found[-1]['over_re-read']:.4f}", flush=True)
    return found


# --- all of it -----------------------------------------------------------------


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--text", {"default": "python", "help": "a corpus or file (default: python)"}),
        ("--run", {"type": Path, "help": "a trained run, instead of training one"}),
        ("--sinks", {"type": int, "default": SINKS}),
        ("--steps", {"type": int, "help": "of training"}),
        ("--figure", {"type": Path, "help": "where to draw the curves, as SVG"}),
    )
    plan = QUICK if arguments.quick else Plan()
    if arguments.steps:
        plan = replace(plan, steps=arguments.steps)
    text = read_text(arguments.text)
    cut = int(len(text) * 0.9)
    if arguments.run:
        model, tokenizer = load_run(arguments.run, "cpu")
    else:
        tokenizer = BPETokenizer.train([text[:cut]], plan.vocab_size)
        ids = torch.tensor(tokenizer.encode(text[:cut]))
        model = train_model(tokenizer, ids, plan)
    ids = tokenizer.encode(text[cut:])
    if len(ids) < plan.texts * plan.length:
        raise SystemExit(f"{arguments.text} is too short: {len(ids)} held-out tokens")
    texts = [
        [tokenizer.end_of_text, *ids[start : start + plan.length]]
        for start in range(0, plan.texts * plan.length, plan.length)
    ]
    losses = measure_losses(model, texts, plan, arguments.sinks)
    rows = rows_of_losses(losses, model.config.max_seq_len)
    shares = attention_to_first(model, texts[0])
    rows.append({"name": "attention to the first token", "by_layer_and_head": shares})
    rows += measure_memory(streaming(model, sinks=arguments.sinks), plan)
    if arguments.figure:
        draw(losses, arguments.figure)
    by_name = {row["name"]: row for row in rows}
    value = by_name["window + sinks"]["over_re-read"]
    record("streaming", value, GOAL, rows, higher_is_better=False)


if __name__ == "__main__":
    main()
