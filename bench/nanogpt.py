"""Folio beside nanoGPT: its recipe for a laptop, the same work in one run.

Both train 4 layers, 128 wide, context 64, 12 sequences a step on the characters of
Shakespeare for 2,000 steps, each by its own command, turn and turn about; then each
model is judged on the whole held-out part. --peer is a checkout of nanoGPT.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import ROOT, load, median, parse_arguments, record

GOAL = 1.0  # no slower than nanoGPT
SHAPE = {
    "block_size": 64,
    "batch_size": 12,
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "dropout": 0.0,
    "eval_iters": 1,
    "log_interval": 100,
    "device": "cpu",
    "dtype": "float32",
    "compile": False,
    "always_save_checkpoint": True,
}

# Runs inside nanoGPT's folder, with its own model: mean loss over the whole of val.bin
# in windows that don't overlap.
JUDGE = """
import numpy as np, torch
from model import GPT, GPTConfig
saved = torch.load("out-shakespeare-char/ckpt.pt", weights_only=True)
model = GPT(GPTConfig(**saved["model_args"]))
model.load_state_dict(saved["model"])
model.eval()
ids = np.fromfile("data/shakespeare_char/val.bin", dtype=np.uint16).astype(np.int64)
ids, length, total = torch.from_numpy(ids), 64, 0.0
with torch.no_grad():
    for i in range(0, len(ids) - 1, length):
        x, y = ids[i : i + length], ids[i + 1 : i + length + 1]
        x = x[: len(y)]
        total += model(x[None], y[None])[1].item() * len(y)
print("whole", total / (len(ids) - 1))
"""


def run(command: list[str], folder: Path) -> str:
    """Run to the end and return what was printed; show it all if it failed."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def prepare_peer(peer: Path, text: Path, folder: Path) -> Path:
    """A private copy of nanoGPT with its own preparation of our text."""
    copy = folder / "nanoGPT"
    shutil.copytree(peer, copy, ignore=shutil.ignore_patterns(".git"))
    shutil.copy(text, copy / "data/shakespeare_char/input.txt")
    run([sys.executable, "data/shakespeare_char/prepare.py"], copy)
    return copy


def train_peer(copy: Path, steps: int) -> tuple[float, float]:
    """(wall seconds of its command, loss over the whole held-out part)."""
    options = SHAPE | {
        "max_iters": steps,
        "lr_decay_iters": steps,
        "eval_interval": steps,
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    start = time.perf_counter()
    run(
        [sys.executable, "train.py", "config/train_shakespeare_char.py", *flags],
        copy,
    )
    seconds = time.perf_counter() - start
    found = re.search(r"whole ([\d.]+)", run([sys.executable, "-c", JUDGE], copy))
    return seconds, float(found.group(1))


def train_ours(
    recipe: str, text: Path, folder: Path, steps: int | None, **fields: object
) -> dict:
    """Wall seconds of `folio pretrain` and what its run says of itself.

    steps None: as many as the recipe says; `fields` of the recipe that are changed.
    """
    if steps is not None:
        fields["train.steps"] = steps
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        *[sys.executable, "-m", "folio", "pretrain", str(ROOT / "recipes" / recipe)],
        *["--data.path", str(text), "--run", str(folder)],
        *["--train.eval_every", str(10**9), "--train.save_every", str(10**9)],
        *["--sample.every", "0", "--train.device", "cpu"],
        *[word for n, value in fields.items() for word in (f"--{n}", str(value))],
    ]
    start = time.perf_counter()
    run(command, ROOT)
    seconds = time.perf_counter() - start
    info = json.loads((folder / "run.json").read_text())
    return {
        "seconds": seconds,
        "whole_val_loss": info["results"]["val_loss"],
        "parameters": info["parameters"]["total"],
    }


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--peer", {"required": True, "help": "a checkout of nanoGPT"}),
        ("--text", {"required": True, "help": "tinyshakespeare.txt"}),
        ("--rounds", {"type": int, "default": 3}),
    )
    steps, rounds = (400, 1) if arguments.quick else (2000, arguments.rounds)
    text = Path(arguments.text).resolve()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy = prepare_peer(Path(arguments.peer).resolve(), text, folder)
        for number in range(rounds):
            row = {"round": number, "steps": steps, "foreign_cores": round(load(), 2)}
            seconds, loss = train_peer(copy, steps)
            row["nanogpt"] = {"seconds": seconds, "whole_val_loss": loss}
            row["folio"] = train_ours(
                "tiny/shakespeare.toml", text, folder / "same", steps
            )
            if not arguments.quick:
                free = "tiny/shakespeare_free.toml"
                row["folio_free"] = train_ours(free, text, folder / "free", 1000)
                row["folio_soon"] = train_ours(free, text, folder / "soon", 340)
            rows.append(row)
            print(json.dumps(row))
    ratios = [row["nanogpt"]["seconds"] / row["folio"]["seconds"] for row in rows]
    record("nanogpt", median(ratios), GOAL, rows)


if __name__ == "__main__":
    main()
