"""LoRA beside full fine-tuning: what 1 % of the parameters learn, and what is kept.

A small model learns one text (--base-text), then goes on with another (--new-text):
not at all, by LoRA on every linear layer or only on queries and values, or with all of
its weights, for the same number of tokens, several seeds each. Held-out bits per byte
on the new text say what was learned, on the old one what was forgotten. The value is
the share of full fine-tuning's gain on the new text that LoRA with about 1 % of the
parameters reaches: the median over seeds.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from folio.config import build, merge
from folio.data.corpora import open_corpus
from folio.data.shards import open_shards
from folio.evals.perplexity import perplexity
from folio.stages.parent import load_decoder, with_parent
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run
from record import median, parse_arguments, record

GOAL = 0.6
BASE = {
    "tokenizer": {"kind": "bpe", "vocab_size": 1024},  # of bytes: it knows any text
    "model": {"max_seq_len": 128, "d_model": 128, "n_layers": 4, "n_heads": 4},
    "optim": {"lr": 4e-3, "schedule": "linear", "floor": 0.0, "warmup": 40},
    "train": {"steps": 1200, "batch": 8, "eval_every": 200, "save_every": 0},
    "sample": {"every": 0},
}
TUNE = {"train": {"steps": 400, "eval_every": 100}, "optim": {"warmup": 20}}
EVERYWHERE, SOME = ["blocks.*"], ["query", "value"]
ONE_PERCENT = "LoRA, all layers, rank 1"
WAYS = {  # rates of the first and the last: the best of several, with another seed
    ONE_PERCENT: {"lora": {"rank": 1, "targets": EVERYWHERE}, "optim": {"lr": 1e-2}},
    "LoRA, query and value, rank 4": {
        "lora": {"rank": 4, "targets": SOME},
        "optim": {"lr": 5e-3},
    },
    "LoRA, all layers, rank 8": {
        "lora": {"rank": 8, "targets": EVERYWHERE},
        "optim": {"lr": 5e-3},
    },
    "full": {"optim": {"lr": 8e-3}},
}


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--base-text", {"default": "tales", "help": "a corpus or a file, first"}),
        ("--new-text", {"default": "python", "help": "a corpus or a file, then"}),
        ("--megabytes", {"type": float, "default": 1.0, "help": "of each, at most"}),
        ("--seeds", {"type": int, "nargs": "+", "default": [1, 2, 3]}),
    )
    megabytes = 0.4 if arguments.quick else arguments.megabytes
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        texts = {
            name: sample_of(source, Path(folder) / f"{name}.jsonl", megabytes)
            for name, source in (
                ("old", arguments.base_text),
                ("new", arguments.new_text),
            )
        }
        for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
            where = Path(folder) / str(seed)
            rows += one_seed(seed, texts, where, arguments.quick)
    record("lora", median([gain(rows, seed) for seed in seeds_of(rows)]), GOAL, rows)


def sample_of(source: str, path: Path, megabytes: float) -> Path:
    """The first documents of a corpus; one long text is cut into pieces of a page."""
    left = megabytes * 1e6
    with open(path, "w", encoding="utf-8") as file:
        for document in open_corpus(source, megabytes=megabytes).documents():
            for start in range(0, len(document), 4000):
                text = document[start : start + 4000]
                file.write(json.dumps({"text": text}) + "\n")
                left -= len(text.encode())
            if left <= 0:
                break
    return path


def one_seed(
    seed: int, texts: dict[str, Path], folder: Path, quick: bool
) -> list[dict[str, Any]]:
    """A base, and what becomes of it each way."""
    short = {"train": {"steps": 50, "eval_every": 50}} if quick else {}
    recipe = BASE | {"seed": seed, "data": data(texts, folder, "old")}
    base = train(merge(recipe, short), folder / "base")
    own = {"seed": seed, "data": data(texts, folder, "new"), "parent": str(base.folder)}
    shared = {"optim": BASE["optim"], "train": BASE["train"], "sample": BASE["sample"]}
    rows = []
    for name, way in WAYS.items():
        tune = merge(merge(merge(shared | own, TUNE), way), short)
        run = train(tune, folder / str(len(rows)))
        if not rows:
            rows.append(judge("none", seed, base, folder, trained=0))
        rows.append(judge(name, seed, run, folder))
    return rows


def data(texts: dict[str, Path], folder: Path, which: str) -> dict[str, str]:
    """The recipe's [data]; one set of token files for all that read the same text."""
    return {"path": str(texts[which]), "shards": str(folder / f"{which}-shards")}


def train(values: dict[str, Any], folder: Path) -> Run:
    recipe = build(PretrainRecipe, with_parent(values))
    return pretrain(recipe, folder, say=lambda text: print(text, file=sys.stderr))


def judge(
    name: str, seed: int, run: Run, folder: Path, trained: int | None = None
) -> dict[str, Any]:
    """Held-out bits per byte on both texts, and what it took."""
    model, tokenizer, info = load_decoder(run.folder), Tokenizer.load(run.model), {}
    for which in ("new", "old"):
        tokens = open_shards(folder / f"{which}-shards", "validation", tokenizer)
        length = model.config.max_seq_len
        info[which] = perplexity(model, tokens, length)["val_bits_per_byte"]
    facts = run.read_info()
    trained = facts["trained_parameters"] if trained is None else trained
    row = {
        "name": name,
        "seed": seed,
        "new_bits_per_byte": info["new"],
        "old_bits_per_byte": info["old"],
        "trained_parameters": trained,
        "share": trained / facts["parameters"]["total"],
        "weights_bytes": sum(f.stat().st_size for f in run.model.glob("*.safetensors")),
        "seconds": facts["results"]["seconds"],
    }
    print(row, flush=True)
    return row


def gain(rows: list[dict[str, Any]], seed: int) -> float:
    """What share of the bits that full fine-tuning gains does LoRA gain?"""
    bits = {r["name"]: r["new_bits_per_byte"] for r in rows if r["seed"] == seed}
    return (bits["none"] - bits[ONE_PERCENT]) / (bits["none"] - bits["full"])


def seeds_of(rows: list[dict[str, Any]]) -> list[int]:
    return sorted({row["seed"] for row in rows})


if __name__ == "__main__":
    main()
