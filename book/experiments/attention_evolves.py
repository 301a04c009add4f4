"""A small GPT learns to tell tales, and its attention is looked at five times.

    python book/experiments/attention_evolves.py

trains in build/attention_evolves, some minutes on one core (weights that are there
already are used again), measures every head, and writes
book/results/attention_evolves.json and .svg.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from folio.book.record import record
from folio.config import build, to_toml
from folio.data import tales
from folio.data.tales.lexicon import people, things
from folio.data.text import validation_windows
from folio.evals.copying import copy_accuracy
from folio.evals.perplexity import mean_loss
from folio.files import write_atomically
from folio.model.decoder import Decoder
from folio.objectives.next_token import next_token
from folio.runtime import seed_everything
from folio.stages.assemble import Parts
from folio.stages.demo import read_recipe
from folio.stages.pretrain import assemble_pretraining, prepare_pretraining
from folio.stages.recipe import PretrainRecipe
from folio.text.tokenizer import Tokenizer
from folio.training.learner import Learner
from folio.training.loop import train
from folio.training.run import Run
from folio.viz.attention import heat_map, pack

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "book" / "results"
LOOKS = (0, 50, 200, 1000, 4000)
# begins with a space, as in the midst of a text: so both Linas are the same token
SENTENCE = " Lina had a ring. Finn asked for the ring. Lina gave Finn the ring."
DOUBTFUL = " Finn had a ring. Lina had a map. Finn gave Lina the"  # ring, or map?
GPT = {"positions": "learned", "norm": "layernorm", "mlp": "gelu", "bias": False}
SMALL = {"n_layers": 2, "n_heads": 4, "d_model": 64, "max_seq_len": 64}
CHANGES = {
    "model": GPT | SMALL,
    "data": {"megabytes": 8.0},
    "train": {"device": "cpu", "batch": 16},
}
WINDOWS, PROBES = 320, 300
# random tokens, said twice (Olsson et al. 2022); few, for these heads see a few back
REPEATED, SEQUENCES = 8, 256


def main() -> None:
    """Train or find the weights, measure, record."""
    recipe = build(PretrainRecipe, read_recipe("pretrain", 1, {"pretrain": CHANGES}))
    parts = trained(recipe, Run(ROOT / "build" / "attention_evolves"))
    numbers = measured(parts)
    weights = unpacked(numbers["steps"][-1])
    shown = numbers["shown"]
    drawing = heat_map(weights[shown["layer"], shown["head"]], numbers["tokens"])
    record("attention_evolves", numbers, drawing, RESULTS)


# ---------------------------------------------------------------------- training


def trained(recipe: PretrainRecipe, run: Run) -> Parts:
    """Everything that the run is made of, and its weights at all `LOOKS`."""
    run.figures.mkdir(parents=True, exist_ok=True)
    text = to_toml(recipe)
    if run.recipe.is_file() and run.recipe.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{run.folder} holds another recipe; remove it")
    write_atomically(run.recipe, text)
    seed_everything(recipe.seed)
    prepare_pretraining(recipe, run, True, print)
    parts = assemble_pretraining(recipe, run, Tokenizer.load(run.model))
    if not all(weights_file(run, step).is_file() for step in LOOKS):
        keep(parts.learner, {"loss": float("nan")}, run)

        def hook(learner: Learner, metrics: dict[str, float]) -> None:
            keep(learner, metrics, run)

        train(
            parts.learner,
            parts.stream,
            next_token,
            steps=recipe.train.steps,
            hooks=[hook],
        )
    return parts


def weights_file(run: Run, step: int) -> Path:
    return run.folder / f"{step}.pt"


def keep(learner: Learner, metrics: dict[str, float], run: Run) -> None:
    """Write the weights down at the steps that are looked at."""
    if learner.step in LOOKS:
        torch.save(learner.model.state_dict(), weights_file(run, learner.step))
        print(f"{learner.step:5} {metrics['loss']:.3f}", flush=True)


# --------------------------------------------------------------------- measuring


@torch.no_grad()
def measured(parts: Parts) -> dict[str, Any]:
    """What the record says."""
    recipe, run, tokenizer = parts.recipe, parts.run, parts.tokenizer
    model = parts.learner.model.eval()
    ids = tokenizer.encode(SENTENCE)
    check_unseen(ids, run, tokenizer)
    held_out = windows(run, tokenizer, recipe.length)
    rows = torch.cat([batch.inputs for batch in held_out()])[:64]
    words = word_ids(tokenizer)
    texts = said_twice(tokenizer.vocab_size)

    steps, losses, continuations, scores = [], [], [], []
    for step in LOOKS:
        model.load_state_dict(torch.load(weights_file(run, step)))
        losses.append(round(mean_loss(model, held_out()), 4))
        maps = model.attention_maps(torch.tensor([ids]))[:, 0]
        steps.append(pack(step, maps.numpy()))
        continuations.append(
            continued(model, tokenizer, SENTENCE.removesuffix(" ring."))
        )
        scores.append(head_scores(model, rows, texts, words))
        print(step, losses[-1], continuations[-1], flush=True)

    heads = ablated(model, tokenizer, held_out, scores)
    best = max(heads, key=lambda head: head["thing"][-1])
    return {
        "text": SENTENCE,
        "tokens": [tokenizer.decode([i]) for i in ids],
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": recipe.model.n_layers,
        "n_heads": recipe.model.n_heads,
        "d_model": recipe.model.d_model,
        "head_width": model.config.head_width,
        "batch": recipe.train.batch,
        "length": recipe.length,
        "seed": recipe.seed,
        "held_out_windows": WINDOWS,
        "steps": steps,
        "losses": losses,
        "continuations": continuations,
        "chance": chance(rows, words),
        "heads": heads,
        "repeated": REPEATED,
        "second_round": {
            name: round(second_round(model, text), 3) for name, text in texts.items()
        },
        "layers_without": layers_without(model, held_out, heads),
        "shown": shown(model, best, steps, ids),
        "doubt": doubt(model, tokenizer, best["layer"], best["head"]),
    }


def check_unseen(ids: list[int], run: Run, tokenizer: Tokenizer) -> None:
    """The sentence must not stand in the training text."""
    from folio.data.shards import open_shards

    seen = np.asarray(open_shards(run.shards, "train", tokenizer)[:])
    found = np.lib.stride_tricks.sliding_window_view(seen, len(ids))
    if (found == np.array(ids)).all(1).any():
        raise SystemExit(f"the training text has {SENTENCE!r}")


def windows(run: Run, tokenizer: Tokenizer, length: int) -> Callable[[], list]:
    """The first windows of the held-out text."""
    from folio.data.shards import open_shards

    tokens = open_shards(run.shards, "validation", tokenizer)
    batches = list(validation_windows(tokens, length, 32))[: WINDOWS // 32]
    return lambda: batches


def word_ids(tokenizer: Tokenizer) -> dict[str, Tensor]:
    """Tokens that are a whole thing or a whole name, with the space before it."""
    kinds = {"thing": things.KINDS, "name": (*people.BOYS, *people.GIRLS)}
    codes = {
        kind: [tokenizer.encode(f" {word}") for word in words]
        for kind, words in kinds.items()
    }
    return {
        kind: torch.tensor([code[0] for code in all_codes if len(code) == 1])
        for kind, all_codes in codes.items()
    }


def said_twice(vocab_size: int) -> dict[str, Tensor]:
    """Random tokens and the same once more, and the same after others: (N, 2R) each."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randperm(vocab_size, generator=generator) for _ in range(SEQUENCES)]
    once, others = torch.stack(drawn)[:, : 2 * REPEATED].split(REPEATED, dim=1)
    return {
        "repeat": torch.cat([once, once], 1),
        "control": torch.cat([others, once], 1),
    }


