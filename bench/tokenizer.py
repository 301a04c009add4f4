"""Byte-pair encoding: training and encoding beside tokenizers, rustbpe and tiktoken.

Training: the sources of this Python's standard library (about 31 MB), 8,192 tokens,
one split pattern for all, texts in memory. Encoding: the same texts one by one with
GPT-2's vocabulary (`--gpt2 FOLDER` of its two files; without it, one trained here) in
MB per second of processor time, so that threads don't count as speed.

The last line is training speed relative to Hugging Face's tokenizers.
"""

import importlib.util
import json
import os
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import tiktoken
import tokenizers

from folio.text import BPETokenizer
from folio.text.bpe import PATTERNS
from folio.text.bpe_files import bpe_json
from folio.text.compiled import Encoder
from record import load, median, parse_arguments, record

GOALS = {"tokenizers": 2.5, "rustbpe": 1.0, "tiktoken": 1.0, "readable": 1.0}
VOCAB_SIZE = 8192


def library_texts(limit: int) -> list[str]:
    """The standard library's sources, at most about `limit` bytes of them."""
    folder = Path(sysconfig.get_path("stdlib"))
    texts, size = [], 0
    for path in sorted(folder.rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        try:
            texts.append(path.read_bytes().decode("utf-8"))
        except UnicodeDecodeError:
            continue  # a few test files are in other encodings on purpose
        size += len(texts[-1])
        if size > limit:
            break
    return texts


def spent() -> float:
    """Processor seconds of this process and of those it waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def measure(functions: dict[str, Callable], rounds: int) -> dict[str, dict]:
    """Wall and processor seconds per round, in turn, every second round reversed."""
    seconds = {name: {"wall_s": [], "cpu_s": []} for name in functions}
    for number in range(rounds):
        names = list(functions)
        for name in names if number % 2 == 0 else names[::-1]:
            wall, cpu = time.perf_counter(), spent()
            functions[name]()
            seconds[name]["wall_s"].append(time.perf_counter() - wall)
            seconds[name]["cpu_s"].append(spent() - cpu)
    return seconds


# training


def train_tokenizers(texts: list[str], pattern: str) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    parts = tokenizers.pre_tokenizers
    if pattern == "gpt2":  # it has this one built in, which is faster
        tokenizer.pre_tokenizer = parts.ByteLevel(add_prefix_space=False)
    else:
        cut = parts.Split(tokenizers.Regex(PATTERNS[pattern]), "isolated")
        level = parts.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = parts.Sequence([cut, level])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        show_progress=False,
        initial_alphabet=parts.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_rustbpe(texts: list[str], pattern: str):
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter(texts), VOCAB_SIZE, pattern=PATTERNS[pattern])
    return tokenizer


def train_folio(texts: list[str], pattern: str, processes: int) -> BPETokenizer:
    return BPETokenizer.train(
        texts, VOCAB_SIZE, pattern=pattern, special_tokens=(), processes=processes
    )


def training_rows(texts: list[str], pattern: str, rounds: int) -> list[dict]:
    functions = {
        "folio, 1 process": lambda: train_folio(texts, pattern, 1),
        "folio, 2 processes": lambda: train_folio(texts, pattern, 2),
        "tokenizers": lambda: train_tokenizers(texts, pattern),
    }
    if importlib.util.find_spec("rustbpe"):
        functions["rustbpe"] = lambda: train_rustbpe(texts, pattern)
    else:
        print("note: rustbpe is not installed (pip install rustbpe): left out")
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    train_folio(texts, pattern, 1)  # compile outside the timing
    rows = []
    for name, seconds in measure(functions, rounds).items():
        wall, cpu = median(seconds["wall_s"]), median(seconds["cpu_s"])
        rows.append(
            {
                "work": f"train, {pattern} pattern",
                "name": name,
                "megabytes": round(megabytes, 2),
                "vocab_size": VOCAB_SIZE,
                "median_wall_s": wall,
                "median_cpu_s": cpu,
                **seconds,
            }
        )
        print(f"train {pattern}  {name:20} {wall:7.2f} s wall {cpu:7.2f} s cpu")
    return rows


# encoding


def encoding_rows(
    tokenizer: BPETokenizer, vocabulary: str, texts: list[str], rounds: int
) -> list[dict]:
    """One text after another through each library; the ids must be the same."""
    special = set(tokenizer.special_tokens.values())
    ranks = {
        tokenizer.token_bytes(i): i
        for i in range(tokenizer.vocab_size)
        if i not in special
    }
    pattern = PATTERNS[tokenizer.pattern]
    third = tiktoken.Encoding(
        "peer", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
    )
    theirs = tokenizers.Tokenizer.from_str(json.dumps(bpe_json(tokenizer)))
    theirs.encode_special_tokens = True
    encoder = Encoder(tokenizer)
    encoders = {
        "folio": encoder.encode,
        "folio, readable": tokenizer.encode_readably,
        "tiktoken": third.encode_ordinary,
        "tokenizers": lambda text: theirs.encode(text).ids,
    }
    for text in texts[:20]:
        ids = {tuple(encode(text)) for encode in encoders.values()}
        assert len(ids) == 1, "the libraries disagree"
    functions = {
        name: lambda encode=encode: [encode(text) for text in texts]
        for name, encode in encoders.items()
    }
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    rows = []
    for name, seconds in measure(functions, rounds).items():
        speed = megabytes / median(seconds["cpu_s"])
        rows.append(
            {
                "work": f"encode, {vocabulary} vocabulary",
                "name": name,
                "megabytes": round(megabytes, 2),
                "mb_per_cpu_s": speed,
                **seconds,
            }
        )
        print(f"encode {vocabulary}  {name:20} {speed:7.2f} MB per cpu second")
    return rows


# the ratios that have goals


def ratio(rows: list[dict], slow: str, fast: str, column: str) -> float:
    """How many times less time `fast` takes: the median over rounds."""
    by_name = {row["name"]: row for row in rows}
    pairs = zip(by_name[slow][column], by_name[fast][column], strict=True)
    return median([peer / ours for peer, ours in pairs])


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--gpt2", {"help": "folder with GPT-2's vocab.json and merges.txt"}),
        ("--rounds", {"type": int, "default": 5}),
    )
    rounds = 2 if arguments.quick else arguments.rounds
    texts = library_texts(6_000_000 if arguments.quick else 10**9)
    some = library_texts(1_000_000 if arguments.quick else 4_000_000)
    patterns = ["gpt4"] if arguments.quick else ["gpt4", "gpt2"]
    if arguments.gpt2:
        tokenizer, name = BPETokenizer.from_gpt2(arguments.gpt2), "GPT-2's"
    else:
        tokenizer, name = train_folio(texts, "gpt2", 1), "a trained"
    print(f"other programs keep {load():.1f} cores busy", file=sys.stderr)

    trained = {pattern: training_rows(texts, pattern, rounds) for pattern in patterns}
    encoded = encoding_rows(tokenizer, name, some, rounds)
    ratios = {}
    for pattern, rows in trained.items():
        for peer in ("tokenizers", "rustbpe"):
            if any(row["name"] == peer for row in rows):
                found = ratio(rows, peer, "folio, 2 processes", "wall_s")
                ratios[f"train {pattern}, wall, {peer}/folio"] = found, GOALS[peer]
    found = ratio(encoded, "tiktoken", "folio", "cpu_s")
    ratios["encode, cpu, tiktoken/folio"] = found, GOALS["tiktoken"]
    found = ratio(encoded, "tokenizers", "folio, readable", "cpu_s")
    ratios["encode, cpu, tokenizers/folio readable"] = found, GOALS["readable"]
    for what, (value, goal) in ratios.items():
        print(f"{what:45} {value:6.2f} (goal {goal})")
    summary = [
        {"ratio": what, "value": value, "goal": goal}
        for what, (value, goal) in ratios.items()
    ]
    headline = ratios["train gpt4, wall, tokenizers/folio"][0]
    everything = [row for rows in trained.values() for row in rows]
    record(
        "tokenizer", headline, GOALS["tokenizers"], [*summary, *everything, *encoded]
    )


if __name__ == "__main__":
    main()