def continued(model: Decoder, tokenizer: Tokenizer, text: str) -> dict[str, float]:
    """The chances of both things right after a text."""
    chances = model(torch.tensor([tokenizer.encode(text)])).logits[0, -1].softmax(-1)
    return {
        word: round(float(chances[tokenizer.encode(f" {word}")[0]]), 4)
        for word in ("ring", "map")
    }


def doubt(model: Decoder, tokenizer: Tokenizer, layer: int, head: int) -> dict:
    """Where a head looks when two things have been named, and what the model says."""
    ids = tokenizer.encode(DOUBTFUL)
    row = model.attention_maps(torch.tensor([ids]))[layer, 0, head, -1]
    looks = {
        word: round(float(row[ids.index(tokenizer.encode(f" {word}")[0])]), 4)
        for word in ("ring", "map")
    }
    says = continued(model, tokenizer, DOUBTFUL)
    return {"text": DOUBTFUL, "looks": looks, "says": says}


def head_scores(
    model: Decoder, rows: Tensor, texts: dict[str, Tensor], words: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Each score of each head, (L, H)."""
    found = pattern_scores(model.attention_maps(rows), rows, words)
    second = torch.arange(REPEATED, 2 * REPEATED - 1)
    for name, text in texts.items():  # what followed the token in the first round
        maps = model.attention_maps(text)  # (L, N, H, 2R, 2R)
        found[name] = maps[..., second, second - REPEATED + 1].mean((1, 3))
    return found


def second_round(model: Decoder, text: Tensor) -> float:
    """The mean loss of the tokens of the second round but its first."""
    logs = model(text).logits[:, REPEATED:-1].log_softmax(-1)
    return -float(logs.gather(-1, text[:, REPEATED + 1 :, None]).mean())


def pattern_scores(
    maps: Tensor, rows: Tensor, words: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Mean weights at certain places: maps (L, B, H, T, T), rows (B, T) -> (L, H) each.

    first, itself, previous: at those places. same: at all earlier places with the same
    token, where there is one. after: at all places right after such a one. thing, name:
    where the next token is a thing, or a name, that has been said before, at all places
    where it was said. entropy: in nats, of the second half of each row.
    """
    length = rows.shape[1]
    equal = (rows[:, :, None] == rows[:, None, :]).tril(-1)  # (B, T, T)
    after, coming = torch.zeros_like(equal), torch.zeros_like(equal)
    after[:, :, 1:] = equal[:, :, :-1]
    coming[:, :-1] = equal[:, 1:]  # row i: where token i + 1 was said

    def mean_over(mask: Tensor, queries: Tensor | None = None) -> Tensor:
        mass = (maps * mask[:, None]).sum(-1).transpose(1, 2)  # (L, H, B, T)
        chosen = mask.any(-1) if queries is None else mask.any(-1) & queries
        return mass[..., chosen].mean(-1)

    def said_again(kind: str) -> Tensor:
        queries = torch.zeros_like(rows, dtype=torch.bool)
        queries[:, :-1] = torch.isin(rows[:, 1:], words[kind])
        return mean_over(coming, queries)

    entropy = -torch.special.xlogy(maps, maps).sum(-1)[..., length // 2 :]
    return {
        "previous": maps.diagonal(-1, -2, -1).mean((1, 3)),
        "itself": maps.diagonal(0, -2, -1)[..., 1:].mean((1, 3)),
        "first": maps[..., 1:, 0].mean((1, 3)),
        "same": mean_over(equal),
        "after": mean_over(after),
        "thing": said_again("thing"),
        "name": said_again("name"),
        "entropy": entropy.mean((1, 3)),
    }


def chance(rows: Tensor, words: dict[str, Tensor]) -> dict[str, float]:
    """The same scores of a head that looks everywhere alike."""
    length = rows.shape[1]
    even = torch.ones(length, length).tril()
    even = (even / even.sum(-1, keepdim=True)).expand(1, len(rows), 1, -1, -1)
    found = pattern_scores(even, rows, words)
    places = torch.arange(REPEATED + 1, 2 * REPEATED)  # that a row may look at
    found["repeat"] = (1 / places).mean()
    return {key: round(float(value), 4) for key, value in found.items()}


@contextmanager
def silenced(model: Decoder, heads: list[tuple[int, int]]) -> Iterator[None]:
    """Some heads, (layer, head), say nothing: their part of the output is 0."""
    width = model.config.head_width
    before = [block.attention.out.weight.clone() for block in model.blocks]
    for layer, head in heads:
        columns = slice(head * width, (head + 1) * width)
        model.blocks[layer].attention.out.weight[:, columns] = 0
    try:
        yield
    finally:
        for block, weight in zip(model.blocks, before, strict=True):
            block.attention.out.weight.copy_(weight)


def ablated(
    model: Decoder,
    tokenizer: Tokenizer,
    held_out: Callable[[], list],
    scores: list[dict[str, Tensor]],
) -> list[dict[str, Any]]:
    """Every head: its scores at all looks, and what happens without it."""
    probes = tales.copy_probes(0, PROBES)
    whole = mean_loss(model, held_out())
    copies = copy_accuracy(model, tokenizer, probes)
    norms = value_norms(model, torch.cat([b.inputs for b in held_out()])[:64])
    rows = []
    for layer in range(model.config.n_layers):
        for head in range(model.config.n_heads):
            with silenced(model, [(layer, head)]):
                loss = mean_loss(model, held_out())
                without = copy_accuracy(model, tokenizer, probes)
            row: dict[str, Any] = {"label": f"{layer + 1}.{head + 1}"}
            row |= {"layer": layer, "head": head}
            row |= {
                name: [round(float(score[name][layer, head]), 4) for score in scores]
                for name in scores[0]
            }
            row["rise"] = round(loss - whole, 4)
            row |= {key: round(value, 4) for key, value in copies.items()}
            row |= {f"{key}_without": round(v, 4) for key, v in without.items()}
            row["first_norm"] = round(float(norms[layer, head]), 4)
            rows.append(row)
            print(row["label"], row["rise"], without, flush=True)
    return rows


def value_norms(model: Decoder, rows: Tensor) -> Tensor:
    """How long is what the first token would add, beside the others' mean? (L, H)"""
    x, shared = model.embed(rows)
    found = []
    for block in model.blocks:
        lengths = added(block, block.attention_norm(x)).norm(dim=-1)  # (B, H, T)
        found.append((lengths[..., 0] / lengths[..., 1:].mean(-1)).mean(0))
        x = block(x, shared)
    return torch.stack(found)


def added(block, normed: Tensor) -> Tensor:
    """What each token would add to one that gave it all its weight: (B, H, T, D)."""
    value = block.attention.project(normed)[2]  # (B, H, T, K)
    out = block.attention.out.weight.unflatten(1, (value.shape[1], value.shape[3]))
    return torch.einsum("bhtk,dhk->bhtd", value, out)


def layers_without(
    model: Decoder, held_out: Callable[[], list], heads: list[dict[str, Any]]
) -> list[dict[str, float]]:
    """Each layer with no head at all, and with the one that is missed most."""
    whole = mean_loss(model, held_out())
    rows = []
    for layer in range(model.config.n_layers):
        mine = [(layer, head) for head in range(model.config.n_heads)]
        best = max(
            (row for row in heads if row["layer"] == layer), key=lambda r: r["rise"]
        )
        others = [pair for pair in mine if pair != (layer, best["head"])]
        with silenced(model, mine):
            none = mean_loss(model, held_out())
        with silenced(model, others):
            one = mean_loss(model, held_out())
        rows.append(
            {
                "layer": layer + 1,
                "none": round(none - whole, 4),
                "sum": round(sum(r["rise"] for r in heads if r["layer"] == layer), 4),
                "one": round(one - whole, 4),
                "kept": best["label"],
            }
        )
    return rows


def shown(
    model: Decoder, best: dict[str, Any], steps: list[dict], ids: list[int]
) -> dict[str, Any]:
    """The head of the two-page picture: all that its numbers are computed from."""
    layer, head, width = best["layer"], best["head"], model.config.head_width
    x, shared = model.embed(torch.tensor([ids]))
    for block in model.blocks[:layer]:
        x = block(x, shared)
    block = model.blocks[layer]
    normed = block.attention_norm(x)
    attention, rows = block.attention, slice(head * width, (head + 1) * width)
    matrices = [
        part.weight[rows].T
        for part in (attention.query, attention.key, attention.value)
    ]
    return {
        "label": best["label"],
        "layer": layer,
        "head": head,
        "scores": best,
        "x": half(normed[0]),
        "matrices": half(torch.stack(matrices)),  # (3, D, K)
        "lengths": [
            round(float(n), 3) for n in added(block, normed)[0, head].norm(dim=-1)
        ],
        "entropy": [round(mean_entropy(unpacked(s)[layer, head]), 3) for s in steps],
        "most": round(float(np.mean([np.log(i + 1) for i in range(1, len(ids))])), 3),
    }


def half(values: Tensor) -> dict[str, Any]:
    """Numbers as float16 in base64: three digits, in little space."""
    data = values.numpy().astype("<f2").tobytes()
    return {"shape": list(values.shape), "data": base64.b64encode(data).decode("ascii")}


def unpacked(entry: dict[str, Any]) -> np.ndarray:
    data = base64.b64decode(entry["weights"])
    return np.frombuffer(data, dtype=np.uint8).reshape(entry["shape"])


def mean_entropy(weights: np.ndarray) -> float:
    """Of the rows from the second on, in nats; weights (T, T) uint8."""
    shares = weights[1:] / weights[1:].sum(-1, keepdims=True)
    logs = np.log(np.where(shares > 0, shares, 1.0))
    return float(-(shares * logs).sum(-1).mean())


if __name__ == "__main__":
    main()
